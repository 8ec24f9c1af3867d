//! The reference for names: which head is shown where, and how that changes with the store.

use std::collections::BTreeSet;

use super::documents::{Head, Key, Vid};
use super::reference::{File, Id, Model, Node, Role, split};

struct Newcomer {
    key: Key,
    head: Head,
    conflict: bool,
}

impl Model {
    /// Shows the content of the store. Names are sticky: a head that is shown keeps its place.
    pub fn refresh(&mut self) {
        let mut keys: BTreeSet<Key> = self.docs.present().map(|(_, v)| v.key.clone()).collect();
        keys.extend(self.shown().into_iter().map(|(_, key, _)| key));
        let mut newcomers = Vec::new();
        for key in keys {
            self.match_heads(&key, &mut newcomers);
        }
        newcomers.sort_by_key(|n| {
            let v = &self.docs.all[n.head[0]];
            let blob = v.blobs.iter().min().map(ToString::to_string);
            (!n.key.marker, n.conflict, v.created, blob)
        });
        for newcomer in &newcomers {
            self.make_dirs(newcomer);
        }
        for newcomer in newcomers {
            self.place(newcomer);
        }
    }

    /// All that is shown of documents, backups and markers included.
    fn shown(&self) -> Vec<(String, Key, Option<Head>)> {
        let of = |(path, id): (&String, &Id)| {
            let (key, head) = match &self.nodes[id] {
                Node::Dir { markers, .. } => {
                    let key = |vid: &Vid| self.docs.all[*vid].key.clone();
                    let shown = markers
                        .iter()
                        .map(|vid| (path.clone(), key(vid), Some(vec![*vid])));
                    return shown.collect();
                }
                Node::File(file) => match &file.role {
                    Role::Document { key, head, .. } => (key.clone(), head.clone()),
                    Role::Backup { key, head, .. } => (key.clone(), Some(head.clone())),
                    Role::Scratch => return Vec::new(),
                },
            };
            vec![(path.clone(), key, head)]
        };
        self.names.iter().flat_map(of).collect()
    }

    fn match_heads(&mut self, key: &Key, newcomers: &mut Vec<Newcomer>) {
        let mut free: Vec<(usize, Head)> = self.docs.heads(key).into_iter().enumerate().collect();
        let settled = free.len() == 1;
        let mut unmatched = Vec::new();
        let mut nodes = self.shown();
        nodes.retain(|(_, shown, _)| shown == key);
        nodes.sort_by_key(|(path, _, _)| (self.rank(self.names[path]), self.names[path]));
        for (path, _, head) in nodes {
            let Some(head) = head else {
                continue;
            };
            let current = head;
            match free.iter().position(|(_, free)| free.contains(&current[0])) {
                Some(index) => {
                    let (_, head) = free.remove(index);
                    self.set_head(&path, &current, head);
                }
                None => unmatched.push((path, current)),
            }
        }
        for (path, current) in unmatched {
            self.supersede(&path, &current, &mut free, settled);
        }
        // What a draft will replace is not shown beside it.
        let drafts: Vec<Vid> = (self.names.values())
            .filter_map(|id| match &self.nodes[id] {
                Node::File(file) => Some(file),
                Node::Dir { .. } => None,
            })
            .filter(|file| matches!(file.role, Role::Document { head: None, .. }))
            .filter_map(|file| file.target.as_ref())
            .flat_map(|target| target.base.clone())
            .collect();
        free.retain(|(_, head)| !head.iter().any(|vid| drafts.contains(vid)));
        for (index, head) in free {
            newcomers.push(Newcomer {
                key: key.clone(),
                head,
                conflict: index > 0 || self.has_holder(key),
            });
        }
    }

    /// Of nodes whose heads became equal, the document's own name comes first, a backup last.
    fn rank(&self, id: Id) -> u8 {
        match &self.nodes[&id] {
            Node::File(file) => match file.role {
                Role::Backup { .. } => 2,
                Role::Document { conflict: true, .. } => 1,
                _ => 0,
            },
            Node::Dir { .. } => 0,
        }
    }

