//! Versions that left the store and must stay away, and intents that are not finished: one sealed
//! log, and in RAM the sum of its records.
//!
//! A [`Record`] is one event. The [`Journal`] brings it to the disk; only then the [`Ledger`],
//! which answers all questions, takes it in. So nothing is in force that a crash could take back.

use std::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

pub use self::departures::Departure;
use self::journal::Journal;
use self::ledger::{DEPARTURES_IN_A_RECORD, Ledger};
use self::record::Record;
pub use self::record::{Intent, IntentId, Removal};
use super::key::KeyWrap;
use super::lineage::Lineage;
use super::private_dir::PrivateDir;

use crate::error::{Error, Kind, Result};
use crate::ids::{BlobId, BlobName, Timestamp, VersionId};
use crate::locks;

mod departures;
mod journal;
mod ledger;
mod record;

/// The log of removals, departures and intents, and the sum of its records. [`super::State`]
/// documents the methods that it passes on.
#[derive(Default)]
pub(super) struct Removals {
    /// Taken before `ledger`.
    records: Mutex<Records>,
    /// Never locked for writing while the disk is waited for: a scan asks here for each blob.
    ledger: RwLock<Ledger>,
    /// Damage that was found, and harmless failures; for people.
    notices: Mutex<Vec<String>>,
}

/// The place that records are written to.
#[derive(Default)]
enum Records {
    /// The disk.
    Journal(Journal),
    /// None: the first start could not wrap a key, or this one cannot open it, for this reason.
    Refused(Kind, String),
    /// The ledger alone.
    #[default]
    Memory,
}

impl Removals {
    /// Reads the log in `dir`, or starts one.
    ///
    /// # Errors
    /// Those of [`super::State::open`].
    pub(super) fn open(dir: PrivateDir, wrap: &dyn KeyWrap) -> Result<Removals> {
        let mut ledger = Ledger::default();
        let mut notices = Vec::new();
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
        let removals = Removals {
            records: Mutex::new(records),
            ledger: RwLock::new(ledger),
            notices: Mutex::new(notices),
        };
        if let Records::Journal(journal) = &mut *removals.records() {
            removals.compact(journal);
        }
        Ok(removals)
    }

    pub(super) fn notices(&self) -> Vec<String> {
        locks::lock(&self.notices).clone()
    }

    pub(super) fn note_removed(&self, removed: &Removal) -> Result<()> {
        let mut records = self.records();
        self.commit(&mut records, Record::Removed(removed.clone()))
    }

    pub(super) fn note_restored(&self, id: BlobId) -> Result<()> {
        let mut records = self.records();
        if !self.ledger().is_removed(id) {
            return Ok(());
        }
        self.commit(&mut records, Record::Restored(id))
    }

    pub(super) fn note_departed(&self, departures: &[Departure]) -> Result<()> {
        let mut records = self.records();
        let new: Vec<Departure> = {
            let ledger = self.ledger();
            let new = departures.iter();
            let new = new.filter(|departure| !ledger.departures.knows(departure));
            new.copied().collect()
        };
        let mut parts = new.chunks(DEPARTURES_IN_A_RECORD);
        parts.try_for_each(|part| self.commit(&mut records, Record::Departed(part.to_vec())))
    }

    pub(super) fn is_removed(&self, id: BlobId) -> bool {
        self.ledger().is_removed(id)
    }

    pub(super) fn removed_as(&self, versions: &[VersionId]) -> Option<BlobId> {
        self.ledger().removed_as(versions)
    }

    pub(super) fn is_removed_ancestor(&self, name: BlobName, lineage: Lineage) -> bool {
        self.ledger().is_ancestor(name, lineage)
    }

    pub(super) fn all(&self) -> Vec<Removal> {
        self.ledger().removals().cloned().collect()
    }

    pub(super) fn replaced_at(
        &self,
        versions: &[VersionId],
        lineage: Lineage,
    ) -> Option<Timestamp> {
        let ledger = self.ledger();
        let mut versions = versions.iter();
        versions.find_map(|version| ledger.departures.replaced_at(*version, lineage))
    }

    pub(super) fn names_of(&self, versions: &[VersionId], lineage: Lineage) -> Vec<BlobName> {
        let ledger = self.ledger();
        let versions = versions.iter();
        let names = versions.flat_map(|version| ledger.departures.names(*version, lineage));
        names.collect()
    }

    pub(super) fn version_called(&self, name: BlobName, lineage: Lineage) -> Option<VersionId> {
        self.ledger().departures.called(name, lineage)
    }

    /// Tells whether an unfinished intent is to publish a blob.
    pub(super) fn is_awaited(&self, name: BlobName) -> bool {
        self.ledger().is_awaited(name)
    }

    pub(super) fn unfinished(&self) -> Vec<(IntentId, Intent)> {
        let ledger = self.ledger();
        let intents = ledger.intents();
        intents.map(|(id, intent)| (id, intent.clone())).collect()
    }

    /// Brings the beginning of an intent to the disk.
    pub(super) fn begin(&self, intent: &Intent) -> Result<IntentId> {
        let mut records = self.records();
        let id = self.ledger().next_intent();
        self.commit(&mut records, Record::Begin(id, intent.clone()))?;
        Ok(id)
    }

    /// Brings the end of an intent to the disk, and returns it; `None` if it is not unfinished.
    pub(super) fn finish(&self, id: IntentId) -> Result<Option<Intent>> {
        let mut records = self.records();
        let Some(intent) = self.ledger().intent(id).cloned() else {
            return Ok(None);
        };
        self.commit(&mut records, Record::Finish(id))?;
        Ok(Some(intent))
    }

    /// Tells whether the log could not be read, so that nobody knows which intents it has.
    pub(super) fn is_refused(&self) -> bool {
        matches!(&*self.records(), Records::Refused(..))
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

    /// Rewrites the log if that is worth it. A failure costs only space.
    fn compact(&self, journal: &mut Journal) {
        if !journal.is_worth_rewriting() {
            return;
        }
        self.ledger_mut().forget_old(Timestamp::now());
        if let Err(error) = journal.rewrite(&self.ledger()) {
            locks::lock(&self.notices).push(format!(
                "the log of removals could not be made smaller: {error}"
            ));
        }
    }

    /// The sum of the records in force. Not to be held while the disk is waited for.
    fn ledger(&self) -> RwLockReadGuard<'_, Ledger> {
        locks::read(&self.ledger)
    }

    fn ledger_mut(&self) -> RwLockWriteGuard<'_, Ledger> {
        locks::write(&self.ledger)
    }

    fn records(&self) -> MutexGuard<'_, Records> {
        locks::lock(&self.records)
    }
}

/// Tells whether a failure is about my key, which may work on another day.
fn is_about_keys(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::NoKey | Kind::KeyExpired | Kind::KeyRevoked | Kind::KeyRejected
    )
}
