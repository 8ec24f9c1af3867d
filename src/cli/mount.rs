//! `dds-mount`: unlock, mount, go to the background, serve until unmounted.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::background;
use super::config::{Config, find_store, open_store};
use super::control::{Control, Door, told};
use super::daemons;
use super::idle;
use super::log;
use super::mountpoint::Mountpoint;
use super::options::mount_options;
use super::passphrase::Source;
use super::unlock::unlock;
use super::{Exit, Failure, Outcome, parse, paths};
use crate::contacts::Contacts;
use crate::error::{Error, Kind};
use crate::fuse::{self, Serving};
use crate::openpgp::Identity;
use crate::plaintext::{Budget, SpillArea};
use crate::process::keeper::Keeper;
use crate::process::logind::{self, Occasions};
use crate::process::memory::{self, Locking};
use crate::process::sandbox::{self, Places};
use crate::process::{close_all_but, raise_descriptor_limit};
use crate::state::State;
use crate::store::DirStore;
use crate::vault::{StateKey, Vault};
use crate::view::{Surroundings, View};

pub(super) const PROGRAM: &str = "dds-mount";

/// Show a synced folder of OpenPGP files as plain files
///
/// Unlocks your key, mounts the store's view on MOUNTPOINT and goes to the background once the
/// mount is usable. Unmounting locks: fusermount3 -u MOUNTPOINT.
#[derive(Parser)]
#[command(name = PROGRAM, version, about, max_term_width = 100, after_help = EXAMPLES)]
#[command(allow_missing_positional = true)]
struct Arguments {
    /// The synced folder [default: $DDS_STORE, the configuration, else ~/documents-btsync]
    #[arg(short, long, value_name = "DIR", conflicts_with = "positional_store")]
    store: Option<PathBuf>,
    /// Secret key file; the first signs, further ones only decrypt
    #[arg(short, long = "key", value_name = "FILE")]
    keys: Vec<PathBuf>,
    #[command(flatten)]
    passphrase: Source,
    /// Stay in the foreground and log to standard error
    #[arg(short, long)]
    foreground: bool,
    /// Do not mount where the kernel cannot confine the daemon in every way
    #[arg(long)]
    require_sandbox: bool,
    /// As root, mount also where the kernel cannot confine the daemon to its own files
    #[arg(long, conflicts_with = "require_sandbox")]
    allow_unconfined: bool,
    /// Mount options, as for mount(8); allow_other and allow_root are refused
    #[arg(short, value_name = "OPTIONS", value_delimiter = ',')]
    options: Vec<String>,
    /// Lock after so many minutes without use; open files alone are no use
    #[arg(long, value_name = "MINUTES", value_parser = idle::minutes)]
    idle: Option<Duration>,
    /// Lock before the machine sleeps (only if built with logind)
    #[arg(long)]
    lock_on_suspend: bool,
    /// Lock when the screen is locked or the session ends (only if built with logind)
    #[arg(long)]
    lock_on_screen_lock: bool,
    /// Configuration file [default: ~/.config/dds/config.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The synced folder, if not given with --store
    #[arg(value_name = "STORE")]
    positional_store: Option<PathBuf>,
    /// Where the view is mounted; made if it is missing
    #[arg(value_name = "MOUNTPOINT")]
    mountpoint: PathBuf,
}

const EXAMPLES: &str = "Examples:
  dds-mount ~/secure                        mount the configured store
  dds-mount --store ~/sync ~/secure         mount another one
  dds-mount --idle 15 ~/secure              lock after 15 minutes without use
  dds lock                                  lock; fusermount3 -u ~/secure does, too";

/// Runs the program.
pub fn main() -> ExitCode {
    let arguments: Arguments = match parse(PROGRAM) {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.tell(PROGRAM),
    }
}

/// Lets content, which comes in pieces of 64 KiB, go back to the system when it is freed. Else the
/// allocator would keep the largest that each thread ever held.
fn return_freed_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: this only sets a parameter of the allocator, and no other thread runs yet.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 64 << 10);
    }
}

