//! Documents in the tree: which files show the versions of one, and which are held back by one.

use std::ffi::OsStr;
use std::sync::Arc;

use crate::vault::{DocKey, People, Version};
use crate::view::tree::names::safe_path;
use crate::view::tree::{FileRole, Ino, OpenContent, Shown, Tree};

impl<O: OpenContent> Tree<O> {
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

    /// Finds the file that shows a version.
    pub(in crate::view) fn shown_by(&self, version: &Version) -> Option<Ino> {
        let nodes = self.by_document.get(&version.key)?.iter().copied();
        let shows = |ino: &Ino| {
            let head = self.shown(*ino).and_then(|shown| shown.head.as_ref());
            head.is_some_and(|head| head.blobs().any(|blob| blob.id == version.id))
        };
        nodes.filter(|ino| self.is_attached(*ino)).find(shows)
    }

    /// Moves a former conflict copy to the name of its document, which the version that it replaced
    /// still has.
    pub(in crate::view) fn take_name(&mut self, ino: Ino, shown: Shown, people: &People) {
        let Some(head) = &shown.head else {
            return;
        };
        let wanted = &head.version.path;
        let inos = self.by_document.get(&shown.key).cloned();
        let mut replaced = Vec::new();
        for other in inos.into_iter().flatten().filter(|other| *other != ino) {
            match self.file(other) {
                // Somebody is writing it: it will be a version of its own.
                Some(file) if file.is_draft() => return,
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

    /// Tells whether a node shows a published version.
    pub(in crate::view) fn is_published(&self, ino: Ino) -> bool {
        self.shown(ino).is_some_and(|shown| shown.head.is_some())
    }

    /// Tells whether a node is a document of which there is no version yet.
    pub(in crate::view) fn is_never_published(&self, ino: Ino) -> bool {
        self.shown(ino).is_some_and(|shown| shown.head.is_none())
    }

    /// The document that is not shown because of a file: its backup, or its coming replacement.
    pub(in crate::view) fn held_back(&self, ino: Ino) -> Option<DocKey> {
        match &self.file(ino)?.role {
            FileRole::Backup(shown, _) | FileRole::Document(shown @ Shown { head: None, .. }) => {
                Some(shown.key.clone())
            }
            _ => None,
        }
    }
}
