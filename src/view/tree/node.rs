//! Nodes: directories, files and links, with their roles.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::sync::Arc;

use crate::ids::{BlobName, Folder, Timestamp, VersionId};
use crate::store::FileName;
use crate::vault::{Audience, DocKey, Head};
use crate::view::tree::alike::Alike;

/// Number of an inode. Never used twice in a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ino(pub u64);

impl Ino {
    /// The view's root directory.
    pub const ROOT: Ino = Ino(1);
}

/// The kind of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link.
    Symlink,
}

pub(in crate::view) struct Node<O> {
    pub(in crate::view) parent: Ino,
    pub(in crate::view) name: OsString,
    pub(in crate::view) data: NodeData<O>,
    /// Listed in its directory. A removed file that is still open is not.
    pub(super) attached: bool,
    /// How often the kernel has looked this number up, less how often it has forgotten it.
    pub(super) lookups: u64,
    /// When its attributes or its name were changed last in this mount.
    pub(super) changed: Option<Timestamp>,
    /// When it was read last, as a program said in this mount: reads themselves are not noted.
    pub(super) read: Option<Timestamp>,
}

impl<O> Node<O> {
    /// Last access to a node with this time of modification.
    pub(in crate::view) fn atime(&self, mtime: Timestamp) -> Timestamp {
        self.read.unwrap_or(mtime)
    }

    /// Last change of anything that `stat` shows, of a node with this time of modification.
    pub(in crate::view) fn ctime(&self, mtime: Timestamp) -> Timestamp {
        match self.changed {
            // A time of modification that somebody set ahead is no time of change.
            Some(changed) if mtime <= changed || mtime > Timestamp::now() => changed,
            Some(_) | None => mtime,
        }
    }
}

pub(in crate::view) enum NodeData<O> {
    Dir(DirNode),
    /// Another spelling of an audience: a symbolic link to the canonical name.
    Alias(String),
    File(FileNode<O>),
}

pub(in crate::view) struct DirNode {
    pub(in crate::view) role: Role,
    pub(in crate::view) children: BTreeMap<OsString, Ino>,
    pub(in crate::view) alike: Alike,
    pub(in crate::view) mtime: Timestamp,
    /// Stays in this mount though it is empty: looked up by name, or emptied through the mount.
    pub(in crate::view) listed_while_empty: bool,
    /// The blobs that keep an empty directory: several if several devices made it.
    pub(in crate::view) markers: Vec<(DocKey, Head)>,
}

/// The role of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::view) enum Role {
    Root,
    /// `messages/` or `notes/`.
    Folder(Folder),
    Audience(Folder, Audience),
    /// A directory among an audience's notes, with its path below the audience.
    Sub(Audience, String),
    Unverified(Folder),
    Keys,
    Software(Vec<FileName>),
    Dds,
    Rescued,
}

pub(in crate::view) struct FileNode<O> {
    pub(in crate::view) role: FileRole,
    /// Content shared by all handles, and any draft. Kept while there is a handle or a draft.
    pub(in crate::view) open: Option<Arc<O>>,
    pub(in crate::view) handles: usize,
    /// Size and time that the store gives for a file of `keys/` or `software/`, and the state for one of
    /// `.dds/rescued/`.
    pub(in crate::view) stat: Option<Stat>,
}

/// An open content, as far as the tree has to know it.
pub(in crate::view) trait OpenContent {
    /// Size, time and mode at this moment; never waits for a publication.
    fn stat(&self) -> Stat;

    /// Tells whether something would be lost if the content were dropped now: arrivals
    /// do not take its place meanwhile.
    fn is_draft(&self) -> bool;
}

/// Size, time and mode of a file's content.
#[derive(Clone, Copy)]
pub(in crate::view) struct Stat {
    /// In bytes.
    pub(in crate::view) size: u64,
    pub(in crate::view) mtime: Timestamp,
    /// Owner's permission bits (0..=7).
    pub(in crate::view) mode: u32,
}

impl<O> NodeData<O> {
    pub(in crate::view) fn kind(&self) -> NodeKind {
        match self {
            NodeData::Dir(_) => NodeKind::Directory,
            NodeData::Alias(_) => NodeKind::Symlink,
            NodeData::File(_) => NodeKind::File,
        }
    }
}

impl<O: OpenContent> FileNode<O> {
    /// Tells whether it holds something unsaved.
    pub(in crate::view) fn is_draft(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.is_draft())
    }
}

/// The role of a file.
#[derive(Clone)]
pub(in crate::view) enum FileRole {
    Document(Shown),
    /// An editor's or tool's scratch: in RAM only.
    Scratch,
    /// A document that was renamed to a scratch name, and the name that it had. Its blob stays
    /// until its replacement is published; then it is scratch like any other.
    Backup(Shown, Origin),
    Key(FileName),
    Software(Vec<FileName>),
    Status,
    Errors,
    /// A draft that an earlier mount could not save.
    Rescued(BlobName),
}

/// The name that a backup had.
#[derive(Clone)]
pub(in crate::view) struct Origin {
    pub(in crate::view) parent: Ino,
    pub(in crate::view) name: OsString,
    /// Of several backups of one name, the last made is continued by a new file.
    pub(super) order: u64,
}

impl Origin {
    pub(in crate::view) fn is(&self, parent: Ino, name: &OsStr) -> bool {
        self.parent == parent && self.name == name
    }
}

/// A document's place in the view.
#[derive(Clone)]
pub(in crate::view) struct Shown {
    pub(in crate::view) key: DocKey,
    /// The head that is shown; `None` while it was never published.
    pub(in crate::view) head: Option<Head>,
    /// A concurrent version that does not have the document's name.
    pub(in crate::view) is_conflict: bool,
    /// The blobs that the first save of a new file will replace. They are not shown meanwhile.
    pub(in crate::view) hides: Vec<VersionId>,
}

impl FileRole {
    /// Tells whether the content is in RAM only.
    pub(in crate::view) fn is_scratch(&self) -> bool {
        matches!(self, FileRole::Scratch | FileRole::Backup(..))
    }
}

impl DirNode {
    /// Owner's permission bits.
    pub(in crate::view) fn mode(&self) -> u32 {
        let mut own = self
            .markers
            .iter()
            .filter_map(|(_, head)| head.version.mode);
        own.next().unwrap_or(0o7)
    }

    pub(in crate::view) fn new(role: Role) -> Self {
        DirNode {
            role,
            children: BTreeMap::new(),
            alike: Alike::default(),
            mtime: Timestamp::now(),
            listed_while_empty: false,
            markers: Vec::new(),
        }
    }
}

/// The document that a file shows, or of which it is the backup.
pub(super) fn document_of(role: &FileRole) -> Option<&DocKey> {
    match role {
        FileRole::Document(shown) | FileRole::Backup(shown, _) => Some(&shown.key),
        FileRole::Scratch
        | FileRole::Key(_)
        | FileRole::Software(_)
        | FileRole::Status
        | FileRole::Errors
        | FileRole::Rescued(_) => None,
    }
}
