//! What has to be remembered outside the store, sealed: removals, intents, rescued drafts, old
//! versions of notes.
//!
//! The directory (`$XDG_STATE_HOME/dds/<store>/`, DESIGN 8) is not safe to delete:
//!
//! | name | what |
//! |---|---|
//! | `lock` | locked (flock) by the one process that uses the directory |
//! | `key.asc` | the random key of the log, wrapped by [`KeyWrap`]: sealed to me, signed by me |
//! | `log` | the sealed log below: the ledger of removals, and intents |
//! | `log.damaged-<n>` | logs that could not be read whole; never removed by DDS |
//! | `staged/<40 hex>.asc` | blobs that are to be published together, and are not yet |
//! | `rescued/<40 hex>.asc` | drafts that had nowhere else to go, sealed to me alone |
//! | `history/` | old versions of notes, as they were in the store: see [`History`] |
//! | `.tmp-*` | being written; removed at the next start |
//!
//! This module knows nothing of OpenPGP: `staged/` and `rescued/` hold whatever their writers
//! sealed, and only names that are the SHA-1 of the bytes.
//!
//! # The log
//!
//! Numbers are big-endian. The file is a header and then records, numbered from 0:
//!
//! ```text
//! header  "dds state log 1\n"   16 bytes
//!         file id               16 bytes, random, new for each file
//! record  length                 4 bytes: of the box, 16 to 2^20
//!         check                  4 bytes: first of SHA-256(header, number, length)
//!         nonce                 24 bytes, random
//!         box                   XChaCha20-Poly1305(key, nonce, text; header, number)
//! ```
//!
//! `number` takes 8 bytes in both places where it is authenticated. The text is one line of
//! words separated by single spaces, filled up with line ends to a multiple of 256 bytes:
//!
//! ```text
//! removed  <blob id> <blob name> <seconds.nanoseconds> <lineage> [<blob name>...]
//! removed-version  <as removed, to the lineage> <version id>... [<blob name>...]
//! went     (<version id> <blob name> <seconds.nanoseconds> <lineage> replaced|gone)...
//! restored <blob id>
//! begin    <intent, 16 hex> <folder> publish [<blob name>...] remove [<blob name>...]
//! finish   <intent>
//! ```
//!
//! Ids and lineages have 64 hex digits, blob names 40. The names at the end of `removed` are
//! those of the versions that the removed one replaced. A version id is what is inside a blob,
//! whatever its bytes are; removals of older versions know the bytes alone. `went` tells what left
//! the store without being removed here. Other words belong to newer versions
//! and are kept as they are; a newer format has another digit in the header.
//!
//! - A record is appended by one write and one fdatasync. A file that ends within its last
//!   record was cut by a crash: that record was promised to nobody, and is cut off silently.
//! - Random nonces, because the file may come back older than it was (backups, snapshots): a
//!   counter would then seal different records under one nonce.
//! - Anything else that is not as it was written is damage. A record that does not open is left
//!   out; at a length that fails its check reading ends, because what follows cannot be placed
//!   (so also where records were swapped, left out, or came from another file). Then the file
//!   is set aside, a new one continues with what could be read, and [`State::notices`] tells.
//! - When more than half of a log of 64 KiB is void (finished intents, replaced and old
//!   removals) it is rewritten: temporary file, fsync, rename, fsync of the directory. Removals
//!   of more than two years ago are dropped then.
//! - **An older copy of the whole file** (or one cut between two records) is a log that was
//!   valid once. Nothing inside the directory can tell it from the present one; telling needs
//!   a memory elsewhere. What it does: removals made since are forgotten, so those messages
//!   show again if a peer brings them back, and intents finished since count as unfinished, so
//!   who completes them must bear that their staged files are gone.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use zeroize::Zeroizing;

pub use self::bounds::{Limits, Moment, Pruned};
pub use self::departed::Went;
pub use self::dir::Look;
use self::dir::{Dir, Lock};
pub use self::history::{Gone, History, Need, Purpose};
use self::journal::Journal;
pub use self::kept::{copy_unless, stopped};
use self::ledger::{Ledger, WENT_TOGETHER};
use self::place::{Place, Writing};
use self::record::Record;
use crate::error::{Error, Kind, Result};
use crate::ids::{BlobId, BlobName, Folder, Timestamp, VersionId};

mod bounds;
mod departed;
mod dir;
mod history;
#[cfg(test)]
mod history_tests;
mod journal;
mod kept;
mod key;
mod ledger;
mod log;
mod place;
mod record;

