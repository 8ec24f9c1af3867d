//! Placing a file so that it has its name only once it is whole and on disk.
//!
//! 1. A file without a name is made in the target directory (`O_TMPFILE`), or, where the file
//!    system has no such thing, one under a name that all syncers ignore.
//! 2. It is written, its length is checked, and it is fsynced.
//! 3. It is linked, or renamed, to its name; never over another file, unless asked for.
//!
//! Whatever fails, no trace is left: a nameless file vanishes by itself, a temporary name is
//! unlinked when its `Staged` is dropped. After a crash [`is_stale`] tells which files may be
//! removed.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek as _, Write};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::beneath;
use super::names;
use super::{FileName, Stamp};
use crate::error::{Error, Kind, Result};

/// Where the bytes of a file are written to.
pub(super) type Sink<'a> = dyn Write + Send + Sync + 'a;

/// Bytes that are gathered before they go to the disk.
const BUFFER: usize = 256 * 1024;

/// A file that has no name yet, or a temporary one.
pub(super) struct Staged {
    dir: OwnedFd,
    file: File,
    /// The temporary name, unlinked on drop.
    temporary: Option<FileName>,
}

impl Staged {
    /// Makes an empty file in a directory, readable by its owner only.
    ///
    /// With `nameless` it is tried without a name first.
    pub(super) fn new(dir: OwnedFd, nameless: bool) -> Result<Self> {
        let doing = "cannot create a file";
        let mode = Mode::RUSR | Mode::WUSR;
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        if nameless {
            match rustix::fs::openat(&dir, ".", flags | OFlags::TMPFILE, mode) {
                Ok(fd) => return Self::private(dir, fd, None),
                Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT) => {}
                Err(errno) => return Err(Error::io(doing, errno.into())),
            }
        }
        let name = names::temporary();
        let flags = flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let fd = rustix::fs::openat(&dir, name.as_os_str(), flags, mode)
            .map_err(|errno| Error::io(doing, errno.into()))?;
        // Tells `is_stale` that the writer lives. Without locks only the age tells.
        let _ = rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive);
        Self::private(dir, fd, Some(name))
    }

    /// Gives the file mode 0600 whatever the umask.
    fn private(dir: OwnedFd, fd: OwnedFd, temporary: Option<FileName>) -> Result<Self> {
        let staged = Staged {
            dir,
            file: fd.into(),
            temporary,
        };
        match rustix::fs::fchmod(&staged.file, Mode::RUSR | Mode::WUSR) {
            // FAT and the like have no modes.
            Ok(()) | Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(staged),
            Err(errno) => Err(Error::io("cannot set a file's permissions", errno.into())),
        }
    }

    /// Lets `write` fill the file, checks that it is whole, and brings it to the disk.
    ///
    /// `length` computes from the result of `write` how long the file must be. An error of the
    /// disk keeps its kind, however `write` reports it.
    pub(super) fn fill<R>(
        &mut self,
        write: impl FnOnce(&mut Sink<'_>) -> Result<R>,
        length: impl FnOnce(&R) -> u64,
    ) -> Result<R> {
        let doing = "cannot write a file";
        let mut disk = Disk {
            file: &self.file,
            failed: None,
        };
        let mut buffered = BufWriter::with_capacity(BUFFER, &mut disk);
        let written = write(&mut buffered);
        let flushed = buffered.flush();
        // Not dropped: that would write the rest once more.
        let _ = buffered.into_parts();
        if let Some(error) = disk.failed {
            return Err(Error::io(doing, error));
        }
        let written = written?;
        flushed.map_err(|error| Error::io(doing, error))?;
        let size = self.stamp()?.size;
        let expected = length(&written);
        if size != expected {
            let sentence = format!("{doing}: it has {size} bytes instead of {expected}");
            return Err(Error::new(Kind::Io, sentence));
        }
        self.file
            .sync_all()
            .map_err(|error| Error::io(doing, error))?;
        Ok(written)
    }

    /// Gives the file its name and returns how it looks then.
    ///
    /// A plain file of that name with the same bytes will do as well.
    ///
    /// # Errors
    /// `Exists` if something else has that name; `NotFound` if the directory is gone, or if
    /// this system cannot link nameless files: then copy it by [`Staged::copy_to`].
    pub(super) fn publish(&mut self, name: &FileName) -> Result<Stamp> {
        let failed = |errno: Errno| Error::io(&format!("cannot place {name}"), errno.into());
        let linked = match self.temporary.take() {
            None => self.link(name),
            Some(temporary) => {
                let result = self.rename(&temporary, name);
                if result.is_err() {
                    self.temporary = Some(temporary);
                }
                result
            }
        };
        match linked {
            Ok(()) => self.stamp(),
            Err(Errno::EXIST) => self.same_as(name),
            Err(errno) => Err(failed(errno)),
        }
    }

    /// Gives the file its name, replacing the one that has it.
    ///
    /// The file must have been made with a temporary name.
    pub(super) fn replace(&mut self, name: &FileName) -> Result<Stamp> {
        let failed = |errno: Errno| Error::io(&format!("cannot place {name}"), errno.into());
        if let Some(temporary) = &self.temporary {
            rustix::fs::renameat(
                &self.dir,
                temporary.as_os_str(),
                &self.dir,
                name.as_os_str(),
            )
            .map_err(failed)?;
            self.temporary = None;
        }
        self.stamp()
    }

    /// Makes the directory's entries survive a power cut.
    pub(super) fn sync_directory(&self) -> Result<()> {
        beneath::sync_directory(&self.dir)
    }

    /// Copies a filled file to a temporary name in a directory.
    pub(super) fn copy_to(&self, dir: OwnedFd) -> Result<Self> {
        let mut copy = Staged::new(dir, false)?;
        let size = self.stamp()?.size;
        let mut from = &self.file;
        copy.fill(
            |sink| {
                from.rewind()
                    .and_then(|()| io::copy(&mut from, sink))
                    .map_err(|error| Error::io("cannot copy a file", error))
            },
            |_| size,
        )?;
        Ok(copy)
    }

    fn link(&self, name: &FileName) -> std::result::Result<(), Errno> {
        let path = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        let flags = AtFlags::SYMLINK_FOLLOW;
        match rustix::fs::linkat(CWD, path.as_str(), &self.dir, name.as_os_str(), flags) {
            // No /proc here, or not for us; a copy under a temporary name does without.
            Err(
                Errno::ACCESS
                | Errno::PERM
                | Errno::LOOP
                | Errno::NOTDIR
                | Errno::XDEV
                | Errno::OPNOTSUPP
                | Errno::NOSYS,
            ) => Err(Errno::NOENT),
            result => result,
        }
    }

    fn rename(&self, from: &FileName, to: &FileName) -> std::result::Result<(), Errno> {
        let (dir, from, to) = (&self.dir, from.as_os_str(), to.as_os_str());
        match rustix::fs::renameat_with(dir, from, dir, to, RenameFlags::NOREPLACE) {
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
            result => return result,
        }
        match rustix::fs::linkat(dir, from, dir, to, AtFlags::empty()) {
            Ok(()) => {
                // Should this fail, the next start removes the second name.
                let _ = rustix::fs::unlinkat(dir, from, AtFlags::empty());
                return Ok(());
            }
            Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::MLINK) => {}
            result => return result,
        }
        // Neither call: a file that appears between these two has the same name, and so, being
        // named by its hash, the same bytes.
        match rustix::fs::statat(dir, to, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Err(Errno::EXIST),
            Err(Errno::NOENT) => rustix::fs::renameat(dir, from, dir, to),
            Err(errno) => Err(errno),
        }
    }

    /// Takes the file that has the name instead of this one, if it holds the same bytes.
    fn same_as(&self, name: &FileName) -> Result<Stamp> {
        let other = || {
            let sentence = format!("another file is called {name}");
            Error::new(Kind::Exists, sentence)
        };
        let (there, stamp) = match beneath::open_file(&self.dir, name) {
            Ok(there) => there,
            Err(error) if error.kind() == Kind::Invalid => return Err(other()),
            Err(error) => return Err(error),
        };
        let doing = format!("cannot compare {name}");
        let io = |error| Error::io(&doing, error);
        (&self.file).rewind().map_err(io)?;
        if stamp.size != self.stamp()?.size || !equal(&self.file, &there).map_err(io)? {
            return Err(other());
        }
        // Its writer may not have done so.
        there.sync_all().map_err(io)?;
        Ok(stamp)
    }

    fn stamp(&self) -> Result<Stamp> {
        let stat = rustix::fs::fstat(&self.file)
            .map_err(|errno| Error::io("cannot look at a file", errno.into()))?;
        Ok(beneath::stamp(&stat))
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let Some(name) = &self.temporary {
            let _ = rustix::fs::unlinkat(&self.dir, name.as_os_str(), AtFlags::empty());
        }
    }
}

