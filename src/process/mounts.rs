//! The kernel's table of mounts (proc_pid_mountinfo(5)), and taking a mount away.

use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::mount::UnmountFlags;

use crate::error::{Error, Kind, Result};

/// Type of our mounts in the table.
pub const TYPE: &str = "fuse.dds-mount";
/// The table, as this process sees it. Readers may poll it: POLLPRI says that it changed.
pub const TABLE: &str = "/proc/self/mountinfo";

/// A line of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it is mounted.
    pub path: PathBuf,
    /// Type of the filesystem.
    pub kind: String,
    /// Minor number of its device. Of a FUSE mount this is also its connection's number.
    pub device: u32,
}

impl Entry {
    fn parse(line: &str) -> Option<Entry> {
        let (before, after) = line.split_once(" - ")?;
        let mut fields = before.split(' ');
        let (_, minor) = fields.nth(2)?.split_once(':')?;
        Some(Entry {
            path: unescape(fields.nth(1)?),
            kind: after.split(' ').next()?.to_owned(),
            device: minor.parse().ok()?,
        })
    }
}

/// Returns the mounts, the latest last; none if there is no `/proc`.
pub fn all() -> Vec<Entry> {
    let table = std::fs::read_to_string(TABLE).unwrap_or_default();
    table.lines().filter_map(Entry::parse).collect()
}

/// Finds what is mounted exactly on a path, on top of anything else there.
pub fn at(path: &Path) -> Option<Entry> {
    all().into_iter().rev().find(|entry| entry.path == path)
}

/// Finds our mount on a path by its device number. The number alone says nothing: it is given
/// anew as soon as a mount is gone.
pub fn ours(path: &Path, device: u32) -> Option<Entry> {
    let wanted = |entry: &Entry| entry.path == path && entry.kind == TYPE && entry.device == device;
    all().into_iter().rev().find(wanted)
}

/// Unmounts, if nothing is in use there.
///
/// # Errors
/// `Busy`, or whatever else the kernel or fusermount3 has against it.
pub fn unmount(path: &Path) -> Result<()> {
    by_either(path, UnmountFlags::empty(), &["-u", "-q"])
}

/// Takes a mount out of the tree, whatever is in use there.
///
/// # Errors
/// What the kernel or fusermount3 has against it.
pub fn detach(path: &Path) -> Result<()> {
    by_either(path, UnmountFlags::DETACH, &["-u", "-q", "-z"])
}

/// Unmounts by ourselves, which only root may, else by fusermount3.
fn by_either(path: &Path, flags: UnmountFlags, options: &[&str]) -> Result<()> {
    match rustix::mount::unmount(path, flags) {
        Ok(()) => return Ok(()),
        Err(rustix::io::Errno::PERM) => {}
        Err(errno) => return Err(Error::io("unmounting", errno.into())),
    }
    let mut helper = Command::new("fusermount3");
    let status = helper.args(options).arg("--").arg(path).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(Error::new(Kind::Busy, "fusermount3 could not unmount")),
        Err(error) => Err(Error::io("fusermount3", error)),
    }
}

/// Ends a FUSE connection that is known to last: every request on it, waiting or to come, fails.
///
/// # Errors
/// `Io` where `/sys/fs/fuse/connections` is not mounted, as in most containers: the connection
/// then lasts as long as the daemon.
pub fn abort(device: u32) -> Result<()> {
    let control = format!("/sys/fs/fuse/connections/{device}/abort");
    std::fs::write(control, "1").map_err(|error| Error::io("ending the connection", error))
}

/// Undoes the octal escapes of the table.
fn unescape(path: &str) -> PathBuf {
    let escapes = [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ];
    let mut path = path.to_owned();
    for (escape, plain) in escapes {
        path = path.replace(escape, plain);
    }
    path.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_table_is_understood() {
        let line = "36 35 0:98 / /home/my\\040mount rw,noatime shared:1 - fuse.dds-mount dds rw";
        let entry = Entry::parse(line).unwrap();
        assert_eq!(entry.path, Path::new("/home/my mount"));
        assert_eq!((entry.kind.as_str(), entry.device), (TYPE, 98));
        assert_eq!(Entry::parse("nonsense"), None);
    }
}
