//! Gives every head of every document its place and name in the tree.
//!
//! Names are sticky: a version shown under a name keeps it until it is superseded or removed. The
//! fixed order (a directory beats a file; then the older signature, then the lower blob name)
//! decides only among versions not yet shown.

use std::ffi::OsStr;

use crate::ids::{BlobKind, Folder, VersionId};
use crate::vault::{Audience, DocKey, Document, Head, People, Placement, Version};
use crate::view::tree::audiences::{UNVERIFIED, canonical_name};
use crate::view::tree::changes::ChangeKind;
use crate::view::tree::names::{PATH_LIMIT, conflict_remark, safe, safe_path, with_remark};
use crate::view::tree::{
    DirNode, FileNode, FileRole, Ino, NodeData, OpenContent, Role, Shown, Tree,
};

/// Directories in the longest path that is shown as it is.
const DEPTH_LIMIT: usize = 256;

/// A head that has no node yet.
struct Newcomer {
    key: DocKey,
    head: Head,
    /// Not the first head of its document.
    is_conflict: bool,
}

impl<O: OpenContent> Tree<O> {
    /// Takes in changes of the vault. An absent document is gone.
    pub(in crate::view) fn apply(
        &mut self,
        changes: Vec<(DocKey, Option<Document>)>,
        people: &People,
    ) {
        let mut newcomers = Vec::new();
        for (key, document) in changes {
            let heads = document
                .map(|document| document.heads())
                .unwrap_or_default();
            self.match_heads(&key, heads, &mut newcomers);
        }
        newcomers.sort_by(|a, b| {
            let order = |n: &Newcomer| {
                let version = &n.head.version;
                (
                    version.kind != BlobKind::Directory,
                    n.is_conflict,
                    version.signed_at,
                    version.blob,
                )
            };
            order(a).cmp(&order(b))
        });
        // All directories first: a directory beats a file.
        let parents: Vec<_> = newcomers
            .iter()
            .map(|newcomer| self.home(&newcomer.head.version, people))
            .collect();
        for (newcomer, (parent, name)) in newcomers.into_iter().zip(parents) {
            self.settle_newcomer(newcomer, parent, name, people);
        }
    }

    /// Takes out the directories of audiences that now have another name or other keys, since
    /// the pins changed. Returns the documents that were in them, for which there is a new place.
    pub(in crate::view) fn drop_stale_audiences(&mut self, people: &People) -> Vec<DocKey> {
        let mut documents = Vec::new();
        for folder in Folder::ALL {
            let parent = self.folder_dir(folder);
            let children = self.dir(parent).map(|dir| dir.children.clone());
            for (name, ino) in children.unwrap_or_default() {
                let Some(Role::Audience(_, audience)) = self.dir(ino).map(|dir| &dir.role) else {
                    continue;
                };
                let members: Vec<_> = audience.members().cloned().collect();
                let current = people.audience(&members) == *audience
                    && OsStr::new(&canonical_name(people, audience)) == name;
                if current {
                    continue;
                }
                for node in self.below(ino).into_iter().rev() {
                    documents.extend(self.shown(node).map(|shown| shown.key.clone()));
                    let markers = self.dir(node).into_iter().flat_map(|dir| &dir.markers);
                    documents.extend(markers.map(|(key, _)| key.clone()));
                    self.detach(node);
                }
            }
        }
        documents
    }

