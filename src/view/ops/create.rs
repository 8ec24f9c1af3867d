//! Making files and directories.

use std::ffi::OsStr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::error::{Error, Kind, Result};
use crate::ids::Folder;
use crate::vault::Version;
use crate::view::draft::handles::Handle;
use crate::view::draft::open_file::{OpenFile, Target};
use crate::view::draft::scratch::{Birth, Hold};
use crate::view::draft::takeover::Takeover;
use crate::view::error_log::About;
use crate::view::rules::{check_new_name, check_path, exists, file_kind, no_files_here, not_found};
use crate::view::tree::layout::join;
use crate::view::tree::{DirNode, FileRole, Ino, NodeData, Role, Shown};
use crate::view::{Access, Attr, Caller, HandleId, View};

impl View {
    /// Creates a file in a directory and opens it.
    ///
    /// # Errors
    /// The rule that forbids it, `Exists`, or the fault of a member's key.
    pub fn create(
        &self,
        parent: Ino,
        name: &OsStr,
        mode: u32,
        access: Access,
        caller: Caller,
    ) -> Result<(Attr, HandleId)> {
        self.reporting(About::Name(parent, name), || {
            self.create_file(parent, name, mode, access, caller)
        })
    }

    pub(in crate::view) fn create_file(
        &self,
        parent: Ino,
        name: &OsStr,
        mode: u32,
        access: Access,
        caller: Caller,
    ) -> Result<(Attr, HandleId)> {
        let existing = self.tree().child(parent, name);
        if let Some(ino) = existing {
            if access.exclusive {
                return Err(exists());
            }
            let handle = self.open_file(ino, access, caller)?;
            return Ok((self.getattr(ino)?, handle));
        }
        let role = self.tree().dir(parent).ok_or_else(not_found)?.role.clone();
        let birth = Birth::of(name, access, mode);
        let mode = (mode >> 6) & 0o7;
        let (file_role, target, settles) = self.new_file(parent, &role, name, birth, caller)?;
        let file = Arc::new(OpenFile::fresh(
            self.vault.new_content(),
            target,
            mode,
            &self.scratch,
        ));
        {
            let mut body = file.lock();
            body.set_settles(settles);
            body.set_hold(birth.hold());
        }
        let ino = {
            let mut tree = self.tree();
            if tree.child(parent, name).is_some() {
                return Err(exists());
            }
            if !tree.is_attached(parent) {
                return Err(not_found());
            }
            let ino = tree.attach_file(parent, name, file_role);
            if let Some(node) = tree.file_mut(ino) {
                node.open = Some(Arc::clone(&file));
                node.handles = 1;
            }
            ino
        };
        let handle = self.insert_handle(Handle::File {
            ino,
            file,
            access,
            opener: caller.reader,
            has_read: AtomicBool::new(false),
        });
        Ok((self.getattr(ino)?, handle))
    }

    /// Decides the role of a new file in a directory, if it may be there at all, and which conflict
    /// its first save settles.
    fn new_file(
        &self,
        parent: Ino,
        role: &Role,
        name: &OsStr,
        birth: Birth,
        caller: Caller,
    ) -> Result<(FileRole, Target, Vec<Arc<Version>>)> {
        let (folder, audience, directory) = match role {
            Role::Audience(folder, audience) => (*folder, audience, ""),
            Role::Sub(audience, path) => (Folder::Notes, audience, path.as_str()),
            Role::Keys => {
                // Any name will do: the content decides, once it is whole.
                let name = crate::store::FileName::new(OsStr::new(check_new_name(name)?))?;
                let role = FileRole::Key(name.clone());
                return Ok((role, Target::Key(name), Vec::new()));
            }
            other => return Err(no_files_here(other)),
        };
        let name = check_new_name(name)?;
        self.check_unlike(parent, OsStr::new(name), None)?;
        if let Birth::Scratch = birth {
            return Ok((FileRole::Scratch, Target::Scratch, Vec::new()));
        }
        let kind = file_kind(folder);
        self.vault.check_audience(audience)?;
        let path = join(directory, name);
        check_path(&path)?;
        let spot = self.spot(parent, OsStr::new(name))?;
        let new = || {
            let doc = self.vault.new_doc_id();
            Takeover {
                key: self.vault.doc_key(kind, audience, doc),
                doc,
                base: Vec::new(),
                settles: Vec::new(),
                path: None,
            }
        };
        // After a document was renamed away as a backup, a new file of its name continues it.
        let takeover = self.takeover(&spot, None, caller).unwrap_or_else(new);
        let Takeover { key, doc, base, .. } = takeover;
        let shown = Shown {
            key,
            head: None,
            is_conflict: takeover.path.is_some(),
            hides: base.iter().map(|version| version.id).collect(),
        };
        let target = Target::Document {
            kind,
            audience: audience.clone(),
            path: takeover.path.unwrap_or(path),
            doc,
            base,
        };
        Ok((FileRole::Document(shown), target, takeover.settles))
    }

