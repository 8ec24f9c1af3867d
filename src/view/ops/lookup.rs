//! Finding names, and listing directories.

use std::ffi::OsStr;

use crate::error::{Error, Kind, Result};
use crate::view::rules::{check_length, not_found};
use crate::view::tree::{Ino, NodeData, Role, audiences};
use crate::view::{Attr, DirEntry, View};

impl View {
    /// Finds a name in a directory.
    ///
    /// # Errors
    /// `NotFound`; `NotDirectory`; `NameTooLong`; `Io` when the store cannot be read.
    pub fn lookup(&self, parent: Ino, name: &OsStr) -> Result<Attr> {
        check_length(name)?;
        self.refresh_special(parent, Some(name))?;
        if let Some(ino) = self.find(parent, name)? {
            return self.getattr(ino);
        }
        self.look()?;
        if let Some(ino) = self.find(parent, name)? {
            return self.getattr(ino);
        }
        self.give_unreserved_names(Some(parent));
        match self.find(parent, name)? {
            Some(ino) => self.getattr(ino),
            None => {
                self.tell_unknown_audience(parent, name);
                Err(not_found())
            }
        }
    }

    /// Tells in `.dds/errors` why a name in `messages/` or `notes/` is no audience: the errno alone
    /// does not say which member is unknown. Hidden names are probes of programs.
    fn tell_unknown_audience(&self, parent: Ino, name: &OsStr) {
        let folder = match self.tree().dir(parent).map(|dir| dir.role.clone()) {
            Some(Role::Folder(folder)) => folder,
            _ => return,
        };
        let spelled = name.to_string_lossy();
        if spelled.starts_with('.') {
            return;
        }
        let why = audiences::why_unknown(&self.vault.people(), folder, &spelled);
        let path = format!("{}/{spelled}", folder.name());
        self.errors.note_once(&path, &why);
    }

    pub(in crate::view) fn find(&self, parent: Ino, name: &OsStr) -> Result<Option<Ino>> {
        let people = self.vault.people();
        let mut tree = self.tree();
        let dir = tree
            .dir(parent)
            .ok_or_else(|| self.not_a_directory(&tree, parent))?;
        let found = dir.children.get(name).copied();
        if dir.role == Role::Keys && found.is_none() {
            // A second name and no link: programs set modes and times of files that they wrote
            // without following links.
            let stored = self.spelled_key(&tree, parent, name);
            return Ok(stored.and_then(|stored| tree.child(parent, stored.as_os_str())));
        }
        let Role::Folder(folder) = dir.role else {
            return Ok(found);
        };
        if let Some(ino) = found {
            // Looked up by its canonical name: it stays listed in this mount.
            if let Some(dir) = tree.dir_mut(ino) {
                dir.listed_while_empty = true;
            }
            return Ok(found);
        }
        let spelled = name.to_str();
        let Some(audience) = spelled.and_then(|name| audiences::resolve(&people, folder, name))
        else {
            return Ok(None);
        };
        let canonical = audiences::canonical_name(&people, &audience);
        if spelled != Some(canonical.as_str()) {
            if audiences::resolve(&people, folder, &canonical).is_none() {
                // A name that does not spell its members is only found while it is there.
                let ino = tree.audience_dir(folder, &audience, &people);
                if let Some(dir) = tree.dir_mut(ino) {
                    dir.listed_while_empty = true;
                }
            }
            return Ok(Some(tree.alias(parent, name, canonical)));
        }
        let ino = tree.audience_dir(folder, &audience, &people);
        if let Some(dir) = tree.dir_mut(ino) {
            dir.listed_while_empty = true;
        }
        Ok(Some(ino))
    }

    /// Finds a name that is shown already, without looking at the store and without keeping
    /// the directory listed.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn peek(&self, parent: Ino, name: &OsStr) -> Result<Attr> {
        let ino = self.tree().child(parent, name).ok_or_else(not_found)?;
        self.getattr(ino)
    }

    /// Returns the target of a symbolic link.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` for anything but a link.
    pub fn readlink(&self, ino: Ino) -> Result<String> {
        match &self.tree().get(ino).ok_or_else(not_found)?.data {
            NodeData::Alias(target) => Ok(target.clone()),
            NodeData::Dir(_) | NodeData::File(_) => {
                Err(Error::new(Kind::Invalid, "not a symbolic link"))
            }
        }
    }

    /// Lists a directory in the order of its names, after looking at the store.
    ///
    /// # Errors
    /// `NotDirectory`; `NotFound`; `Io` when the store cannot be read.
    pub fn list(&self, ino: Ino) -> Result<Vec<DirEntry>> {
        self.look()?;
        self.give_free_names(Some(ino));
        self.refresh_special(ino, None)?;
        let tree = self.tree();
        let dir = tree
            .dir(ino)
            .ok_or_else(|| self.not_a_directory(&tree, ino))?;
        let children = dir.children.iter().filter_map(|(name, ino)| {
            Some(DirEntry {
                ino: *ino,
                kind: tree.get(*ino)?.data.kind(),
                name: name.clone(),
            })
        });
        Ok(children.collect())
    }
}
