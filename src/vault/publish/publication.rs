//! A version on its way into the store: as it is asked for, and as it was placed.

use std::sync::Arc;

use crate::ids::{BlobKind, DocId, Fingerprint, Timestamp};
use crate::openpgp::Receipt;
use crate::plaintext::Plaintext;
use crate::store::Entry;
use crate::vault::audience::Audience;
use crate::vault::documents::Version;

/// One new version of one document, to be published.
pub struct Publication<'a> {
    /// Message, note or directory.
    pub kind: BlobKind,
    /// The readers, apart from me.
    pub audience: &'a Audience,
    /// Path below the audience directory.
    pub path: &'a str,
    /// The document.
    pub doc: DocId,
    /// The versions that this one replaces; they are removed from the store afterwards.
    pub replaces: &'a [Arc<Version>],
    /// The bytes.
    pub content: &'a Plaintext,
    /// Modification time.
    pub mtime: Timestamp,
    /// Owner's permission bits (0..=7) when not the default.
    pub mode: Option<u32>,
}

/// A blob that was placed.
pub(super) struct Placed {
    pub(super) receipt: Receipt,
    pub(super) entry: Entry,
    /// Notation `copy@`.
    pub(super) reader: Option<Fingerprint>,
    /// Number of certificates that it is encrypted to.
    pub(super) recipients: usize,
}
