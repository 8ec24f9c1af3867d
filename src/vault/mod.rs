//! The store seen through my keys: which documents there are, their contents, their readers.
//!
//! The vault reads blobs, opens them, judges them by the pins and keeps the documents that they
//! make; it seals and publishes versions for the view. It knows audiences and paths as data but
//! makes no directory and no name of the view.
//!
//! It is built of parts, each of which has one state or none, and which stand on each other in one
//! order (`tests/layering.rs`):
//!
//! ```text
//! audience, judge, documents, describe   facts and people become a version of a document
//! learn                                  a blob becomes facts
//! changes, known                         all that is known at a moment, and its changes
//! history/{keep,facts}, durability       a note is kept, then its replaced blob is unlinked
//! ```
//!
//! [`Vault`] owns the parts. Its operations name the parts and never each other: `scan` takes the
//! store in, `keys` the certificates, `publish` places a version, `removals` takes one away, `history`
//! finds old ones again, `rescue` keeps drafts, `notices` says what people should look at.
//!
//! The order of the locks is in `ranks`; a debug build checks it. Files are opened with no lock held,
//! by threads of their own where there are any (see `scan::openings`).

mod audience;
mod changes;
mod describe;
mod disk;
mod documents;
mod durability;
mod file_clock;
mod history;
mod judge;
mod keys;
mod known;
mod learn;
mod notices;
mod publish;
mod ranks;
mod removals;
mod reports;
mod rescue;
mod scan;
mod software;
mod state_key;
mod wakeup;
mod worker;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub use audience::{Audience, Groups, People, Who};
pub use changes::{ChangeReader, Changes};
pub use documents::{DocKey, Document, Head, PRIVATE_RECIPIENTS, Unreadable, Version};
pub use history::PastVersion;
pub use judge::{Placement, Vouched};
pub use keys::KEY_FILE_LIMIT;
pub use publish::{Batch, Publication, Published};
pub use rescue::Rescued;
pub use scan::ThreadClock;
pub use state_key::StateKey;
pub use worker::Worker;

use crate::contacts::{Contacts, Trust};
use crate::error::{Error, Kind, Result};
use crate::ids::{BlobKind, DocId, Fingerprint, Folder, VersionId};
use crate::locks::{Guard, Ranked};
use crate::openpgp::{Identity, Limits, Role};
use crate::plaintext::{Plaintext, SpillArea};
pub use crate::state::Limits as HistoryLimits;
use crate::state::State;
use crate::store::{Change, FileName, Space, Store, Watch};
use crate::vault::durability::PendingReplacements;
use crate::vault::history::facts::FoundFacts;
use crate::vault::keys::claims::called;
use crate::vault::keys::folder::KeyFolder;
use crate::vault::known::store_file::StoreFile;
use crate::vault::known::{Known, slot_of};
use crate::vault::learn::{Learner, unreadable};
use crate::vault::reports::{Lasting, Reports};
use crate::vault::scan::progress::Progress;

/// How a vault behaves; see `dds-mount(1)` for the configuration that sets it.
#[derive(Clone, Debug)]
pub struct Options {
    /// Largest content of one file, in bytes.
    pub max_file_size: u64,
    /// When new certificates are pinned.
    pub trust: Trust,
    /// Blobs name their recipients' key ids.
    pub named_recipients: bool,
    /// Configured names of audiences.
    pub groups: Groups,
    /// The place for contents that are too large for RAM; without it all are in RAM.
    pub spill: Option<Arc<SpillArea>>,
    /// The limits of the history of notes.
    pub history: HistoryLimits,
    /// A file that is still no whole OpenPGP message after this time is reported.
    pub report_incomplete: Duration,
    /// Documents in the log of changes. A reader that lags behind more of them compares all.
    pub change_log: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            max_file_size: Limits::default().max_content,
            trust: Trust::FirstSight,
            named_recipients: false,
            groups: Groups::default(),
            spill: None,
            history: HistoryLimits::default(),
            report_incomplete: Duration::from_secs(60),
            // A small store is in it as a whole.
            change_log: 1 << 14,
        }
    }
}

