//! The tree that is shown: nodes, their inode numbers and names.
//!
//! A node stays while it is attached to its directory, or the kernel remembers its number, or a
//! handle is open on it. The tree makes no rule and does no I/O.

pub(in crate::view) mod alike;
pub(in crate::view) mod audiences;
pub(in crate::view) mod changes;
pub(in crate::view) mod documents;
pub(in crate::view) mod free_names;
pub(in crate::view) mod layout;
pub(in crate::view) mod names;
mod node;
pub(in crate::view) mod walk;

use std::collections::{BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};

use crate::ids::Timestamp;
use crate::vault::{DocKey, Head};
use crate::view::tree::changes::{ChangeKind, TreeChange};
use crate::view::tree::free_names::Misnamed;
use crate::view::tree::node::document_of;

pub(in crate::view) use node::{
    DirNode, FileNode, FileRole, Node, NodeData, OpenContent, Origin, Role, Shown, Stat,
};
pub use node::{Ino, NodeKind};

pub(in crate::view) struct Tree<O> {
    nodes: HashMap<Ino, Node<O>>,
    next: u64,
    /// Nodes that show a document, or a directory that it keeps.
    pub(in crate::view) by_document: HashMap<DocKey, Vec<Ino>>,
    /// Aliases that were looked up; they are in no listing.
    aliases: HashMap<(Ino, OsString), Ino>,
    /// Nodes that are backups; also some that were.
    backups: BTreeSet<Ino>,
    /// Changes that others made, while they are taken in.
    recorded: Option<Vec<TreeChange>>,
    pub(in crate::view) misnamed: Misnamed,
}

impl<O: OpenContent> Tree<O> {
    pub(in crate::view) fn new() -> Self {
        let root = Node {
            parent: Ino::ROOT,
            name: OsString::new(),
            data: NodeData::Dir(DirNode::new(Role::Root)),
            attached: true,
            lookups: 1,
            changed: None,
            read: None,
        };
        Tree {
            nodes: HashMap::from([(Ino::ROOT, root)]),
            next: 2,
            by_document: HashMap::new(),
            backups: BTreeSet::new(),
            aliases: HashMap::new(),
            recorded: None,
            misnamed: Misnamed::default(),
        }
    }

    pub(in crate::view) fn get(&self, ino: Ino) -> Option<&Node<O>> {
        self.nodes.get(&ino)
    }

    pub(in crate::view) fn dir(&self, ino: Ino) -> Option<&DirNode> {
        match &self.nodes.get(&ino)?.data {
            NodeData::Dir(dir) => Some(dir),
            NodeData::Alias(_) | NodeData::File(_) => None,
        }
    }

    pub(in crate::view) fn dir_mut(&mut self, ino: Ino) -> Option<&mut DirNode> {
        match &mut self.nodes.get_mut(&ino)?.data {
            NodeData::Dir(dir) => Some(dir),
            NodeData::Alias(_) | NodeData::File(_) => None,
        }
    }

    pub(in crate::view) fn file(&self, ino: Ino) -> Option<&FileNode<O>> {
        match &self.nodes.get(&ino)?.data {
            NodeData::File(file) => Some(file),
            NodeData::Alias(_) | NodeData::Dir(_) => None,
        }
    }

    pub(in crate::view) fn file_mut(&mut self, ino: Ino) -> Option<&mut FileNode<O>> {
        match &mut self.nodes.get_mut(&ino)?.data {
            NodeData::File(file) => Some(file),
            NodeData::Alias(_) | NodeData::Dir(_) => None,
        }
    }

    pub(in crate::view) fn shown(&self, ino: Ino) -> Option<&Shown> {
        match &self.file(ino)?.role {
            FileRole::Document(shown) => Some(shown),
            _ => None,
        }
    }

    /// Number of links to a directory: its name, `.`, and `..` in each directory in it.
    pub(in crate::view) fn links_of(&self, dir: &DirNode) -> u32 {
        let inside = dir
            .children
            .values()
            .filter(|ino| self.dir(**ino).is_some());
        2 + u32::try_from(inside.count()).unwrap_or(u32::MAX - 2)
    }

    /// Notes that attributes or the name of a node were changed.
    pub(in crate::view) fn note_change(&mut self, ino: Ino) {
        if let Some(node) = self.nodes.get_mut(&ino) {
            node.changed = Some(Timestamp::now());
        }
    }

    /// Sets the time of the last read, as a program gave it.
    pub(in crate::view) fn set_read_time(&mut self, ino: Ino, time: Timestamp) {
        if let Some(node) = self.nodes.get_mut(&ino) {
            node.read = Some(time);
        }
    }

    pub(in crate::view) fn child(&self, parent: Ino, name: &OsStr) -> Option<Ino> {
        self.dir(parent)?.children.get(name).copied()
    }

