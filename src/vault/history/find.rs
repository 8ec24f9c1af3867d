//! Old versions of notes: finding again what was kept.
//!
//! What of it is shown is derived anew from what is inside the blobs and from the pins, as for those
//! in the store.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use crate::error::{Error, Kind, Result};
use crate::ids::{BlobId, BlobName, Folder, Timestamp, VersionId};
use crate::openpgp::{CertIndex, Examined, Facts, Outcome};
use crate::plaintext::Plaintext;
use crate::store::{Entry, FileName, Stamp};
use crate::vault::documents::{DocKey, Unreadable, Version};
use crate::vault::judge::describe::describe;
use crate::vault::removals::lineage;
use crate::vault::{Vault, lock, openers, unreadable};

/// Notes that went while nobody looked, of which it is learned at the start what they were.
const MISSED: usize = 256;

/// A version of a note that is no longer in the store.
#[derive(Clone, Debug)]
pub struct Past {
    /// What it was. Where it lay is nowhere now.
    pub version: Arc<Version>,
    /// What its blobs were called, that of `version` among them.
    pub names: Vec<BlobName>,
    /// Its files in the history: one blob may have been there in several forms.
    files: Vec<BlobId>,
    /// When it went, or when that was noticed.
    pub went: Timestamp,
    /// I removed it.
    pub removed_by_me: bool,
}

/// What was found in the history's blobs, for as long as the same certificates are known.
#[derive(Default)]
pub(in crate::vault) struct Opened {
    known: Mutex<Known>,
    /// What went while nobody looked was looked for.
    pub(in crate::vault) missed: AtomicBool,
}

#[derive(Default)]
struct Known {
    certificates: Option<Arc<CertIndex>>,
    facts: HashMap<BlobId, (BlobName, Arc<Facts>)>,
}

impl Vault {
    /// Opens the notes that went from the store, in no particular order. What cannot be opened any
    /// more, or was overwritten, is left out.
    pub fn past(&self) -> Vec<Past> {
        let (people, certificates) = {
            let state = self.state();
            (Arc::clone(&state.people), Arc::clone(&state.certificates))
        };
        let gone = self.state_dir.history().gone();
        self.open_unknown(&gone, &certificates);
        let known = lock(&self.past.known);
        let mut past: HashMap<(DocKey, VersionId), Past> = HashMap::new();
        for gone in &gone {
            let Some((blob, facts)) = known.facts.get(&gone.id) else {
                continue;
            };
            let version = describe(nowhere(*blob, gone), *blob, gone.id, facts, &people);
            let mut one = Past {
                went: gone.at,
                removed_by_me: self.was_removed_itself(&version),
                names: vec![*blob],
                files: vec![gone.id],
                version: Arc::new(version),
            };
            let id = (one.version.key.clone(), one.version.id);
            if let Some(other) = past.remove(&id) {
                let (later, earlier) = match other.went > one.went {
                    true => (other, one),
                    false => (one, other),
                };
                one = later;
                one.names.extend(earlier.names);
                one.files.extend(earlier.files);
            }
            past.insert(id, one);
        }
        drop(known);
        let state = self.state();
        // What is there in another form did not go.
        past.retain(|(key, id), _| {
            let document = state.documents.get(key);
            !document.is_some_and(|document| document.has(*id))
        });
        past.into_values().collect()
    }

