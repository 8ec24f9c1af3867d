//! One set of file operations, two ways to carry them out: calls on the view in this process, and
//! system calls on the real binary's mount.

mod in_process;
mod mounted;

use std::path::Path;

use super::mount::can_mount;
use super::people::Person;
pub use in_process::InProcess;
pub use mounted::Mounted;

/// An errno.
pub type Errno = i32;
pub type Done<T> = Result<T, Errno>;

/// The operations of which scenarios are made. Paths are below the mountpoint.
pub trait Rig {
    fn store(&self) -> &Path;
    fn read(&self, path: &str) -> Done<Vec<u8>>;
    /// Opens with O_CREAT and O_TRUNC, writes, closes.
    fn write(&self, path: &str, bytes: &[u8]) -> Done<()>;
    /// Opens for appending, writes, closes.
    fn append(&self, path: &str, bytes: &[u8]) -> Done<()>;
    /// Opens, writes at an offset, fsyncs, closes.
    fn write_at(&self, path: &str, offset: u64, bytes: &[u8]) -> Done<()>;
    /// Changes the size by path.
    fn truncate(&self, path: &str, size: u64) -> Done<()>;
    fn list(&self, path: &str) -> Done<Vec<String>>;
    fn size(&self, path: &str) -> Done<u64>;
    /// Permission bits and modification time in seconds.
    fn stat(&self, path: &str) -> Done<(u32, i64)>;
    fn chmod(&self, path: &str, mode: u32) -> Done<()>;
    fn remove(&self, path: &str) -> Done<()>;
    fn mkdir(&self, path: &str) -> Done<()>;
    fn rmdir(&self, path: &str) -> Done<()>;
    fn readlink(&self, path: &str) -> Done<String>;
    fn xattr(&self, path: &str, name: &str) -> Done<String>;
    fn rename(&self, from: &str, to: &str) -> Done<()>;
    fn symlink(&self, path: &str, target: &str) -> Done<()>;
    fn link(&self, from: &str, to: &str) -> Done<()>;
    /// Waits until every published blob is durable and every replaced one is gone.
    fn settle(&self);
    /// Ends this mount, at which everything must be saved, and begins another of the same store.
    fn remount(&mut self);
    /// The same; every draft that cannot be saved must be rescued.
    fn remount_with_rescue(&mut self);
}

/// Me, alice, and the people whose certificates are in my store.
pub struct Cast {
    pub me: Person,
    pub bob: Person,
    pub carol: Person,
    /// Has no certificate in the store.
    pub mallory: Person,
}

impl Cast {
    pub fn new() -> Cast {
        Cast {
            me: Person::new("Alice"),
            bob: Person::new("Bob"),
            carol: Person::new("Carol"),
            mallory: Person::new("Mallory"),
        }
    }
}

/// Runs a scenario on both rigs.
pub fn on_both(scenario: impl Fn(&mut dyn Rig, &Cast)) {
    let cast = Cast::new();
    scenario(&mut InProcess::new(&cast), &cast);
    if can_mount() {
        scenario(&mut Mounted::new(&cast, ""), &cast);
    }
}

fn members(cast: &Cast) -> [(&str, &Person); 3] {
    [
        ("one", &cast.me),
        ("two", &cast.bob),
        ("three", &cast.carol),
    ]
}
