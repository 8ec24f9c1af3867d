//! `dds-mount`: unlock, mount, go to the background, serve until unmounted.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;

use super::background;
use super::config::{Config, find_store, open_store};
use super::daemons;
use super::log;
use super::mountpoint::Mountpoint;
use super::options::mount_options;
use super::passphrase::Source;
use super::serving::{Job, PROGRAM, not_started, serve};
use super::unlock::unlock;
use super::{Exit, Failure, Outcome, parse, paths};
use crate::daemon::{self, Confinement, LEAVING};
use crate::error::Kind;
use crate::fuse;
use crate::process::close_all_but;
use crate::process::keeper::Keeper;
use crate::process::logind::{self, LockTriggers};
use crate::process::memory;
use crate::process::sandbox;
use crate::state::State;

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
    #[arg(long, value_name = "MINUTES", value_parser = minutes)]
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

/// Parses a time in minutes, such as `15` or `0.5`.
fn minutes(text: &str) -> Result<Duration, String> {
    let wrong = || "a number of minutes, such as 15 or 0.5".to_owned();
    let minutes: f64 = text.parse().map_err(|_| wrong())?;
    if !(minutes > 0.0 && minutes.is_finite()) {
        return Err(wrong());
    }
    Duration::try_from_secs_f64(minutes * 60.0).map_err(|_| wrong())
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
    let triggers = lock_triggers(arguments)?;
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
        let refused = daemon::refuse_unconfined_root();
        refused.map_err(|failed| not_started(&failed, &arguments.mountpoint))?;
    }
    let mountpoint = Mountpoint::prepare(&arguments.mountpoint, &store_path)?;
    // Before a passphrase is asked for in vain.
    refuse_second_mount(&store_path).inspect_err(|_| mountpoint.undo())?;
    // Forked before secrets exist, so that the keeper inherits none.
    let keeper = start_keeper(triggers).inspect_err(|_| mountpoint.undo())?;
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
        confinement: match (arguments.require_sandbox, arguments.allow_unconfined) {
            (true, _) => Confinement::Complete,
            (false, true) => Confinement::Optional,
            (false, false) => Confinement::Files,
        },
        idle: arguments.idle,
    };
    if arguments.foreground {
        serve_in_foreground(job)
    } else {
        background::serve(job)
    }
}

/// The events of logind that lock the mount.
fn lock_triggers(arguments: &Arguments) -> Outcome<LockTriggers> {
    let triggers = LockTriggers {
        suspend: arguments.lock_on_suspend,
        screen_lock: arguments.lock_on_screen_lock,
    };
    if triggers.any() && !logind::OFFERED {
        let refused = "built without logind, so neither suspend nor screen lock is noticed";
        return Err(Failure::new(Exit::Usage, refused)
            .hint("cargo install --locked --features logind --path . builds it with logind"));
    }
    Ok(triggers)
}

/// Starts the keeper, which must be able to notice the triggers that were asked for.
fn start_keeper(triggers: LockTriggers) -> Outcome<Keeper> {
    let keeper = Keeper::fork(triggers)?;
    if triggers.any() {
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

fn serve_in_foreground(job: Job<'_>) -> Outcome<()> {
    log::to_stderr();
    serve(job.mount()?)
}
