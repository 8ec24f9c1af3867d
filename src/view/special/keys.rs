//! `keys/`: files of certificates.

use std::ffi::OsStr;

use crate::error::Result;
use crate::store::FileName;
use crate::vault::KEY_FILE_LIMIT;
use crate::view::special::{Special, StoredEntry, shown_name};
use crate::view::tree::{FileRole, Ino, Role, Stat};
use crate::view::{Tree, View};

/// The meaning of a name that a program gave a file of certificates, and under which the file is
/// not stored.
pub(in crate::view) struct SpelledKey {
    stored: FileName,
    /// The file was not there before the program wrote it.
    is_new: bool,
}

impl View {
    pub(super) fn find_keys(&self) -> Result<Vec<StoredEntry>> {
        let keys = self.vault.key_files()?.into_iter();
        let small = keys.filter(|key| key.stamp.size <= KEY_FILE_LIMIT);
        Ok(small
            .map(|key| StoredEntry {
                stat: Stat {
                    size: key.stamp.size,
                    mtime: key.stamp.mtime,
                    mode: 0o6,
                },
                shown: shown_name(&key.name),
                name: key.name,
                what: Special::Key,
            })
            .collect())
    }

    /// Shows a file of certificates under the name that it has in the store. The name under which
    /// a program wrote it stays good in this mount, as another name of it.
    pub(in crate::view) fn show_stored_key(&self, ino: Ino, stored: &FileName) {
        let mut tree = self.tree();
        let Some(node) = tree.get(ino).filter(|node| node.name != stored.as_os_str()) else {
            return;
        };
        let (parent, written) = (node.parent, node.name.clone());
        if !tree.is_attached(ino) {
            return;
        }
        let is_new = tree.child(parent, stored.as_os_str()).is_none();
        if is_new {
            tree.relocate(ino, parent, stored.as_os_str());
        } else {
            tree.detach(ino);
        }
        tree.set_role(ino, FileRole::Key(stored.clone()));
        let mut spelled = self.spelled_keys.lock();
        // Written again, it is as new as it was.
        let known = spelled.get(&written);
        let known = known.is_some_and(|known| known.is_new && known.stored == *stored);
        let stored = stored.clone();
        let is_new = is_new || known;
        spelled.insert(written, SpelledKey { stored, is_new });
    }

    /// Finds the file that was written under another name than it has.
    pub(in crate::view) fn spelled_key(
        &self,
        tree: &Tree,
        parent: Ino,
        name: &OsStr,
    ) -> Option<FileName> {
        let stored = self.spelled_keys.lock().get(name)?.stored.clone();
        let is_there = tree.child(parent, stored.as_os_str()).is_some();
        is_there.then_some(stored)
    }

    /// Renames a file of certificates that has another name than the one given, as programs do
    /// that write a file aside first. Over another file its certificates go into that one. Tells
    /// whether it was such a file.
    ///
    /// # Errors
    /// As [`crate::vault::Vault::put_key`], if the other file holds other keys.
    pub(in crate::view) fn respell_key(
        &self,
        parent: Ino,
        name: &OsStr,
        new_name: &OsStr,
    ) -> Result<bool> {
        let (stored, over) = {
            let tree = self.tree();
            if tree.dir(parent).is_none_or(|dir| dir.role != Role::Keys)
                || tree.child(parent, name).is_some()
            {
                return Ok(false);
            }
            let Some(stored) = self.spelled_key(&tree, parent, name) else {
                return Ok(false);
            };
            let over = tree.child(parent, new_name).and_then(|ino| tree.file(ino));
            let over = over.and_then(|file| match &file.role {
                FileRole::Key(over) => Some(over.clone()),
                _ => None,
            });
            (stored, over)
        };
        let over = over.filter(|over| *over != stored);
        if let Some(over) = &over {
            let bytes = self.vault.read_key_file(&stored)?;
            self.vault.put_key(over, &bytes)?;
        }
        let known = self.spelled_keys.lock().remove(name);
        match (known, over) {
            // Only now no other file holds the certificates.
            (Some(known), Some(_)) if known.is_new => {
                self.vault.remove_key_file(&stored)?;
            }
            (Some(known), None) if *new_name != *stored.as_os_str() => {
                self.spelled_keys.lock().insert(new_name.to_owned(), known);
            }
            _ => {}
        }
        Ok(true)
    }
}