/// An unlocked store.
pub struct Vault {
    store: Arc<dyn Store>,
    /// The memory outside the store.
    memory: Arc<State>,
    /// The first one signs, and there is one; all of them decrypt.
    identities: Arc<[Identity]>,
    options: Options,
    learner: Learner,
    replacements: Arc<PendingReplacements>,
    found: FoundFacts,
    progress: Progress,
    reports: Reports,
    contacts: Ranked<Contacts>,
    refreshing: Ranked<KeyFolder>,
    /// Counts refreshes by their beginnings: a caller that waited for a later one need not scan.
    begun: AtomicU64,
    known: Ranked<Known>,
}

impl Vault {
    /// Opens a store with unlocked identities, the first signer of which signs, and reads all of it.
    ///
    /// # Errors
    /// Those of [`Vault::new`] and of the first [`Vault::refresh`].
    pub fn open(
        store: Arc<dyn Store>,
        memory: State,
        identities: Vec<Identity>,
        contacts: Contacts,
        options: Options,
    ) -> Result<Vault> {
        let vault = Self::new(store, memory, identities, contacts, options)?;
        vault.refresh()?;
        Ok(vault)
    }

    /// Opens a store with unlocked identities, the first signer of which signs. Nothing that others put
    /// there is read yet: only the pins tell the people whom I know.
    ///
    /// # Errors
    /// `NoKey` without an identity that signs; `BadConfig` if a group has a contact's name; any error of saving
    /// pins.
    pub fn new(
        store: Arc<dyn Store>,
        memory: State,
        identities: Vec<Identity>,
        contacts: Contacts,
        options: Options,
    ) -> Result<Vault> {
        let mut identities = identities;
        identities.sort_by_key(|one| one.role() != Role::Signer);
        if identities.first().map(Identity::role) != Some(Role::Signer) {
            return Err(Error::new(Kind::NoKey, "no secret key"));
        }
        let mine = called(&identities);
        let people = Arc::new(People::new(mine, &contacts, options.groups.clone()));
        let memory = Arc::new(memory);
        let identities: Arc<[Identity]> = identities.into();
        let replacements = PendingReplacements::new(Arc::clone(&store), Arc::clone(&memory));
        let vault = Vault {
            learner: Learner::new(
                Arc::clone(&store),
                Arc::clone(&identities),
                options.max_file_size,
                options.spill.clone(),
            ),
            replacements: Arc::new(replacements),
            found: FoundFacts::default(),
            progress: Progress::default(),
            reports: Reports::default(),
            contacts: Ranked::new(ranks::CONTACTS, contacts),
            refreshing: Ranked::new(ranks::REFRESHING, KeyFolder::default()),
            begun: AtomicU64::new(0),
            known: Ranked::new(
                ranks::KNOWN,
                Known::new(Arc::clone(&memory), people, options.change_log),
            ),
            store,
            memory,
            identities,
            options,
        };
        if let Err(error) = vault.memory.history().set_limits(vault.options.history) {
            let sentence = error.context("the history of notes").to_string();
            vault.reports.report(sentence, Lasting::Mount);
        }
        if let Err(error) = vault.complete_intents() {
            // The next start tries again; everything in the store can be read until then.
            vault.reports.report(error.to_string(), Lasting::Mount);
        }
        vault.refresh_keys(&mut vault.refreshing.lock(), None)?;
        let people = vault.people();
        let mut groups = vault.options.groups.names();
        if let Some(both) = groups.find(|group| people.by_name(group.as_str()).is_some()) {
            let sentence = format!("{both} is a contact and cannot be the name of a group");
            return Err(Error::new(Kind::BadConfig, sentence));
        }
        drop(groups);
        Ok(vault)
    }

    /// How the vault was asked to behave.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Returns everybody I know at this moment.
    pub fn people(&self) -> Arc<People> {
        Arc::clone(&self.known().people)
    }

