//! The reference for writing: handles, and when something is published.

use super::documents::{Version, Vid, Who};
use super::reference::{
    Errno, File, Handle, How, Id, Model, Node, Role, Target, area, is_scratch, new_target, split,
};

impl Model {
    pub fn open(&mut self, path: &str, how: How) -> Result<Handle, Errno> {
        self.parent(path)?;
        let id = match self.names.get(path).copied() {
            Some(_) if self.is_dir(path) => return Err(libc::EISDIR),
            Some(id) => {
                if how.write {
                    self.may_write(id)?;
                }
                self.load(id);
                if how.write {
                    self.see_other_heads(id);
                }
                let file = self.file_mut(id);
                if how.truncate && !file.bytes.is_empty() {
                    file.bytes.clear();
                    file.fresh = true;
                }
                id
            }
            None if !how.write => return Err(libc::ENOENT),
            None => self.create(path),
        };
        Ok(Handle { node: id, how })
    }

    /// Who begins to write settles with the other heads that are shown then: everything that is
    /// shown is read after each step.
    fn see_other_heads(&mut self, id: Id) {
        let settles = self.other_heads(id);
        let file = self.file_mut(id);
        if !file.is_dirty() {
            if let Some(target) = &mut file.target {
                target.settles = settles;
            }
        }
    }

    fn create(&mut self, path: &str) -> Id {
        let (role, target) = if is_scratch(split(path).1) {
            (Role::Scratch, None)
        } else {
            let below = area(path).1;
            let target = self.takeover(path, None).unwrap_or_else(|| {
                let doc = self.docs.new_doc();
                new_target(path, doc)
            });
            let role = Role::Document {
                key: target.key.clone(),
                head: None,
                conflict: target.path != below,
            };
            (role, Some(target))
        };
        let file = File {
            role,
            bytes: Vec::new(),
            mode: 6,
            target,
            written: false,
            fresh: true,
            touched: false,
            unlinked: false,
        };
        self.attach(path.to_owned(), Node::File(Box::new(file)))
    }

    /// The backup that had this name, last.
    fn last_backup(&self, path: &str) -> Option<Id> {
        let backups = self.names.values().filter_map(|id| match &self.nodes[id] {
            Node::File(file) => match &file.role {
                Role::Backup { origin, order, .. } if origin == path => Some((*order, *id)),
                _ => None,
            },
            Node::Dir { .. } => None,
        });
        backups.max().map(|(_, id)| id)
    }

    /// The names of backups that other files have now.
    pub fn taken_from_backups(&self) -> Vec<String> {
        let names = self.names.keys();
        let taken = names.filter(|path| self.last_backup(path).is_some());
        taken.cloned().collect()
    }

    /// Tells whether a file of this name was renamed away as a backup.
    pub fn has_backup(&self, path: &str) -> bool {
        self.last_backup(path).is_some()
    }

    /// Tells whether a new file under this name would continue a backup.
    pub fn is_free(&self, path: &str) -> bool {
        !self.names.contains_key(path) && self.has_backup(path)
    }

    /// The document that a file under this name continues.
    pub fn takeover(&self, path: &str, victim: Option<Id>) -> Option<Target> {
        let (id, key, base, conflict) = match victim {
            Some(victim) => match &self.file(victim).role {
                Role::Document {
                    key,
                    head,
                    conflict,
                } => {
                    let own = self.file(victim).target.as_ref();
                    let base = head.clone().or_else(|| own.map(|own| own.base.clone()));
                    Some((victim, key, base?, *conflict && head.is_some()))
                }
                _ => None,
            },
            None => {
                let last = self.last_backup(path)?;
                match &self.file(last).role {
                    Role::Backup {
                        key,
                        head,
                        conflict,
                        ..
                    } => Some((last, key, head.clone(), *conflict)),
                    _ => None,
                }
            }
        }?;
        let (path, settles) = match conflict {
            true => (self.docs.all[base[0]].path.clone(), self.other_heads(id)),
            false => (area(path).1.to_owned(), Vec::new()),
        };
        Some(Target {
            key: key.clone(),
            path,
            base,
            settles,
        })
    }

