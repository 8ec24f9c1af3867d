//! A placed version takes the place of its parents: it becomes known, and they are unlinked once it
//! is durable.

use std::sync::Arc;

use crate::error::Result;
use crate::ids::{BlobKind, Fingerprint};
use crate::openpgp::{Facts, Notations, SignatureFacts, SignatureStatus};
use crate::vault::Vault;
use crate::vault::audience::People;
use crate::vault::describe::describe;
use crate::vault::documents::{DocKey, Version};
use crate::vault::known::Known;
use crate::vault::known::store_file::StoreFile;
use crate::vault::publish::publication::{Placed, Publication};
use crate::vault::publish::template::SealTemplate;

/// A publication without its content: enough to describe its blobs once they are placed.
pub(super) struct Record {
    kind: BlobKind,
    /// The document.
    pub(super) key: DocKey,
    /// All notations but `copy@`.
    notations: Notations,
    intended: Vec<Fingerprint>,
    /// The versions that it replaces.
    pub(super) replaces: Vec<Arc<Version>>,
    /// Bytes of content, and their SHA-256.
    size: u64,
    digest: [u8; 32],
}

impl Record {
    /// Returns the parents that are other documents. `replaces@` does not count between documents,
    /// so these would be shown again after a crash if they stayed.
    pub(super) fn other_documents(&self) -> impl Iterator<Item = &Arc<Version>> {
        let parents = self.replaces.iter();
        parents.filter(|parent| parent.key != self.key)
    }
}

impl Vault {
    /// Records a publication before it is placed.
    pub(super) fn record(
        &self,
        publication: &Publication<'_>,
        template: &SealTemplate<'_>,
    ) -> Result<Record> {
        Ok(Record {
            kind: publication.kind,
            key: self.doc_key(publication.kind, publication.audience, publication.doc),
            notations: template.notations.clone(),
            intended: template.intended.clone(),
            replaces: publication.replaces.to_vec(),
            size: publication.content.len(),
            digest: publication.content.digest()?,
        })
    }

    /// Makes placed blobs known in the place of their parents, which are unlinked later, or, where
    /// they are other documents, at once. Returns the new versions.
    pub(super) fn take_place(&self, record: Record, placed: Vec<Placed>) -> Vec<Arc<Version>> {
        // One state of the pins for all copies, so that they are one document.
        let people = self.people();
        let found = placed
            .into_iter()
            .map(|one| self.describe_placed(&record, one, &people));
        let found: Vec<_> = found.collect();
        let (mut versions, mut replaced) = (Vec::new(), Vec::new());
        let mut known = self.known();
        for (version, file) in found {
            known.insert(version.entry.clone(), file);
            replaced.extend(known.replaced_by(&version));
            versions.push(version);
        }
        let retired = retire_other_documents(&mut known, &record);
        drop(known);
        let folder = record.kind.folder();
        self.replacements.add(folder, replaced, retired.clone());
        // A failure stays pending, and in `.dds/status`.
        if !retired.is_empty() && self.replacements.flush(folder).is_ok() {
            // A blob that a peer brings back from now on is shown.
            let mut known = self.known();
            for old in &retired {
                known.unlinked(old);
            }
        }
        versions
    }

    /// Describes a blob of mine without opening it.
    fn describe_placed(
        &self,
        record: &Record,
        placed: Placed,
        people: &People,
    ) -> (Arc<Version>, StoreFile) {
        let Placed {
            receipt,
            entry,
            reader,
            recipients,
        } = placed;
        let mut notations = record.notations.clone();
        notations.copy = reader;
        let facts = Arc::new(Facts {
            size: record.size,
            digest: record.digest,
            name: None,
            date: None,
            recipients,
            inside: receipt.inside,
            signatures: vec![SignatureFacts {
                status: SignatureStatus::Good,
                signer: Some(people.me().clone()),
                issuers: self.signer().key_ids(),
                created: Some(receipt.created),
                intended: record.intended.clone(),
                notations,
                version: receipt.signed.first().copied(),
            }],
            session_key: receipt.session_key,
            // Nobody opened it: it was written here.
            opened_by: None,
            clock_ahead: false,
        });
        let stamp = entry.stamp;
        let version = describe(entry, receipt.name, receipt.id, &facts, people);
        let version = Arc::new(version);
        let file = StoreFile::of_blob(stamp, facts, Arc::clone(&version));
        (version, file)
    }
}

/// Hides the parents that are other documents, with everything that would show without them.
fn retire_other_documents(known: &mut Known, record: &Record) -> Vec<Arc<Version>> {
    let mut retired = Vec::new();
    for parent in record.other_documents() {
        // Ancestors that a crash left first, and other files of the parent: they would show without
        // it.
        let mut all = known.replaced_by(parent);
        all.extend(known.twins(parent));
        all.push(Arc::clone(parent));
        for old in &all {
            known.retire(old);
        }
        retired.extend(all);
    }
    retired
}