fn run(arguments: &Arguments) -> Outcome<()> {
    close_all_but(arguments.passphrase.descriptor().unwrap_or(-1));
    memory::conceal()?;
    return_freed_memory();
    let options = mount_options(&arguments.options)?;
    let occasions = occasions(arguments)?;
    let config = Config::load(arguments.config.as_deref())?;
    let given = arguments
        .store
        .as_deref()
        .or(arguments.positional_store.as_deref());
    let store = open_store(&find_store(given, &config)?)?;
    store.clean_leftovers()?;
    let store_path = store.path().to_owned();
    fuse_available()?;
    let may_be_unconfined = arguments.allow_unconfined || arguments.require_sandbox;
    if !may_be_unconfined && !sandbox::confines_files() {
        refuse_unconfined_root()?;
    }
    let mountpoint = Mountpoint::prepare(&arguments.mountpoint, &store_path)?;
    // Before a passphrase is asked for in vain.
    refuse_second_mount(&store_path).inspect_err(|_| mountpoint.undo())?;
    // Before any secret is there that it would have a copy of.
    let keeper = start_keeper(occasions).inspect_err(|_| mountpoint.undo())?;
    let identities = unlock(&arguments.keys, &arguments.passphrase, &config)
        .inspect_err(|_| mountpoint.undo())?;
    let job = Job {
        store,
        store_path,
        identities,
        config,
        mountpoint: &mountpoint,
        options,
        keeper,
        require_sandbox: arguments.require_sandbox,
        allow_unconfined: arguments.allow_unconfined,
        idle: arguments.idle,
    };
    if arguments.foreground {
        serve_in_foreground(job)
    } else {
        background::serve(job)
    }
}

/// When logind shall lock the mount.
fn occasions(arguments: &Arguments) -> Outcome<Occasions> {
    let occasions = Occasions {
        suspend: arguments.lock_on_suspend,
        screen_lock: arguments.lock_on_screen_lock,
    };
    if occasions.any() && !logind::OFFERED {
        let refused = "built without logind, so neither suspend nor screen lock is noticed";
        return Err(Failure::new(Exit::Usage, refused)
            .hint("cargo install --locked --features logind --path . builds it with logind"));
    }
    Ok(occasions)
}

/// Starts the keeper. What it was asked to notice, it must be able to.
fn start_keeper(occasions: Occasions) -> Outcome<Keeper> {
    let keeper = Keeper::fork(occasions)?;
    if occasions.any() {
        keeper.listens().map_err(|error| {
            let why = format!("logind cannot be reached: {error}");
            Failure::new(Exit::Failure, why)
                .hint("leave out --lock-on-suspend and --lock-on-screen-lock to mount without it")
        })?;
    }
    Ok(keeper)
}

fn fuse_available() -> Outcome<()> {
    fuse::check_available().map_err(|error| {
        let hint = match error.kind() {
            Kind::NotFound => "apt install fuse3, and modprobe fuse as root",
            _ => "your user may not open /dev/fuse; ask the machine's administrator",
        };
        Failure::new(Exit::Fuse, error.to_string()).hint(hint)
    })
}

/// Refuses to go on where nothing would keep root's process from any file of the machine, as root
/// passes over all permissions. The process reads what strangers wrote.
fn refuse_unconfined_root() -> Outcome<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let why = "this kernel has no landlock, so as root the daemon could open every file of the \
               machine";
    Err(Failure::new(Exit::Failure, why)
        .hint("mount as an ordinary user; --allow-unconfined mounts all the same"))
}