/// Tells whether a temporary file was left behind by a writer that is dead.
///
/// Its writer would hold a lock on it. On file systems without locks it is taken for dead.
pub(super) fn is_stale(dir: &OwnedFd, name: &FileName) -> bool {
    let Ok((file, _)) = beneath::open_file(dir, name) else {
        return false;
    };
    let lock = FlockOperation::NonBlockingLockExclusive;
    rustix::fs::flock(file.as_fd(), lock) != Err(Errno::WOULDBLOCK)
}

/// The file as a writer that remembers why it failed.
struct Disk<'a> {
    file: &'a File,
    failed: Option<io::Error>,
}

impl Write for Disk<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let result = self.file.write(bytes);
        if let Err(error) = &result {
            if error.kind() != io::ErrorKind::Interrupted {
                let code = error.raw_os_error();
                self.failed = Some(code.map_or_else(
                    || io::Error::from(error.kind()),
                    io::Error::from_raw_os_error,
                ));
            }
        }
        result
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Compares the rest of two files.
fn equal(mut a: &File, mut b: &File) -> io::Result<bool> {
    let (mut left, mut right) = (vec![0; BUFFER], vec![0; BUFFER]);
    loop {
        let read = a.read(&mut left)?;
        if read == 0 {
            return Ok(b.read(&mut right[..1])? == 0);
        }
        match b.read_exact(&mut right[..read]) {
            Ok(()) if left[..read] == right[..read] => {}
            Ok(()) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}
