//! Writing: drafts, and when they are published (DESIGN 5).

use std::ffi::OsStr;
use std::sync::Arc;
use std::time::Instant;

use crate::error::{Error, Kind, Result};
use crate::ids::{BlobKind, Timestamp};
use crate::vault::{DocKey, Head, KEY_FILE_LIMIT, Publication, Version};
use crate::view::draft::state::{Body, OpenFile, Target};
use crate::view::ops::open::{Handle, no_files_here};
use crate::view::ops::rename::Spot;
use crate::view::tree::{FileRole, Ino, NodeData, Role, Shown};
use crate::view::{Attr, Caller, HandleId, View, lock, not_found};

/// What `chmod`, `truncate`, `utimens` and `chown` ask for.
#[derive(Clone, Copy, Debug, Default)]
pub struct SetAttr {
    /// Permission bits; only the owner's are kept.
    pub mode: Option<u32>,
    /// New size in bytes.
    pub size: Option<u64>,
    /// New time of access, which this mount remembers.
    pub atime: Option<Timestamp>,
    /// New modification time. This mount alone remembers a directory's.
    pub mtime: Option<Timestamp>,
    /// The owner is set to somebody else.
    pub gives_away: bool,
}

impl View {
    /// Writes at an offset, or at the end if the file was opened for appending and the write is
    /// not one that must stay in place.
    ///
    /// # Errors
    /// `BadHandle` unless it was opened for writing; `TooLarge`; `NoSpace` when scratch takes too
    /// much memory or the disk for spilling is full.
    pub fn write(&self, id: HandleId, offset: u64, data: &[u8], in_place: bool) -> Result<()> {
        let _use = self.last_use.begin();
        let handle = self.handle(id)?;
        let Handle::File {
            ino, file, access, ..
        } = &*handle
        else {
            return Err(Error::new(Kind::BadHandle, "not open for writing"));
        };
        if !access.write {
            return Err(Error::new(Kind::BadHandle, "not open for writing"));
        }
        let written = self.write_file(*ino, file, access.append && !in_place, offset, data);
        self.reported(*ino, written)
    }

    fn write_file(
        &self,
        ino: Ino,
        file: &OpenFile,
        append: bool,
        offset: u64,
        data: &[u8],
    ) -> Result<()> {
        let limit = self.vault.options().max_file_size;
        let first = {
            let mut body = file.lock();
            if let Target::Scratch = body.target {
                self.check_scratch(data.len() as u64)?;
            }
            let offset = if append { body.content().len() } else { offset };
            let first = !body.is_dirty();
            body.write(offset, data, limit)?;
            first
        };
        if first {
            self.note_draft(ino, file);
        }
        Ok(())
    }

    /// Changes attributes. `handle` is the open file through which it is asked, if any.
    ///
    /// # Errors
    /// The rule that forbids it; what publishing gives when no handle will do it later.
    pub fn setattr(
        &self,
        ino: Ino,
        handle: Option<HandleId>,
        set: SetAttr,
        caller: Caller,
    ) -> Result<Attr> {
        let _use = self.last_use.begin();
        let changed = self.setattr_quietly(ino, handle, set, caller);
        self.reported(ino, changed)?;
        let mut tree = self.tree();
        tree.note_change(ino);
        if let Some(time) = set.atime {
            tree.set_read_time(ino, time);
        }
        drop(tree);
        self.getattr(ino)
    }

