//! The sum of the records: removals in force, other departures, and unfinished intents.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::departures::Departures;
use super::record::{Intent, IntentId, Record, Removal};
use crate::ids::{BlobId, BlobName, Timestamp, VersionId};
use crate::state::lineage::Lineage;
use crate::state::sealed_log::sealed_length;

/// Seconds for which a removal is remembered: two years of 365 days.
///
/// Longer than peers can be away and still bring a message back: Syncthing itself forgets
/// deletions after 455 days, and then takes a stale peer's file for a new one.
pub(super) const REMEMBERED: i64 = 2 * 365 * 24 * 60 * 60;

/// Departures in one record, which has to be shorter than the longest possible one.
pub(super) const DEPARTURES_IN_A_RECORD: usize = 1000;
/// Bytes of the log that one of them takes.
const WENT_LENGTH: u64 = 200;

/// The sum of all records.
#[derive(Default)]
pub(super) struct Ledger {
    removals: HashMap<BlobId, Removal>,
    /// The removed versions by their ids.
    versions: HashMap<VersionId, BlobId>,
    /// Versions that left the store without being removed here.
    pub(super) departures: Departures,
    /// The versions that removed ones replaced.
    ancestors: HashSet<(Lineage, BlobName)>,
    intents: BTreeMap<IntentId, Intent>,
    /// The highest id of an intent so far.
    last: u64,
    /// Records of newer versions.
    unknown: Vec<Vec<u8>>,
}

impl Ledger {
    /// Takes one more record. Returns how many bytes of the log say nothing any more.
    pub(super) fn apply(&mut self, record: Record) -> u64 {
        let size = |record: &Record| sealed_length(&record.encode());
        match record {
            Record::Removed(mut removal) => {
                let id = removal.id;
                let old = self.removals.remove(&id);
                if let Some(old) = old.as_ref().filter(|old| old.lineage == removal.lineage) {
                    let new: HashSet<_> = removal.replaces.iter().copied().collect();
                    let more = old.replaces.iter().filter(|name| !new.contains(name));
                    removal.replaces.extend(more);
                }
                let names = removal.replaces.iter();
                self.ancestors
                    .extend(names.map(|name| (removal.lineage, *name)));
                self.versions
                    .extend(removal.versions.iter().map(|version| (*version, id)));
                self.removals.insert(id, removal);
                old.map_or(0, |old| size(&Record::Removed(old)))
            }
            Record::Restored(id) => {
                // Files of the same version are one, and were removed together.
                let old = self.removals.get(&id);
                let versions = old.map_or_else(Vec::new, |old| old.versions.clone());
                let (old, kept) =
                    std::mem::take(&mut self.removals)
                        .into_iter()
                        .partition(|(other, removal)| {
                            let mut also = removal.versions.iter();
                            *other == id || also.any(|version| versions.contains(version))
                        });
                self.removals = kept;
                self.count();
                let old: HashMap<BlobId, Removal> = old;
                let old = old.into_values().map(Record::Removed);
                size(&Record::Restored(id)) + old.map(|old| size(&old)).sum::<u64>()
            }
            Record::Departed(all) => {
                let void = all
                    .into_iter()
                    .map(|departure| self.departures.add(departure));
                void.sum::<usize>() as u64 * WENT_LENGTH
            }
            Record::Begin(id, intent) => {
                self.last = self.last.max(id.0);
                let old = self.intents.insert(id, intent);
                old.map_or(0, |old| size(&Record::Begin(id, old)))
            }
            Record::Finish(id) => {
                let own = size(&Record::Finish(id));
                let begun = self.intents.remove(&id);
                own + begun.map_or(0, |intent| size(&Record::Begin(id, intent)))
            }
            Record::Unknown(bytes) => {
                self.unknown.push(bytes);
                0
            }
        }
    }

    /// Forgets removals of more than two years ago.
    pub(super) fn forget_old(&mut self, now: Timestamp) {
        let before = self.removals.len();
        self.removals.retain(|_, removal| !is_old(removal, now));
        if self.removals.len() < before {
            self.count();
        }
        let oldest = now.seconds().saturating_sub(REMEMBERED);
        self.departures
            .forget_before(Timestamp::new(oldest, 0).unwrap_or_default());
    }

    /// Bytes of the log that [`Ledger::forget_old`] would make void.
    pub(super) fn old(&self, now: Timestamp) -> u64 {
        let old = self.removals.values().filter(|found| is_old(found, now));
        old.map(|removal| sealed_length(&Record::Removed(removal.clone()).encode()))
            .sum()
    }

    /// The fewest records that add up to the same.
    pub(super) fn records(&self) -> impl Iterator<Item = Vec<u8>> {
        let removals = self.removals.values();
        let intents = self.intents.iter();
        removals
            .map(|removal| Record::Removed(removal.clone()).encode())
            .chain(intents.map(|(id, intent)| Record::Begin(*id, intent.clone()).encode()))
            .chain(self.departure_records())
            .chain(self.unknown.iter().cloned())
    }

    fn departure_records(&self) -> Vec<Vec<u8>> {
        let all = self.departures.all();
        let records = all.chunks(DEPARTURES_IN_A_RECORD);
        records
            .map(|some| Record::Departed(some.to_vec()).encode())
            .collect()
    }

    pub(super) fn is_removed(&self, id: BlobId) -> bool {
        self.removals.contains_key(&id)
    }

    /// A removed blob that is one of these versions.
    pub(super) fn removed_as(&self, versions: &[VersionId]) -> Option<BlobId> {
        let mut known = versions.iter();
        known
            .find_map(|version| self.versions.get(version))
            .copied()
    }

    pub(super) fn is_ancestor(&self, name: BlobName, lineage: Lineage) -> bool {
        self.ancestors.contains(&(lineage, name))
    }

    pub(super) fn removals(&self) -> impl Iterator<Item = &Removal> {
        self.removals.values()
    }

    pub(super) fn intent(&self, id: IntentId) -> Option<&Intent> {
        self.intents.get(&id)
    }

    pub(super) fn intents(&self) -> impl Iterator<Item = (IntentId, &Intent)> {
        self.intents.iter().map(|(id, intent)| (*id, intent))
    }

    /// Returns an id that no intent has, above those of all that were begun before.
    pub(super) fn next_intent(&self) -> IntentId {
        IntentId(self.last.wrapping_add(1))
    }

    /// Tells whether an unfinished intent is to publish a blob.
    pub(super) fn is_awaited(&self, name: BlobName) -> bool {
        let mut intents = self.intents.values();
        intents.any(|intent| intent.publish.contains(&name))
    }

    fn count(&mut self) {
        let versions = self.removals.values().flat_map(|removal| {
            let versions = removal.versions.iter();
            versions.map(|version| (*version, removal.id))
        });
        self.versions = versions.collect();
        let removals = self.removals.values();
        self.ancestors = removals
            .flat_map(|removal| {
                let names = removal.replaces.iter();
                names.map(|name| (removal.lineage, *name))
            })
            .collect();
    }
}

fn is_old(removal: &Removal, now: Timestamp) -> bool {
    removal.at.seconds() < now.seconds().saturating_sub(REMEMBERED)
}
