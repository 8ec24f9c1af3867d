//! Takes the vault's changes into the tree.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::error::Result;
use crate::ids::Folder;
use crate::vault::{Audience, Changes, DocKey, Document};
use crate::view::tree::{FileRole, Ino};
use crate::view::{Tree, View};

/// How long a name that a program freed stays free for that program, unless the directory is listed.
const RESERVED: Duration = Duration::from_secs(2);

impl View {
    /// Looks at the whole store and shows its changes.
    ///
    /// # Errors
    /// As [`crate::vault::Vault::refresh`].
    pub fn refresh(&self) -> Result<()> {
        self.vault.refresh()?;
        self.show_changes();
        Ok(())
    }

    /// Brings the tree up to date with the vault.
    pub(in crate::view) fn show_changes(&self) {
        let people = self.vault.people();
        let is_read = self.vault.is_scanned();
        let mut tree = self.tree();
        self.begin_events(&mut tree);
        let stale = tree.drop_stale_audiences(&people);
        for folder in Folder::ALL {
            tree.unverified_dir(folder);
            for contact in people.contacts() {
                let alone = Audience::from_iter([contact.fingerprint.clone()]);
                tree.audience_dir(folder, &alone, &people);
            }
        }
        tree.audience_dir(Folder::Notes, &Audience::me(), &people);
        // Taken under the tree's lock, so that changes are applied in their order.
        let mut changes = self.changed_documents(&tree);
        for key in stale {
            if !changes.iter().any(|(changed, _)| *changed == key) {
                let document = self.vault.document(&key);
                changes.push((key, document));
            }
        }
        self.note_made_elsewhere(&changes);
        tree.apply(changes, &people);
        self.publish_events(&mut tree, &people);
        self.was_read.fetch_or(is_read, Ordering::Relaxed);
    }

    /// Counts a document as changed, since the tree no longer shows its state.
    pub(in crate::view) fn show_again(&self, key: &DocKey) {
        self.changes.lock().ask_again(key.clone());
    }

    /// Returns the documents that changed since the last call; a document without a state is gone.
    fn changed_documents(&self, tree: &Tree) -> Vec<(DocKey, Option<Document>)> {
        match self.vault.changes(&mut self.changes.lock()) {
            Changes::Changed(changed) => changed,
            Changes::Lagged { present, in_flight } => {
                let there = present.iter().map(|(key, _)| key).chain(&in_flight);
                let there: HashSet<&DocKey> = there.collect();
                let gone = tree.by_document.keys().filter(|key| !there.contains(key));
                let gone: Vec<_> = gone.map(|key| (key.clone(), None)).collect();
                let present = present.into_iter().map(|(key, one)| (key, Some(one)));
                present.chain(gone).collect()
            }
        }
    }

    /// Shows a document as it is now, though nothing of it may have changed.
    pub(in crate::view) fn show_document_again(&self, ino: Ino) {
        let key = self.tree().shown(ino).map(|shown| shown.key.clone());
        if let Some(key) = key {
            self.show_again(&key);
            self.show_changes();
        }
    }

    /// Gives free names away, in one directory or in all.
    pub(in crate::view) fn give_free_names(&self, only: Option<Ino>) {
        let people = self.vault.people();
        let mut tree = self.tree();
        if tree.misnamed.nodes.is_empty() || tree.misnamed.renamed > 0 {
            return;
        }
        self.begin_events(&mut tree);
        // A file that gets its own name may free the name that it had.
        while tree.give_free_names(only, &people) {}
        self.publish_events(&mut tree, &people);
    }

    /// As [`View::give_free_names`], unless a program freed a name a moment ago.
    pub(in crate::view) fn give_unreserved_names(&self, only: Option<Ino>) {
        let reserved = self.tree().misnamed.freed;
        if reserved.is_none_or(|freed| freed.elapsed() >= RESERVED) {
            self.give_free_names(only);
        }
    }

    /// Lists the files that show a concurrent version of a document beside it, with the document's
    /// own name where it is known.
    pub(in crate::view) fn conflicts(&self) -> Vec<String> {
        let tree = self.tree();
        let mut conflicts = Vec::new();
        for (ino, file) in tree.files().filter(|(ino, _)| tree.is_attached(*ino)) {
            let FileRole::Document(shown) = &file.role else {
                continue;
            };
            if shown.is_conflict && shown.head.is_some() {
                let own = tree.holder(&shown.key).map(|holder| tree.path(holder));
                conflicts.push((tree.path(ino), own));
            }
        }
        conflicts.sort();
        let sentence = |(copy, own): (String, Option<String>)| match own {
            Some(own) => format!(
                "{copy} is another version of {own}, made at the same time: save in one of them \
                 what is right, and remove the other version"
            ),
            None => format!("{copy} is one of several versions made at the same time"),
        };
        conflicts.into_iter().map(sentence).collect()
    }
}