    fn setattr_quietly(
        &self,
        ino: Ino,
        handle: Option<HandleId>,
        set: SetAttr,
        caller: Caller,
    ) -> Result<()> {
        if set.gives_away {
            return Err(Error::new(
                Kind::Forbidden,
                "everything here belongs to you",
            ));
        }
        let role = {
            let tree = self.tree();
            match &tree.get(ino).ok_or_else(not_found)?.data {
                NodeData::Alias(_) => return Ok(()),
                NodeData::Dir(dir) => {
                    let role = dir.role.clone();
                    drop(tree);
                    return self.set_on_directory(ino, &role, set);
                }
                NodeData::File(file) => file.role.clone(),
            }
        };
        match role {
            FileRole::Document(_) | FileRole::Scratch | FileRole::Backup(..) | FileRole::Key(_) => {
            }
            FileRole::Software(_) => return Err(no_files_here(&Role::Software(Vec::new()))),
            FileRole::Status | FileRole::Errors | FileRole::Rescued(_) => {
                return Err(no_files_here(&Role::Dds));
            }
        }
        if set.size.is_none() && set.mode.is_none() && set.mtime.is_none() {
            return Ok(());
        }
        let writer = handle.map(|id| self.handle(id)).transpose()?;
        if let Some(Handle::File {
            file,
            access,
            opener,
            ..
        }) = writer.as_deref()
        {
            if set.size.is_some() && !access.write {
                return Err(Error::new(Kind::Invalid, "not open for writing"));
            }
            if set.size == Some(0) {
                // Emptied after it was opened, as vim does: nothing of what is there stays.
                self.rebase(*opener, ino, file);
            }
            self.set_on_draft(&mut file.lock(), set)?;
            self.note_draft(ino, file);
            return Ok(());
        }
        self.set_by_path(ino, set, caller)
    }

    /// Changes attributes without a handle: nobody will close the file, so what must be
    /// published is published before the answer.
    fn set_by_path(&self, ino: Ino, set: SetAttr, caller: Caller) -> Result<()> {
        let access = crate::view::Access {
            write: true,
            ..Default::default()
        };
        // The owner may change the mode of a file that the mode forbids to write.
        let owner = Caller {
            is_root: true,
            ..caller
        };
        let who = if set.size.is_some() { caller } else { owner };
        let id = self.open_quietly(ino, access, who)?;
        let handle = self.handle(id)?;
        let result = match &*handle {
            Handle::File { file, .. } => {
                let mut body = file.lock();
                if body.is_dirty() {
                    // Somebody is writing; the change goes with that save.
                    self.set_on_draft(&mut body, set)
                } else {
                    let before = body.checkpoint();
                    let set = self.set_on_draft(&mut body, set);
                    let published = set.and_then(|()| self.publish(ino, &mut body));
                    if published.is_err() {
                        // The caller was told that nothing was saved, and has no handle with
                        // which to try again.
                        body.roll_back(before);
                    }
                    published
                }
            }
            Handle::Software(_) | Handle::Directory { .. } => Ok(()),
        };
        drop(handle);
        self.release(id);
        result
    }

    fn set_on_draft(&self, body: &mut Body, set: SetAttr) -> Result<()> {
        if let Some(size) = set.size {
            if let Target::Scratch = body.target {
                self.check_scratch(size.saturating_sub(body.content().len()))?;
            }
            body.set_len(size, self.vault.options().max_file_size)?;
        }
        if body.is_message() {
            // What was sent is never sent again for a time. What was not sent yet keeps the one
            // that it is given, and is sent when it is closed, not for that.
            if let Some(mtime) = set.mtime.filter(|_| body.is_dirty()) {
                body.mtime = mtime;
            }
            return Ok(());
        }
        if let Some(mode) = set.mode {
            let mode = (mode >> 6) & 0o7;
            body.touched |= mode != body.mode;
            body.mode = mode;
        }
        if let Some(mtime) = set.mtime {
            body.touched |= mtime != body.mtime;
            body.mtime = mtime;
        }
        Ok(())
    }

    /// A descriptor was closed by `caller`: publishes what the opener's process wrote.
    ///
    /// # Errors
    /// What [`crate::vault::Vault::publish`] gives. The draft stays, and the file can be closed
    /// or synced again.
    pub fn flush(&self, id: HandleId, caller: Caller) -> Result<()> {
        let handle = self.handle(id)?;
        let Handle::File {
            ino,
            file,
            access,
            opener,
            ..
        } = &*handle
        else {
            return Ok(());
        };
        let by_opener = match (opener, caller.group) {
            (Some(opener), Some(closer)) => *opener == closer,
            // Who cannot be told counts as the opener: better twice than not at all.
            (None, _) | (_, None) => true,
        };
        if !access.write || !by_opener {
            return Ok(());
        }
        let _use = self.last_use.begin();
        let mut body = file.lock();
        if !(body.written || body.touched) {
            return Ok(());
        }
        let published = self.publish(*ino, &mut body);
        body.left = Some(Instant::now());
        drop(body);
        self.reported(*ino, published)
    }

