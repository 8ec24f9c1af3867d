//! The status, for `.dds/status` and `dds status`, and when the view was used last.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::error::printable;
use crate::ids::{Fingerprint, Timestamp};
use crate::view::draft::open_file::OpenFile;
use crate::view::local_time::local;
use crate::view::tree::{FileRole, Ino};
use crate::view::{Tree, View};

/// The part of the status about the process that serves the view. The view only passes it on.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// Where the view is mounted, if it is.
    pub mountpoint: String,
    /// The synced folder.
    pub store: String,
    /// The measures that keep the process from doing harm, one by one.
    pub sandbox: Vec<String>,
    /// The parts of its memory that are kept out of swap, one by one.
    pub locked_memory: Vec<String>,
}

/// How things stand. As text it is `.dds/status`.
#[derive(Clone, Debug)]
pub struct Status {
    /// Version of the program that serves the view.
    pub version: String,
    /// Where it is, and how it is confined.
    pub surroundings: Surroundings,
    /// My fingerprint.
    pub identity: Fingerprint,
    /// When the view was made.
    pub mounted_since: Timestamp,
    /// The store is still being read for the first time.
    pub reading: bool,
    /// Number of files in the store that were not opened yet: they are not shown yet.
    pub unopened: usize,
    /// Everybody whose certificate is pinned.
    pub contacts: Vec<ContactStatus>,
    /// Paths of files with changes that are in memory only.
    pub unsaved: Vec<String>,
    /// Number of editors' scratch files.
    pub scratch_files: usize,
    /// Paths of drafts that earlier mounts could not save.
    pub rescued: Vec<String>,
    /// Sentences about things that people should look at.
    pub problems: Vec<String>,
    /// The last lines of `.dds/errors`, the newest last.
    pub errors: Vec<String>,
}

/// A contact, as far as the status tells it.
#[derive(Clone, Debug)]
pub struct ContactStatus {
    /// Name of their directories.
    pub name: String,
    /// Fingerprint of their certificate.
    pub fingerprint: Fingerprint,
    /// `verified`, `not verified`, `in dispute`, `revoked`, `expired` or `unusable`.
    pub state: String,
}

impl View {
    /// Tells how things stand.
    pub fn status(&self) -> Status {
        let people = self.vault.people();
        let contacts = people.contacts().map(|contact| ContactStatus {
            name: contact.name.to_string(),
            fingerprint: contact.fingerprint.clone(),
            state: self.vault.standing(contact).to_owned(),
        });
        let contacts = contacts.collect();
        let mut surroundings = self.options.surroundings.clone();
        let unlocked = crate::plaintext::in_ram().unlocked >> 10;
        if unlocked > 0 {
            let beyond = format!("but not {unlocked} KiB of contents beyond the limit");
            surroundings.locked_memory.push(beyond);
        }
        let problems = self.problems();
        let tree = self.tree();
        let paths = |wanted: fn(&crate::view::tree::FileNode<OpenFile>) -> bool| {
            let found = tree.files().filter(|(_, file)| wanted(file));
            let mut paths: Vec<_> = found.map(|(ino, _): (Ino, _)| tree.path(ino)).collect();
            paths.sort();
            paths
        };
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            surroundings,
            identity: people.me().clone(),
            mounted_since: self.started,
            reading: !self.vault.is_scanned(),
            unopened: self.vault.unopened(),
            contacts,
            unsaved: paths(|file| file.is_draft()),
            scratch_files: tree
                .files()
                .filter(|(_, file)| file.role.is_scratch())
                .count(),
            rescued: paths(|file| matches!(file.role, FileRole::Rescued(_))),
            problems,
            errors: self.errors.last(LAST_ERRORS),
        }
    }

    /// Lists sentences about everything that people should look at.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = self.vault.notices();
        problems.extend(self.conflicts());
        problems.extend(self.file_problems(&self.tree()));
        problems
    }

    /// Sentences about files that cannot be opened, as long as they are there.
    fn file_problems(&self, tree: &Tree) -> Vec<String> {
        let shown = tree.files().filter(|(ino, _)| tree.is_attached(*ino));
        let mut problems: Vec<String> = shown
            .filter_map(|(ino, file)| {
                let FileRole::Document(shown) = &file.role else {
                    return None;
                };
                let version = &shown.head.as_ref()?.version;
                if version.unreadable.is_some() {
                    // Nothing is read for that: it is known.
                    let why = self.vault.content(version).err()?;
                    return Some(format!("{}: {why}", tree.path(ino)));
                }
                None
            })
            .collect();
        problems.sort();
        let more = problems.len().saturating_sub(FILE_PROBLEMS);
        if more > 0 {
            problems.truncate(FILE_PROBLEMS);
            problems.push(format!("{more} more files cannot be opened"));
        }
        problems
    }

    /// How long nobody has used the view: read, written, opened, listed or changed anything. That
    /// something is open, or looked up, is no use. The time that the machine slept counts.
    ///
    /// None at all while a request is in service, however long it takes, and while something that
    /// was written waits for its close. Files whose save failed, and files that
    /// were closed under a name that is not their last, do not count.
    pub fn unused_for(&self) -> Duration {
        let last = Duration::from_millis(self.last_use.at.load(Ordering::Relaxed));
        if self.last_use.serving.load(Ordering::Relaxed) > 0 || self.is_being_written() {
            return Duration::ZERO;
        }
        since_boot().saturating_sub(last)
    }

    fn is_being_written(&self) -> bool {
        self.open_drafts()
            .iter()
            .any(|(ino, file)| match file.try_lock() {
                // It is just being written or published.
                None => true,
                Some(body) => {
                    let unsaved = body.is_being_changed();
                    let left = body.is_held() && !self.has_writer(*ino);
                    unsaved && body.failed().is_none() && !body.is_unlinked() && !left
                }
            })
    }

    /// Notes that a request is in service until the guard is dropped.
    pub fn serve(&self) -> InService<'_> {
        self.last_use.serving.fetch_add(1, Ordering::Relaxed);
        InService { view: self }
    }
}

