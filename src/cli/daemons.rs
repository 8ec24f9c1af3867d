//! Choosing among the running mounts of this user.

use std::path::{Path, PathBuf};

use super::config::{Config, find_store};
use super::{Exit, Failure, Outcome, paths};
use crate::daemon::client::{self, Connection, Found, Sockets};
use crate::daemon::protocol::Unsaved;
use crate::error::printable;
use crate::process::mounts::{self, Entry};

/// The choice among the running mounts.
#[derive(clap::Args)]
pub(super) struct Choice {
    /// The synced folder whose mount is meant
    #[arg(short, long, value_name = "DIR")]
    pub(super) store: Option<PathBuf>,
    /// Where the mount is
    #[arg(value_name = "MOUNTPOINT")]
    pub(super) mountpoint: Option<PathBuf>,
}

impl Choice {
    /// Finds the mounts that are meant; without an argument, all.
    pub(super) fn find(&self) -> Outcome<Found> {
        let Found {
            mut daemons,
            silent,
            mut unreachable,
        } = all()?;
        if let Some(mountpoint) = &self.mountpoint {
            let wanted = canonical(mountpoint);
            daemons.retain(|daemon| Path::new(&daemon.status.mountpoint) == wanted);
            unreachable.retain(|entry| entry.path == wanted);
        }
        if let Some(store) = &self.store {
            let wanted = canonical(store);
            daemons.retain(|daemon| Path::new(&daemon.status.store) == wanted);
            // Their store cannot be told.
            unreachable.clear();
        }
        Ok(Found {
            daemons,
            silent,
            unreachable,
        })
    }
}

/// Finds all mounts of this user.
fn all() -> Outcome<Found> {
    let sockets = Sockets {
        runtime: paths::runtime_dir(),
        states: paths::all_state_dirs()?,
    };
    Ok(client::find(&sockets)?)
}

/// Locks a mount whose daemon cannot be asked: taking it out of the tree locks it as well.
pub(super) fn lock_unreachable(entry: &Entry) -> Outcome<()> {
    let path = printable(&entry.path.to_string_lossy());
    mounts::detach(&entry.path).map_err(|error| {
        Failure::new(Exit::Failure, format!("{path}: {error}")).hint("it is still mounted")
    })
}

/// Returns the place where the store of this user that is in use is mounted; `None` if its mount is
/// gone.
pub(super) fn place_of(store: &Path) -> Outcome<Option<String>> {
    let me = rustix::process::geteuid().as_raw();
    let source = format!("{}{}", mounts::SOURCE, paths::store_name(store));
    let is_one = |entry: &Entry| {
        entry.kind == mounts::TYPE && entry.source == source && entry.user == Some(me)
    };
    let places: Vec<_> = mounts::all()?.into_iter().filter(is_one).collect();
    if let [one] = places.as_slice() {
        return Ok(Some(printable(&one.path.to_string_lossy())));
    }
    // Several homes of one user may have mounted it: only ours is at this socket.
    let daemons = all()?.daemons.into_iter();
    let mut ours = daemons.filter(|daemon| Path::new(&daemon.status.store) == store);
    Ok(ours
        .find(|daemon| !daemon.is_leaving)
        .map(|daemon| daemon.name()))
}

/// The failure if there is no mount to talk to.
pub(super) fn none_running(unreachable: &[Entry]) -> Failure {
    let Some(entry) = unreachable.first() else {
        return Failure::new(Exit::Failure, "no mount of this store is running")
            .hint("dds-mount MOUNTPOINT mounts one; dds status lists those that run");
    };
    let path = printable(&entry.path.to_string_lossy());
    let why = format!("{path} is mounted, and cannot be asked");
    Failure::new(Exit::Failure, why).hint(format!("dds lock {path}, or dds lock --all"))
}

/// Chooses one of several: that of the configured store.
pub(super) fn of_configured_store(mut daemons: Vec<Connection>) -> Outcome<Connection> {
    let names: Vec<_> = daemons.iter().map(Connection::name).collect();
    let several = format!("several mounts are running: {}", names.join(", "));
    let wanted = canonical(&find_store(None, &Config::load(None)?)?);
    daemons.retain(|daemon| Path::new(&daemon.status.store) == wanted);
    match (daemons.pop(), daemons.is_empty()) {
        (Some(daemon), true) => Ok(daemon),
        _ => Err(Failure::new(Exit::Failure, several)
            .hint("name a mountpoint or its store; dds lock --all locks all")),
    }
}

/// The failure of a daemon that does not answer as it should.
pub(super) fn no_answer(error: crate::error::Error) -> Failure {
    Failure::new(Exit::Failure, error.to_string()).hint("dds status tells whether it still runs")
}

pub(super) fn canonical(path: &Path) -> PathBuf {
    let absolute = || std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    path.canonicalize().unwrap_or_else(|_| absolute())
}

/// One line about a file that was not saved where it belongs.
pub(super) fn describe_unsaved(file: &Unsaved) -> String {
    let path = printable(&file.path);
    let kept = match file.rescued {
        true => " (kept for you in .dds/rescued/ of the next mount)",
        false => "",
    };
    format!("not saved: {path}{kept}")
}
