//! Opening, creating and closing files.

use std::ffi::OsStr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use crate::error::{Error, Kind, Result};
use crate::ids::{BlobKind, Folder};
use crate::store::SoftwareFile;
use crate::vault::{Audience, DocKey, Head, Version};
use crate::view::draft::scratch::Birth;
use crate::view::draft::state::{OpenFile, Stat, Target};
use crate::view::draft::takeover::Takeover;
use crate::view::tree::layout::join;
use crate::view::tree::names::{self, NAME_MAX};
use crate::view::tree::{FileRole, Ino, Role, Shown};
use crate::view::{
    Attr, Caller, DirEntry, HandleId, ThreadGroup, View, document_mode, lock, not_found,
};

/// How a file is opened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Access {
    /// For reading.
    pub read: bool,
    /// For writing.
    pub write: bool,
    /// Every write goes to the end.
    pub append: bool,
    /// Emptied when it is opened (O_TRUNC).
    pub truncate: bool,
    /// Must not exist (O_EXCL). Only [`View::create`] heeds it.
    pub exclusive: bool,
}

/// An open file.
pub(in crate::view) enum Handle {
    File {
        ino: Ino,
        file: Arc<OpenFile>,
        access: Access,
        /// Whose FLUSH publishes.
        opener: Option<ThreadGroup>,
        /// Its opener has read from it.
        has_read: AtomicBool,
    },
    Software(Box<dyn SoftwareFile>),
    Directory {
        ino: Ino,
        /// The listing that the reader is going through.
        entries: Mutex<Vec<DirEntry>>,
    },
}

impl Handle {
    pub(in crate::view) fn is_software(&self) -> bool {
        matches!(self, Handle::Software(_))
    }
}

impl View {
    /// Opens a file.
    ///
    /// # Errors
    /// For writing: the rule that forbids it (`ReadOnlyFile`, `Forbidden`, `ReadOnlyTree`,
    /// `Unsupported`) or what is wrong with a member's key. `Damaged` or `TooLarge` if nothing of
    /// the content may be shown; `NotFound` if it went.
    pub fn open(&self, ino: Ino, access: Access, caller: Caller) -> Result<HandleId> {
        let _use = self.last_use.begin();
        let mut opened = self.open_quietly(ino, access, caller);
        if matches!(&opened, Err(error) if error.kind() == Kind::NotFound) {
            // The version that was shown went a moment ago; another may have its place.
            opened = self.open_quietly(ino, access, caller);
        }
        self.reported(ino, opened)
    }

    pub(in crate::view) fn open_quietly(
        &self,
        ino: Ino,
        access: Access,
        caller: Caller,
    ) -> Result<HandleId> {
        if let Some(handle) = self.open_special(ino, access)? {
            return Ok(self.insert_handle(handle));
        }
        if access.write {
            self.check_writable(ino, caller)?;
        }
        let file = match self.hold(ino)? {
            Ok(file) => file,
            Err(error) => {
                self.let_go(ino);
                return Err(error);
            }
        };
        // The handle first: a RELEASE of another one must not publish what we empty here.
        let id = self.insert_handle(Handle::File {
            ino,
            file: Arc::clone(&file),
            access,
            opener: caller.group,
            has_read: AtomicBool::new(false),
        });
        if access.write && access.truncate {
            self.rebase(caller.group, ino, &file);
            file.lock().truncate_at_open();
            self.note_draft(ino, &file);
        } else if access.write {
            self.settle_only_seen(caller.group, ino, &file);
        }
        Ok(id)
    }

