//! The directory on disk: made, locked, and filled so that no name ever stands for a part.
//!
//! A file is written under a temporary name, its length is checked, it is fsynced, renamed to its
//! name, and the directory is fsynced. The holder of the [`Lock`] is alone here, so temporary
//! names found by the next one belong to the dead.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::random::fill_random;
use crate::error::{Error, Kind, Result, printable};
use crate::ids::Timestamp;

const TEMPORARY: &str = ".tmp-";
const LOCK: &str = "lock";
/// How long to wait for the lock of a process that is just ending.
const LINGERING: Duration = Duration::from_millis(200);

/// Bytes that are left to others on the disk, if that is not more than this part of it.
const RESERVE: u64 = 64 << 20;
const PART: u64 = 50;

/// Properties that distinguish a file from another one, and its bytes from former ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Device number.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Length in bytes.
    pub size: u64,
    /// Time of the last change of the content, as its writer says.
    pub mtime: Timestamp,
}

/// Bytes of a disk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// Left for its users.
    pub(super) available: u64,
    pub(super) total: u64,
}

impl Room {
    /// Bytes that are left to others.
    pub(super) fn reserve(self) -> u64 {
        RESERVE.min(self.total / PART)
    }

    /// Tells whether so many bytes may be written.
    pub(super) fn has(self, bytes: u64) -> bool {
        bytes.saturating_add(self.reserve()) <= self.available
    }
}

/// An open directory. Keeps meaning the same one if it is renamed.
pub(super) struct PrivateDir {
    fd: OwnedFd,
    /// For sentences only.
    path: PathBuf,
}

impl PrivateDir {
    /// Opens a directory that only its owner may enter, making it and its parents if missing.
    pub(super) fn make(path: &Path) -> Result<PrivateDir> {
        let mut missing = Vec::new();
        let mut base = path;
        while !base.as_os_str().is_empty() && !base.exists() {
            missing.push(base);
            base = base.parent().unwrap_or(Path::new(""));
        }
        for path in missing.iter().rev() {
            make_one(CWD, *path).map_err(|errno| failed("make", path, errno))?;
            let parent = path.parent().filter(|path| !path.as_os_str().is_empty());
            let parent = parent.unwrap_or(Path::new("."));
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            rustix::fs::open(parent, flags, Mode::empty())
                .and_then(sync)
                .map_err(|errno| failed("sync", parent, errno))?;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|errno| failed("open", path, errno))?;
        PrivateDir::private(fd, path.to_owned())
    }