    /// Opens spares, some of them, to learn what they are.
    pub(in crate::vault) fn open_spares(&self, ids: &[BlobId]) -> Vec<Arc<Version>> {
        let (people, certificates) = {
            let state = self.state();
            (Arc::clone(&state.people), Arc::clone(&state.certificates))
        };
        let opened = ids.iter().take(MISSED).filter_map(|id| {
            let mut file = self.state_dir.history().open_spare(*id).ok()?;
            let length = file.metadata().ok()?.len();
            let examined =
                self.examine_from(&mut file, length, &certificates, &self.limits(), None);
            let examined = examined.ok().filter(|examined| examined.id == *id)?;
            let Outcome::Opened(opened) = examined.outcome else {
                return None;
            };
            let gone = crate::state::Gone {
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

    /// Opens what was not opened with these certificates yet, on all cores.
    fn open_unknown(&self, gone: &[crate::state::Gone], certificates: &Arc<CertIndex>) {
        let unknown: Vec<_> = {
            let mut known = lock(&self.past.known);
            let same = known.certificates.as_ref();
            if !same.is_some_and(|same| Arc::ptr_eq(same, certificates)) {
                known.facts.clear();
                known.certificates = Some(Arc::clone(certificates));
            }
            let ids: HashSet<BlobId> = gone.iter().map(|gone| gone.id).collect();
            known.facts.retain(|id, _| ids.contains(id));
            let unknown = |id: &&BlobId| !known.facts.contains_key(id);
            let unknown = ids.iter().filter(unknown);
            unknown.copied().collect()
        };
        let next = std::sync::atomic::AtomicUsize::new(0);
        let work = || {
            while let Some(id) =
                unknown.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
            {
                let Ok(examined) = self.examine_past(*id, certificates) else {
                    continue;
                };
                let Outcome::Opened(opened) = examined.outcome else {
                    continue;
                };
                let facts = (examined.name, Arc::new(opened.facts));
                lock(&self.past.known).facts.insert(*id, facts);
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..openers().min(unknown.len()) {
                scope.spawn(work);
            }
        });
    }

    fn examine_past(&self, id: BlobId, certificates: &CertIndex) -> Result<Examined> {
        let mut file = self.state_dir.history().open_gone(id)?;
        let length = file.metadata();
        let length = length.map_err(|error| Error::io("reading an old version", error))?;
        let examined =
            self.examine_from(&mut file, length.len(), certificates, &self.limits(), None)?;
        if examined.id != id {
            let sentence = "this version was overwritten";
            return Err(Error::new(Kind::NotFound, sentence));
        }
        Ok(examined)
    }

    /// What the blobs of a version that is in the store are called, and were.
    pub fn names_of(&self, version: &Version) -> Vec<BlobName> {
        let lineage = lineage(&version.key);
        let mut names = self.state_dir.names_of(&version.ids, lineage);
        names.push(version.blob);
        names
    }

    /// Returns the content of a version that went.
    ///
    /// # Errors
    /// `NotFound`; `Damaged` if it cannot be opened; what the disk says.
    pub fn past_content(&self, version: &Version) -> Result<Plaintext> {
        let certificates = Arc::clone(&self.state().certificates);
        let examined = self.examine_past(version.file_id, &certificates)?;
        match examined.outcome {
            Outcome::Opened(opened) => Ok(opened.content),
            Outcome::TooLarge => Err(unreadable(version, Unreadable::TooLarge)),
            Outcome::Refused(why) => Err(unreadable(version, Unreadable::Refused(why))),
            _ => Err(unreadable(version, Unreadable::Damaged)),
        }
    }

    /// Path of the ciphertext of a version that went, for sentences.
    pub fn past_file(&self, version: &Version) -> Option<String> {
        self.state_dir.history().shown_gone(version.file_id)
    }

    /// Drops a version from the history.
    ///
    /// # Errors
    /// What the disk says.
    pub fn forget_past(&self, past: &Past) -> Result<()> {
        let history = self.state_dir.history();
        let forgotten = past.files.iter().map(|id| history.forget(*id));
        forgotten.fold(Ok(()), Result::and)
    }

    /// Forgets that I removed a version: it is wanted after all.
    ///
    /// # Errors
    /// What the disk says.
    pub fn take_back_removal(&self, version: &Version) -> Result<()> {
        self.state_dir.note_restored(version.file_id)?;
        match self.state_dir.removed_as(&version.ids) {
            Some(blob) => self.state_dir.note_restored(blob),
            None => Ok(()),
        }
    }
}

/// Stands for the place of a file that is no longer in the store.
fn nowhere(blob: BlobName, gone: &crate::state::Gone) -> Entry {
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