/// Lines of `.dds/errors` in the status.
const LAST_ERRORS: usize = 5;
/// Files in the status that cannot be opened.
const FILE_PROBLEMS: usize = 50;

/// A request that is in service.
pub struct InService<'a> {
    view: &'a View,
}

impl std::ops::Deref for InService<'_> {
    type Target = View;
    fn deref(&self) -> &View {
        self.view
    }
}

impl Drop for InService<'_> {
    fn drop(&mut self) {
        self.view.last_use.serving.fetch_sub(1, Ordering::Relaxed);
    }
}

/// When the view was used last, and how much it is used now.
pub(in crate::view) struct LastUse {
    /// In milliseconds since the machine's start.
    at: AtomicU64,
    /// Requests in service.
    serving: AtomicUsize,
}

/// A use of the view. Its end is the last use, as its beginning was.
pub(in crate::view) struct Use<'a>(&'a LastUse);

impl LastUse {
    pub(in crate::view) fn now() -> Self {
        LastUse {
            at: AtomicU64::new(since_boot().as_millis() as u64),
            serving: AtomicUsize::new(0),
        }
    }

    /// Notes that the view is being used until the guard is dropped.
    pub(in crate::view) fn begin(&self) -> Use<'_> {
        self.serving.fetch_add(1, Ordering::Relaxed);
        self.renew();
        Use(self)
    }

    fn renew(&self) {
        self.at
            .store(since_boot().as_millis() as u64, Ordering::Relaxed);
    }
}

impl Drop for Use<'_> {
    fn drop(&mut self) {
        self.0.renew();
        self.0.serving.fetch_sub(1, Ordering::Relaxed);
    }
}

fn since_boot() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(
        time.tv_sec.try_into().unwrap_or(0),
        time.tv_nsec.try_into().unwrap_or(0),
    )
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let around = &self.surroundings;
        writeln!(f, "dds-mount {}", printable(&self.version))?;
        writeln!(f, "mountpoint: {}", printable(&around.mountpoint))?;
        writeln!(f, "store: {}", printable(&around.store))?;
        writeln!(f, "identity: {}", self.identity.in_groups())?;
        writeln!(f, "mounted: {}", local(self.mounted_since))?;
        writeln!(f, "sandbox: {}", list(&around.sandbox))?;
        writeln!(f, "locked memory: {}", list(&around.locked_memory))?;
        if self.reading || self.unopened > 0 {
            writeln!(f, "files not opened yet: {}", self.unopened)?;
        }
        for contact in &self.contacts {
            let (name, fingerprint) = (printable(&contact.name), contact.fingerprint.in_groups());
            writeln!(
                f,
                "contact: {name} {fingerprint} ({})",
                printable(&contact.state)
            )?;
        }
        writeln!(f, "unsaved files: {}", self.unsaved.len())?;
        for path in &self.unsaved {
            writeln!(f, "unsaved: {}", printable(path))?;
        }
        writeln!(f, "scratch files: {}", self.scratch_files)?;
        writeln!(f, "rescued files: {}", self.rescued.len())?;
        for path in &self.rescued {
            writeln!(f, "rescued: {}", printable(path))?;
        }
        if self.problems.is_empty() {
            writeln!(f, "problems: none")?;
        }
        for problem in &self.problems {
            writeln!(f, "problem: {}", printable(problem))?;
        }
        for error in &self.errors {
            writeln!(f, "last error: {}", printable(error))?;
        }
        Ok(())
    }
}

fn list(words: &[String]) -> String {
    match words {
        [] => "none".to_owned(),
        words => printable(&words.join(", ")),
    }
}
