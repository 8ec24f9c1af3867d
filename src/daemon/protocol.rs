//! The lines of JSON that clients and daemon exchange: all of the protocol is in this file.
//!
//! A client sends one [`Request`] a line, and gets one [`Reply`] a line for each. After `watch` the
//! reply is followed by [`Event`]s, a line each, until the daemon or the client ends the
//! connection. `dds(1)` describes all of it as a stable interface: members may be added, and none
//! is renamed, removed or given another meaning. Contents of files are in none.
//!
//! The types of the view are its own and change with it; here they are converted.

use std::io::{self, ErrorKind, Read as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::ids::Timestamp;
use crate::view;

/// Bytes in the longest request: a path may have 4096, each of which may take six.
pub const REQUEST_LIMIT: usize = 32 << 10;

/// Bytes in the longest reply: a path may have 4096, and there may be many.
pub const REPLY_LIMIT: usize = 64 << 20;

/// A client's request.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub enum Request {
    /// Tell how things stand. Answered by [`Reply::Status`].
    Status,
    /// List old versions of the notes at or below a path in the view. Answered by
    /// [`Reply::History`].
    History {
        /// Path below the view's root.
        path: String,
    },
    /// Drop them. Answered by [`Reply::Forgotten`].
    ForgetHistory {
        /// Path below the view's root.
        path: String,
    },
    /// Publish an old version anew. Answered by [`Reply::Restored`].
    Restore {
        /// Path of the note below the view's root.
        path: String,
        /// A number of the list, or digits of the version's name.
        version: Option<String>,
    },
    /// Send events as they happen. Answered by [`Reply::Status`], and one [`Event`] after the other.
    Watch,
    /// Lock. Answered by [`Reply::Locked`] when everything is saved.
    Lock,
}

/// The daemon's reply.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// How things stand.
    Status(Box<Status>),
    /// How things stood: the mount is gone, and the daemon saves the rest.
    Leaving(Box<Status>),
    /// Notes with their versions.
    History(Vec<OldNote>),
    /// So many versions were dropped.
    Forgotten(usize),
    /// A version was restored.
    Restored(Restored),
    /// The mount is gone, and these files were not saved where they belong.
    Locked(Vec<Unsaved>),
    /// The request cannot be answered.
    Error(String),
}

/// An event, for a client that watches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// Somebody's file is there that was not.
    Arrival(EventFile),
    /// Somebody changed a file.
    Edit(EventFile),
    /// Somebody removed a file.
    Removal(EventFile),
    /// Somebody gave a file another path.
    Rename {
        /// The path that it had.
        old_path: String,
        /// The file under its new path.
        #[serde(flatten)]
        file: EventFile,
    },
    /// The status has a problem that it did not have.
    Problem {
        /// The sentence about it.
        problem: String,
    },
    /// The daemon is locking. No event follows.
    Lock,
    /// The client did not take its lines, and more events were lost. No event follows.
    Lost,
}

/// The file of an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventFile {
    /// Path below the view's root.
    pub path: String,
    /// Name of the signer; missing without a signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Whether the signature proves that, as in the attribute `user.dds.signature`.
    pub signature: String,
}

/// How things stand.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Version of the daemon's program.
    pub version: String,
    /// Where the view is mounted; empty if it is not.
    pub mountpoint: String,
    /// The synced folder.
    pub store: String,
    /// The active layers of the sandbox.
    pub sandbox: Vec<String>,
    /// The memory that is kept out of swap.
    pub locked_memory: Vec<String>,
    /// My fingerprint.
    pub identity: String,
    /// When the view was made, as in RFC 3339, in UTC.
    pub mounted_since: String,
    /// The store is still being read for the first time.
    #[serde(default)]
    pub reading: bool,
    /// Number of files in the store that were not opened yet: they are not shown yet.
    #[serde(default)]
    pub unopened: usize,
    /// Everybody whose certificate is pinned.
    pub contacts: Vec<Contact>,
    /// Paths of files whose last content is in memory only.
    pub unsaved: Vec<String>,
    /// Number of editors' scratch files.
    pub scratch_files: usize,
    /// Paths of files that earlier mounts could not save.
    pub rescued: Vec<String>,
    /// Sentences about everything that people should look at.
    pub problems: Vec<String>,
    /// The last lines of `.dds/errors`, the newest last.
    #[serde(default)]
    pub errors: Vec<String>,
}