/// Wraps the state's key for its owner.
pub trait KeyWrap {
    /// Seals the key to me and signs it by me.
    ///
    /// # Errors
    /// What the sealing says; nothing is kept then.
    fn wrap(&self, key: &[u8; 32]) -> Result<Vec<u8>>;

    /// Opens what [`KeyWrap::wrap`] returned.
    ///
    /// # Errors
    /// `NoKey` if it is sealed to none of my keys that are here; else unless it has a good
    /// signature of mine.
    fn unwrap(&self, wrapped: &[u8]) -> Result<Zeroizing<[u8; 32]>>;

    /// Tells whether each of my keys that are here opens it. If not, it is wrapped anew, so that
    /// it outlives the key that did.
    fn is_current(&self, _wrapped: &[u8]) -> bool {
        true
    }
}

/// A digest that all versions of one document have in common, and no others.
///
/// Whoever computes it puts in everything by which a version may replace another (DESIGN 6:
/// kind, audience, document, and for messages the signer). So a message cannot make others
/// vanish by naming them as its ancestors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lineage([u8; 32]);

impl Lineage {
    /// Takes a finished SHA-256 digest.
    pub fn from_digest(digest: [u8; 32]) -> Self {
        Lineage(digest)
    }
}

/// One removal of a blob by me.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removal {
    /// The blob.
    pub id: BlobId,
    /// What is inside it, by every id that it goes by, so that it is known whatever stands around
    /// it. Empty in records of older versions.
    pub versions: Vec<VersionId>,
    /// Its name in the store.
    pub name: BlobName,
    /// The document it was a version of.
    pub lineage: Lineage,
    /// The versions it replaced, which are removed with it.
    pub replaces: Vec<BlobName>,
    /// When it was removed; after two years it is forgotten.
    pub at: Timestamp,
}

/// Names an intent in this directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IntentId(u64);

/// Blobs that are published together, and what goes afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// Where all of them belong.
    pub folder: Folder,
    /// The staged blobs to be placed there.
    pub publish: Vec<BlobName>,
    /// The blobs to be removed from there once all are in place.
    pub remove: Vec<BlobName>,
}

/// A blob in `staged/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Staged {
    /// What it is called there and will be called in the store.
    pub name: BlobName,
    /// Its length in bytes.
    pub length: u64,
}

/// The state directory of one store.
///
/// Its lock is inherited by forked processes and held until all of them are gone: open the state
/// after forking those that outlive this one.
pub struct State {
    /// Taken before `ledger`.
    records: Mutex<Records>,
    /// Never locked for writing while the disk is waited for: each blob of a scan asks here.
    ledger: RwLock<Ledger>,
    staged: Place,
    rescued: Place,
    history: History,
    notices: Mutex<Vec<String>>,
    _lock: Option<Lock>,
}

/// Where records go.
enum Records {
    /// To the disk.
    Journal(Journal),
    /// Nowhere: the first start could not wrap a key, or this one cannot open it, for this reason.
    Refused(Kind, String),
    /// Into the ledger only.
    Memory,
}

impl State {
    /// Tells whether a process uses a directory at this moment. Changes nothing there.
    pub fn is_in_use(dir: &Path) -> bool {
        dir::is_locked(dir)
    }

    /// Opens the directory, making it if there is none.
    ///
    /// If there is no key yet and mine cannot be used for one (it is expired, say), or the key is
    /// sealed to one of mine that is not here, everything but noting removals and intents works,
    /// those fail with what the key says, nothing that is there is changed, and
    /// [`State::notices`] tells.
    ///
    /// # Errors
    /// `Busy` if another process uses it; `BadConfig`, naming the file, if the key cannot be
    /// opened or is missing, or if a newer version wrote the log; what the disk says.
    pub fn open(dir: &Path, wrap: &dyn KeyWrap) -> Result<State> {
        let dir = Dir::make(dir)?;
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
        let mut ledger = Ledger::default();
        let records = match Journal::open(dir, wrap, &mut ledger, &mut notices) {
            Ok(journal) => Records::Journal(journal),
            Err(error) if is_about_keys(error.kind()) => {
                notices.push(format!(
                    "nothing can be removed or sent to several: {error}"
                ));
                Records::Refused(error.kind(), error.to_string())
            }
            Err(error) => return Err(error),
        };
        let state = State {
            records: Mutex::new(records),
            ledger: RwLock::new(ledger),
            staged: Place::Disk(staged),
            rescued: Place::Disk(rescued),
            history,
            notices: Mutex::new(notices),
            _lock: lock,
        };
        if let Records::Journal(journal) = &mut *state.records() {
            state.compact(journal);
        }
        Ok(state)
    }