    /// Tells whether a file stands for a document itself: not a conflict copy.
    fn has_holder(&self, key: &Key) -> bool {
        self.names.values().any(|id| match &self.nodes[id] {
            Node::File(file) => match &file.role {
                Role::Document {
                    key: own, conflict, ..
                }
                | Role::Backup {
                    key: own, conflict, ..
                } => own == key && !conflict,
                Role::Scratch => false,
            },
            Node::Dir { .. } => false,
        })
    }

    /// Gives free names to the heads that want them, as the listing of a directory does.
    pub fn give_free_names(&mut self) {
        let files = || {
            let shown = self.names.iter().filter_map(|(path, id)| {
                let Node::File(file) = &self.nodes[id] else {
                    return None;
                };
                match &file.role {
                    Role::Document {
                        key,
                        head: Some(head),
                        conflict,
                    } => Some((path.clone(), *id, key.clone(), head[0], *conflict)),
                    _ => None,
                }
            });
            shown.collect::<Vec<_>>()
        };
        let blob = |vid: Vid| {
            let blobs = self.docs.all[vid].blobs.iter();
            blobs.min().map(ToString::to_string)
        };
        // Of the versions of a document that has no file of its own, the newest.
        let mut newest = files();
        newest.sort_by_key(|(_, _, _, vid, _)| {
            (std::cmp::Reverse(self.docs.all[*vid].created), blob(*vid))
        });
        let mut decided = BTreeSet::new();
        let mut promoted = BTreeSet::new();
        for (_, id, key, _, conflict) in newest {
            let wants = conflict && !self.has_holder(&key);
            if wants && decided.insert(key) && !self.is_busy(id) {
                promoted.insert(id);
            }
        }
        // Of several documents, the oldest.
        let mut oldest = files();
        oldest.sort_by_key(|(_, _, _, vid, _)| (self.docs.all[*vid].created, blob(*vid)));
        for (path, id, key, vid, conflict) in oldest {
            let wanted = format!("{}/{}", key.area, self.docs.all[vid].path);
            let promoted = promoted.contains(&id);
            if wanted == path || (conflict && !promoted) || self.is_busy(id) {
                continue;
            }
            let taken = self.names.contains_key(&wanted) || self.has_backup(&wanted);
            let new = match (taken, promoted) {
                (false, _) => wanted,
                (true, true) => unbound(&wanted, vid),
                (true, false) => continue,
            };
            let mut file = self.file(id).clone();
            if let Role::Document { conflict, .. } = &mut file.role {
                *conflict = false;
            }
            self.detach(&path);
            self.attach(new, Node::File(Box::new(file)));
        }
    }

    fn is_busy(&self, id: Id) -> bool {
        self.handles_on(id).next().is_some() || self.has_draft(id)
    }

    /// What a node showed is no head any more.
    fn supersede(
        &mut self,
        path: &str,
        current: &Head,
        free: &mut Vec<(usize, Head)>,
        settled: bool,
    ) {
        let id = self.names[path];
        let successor = free.iter().position(|(_, head)| {
            let version = &self.docs.all[head[0]];
            current.iter().any(|old| version.replaces.contains(old))
                && version.path == self.docs.all[current[0]].path
        });
        if let Node::File(file) = &mut self.nodes.get_mut(&id).unwrap() {
            if let Role::Backup { .. } = file.role {
                file.role = Role::Scratch;
                return;
            }
            if self.has_draft(id) {
                return;
            }
        }
        let open = self.handles_on(id).next().is_some();
        let key = &self.docs.all[current[0]].key;
        let alone = self
            .shown()
            .iter()
            .filter(|(_, shown, _)| shown == key)
            .count()
            == 1;
        match successor {
            // The name of a conflict copy says whose version it is.
            Some(_) if self.rank(id) == 1 && (!open || settled && alone) => self.detach(path),
            Some(index) if !open => {
                let (_, head) = free.remove(index);
                self.set_head(path, current, head);
            }
            Some(index) => {
                let (_, head) = free.remove(index);
                let mut file = self.file(id).clone();
                file.target = None;
                file.saved();
                self.detach(path);
                self.attach(path.to_owned(), Node::File(Box::new(file)));
                self.set_head(path, current, head);
            }
            None => self.withdraw(path, current),
        }
    }

