//! The parts of the view that are not documents: `keys/`, `software/` and `.dds/`.

pub(in crate::view) mod local_time;
pub(in crate::view) mod status;

use std::ffi::{OsStr, OsString};
use std::sync::Arc;

use crate::error::{Error, Kind, Result};
use crate::ids::Timestamp;
use crate::plaintext::Plaintext;
use crate::store::{FileName, SoftwareEntry, SoftwareKind};
use crate::vault::KEY_FILE_LIMIT;
use crate::view::draft::state::{OpenFile, Stat, Target};
use crate::view::ops::open::{Access, Handle, no_files_here};
use crate::view::tree::names::safe;
use crate::view::tree::{DirNode, FileRole, Ino, NodeData, Role, Tree};
use crate::view::{View, lock, not_found};

/// Makes the directories and files that every view has.
pub(in crate::view) fn plant(tree: &mut Tree) {
    tree.dir_named(Ino::ROOT, "keys", Role::Keys);
    tree.dir_named(Ino::ROOT, "software", Role::Software(Vec::new()));
    let dds = tree.dir_named(Ino::ROOT, ".dds", Role::Dds);
    tree.attach_file(dds, "status", FileRole::Status);
    tree.attach_file(dds, "errors", FileRole::Errors);
    tree.dir_named(dds, "rescued", Role::Rescued);
}

/// A file or directory that the store has and the tree must show.
struct StoredEntry {
    name: FileName,
    /// The name made safe.
    shown: OsString,
    what: Special,
    stat: Stat,
}

/// What a name stands for that a program gave a file of certificates, and that the file does not
/// have.
pub(in crate::view) struct SpelledKey {
    stored: FileName,
    /// The file was not there before the program wrote it.
    is_new: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Special {
    Key,
    SoftwareFile,
    SoftwareDir,
}

impl View {
    /// Brings the children of a directory that mirrors the store up to date: all of them, or at
    /// least the one that is asked for.
    pub(in crate::view) fn refresh_special(&self, ino: Ino, name: Option<&OsStr>) -> Result<()> {
        let role = match self.tree().dir(ino) {
            Some(dir) => dir.role.clone(),
            None => return Ok(()),
        };
        let found = match &role {
            Role::Keys => self.find_keys().map_err(folder_error)?,
            Role::Software(path) => match self.find_software(path) {
                Ok(found) => found,
                // The directory went: it shows nothing.
                Err(error) if error.kind() == Kind::NotFound => Vec::new(),
                Err(error) if path.is_empty() => return Err(folder_error(error)),
                Err(error) => return Err(error),
            },
            Role::Root
            | Role::Folder(_)
            | Role::Audience(..)
            | Role::Sub(..)
            | Role::Unverified(_)
            | Role::Dds
            | Role::Rescued => return Ok(()),
        };
        let asked = name.is_some_and(|name| found.iter().any(|f| f.shown == name));
        let mut tree = self.tree();
        if name.is_some() && !asked && name.and_then(|name| tree.child(ino, name)).is_none() {
            return Ok(());
        }
        show_found(&mut tree, ino, &role, found);
        Ok(())
    }

    fn find_keys(&self) -> Result<Vec<StoredEntry>> {
        let keys = self.vault.store().keys()?.into_iter();
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

    fn find_software(&self, path: &[FileName]) -> Result<Vec<StoredEntry>> {
        let listed = self.vault.store().software_list(path)?.into_iter();
        let found = |(name, entry): (FileName, SoftwareEntry)| StoredEntry {
            shown: shown_name(&name),
            name,
            what: match entry.kind {
                SoftwareKind::File => Special::SoftwareFile,
                SoftwareKind::Directory => Special::SoftwareDir,
            },
            stat: Stat {
                size: entry.size(),
                mtime: entry.mtime(),
                mode: 0o4,
            },
        };
        Ok(listed.map(found).collect())
    }

    /// Returns the content of a file of `keys/` or `.dds/`, as it is now.
    pub(in crate::view) fn load_special(&self, role: &FileRole) -> Result<OpenFile> {
        if let FileRole::Rescued(blob) = role {
            let content = self.vault.rescued_content(*blob)?;
            let stat = Stat {
                size: content.len(),
                mtime: Timestamp::now(),
                mode: 0o4,
            };
            return Ok(OpenFile::published(content, Target::Nowhere, stat));
        }
        let (bytes, target, mode) = match role {
            FileRole::Key(name) => {
                let bytes = self.vault.store().read_key(name, KEY_FILE_LIMIT)?;
                (bytes, Target::Key(name.clone()), 0o6)
            }
            FileRole::Status => (self.status().to_string().into_bytes(), Target::Nowhere, 0o4),
            FileRole::Errors => (self.errors.text().into_bytes(), Target::Nowhere, 0o4),
            FileRole::Document(_)
            | FileRole::Scratch
            | FileRole::Backup(..)
            | FileRole::Rescued(_)
            | FileRole::Software(_) => {
                return Err(not_found());
            }
        };
        let content = Arc::new(Plaintext::from(bytes.as_slice()));
        let stat = Stat {
            size: content.len(),
            mtime: Timestamp::now(),
            mode,
        };
        Ok(OpenFile::published(content, target, stat))
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
        let mut spelled = lock(&self.spelled_keys);
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
        let stored = lock(&self.spelled_keys).get(name)?.stored.clone();
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
            let bytes = self.vault.store().read_key(&stored, KEY_FILE_LIMIT)?;
            self.vault.put_key(over, &bytes)?;
        }
        let known = lock(&self.spelled_keys).remove(name);
        match (known, over) {
            // Only now nothing else holds what was written.
            (Some(known), Some(_)) if known.is_new => {
                self.vault.store().remove_key(&stored)?;
            }
            (Some(known), None) if *new_name != *stored.as_os_str() => {
                lock(&self.spelled_keys).insert(new_name.to_owned(), known);
            }
            _ => {}
        }
        Ok(true)
    }