    pub(in crate::view) fn is_attached(&self, ino: Ino) -> bool {
        self.nodes.get(&ino).is_some_and(|node| node.attached)
    }

    pub(in crate::view) fn files(&self) -> impl Iterator<Item = (Ino, &FileNode<O>)> {
        self.nodes
            .iter()
            .filter_map(|(ino, node)| match &node.data {
                NodeData::File(file) => Some((*ino, file)),
                NodeData::Alias(_) | NodeData::Dir(_) => None,
            })
    }

    /// Adds a node to a directory in which its name is free.
    pub(in crate::view) fn attach(
        &mut self,
        parent: Ino,
        name: impl Into<OsString>,
        data: NodeData<O>,
    ) -> Ino {
        let name = name.into();
        let ino = self.insert(parent, name.clone(), data, true);
        if let Some(dir) = self.dir_mut(parent) {
            let old = dir.insert_child(name, ino);
            debug_assert!(old.is_none(), "no file ever hides another");
            dir.mtime = Timestamp::now();
        }
        self.record(ChangeKind::Appeared, ino);
        ino
    }

    pub(in crate::view) fn attach_file(
        &mut self,
        parent: Ino,
        name: impl Into<OsString>,
        role: FileRole,
    ) -> Ino {
        let document = document_of(&role).cloned();
        let file = FileNode {
            role,
            open: None,
            handles: 0,
            stat: None,
        };
        let ino = self.attach(parent, name, NodeData::File(file));
        if let Some(key) = document {
            self.by_document.entry(key).or_default().push(ino);
            self.note_name(ino);
        }
        ino
    }

    fn insert(&mut self, parent: Ino, name: OsString, data: NodeData<O>, attached: bool) -> Ino {
        let ino = Ino(self.next);
        self.next += 1;
        let node = Node {
            parent,
            name,
            data,
            attached,
            lookups: 0,
            changed: None,
            read: None,
        };
        self.nodes.insert(ino, node);
        ino
    }

    /// Returns the alias node of a spelling, making it if need be.
    pub(in crate::view) fn alias(&mut self, parent: Ino, name: &OsStr, target: String) -> Ino {
        let spot = (parent, name.to_owned());
        if let Some(ino) = self.aliases.get(&spot) {
            let ino = *ino;
            if let Some(node) = self.nodes.get_mut(&ino) {
                node.data = NodeData::Alias(target);
                return ino;
            }
        }
        let ino = self.insert(parent, name.to_owned(), NodeData::Alias(target), false);
        self.aliases.insert(spot, ino);
        ino
    }

    /// Takes a node out of its directory. It lives on while the kernel or a handle knows it.
    pub(in crate::view) fn detach(&mut self, ino: Ino) {
        if !self.is_attached(ino) {
            return;
        }
        self.record(ChangeKind::Gone, ino);
        let Some(node) = self.nodes.get_mut(&ino) else {
            return;
        };
        node.attached = false;
        node.changed = Some(Timestamp::now());
        let (parent, name) = (node.parent, node.name.clone());
        let documents: Vec<DocKey> = match &node.data {
            NodeData::File(file) => document_of(&file.role).into_iter().cloned().collect(),
            NodeData::Dir(dir) => dir.markers.iter().map(|(key, _)| key.clone()).collect(),
            NodeData::Alias(_) => Vec::new(),
        };
        for key in documents {
            self.unindex(&key, ino);
        }
        if let Some(dir) = self.dir_mut(parent) {
            dir.remove_child(&name);
            dir.mtime = Timestamp::now();
        }
        self.collect(ino);
    }

    /// A directory is kept by a document of its own.
    pub(in crate::view) fn keep_by_marker(&mut self, ino: Ino, head: Head) {
        let key = head.version.key.clone();
        self.by_document.entry(key.clone()).or_default().push(ino);
        if let Some(dir) = self.dir_mut(ino) {
            dir.markers.push((key, head));
            dir.listed_while_empty = false;
        }
    }

    /// A directory is no longer kept by a document of its own.
    pub(in crate::view) fn forget_marker(&mut self, ino: Ino, key: &DocKey) {
        if let Some(dir) = self.dir_mut(ino) {
            dir.markers.retain(|(known, _)| known != key);
        }
        self.unindex(key, ino);
    }

    pub(in crate::view) fn unindex(&mut self, key: &DocKey, ino: Ino) {
        if let Some(inos) = self.by_document.get_mut(key) {
            inos.retain(|known| *known != ino);
            if inos.is_empty() {
                self.by_document.remove(key);
            }
        }
    }

    /// Makes a file the backup of the document that it was under a name.
    pub(in crate::view) fn set_backup(
        &mut self,
        ino: Ino,
        shown: Shown,
        parent: Ino,
        name: &OsStr,
    ) {
        let order = self.next;
        self.next += 1;
        let origin = Origin {
            parent,
            name: name.to_owned(),
            order,
        };
        self.set_role(ino, FileRole::Backup(shown, origin));
    }

