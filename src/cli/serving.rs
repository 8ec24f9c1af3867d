//! Mounting and serving, from the parts that `dds-mount` has found, to the lock.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::config::Config;
use super::daemons::describe_unsaved;
use super::mountpoint::Mountpoint;
use super::{Exit, Failure, Outcome, paths};
use crate::daemon::{self, Confinement, Daemon, OwnProcess, Parts, StartError, Step};
use crate::error::Kind;
use crate::fuse;
use crate::openpgp::Identity;
use crate::process::keeper::Keeper;
use crate::store::DirStore;

pub(super) const PROGRAM: &str = "dds-mount";

/// Everything that is needed to mount.
pub(super) struct Job<'a> {
    pub(super) store: DirStore,
    pub(super) store_path: PathBuf,
    pub(super) identities: Vec<Identity>,
    pub(super) config: Config,
    pub(super) mountpoint: &'a Mountpoint,
    pub(super) options: Vec<String>,
    pub(super) keeper: Keeper,
    pub(super) confinement: Confinement,
    pub(super) idle: Option<Duration>,
}

impl Job<'_> {
    /// Mounts, and begins to serve.
    pub(super) fn mount(self) -> Outcome<Daemon> {
        let mountpoint = self.mountpoint;
        self.try_mount().inspect_err(|_| mountpoint.undo())
    }

    fn try_mount(self) -> Outcome<Daemon> {
        let mountpoint = self.mountpoint;
        let name = paths::store_name(&self.store_path);
        let (options, keeper) = (self.options, self.keeper);
        let mount = move || {
            mountpoint.open_up();
            let mounted = fuse::mount(&mountpoint.path, &name, &options, keeper);
            mounted.inspect(|_| mountpoint.restore())
        };
        let parts = Parts {
            store: self.store,
            identities: self.identities,
            directories: paths::directories(&self.store_path)?,
            vault: self.config.vault_options()?,
            view: self.config.view_options(),
            process: Some(OwnProcess {
                confinement: self.confinement,
            }),
            idle: self.idle,
            mount: Some(daemon::Mount {
                path: &mountpoint.path,
                mount: Box::new(mount),
            }),
        };
        daemon::start(parts).map_err(|failed| not_started(&failed, &mountpoint.path))
    }
}

/// The failure of a daemon that could not start.
pub(super) fn not_started(failed: &StartError, mountpoint: &Path) -> Failure {
    let StartError { step, error } = failed;
    let failure = |exit| Failure::new(exit, error.to_string());
    match step {
        Step::Cache => failure(Exit::Setup).hint("export XDG_CACHE_HOME=DIR names another place"),
        Step::State if error.kind() == Kind::Busy => {
            failure(Exit::Failure).hint("this store is mounted elsewhere: unmount it there first")
        }
        Step::State => {
            Failure::of(error).hint("it remembers what you removed: do not delete it lightly")
        }
        Step::Socket => {
            failure(Exit::Failure).hint("XDG_RUNTIME_DIR must be a directory of yours, or not set")
        }
        Step::Mount => {
            let why = format!("{}: {error}", mountpoint.display());
            Failure::new(Exit::Mountpoint, why.trim_end().replace('\n', "; "))
                .hint("try without -o; else another mountpoint, such as ~/secure")
        }
        Step::Confinement => failure(Exit::Failure)
            .hint("leave out --require-sandbox to mount with less, or use a newer kernel"),
        Step::RootConfinement => failure(Exit::Failure)
            .hint("mount as an ordinary user; --allow-unconfined mounts all the same"),
        Step::Other => Failure::of(error),
    }
}

/// Time in which everything must be saved that can be saved, once the mount is to be locked.
const LOCKING: Duration = Duration::from_millis(4500);

/// How long the process may take to end after everything was saved late.
const ENDING: Duration = Duration::from_secs(5);

/// Serves until the mount is taken away, by a signal, by `dds lock` or from outside.
pub(super) fn serve(daemon: Daemon) -> Outcome<()> {
    let locked = daemon.serve(|answers| {
        let watchdog = std::thread::Builder::new().name("watchdog".to_owned());
        let watchdog = watchdog.spawn(move || {
            std::thread::sleep(LOCKING);
            let why = "there was no time to save everything: the disk is slow, or does not answer";
            match answers.give_up(why) {
                true => tracing::error!("{why}"),
                // Everything is saved, and the process is about to end.
                false => std::thread::sleep(ENDING),
            }
            // SAFETY: it ends the process, at once: other threads are still at work, so nothing
            // may be cleaned up under them.
            unsafe { libc::_exit(Exit::Failure as i32) };
        });
        if let Err(error) = watchdog {
            tracing::warn!("locking may take its time: {error}");
        }
    });
    let lost = locked.unsaved.iter().filter(|file| !file.rescued).count();
    if lost > 0 {
        tracing::error!("{lost} files could be neither saved nor kept");
    }
    for file in &locked.unsaved {
        eprintln!("{PROGRAM}: {}", describe_unsaved(&file.clone().into()));
    }
    let (_, served) = locked.finish();
    served?;
    match lost {
        0 => Ok(()),
        _ => Err(Failure::new(Exit::Failure, "not everything could be saved")
            .hint("is the disk of ~/.local/state full? what was kept is in .dds/rescued/")),
    }
}