    /// Opens a directory in this one, making it if missing.
    pub(super) fn child(&self, name: &str) -> Result<PrivateDir> {
        let path = self.path.join(name);
        make_one(&self.fd, name).map_err(|errno| failed("make", &path, errno))?;
        sync(&self.fd).map_err(|errno| failed("sync", &self.path, errno))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, name, flags, Mode::empty())
            .map_err(|errno| failed("open", &path, errno))?;
        PrivateDir::private(fd, path)
    }

    /// Refuses a directory of another user, and shuts out everybody else.
    fn private(fd: OwnedFd, path: PathBuf) -> Result<PrivateDir> {
        let stat = rustix::fs::fstat(&fd).map_err(|errno| failed("look at", &path, errno))?;
        if stat.st_uid != rustix::process::geteuid().as_raw() {
            let sentence = format!("{} belongs to another user", shown(&path));
            return Err(Error::new(Kind::BadConfig, sentence));
        }
        if stat.st_mode & 0o777 != 0o700 {
            match rustix::fs::fchmod(&fd, Mode::RWXU) {
                // FAT and the like have no modes.
                Ok(()) | Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS) => {}
                Err(errno) => return Err(failed("make private", &path, errno)),
            }
        }
        Ok(PrivateDir { fd, path })
    }

    /// Path of a file here, for sentences.
    pub(super) fn shown(&self, name: &str) -> String {
        shown(&self.path.join(name))
    }

    /// Path of the directory itself, for sentences.
    pub(super) fn shown_self(&self) -> String {
        shown(&self.path)
    }

    /// Takes the directory for this process, until the lock is dropped.
    ///
    /// `None` on file systems without locks.
    ///
    /// # Errors
    /// `Busy` if somebody has it.
    pub(super) fn lock(&self) -> Result<Option<Lock>> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let fd = rustix::fs::openat(&self.fd, LOCK, flags, mode)
            .map_err(|errno| self.failed("open", LOCK, errno))?;
        let begun = Instant::now();
        let taken = loop {
            match rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
                // The kernel may let go of it a little later than its last holder ends.
                Err(Errno::WOULDBLOCK) if begun.elapsed() < LINGERING => {
                    std::thread::sleep(LINGERING / 20);
                }
                taken => break taken,
            }
        };
        match taken {
            Ok(()) => Ok(Some(Lock(fd))),
            Err(Errno::WOULDBLOCK) => {
                let sentence = format!("another dds-mount uses {}", self.shown_self());
                Err(Error::new(Kind::Busy, sentence))
            }
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::NOLCK | Errno::INVAL) => Ok(None),
            Err(errno) => Err(self.failed("lock", LOCK, errno)),
        }
    }

    /// Opens a plain file; `None` if there is none of that name.
    pub(super) fn open(&self, name: &str, write: bool) -> Result<Option<File>> {
        let access = if write { OFlags::RDWR } else { OFlags::RDONLY };
        let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = match rustix::fs::openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(self.failed("open", name, errno)),
        };
        let stat = rustix::fs::fstat(&fd).map_err(|errno| self.failed("look at", name, errno))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            let sentence = format!("{} is not a plain file", self.shown(name));
            return Err(Error::new(Kind::BadConfig, sentence));
        }
        Ok(Some(fd.into()))
    }

    /// Reads a file whole; `None` if there is none of that name.
    ///
    /// # Errors
    /// `TooLarge` over `limit` bytes.
    pub(super) fn read(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        let Some(file) = self.open(name, false)? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        file.take(limit.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(|error| Error::io(&format!("cannot read {}", self.shown(name)), error))?;
        if bytes.len() as u64 > limit {
            let sentence = format!("{} is larger than {limit} bytes", self.shown(name));
            return Err(Error::new(Kind::TooLarge, sentence));
        }
        Ok(Some(bytes))
    }

    /// Tells whether anything has that name.
    pub(super) fn has(&self, name: &str) -> Result<bool> {
        match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(self.failed("look at", name, errno)),
        }
    }

    /// Tells whether a name means this very file.
    pub(super) fn is_named(&self, name: &str, file: &File) -> bool {
        let there = rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW);
        match (there, rustix::fs::fstat(file)) {
            (Ok(there), Ok(open)) => (there.st_dev, there.st_ino) == (open.st_dev, open.st_ino),
            _ => false,
        }
    }

    /// The directory itself, for files that come from elsewhere.
    pub(super) fn handle(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// How a plain file looks, and whether it has another name; `None` if there is none of that
    /// name.
    pub(super) fn measure(&self, name: &str) -> Result<Option<(Look, bool)>> {
        match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {
                let nanos = u32::try_from(stat.st_mtime_nsec).unwrap_or(0);
                let look = Look {
                    dev: stat.st_dev,
                    ino: stat.st_ino,
                    size: u64::try_from(stat.st_size).unwrap_or(0),
                    mtime: Timestamp::new(stat.st_mtime, nanos).unwrap_or_default(),
                };
                Ok(Some((look, stat.st_nlink > 1)))
            }
            Ok(_) | Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.failed("look at", name, errno)),
        }
    }

    /// Renames a file, replacing the one that has the name.
    pub(super) fn rename(&self, name: &str, new: &str) -> Result<()> {
        rustix::fs::renameat(&self.fd, name, &self.fd, new)
            .map_err(|errno| self.failed("rename", name, errno))
    }

    /// How much room the disk has.
    pub(super) fn room(&self) -> Result<Room> {
        let found = rustix::fs::fstatvfs(&self.fd)
            .map_err(|errno| failed("ask for the room of", &self.path, errno))?;
        Ok(Room {
            available: found.f_bavail.saturating_mul(found.f_frsize),
            total: found.f_blocks.saturating_mul(found.f_frsize),
        })
    }

    /// Lists the names, those that are not UTF-8 (and so not ours) excepted.
    pub(super) fn names(&self) -> Result<Vec<String>> {
        let failed = |errno| failed("list", &self.path, errno);
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.fd).map_err(failed)? {
            if let Ok(name) = entry.map_err(failed)?.file_name().to_str() {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    /// Unlinks a file; tells whether there was one.
    pub(super) fn remove(&self, name: &str) -> Result<bool> {
        match rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(self.failed("remove", name, errno)),
        }
    }

    /// Gives a file a second name, or, where that cannot be, renames it. Never replaces.
    pub(super) fn set_aside(&self, name: &str, aside: &str) -> Result<()> {
        match rustix::fs::linkat(&self.fd, name, &self.fd, aside, AtFlags::empty()) {
            Ok(()) => Ok(()),
            Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::MLINK)
                if !self.has(aside)? =>
            {
                rustix::fs::renameat(&self.fd, name, &self.fd, aside)
                    .map_err(|errno| self.failed("set aside", name, errno))
            }
            Err(errno) => Err(self.failed("set aside", name, errno)),
        }
    }

    /// Removes the unfinished files of dead processes.
    pub(super) fn clean_temporaries(&self) -> Result<()> {
        for name in self.names()? {
            if name.starts_with(TEMPORARY) {
                self.remove(&name)?;
            }
        }
        Ok(())
    }

    /// Makes the names survive a power cut.
    pub(super) fn sync(&self) -> Result<()> {
        sync(&self.fd).map_err(|errno| failed("sync", &self.path, errno))
    }

    /// Brings the bytes of all its files to the disk.
    pub(super) fn sync_all(&self) -> Result<()> {
        rustix::fs::syncfs(&self.fd).map_err(|errno| failed("sync", &self.path, errno))
    }

    /// Makes a name that nothing has, and that the next start cleans.
    pub(super) fn temporary_name() -> Result<String> {
        let mut random = [0; 16];
        fill_random(&mut random)?;
        Ok(format!("{TEMPORARY}{:032x}", u128::from_ne_bytes(random)))
    }

    /// Makes an empty file that vanishes unless it is placed.
    pub(super) fn temporary(&self) -> Result<Temporary<'_>> {
        let name = PrivateDir::temporary_name()?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let fd = rustix::fs::openat(&self.fd, name.as_str(), flags, mode)
            .map_err(|errno| failed("make a file in", &self.path, errno))?;
        Ok(Temporary {
            dir: self,
            name: Some(name),
            file: fd.into(),
        })
    }

    fn failed(&self, doing: &str, name: &str, errno: Errno) -> Error {
        failed(doing, &self.path.join(name), errno)
    }
}

