//! `dds history`: which old versions of notes are kept.

use std::path::{Component, Path, PathBuf};

use clap::Args;

use super::daemons::{Choice, no_answer, none_running, of_configured_store};
use super::{Exit, Failure, Outcome, print, to_json};
use crate::daemon::client::Connection;
use crate::daemon::protocol::{OldNote, OldState, OldVersion, Reply, Request};
use crate::error::printable;

/// List old versions of notes
///
/// Lists the versions of the note at PATH, newest first, also if it is gone; of a directory, and
/// without PATH, the notes of which old versions are kept. PATH is one in a mount, or one below it
/// such as notes/alice/plan.md. Messages have no history.
#[derive(Args)]
pub struct Arguments {
    /// The synced folder whose mount is meant
    #[arg(short, long, value_name = "DIR")]
    store: Option<PathBuf>,
    /// One line of JSON for each note
    #[arg(long, conflicts_with = "forget")]
    json: bool,
    /// Drop the old versions that are kept of the note, or of all notes below PATH
    #[arg(long, requires = "path")]
    forget: bool,
    /// The note or directory
    path: Option<PathBuf>,
}

/// Runs `dds history`.
pub fn run(arguments: &Arguments) -> Outcome<()> {
    let given = arguments.path.as_deref().unwrap_or(Path::new(""));
    let (mut daemon, path) = find(arguments.store.as_deref(), given)?;
    if arguments.forget {
        return match daemon
            .ask(&Request::ForgetHistory { path })
            .map_err(no_answer)?
        {
            Reply::Forgotten(count) => print(&format!("forgotten versions: {count}\n")),
            other => Err(refused(other)),
        };
    }
    let notes = match daemon.ask(&Request::History { path }).map_err(no_answer)? {
        Reply::History(notes) => notes,
        other => return Err(refused(other)),
    };
    let mut text = String::new();
    for note in &notes {
        text += &match arguments.json {
            true => to_json(note)?,
            false => describe(note),
        };
        text.push('\n');
    }
    if notes.is_empty() && !arguments.json {
        text = "no old versions are kept\n".to_owned();
    }
    print(&text)
}

/// Finds the mount in which a path is, and the path below it.
pub(super) fn find(store: Option<&Path>, path: &Path) -> Outcome<(Connection, String)> {
    let choice = Choice {
        store: store.map(Path::to_owned),
        mountpoint: None,
    };
    let found = choice.find()?;
    let mut daemons = found.daemons;
    if daemons.is_empty() {
        return Err(none_running(&found.unreachable));
    }
    let absolute = settled(path);
    let inside = daemons.iter().position(|daemon| {
        let mountpoint = &daemon.status.mountpoint;
        !mountpoint.is_empty() && absolute.starts_with(mountpoint)
    });
    let inside = inside.filter(|_| !path.as_os_str().is_empty());
    let (daemon, below) = match inside {
        Some(index) => {
            let daemon = daemons.swap_remove(index);
            let below = absolute.strip_prefix(&daemon.status.mountpoint);
            (daemon, below.unwrap_or(Path::new("")).to_owned())
        }
        None if path.is_absolute() => {
            let why = format!("{} is in no mount", printable(&path.to_string_lossy()));
            return Err(Failure::new(Exit::Failure, why)
                .hint("dds status tells where the mounts are; notes/... is a path below one"));
        }
        None if daemons.len() == 1 => (daemons.remove(0), path.to_owned()),
        None => (of_configured_store(daemons)?, path.to_owned()),
    };
    let Some(below) = below.to_str() else {
        let why = "the path is not UTF-8, and no note has such a name";
        return Err(Failure::new(Exit::Failure, why).hint("dds history lists the names"));
    };
    Ok((daemon, below.to_owned()))
}

/// An absolute path without links, of something that need not exist.
fn settled(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut base: &Path = &absolute;
    let mut rest = Vec::new();
    loop {
        if let Ok(canonical) = base.canonicalize() {
            let rest = rest.into_iter().rev();
            return rest.fold(canonical, |path: PathBuf, part: &std::ffi::OsStr| {
                path.join(part)
            });
        }
        match (base.parent(), base.components().next_back()) {
            (Some(parent), Some(Component::Normal(name))) => {
                rest.push(name);
                base = parent;
            }
            _ => return absolute,
        }
    }
}

/// The failure if the daemon refuses.
pub(super) fn refused(reply: Reply) -> Failure {
    let why = match reply {
        Reply::Error(why) => printable(&why),
        _ => "an answer to another question".to_owned(),
    };
    Failure::new(Exit::Failure, why).hint(
        "dds history lists the notes of which versions are kept, dds status the mounts that run",
    )
}

/// The lines about a note: one for each version, if these can be chosen by their numbers.
fn describe(note: &OldNote) -> String {
    let path = printable(&note.path);
    let kept = note.versions.iter().filter(|one| one.went.is_some());
    let state = match (
        note.present,
        kept.clone().filter_map(|one| one.went.as_ref()).max(),
    ) {
        (false, Some(went)) => format!("gone since {}", time(went)),
        (false, None) => "gone".to_owned(),
        (true, _) => "there".to_owned(),
    };
    let numbered = note.versions.iter().all(|one| one.number.is_some());
    if !numbered {
        return format!("{path}: {state}, old versions: {}", kept.count());
    }
    let mut lines = vec![format!("{path}: {state}")];
    for one in &note.versions {
        lines.push(line(one, one.path != note.path));
    }
    lines.join("\n")
}

fn line(one: &OldVersion, renamed: bool) -> String {
    let number = one.number.unwrap_or_default();
    let short = printable(one.version.get(..8).unwrap_or(&one.version));
    let went = one.went.as_deref().map(time).unwrap_or_default();
    let state = match (one.state, one.went.is_some()) {
        (OldState::Current, _) => "current".to_owned(),
        (_, false) => "replaced, still in the store".to_owned(),
        (OldState::Replaced, true) => format!("replaced {went}"),
        (OldState::Removed, true) => format!("removed {went}"),
        (OldState::RemovedByMe, true) => format!("removed here {went}"),
    };
    let path = match renamed {
        true => format!(", as {}", printable(&one.path)),
        false => String::new(),
    };
    let signature = match one.signature.as_str() {
        "good" | "good-unverified" => String::new(),
        other => format!(" ({})", printable(other)),
    };
    format!(
        "{number:>4}  {short}  {}  {}{signature}  {} bytes  {state}{path}",
        time(&one.signed),
        printable(&one.by),
        one.size
    )
}

/// A time as people read it.
fn time(rfc3339: &str) -> String {
    printable(&rfc3339.replace('T', " ").replace('Z', " UTC"))
}
