//! Mounting and unmounting.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use fuser::{Config, MountOption, Session, SessionACL, SessionUnmounter};

use super::Adapter;
use crate::error::{Error, Kind, Result};
use crate::view::View;

/// Threads that serve the kernel, at the least: one may wait for the disk or for cryptography
/// while others answer.
const MIN_THREADS: usize = 4;

/// A view that is mounted, and will be served by [`Mounted::serve`].
pub struct Mounted {
    session: Session<Adapter>,
    view: Arc<View>,
    unmounter: Unmounter,
}

/// Takes a mount away, from any thread, whatever is open.
#[derive(Clone)]
pub struct Unmounter {
    session: Arc<Mutex<SessionUnmounter>>,
    mountpoint: PathBuf,
}

/// Mounts a view on an existing directory. Only the mounting user sees it.
///
/// `options` are passed on to the kernel as `mount -o` understands them.
///
/// # Errors
/// `NotFound` without `/dev/fuse`; `Forbidden` if it may not be opened; otherwise `Io` with what
/// the kernel or fusermount3 said.
pub fn mount(view: Arc<View>, mountpoint: &Path, options: &[String]) -> Result<Mounted> {
    let owner = std::fs::metadata("/proc/self").map_err(|error| Error::io("/proc/self", error))?;
    let adapter = Adapter {
        view: Arc::clone(&view),
        uid: owner.uid(),
        gid: owner.gid(),
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut config = Config::default();
    config.acl = SessionACL::Owner;
    config.n_threads = Some(threads.max(MIN_THREADS));
    config.mount_options = vec![
        MountOption::FSName("dds".to_owned()),
        // As a plain option it reaches the kernel on both ways, mount(2) and fusermount3.
        MountOption::CUSTOM("subtype=dds-mount".to_owned()),
        MountOption::NoDev,
        MountOption::NoSuid,
        MountOption::NoAtime,
    ];
    let custom = options.iter().cloned().map(MountOption::CUSTOM);
    config.mount_options.extend(custom);
    let mounted = Session::new(adapter, mountpoint, &config);
    let mut session = mounted.map_err(|error| Error::io("mounting", error))?;
    let unmounter = Unmounter {
        session: Arc::new(Mutex::new(session.unmount_callable())),
        mountpoint: mountpoint.to_owned(),
    };
    Ok(Mounted {
        session,
        view,
        unmounter,
    })
}

impl Mounted {
    /// Returns what takes the mount away.
    pub fn unmounter(&self) -> Unmounter {
        self.unmounter.clone()
    }

    /// Serves the kernel until the mount is taken away. Returns the view paths of what could not
    /// be saved.
    ///
    /// # Errors
    /// `Io` when the connection to the kernel breaks; everything that could be saved was saved.
    pub fn serve(self) -> std::result::Result<Vec<String>, (Error, Vec<String>)> {
        let ended = self.session.run();
        let lost = self.view.close();
        match ended {
            Ok(()) => Ok(lost),
            // The connection was aborted: that is how a busy mount is taken away.
            Err(error) if error.raw_os_error() == Some(libc::ECONNABORTED) => Ok(lost),
            Err(error) => Err((Error::io("serving the mount", error), lost)),
        }
    }
}

impl Unmounter {
    /// Unmounts. With files open or a shell inside, the mount is first taken out of the tree and
    /// then its connection is ended, so that nobody can go on reading.
    pub fn unmount(&self) {
        let connection = connection(&self.mountpoint);
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let clean = session.unmount();
        if clean.is_err() {
            tracing::info!("mount is busy: detaching it");
            detach(&self.mountpoint);
        }
        if let Some(number) = connection {
            abort(number);
        }
    }
}

/// Finds the number of a mount's connection in `/sys/fs/fuse/connections`: the minor device
/// number, read from the kernel's table so that the mount itself is not asked.
fn connection(mountpoint: &Path) -> Option<u32> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    let line = table.lines().rev().find(|line| {
        let mut fields = line.split(' ');
        fields
            .nth(4)
            .is_some_and(|path| Path::new(&unescape(path)) == mountpoint)
            && line.contains(" - fuse")
    })?;
    let (_, minor) = line.split(' ').nth(2)?.split_once(':')?;
    minor.parse().ok()
}

/// Undoes the octal escapes of `/proc/self/mountinfo` (space, tab, newline, backslash).
fn unescape(path: &str) -> String {
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
    path
}

/// Takes a busy mount out of the tree: by ourselves as root, else by fusermount3.
fn detach(mountpoint: &Path) {
    if rustix::mount::unmount(mountpoint, rustix::mount::UnmountFlags::DETACH).is_ok() {
        return;
    }
    let helper = std::process::Command::new("fusermount3")
        .args(["-u", "-q", "-z", "--"])
        .arg(mountpoint)
        .status();
    if !helper.is_ok_and(|status| status.success()) {
        tracing::warn!("the mount could not be detached");
    }
}

/// Ends a connection: every request on it, waiting or to come, fails.
fn abort(connection: u32) {
    let control = format!("/sys/fs/fuse/connections/{connection}/abort");
    match std::fs::write(&control, "1") {
        Ok(()) => {}
        // The unmount was complete, and the connection went with it.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!("the connection could not be ended: {error}"),
    }
}

/// Checks that the kernel offers FUSE to this user.
///
/// # Errors
/// `NotFound` or `Forbidden`, naming what is missing: `/dev/fuse`, or fusermount3 for an ordinary
/// user.
pub fn check_available() -> Result<()> {
    let device = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/fuse");
    if let Err(error) = device {
        return Err(Error::io("/dev/fuse", error));
    }
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|dir| dir.join("fusermount3").exists());
    match found {
        true => Ok(()),
        false => Err(Error::new(Kind::NotFound, "fusermount3 is not installed")),
    }
}
