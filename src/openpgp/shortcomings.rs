//! What an identity cannot do, and what makes others send it what cannot be read.

use std::time::SystemTime;

use sequoia_openpgp as pgp;

use pgp::Fingerprint;
use pgp::cert::prelude::*;
use pgp::crypto::S2K;
use pgp::packet::key::{KeyParts, KeyRole, PublicParts, SecretKeyMaterial};
use pgp::packet::signature::subpacket::{SubpacketTag, SubpacketValue};
use pgp::packet::{Key, Packet, Signature};
use pgp::policy::{AsymmetricAlgorithm, StandardPolicy};
use pgp::serialize::SerializeInto as _;
use pgp::types::{AEADAlgorithm, RevocationStatus};

use super::condition::unsupported;
use super::policy;
use super::refusal::Refusal;

/// Where a secret key is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Whereabouts {
    /// Here, locked or not.
    Here,
    /// On a smartcard: the file says so.
    Card,
    /// Kept offline: the file says so.
    Offline,
    /// The file says nothing of it.
    Absent,
    /// Protected in a way that is not known.
    Unknown,
}

impl Whereabouts {
    pub fn of<P: KeyParts, R: KeyRole>(key: &Key<P, R>) -> Whereabouts {
        let secret = match key.optional_secret() {
            None => return Whereabouts::Absent,
            Some(SecretKeyMaterial::Unencrypted(_)) => return Whereabouts::Here,
            Some(SecretKeyMaterial::Encrypted(secret)) => secret,
        };
        match secret.s2k() {
            S2K::Private { .. } => {}
            S2K::Unknown { .. } => return Whereabouts::Unknown,
            _ => return Whereabouts::Here,
        }
        // What follows the number of a private method is kept, but only written.
        let key = key.parts_as_unspecified().role_as_unspecified().clone();
        let secret = key.parts_into_secret();
        let packet = secret.and_then(|key| Packet::from(key.role_into_subordinate()).to_vec());
        let packet = packet.unwrap_or_default();
        // GnuPG's own marks: 1 for a key that is left out, 2 for one on a card.
        let says = |mark: &[u8]| packet.windows(mark.len()).any(|found| found == mark);
        match (says(b"GNU\x01"), says(b"GNU\x02")) {
            (_, true) => Whereabouts::Card,
            (true, _) => Whereabouts::Offline,
            _ => Whereabouts::Unknown,
        }
    }

    /// Says it of a key; not for one that is here.
    pub fn sentence(self) -> &'static str {
        match self {
            Whereabouts::Here => "is here",
            Whereabouts::Card => "is on a smartcard, which is not supported",
            Whereabouts::Offline => "is offline: only a stub of it is in the key file",
            Whereabouts::Absent => "is elsewhere: it is not in the key file",
            Whereabouts::Unknown => "is protected in an unknown way",
        }
    }
}

/// Says where the secret keys of a certificate are, none of which is here.
pub(super) fn all_elsewhere(cert: &Cert) -> String {
    let mut found = cert
        .keys()
        .map(|key| Whereabouts::of(key.key()))
        .filter(|place| *place != Whereabouts::Absent);
    match found.next() {
        Some(place) => format!("the secret key {}", place.sentence()),
        None => "no secret key in it".to_owned(),
    }
}

/// Says where the secret key is that would sign, if it is not here; `None` if there is none.
pub(super) fn missing_signer(cert: &Cert) -> Option<String> {
    let policy = as_others_see_it();
    let valid = cert.with_policy(&policy, SystemTime::now()).ok()?;
    let signing: Vec<_> = valid.keys().alive().revoked(false).for_signing().collect();
    let newest = signing.iter().max_by_key(|key| key.key().creation_time())?;
    let place = Whereabouts::of(newest.key());
    let id = newest.key().keyid();
    Some(match (Refusal::of_key(newest.key()), place) {
        (Some(Refusal::KeyAlgorithm(name)), _) => {
            format!("the signing key {id} is {name}, which is not supported")
        }
        (_, Whereabouts::Here) => format!("the signing key {id} cannot be used"),
        (_, place) => format!("the secret of the signing key {id} {}", place.sentence()),
    })
}

/// The rules by which others choose a key of mine, be it read here or not.
fn as_others_see_it() -> StandardPolicy<'static> {
    let mut policy = policy();
    for algorithm in [
        AsymmetricAlgorithm::ElGamal1024,
        AsymmetricAlgorithm::ElGamal2048,
        AsymmetricAlgorithm::ElGamal3072,
        AsymmetricAlgorithm::ElGamal4096,
        AsymmetricAlgorithm::Unknown,
    ] {
        policy.accept_asymmetric_algo(algorithm);
    }
    policy
}

