//! The reference of the view: names, files, handles, and when something is published.

use std::collections::{BTreeMap, BTreeSet};

use super::documents::{Documents, Head, Key, Vid, Who};

pub type Errno = i32;
pub type Id = usize;

pub const AREAS: [&str; 5] = [
    "notes/me",
    "notes/bob",
    "notes/bob,carol",
    "messages/bob",
    "messages/bob,carol",
];

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct How {
    pub write: bool,
    pub append: bool,
    pub truncate: bool,
}

#[derive(Clone, Debug)]
pub enum Role {
    Document {
        key: Key,
        /// `None` while it was never published.
        head: Option<Head>,
        conflict: bool,
    },
    Scratch,
    /// Renamed away; `origin` is the name that it had.
    Backup {
        key: Key,
        head: Head,
        conflict: bool,
        origin: String,
        /// Of several backups of one name the last made is continued.
        order: usize,
    },
}

#[derive(Clone, Debug)]
pub struct Target {
    pub key: Key,
    pub path: String,
    pub base: Vec<Vid>,
    /// Other heads, which a change of a conflict copy replaces as well.
    pub settles: Vec<Vid>,
}

#[derive(Clone, Debug)]
pub struct File {
    pub role: Role,
    pub bytes: Vec<u8>,
    pub mode: u32,
    /// Where a save goes, while it is open or unsaved; `None`: nowhere.
    pub target: Option<Target>,
    pub written: bool,
    pub fresh: bool,
    pub touched: bool,
    pub unlinked: bool,
}

#[derive(Clone, Debug)]
pub enum Node {
    /// With the documents that keep it while it is empty.
    Dir {
        markers: Vec<Vid>,
        kept: bool,
    },
    File(Box<File>),
}

#[derive(Clone, Copy, Debug)]
pub struct Handle {
    pub node: Id,
    pub how: How,
}

pub struct Model {
    pub docs: Documents,
    /// Every path shown, to its node. Names that only the view knows end in `?<version>`.
    pub names: BTreeMap<String, Id>,
    pub nodes: BTreeMap<Id, Node>,
    pub handles: Vec<Option<Handle>>,
    /// What this mount published, and in which area.
    pub published: BTreeSet<(Vec<u8>, String)>,
    /// Documents that this mount made, and its versions of each.
    pub made: BTreeMap<Key, BTreeSet<Vid>>,
    pub next: Id,
}

pub fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').expect("no step is at the root")
}

/// The audience's directory, and the path below it.
pub fn area(path: &str) -> (&str, &str) {
    let slash = path.find('/').expect("no step is at the root");
    match path[slash + 1..].find('/') {
        Some(end) => (&path[..slash + 1 + end], &path[slash + 2 + end..]),
        None => (path, ""),
    }
}

pub fn is_scratch(name: &str) -> bool {
    name.ends_with('~') || name.ends_with(".swp") || name.starts_with("tmp_obj_")
}

pub fn members(area: &str) -> BTreeSet<&str> {
    let (_, audience) = split(area);
    audience.split(',').filter(|name| *name != "me").collect()
}

impl Model {
    pub fn new() -> Model {
        let mut model = Model {
            docs: Documents::default(),
            names: BTreeMap::new(),
            nodes: BTreeMap::new(),
            handles: vec![None; 3],
            published: BTreeSet::new(),
            made: BTreeMap::new(),
            next: 0,
        };
        model.start();
        model
    }

    /// A new mount of the same store.
    pub fn start(&mut self) {
        self.names.clear();
        self.nodes.clear();
        self.handles.fill(None);
        self.published.clear();
        self.made.clear();
        for area in AREAS {
            let node = Node::Dir {
                markers: Vec::new(),
                kept: true,
            };
            self.attach(area.to_owned(), node);
        }
        // Those parents of areas that no step touches.
        self.refresh();
    }

    pub fn attach(&mut self, path: String, node: Node) -> Id {
        let id = self.next;
        self.next += 1;
        self.nodes.insert(id, node);
        let old = self.names.insert(path, id);
        assert!(old.is_none(), "the model hides a file by another");
        id
    }

