//! The store in RAM, for tests of its users.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard};

use super::publish::Sink;
use super::{
    BlobFile, Change, Entry, FileName, KeyFile, SoftwareEntry, SoftwareFile, SoftwareKind, Space,
    Stamp, Store, Watch, label, names,
};
use crate::error::{Error, Kind, Result};
use crate::ids::{Folder, Timestamp};
use crate::locks::lock;
use crate::openpgp::{Ciphertext, Receipt, Sealed};

/// The store in RAM: the same contract as [`super::DirStore`], and failures on demand.
#[derive(Default)]
pub struct MemoryStore {
    inner: Mutex<Inner>,
}

type Files = BTreeMap<FileName, MemoryFile>;

#[derive(Default)]
struct Inner {
    messages: Files,
    notes: Files,
    keys: Files,
    /// By path below `software/`.
    software: BTreeMap<Vec<FileName>, MemoryFile>,
    /// Directories that hold nothing.
    directories: BTreeSet<Vec<FileName>>,
    /// Counts changes, for stamps.
    changes: u64,
    /// How many more puts succeed before one fails, and how that fails.
    fail_put: Option<(usize, Kind)>,
    syncs: u64,
}

#[derive(Clone)]
struct MemoryFile {
    bytes: Arc<[u8]>,
    stamp: Stamp,
}

impl Inner {
    /// Counts a put, and says how it shall fail.
    fn next_failure(&mut self) -> Option<Kind> {
        match self.fail_put.take()? {
            (0, kind) => Some(kind),
            (successes, kind) => {
                self.fail_put = Some((successes - 1, kind));
                None
            }
        }
    }

    fn files(&mut self, folder: Folder) -> &mut Files {
        match folder {
            Folder::Messages => &mut self.messages,
            Folder::Notes => &mut self.notes,
        }
    }

    fn file(&mut self, bytes: &[u8]) -> MemoryFile {
        self.changes += 1;
        let time =
            Timestamp::new(1_600_000_000, self.changes as u32 % 1_000_000_000).expect("below 10^9");
        MemoryFile {
            bytes: bytes.into(),
            stamp: Stamp {
                dev: 0,
                ino: self.changes,
                size: bytes.len() as u64,
                mtime: time,
                ctime: time,
            },
        }
    }
}

impl MemoryStore {
    /// Makes an empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Places a file as a syncer would, replacing the one that has the name.
    pub fn arrive(&self, folder: Folder, name: &FileName, bytes: &[u8]) {
        let mut inner = self.lock();
        let file = inner.file(bytes);
        inner.files(folder).insert(name.clone(), file);
    }

    /// Places a file in `keys/` as a syncer would.
    pub fn arrive_key(&self, name: &FileName, bytes: &[u8]) {
        let mut inner = self.lock();
        let file = inner.file(bytes);
        inner.keys.insert(name.clone(), file);
    }

    /// Places a file below `software/`, with the directories that it needs.
    pub fn arrive_software(&self, path: &[FileName], bytes: &[u8]) {
        let mut inner = self.lock();
        let file = inner.file(bytes);
        inner.software.insert(path.to_vec(), file);
    }

    /// Makes an empty directory below `software/`.
    pub fn arrive_software_directory(&self, path: &[FileName]) {
        self.lock().directories.insert(path.to_vec());
    }

    /// Makes the next put of a blob or certificate fail half-way, once.
    pub fn fail_next_put(&self, kind: Kind) {
        self.fail_put_after(0, kind);
    }

    /// Makes one put fail in the middle, after `successes` more that do not.
    pub fn fail_put_after(&self, successes: usize, kind: Kind) {
        self.lock().fail_put = Some((successes, kind));
    }

