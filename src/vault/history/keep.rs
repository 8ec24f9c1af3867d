//! Old versions of notes: keeping what goes from the store.
//!
//! Every readable note has a spare in the state directory, made in the background soon after it
//! came, since a note that somebody else removes is gone before it is missed. When it goes from
//! the store, the spare becomes the history. Messages are never kept.

use std::collections::HashSet;
use std::io::Write;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use crate::error::{Error, Kind, Result};
use crate::ids::{BlobId, Folder};
use crate::state::{Look, Moment, Need, Purpose, copy_unless, stopped};
use crate::store::{Entry, Stamp};
use crate::vault::documents::Version;
use crate::vault::durability::{Shared, Unsettled};
use crate::vault::removals::lineage;
use crate::vault::worker::Worker;
use crate::vault::{Vault, lock};

/// How long changes are gathered before spares are made.
const GATHER: Duration = Duration::from_millis(200);
/// Time between two rounds when nothing changes: what is old is dropped.
const ROUND: Duration = Duration::from_secs(60 * 60);
/// The same while something waits in the store until it can be kept.
const RETRY: Duration = Duration::from_secs(60);
/// Bytes of the largest file of which a spare is a copy where there is room for one: who writes over
/// a file in place writes over all of its names.
const ORDINARY: u64 = 16 << 20;
/// Bytes of a note that is kept also when the mount ends.
const SMALL: u64 = 1 << 20;

/// Rung when something in the store came or went.
#[derive(Default)]
pub(in crate::vault) struct Bell {
    state: Mutex<Rung>,
    wake: Condvar,
}

#[derive(Default)]
struct Rung {
    changed: bool,
    stop: bool,
    /// Something waits until it can be kept.
    held: bool,
}

impl Bell {
    pub(in crate::vault) fn ring(&self) {
        lock(&self.state).changed = true;
        self.wake.notify_all();
    }

    fn stop(&self) {
        lock(&self.state).stop = true;
        self.wake.notify_all();
    }

    fn is_stopped(&self) -> bool {
        lock(&self.state).stop
    }

    /// Waits for a change, or for a while. `false` when the work is to end.
    fn wait(&self) -> bool {
        let quiet = |rung: &mut Rung| !rung.changed && !rung.stop;
        let rung = lock(&self.state);
        let round = if rung.held { RETRY } else { ROUND };
        let waiting = self.wake.wait_timeout_while(rung, round, quiet);
        let (rung, _) = waiting.unwrap_or_else(|poisoned| poisoned.into_inner());
        let going = |rung: &mut Rung| !rung.stop;
        let gathering = self.wake.wait_timeout_while(rung, GATHER, going);
        let (mut rung, _) = gathering.unwrap_or_else(|poisoned| poisoned.into_inner());
        rung.changed = false;
        !rung.stop
    }
}

fn is_about_room(error: &Error) -> bool {
    matches!(error.kind(), Kind::TooLarge | Kind::NoSpace)
}

/// Tells whether a version's file has the name that DDS gives. What gpg users name as they like
/// they may also write over in place.
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