    fn set_head(&mut self, path: &str, old: &Head, new: Head) {
        let id = self.names[path];
        let version = self.docs.all[new[0]].clone();
        let idle = self.handles_on(id).next().is_none();
        match self.nodes.get_mut(&id).unwrap() {
            Node::Dir { markers, .. } => {
                markers.retain(|vid| !old.contains(vid));
                markers.push(new[0]);
            }
            Node::File(file) => match &mut file.role {
                Role::Backup { head, .. } => *head = new,
                Role::Document { head, .. } => {
                    *head = Some(new);
                    if idle && !file.is_dirty() {
                        file.bytes = version.bytes;
                        file.mode = shown_mode(&version.key, version.mode);
                    }
                }
                Role::Scratch => {}
            },
        }
    }

    fn withdraw(&mut self, path: &str, old: &Head) {
        match self.nodes.get_mut(&self.names[path]) {
            Some(Node::Dir { markers, .. }) => {
                markers.retain(|vid| !old.contains(vid));
                self.prune(path);
            }
            _ => {
                self.detach(path);
                self.prune(split(path).0);
            }
        }
    }

    /// Removes a directory that is empty and that nothing keeps, and so its parents.
    fn prune(&mut self, path: &str) {
        let prunable = self.names.get(path).map(|id| match &self.nodes[id] {
            Node::Dir { markers, kept } => markers.is_empty() && !kept,
            Node::File(_) => false,
        });
        if prunable != Some(true) {
            return;
        }
        if self.children(path).is_empty() {
            self.detach(path);
            self.prune(split(path).0);
        }
    }

    fn make_dirs(&mut self, newcomer: &Newcomer) {
        let mut path = self.docs.all[newcomer.head[0]].path.clone();
        if newcomer.key.marker {
            path.push('/');
        }
        self.make_parents(&newcomer.key.area, &path);
    }

    /// Makes the directories of a path below an area.
    pub fn make_parents(&mut self, area: &str, path: &str) {
        let mut at = area.to_owned();
        let mut parts: Vec<&str> = path.split('/').collect();
        parts.pop();
        for part in parts {
            at = format!("{at}/{part}");
            if !self.names.contains_key(&at) {
                let node = Node::Dir {
                    markers: Vec::new(),
                    kept: false,
                };
                self.attach(at.clone(), node);
            }
        }
    }

    fn place(&mut self, newcomer: Newcomer) {
        let Newcomer {
            key,
            head,
            conflict,
        } = newcomer;
        let version = self.docs.all[head[0]].clone();
        let path = format!("{}/{}", key.area, version.path);
        if key.marker {
            if let Some(Node::Dir { markers, .. }) =
                self.names.get(&path).and_then(|id| self.nodes.get_mut(id))
            {
                markers.push(head[0]);
            }
            return;
        }
        let path = match conflict || self.names.contains_key(&path) {
            true => unbound(&path, head[0]),
            false => path,
        };
        let file = File {
            mode: shown_mode(&key, version.mode),
            role: Role::Document {
                key,
                head: Some(head),
                conflict,
            },
            bytes: version.bytes,
            target: None,
            written: false,
            fresh: false,
            touched: false,
            unlinked: false,
        };
        self.attach(path, Node::File(Box::new(file)));
    }
}

fn shown_mode(key: &Key, mode: u32) -> u32 {
    match key.signer {
        Some(super::documents::Who::Bob) => 4,
        _ => mode,
    }
}

/// A name with a remark, which the model leaves to the view until it was seen.
pub fn unbound(path: &str, vid: Vid) -> String {
    format!("{path}?{vid}")
}
