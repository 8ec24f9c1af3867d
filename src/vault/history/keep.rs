//! Old versions of notes: how one is kept when it leaves the store.
//!
//! A note is kept as a spare in the state directory: a second name of its file, or a copy. It is made
//! while the note is in the store, or at the latest before it is unlinked. Messages are never kept.

use std::collections::HashSet;
use std::io::Write;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Kind, Result};
use crate::ids::BlobId;
use crate::locks::Ranked;
use crate::state::{Look, Need, Purpose, State, copy_unless, stopped};
use crate::store::{Entry, Stamp, Store};
use crate::vault::documents::Version;
use crate::vault::ranks;

/// Bytes of the largest file of which a spare is a copy where there is room for one: a program that
/// writes over a file in place writes over all of its names.
const ORDINARY: u64 = 16 << 20;
/// Bytes of a note that is kept also when the mount ends.
const SMALL: u64 = 1 << 20;

/// Keeps notes that leave the store.
pub(in crate::vault) struct Keeper {
    store: Arc<dyn Store>,
    memory: Arc<State>,
    /// The mount ends: nothing is copied any more, as the time for it is short.
    closing: AtomicBool,
    problems: Ranked<Problems>,
}

/// Why the history is not complete.
#[derive(Default)]
struct Problems {
    /// The failure of the last attempt.
    now: Option<String>,
    /// How many versions were unlinked without being kept in this mount, and why the last one was.
    lost: Option<(usize, String)>,
}

/// The versions that could not be kept just now.
#[derive(Default)]
pub(in crate::vault) struct Deferred(HashSet<BlobId>);

impl Deferred {
    /// Tells whether a version must not be unlinked yet.
    pub(in crate::vault) fn must_wait(&self, version: &Version) -> bool {
        self.0.contains(&version.file_id)
    }
}

impl Keeper {
    pub(in crate::vault) fn new(store: Arc<dyn Store>, memory: Arc<State>) -> Self {
        Keeper {
            store,
            memory,
            closing: AtomicBool::new(false),
            problems: Ranked::new(ranks::LEAF, Problems::default()),
        }
    }

