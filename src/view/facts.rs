//! What the signature and the store say of a file, typed. Extended attributes print it.

use crate::error::Result;
use crate::ids::{BlobName, Fingerprint, Folder, Timestamp};
use crate::vault::{Head, Version, Vouched};
use crate::view::View;
use crate::view::rules::not_found;
use crate::view::tree::{Ino, NodeData, Shown};

/// What is known of the version that a file shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Name of the blob that holds it; of a message with several copies, the name of one.
    pub blob: BlobName,
    /// Whether the signature is proven.
    pub signature: Vouched,
    /// Why the signature is bad, if it is: hostile text, which is made safe where it is printed.
    pub reason: Option<String>,
    /// Who signed it, as far as the signature tells.
    pub from: Option<Correspondent>,
    /// Who reads it; `None` for a file in `unverified/`.
    pub audience: Option<Readers>,
    /// A message of mine: names of the readers whose copies are still in the store. A reader's copy
    /// leaves it when they remove it.
    pub pending: Option<Vec<String>>,
    /// It is a conflict copy: another version of the document has its name.
    pub is_conflict: bool,
    /// When it was signed; the blob's own time if it is not signed.
    pub signed_at: Timestamp,
    /// Modification time that its writer gave the content.
    pub modified_at: Timestamp,
}

/// Somebody, as they are called here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Correspondent {
    /// `me`, a contact's name, or the fingerprint of somebody unknown.
    pub name: String,
    /// Fingerprint of their certificate.
    pub fingerprint: Fingerprint,
}

/// The readers of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readers {
    /// Their names in order, `me` last.
    pub names: Vec<String>,
    /// The signature names them. Otherwise they are those to whom it is encrypted, which anybody
    /// could have changed.
    pub proven: bool,
}

impl View {
    /// Returns what is known of the version that a file shows; `None` for a directory, a link, and
    /// a file that shows no version (a draft that was never published, scratch, `.dds/`).
    ///
    /// # Errors
    /// `NotFound`.
    pub fn facts(&self, ino: Ino) -> Result<Option<Facts>> {
        let shown = {
            let tree = self.tree();
            match &tree.get(ino).ok_or_else(not_found)?.data {
                NodeData::File(_) => tree.shown(ino).cloned(),
                NodeData::Dir(_) | NodeData::Alias(_) => None,
            }
        };
        Ok(match shown {
            Some(Shown {
                head: Some(head),
                is_conflict,
                ..
            }) => Some(self.facts_of(&head, is_conflict)),
            _ => None,
        })
    }

    pub(in crate::view) fn facts_of(&self, head: &Head, is_conflict: bool) -> Facts {
        let people = self.vault.people();
        let version: &Version = &head.version;
        let in_order = |mut names: Vec<String>| {
            names.sort();
            names.dedup();
            names
        };
        let audience = version.audience().map(|audience| {
            let mut names = in_order(audience.members().map(|key| people.name(key)).collect());
            names.push("me".to_owned());
            Readers {
                names,
                proven: version.addressee_proven,
            }
        });
        let is_sent = version.mine && version.folder() == Folder::Messages;
        let pending = is_sent.then(|| {
            let left = head.blobs().filter_map(|copy| copy.reader.as_ref());
            in_order(left.map(|key| people.name(key)).collect())
        });
        Facts {
            blob: version.blob,
            signature: version.vouched,
            reason: version.reason.clone(),
            from: version.signer.as_ref().map(|signer| Correspondent {
                name: people.name(signer),
                fingerprint: signer.clone(),
            }),
            audience,
            pending,
            is_conflict,
            signed_at: version.signed_at,
            modified_at: version.mtime,
        }
    }
}
