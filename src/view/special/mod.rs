//! The parts of the view that are not documents: `keys/`, `software/` and `.dds/`.

pub(in crate::view) mod dds;
pub(in crate::view) mod keys;
pub(in crate::view) mod software;
pub(in crate::view) mod status;

use std::ffi::{OsStr, OsString};
use std::sync::Arc;

use crate::error::{Error, Kind, Result};
use crate::ids::Timestamp;
use crate::plaintext::Plaintext;
use crate::store::FileName;
use crate::view::draft::open_file::{OpenFile, Target};
use crate::view::rules::not_found;
use crate::view::tree::names::safe;
use crate::view::tree::{DirNode, FileRole, Ino, NodeData, Role, Stat};
use crate::view::{Tree, View};

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
                // The directory was removed: it shows nothing.
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

    /// Returns the content of a file of `keys/` or `.dds/`, as it is now.
    pub(in crate::view) fn load_special(&self, role: &FileRole) -> Result<OpenFile> {
        if let FileRole::Rescued(blob) = role {
            let content = self.vault.rescued_content(*blob)?;
            let stat = Stat {
                size: content.len(),
                mtime: Timestamp::now(),
                mode: 0o4,
            };
            return Ok(OpenFile::published(
                content,
                Target::Nowhere,
                stat,
                &self.scratch,
            ));
        }
        let (bytes, target, mode) = match role {
            FileRole::Key(name) => {
                let bytes = self.vault.read_key_file(name)?;
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
        Ok(OpenFile::published(content, target, stat, &self.scratch))
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

/// Makes the children of a directory those that were found.
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
        let unsaved = tree.file(ino).is_some_and(|file| file.is_draft());
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
