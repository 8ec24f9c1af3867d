//! `dds watch`: events of a running mount, as they happen.

use clap::Args;

use super::daemons::{Choice, no_answer, none_running, of_configured_store};
use super::{Exit, Failure, Outcome, print, to_json};
use crate::daemon::protocol::{Event, EventFile, Reply};
use crate::error::printable;

/// Print what others do in the store, as it happens
///
/// Prints a line for each arrival, edit, removal and renaming by others, for each new problem, and
/// when the mount is locked, which ends it. Of the mount at MOUNTPOINT or of the store DIR; else of
/// the only one that runs, or that of the configured store.
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    choice: Choice,
    /// Lines of JSON: first the status, then one for each event
    #[arg(long)]
    json: bool,
}

/// Runs `dds watch`.
pub fn run(arguments: &Arguments) -> Outcome<()> {
    let found = arguments.choice.find()?;
    let mut daemons = found.daemons;
    daemons.retain(|daemon| !daemon.is_leaving);
    let mut daemon = match daemons.len() {
        0 => return Err(none_running(&found.unreachable)),
        1 => daemons.remove(0),
        _ => of_configured_store(daemons)?,
    };
    daemon.watch().map_err(no_answer)?;
    let name = daemon.name();
    match arguments.json {
        true => print_line(&to_json(&Reply::Status(Box::new(daemon.status.clone())))?)?,
        false => print_line(&format!("watching {name}"))?,
    }
    while let Some(line) = daemon.next_line().map_err(no_answer)? {
        let event = Event::from_line(&line).ok();
        match (arguments.json, &event) {
            (true, _) => print_line(&String::from_utf8_lossy(&line))?,
            (false, Some(event)) => print_line(&describe(event))?,
            // A newer daemon has events that this program does not know.
            (false, None) => {}
        }
        match event {
            Some(Event::Lock) => return Ok(()),
            Some(Event::Lost) => {
                let why = format!("{name}: events were lost, as they were not taken in time");
                return Err(Failure::new(Exit::Failure, why)
                    .hint("look at the files, and watch again with a program that reads faster"));
            }
            _ => {}
        }
    }
    let why = format!("{name}: the mount ended without locking");
    Err(Failure::new(Exit::Failure, why).hint("dds status tells whether it still runs"))
}

fn print_line(line: &str) -> Outcome<()> {
    print(&format!("{line}\n"))
}

/// The sentence about an event.
fn describe(event: &Event) -> String {
    match event {
        Event::Arrival(file) => format!("arrived: {}", of(file)),
        Event::Edit(file) => format!("changed: {}", of(file)),
        Event::Removal(file) => format!("removed: {}", of(file)),
        Event::Rename { old_path, file } => {
            format!("renamed: {} -> {}", printable(old_path), of(file))
        }
        Event::Problem { problem } => format!("problem: {}", printable(problem)),
        Event::Lock => "locked".to_owned(),
        Event::Lost => "events were lost".to_owned(),
    }
}

/// The file and its signer, with the signature's state if it is not good.
fn of(file: &EventFile) -> String {
    let path = printable(&file.path);
    let from = file.from.as_deref().map(printable);
    match (from, file.signature.as_str()) {
        (Some(from), "good" | "good-unverified") => format!("{path} (from {from})"),
        (Some(from), signature) => {
            format!("{path} (signed by {from}: {})", printable(signature))
        }
        (None, signature) => format!("{path} ({})", printable(signature)),
    }
}
