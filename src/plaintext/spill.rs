//! The place of content that is too large for RAM: one file without a name, encrypted.
//!
//! All contents share the file, which is open from the start: however many there are, none needs a
//! descriptor of its own. A chunk is encrypted and authenticated (ChaCha20-Poly1305, RFC 8439)
//! under a random key of its content, which is only ever in RAM and zeroed with it. Each write
//! takes the next nonce of that key. Nonces and tags stay in RAM, so that a chunk that was changed,
//! swapped or put back on the disk is an error and never wrong bytes. Nothing here survives the
//! process.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use chacha20poly1305::aead::AeadInPlace as _;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit as _, Nonce, Tag};
use rustix::fs::{AtFlags, FallocateFlags, Mode, OFlags};
use rustix::io::Errno;
use zeroize::{Zeroize as _, Zeroizing};

use super::locked::Locked;
use crate::error::{Error, Kind, Result};
use crate::locks::lock;

/// Bytes in one full chunk. A chunk is the unit in which content is allocated, zeroed and spilled.
pub(super) const CHUNK: usize = 64 * 1024;
/// Bytes that a content may keep in RAM even when all of them together take too much.
const LEAST: usize = 4 * CHUNK;

/// How much plaintext stays in RAM, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Of one content.
    pub each: usize,
    /// Of all contents of the area together. A content that comes later keeps little.
    pub all: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Budget {
            each: 32 << 20,
            all: 96 << 20,
        }
    }
}

/// The file into which contents spill, and the bytes that they have in RAM together.
pub struct SpillArea {
    disk: Arc<Disk>,
    budget: Budget,
    used: AtomicUsize,
}

impl SpillArea {
    /// Opens an area in an existing directory, which must be neither in the store nor synced.
    ///
    /// # Errors
    /// The disk's error, also if no file can be made there.
    pub fn open(dir: &Path, budget: Budget) -> Result<Arc<SpillArea>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(dir, flags, Mode::empty())
            .map_err(|errno| Error::io("cannot open the directory for spilling", errno.into()))?;
        let disk = Disk {
            file: nameless(&dir)?,
            slots: Mutex::default(),
        };
        Ok(Arc::new(SpillArea {
            disk: Arc::new(disk),
            budget,
            used: AtomicUsize::new(0),
        }))
    }

    /// Bytes of RAM that the contents of the area take at this moment.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Tells whether a content that has `own` bytes in RAM may not take `more`.
    pub(super) fn is_full(&self, own: usize, more: usize) -> bool {
        let used = self.used() + more;
        own + more > self.budget.each
            || (own + more > LEAST && used > self.budget.all)
            // So many that even the smallest share of each is too much.
            || (own + more > CHUNK && used > self.budget.all.saturating_mul(2))
    }
}

/// Says nothing but that it is there: the address of its files helps nobody.
impl std::fmt::Debug for SpillArea {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SpillArea")
    }
}

/// Makes a file for its owner that no name leads to.
fn nameless(dir: &OwnedFd) -> Result<File> {
    let doing = "cannot make a file for spilling";
    let failed = |errno: Errno| Error::io(doing, errno.into());
    let mode = Mode::RUSR | Mode::WUSR;
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::openat(dir, ".", flags | OFlags::TMPFILE | OFlags::EXCL, mode) {
        Ok(fd) => return Ok(fd.into()),
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT) => {}
        Err(errno) => return Err(failed(errno)),
    }
    let mut name = [0; 8];
    random(&mut name)?;
    let name = format!("spill-{:016x}", u64::from_ne_bytes(name));
    let flags = flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
    let fd = rustix::fs::openat(dir, name.as_str(), flags, mode).map_err(failed)?;
    rustix::fs::unlinkat(dir, name.as_str(), AtFlags::empty()).map_err(failed)?;
    Ok(fd.into())
}

fn random(bytes: &mut [u8]) -> Result<()> {
    match rustix::rand::getrandom(&mut *bytes, rustix::rand::GetRandomFlags::empty()) {
        // Up to 256 bytes come whole.
        Ok(_) => Ok(()),
        Err(errno) => Err(Error::io("no random numbers", errno.into())),
    }
}

/// A chunk in RAM, counted in its area.
pub(super) struct Ram {
    bytes: Locked,
    area: Option<Arc<SpillArea>>,
}