    /// Makes a state that forgets everything in the end: for tests, and for mounts without one.
    pub fn in_memory() -> State {
        State {
            records: Mutex::new(Records::Memory),
            ledger: RwLock::default(),
            staged: Place::Memory(Mutex::default()),
            rescued: Place::Memory(Mutex::default()),
            history: History::nowhere(),
            notices: Mutex::default(),
            _lock: None,
        }
    }

    /// Old versions of notes.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Returns what people should know: damage, and what was lost by it.
    pub fn notices(&self) -> Vec<String> {
        let notices = self.notices.lock().unwrap_or_else(PoisonError::into_inner);
        notices.clone()
    }

    /// Remembers, durably, that I removed a blob. Call it before the blob goes.
    ///
    /// # Errors
    /// What the disk says; `TooLarge` for tens of thousands of ancestors. The removal is not in
    /// force then.
    pub fn note_removed(&self, removed: &Removal) -> Result<()> {
        let mut records = self.records();
        self.commit(&mut records, Record::Removed(removed.clone()))
    }

    /// Forgets a removal, durably: the blob could not be removed, or is wanted after all.
    ///
    /// # Errors
    /// What the disk says. The removal stays in force then.
    pub fn note_restored(&self, id: BlobId) -> Result<()> {
        let mut records = self.records();
        if !self.ledger().is_removed(id) {
            return Ok(());
        }
        self.commit(&mut records, Record::Restored(id))
    }

    /// Tells whether I removed these very bytes.
    pub fn is_removed(&self, id: BlobId) -> bool {
        self.ledger().is_removed(id)
    }

    /// Returns a blob that I removed and that is one of these versions.
    pub fn removed_as(&self, versions: &[VersionId]) -> Option<BlobId> {
        self.ledger().removed_as(versions)
    }

    /// Remembers, durably, what went from the store without being removed by me. What is known is
    /// not written again.
    ///
    /// # Errors
    /// What the disk says. What was not written is not remembered then.
    pub fn note_went(&self, went: &[Went]) -> Result<()> {
        let mut records = self.records();
        let new: Vec<Went> = {
            let ledger = self.ledger();
            let new = went.iter().filter(|went| !ledger.departed.knows(went));
            new.copied().collect()
        };
        let mut parts = new.chunks(WENT_TOGETHER);
        parts.try_for_each(|part| self.commit(&mut records, Record::Went(part.to_vec())))
    }

    /// When a version went that a newer version of its document had replaced.
    pub fn replaced_at(&self, versions: &[VersionId], lineage: Lineage) -> Option<Timestamp> {
        let ledger = self.ledger();
        let mut versions = versions.iter();
        versions.find_map(|version| ledger.departed.replaced_at(*version, lineage))
    }

    /// What blobs of a version were called that went.
    pub fn names_of(&self, versions: &[VersionId], lineage: Lineage) -> Vec<BlobName> {
        let ledger = self.ledger();
        let names = versions.iter();
        let names = names.flat_map(|version| ledger.departed.names(*version, lineage));
        names.collect()
    }

    /// The version of a document that went and whose blob was called so.
    pub fn version_called(&self, name: BlobName, lineage: Lineage) -> Option<VersionId> {
        self.ledger().departed.called(name, lineage)
    }

    /// Tells whether I removed a version of this document that replaced the blob of this name,
    /// whose bytes may never have been seen here.
    pub fn is_removed_ancestor(&self, name: BlobName, lineage: Lineage) -> bool {
        self.ledger().is_ancestor(name, lineage)
    }

    /// Lists the removals in force, in no particular order.
    pub fn removals(&self) -> Vec<Removal> {
        self.ledger().removals().cloned().collect()
    }

    /// Remembers, durably, that staged blobs are about to be published.
    ///
    /// # Errors
    /// `NotFound` if one of them is not staged; what the disk says.
    pub fn begin(&self, intent: &Intent) -> Result<IntentId> {
        for name in &intent.publish {
            if !self.staged.has(*name)? {
                let sentence = format!("{name} is not staged");
                return Err(Error::new(Kind::NotFound, sentence));
            }
        }
        self.staged.sync()?;
        let mut records = self.records();
        let id = self.ledger().next_intent();
        self.commit(&mut records, Record::Begin(id, intent.clone()))?;
        Ok(id)
    }

