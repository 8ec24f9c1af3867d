//! A blob becomes facts: its ciphertext is read, tried with my keys, decrypted and verified.
//!
//! The result depends on the bytes, my keys and the certificates alone. Which signer I know, and where
//! the blob belongs, is a judgement (`judge`), and listing the store is the business of `scan`. So this
//! room names neither people nor the state, and a cache on disk can take its place for blobs that were
//! opened before.
//!
//! Owns the cache of recently opened contents, whose lock is held for no I/O and no cryptography.

mod contents;

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::error::{Error, Kind, Result};
use crate::ids::{BlobId, BlobName};
use crate::openpgp::{
    self, CertIndex, Examined, Facts, Identity, Keyring, Limits, Opened, Outcome, SessionKey,
};
use crate::plaintext::{Plaintext, SpillArea};
use crate::store::{Entry, Stamp, Store};
use crate::vault::disk::folder_error;
use crate::vault::documents::{Unreadable, Version};
use crate::vault::learn::contents::Contents;

/// What a file of the store holds, before anybody judges it.
pub(in crate::vault) struct Learned {
    /// How the file looked when it was read.
    pub(in crate::vault) stamp: Stamp,
    pub(in crate::vault) finding: Finding,
}

/// The outcomes of reading one file.
pub(in crate::vault) enum Finding {
    /// Not (yet) a whole OpenPGP message.
    Incomplete,
    /// No key of mine opens it.
    NotMine,
    /// It cannot be read, for the reason in this sentence.
    Unreadable(String),
    /// A whole message to me.
    Blob(FoundBlob),
}

/// A whole message to me.
pub(in crate::vault) struct FoundBlob {
    pub(in crate::vault) name: BlobName,
    pub(in crate::vault) id: BlobId,
    /// Number of recipients outside the encryption, which nothing protects.
    pub(in crate::vault) recipients: usize,
    /// The facts inside, or the reason why none of them is shown.
    pub(in crate::vault) facts: std::result::Result<Arc<Facts>, Unreadable>,
}

/// Opens blobs with my keys.
pub(in crate::vault) struct Learner {
    store: Arc<dyn Store>,
    identities: Arc<[Identity]>,
    /// Bytes of the largest content.
    max_content: u64,
    spill: Option<Arc<SpillArea>>,
    contents: Contents,
}

impl Learner {
    /// Makes a learner for contents of at most `max_content` bytes, which may spill to `spill`.
    pub(in crate::vault) fn new(
        store: Arc<dyn Store>,
        identities: Arc<[Identity]>,
        max_content: u64,
        spill: Option<Arc<SpillArea>>,
    ) -> Self {
        Learner {
            store,
            identities,
            max_content,
            spill,
            contents: Contents::default(),
        }
    }

