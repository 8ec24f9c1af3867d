//! Opening files by name without ever leaving a directory, following a link or waiting.
//!
//! Symbolic links, FIFOs, sockets, devices and mount points in the store are never followed or
//! opened, whoever put them there (CVE-2017-1000420 was such a link).

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::{BlobFile, FileName, Stamp};
use crate::error::{Error, Kind, Result};
use crate::ids::Timestamp;

/// Opens `name` in `dir`, whatever it is; `flags` give the access.
///
/// A symbolic link fails with ELOOP (or, with `O_PATH` and an old kernel, opens the link
/// itself: check the type), a mount point with EXDEV where the kernel knows openat2.
pub(super) fn open(dir: impl AsFd, name: &FileName, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let dir = dir.as_fd();
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    for _ in 0..16 {
        match rustix::fs::openat2(dir, name.as_os_str(), flags, Mode::empty(), resolve) {
            // A rename somewhere while the name was resolved: the kernel asks to try again.
            Err(Errno::AGAIN | Errno::INTR) => {}
            // Before Linux 5.6, or a sandbox that does not know the call. One component and
            // O_NOFOLLOW: only mount points make a difference.
            Err(Errno::NOSYS | Errno::PERM) => {
                return rustix::fs::openat(dir, name.as_os_str(), flags, Mode::empty());
            }
            result => return result,
        }
    }
    Err(Errno::AGAIN)
}

/// Opens a directory for reading.
pub(super) fn open_dir(dir: impl AsFd, name: &FileName) -> rustix::io::Result<OwnedFd> {
    open(dir, name, OFlags::RDONLY | OFlags::DIRECTORY)
}

/// Opens a plain file for reading.
///
/// # Errors
/// `Invalid` if it is anything else, which is then not opened.
pub(super) fn open_file(dir: impl AsFd, name: &FileName) -> Result<(File, Stamp)> {
    let dir = dir.as_fd();
    let failed = |errno| failure("cannot open", name, errno);
    let before = stat(dir, name).map_err(failed)?;
    require_file(name, &before)?;
    // It may have become something else since: then neither wait for a FIFO's writer nor take
    // a terminal, and look again.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = open(dir, name, flags).map_err(failed)?;
    let now = rustix::fs::fstat(&file).map_err(failed)?;
    require_file(name, &now)?;
    Ok((File::from(file), stamp(&now)))
}

fn require_file(name: &FileName, stat: &Stat) -> Result<()> {
    if file_type(stat) == FileType::RegularFile {
        return Ok(());
    }
    Err(Error::new(
        Kind::Invalid,
        format!("{name} is not a plain file"),
    ))
}

/// A plain file that is read to its end, and that must not change meanwhile.
pub(super) struct Watched {
    file: File,
    name: FileName,
    before: Stamp,
    read: u64,
}

impl Watched {
    /// Opens a plain file.
    ///
    /// # Errors
    /// `TooLarge` over `limit` bytes; as [`open_file`].
    pub(super) fn open(dir: impl AsFd, name: &FileName, limit: u64) -> Result<Self> {
        let (file, before) = open_file(dir, name)?;
        if before.size > limit {
            let sentence = format!("{name} is larger than {limit} bytes");
            return Err(Error::new(Kind::TooLarge, sentence));
        }
        Ok(Watched {
            file,
            name: name.clone(),
            before,
            read: 0,
        })
    }
}

impl Read for Watched {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let left = self.before.size - self.read;
        let room = usize::try_from(left).unwrap_or(usize::MAX).min(to.len());
        let read = self.file.read(&mut to[..room])?;
        self.read += read as u64;
        Ok(read)
    }
}

impl BlobFile for Watched {
    fn stamp(&self) -> Stamp {
        self.before
    }

    fn finish(self: Box<Self>) -> Result<Stamp> {
        let after = rustix::fs::fstat(&self.file)
            .map_err(|errno| failure("cannot look at", &self.name, errno))?;
        if !stamp(&after).is_same_file(&self.before) || self.read != self.before.size {
            let sentence = format!("{} changed while it was read", self.name);
            return Err(Error::new(Kind::Busy, sentence));
        }
        Ok(self.before)
    }
}

