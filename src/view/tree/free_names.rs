//! Gives names that became free to the versions that want them.
//!
//! Names are sticky, but only among versions that are shown: when the one that had a name is gone,
//! replaced or removed, another version of the document takes the document's own name, and a
//! document that had to be called `lunch (bob).txt` becomes `lunch.txt`. So a mount shows the names
//! that a new mount would show, however long it runs, and whoever writes to `lunch.txt` writes to
//! the version that a new mount would show there.
//!
//! A file that is open, or being written, keeps its name. Nor does a name change in the moment
//! in which a program frees it: `rm *` has listed the names before, and programs that save by
//! removing a file and creating it anew must not find another version in its place. Names are given
//! when a directory is listed, and by the background work.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashSet};
use std::ffi::OsStr;
use std::time::Instant;

use crate::vault::{DocKey, Head, People};
use crate::view::tree::layout::own_name;
use crate::view::tree::{FileRole, Ino, OpenContent, Role, Shown, Tree};

/// Files and directories that have another name than they want, and when a program last freed a
/// name.
#[derive(Default)]
pub(in crate::view) struct Misnamed {
    pub(in crate::view) nodes: BTreeSet<Ino>,
    /// Directories that are being renamed: their files must stay where they are.
    pub(in crate::view) renamed: usize,
    pub(in crate::view) freed: Option<Instant>,
}

impl<O: OpenContent> Tree<O> {
    /// Remembers a file that shows a version under another name than the version has.
    pub(in crate::view) fn note_name(&mut self, ino: Ino) {
        let misnamed = self
            .get(ino)
            .zip(self.shown(ino))
            .is_some_and(|(node, shown)| {
                let own = shown.head.as_ref().and_then(|head| {
                    let path = head.version.path.as_deref()?;
                    path.rsplit(|byte| *byte == b'/').next()
                });
                shown.is_conflict || own != Some(node.name.as_encoded_bytes())
            });
        if misnamed {
            self.misnamed.nodes.insert(ino);
        }
    }

    /// A directory begins to be renamed, or no longer is.
    pub(in crate::view) fn note_directory_renamed(&mut self, begins: bool) {
        match begins {
            true => self.misnamed.renamed += 1,
            false => self.misnamed.renamed -= 1,
        }
    }

    /// A program frees a name.
    pub(in crate::view) fn note_freed(&mut self) {
        self.misnamed.freed = Some(Instant::now());
    }

    /// The file that stands for a document itself, and is no conflict copy: also its backup, or the
    /// draft of its next version.
    pub(in crate::view) fn holder(&self, key: &DocKey) -> Option<Ino> {
        let nodes = self.by_document.get(key).into_iter().flatten();
        let mut holders = nodes.filter(|ino| match self.file(**ino).map(|file| &file.role) {
            Some(FileRole::Document(shown) | FileRole::Backup(shown, _)) => !shown.is_conflict,
            _ => false,
        });
        holders.next().copied()
    }

    /// Tells whether a file got another name.
    pub(in crate::view) fn give_free_names(&mut self, only: Option<Ino>, people: &People) -> bool {
        let nodes = std::mem::take(&mut self.misnamed.nodes);
        let (here, elsewhere): (Vec<Ino>, Vec<Ino>) = nodes
            .into_iter()
            .filter(|ino| self.is_attached(*ino))
            .partition(|ino| self.is_in(*ino, only));
        self.misnamed.nodes.extend(elsewhere);
        let mut waiting: Vec<(Ino, Shown, Head)> = Vec::new();
        for ino in here {
            if self.dir(ino).is_some() {
                self.rename_misnamed_dir(ino);
            } else if let Some(shown) = self.shown(ino).cloned() {
                let head = shown.head.clone();
                waiting.extend(head.map(|head| (ino, shown, head)));
            }
        }
        let (mut decided, mut promoted) = (HashSet::new(), HashSet::new());
        for (_, shown, _) in &waiting {
            if !shown.is_conflict || !decided.insert(shown.key.clone()) {
                continue;
            }
            if let Some(next) = self
                .next_holder(&shown.key)
                .filter(|next| !self.is_busy(*next))
            {
                promoted.insert(next);
            }
        }
        for (ino, shown, _) in &mut waiting {
            if promoted.contains(ino) {
                shown.is_conflict = false;
                self.set_role(*ino, FileRole::Document(shown.clone()));
            }
        }
        let mut changed = false;
        // Of several documents, the oldest.
        waiting.sort_by_key(|(_, _, head)| (head.version.signed_at, head.version.blob));
        for (ino, shown, head) in waiting {
            if self.is_busy(ino) || shown.is_conflict {
                self.misnamed.nodes.insert(ino);
                continue;
            }
            let Some(parent) = self.get(ino).map(|node| node.parent) else {
                continue;
            };
            let wanted = own_name(&head.version);
            if self.child(parent, OsStr::new(&wanted)) == Some(ino) {
                continue;
            }
            let taken = self.is_taken(parent, &wanted)
                || self.backup_of(parent, OsStr::new(&wanted)).is_some();
            let new = match taken {
                false => wanted,
                // No conflict copy any more, but one of several documents; the plain name may be kept
                // for a backup.
                true if promoted.contains(&ino) => {
                    self.remarked_name(parent, &wanted, &head.version, false, people)
                }
                true => {
                    self.misnamed.nodes.insert(ino);
                    continue;
                }
            };
            self.detach(ino);
            self.attach_file(parent, new, FileRole::Document(shown));
            changed = true;
        }
        changed
    }

    /// The conflict copy that stands for a document next, if nothing does: the newest version.
    fn next_holder(&self, key: &DocKey) -> Option<Ino> {
        if self.holder(key).is_some() {
            return None;
        }
        let nodes = self.by_document.get(key).into_iter().flatten();
        let heads = nodes.filter_map(|ino| {
            let version = &self.shown(*ino)?.head.as_ref()?.version;
            Some((Reverse(version.signed_at), version.blob, *ino))
        });
        heads.min().map(|(_, _, ino)| ino)
    }

    /// Gives a directory its own name, which a file had.
    fn rename_misnamed_dir(&mut self, ino: Ino) {
        let (Some(node), Some(Role::Sub(_, path))) =
            (self.get(ino), self.dir(ino).map(|dir| &dir.role))
        else {
            return;
        };
        let own = path.rsplit('/').next().unwrap_or_default().to_owned();
        let parent = node.parent;
        if node.name == *own {
            return;
        }
        if !self.is_taken(parent, &own) {
            self.relocate(ino, parent, OsStr::new(&own));
        } else {
            self.misnamed.nodes.insert(ino);
        }
    }

    /// Tells whether a node is in the one directory, if there is one.
    fn is_in(&self, ino: Ino, only: Option<Ino>) -> bool {
        let parent = self.get(ino).map(|node| node.parent);
        only.is_none_or(|only| parent == Some(only))
    }

    /// Tells whether somebody has a file open, or it holds something unsaved.
    fn is_busy(&self, ino: Ino) -> bool {
        self.file(ino)
            .is_some_and(|file| file.handles > 0 || file.is_draft())
    }
}