    pub fn write(&mut self, handle: Handle, offset: usize, data: &[u8]) {
        let file = self.file_mut(handle.node);
        let offset = if handle.how.append {
            file.bytes.len()
        } else {
            offset
        };
        if file.bytes.len() < offset + data.len() {
            file.bytes.resize(offset + data.len(), 0);
        }
        file.bytes[offset..offset + data.len()].copy_from_slice(data);
        file.written = true;
    }

    pub fn flush(&mut self, handle: Handle) {
        let file = self.file(handle.node);
        if handle.how.write && (file.written || file.touched) {
            self.publish(handle.node);
        }
    }

    pub fn fsync(&mut self, handle: Handle) {
        if handle.how.write && self.file(handle.node).is_dirty() {
            self.publish(handle.node);
        }
        self.docs.settle_all();
    }

    /// A handle goes that is in no slot any more.
    pub fn release(&mut self, handle: Handle) {
        let id = handle.node;
        if handle.how.write && !self.has_writer(id) && self.file(id).is_dirty() {
            self.publish(id);
        }
        self.let_go(id);
    }

    pub fn let_go(&mut self, id: Id) {
        if self.handles_on(id).next().is_some() {
            return;
        }
        if !self.names.values().any(|shown| *shown == id) {
            self.nodes.remove(&id);
        } else if !self.has_draft(id) {
            self.file_mut(id).target = None;
        }
        self.refresh();
    }

    /// Saves a file where it belongs, if there is anything to save.
    pub fn publish(&mut self, id: Id) {
        let file = self.file(id);
        let never = matches!(file.role, Role::Document { head: None, .. });
        let target = file.target.clone().filter(|_| !file.unlinked);
        if let Some(target) = target {
            // What was removed meanwhile is saved again: edit beats delete.
            let touched = file.touched && !target.key.is_message();
            let unchanged = self.is_saved(&target.base, &file.bytes) && !touched;
            if !unchanged || (never && !self.continue_backup(id, &target)) {
                self.publish_to(id, target, None);
            }
        }
        self.file_mut(id).saved();
        self.refresh();
    }

    /// The store holds these bytes as a draft's base, or as an equal version of it.
    fn is_saved(&self, base: &[Vid], bytes: &[u8]) -> bool {
        let base = || base.iter().map(|vid| &self.docs.all[*vid]);
        base().next().is_some_and(|first| {
            base().any(|one| {
                one.present && one.key == first.key && one.path == first.path && one.bytes == bytes
            })
        })
    }

    /// A new file that holds the same as the backup of its name is the document again.
    fn continue_backup(&mut self, id: Id, target: &Target) -> bool {
        let base = &self.docs.all[target.base[0]];
        let mode = self.file(id).mode;
        if base.path != target.path || (!target.key.is_message() && base.mode != mode) {
            return false;
        }
        let backup = self.nodes.values_mut().find_map(|node| match node {
            Node::File(file) => match &file.role {
                Role::Backup { head, .. } if head[0] == target.base[0] => Some(file),
                _ => None,
            },
            Node::Dir { .. } => None,
        });
        let Some(backup) = backup else {
            return false;
        };
        if let Role::Backup {
            key,
            head,
            conflict,
            ..
        } = std::mem::replace(&mut backup.role, Role::Scratch)
        {
            self.file_mut(id).role = Role::Document {
                key,
                head: Some(head),
                conflict,
            };
        }
        true
    }

