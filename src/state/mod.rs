//! The memory outside the store, sealed: removals, intents, rescued drafts, old versions of notes.
//!
//! The directory (`$XDG_STATE_HOME/dds/<store>/`) holds things that are nowhere else, so it is not
//! safe to delete:
//!
//! | name | content |
//! |---|---|
//! | `lock` | locked (flock) by the one process that uses the directory |
//! | `key.asc` | the random key of the log, wrapped by [`KeyWrap`]: sealed to me, signed by me |
//! | `log` | a sealed log (`sealed_log`) of removals, departures and intents (`removals::record`) |
//! | `log.damaged-<n>` | logs that could not be read whole; DDS never removes them |
//! | `staged/<40 hex>.asc` | blobs that are to be published together, and are not yet |
//! | `rescued/<40 hex>.asc` | drafts that had nowhere else to go, sealed to me alone |
//! | `history/` | old versions of notes, as they were in the store: see [`History`] |
//! | `.tmp-*` | being written; removed at the next start |
//!
//! This module knows nothing of OpenPGP: `staged/` and `rescued/` hold whatever their writers
//! sealed, under the SHA-1 of its bytes.
//!
//! ```text
//! State -> removals/   events: journal (disk) -> ledger (the sum of all, in RAM)
//!       -> history/    old versions of notes: index (what there is), retention (how long)
//!       -> blob_dir    staged/ and rescued/
//!          sealed_log  one file of authenticated records; knows none of them
//!          private_dir the directory itself: lock, atomic files
//! ```

use std::path::Path;
use std::sync::Mutex;

use self::blob_dir::{BlobDir, Writing};
pub use self::history::{
    Gone, History, Limits, Moment, Need, Pruned, Purpose, copy_unless, stopped,
};
pub use self::key::KeyWrap;
pub use self::lineage::Lineage;
pub use self::private_dir::Look;
use self::private_dir::{Lock, PrivateDir};
use self::removals::Removals;
pub use self::removals::{Departure, Intent, IntentId, Removal};
use crate::error::{Error, Kind, Result};
use crate::ids::{BlobId, BlobName, Timestamp, VersionId};

mod blob_dir;
mod history;
mod key;
mod lineage;
mod private_dir;
mod random;
mod removals;
mod sealed_log;

/// A blob in `staged/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Staged {
    /// Its name there, and later in the store.
    pub name: BlobName,
    /// Its length in bytes.
    pub length: u64,
}

/// The state directory of one store.
///
/// Its lock is inherited by forked processes and held until all of them are gone: open the state
/// after forking those that outlive this one.
pub struct State {
    removals: Removals,
    staged: BlobDir,
    rescued: BlobDir,
    history: History,
    /// Of the start, for people.
    notices: Vec<String>,
    _lock: Option<Lock>,
}

impl State {
    /// Tells whether a process uses a directory at this moment. Changes nothing there.
    pub fn is_in_use(dir: &Path) -> bool {
        private_dir::is_locked(dir)
    }

    /// Opens the directory, making it if there is none.
    ///
    /// If there is no key yet and mine cannot be used for one (it is expired, say), or the key is
    /// sealed to one of mine that is not here, everything but noting removals and intents works,
    /// those fail with the error of the key, nothing that is there is changed, and
    /// [`State::notices`] tells.
    ///
    /// # Errors
    /// `Busy` if another process uses it; `BadConfig`, naming the file, if the key cannot be
    /// opened or is missing, or if a newer version wrote the log; the disk's error.
    pub fn open(dir: &Path, wrap: &dyn KeyWrap) -> Result<State> {
        let dir = PrivateDir::make(dir)?;
        let mut notices = Vec::new();
        let lock = dir.lock()?;
        if lock.is_none() {
            notices.push(format!(
                "{} is on a file system without locks: never use it twice at a time",
                dir.shown_self()
            ));
        }
        let (staged, rescued) = (dir.child("staged")?, dir.child("rescued")?);
        for dir in [&dir, &staged, &rescued] {
            dir.clean_temporaries()?;
        }
        let history = History::open(&dir, Moment::now())?;
        Ok(State {
            removals: Removals::open(dir, wrap)?,
            staged: BlobDir::Disk(staged),
            rescued: BlobDir::Disk(rescued),
            history,
            notices,
            _lock: lock,
        })
    }