    /// Counts a handle on a file and returns its content, which is loaded unless it is at hand.
    ///
    /// The outer error is that there is no such file: nothing was counted then.
    pub(in crate::view) fn hold(&self, ino: Ino) -> Result<Result<Arc<OpenFile>>> {
        let role = {
            let mut tree = self.tree();
            let file = tree.file_mut(ino).ok_or_else(not_found)?;
            file.handles += 1;
            match (&file.open, &file.role) {
                // Every opener of these sees the state of that moment.
                (_, FileRole::Status | FileRole::Errors) => {}
                (Some(open), _) => return Ok(Ok(Arc::clone(open))),
                (None, _) => {}
            }
            file.role.clone()
        };
        Ok(match &role {
            FileRole::Document(Shown {
                key,
                head: Some(head),
                ..
            }) => self.load(ino, key, head),
            other => self.load_special(other).and_then(|open| {
                let open = Arc::new(open);
                let mut tree = self.tree();
                let file = tree.file_mut(ino).ok_or_else(not_found)?;
                file.open = Some(Arc::clone(&open));
                Ok(open)
            }),
        })
    }

    /// Loads a document's content; of several that do so at once, one is kept.
    fn load(&self, ino: Ino, key: &DocKey, head: &Head) -> Result<Arc<OpenFile>> {
        let version = &head.version;
        let content = match self.vault.content(version) {
            Ok(content) => content,
            Err(error) => {
                if error.kind() == Kind::NotFound {
                    // It went since it was listed: show that.
                    self.look()?;
                }
                return Err(error);
            }
        };
        let stat = Stat {
            size: content.len(),
            mtime: version.mtime,
            mode: document_mode(version),
        };
        let open = OpenFile::published(content, self.target(ino, key, head), stat);
        let others = self.tree().other_heads(ino);
        open.lock().settles = others;
        let mut tree = self.tree();
        let file = tree.file_mut(ino).ok_or_else(not_found)?;
        Ok(Arc::clone(file.open.get_or_insert_with(|| Arc::new(open))))
    }

    /// Where a save of a shown document goes.
    pub(in crate::view) fn target(&self, ino: Ino, key: &DocKey, head: &Head) -> Target {
        let version = &head.version;
        let Some(audience) = version.audience() else {
            return Target::Nowhere;
        };
        // Made by plain gpg or sq: it becomes a document when it is first saved here.
        let doc = self.doc_of(key);
        Target::Document {
            kind: version.kind,
            audience: audience.clone(),
            path: self.saved_path(ino, version),
            doc,
            base: head.blobs().cloned().collect(),
        }
    }

    /// The path that a save keeps: the document's own, unless it has none that could be kept.
    pub(in crate::view) fn saved_path(&self, ino: Ino, version: &Version) -> String {
        let own = version
            .path
            .as_deref()
            .and_then(|path| std::str::from_utf8(path).ok());
        let flat = version.kind == BlobKind::Message;
        let keeps =
            |path: &&str| path.split('/').all(names::is_safe) && !(flat && path.contains('/'));
        match own.filter(keeps) {
            Some(path) => path.to_owned(),
            None => {
                let tree = self.tree();
                let name = tree
                    .get(ino)
                    .map(|node| node.name.to_string_lossy().into_owned());
                let parent = tree.get(ino).and_then(|node| tree.dir(node.parent));
                let directory = match parent.map(|dir| &dir.role) {
                    Some(Role::Sub(_, path)) => path.as_str(),
                    _ => "",
                };
                join(directory, &name.unwrap_or_default())
            }
        }
    }

    /// Checks every rule that can forbid writing to an existing file, before anything changes.
    fn check_writable(&self, ino: Ino, caller: Caller) -> Result<()> {
        match self.check_rules(ino, caller)? {
            Some(audience) => self.vault.check_audience(&audience),
            None => Ok(()),
        }
    }

    /// Checks the rules of the view for writing to a file. Returns the audience whose keys must
    /// be usable, if there is one to be checked.
    pub(in crate::view) fn check_rules(
        &self,
        ino: Ino,
        caller: Caller,
    ) -> Result<Option<Audience>> {
        let tree = self.tree();
        let file = tree.file(ino).ok_or_else(not_found)?;
        let FileRole::Document(Shown {
            head: Some(head), ..
        }) = &file.role
        else {
            return Ok(None); // A draft: its audience was checked when it was made.
        };
        let version = &head.version;
        writable_version(version)?;
        if self.file_stat(file).mode & 0o2 == 0 && !caller.is_root {
            return Err(Error::new(Kind::ReadOnlyFile, "its mode forbids writing"));
        }
        Ok(version.audience().cloned())
    }

