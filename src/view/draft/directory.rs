//! The blobs that keep directories among notes.

use crate::error::Result;
use crate::ids::{BlobKind, Timestamp};
use crate::plaintext::Plaintext;
use crate::vault::{Audience, DocKey, Head, Publication, Published};
use crate::view::View;
use crate::view::tree::Ino;

impl View {
    pub(in crate::view) fn publish_directory(
        &self,
        audience: &Audience,
        path: &str,
        mode: u32,
    ) -> Result<Published<'_>> {
        let mode = (mode >> 6) & 0o7;
        self.vault.publish(&Publication {
            kind: BlobKind::Directory,
            audience,
            path,
            doc: self.vault.new_doc_id(),
            replaces: &[],
            content: &Plaintext::new(),
            mtime: Timestamp::now(),
            mode: (mode != 0o7).then_some(mode),
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
    ) -> Result<DocKey> {
        let doc = match key {
            DocKey::Placed { doc, .. } => *doc,
            DocKey::Single(..) => self.vault.new_doc_id(),
        };
        let replaces: Vec<_> = head.blobs().cloned().collect();
        let published = self.vault.publish(&Publication {
            kind: BlobKind::Directory,
            audience,
            path,
            doc,
            replaces: &replaces,
            content: &Plaintext::new(),
            mtime: Timestamp::now(),
            mode,
        })?;
        let mut tree = self.tree();
        tree.unindex(key, ino);
        let old = key.clone();
        let head = published.head();
        let key = head.version.key.clone();
        tree.by_document.entry(key.clone()).or_default().push(ino);
        if let Some(dir) = tree.dir_mut(ino) {
            dir.markers.retain(|(known, _)| *known != old);
            dir.markers.push((key.clone(), head));
        }
        Ok(key)
    }
}