/// Tells what an identity cannot do, a sentence each: what is wrong and what helps.
pub(super) fn shortcomings(cert: &Cert) -> Vec<String> {
    if let Some(name) = unsupported(cert.primary_key().key()) {
        return vec![format!(
            "your key is {name}, which is not supported: nothing can be written, and nobody here \
             can verify what it signs; make a new key (gpg --quick-gen-key, or dds init without \
             --key)"
        )];
    }
    let policy = as_others_see_it();
    let Ok(valid) = cert.with_policy(&policy, SystemTime::now()) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let here = |key: &ValidErasedKeyAmalgamation<'_, PublicParts>| {
        Whereabouts::of(key.key()) == Whereabouts::Here
    };
    let signs = valid
        .keys()
        .supported()
        .alive()
        .revoked(false)
        .for_signing()
        .any(|key| here(&key));
    let keys = valid.keys().for_transport_encryption();
    let keys = keys.for_storage_encryption().alive().revoked(false);
    let keys: Vec<_> = keys.collect();
    let newest = keys.iter().max_by_key(|key| key.key().creation_time());
    let whole =
        valid.alive().is_ok() && !matches!(valid.revocation_status(), RevocationStatus::Revoked(_));
    if !signs && whole {
        let why = missing_signer(cert);
        let why = why.unwrap_or_else(|| "your key has no part that signs".to_owned());
        found.push(format!(
            "{why}: nothing can be written; --key takes a file with its secret \
             (gpg --export-secret-keys where it is)"
        ));
    }
    if let Some(newest) = newest {
        let id = newest.key().keyid();
        let others = match keys.len() {
            1 => "what others encrypt to it cannot be read",
            _ => "what others encrypt to it cannot be read, only what opens with your other keys",
        };
        match (Refusal::of_key(newest.key()), here(newest)) {
            (Some(refusal @ Refusal::KeyAlgorithm(name)), _) => found.push(format!(
                "your newest encryption key {id} is {name}: {others}; {}",
                refusal.remedy()
            )),
            (_, false) => {
                let place = Whereabouts::of(newest.key());
                found.push(format!(
                    "the secret of your newest encryption key {id} {}: {others}; --key takes a \
                     file with its secret (gpg --export-secret-keys where it is)",
                    place.sentence()
                ));
            }
            _ => {}
        }
    }
    found.extend(preferences(&valid));
    found
}

/// Tells which of what a certificate asks for is not read.
fn preferences(valid: &ValidCert<'_>) -> Option<String> {
    let by_id = valid.primary_userid().ok();
    let by_id = by_id.as_ref().map(|id| id.binding_signature());
    let signatures = [by_id, valid.direct_key_signature().ok()];
    let signatures: Vec<&Signature> = signatures.into_iter().flatten().collect();
    let ciphers = signatures
        .iter()
        .find_map(|signature| signature.preferred_symmetric_algorithms());
    let cipher = ciphers.and_then(|ciphers| ciphers.first().copied());
    let refusal = cipher
        .and_then(Refusal::of_cipher)
        .or_else(|| signatures.iter().find_map(|signature| mode(signature)))?;
    let what = match refusal {
        Refusal::Cipher(name) => name,
        Refusal::Mode(name) => name,
        _ => return None,
    };
    Some(format!(
        "your key asks others to encrypt with {what} first, which is not read here: gpg --edit-key \
         {} setpref AES256 AES192 AES SHA512 SHA384 SHA256 ZLIB ZIP, then give the others your \
         certificate",
        valid.cert().fingerprint()
    ))
}

/// Tells what is wrong with the mode of authenticated encryption that is asked for first.
fn mode(signature: &Signature) -> Option<Refusal> {
    if let Some(suites) = signature.preferred_aead_ciphersuites() {
        let (cipher, mode) = suites.first()?;
        return Refusal::of_mode(*mode).or_else(|| Refusal::of_aead_cipher(*cipher));
    }
    // As draft-ietf-openpgp-rfc4880bis had it, of which GnuPG writes OCB only.
    #[allow(deprecated)]
    let old = signature.hashed_area().iter().find_map(|subpacket| {
        match (subpacket.tag(), subpacket.value()) {
            (SubpacketTag::PreferredAEADAlgorithms, SubpacketValue::Unknown { body, .. }) => {
                body.first().copied()
            }
            _ => None,
        }
    });
    match old.map(AEADAlgorithm::from) {
        Some(AEADAlgorithm::EAX) => Refusal::of_mode(AEADAlgorithm::EAX),
        _ => None,
    }
}

/// Keys of mine that encrypt to me, with their secrets here, the newest last.
pub(super) fn encryption_keys_here(
    cert: &Cert,
    here: &[Fingerprint],
) -> Vec<super::certificate::PublicKey> {
    let policy = policy();
    let Ok(valid) = cert.with_policy(&policy, SystemTime::now()) else {
        return Vec::new();
    };
    let keys = valid.keys().supported().for_transport_encryption();
    let keys = keys.for_storage_encryption().alive().revoked(false);
    let keys = keys.filter(|key| here.contains(&key.key().fingerprint()));
    let mut keys: Vec<_> = keys
        .map(|key| key.key().clone().role_into_unspecified())
        .collect();
    keys.sort_by_key(|key| key.creation_time());
    keys
}
