//! From unlocked keys to a view in service, with or without a mount, and from there to the end.
//!
//! The order is part of the security of a process of its own: it mounts first, as the sandbox
//! forbids it; then it is confined; only then is anything read that others wrote. The keeper was
//! forked before, when there were no secrets.

use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::control::{Answers, Control};
use super::idle;
use super::socket::{Listener, SocketPath};
use crate::contacts::Contacts;
use crate::error::{Error, Kind, Result};
use crate::fuse::{self, Mounted, Serving};
use crate::openpgp::Identity;
use crate::plaintext::{Budget, SpillArea};
use crate::process::ending::{Endings, Locker};
use crate::process::memory::{self, Locking};
use crate::process::raise_descriptor_limit;
use crate::process::sandbox::{self, Places};
use crate::state::State;
use crate::store::DirStore;
use crate::vault::{self, StateKey, Vault};
use crate::view::{self, Background, Surroundings, Unsaved, View};

/// Descriptors that are kept for everything but open files of `software/`: threads that read and
/// write the store and the state, sockets, the log.
const RESERVED_DESCRIPTORS: u64 = 64;

/// Files of `software/` that may be open at once however few descriptors there are.
const LEAST_OPEN: usize = 8;

/// How long a daemon that was just unmounted may take to end.
pub const LEAVING: Duration = Duration::from_secs(5);

/// Everything of which a daemon is made.
pub struct Parts<'a> {
    /// The synced folder.
    pub store: DirStore,
    /// My unlocked keys; the first one signs.
    pub identities: Vec<Identity>,
    /// The directories of this store outside of it.
    pub directories: Directories,
    /// How the vault behaves; its area for large contents is filled in.
    pub vault: vault::Options,
    /// How the view behaves; its surroundings and its limit of open files are filled in.
    pub view: view::Options,
    /// `None` if the process does more than serve this view, such as a test: then it is not
    /// confined, its memory is not locked, and signals stay its own business.
    pub process: Option<OwnProcess>,
    /// Locks after this time without use.
    pub idle: Option<Duration>,
    /// `None` serves the view without a mount: at the control socket, and in this process.
    pub mount: Option<Mount<'a>>,
}

/// Directories of a store outside of it. All but the socket's are made if they are missing.
pub struct Directories {
    /// Pins and local names.
    pub pins: PathBuf,
    /// Removals, intents, rescued drafts, old notes.
    pub state: PathBuf,
    /// Large contents, encrypted, in files without a name.
    pub cache: PathBuf,
    /// The session's directory, in which sockets are removed.
    pub runtime: Option<PathBuf>,
    /// The control socket.
    pub socket: SocketPath,
}

/// A process that serves a view and nothing else.
pub struct OwnProcess {
    /// The least confinement with which it goes on.
    pub confinement: Confinement,
}

/// The least confinement with which a daemon goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confinement {
    /// All layers of the sandbox.
    Complete,
    /// As root, the one that confines it to its own files: root passes over all permissions.
    Files,
    /// None.
    Optional,
}

/// A mount that is to be made.
pub struct Mount<'a> {
    /// The mountpoint, a canonical path.
    pub path: &'a Path,
    /// Mounts there.
    pub mount: Box<dyn FnOnce() -> Result<Mounted> + 'a>,
}

/// A daemon that could not start.
#[derive(Debug)]
pub struct StartError {
    /// The step that failed.
    pub step: Step,
    /// The reason.
    pub error: Error,
}

/// A step of starting, as far as it matters for the remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Making the area for large contents.
    Cache,
    /// Opening the state directory; `Busy` if another daemon has it.
    State,
    /// Binding the control socket.
    Socket,
    /// Mounting.
    Mount,
    /// Confining the process completely, as was asked for.
    Confinement,
    /// Confining root's process to its own files.
    RootConfinement,
    /// Anything else.
    Other,
}

impl From<Error> for StartError {
    fn from(error: Error) -> Self {
        Step::Other.failed(error)
    }
}

impl Step {
    fn failed(self, error: Error) -> StartError {
        StartError { step: self, error }
    }
}

/// A view in service.
pub struct Daemon {
    view: Arc<View>,
    serving: Option<Serving>,
    background: Option<Background>,
    control: Control,
    endings: Endings,
}

/// A daemon that has locked.
pub struct Locked {
    /// The files that were not saved where they belong.
    pub unsaved: Vec<Unsaved>,
    /// An error if the connection to the kernel broke.
    pub served: Result<()>,
    control: Control,
}