    /// Counts the calls of [`Store::sync`].
    pub fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }

    /// Publishes a blob that `write` writes; `label` tells its name and length afterwards.
    pub(super) fn put_with<R>(
        &self,
        folder: Folder,
        write: impl FnOnce(&mut Sink<'_>) -> Result<R>,
        label: impl Fn(&R) -> (FileName, u64),
    ) -> Result<(R, Entry)> {
        let failure = self.lock().next_failure();
        let mut disk = Disk {
            bytes: Vec::new(),
            room: failure.map(|_| 100),
        };
        let written = write(&mut disk);
        if let Some(kind) = failure {
            return Err(failed(kind));
        }
        let written = written?;
        let (name, length) = label(&written);
        if length != disk.bytes.len() as u64 {
            return Err(failed(Kind::Io));
        }
        let mut inner = self.lock();
        let stamp = match inner.files(folder).get(&name) {
            Some(there) if *there.bytes == *disk.bytes => there.stamp,
            Some(_) => {
                let sentence = format!("another file is called {name}");
                return Err(Error::new(Kind::Exists, sentence));
            }
            None => {
                let file = inner.file(&disk.bytes);
                let stamp = file.stamp;
                inner.files(folder).insert(name.clone(), file);
                stamp
            }
        };
        let entry = Entry {
            folder,
            name,
            stamp,
        };
        Ok((written, entry))
    }
}

/// RAM as a writer that may be made to fail.
struct Disk {
    bytes: Vec<u8>,
    /// Bytes until it fails.
    room: Option<usize>,
}

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(room) = &mut self.room {
            if bytes.len() > *room {
                return Err(io::Error::from_raw_os_error(libc::ENOSPC));
            }
            *room -= bytes.len();
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn failed(kind: Kind) -> Error {
    Error::new(kind, "cannot write a file: the test wants it so")
}

fn missing(name: &FileName) -> Error {
    Error::new(Kind::NotFound, format!("there is no {name}"))
}

fn nowhere() -> Error {
    Error::new(Kind::NotFound, "there is no such file in software/")
}

/// A file that is being read. Replacing it does not change it.
struct Reading {
    file: MemoryFile,
    read: usize,
}

impl Read for Reading {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let count = (&self.file.bytes[self.read..]).read(to)?;
        self.read += count;
        Ok(count)
    }
}

impl BlobFile for Reading {
    fn stamp(&self) -> Stamp {
        self.file.stamp
    }

    fn finish(self: Box<Self>) -> Result<Stamp> {
        if self.read < self.file.bytes.len() {
            let sentence = "a file of the store was not read to its end";
            return Err(Error::new(Kind::Busy, sentence));
        }
        Ok(self.file.stamp)
    }
}

fn find(files: &Files, name: &FileName, limit: u64) -> Result<MemoryFile> {
    let file = files.get(name).ok_or_else(|| missing(name))?;
    if file.stamp.size > limit {
        let sentence = format!("{name} is larger than {limit} bytes");
        return Err(Error::new(Kind::TooLarge, sentence));
    }
    Ok(file.clone())
}

fn candidates(files: &Files) -> impl Iterator<Item = (FileName, Stamp)> + '_ {
    files
        .iter()
        .filter(|(name, _)| names::is_candidate(name))
        .map(|(name, file)| (name.clone(), file.stamp))
}

impl Store for MemoryStore {
    fn list(&self, folder: Folder) -> Result<Vec<Entry>> {
        let mut inner = self.lock();
        let found = candidates(inner.files(folder)).map(|(name, stamp)| Entry {
            folder,
            name,
            stamp,
        });
        Ok(found.collect())
    }

    fn open_blob(&self, entry: &Entry, limit: u64) -> Result<Box<dyn BlobFile>> {
        let file = find(self.lock().files(entry.folder), &entry.name, limit)?;
        Ok(Box::new(Reading { file, read: 0 }))
    }

    fn stamp(&self, folder: Folder, name: &FileName) -> Result<Stamp> {
        let mut inner = self.lock();
        let file = inner.files(folder).get(name);
        file.map(|file| file.stamp).ok_or_else(|| missing(name))
    }

    fn space(&self) -> Result<Space> {
        Ok(Space::default())
    }

    fn place(&self, folder: Folder, blob: &mut Ciphertext<'_>) -> Result<Entry> {
        let name = FileName::new(blob.name().file_name())?;
        let length = blob.length();
        let write = |sink: &mut Sink<'_>| blob.write_to(sink);
        let ((), entry) = self.put_with(folder, write, |()| (name.clone(), length))?;
        Ok(entry)
    }

    fn put(&self, folder: Folder, sealed: &Sealed<'_>) -> Result<(Receipt, Entry)> {
        self.put_with(folder, |sink| sealed.write_to(sink), label)
    }

    fn watch(&self, _tell: Box<dyn Fn(Change) + Send>) -> Result<Box<dyn Watch>> {
        let sentence = "nobody else changes a store in memory";
        Err(Error::new(Kind::Unsupported, sentence))
    }

