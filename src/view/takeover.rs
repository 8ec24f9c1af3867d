//! Which document a file under a name continues: the one that has the name, the one that was renamed
//! away from it, or the one that its writer saw there.

use std::ffi::OsStr;
use std::sync::Arc;

use crate::ids::DocId;
use crate::vault::{Audience, DocKey, Head, Version};
use crate::view::file::Target;
use crate::view::open::file_kind;
use crate::view::rename::Spot;
use crate::view::tree::{FileRole, Ino};
use crate::view::{Caller, View};

/// The document that a new file under a name continues.
pub(super) struct Takeover {
    pub(super) key: DocKey,
    pub(super) doc: DocId,
    /// What its next version replaces.
    pub(super) base: Vec<Arc<Version>>,
}

impl View {
    /// Finds the document that a file under this name would continue: the one that has the name,
    /// or the one that was renamed away from it as a backup.
    pub(super) fn takeover(
        &self,
        spot: &Spot,
        victim: Option<Ino>,
        caller: Caller,
    ) -> Option<Takeover> {
        let (shown, open) = {
            let tree = self.tree();
            let shown = match victim {
                Some(victim) => tree.shown(victim).cloned(),
                None => {
                    let backup = tree.backup_of(spot.parent, OsStr::new(&spot.name));
                    backup.map(|(_, shown)| shown)
                }
            }?;
            (shown, victim.and_then(|ino| tree.file(ino)?.open.clone()))
        };
        let instead = shown.head.as_ref().and_then(|current| {
            self.seen_instead(caller.group, spot.parent, OsStr::new(&spot.name), current)
        });
        if let Some(seen) = instead {
            let base = seen.blobs().cloned().collect();
            return Some(self.continuing(seen.version.key.clone(), &spot.audience, base));
        }
        let base = shown.head.iter().flat_map(Head::blobs).cloned().collect();
        // A draft that was never published has its own base: that of the backup it replaces.
        let base = match (&shown.head, open) {
            (None, Some(open)) => match &open.lock().target {
                Target::Document { base, .. } => base.clone(),
                Target::Scratch | Target::Key(_) | Target::Nowhere => base,
            },
            _ => base,
        };
        Some(self.continuing(shown.key, &spot.audience, base))
    }

    /// The document that a backup is, if nothing has taken its place.
    pub(super) fn unreplaced(&self, ino: Ino) -> Option<Takeover> {
        let (shown, audience) = {
            let tree = self.tree();
            let FileRole::Backup(shown, origin) = &tree.file(ino)?.role else {
                return None;
            };
            if tree.child(origin.parent, &origin.name).is_some() {
                return None;
            }
            let audience = shown.head.as_ref()?.version.audience()?.clone();
            (shown.clone(), audience)
        };
        let base = shown.head.iter().flat_map(Head::blobs).cloned().collect();
        Some(self.continuing(shown.key, &audience, base))
    }

    /// The id that a document goes on with; a new one if it was made without.
    pub(super) fn doc_of(&self, key: &DocKey) -> DocId {
        match key {
            DocKey::Placed { doc, .. } => *doc,
            DocKey::Single(..) => self.vault.new_doc_id(),
        }
    }

    fn continuing(&self, key: DocKey, audience: &Audience, base: Vec<Arc<Version>>) -> Takeover {
        let doc = self.doc_of(&key);
        let key = match key {
            DocKey::Placed { .. } => key,
            DocKey::Single(folder, _) => self.vault.doc_key(file_kind(folder), audience, doc),
        };
        Takeover { key, doc, base }
    }
}
