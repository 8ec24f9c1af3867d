//! Removing files and directories.

use std::ffi::OsStr;
use std::sync::Arc;

use crate::error::{Error, Kind, Result, printable};
use crate::ids::{BlobKind, Folder};
use crate::vault::{Head, PRIVATE_RECIPIENTS, Version};
use crate::view::View;
use crate::view::error_log::About;
use crate::view::rules::{dds_is_read_only, no_files_here, not_found, software_is_read_only};
use crate::view::tree::{FileRole, Ino, NodeData, Role, Shown};

impl View {
    /// Removes a file.
    ///
    /// # Errors
    /// `Forbidden` or `ReadOnlyTree` by the rules for messages and notes; `IsDirectory`;
    /// `NotFound`; `Io` as the disk says.
    pub fn unlink(&self, parent: Ino, name: &OsStr) -> Result<()> {
        self.reporting(About::Name(parent, name), || self.remove_file(parent, name))
    }

    pub(in crate::view) fn remove_file(&self, parent: Ino, name: &OsStr) -> Result<()> {
        let stored = {
            let tree = self.tree();
            let unlisted = tree.child(parent, name).is_none();
            let in_keys = tree.dir(parent).is_some_and(|dir| dir.role == Role::Keys);
            (unlisted && in_keys)
                .then(|| self.spelled_key(&tree, parent, name))
                .flatten()
        };
        if let Some(stored) = stored {
            return self.remove_file(parent, stored.as_os_str());
        }
        let Some(ino) = self.tree().child(parent, name) else {
            return match self.find(parent, name)? {
                Some(_) => Err(Error::new(
                    Kind::Forbidden,
                    "another spelling of a directory",
                )),
                None => Err(not_found()),
            };
        };
        let open = self.tree().file(ino).and_then(|file| file.open.clone());
        // A publication under way ends first, as that of a file just closed: it is removed, too.
        let mut body = open.as_ref().map(|open| open.lock());
        let role = match &self.tree().get(ino).ok_or_else(not_found)?.data {
            NodeData::Dir(_) => return Err(Error::new(Kind::IsDirectory, "it is a directory")),
            // An editor's lock: other spellings of directories are no children.
            NodeData::Alias(_) => FileRole::Scratch,
            NodeData::File(file) => file.role.clone(),
        };
        // The version that a draft would have replaced comes back.
        let hidden = match &role {
            FileRole::Document(shown) if shown.head.is_none() => Some(shown.key.clone()),
            _ => None,
        };
        let removed = match &role {
            FileRole::Document(shown) | FileRole::Backup(shown, _) => Some(shown.key.clone()),
            _ => None,
        };
        match role {
            FileRole::Document(Shown {
                head: Some(head),
                is_conflict,
                ..
            }) => {
                self.check_removable(&head, is_conflict)?;
                let (hidden, removed): (Vec<_>, Vec<_>) = self
                    .with_superseded(&head)
                    .into_iter()
                    .partition(|version| version.has_other_readers());
                self.vault.hide(&hidden)?;
                self.vault.remove(&removed)?;
            }
            FileRole::Backup(
                Shown {
                    head: Some(head), ..
                },
                _,
            ) => {
                // Nothing was published in its place: removing it removes the document.
                self.check_removable(&head, false)?;
                self.vault.remove(&self.with_superseded(&head))?;
            }
            FileRole::Document(Shown { head: None, .. })
            | FileRole::Backup(Shown { head: None, .. }, _)
            | FileRole::Scratch => {}
            FileRole::Key(name) => self.remove_key(&name)?,
            FileRole::Rescued(blob) => self.vault.drop_rescued(blob)?,
            FileRole::Software(_) => return Err(software_is_read_only()),
            FileRole::Status | FileRole::Errors => return Err(dds_is_read_only()),
        }
        if let Some(body) = &mut body {
            // Programs that have it open go on reading and writing; nothing of it is published.
            body.remove();
        }
        drop(body);
        if let Some(key) = removed {
            self.forget_made_here(&key);
        }
        let people = self.vault.people();
        let mut tree = self.tree();
        self.keep_emptied(&mut tree, parent);
        tree.note_freed();
        tree.detach(ino);
        if let Some(key) = hidden {
            let document = self.vault.document(&key);
            tree.apply(vec![(key, document)], &people);
        }
        drop(tree);
        self.show_changes();
        Ok(())
    }