/// Refuses to mount a store that this user has mounted already, and says where. A daemon that was
/// just unmounted gets the time to end.
fn refuse_second_mount(store: &Path) -> Outcome<()> {
    let state = paths::state_dir(store)?;
    let begun = Instant::now();
    while State::is_in_use(&state) {
        if let Some(place) = daemons::place_of(store)? {
            let why = format!(
                "store {}: it is mounted on {place} already",
                store.display()
            );
            return Err(Failure::new(Exit::Failure, why).hint(format!(
                "dds lock {place} locks it; each store has one mount of a user"
            )));
        }
        if begun.elapsed() > LEAVING {
            break; // Opening the state tells.
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Makes the directory in which large drafts spill, encrypted: a cache, of this machine only.
fn spill_area(store: &Path) -> Outcome<Arc<SpillArea>> {
    let dir = paths::cache_dir(store)?;
    let failed = |why: String| {
        Failure::new(Exit::Setup, format!("cache {}: {why}", dir.display()))
            .hint("export XDG_CACHE_HOME=DIR names another place")
    };
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&dir);
    made.map_err(|error| failed(error.to_string()))?;
    let canonical = dir
        .canonicalize()
        .map_err(|error| failed(error.to_string()))?;
    if canonical.starts_with(store) {
        return Err(failed("it must not be in the store".to_owned()));
    }
    SpillArea::open(&canonical, Budget::default()).map_err(|error| failed(error.to_string()))
}

/// Everything that is needed to mount.
pub(super) struct Job<'a> {
    store: DirStore,
    store_path: PathBuf,
    identities: Vec<Identity>,
    config: Config,
    pub(super) mountpoint: &'a Mountpoint,
    options: Vec<String>,
    keeper: Keeper,
    require_sandbox: bool,
    allow_unconfined: bool,
    idle: Option<Duration>,
}

/// A mount that is served.
pub(super) struct Running {
    pub(super) view: Arc<View>,
    serving: Serving,
    control: Control,
}

impl Job<'_> {
    /// Mounts, then begins to read the store: nothing that others wrote is looked at before the
    /// process is confined, and mounting needs what it gives up. The mount is served from then on,
    /// however long reading takes.
    pub(super) fn mount(self) -> Outcome<Running> {
        let mountpoint = self.mountpoint;
        self.try_mount().inspect_err(|_| mountpoint.undo())
    }

    fn try_mount(self) -> Outcome<Running> {
        // After the fork: what the keeper runs has the usual limit.
        let descriptors = raise_descriptor_limit();
        let locking = memory::lock();
        if locking == Locking::Nothing {
            tracing::warn!("locked in memory: {}", locking.sentence());
        }
        let contacts = Contacts::load(&paths::pins_dir(&self.store_path)?)?;
        let options = self.config.vault_options(spill_area(&self.store_path)?)?;
        let state = open_state(&paths::state_dir(&self.store_path)?, &self.identities)?;
        let places = places(&self.store_path, &self.mountpoint.path)?;
        let door = Door::bind(&self.store_path)?;
        let path = &self.mountpoint.path;
        // From here on nobody ends it without what has to be done then.
        let signals = Signals::new([SIGINT, SIGTERM, SIGHUP]);
        let mut signals = signals.map_err(|error| Error::io("signals", error))?;
        self.mountpoint.open_up();
        let name = paths::store_name(&self.store_path);
        let mounted = fuse::mount(path, &name, &self.options, self.keeper);
        let mounted = mounted.map_err(|error| {
            let why = format!("{}: {error}", path.display());
            Failure::new(Exit::Mountpoint, why.trim_end().replace('\n', "; "))
                .hint("try without -o; else another mountpoint, such as ~/secure")
        })?;
        self.mountpoint.restore();
        let sandbox = sandbox::enter(&places);
        if self.require_sandbox && !sandbox.is_complete() {
            mounted.give_up();
            let why = format!("the sandbox is {sandbox}");
            return Err(Failure::new(Exit::Failure, why)
                .hint("leave out --require-sandbox to mount with less, or use a newer kernel"));
        }
        if !self.allow_unconfined && !sandbox.confines_files() {
            if let Err(refused) = refuse_unconfined_root() {
                mounted.give_up();
                return Err(refused);
            }
        }
        if !sandbox.is_complete() {
            tracing::warn!("the sandbox is {sandbox}");
        }
        let surroundings = Surroundings {
            mountpoint: path.display().to_string(),
            store: self.store_path.display().to_string(),
            sandbox: vec![sandbox.to_string()],
            locked_memory: vec![locking.sentence()],
        };
        let open_software = descriptors.saturating_sub(RESERVED_DESCRIPTORS);
        let open_software = usize::try_from(open_software).unwrap_or(usize::MAX);
        let view_options = self
            .config
            .view_options(surroundings, open_software.max(LEAST_OPEN));

        let store = Arc::new(self.store);
        let vault = Vault::new(store, state, self.identities, contacts, options);
        let view = vault.and_then(|vault| View::new(vault, view_options));
        match view {
            Ok(view) => {
                let view = Arc::new(view);
                let serving = mounted.serve(Arc::clone(&view))?;
                let locker = serving.locker();
                let at_panic = serving.locker();
                fuse::lock_at_panic(move || at_panic.lock());
                // It ends with the process.
                std::thread::Builder::new()
                    .name("signals".to_owned())
                    .spawn(move || signals.forever().for_each(|_| locker.lock()))
                    .map_err(|error| Error::io("starting a thread", error))?;
                if let Some(idle) = self.idle {
                    let watched = idle::lock_after(idle, &view, serving.locker());
                    watched.map_err(|error| Error::io("starting a thread", error))?;
                }
                let control = door.serve(Arc::clone(&view), path, serving.locker())?;
                Ok(Running {
                    view,
                    serving,
                    control,
                })
            }
            Err(error) => {
                mounted.give_up();
                Err(error.into())
            }
        }
    }
}

