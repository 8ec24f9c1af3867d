//! Renaming a directory among notes: everything in it is published under its new path, all
//! together or not at all.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::sync::Arc;

use crate::error::{Error, Kind, Result};
use crate::ids::{BlobKind, DocId, Folder};
use crate::plaintext::Plaintext;
use crate::vault::{Audience, Batch, DocKey, Head, Publication, Published, Version};
use crate::view::View;
use crate::view::draft::open_file::{Locked, OpenFile};
use crate::view::rules::{check_path, messages_are_flat, not_found, writable_version};
use crate::view::spot::Spot;
use crate::view::tree::layout::join;
use crate::view::tree::{Ino, Role};

/// Attempts, while others save files that are being moved.
const ATTEMPTS: usize = 5;

/// A directory's path, and the one that it gets.
struct Change {
    old: String,
    new: String,
    audience: Audience,
}

/// A version that gets another path, or a draft of which there is none.
struct Relocation {
    ino: Ino,
    key: DocKey,
    head: Option<Head>,
    /// The document of which it becomes a version.
    doc: DocId,
    path: String,
}

impl Change {
    fn is_below(&self, path: &str) -> bool {
        path.strip_prefix(&self.old)
            .is_some_and(|rest| rest.starts_with('/'))
    }

    fn of(&self, path: &str) -> String {
        format!(
            "{}{}",
            self.new,
            path.strip_prefix(&self.old).unwrap_or_default()
        )
    }
}

impl View {
    /// Renames a directory among notes: everything in it is published under its new path.
    pub(in crate::view) fn rename_directory(
        &self,
        ino: Ino,
        to: &Spot,
        victim: Option<Ino>,
    ) -> Result<()> {
        let old_path = match self.tree().dir(ino).map(|dir| dir.role.clone()) {
            Some(Role::Sub(_, path)) => path,
            Some(_) => return Err(Error::new(Kind::Busy, "this directory always exists")),
            None => return Err(not_found()),
        };
        if to.folder == Folder::Messages {
            return Err(messages_are_flat());
        }
        if let Some(victim) = victim {
            if self.tree().dir(victim).is_none() {
                return Err(Error::new(Kind::NotDirectory, "a file has that name"));
            }
            self.remove_directory(to.parent, OsStr::new(&to.name))?;
        }
        self.vault.check_audience(&to.audience)?;
        let inside = self.tree().below(ino);
        self.check_movable(&inside)?;
        let change = Change {
            old: old_path,
            new: to.path(),
            audience: to.audience.clone(),
        };
        for _ in 0..ATTEMPTS {
            if self.move_all(ino, &inside, to, &change)? {
                return Ok(());
            }
        }
        let busy = "what is in the directory is being changed all the time";
        Err(Error::new(Kind::Busy, busy))
    }

    /// Publishes everything in a directory under its new path, all together or nothing, and
    /// renames it. Tells whether that was done: not if something in it was saved meanwhile.
    fn move_all(&self, ino: Ino, inside: &[Ino], to: &Spot, change: &Change) -> Result<bool> {
        let mut batch = self.vault.batch();
        let (mut moves, mut drafts) = (Vec::new(), Vec::new());
        for node in inside {
            for one in self.moves_of(*node, change) {
                check_path(&one.path)?;
                match &one.head {
                    Some(head) => {
                        self.stage(&mut batch, &one, head, &change.audience)?;
                        moves.push(one);
                    }
                    None => drafts.push(one),
                }
            }
        }
        // From here on nobody saves any of them. In the order of their numbers: of two renames at
        // once neither waits for the other.
        let mut open: Vec<(Ino, Arc<OpenFile>)> = {
            let tree = self.tree();
            let all = moves.iter().chain(&drafts);
            all.filter_map(|one| Some((one.ino, tree.file(one.ino)?.open.clone()?)))
                .collect()
        };
        open.sort_by_key(|(ino, _)| *ino);
        open.dedup_by_key(|(ino, _)| *ino);
        let mut bodies: HashMap<Ino, Locked<'_>> = HashMap::new();
        for (ino, file) in &open {
            bodies.insert(*ino, file.lock_beside());
        }
        if !moves.iter().chain(&drafts).all(|one| self.is_current(one)) {
            return Ok(false);
        }
        let published = batch.publish()?;
        let mut again = Vec::new();
        for (one, published) in moves.iter().zip(&published) {
            again.extend(self.show_moved(one, published, bodies.get_mut(&one.ino), change));
        }
        for one in &drafts {
            if let Some(body) = bodies.get_mut(&one.ino) {
                body.update_target(|path, _, _| {
                    *path = match change.is_below(path) {
                        true => change.of(path),
                        false => one.path.clone(),
                    };
                });
            }
        }
        let mut tree = self.tree();
        tree.relocate(ino, to.parent, OsStr::new(&to.name));
        tree.change_paths(ino, &change.old, &change.new);
        drop(tree);
        drop(bodies);
        for key in again {
            self.show_again(&key);
        }
        for one in &moves {
            self.drop_if_idle(one.ino);
        }
        Ok(true)
    }

