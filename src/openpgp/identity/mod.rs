//! My own keys, unlocked.
//!
//! An [`Identity`] is one certificate of mine and the [`SecretKey`]s that belong to it. Nobody
//! above knows where the secrets are: [`file`] takes them from a key file into this process.

use std::sync::{Mutex, MutexGuard};
use std::time::SystemTime;

use sequoia_openpgp as pgp;

use pgp::crypto::hash::Context;
use pgp::packet::signature::SignatureBuilder;
use pgp::packet::{PKESK, Signature};
use pgp::parse::Parse as _;
use pgp::types::SymmetricAlgorithm;
use pgp::{Packet, PacketPile};

use super::certificate::PublicKey;
use super::condition::may_sign;
use super::shortcomings::encryption_keys_here;
use super::vouched::agrees;
use super::{Certificate, failed, policy};
use crate::error::{Error, Kind, Result};
use crate::ids::Fingerprint;
use crate::locks::lock;

mod file;
#[cfg(test)]
mod tests;

/// One secret key that can be used now, wherever its secret is.
pub(super) trait SecretKey: Send + Sync {
    /// Returns the public part.
    fn public(&self) -> &PublicKey;

    /// Opens a session key packet; `None` if it is for another key. `cipher` is that of the
    /// container, where the container names it.
    ///
    /// # Errors
    /// If the key cannot be asked at this moment, so that nobody knows whether it is its packet.
    fn decrypt(
        &self,
        packet: &PKESK,
        cipher: Option<SymmetricAlgorithm>,
    ) -> Result<Option<Session>>;

    /// Finishes a signature over the data that was digested.
    ///
    /// # Errors
    /// `Invalid` if the signature cannot be put together; others if the key cannot be asked.
    fn sign(&self, signature: SignatureBuilder, digested: Context) -> Result<Signature>;
}

/// A decrypted session key, and its cipher where the packet names it.
pub(super) type Session = (Option<SymmetricAlgorithm>, pgp::crypto::SessionKey);

/// The use of an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// I write as this one, and read by it.
    Signer,
    /// I wrote as this one in the past, and read by it.
    Former,
}

/// The unlocked secret keys of one certificate. Zeroed when dropped; neither shown nor copied.
pub struct Identity {
    role: Role,
    /// Grows by other copies of it, which may have a revocation.
    certificate: Mutex<Certificate>,
    keys: Vec<Box<dyn SecretKey>>,
    /// Fingerprints of those of `keys` that may decrypt, expired and revoked ones included.
    decrypting: Vec<pgp::Fingerprint>,
    /// Sentences about things that it cannot do.
    shortcomings: Vec<String>,
    /// Where the secret key is that would sign, if no key here does.
    missing_signer: Option<String>,
}

impl Identity {
    /// Makes it one that only reads: I wrote as it in the past.
    #[must_use]
    pub fn into_former(self) -> Identity {
        let role = Role::Former;
        Identity { role, ..self }
    }

    /// Returns its use.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Lists its shortcomings, a sentence each, with the remedy.
    pub fn shortcomings(&self) -> &[String] {
        &self.shortcomings
    }

    /// Returns the keys that encrypt to me and open here, the newest last.
    pub(super) fn encryption_keys(&self) -> Vec<PublicKey> {
        encryption_keys_here(self.certificate().cert(), &self.decrypting)
    }

    /// Tells whether each of the keys that encrypt to me and are here opens a small message of
    /// mine.
    pub fn each_key_opens(&self, blob: &[u8]) -> bool {
        let Ok(packets) = PacketPile::from_bytes(blob) else {
            return false;
        };
        let packets: Vec<_> = packets
            .children()
            .filter_map(|packet| match packet {
                Packet::PKESK(packet) => Some(packet),
                _ => None,
            })
            .collect();
        let opens = |key: &dyn SecretKey| {
            let mut same = packets
                .iter()
                .filter(|packet| packet.pk_algo() == key.public().pk_algo());
            same.any(|packet| matches!(key.decrypt(packet, None), Ok(Some(_))))
        };
        let wanted = self.encryption_keys();
        let mut wanted = wanted.iter().map(|key| key.fingerprint());
        wanted.all(|wanted| {
            let mut keys = self.decryption_keys();
            keys.any(|key| key.public().fingerprint() == wanted && opens(key))
        })
    }

