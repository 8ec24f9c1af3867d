//! Settling conflicts: a change of a conflict copy replaces the document's other heads as well, as
//! far as its writer could see them, and takes the document's name.

use std::ffi::OsStr;

use crate::vault::{People, Version};
use crate::view::draft::open_file::Locked;
use crate::view::draft::read_set::ShownThere;
use crate::view::draft::takeover::Takeover;
use crate::view::spot::Spot;
use crate::view::tree::Ino;
use crate::view::{Reader, Tree, View};

impl View {
    /// Lets a process that begins to write a conflict copy settle with the document's other heads:
    /// those that are shown now and that it saw when it last read the copy. Without having read
    /// it, it settles with none.
    pub(in crate::view) fn settle_only_seen(
        &self,
        reader: Option<Reader>,
        there: &ShownThere,
        body: &mut Locked<'_>,
    ) {
        if body.is_dirty() {
            return;
        }
        let last_read = self.last_read(reader, there.parent, &there.name);
        let saw = |version: &Version| last_read.as_ref().is_some_and(|read| read.saw(version));
        let others = there.others.iter().filter(|version| saw(version)).cloned();
        body.set_settles(others.collect());
    }

    /// The document of a save by a reader that read a conflict copy, which has the document's name
    /// by now: its last save settled the conflict, or the version that had the name is gone.
    pub(in crate::view) fn settled_before(
        &self,
        spot: &Spot,
        reader: Option<Reader>,
    ) -> Option<Takeover> {
        let read = self.last_read(reader, spot.parent, OsStr::new(&spot.name))?;
        let key = &read.head.version.key;
        let heads = self.vault.document(key).filter(|_| read.is_conflict)?;
        let [head] = &heads.heads()[..] else {
            return None;
        };
        let is_shown_elsewhere = head
            .blobs()
            .any(|blob| read.head.blobs().any(|seen| seen.id == blob.id));
        if !is_shown_elsewhere && !self.descends_from(&read.head, head) {
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
