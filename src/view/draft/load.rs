//! Loads the content of a file, counts who holds it, and lets go of it.

use std::sync::Arc;

use crate::error::{Kind, Result};
use crate::ids::BlobKind;
use crate::vault::{DocKey, Head, Version};
use crate::view::View;
use crate::view::draft::state::{OpenFile, Stat, Target};
use crate::view::rules::{document_mode, not_found};
use crate::view::tree::layout::join;
use crate::view::tree::names;
use crate::view::tree::{FileRole, Ino, Role, Shown};

impl View {
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

    /// Lets go of a document's content when nobody has it open and nothing is unsaved.
    pub(in crate::view) fn drop_if_idle(&self, ino: Ino) {
        if let Some(file) = self.tree().file_mut(ino) {
            if file.handles == 0 && !file.draft && matches!(file.role, FileRole::Document(_)) {
                file.open = None;
            }
        }
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

    /// Returns the open files with unsaved content; the tree is not held afterwards.
    pub(in crate::view) fn open_drafts(&self) -> Vec<(Ino, Arc<OpenFile>)> {
        let tree = self.tree();
        let drafts = tree.files().filter(|(_, file)| file.draft);
        drafts
            .filter_map(|(ino, file)| Some((ino, file.open.clone()?)))
            .collect()
    }
}