    /// Fingerprints of my keys, the signing one first.
    pub fn my_fingerprints(&self) -> Vec<Fingerprint> {
        self.identities.iter().map(Identity::fingerprint).collect()
    }

    /// Looks at the whole store and takes in all changes since the last look, or, where threads are
    /// at work in [`Vault::open_files`], those that they open at little cost.
    ///
    /// # Errors
    /// `Io` when no folder can be listed or pins cannot be saved. The contents of a single file or
    /// folder are never an error.
    pub fn refresh(&self) -> Result<()> {
        let asked = self.begun.load(Ordering::SeqCst);
        let mut key_folder = self.refreshing.lock();
        if self.begun.load(Ordering::SeqCst) > asked {
            return Ok(()); // A whole refresh began after we were asked.
        }
        self.begun.fetch_add(1, Ordering::SeqCst);
        self.scan(&mut key_folder)
    }

    /// Returns the documents that changed since this reader's last call. The changes of a document
    /// that is being published come after its [`Published`] is dropped.
    pub fn changes(&self, reader: &mut ChangeReader) -> Changes {
        self.known().changes_for(reader)
    }

    /// Returns all known versions of a document, oldest first.
    pub fn versions(&self, key: &DocKey) -> Vec<Arc<Version>> {
        let known = self.known();
        let document = known.documents.get(key);
        document.map_or_else(Vec::new, |document| document.versions().to_vec())
    }

    /// Returns the versions that a head replaced and that are still there, oldest first.
    pub fn superseded_by(&self, head: &Head) -> Vec<Arc<Version>> {
        let known = self.known();
        let Some(document) = known.documents.get(&head.version.key) else {
            return Vec::new();
        };
        let by_blob = head.blobs().flat_map(|blob| document.replaced_by(blob));
        let replaced: HashSet<VersionId> = by_blob.map(|version| version.id).collect();
        let versions = document.versions().iter();
        let versions = versions.filter(|version| replaced.contains(&version.id));
        versions.cloned().collect()
    }

    /// Tells whether a file is known as it is now, or is known not to be there.
    pub fn is_current(&self, folder: Folder, name: &FileName) -> bool {
        let now = self.store.stamp(folder, name);
        let known = self.known();
        let file = known.files.get(&(folder, name.clone()));
        match (now, file.map(|file| file.stamp)) {
            (Ok(now), Some(known)) => now.is_same_file(&known),
            (Err(error), None) => error.kind() == Kind::NotFound,
            (Ok(_), None) | (Err(_), Some(_)) => false,
        }
    }

    /// Tells whether a version's blob is still in the store, as far as known.
    pub fn has(&self, version: &Version) -> bool {
        self.known().has(version)
    }

    /// Returns a document as it is known now.
    pub fn document(&self, key: &DocKey) -> Option<Document> {
        self.known().documents.get(key).cloned()
    }

    /// Makes the id of a new document.
    pub fn new_doc_id(&self) -> DocId {
        let mut random = [0; 16];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
            .expect("the kernel always has random numbers after boot");
        DocId::from_random(random)
    }

    /// Returns the key of a document of mine.
    pub fn doc_key(&self, kind: BlobKind, audience: &Audience, doc: DocId) -> DocKey {
        let me = self.signer().fingerprint();
        DocKey::Placed {
            kind,
            audience: audience.clone(),
            doc,
            signer: (kind == BlobKind::Message).then_some(me),
        }
    }

    /// Makes an empty content, for a draft.
    pub fn new_content(&self) -> Plaintext {
        self.options
            .spill
            .as_ref()
            .map_or_else(Plaintext::new, Plaintext::spilling)
    }

