//! Versions, the documents that they belong to, and which versions are heads.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::error::Kind;
use crate::ids::{BlobId, BlobKind, BlobName, DocId, Fingerprint, Folder, Timestamp, VersionId};
use crate::openpgp::Refusal;
use crate::state::{Departure, Lineage};
use crate::store::Entry;
use crate::vault::audience::Audience;
use crate::vault::file_clock::a_step_later;
use crate::vault::judge::{Placement, Vouched};

/// A blob encrypted to more readers than this has more than its writer and me.
pub const PRIVATE_RECIPIENTS: usize = 2;

/// The identity of a document, which edits do not change.
///
/// It is never the document id alone: a stranger may copy an id, but not into another audience, and
/// not under my name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DocKey {
    /// A document that its signature places in an audience.
    Placed {
        /// Message, note or directory.
        kind: BlobKind,
        /// The people who share it.
        audience: Audience,
        /// The id that its versions carry.
        doc: DocId,
        /// Messages: the writer. Notes belong to the whole audience.
        signer: Option<Fingerprint>,
    },
    /// A blob without a document id, or without a known signer: a document of its own.
    Single(Folder, VersionId),
}

impl DocKey {
    /// Digest of everything that a version must share with another one to replace it.
    pub(super) fn lineage(&self) -> Lineage {
        let mut digest = Sha256::new();
        match self {
            DocKey::Placed {
                kind,
                audience,
                doc,
                signer,
            } => {
                digest.update(kind.name());
                digest.update(doc.to_string());
                for key in audience.members().chain(signer) {
                    digest.update([0]);
                    digest.update(key.as_bytes());
                }
                digest.update([u8::from(signer.is_some())]);
            }
            DocKey::Single(folder, id) => {
                digest.update(folder.name());
                digest.update(id.as_bytes());
            }
        }
        Lineage::from_digest(digest.finalize().into())
    }
}

/// One blob, judged.
#[derive(Debug)]
pub struct Version {
    /// The document it belongs to.
    pub key: DocKey,
    /// Identifies the data that the deciding signature signs, or else all data inside the
    /// encryption. It does not depend on anything around that.
    pub id: VersionId,
    /// All ids that other judgements would give it, `id` among them.
    pub ids: Vec<VersionId>,
    /// SHA-256 of the blob.
    pub file_id: BlobId,
    /// SHA-1 of the blob.
    pub blob: BlobName,
    /// Where it lies in the store.
    pub entry: Entry,
    /// Where it stands in the view.
    pub place: Placement,
    /// Message, note or directory.
    pub kind: BlobKind,
    /// Path below the place as the writer gave it: hostile until made safe.
    pub path: Option<Vec<u8>>,
    /// Size of the content in bytes; 0 when it cannot be read.
    pub size: u64,
    /// SHA-256 of the content.
    pub digest: Option<[u8; 32]>,
    /// Modification time.
    pub mtime: Timestamp,
    /// Owner's permission bits (0..=7), when the writer set others than the default.
    pub mode: Option<u32>,
    /// When it was signed; the blob's own time if it was not.
    pub signed_at: Timestamp,
    /// The signer, as far as known.
    pub signer: Option<Fingerprint>,
    /// How far its signer is known.
    pub vouched: Vouched,
    /// Why the signature is bad, if it is.
    pub reason: Option<String>,
    /// The signature names its intended recipients.
    pub addressee_proven: bool,
    /// Number of readers that it is encrypted to, which nothing protects.
    pub recipients: usize,
    /// Whether the signature names other readers than its writer and me, if it names any.
    pub signed_for_others: Option<bool>,
    /// Messages: the one reader whose copy this is.
    pub reader: Option<Fingerprint>,
    /// Blobs that it supersedes, direct parents first.
    pub replaces: Vec<BlobName>,
    /// Made by a newer DDS: it is shown and never changed.
    pub newer_format: bool,
    /// Written by me.
    pub mine: bool,
    /// A readable note, and no message in the wrong folder: the history keeps it when it leaves the
    /// store.
    pub keepable: bool,
    /// Why its content cannot be shown, if it cannot.
    pub unreadable: Option<Unreadable>,
}