/// Tells what the daemon goes on using, and makes the directories of it that are missing: once it
/// is confined it could not.
fn places(store: &Path, mountpoint: &Path) -> Outcome<Places> {
    let pins = paths::pins_dir(store)?;
    let mut writable = vec![paths::state_dir(store)?, paths::cache_dir(store)?];
    for dir in [pins].into_iter().chain(paths::runtime_dir()) {
        let made = std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir);
        match made {
            Ok(()) => writable.push(dir),
            // Nothing can be kept there: whoever tries to will be told.
            Err(error) => tracing::warn!("{}: {error}", dir.display()),
        }
    }
    writable.push(store.to_owned());
    Ok(Places {
        writable,
        mount: Some(mountpoint.to_owned()),
        ..Places::default()
    })
}

/// Descriptors that are kept for everything but open files of `software/`: threads that read and
/// write the store and the state, sockets, the log.
const RESERVED_DESCRIPTORS: u64 = 64;

/// Files of `software/` that may be open at once however few descriptors there are.
const LEAST_OPEN: usize = 8;

/// How long a daemon that was just unmounted may take to end.
const LEAVING: Duration = Duration::from_secs(5);

/// Time in which everything must be saved that can be saved, once the mount is to be locked.
const LOCKING: Duration = Duration::from_millis(4500);

/// Opens the state directory, waiting for the daemon of an earlier mount to let go of it.
fn open_state(dir: &Path, identities: &[Identity]) -> Outcome<State> {
    let begun = Instant::now();
    loop {
        match State::open(dir, &StateKey(identities)) {
            Ok(state) => return Ok(state),
            Err(error) if error.kind() == Kind::Busy => {
                if begun.elapsed() > LEAVING {
                    return Err(Failure::new(Exit::Failure, error.to_string())
                        .hint("this store is mounted elsewhere: unmount it there first"));
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(error) => {
                let failure = Failure::from(error.context("the state directory"));
                return Err(failure.hint("it remembers what you removed: do not delete it lightly"));
            }
        }
    }
}

/// Serves until the mount is taken away, by a signal, by `dds lock` or from outside.
pub(super) fn serve(running: Running) -> Outcome<()> {
    let Running {
        view,
        serving,
        control,
    } = running;
    drop(view);
    let answers = control.answers();
    let served = serving.wait(|| {
        answers.end();
        let watchdog = std::thread::Builder::new().name("watchdog".to_owned());
        let watchdog = watchdog.spawn(move || {
            std::thread::sleep(LOCKING);
            let why = "there was no time to save everything: the disk is slow, or does not answer";
            tracing::error!("{why}");
            answers.give_up(why);
            // SAFETY: it ends the process, at once: other threads are still at work, so nothing
            // may be cleaned up under them.
            unsafe { libc::_exit(Exit::Failure as i32) };
        });
        if let Err(error) = watchdog {
            tracing::warn!("locking may take its time: {error}");
        }
    });
    let lost = match &served {
        Ok(lost) | Err((_, lost)) => lost,
    };
    let neither = lost.iter().filter(|file| !file.rescued).count();
    if neither > 0 {
        tracing::error!("{neither} files could be neither saved nor kept");
    }
    for file in lost {
        eprintln!("{PROGRAM}: {}", told(file));
    }
    control.finish(lost);
    match served {
        Ok(lost) if lost.iter().all(|file| file.rescued) => Ok(()),
        Ok(_) => Err(Failure::new(Exit::Failure, "not everything could be saved")
            .hint("is the disk of ~/.local/state full? what was kept is in .dds/rescued/")),
        Err((error, _)) => Err(error.into()),
    }
}

fn serve_in_foreground(job: Job<'_>) -> Outcome<()> {
    log::to_stderr();
    serve(job.mount()?)
}
