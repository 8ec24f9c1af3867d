//! Mounting and unmounting.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use fuser::{Config, INodeNo, MountOption, Notifier, Session, SessionACL};

use super::Adapter;
use super::herald::{self, Telling};
use crate::error::{Error, Kind, Result};
use crate::process::keeper::{Keeper, Told};
use crate::process::mounts;
use crate::view::{Ino, Unsaved, View};

/// Threads that serve the kernel, at the least: one may wait for the disk or for cryptography
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
    telling: Arc<Telling>,
    keeper: Arc<Keeper>,
    endings: (Sender<Ending>, Receiver<Ending>),
}

/// A view that is served.
pub struct Serving {
    view: Arc<View>,
    kernel: Notifier,
    keeper: Arc<Keeper>,
    endings: (Sender<Ending>, Receiver<Ending>),
    background: Option<crate::view::Background>,
}

/// What makes serving come to its end.
enum Ending {
    /// Somebody asked for it.
    Asked,
    /// The mount is out of the tree, but its connection may last as long as this process.
    Gone,
    /// The kernel closed the connection.
    Session(std::io::Result<()>),
}

/// Locks a mount that is served, from any thread, whatever is open.
#[derive(Clone)]
pub struct Locker(Sender<Ending>);

impl Locker {
    /// Asks for the mount to be taken away; does not wait.
    pub fn lock(&self) {
        // Without a receiver it is locked already.
        let _ = self.0.send(Ending::Asked);
    }
}

/// Mounts on an existing directory. Only the mounting user sees it. When this process dies,
/// however that comes about, the keeper takes the mount away.
///
/// `store` is the name by which the mount can be told from others. `options` are passed on to the
/// kernel as `mount -o` understands them.
///
/// # Errors
/// `NotFound` without `/dev/fuse`; `DiskForbids` if it may not be opened; otherwise `Io` with what
/// the kernel or fusermount3 said.
pub fn mount(
    mountpoint: &Path,
    store: &str,
    options: &[String],
    keeper: Keeper,
) -> Result<Mounted> {
    let view = Arc::default();
    let telling = Arc::default();
    let adapter = Adapter {
        view: Arc::clone(&view),
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        telling: Arc::clone(&telling),
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
        telling,
        keeper: Arc::new(keeper),
        endings: mpsc::channel(),
    })
}

/// Converts an option. What are flags of mount(2) must not stand among the options of the
/// filesystem, which the kernel refuses there.
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
            while let Told::Lock | Told::Deaf = self.keeper.listen() {}
        }
    }

    /// Begins to serve the kernel.
    ///
    /// # Errors
    /// `Io` if threads cannot be started.
    pub fn serve(self, view: Arc<View>) -> Result<Serving> {
        let Mounted {
            session,
            view: seat,
            mountpoint,
            device,
            telling,
            keeper,
            endings,
        } = self;
        let kernel = session.notifier();
        let failed = |error| Error::io("starting a thread", error);
        // The seat is empty: this is the only place that fills it.
        let _ = seat.set(Arc::clone(&view));
        let told = endings.0.clone();
        let serving = std::thread::Builder::new().name("fuse".to_owned());
        let serving = serving.spawn(move || {
            // If nobody waits any more the process is about to end.
            let _ = told.send(Ending::Session(session.run()));
        });
        serving.map_err(failed)?;
        let told = endings.0.clone();
        let listening = Arc::clone(&keeper);
        let listener = std::thread::Builder::new().name("keeper".to_owned());
        let listener = listener.spawn(move || {
            loop {
                match listening.listen() {
                    Told::Lock => {
                        let _ = told.send(Ending::Asked);
                    }
                    Told::Deaf => tracing::error!(
                        "logind is not heard any more: neither suspending nor locking the screen \
                         locks this mount"
                    ),
                    Told::Gone => {
                        let _ = told.send(Ending::Gone);
                        return;
                    }
                    Told::Lost => {
                        tracing::error!(
                            "the keeper is gone: if this process is killed, so is the mount, and \
                             the next dds-mount clears it away"
                        );
                        return;
                    }
                }
            }
        });
        listener.map_err(failed)?;
        let told = herald::start(mountpoint, device, telling, &view);
        if let Err(error) = told {
            tracing::warn!("programs that watch the mount are not told what arrives: {error}");
        }
        let background = view.work_in_background();
        let background = background.inspect_err(|error| {
            tracing::error!("nothing is made durable in the background: {error}");
        });
        Ok(Serving {
            view,
            kernel,
            keeper,
            endings,
            background: background.ok(),
        })
    }
}

impl Serving {
    /// Returns what locks the mount.
    pub fn locker(&self) -> Locker {
        Locker(self.endings.0.clone())
    }

    /// Waits until the mount is taken away or shall be, calls `ending`, takes it away, and saves
    /// what can be saved. Returns what was not saved where it belongs.
    ///
    /// The process shall end then: where `/sys/fs/fuse/connections` is not mounted, as in most
    /// containers, only that ends the connection of a mount in which files are still open.
    ///
    /// # Errors
    /// `Io` when the connection to the kernel breaks; everything that could be saved was saved.
    pub fn wait(
        mut self,
        ending: impl FnOnce(),
    ) -> std::result::Result<Vec<Unsaved>, (Error, Vec<Unsaved>)> {
        let mut last = self.endings.1.recv();
        // Nobody waits for what is still being read.
        self.view.stop_looking();
        ending();
        if let Ok(Ending::Asked) = last {
            last = match self.keeper.take_away() {
                Ok(()) => self.next_within(TAKE_AWAY),
                // What is open stays open until this process ends, which is soon.
                Err(_) => Ok(Ending::Gone),
            };
        }
        while let Ok(Ending::Gone | Ending::Asked) = last {
            last = self.next_within(GRACE);
        }
        if last.is_err() && self.keeper.abort().is_ok() {
            // Something is open in it, or another mount namespace has a copy.
            last = self.next_within(GRACE);
        }
        // Before the store is needed, whose disk may not answer.
        self.forget_pages();
        let lost = self.view.close();
        // Not before: what it is doing may wait for that disk.
        drop(self.background.take());
        // What it did meanwhile.
        let durable = self.view.make_durable();
        if let Err(error) = durable {
            tracing::error!("the last saves may not be durable: {error}");
        }
        // Where the connection lasts, more may have been read.
        self.forget_pages();
        match last {
            Ok(Ending::Session(Err(error))) if !is_abort(&error) => {
                Err((Error::io("serving the mount", error), lost))
            }
            _ => Ok(lost),
        }
    }

    /// Whoever still has a file open could else go on reading what the kernel remembers of it.
    fn forget_pages(&self) {
        for Ino(number) in self.view.files() {
            // An error says that the kernel has forgotten the whole mount already.
            let _ = self.kernel.inval_inode(INodeNo(number), 0, 0);
        }
    }

    fn next_within(&self, time: Duration) -> std::result::Result<Ending, mpsc::RecvError> {
        self.endings
            .1
            .recv_timeout(time)
            .map_err(|_| mpsc::RecvError)
    }
}

/// The connection was aborted: that is how a busy mount is taken away.
fn is_abort(error: &std::io::Error) -> bool {
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
