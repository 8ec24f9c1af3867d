//! All that is known of the store at a moment: its files, their documents, the people and the
//! certificates by which they were judged.
//!
//! [`Known`] is the one state behind the lock `known` of a vault. Its methods do no I/O and no
//! cryptography, so the lock is never held for long.

pub(in crate::vault) mod store_file;
mod taken;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::ids::{Fingerprint, Folder, VersionId};
use crate::openpgp::{CertIndex, Certificate, ChangedKeys};
use crate::state::State;
use crate::store::{Entry, FileName};
use crate::vault::audience::People;
use crate::vault::changes::{ChangeLog, ChangeReader, Changes};
use crate::vault::describe::describe;
use crate::vault::documents::{DocKey, Document, Version};
use crate::vault::known::store_file::{Holds, StoreFile};
use crate::vault::known::taken::Taken;
use crate::vault::wakeup::Wakeup;

/// A file's place in the store.
pub(in crate::vault) type Slot = (Folder, FileName);

/// The place of a version's file.
pub(in crate::vault) fn slot_of(version: &Version) -> Slot {
    (version.folder(), version.entry.name.clone())
}

/// What is known of the store at a moment.
pub(in crate::vault) struct Known {
    pub(in crate::vault) files: HashMap<Slot, StoreFile>,
    pub(in crate::vault) documents: HashMap<DocKey, Document>,
    changes: ChangeLog,
    /// The documents that are being published, with the number of publications of each.
    in_flight: HashMap<DocKey, usize>,
    /// Blobs that a publication of another document replaced, until they are unlinked.
    retired: HashMap<Slot, VersionId>,
    pub(in crate::vault) taken: Taken,
    /// The memory outside the store; asking it costs no disk.
    memory: Arc<State>,
    pub(in crate::vault) people: Arc<People>,
    pub(in crate::vault) certificates: Arc<CertIndex>,
    /// The same certificates by their primary keys.
    pub(in crate::vault) recipients: HashMap<Fingerprint, Certificate>,
    /// Sentences about `keys/`, for `.dds/status`.
    pub(in crate::vault) key_notices: Vec<String>,
    /// The people to whom I wrote or whose blobs were accepted, until this is noted in their pins.
    pub(in crate::vault) in_touch: HashSet<Fingerprint>,
    /// Folders that the last refresh could not list, and why.
    pub(in crate::vault) broken: BTreeMap<&'static str, String>,
    /// Wakes the history when a file arrived or vanished.
    pub(in crate::vault) wakeup: Arc<Wakeup>,
}

impl Known {
    /// Knows these people, and nothing of the store. The log of changes has room for `change_log`
    /// documents.
    pub(in crate::vault) fn new(
        memory: Arc<State>,
        people: Arc<People>,
        change_log: usize,
    ) -> Self {
        Known {
            files: HashMap::new(),
            documents: HashMap::new(),
            changes: ChangeLog::of_length(change_log),
            in_flight: HashMap::new(),
            retired: HashMap::new(),
            taken: Taken::default(),
            memory,
            people,
            certificates: Arc::default(),
            recipients: HashMap::new(),
            key_notices: Vec::new(),
            in_touch: HashSet::new(),
            broken: BTreeMap::new(),
            wakeup: Arc::default(),
        }
    }

    /// Returns the changes that a reader has not had yet; those of documents that are being
    /// published come later, after the publisher recorded its version for the file that it has open.
    pub(in crate::vault) fn changes_for(&self, reader: &mut ChangeReader) -> Changes {
        let is_in_flight = |key: &DocKey| self.in_flight.contains_key(key);
        self.changes.read(reader, &self.documents, is_in_flight)
    }

    /// Notes that a publication of a document begins.
    pub(in crate::vault) fn take_off(&mut self, key: &DocKey) {
        *self.in_flight.entry(key.clone()).or_default() += 1;
    }

    /// Notes that a publication of a document ended.
    pub(in crate::vault) fn land(&mut self, key: &DocKey) {
        if let Some(count) = self.in_flight.get_mut(key) {
            *count -= 1;
            if *count == 0 {
                self.in_flight.remove(key);
            }
        }
    }

    /// Returns the version that a file is known to hold.
    pub(in crate::vault) fn version_at(&self, slot: &Slot) -> Option<&Arc<Version>> {
        self.files.get(slot).and_then(StoreFile::version)
    }

    /// Tells whether a version's file is known to hold it.
    pub(in crate::vault) fn has(&self, version: &Version) -> bool {
        let there = self.version_at(&slot_of(version));
        there.is_some_and(|there| there.id == version.id)
    }

    /// Tells whether a listed file is new, changed, or may have changed without a trace.
    pub(in crate::vault) fn must_read(&self, entry: &Entry) -> bool {
        let known = self.files.get(&(entry.folder, entry.name.clone()));
        !known.is_some_and(|file| file.is_still(entry))
    }

    /// The versions of a document that one of them replaces and that are still there.
    pub(in crate::vault) fn replaced_by(&self, version: &Version) -> Vec<Arc<Version>> {
        let document = self.documents.get(&version.key);
        document.map_or_else(Vec::new, |document| document.replaced_by(version))
    }

