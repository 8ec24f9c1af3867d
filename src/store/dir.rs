//! The store as a directory on disk.

use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::publish::{self, Sink, Staged};
use super::watch::{self, Change, Watch};
use super::{
    BlobFile, Entry, FileName, KeyFile, SoftwareEntry, SoftwareFile, SoftwareKind, Space, Stamp,
    Store, beneath, label, names, read_whole,
};
use crate::error::{Error, Kind, Result};
use crate::ids::{Folder, Timestamp};
use crate::locks::lock;
use crate::openpgp::{Ciphertext, Receipt, Sealed};

const KEYS: &str = "keys";
const SOFTWARE: &str = "software";
const FOLDERS: [&str; 4] = [KEYS, "messages", "notes", SOFTWARE];

/// The store as a directory on disk.
///
/// Only the store's own directory is held open. Its folders are opened anew for every call,
/// because a syncer may remove and make them again at any time.
pub struct DirStore {
    path: PathBuf,
    /// The store's directory. Replaced when it was removed and something is at its path again.
    root: Mutex<Arc<OwnedFd>>,
    opened: Timestamp,
    /// Whether to try O_TMPFILE; off only in tests.
    nameless: bool,
}

fn open_root(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| {
        let doing = format!("cannot open the store {}", shown(path));
        match errno {
            Errno::NOTDIR => Error::new(Kind::NotDirectory, format!("{doing}: not a directory")),
            errno => Error::io(&doing, errno.into()),
        }
    })
}

fn shown(path: &Path) -> String {
    crate::error::printable(&path.to_string_lossy())
}

fn constant(name: &str) -> FileName {
    FileName::new(name).expect("the store's folder names are file names")
}

impl DirStore {
    /// Opens an existing store, of which any folder may be missing.
    ///
    /// # Errors
    /// `NotFound` or `NotDirectory`; the disk's error.
    pub fn open(path: &Path) -> Result<Self> {
        let root = open_root(path)?;
        let path = path
            .canonicalize()
            .map_err(|error| Error::io(&format!("cannot open the store {}", shown(path)), error))?;
        Ok(DirStore {
            path,
            root: Mutex::new(Arc::new(root)),
            opened: Timestamp::now(),
            nameless: true,
        })
    }