    /// Lets the nodes of a document keep or take over its heads; the rest are newcomers.
    fn match_heads(&mut self, key: &DocKey, heads: Vec<Head>, newcomers: &mut Vec<Newcomer>) {
        let mut nodes = self.by_document.get(key).cloned().unwrap_or_default();
        // Heads that became equal are one: the document's own name keeps it, then a conflict
        // copy's, a backup's last.
        nodes.sort_by_key(|ino| self.rank(*ino));
        let is_settled = heads.len() == 1;
        let mut free: Vec<(usize, Head)> = heads.into_iter().enumerate().collect();
        let mut unmatched = Vec::new();
        for ino in nodes {
            let Some(current) = self.head_of(ino, key) else {
                continue; // A draft that was never published: nothing arrives for it.
            };
            // One reader's copy may be gone: any blob that is left is the same head.
            let same = |(_, head): &(usize, Head)| {
                let mut blobs = head.blobs();
                blobs.any(|blob| current.blobs().any(|known| known.id == blob.id))
                    && head.version.place == current.version.place
                    && head.version.path == current.version.path
            };
            match free.iter().position(same) {
                Some(index) => {
                    let (_, head) = free.remove(index);
                    self.set_head(ino, head);
                }
                None => unmatched.push((ino, current)),
            }
        }
        for (ino, current) in unmatched {
            let successor = free.iter().position(|(_, head)| {
                let mut blobs = current.blobs();
                blobs.any(|blob| head.version.replaces.contains(&blob.blob))
                    && head.version.path == current.version.path
            });
            if matches!(
                self.file(ino),
                Some(FileNode {
                    role: FileRole::Backup(..),
                    ..
                })
            ) {
                // Its replacement is published: it is scratch like any other now.
                self.set_role(ino, FileRole::Scratch);
                continue;
            }
            if self.has_draft(ino) {
                continue; // The draft is based on the version that its writer saw.
            }
            match successor {
                // A conflict copy's name says whose version it is. If it was the last, the file with
                // the document's name was removed before the version that settled both arrived.
                Some(_)
                    if self.is_copy(ino)
                        && (!self.has_handles(ino) || is_settled && self.is_alone(key)) =>
                {
                    self.detach(ino);
                }
                Some(index) if !self.has_handles(ino) => {
                    let (_, head) = free.remove(index);
                    self.set_head(ino, head);
                }
                Some(index) => {
                    // Programs that have the old version open keep it; the new one gets the name.
                    let (_, head) = free.remove(index);
                    self.replace_open(ino, key, head);
                }
                None => self.withdraw(ino, key),
            }
        }
        let hidden = self.hidden_by_drafts(key);
        free.retain(|(_, head)| !head.blobs().any(|blob| hidden.contains(&blob.id)));
        for (index, head) in free {
            newcomers.push(Newcomer {
                key: key.clone(),
                head,
                is_conflict: index > 0 || self.holder(key).is_some(),
            });
        }
    }

    /// Which of several nodes of a document comes first.
    fn rank(&self, ino: Ino) -> u8 {
        match self.file(ino).map(|file| &file.role) {
            Some(FileRole::Backup(..)) => 2,
            Some(FileRole::Document(shown)) if shown.is_conflict => 1,
            _ => 0,
        }
    }

    fn is_copy(&self, ino: Ino) -> bool {
        self.shown(ino).is_some_and(|shown| shown.is_conflict)
    }

    /// Tells whether one file alone shows a document.
    fn is_alone(&self, key: &DocKey) -> bool {
        self.by_document.get(key).map_or(0, Vec::len) == 1
    }

    /// The blobs of a document that new files will replace.
    fn hidden_by_drafts(&self, key: &DocKey) -> Vec<VersionId> {
        let nodes = self.by_document.get(key).into_iter().flatten();
        let shown = nodes.filter_map(|ino| self.shown(*ino));
        let drafts = shown.filter(|shown| shown.head.is_none());
        drafts.flat_map(|shown| shown.hides.clone()).collect()
    }

    fn head_of(&self, ino: Ino, key: &DocKey) -> Option<Head> {
        match &self.get(ino)?.data {
            NodeData::File(file) => match &file.role {
                FileRole::Document(shown) | FileRole::Backup(shown, _) => shown.head.clone(),
                _ => None,
            },
            NodeData::Dir(dir) => {
                let mut markers = dir.markers.iter();
                markers
                    .find(|(known, _)| known == key)
                    .map(|(_, head)| head.clone())
            }
            NodeData::Alias(_) => None,
        }
    }