    /// Returns the public part, with everything that was learned of it since.
    pub fn certificate(&self) -> Certificate {
        self.learned().clone()
    }

    /// Merges another copy of the public part, which may have a revocation; tells whether there was
    /// anything new.
    ///
    /// # Errors
    /// `KeyRejected` if it is the certificate of another key.
    pub fn learn(&self, copy: &Certificate) -> Result<bool> {
        let mut known = self.learned();
        let merged = known.merge(copy)?;
        let new = merged != *known;
        if new {
            *known = merged;
        }
        Ok(new)
    }

    fn learned(&self) -> MutexGuard<'_, Certificate> {
        lock(&self.certificate)
    }

    /// Returns the fingerprint of the primary key.
    pub fn fingerprint(&self) -> Fingerprint {
        self.learned().fingerprint()
    }

    /// Returns the ids of all of its keys.
    pub fn key_ids(&self) -> Vec<[u8; 8]> {
        let certificate = self.certificate();
        let keys = certificate.cert().keys();
        let ids = keys.filter_map(|key| key.key().keyid().as_bytes().try_into().ok());
        ids.collect()
    }

    /// Returns the keys that may open blobs.
    pub(super) fn decryption_keys(&self) -> impl Iterator<Item = &dyn SecretKey> {
        let keys = self.keys.iter().map(|key| &**key);
        keys.filter(|key| self.decrypting.contains(&key.public().fingerprint()))
    }

    /// Tells whether it can sign now.
    ///
    /// # Errors
    /// `KeyRevoked`, `KeyExpired`, or `NoKey` if there is no key for it here.
    pub fn can_sign(&self) -> Result<()> {
        self.signing_key(SystemTime::now()).map(drop)
    }

    /// Returns the newest key that may sign at a time.
    pub(super) fn signing_key(&self, at: SystemTime) -> Result<&dyn SecretKey> {
        if self.role == Role::Former {
            return Err(Error::new(Kind::NoKey, "my former key no longer signs"));
        }
        let policy = policy();
        let unusable = |why| failed(Kind::NoKey, "my key cannot be used", why);
        let certificate = self.certificate();
        let valid = certificate.cert().with_policy(&policy, at);
        let valid = valid.map_err(unusable)?;
        if certificate.is_revoked(&valid) {
            return Err(Error::new(Kind::KeyRevoked, "my key is revoked"));
        }
        if valid.alive().is_err() {
            return Err(Error::new(Kind::KeyExpired, "my key is expired"));
        }
        let keys = valid.keys().supported().alive().revoked(false);
        let mut keys: Vec<_> = keys.filter(may_sign).collect();
        // Stable, so that a subkey made with its primary key is preferred to it.
        keys.sort_by_key(|key| key.key().creation_time());
        let mut secrets = keys.iter().rev().filter_map(|key| {
            let wanted = key.key().fingerprint();
            let mut secrets = self.keys.iter();
            let secret = secrets.find(|secret| secret.public().fingerprint() == wanted);
            // Nobody verifies a signature of a subkey that does not agree to belong to the
            // certificate; programs that write no key flags write no such agreement, either.
            secret.filter(|_| agrees(certificate.cert(), &wanted))
        });
        let none = || match &self.missing_signer {
            Some(why) => Error::new(Kind::NoKey, format!("my key cannot sign: {why}")),
            None => Error::new(Kind::NoKey, "my key cannot sign"),
        };
        secrets.next().map(|secret| &**secret).ok_or_else(none)
    }
}