    /// Returns a version's content.
    ///
    /// # Errors
    /// `NotFound` if the blob is gone or replaced, `Damaged` or `TooLarge` if it cannot be shown,
    /// `Io` if it cannot be read.
    pub fn content(&self, version: &Version) -> Result<Arc<Plaintext>> {
        if let Some(why) = version.unreadable {
            return Err(unreadable(version, why));
        }
        if let Some(content) = self.learner.recent(&version.file_id) {
            return Ok(content);
        }
        let (facts, certificates) = {
            let known = self.known();
            let file = known.files.get(&slot_of(version));
            let facts = file.and_then(StoreFile::facts).cloned();
            (facts, Arc::clone(&known.certificates))
        };
        let session_key = facts.as_ref().map(|facts| &facts.session_key);
        let content = self.learner.content(version, &certificates, session_key)?;
        content.ok_or_else(|| {
            self.known().forget(&slot_of(version));
            let gone = format!("blob {} was replaced in the store", version.blob);
            Error::new(Kind::NotFound, gone)
        })
    }

    /// Makes durable all that was published, and unlinks all that it replaced, before it returns.
    ///
    /// # Errors
    /// `Io` or `NoSpace` as the disk says; replaced blobs then stay.
    pub fn make_durable(&self) -> Result<()> {
        self.replacements.make_durable()
    }

    /// Begins to make publications durable in the background, within a second of each.
    ///
    /// # Errors
    /// `Io` if no thread can be started.
    pub fn flush_in_background(&self) -> Result<Worker> {
        Arc::clone(&self.replacements).flush_in_background()
    }

    /// The limits of the key that I write with, a sentence each.
    pub fn shortcomings(&self) -> Vec<String> {
        self.signer().shortcomings().to_vec()
    }

    /// Forgets everything that was opened; all that was published is durable if this returns `Ok`.
    ///
    /// # Errors
    /// As [`Vault::make_durable`].
    pub fn close(&self) -> Result<()> {
        let durable = self.make_durable();
        self.forget_contents(Duration::ZERO);
        durable
    }

    /// Forgets contents that nobody asked for during this time.
    pub fn forget_contents(&self, unused: Duration) {
        self.learner.drop_unused(unused);
    }

    /// Begins to call `tell` for each change in the store's folder, from another thread.
    ///
    /// # Errors
    /// As [`Store::watch`].
    pub fn watch(&self, tell: Box<dyn Fn(Change) + Send>) -> Result<Box<dyn Watch>> {
        self.store.watch(tell)
    }

    /// Returns how much room the store's disk has.
    ///
    /// # Errors
    /// As [`Store::space`].
    pub fn space(&self) -> Result<Space> {
        self.store.space()
    }

    /// The identity that I write as.
    fn signer(&self) -> &Identity {
        &self.identities[0]
    }

    fn known(&self) -> Guard<'_, Known> {
        self.known.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openpgp::{Profile, generate};
    use crate::store::MemoryStore;

    fn opened(identities: Vec<Identity>) -> Result<Vault> {
        let store = Arc::new(MemoryStore::new());
        let contacts = Contacts::in_memory();
        let options = Options::default();
        Vault::open(store, State::in_memory(), identities, contacts, options)
    }

    #[test]
    fn the_signer_signs_wherever_it_stands_and_a_former_identity_never() {
        let identity = |user_id: &str| {
            let made = generate(user_id, None, Profile::Compatible).unwrap();
            Identity::unlock(&made.secret, None).unwrap()
        };
        let signer = identity("Me <me@example.org>");
        let former = identity("Me, once <old@example.org>").into_former();
        let [mine, old] = [signer.fingerprint(), former.fingerprint()];
        let vault = opened(vec![former, signer]).unwrap();
        assert_eq!(vault.my_fingerprints(), [mine.clone(), old.clone()]);
        assert_eq!(*vault.people().me(), mine);
        assert_eq!(vault.people().owner(&old), Who::Me);
        let only_former = identity("Me, once <old@example.org>").into_former();
        for none in [vec![only_former], Vec::new()] {
            let refused = opened(none).map(drop).unwrap_err();
            assert_eq!(refused.kind(), Kind::NoKey);
        }
    }
}