    /// Publishes the content of a file as a version, which the file shows from now on.
    pub fn publish_to(&mut self, id: Id, target: Target, to: Option<&str>) {
        let file = self.file(id);
        let (bytes, mode) = (file.bytes.clone(), file.mode);
        let mode = if target.key.is_message() { 6 } else { mode };
        let conflict = match (to, &file.role) {
            (Some(to), _) => target.path != area(to).1,
            (None, Role::Document { conflict, .. }) => *conflict,
            (None, _) => false,
        };
        let changed = !self.is_saved(&target.base, &bytes);
        let mut parents = target.base.clone();
        parents.extend(target.settles.iter().filter(|_| changed));
        self.published
            .insert((bytes.clone(), target.key.area.clone()));
        let version = Version {
            key: target.key.clone(),
            path: target.path.clone(),
            bytes,
            mode,
            replaces: Vec::new(),
            present: true,
            blobs: Vec::new(),
            created: dds::ids::Timestamp::now().seconds(),
        };
        let key = version.key.clone();
        let made_here = |old: &Vid| {
            let made = self.made.get(&self.docs.all[*old].key);
            made.is_some_and(|made| made.contains(old))
        };
        let all_ours = parents.iter().all(made_here);
        let vid = self.docs.publish(&parents, version);
        match all_ours {
            true => drop(self.made.entry(key.clone()).or_default().insert(vid)),
            false => drop(self.made.remove(&key)),
        }
        let head = Some(vec![vid]);
        let file = self.file_mut(id);
        file.role = Role::Document {
            key,
            head,
            conflict,
        };
        file.target = Some(Target {
            base: vec![vid],
            settles: Vec::new(),
            ..target
        });
        file.saved();
        if let Some(to) = to {
            self.move_node_to(id, to);
        }
        // Something took the place of the backup of that name, whether it replaces it or not.
        let name = self.names.iter().find(|(_, shown)| **shown == id);
        if let Some(backup) = name.and_then(|(name, _)| self.last_backup(name)) {
            self.file_mut(backup).role = Role::Scratch;
        }
        if changed {
            self.name_settled(id);
        }
    }

    pub fn move_node_to(&mut self, id: Id, to: &str) {
        if self.names.get(to) == Some(&id) {
            return;
        }
        self.detach(to);
        self.names.retain(|_, node| *node != id);
        self.names.insert(to.to_owned(), id);
    }

    /// A changed conflict copy that is the only version now has the document's name.
    fn name_settled(&mut self, id: Id) {
        let Role::Document {
            key,
            head: Some(head),
            conflict: true,
        } = self.file(id).role.clone()
        else {
            return;
        };
        let shown = self.names.values().any(|shown| *shown == id);
        if !shown || self.docs.heads(&key).len() != 1 {
            return;
        }
        let wanted = self.docs.all[head[0]].path.clone();
        let (mut others, mut place) = (Vec::new(), None);
        for (path, other) in self.names.iter().filter(|(_, other)| **other != id) {
            let Node::File(file) = &self.nodes[other] else {
                continue;
            };
            if let Role::Document {
                key: own,
                head,
                conflict,
            } = &file.role
            {
                if *own != key {
                    continue;
                }
                if self.has_draft(*other) {
                    return;
                }
                others.push(path.clone());
                let same = |head: &Vec<Vid>| self.docs.all[head[0]].path == wanted;
                if !conflict && head.as_ref().is_some_and(same) {
                    place = Some(path.clone());
                }
            }
        }
        let to = match place {
            Some(path) => path,
            None => {
                let path = format!("{}/{wanted}", key.area);
                if self.names.contains_key(&path) {
                    return;
                }
                self.make_parents(&key.area, &wanted);
                path
            }
        };
        for other in others {
            self.detach(&other);
        }
        self.move_node_to(id, &to);
        self.file_mut(id).role = Role::Document {
            key,
            head: Some(head),
            conflict: false,
        };
    }

    pub fn truncate(&mut self, path: &str, size: usize) -> Result<(), Errno> {
        let id = self.find(path)?;
        if self.is_dir(path) {
            return Ok(());
        }
        self.may_write(id)?;
        self.by_path(id, |file| {
            file.bytes.resize(size, 0);
            file.written = true;
        });
        Ok(())
    }

    pub fn chmod(&mut self, path: &str, mode: u32) -> Result<(), Errno> {
        let id = self.find(path)?;
        if self.is_dir(path) {
            return Ok(());
        }
        let message = match &self.file(id).role {
            Role::Document { key, head, .. } => {
                if key.signer == Some(Who::Bob) && head.is_some() {
                    return Err(libc::EACCES);
                }
                key.is_message()
            }
            Role::Scratch | Role::Backup { .. } => false,
        };
        self.by_path(id, |file| {
            if !message {
                file.touched |= file.mode != mode;
                file.mode = mode;
            }
        });
        Ok(())
    }

    /// Changes a file without a handle: published at once, unless somebody is writing it.
    fn by_path(&mut self, id: Id, change: impl FnOnce(&mut File)) {
        self.load(id);
        let busy = self.file(id).is_dirty();
        change(self.file_mut(id));
        if !busy || !self.has_writer(id) {
            self.publish(id);
        }
        self.let_go(id);
    }
}
