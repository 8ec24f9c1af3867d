//! Mounting, serving the kernel, and taking the mount away.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use fuser::{Config, INodeNo, MountOption, Notifier, Session, SessionACL};

use super::Adapter;
use super::replay::{self, Replaying};
use crate::error::{Error, Kind, Result};
use crate::process::ending::{Ending, Endings, Locker};
use crate::process::keeper::{Keeper, Notice};
use crate::process::mounts;
use crate::view::{Ino, View};

/// Least number of threads that serve the kernel: one may wait for the disk or for cryptography
/// while others answer.
const MIN_THREADS: usize = 4;

/// How long a mount that was taken out of the tree is still served until its connection is ended,
/// and where that cannot be done from outside. Nobody needs longer if nothing is open.
const GRACE: Duration = Duration::from_millis(250);

/// How long the keeper may take to take the mount away.
const TAKE_AWAY: Duration = Duration::from_secs(2);

/// A mount on which nothing is served yet: requests wait.
pub struct Mounted {
    session: Session<Adapter>,
    view: Arc<OnceLock<Arc<View>>>,
    mountpoint: PathBuf,
    /// Minor number of the mount's device.
    device: u32,
    replaying: Arc<Replaying>,
    keeper: Arc<Keeper>,
}

/// A mount on which a view is served.
pub struct Serving {
    view: Arc<View>,
    kernel: Notifier,
    keeper: Arc<Keeper>,
}