    /// Makes a state that forgets everything in the end: for tests, and for mounts without one.
    pub fn in_memory() -> State {
        State {
            removals: Removals::default(),
            staged: BlobDir::Memory(Mutex::default()),
            rescued: BlobDir::Memory(Mutex::default()),
            history: History::nowhere(),
            notices: Vec::new(),
            _lock: None,
        }
    }

    /// Old versions of notes.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Returns sentences for people: damage, and the losses by it.
    pub fn notices(&self) -> Vec<String> {
        [self.notices.clone(), self.removals.notices()].concat()
    }

    /// Remembers, durably, that I removed a blob. Call it before the blob is unlinked.
    ///
    /// # Errors
    /// The disk's error; `TooLarge` for tens of thousands of ancestors. The removal is not in
    /// force then.
    pub fn note_removed(&self, removed: &Removal) -> Result<()> {
        self.removals.note_removed(removed)
    }

    /// Forgets a removal, durably: the blob could not be removed, or is wanted after all.
    ///
    /// # Errors
    /// The disk's error. The removal stays in force then.
    pub fn note_restored(&self, id: BlobId) -> Result<()> {
        self.removals.note_restored(id)
    }

    /// Tells whether I removed these very bytes.
    pub fn is_removed(&self, id: BlobId) -> bool {
        self.removals.is_removed(id)
    }

    /// Returns a blob that I removed and that is one of these versions.
    pub fn removed_as(&self, versions: &[VersionId]) -> Option<BlobId> {
        self.removals.removed_as(versions)
    }

    /// Remembers, durably, versions that left the store without being removed by me. Those that are
    /// known are not written again.
    ///
    /// # Errors
    /// The disk's error. A departure that was not written is not remembered then.
    pub fn note_departed(&self, departures: &[Departure]) -> Result<()> {
        self.removals.note_departed(departures)
    }

    /// Returns when a version left the store that a newer version of its document had replaced.
    pub fn replaced_at(&self, versions: &[VersionId], lineage: Lineage) -> Option<Timestamp> {
        self.removals.replaced_at(versions, lineage)
    }

    /// Returns the names that the blobs of a departed version had.
    pub fn names_of(&self, versions: &[VersionId], lineage: Lineage) -> Vec<BlobName> {
        self.removals.names_of(versions, lineage)
    }

    /// Returns the departed version of a document whose blob had this name.
    pub fn version_called(&self, name: BlobName, lineage: Lineage) -> Option<VersionId> {
        self.removals.version_called(name, lineage)
    }

    /// Tells whether I removed a version of this document that replaced the blob of this name,
    /// whose bytes may never have been seen here.
    pub fn is_removed_ancestor(&self, name: BlobName, lineage: Lineage) -> bool {
        self.removals.is_removed_ancestor(name, lineage)
    }

    /// Lists the removals in force, in no particular order.
    pub fn removals(&self) -> Vec<Removal> {
        self.removals.all()
    }

    /// Remembers, durably, that staged blobs are about to be published.
    ///
    /// # Errors
    /// `NotFound` if one of them is not staged; the disk's error.
    pub fn begin(&self, intent: &Intent) -> Result<IntentId> {
        for name in &intent.publish {
            if !self.staged.has(*name)? {
                let sentence = format!("{name} is not staged");
                return Err(Error::new(Kind::NotFound, sentence));
            }
        }
        self.staged.sync()?;
        self.removals.begin(intent)
    }

    /// Remembers, durably, that an intent is carried out or taken back, and lets go of its
    /// staged blobs. One that is finished already is no error.
    ///
    /// # Errors
    /// The disk's error. The intent stays unfinished then, and its blobs stay staged.
    pub fn finish(&self, id: IntentId) -> Result<()> {
        let Some(intent) = self.removals.finish(id)? else {
            return Ok(());
        };
        for name in intent.publish {
            if !self.removals.is_awaited(name) {
                // If this fails, the next `clean_staged` removes it.
                let _ = self.staged.remove(name);
            }
        }
        Ok(())
    }

