//! Directories among notes: made, with a mode, and kept by blobs of their own.

use std::ffi::OsStr;

use crate::error::{Error, Kind, Result};
use crate::ids::{BlobKind, Folder, Timestamp};
use crate::plaintext::Plaintext;
use crate::vault::{Audience, Publication, Published};
use crate::view::ops::open::{check_new_name, check_path, exists, no_files_here};
use crate::view::tree::layout::join;
use crate::view::tree::{DirNode, Ino, NodeData, Role};
use crate::view::{Attr, SetAttr, View, not_found};

impl View {
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
            let published = self.publish_directory(audience, path, mode << 6)?;
            self.tree().keep_by_marker(ino, published.head());
        }
        self.show_changes();
        Ok(())
    }

    /// Makes a directory among notes. It is kept by a blob of its own, so that it is there for
    /// everybody and after a remount.
    ///
    /// # Errors
    /// `Exists`; the rule that forbids it; what publishing gives.
    pub fn mkdir(&self, parent: Ino, name: &OsStr, mode: u32) -> Result<Attr> {
        let _use = self.last_use.begin();
        let made = self.mkdir_quietly(parent, name, mode);
        self.reported_in(parent, name, made)
    }

    fn mkdir_quietly(&self, parent: Ino, name: &OsStr, mode: u32) -> Result<Attr> {
        let (role, taken) = {
            let tree = self.tree();
            let dir = tree.dir(parent).ok_or_else(not_found)?;
            (dir.role.clone(), dir.children.contains_key(name))
        };
        if taken {
            return Err(exists());
        }
        let (audience, directory) = match &role {
            Role::Audience(Folder::Notes, audience) => (audience, ""),
            Role::Sub(audience, path) => (audience, path.as_str()),
            Role::Folder(_) => {
                let unknown = "no such contact: directories here are contacts' names";
                return Err(Error::new(Kind::NotFound, unknown));
            }
            other => return Err(no_files_here(other)),
        };
        let name = check_new_name(name)?;
        self.check_unlike(parent, OsStr::new(name), None)?;
        let path = join(directory, name);
        check_path(&path)?;
        let ino = {
            let mut tree = self.tree();
            if tree.child(parent, OsStr::new(name)).is_some() {
                return Err(exists());
            }
            let mut dir = DirNode::new(Role::Sub(audience.clone(), path.clone()));
            dir.listed_while_empty = true;
            tree.attach(parent, name, NodeData::Dir(dir))
        };
        match self.publish_directory(audience, &path, mode) {
            Ok(published) => {
                self.tree().keep_by_marker(ino, published.head());
                drop(published);
                self.show_changes();
                self.getattr(ino)
            }
            Err(error) => {
                self.tree().detach(ino);
                Err(error)
            }
        }
    }

    fn publish_directory(
        &self,
        audience: &Audience,
        path: &str,
        mode: u32,
    ) -> Result<Published<'_>> {
        let mode = (mode >> 6) & 0o7;
        self.vault.publish(&Publication {
            kind: BlobKind::Directory,
            audience,
            path,
            doc: self.vault.new_doc_id(),
            replaces: &[],
            content: &Plaintext::new(),
            mtime: Timestamp::now(),
            mode: (mode != 0o7).then_some(mode),
        })
    }
}
