//! Publishing a version: a template is made ([`template`]), sealed and placed in the store (here for
//! one blob, in [`copies`] and [`batch`] for several), and takes the place of its parents
//! ([`replace`]).

pub(super) mod batch;
mod copies;
mod replace;
mod staged;
mod template;

use std::sync::Arc;

use crate::error::Result;
use crate::ids::{BlobKind, DocId, Fingerprint, Timestamp};
use crate::openpgp::{Certificate, Receipt};
use crate::plaintext::Plaintext;
use crate::store::Entry;
use crate::vault::audience::Audience;
use crate::vault::documents::{DocKey, Head, Version};
use crate::vault::publish::template::SealTemplate;
use crate::vault::{Vault, folder_error};

pub use batch::Batch;

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
struct Placed {
    receipt: Receipt,
    entry: Entry,
    /// Notation `copy@`.
    reader: Option<Fingerprint>,
    /// Number of certificates that it is encrypted to.
    recipients: usize,
}

impl Vault {
    /// Checks that everybody in an audience, and I, can be written to, and that I can sign.
    ///
    /// # Errors
    /// `NoKey`, `KeyExpired`, `KeyRevoked` or `KeyRejected`, naming the member.
    pub fn check_audience(&self, audience: &Audience) -> Result<()> {
        self.recipients(audience)?;
        self.identities[0].can_sign()
    }

    /// The certificates of an audience and mine. No member is ever left out.
    fn recipients(&self, audience: &Audience) -> Result<Vec<Certificate>> {
        let people = self.people();
        let members = audience.members().chain([people.me()]);
        members.map(|key| self.recipient(&people, key)).collect()
    }

    /// Seals a version, places it in the store, and replaces its parents by it.
    ///
    /// When this returns the blob is whole on disk under its name; the directory entry is
    /// durable, and the replaced blobs are gone, within a second, or after
    /// [`Vault::make_durable`].
    ///
    /// # Errors
    /// Those of [`Vault::check_audience`]; `Forbidden` for a message to nobody; `TooLarge`;
    /// `NoSpace` and `Io` as the disk says. Nothing is published then.
    pub fn publish(&self, publication: &Publication<'_>) -> Result<Published<'_>> {
        let Publication { kind, audience, .. } = *publication;
        let template = self.template(publication)?;
        let record = self.record(publication, &template)?;
        let flight = InFlight::begin(self, record.key.clone());
        let placed = match kind == BlobKind::Message && audience.len() > 1 {
            true => self.place_copies(publication, &template)?,
            false => vec![self.place_one(publication, &template)?],
        };
        let versions = self.take_place(record, placed);
        Ok(Published {
            versions,
            _flight: flight,
        })
    }

    /// Seals one blob for the whole audience and me, and places it.
    fn place_one(
        &self,
        publication: &Publication<'_>,
        template: &SealTemplate<'_>,
    ) -> Result<Placed> {
        let Publication { kind, audience, .. } = *publication;
        let recipients = self.recipients(audience)?;
        let reader = audience.members().next();
        let reader = reader.filter(|_| kind == BlobKind::Message).cloned();
        let sealed = self.seal(template, &recipients, reader.as_ref())?;
        let placed = self.store.put(kind.folder(), &sealed);
        let (receipt, entry) = placed.map_err(folder_error)?;
        Ok(Placed {
            receipt,
            entry,
            reader,
            recipients: recipients.len(),
        })
    }
}

/// A published version: one blob, or one for each reader. Until this is dropped, readers are not
/// given the document's changes, so that the publisher can first record the version for the file
/// that it has open.
pub struct Published<'a> {
    /// The new version's blobs, at least one.
    versions: Vec<Arc<Version>>,
    _flight: InFlight<'a>,
}

impl Published<'_> {
    /// The new version's blobs, at least one.
    pub fn versions(&self) -> &[Arc<Version>] {
        &self.versions
    }

    /// The document's new head.
    pub fn head(&self) -> Head {
        Head::of(self.versions.clone())
    }
}

/// Marks a document as being published, until this is dropped: a refresh leaves a blob of it to its
/// publisher.
struct InFlight<'a> {
    vault: &'a Vault,
    key: DocKey,
}

impl<'a> InFlight<'a> {
    fn begin(vault: &'a Vault, key: DocKey) -> Self {
        vault.known().take_off(&key);
        InFlight { vault, key }
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.vault.known().land(&self.key);
    }
}
