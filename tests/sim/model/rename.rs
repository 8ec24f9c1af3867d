//! The reference for renaming and linking.

use super::documents::{Vid, Who};
use super::reference::{Errno, Id, Model, Node, Role, Target, area, is_scratch, new_target, split};

impl Model {
    pub fn rename(&mut self, from: &str, to: &str) -> Result<(), Errno> {
        self.parent(from)?;
        self.parent(to)?;
        let id = self.find(from)?;
        if to.starts_with(&format!("{from}/")) {
            return Err(libc::EINVAL);
        }
        if area(from).0 != area(to).0 {
            return Err(libc::EXDEV);
        }
        let victim = self.names.get(to).copied();
        if victim == Some(id) {
            return Ok(());
        }
        if self.is_dir(from) {
            self.rename_dir(from, to)?;
        } else {
            if self.is_dir(to) {
                return Err(libc::EISDIR);
            }
            if let Some(victim) = victim {
                self.not_received(victim)?;
            }
            self.rename_file(id, from, to, victim)?;
        }
        self.keep(split(from).0);
        self.refresh();
        Ok(())
    }

    fn not_received(&self, id: Id) -> Result<(), Errno> {
        match &self.file(id).role {
            Role::Document {
                key, head: Some(_), ..
            } if key.signer == Some(Who::Bob) => Err(libc::EACCES),
            _ => Ok(()),
        }
    }

    fn rename_file(
        &mut self,
        id: Id,
        from: &str,
        to: &str,
        victim: Option<Id>,
    ) -> Result<(), Errno> {
        self.not_received(id)?;
        let scratch = is_scratch(split(to).1);
        match self.file(id).role.clone() {
            Role::Scratch | Role::Backup { .. } if scratch => self.move_node(from, to),
            Role::Backup {
                key,
                head,
                conflict,
                origin,
                ..
            } if origin == to && !self.is_published(victim) && self.is_untouched(id, &head) => {
                self.move_node(from, to);
                let mode = self.docs.all[head[0]].mode;
                let file = self.file_mut(id);
                file.role = Role::Document {
                    key,
                    head: Some(head),
                    conflict,
                };
                file.mode = mode;
                file.target = None;
                file.saved();
                self.load(id);
                self.let_go(id);
            }
            Role::Document { head: None, .. } if scratch => {
                self.move_node(from, to);
                let file = self.file_mut(id);
                file.role = Role::Scratch;
                file.target = None;
                file.saved();
            }
            Role::Document {
                key,
                head: Some(head),
                conflict,
            } if scratch => {
                self.move_node(from, to);
                let (origin, order) = (from.to_owned(), self.next);
                self.next += 1;
                let file = self.file_mut(id);
                file.role = Role::Backup {
                    key,
                    head,
                    conflict,
                    origin,
                    order,
                };
                file.target = None;
                file.saved();
            }
            Role::Scratch | Role::Backup { .. } | Role::Document { .. } => {
                self.publish_as(id, from, to, victim);
            }
        }
        if let Some(Node::File(victim)) = victim.and_then(|id| self.nodes.get_mut(&id)) {
            victim.unlinked = true;
        }
        Ok(())
    }

    /// Tells whether a backup still holds the published content.
    fn is_untouched(&self, id: Id, head: &[Vid]) -> bool {
        let (file, version) = (self.file(id), &self.docs.all[head[0]]);
        let same_mode = version.key.is_message() || file.mode == version.mode;
        same_mode && file.bytes == version.bytes
    }

    fn is_published(&self, id: Option<Id>) -> bool {
        id.is_some_and(|id| matches!(self.file(id).role, Role::Document { head: Some(_), .. }))
    }

    fn move_node(&mut self, from: &str, to: &str) {
        self.detach(to);
        if let Some(id) = self.names.remove(from) {
            self.names.insert(to.to_owned(), id);
        }
    }

    /// Saves a file under another name, in the place of the document that has it.
    fn publish_as(&mut self, id: Id, from: &str, to: &str, victim: Option<Id>) {
        let takeover = self.takeover(to, victim);
        self.load(id);
        let file = self.file(id);
        let own = match (&file.target, &file.role) {
            (Some(own), _) => Some(own.clone()),
            // A backup that nothing replaced goes on as the document that it was.
            (
                None,
                Role::Backup {
                    key, head, origin, ..
                },
            ) if !self.is_continued(origin) => Some(Target {
                key: key.clone(),
                path: String::new(),
                base: head.clone(),
                settles: Vec::new(),
            }),
            (None, _) => None,
        };
        let mut target = own.unwrap_or_else(|| {
            let doc = self.docs.new_doc();
            new_target(to, doc)
        });
        target.path = area(to).1.to_owned();
        target.settles.clear();
        if let Some(takeover) = takeover {
            let own = std::mem::replace(&mut target, takeover);
            target.base.extend(own.base);
        } else if self.is_one_of_several(id) {
            // A conflict copy under a name of its own is a document of its own.
            target.key = new_target(to, self.docs.new_doc()).key;
        }
        if self.has_writer(id) && self.nothing_to_move(id) {
            self.move_node(from, to);
            let file = self.file_mut(id);
            file.role = Role::Document {
                key: target.key.clone(),
                head: None,
                conflict: false,
            };
            file.target = Some(target);
            return;
        }
        self.publish_moved(id, target, Some(to));
        self.let_go(id);
    }