    /// Opens a file of `software/`, which is read from the disk piece by piece; refuses writing
    /// where nothing is ever written. `None`: any other file.
    pub(in crate::view) fn open_special(&self, ino: Ino, access: Access) -> Result<Option<Handle>> {
        let role = {
            let tree = self.tree();
            match &tree.get(ino).ok_or_else(not_found)?.data {
                NodeData::File(file) => file.role.clone(),
                NodeData::Dir(_) => return Err(Error::new(Kind::IsDirectory, "it is a directory")),
                NodeData::Alias(_) => return Err(not_found()),
            }
        };
        match role {
            FileRole::Software(_) if access.write => {
                Err(no_files_here(&Role::Software(Vec::new())))
            }
            FileRole::Software(path) => {
                let open = lock(&self.handles);
                let open = open.values().filter(|handle| handle.is_software()).count();
                if self.options.open_software.is_some_and(|most| open >= most) {
                    let rule = "too many files of software/ are open at once: close some";
                    return Err(Error::new(Kind::Busy, rule));
                }
                let file = self.vault.store().software_open(&path)?;
                Ok(Some(Handle::Software(file)))
            }
            FileRole::Status | FileRole::Errors | FileRole::Rescued(_) if access.write => {
                Err(no_files_here(&Role::Dds))
            }
            FileRole::Status
            | FileRole::Errors
            | FileRole::Rescued(_)
            | FileRole::Document(_)
            | FileRole::Scratch
            | FileRole::Backup(..)
            | FileRole::Key(_) => Ok(None),
        }
    }
}

/// Says that the store cannot be read, where the directory itself is one in the view.
fn folder_error(error: Error) -> Error {
    match error.kind() {
        Kind::NotDirectory => Error::new(Kind::Io, error.to_string()),
        _ => error,
    }
}

/// Names in `keys/` and `software/` come from others, as those inside blobs do.
fn shown_name(name: &FileName) -> OsString {
    safe(name.as_os_str().as_encoded_bytes()).into()
}

/// Makes the children of a directory what was found.
fn show_found(tree: &mut Tree, parent: Ino, role: &Role, found: Vec<StoredEntry>) {
    let children: Vec<_> = match tree.dir(parent) {
        Some(dir) => dir
            .children
            .iter()
            .map(|(name, ino)| (name.clone(), *ino))
            .collect(),
        None => return,
    };
    for (name, ino) in children {
        let what = kind_shown(tree, ino);
        let still = |f: &StoredEntry| f.shown == name && Some(f.what) == what;
        let unsaved = tree.file(ino).is_some_and(|file| file.draft);
        if !unsaved && !found.iter().any(still) {
            tree.detach(ino);
        }
    }
    for StoredEntry {
        name,
        shown,
        what,
        stat,
    } in found
    {
        let known = tree.child(parent, &shown);
        let below = |name: &FileName| match role {
            Role::Software(path) => path.iter().cloned().chain([name.clone()]).collect(),
            _ => Vec::new(),
        };
        let ino = match (known, what) {
            (Some(ino), _) => ino,
            (None, Special::Key) => tree.attach_file(parent, shown, FileRole::Key(name)),
            (None, Special::SoftwareFile) => {
                let role = FileRole::Software(below(&name));
                tree.attach_file(parent, shown, role)
            }
            (None, Special::SoftwareDir) => {
                let role = Role::Software(below(&name));
                tree.attach(parent, shown, NodeData::Dir(DirNode::new(role)))
            }
        };
        if let Some(file) = tree.file_mut(ino) {
            file.stat = Some(stat);
        } else if let Some(dir) = tree.dir_mut(ino) {
            dir.mtime = stat.mtime;
        }
    }
}

fn kind_shown(tree: &Tree, ino: Ino) -> Option<Special> {
    match &tree.get(ino)?.data {
        NodeData::Dir(_) => Some(Special::SoftwareDir),
        NodeData::File(tree_file) => match tree_file.role {
            FileRole::Key(_) => Some(Special::Key),
            FileRole::Software(_) => Some(Special::SoftwareFile),
            _ => None,
        },
        NodeData::Alias(_) => None,
    }
}
