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
use crate::ids::{BlobId, BlobName, Timestamp};
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
    /// It had not changed for a while when it was read: a later change shows in its stamp.
    pub(in crate::vault) is_settled: bool,
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
        known: Option<&Facts>,
        stop: Arc<AtomicBool>,
    ) -> Option<Learned> {
        let session_key = known.map(|facts| &facts.session_key);
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
                    is_settled: false,
                    finding: Finding::Unreadable(error.to_string()),
                });
            }
        };
        // As of now: the finding may wait for long until it is taken in.
        let is_settled = stamp.is_settled(Timestamp::now());
        let facts = match examined.outcome {
            Outcome::NotMine => Err(Finding::NotMine),
            Outcome::Incomplete => Err(Finding::Incomplete),
            Outcome::Opened(opened) => {
                self.contents.put(examined.id, &Arc::new(opened.content));
                let mut facts = opened.facts;
                if facts.opened_by.is_none() {
                    // The session key was known, so no key of mine was asked this time.
                    facts.opened_by = known.and_then(|known| known.opened_by.clone());
                }
                Ok(Ok(Arc::new(facts)))
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
            is_settled,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Folder;
    use crate::openpgp::{Notations, Profile, SealRequest, Sealed, generate};
    use crate::store::MemoryStore;

    #[test]
    fn a_blob_that_is_opened_again_is_still_known_to_be_opened_by_the_same_key() {
        let new = generate("Me <me@example.org>", None, Profile::Compatible).unwrap();
        let me = Identity::unlock(&new.secret, None).unwrap();
        let mine = me.fingerprint();
        let content = Plaintext::from(&b"hello"[..]);
        let sealed = Sealed::prepare(SealRequest {
            signer: &me,
            co_signers: &[],
            recipients: &[me.certificate().clone()],
            intended: &[],
            named: false,
            name: "a.txt",
            notations: &Notations::default(),
            content: &content,
            created: None,
        });
        let store = MemoryStore::new();
        let (_, entry) = store.put(Folder::Notes, &sealed.unwrap()).unwrap();
        let identities = Arc::from(vec![me]);
        let learner = Learner::new(Arc::new(store), identities, 1 << 20, None);
        let certificates = CertIndex::default();
        let learn = |known: Option<&Facts>| {
            let stop = Arc::new(AtomicBool::new(false));
            let learned = learner.learn(&entry, &certificates, known, stop).unwrap();
            match learned.finding {
                Finding::Blob(blob) => blob.facts.unwrap(),
                _ => panic!("no blob of mine"),
            }
        };
        let first = learn(None);
        assert_eq!(first.opened_by, Some(mine));
        assert_eq!(learn(Some(&first)).opened_by, first.opened_by);
    }
}