    /// Makes an empty file, as mknod(2) does for programs that open it later. Device nodes, FIFOs
    /// and sockets are refused.
    ///
    /// A message is sent once something is written to it.
    ///
    /// # Errors
    /// `Forbidden` for anything but a file, or by the rule that forbids one there; `Exists`;
    /// errors of publishing.
    pub fn mknod(&self, parent: Ino, name: &OsStr, mode: u32, caller: Caller) -> Result<Attr> {
        self.reporting(About::Name(parent, name), || {
            self.make_node(parent, name, mode, caller)
        })
    }

    fn make_node(&self, parent: Ino, name: &OsStr, mode: u32, caller: Caller) -> Result<Attr> {
        let refused = match mode & libc::S_IFMT {
            0 | libc::S_IFREG => return self.make_file(parent, name, mode, caller),
            libc::S_IFIFO => "named pipes",
            libc::S_IFSOCK => "sockets",
            libc::S_IFCHR | libc::S_IFBLK => "device nodes",
            _ => "files of this kind",
        };
        self.spot(parent, name)?;
        if self.tree().child(parent, name).is_some() {
            return Err(exists());
        }
        let rule = format!("{refused} cannot be made here: only files and directories");
        Err(Error::new(Kind::Forbidden, rule))
    }

    fn make_file(&self, parent: Ino, name: &OsStr, mode: u32, caller: Caller) -> Result<Attr> {
        let access = Access {
            write: true,
            exclusive: true,
            ..Access::default()
        };
        let (made, id) = self.create_file(parent, name, mode, access, caller)?;
        let handle = self.handle(id)?;
        let mut published = Ok(());
        if let Handle::File { ino, file, .. } = &*handle {
            let mut body = file.lock();
            body.note_left();
            if body.is_message() || matches!(body.target(), Target::Key(_)) {
                // Programs that make a file so open it next: wait for their first write.
                body.set_hold(Hold::WhileEmpty);
            }
            // Nobody closes it.
            published = self.publish(*ino, &mut body);
            if published.is_err() {
                body.remove();
                let mut tree = self.tree();
                tree.detach(*ino);
            }
        }
        drop(handle);
        self.release(id);
        published?;
        self.getattr(made.ino)
    }

    /// Makes a directory among notes. It is kept by a blob of its own, so that it is there for
    /// everybody and after a remount.
    ///
    /// # Errors
    /// `Exists`; the rule that forbids it; errors of publishing.
    pub fn mkdir(&self, parent: Ino, name: &OsStr, mode: u32) -> Result<Attr> {
        self.reporting(About::Name(parent, name), || {
            self.make_directory(parent, name, mode)
        })
    }

    fn make_directory(&self, parent: Ino, name: &OsStr, mode: u32) -> Result<Attr> {
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
        let mode = (mode >> 6) & 0o7;
        let own = (mode != 0o7).then_some(mode);
        match self.publish_directory(audience, &path, self.vault.new_doc_id(), &[], own) {
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
}