/// Mounts on an existing directory. Only the mounting user sees it. When this process dies, for
/// whatever reason, the keeper takes the mount away.
///
/// `store` is the name by which the mount can be told from others. `options` are passed on to the
/// kernel as `mount -o` understands them.
///
/// # Errors
/// `NotFound` without `/dev/fuse`; `DiskForbids` if it may not be opened; otherwise `Io` with the
/// reason that the kernel or fusermount3 gives.
pub fn mount(
    mountpoint: &Path,
    store: &str,
    options: &[String],
    keeper: Keeper,
) -> Result<Mounted> {
    let view = Arc::default();
    let replaying = Arc::default();
    let adapter = Adapter {
        view: Arc::clone(&view),
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        replaying: Arc::clone(&replaying),
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut config = Config::default();
    config.acl = SessionACL::Owner;
    config.n_threads = Some(threads.max(MIN_THREADS));
    config.mount_options = vec![
        MountOption::FSName(format!("{}{store}", mounts::SOURCE)),
        // As a plain option it reaches the kernel on both ways, mount(2) and fusermount3.
        MountOption::CUSTOM("subtype=dds-mount".to_owned()),
        MountOption::NoDev,
        MountOption::NoSuid,
        MountOption::NoAtime,
    ];
    let asked = options.iter().map(|option| mount_option(option));
    config.mount_options.extend(asked);
    keeper.expect(mountpoint)?;
    let mounted = Session::new(adapter, mountpoint, &config);
    let session = mounted.map_err(|error| Error::io("mounting", error))?;
    let Some(entry) = mounts::at(mountpoint)? else {
        let missing = "the mount is not in /proc/self/mountinfo";
        return Err(Error::new(Kind::Io, missing));
    };
    keeper.watch()?;
    Ok(Mounted {
        session,
        view,
        mountpoint: mountpoint.to_owned(),
        device: entry.device,
        replaying,
        keeper: Arc::new(keeper),
    })
}

/// Converts an option. The flags of mount(2) must not stand among the options of the filesystem,
/// which the kernel refuses there.
fn mount_option(option: &str) -> MountOption {
    match option {
        "ro" => MountOption::RO,
        "noexec" => MountOption::NoExec,
        "sync" => MountOption::Sync,
        "dirsync" => MountOption::DirSync,
        other => MountOption::CUSTOM(other.to_owned()),
    }
}

impl Mounted {
    /// Takes the mount away again: nothing was ever shown.
    pub fn give_up(self) {
        // Closing the session takes it away, too; a keeper that is gone cannot.
        if self.keeper.take_away().is_ok() {
            while let Notice::Lock | Notice::Deaf = self.keeper.listen() {}
        }
    }

    /// Begins to serve the kernel. The end of the mount, and the keeper's wish for it, are reported
    /// to `locker`.
    ///
    /// # Errors
    /// `Io` if threads cannot be started.
    pub fn serve(self, view: Arc<View>, locker: &Locker) -> Result<Serving> {
        let Mounted {
            session,
            view: waiting,
            mountpoint,
            device,
            replaying,
            keeper,
        } = self;
        let kernel = session.notifier();
        let failed = |error| Error::io("starting a thread", error);
        // The cell is empty: this is the only place that fills it.
        let _ = waiting.set(Arc::clone(&view));
        let report = locker.clone();
        let serving = std::thread::Builder::new().name("fuse".to_owned());
        let serving = serving.spawn(move || report.report(Ending::Disconnected(session.run())));
        serving.map_err(failed)?;
        let (report, listening) = (locker.clone(), Arc::clone(&keeper));
        let listener = std::thread::Builder::new().name("keeper".to_owned());
        let listener = listener.spawn(move || listen(&listening, &report));
        listener.map_err(failed)?;
        let started = replay::start(mountpoint, device, replaying, &view);
        if let Err(error) = started {
            tracing::warn!("programs that watch the mount are not told of arrivals: {error}");
        }
        Ok(Serving {
            view,
            kernel,
            keeper,
        })
    }
}

/// Passes on the keeper's notices, until it or the mount is gone.
fn listen(keeper: &Keeper, report: &Locker) {
    loop {
        match keeper.listen() {
            Notice::Lock => report.lock(),
            Notice::Deaf => tracing::error!(
                "logind is not heard any more: neither suspending nor locking the screen locks \
                 this mount"
            ),
            Notice::Gone => {
                report.report(Ending::MountGone);
                return;
            }
            Notice::Lost => {
                tracing::error!(
                    "the keeper is gone: if this process is killed, so is the mount, and the next \
                     dds-mount clears it away"
                );
                return;
            }
        }
    }
}

impl Serving {
    /// Takes the mount out of the tree, unless `first`, the reason to end, says that it is gone, and
    /// ends its connection to the kernel as far as that is possible.
    ///
    /// The process should end soon after: where `/sys/fs/fuse/connections` is not mounted, as in
    /// most containers, only that ends the connection of a mount in which files are still open.
    ///
    /// # Errors
    /// `Io` if the connection broke before.
    pub fn take_away(&self, first: Ending, endings: &Endings) -> Result<()> {
        let mut last = Some(first);
        if let Some(Ending::Asked) = last {
            last = match self.keeper.take_away() {
                Ok(()) => endings.wait_within(TAKE_AWAY),
                // Open files stay open until this process ends, which is soon.
                Err(_) => Some(Ending::MountGone),
            };
        }
        while let Some(Ending::MountGone | Ending::Asked) = last {
            last = endings.wait_within(GRACE);
        }
        if last.is_none() && self.keeper.abort().is_ok() {
            // A file is open in it, or another mount namespace has a copy of it.
            last = endings.wait_within(GRACE);
        }
        match last {
            Some(Ending::Disconnected(Err(error))) if !is_abort(&error) => {
                Err(Error::io("serving the mount", error))
            }
            _ => Ok(()),
        }
    }

    /// Lets the kernel forget all contents: a program that still has a file open could else go on
    /// reading the pages that the kernel remembers.
    pub fn forget_pages(&self) {
        for Ino(number) in self.view.files() {
            // An error says that the kernel has forgotten the whole mount already.
            let _ = self.kernel.inval_inode(INodeNo(number), 0, 0);
        }
    }
}

/// Tells whether the connection was aborted: that is how a busy mount is taken away.
fn is_abort(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ECONNABORTED)
}

/// Checks that the kernel offers FUSE to this user.
///
/// # Errors
/// `NotFound` or `DiskForbids`, naming what is missing: `/dev/fuse`, or fusermount3 for an ordinary
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
    // mount(8) sets none for an ordinary user; programs are then looked for in the usual places.
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    let found = std::env::split_paths(&path).any(|dir| dir.join("fusermount3").exists());
    match found {
        true => Ok(()),
        false => Err(Error::new(Kind::NotFound, "fusermount3 is not installed")),
    }
}