/// Why nothing of a whole blob is shown. Displayed as a sentence whose subject is the blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// Damaged inside, or not authenticated.
    Damaged,
    /// Larger than the limit, or expands beyond it.
    TooLarge,
    /// Of a kind that is not opened.
    Refused(Refusal),
}

impl Unreadable {
    /// The kind of error with which opening it fails.
    pub fn kind(self) -> Kind {
        match self {
            Unreadable::Damaged | Unreadable::Refused(_) => Kind::Damaged,
            Unreadable::TooLarge => Kind::TooLarge,
        }
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unreadable::Damaged => {
                f.write_str("is damaged or not authenticated; nothing of it is shown")
            }
            Unreadable::TooLarge => f.write_str("expands beyond the limit; nothing of it is shown"),
            Unreadable::Refused(refusal) => write!(
                f,
                "is {refusal}; nothing of it is shown: {}",
                refusal.remedy()
            ),
        }
    }
}

impl Version {
    /// The folder of the store in which it lies.
    pub fn folder(&self) -> Folder {
        self.entry.folder
    }

    /// The audience in whose directory it stands.
    pub fn audience(&self) -> Option<&Audience> {
        match &self.place {
            Placement::Audience(audience) => Some(audience),
            Placement::Unverified => None,
        }
    }

    /// Tells whether removing the blob of someone else's message would take it from others.
    ///
    /// The signed data decide. The data outside the encryption may be anybody's, and count only where
    /// nothing is signed.
    pub fn has_other_readers(&self) -> bool {
        let many = self.recipients > PRIVATE_RECIPIENTS;
        let others = self.signed_for_others.unwrap_or(many);
        self.folder() == Folder::Messages && !self.mine && others
    }

    /// Tells whether it holds messages that nobody has seen here: several are in one file.
    pub fn has_unseen_messages(&self) -> bool {
        self.unreadable == Some(Unreadable::Refused(Refusal::Several))
    }

    /// The record of a version that left the store. If a crash leaves its file there, that file is
    /// not younger than the recorded moment, however soon after it was made the version left.
    pub(super) fn departure(&self, replaced: bool, at: Timestamp) -> Departure {
        Departure {
            version: self.id,
            name: self.blob,
            lineage: self.key.lineage(),
            replaced,
            at: at.max(a_step_later(self.entry.stamp.ctime)),
        }
    }

    /// Someone else's message: never writable.
    pub fn is_received(&self) -> bool {
        self.kind == BlobKind::Message && !self.mine
    }
}

/// All known versions of one document.
#[derive(Clone, Debug, Default)]
pub struct Document {
    versions: Vec<Arc<Version>>,
    /// Names of blobs of these versions that left the store.
    former: HashMap<BlobName, VersionId>,
}

impl Document {
    /// Adds a version, in the one order that does not depend on arrival: oldest signature first,
    /// ties by blob name in falling order (so that the last is the one that keeps the name).
    pub fn add(&mut self, version: Arc<Version>) {
        self.versions.push(version);
        self.versions
            .sort_by(|a, b| (a.signed_at, b.blob).cmp(&(b.signed_at, a.blob)));
    }

    /// Notes the names of other blobs of a version that are no longer there. Tells whether any of them
    /// is new.
    pub(super) fn add_names(&mut self, version: VersionId, names: Vec<BlobName>) -> bool {
        let mut new = false;
        for name in names {
            new |= self.former.insert(name, version).is_none();
        }
        new
    }

    /// Tells whether a version is there.
    pub(super) fn has(&self, id: VersionId) -> bool {
        self.versions.iter().any(|version| version.id == id)
    }

    /// The versions that blob names stand for.
    fn names(&self) -> HashMap<BlobName, VersionId> {
        let present = self.versions.iter();
        let present = present.map(|version| (version.blob, version.id));
        let former = self.former.iter().map(|(name, id)| (*name, *id));
        former.chain(present).collect()
    }

