//! `dds status`: how the running mounts stand.

use clap::Args;

use super::daemons::{Choice, no_answer, none_running};
use super::{Outcome, print, to_json};
use crate::error::printable;
use crate::view::Status;

/// Tell how the running mounts stand
///
/// Tells of the mount at MOUNTPOINT or of the store DIR, else of every mount of yours: what is
/// unsaved, what was rescued, problems, contacts.
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    choice: Choice,
    /// One line of JSON for each mount
    #[arg(long)]
    json: bool,
}

/// Runs `dds status`.
pub fn run(arguments: &Arguments) -> Outcome<()> {
    let found = arguments.choice.find()?;
    let mut daemons = found.daemons;
    // Of a mount that is gone nothing is told.
    daemons.retain(|daemon| !daemon.is_leaving);
    if daemons.is_empty() {
        return Err(none_running(&found.unreachable));
    }
    for entry in &found.unreachable {
        let path = printable(&entry.path.to_string_lossy());
        eprintln!("dds: {path} is mounted and cannot be asked; dds lock {path} locks it");
    }
    for (number, daemon) in daemons.into_iter().enumerate() {
        let text = match arguments.json {
            true => to_json(&daemon.status)? + "\n",
            false => {
                let name = daemon.name();
                let status = Status::try_from(daemon.status);
                let status = status.map_err(|error| no_answer(error.context(&name)))?;
                let gap = if number == 0 { "" } else { "\n" };
                format!("{gap}{status}")
            }
        };
        print(&text)?;
    }
    Ok(())
}