/// Starts a daemon: mounts, confines the process, and begins to read the store. The view is served
/// from then on, however long reading takes.
///
/// # Errors
/// The step that failed, and why. Nothing stays mounted.
pub fn start(parts: Parts<'_>) -> std::result::Result<Daemon, StartError> {
    let own = parts.process.as_ref();
    // After the fork: programs that the keeper runs have the usual limit.
    let descriptors = own.map(|_| raise_descriptor_limit());
    let locking = own.map(|_| memory::lock());
    if let Some(nothing @ Locking::Nothing) = locking {
        tracing::warn!("locked in memory: {}", nothing.sentence());
    }
    let contacts = Contacts::load(&parts.directories.pins)?;
    let store_path = parts.store.path().to_owned();
    let spill = spill_area(&parts.directories.cache, &store_path)?;
    let state = open_state(&parts.directories.state, &parts.identities)?;
    let mountpoint = parts.mount.as_ref().map(|mount| mount.path.to_owned());
    let places = places(&parts.directories, &store_path, mountpoint.clone());
    let listener = Listener::bind(&parts.directories.socket);
    let listener = listener.map_err(|error| Step::Socket.failed(error))?;
    let endings = Endings::default();
    // From here on a signal ends it only with everything saved. Their thread starts later: a process
    // that is to be confined has one.
    let signals = own.map(|_| Signals::new([SIGINT, SIGTERM, SIGHUP]));
    let signals = signals.transpose();
    let signals = signals.map_err(|error| Error::io("signals", error))?;
    let mounted = parts.mount.map(|mount| (mount.mount)()).transpose();
    let mounted = mounted.map_err(|error| Step::Mount.failed(error))?;
    let give_up = |mounted: Option<Mounted>| {
        if let Some(mounted) = mounted {
            mounted.give_up();
        }
    };
    let sandbox = match own.map(|own| confine(&places, own.confinement)) {
        Some(Ok(sandbox)) => vec![sandbox],
        Some(Err(refused)) => {
            give_up(mounted);
            return Err(refused);
        }
        None => Vec::new(),
    };
    let view_options = view::Options {
        open_software: descriptors.map(open_software),
        surroundings: Surroundings {
            mountpoint: mountpoint
                .as_ref()
                .map_or_else(String::new, |path| path.display().to_string()),
            store: store_path.display().to_string(),
            sandbox,
            locked_memory: locking.map(Locking::sentence).into_iter().collect(),
        },
        ..parts.view
    };
    let vault_options = vault::Options {
        spill: Some(spill),
        ..parts.vault
    };
    let store = Arc::new(parts.store);
    let vault = Vault::new(store, state, parts.identities, contacts, vault_options);
    let view = match vault.and_then(|vault| View::new(vault, view_options)) {
        Ok(view) => Arc::new(view),
        Err(error) => {
            give_up(mounted);
            return Err(error.into());
        }
    };
    let locker = endings.locker();
    let serving = match mounted {
        Some(mounted) => {
            let serving = mounted.serve(Arc::clone(&view), &locker)?;
            let at_panic = locker.clone();
            fuse::lock_at_panic(move || at_panic.lock());
            Some(serving)
        }
        None => None,
    };
    if let Some(signals) = signals {
        lock_at_signals(signals, locker.clone())?;
    }
    let background = view.work_in_background();
    let background = background.inspect_err(|error| {
        tracing::error!("nothing is made durable in the background: {error}");
    });
    if let Some(idle) = parts.idle {
        let watched = idle::lock_after(idle, &view, locker.clone());
        watched.map_err(|error| Error::io("starting a thread", error))?;
    }
    let control = Control::serve(listener, Arc::clone(&view), mountpoint.as_deref(), locker)?;
    Ok(Daemon {
        view,
        serving,
        background: background.ok(),
        control,
        endings,
    })
}

impl Daemon {
    /// The view in service.
    pub fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// Serves until there is a reason to end. Then it calls `at_lock`, takes the mount away, and
    /// saves everything that can be saved.
    ///
    /// If there was a mount, the process should end then: where `/sys/fs/fuse/connections` is not
    /// mounted, as in most containers, only that ends the connection of a mount in which files are
    /// still open.
    pub fn serve(self, at_lock: impl FnOnce(Answers)) -> Locked {
        let Daemon {
            view,
            serving,
            background,
            control,
            endings,
        } = self;
        let first = endings.wait();
        // Nobody waits for a file that is still being read.
        view.stop_looking();
        control.answers().begin_locking();
        view.announce_lock();
        at_lock(control.answers());
        let served = match &serving {
            Some(serving) => serving.take_away(first, &endings),
            None => Ok(()),
        };
        let forget_pages = || {
            if let Some(serving) = &serving {
                serving.forget_pages();
            }
        };
        // Before the store is needed, whose disk may not answer.
        forget_pages();
        let unsaved = view.close();
        // Not before: its work may wait for that disk.
        drop(background);
        // The saves that it made meanwhile.
        if let Err(error) = view.make_durable() {
            tracing::error!("the last saves may not be durable: {error}");
        }
        // Where the connection lasts, more may have been read.
        forget_pages();
        Locked {
            unsaved,
            served,
            control,
        }
    }
}

