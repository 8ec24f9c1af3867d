//! Recording the changes that others made, while they are taken into the tree.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use crate::vault::{DocKey, Version};
use crate::view::tree::{FileRole, Ino, NodeData, NodeKind, OpenContent, Shown, Tree};

/// A change of the tree that no program here made.
#[derive(Clone)]
pub struct TreeChange {
    /// The kind of change.
    pub change: ChangeKind,
    /// Directory in which it happened.
    pub parent: Ino,
    /// That directory's path below the view's root, at that moment.
    pub directory: PathBuf,
    /// Name of the file or directory.
    pub name: OsString,
    /// Its inode.
    pub ino: Ino,
    /// Its kind.
    pub kind: NodeKind,
    /// The document that the file showed at that moment.
    pub(in crate::view) document: Option<(DocKey, Arc<Version>)>,
}

/// A kind of change of a file or directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is there now.
    Appeared,
    /// It has another content, or another time.
    Changed,
    /// It is not there any more.
    Gone,
}

impl<O: OpenContent> Tree<O> {
    /// Begins to record: from now on every change is made by others.
    pub(in crate::view) fn record_changes(&mut self) {
        self.recorded = Some(Vec::new());
    }

    /// Ends recording, and returns the changes in their order.
    pub(in crate::view) fn take_recorded(&mut self) -> Vec<TreeChange> {
        self.recorded.take().unwrap_or_default()
    }

    /// Records a change of a node, if others made it.
    pub(in crate::view) fn record(&mut self, change: ChangeKind, ino: Ino) {
        let (Some(_), Some(node)) = (&self.recorded, self.nodes.get(&ino)) else {
            return;
        };
        let change = TreeChange {
            change,
            parent: node.parent,
            directory: self.path(node.parent).into(),
            name: node.name.clone(),
            ino,
            kind: node.data.kind(),
            document: shown_document(&node.data),
        };
        self.recorded.get_or_insert_default().push(change);
    }
}

fn shown_document<O>(data: &NodeData<O>) -> Option<(DocKey, Arc<Version>)> {
    match data {
        NodeData::File(file) => match &file.role {
            FileRole::Document(Shown {
                key,
                head: Some(head),
                ..
            }) => Some((key.clone(), Arc::clone(&head.version))),
            _ => None,
        },
        NodeData::Dir(_) | NodeData::Alias(_) => None,
    }
}