    /// Makes the missing folders of a store, for its owner only, and opens it.
    ///
    /// # Errors
    /// The disk's error.
    pub fn create(path: &Path) -> Result<Self> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|error| {
                let doing = format!("cannot create the store {}", shown(path));
                Error::io(&doing, error)
            })?;
        let store = Self::open(path)?;
        for folder in FOLDERS {
            store.open_or_make(folder)?;
        }
        Ok(store)
    }

    /// Returns the canonical path of the store.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the unfinished files of earlier processes that died while they wrote, and returns
    /// how many files that were.
    ///
    /// Only files that have the exact form of our own temporary names, are older than this
    /// `DirStore` and are not locked by a living writer.
    ///
    /// # Errors
    /// The disk's error.
    pub fn clean_leftovers(&self) -> Result<usize> {
        let mut removed = 0;
        for folder in FOLDERS {
            // One that cannot be used is reported when it is looked at, and stops no other.
            let Ok(Some(dir)) = self.open_folder(folder) else {
                continue;
            };
            let mut found = Vec::new();
            let listed = beneath::entries(
                &dir,
                |name, _| names::is_temporary(name),
                |name, stat| {
                    let old = beneath::stamp(&stat).mtime < self.opened;
                    if old && beneath::file_type(&stat) == FileType::RegularFile {
                        found.push(name);
                    }
                },
            );
            if let Err(errno) = listed {
                tracing::warn!("{}", failed_listing(folder, errno));
            }
            for name in found {
                if publish::is_stale(&dir, &name) {
                    match rustix::fs::unlinkat(&dir, name.as_os_str(), AtFlags::empty()) {
                        Ok(()) => removed += 1,
                        Err(Errno::NOENT) => {}
                        Err(errno) => return Err(beneath::failure("cannot remove", &name, errno)),
                    }
                }
            }
        }
        Ok(removed)
    }

    /// Does as on a file system without O_TMPFILE.
    #[cfg(test)]
    pub(super) fn forbid_nameless(&mut self) {
        self.nameless = false;
    }

    /// Returns the store's directory, or the one that took its place.
    fn root(&self) -> Result<Arc<OwnedFd>> {
        let mut root = lock(&self.root);
        let stat = rustix::fs::fstat(root.as_fd())
            .map_err(|errno| Error::io("cannot look at the store", errno.into()))?;
        // A directory that was removed or moved away is no longer the store. Then "no such
        // folder" must not pass for "an empty folder".
        let there = rustix::fs::stat(&self.path);
        let same =
            there.is_ok_and(|there| (there.st_dev, there.st_ino) == (stat.st_dev, stat.st_ino));
        if !same {
            *root = Arc::new(open_root(&self.path)?);
        }
        Ok(root.clone())
    }

    pub(super) fn open_folder(&self, folder: &str) -> Result<Option<OwnedFd>> {
        match beneath::open_dir(&*self.root()?, &constant(folder)) {
            Ok(dir) => Ok(Some(dir)),
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => {
                let sentence = format!(
                    "{folder}/ in the store is a link, a file or a mount point, so nothing in it is \
                     read or written: move it away, and it is made anew by the next save in it"
                );
                Err(Error::new(Kind::NotDirectory, sentence))
            }
            Err(errno @ (Errno::ACCESS | Errno::PERM)) => {
                let error = failed_listing(folder, errno);
                let sentence = format!("{error}: chmod u+rwx lets you use it again");
                Err(Error::new(error.kind(), sentence))
            }
            Err(errno) => Err(failed_listing(folder, errno)),
        }
    }

    fn require_folder(&self, folder: &str) -> Result<OwnedFd> {
        self.open_folder(folder)?.ok_or_else(|| {
            let sentence = format!("the store has no {folder}/");
            Error::new(Kind::NotFound, sentence)
        })
    }

    fn open_or_make(&self, folder: &str) -> Result<OwnedFd> {
        if let Some(dir) = self.open_folder(folder)? {
            return Ok(dir);
        }
        let root = self.root()?;
        match rustix::fs::mkdirat(&*root, folder, Mode::RWXU) {
            Ok(()) => beneath::sync_directory(&root)?,
            Err(Errno::EXIST) => {}
            Err(errno) => {
                let doing = format!("cannot make {folder}/ in the store");
                return Err(Error::io(&doing, errno.into()));
            }
        }
        self.require_folder(folder)
    }

    /// Lists the plain files that may be OpenPGP.
    fn candidates(&self, folder: &str) -> Result<Vec<(FileName, Stamp)>> {
        let Some(dir) = self.open_folder(folder)? else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        beneath::entries(
            &dir,
            |name, kind| {
                matches!(kind, FileType::RegularFile | FileType::Unknown)
                    && names::is_candidate(name)
            },
            |name, stat| {
                if beneath::file_type(&stat) == FileType::RegularFile {
                    found.push((name, beneath::stamp(&stat)));
                }
            },
        )
        .map_err(|errno| failed_listing(folder, errno))?;
        Ok(found)
    }

    fn unlink(&self, folder: &str, name: &FileName) -> Result<OwnedFd> {
        let dir = self.require_folder(folder)?;
        rustix::fs::unlinkat(&dir, name.as_os_str(), AtFlags::empty())
            .map_err(|errno| beneath::failure("cannot remove", name, errno))?;
        Ok(dir)
    }

    /// Publishes a blob that `write` writes; `label` tells its name and length afterwards.
    pub(super) fn put_with<R>(
        &self,
        folder: Folder,
        write: impl FnOnce(&mut Sink<'_>) -> Result<R>,
        label: impl Fn(&R) -> (FileName, u64),
    ) -> Result<(R, Entry)> {
        let dir = self.open_or_make(folder.name())?;
        let mut staged = Staged::new(dir, self.nameless)?;
        let written = staged.fill(write, |written| label(written).1)?;
        let (name, _) = label(&written);
        let stamp = match staged.publish(&name) {
            // The folder was removed meanwhile, or nameless files cannot be linked here.
            Err(error) if error.kind() == Kind::NotFound => staged
                .copy_to(self.open_or_make(folder.name())?)?
                .publish(&name)?,
            result => result?,
        };
        let entry = Entry {
            folder,
            name,
            stamp,
        };
        Ok((written, entry))
    }

    /// Opens anything at a path below `software/`, for its metadata only.
    fn software(&self, path: &[FileName]) -> Result<(OwnedFd, SoftwareEntry)> {
        let Some((last, parents)) = path.split_last() else {
            let dir = self.require_folder(SOFTWARE)?;
            let entry = visible(&rustix::fs::fstat(&dir).map_err(|errno| hidden(path, errno))?);
            return Ok((dir, entry.expect("opened as a directory")));
        };
        if path.iter().any(names::is_syncers) {
            return Err(hidden(path, Errno::NOENT));
        }
        let mut dir = self.require_folder(SOFTWARE)?;
        for name in parents {
            dir = beneath::open_dir(&dir, name).map_err(|errno| hidden(path, errno))?;
        }
        let stat = beneath::stat(&dir, last).map_err(|errno| hidden(path, errno))?;
        let entry = visible(&stat).ok_or_else(|| hidden(path, Errno::NOENT))?;
        Ok((dir, entry))
    }
}