    /// Publishes what is unsaved and makes it durable.
    ///
    /// # Errors
    /// As [`View::flush`].
    pub fn fsync(&self, id: HandleId) -> Result<()> {
        let _use = self.last_use.begin();
        let handle = self.handle(id)?;
        let synced = match &*handle {
            Handle::File {
                ino, file, access, ..
            } => {
                let mut body = file.lock();
                let published = match access.write && body.is_dirty() {
                    true => self.publish(*ino, &mut body),
                    false => Ok(()),
                };
                drop(body);
                self.reported(*ino, published)
            }
            Handle::Software(_) | Handle::Directory { .. } => Ok(()),
        };
        synced.and_then(|()| self.vault.settle())
    }

    /// Saves an open file where it belongs. The body's lock is held, so that two closes make one
    /// version each, in order.
    pub(in crate::view) fn publish(&self, ino: Ino, body: &mut Body) -> Result<()> {
        self.publish_placed(ino, body, None)
    }

    /// As [`View::publish`]; the node moves to its new name at the moment it is published.
    pub(in crate::view) fn publish_placed(
        &self,
        ino: Ino,
        body: &mut Body,
        place: Option<(&Spot, Option<Ino>)>,
    ) -> Result<()> {
        if body.unlinked {
            body.miss_save();
            return Ok(());
        }
        if place.is_none() && body.is_held() {
            return Ok(()); // It stays a draft.
        }
        let saved = match &body.target {
            Target::Scratch | Target::Nowhere => Ok(()),
            Target::Key(name) => {
                // One byte more than is allowed, so that it is refused and not cut.
                let bytes = body.read(0, KEY_FILE_LIMIT as usize + 1);
                let stored = bytes.and_then(|bytes| self.vault.put_key(name, &bytes));
                stored.map(|stored| {
                    self.show_stored_key(ino, &stored);
                    body.target = Target::Key(stored);
                })
            }
            Target::Document { .. } => self.publish_document(ino, body, place),
        };
        match saved {
            Ok(()) => {
                body.saved();
                if let Some(file) = self.tree().file_mut(ino) {
                    file.draft = false;
                }
                self.show_changes();
                Ok(())
            }
            Err(error) => {
                body.failed = Some(error.kind());
                Err(error)
            }
        }
    }

    fn publish_document(
        &self,
        ino: Ino,
        body: &mut Body,
        place: Option<(&Spot, Option<Ino>)>,
    ) -> Result<()> {
        let Target::Document {
            kind,
            audience,
            path,
            doc,
            base,
        } = &body.target
        else {
            return Ok(());
        };
        let digest = body.content().digest()?;
        let unchanged = self.is_saved(base, digest);
        let touched = body.touched && *kind == BlobKind::Note;
        let never = self.tree().is_never_published(ino);
        let nothing_new = unchanged && !touched && !body.moved;
        if nothing_new && (!never || self.continue_backup(ino, base, path, body.mode)) {
            // What arrived while it was a draft takes its place now.
            if let Some(shown) = self.tree().shown(ino) {
                self.vault.show_again(&shown.key);
            }
            return Ok(());
        }
        // Only a change of a conflict copy settles the conflict, and that of its own document.
        let key = self.vault.doc_key(*kind, audience, *doc);
        let settles = body.settles.iter().filter(|_| !unchanged);
        let settles = settles.filter(|other| other.key == key);
        let settles = settles.filter(|other| base.iter().all(|own| own.id != other.id));
        let replaces: Vec<_> = base.iter().chain(settles).cloned().collect();
        let published = self.vault.publish(&Publication {
            kind: *kind,
            audience,
            path,
            doc: *doc,
            replaces: &replaces,
            content: body.content(),
            mtime: body.mtime,
            mode: (*kind == BlobKind::Note && body.mode != 0o6).then_some(body.mode),
        })?;
        lock(&self.published)
            .entry(digest)
            .or_default()
            .push(audience.clone());
        let head = published.head();
        let before = self.show_published(ino, head, place, !unchanged);
        for key in before {
            self.vault.show_again(&key);
        }
        self.note_publication(ino, published.versions(), &replaces);
        self.note_made_here(published.versions(), &replaces);
        body.settles.clear();
        if let Target::Document { base, .. } = &mut body.target {
            *base = published.versions().to_vec();
        }
        Ok(())
    }

