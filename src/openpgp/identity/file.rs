//! Key files: their secret keys are unlocked and kept in this process.

use std::sync::Mutex;

use sequoia_openpgp as pgp;

use pgp::cert::prelude::*;
use pgp::crypto::hash::Context;
use pgp::crypto::{KeyPair, Password};
use pgp::packet::key::{KeyParts, KeyRole};
use pgp::packet::signature::SignatureBuilder;
use pgp::packet::{Key, PKESK, Signature};
use pgp::types::{KeyFlags, SymmetricAlgorithm};

use super::{Identity, Role, SecretKey, Session};
use crate::error::{Error, Kind, Result};
use crate::openpgp::certificate::{PublicKey, bodies, certs};
use crate::openpgp::protection::{self, Locked};
use crate::openpgp::shortcomings::{Whereabouts, all_elsewhere, missing_signer, shortcomings};
use crate::openpgp::{Certificate, failed};
use crate::plaintext::Passphrase;

impl SecretKey for KeyPair {
    fn public(&self) -> &PublicKey {
        KeyPair::public(self)
    }

    fn decrypt(
        &self,
        packet: &PKESK,
        cipher: Option<SymmetricAlgorithm>,
    ) -> Result<Option<Session>> {
        Ok(packet.decrypt(&mut self.clone(), cipher))
    }

    fn sign(&self, signature: SignatureBuilder, digested: Context) -> Result<Signature> {
        let signed = signature.sign_hash(&mut self.clone(), digested);
        signed.map_err(|why| failed(Kind::Invalid, "signing", why))
    }
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
        let mut keys: Vec<Box<dyn SecretKey>> = Vec::new();
        let mut decrypting = Vec::new();
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
            let pair = key.role_into_unspecified().into_keypair();
            keys.push(Box::new(pair.map_err(unreadable)?));
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
            role: Role::Signer,
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

    /// Lists the shortcomings of a secret key file, which need not be unlocked.
    ///
    /// # Errors
    /// As [`Identity::certificate_of`].
    pub fn shortcomings_of(bytes: &[u8]) -> Result<Vec<String>> {
        Ok(shortcomings(&secret_cert(bytes)?))
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

/// Names the places of the secret keys of a certificate, if none is here.
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