    fn set_head(&mut self, ino: Ino, head: Head) {
        if let Some(FileNode {
            role: FileRole::Document(shown) | FileRole::Backup(shown, _),
            ..
        }) = self.file_mut(ino)
        {
            let looks = |head: &Head| (head.version.digest, head.version.mtime);
            let changed = shown.head.as_ref().map(looks) != Some(looks(&head));
            shown.head = Some(head);
            if changed {
                self.record(ChangeKind::Changed, ino);
            }
        } else if let Some(dir) = self.dir_mut(ino) {
            let mut markers = dir.markers.iter_mut();
            if let Some((_, known)) = markers.find(|(key, _)| *key == head.version.key) {
                *known = head;
            }
        }
    }

    fn has_draft(&self, ino: Ino) -> bool {
        self.file(ino).is_some_and(|file| file.is_draft())
    }

    fn has_handles(&self, ino: Ino) -> bool {
        self.file(ino).is_some_and(|file| file.handles > 0)
    }

    fn replace_open(&mut self, ino: Ino, key: &DocKey, head: Head) {
        let Some(node) = self.get(ino) else {
            return;
        };
        let (parent, name) = (node.parent, node.name.clone());
        let is_conflict = self.shown(ino).is_some_and(|shown| shown.is_conflict);
        self.detach(ino);
        let shown = Shown {
            key: key.clone(),
            head: Some(head),
            is_conflict,
            hides: Vec::new(),
        };
        self.attach_file(parent, name, FileRole::Document(shown));
    }

    /// Removes a file or directory whose version left the store.
    fn withdraw(&mut self, ino: Ino, key: &DocKey) {
        let Some(parent) = self.get(ino).map(|node| node.parent) else {
            return;
        };
        if self.file(ino).is_some() {
            self.detach(ino);
            self.prune(parent);
        } else if self.dir(ino).is_some() {
            self.forget_marker(ino, key);
            self.prune(ino);
        }
    }

    /// Finds or makes the directory in which a version belongs, and the name that it wants.
    pub(in crate::view) fn home(&mut self, version: &Version, people: &People) -> (Ino, String) {
        let mut parts = own_parts(version);
        let folder = version.folder();
        let name = parts.pop().expect("filled above");
        match &version.place {
            Placement::Unverified => (self.unverified_dir(folder), name),
            Placement::Audience(audience) => {
                let mut at = self.audience_dir(folder, audience, people);
                let mut real = String::new();
                // `messages/<audience>/` is flat.
                let parents = if folder == Folder::Notes {
                    parts
                } else {
                    Vec::new()
                };
                for part in parents {
                    at = self.sub_dir(at, audience, &mut real, &part);
                }
                if version.kind == BlobKind::Directory {
                    at = self.sub_dir(at, audience, &mut real, &name);
                }
                (at, name)
            }
        }
    }

    /// Returns the directory of `messages/` or `notes/`.
    pub(in crate::view) fn folder_dir(&mut self, folder: Folder) -> Ino {
        self.dir_named(Ino::ROOT, folder.name(), Role::Folder(folder))
    }

    /// Returns `unverified/` of a folder.
    pub(in crate::view) fn unverified_dir(&mut self, folder: Folder) -> Ino {
        let parent = self.folder_dir(folder);
        self.dir_named(parent, UNVERIFIED, Role::Unverified(folder))
    }

    /// Returns an audience's directory.
    pub(in crate::view) fn audience_dir(
        &mut self,
        folder: Folder,
        audience: &Audience,
        people: &People,
    ) -> Ino {
        let parent = self.folder_dir(folder);
        let name = canonical_name(people, audience);
        self.dir_named(parent, &name, Role::Audience(folder, audience.clone()))
    }

    /// Returns the directory of that name, making it if it is missing.
    pub(in crate::view) fn dir_named(&mut self, parent: Ino, name: &str, role: Role) -> Ino {
        match self.child(parent, OsStr::new(name)) {
            Some(ino) => ino,
            None => self.attach(parent, name, NodeData::Dir(DirNode::new(role))),
        }
    }

