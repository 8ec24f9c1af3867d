//! Old versions of notes: finding again what was kept.
//!
//! What of it is shown is derived anew from what is inside the blobs and from the pins, as for those
//! in the store.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use crate::error::{Error, Kind, Result};
use crate::ids::{BlobId, BlobName, Folder, Timestamp};
use crate::openpgp::{CertIndex, Examined, Facts, Outcome};
use crate::plaintext::Plaintext;
use crate::store::{Entry, FileName, Stamp};
use crate::vault::describe::describe;
use crate::vault::documents::{Unreadable, Version};
use crate::vault::{Vault, lock, openers, unreadable};

/// A version of a note that is no longer in the store.
#[derive(Clone, Debug)]
pub struct Past {
    /// What it was. Where it lay is nowhere now.
    pub version: Arc<Version>,
    /// When it went, or when that was noticed.
    pub went: Timestamp,
    /// I removed it.
    pub removed_by_me: bool,
}

/// What was found in the history's blobs, for as long as the same certificates are known.
#[derive(Default)]
pub(super) struct Opened(Mutex<Known>);

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
        let known = lock(&self.past.0);
        let past = gone.iter().filter_map(|gone| {
            let (blob, facts) = known.facts.get(&gone.id)?;
            let version = describe(nowhere(*blob, gone), *blob, gone.id, facts, &people);
            Some(Past {
                version: Arc::new(version),
                went: gone.at,
                removed_by_me: self.state_dir.is_removed(gone.id),
            })
        });
        past.collect()
    }

    /// Opens what was not opened with these certificates yet, on all cores.
    fn open_unknown(&self, gone: &[crate::state::Gone], certificates: &Arc<CertIndex>) {
        let unknown: Vec<_> = {
            let mut known = lock(&self.past.0);
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
                lock(&self.past.0).facts.insert(*id, facts);
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

    /// Returns the content of a version that went.
    ///
    /// # Errors
    /// `NotFound`; `Damaged` if it cannot be opened; what the disk says.
    pub fn past_content(&self, version: &Version) -> Result<Plaintext> {
        let certificates = Arc::clone(&self.state().certificates);
        let examined = self.examine_past(version.id, &certificates)?;
        match examined.outcome {
            Outcome::Opened(opened) => Ok(opened.content),
            Outcome::TooLarge => Err(unreadable(version, Unreadable::TooLarge)),
            Outcome::Refused(why) => Err(unreadable(version, Unreadable::Refused(why))),
            _ => Err(unreadable(version, Unreadable::Damaged)),
        }
    }

    /// Path of the ciphertext of a version that went, for sentences.
    pub fn past_file(&self, version: &Version) -> Option<String> {
        self.state_dir.history().shown_gone(version.id)
    }

    /// Drops a version from the history.
    ///
    /// # Errors
    /// What the disk says.
    pub fn forget_past(&self, version: &Version) -> Result<()> {
        self.state_dir.history().forget(version.id)
    }

    /// Forgets that I removed a version: it is wanted after all.
    ///
    /// # Errors
    /// What the disk says.
    pub fn take_back_removal(&self, version: &Version) -> Result<()> {
        self.state_dir.note_restored(version.id)
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