pub(super) fn failed_listing(folder: &str, errno: Errno) -> Error {
    Error::io(&format!("cannot list {folder}/ in the store"), errno.into())
}

/// Makes an entry of anything in `software/` that is shown.
fn visible(stat: &rustix::fs::Stat) -> Option<SoftwareEntry> {
    let kind = match beneath::file_type(stat) {
        FileType::RegularFile => SoftwareKind::File,
        FileType::Directory => SoftwareKind::Directory,
        _ => return None,
    };
    Some(SoftwareEntry {
        kind,
        stamp: beneath::stamp(stat),
    })
}

/// Says that there is nothing at a path, also for links, which are hidden.
fn hidden(path: &[FileName], errno: Errno) -> Error {
    let path: Vec<String> = path.iter().map(FileName::to_string).collect();
    let doing = format!("cannot open {SOFTWARE}/{}", path.join("/"));
    match errno {
        Errno::LOOP | Errno::XDEV => Error::io(&doing, Errno::NOENT.into()),
        Errno::NOTDIR => Error::new(Kind::NotDirectory, format!("{doing}: not a directory")),
        errno => Error::io(&doing, errno.into()),
    }
}

impl Store for DirStore {
    fn list(&self, folder: Folder) -> Result<Vec<Entry>> {
        let found = self.candidates(folder.name())?;
        let entry = |(name, stamp)| Entry {
            folder,
            name,
            stamp,
        };
        Ok(found.into_iter().map(entry).collect())
    }

    fn open_blob(&self, entry: &Entry, limit: u64) -> Result<Box<dyn BlobFile>> {
        let dir = self.require_folder(entry.folder.name())?;
        Ok(Box::new(beneath::Watched::open(&dir, &entry.name, limit)?))
    }

    fn stamp(&self, folder: Folder, name: &FileName) -> Result<Stamp> {
        let dir = self.require_folder(folder.name())?;
        let stat = beneath::stat(&dir, name)
            .map_err(|errno| beneath::failure("cannot look at", name, errno))?;
        Ok(beneath::stamp(&stat))
    }

