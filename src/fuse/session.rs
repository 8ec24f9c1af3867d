//! Mounting and unmounting.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fuser::{Config, INodeNo, MountOption, Session, SessionACL, SessionUnmounter};

use super::Adapter;
use crate::error::{Error, Kind, Result};
use crate::view::{Ino, Unsaved, View};

/// Threads that serve the kernel, at the least: one may wait for the disk or for cryptography
/// while others answer.
const MIN_THREADS: usize = 4;

/// How long a mount that was taken out of the tree is still served where its connection cannot be
/// ended from outside. Nobody needs longer if nothing is open.
const GRACE: Duration = Duration::from_secs(2);

/// A view that is mounted, and will be served by [`Mounted::serve`].
pub struct Mounted {
    session: Session<Adapter>,
    view: Arc<View>,
    unmounter: Unmounter,
    endings: Receiver<Ending>,
}

/// How serving came to its end.
enum Ending {
    /// The kernel closed the connection.
    Session(std::io::Result<()>),
    /// The mount is out of the tree, but its connection lasts as long as this process.
    Detached,
}

/// Takes a mount away, from any thread, whatever is open.
#[derive(Clone)]
pub struct Unmounter {
    session: Arc<Mutex<SessionUnmounter>>,
    mountpoint: PathBuf,
    endings: Sender<Ending>,
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
    let (sender, endings) = mpsc::channel();
    let unmounter = Unmounter {
        session: Arc::new(Mutex::new(session.unmount_callable())),
        mountpoint: mountpoint.to_owned(),
        endings: sender,
    };
    Ok(Mounted {
        session,
        view,
        unmounter,
        endings,
    })
}

impl Mounted {
    /// Returns what takes the mount away.
    pub fn unmounter(&self) -> Unmounter {
        self.unmounter.clone()
    }

    /// Serves the kernel until the mount is taken away. Returns what was not
    /// saved where it belongs.
    ///
    /// The process shall end then: where `/sys/fs/fuse/connections` is not mounted, as in most
    /// containers, only that ends the connection of a mount in which files are still open.
    ///
    /// # Errors
    /// `Io` when the connection to the kernel breaks; everything that could be saved was saved.
    pub fn serve(self) -> std::result::Result<Vec<Unsaved>, (Error, Vec<Unsaved>)> {
        let Mounted {
            session,
            view,
            unmounter,
            endings,
        } = self;
        let told = unmounter.endings.clone();
        let kernel = session.notifier();
        let retrier = view.retry_in_background();
        if let Err(error) = &retrier {
            tracing::warn!("what fails will not be saved again by itself: {error}");
        }
        let serving = std::thread::Builder::new().name("fuse".to_owned());
        let serving = serving.spawn(move || {
            // If nobody waits any more the process is about to end.
            let _ = told.send(Ending::Session(session.run()));
        });
        let ended = match serving {
            Ok(_) => wait(&endings),
            Err(error) => Err(error),
        };
        drop(retrier);
        let lost = view.close();
        // Whoever still has a file open could else go on reading what the kernel remembers of it.
        for Ino(number) in view.files() {
            // An error says that the kernel has forgotten the whole mount already.
            let _ = kernel.inval_inode(INodeNo(number), 0, 0);
        }
        match ended {
            Ok(()) => Ok(lost),
            // The connection was aborted: that is how a busy mount is taken away.
            Err(error) if error.raw_os_error() == Some(libc::ECONNABORTED) => Ok(lost),
            Err(error) => Err((Error::io("serving the mount", error), lost)),
        }
    }
}

/// Waits until the kernel closes the connection, or nothing but this process holds it.
fn wait(endings: &Receiver<Ending>) -> std::io::Result<()> {
    let first = endings.recv();
    let last = match first {
        Ok(Ending::Detached) => endings.recv_timeout(GRACE).ok(),
        first => first.ok(),
    };
    match last {
        Some(Ending::Session(ended)) => ended,
        Some(Ending::Detached) | None => Ok(()),
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
        // If the receiver is gone, so is the mount.
        let _ = self.endings.send(Ending::Detached);
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

/// Takes a busy mount out of the tree: by ourselves as root, else by fusermount3. For root the
/// force ends its connection.
fn detach(mountpoint: &Path) {
    use rustix::mount::{UnmountFlags, unmount};
    if unmount(mountpoint, UnmountFlags::FORCE | UnmountFlags::DETACH).is_ok() {
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
