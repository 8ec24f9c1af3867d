//! `dds lock`: taking mounts away, whatever is open in them.

use clap::Args;

use super::daemons::{
    Choice, describe_unsaved, lock_unreachable, none_running, of_configured_store,
};
use super::{Exit, Failure, Outcome};
use crate::daemon::client::{Found, end};
use crate::error::{Error, printable};

/// Lock: unmount, whatever is open, and forget the keys
///
/// Locks the mount at MOUNTPOINT or of the store DIR; else the only one that runs, or that of the
/// configured store. Tells what could not be saved where it belongs, and returns when the mount
/// and its process are gone.
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    choice: Choice,
    /// Lock every mount of yours
    #[arg(long, conflicts_with_all = ["store", "mountpoint"])]
    all: bool,
}

/// Runs `dds lock`.
pub fn run(arguments: &Arguments) -> Outcome<()> {
    let Found {
        mut daemons,
        silent,
        mut unreachable,
    } = arguments.choice.find()?;
    if arguments.all {
        // None is no failure: everything is locked.
    } else if daemons.len() == 1 {
        unreachable.clear();
    } else if daemons.len() > 1 {
        daemons = vec![of_configured_store(daemons)?];
        unreachable.clear();
    } else if arguments.choice.mountpoint.is_none() || unreachable.is_empty() {
        return Err(none_running(&unreachable));
    }
    // All at once: each may take its seconds.
    let locking: Vec<_> = daemons
        .into_iter()
        .map(|daemon| {
            let mountpoint = daemon.name();
            (mountpoint, std::thread::spawn(move || daemon.lock()))
        })
        .collect();
    let (mut lost, mut failure) = (false, None);
    for entry in &unreachable {
        match lock_unreachable(entry) {
            Ok(()) => println!("locked: {}", printable(&entry.path.to_string_lossy())),
            Err(error) => failure = Some(error),
        }
    }
    for process in silent.iter().filter(|_| arguments.all) {
        if !end(process) {
            let why = "a mount did not answer, and was killed: what was unsaved in it is lost";
            failure = Some(Failure::new(Exit::Failure, why).hint("it is locked now"));
        }
    }
    for (mountpoint, locked) in locking {
        match locked.join().expect("locking does not panic") {
            Ok(unsaved) => {
                println!("locked: {mountpoint}");
                for file in &unsaved {
                    println!("{}", describe_unsaved(file));
                }
                lost |= unsaved.iter().any(|file| !file.rescued);
            }
            Err(error) => failure = Some(not_locked(&error)),
        }
    }
    match failure {
        Some(failure) => Err(failure),
        None if lost => Err(Failure::new(Exit::Failure, "not everything could be saved")
            .hint("what is kept is in .dds/rescued/ of the next mount; is the disk full?")),
        None => Ok(()),
    }
}

fn not_locked(error: &Error) -> Failure {
    Failure::new(Exit::Failure, error.to_string()).hint(
        "dds status tells whether it still runs; the next mount shows what was kept in .dds/rescued/",
    )
}
