//! Attributes: the answers to `stat`, `access(2)` and `statfs(2)`, and the changes by `chmod`,
//! `truncate` and `utimens`.

use crate::error::{Error, Kind, Result};
use crate::ids::Timestamp;
use crate::store::Space;
use crate::view::draft::handles::Handle;
use crate::view::draft::open_file::{Locked, OpenFile, Target};
use crate::view::error_log::About;
use crate::view::rules::{check_role, check_writable, document_mode, no_files_here, not_found};
use crate::view::tree::{FileNode, FileRole, Ino, NodeData, OpenContent, Role, Shown, Stat};
use crate::view::{Attr, Caller, HandleId, NodeKind, View};

/// A request of `chmod`, `truncate`, `utimens` or `chown`.
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
    /// Returns the attributes of a node.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn getattr(&self, ino: Ino) -> Result<Attr> {
        let tree = self.tree();
        let node = tree.get(ino).ok_or_else(not_found)?;
        let attr = match &node.data {
            NodeData::Dir(dir) => Attr {
                ino,
                kind: NodeKind::Directory,
                size: 0,
                atime: node.atime(dir.mtime),
                mtime: dir.mtime,
                ctime: node.ctime(dir.mtime),
                mode: dir.mode() << 6,
                links: tree.links_of(dir),
            },
            NodeData::Alias(target) => Attr {
                ino,
                kind: NodeKind::Symlink,
                size: target.len() as u64,
                atime: node.atime(self.started),
                mtime: self.started,
                ctime: node.ctime(self.started),
                mode: 0o777,
                links: 1,
            },
            NodeData::File(file) => {
                let stat = match (&file.role, &file.open) {
                    (FileRole::Status | FileRole::Errors, None) => {
                        let role = file.role.clone();
                        drop(tree);
                        let stat = self.load_special(&role)?.stat();
                        return Ok(file_attr(ino, stat, [stat.mtime; 2], 1));
                    }
                    _ => self.file_stat(file),
                };
                let links = u32::from(tree.is_attached(ino));
                let times = [node.atime(stat.mtime), node.ctime(stat.mtime)];
                file_attr(ino, stat, times, links)
            }
        };
        Ok(attr)
    }

    /// Size, time and owner's bits of a file of the tree.
    pub(in crate::view) fn file_stat(&self, file: &FileNode<OpenFile>) -> Stat {
        if let Some(open) = &file.open {
            return open.stat();
        }
        match &file.role {
            FileRole::Document(Shown {
                head: Some(head), ..
            }) => {
                let version = &head.version;
                Stat {
                    size: version.size,
                    mtime: version.mtime,
                    mode: document_mode(version),
                }
            }
            FileRole::Document(_)
            | FileRole::Scratch
            | FileRole::Backup(..)
            | FileRole::Key(_)
            | FileRole::Software(_)
            | FileRole::Status
            | FileRole::Errors
            | FileRole::Rescued(_) => file.stat.unwrap_or(Stat {
                size: 0,
                mtime: self.started,
                mode: 0o6,
            }),
        }
    }

    /// Changes attributes. `handle` is the open file through which it is asked, if any.
    ///
    /// # Errors
    /// The rule that forbids it; errors of publishing, when no handle will do it later.
    pub fn setattr(
        &self,
        ino: Ino,
        handle: Option<HandleId>,
        set: SetAttr,
        caller: Caller,
    ) -> Result<Attr> {
        self.reporting(About::Node(ino), || {
            self.change_attributes(ino, handle, set, caller)
        })?;
        let mut tree = self.tree();
        tree.note_change(ino);
        if let Some(time) = set.atime {
            tree.set_read_time(ino, time);
        }
        drop(tree);
        self.getattr(ino)
    }

    fn change_attributes(
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
        check_role(&role)?;
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
            let mut body = file.lock();
            if set.size == Some(0) {
                // Emptied after it was opened, as vim does: no old byte stays.
                self.rebase(*opener, ino, &mut body);
            }
            return self.set_on_draft(&mut body, set);
        }
        self.set_by_path(ino, set, caller)
    }

    /// Changes attributes without a handle: nobody will close the file, so it is
    /// published before the answer if it has to be.
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
        let id = self.open_file(ino, access, who)?;
        let handle = self.handle(id)?;
        let mut rolled_back = false;
        let result = match &*handle {
            Handle::File { file, .. } => {
                let mut body = file.lock();
                if body.is_dirty() {
                    // Somebody is writing: their save publishes this change as well.
                    self.set_on_draft(&mut body, set)
                } else {
                    let before = body.checkpoint();
                    let set = self.set_on_draft(&mut body, set);
                    let published = set.and_then(|()| self.publish(ino, &mut body));
                    if published.is_err() {
                        // The caller learns that nothing was saved, and has no handle with
                        // which to try again.
                        body.roll_back(before);
                        rolled_back = true;
                    }
                    published
                }
            }
            Handle::Software(_) | Handle::Directory { .. } => Ok(()),
        };
        if rolled_back {
            // It was a draft for a moment: show now any version that arrived then.
            self.show_document_again(ino);
        }
        drop(handle);
        self.release(id);
        result
    }

    fn set_on_draft(&self, body: &mut Locked<'_>, set: SetAttr) -> Result<()> {
        if let Some(size) = set.size {
            if let Target::Scratch = body.target() {
                self.check_scratch(size.saturating_sub(body.content().len()))?;
            }
            body.set_len(size, self.vault.options().max_file_size)?;
        }
        if body.is_message() {
            // A sent message is never sent again for a new time. A message that was not sent yet
            // keeps the new time, and is sent when it is closed, not for that.
            if let Some(mtime) = set.mtime.filter(|_| body.is_dirty()) {
                body.set_mtime(mtime, false);
            }
            return Ok(());
        }
        if let Some(mode) = set.mode {
            body.set_mode((mode >> 6) & 0o7);
        }
        if let Some(mtime) = set.mtime {
            body.set_mtime(mtime, true);
        }
        Ok(())
    }

    /// Sets the mode of a directory, and the time of modification that this mount shows of it.
    pub(in crate::view) fn set_on_directory(
        &self,
        ino: Ino,
        role: &Role,
        set: SetAttr,
    ) -> Result<()> {
        if let Some(mode) = set.mode {
            self.set_directory_mode(ino, role, mode)?;
        }
        if let (Some(time), Some(dir)) = (set.mtime, self.tree().dir_mut(ino)) {
            dir.mtime = time;
        }
        Ok(())
    }

    /// Sets the owner's bits of a directory, which its own blob keeps.
    fn set_directory_mode(&self, ino: Ino, role: &Role, mode: u32) -> Result<()> {
        let Role::Sub(audience, path) = role else {
            return Ok(()); // It always exists, and belongs to me alone.
        };
        let mode = (mode >> 6) & 0o7;
        let (markers, before) = {
            let tree = self.tree();
            let dir = tree.dir(ino).ok_or_else(not_found)?;
            (dir.markers.clone(), dir.mode())
        };
        if mode == before {
            return Ok(());
        }
        self.vault.check_audience(audience)?;
        let own = (mode != 0o7).then_some(mode);
        for (key, head) in &markers {
            self.republish_marker(ino, key, head, path, audience, own)?;
        }
        if markers.is_empty() {
            let published =
                self.publish_directory(audience, path, self.vault.new_doc_id(), &[], own)?;
            self.tree().keep_by_marker(ino, published.head());
        }
        self.show_changes();
        Ok(())
    }

    /// Tells whether a node may be written or executed, as `access(2)` asks.
    ///
    /// # Errors
    /// `ReadOnlyFile`, `ReadOnlyTree` or `Forbidden` if it may not; `NotFound`.
    pub fn may_access(&self, ino: Ino, write: bool, execute: bool, caller: Caller) -> Result<()> {
        let (role, bits) = {
            let tree = self.tree();
            match &tree.get(ino).ok_or_else(not_found)?.data {
                NodeData::File(file) => (file.role.clone(), self.file_stat(file).mode),
                NodeData::Dir(dir) => match dir.role {
                    Role::Software(_) if write => return Err(no_files_here(&dir.role)),
                    _ => return Ok(()),
                },
                NodeData::Alias(_) => return Ok(()),
            }
        };
        if execute && bits & 0o1 == 0 {
            return Err(Error::new(Kind::ReadOnlyFile, "not executable"));
        }
        match write {
            true => check_writable(&role, bits, caller).map(drop),
            false => Ok(()),
        }
    }

    /// Returns how much room the store's disk has.
    ///
    /// # Errors
    /// `Io` as the disk says.
    pub fn space(&self) -> Result<Space> {
        self.vault.space()
    }
}

fn file_attr(ino: Ino, stat: Stat, [atime, ctime]: [Timestamp; 2], links: u32) -> Attr {
    Attr {
        ino,
        kind: NodeKind::File,
        size: stat.size,
        atime,
        mtime: stat.mtime,
        ctime,
        mode: stat.mode << 6,
        links,
    }
}