/// A contact in the status.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Contact {
    /// Name of their directories.
    pub name: String,
    /// Fingerprint of their certificate.
    pub fingerprint: String,
    /// `verified`, `not verified`, `in dispute`, `revoked`, `expired` or `unusable`.
    pub state: String,
}

/// A note with its versions, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OldNote {
    /// Where it is in the view, or was last.
    pub path: String,
    /// It is there now.
    pub present: bool,
    /// All versions that are known, also those in the store.
    pub versions: Vec<OldVersion>,
}

/// A version of a note.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OldVersion {
    /// A number by which it can be restored, counted over all notes that had the path of the
    /// request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<usize>,
    /// The blob's name, of which the first 8 digits do, too.
    pub version: String,
    /// Where it was in the view.
    pub path: String,
    /// When it was signed, as in RFC 3339, in UTC.
    pub signed: String,
    /// Name of the signer.
    pub by: String,
    /// Whether that is proven, as in the attribute `user.dds.signature`.
    pub signature: String,
    /// Bytes of content.
    pub size: u64,
    /// Its fate.
    pub state: OldState,
    /// When it went from the store, or when that was noticed; missing if it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub went: Option<String>,
}

/// The fate of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OldState {
    /// It is shown.
    Current,
    /// A newer version took its place.
    Replaced,
    /// It was removed, here or elsewhere.
    Removed,
    /// I removed it here.
    RemovedByMe,
}

/// The outcome of restoring.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// Where it is shown.
    pub path: String,
    /// The version that was restored.
    pub version: String,
    /// `false` if the note is just so already, and nothing was published.
    pub changed: bool,
}

/// A file that was not saved where it belongs when the daemon locked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unsaved {
    /// Its path in the view, or a sentence about everything that is in danger.
    pub path: String,
    /// It is kept, and shown in `.dds/rescued/` at the next mount.
    pub rescued: bool,
}

impl From<view::Status> for Status {
    fn from(status: view::Status) -> Self {
        let around = status.surroundings;
        let contacts = status.contacts.into_iter().map(|contact| Contact {
            name: contact.name,
            fingerprint: contact.fingerprint.to_string(),
            state: contact.state,
        });
        Status {
            version: status.version,
            mountpoint: around.mountpoint,
            store: around.store,
            sandbox: around.sandbox,
            locked_memory: around.locked_memory,
            identity: status.identity.to_string(),
            mounted_since: rfc3339(status.mounted_since),
            reading: status.reading,
            unopened: status.unopened,
            contacts: contacts.collect(),
            unsaved: status.unsaved,
            scratch_files: status.scratch_files,
            rescued: status.rescued,
            problems: status.problems,
            errors: status.errors,
        }
    }
}

/// Reads a status, which [`view::Status`] writes as text.
impl TryFrom<Status> for view::Status {
    type Error = Error;

    fn try_from(status: Status) -> Result<Self> {
        let contacts = status.contacts.into_iter().map(|contact| {
            Ok(view::ContactStatus {
                name: contact.name,
                fingerprint: contact.fingerprint.parse()?,
                state: contact.state,
            })
        });
        Ok(view::Status {
            version: status.version,
            surroundings: view::Surroundings {
                mountpoint: status.mountpoint,
                store: status.store,
                sandbox: status.sandbox,
                locked_memory: status.locked_memory,
            },
            identity: status.identity.parse()?,
            mounted_since: from_rfc3339(&status.mounted_since)?,
            reading: status.reading,
            unopened: status.unopened,
            contacts: contacts.collect::<Result<_>>()?,
            unsaved: status.unsaved,
            scratch_files: status.scratch_files,
            rescued: status.rescued,
            problems: status.problems,
            errors: status.errors,
        })
    }
}

impl From<view::OldNote> for OldNote {
    fn from(note: view::OldNote) -> Self {
        OldNote {
            path: note.path,
            present: note.present,
            versions: note.versions.into_iter().map(OldVersion::from).collect(),
        }
    }
}

impl From<view::OldVersion> for OldVersion {
    fn from(one: view::OldVersion) -> Self {
        OldVersion {
            number: one.number,
            version: one.version.to_string(),
            path: one.path,
            signed: rfc3339(one.signed),
            by: one.by,
            signature: one.signature.name().to_owned(),
            size: one.size,
            state: match one.state {
                view::OldState::Current => OldState::Current,
                view::OldState::Replaced => OldState::Replaced,
                view::OldState::Removed => OldState::Removed,
                view::OldState::RemovedByMe => OldState::RemovedByMe,
            },
            went: one.went.map(rfc3339),
        }
    }
}

