//! The store seen through my keys: which documents there are, what they say, who may read them.
//!
//! The vault reads blobs, opens them, judges them by the pins and keeps the documents that they
//! make; it seals and publishes what the view wants kept. It knows audiences and paths as data
//! but makes no directory and no name of the view.
//!
//! Locks: `refreshing` is taken before `state`; `state` is never held during cryptography or
//! disk I/O. `contacts` is only taken by whoever holds `refreshing`. Files are opened with neither
//! held, by threads of their own where there are any (see `scan::openings`).

mod audience;
mod documents;
mod durability;
mod history;
mod judge;
mod keys;
mod notices;
mod publish;
mod removals;
mod rescue;
mod scan;
mod state_key;
mod worker;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Read;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lru::LruCache;

pub use audience::{Audience, Groups, People, Who};
pub use documents::{DocKey, Document, Head, PRIVATE_RECIPIENTS, Unreadable, Version};
pub use history::Past;
pub use judge::{Place, Vouched};
pub use keys::KEY_FILE_LIMIT;
pub use publish::{Batch, Publication, Published};
pub use rescue::Rescued;
pub use scan::ThreadClock;
pub use state_key::StateKey;
pub use worker::Worker;

use crate::contacts::{Contacts, Trust};
use crate::error::{Error, Kind, Result};
use crate::ids::{BlobId, BlobKind, DocId, Fingerprint, Folder, VersionId};
use crate::openpgp::{
    self, CertIndex, Certificate, Examined, Identity, Keyring, Limits, Outcome, SessionKey,
};
use crate::plaintext::{Plaintext, SpillArea};
pub use crate::state::Limits as HistoryLimits;
use crate::store::{Entry, FileName, Stamp, Store};

/// Bytes of recently opened content that the vault keeps, so that looking at a directory and
/// then reading its files does not decrypt them twice.
const CONTENT_CACHE: usize = 16 << 20;
/// Larger contents are not kept.
const CONTENT_CACHE_ITEM: usize = 1 << 20;

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
    /// Where contents spill that are too large for RAM; without it all are in RAM.
    pub spill: Option<Arc<SpillArea>>,
    /// What is kept of notes that are replaced or removed.
    pub history: HistoryLimits,
    /// A file that is still no whole OpenPGP message after this time is reported.
    pub report_incomplete: Duration,
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
        }
    }
}

/// An unlocked store.
pub struct Vault {
    shared: Arc<durability::Shared>,
    /// What must be remembered outside the store.
    state_dir: Arc<crate::state::State>,
    past: history::find::Opened,
    /// Sentences for `.dds/status` about single blobs, newest first.
    told: Mutex<Vec<notices::Told>>,
    /// The first one signs; all of them decrypt.
    identities: Vec<Identity>,
    options: Options,
    contacts: Mutex<Contacts>,
    refreshing: Mutex<keys::folder::KeyFolder>,
    /// Counts refreshes by their beginnings, so that who waited for a later one need not scan.
    begun: AtomicU64,
    /// Everything in the store was listed once.
    listed: AtomicBool,
    /// Everything in the store was opened once, as far as it can be.
    scanned: AtomicBool,
    openings: scan::openings::Openings,
    state: Mutex<State>,
    contents: Mutex<Contents>,
}

/// What is known of the store at a moment.
struct State {
    files: HashMap<(Folder, FileName), scan::File>,
    documents: HashMap<DocKey, Document>,
    /// Documents that changed since the view last asked.
    changed: HashSet<DocKey>,
    /// Documents of which a publication is on its way, with how many.
    in_flight: HashMap<DocKey, usize>,
    /// Blobs without a document id that a publication replaced, until they are unlinked.
    retired: HashMap<(Folder, FileName), VersionId>,
    taken: removals::Taken,
    /// What must be remembered outside the store; asking it costs no disk.
    memory: Arc<crate::state::State>,
    people: Arc<People>,
    certificates: Arc<CertIndex>,
    /// The same certificates by their primary keys.
    recipients: HashMap<Fingerprint, Certificate>,
    /// Sentences about `keys/`, for `.dds/status`.
    key_notices: Vec<String>,
    /// To whom I wrote, and from whom something was accepted, since the contacts were told of it.
    in_touch: HashSet<Fingerprint>,
    /// Folders that could not be listed at the last look, and why.
    broken: BTreeMap<&'static str, String>,
    /// Rung when a file came or went.
    bell: Arc<history::keep::Bell>,
}

