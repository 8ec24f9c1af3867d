//! Loads the content of a file, counts its users, and drops it after the last one.

use std::ops::Deref;
use std::sync::Arc;

use crate::error::{Kind, Result};
use crate::ids::BlobKind;
use crate::vault::{DocKey, Head, Version};
use crate::view::draft::open_file::{OpenFile, Target};
use crate::view::rules::{document_mode, not_found};
use crate::view::tree::layout::join;
use crate::view::tree::{FileRole, Ino, Role, Shown, Stat, names};
use crate::view::{Tree, View};

/// A file's content that is counted as being in use, until this is dropped.
pub(in crate::view) struct Held<'a> {
    counted: Counted<'a>,
    file: Arc<OpenFile>,
}

impl Deref for Held<'_> {
    type Target = Arc<OpenFile>;
    fn deref(&self) -> &Arc<OpenFile> {
        &self.file
    }
}

impl Held<'_> {
    /// Leaves the count to a handle, which gives it back by [`View::take_back`].
    pub(in crate::view) fn into_handle(self) -> Arc<OpenFile> {
        let Held { counted, file } = self;
        std::mem::forget(counted);
        file
    }
}

/// A file that is counted as being in use, and whose content is still to be loaded.
pub(in crate::view) struct Begun<'a> {
    counted: Counted<'a>,
    role: FileRole,
    /// The content, if it is at hand.
    ready: Option<Arc<OpenFile>>,
    /// Of a conflict copy: the document's other heads.
    others: Vec<Arc<Version>>,
}

/// Gives a count back, unless it is passed on.
struct Counted<'a>(&'a View, Ino);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.let_go(self.1);
    }
}

impl View {
    /// Takes a file's content into use, and loads it unless it is at hand.
    pub(in crate::view) fn hold(&self, ino: Ino) -> Result<Held<'_>> {
        let begun = self.begin_hold(&mut self.tree(), ino)?;
        self.finish_hold(begun)
    }

    /// Counts a file as being in use. The caller unlocks the tree before it drops the result.
    pub(in crate::view) fn begin_hold(&self, tree: &mut Tree, ino: Ino) -> Result<Begun<'_>> {
        let others = tree.other_heads(ino);
        let node = tree.file_mut(ino).ok_or_else(not_found)?;
        node.handles += 1;
        let ready = match node.role {
            // Every opener of these sees the state of that moment.
            FileRole::Status | FileRole::Errors => None,
            _ => node.open.clone(),
        };
        Ok(Begun {
            counted: Counted(self, ino),
            role: node.role.clone(),
            ready,
            others,
        })
    }

    /// Loads the content of a file that is counted already.
    pub(in crate::view) fn finish_hold<'a>(&'a self, begun: Begun<'a>) -> Result<Held<'a>> {
        let Begun {
            counted,
            role,
            ready,
            others,
        } = begun;
        let ino = counted.1;
        let file = match (ready, &role) {
            (Some(file), _) => file,
            (
                None,
                FileRole::Document(Shown {
                    key,
                    head: Some(head),
                    ..
                }),
            ) => {
                let loaded = self.load(ino, key, head)?;
                loaded.lock().set_settles(others);
                self.insert_loaded(ino, loaded)?
            }
            (None, other) => {
                let loaded = self.load_special(other)?;
                self.insert_loaded(ino, loaded)?
            }
        };
        Ok(Held { counted, file })
    }

    fn insert_loaded(&self, ino: Ino, loaded: OpenFile) -> Result<Arc<OpenFile>> {
        let loaded = Arc::new(loaded);
        let mut tree = self.tree();
        let node = tree.file_mut(ino).ok_or_else(not_found)?;
        let file = match node.role {
            FileRole::Status | FileRole::Errors => node.open.insert(loaded),
            // Of several that load it at once, one is kept.
            _ => node.open.get_or_insert(loaded),
        };
        Ok(Arc::clone(file))
    }

    /// Takes a file's content into use, if it is at hand.
    pub(in crate::view) fn hold_open(&self, ino: Ino) -> Option<Held<'_>> {
        let mut tree = self.tree();
        let node = tree.file_mut(ino)?;
        let file = node.open.clone()?;
        node.handles += 1;
        let counted = Counted(self, ino);
        Some(Held { counted, file })
    }

    /// Takes over the count of a handle.
    pub(in crate::view) fn take_back(&self, ino: Ino, file: &Arc<OpenFile>) -> Held<'_> {
        let counted = Counted(self, ino);
        let file = Arc::clone(file);
        Held { counted, file }
    }

    fn load(&self, ino: Ino, key: &DocKey, head: &Head) -> Result<OpenFile> {
        let version = &head.version;
        let content = match self.vault.content(version) {
            Ok(content) => content,
            Err(error) => {
                if error.kind() == Kind::NotFound {
                    // It was removed after it was listed: show that.
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
        let target = self.target(ino, key, head);
        Ok(OpenFile::published(content, target, stat, &self.scratch))
    }

    /// Where a save of a shown document is written to.
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

    fn let_go(&self, ino: Ino) {
        let mut tree = self.tree();
        let Some(file) = tree.file_mut(ino) else {
            return;
        };
        file.handles -= 1;
        if file.handles == 0 && !file.is_draft() && !file.role.is_scratch() {
            file.open = None;
        }
        tree.collect(ino);
    }

    /// Drops a document's content when nobody has it open and nothing is unsaved.
    pub(in crate::view) fn drop_if_idle(&self, ino: Ino) {
        if let Some(file) = self.tree().file_mut(ino) {
            if file.handles == 0 && !file.is_draft() && matches!(file.role, FileRole::Document(_)) {
                file.open = None;
            }
        }
    }

    /// Returns the open files with unsaved content; the tree is not held afterwards.
    pub(in crate::view) fn open_drafts(&self) -> Vec<(Ino, Arc<OpenFile>)> {
        let tree = self.tree();
        let drafts = tree.files().filter(|(_, file)| file.is_draft());
        drafts
            .filter_map(|(ino, file)| Some((ino, file.open.clone()?)))
            .collect()
    }
}
