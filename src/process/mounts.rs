//! The kernel's table of mounts (proc_pid_mountinfo(5)), and taking a mount away.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::mount::UnmountFlags;

use crate::error::{Error, Kind, Result};

/// Type of our mounts in the table.
pub const TYPE: &str = "fuse.dds-mount";
/// Beginning of the source of our mounts.
pub const SOURCE: &str = "dds:";
/// The table, as this process sees it. Readers may poll it: POLLPRI says that it changed.
pub const TABLE: &str = "/proc/self/mountinfo";

/// A line of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The mount's own number: given anew when it is gone, but not moved with its place.
    pub id: u32,
    /// Where it is mounted.
    pub path: PathBuf,
    /// Type of the filesystem.
    pub kind: String,
    /// Minor number of its device. Of a FUSE mount this is also its connection's number.
    pub device: u32,
    /// The source of the mount: of ours, [`SOURCE`] and the store's name.
    pub source: String,
    /// User who mounted it, if the filesystem says so.
    pub user: Option<u32>,
}

impl Entry {
    fn parse(line: &[u8]) -> Option<Entry> {
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
        let text = |at: usize| std::str::from_utf8(fields.get(at)?).ok();
        let (_, minor) = text(2)?.split_once(':')?;
        // The optional fields end with a dash.
        let dash = fields.iter().position(|field| *field == b"-")?;
        let options = String::from_utf8_lossy(fields.get(dash + 3)?).into_owned();
        let user = options
            .split(',')
            .find_map(|option| option.strip_prefix("user_id="));
        Some(Entry {
            id: text(0)?.parse().ok()?,
            path: unescape(fields.get(4)?),
            kind: text(dash + 1)?.to_owned(),
            device: minor.parse().ok()?,
            source: text(dash + 2)?.to_owned(),
            user: user.and_then(|user| user.parse().ok()),
        })
    }

    /// Tells whether another line, of another moment, is about the same mount. Its numbers may have
    /// been given anew meanwhile, but not to a mount of the same store, of which there is only one.
    pub fn is(&self, other: &Entry) -> bool {
        let numbers = (self.id, self.device) == (other.id, other.device);
        numbers && self.kind == other.kind && self.source == other.source
    }
}

/// Returns the mounts, the latest last.
///
/// # Errors
/// `Io` if the table cannot be read: then nothing is known of any mount.
pub fn all() -> Result<Vec<Entry>> {
    let table = std::fs::read(TABLE).map_err(|error| Error::io(TABLE, error))?;
    let lines = table.split(|byte| *byte == b'\n');
    Ok(lines.filter_map(Entry::parse).collect())
}

/// Finds the mount exactly on a path, on top of any other there.
///
/// # Errors
/// As [`all`].
pub fn at(path: &Path) -> Result<Option<Entry>> {
    let mut all = all()?.into_iter().rev();
    Ok(all.find(|entry| entry.path == path))
}

/// Finds a mount again, wherever it is now.
///
/// # Errors
/// As [`all`].
pub fn again(known: &Entry) -> Result<Option<Entry>> {
    Ok(all()?.into_iter().find(|entry| entry.is(known)))
}

/// Unmounts, if nothing is in use there.
///
/// # Errors
/// `Busy`, or whatever else the kernel or fusermount3 has against it.
pub fn unmount(path: &Path) -> Result<()> {
    by_either(path, UnmountFlags::NOFOLLOW, &["-u", "-q"])
}

/// Takes a mount out of the tree, whatever is in use there.
///
/// # Errors
/// The objection of the kernel or of fusermount3.
pub fn detach(path: &Path) -> Result<()> {
    by_either(
        path,
        UnmountFlags::NOFOLLOW | UnmountFlags::DETACH,
        &["-u", "-q", "-z"],
    )
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

/// Tells whether an error says that a mount's daemon is dead, or died while it was asked.
pub fn is_dead(error: &std::io::Error) -> bool {
    let signs = [Some(libc::ENOTCONN), Some(libc::ECONNABORTED)];
    signs.contains(&error.raw_os_error())
}

/// Undoes the octal escapes of the table.
fn unescape(path: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path;
    while let [first, after @ ..] = rest {
        let escaped = match rest {
            [b'\\', digits @ ..] => digits.get(..3).and_then(octal),
            _ => None,
        };
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() {
            &after[3..]
        } else {
            after
        };
    }
    OsString::from_vec(bytes).into()
}

fn octal(digits: &[u8]) -> Option<u8> {
    let digits = std::str::from_utf8(digits).ok()?;
    u8::from_str_radix(digits, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_table_is_understood() {
        let line = b"36 35 0:98 / /home/my\\040mount\xf6\\134 rw shared:1 - fuse.dds-mount dds:12 \
            rw,user_id=1000,group_id=0";
        let entry = Entry::parse(line).unwrap();
        assert_eq!(
            entry.path.as_os_str().as_encoded_bytes(),
            b"/home/my mount\xf6\\"
        );
        let numbers = (entry.id, entry.device, entry.user);
        assert_eq!((entry.kind.as_str(), numbers), (TYPE, (36, 98, Some(1000))));
        assert_eq!(entry.source, "dds:12");
        assert_eq!(Entry::parse(b"nonsense"), None);
        assert_eq!(unescape(b"a\\9"), Path::new("a\\9"));
    }
}