    /// A directory that a program empties is there until the program removes it.
    pub(in crate::view) fn keep_emptied(&self, tree: &mut crate::view::Tree, parent: Ino) {
        if let Some(dir) = tree.dir_mut(parent) {
            dir.listed_while_empty |= matches!(dir.role, Role::Sub(..));
        }
    }

    fn remove_key(&self, name: &crate::store::FileName) -> Result<()> {
        match self.vault.remove_key_file(name) {
            Err(error) if error.kind() != Kind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// The head's blobs, and the blobs that they replaced and that are still there.
    fn with_superseded(&self, head: &Head) -> Vec<Arc<Version>> {
        let mut lineage = self.vault.superseded_by(head);
        // The oldest first: after a crash in between, the newest is left.
        lineage.extend(head.blobs().cloned());
        lineage
    }

    /// Decides whether a document may be removed, by the rules of dds(7).
    fn check_removable(&self, head: &Head, is_conflict: bool) -> Result<()> {
        let version = &head.version;
        if head.blobs().any(|version| version.has_unseen_messages()) {
            return Err(unseen_messages(version));
        }
        match (version.folder(), version.audience()) {
            // A message with other readers is only hidden.
            (Folder::Messages, _) => Ok(()),
            (Folder::Notes, None) => {
                let few = version.recipients <= PRIVATE_RECIPIENTS;
                few.then_some(()).ok_or_else(others_read_it)
            }
            (Folder::Notes, Some(audience)) => {
                let moved = || {
                    let digest = version.digest;
                    digest.is_some_and(|digest| self.is_published_wider(digest, audience))
                };
                // As long as there is another version to keep.
                let others = || {
                    let document = self.vault.document(&version.key);
                    document.is_some_and(|document| document.heads().len() > 1)
                };
                let free = audience.is_me()
                    || (is_conflict && others())
                    || version.kind == BlobKind::Directory
                    || self.options.remove_shared_notes
                    || self.is_made_here(&version.key)
                    || moved();
                free.then_some(()).ok_or_else(|| {
                    let rule = "notes are kept: others read this one too (remove_shared_notes \
                                in the configuration allows it)";
                    Error::new(Kind::Forbidden, rule)
                })
            }
        }
    }

    /// Removes an empty directory among notes.
    ///
    /// # Errors
    /// `NotEmpty`; `Busy` for an audience's directory; `Forbidden` elsewhere; `NotDirectory`.
    pub fn rmdir(&self, parent: Ino, name: &OsStr) -> Result<()> {
        self.reporting(About::Name(parent, name), || {
            self.remove_directory(parent, name)
        })
    }

    pub(in crate::view) fn remove_directory(&self, parent: Ino, name: &OsStr) -> Result<()> {
        let (ino, markers) = {
            let tree = self.tree();
            let ino = tree.child(parent, name).ok_or_else(not_found)?;
            let dir = tree
                .dir(ino)
                .ok_or_else(|| self.not_a_directory(&tree, ino))?;
            match &dir.role {
                Role::Sub(..) if dir.children.is_empty() => (ino, dir.markers.clone()),
                Role::Sub(..) => return Err(Error::new(Kind::NotEmpty, "it is not empty")),
                Role::Software(_) => return Err(no_files_here(&dir.role)),
                Role::Root
                | Role::Folder(_)
                | Role::Audience(..)
                | Role::Unverified(_)
                | Role::Keys
                | Role::Dds
                | Role::Rescued => {
                    return Err(Error::new(Kind::Busy, "this directory always exists"));
                }
            }
        };
        for (_, head) in &markers {
            self.vault.remove(&self.with_superseded(head))?;
        }
        let mut tree = self.tree();
        if tree.dir(ino).is_some_and(|dir| !dir.children.is_empty()) {
            // Something arrived meanwhile: the directory is there without a blob of its own.
            for (key, _) in &markers {
                tree.forget_marker(ino, key);
            }
            return Err(Error::new(Kind::NotEmpty, "it is not empty"));
        }
        self.keep_emptied(&mut tree, parent);
        tree.detach(ino);
        drop(tree);
        self.show_changes();
        Ok(())
    }
}

fn unseen_messages(version: &Version) -> Error {
    let (folder, file) = (version.folder().name(), version.entry.name.to_string());
    let rule = format!(
        "several messages are in this one file, and nobody has seen them: it stays. Take {folder}/{} \
         out of the store and split it, or remove it there",
        printable(&file)
    );
    Error::new(Kind::Forbidden, rule)
}

fn others_read_it() -> Error {
    let rule = "others read this blob too, and removing it would take it from them";
    Error::new(Kind::Forbidden, rule)
}
