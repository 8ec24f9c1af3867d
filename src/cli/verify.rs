//! `dds verify`: a check of a store without any key, for the always-on peer too.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::config::{Config, find_store, open_store};
use super::{Exit, Failure, Outcome};
use crate::error::{Error, Kind, Result, printable};
use crate::ids::{BlobName, Folder};
use crate::openpgp::{Certificate, Inspected, Outline, Refusal, holds_secret_key, inspect};
use crate::store::{
    DirStore, FileName, Node, NodeKind, Store as _, SurveyedFolder, is_candidate, is_conflict_copy,
};
use crate::vault::KEY_FILE_LIMIT;

/// How often a file is read that somebody else is just writing, and how long between.
const READINGS: usize = 3;
const PAUSE: Duration = Duration::from_millis(200);

/// Check a store without any key
///
/// Checks that each file in messages/ and notes/ is one whole encrypted OpenPGP message and has
/// the name of its content, that keys/ holds certificates only, and that nothing else lies there.
/// Nothing is changed. The exit code is 1 if there are problems.
#[derive(Args)]
pub struct Arguments {
    /// The synced folder
    #[arg(short, long, value_name = "DIR", conflicts_with = "positional_store")]
    store: Option<PathBuf>,
    /// One JSON object
    #[arg(long)]
    json: bool,
    /// The synced folder, if not given with --store
    #[arg(value_name = "STORE")]
    positional_store: Option<PathBuf>,
}

/// A finding about a file. The words are a stable interface; the man page lists them.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Problem {
    BadCertificate,
    ConflictCopy,
    /// Whole, and not named by DDS: the one that is no problem.
    Foreign,
    Incomplete,
    Malformed,
    NotAMessage,
    NotEncrypted,
    RefusedEncryption,
    RefusedKind,
    SecretKey,
    Stray,
    TooLarge,
    Unreadable,
    WrongName,
}

#[derive(Serialize)]
struct Finding {
    /// Below the store, made printable.
    path: String,
    problem: Problem,
    sentence: String,
}

/// The result of a check.
#[derive(Default, Serialize)]
struct Report {
    /// Whole messages in `messages/`.
    messages: usize,
    /// Whole messages in `notes/`.
    notes: usize,
    certificates: usize,
    problems: usize,
    /// In the order of the paths, with findings that are no problem.
    found: Vec<Finding>,
}

const SHOUTED: &str = "HOLDS A SECRET KEY: whoever has this folder has that key; \
    remove the file everywhere, and revoke the key";
const SIGNED_ONLY: &str = "NOT ENCRYPTED, only signed: whoever has this folder reads it";
const PLAIN: &str = "NOT ENCRYPTED: whoever has this folder reads it";
const INCOMPLETE: &str = "not a whole OpenPGP message: cut off, damaged, or something else";
const FOREIGN: &str = "foreign: whole, but not named as DDS names its files";
const CONFLICT_COPY: &str = "a synchroniser's conflict copy: two peers wrote to one file name";

/// Runs `dds verify`.
pub fn run(arguments: &Arguments) -> Outcome<()> {
    let given = arguments.store.as_deref();
    let given = given.or(arguments.positional_store.as_deref());
    let named = given.is_some() || std::env::var_os("DDS_STORE").is_some_and(|dir| !dir.is_empty());
    // The always-on peer has neither a configuration nor, as a service, a home.
    let config = match named {
        true => Config::default(),
        false => Config::load(None)?,
    };
    let store = open_store(&find_store(given, &config)?)?;
    let mut report = Report::default();
    for place in SurveyedFolder::ALL {
        report.check(&store, place)?;
    }
    let text = match arguments.json {
        true => serde_json::to_string(&report).map_err(Into::into),
        false => Ok(report.to_string()),
    };
    let mut out = std::io::stdout().lock();
    let written = text.and_then(|text| writeln!(out, "{text}"));
    written.map_err(|error| Failure::from(Error::io("standard output", error)))?;
    match report.problems {
        0 => Ok(()),
        problems => Err(Failure::new(
            Exit::Failure,
            counted(problems, "problem") + " in this store",
        )
        .hint(
            "what is not whole may still be arriving; \
                    restore a damaged file from the peer that has it whole, under the same name",
        )),
    }
}

fn counted(number: usize, things: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {things}{plural}")
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for finding in &self.found {
            writeln!(f, "{}: {}", finding.path, finding.sentence)?;
        }
        let whole = [
            counted(self.messages, "message"),
            counted(self.notes, "note"),
            counted(self.certificates, "certificate"),
        ];
        let problems = counted(self.problems, "problem");
        write!(f, "{}: {problems}", whole.join(", "))
    }
}

impl Report {
    fn add(&mut self, path: String, problem: Problem, sentence: impl Into<String>) {
        self.problems += usize::from(problem != Problem::Foreign);
        self.found.push(Finding {
            path,
            problem,
            sentence: printable(&sentence.into()),
        });
    }