/// Recently opened contents, least recently used first to go.
struct Contents {
    /// With the time when each was last asked for.
    cache: LruCache<BlobId, (Arc<Plaintext>, Instant)>,
    bytes: usize,
}

impl Contents {
    fn get(&mut self, id: &BlobId) -> Option<Arc<Plaintext>> {
        let (content, used) = self.cache.get_mut(id)?;
        *used = Instant::now();
        Some(Arc::clone(content))
    }

    fn put(&mut self, id: BlobId, content: &Arc<Plaintext>) {
        let known = self.cache.put(id, (Arc::clone(content), Instant::now()));
        if known.is_none() {
            self.bytes += size_of(content);
        }
        while self.bytes > CONTENT_CACHE {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        match self.cache.pop_lru() {
            Some((_, (oldest, _))) => self.bytes -= size_of(&oldest),
            None => self.bytes = 0,
        }
    }
}

/// Bytes that a content takes. The limits are small, so it does not matter if a part is on disk.
fn size_of(content: &Plaintext) -> usize {
    usize::try_from(content.allocated()).unwrap_or(usize::MAX)
}

impl Vault {
    /// Opens a store with unlocked identities, the first of which signs, and reads all of it.
    ///
    /// # Errors
    /// As [`Vault::new`]; what the first [`Vault::refresh`] gives.
    pub fn open(
        store: Arc<dyn Store>,
        state_dir: crate::state::State,
        identities: Vec<Identity>,
        contacts: Contacts,
        options: Options,
    ) -> Result<Vault> {
        let vault = Self::new(store, state_dir, identities, contacts, options)?;
        vault.refresh()?;
        Ok(vault)
    }

    /// Opens a store with unlocked identities, the first of which signs. Nothing of what others put
    /// there is read yet: who is known is known by the pins.
    ///
    /// # Errors
    /// `NoKey` without an identity; `BadConfig` if a group has a contact's name; what saving pins
    /// gives.
    pub fn new(
        store: Arc<dyn Store>,
        state_dir: crate::state::State,
        identities: Vec<Identity>,
        contacts: Contacts,
        options: Options,
    ) -> Result<Vault> {
        if identities.is_empty() {
            return Err(Error::new(Kind::NoKey, "no secret key"));
        }
        let mine = keys::called(&identities);
        let people = Arc::new(People::new(mine, &contacts, options.groups.clone()));
        let state_dir = Arc::new(state_dir);
        let shared = Arc::new(durability::Shared::new(store, Arc::clone(&state_dir)));
        let vault = Vault {
            shared,
            state_dir: Arc::clone(&state_dir),
            past: history::find::Opened::default(),
            told: Mutex::default(),
            identities,
            options,
            contacts: Mutex::new(contacts),
            refreshing: Mutex::default(),
            begun: AtomicU64::new(0),
            listed: AtomicBool::new(false),
            scanned: AtomicBool::new(false),
            openings: scan::openings::Openings::default(),
            state: Mutex::new(State {
                files: HashMap::new(),
                documents: HashMap::new(),
                changed: HashSet::new(),
                in_flight: HashMap::new(),
                retired: HashMap::new(),
                taken: removals::Taken::default(),
                memory: state_dir,
                people,
                certificates: Arc::new(CertIndex::default()),
                recipients: HashMap::new(),
                key_notices: Vec::new(),
                in_touch: HashSet::new(),
                broken: BTreeMap::new(),
                bell: Arc::default(),
            }),
            contents: Mutex::new(Contents {
                cache: LruCache::unbounded(),
                bytes: 0,
            }),
        };
        if let Err(error) = vault.state_dir.history().set_limits(vault.options.history) {
            let sentence = error.context("the history of notes").to_string();
            vault.tell(sentence, notices::Lasting::Mount);
        }
        if let Err(error) = vault.complete_intents() {
            // It is tried again at the next start; what is there can be read until then.
            vault.tell(error.to_string(), notices::Lasting::Mount);
        }
        vault.refresh_keys(&mut lock(&vault.refreshing), None)?;
        let people = vault.people();
        let mut groups = vault.options.groups.names();
        if let Some(both) = groups.find(|group| people.by_name(group.as_str()).is_some()) {
            let sentence = format!("{both} is a contact and cannot be the name of a group");
            return Err(Error::new(Kind::BadConfig, sentence));
        }
        drop(groups);
        Ok(vault)
    }