    /// Checks that everything in a directory may be published anew.
    fn check_movable(&self, inside: &[Ino]) -> Result<()> {
        let tree = self.tree();
        for ino in inside {
            let shown = tree.shown(*ino).and_then(|shown| shown.head.as_ref());
            let markers = tree.dir(*ino).into_iter().flat_map(|dir| &dir.markers);
            for head in shown.into_iter().chain(markers.map(|(_, head)| head)) {
                writable_version(&head.version)?;
            }
        }
        Ok(())
    }

    /// Lists the versions of a file or directory whose paths change.
    fn moves_of(&self, ino: Ino, change: &Change) -> Vec<Relocation> {
        let tree = self.tree();
        if let Some(dir) = tree.dir(ino) {
            let Role::Sub(_, path) = &dir.role else {
                return Vec::new();
            };
            let path = change.of(path);
            let markers = dir.markers.iter().map(|(key, head)| Relocation {
                ino,
                key: key.clone(),
                head: Some(head.clone()),
                doc: self.doc_of(key),
                path: path.clone(),
            });
            return markers.collect();
        }
        let (Some(node), Some(shown)) = (tree.get(ino), tree.shown(ino).cloned()) else {
            return Vec::new();
        };
        let Some(Role::Sub(_, directory)) = tree.dir(node.parent).map(|dir| &dir.role) else {
            return Vec::new();
        };
        let here = join(&change.of(directory), &node.name.to_string_lossy());
        drop(tree);
        // A file that was deleted meanwhile exists only for programs that have it open.
        let head = shown
            .head
            .filter(|head| head.blobs().any(|blob| self.vault.has(blob)));
        // A remark on the name shown, as on a conflict copy's, is no part of the path.
        let own = head
            .as_ref()
            .map(|head| self.saved_path(ino, &head.version));
        let own = own.filter(|path| change.is_below(path));
        vec![Relocation {
            ino,
            doc: self.doc_of(&shown.key),
            key: shown.key,
            head,
            path: own.map_or(here, |path| change.of(&path)),
        }]
    }

    fn stage(
        &self,
        batch: &mut Batch<'_>,
        one: &Relocation,
        head: &Head,
        audience: &Audience,
    ) -> Result<()> {
        let version = &head.version;
        let empty = Arc::new(Plaintext::new());
        let content = match version.kind {
            BlobKind::Directory => empty,
            _ => self.vault.content(version)?,
        };
        let replaces: Vec<_> = head.blobs().cloned().collect();
        batch.add(&Publication {
            kind: version.kind,
            audience,
            path: &one.path,
            doc: one.doc,
            replaces: &replaces,
            content: &content,
            mtime: version.mtime,
            mode: version.mode,
        })
    }

    /// Tells whether a node still shows the version that is to be moved.
    fn is_current(&self, one: &Relocation) -> bool {
        let tree = self.tree();
        let same = |head: &Head| {
            let own = one.head.as_ref().map(|head| head.version.id);
            own == Some(head.version.id)
        };
        match tree.dir(one.ino) {
            Some(dir) => dir.markers.iter().any(|(_, head)| same(head)),
            None => match (tree.shown(one.ino), &one.head) {
                (Some(shown), Some(_)) => shown.head.as_ref().is_some_and(same),
                (Some(shown), None) => shown.key == one.key,
                (None, _) => false,
            },
        }
    }

    /// Shows a version under its new path. Returns the documents that were held back until now.
    fn show_moved(
        &self,
        one: &Relocation,
        published: &Published<'_>,
        body: Option<&mut Locked<'_>>,
        change: &Change,
    ) -> Vec<DocKey> {
        let head = published.head();
        if self.tree().dir(one.ino).is_some() {
            let mut tree = self.tree();
            tree.forget_marker(one.ino, &one.key);
            tree.keep_by_marker(one.ino, head);
            return Vec::new();
        }
        let replaced: Vec<_> = one.head.iter().flat_map(Head::blobs).cloned().collect();
        if let Some(digest) = head.version.digest {
            self.note_content_published(digest, &change.audience, published.versions());
        }
        let again = self.show_published(one.ino, head, None, false);
        self.note_publication(one.ino, published.versions(), &replaced);
        self.note_made_here(published.versions(), &replaced);
        if let Some(body) = body {
            body.update_target(|path, doc, base| {
                path.clone_from(&one.path);
                let same = |old: &Arc<Version>| replaced.iter().any(|new| new.id == old.id);
                if base.iter().any(same) {
                    *doc = one.doc;
                    *base = published.versions().to_vec();
                }
            });
        }
        again
    }
}
