//! One version as it will be sealed: the part that all of its copies share.

use std::collections::HashSet;
use std::sync::Arc;

use crate::error::{Error, Kind, Result};
use crate::ids::{BlobKind, BlobName, Fingerprint};
use crate::openpgp::{Certificate, Notations, SealRequest, Sealed};
use crate::plaintext::Plaintext;
use crate::vault::Vault;
use crate::vault::documents::Version;
use crate::vault::publish::publication::Publication;

/// Superseded blobs that one blob names, direct parents first. Each takes some 60 bytes of the
/// signature, which holds 64 KiB.
const MAX_REPLACES: usize = 64;

/// The part that all copies of a publication share.
pub(in crate::vault) struct SealTemplate<'a> {
    /// All notations but `copy@`.
    pub(in crate::vault) notations: Notations,
    /// The people whom the signatures name as readers.
    pub(in crate::vault) intended: Vec<Fingerprint>,
    /// Base name, a hint for programs that know nothing of notations.
    name: &'a str,
    content: &'a Plaintext,
}

impl Vault {
    /// Makes the template of a publication after checking everything that can be checked
    /// beforehand.
    pub(in crate::vault) fn template<'c>(
        &self,
        publication: &Publication<'c>,
    ) -> Result<SealTemplate<'c>> {
        let Publication {
            kind,
            audience,
            content,
            ..
        } = *publication;
        if kind == BlobKind::Message && audience.is_me() {
            return Err(Error::new(Kind::Forbidden, "a message needs a reader"));
        }
        if content.len() > self.options.max_file_size {
            let limit = "larger than the configured limit";
            return Err(Error::new(Kind::TooLarge, limit));
        }
        let people = self.people();
        let intended = audience.members().chain([people.me()]).cloned().collect();
        Ok(SealTemplate {
            notations: Notations {
                version: Some(Notations::VERSION),
                kind: Some(kind),
                path: Some(publication.path.to_owned()),
                doc: Some(publication.doc),
                replaces: ancestry(publication.replaces),
                mtime: Some(publication.mtime),
                mode: publication.mode,
                ..Notations::default()
            },
            intended,
            name: publication.path.rsplit('/').next().unwrap_or_default(),
            content,
        })
    }

    /// Signs one copy for these recipients; `reader` is the one whose copy it is, if it is one's.
    pub(in crate::vault) fn seal<'c>(
        &self,
        template: &SealTemplate<'c>,
        recipients: &[Certificate],
        reader: Option<&Fingerprint>,
    ) -> Result<Sealed<'c>> {
        let mut notations = template.notations.clone();
        notations.copy = reader.cloned();
        Sealed::prepare(SealRequest {
            signer: self.signer(),
            co_signers: &[],
            recipients,
            intended: &template.intended,
            named: self.options.named_recipients,
            name: template.name,
            notations: &notations,
            content: template.content,
            created: None,
        })
    }
}

/// Names the blobs that a new version supersedes: its parents, then their ancestors, without
/// repetition.
fn ancestry(parents: &[Arc<Version>]) -> Vec<BlobName> {
    let direct = parents.iter().map(|parent| parent.blob);
    let older = parents
        .iter()
        .flat_map(|parent| parent.replaces.iter().copied());
    let mut seen = HashSet::new();
    direct
        .chain(older)
        .filter(|blob| seen.insert(*blob))
        .take(MAX_REPLACES)
        .collect()
}