    /// Creates a file in a directory and opens it.
    ///
    /// # Errors
    /// The rule that forbids it, `Exists`, or what is wrong with a member's key.
    pub fn create(
        &self,
        parent: Ino,
        name: &OsStr,
        mode: u32,
        access: Access,
        caller: Caller,
    ) -> Result<(Attr, HandleId)> {
        let _use = self.last_use.begin();
        let created = self.create_quietly(parent, name, mode, access, caller);
        self.reported_in(parent, name, created)
    }

    pub(in crate::view) fn create_quietly(
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
            let handle = self.open_quietly(ino, access, caller)?;
            return Ok((self.getattr(ino)?, handle));
        }
        let role = self.tree().dir(parent).ok_or_else(not_found)?.role.clone();
        let birth = Birth::of(name, access, mode);
        let mode = (mode >> 6) & 0o7;
        let (file_role, target, settles) = self.new_file(parent, &role, name, birth, caller)?;
        let file = Arc::new(OpenFile::fresh(self.vault.new_content(), target, mode));
        {
            let mut body = file.lock();
            body.settles = settles;
            body.hold = birth.hold();
        }
        let ino = {
            let mut tree = self.tree();
            if tree.child(parent, name).is_some() {
                return Err(exists());
            }
            if !tree.is_attached(parent) {
                return Err(not_found());
            }
            let draft = !matches!(file_role, FileRole::Scratch);
            let ino = tree.attach_file(parent, name, file_role);
            if let Some(node) = tree.file_mut(ino) {
                node.open = Some(Arc::clone(&file));
                node.handles = 1;
                node.draft = draft;
            }
            ino
        };
        let handle = self.insert_handle(Handle::File {
            ino,
            file,
            access,
            opener: caller.group,
            has_read: AtomicBool::new(false),
        });
        Ok((self.getattr(ino)?, handle))
    }

    /// Decides what a new file in a directory is, if it may be there at all, and what its first
    /// save settles.
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
                // What it is called does not matter: what it holds is looked at when it is whole.
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

    /// Gives a handle back. What is still unsaved when the last writing handle goes is published;
    /// what cannot be published stays as a draft and is told in `.dds/errors`.
    pub fn release(&self, id: HandleId) {
        let Some(handle) = lock(&self.handles).remove(&id.0) else {
            return;
        };
        let Handle::File {
            ino,
            file,
            access,
            opener,
            ..
        } = &*handle
        else {
            return;
        };
        if access.write && !self.has_writer(*ino) {
            let _use = self.last_use.begin();
            let mut body = file.lock();
            if body.is_dirty() && body.failed.is_none() {
                body.left = Some(Instant::now());
                let published = self.publish(*ino, &mut body);
                drop(body);
                self.note_written(*opener, *ino);
                // Nobody hears a RELEASE: the log does.
                let _ = self.reported(*ino, published);
            }
        }
        self.let_go(*ino);
        self.drop_refused_key(*ino);
    }

    /// A certificate that was refused is not kept as a draft: nothing of it is left.
    fn drop_refused_key(&self, ino: Ino) {
        let open = self.tree().file(ino).and_then(|file| file.open.clone());
        if open.is_some_and(|open| open.lock().is_held()) {
            return; // Nothing was written to it yet.
        }
        let mut tree = self.tree();
        let Some(file) = tree.file_mut(ino) else {
            return;
        };
        if matches!(file.role, FileRole::Key(_)) && file.draft && file.handles == 0 {
            file.draft = false;
            file.open = None;
            if file.stat.is_none() {
                tree.detach(ino);
            }
        }
    }

    pub(in crate::view) fn has_writer(&self, ino: Ino) -> bool {
        lock(&self.handles).values().any(|handle| {
            matches!(&**handle, Handle::File { ino: open, access, .. } if *open == ino && access.write)
        })
    }

    pub(in crate::view) fn let_go(&self, ino: Ino) {
        let mut tree = self.tree();
        let Some(file) = tree.file_mut(ino) else {
            return;
        };
        file.handles -= 1;
        if file.handles == 0 && !file.draft && !file.role.is_scratch() {
            file.open = None;
        }
        tree.collect(ino);
    }

    /// Records in the tree whether a file holds something unsaved.
    pub(in crate::view) fn note_draft(&self, ino: Ino, file: &OpenFile) {
        // Both under the content's lock: what the tree says is never older than the content.
        let body = file.lock();
        let dirty = body.is_dirty() && !body.unlinked && !matches!(body.target, Target::Scratch);
        if let Some(node) = self.tree().file_mut(ino) {
            node.draft = dirty;
        }
    }
}

