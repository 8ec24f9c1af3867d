//! Everything that lies in a folder of the store, also hidden entries: for checking a store.

use rustix::fs::FileType;

use super::{DirStore, Entry, FileName, Stamp, beneath, is_syncers};
use crate::error::Result;
use crate::ids::Folder;

/// A folder of the store whose files are of our own making.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SurveyedFolder {
    /// `keys/`.
    Keys,
    /// `messages/` or `notes/`.
    Blobs(Folder),
}

impl SurveyedFolder {
    /// All of them, in the order of their names.
    pub const ALL: [SurveyedFolder; 3] = [
        SurveyedFolder::Keys,
        SurveyedFolder::Blobs(Folder::Messages),
        SurveyedFolder::Blobs(Folder::Notes),
    ];

    /// Returns the directory name in the store.
    pub fn name(self) -> &'static str {
        match self {
            SurveyedFolder::Keys => "keys",
            SurveyedFolder::Blobs(folder) => folder.name(),
        }
    }
}

/// The kind of thing that a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// A plain file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A block or character device, or something that this version does not know.
    Device,
}

/// A name in a folder of the store, whatever it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The name.
    pub name: FileName,
    /// The kind of thing that it stands for.
    pub kind: NodeKind,
    /// How it looked.
    pub stamp: Stamp,
}

impl Node {
    /// Returns the node as a file of a folder.
    pub fn entry(&self, folder: Folder) -> Entry {
        Entry {
            folder,
            name: self.name.clone(),
            stamp: self.stamp,
        }
    }
}

impl DirStore {
    /// Lists everything in a folder but syncers' own files, sorted by name. Nothing is opened.
    ///
    /// # Errors
    /// `NotDirectory` if the folder is a link or a file; the disk's error.
    pub fn survey(&self, place: SurveyedFolder) -> Result<Vec<Node>> {
        let Some(dir) = self.open_folder(place.name())? else {
            return Ok(Vec::new());
        };
        let mut nodes = Vec::new();
        beneath::entries(
            &dir,
            |name, _| !is_syncers(name),
            |name, stat| {
                let kind = match beneath::file_type(&stat) {
                    FileType::RegularFile => NodeKind::File,
                    FileType::Directory => NodeKind::Directory,
                    FileType::Symlink => NodeKind::Link,
                    FileType::Fifo => NodeKind::Fifo,
                    FileType::Socket => NodeKind::Socket,
                    _ => NodeKind::Device,
                };
                let stamp = beneath::stamp(&stat);
                nodes.push(Node { name, kind, stamp });
            },
        )
        .map_err(|errno| super::dir::failed_listing(place.name(), errno))?;
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(nodes)
    }
}
