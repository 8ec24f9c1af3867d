//! The condition of a certificate: whether it can be used now and how long, and if not, why.

use std::time::SystemTime;

use sequoia_openpgp as pgp;

use pgp::cert::amalgamation::ValidAmalgamation as _;
use pgp::cert::prelude::*;
use pgp::packet::key::PublicParts;
use pgp::policy::{AsymmetricAlgorithm, StandardPolicy};
use pgp::types::{HashAlgorithm, KeyFlags, ReasonForRevocation, SignatureType};

use super::certificate::{PublicKey, age, at_present, revoked};
use super::{Certificate, Refusal, UserId, policy};
use crate::error::{Error, Kind, Result};

/// The condition of a certificate now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Messages can be encrypted for it, and until when; `None` for ever.
    Usable(Option<SystemTime>),
    /// Its owner has revoked it, or a key that the owner named for that.
    Revoked {
        /// The revoker's words, and the reason that they chose from the list. Hostile text.
        reason: String,
        /// Another key took its place, or it is no longer used: it was not said to be stolen.
        retired: bool,
    },
    /// It expired then.
    Expired(SystemTime),
    /// Its primary key is of an algorithm that is not supported here; which one.
    UnsupportedKey(&'static str),
    /// Its primary key is of an algorithm or a size that is no longer accepted; which one.
    WeakKey(String),
    /// Its primary key signed it by a digest that is no longer accepted; which one.
    WeakSignatures(String),
    /// Its primary key vouches for nothing in it.
    Unsigned,
    /// It is in order but has no key to encrypt for, and why.
    NoEncryption(String),
}

impl Certificate {
    /// Returns the condition of the certificate now.
    pub fn condition(&self) -> Condition {
        let policy = policy();
        let Ok(valid) = at_present(self.cert(), &policy) else {
            return self.weakness();
        };
        let by = self.revocations(&valid);
        if !by.is_empty() {
            let (reason, retired) = why_revoked(&by);
            return Condition::Revoked { reason, retired };
        }
        let expires = valid.primary_key().key_expiration_time();
        if valid.alive().is_err() {
            return Condition::Expired(expires.unwrap_or(SystemTime::UNIX_EPOCH));
        }
        match best_encryption_key(&valid) {
            Ok(key) => {
                let ends = [expires, key.key_expiration_time()];
                Condition::Usable(ends.into_iter().flatten().min())
            }
            Err(error) => Condition::NoEncryption(error.to_string()),
        }
    }

    /// Finds out why the certificate is not valid at all.
    fn weakness(&self) -> Condition {
        // Whatever it signed cannot be checked.
        if let Some(name) = self.unsupported_primary() {
            return Condition::UnsupportedKey(name);
        }
        let mut policy = StandardPolicy::new();
        for digest in [
            HashAlgorithm::MD5,
            HashAlgorithm::SHA1,
            HashAlgorithm::RipeMD,
        ] {
            policy.accept_hash(digest);
        }
        if at_present(self.cert(), &policy).is_ok() {
            let digests = self
                .self_signatures()
                .map(|signature| signature.hash_algo());
            let digest = digests.last().map_or("SHA-1", digest_name);
            return Condition::WeakSignatures(digest.to_owned());
        }
        for algorithm in [
            AsymmetricAlgorithm::RSA1024,
            AsymmetricAlgorithm::DSA1024,
            AsymmetricAlgorithm::DSA2048,
            AsymmetricAlgorithm::DSA3072,
            AsymmetricAlgorithm::DSA4096,
            AsymmetricAlgorithm::Unknown,
        ] {
            policy.accept_asymmetric_algo(algorithm);
        }
        if at_present(self.cert(), &policy).is_ok() {
            let key = self.cert().primary_key().key();
            let bits = key.mpis().bits();
            let bits = bits.map_or_else(String::new, |bits| format!(" of {bits} bits"));
            return Condition::WeakKey(format!("{}{bits}", algorithm_name(key)));
        }
        Condition::Unsigned
    }

    /// Names the algorithm of the primary key, if it is not supported.
    pub(super) fn unsupported_primary(&self) -> Option<&'static str> {
        unsupported(self.cert().primary_key().key())
    }

    /// All signatures by which the primary key vouches for itself and for user ids, oldest first.
    fn self_signatures(&self) -> impl Iterator<Item = &pgp::packet::Signature> {
        let cert = self.cert();
        let ids = cert.userids();
        let ids = ids.flat_map(|id| id.self_signatures().collect::<Vec<_>>());
        let mut all: Vec<_> = cert.primary_key().self_signatures().chain(ids).collect();
        all.sort_by_key(|signature| signature.signature_creation_time());
        all.into_iter()
    }

    /// Picks the one key to encrypt for: the newest usable one, as gpg does.
    pub(super) fn encryption_key(&self) -> Result<PublicKey> {
        let policy = policy();
        let valid = match at_present(self.cert(), &policy) {
            Ok(valid) => valid,
            Err(_) => return Err(Error::new(Kind::NoKey, self.weakness().to_string())),
        };
        if self.is_revoked(&valid) {
            return Err(Error::new(Kind::KeyRevoked, "the certificate is revoked"));
        }
        if valid.alive().is_err() {
            return Err(Error::new(Kind::KeyExpired, "the certificate is expired"));
        }
        let best = best_encryption_key(&valid)?;
        Ok(best.key().clone().role_into_unspecified())
    }

    /// Returns user ids that the primary key vouches for by a digest or a key that is no longer
    /// accepted. They are names to call somebody by, and prove nothing.
    pub(super) fn weak_user_ids(&self) -> Vec<UserId> {
        let ids = self.cert().userids();
        if self.unsupported_primary().is_some() {
            return ids.map(|id| UserId::of(id.userid())).collect();
        }
        let ids = ids.filter(|id| id.self_revocations().next().is_none());
        let ids = ids.filter(|id| {
            let mut signatures = id.self_signatures();
            signatures.any(|signature| signature.typ() != SignatureType::CertificationRevocation)
        });
        ids.map(|id| UserId::of(id.userid())).collect()
    }
}