/// Held while this process uses the directory. The kernel lets go of it when the process and
/// all processes that inherited its descriptors are gone.
pub(super) struct Lock(#[allow(dead_code, reason = "held, never looked at")] OwnedFd);

/// Tells whether some process has taken a directory. One that is not there nobody has.
pub(super) fn is_locked(dir: &Path) -> bool {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::open(dir.join(LOCK), flags, Mode::empty());
    file.is_ok_and(|file| {
        let taken = rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared);
        taken == Err(Errno::WOULDBLOCK)
    })
}

/// A file without its name yet, unlinked when dropped.
pub(super) struct Temporary<'a> {
    dir: &'a PrivateDir,
    /// `None` once it was placed.
    name: Option<String>,
    file: File,
}

impl Temporary<'_> {
    /// The file, to be written.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Brings the file to the disk and gives it its name, replacing the one that has it.
    ///
    /// The directory is not synced.
    pub(super) fn place(self, name: &str, length: u64) -> Result<File> {
        self.sync(name, length)?;
        self.name(name)
    }

    /// Brings the file, which is to have a name and a length, to the disk.
    pub(super) fn sync(&self, name: &str, length: u64) -> Result<()> {
        self.check(name, length)?;
        let doing = format!("cannot write {}", self.dir.shown(name));
        let synced = self.file.sync_all();
        synced.map_err(|error| Error::io(&doing, error))
    }

    /// Checks that the file has the length that was written.
    pub(super) fn check(&self, name: &str, length: u64) -> Result<()> {
        let doing = format!("cannot write {}", self.dir.shown(name));
        let io = |error| Error::io(&doing, error);
        let written = self.file.metadata().map_err(io)?.len();
        if written != length {
            let sentence = format!("{doing}: it has {written} bytes instead of {length}");
            return Err(Error::new(Kind::Io, sentence));
        }
        Ok(())
    }

    /// Gives the file, which is on the disk, its name, replacing the one that has it.
    pub(super) fn name(mut self, name: &str) -> Result<File> {
        let doing = format!("cannot write {}", self.dir.shown(name));
        let io = |error| Error::io(&doing, error);
        let file = self.file.try_clone().map_err(io)?;
        if let Some(temporary) = &self.name {
            let dir = &self.dir.fd;
            rustix::fs::renameat(dir, temporary.as_str(), dir, name)
                .map_err(|errno| io(errno.into()))?;
            self.name = None;
        }
        Ok(file)
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            // Should this fail, the next start removes it.
            let _ = rustix::fs::unlinkat(&self.dir.fd, name.as_str(), AtFlags::empty());
        }
    }
}

fn make_one(dir: impl AsFd, path: impl rustix::path::Arg) -> rustix::io::Result<()> {
    match rustix::fs::mkdirat(dir, path, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno),
    }
}

fn sync(dir: impl AsFd) -> rustix::io::Result<()> {
    match rustix::fs::fsync(dir.as_fd()) {
        // Some network file systems cannot, and need not, sync directories.
        Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(()),
        result => result,
    }
}

fn shown(path: &Path) -> String {
    printable(&path.to_string_lossy())
}

fn failed(doing: &str, path: &Path, errno: Errno) -> Error {
    let doing = format!("cannot {doing} {}", shown(path));
    match errno {
        Errno::LOOP | Errno::NOTDIR => Error::new(
            Kind::BadConfig,
            format!("{doing}: {}", io::Error::from(errno)),
        ),
        errno => Error::io(&doing, errno.into()),
    }
}