    /// The ciphertext below.
    pub fn store(&self) -> &dyn Store {
        &*self.shared.store
    }

    /// How the vault was asked to behave.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Returns everybody I know at this moment.
    pub fn people(&self) -> Arc<People> {
        Arc::clone(&self.state().people)
    }

    /// Fingerprints of my keys, the signing one first.
    pub fn my_fingerprints(&self) -> Vec<Fingerprint> {
        self.identities.iter().map(Identity::fingerprint).collect()
    }

    /// Looks at the whole store and takes in what changed since the last look: all of it, or, where
    /// threads are at work in [`Vault::open_files`], what they open at little cost.
    ///
    /// # Errors
    /// `Io` when no folder can be listed or pins cannot be saved. What a single file or folder
    /// holds is never an error.
    pub fn refresh(&self) -> Result<()> {
        let asked = self.begun.load(Ordering::SeqCst);
        let mut key_folder = lock(&self.refreshing);
        if self.begun.load(Ordering::SeqCst) > asked {
            return Ok(()); // A whole refresh began after we were asked.
        }
        self.begun.fetch_add(1, Ordering::SeqCst);
        self.look_around(&mut key_folder)
    }

    /// Takes the documents that changed since the last call; an absent one is gone.
    pub fn take_changes(&self) -> Vec<(DocKey, Option<Document>)> {
        let mut state = self.state();
        let state = &mut *state;
        // What is being published is shown by its publisher first, under the file it has open.
        let in_flight = &state.in_flight;
        let (waiting, changed): (HashSet<_>, HashSet<_>) = std::mem::take(&mut state.changed)
            .into_iter()
            .partition(|key| in_flight.contains_key(key));
        state.changed = waiting;
        let document = |key: DocKey| {
            let document = state.documents.get(&key).cloned();
            (key, document)
        };
        changed.into_iter().map(document).collect()
    }

    /// Counts a document as changed: what was shown of it no longer stands for it.
    pub fn show_again(&self, key: &DocKey) {
        self.state().changed.insert(key.clone());
    }

    /// Returns all known versions of a document, oldest first.
    pub fn versions(&self, key: &DocKey) -> Vec<Arc<Version>> {
        let state = self.state();
        let document = state.documents.get(key);
        document.map_or_else(Vec::new, |document| document.versions().to_vec())
    }