impl From<view::Restored> for Restored {
    fn from(restored: view::Restored) -> Self {
        Restored {
            path: restored.path,
            version: restored.version.to_string(),
            changed: restored.changed,
        }
    }
}

impl From<view::Unsaved> for Unsaved {
    fn from(unsaved: view::Unsaved) -> Self {
        Unsaved {
            path: unsaved.path,
            rescued: unsaved.rescued,
        }
    }
}

impl From<view::Event> for Event {
    fn from(event: view::Event) -> Self {
        match event {
            view::Event::Arrival(file) => Event::Arrival(file.into()),
            view::Event::Edit(file) => Event::Edit(file.into()),
            view::Event::Removal(file) => Event::Removal(file.into()),
            view::Event::Rename { old_path, file } => Event::Rename {
                old_path,
                file: file.into(),
            },
            view::Event::Problem(problem) => Event::Problem { problem },
            view::Event::Lock => Event::Lock,
        }
    }
}

impl From<view::EventFile> for EventFile {
    fn from(file: view::EventFile) -> Self {
        EventFile {
            path: file.path,
            from: file.from,
            signature: file.signature.name().to_owned(),
        }
    }
}

/// Formats a time as in RFC 3339, in UTC, to the second.
fn rfc3339(time: Timestamp) -> String {
    chrono::DateTime::from_timestamp(time.seconds(), 0).map_or_else(
        || time.to_string(),
        |time| time.format("%Y-%m-%dT%H:%M:%SZ").to_string(),
    )
}

fn from_rfc3339(text: &str) -> Result<Timestamp> {
    let parsed = chrono::DateTime::parse_from_rfc3339(text);
    let parsed = parsed.map_err(|_| Error::new(Kind::Invalid, format!("not a time: {text}")))?;
    Timestamp::new(parsed.timestamp(), 0)
}

impl Request {
    /// Reads a request from a line.
    ///
    /// # Errors
    /// `Invalid` with the parser's sentence.
    pub fn from_line(line: &[u8]) -> Result<Request> {
        from_line(line)
    }
}

impl Reply {
    /// Reads a reply from a line.
    ///
    /// # Errors
    /// `Invalid` with the parser's sentence.
    pub fn from_line(line: &[u8]) -> Result<Reply> {
        from_line(line)
    }
}

impl Event {
    /// Reads an event from a line.
    ///
    /// # Errors
    /// `Invalid` with the parser's sentence, also for a kind that a newer daemon knows.
    pub fn from_line(line: &[u8]) -> Result<Event> {
        from_line(line)
    }
}

fn from_line<T: for<'a> Deserialize<'a>>(line: &[u8]) -> Result<T> {
    serde_json::from_slice(line).map_err(|error| Error::new(Kind::Invalid, error.to_string()))
}

/// Writes one line.
pub(super) fn to_line(said: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(said)?;
    line.push(b'\n');
    Ok(line)
}

/// The lines that the other side sends.
pub(super) struct Lines {
    /// Received, and not looked at yet.
    rest: Vec<u8>,
}

impl Lines {
    pub(super) fn new() -> Self {
        Lines { rest: Vec::new() }
    }

    /// Reads a line without its end; `None` if the other side has closed.
    ///
    /// # Errors
    /// `TimedOut` after `patience`, also if bytes keep coming; `Other` if the line is too long.
    pub(super) fn next(
        &mut self,
        mut stream: &UnixStream,
        limit: usize,
        patience: Option<Duration>,
    ) -> io::Result<Option<Vec<u8>>> {
        let begun = Instant::now();
        let mut looked_at = 0;
        loop {
            let new = &self.rest[looked_at..];
            if let Some(end) = new.iter().position(|byte| *byte == b'\n') {
                let after = self.rest.split_off(looked_at + end + 1);
                let mut line = std::mem::replace(&mut self.rest, after);
                line.pop();
                return Ok(Some(line));
            }
            looked_at = self.rest.len();
            if looked_at > limit {
                return Err(io::Error::other("the line is too long"));
            }
            let left = patience.map(|patience| patience.saturating_sub(begun.elapsed()));
            if left.is_some_and(|left| left.is_zero()) {
                return Err(ErrorKind::TimedOut.into());
            }
            stream.set_read_timeout(left)?;
            let mut bytes = [0; 4096];
            match stream.read(&mut bytes) {
                Ok(0) => return Ok(None),
                Ok(read) => self.rest.extend_from_slice(&bytes[..read]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Err(ErrorKind::TimedOut.into());
                }
                Err(error) => return Err(error),
            }
        }
    }
}