    /// Finds the document that was renamed away from a name as a backup, last.
    pub(in crate::view) fn backup_of(&self, parent: Ino, name: &OsStr) -> Option<(Ino, Shown)> {
        // One that was removed, and is still open, is no backup any more.
        let nodes = self.backups.iter().filter(|ino| self.is_attached(**ino));
        let backups = nodes.filter_map(|ino| match &self.file(*ino)?.role {
            FileRole::Backup(shown, origin) if origin.is(parent, name) => {
                Some((*ino, shown, origin))
            }
            _ => None,
        });
        let last = backups.max_by_key(|(_, _, origin)| origin.order);
        last.map(|(ino, shown, _)| (ino, shown.clone()))
    }

    /// Changes the role of a file, and keeps the indexes right.
    pub(in crate::view) fn set_role(&mut self, ino: Ino, role: FileRole) {
        let attached = self.is_attached(ino);
        let Some(file) = self.file_mut(ino) else {
            return;
        };
        let new = document_of(&role).cloned();
        let old = document_of(&file.role).cloned();
        let is_backup = matches!(role, FileRole::Backup(..));
        file.role = role;
        match is_backup {
            true => self.backups.insert(ino),
            false => self.backups.remove(&ino),
        };
        if let Some(old) = old {
            self.unindex(&old, ino);
        }
        if let Some(new) = new.filter(|_| attached) {
            self.by_document.entry(new).or_default().push(ino);
            self.note_name(ino);
        }
    }

    /// Moves a node to another name, which must be free.
    pub(in crate::view) fn relocate(&mut self, ino: Ino, parent: Ino, name: &OsStr) {
        let now = Timestamp::now();
        let Some(node) = self.nodes.get_mut(&ino).filter(|node| node.attached) else {
            return;
        };
        node.changed = Some(now);
        let old_parent = std::mem::replace(&mut node.parent, parent);
        let old_name = std::mem::replace(&mut node.name, name.to_owned());
        if let Some(dir) = self.dir_mut(old_parent) {
            dir.remove_child(&old_name);
            dir.mtime = now;
        }
        if let Some(dir) = self.dir_mut(parent) {
            let hidden = dir.insert_child(name.to_owned(), ino);
            debug_assert!(hidden.is_none(), "no file ever hides another");
            dir.mtime = now;
        }
    }

    /// Counts that the kernel looked a number up.
    pub(in crate::view) fn remember(&mut self, ino: Ino) {
        if let Some(node) = self.nodes.get_mut(&ino) {
            node.lookups += 1;
        }
    }

    /// Counts that the kernel forgot a number `times` times.
    pub(in crate::view) fn forget(&mut self, ino: Ino, times: u64) {
        if let Some(node) = self.nodes.get_mut(&ino) {
            node.lookups = node.lookups.saturating_sub(times);
            self.collect(ino);
        }
    }

    /// Drops a node that nothing refers to any more.
    pub(in crate::view) fn collect(&mut self, ino: Ino) {
        let Some(node) = self.nodes.get(&ino) else {
            return;
        };
        // A draft stays until it is saved, or rescued when the mount ends.
        let (handles, draft) = match &node.data {
            NodeData::File(file) => (file.handles, file.is_draft()),
            NodeData::Alias(_) | NodeData::Dir(_) => (0, false),
        };
        if ino == Ino::ROOT || node.attached || node.lookups > 0 || handles > 0 || draft {
            return;
        }
        self.backups.remove(&ino);
        if let Some(node) = self.nodes.remove(&ino) {
            if let NodeData::Alias(_) = node.data {
                self.aliases.remove(&(node.parent, node.name));
            }
        }
    }

    /// Removes a directory that is empty and that nothing keeps, and so its parents.
    pub(in crate::view) fn prune(&mut self, ino: Ino) {
        let Some(node) = self.nodes.get(&ino) else {
            return;
        };
        let parent = node.parent;
        let prunable = match &node.data {
            NodeData::Dir(dir) => {
                let fleeting = matches!(dir.role, Role::Sub(..) | Role::Audience(..));
                fleeting
                    && dir.children.is_empty()
                    && !dir.listed_while_empty
                    && dir.markers.is_empty()
            }
            NodeData::Alias(_) | NodeData::File(_) => false,
        };
        if prunable {
            self.detach(ino);
            self.prune(parent);
        }
    }

    /// Returns the path of a node in the view, for people: `messages/alice/lunch.txt`.
    pub(in crate::view) fn path(&self, ino: Ino) -> String {
        let mut parts = Vec::new();
        let mut at = ino;
        while let Some(node) = self.nodes.get(&at).filter(|_| at != Ino::ROOT) {
            parts.push(node.name.to_string_lossy());
            at = node.parent;
        }
        parts.reverse();
        parts.join("/")
    }
}
