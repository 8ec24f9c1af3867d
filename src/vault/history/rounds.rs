//! Old versions of notes: the background work that makes spares and notes which notes left the store.
//!
//! Every readable note has a spare soon after it arrived, since a note that somebody else removes is
//! gone before it is missed. When it leaves the store, its spare becomes the history.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::error::{Kind, Result};
use crate::ids::{BlobId, Folder};
use crate::state::{Moment, Purpose};
use crate::vault::Vault;
use crate::vault::documents::Version;
use crate::vault::known::slot_of;
use crate::vault::worker::Worker;

/// How long changes are gathered before spares are made.
const GATHER: Duration = Duration::from_millis(200);
/// Time between two rounds when nothing changes: old versions are dropped.
const ROUND: Duration = Duration::from_secs(60 * 60);
/// The same while a replaced note waits in the store until it can be kept.
const RETRY: Duration = Duration::from_secs(60);

impl Vault {
    /// Begins to make spares of notes soon after they arrived; `round` calls
    /// [`Vault::keep_history`].
    ///
    /// # Errors
    /// `Io` if no thread can be started.
    pub fn history_in_background(&self, round: impl Fn() + Send + 'static) -> Result<Worker> {
        let wakeup = Arc::clone(&self.known().wakeup);
        let theirs = Arc::clone(&wakeup);
        let replacements = Arc::clone(&self.replacements);
        let work = move || {
            round();
            let pause = || match replacements.holds_some() {
                true => RETRY,
                false => ROUND,
            };
            while theirs.wait(pause(), GATHER) {
                round();
            }
        };
        Worker::start("history", work, move || wakeup.stop())
    }

    /// Makes spares of the notes that have none, and notes which of them left the store. A failure
    /// appears in `.dds/status`, and the next change makes another attempt.
    pub fn keep_history(&self) {
        let history = self.memory.history();
        if !history.is_on() {
            return;
        }
        let wakeup = Arc::clone(&self.known().wakeup);
        let stop = || wakeup.is_stopped();
        let (mut failed, mut why) = (0, None);
        let keepable = self.known().keepable();
        for version in keepable {
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
        let noted = self.note_missing().and_then(|()| history.sync());
        let noted = noted
            .err()
            .map(|error| format!("the history of notes: {error}"));
        self.replacements.keeper.note_failure(noted.or(spareless));
        self.replacements.retry_held();
    }

    /// Notes which notes are no longer in the store, as far as known, and drops the versions that
    /// were kept for long enough. A failure appears in `.dds/status`.
    pub fn note_gone(&self) {
        if let Err(error) = self.note_missing() {
            let sentence = format!("the history of notes: {error}");
            self.replacements.keeper.note_failure(Some(sentence));
        }
    }

    /// Tries to note every missing note and to drop every old version; returns the last error.
    fn note_missing(&self) -> Result<()> {
        let history = self.memory.history();
        // The spares first: a note that arrives meanwhile has a spare only after it is present.
        let mut missing = history.spares();
        let present = self.known().keepable();
        let present: HashSet<BlobId> = present.iter().map(|one| one.file_id).collect();
        missing.retain(|id| !present.contains(id));
        if !self.knows_all_notes() {
            // A note that is not opened yet may be one of them.
            missing.clear();
        } else if !self.found.missed.swap(true, Ordering::Relaxed) {
            self.remember_missed(&self.open_spares(&missing));
        }
        let now = Moment::now();
        let mut failed = None;
        if !missing.is_empty() {
            match self.store.sync(Folder::Notes) {
                Ok(()) => {
                    let noted = missing.into_iter().map(|id| history.note_gone(id, now));
                    failed = noted.filter_map(Result::err).last();
                }
                // As long as the whole folder is missing, no note left it.
                Err(error) => failed = (error.kind() != Kind::NotFound).then_some(error),
            }
        }
        let pruned = history.prune(now);
        let keeper = &self.replacements.keeper;
        keeper.note_lost(pruned.early, "there was no more room");
        failed.or(pruned.failed).map_or(Ok(()), Err)
    }

    /// Ends all copying, as the mount ends: a version that would have to be copied before it is
    /// unlinked stays in the store.
    pub fn stop_copying(&self) {
        self.replacements.keeper.close();
        let wakeup = Arc::clone(&self.known().wakeup);
        wakeup.stop();
    }

    /// Makes a spare of a note that is in the store.
    fn spare_present(&self, version: &Version, stop: &dyn Fn() -> bool) -> Result<()> {
        let keeper = &self.replacements.keeper;
        if let Some(stamp) = keeper.spare(version, Purpose::Present, stop)? {
            if let Some(file) = self.known().files.get_mut(&slot_of(version)) {
                file.was_linked(stamp);
            }
        }
        Ok(())
    }
}
