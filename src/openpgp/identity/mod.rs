//! My own keys, unlocked.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use sequoia_openpgp as pgp;

use pgp::cert::prelude::*;
use pgp::crypto::{KeyPair, Password};
use pgp::packet::Key;
use pgp::packet::key::{KeyParts, KeyRole};
use pgp::parse::Parse as _;
use pgp::types::{KeyFlags, RevocationStatus};
use pgp::{Packet, PacketPile};

use super::certificate::{PublicKey, bodies, certs};
use super::condition::may_sign;
use super::protection::{self, Locked};
use super::shortcomings::{
    Whereabouts, all_elsewhere, encryption_keys_here, missing_signer, shortcomings,
};
use super::{Certificate, failed, policy};
use crate::error::{Error, Kind, Result};
use crate::ids::Fingerprint;
use crate::plaintext::Passphrase;

/// The unlocked secret keys of one certificate. Zeroed when dropped; neither shown nor copied.
pub struct Identity {
    /// Grows by what others know of it, a revocation above all.
    certificate: Mutex<Certificate>,
    keys: Vec<KeyPair>,
    /// Fingerprints of those of `keys` that may decrypt, expired and revoked ones included.
    decrypting: Vec<pgp::Fingerprint>,
    /// What it cannot do.
    shortcomings: Vec<String>,
    /// Where the secret key is that would sign, if no key here does.
    missing_signer: Option<String>,
}

impl Identity {
    /// Tells whether a secret key needs a passphrase.
    ///
    /// # Errors
    /// `Invalid` if the file cannot be read, `NoKey` if it holds no secret key, `Unsupported` if
    /// one is protected in a way that no passphrase opens here.
    pub fn is_locked(bytes: &[u8]) -> Result<bool> {
        let cert = secret_cert(bytes)?;
        check_protection(&cert)?;
        let mut keys = cert.keys().secret();
        Ok(keys.any(|key| is_here(key.key()) && key.key().secret().is_encrypted()))
    }

    /// Reads a secret key, armored or binary, and unlocks all of its subkeys.
    ///
    /// Secret keys that are elsewhere (on a card, or kept offline) are left out.
    ///
    /// # Errors
    /// `WrongPassphrase` if one is needed and it opens no key; `NoKey` if there is no secret key;
    /// `Unsupported` if one is protected in a way that is not known; `Invalid` if the file cannot
    /// be read or holds several certificates, or if its keys have several passphrases.
    pub fn unlock(bytes: &[u8], passphrase: Option<&Passphrase>) -> Result<Identity> {
        let cert = secret_cert(bytes)?;
        let password = passphrase.map(|passphrase| Password::from(passphrase.expose()));
        let (mut keys, mut decrypting) = (Vec::new(), Vec::new());
        let (mut opened, mut closed) = (None, None);
        for amalgamation in cert.keys().secret() {
            if !is_here(amalgamation.key()) {
                continue;
            }
            let mut key = amalgamation.key().clone();
            if key.secret().is_encrypted() {
                let needed = || Error::new(Kind::WrongPassphrase, "a passphrase is needed");
                let password = password.as_ref().ok_or_else(needed)?;
                let id = key.keyid();
                key = match protection::unlock(key, amalgamation.primary(), password) {
                    Ok(key) => key,
                    Err(Locked::Form(why)) => return Err(Error::new(Kind::Unsupported, why)),
                    Err(Locked::Wrong) => {
                        closed = closed.or(Some(id));
                        continue;
                    }
                };
                opened = opened.or(Some(id));
            }
            if may_decrypt(&amalgamation.into()) {
                decrypting.push(key.fingerprint());
            }
            let unreadable = |why| failed(Kind::Invalid, "cannot use the secret key", why);
            keys.push(
                key.role_into_unspecified()
                    .into_keypair()
                    .map_err(unreadable)?,
            );
        }
        match (opened, closed) {
            (Some(opened), Some(closed)) => {
                let why = format!(
                    "the passphrase opens the key {opened} and not the key {closed}, which has \
                     another one: gpg --edit-key {} passwd gives all of them the same, then \
                     export it again",
                    cert.fingerprint()
                );
                return Err(Error::new(Kind::Invalid, why));
            }
            (None, Some(_)) => {
                let why = "the passphrase is wrong";
                return Err(Error::new(Kind::WrongPassphrase, why));
            }
            (_, None) => {}
        }
        if keys.is_empty() {
            return Err(none_here(&cert));
        }
        Ok(Identity {
            shortcomings: shortcomings(&cert),
            missing_signer: missing_signer(&cert),
            certificate: Mutex::new(Certificate::new(cert)?),
            keys,
            decrypting,
        })
    }

    /// Reads the public part of a secret key file, which need not be unlocked for that.
    ///
    /// # Errors
    /// `NoKey` if there is no secret key; `Invalid` if the file cannot be read; `Unsupported` if
    /// it is protected in a way that no passphrase opens here.
    pub fn certificate_of(bytes: &[u8]) -> Result<Certificate> {
        let cert = secret_cert(bytes)?;
        if !cert.keys().secret().any(|key| is_here(key.key())) {
            return Err(none_here(&cert));
        }
        check_protection(&cert)?;
        Certificate::new(cert)
    }

