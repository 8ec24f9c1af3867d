//! Sealing and publishing, and taking away.

use std::collections::HashSet;
use std::sync::Arc;

use crate::error::{Error, Kind, Result};
use crate::ids::{BlobKind, BlobName, DocId, Folder, Timestamp};
use crate::openpgp::{
    Certificate, Facts, Notations, SealRequest, Sealed, SignatureFacts, SignatureStatus,
};
use crate::plaintext::Plaintext;
use crate::vault::audience::Audience;
use crate::vault::documents::{DocKey, Version};
use crate::vault::scan::{File, describe};
use crate::vault::{State, Vault};

/// Superseded blobs that one blob names, direct parents first (DESIGN 3).
const MAX_REPLACES: usize = 64;

/// What is to be published: one new version of one document.
pub struct Publication<'a> {
    /// Message, note or directory.
    pub kind: BlobKind,
    /// Who shall read it, apart from me.
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

impl Vault {
    /// Checks that everybody in an audience, and I, can be written to.
    ///
    /// # Errors
    /// `NoKey`, `KeyExpired`, `KeyRevoked` or `KeyRejected`, naming the member.
    pub fn check_audience(&self, audience: &Audience) -> Result<()> {
        self.recipients(audience).map(drop)
    }

    /// The certificates of an audience and mine. No member is ever left out.
    fn recipients(&self, audience: &Audience) -> Result<Vec<Certificate>> {
        let people = self.people();
        let members = audience.members().chain([people.me()]);
        members.map(|key| self.recipient(&people, key)).collect()
    }

    /// Seals a version, places it in the store, and lets go of what it replaces.
    ///
    /// When this returns the blob is whole on disk under its name; the directory entry is
    /// durable, and the replaced blobs are gone, within a second, or after [`Vault::settle`].
    ///
    /// # Errors
    /// Those of [`Vault::check_audience`]; `Unsupported` for a message to several readers;
    /// `TooLarge`; `NoSpace` and `Io` as the disk says. Nothing is published then.
    pub fn publish(&self, publication: &Publication<'_>) -> Result<Published<'_>> {
        let Publication {
            kind,
            audience,
            content,
            ..
        } = *publication;
        if kind == BlobKind::Message && audience.len() != 1 {
            let later = "messages to several readers are not offered yet; write to each of them";
            return Err(Error::new(Kind::Unsupported, later));
        }
        if content.len() > self.options.max_file_size {
            return Err(Error::new(
                Kind::TooLarge,
                "larger than the configured limit",
            ));
        }
        let digest = content.digest()?;
        let recipients = self.recipients(audience)?;
        let people = self.people();
        let signer = &self.identities[0];
        let mut intended: Vec<_> = audience.members().cloned().collect();
        intended.push(people.me().clone());
        let notations = Notations {
            version: Some(Notations::VERSION),
            kind: Some(kind),
            path: Some(publication.path.to_owned()),
            doc: Some(publication.doc),
            copy: audience
                .members()
                .next()
                .filter(|_| kind == BlobKind::Message)
                .cloned(),
            replaces: ancestry(publication.replaces),
            mtime: Some(publication.mtime),
            mode: publication.mode,
            ..Notations::default()
        };
        let sealed = Sealed::prepare(SealRequest {
            signer,
            co_signers: &[],
            recipients: &recipients,
            intended: &intended,
            named: self.options.named_recipients,
            name: publication.path.rsplit('/').next().unwrap_or_default(),
            notations: &notations,
            content,
            created: None,
        })?;
        let key = self.doc_key(kind, audience, publication.doc);
        let flight = InFlight::begin(self, key);
        let (receipt, entry) = self.store().put(kind.folder(), &sealed)?;
        let facts = Arc::new(Facts {
            size: content.len(),
            digest,
            name: None,
            date: None,
            recipients: recipients.len(),
            signatures: vec![SignatureFacts {
                status: SignatureStatus::Good,
                signer: Some(people.me().clone()),
                created: Some(receipt.created),
                intended,
                notations,
            }],
            session_key: receipt.session_key,
            clock_ahead: false,
        });
        let version = describe(entry.clone(), receipt.name, receipt.id, &facts, &people);
        let version = Arc::new(version);
        let mut state = self.state();
        let file = File::of_blob(entry.stamp, facts, Arc::clone(&version));
        state.insert(entry, file);
        let mut replaced = superseded(&state, &version);
        for parent in publication
            .replaces
            .iter()
            .filter(|parent| parent.key != version.key)
        {
            state.retire(parent);
            replaced.push(parent.entry.clone());
        }
        drop(state);
        self.shared.published(kind.folder(), replaced);
        Ok(Published {
            version,
            _flight: flight,
        })
    }

    /// Removes versions from the store, at once: their document is gone.
    ///
    /// # Errors
    /// `Io` as the disk says. A file that is already gone is no error.
    pub fn remove(&self, versions: &[Arc<Version>]) -> Result<()> {
        // What these versions replaced goes first, or a crash in between would bring it back.
        let waiting: HashSet<Folder> = versions.iter().map(|version| version.folder()).collect();
        for folder in waiting {
            self.shared.settle_folder(folder)?;
        }
        for version in versions {
            let (folder, name) = (version.folder(), &version.entry.name);
            match self.store().remove(folder, name) {
                Ok(()) => {}
                Err(error) if error.kind() == Kind::NotFound => {}
                Err(error) => return Err(error),
            }
            let slot = (folder, name.clone());
            let mut state = self.state();
            state.forget(&slot);
            state.removed.insert(slot);
            drop(state);
            self.shared.published(folder, Vec::new());
        }
        Ok(())
    }
}

/// Names what a new version supersedes: its parents, then their ancestors, without repetition.
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

/// The blobs of a document that a new version of it replaces, its parents' leftovers included.
fn superseded(state: &State, version: &Version) -> Vec<crate::store::Entry> {
    let replaced: HashSet<BlobName> = version.replaces.iter().copied().collect();
    let versions = state.documents.get(&version.key).into_iter();
    versions
        .flat_map(|document| document.versions())
        .filter(|old| old.blob != version.blob && replaced.contains(&old.blob))
        .map(|old| old.entry.clone())
        .collect()
}

/// A published version. Until this is dropped, the document's changes are kept back from whoever
/// asks what changed, so that the publisher can first record it for the file that it has open.
pub struct Published<'a> {
    /// The new version.
    pub version: Arc<Version>,
    _flight: InFlight<'a>,
}

/// Tells the scanner that a blob of this document is being placed.
struct InFlight<'a> {
    vault: &'a Vault,
    key: DocKey,
}

impl<'a> InFlight<'a> {
    fn begin(vault: &'a Vault, key: DocKey) -> Self {
        *vault.state().in_flight.entry(key.clone()).or_default() += 1;
        InFlight { vault, key }
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        let mut state = self.vault.state();
        if let Some(count) = state.in_flight.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                state.in_flight.remove(&self.key);
            }
        }
    }
}