/// Calls `each` with the name and metadata of every entry of a directory for which `wanted`
/// says yes. Entries that vanish meanwhile are left out.
pub(super) fn entries(
    dir: impl AsFd,
    wanted: impl Fn(&FileName, FileType) -> bool,
    mut each: impl FnMut(FileName, Stat),
) -> rustix::io::Result<()> {
    use std::os::unix::ffi::OsStrExt as _;
    let dir = dir.as_fd();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = std::ffi::OsStr::from_bytes(entry.file_name().to_bytes());
        let Ok(name) = FileName::new(name) else {
            continue;
        };
        if !wanted(&name, entry.file_type()) {
            continue;
        }
        match stat(dir, &name) {
            Ok(stat) => each(name, stat),
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Returns the metadata of a name itself, never of a link's target.
pub(super) fn stat(dir: impl AsFd, name: &FileName) -> rustix::io::Result<Stat> {
    rustix::fs::statat(dir, name.as_os_str(), AtFlags::SYMLINK_NOFOLLOW)
}

/// Gives `name`, whatever it is, a second name in another directory; returns how that looks.
///
/// # Errors
/// `NotFound`; `Unsupported` where it cannot be; `NoSpace` and `Io` as the disk says.
pub(super) fn link_out(dir: impl AsFd, name: &FileName, to: impl AsFd, new: &str) -> Result<Stamp> {
    let failed = |errno| match errno {
        Errno::NOENT | Errno::NOSPC | Errno::DQUOT | Errno::IO | Errno::ROFS => {
            failure("cannot link", name, errno)
        }
        // Another disk, another owner, no rights in the sandbox of an older kernel, too many.
        _ => {
            let sentence = format!("cannot link {name}: {}", io::Error::from(errno));
            Error::new(Kind::Unsupported, sentence)
        }
    };
    let flags = AtFlags::empty();
    rustix::fs::linkat(dir, name.as_os_str(), to.as_fd(), new, flags).map_err(failed)?;
    let stat = rustix::fs::statat(to, new, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
    Ok(stamp(&stat))
}

pub(super) fn file_type(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

pub(super) fn stamp(stat: &Stat) -> Stamp {
    // The kernel keeps nanoseconds below 10^9; a broken file system gets whole seconds.
    let time = |seconds: i64, nanos: u64| {
        let nanos = u32::try_from(nanos).unwrap_or(0);
        Timestamp::new(seconds, nanos)
            .or_else(|_| Timestamp::new(seconds, 0))
            .unwrap_or_default()
    };
    Stamp {
        dev: stat.st_dev,
        ino: stat.st_ino,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        mtime: time(stat.st_mtime, stat.st_mtime_nsec),
        ctime: time(stat.st_ctime, stat.st_ctime_nsec),
    }
}

/// Makes an error that names the attempt and the file.
pub(super) fn failure(doing: &str, name: &FileName, errno: Errno) -> Error {
    let doing = format!("{doing} {name}");
    match errno {
        Errno::LOOP | Errno::NXIO => {
            Error::new(Kind::Invalid, format!("{doing}: it is not a plain file"))
        }
        Errno::NOTDIR => Error::new(Kind::NotDirectory, format!("{doing}: not a directory")),
        errno => Error::io(&doing, errno.into()),
    }
}

/// Makes a directory's entries survive a power cut.
pub(super) fn sync_directory(dir: impl AsFd) -> Result<()> {
    match rustix::fs::fsync(dir) {
        // Some network file systems cannot, and need not, sync directories.
        Ok(()) | Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(()),
        Err(errno) => Err(Error::io(
            "cannot sync a directory of the store",
            errno.into(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_file_that_changes_while_it_is_read_is_busy() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.asc");
        let name = FileName::new("a.asc").unwrap();
        type Change = fn(&std::path::Path);
        let changes: [(&str, Change); 3] = [
            ("grown", |path| {
                fs::write(path, "longer than before").unwrap()
            }),
            ("cut", |path| fs::write(path, "cut").unwrap()),
            ("rewritten", |path| {
                let file = File::options().write(true).open(path).unwrap();
                let time = std::time::UNIX_EPOCH;
                fs::write(path, "behind").unwrap();
                file.set_modified(time).unwrap();
            }),
        ];
        for (case, change) in changes {
            fs::write(&path, "before").unwrap();
            let file = Watched::open(File::open(dir.path()).unwrap(), &name, 100).unwrap();
            change(&path);
            let busy = super::super::read_whole(Box::new(file)).unwrap_err();
            assert_eq!(busy.kind(), Kind::Busy, "{case}");
        }
        fs::write(&path, "before").unwrap();
        let file = Watched::open(File::open(dir.path()).unwrap(), &name, 6).unwrap();
        fs::hard_link(&path, dir.path().join("kept")).unwrap();
        let (bytes, _) = super::super::read_whole(Box::new(file)).unwrap();
        assert_eq!(bytes, b"before", "linked");
        let file = Watched::open(File::open(dir.path()).unwrap(), &name, 6).unwrap();
        let half = Box::new(file).finish().unwrap_err();
        assert_eq!(half.kind(), Kind::Busy, "not read to its end");
        let large = Watched::open(File::open(dir.path()).unwrap(), &name, 5);
        assert_eq!(large.err().unwrap().kind(), Kind::TooLarge);
    }
}
