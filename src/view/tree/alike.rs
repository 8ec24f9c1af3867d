//! Names that look the same: those that differ only in characters that nobody sees.
//!
//! Such characters are kept in words that are spelled with them. In one directory, of the names
//! that then look the same the first keeps its own; another one gets a remark, or cannot be made.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use crate::error::skeleton;
use crate::view::tree::{DirNode, Ino, OpenContent, Tree};

/// The children of a directory that have such characters in their names, by their visible part.
#[derive(Default)]
pub(in crate::view) struct Alike(BTreeMap<String, OsString>);

impl DirNode {
    /// Adds a child. Returns the one that had its name.
    pub(in crate::view) fn insert_child(&mut self, name: OsString, ino: Ino) -> Option<Ino> {
        if let Some(seen) = seen(&name) {
            self.alike.0.insert(seen, name.clone());
        }
        self.children.insert(name, ino)
    }

    /// Takes a child away.
    pub(in crate::view) fn remove_child(&mut self, name: &OsStr) {
        if let Some(seen) = seen(name) {
            if self.alike.0.get(&seen).is_some_and(|known| known == name) {
                self.alike.0.remove(&seen);
            }
        }
        self.children.remove(name);
    }

    /// Finds another child whose name looks the same.
    fn look_alike(&self, name: &OsStr) -> Option<Ino> {
        let other = match seen(name) {
            Some(seen) => match self.children.get(OsStr::new(&seen)) {
                Some(plain) => return Some(*plain),
                None => self.alike.0.get(&seen)?,
            },
            None if self.alike.0.is_empty() => return None,
            None => self.alike.0.get(name.to_str()?)?,
        };
        let other = Some(other).filter(|other| *other != name)?;
        self.children.get(other).copied()
    }
}

/// The visible part of a name, if that is not all of it.
fn seen(name: &OsStr) -> Option<String> {
    let name = name.to_str().filter(|name| !name.is_ascii())?;
    let seen = skeleton(name);
    (seen != name).then_some(seen)
}

impl<O: OpenContent> Tree<O> {
    /// Finds a file or directory whose name looks like one that is free.
    pub(in crate::view) fn look_alike(&self, parent: Ino, name: &OsStr) -> Option<Ino> {
        self.dir(parent)?.look_alike(name)
    }

    /// Tells whether a name is taken in a directory, or looks like one that is.
    pub(in crate::view) fn is_taken(&self, parent: Ino, name: &str) -> bool {
        let name = OsStr::new(name);
        self.child(parent, name).is_some() || self.look_alike(parent, name).is_some()
    }
}