    /// Tells whether the store holds a content as the version that a draft is based on. One
    /// reader's copy of a message is enough: another reader may have removed theirs.
    fn is_saved(&self, base: &[Arc<Version>], digest: [u8; 32]) -> bool {
        base.first().is_some_and(|first| {
            let alike = |one: &Version| {
                one.key == first.key && one.path == first.path && one.digest == Some(digest)
            };
            base.iter().any(|one| alike(one) && self.vault.has(one))
        })
    }

    /// Lets a new file that holds the same as the backup of its name be the document again, so
    /// that nothing need be published. Tells whether it could.
    fn continue_backup(&self, ino: Ino, base: &[Arc<Version>], path: &str, mode: u32) -> bool {
        let first = &base[0];
        let same = first.path.as_deref() == Some(path.as_bytes())
            && (first.kind == BlobKind::Message || first.mode.unwrap_or(0o6) == mode);
        let mut tree = self.tree();
        let backup = tree.files().find_map(|(ino, file)| match &file.role {
            FileRole::Backup(shown, _) => {
                let head = shown.head.as_ref()?;
                let is_base = base.iter().any(|one| one.id == head.version.id);
                (is_base && shown.key == first.key).then(|| (ino, shown.clone()))
            }
            _ => None,
        });
        let Some((backup, shown)) = backup.filter(|_| same) else {
            return false;
        };
        tree.set_role(backup, FileRole::Scratch);
        tree.set_role(ino, FileRole::Document(shown));
        true
    }

    /// Lets the node that was saved show the new version under its own number and name. Returns
    /// the documents that it showed or held back until now.
    pub(in crate::view) fn show_published(
        &self,
        ino: Ino,
        head: Head,
        place: Option<(&Spot, Option<Ino>)>,
        changed: bool,
    ) -> Vec<DocKey> {
        let people = self.vault.people();
        let mut tree = self.tree();
        let is_conflict = match place {
            None => tree.shown(ino).is_some_and(|shown| shown.is_conflict),
            // What takes over a conflict copy keeps the document's path.
            Some((spot, _)) => head.version.path.as_deref() != Some(spot.path().as_bytes()),
        };
        if let Some((spot, victim)) = place {
            if let Some(victim) = victim {
                tree.drop_draft(victim);
                tree.detach(victim);
            }
            tree.relocate(ino, spot.parent, OsStr::new(&spot.name));
        }
        let mut before: Vec<_> = tree
            .shown(ino)
            .map(|shown| shown.key.clone())
            .into_iter()
            .collect();
        let shown = Shown {
            key: head.version.key.clone(),
            head: Some(head),
            is_conflict,
            hides: Vec::new(),
        };
        tree.set_role(ino, FileRole::Document(shown));
        // Something took its place, whether it replaces it or not.
        let name = tree.get(ino).map(|node| (node.parent, node.name.clone()));
        let backup = name.and_then(|(parent, name)| tree.backup_of(parent, &name));
        if let Some((backup, shown)) = backup {
            tree.set_role(backup, FileRole::Scratch);
            before.push(shown.key);
        }
        if changed {
            self.name_settled(&mut tree, ino, &people);
        }
        before
    }
}
