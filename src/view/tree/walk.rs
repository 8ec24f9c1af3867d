//! Ways through the tree: down from a directory, and along a path.

use std::ffi::OsStr;

use crate::view::tree::{Ino, OpenContent, Role, Tree};

impl<O: OpenContent> Tree<O> {
    /// Lists all nodes below a directory, directories before their contents, itself first.
    pub(in crate::view) fn below(&self, ino: Ino) -> Vec<Ino> {
        let mut all = vec![ino];
        let mut next = 0;
        while let Some(ino) = all.get(next).copied() {
            next += 1;
            if let Some(dir) = self.dir(ino) {
                all.extend(dir.children.values());
            }
        }
        all
    }

    /// Tells a directory and those below it their new paths.
    pub(in crate::view) fn change_paths(&mut self, ino: Ino, old: &str, new: &str) {
        for node in self.below(ino) {
            if let Some(dir) = self.dir_mut(node) {
                if let Role::Sub(_, path) = &mut dir.role {
                    *path = format!("{new}{}", path.strip_prefix(old).unwrap_or_default());
                }
            }
        }
    }

    /// Tells whether a node is a directory or below it.
    pub(in crate::view) fn is_at_or_below(&self, node: Ino, dir: Ino) -> bool {
        let mut at = node;
        while at != dir && at != Ino::ROOT {
            match self.get(at) {
                Some(node) => at = node.parent,
                None => return false,
            }
        }
        at == dir
    }

    /// Finds the node at a path below the root; the empty path is the root itself.
    pub(in crate::view) fn at(&self, path: &str) -> Option<Ino> {
        let mut names = path.split('/').filter(|name| !name.is_empty());
        names.try_fold(Ino::ROOT, |at, name| self.child(at, OsStr::new(name)))
    }
}
