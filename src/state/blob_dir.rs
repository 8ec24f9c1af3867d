//! A directory of ciphertext, named as the store names it, or the same in RAM.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Seek as _, Write};
use std::sync::Mutex;

use rustix::fs::MemfdFlags;
use sha1::Digest as _;

use super::private_dir::PrivateDir;
use crate::error::{Error, Kind, Result};
use crate::ids::BlobName;
use crate::locks::lock;

/// Writes a blob and returns its name.
pub(super) type Writing<'a> = dyn FnMut(&mut (dyn Write + Send + Sync)) -> Result<BlobName> + 'a;

/// Blobs by name.
pub(super) enum BlobDir {
    /// Files `<40 hex>.asc`, readable by their owner only.
    Disk(PrivateDir),
    /// For a mount without state.
    Memory(Mutex<HashMap<BlobName, Vec<u8>>>),
}

impl BlobDir {
    /// Lets `write` make a blob, and keeps it once it is whole.
    ///
    /// On disk its bytes are durable then; its name is, after [`BlobDir::sync`].
    pub(super) fn add(&self, write: &mut Writing<'_>) -> Result<(BlobName, u64)> {
        match self {
            BlobDir::Disk(dir) => {
                let temporary = dir.temporary()?;
                let mut file = temporary.file();
                let (name, length) = fill(&mut file, write)?;
                temporary.place(&name.file_name(), length)?;
                Ok((name, length))
            }
            BlobDir::Memory(blobs) => {
                let mut bytes = Vec::new();
                let added = fill(&mut bytes, write)?;
                lock(blobs).insert(added.0, bytes);
                Ok(added)
            }
        }
    }

    /// Makes the names survive a power cut.
    pub(super) fn sync(&self) -> Result<()> {
        match self {
            BlobDir::Disk(dir) => dir.sync(),
            BlobDir::Memory(_) => Ok(()),
        }
    }

    pub(super) fn has(&self, name: BlobName) -> Result<bool> {
        match self {
            BlobDir::Disk(dir) => dir.has(&name.file_name()),
            BlobDir::Memory(blobs) => Ok(lock(blobs).contains_key(&name)),
        }
    }

    /// Opens a blob for reading, at its beginning.
    pub(super) fn open(&self, name: BlobName) -> Result<File> {
        match self {
            BlobDir::Disk(dir) => dir
                .open(&name.file_name(), false)?
                .ok_or_else(|| missing(name)),
            BlobDir::Memory(blobs) => {
                let blobs = lock(blobs);
                let bytes = blobs.get(&name).ok_or_else(|| missing(name))?;
                let failed = |error| Error::io("cannot make a file in RAM", error);
                let fd = rustix::fs::memfd_create("dds", MemfdFlags::CLOEXEC)
                    .map_err(|errno| failed(errno.into()))?;
                let mut file = File::from(fd);
                file.write_all(bytes)
                    .and_then(|()| file.rewind())
                    .map_err(failed)?;
                Ok(file)
            }
        }
    }

    /// Reads a blob whole.
    pub(super) fn read(&self, name: BlobName, limit: u64) -> Result<Vec<u8>> {
        let bytes = match self {
            BlobDir::Disk(dir) => dir
                .read(&name.file_name(), limit)?
                .ok_or_else(|| missing(name))?,
            BlobDir::Memory(blobs) => lock(blobs)
                .get(&name)
                .cloned()
                .ok_or_else(|| missing(name))?,
        };
        if bytes.len() as u64 > limit {
            let sentence = format!("{name} is larger than {limit} bytes");
            return Err(Error::new(Kind::TooLarge, sentence));
        }
        if BlobName::of(&bytes) != name {
            let sentence = format!("{name} does not hold what was written to it");
            return Err(Error::new(Kind::Damaged, sentence));
        }
        Ok(bytes)
    }

    /// Removes a blob; one that is not there is no error.
    pub(super) fn remove(&self, name: BlobName) -> Result<()> {
        match self {
            BlobDir::Disk(dir) => dir.remove(&name.file_name()).map(drop),
            BlobDir::Memory(blobs) => {
                lock(blobs).remove(&name);
                Ok(())
            }
        }
    }

    /// Lists the blobs in the order of their names.
    pub(super) fn names(&self) -> Result<Vec<BlobName>> {
        let mut names: Vec<BlobName> = match self {
            BlobDir::Disk(dir) => {
                let names = dir.names()?.into_iter();
                let blob = |name: String| {
                    let blob: BlobName = name.strip_suffix(".asc")?.parse().ok()?;
                    (blob.file_name() == name).then_some(blob)
                };
                names.filter_map(blob).collect()
            }
            BlobDir::Memory(blobs) => lock(blobs).keys().copied().collect(),
        };
        names.sort_unstable();
        Ok(names)
    }
}

fn missing(name: BlobName) -> Error {
    Error::new(Kind::NotFound, format!("{name} is not there"))
}

/// Lets `write` write, and checks that it returns the name of its bytes.
///
/// An error of the disk keeps its kind, however `write` reports it.
fn fill(out: &mut (dyn Write + Send + Sync), write: &mut Writing<'_>) -> Result<(BlobName, u64)> {
    let mut counting = Counting {
        out,
        digest: sha1::Sha1::new(),
        length: 0,
        failed: None,
    };
    let named = write(&mut counting);
    let Counting {
        digest,
        length,
        failed,
        ..
    } = counting;
    if let Some(error) = failed {
        return Err(Error::io("cannot write a file", error));
    }
    let name = named?;
    if BlobName::from_digest(digest.finalize().into()) != name {
        let sentence = format!("what was written is not {name}");
        return Err(Error::new(Kind::Io, sentence));
    }
    Ok((name, length))
}

/// A writer that counts, digests, and remembers why it failed.
struct Counting<'a> {
    out: &'a mut (dyn Write + Send + Sync),
    digest: sha1::Sha1,
    length: u64,
    failed: Option<io::Error>,
}

impl Write for Counting<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.out.write(bytes) {
            Ok(written) => {
                self.digest.update(&bytes[..written]);
                self.length += written as u64;
                Ok(written)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let code = error.raw_os_error();
                self.failed = code.map(io::Error::from_raw_os_error);
                self.failed.get_or_insert_with(|| error.kind().into());
                Err(error)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