    /// Lists the intents that were begun and not finished, oldest first.
    ///
    /// One whose staged blobs are all gone was finished once, and the log that says so was
    /// damaged or replaced by an older copy: finish it again, and do nothing else.
    pub fn unfinished(&self) -> Vec<(IntentId, Intent)> {
        self.removals.unfinished()
    }

    /// Lets `write` write a blob, brings it to the disk, and puts it into `staged/`.
    ///
    /// `write` returns the name of the blob that it wrote. The file survives a power cut once an
    /// intent that names it has begun.
    ///
    /// # Errors
    /// `NoSpace`, and whatever the disk or `write` says. Nothing is left behind then.
    pub fn stage(&self, write: &mut Writing<'_>) -> Result<Staged> {
        let (name, length) = self.staged.add(write)?;
        Ok(Staged { name, length })
    }

    /// Opens a staged blob for reading.
    ///
    /// # Errors
    /// `NotFound`; the disk's error.
    pub fn open_staged(&self, name: BlobName) -> Result<std::fs::File> {
        self.staged.open(name)
    }

    /// Reads a staged blob whole.
    ///
    /// # Errors
    /// `NotFound`; `TooLarge` over `limit` bytes; `Damaged` if its bytes are not those that were
    /// written; the disk's error.
    pub fn staged_bytes(&self, name: BlobName, limit: u64) -> Result<Vec<u8>> {
        self.staged.read(name, limit)
    }

    /// Removes a staged blob that will not be published. One that is gone is no error.
    ///
    /// # Errors
    /// `Busy` if an unfinished intent names it; the disk's error.
    pub fn unstage(&self, name: BlobName) -> Result<()> {
        if self.removals.is_awaited(name) {
            let sentence = format!("{name} is about to be published");
            return Err(Error::new(Kind::Busy, sentence));
        }
        self.staged.remove(name)
    }

    /// Removes the staged blobs that no unfinished intent names, and returns how many.
    ///
    /// For the start: it also removes blobs that are staged for an intent not yet begun.
    ///
    /// # Errors
    /// The disk's error.
    pub fn clean_staged(&self) -> Result<usize> {
        if self.removals.is_refused() {
            // Which blobs are awaited is not known.
            return Ok(0);
        }
        let mut cleaned = 0;
        for name in self.staged.names()? {
            if !self.removals.is_awaited(name) {
                self.staged.remove(name)?;
                cleaned += 1;
            }
        }
        Ok(cleaned)
    }

    /// Lets `write` write a blob that is sealed to me alone, and keeps it, durably, in
    /// `rescued/`.
    ///
    /// # Errors
    /// As [`State::stage`].
    pub fn rescue(&self, write: &mut Writing<'_>) -> Result<BlobName> {
        let (name, _) = self.rescued.add(write)?;
        self.rescued.sync()?;
        Ok(name)
    }

    /// Lists the rescued blobs in the order of their names.
    ///
    /// # Errors
    /// The disk's error.
    pub fn rescued(&self) -> Result<Vec<BlobName>> {
        self.rescued.names()
    }

    /// Opens a rescued blob for reading.
    ///
    /// # Errors
    /// `NotFound`; the disk's error.
    pub fn open_rescued(&self, name: BlobName) -> Result<std::fs::File> {
        self.rescued.open(name)
    }

    /// Reads a rescued blob whole.
    ///
    /// # Errors
    /// As [`State::staged_bytes`].
    pub fn read_rescued(&self, name: BlobName, limit: u64) -> Result<Vec<u8>> {
        self.rescued.read(name, limit)
    }

    /// Removes a rescued blob, durably. One that is gone is no error.
    ///
    /// # Errors
    /// The disk's error.
    pub fn drop_rescued(&self, name: BlobName) -> Result<()> {
        self.rescued.remove(name)?;
        self.rescued.sync()
    }
}