    fn space(&self) -> Result<Space> {
        let root = self.root()?;
        let found = rustix::fs::fstatvfs(&*root)
            .map_err(|errno| Error::io("cannot ask the disk for its room", errno.into()))?;
        Ok(Space {
            block_size: u32::try_from(found.f_frsize).unwrap_or(u32::MAX),
            blocks: found.f_blocks,
            free: found.f_bfree,
            available: found.f_bavail,
            files: found.f_files,
            free_files: found.f_ffree,
        })
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

    fn watch(&self, tell: Box<dyn Fn(Change) + Send>) -> Result<Box<dyn Watch>> {
        watch::watch(&self.path, tell)
    }

    fn sync(&self, folder: Folder) -> Result<()> {
        let dir = self.require_folder(folder.name())?;
        beneath::sync_directory(&dir)
    }

    fn link_out(&self, entry: &Entry, dir: BorrowedFd<'_>, name: &str) -> Result<Stamp> {
        let folder = self.require_folder(entry.folder.name())?;
        let stamp = beneath::link_out(&folder, &entry.name, dir, name)?;
        if !stamp.is_same_file(&entry.stamp) {
            // Should this fail, the file's name there does not fit its bytes, which tells.
            let _ = rustix::fs::unlinkat(dir, name, AtFlags::empty());
            let sentence = format!("{} was replaced", entry.name);
            return Err(Error::new(Kind::Busy, sentence));
        }
        Ok(stamp)
    }

    fn remove(&self, folder: Folder, name: &FileName) -> Result<()> {
        self.unlink(folder.name(), name).map(drop)
    }

    fn keys(&self) -> Result<Vec<KeyFile>> {
        let found = self.candidates(KEYS)?;
        let file = |(name, stamp)| KeyFile { name, stamp };
        Ok(found.into_iter().map(file).collect())
    }

    fn read_key(&self, name: &FileName, limit: u64) -> Result<Vec<u8>> {
        let dir = self.require_folder(KEYS)?;
        let file = beneath::Watched::open(&dir, name, limit)?;
        Ok(read_whole(Box::new(file))?.0)
    }

    fn put_key(&self, name: &FileName, bytes: &[u8]) -> Result<()> {
        names::require_candidate(name)?;
        let mut staged = Staged::new(self.open_or_make(KEYS)?, false)?;
        staged.fill(
            |sink| {
                sink.write_all(bytes)
                    .map_err(|error| Error::io(&format!("cannot write {name}"), error))
            },
            |()| bytes.len() as u64,
        )?;
        staged.replace(name)?;
        staged.sync_directory()
    }

    fn remove_key(&self, name: &FileName) -> Result<()> {
        let dir = self.unlink(KEYS, name)?;
        beneath::sync_directory(&dir)
    }

    fn software_metadata(&self, path: &[FileName]) -> Result<SoftwareEntry> {
        Ok(self.software(path)?.1)
    }

    fn software_list(&self, path: &[FileName]) -> Result<Vec<(FileName, SoftwareEntry)>> {
        let dir = match (self.software(path)?, path.last()) {
            ((parent, _), Some(name)) => {
                beneath::open_dir(&parent, name).map_err(|errno| hidden(path, errno))?
            }
            ((dir, _), None) => dir,
        };
        let mut found = Vec::new();
        beneath::entries(
            &dir,
            |name, _| !names::is_syncers(name),
            |name, stat| found.extend(visible(&stat).map(|entry| (name, entry))),
        )
        .map_err(|errno| hidden(path, errno))?;
        found.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(found)
    }

    fn software_open(&self, path: &[FileName]) -> Result<Box<dyn SoftwareFile>> {
        let (parent, entry) = self.software(path)?;
        match (entry.kind, path.last()) {
            (SoftwareKind::File, Some(name)) => {
                let (file, _) = beneath::open_file(&parent, name)?;
                Ok(Box::new(OpenFile(file)))
            }
            _ => {
                let sentence = "a directory of software/ is not a file";
                Err(Error::new(Kind::IsDirectory, sentence))
            }
        }
    }
}

/// An open file of `software/`.
struct OpenFile(File);

impl SoftwareFile for OpenFile {
    fn read_at(&self, offset: u64, size: usize) -> Result<Vec<u8>> {
        // Not more than there is: `size` is a wish.
        let left = self.metadata()?.size().saturating_sub(offset);
        let size = usize::try_from(left).unwrap_or(usize::MAX).min(size);
        let mut bytes = vec![0; size];
        let mut done = 0;
        while done < size {
            match self.0.read_at(&mut bytes[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io("cannot read a file of software/", error)),
            }
        }
        bytes.truncate(done);
        Ok(bytes)
    }

    fn metadata(&self) -> Result<SoftwareEntry> {
        let stat = rustix::fs::fstat(&self.0)
            .map_err(|errno| Error::io("cannot look at a file of software/", errno.into()))?;
        Ok(SoftwareEntry {
            kind: SoftwareKind::File,
            stamp: beneath::stamp(&stat),
        })
    }
}