    pub fn detach(&mut self, path: &str) {
        let Some(id) = self.names.remove(path) else {
            return;
        };
        let open = self.handles.iter().flatten().any(|h| h.node == id);
        if !open {
            self.nodes.remove(&id);
        }
    }

    pub fn file(&self, id: Id) -> &File {
        match &self.nodes[&id] {
            Node::File(file) => file,
            Node::Dir { .. } => panic!("a directory"),
        }
    }

    pub fn file_mut(&mut self, id: Id) -> &mut File {
        match self.nodes.get_mut(&id) {
            Some(Node::File(file)) => file,
            _ => panic!("not a file"),
        }
    }

    pub fn is_dir(&self, path: &str) -> bool {
        let id = self.names.get(path);
        id.is_some_and(|id| matches!(self.nodes[id], Node::Dir { .. }))
    }

    /// The directory of a path, which must be there.
    pub fn parent(&self, path: &str) -> Result<(), Errno> {
        let (parent, _) = split(path);
        match self.is_dir(parent) {
            true => Ok(()),
            false => Err(libc::ENOENT),
        }
    }

    pub fn find(&self, path: &str) -> Result<Id, Errno> {
        self.parent(path)?;
        self.names.get(path).copied().ok_or(libc::ENOENT)
    }

    pub fn handles_on(&self, id: Id) -> impl Iterator<Item = &Handle> {
        self.handles
            .iter()
            .flatten()
            .filter(move |handle| handle.node == id)
    }

    pub fn has_writer(&self, id: Id) -> bool {
        self.handles_on(id).any(|handle| handle.how.write)
    }

    /// Holds something unsaved that is not scratch.
    pub fn has_draft(&self, id: Id) -> bool {
        let file = self.file(id);
        file.is_dirty() && !file.unlinked && file.target.is_some()
    }

    /// Checks the rules for writing to a file.
    pub fn may_write(&self, id: Id) -> Result<(), Errno> {
        let file = self.file(id);
        if let Role::Document {
            key, head: Some(_), ..
        } = &file.role
        {
            if key.signer == Some(Who::Bob) || file.mode & 2 == 0 {
                return Err(libc::EACCES);
            }
        }
        Ok(())
    }

    /// The document's other heads that are shown beside its conflict copy.
    pub fn other_heads(&self, id: Id) -> Vec<Vid> {
        let (Role::Document {
            key,
            conflict: true,
            ..
        }
        | Role::Backup {
            key,
            conflict: true,
            ..
        }) = &self.file(id).role
        else {
            return Vec::new();
        };
        let others = self.names.values().filter(|other| **other != id);
        let heads = others.filter_map(|other| match &self.nodes[other] {
            Node::File(file) => match &file.role {
                Role::Document {
                    key: own,
                    head: Some(head),
                    ..
                } if own == key => Some(head.clone()),
                _ => None,
            },
            Node::Dir { .. } => None,
        });
        heads.flatten().collect()
    }

    /// Where a save of a shown document goes, from the moment when it is opened.
    pub fn load(&mut self, id: Id) {
        let file = self.file(id);
        if file.target.is_some() {
            return;
        }
        if let Role::Document {
            key,
            head: Some(head),
            ..
        } = &file.role
        {
            let target = Target {
                key: key.clone(),
                path: self.docs.all[head[0]].path.clone(),
                base: head.clone(),
                settles: self.other_heads(id),
            };
            self.file_mut(id).target = Some(target);
        }
    }
}

pub fn new_target(path: &str, doc: usize) -> Target {
    let (area, below) = area(path);
    Target {
        key: Key {
            area: area.to_owned(),
            marker: false,
            doc,
            signer: area.starts_with("messages/").then_some(Who::Me),
        },
        path: below.to_owned(),
        base: Vec::new(),
        settles: Vec::new(),
    }
}

impl File {
    pub fn is_dirty(&self) -> bool {
        self.written || self.fresh || self.touched
    }

    pub fn saved(&mut self) {
        self.written = false;
        self.fresh = false;
        self.touched = false;
    }
}
