//! `dds status`: how the running mounts stand.

use std::io::Write as _;

use clap::Args;

use super::daemons::{Choice, none_running};
use super::{Failure, Outcome};
use crate::error::{Error, printable};

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
    // Of what is gone nothing is told.
    daemons.retain(|daemon| !daemon.is_leaving);
    if daemons.is_empty() {
        return Err(none_running(&found.unreachable));
    }
    for entry in &found.unreachable {
        let path = printable(&entry.path.to_string_lossy());
        eprintln!("dds: {path} is mounted and cannot be asked; dds lock {path} locks it");
    }
    let mut out = std::io::stdout().lock();
    for (number, daemon) in daemons.iter().enumerate() {
        let text = match arguments.json {
            true => serde_json::to_string(&daemon.status).map(|line| line + "\n"),
            false if number == 0 => Ok(daemon.status.to_string()),
            false => Ok(format!("\n{}", daemon.status)),
        };
        let written = text.map_err(Into::into);
        let written = written.and_then(|text: String| out.write_all(text.as_bytes()));
        written.map_err(|error| Failure::from(Error::io("standard output", error)))?;
    }
    Ok(())
}