    fn check(&mut self, store: &DirStore, place: SurveyedFolder) -> Outcome<()> {
        let nodes = match store.survey(place) {
            Ok(nodes) => nodes,
            Err(error) if error.kind() == Kind::NotDirectory => {
                let sentence = "a link, a file or a mount point in place of the folder";
                self.add(place.name().to_owned(), Problem::RefusedKind, sentence);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        for node in nodes {
            let path = format!("{}/{}", place.name(), node.name);
            if let Some((problem, sentence)) = misfit(&node) {
                self.add(path, problem, sentence);
                continue;
            }
            let checked = match place {
                SurveyedFolder::Keys => self.certificates(store, &node.name, &path),
                SurveyedFolder::Blobs(folder) => self.blob(store, folder, &node, &path),
            };
            match checked {
                Ok(()) => {}
                // Removed since it was listed, by a reader or by a syncer.
                Err(error) if error.kind() == Kind::NotFound => {}
                Err(error) if error.kind() == Kind::TooLarge => {
                    self.add(path, Problem::TooLarge, error.to_string());
                }
                Err(error) => self.add(path, Problem::Unreadable, error.to_string()),
            }
        }
        Ok(())
    }

    fn certificates(&mut self, store: &DirStore, name: &FileName, path: &str) -> Result<()> {
        let bytes = patiently(|| store.read_key(name, KEY_FILE_LIMIT))?;
        let path = path.to_owned();
        if holds_secret_key(&bytes) {
            self.add(path, Problem::SecretKey, SHOUTED);
            return Ok(());
        }
        match Certificate::parse_all(&bytes) {
            Ok(all) => {
                self.certificates += all.len();
                if is_conflict_copy(name) {
                    self.add(path, Problem::ConflictCopy, CONFLICT_COPY);
                }
            }
            Err(error) => self.add(path, Problem::BadCertificate, error.to_string()),
        }
        Ok(())
    }

    fn blob(&mut self, store: &DirStore, folder: Folder, node: &Node, path: &str) -> Result<()> {
        let inspected = patiently(|| {
            let mut file = store.open_blob(&node.entry(folder), u64::MAX)?;
            let length = file.stamp().size;
            let inspected = inspect(&mut file, length)?;
            file.finish().map(|_| inspected)
        })?;
        if let Outline::Message { .. } = inspected.outline {
            *match folder {
                Folder::Messages => &mut self.messages,
                Folder::Notes => &mut self.notes,
            } += 1;
        }
        if let Some((problem, sentence)) = judge(&node.name, &inspected) {
            self.add(path.to_owned(), problem, sentence);
        }
        Ok(())
    }
}

/// Reads a file again that somebody wrote to meanwhile.
fn patiently<T>(read: impl Fn() -> Result<T>) -> Result<T> {
    for _ in 1..READINGS {
        match read() {
            Err(error) if error.kind() == Kind::Busy => std::thread::sleep(PAUSE),
            result => return result,
        }
    }
    read()
}

/// Finds entries that do not belong into a folder, whatever they contain.
fn misfit(node: &Node) -> Option<(Problem, String)> {
    let stray = |sentence: &str| Some((Problem::Stray, sentence.to_owned()));
    let kind = match node.kind {
        NodeKind::File if is_candidate(&node.name) => return None,
        NodeKind::File => return stray("a stray file, which DDS never shows; is it plaintext?"),
        NodeKind::Directory => return stray("a stray directory, into which DDS never looks"),
        NodeKind::Link => "a symbolic link",
        NodeKind::Fifo => "a named pipe",
        NodeKind::Socket => "a socket",
        NodeKind::Device => "a device",
    };
    let sentence = format!("{kind}, which is never followed or opened");
    Some((Problem::RefusedKind, sentence))
}

/// Finds the worst problem of a file in `messages/` or `notes/`.
fn judge(name: &FileName, inspected: &Inspected) -> Option<(Problem, String)> {
    if inspected.secret_key {
        return Some((Problem::SecretKey, SHOUTED.to_owned()));
    }
    let structure = match inspected.outline {
        Outline::Message { .. } => None,
        Outline::Incomplete => Some((Problem::Incomplete, INCOMPLETE)),
        Outline::Refused(refusal) => return Some(refused(refusal)),
    };
    if let Some((problem, sentence)) = structure {
        return Some((problem, sentence.to_owned()));
    }
    match claimed(name) {
        Some(claimed) if claimed == inspected.name => None,
        Some(_) => Some((
            Problem::WrongName,
            format!("the SHA-1 of its bytes is {}", inspected.name),
        )),
        None if is_conflict_copy(name) => Some((Problem::ConflictCopy, CONFLICT_COPY.to_owned())),
        None => Some((Problem::Foreign, FOREIGN.to_owned())),
    }
}

/// Returns the digest of the content that a file name gives: `<40 hex>.asc`.
fn claimed(name: &FileName) -> Option<BlobName> {
    let name = name.as_os_str().to_str()?;
    name.strip_suffix(".asc")?.parse().ok()
}

fn refused(refusal: Refusal) -> (Problem, String) {
    let (problem, sentence) = match refusal {
        Refusal::SignedOnly | Refusal::CleartextSigned => (Problem::NotEncrypted, SIGNED_ONLY),
        Refusal::Literal | Refusal::Compressed => (Problem::NotEncrypted, PLAIN),
        Refusal::KeyFile => (
            Problem::NotAMessage,
            "a certificate, which belongs into keys/",
        ),
        Refusal::Malformed | Refusal::Several | Refusal::Utf16 => {
            return (Problem::Malformed, refusal.to_string());
        }
        _ => return (Problem::RefusedEncryption, refusal.to_string()),
    };
    (problem, sentence.to_owned())
}
