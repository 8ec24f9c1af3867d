//! The reference for removing, and for directories.

use super::documents::{Head, Key, Version, Vid};
use super::reference::{Errno, Model, Node, Role, area, members, new_target, split};

impl Model {
    /// Notes are kept, unless they are mine alone, were moved to a wider audience, or were made in
    /// this mount and changed by nobody else.
    pub fn may_remove(&self, key: &Key, head: &Head, conflict: bool) -> Result<(), Errno> {
        let bytes = &self.docs.all[head[0]].bytes;
        let moved = self.published.iter().any(|(what, to)| {
            what == bytes && *to != key.area && members(to).is_superset(&members(&key.area)) && {
                members(to) != members(&key.area)
            }
        });
        // Of a note's heads one is kept.
        let other = conflict && self.docs.heads(key).len() > 1;
        let made_here = self.made.get(key).is_some_and(|made| {
            let mut versions = self
                .docs
                .present()
                .filter(|(_, version)| version.key == *key);
            versions.all(|(vid, _)| made.contains(&vid))
        });
        match key.is_message() || key.area == "notes/me" || other || moved || made_here {
            true => Ok(()),
            false => Err(libc::EPERM),
        }
    }

    /// A directory that a program empties is there until the program removes it.
    pub fn keep(&mut self, dir: &str) {
        if let Some(Node::Dir { kept, .. }) =
            self.names.get(dir).and_then(|id| self.nodes.get_mut(id))
        {
            *kept = true;
        }
    }

    pub fn unlink(&mut self, path: &str) -> Result<(), Errno> {
        let id = self.find(path)?;
        if self.is_dir(path) {
            return Err(libc::EISDIR);
        }
        let removed = match self.file(id).role.clone() {
            Role::Document {
                key,
                head: Some(head),
                conflict,
            } => {
                self.may_remove(&key, &head, conflict)?;
                Some(head)
            }
            Role::Backup { key, head, .. } => {
                self.may_remove(&key, &head, false)?;
                Some(head)
            }
            Role::Scratch | Role::Document { head: None, .. } => None,
        };
        if let Some(head) = removed {
            self.docs.remove(&head);
        }
        if let Role::Document { key, .. } | Role::Backup { key, .. } = &self.file(id).role.clone() {
            self.made.remove(key);
        }
        self.file_mut(id).unlinked = true;
        self.keep(split(path).0);
        self.detach(path);
        self.refresh();
        Ok(())
    }

    pub fn mkdir(&mut self, path: &str) -> Result<(), Errno> {
        self.parent(path)?;
        if self.names.contains_key(path) {
            return Err(libc::EEXIST);
        }
        if path.starts_with("messages/") {
            return Err(libc::EPERM);
        }
        let doc = self.docs.new_doc();
        let target = new_target(path, doc);
        let vid = self.publish_marker(
            path,
            Key {
                marker: true,
                ..target.key
            },
            &[],
        );
        let node = Node::Dir {
            markers: vec![vid],
            kept: false,
        };
        self.attach(path.to_owned(), node);
        self.refresh();
        Ok(())
    }

    pub fn publish_marker(&mut self, path: &str, key: Key, replaces: &[Vid]) -> Vid {
        let version = Version {
            key,
            path: area(path).1.to_owned(),
            bytes: Vec::new(),
            mode: 6,
            replaces: Vec::new(),
            present: true,
            blobs: Vec::new(),
            created: dds::ids::Timestamp::now().seconds(),
        };
        self.docs.publish(replaces, version)
    }

    pub fn children(&self, dir: &str) -> Vec<String> {
        let below = format!("{dir}/");
        let paths = self.names.range(below.clone()..);
        paths
            .map(|(path, _)| path)
            .take_while(|path| path.starts_with(&below))
            .filter(|path| !path[below.len()..].contains('/'))
            .cloned()
            .collect()
    }

    pub fn rmdir(&mut self, path: &str) -> Result<(), Errno> {
        self.find(path)?;
        if !self.is_dir(path) {
            return Err(libc::ENOTDIR);
        }
        if !self.children(path).is_empty() {
            return Err(libc::ENOTEMPTY);
        }
        for vid in self.markers(path) {
            self.docs.remove(&vec![vid]);
        }
        self.keep(split(path).0);
        self.detach(path);
        self.refresh();
        Ok(())
    }

    /// The versions that keep a directory while it is empty.
    pub fn markers(&self, path: &str) -> Vec<Vid> {
        let (area, below) = area(path);
        let here = self.docs.present().filter(|(_, version)| {
            version.key.marker && version.key.area == area && version.path == below
        });
        here.map(|(vid, _)| vid).collect()
    }
}