    /// Returns the versions that a head replaced and that are still there, oldest first.
    pub fn superseded_by(&self, head: &Head) -> Vec<Arc<Version>> {
        let state = self.state();
        let Some(document) = state.documents.get(&head.version.key) else {
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
        let now = self.store().stamp(folder, name);
        let state = self.state();
        let known = state.files.get(&(folder, name.clone()));
        match (now, known.map(scan::File::stamp)) {
            (Ok(now), Some(known)) => now.is_same_file(&known),
            (Err(error), None) => error.kind() == Kind::NotFound,
            (Ok(_), None) | (Err(_), Some(_)) => false,
        }
    }

    /// Tells whether a version's blob is still in the store, as far as known.
    pub fn has(&self, version: &Version) -> bool {
        let state = self.state();
        let slot = (version.folder(), version.entry.name.clone());
        let there = state.files.get(&slot).and_then(scan::File::version);
        there.is_some_and(|there| there.id == version.id)
    }

    /// Returns a document as it is known now.
    pub fn document(&self, key: &DocKey) -> Option<Document> {
        self.state().documents.get(key).cloned()
    }

    /// Makes the id of a new document.
    pub fn new_doc_id(&self) -> DocId {
        let mut random = [0; 16];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
            .expect("the kernel always has random numbers after boot");
        DocId::from_random(random)
    }

    /// Returns the key that a document of mine has.
    pub fn doc_key(&self, kind: BlobKind, audience: &Audience, doc: DocId) -> DocKey {
        let me = self.identities[0].fingerprint();
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
        if let Some(content) = lock(&self.contents).get(&version.file_id) {
            return Ok(content);
        }
        let (facts, certificates) = {
            let state = self.state();
            let file = state
                .files
                .get(&(version.folder(), version.entry.name.clone()));
            let facts = file.and_then(scan::File::facts).cloned();
            (facts, Arc::clone(&state.certificates))
        };
        let session_key = facts.as_ref().map(|facts| &facts.session_key);
        let limits = self.limits();
        let (examined, _) = self.examine(&version.entry, &certificates, &limits, session_key)?;
        if examined.id != version.file_id {
            let slot = (version.folder(), version.entry.name.clone());
            self.state().forget(&slot);
            let gone = format!("blob {} was replaced in the store", version.blob);
            return Err(Error::new(Kind::NotFound, gone));
        }
        match examined.outcome {
            Outcome::Opened(opened) if Some(opened.facts.digest) == version.digest => {
                let content = Arc::new(opened.content);
                self.remember(version.file_id, &content);
                Ok(content)
            }
            Outcome::TooLarge => Err(unreadable(version, Unreadable::TooLarge)),
            Outcome::Refused(why) => Err(unreadable(version, Unreadable::Refused(why))),
            _ => Err(unreadable(version, Unreadable::Damaged)),
        }
    }

    fn remember(&self, id: BlobId, content: &Arc<Plaintext>) {
        if size_of(content) <= CONTENT_CACHE_ITEM {
            lock(&self.contents).put(id, content);
        }
    }

    /// Makes durable what was published, and unlinks what it replaced, before it returns.
    ///
    /// # Errors
    /// `Io` or `NoSpace` as the disk says; replaced blobs then stay.
    pub fn settle(&self) -> Result<()> {
        self.shared.settle()
    }

    /// What the key that I write with cannot do, a sentence each.
    pub fn shortcomings(&self) -> Vec<String> {
        self.identities[0].shortcomings().to_vec()
    }

    /// Begins to settle in the background, within a second of each publication.
    ///
    /// # Errors
    /// `Io` if no thread can be started.
    pub fn settle_in_background(&self) -> Result<Worker> {
        Arc::clone(&self.shared).settle_in_background()
    }

    /// Forgets everything that was opened; what was published is durable if this returns `Ok`.
    ///
    /// # Errors
    /// As [`Vault::settle`].
    pub fn close(&self) -> Result<()> {
        let settled = self.settle();
        self.forget_contents(Duration::ZERO);
        settled
    }

    /// Forgets contents that nobody asked for in this time.
    pub fn forget_contents(&self, unused: Duration) {
        let mut contents = lock(&self.contents);
        while let Some((_, (_, used))) = contents.cache.peek_lru() {
            if used.elapsed() < unused {
                break;
            }
            contents.drop_oldest();
        }
    }

    fn keyring<'a>(&'a self, certificates: &'a CertIndex) -> Keyring<'a> {
        Keyring {
            identities: &self.identities,
            certificates,
        }
    }

    /// Reads a blob from the store and opens it, with little memory whatever its size.
    fn examine(
        &self,
        entry: &Entry,
        certificates: &CertIndex,
        limits: &Limits,
        session_key: Option<&SessionKey>,
    ) -> Result<(Examined, Stamp)> {
        let file = self.store().open_blob(entry, self.blob_limit());
        let mut file = file.map_err(folder_error)?;
        let length = file.stamp().size;
        let examined = self.examine_from(&mut file, length, certificates, limits, session_key)?;
        let stamp = match examined.to_its_end {
            true => file.finish()?,
            false => file.stamp(),
        };
        Ok((examined, stamp))
    }

    fn examine_from(
        &self,
        file: &mut (dyn Read + Send + Sync),
        length: u64,
        certificates: &CertIndex,
        limits: &Limits,
        session_key: Option<&SessionKey>,
    ) -> Result<Examined> {
        let keyring = self.keyring(certificates);
        openpgp::examine(file, length, &keyring, limits, session_key)
    }

    fn limits(&self) -> Limits {
        Limits {
            max_content: self.options.max_file_size,
            spill: self.options.spill.clone(),
            ..Limits::default()
        }
    }

    /// Bytes of the largest blob that is read: armor and padding of the largest content.
    fn blob_limit(&self) -> u64 {
        self.options.max_file_size.saturating_mul(3) / 2 + (1 << 20)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

/// Says of a folder of the store that is no directory what is told of a disk that fails: in the view
/// the directory is one.
fn folder_error(error: Error) -> Error {
    match error.kind() {
        Kind::NotDirectory => Error::new(Kind::Io, error.to_string()),
        _ => error,
    }
}

/// Says why nothing of a version is shown.
fn unreadable(version: &Version, why: Unreadable) -> Error {
    Error::new(why.kind(), format!("blob {} {why}", version.blob))
}

/// Locks, also after a panic elsewhere: the states here are valid between any two statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Number of threads for opening blobs.
fn openers() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}
