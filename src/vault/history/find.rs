//! Old versions of notes: finding again the versions that were kept.
//!
//! They are described anew by the facts inside their blobs and by the pins, as those in the store
//! are.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::{Error, Kind, Result};
use crate::ids::{BlobId, BlobName, Folder, Timestamp, VersionId};
use crate::openpgp::{CertIndex, Examined, Outcome};
use crate::plaintext::Plaintext;
use crate::state::Gone;
use crate::store::{Entry, FileName, Stamp};
use crate::vault::Vault;
use crate::vault::describe::describe;
use crate::vault::documents::{DocKey, Version};
use crate::vault::learn::opened;
use crate::vault::worker::cores;

/// Spares of notes that vanished while nobody looked which are opened at the start.
const MISSED: usize = 256;

/// A version of a note that is no longer in the store.
#[derive(Clone, Debug)]
pub struct PastVersion {
    /// The version as it was, at no place.
    pub version: Arc<Version>,
    /// The names that its blobs had, that of `version` among them.
    pub names: Vec<BlobName>,
    /// Its files in the history: one blob may have been there in several forms.
    files: Vec<BlobId>,
    /// When it left the store, or when that was noticed.
    pub departed: Timestamp,
    /// I removed it.
    pub removed_by_me: bool,
}

impl Vault {
    /// Opens the notes that left the store, in no particular order. A version that cannot be opened
    /// any more, or was overwritten, is left out.
    pub fn past(&self) -> Vec<PastVersion> {
        let (people, certificates) = {
            let known = self.known();
            (Arc::clone(&known.people), Arc::clone(&known.certificates))
        };
        let gone = self.memory.history().gone();
        self.open_unknown(&gone, &certificates);
        let cache = self.found.cache();
        let mut past: HashMap<(DocKey, VersionId), PastVersion> = HashMap::new();
        for gone in &gone {
            let Some((blob, facts)) = cache.facts.get(&gone.id) else {
                continue;
            };
            let version = describe(nowhere(*blob, gone), *blob, gone.id, facts, &people);
            let mut one = PastVersion {
                departed: gone.at,
                removed_by_me: self.was_removed_itself(&version),
                names: vec![*blob],
                files: vec![gone.id],
                version: Arc::new(version),
            };
            let id = (one.version.key.clone(), one.version.id);
            if let Some(other) = past.remove(&id) {
                let (later, earlier) = match other.departed > one.departed {
                    true => (other, one),
                    false => (one, other),
                };
                one = later;
                one.names.extend(earlier.names);
                one.files.extend(earlier.files);
            }
            past.insert(id, one);
        }
        drop(cache);
        let known = self.known();
        // A version that is in the store in another form did not leave it.
        past.retain(|(key, id), _| {
            let document = known.documents.get(key);
            !document.is_some_and(|document| document.has(*id))
        });
        past.into_values().collect()
    }

    /// Opens some of the spares, to learn which versions they are.
    pub(in crate::vault) fn open_spares(&self, ids: &[BlobId]) -> Vec<Arc<Version>> {
        let (people, certificates) = {
            let known = self.known();
            (Arc::clone(&known.people), Arc::clone(&known.certificates))
        };
        let opened = ids.iter().take(MISSED).filter_map(|id| {
            let mut file = self.memory.history().open_spare(*id).ok()?;
            let length = file.metadata().ok()?.len();
            let examined = self.learner.examine(&mut file, length, &certificates);
            let examined = examined.ok().filter(|examined| examined.id == *id)?;
            let Outcome::Opened(opened) = examined.outcome else {
                return None;
            };
            let gone = Gone {
                id: *id,
                at: Timestamp::now(),
                bytes: length,
            };
            let entry = nowhere(examined.name, &gone);
            let version = describe(entry, examined.name, *id, &opened.facts, &people);
            Some(Arc::new(version))
        });
        opened.collect()
    }

    /// Opens the blobs that were not opened with these certificates yet, on all cores.
    fn open_unknown(&self, gone: &[Gone], certificates: &Arc<CertIndex>) {
        let unknown = self.found.unknown(gone, certificates);
        let next = AtomicUsize::new(0);
        let work = || {
            while let Some(id) = unknown.get(next.fetch_add(1, Ordering::Relaxed)) {
                let Ok(examined) = self.examine_past(*id, certificates) else {
                    continue;
                };
                let Outcome::Opened(opened) = examined.outcome else {
                    continue;
                };
                let facts = (examined.name, Arc::new(opened.facts));
                self.found.cache().facts.insert(*id, facts);
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..cores().min(unknown.len()) {
                scope.spawn(work);
            }
        });
    }

    fn examine_past(&self, id: BlobId, certificates: &CertIndex) -> Result<Examined> {
        let mut file = self.memory.history().open_gone(id)?;
        let length = file.metadata();
        let length = length.map_err(|error| Error::io("reading an old version", error))?;
        let examined = self
            .learner
            .examine(&mut file, length.len(), certificates)?;
        if examined.id != id {
            let sentence = "this version was overwritten";
            return Err(Error::new(Kind::NotFound, sentence));
        }
        Ok(examined)
    }

    /// The present and former names of the blobs of a version that is in the store.
    pub fn names_of(&self, version: &Version) -> Vec<BlobName> {
        let lineage = version.key.lineage();
        let mut names = self.memory.names_of(&version.ids, lineage);
        names.push(version.blob);
        names
    }

    /// Returns the content of a version that left the store.
    ///
    /// # Errors
    /// `NotFound`; `Damaged` if it cannot be opened; any error of the disk.
    pub fn past_content(&self, version: &Version) -> Result<Plaintext> {
        let certificates = Arc::clone(&self.known().certificates);
        let examined = self.examine_past(version.file_id, &certificates)?;
        Ok(opened(examined.outcome, version)?.content)
    }

    /// Path of the ciphertext of a version that left the store, for sentences.
    pub fn past_file(&self, version: &Version) -> Option<String> {
        self.memory.history().shown_gone(version.file_id)
    }

    /// Drops a version from the history.
    ///
    /// # Errors
    /// Any error of the disk.
    pub fn forget_past(&self, past: &PastVersion) -> Result<()> {
        let history = self.memory.history();
        let forgotten = past.files.iter().map(|id| history.forget(*id));
        forgotten.fold(Ok(()), Result::and)
    }

    /// Forgets that I removed a version, since it is wanted after all.
    ///
    /// # Errors
    /// Any error of the disk.
    pub fn take_back_removal(&self, version: &Version) -> Result<()> {
        self.memory.note_restored(version.file_id)?;
        match self.memory.removed_as(&version.ids) {
            Some(blob) => self.memory.note_restored(blob),
            None => Ok(()),
        }
    }
}

/// Stands for the place of a file that is no longer in the store.
fn nowhere(blob: BlobName, gone: &Gone) -> Entry {
    let name = FileName::new(blob.file_name());
    Entry {
        folder: Folder::Notes,
        name: name.expect("hex digits and .asc"),
        stamp: Stamp {
            dev: 0,
            ino: 0,
            size: gone.bytes,
            mtime: gone.at,
            ctime: gone.at,
        },
    }
}
