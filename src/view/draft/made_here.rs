//! Documents that this mount made, and that nobody else has changed: it may remove them, though notes
//! are kept.
//!
//! Programs make locks, journals and temporary files beside their documents, and remove them
//! afterwards. They are published like any other note, as the promise of `close` is kept; but
//! nobody else has put anything into them that would be lost. A document counts as made here
//! as long as each of its versions was published by this mount, and each replaced nothing but
//! such versions.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::ids::VersionId;
use crate::vault::{DocKey, Document, Version};
use crate::view::View;

/// The versions of each document that was made here.
#[derive(Default)]
pub(in crate::view) struct MadeHere(HashMap<DocKey, HashSet<VersionId>>);

impl MadeHere {
    fn made(&self, version: &Version) -> bool {
        let versions = self.0.get(&version.key);
        versions.is_some_and(|versions| versions.contains(&version.id))
    }
}

impl View {
    /// Remembers versions of one document that this mount published, and those that they replaced.
    pub(in crate::view) fn note_made_here(&self, new: &[Arc<Version>], replaced: &[Arc<Version>]) {
        let mut made = self.made_here.lock();
        let all_ours = replaced.iter().all(|old| made.made(old));
        for version in new {
            if all_ours {
                let versions = made.0.entry(version.key.clone()).or_default();
                versions.insert(version.id);
            } else {
                made.0.remove(&version.key);
            }
        }
    }

    /// Forgets documents of which others made a version, for as long as the mount lasts.
    pub(in crate::view) fn note_made_elsewhere(&self, changes: &[(DocKey, Option<Document>)]) {
        let mut made = self.made_here.lock();
        if made.0.is_empty() {
            return;
        }
        for (key, document) in changes {
            let mut versions = document.iter().flat_map(Document::versions);
            if versions.any(|version| !version.mine) {
                made.0.remove(key);
            }
        }
    }

    /// Tells whether this mount made a document, and all that is there of it.
    pub(in crate::view) fn is_made_here(&self, key: &DocKey) -> bool {
        let versions = self.vault.versions(key);
        let made = self.made_here.lock();
        made.0.contains_key(key) && versions.iter().all(|version| made.made(version))
    }

    /// A document was removed: a version that comes back under its id is no longer ours alone.
    pub(in crate::view) fn forget_made_here(&self, key: &DocKey) {
        self.made_here.lock().0.remove(key);
    }
}