    /// Reads a file of the store. `None` if it vanished or changed meanwhile, or `stop` was set.
    pub(in crate::vault) fn learn(
        &self,
        entry: &Entry,
        certificates: &CertIndex,
        session_key: Option<&SessionKey>,
        stop: Arc<AtomicBool>,
    ) -> Option<Learned> {
        let limits = Limits {
            stop: Some(stop),
            ..self.limits()
        };
        let (examined, stamp) = match self.read(entry, certificates, &limits, session_key) {
            Ok(read) => read,
            Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Busy) => return None,
            Err(error) => {
                return Some(Learned {
                    stamp: entry.stamp,
                    finding: Finding::Unreadable(error.to_string()),
                });
            }
        };
        let facts = match examined.outcome {
            Outcome::NotMine => Err(Finding::NotMine),
            Outcome::Incomplete => Err(Finding::Incomplete),
            Outcome::Opened(opened) => {
                self.contents.put(examined.id, &Arc::new(opened.content));
                Ok(Ok(Arc::new(opened.facts)))
            }
            Outcome::Refused(why) => Ok(Err(Unreadable::Refused(why))),
            Outcome::Damaged => Ok(Err(Unreadable::Damaged)),
            Outcome::TooLarge => Ok(Err(Unreadable::TooLarge)),
        };
        let blob = facts.map(|facts| FoundBlob {
            name: examined.name,
            id: examined.id,
            recipients: examined.recipients,
            facts,
        });
        Some(Learned {
            stamp,
            finding: blob.map_or_else(|finding| finding, Finding::Blob),
        })
    }

    /// Returns a content if it was opened recently.
    pub(in crate::vault) fn recent(&self, id: &BlobId) -> Option<Arc<Plaintext>> {
        self.contents.get(id)
    }

    /// Decrypts the content of a version of the store again. `None` if its file holds another blob
    /// now.
    ///
    /// # Errors
    /// `NotFound` if the file is gone; `Damaged` or `TooLarge` if the content cannot be shown; `Io`
    /// if it cannot be read.
    pub(in crate::vault) fn content(
        &self,
        version: &Version,
        certificates: &CertIndex,
        session_key: Option<&SessionKey>,
    ) -> Result<Option<Arc<Plaintext>>> {
        let limits = self.limits();
        let (examined, _) = self.read(&version.entry, certificates, &limits, session_key)?;
        if examined.id != version.file_id {
            return Ok(None);
        }
        let opened = opened(examined.outcome, version)?;
        if Some(opened.facts.digest) != version.digest {
            return Err(unreadable(version, Unreadable::Damaged));
        }
        let content = Arc::new(opened.content);
        self.contents.put(version.file_id, &content);
        Ok(Some(content))
    }

    /// Opens a blob that lies outside the store: a spare, an old version, a rescued draft.
    ///
    /// # Errors
    /// `Io` if it cannot be read.
    pub(in crate::vault) fn examine(
        &self,
        file: &mut (dyn Read + Send + Sync),
        length: u64,
        certificates: &CertIndex,
    ) -> Result<Examined> {
        self.examine_within(file, length, certificates, &self.limits(), None)
    }

    /// Drops the contents that nobody asked for during this time.
    pub(in crate::vault) fn drop_unused(&self, time: Duration) {
        self.contents.drop_unused(time);
    }

    /// Reads a blob of the store and opens it, with little memory whatever its size.
    fn read(
        &self,
        entry: &Entry,
        certificates: &CertIndex,
        limits: &Limits,
        session_key: Option<&SessionKey>,
    ) -> Result<(Examined, Stamp)> {
        let file = self.store.open_blob(entry, self.largest_blob());
        let mut file = file.map_err(folder_error)?;
        let length = file.stamp().size;
        let examined = self.examine_within(&mut file, length, certificates, limits, session_key)?;
        let stamp = match examined.to_its_end {
            true => file.finish()?,
            false => file.stamp(),
        };
        Ok((examined, stamp))
    }

    fn examine_within(
        &self,
        file: &mut (dyn Read + Send + Sync),
        length: u64,
        certificates: &CertIndex,
        limits: &Limits,
        session_key: Option<&SessionKey>,
    ) -> Result<Examined> {
        let keyring = Keyring {
            identities: &self.identities,
            certificates,
        };
        openpgp::examine(file, length, &keyring, limits, session_key)
    }

    fn limits(&self) -> Limits {
        Limits {
            max_content: self.max_content,
            spill: self.spill.clone(),
            ..Limits::default()
        }
    }

    /// Bytes of the largest blob that is read: armor and padding of the largest content.
    fn largest_blob(&self) -> u64 {
        self.max_content.saturating_mul(3) / 2 + (1 << 20)
    }
}

/// Takes the content and the facts of a version out of an outcome, or says why there are none.
pub(in crate::vault) fn opened(outcome: Outcome, version: &Version) -> Result<Opened> {
    match outcome {
        Outcome::Opened(opened) => Ok(*opened),
        Outcome::TooLarge => Err(unreadable(version, Unreadable::TooLarge)),
        Outcome::Refused(why) => Err(unreadable(version, Unreadable::Refused(why))),
        Outcome::Damaged | Outcome::NotMine | Outcome::Incomplete => {
            Err(unreadable(version, Unreadable::Damaged))
        }
    }
}

/// Says why nothing of a version is shown.
pub(in crate::vault) fn unreadable(version: &Version, why: Unreadable) -> Error {
    Error::new(why.kind(), format!("blob {} {why}", version.blob))
}
