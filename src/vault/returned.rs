//! What I removed and what comes back: a peer that was away for long may bring anything.
//!
//! A removed message is not shown again and is removed again. A removed note that returns is
//! shown: data is never destroyed on a guess. Either is told in `.dds/status`.

use std::collections::HashSet;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::error::Result;
use crate::ids::{BlobId, Folder, Timestamp};
use crate::state::{Lineage, Removal};
use crate::store::Entry;
use crate::vault::documents::{DocKey, Version};
use crate::vault::publish::twins;
use crate::vault::scan::File;
use crate::vault::{Vault, lock};

/// A blob encrypted to more keys than this has more readers than its writer and me.
pub const PRIVATE_RECIPIENTS: usize = 2;
/// Sentences about returned blobs that are kept for `.dds/status`.
const NOTICES: usize = 100;

/// The blobs that are being taken away, and those that were since the running refresh began: its
/// listing may be older.
#[derive(Default)]
pub(super) struct Taken {
    under_way: HashSet<BlobId>,
    done: HashSet<BlobId>,
}

impl Taken {
    /// Notes that a refresh begins: what was taken away before is in no listing of it.
    pub(super) fn forget_done(&mut self) {
        self.done.clear();
    }

    /// Notes that a blob is about to be taken away.
    pub(super) fn begin(&mut self, id: BlobId) {
        self.under_way.insert(id);
    }

    /// Notes that a blob was taken away, or that this failed.
    pub(super) fn end(&mut self, id: BlobId) {
        self.under_way.remove(&id);
        self.done.insert(id);
    }

    /// Tells whether a file is for the next look.
    pub(super) fn has(&self, file: &File) -> bool {
        let version = file.version();
        version.is_some_and(|one| self.under_way.contains(&one.id) || self.done.contains(&one.id))
    }
}

impl Vault {
    /// Remembers that a version is removed. Called before its blob goes.
    pub(super) fn note_removed(&self, version: &Version) -> Result<()> {
        self.state_dir.note_removed(&Removal {
            id: version.id,
            name: version.blob,
            lineage: lineage(&version.key),
            replaces: version.replaces.clone(),
            at: Timestamp::now(),
        })
    }

    /// Hides versions that others still read: they stay in the store.
    ///
    /// # Errors
    /// What the state's disk says.
    pub fn hide(&self, versions: &[Arc<Version>]) -> Result<()> {
        for version in versions {
            self.note_removed(version)?;
            let mut state = self.state();
            for same in twins(&state, version).iter().chain([version]) {
                state.hide(&(same.folder(), same.entry.name.clone()));
            }
            drop(state);
            self.tell(format!(
                "blob {} has other readers: it is hidden here and stays in the store",
                version.blob
            ));
        }
        Ok(())
    }

    /// Treats what I removed and what is there again, before it is shown.
    pub(super) fn without_returned(&self, files: Vec<(Entry, File)>) -> Vec<(Entry, File)> {
        files
            .into_iter()
            .filter_map(|(entry, file)| match file.version().cloned() {
                Some(version) if self.was_removed(&version) => self.treat(entry, file, &version),
                _ => Some((entry, file)),
            })
            .collect()
    }

    fn was_removed(&self, version: &Version) -> bool {
        self.state_dir.is_removed(version.id)
            || self
                .state_dir
                .is_removed_ancestor(version.blob, lineage(&version.key))
    }

    fn treat(&self, entry: Entry, file: File, version: &Version) -> Option<(Entry, File)> {
        let blob = version.blob;
        match version.folder() {
            Folder::Notes => {
                self.tell(format!(
                    "note {blob} was removed here and came back; it is shown"
                ));
                Some((entry, file))
            }
            Folder::Messages if version.recipients > PRIVATE_RECIPIENTS => {
                let hidden = File::hidden(file.stamp());
                Some((entry, hidden))
            }
            Folder::Messages => match self.remove_file(entry.folder, &entry.name) {
                Ok(()) => {
                    self.shared.published(entry.folder, Vec::new(), Vec::new());
                    self.tell(format!("message {blob} came back and was removed again"));
                    None
                }
                Err(error) => {
                    self.tell(format!(
                        "message {blob} came back and cannot be removed: {error}"
                    ));
                    let hidden = File::hidden(file.stamp());
                    Some((entry, hidden))
                }
            },
        }
    }

    pub(super) fn tell(&self, sentence: String) {
        let mut told = lock(&self.told);
        if !told.contains(&sentence) {
            told.truncate(NOTICES - 1);
            told.insert(0, sentence);
        }
    }
}

/// Digest of everything by which one version may replace another (DESIGN 6).
pub(super) fn lineage(key: &DocKey) -> Lineage {
    let mut digest = Sha256::new();
    match key {
        DocKey::Placed {
            kind,
            audience,
            doc,
            signer,
        } => {
            digest.update(kind.name());
            digest.update(doc.to_string());
            for key in audience.members().chain(signer) {
                digest.update([0]);
                digest.update(key.as_bytes());
            }
            digest.update([u8::from(signer.is_some())]);
        }
        DocKey::Single(folder, id) => {
            digest.update(folder.name());
            digest.update(id.as_bytes());
        }
    }
    Lineage::from_digest(digest.finalize().into())
}