    /// Ends all copying, as the mount ends.
    pub(in crate::vault) fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    pub(in crate::vault) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    /// Makes the spare of a note, if it has none. Returns how its file looks if it was linked.
    pub(in crate::vault) fn spare(
        &self,
        version: &Version,
        purpose: Purpose,
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<Stamp>> {
        if !version.keepable {
            return Ok(None);
        }
        let history = self.memory.history();
        let (id, entry) = (version.file_id, &version.entry);
        let look = look(&entry.stamp);
        // Nobody writes any more over a file that is about to be unlinked.
        let by_copy = purpose == Purpose::Present && entry.stamp.size <= ORDINARY;
        let need = history.need(id, look, by_copy, || version.key.lineage());
        if need == Need::Nothing {
            return Ok(None);
        }
        let lineage = version.key.lineage();
        let link = || {
            let link = |dir: BorrowedFd<'_>, name: &str| self.store.link_out(entry, dir, name);
            history.link(id, lineage, look, link)
        };
        let may_link = has_own_name(version);
        if may_link && !by_copy {
            match link() {
                Ok(stamp) => return Ok(Some(stamp)),
                Err(error) if error.kind() == Kind::NotFound => return Err(error),
                Err(_) => {}
            }
        }
        if need == Need::Link {
            return Ok(None);
        }
        // It may have been removed since it became known.
        self.store.stamp(entry.folder, &entry.name)?;
        if stop() {
            return Err(stopped());
        }
        if need == Need::Spare && history.take_back(id, lineage, stop)? {
            return Ok(None);
        }
        let for_what = (entry.stamp.size, purpose);
        match history.copy(id, lineage, for_what, |to| self.copy(entry, to, stop)) {
            // No room for a copy: a second name takes none.
            Err(error) if is_about_room(&error) && may_link && by_copy => match need {
                Need::Copy => Ok(None),
                _ => link().map(Some).map_err(|_| error),
            },
            copied => copied.map(|()| None),
        }
    }

    fn copy(&self, entry: &Entry, to: &mut dyn Write, stop: &dyn Fn() -> bool) -> Result<()> {
        let mut file = self.store.open_blob(entry, entry.stamp.size)?;
        copy_unless(stop, &mut *file, to, "cannot copy a note of the store")?;
        file.finish().map(drop)
    }

    /// Keeps a note that is about to be unlinked; one that is gone already cannot be kept.
    fn keep(&self, version: &Version, stop: &dyn Fn() -> bool) -> Result<()> {
        match self.spare(version, Purpose::Going, stop) {
            Err(error) if error.kind() == Kind::NotFound => Ok(()),
            kept => kept.and_then(|_| self.memory.history().sync_bytes(version.file_id)),
        }
    }

    /// Keeps a note that I remove, durably, if it can be kept.
    pub(in crate::vault) fn keep_removed(&self, version: &Version) {
        let history = self.memory.history();
        let kept = self.keep(version, &|| false);
        if let Err(error) = kept.and_then(|()| history.sync()) {
            self.note_lost(1, &error.to_string());
        }
    }

    /// Keeps notes, durably, before they are unlinked: those that newer versions of their documents
    /// replaced, and those that other documents replaced. Returns the ones that must wait.
    pub(in crate::vault) fn keep_all(
        &self,
        replaced: &[Arc<Version>],
        retired: &[Arc<Version>],
    ) -> Deferred {
        let mut deferred = Deferred::default();
        for version in replaced {
            match self.keep(version, &|| self.is_closing()) {
                Ok(()) => {}
                // Over the size limit: give this version up.
                Err(error) if error.kind() == Kind::TooLarge => {
                    self.note_lost(1, &error.to_string());
                }
                Err(error) => self.defer(version, &error, &mut deferred),
            }
        }
        for version in retired {
            // Nothing hides it while it stays, so at the end of a mount only a large one stays.
            let small = version.entry.stamp.size <= SMALL;
            let stop = || !small && self.is_closing();
            match self.keep(version, &stop) {
                Ok(()) => {}
                // Another file has its name, or there is no time.
                Err(error) if error.kind() == Kind::Busy => {
                    self.defer(version, &error, &mut deferred);
                }
                Err(error) => self.note_lost(1, &error.to_string()),
            }
        }
        if let Err(error) = self.memory.history().sync() {
            for version in replaced {
                self.defer(version, &error, &mut deferred);
            }
            self.note_lost(retired.len(), &error.to_string());
        }
        deferred
    }

    fn defer(&self, version: &Version, why: &Error, deferred: &mut Deferred) {
        self.note_failure(Some(format!("the history of notes: {why}")));
        deferred.0.insert(version.file_id);
    }

    /// Notes the failure of the last attempt, or that it succeeded.
    pub(in crate::vault) fn note_failure(&self, sentence: Option<String>) {
        self.problems.lock().now = sentence;
    }

    /// Notes that replaced versions are unlinked without being remembered.
    pub(in crate::vault) fn note_unremembered(&self, why: &Error) {
        let sentence = format!("what was replaced cannot be remembered: {why}");
        self.note_failure(Some(sentence));
    }

    /// Notes that versions are unlinked without being kept.
    pub(in crate::vault) fn note_lost(&self, count: usize, why: &str) {
        if count == 0 {
            return;
        }
        let mut problems = self.problems.lock();
        let before = problems.lost.as_ref().map_or(0, |(before, _)| *before);
        problems.lost = Some((before + count, why.to_owned()));
    }

    /// Sentences for `.dds/status`; `held` replaced notes stay in the store.
    pub(in crate::vault) fn notices(&self, held: usize) -> Vec<String> {
        let problems = self.problems.lock();
        let held = (held > 0).then(|| {
            format!("replaced notes that stay in the store until the history can keep them: {held}")
        });
        let lost = problems.lost.as_ref().map(|(count, why)| {
            format!("old versions of notes that could not be kept: {count} ({why})")
        });
        let now = problems.now.clone();
        [held, now, lost].into_iter().flatten().collect()
    }
}

fn is_about_room(error: &Error) -> bool {
    matches!(error.kind(), Kind::TooLarge | Kind::NoSpace)
}

/// Tells whether a version's file has the name that DDS gives. A file that gpg users name as they
/// like they may also write over in place.
pub(in crate::vault) fn has_own_name(version: &Version) -> bool {
    version.entry.name.as_bytes() == version.blob.file_name().as_bytes()
}

fn look(stamp: &Stamp) -> Look {
    Look {
        dev: stamp.dev,
        ino: stamp.ino,
        size: stamp.size,
        mtime: stamp.mtime,
    }
}