impl Locked {
    /// Answers every client that waits for the lock, removes the control socket, and lets go of the
    /// store's state, so that the next daemon can begin.
    pub fn finish(self) -> (Vec<Unsaved>, Result<()>) {
        self.control.finish(&self.unsaved);
        (self.unsaved, self.served)
    }
}

/// Confines the process, and returns a sentence about it.
fn confine(places: &Places, least: Confinement) -> std::result::Result<String, StartError> {
    let sandbox = sandbox::enter(places);
    let missing = !sandbox.is_complete();
    if missing && least == Confinement::Complete {
        let why = format!("the sandbox is {sandbox}");
        return Err(Step::Confinement.failed(Error::new(Kind::Unsupported, why)));
    }
    if least != Confinement::Optional && !sandbox.confines_files() {
        refuse_unconfined_root()?;
    }
    if missing {
        tracing::warn!("the sandbox is {sandbox}");
    }
    Ok(sandbox.to_string())
}

/// Refuses to go on where nothing would keep root's process from any file of the machine, as root
/// passes over all permissions. The process reads files that strangers wrote.
///
/// # Errors
/// [`Step::RootConfinement`] for root.
pub fn refuse_unconfined_root() -> std::result::Result<(), StartError> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let why = "this kernel has no landlock, so as root the daemon could open every file of the \
               machine";
    Err(Step::RootConfinement.failed(Error::new(Kind::Unsupported, why)))
}

/// Starts a thread that locks at the signals that end programs. It ends with the process.
fn lock_at_signals(mut signals: Signals, locker: Locker) -> Result<()> {
    let thread = std::thread::Builder::new().name("signals".to_owned());
    let thread = thread.spawn(move || signals.forever().for_each(|_| locker.lock()));
    thread
        .map(drop)
        .map_err(|error| Error::io("starting a thread", error))
}

/// Number of files of `software/` that may be open at once.
fn open_software(descriptors: u64) -> usize {
    let left = descriptors.saturating_sub(RESERVED_DESCRIPTORS);
    usize::try_from(left).unwrap_or(usize::MAX).max(LEAST_OPEN)
}

/// Makes the directory in which large contents spill, encrypted: a cache, of this machine only.
fn spill_area(dir: &Path, store: &Path) -> std::result::Result<Arc<SpillArea>, StartError> {
    let open = || -> io::Result<Arc<SpillArea>> {
        make_directory(dir)?;
        let canonical = dir.canonicalize()?;
        if canonical.starts_with(store) {
            return Err(io::Error::other("it must not be in the store"));
        }
        Ok(SpillArea::open(&canonical, Budget::default())?)
    };
    open().map_err(|error| {
        let doing = format!("cache {}", dir.display());
        Step::Cache.failed(Error::io(&doing, error))
    })
}

fn make_directory(dir: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(dir)
}

/// Opens the state directory, waiting for the daemon of an earlier mount to let go of it.
fn open_state(dir: &Path, identities: &[Identity]) -> std::result::Result<State, StartError> {
    let begun = Instant::now();
    loop {
        match State::open(dir, &StateKey(identities)) {
            Ok(state) => return Ok(state),
            Err(error) if error.kind() == Kind::Busy => {
                if begun.elapsed() > LEAVING {
                    return Err(Step::State.failed(error));
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(error) => return Err(Step::State.failed(error.context("the state directory"))),
        }
    }
}

/// Lists the places that the daemon goes on using, and makes the directories of them that are
/// missing: once it is confined it could not.
fn places(directories: &Directories, store: &Path, mount: Option<PathBuf>) -> Places {
    let mut writable = vec![directories.state.clone(), directories.cache.clone()];
    let may_be_missing = [&directories.pins].into_iter();
    for dir in may_be_missing.chain(&directories.runtime) {
        match make_directory(dir) {
            Ok(()) => writable.push(dir.clone()),
            // Nothing can be kept there: whoever tries to gets an error.
            Err(error) => tracing::warn!("{}: {error}", dir.display()),
        }
    }
    writable.push(store.to_owned());
    Places {
        writable,
        mount,
        ..Places::default()
    }
}