    /// Other files of the same version.
    pub(in crate::vault) fn twins(&self, version: &Version) -> Vec<Arc<Version>> {
        let document = self.documents.get(&version.key).into_iter();
        let twins = document.flat_map(|document| document.twins(version));
        twins.cloned().collect()
    }

    /// Takes in a file that a refresh found and judged.
    pub(in crate::vault) fn take_in(&mut self, entry: Entry, mut file: StoreFile) {
        let slot = (entry.folder, entry.name.clone());
        if self.taken.has(&file) {
            return;
        }
        if let Some(version) = file.version() {
            // Our own publication, found by a refresh before its publisher recorded it.
            if version.mine && self.in_flight.contains_key(&version.key) {
                return;
            }
            if self.retired.get(&slot) == Some(&version.id) {
                return;
            }
        }
        let before = self.files.get(&slot).map(|file| &file.holds);
        if let (Holds::Incomplete(since), Some(Holds::Incomplete(first))) =
            (&mut file.holds, before)
        {
            *since = *first;
        }
        self.insert(entry, file);
    }

    /// Makes a file part of the knowledge: a publication that was just placed, or a file that a
    /// refresh found.
    pub(in crate::vault) fn insert(&mut self, entry: Entry, file: StoreFile) {
        let slot = (entry.folder, entry.name);
        self.forget(&slot);
        if let Some(version) = file.version() {
            let version = Arc::clone(version);
            self.wakeup.ring();
            if let Some(audience) = version.audience() {
                let written_to = audience.members().filter(|_| version.mine);
                self.in_touch
                    .extend(written_to.chain(&version.signer).cloned());
            }
            self.changes.add(&version.key);
            let document = self.documents.entry(version.key.clone()).or_default();
            document.add(Arc::clone(&version));
            self.name_again(&version);
        }
        self.files.insert(slot, file);
    }

    /// Takes over the remembered names of a version, if it is there.
    pub(in crate::vault) fn name_again(&mut self, version: &Version) {
        let Some(document) = self.documents.get_mut(&version.key) else {
            return;
        };
        if document.has(version.id) {
            let names = self.memory.names_of(&version.ids, version.key.lineage());
            if document.add_names(version.id, names) {
                self.changes.add(&version.key);
            }
        }
    }

    /// Judges all blobs anew by the present pins. Returns the entries of the blobs whose facts may
    /// be others with the changed certificates: they must be opened again.
    pub(in crate::vault) fn judge_again(&mut self, changed: &ChangedKeys) -> Vec<Entry> {
        let people = Arc::clone(&self.people);
        let (mut again, mut judged) = (Vec::new(), Vec::new());
        for file in self.files.values() {
            let Some(version) = file.version() else {
                continue;
            };
            if file.is_concerned(changed) {
                again.push(version.entry.clone());
            } else if let Some(facts) = file.facts() {
                judged.push((file.stamp, Arc::clone(facts), Arc::clone(version)));
            }
        }
        for (stamp, facts, old) in judged {
            let version = describe(old.entry.clone(), old.blob, old.file_id, &facts, &people);
            let file = StoreFile::of_blob(stamp, facts, Arc::new(version));
            self.take_in(old.entry.clone(), file);
        }
        again
    }

    /// Hides a blob that a publication replaced and that is about to be unlinked, where its
    /// replacement is another document and so cannot hide it itself.
    pub(in crate::vault) fn retire(&mut self, version: &Version) {
        self.forget_version(version);
        self.taken.end(version.id);
        self.retired.insert(slot_of(version), version.id);
    }

    /// Notes that a retired blob is unlinked: only a listing from before may still have it.
    pub(in crate::vault) fn unlinked(&mut self, version: &Version) {
        if self.retired.remove(&slot_of(version)).is_some() {
            self.taken.end(version.id);
        }
    }

    /// Forgets the retired blobs of a folder whose files are not in a listing of it.
    pub(in crate::vault) fn keep_retired(&mut self, folder: Folder, names: &HashSet<FileName>) {
        self.retired
            .retain(|(of, name), _| *of != folder || names.contains(name));
    }

    /// Forgets a version, but not another one that has taken its file meanwhile.
    pub(in crate::vault) fn forget_version(&mut self, version: &Version) {
        if self.has(version) {
            self.forget(&slot_of(version));
        }
    }

    /// Stops showing a file that stays in the store.
    pub(in crate::vault) fn hide(&mut self, slot: &Slot) {
        if let Some(stamp) = self.files.get(slot).map(|file| file.stamp) {
            self.forget(slot);
            self.files.insert(slot.clone(), StoreFile::hidden(stamp));
        }
    }

    /// Forgets a file that is gone.
    pub(in crate::vault) fn forget(&mut self, slot: &Slot) {
        let Some(file) = self.files.remove(slot) else {
            return;
        };
        let Some(version) = file.version() else {
            return;
        };
        self.wakeup.ring();
        self.changes.add(&version.key);
        if let Some(document) = self.documents.get_mut(&version.key) {
            document.remove(&version.entry);
            if document.is_empty() {
                self.documents.remove(&version.key);
            }
        }
    }

    /// The notes in the store that the history keeps when they leave it.
    pub(in crate::vault) fn keepable(&self) -> Vec<Arc<Version>> {
        let versions = self.files.values().filter_map(StoreFile::version);
        let notes = versions.filter(|version| version.keepable);
        notes.cloned().collect()
    }
}