impl Ram {
    /// Makes a chunk of zeros.
    pub(super) fn new(size: usize, area: Option<&Arc<SpillArea>>) -> Self {
        if let Some(area) = area {
            area.used.fetch_add(size, Ordering::Relaxed);
        }
        Ram {
            bytes: Locked::new(size),
            area: area.cloned(),
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Drop for Ram {
    fn drop(&mut self) {
        if let Some(area) = &self.area {
            area.used.fetch_sub(self.bytes.len(), Ordering::Relaxed);
        }
    }
}

/// The file of an area.
struct Disk {
    file: File,
    slots: Mutex<Slots>,
}

/// Which places of the file are taken; each has room for one chunk.
#[derive(Default)]
struct Slots {
    /// Places from here on were never used.
    end: u64,
    free: Vec<u64>,
}

impl Disk {
    fn slots(&self) -> MutexGuard<'_, Slots> {
        lock(&self.slots)
    }

    fn take(&self) -> u64 {
        let mut slots = self.slots();
        slots.free.pop().unwrap_or_else(|| {
            slots.end += 1;
            slots.end - 1
        })
    }

    /// Gives a place back, and its room on the disk to others.
    fn give_back(&self, slot: u64) {
        let mut slots = self.slots();
        // Under the lock: whoever is given the place next must find its bytes there. Where the disk
        // has no holes the room is only used again.
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let _ = rustix::fs::fallocate(&self.file, hole, place_of(slot), CHUNK as u64);
        slots.free.push(slot);
        if slots.free.len() as u64 == slots.end {
            slots.free.clear();
            slots.end = 0;
            // It only takes room that nobody needs.
            let _ = self.file.set_len(0);
        }
    }
}

fn place_of(slot: u64) -> u64 {
    slot * CHUNK as u64
}

/// The part of one content that is on disk. Its chunks may outlive the content in its duplicates.
pub(super) struct SpillFile {
    disk: Arc<Disk>,
    /// Zeroes its key when it is dropped.
    cipher: ChaCha20Poly1305,
    /// Writes so far: the last nonce. No two writes have the same.
    writes: AtomicU64,
}

impl SpillFile {
    pub(super) fn new(area: &SpillArea) -> Result<Arc<Self>> {
        let mut key = Zeroizing::new([0; 32]);
        random(&mut key[..])?;
        Ok(Arc::new(SpillFile {
            disk: Arc::clone(&area.disk),
            cipher: ChaCha20Poly1305::new((&*key).into()),
            writes: AtomicU64::new(0),
        }))
    }

    /// Writes chunk `index` of a content.
    ///
    /// # Errors
    /// `NoSpace`, or another error of the disk.
    pub(super) fn write(self: &Arc<Self>, index: usize, bytes: &[u8]) -> Result<Spilled> {
        let mut spilled = Spilled {
            file: Arc::clone(self),
            slot: self.disk.take(),
            write: self.writes.fetch_add(1, Ordering::Relaxed) + 1,
            tag: Tag::default(),
            length: bytes.len() as u32,
        };
        let mut bytes = Zeroizing::new(bytes.to_vec());
        spilled.tag = self
            .cipher
            .encrypt_in_place_detached(&spilled.nonce(), &aad(index), &mut bytes)
            .expect("a chunk is far below 256 GiB");
        self.disk
            .file
            .write_all_at(&bytes, spilled.offset())
            .map_err(|error| Error::io("spilling to disk", error))?;
        Ok(spilled)
    }

    #[cfg(test)]
    pub(super) fn raw(&self) -> &File {
        &self.disk.file
    }
}

fn aad(index: usize) -> [u8; 8] {
    (index as u64).to_le_bytes()
}

/// A chunk on disk. Its place is free again when it is dropped.
pub(super) struct Spilled {
    file: Arc<SpillFile>,
    slot: u64,
    write: u64,
    tag: Tag,
    length: u32,
}

impl Spilled {
    pub(super) fn len(&self) -> usize {
        self.length as usize
    }

    fn offset(&self) -> u64 {
        place_of(self.slot)
    }

    fn nonce(&self) -> Nonce {
        let mut nonce = Nonce::default();
        nonce[..8].copy_from_slice(&self.write.to_le_bytes());
        nonce
    }

    /// Reads the chunk, which is number `index` of its content, to the start of `to`.
    ///
    /// # Errors
    /// `Io` if the disk fails, or if these are not the bytes that were written; `to` then holds
    /// nothing of them.
    pub(super) fn read(&self, index: usize, to: &mut [u8]) -> Result<()> {
        let to = &mut to[..self.len()];
        let read = self.file.disk.file.read_exact_at(to, self.offset());
        read.map_err(|error| Error::io("reading what was spilled to disk", error))?;
        self.file
            .cipher
            .decrypt_in_place_detached(&self.nonce(), &aad(index), to, &self.tag)
            .map_err(|_| {
                to.zeroize();
                let sentence = "what was spilled to disk was changed there";
                Error::new(Kind::Io, sentence)
            })
    }

    #[cfg(test)]
    pub(super) fn place(&self) -> (&Arc<SpillFile>, u64) {
        (&self.file, self.offset())
    }
}

impl Drop for Spilled {
    fn drop(&mut self) {
        self.file.disk.give_back(self.slot);
    }
}