    fn sync(&self, _folder: Folder) -> Result<()> {
        self.lock().syncs += 1;
        Ok(())
    }

    fn link_out(&self, entry: &Entry, _dir: BorrowedFd<'_>, _name: &str) -> Result<Stamp> {
        let sentence = format!("{} is on no disk", entry.name);
        Err(Error::new(Kind::Unsupported, sentence))
    }

    fn remove(&self, folder: Folder, name: &FileName) -> Result<()> {
        let removed = self.lock().files(folder).remove(name);
        removed.map(drop).ok_or_else(|| missing(name))
    }

    fn keys(&self) -> Result<Vec<KeyFile>> {
        let inner = self.lock();
        Ok(candidates(&inner.keys)
            .map(|(name, stamp)| KeyFile { name, stamp })
            .collect())
    }

    fn read_key(&self, name: &FileName, limit: u64) -> Result<Vec<u8>> {
        Ok(find(&self.lock().keys, name, limit)?.bytes.to_vec())
    }

    fn put_key(&self, name: &FileName, bytes: &[u8]) -> Result<()> {
        names::require_candidate(name)?;
        let failure = self.lock().next_failure();
        match failure {
            Some(kind) => Err(failed(kind)),
            None => {
                self.arrive_key(name, bytes);
                Ok(())
            }
        }
    }

    fn remove_key(&self, name: &FileName) -> Result<()> {
        let removed = self.lock().keys.remove(name);
        removed.map(drop).ok_or_else(|| missing(name))
    }

    fn software_metadata(&self, path: &[FileName]) -> Result<SoftwareEntry> {
        if path.iter().any(names::is_syncers) {
            return Err(nowhere());
        }
        let inner = self.lock();
        if let Some(file) = inner.software.get(path) {
            return Ok(SoftwareEntry {
                kind: SoftwareKind::File,
                stamp: file.stamp,
            });
        }
        // A file as a parent is a path that cannot be.
        if (1..path.len()).any(|depth| inner.software.contains_key(&path[..depth])) {
            let sentence = "a file of software/ is not a directory";
            return Err(Error::new(Kind::NotDirectory, sentence));
        }
        let exists = path.is_empty()
            || inner.software.keys().any(|file| file.starts_with(path))
            || inner.directories.iter().any(|dir| dir.starts_with(path));
        if !exists {
            return Err(nowhere());
        }
        let stamp = Stamp {
            dev: 0,
            ino: 0,
            size: 0,
            mtime: Timestamp::default(),
            ctime: Timestamp::default(),
        };
        Ok(SoftwareEntry {
            kind: SoftwareKind::Directory,
            stamp,
        })
    }

    fn software_list(&self, path: &[FileName]) -> Result<Vec<(FileName, SoftwareEntry)>> {
        if self.software_metadata(path)?.kind == SoftwareKind::File {
            let sentence = "a file of software/ is not a directory";
            return Err(Error::new(Kind::NotDirectory, sentence));
        }
        let below: BTreeSet<FileName> = {
            let inner = self.lock();
            let paths = inner.software.keys().chain(&inner.directories);
            paths
                .filter(|found| found.len() > path.len() && found.starts_with(path))
                .map(|found| found[path.len()].clone())
                .filter(|name| !names::is_syncers(name))
                .collect()
        };
        below
            .into_iter()
            .map(|name| {
                let path = [path, std::slice::from_ref(&name)].concat();
                Ok((name, self.software_metadata(&path)?))
            })
            .collect()
    }

    fn software_open(&self, path: &[FileName]) -> Result<Box<dyn SoftwareFile>> {
        if self.software_metadata(path)?.kind == SoftwareKind::Directory {
            let sentence = "a directory of software/ is not a file";
            return Err(Error::new(Kind::IsDirectory, sentence));
        }
        let file = self.lock().software.get(path).cloned();
        Ok(Box::new(file.ok_or_else(nowhere)?))
    }
}

impl SoftwareFile for MemoryFile {
    fn read_at(&self, offset: u64, size: usize) -> Result<Vec<u8>> {
        let length = self.bytes.len();
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(length);
        let end = start.saturating_add(size).min(length);
        Ok(self.bytes[start..end].to_vec())
    }

    fn metadata(&self) -> Result<SoftwareEntry> {
        Ok(SoftwareEntry {
            kind: SoftwareKind::File,
            stamp: self.stamp,
        })
    }
}