    /// Tells what a secret key file, which need not be unlocked, cannot do.
    ///
    /// # Errors
    /// As [`Identity::certificate_of`].
    pub fn shortcomings_of(bytes: &[u8]) -> Result<Vec<String>> {
        Ok(shortcomings(&secret_cert(bytes)?))
    }

    /// Tells what it cannot do, a sentence each: what is wrong and what helps.
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
        let opens = |key: &KeyPair| {
            let mut same = packets
                .iter()
                .filter(|packet| packet.pk_algo() == key.public().pk_algo());
            same.any(|packet| packet.decrypt(&mut key.clone(), None).is_some())
        };
        let wanted = self.encryption_keys();
        let mut wanted = wanted.iter().map(|key| key.fingerprint());
        wanted.all(|key| {
            let mut pairs = self.decryption_keys();
            pairs.any(|pair| pair.public().fingerprint() == key && opens(pair))
        })
    }

    /// Returns the public part, with what was learned of it since.
    pub fn certificate(&self) -> Certificate {
        self.learned().clone()
    }

    /// Takes over what another copy of the public part knows, such as a revocation; tells whether
    /// that is anything new.
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
        self.certificate
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
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
    pub(super) fn decryption_keys(&self) -> impl Iterator<Item = &KeyPair> {
        let keys = self.keys.iter();
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
    pub(super) fn signing_key(&self, at: SystemTime) -> Result<KeyPair> {
        let policy = policy();
        let unusable = |why| failed(Kind::NoKey, "my key cannot be used", why);
        let certificate = self.certificate();
        let valid = certificate.cert().with_policy(&policy, at);
        let valid = valid.map_err(unusable)?;
        if let RevocationStatus::Revoked(_) = valid.revocation_status() {
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
            self.keys
                .iter()
                .find(|key| key.public().fingerprint() == wanted)
        });
        let none = || match &self.missing_signer {
            Some(why) => Error::new(Kind::NoKey, format!("my key cannot sign: {why}")),
            None => Error::new(Kind::NoKey, "my key cannot sign"),
        };
        secrets.next().cloned().ok_or_else(none)
    }
}

/// Reads the one certificate with secret keys of a file.
fn secret_cert(bytes: &[u8]) -> Result<Cert> {
    let mut all = Vec::new();
    for body in bodies(bytes)? {
        let body = body.ok_or_else(|| Error::new(Kind::Invalid, "not a whole key"))?;
        // A copy of the secret key, locked or not, is not left behind in memory.
        let body = zeroize::Zeroizing::new(body);
        let body = protection::with_canonical_numbers(&body);
        all.extend(certs(&body)?);
    }
    if all.is_empty() {
        return Err(Error::new(Kind::Invalid, "not a secret key"));
    }
    let mut secret = all.into_iter().filter(Cert::is_tsk);
    match (secret.next(), secret.next()) {
        (Some(cert), None) => Ok(cert),
        (None, _) => Err(no_secret()),
        (Some(_), Some(_)) => {
            let why = "the file holds several secret keys; give each its own file";
            Err(Error::new(Kind::Invalid, why))
        }
    }
}

/// Refuses secret keys that no passphrase opens here, so that nobody is asked for one in vain.
fn check_protection(cert: &Cert) -> Result<()> {
    let mut keys = cert.keys().secret().filter(|key| is_here(key.key()));
    match keys.find_map(|key| protection::obstacle(key.key())) {
        Some(why) => Err(Error::new(Kind::Unsupported, why)),
        None => Ok(()),
    }
}

/// Says where the secret keys of a certificate are, none of which is here.
fn none_here(cert: &Cert) -> Error {
    let mut places = cert.keys().map(|key| Whereabouts::of(key.key()));
    let kind = match places.any(|place| place == Whereabouts::Unknown) {
        true => Kind::Unsupported,
        false => Kind::NoKey,
    };
    Error::new(kind, all_elsewhere(cert))
}

/// Tells whether the secret is here, not just a note that it is on a card or offline.
fn is_here<P: KeyParts, R: KeyRole>(key: &Key<P, R>) -> bool {
    Whereabouts::of(key) == Whereabouts::Here
}

/// Tells whether a key was ever meant to decrypt, whatever became of it since.
fn may_decrypt(key: &ErasedKeyAmalgamation<'_, pgp::packet::key::PublicParts>) -> bool {
    if !key.key().pk_algo().for_encryption() {
        return false;
    }
    let ids = key.cert().userids().filter(|_| key.primary());
    let ids = ids.flat_map(|id| id.self_signatures().collect::<Vec<_>>());
    let signatures = key.self_signatures().chain(ids);
    let flags: Vec<_> = signatures
        .filter_map(|signature| signature.key_flags())
        .collect();
    let meant =
        |flags: &KeyFlags| flags.for_storage_encryption() || flags.for_transport_encryption();
    flags.is_empty() || flags.iter().any(meant)
}

fn no_secret() -> Error {
    Error::new(Kind::NoKey, "no secret key in it")
}
