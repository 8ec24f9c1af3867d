//! The blobs that keep directories among notes.

use std::sync::Arc;

use crate::error::Result;
use crate::ids::{BlobKind, DocId, Timestamp};
use crate::plaintext::Plaintext;
use crate::vault::{Audience, DocKey, Head, Publication, Published, Version};
use crate::view::View;
use crate::view::tree::Ino;

impl View {
    /// Publishes the blob of a directory. `mode` are the owner's bits, if they are not all set.
    pub(in crate::view) fn publish_directory(
        &self,
        audience: &Audience,
        path: &str,
        doc: DocId,
        replaces: &[Arc<Version>],
        mode: Option<u32>,
    ) -> Result<Published<'_>> {
        self.vault.publish(&Publication {
            kind: BlobKind::Directory,
            audience,
            path,
            doc,
            replaces,
            content: &Plaintext::new(),
            mtime: Timestamp::now(),
            mode,
        })
    }

    pub(in crate::view) fn republish_marker(
        &self,
        ino: Ino,
        key: &DocKey,
        head: &Head,
        path: &str,
        audience: &Audience,
        mode: Option<u32>,
    ) -> Result<()> {
        let replaces: Vec<_> = head.blobs().cloned().collect();
        let published =
            self.publish_directory(audience, path, self.doc_of(key), &replaces, mode)?;
        let head = published.head();
        let new = head.version.key.clone();
        let mut tree = self.tree();
        tree.unindex(key, ino);
        tree.by_document.entry(new.clone()).or_default().push(ino);
        if let Some(dir) = tree.dir_mut(ino) {
            dir.markers.retain(|(known, _)| known != key);
            dir.markers.push((new, head));
        }
        Ok(())
    }
}