    /// Remembers, durably, that an intent is carried out or taken back, and lets go of its
    /// staged blobs. One that is finished already is no error.
    ///
    /// # Errors
    /// What the disk says. The intent stays unfinished then, and its blobs stay staged.
    pub fn finish(&self, id: IntentId) -> Result<()> {
        let mut records = self.records();
        let Some(intent) = self.ledger().intent(id).cloned() else {
            return Ok(());
        };
        self.commit(&mut records, Record::Finish(id))?;
        drop(records);
        for name in intent.publish {
            if !self.ledger().is_awaited(name) {
                // What stays is removed by the next `clean_staged`.
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
        let ledger = self.ledger();
        let intents = ledger.intents();
        intents.map(|(id, intent)| (id, intent.clone())).collect()
    }

    /// Lets `write` write a blob, brings it to the disk, and puts it into `staged/`.
    ///
    /// `write` returns the name of what it wrote. The file survives a power cut once an intent
    /// that names it has begun.
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
    /// `NotFound`; what the disk says.
    pub fn open_staged(&self, name: BlobName) -> Result<std::fs::File> {
        self.staged.open(name)
    }

    /// Reads a staged blob whole.
    ///
    /// # Errors
    /// `NotFound`; `TooLarge` over `limit` bytes; `Damaged` if its bytes are not those that were
    /// written; what the disk says.
    pub fn staged_bytes(&self, name: BlobName, limit: u64) -> Result<Vec<u8>> {
        self.staged.read(name, limit)
    }

    /// Removes a staged blob that will not be published. One that is gone is no error.
    ///
    /// # Errors
    /// `Busy` if an unfinished intent names it; what the disk says.
    pub fn unstage(&self, name: BlobName) -> Result<()> {
        if self.ledger().is_awaited(name) {
            let sentence = format!("{name} is about to be published");
            return Err(Error::new(Kind::Busy, sentence));
        }
        self.staged.remove(name)
    }

    /// Removes the staged blobs that no unfinished intent names, and returns how many.
    ///
    /// For the start: what is staged and not yet begun goes, too.
    ///
    /// # Errors
    /// What the disk says.
    pub fn clean_staged(&self) -> Result<usize> {
        if let Records::Refused(..) = &*self.records() {
            // What is awaited is not known.
            return Ok(0);
        }
        let mut cleaned = 0;
        for name in self.staged.names()? {
            if !self.ledger().is_awaited(name) {
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
    /// What the disk says.
    pub fn rescued(&self) -> Result<Vec<BlobName>> {
        self.rescued.names()
    }

    /// Opens a rescued blob for reading.
    ///
    /// # Errors
    /// `NotFound`; what the disk says.
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
    /// What the disk says.
    pub fn drop_rescued(&self, name: BlobName) -> Result<()> {
        self.rescued.remove(name)?;
        self.rescued.sync()
    }

    /// Brings a record to the disk, and only then into force.
    fn commit(&self, records: &mut Records, record: Record) -> Result<()> {
        match records {
            Records::Journal(journal) => journal.append(&record, &self.ledger())?,
            Records::Refused(kind, why) => return Err(Error::new(*kind, why.as_str())),
            Records::Memory => {}
        }
        let void = self.ledger_mut().apply(record);
        if let Records::Journal(journal) = records {
            journal.add_void(void);
            self.compact(journal);
        }
        Ok(())
    }

    /// Rewrites the log if that is worth it. What fails here costs only space.
    fn compact(&self, journal: &mut Journal) {
        if !journal.is_worth_rewriting() {
            return;
        }
        self.ledger_mut().forget_old(Timestamp::now());
        if let Err(error) = journal.rewrite(&self.ledger()) {
            let notices = self.notices.lock();
            notices
                .unwrap_or_else(PoisonError::into_inner)
                .push(format!(
                    "the log of removals could not be made smaller: {error}"
                ));
        }
    }

    fn records(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ledger(&self) -> RwLockReadGuard<'_, Ledger> {
        self.ledger.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn ledger_mut(&self) -> RwLockWriteGuard<'_, Ledger> {
        self.ledger.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells whether it is my key that stands in the way, which another day it may not.
fn is_about_keys(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::NoKey | Kind::KeyExpired | Kind::KeyRevoked | Kind::KeyRejected
    )
}

/// Fills `bytes` from the system's cryptographic generator.
fn fill_random(bytes: &mut [u8]) -> Result<()> {
    use rustix::rand::{GetRandomFlags, getrandom};
    let mut filled = 0;
    while filled < bytes.len() {
        match getrandom(&mut bytes[filled..], GetRandomFlags::empty()) {
            Ok(more) => filled += more,
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(Error::io("cannot get random bytes", errno.into())),
        }
    }
    Ok(())
}