/// Checks the rules of a version itself.
pub(in crate::view) fn writable_version(version: &Version) -> Result<()> {
    if version.audience().is_none() {
        let rule = "unverified/ is only for reading and removing";
        return Err(Error::new(Kind::Forbidden, rule));
    }
    if version.is_received() {
        return Err(Error::new(
            Kind::ReadOnlyFile,
            "a received message is never changed",
        ));
    }
    if version.newer_format {
        let newer = "it was made by a newer version of DDS";
        return Err(Error::new(Kind::ReadOnlyFile, newer));
    }
    Ok(())
}

/// Checks that there may be such a long name anywhere.
pub(in crate::view) fn check_length(name: &OsStr) -> Result<()> {
    match name.len() > NAME_MAX {
        true => Err(Error::new(
            Kind::NameTooLong,
            "a name has at most 255 bytes",
        )),
        false => Ok(()),
    }
}

/// Checks a name that somebody wants to give to a file or directory.
pub(in crate::view) fn check_new_name(name: &OsStr) -> Result<&str> {
    check_length(name)?;
    let shown = name.to_str().filter(|name| names::is_safe(name));
    let Some(name) = shown else {
        let rule = "names are UTF-8 without control, invisible or bidirectional characters \
                    (joiners are kept in words that are spelled with them)";
        return Err(Error::new(Kind::Invalid, rule));
    };
    if names::is_trash(name) {
        let rule = "there is no trash here: delete for real";
        return Err(Error::new(Kind::Forbidden, rule));
    }
    Ok(name)
}

/// What a file in a folder is.
pub(in crate::view) fn file_kind(folder: Folder) -> BlobKind {
    match folder {
        Folder::Messages => BlobKind::Message,
        Folder::Notes => BlobKind::Note,
    }
}

/// Bytes in the longest path below an audience directory, as PATH_MAX.
pub(in crate::view) const PATH_LIMIT: usize = 4096;

pub(in crate::view) fn check_path(path: &str) -> Result<()> {
    if path.len() > PATH_LIMIT {
        return Err(Error::new(
            Kind::NameTooLong,
            "a path has at most 4096 bytes",
        ));
    }
    Ok(())
}

/// Says why files cannot be made in a directory.
pub(in crate::view) fn no_files_here(role: &Role) -> Error {
    let (kind, rule) = match role {
        Role::Root => (
            Kind::Forbidden,
            "files go into messages/NAME/ or notes/NAME/",
        ),
        Role::Folder(Folder::Messages) => (Kind::Forbidden, "messages go into messages/NAME/"),
        Role::Folder(Folder::Notes) => (Kind::Forbidden, "notes go into notes/NAME/ or notes/me/"),
        Role::Unverified(_) => (
            Kind::Forbidden,
            "unverified/ is only for reading and removing",
        ),
        Role::Dds | Role::Rescued => (Kind::Forbidden, ".dds/ is only for reading"),
        Role::Software(_) => (Kind::ReadOnlyTree, "software/ is read-only here"),
        Role::Keys => (Kind::Forbidden, "keys/ takes certificates only"),
        Role::Audience(..) | Role::Sub(..) => (
            Kind::Forbidden,
            "messages/NAME/ has no directories; use notes/NAME/",
        ),
    };
    Error::new(kind, rule)
}

pub(in crate::view) fn exists() -> Error {
    Error::new(Kind::Exists, "it exists already")
}