    /// Returns a directory among notes. `real` is its parent's path below the audience, and
    /// becomes its own. A file that already has the name keeps it.
    fn sub_dir(&mut self, parent: Ino, audience: &Audience, real: &mut String, part: &str) -> Ino {
        if !real.is_empty() {
            real.push('/');
        }
        real.push_str(part);
        let role = Role::Sub(audience.clone(), real.clone());
        let mut name = part.to_owned();
        for attempt in 0.. {
            match self.child(parent, OsStr::new(&name)) {
                None if self.look_alike(parent, OsStr::new(&name)).is_none() => {
                    let ino = self.attach(parent, name, NodeData::Dir(DirNode::new(role)));
                    if attempt > 0 {
                        self.misnamed.nodes.insert(ino);
                    }
                    return ino;
                }
                Some(ino) if self.dir(ino).is_some_and(|dir| dir.role == role) => return ino,
                _ if attempt == 0 => name = with_remark(part, "directory"),
                _ => name = with_remark(part, &format!("directory {attempt}")),
            }
        }
        unreachable!("names do not run out")
    }

    fn settle_newcomer(&mut self, newcomer: Newcomer, home: Ino, name: String, people: &People) {
        let Newcomer {
            key,
            head,
            is_conflict,
        } = newcomer;
        if head.version.kind == BlobKind::Directory && head.version.audience().is_some() {
            if let Some(dir) = self.dir_mut(home) {
                dir.markers.push((key.clone(), head));
                self.by_document.entry(key).or_default().push(home);
            }
            return;
        }
        let name = self.free_name(home, &name, &head.version, is_conflict, people);
        let shown = Shown {
            key,
            head: Some(head),
            is_conflict,
            hides: Vec::new(),
        };
        self.attach_file(home, name, FileRole::Document(shown));
    }

    /// Finds a free name that tells the writer of this version.
    pub(in crate::view) fn free_name(
        &self,
        home: Ino,
        wanted: &str,
        version: &Version,
        is_conflict: bool,
        people: &People,
    ) -> String {
        if !is_conflict && !self.is_taken(home, wanted) {
            return wanted.to_owned();
        }
        self.remarked_name(home, wanted, version, is_conflict, people)
    }

    /// As [`Tree::free_name`], but never the plain name.
    pub(in crate::view) fn remarked_name(
        &self,
        home: Ino,
        wanted: &str,
        version: &Version,
        is_conflict: bool,
        people: &People,
    ) -> String {
        let free = |name: &str| !self.is_taken(home, name);
        let signer = version.signer.as_ref();
        let who = signer.map_or_else(|| "unknown".to_owned(), |key| people.writer(key));
        let remark = if is_conflict {
            conflict_remark(&who, version.signed_at)
        } else {
            who
        };
        let with_name = with_remark(wanted, &remark);
        if free(&with_name) {
            return with_name;
        }
        let blob = version.blob.to_string();
        let longer =
            [8, 40].map(|digits| with_remark(wanted, &format!("{remark} {}", &blob[..digits])));
        if let Some(name) = longer.into_iter().find(|name| free(name)) {
            return name;
        }
        let numbered = |n: u32| with_remark(wanted, &format!("{remark} {blob} {n}"));
        let mut names = (2..).map(numbered);
        names.find(|name| free(name)).expect("names do not run out")
    }
}

/// The components of the path that a version has below its place, made safe; at least one.
fn own_parts(version: &Version) -> Vec<String> {
    let path = version.path.as_deref().unwrap_or_default();
    let mut parts = safe_path(path);
    if path.len() > PATH_LIMIT || parts.len() > DEPTH_LIMIT {
        // No honest writer makes such a path, and each directory costs memory.
        parts = vec![safe(path)];
    }
    if parts.is_empty() {
        parts.push(version.blob.short());
    }
    parts
}

/// The name that a version has if nothing else has it.
pub(in crate::view) fn own_name(version: &Version) -> String {
    own_parts(version).pop().expect("there is at least one")
}

/// Makes a path below an audience from a directory's path and a name.
pub(in crate::view) fn join(directory: &str, name: &str) -> String {
    if directory.is_empty() {
        name.to_owned()
    } else {
        format!("{directory}/{name}")
    }
}