/// Displays as words that follow the certificate's owner, as in "... is revoked".
impl std::fmt::Display for Condition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Condition::Usable(_) => f.write_str("the certificate can be used"),
            Condition::Revoked { .. } => f.write_str("the certificate is revoked"),
            Condition::Expired(_) => f.write_str("the certificate is expired"),
            Condition::UnsupportedKey(key) => write!(
                f,
                "the certificate cannot be used: its key is {key}, which is not supported"
            ),
            Condition::WeakKey(key) => write!(
                f,
                "the certificate cannot be used: its key is {key}, which is too weak"
            ),
            Condition::WeakSignatures(digest) => write!(
                f,
                "the certificate cannot be used: it is signed with {digest}, which is too weak"
            ),
            Condition::Unsigned => {
                f.write_str("the certificate cannot be used: its key has signed nothing in it")
            }
            Condition::NoEncryption(why) => f.write_str(why),
        }
    }
}

/// Names the algorithm of a primary key, if it is not supported.
pub(super) fn unsupported(
    key: &pgp::packet::Key<PublicParts, pgp::packet::key::PrimaryRole>,
) -> Option<&'static str> {
    match Refusal::of_key(key) {
        Some(Refusal::KeyAlgorithm("unknown")) => Some("of an unknown kind"),
        Some(Refusal::KeyAlgorithm(name)) => Some(name),
        _ => None,
    }
}

fn best_encryption_key<'a>(
    valid: &ValidCert<'a>,
) -> Result<ValidErasedKeyAmalgamation<'a, PublicParts>> {
    let keys = valid.keys().supported().filter(may_encrypt);
    let (mut lost, mut best) = (Kind::NoKey, None::<ValidErasedKeyAmalgamation<'_, _>>);
    // gpg takes the primary key only where no subkey can be used.
    let rank = |key: &ValidErasedKeyAmalgamation<'_, _>| (!key.primary(), age(key));
    for key in keys {
        if revoked(&key.revocation_status()) {
            lost = Kind::KeyRevoked;
        } else if key.alive().is_err() {
            lost = match lost {
                Kind::NoKey => Kind::KeyExpired,
                _ => lost,
            };
        } else if best.as_ref().is_none_or(|best| rank(best) < rank(&key)) {
            best = Some(key);
        }
    }
    let why = match lost {
        Kind::KeyRevoked => "the encryption key is revoked",
        Kind::KeyExpired => "the encryption key is expired",
        _ => "the certificate has no encryption key that can be used",
    };
    best.ok_or_else(|| Error::new(lost, why))
}

/// Tells whether a key may sign: as its flags say, or, without flags, as its algorithm can.
pub(super) fn may_sign(key: &ValidErasedKeyAmalgamation<'_, PublicParts>) -> bool {
    match flags(key) {
        Some(flags) => flags.for_signing(),
        None => key.key().pk_algo().for_signing(),
    }
}

/// Tells whether a key may be encrypted for: as its flags say, or, without flags, as its algorithm
/// can.
pub(super) fn may_encrypt(key: &ValidErasedKeyAmalgamation<'_, PublicParts>) -> bool {
    match flags(key) {
        Some(flags) => flags.for_transport_encryption() || flags.for_storage_encryption(),
        None => key.key().pk_algo().for_encryption(),
    }
}

/// Returns the uses of a key; some programs (PGPy, Bouncy Castle) do not state any.
fn flags(key: &ValidErasedKeyAmalgamation<'_, PublicParts>) -> Option<KeyFlags> {
    match key.primary() {
        true => key.key_flags(),
        false => key.binding_signature().key_flags(),
    }
}

fn why_revoked(by: &[&pgp::packet::Signature]) -> (String, bool) {
    let said = by
        .iter()
        .filter_map(|signature| signature.reason_for_revocation());
    let said: Vec<_> = said.collect();
    let retired = said.len() == by.len()
        && said.iter().all(|(reason, _)| {
            use ReasonForRevocation as Reason;
            matches!(reason, Reason::KeySuperseded | Reason::KeyRetired)
        });
    let words = said.first().map_or_else(String::new, |(reason, text)| {
        let text = String::from_utf8_lossy(text);
        let text: String = text.chars().take(120).collect();
        match (reason, text.is_empty()) {
            (ReasonForRevocation::Unspecified, _) => text,
            (_, true) => reason.to_string(),
            (_, false) => format!("{reason}: {text}"),
        }
    });
    (words, retired)
}

/// The name of a digest that is too weak.
pub(super) fn digest_name(digest: HashAlgorithm) -> &'static str {
    match digest {
        HashAlgorithm::MD5 => "MD5",
        HashAlgorithm::RipeMD => "RIPEMD-160",
        _ => "SHA-1",
    }
}

fn algorithm_name(key: &pgp::packet::Key<PublicParts, pgp::packet::key::PrimaryRole>) -> String {
    use pgp::types::PublicKeyAlgorithm as Algorithm;
    #[allow(deprecated)] // This is about old keys.
    match key.pk_algo() {
        Algorithm::RSAEncryptSign | Algorithm::RSAEncrypt | Algorithm::RSASign => "RSA".to_owned(),
        Algorithm::DSA => "DSA".to_owned(),
        other => other.to_string(),
    }
}
