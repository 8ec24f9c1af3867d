//! `dds restore`: publishing an old version of a note anew.

use std::path::PathBuf;

use clap::Args;

use super::daemons::no_answer;
use super::history::{find, refused};
use super::{Outcome, print};
use crate::daemon::protocol::{Reply, Request};
use crate::error::printable;

/// Restore an old version of a note
///
/// Publishes it anew, signed by you, for the same readers; it replaces the present version, which
/// is kept in turn. Without VERSION: of a note that is gone the last version, else the one before
/// the present one.
#[derive(Args)]
pub struct Arguments {
    /// The synced folder whose mount is meant
    #[arg(short, long, value_name = "DIR")]
    store: Option<PathBuf>,
    /// The note: in a mount, or below it such as notes/alice/plan.md
    path: PathBuf,
    /// A number in the list of `dds history PATH`, or 8 digits or more of the version's name
    version: Option<String>,
}

/// Runs `dds restore`.
pub fn run(arguments: &Arguments) -> Outcome<()> {
    let (mut daemon, path) = find(arguments.store.as_deref(), &arguments.path)?;
    let version = arguments.version.clone();
    match daemon
        .ask(&Request::Restore { path, version })
        .map_err(no_answer)?
    {
        Reply::Restored(restored) => {
            let path = printable(&restored.path);
            let version = printable(restored.version.get(..8).unwrap_or_default());
            match restored.changed {
                true => print(&format!("restored: {path} ({version})\n")),
                false => print(&format!("{path} is just as {version} was\n")),
            }
        }
        other => Err(refused(other)),
    }
}