impl Shared {
    /// Makes the spare of a note, if it has none. Returns how its file looks if it was linked.
    fn spare(
        &self,
        version: &Version,
        purpose: Purpose,
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<Stamp>> {
        if !version.keepable {
            return Ok(None);
        }
        let history = self.state_dir.history();
        let (id, entry) = (version.file_id, &version.entry);
        let look = look(&entry.stamp);
        // What is about to be unlinked is written over by nobody any more.
        let by_copy = purpose == Purpose::Present && entry.stamp.size <= ORDINARY;
        let need = history.need(id, look, by_copy, || lineage(&version.key));
        if need == Need::Nothing {
            return Ok(None);
        }
        let lineage = lineage(&version.key);
        let link = || {
            let link = |dir: std::os::fd::BorrowedFd<'_>, name: &str| {
                self.store.link_out(entry, dir, name)
            };
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
        // What is known may be older than its removal.
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

    /// Keeps a note that is about to go; what went already cannot be kept.
    fn keep(&self, version: &Version, stop: &dyn Fn() -> bool) -> Result<()> {
        match self.spare(version, Purpose::Going, stop) {
            Err(error) if error.kind() == Kind::NotFound => Ok(()),
            kept => kept.and_then(|_| self.state_dir.history().sync_bytes(version.file_id)),
        }
    }

    /// Keeps a note that I remove, durably, if it can be kept.
    pub(in crate::vault) fn keep_removed(&self, version: &Version) {
        let history = self.state_dir.history();
        let kept = self.keep(version, &|| false);
        if let Err(error) = kept.and_then(|()| history.sync()) {
            self.lost(1, &error.to_string());
        }
    }

    /// Keeps what was replaced, and what waits for it, durably.
    pub(in crate::vault) fn keep_all(&self, folder: Folder, unsettled: &Unsettled) -> Kept {
        let mut kept = Kept(HashSet::new());
        if folder == Folder::Messages {
            return kept;
        }
        let held = self.held();
        let replaced = || held.iter().chain(&unsettled.replaced);
        for version in replaced() {
            match self.keep(version, &|| self.closing.load(Ordering::Relaxed)) {
                Ok(()) => {}
                // There is an end to the room for it.
                Err(error) if error.kind() == Kind::TooLarge => self.lost(1, &error.to_string()),
                Err(error) => kept.failed(self, version, &error),
            }
        }
        for version in &unsettled.retired {
            // Nothing hides it when it stays, so only large ones do not go at the end of a mount.
            let small = version.entry.stamp.size <= SMALL;
            let stop = || !small && self.closing.load(Ordering::Relaxed);
            match self.keep(version, &stop) {
                Ok(()) => {}
                // Another file has its name, or there is no time.
                Err(error) if error.kind() == Kind::Busy => kept.failed(self, version, &error),
                Err(error) => self.lost(1, &error.to_string()),
            }
        }
        if let Err(error) = self.state_dir.history().sync() {
            replaced().for_each(|version| kept.failed(self, version, &error));
            self.lost(unsettled.retired.len(), &error.to_string());
        }
        kept
    }

    /// Notes that it is not remembered what went.
    pub(in crate::vault) fn not_remembered(&self, why: &Error) {
        let sentence = format!("what was replaced cannot be remembered: {why}");
        lock(&self.unkept).now = Some(sentence);
    }

    /// Notes that versions went without being kept.
    pub(in crate::vault) fn lost(&self, count: usize, why: &str) {
        if count == 0 {
            return;
        }
        let mut unkept = lock(&self.unkept);
        let before = unkept.lost.as_ref().map_or(0, |(before, _)| *before);
        unkept.lost = Some((before + count, why.to_owned()));
    }
}

/// What could not be kept just now.
pub(in crate::vault) struct Kept(HashSet<BlobId>);

impl Kept {
    fn failed(&mut self, shared: &Shared, version: &Version, why: &Error) {
        lock(&shared.unkept).now = Some(format!("the history of notes: {why}"));
        self.0.insert(version.file_id);
    }

    pub(in crate::vault) fn must_wait(&self, version: &Version) -> bool {
        self.0.contains(&version.file_id)
    }
}

/// Why the history is not what it should be.
#[derive(Default)]
pub(in crate::vault) struct Unkept {
    /// At the last attempt.
    now: Option<String>,
    /// How many versions went without being kept in this mount, and why the last one did.
    lost: Option<(usize, String)>,
}

impl Unkept {
    /// Sentences for `.dds/status`.
    pub(in crate::vault) fn notices(&self, held: usize) -> Vec<String> {
        let held = (held > 0).then(|| {
            format!("replaced notes that stay in the store until the history can keep them: {held}")
        });
        let lost = self.lost.as_ref().map(|(count, why)| {
            format!("old versions of notes that could not be kept: {count} ({why})")
        });
        let now = self.now.clone();
        [held, now, lost].into_iter().flatten().collect()
    }
}

impl Vault {
    /// Begins to keep what may go, soon after it came; `round` calls [`Vault::keep_history`].
    ///
    /// # Errors
    /// `Io` if no thread can be started.
    pub fn history_in_background(&self, round: impl Fn() + Send + 'static) -> Result<Worker> {
        let bell = Arc::clone(&self.state().bell);
        let theirs = Arc::clone(&bell);
        let work = move || {
            round();
            while theirs.wait() {
                round();
            }
        };
        Worker::start("history", work, move || bell.stop())
    }

    /// Makes spares of the notes that have none, and notes which of them went. What fails is told
    /// in `.dds/status` and tried again after the next change.
    pub fn keep_history(&self) {
        let history = self.state_dir.history();
        if !history.is_on() {
            return;
        }
        let bell = Arc::clone(&self.state().bell);
        let stop = || bell.is_stopped();
        let (mut failed, mut why) = (0, None);
        for version in self.keepable() {
            if stop() {
                return;
            }
            match self.spare_present(&version, &stop) {
                Err(error) if !matches!(error.kind(), Kind::NotFound | Kind::Busy) => {
                    failed += 1;
                    why = Some(error);
                }
                Ok(()) | Err(_) => {}
            }
        }
        let spareless = why.map(|error| {
            format!(
                "notes without a spare, which cannot be restored once others remove them: \
                 {failed} ({error})"
            )
        });
        let noted = self.note_what_went().and_then(|()| history.sync());
        let noted = noted
            .err()
            .map(|error| format!("the history of notes: {error}"));
        lock(&self.shared.unkept).now = noted.or(spareless);
        self.shared.retry_held();
        lock(&bell.state).held = !self.shared.held().is_empty();
    }

    /// Notes which notes are no longer in the store, as far as known, and drops what was kept for
    /// long enough. What fails is told in `.dds/status`.
    pub fn note_gone(&self) {
        if let Err(error) = self.note_what_went() {
            let sentence = format!("the history of notes: {error}");
            lock(&self.shared.unkept).now = Some(sentence);
        }
    }

    /// Goes on where something fails, and returns what failed last.
    fn note_what_went(&self) -> Result<()> {
        let history = self.state_dir.history();
        // In this order: what comes meanwhile has a spare only after it is present.
        let mut missing = history.spares();
        let present: HashSet<BlobId> = self.keepable().iter().map(|one| one.file_id).collect();
        missing.retain(|id| !present.contains(id));
        if !self.knows_all_notes() {
            // What is not opened yet may be one of them.
            missing.clear();
        } else if !self.past.missed.swap(true, Ordering::Relaxed) {
            self.remember_missed(&self.open_spares(&missing));
        }
        let now = Moment::now();
        let mut failed = None;
        if !missing.is_empty() {
            match self.store().sync(Folder::Notes) {
                Ok(()) => {
                    let noted = missing.into_iter().map(|id| history.note_gone(id, now));
                    failed = noted.filter_map(Result::err).last();
                }
                // As long as the whole folder is missing, nothing went.
                Err(error) => failed = (error.kind() != Kind::NotFound).then_some(error),
            }
        }
        let pruned = history.prune(now);
        self.shared.lost(pruned.early, "there was no more room");
        failed.or(pruned.failed).map_or(Ok(()), Err)
    }

    /// The notes in the store that are kept when they go.
    fn keepable(&self) -> Vec<Arc<Version>> {
        let state = self.state();
        let versions = state.files.values().filter_map(|file| file.version());
        let notes = versions.filter(|version| version.keepable);
        notes.cloned().collect()
    }

    /// Copies nothing any more, as the mount ends: what would have to be copied before it is
    /// unlinked stays in the store.
    pub fn stop_copying(&self) {
        self.shared.closing.store(true, Ordering::Relaxed);
        let bell = Arc::clone(&self.state().bell);
        bell.stop();
    }

    /// Makes a spare of a note that is in the store.
    fn spare_present(&self, version: &Version, stop: &dyn Fn() -> bool) -> Result<()> {
        if let Some(stamp) = self.shared.spare(version, Purpose::Present, stop)? {
            let slot = (version.folder(), version.entry.name.clone());
            if let Some(file) = self.state().files.get_mut(&slot) {
                file.was_linked(stamp);
            }
        }
        Ok(())
    }
}
