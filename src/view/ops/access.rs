//! Files without an open, nodes that are not offered, and what `access(2)` and `statfs(2)` answer.

use std::ffi::OsStr;
use std::time::Instant;

use crate::error::{Error, Kind, Result};
use crate::store::Space;
use crate::view::draft::scratch::Hold;
use crate::view::draft::state::Target;
use crate::view::ops::open::{Access, Handle, exists, no_files_here};
use crate::view::tree::{FileRole, Ino, NodeData, Role};
use crate::view::{Attr, Caller, View, not_found};

impl View {
    /// Makes an empty file, as mknod(2) does for programs that open it later. Device nodes, FIFOs
    /// and sockets are refused.
    ///
    /// A message is sent once something is written to it.
    ///
    /// # Errors
    /// `Forbidden` for anything but a file, or by the rule that forbids one there; `Exists`; what
    /// publishing gives.
    pub fn mknod(&self, parent: Ino, name: &OsStr, mode: u32, caller: Caller) -> Result<Attr> {
        let _use = self.last_use.begin();
        let what = match mode & libc::S_IFMT {
            0 | libc::S_IFREG => {
                let made = self.make_file(parent, name, mode, caller);
                return self.reported_in(parent, name, made);
            }
            libc::S_IFIFO => "named pipes",
            libc::S_IFSOCK => "sockets",
            libc::S_IFCHR | libc::S_IFBLK => "device nodes",
            _ => "files of this kind",
        };
        let refused = self.spot(parent, name).and_then(|_| {
            let rule = format!("{what} cannot be made here: only files and directories");
            match self.tree().child(parent, name) {
                Some(_) => Err(exists()),
                None => Err(Error::new(Kind::Forbidden, rule)),
            }
        });
        self.reported_in(parent, name, refused)
    }

    fn make_file(&self, parent: Ino, name: &OsStr, mode: u32, caller: Caller) -> Result<Attr> {
        let access = Access {
            write: true,
            exclusive: true,
            ..Access::default()
        };
        let (made, id) = self.create_quietly(parent, name, mode, access, caller)?;
        let handle = self.handle(id)?;
        let mut published = Ok(());
        if let Handle::File { ino, file, .. } = &*handle {
            let mut body = file.lock();
            body.left = Some(Instant::now());
            if body.is_message() || matches!(body.target, Target::Key(_)) {
                // Whoever makes a file so opens it next: what counts is what they write.
                body.hold = Hold::WhileEmpty;
            }
            // Nobody closes it.
            published = self.publish(*ino, &mut body);
            if published.is_err() {
                body.unlinked = true;
                let mut tree = self.tree();
                tree.drop_draft(*ino);
                tree.detach(*ino);
            }
        }
        drop(handle);
        self.release(id);
        published?;
        self.getattr(made.ino)
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
        if !write {
            return Ok(());
        }
        match role {
            FileRole::Software(_) => Err(no_files_here(&Role::Software(Vec::new()))),
            FileRole::Status | FileRole::Errors | FileRole::Rescued(_) => {
                Err(no_files_here(&Role::Dds))
            }
            FileRole::Document(_) => self.check_rules(ino, caller).map(drop),
            FileRole::Scratch | FileRole::Backup(..) | FileRole::Key(_) => Ok(()),
        }
    }

    /// Returns how much room the store's disk has.
    ///
    /// # Errors
    /// `Io` as the disk says.
    pub fn space(&self) -> Result<Space> {
        self.vault.store().space()
    }
}