    /// The versions that are there and that a version replaces.
    pub(super) fn replaced_by(&self, version: &Version) -> Vec<Arc<Version>> {
        let names = self.names();
        let replaced = version.replaces.iter().filter_map(|name| names.get(name));
        let replaced: HashSet<&VersionId> = replaced.filter(|id| **id != version.id).collect();
        let there = self.versions.iter();
        let there = there.filter(|old| replaced.contains(&old.id));
        there.cloned().collect()
    }

    /// Tells whether a version that is there replaces one that left the store.
    pub(super) fn replaces(&self, gone: &Version) -> bool {
        let mut others = self.versions.iter().filter(|other| other.id != gone.id);
        others.any(|other| other.replaces.contains(&gone.blob))
    }

    /// Removes the version that lay at `entry`.
    pub fn remove(&mut self, entry: &Entry) {
        self.versions.retain(|version| {
            (version.entry.folder, &version.entry.name) != (entry.folder, &entry.name)
        });
        let versions = &self.versions;
        self.former
            .retain(|_, id| versions.iter().any(|version| version.id == *id));
    }

    /// Tells whether no version is left.
    pub fn is_empty(&self) -> bool {
        self.versions.is_empty()
    }

    /// All versions, oldest first.
    pub fn versions(&self) -> &[Arc<Version>] {
        &self.versions
    }

    /// Other files of the same version, as synchronisers make them.
    pub(super) fn twins(&self, version: &Version) -> impl Iterator<Item = &Arc<Version>> {
        let (id, name) = (version.id, version.entry.name.clone());
        let same = move |twin: &&Arc<Version>| twin.id == id && twin.entry.name != name;
        self.versions.iter().filter(same)
    }

    /// The versions that another one, which is there, replaces.
    pub fn replaced(&self) -> HashSet<VersionId> {
        let names = self.names();
        let versions = self.versions.iter();
        let replaced = versions.flat_map(|by| {
            let named = by.replaces.iter().filter_map(|name| names.get(name));
            named.filter(|id| **id != by.id).copied()
        });
        replaced.collect()
    }

    /// Returns the heads, the one that keeps the name first.
    ///
    /// A head is a version that no other version of the document replaces. Several blobs with
    /// the same content and path (copies for several readers, or the same edit made twice) are
    /// one head.
    pub fn heads(&self) -> Vec<Head> {
        let replaced: HashSet<VersionId> = self.replaced();
        let is_head = |version: &&Arc<Version>| !replaced.contains(&version.id);
        let mut tips: Vec<_> = self.versions.iter().rev().filter(is_head).collect();
        if tips.is_empty() {
            // Versions that replace each other in a ring cannot be made honestly; show them all.
            tips = self.versions.iter().rev().collect();
        }
        let mut heads: Vec<Head> = Vec::new();
        for tip in tips {
            let same = |head: &&mut Head| {
                let same_content = tip.digest.is_some()
                    && head.version.digest == tip.digest
                    && head.version.path == tip.path;
                same_content || head.version.id == tip.id
            };
            match heads.iter_mut().find(same) {
                Some(head) => head.copies.push(Arc::clone(tip)),
                None => heads.push(Head {
                    version: Arc::clone(tip),
                    copies: Vec::new(),
                }),
            }
        }
        heads
    }
}

/// A version that no other replaces, with the blobs that hold the same.
#[derive(Clone, Debug)]
pub struct Head {
    /// The version that is shown.
    pub version: Arc<Version>,
    /// Other blobs with the same content under the same path.
    pub copies: Vec<Arc<Version>>,
}

impl Head {
    /// Makes the head of a version that was just published: its blobs, at least one.
    pub(super) fn of(mut blobs: Vec<Arc<Version>>) -> Head {
        let version = blobs.remove(0);
        Head {
            version,
            copies: blobs,
        }
    }

    /// All blobs of the head.
    pub fn blobs(&self) -> impl Iterator<Item = &Arc<Version>> {
        std::iter::once(&self.version).chain(&self.copies)
    }
}
