//! `.dds/errors`: a sentence about each failure, newest last. It lives in RAM like everything else.

use std::collections::VecDeque;
use std::ffi::OsStr;

use crate::error::{Error, Kind, Result, printable};
use crate::ids::Timestamp;
use crate::locks::Ranked;
use crate::view::local_time::local;
use crate::view::tree::Ino;
use crate::view::{View, ranks};

/// Lines that are kept.
const LINES: usize = 200;

pub(super) struct ErrorLog(Ranked<VecDeque<Line>>);

/// A failure, and when it happened.
struct Line {
    when: Timestamp,
    what: String,
}

impl ErrorLog {
    pub(super) fn new() -> Self {
        ErrorLog(Ranked::new(ranks::LEAF, VecDeque::new()))
    }

    pub(super) fn add(&self, path: &str, error: &Error) {
        self.note(path, &error.to_string());
    }

    pub(super) fn note(&self, path: &str, sentence: &str) {
        self.push(path, sentence, false);
    }

    /// As [`ErrorLog::note`], in place of an earlier line that says the same: programs look for a
    /// name several times where a person tried it once.
    pub(super) fn note_once(&self, path: &str, sentence: &str) {
        self.push(path, sentence, true);
    }

    fn push(&self, path: &str, sentence: &str, once: bool) {
        let when = Timestamp::now();
        let what = format!("{}: {}", printable(path), printable(sentence));
        let mut lines = self.0.lock();
        if once {
            lines.retain(|line| line.what != what);
        }
        if lines.len() == LINES {
            lines.pop_front();
        }
        lines.push_back(Line { when, what });
    }

    pub(super) fn text(&self) -> String {
        self.last(LINES)
            .iter()
            .map(|line| format!("{line}\n"))
            .collect()
    }

    /// The last lines, the newest last.
    pub(super) fn last(&self, number: usize) -> Vec<String> {
        let lines = self.0.lock();
        let last = lines.iter().skip(lines.len().saturating_sub(number));
        last.map(|line| format!("{} {}", local(line.when), line.what))
            .collect()
    }
}

/// The file or name that a call is about.
#[derive(Clone, Copy)]
pub(in crate::view) enum About<'a> {
    /// A node, wherever it is when the call has ended.
    Node(Ino),
    /// A name in a directory, whether or not anything has it.
    Name(Ino, &'a OsStr),
}

impl View {
    /// Makes a call that a program asked for. It counts as a use of the view until it ends, and
    /// `.dds/errors` says why it failed.
    pub(in crate::view) fn reporting<T>(
        &self,
        about: About<'_>,
        call: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let _use = self.last_use.begin();
        self.report(about, call())
    }

    /// Records in `.dds/errors` why a call failed, and passes its result on.
    pub(in crate::view) fn report<T>(&self, about: About<'_>, result: Result<T>) -> Result<T> {
        result.inspect_err(|error| {
            if !is_worth_telling(error.kind()) {
                return;
            }
            let path = match about {
                About::Node(ino) => self.tree().path(ino),
                About::Name(parent, name) => {
                    let directory = self.tree().path(parent);
                    format!("{directory}/{}", name.to_string_lossy())
                }
            };
            self.errors.add(path.trim_start_matches('/'), error);
        })
    }
}

/// Leaves out errors whose errno says everything, and which programs provoke all day.
fn is_worth_telling(kind: Kind) -> bool {
    match kind {
        Kind::NotFound
        | Kind::Exists
        | Kind::NotDirectory
        | Kind::IsDirectory
        | Kind::NotEmpty
        | Kind::NoAttribute
        | Kind::BufferTooSmall
        | Kind::BadHandle => false,
        Kind::Forbidden
        | Kind::ReadOnlyFile
        | Kind::ReadOnlyTree
        | Kind::CrossAudience
        | Kind::Busy
        | Kind::Invalid
        | Kind::NameTooLong
        | Kind::TooLarge
        | Kind::Unsupported
        | Kind::NoKey
        | Kind::KeyExpired
        | Kind::KeyRevoked
        | Kind::KeyRejected
        | Kind::Damaged
        | Kind::WrongPassphrase
        | Kind::BadConfig
        | Kind::NoSpace
        | Kind::DiskReadOnly
        | Kind::DiskForbids
        | Kind::Io => true,
    }
}
