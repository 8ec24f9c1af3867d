//! Settling conflicts: a change of a conflict copy replaces the document's other heads as well, as
//! far as its writer could see them, and takes the document's name.

use std::ffi::OsStr;
use std::sync::Arc;

use crate::vault::{People, Version};
use crate::view::draft::state::OpenFile;
use crate::view::draft::takeover::Takeover;
use crate::view::spot::Spot;
use crate::view::tree::names::safe_path;
use crate::view::tree::{FileRole, Ino, Shown, Tree};
use crate::view::{Reader, View};

impl View {
    /// Lets a process that begins to write a conflict copy settle with the document's other heads:
    /// those that are shown now and that it saw when it last read the copy. Without having read
    /// it, it settles with none.
    pub(in crate::view) fn settle_only_seen(
        &self,
        reader: Option<Reader>,
        ino: Ino,
        file: &OpenFile,
    ) {
        let Some((parent, name, _)) = self.shown_there(ino) else {
            return;
        };
        let sight = self.last_read(reader, parent, &name);
        let saw = |version: &Version| sight.as_ref().is_some_and(|sight| sight.saw(version));
        let mut others = self.tree().other_heads(ino);
        others.retain(|version| saw(version));
        let mut body = file.lock();
        if !body.is_dirty() {
            body.settles = others;
        }
    }

    /// The document that a process goes on with when it saves what was a conflict copy when it read it,
    /// and has the document's name by now: its last save settled the conflict, or the version that
    /// had the name is gone.
    pub(in crate::view) fn settled_before(
        &self,
        spot: &Spot,
        reader: Option<Reader>,
    ) -> Option<Takeover> {
        let sight = self.last_read(reader, spot.parent, OsStr::new(&spot.name))?;
        let key = &sight.head.version.key;
        let heads = self.vault.document(key).filter(|_| sight.is_conflict)?;
        let [head] = &heads.heads()[..] else {
            return None;
        };
        let is_shown_elsewhere = head
            .blobs()
            .any(|blob| sight.head.blobs().any(|seen| seen.id == blob.id));
        if !is_shown_elsewhere && !self.descends_from(&sight.head, head) {
            return None;
        }
        Some(Takeover {
            key: key.clone(),
            doc: self.doc_of(key),
            base: head.blobs().cloned().collect(),
            settles: Vec::new(),
            path: Some(String::from_utf8(head.version.path.clone()?).ok()?),
        })
    }

    /// Gives a conflict copy that was just saved the name of its document, if it is the only
    /// version now.
    pub(in crate::view) fn name_settled(&self, tree: &mut Tree, ino: Ino, people: &People) {
        let Some(shown) = tree.shown(ino).filter(|shown| shown.is_conflict).cloned() else {
            return;
        };
        let document = self.vault.document(&shown.key);
        let document = document.filter(|_| tree.is_attached(ino));
        if document.is_some_and(|document| document.heads().len() == 1) {
            tree.take_name(ino, shown, people);
        }
    }
}

impl Tree {
    /// The document's other heads, of which a file shows a conflict copy.
    pub(in crate::view) fn other_heads(&self, ino: Ino) -> Vec<Arc<Version>> {
        let key = match self.file(ino).map(|file| &file.role) {
            Some(FileRole::Document(shown) | FileRole::Backup(shown, _)) if shown.is_conflict => {
                &shown.key
            }
            _ => return Vec::new(),
        };
        let others = self.by_document.get(key).into_iter().flatten();
        let heads = others
            .filter(|other| **other != ino)
            .filter_map(|other| self.shown(*other)?.head.as_ref());
        heads.flat_map(|head| head.blobs().cloned()).collect()
    }

    /// Moves what was a conflict copy to the name of its document, which what it replaced has.
    fn take_name(&mut self, ino: Ino, shown: Shown, people: &People) {
        let Some(head) = &shown.head else {
            return;
        };
        let wanted = &head.version.path;
        let inos = self.by_document.get(&shown.key).cloned();
        let mut replaced = Vec::new();
        for other in inos.into_iter().flatten().filter(|other| *other != ino) {
            match self.file(other) {
                // Somebody is writing it: it will be a version of its own.
                Some(file) if file.draft => return,
                Some(_) if self.shown(other).is_some() => replaced.push(other),
                _ => {}
            }
        }
        let had_it = replaced.iter().find(|other| {
            self.shown(**other)
                .filter(|shown| !shown.is_conflict)
                .and_then(|shown| shown.head.as_ref())
                .is_some_and(|head| head.version.path == *wanted)
        });
        let place = match had_it.and_then(|other| self.get(*other)) {
            Some(node) => (node.parent, node.name.clone()),
            None => {
                let parts = safe_path(wanted.as_deref().unwrap_or_default());
                let Some(name) = parts.last() else {
                    return;
                };
                let (parent, _) = self.home(&head.version, people);
                if self.child(parent, OsStr::new(name)).is_some() {
                    return;
                }
                (parent, name.into())
            }
        };
        for other in replaced {
            self.detach(other);
        }
        self.relocate(ino, place.0, &place.1);
        let is_conflict = false;
        self.set_role(
            ino,
            FileRole::Document(Shown {
                is_conflict,
                ..shown
            }),
        );
    }
}
