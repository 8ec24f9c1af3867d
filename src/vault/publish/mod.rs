//! Sealing and publishing, and taking away.

pub(super) mod batch;
pub(super) mod copies;

use std::collections::HashSet;
use std::sync::Arc;

use crate::error::{Error, Kind, Result};
use crate::ids::{BlobKind, BlobName, DocId, Fingerprint, Folder, Timestamp};
use crate::openpgp::{
    Certificate, Facts, Notations, SealRequest, Sealed, SignatureFacts, SignatureStatus,
};
use crate::plaintext::Plaintext;
use crate::vault::audience::Audience;
use crate::vault::documents::{DocKey, Head, Version};
use crate::vault::judge::describe::describe;
use crate::vault::publish::copies::Placed;
use crate::vault::scan::File;
use crate::vault::{State, Vault, folder_error};

pub use batch::Batch;

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
    /// Checks that everybody in an audience, and I, can be written to, and that I can sign.
    ///
    /// # Errors
    /// `NoKey`, `KeyExpired`, `KeyRevoked` or `KeyRejected`, naming the member.
    pub fn check_audience(&self, audience: &Audience) -> Result<()> {
        self.recipients(audience)?;
        self.identities[0].can_sign()
    }

    /// The certificates of an audience and mine. No member is ever left out.
    pub(super) fn recipients(&self, audience: &Audience) -> Result<Vec<Certificate>> {
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
    /// Those of [`Vault::check_audience`]; `Forbidden` for a message to nobody; `TooLarge`; `NoSpace` and `Io` as the disk says. Nothing is published then.
    pub fn publish(&self, publication: &Publication<'_>) -> Result<Published<'_>> {
        let Publication { kind, audience, .. } = *publication;
        let draft = self.draft(publication)?;
        let (notations, intended) = (draft.notations.clone(), draft.intended.clone());
        let sent = self.sent(publication, notations, intended)?;
        let key = self.doc_key(kind, audience, publication.doc);
        let flight = InFlight::begin(self, key);
        let placed = match kind == BlobKind::Message && audience.len() > 1 {
            true => self.place_copies(publication, &draft)?,
            false => vec![self.place_one(publication, &draft)?],
        };
        Ok(self.take_published(sent, placed, flight))
    }

    /// What a publication says about itself, after a check of what can be told beforehand.
    pub(super) fn draft<'b>(&self, publication: &Publication<'b>) -> Result<Draft<'b>> {
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
        Ok(Draft {
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
        })
    }

    /// What has to be known of a publication once its content is no longer at hand.
    pub(super) fn sent(
        &self,
        publication: &Publication<'_>,
        notations: Notations,
        intended: Vec<Fingerprint>,
    ) -> Result<Sent> {
        Ok(Sent {
            kind: publication.kind,
            key: self.doc_key(publication.kind, publication.audience, publication.doc),
            notations,
            intended,
            replaces: publication.replaces.to_vec(),
            size: publication.content.len(),
            digest: publication.content.digest()?,
        })
    }

    /// Takes in blobs that were placed, and lets go of what they replace.
    pub(super) fn take_published<'a>(
        &'a self,
        sent: Sent,
        placed: Vec<Placed>,
        flight: InFlight<'a>,
    ) -> Published<'a> {
        let people = self.people();
        let kind = sent.kind;
        let mut versions = Vec::new();
        let (mut replaced, mut retired) = (Vec::new(), Vec::new());
        let mut state = self.state();
        for Placed {
            receipt,
            entry,
            reader,
            recipients,
        } in placed
        {
            let mut notations = sent.notations.clone();
            notations.copy = reader;
            let facts = Arc::new(Facts {
                size: sent.size,
                digest: sent.digest,
                name: None,
                date: None,
                recipients,
                inside: receipt.inside,
                signatures: vec![SignatureFacts {
                    status: SignatureStatus::Good,
                    signer: Some(people.me().clone()),
                    issuers: self.identities[0].key_ids(),
                    created: Some(receipt.created),
                    intended: sent.intended.clone(),
                    notations,
                    version: receipt.signed.first().copied(),
                }],
                session_key: receipt.session_key,
                // Nobody opened it: it was written here.
                opened_by: None,
                clock_ahead: false,
            });
            let version = describe(entry.clone(), receipt.name, receipt.id, &facts, &people);
            let version = Arc::new(version);
            let file = File::of_blob(entry.stamp, facts, Arc::clone(&version));
            state.insert(entry, file);
            let old = superseded(&state, &version);
            replaced.extend(old);
            versions.push(version);
        }
        let parents = sent.replaces.iter();
        let others: Vec<_> = parents.filter(|old| old.key != flight.key).collect();
        for parent in &others {
            // What a crash left of its ancestors goes first, or it would show without it.
            let same = twins(&state, parent);
            for old in superseded(&state, parent)
                .iter()
                .chain(&same)
                .chain([*parent])
            {
                state.retire(old);
                retired.push(Arc::clone(old));
            }
        }
        drop(state);
        self.shared
            .published(kind.folder(), replaced, retired.clone());
        if !others.is_empty() {
            // `replaces@` does not count between documents: after a crash these would be back, so
            // they go before the answer. A failure stays pending, and in `.dds/status`.
            if self.shared.settle_folder(kind.folder()).is_ok() {
                // What a peer brings back from now on is shown.
                let mut state = self.state();
                for old in &retired {
                    state.unlinked(old);
                }
            }
        }
        Published {
            versions,
            _flight: flight,
        }
    }

    /// Seals for the whole audience and me, and places the blob.
    fn place_one(&self, publication: &Publication<'_>, draft: &Draft<'_>) -> Result<Placed> {
        let Publication {
            kind,
            audience,
            content,
            ..
        } = *publication;
        let recipients = self.recipients(audience)?;
        let reader = audience.members().next();
        let reader = reader.filter(|_| kind == BlobKind::Message).cloned();
        let mut notations = draft.notations.clone();
        notations.copy.clone_from(&reader);
        let sealed = Sealed::prepare(SealRequest {
            signer: &self.identities[0],
            co_signers: &[],
            recipients: &recipients,
            intended: &draft.intended,
            named: self.options.named_recipients,
            name: draft.name,
            notations: &notations,
            content,
            created: None,
        })?;
        let placed = self.store().put(kind.folder(), &sealed);
        let (receipt, entry) = placed.map_err(folder_error)?;
        Ok(Placed {
            receipt,
            entry,
            reader,
            recipients: recipients.len(),
        })
    }

    /// Removes versions from the store, at once, with all other files of the same versions:
    /// their document is gone.
    ///
    /// # Errors
    /// `Io` as the disk says. A file that is already gone is no error.
    pub fn remove(&self, versions: &[Arc<Version>]) -> Result<()> {
        // What these versions replaced goes first, or a crash in between would bring it back.
        let folders: HashSet<Folder> = versions.iter().map(|version| version.folder()).collect();
        for folder in folders {
            self.shared.settle_replaced(folder)?;
        }
        for version in versions {
            self.remove_one(version)?;
            loop {
                let twin = twins(&self.state(), version).pop();
                let Some(twin) = twin else { break };
                self.remove_one(&twin)?;
            }
        }
        Ok(())
    }

    fn take_away(&self, version: &Version) -> Result<()> {
        self.note_removed(version)?;
        // What I want removed goes, whether it can be kept or not.
        self.shared.keep_removed(version);
        if let Err(error) = self.shared.remove_unchanged(version) {
            // It is still there, and so it is not removed.
            self.state_dir.note_restored(version.file_id)?;
            return Err(error);
        }
        Ok(())
    }

    fn remove_one(&self, version: &Version) -> Result<()> {
        self.state().taken.begin(version.id);
        let taken = self.take_away(version);
        self.state().taken.end(version.id);
        taken?;
        self.state().forget_version(version);
        self.shared
            .published(version.folder(), Vec::new(), Vec::new());
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

/// The versions of a document that one of them replaces and that are still there.
fn superseded(state: &State, version: &Version) -> Vec<Arc<Version>> {
    let document = state.documents.get(&version.key);
    document.map_or_else(Vec::new, |document| document.replaced_by(version))
}

/// Other files of the same version.
pub(super) fn twins(state: &State, version: &Version) -> Vec<Arc<Version>> {
    let document = state.documents.get(&version.key).into_iter();
    let twins = document.flat_map(|document| document.twins(version));
    twins.cloned().collect()
}

/// A publication without its content.
pub(super) struct Sent {
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

/// What all copies of a publication have in common.
pub(super) struct Draft<'a> {
    /// All notations but `copy@`.
    pub(super) notations: Notations,
    /// Whom the signatures name.
    pub(super) intended: Vec<Fingerprint>,
    /// Base name, a hint for programs that know nothing of notations.
    pub(super) name: &'a str,
}

/// A published version: one blob, or one for each reader. Until this is dropped, the document's
/// changes are kept back from whoever asks what changed, so that the publisher can first record
/// it for the file that it has open.
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

/// Tells the scanner that a blob of this document is being placed.
pub(super) struct InFlight<'a> {
    vault: &'a Vault,
    key: DocKey,
}

impl<'a> InFlight<'a> {
    pub(super) fn begin(vault: &'a Vault, key: DocKey) -> Self {
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