    fn is_one_of_several(&self, id: Id) -> bool {
        match &self.file(id).role {
            Role::Document {
                key,
                conflict: true,
                ..
            }
            | Role::Backup {
                key,
                conflict: true,
                ..
            } => self.docs.heads(key).len() > 1,
            _ => false,
        }
    }

    /// Tells whether there is no version that could move: never published, or gone meanwhile.
    fn nothing_to_move(&self, id: Id) -> bool {
        match &self.file(id).role {
            Role::Document { head, .. } => {
                let mut head = head.iter().flatten();
                !head.any(|vid| self.docs.all[*vid].present)
            }
            Role::Scratch | Role::Backup { .. } => false,
        }
    }

    /// Publishes under another path. A file that is still being written stays a draft.
    fn publish_moved(&mut self, id: Id, target: Target, to: Option<&str>) {
        let file = self.file(id);
        let unfinished = file.is_dirty() && self.has_writer(id);
        let shown = match &file.role {
            Role::Document {
                head: Some(head), ..
            } if unfinished => Some(self.docs.all[head[0]].clone()),
            _ => None,
        };
        let draft = file.clone();
        if let Some(shown) = &shown {
            let file = self.file_mut(id);
            file.bytes = shown.bytes.clone();
            file.mode = shown.mode;
        }
        self.publish_to(id, target, to);
        if shown.is_some() {
            let file = self.file_mut(id);
            file.bytes = draft.bytes;
            file.mode = draft.mode;
            file.written = draft.written;
            file.fresh = draft.fresh;
            file.touched = draft.touched;
        }
    }

    /// Tells whether a new file is being written in the place of a backup.
    fn is_continued(&self, origin: &str) -> bool {
        self.names.contains_key(origin)
    }

    pub fn link(&mut self, from: &str, to: &str) -> Result<(), Errno> {
        let id = self.find(from)?;
        self.parent(to)?;
        if self.is_dir(from) || !matches!(self.file(id).role, Role::Scratch) {
            return Err(libc::EPERM);
        }
        if area(from).0 != area(to).0 {
            return Err(libc::EXDEV);
        }
        if self.names.contains_key(to) {
            return Err(libc::EEXIST);
        }
        let mut copy = self.file(id).clone();
        copy.saved();
        copy.unlinked = false;
        let second = self.attach(to.to_owned(), Node::File(Box::new(copy)));
        if !is_scratch(split(to).1) {
            self.publish_as(second, to, to, None);
        }
        self.refresh();
        Ok(())
    }

    fn rename_dir(&mut self, from: &str, to: &str) -> Result<(), Errno> {
        if to.starts_with("messages/") {
            return Err(libc::EPERM);
        }
        if self.names.contains_key(to) {
            self.rmdir(to)?;
        }
        let below = format!("{from}/");
        let moved: Vec<(String, Id)> = self
            .names
            .iter()
            .filter(|(path, _)| *path == from || path.starts_with(&below))
            .map(|(path, id)| (path.clone(), *id))
            .collect();
        for (old, id) in moved {
            let new = format!("{to}{}", &old[from.len()..]);
            if self.is_dir(&old) {
                self.move_markers(&new, id);
            } else {
                self.move_file(from, to, id);
            }
            self.names.remove(&old);
            self.names.insert(new, id);
        }
        self.refresh();
        Ok(())
    }

    fn move_markers(&mut self, new: &str, id: Id) {
        let Node::Dir { markers, kept } = self.nodes[&id].clone() else {
            return;
        };
        let moved = markers.iter().map(|vid| {
            let key = self.docs.all[*vid].key.clone();
            self.publish_marker(new, key, &[*vid])
        });
        let markers = moved.collect();
        self.nodes.insert(id, Node::Dir { markers, kept });
    }

    /// Gives a file of a renamed directory its new path.
    fn move_file(&mut self, from: &str, to: &str, id: Id) {
        match &mut self.file_mut(id).role {
            Role::Document { .. } => {}
            Role::Backup { origin, .. } => {
                if let Some(rest) = origin.strip_prefix(&format!("{from}/")) {
                    *origin = format!("{to}/{rest}");
                }
                return;
            }
            Role::Scratch => return,
        }
        self.load(id);
        let Some(mut target) = self.file(id).target.clone() else {
            return;
        };
        let (from, to) = (area(from).1, area(to).1);
        target.path = format!("{to}{}", target.path.strip_prefix(from).unwrap_or_default());
        if self.nothing_to_move(id) {
            self.file_mut(id).target = Some(target);
            return;
        }
        target.settles.clear();
        self.publish_moved(id, target, None);
        let idle = self.handles_on(id).next().is_none();
        if idle {
            self.file_mut(id).target = None;
        }
    }
}
