//! Which document a file under a name continues: the one that has the name, the one that was renamed
//! away from it, or the one that its writer saw there.

use std::ffi::OsStr;
use std::sync::Arc;

use crate::ids::DocId;
use crate::vault::{Audience, DocKey, Head, Version};
use crate::view::draft::open_file::Target;
use crate::view::draft::read_set::Instead;
use crate::view::rules::file_kind;
use crate::view::spot::Spot;
use crate::view::tree::{FileRole, Ino};
use crate::view::{Caller, View};

/// The document that a new file under a name continues.
pub(in crate::view) struct Takeover {
    pub(in crate::view) key: DocKey,
    pub(in crate::view) doc: DocId,
    /// The versions that its next one replaces.
    pub(in crate::view) base: Vec<Arc<Version>>,
    /// A conflict copy: the document's other heads, which go as well.
    pub(in crate::view) settles: Vec<Arc<Version>>,
    /// A conflict copy: the document's own path, which is not the name of the copy.
    pub(in crate::view) path: Option<String>,
}

impl View {
    /// Finds the document that a file under this name would continue: the one that has the name,
    /// or the one that was renamed away from it as a backup.
    pub(in crate::view) fn takeover(
        &self,
        spot: &Spot,
        victim: Option<Ino>,
        caller: Caller,
    ) -> Option<Takeover> {
        let found = {
            let tree = self.tree();
            let found = match victim {
                Some(victim) => Some((victim, tree.shown(victim)?.clone())),
                None => tree.backup_of(spot.parent, OsStr::new(&spot.name)),
            };
            let open = victim.and_then(|ino| tree.file(ino)?.open.clone());
            found.map(|(ino, shown)| (ino, shown, open, tree.other_heads(ino)))
        };
        let Some((ino, shown, open, mut settles)) = found else {
            return self.settled_before(spot, caller.reader);
        };
        let read = self.last_read(caller.reader, spot.parent, OsStr::new(&spot.name));
        settles.retain(|version| read.as_ref().is_some_and(|read| read.saw(version)));
        let head = shown.head.as_ref().filter(|_| shown.is_conflict);
        let path = head.map(|head| self.saved_path(ino, &head.version));
        settles.retain(|_| path.is_some());
        let continuing = |key, base| Takeover {
            settles,
            path,
            ..self.continuing(key, &spot.audience, base)
        };
        let instead = shown.head.as_ref().and_then(|current| {
            self.seen_instead(caller.reader, spot.parent, OsStr::new(&spot.name), current)
        });
        match instead {
            Some(Instead::Seen(seen)) => {
                let base = seen.blobs().cloned().collect();
                return Some(continuing(seen.version.key.clone(), base));
            }
            Some(Instead::New) => return None,
            None => {}
        }
        let base = shown.head.iter().flat_map(Head::blobs).cloned().collect();
        // A draft that was never published has its own base: that of the backup it replaces.
        let base = match (&shown.head, open) {
            (None, Some(open)) => match open.lock().target() {
                Target::Document { base, .. } => base.clone(),
                Target::Scratch | Target::Key(_) | Target::Nowhere => base,
            },
            _ => base,
        };
        Some(continuing(shown.key, base))
    }

    /// The document that a backup is, if nothing has taken its place.
    pub(in crate::view) fn unreplaced(&self, ino: Ino) -> Option<Takeover> {
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

    /// The id of a document's next version; a new one if the document has none.
    pub(in crate::view) fn doc_of(&self, key: &DocKey) -> DocId {
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
        Takeover {
            key,
            doc,
            base,
            settles: Vec::new(),
            path: None,
        }
    }
}
