//! The needs of a test: `needs!(mount, root, "git");` is its first line.

use std::sync::OnceLock;

use super::disk;
use super::mount::{make_mutable, skipped};

/// Ends the test if one of these is missing on this machine, and says loudly which one.
///
/// `mount`: mounts can be made. `root`: the test runs as root. `disk`: small disks can be mounted.
/// `immutable`: files can be made immutable. A text is the name of a program.
macro_rules! needs {
    ($($what:tt),+) => {
        if !($(needs!(@ $what))&&+) {
            return;
        }
    };
    (@ mount) => { $crate::support::mount::can_mount() };
    (@ root) => { $crate::support::needs::is_root() };
    (@ disk) => { $crate::support::needs::small_disks() };
    (@ immutable) => { $crate::support::needs::immutable_files() };
    (@ $program:literal) => { $crate::support::programs::installed(&[$program]) };
}

/// The name that the test runner gives to the thread of a test.
fn this_test() -> String {
    let thread = std::thread::current();
    thread.name().unwrap_or("a test").to_owned()
}

/// Tells whether this is root; says loudly if not.
pub fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        skipped(&format!("{}: it needs root", this_test()));
    }
    root
}

/// Tells whether small disks can be mounted; says loudly if not.
pub fn small_disks() -> bool {
    static POSSIBLE: OnceLock<bool> = OnceLock::new();
    let possible = *POSSIBLE.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        disk::mount_in_memory(dir.path(), 4096) && disk::unmount(dir.path())
    });
    if !possible {
        skipped(&format!("{}: only root can make a small disk", this_test()));
    }
    possible
}

/// Tells whether files can be made immutable; says loudly if not.
pub fn immutable_files() -> bool {
    static POSSIBLE: OnceLock<bool> = OnceLock::new();
    let possible = *POSSIBLE.get_or_init(|| {
        let file = tempfile::NamedTempFile::new_in("/tmp").unwrap();
        let flags = rustix::fs::ioctl_getflags(&file).unwrap_or(rustix::fs::IFlags::empty());
        let immutable = rustix::fs::IFlags::IMMUTABLE;
        let possible = rustix::fs::ioctl_setflags(&file, flags | immutable).is_ok();
        make_mutable(file.path());
        possible
    });
    if !possible {
        skipped(&format!("{}: nothing can be made immutable", this_test()));
    }
    possible
}
