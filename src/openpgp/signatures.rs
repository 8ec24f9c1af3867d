//! Judges each signature over a content by itself.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use sequoia_openpgp as pgp;

use pgp::cert::amalgamation::ValidAmalgamation as _;
use pgp::cert::prelude::*;
use pgp::crypto::hash::Context;
use pgp::packet::Signature;
use pgp::packet::signature::subpacket::SubpacketValue;
use pgp::policy::Policy as _;
use pgp::types::{HashAlgorithm, SignatureType};

use super::candidates::{ChangedKeys, candidates};
use super::certificate::{CLOCK_SKEW, revoked};
use super::condition::may_sign;
use super::{Certificate, Keyring, Notations, fingerprint_of, policy, version};
use crate::error::Error;
use crate::ids::{Fingerprint, VersionId};
use crate::plaintext::ReadAt;

/// How many signatures of one blob are verified.
const MOST: usize = 16;
/// How many times the content of one blob is digested: a salt makes each digest another one.
const MOST_DIGESTS: usize = 4;
/// A signature less ahead of our clock than this is not worth a word.
const NOTEWORTHY: Duration = Duration::from_secs(60);

/// The result of verifying one signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignatureStatus {
    /// Made over this content by a key that was valid when it signed.
    Good,
    /// No certificate of its maker is known.
    UnknownKey,
    /// Not valid, and why.
    Bad(String),
}

/// The statements of one signature. All but `status` are mere claims unless that is `Good`.
#[derive(Clone, Debug)]
pub struct SignatureFacts {
    /// Whether it holds.
    pub status: SignatureStatus,
    /// Primary key of the certificate that made it, or, for a bad one, is said to have made it.
    pub signer: Option<Fingerprint>,
    /// Key ids of the keys that are said to have made it, as many as there may be.
    pub issuers: Vec<[u8; 8]>,
    /// When it was made, in whole seconds.
    pub created: Option<SystemTime>,
    /// For whom it was made: all intended recipients in its signed part, known to us or not.
    pub intended: Vec<Fingerprint>,
    /// Its further statements.
    pub notations: Notations,
    /// Identifies the content with its signed statements. `None` if the signature cannot be
    /// read.
    pub version: Option<VersionId>,
}

impl SignatureFacts {
    /// Describes a signature packet that cannot be read.
    pub(super) fn unreadable() -> Self {
        SignatureFacts {
            status: bad("the signature cannot be read"),
            signer: None,
            issuers: Vec::new(),
            created: None,
            intended: Vec::new(),
            notations: Notations::default(),
            version: None,
        }
    }

    /// Tells whether a good signature was made noticeably ahead of our clock.
    pub(super) fn ahead_of(&self, now: SystemTime) -> bool {
        let good = self.status == SignatureStatus::Good;
        good && self
            .created
            .is_some_and(|created| created > now + NOTEWORTHY)
    }
}

impl ChangedKeys {
    /// Tells whether a signature that was judged before must be judged anew.
    pub fn concern(&self, signature: &SignatureFacts) -> bool {
        let mut issuers = signature.issuers.iter();
        issuers.any(|issuer| self.0.contains(&pgp::KeyID::from_bytes(issuer)))
    }
}

/// Judges signatures over one content.
pub(super) struct Judge<'a> {
    pub content: &'a dyn ReadAt,
    /// SHA-256 of the content.
    digest: [u8; 32],
    pub keyring: &'a Keyring<'a>,
    pub now: SystemTime,
    /// Why the content could not be read; then nothing that was judged counts.
    pub failure: Option<Error>,
    /// Digests of the content that need no salt, computed once.
    digests: HashMap<(HashAlgorithm, bool, u8), Context>,
    judged: usize,
    digested: usize,
}

impl<'a> Judge<'a> {
    pub fn new(
        content: &'a dyn ReadAt,
        digest: [u8; 32],
        keyring: &'a Keyring<'a>,
        now: SystemTime,
    ) -> Self {
        Judge {
            content,
            digest,
            keyring,
            now,
            failure: None,
            digests: HashMap::new(),
            judged: 0,
            digested: 0,
        }
    }

    pub fn judge(&mut self, signature: &Signature) -> SignatureFacts {
        let mut facts = SignatureFacts {
            status: SignatureStatus::UnknownKey,
            signer: None,
            issuers: key_ids(signature),
            created: signature.signature_creation_time(),
            intended: intended(signature),
            notations: Notations::read(signature),
            version: Some(version::signed(&self.digest, signature)),
        };
        (facts.status, facts.signer) = self.status(signature);
        facts
    }

    fn status(&mut self, signature: &Signature) -> (SignatureStatus, Option<Fingerprint>) {
        let issuers = signature.get_issuers();
        // Without issuers, every key would match.
        if issuers.is_empty() {
            return (SignatureStatus::UnknownKey, None);
        }
        let mut outcome = (SignatureStatus::UnknownKey, None);
        let keyring = self.keyring;
        let candidates = candidates(keyring.identities, keyring.certificates, &issuers);
        for (certificate, key) in candidates.iter().take(MOST) {
            let signer = certificate.fingerprint();
            let keys = certificate.cert().keys();
            for key in keys.filter(|found| found.key().fingerprint() == *key) {
                match self.verify(signature, certificate, &key) {
                    Ok(()) => return (SignatureStatus::Good, Some(signer)),
                    Err(why) => outcome = (SignatureStatus::Bad(why), Some(signer.clone())),
                }
            }
        }
        outcome
    }

    fn verify(
        &mut self,
        signature: &Signature,
        certificate: &Certificate,
        key: &ErasedKeyAmalgamation<'_, pgp::packet::key::PublicParts>,
    ) -> Result<(), String> {
        self.judged += 1;
        if self.judged > MOST {
            return Err("too many signatures".into());
        }
        let created = signature.signature_creation_time();
        let created = created.ok_or("the signature has no time")?;
        let at = self.now.max(created.min(self.now + CLOCK_SKEW));
        let stale = |_| "the signature is expired or from the future".to_owned();
        signature
            .signature_alive(at, Duration::ZERO)
            .map_err(stale)?;

        let policy = policy();
        let unbound = |why| format!("the key was not valid when it signed: {why:#}");
        let at = binding_time(key, created);
        let key = key.clone().with_policy(&policy, at).map_err(unbound)?;
        let whole = key.valid_cert();
        let expired = |_| "the key was expired when it signed".to_owned();
        whole.alive().map_err(expired)?;
        key.alive().map_err(expired)?;
        if certificate.is_revoked(whole) || revoked(&key.revocation_status()) {
            return Err("the key is revoked".into());
        }
        if !may_sign(&key) {
            return Err("the key is not for signing".into());
        }
        let weak = |why| format!("the signature is too weak: {why:#}");
        policy
            .signature(signature, Default::default())
            .map_err(weak)?;
        if (signature.version() >= 6) != (key.key().version() >= 6) {
            return Err("a signature and a key of different versions".into());
        }
        let digest = self.digest(signature)?;
        let wrong = |_| "the content is not what was signed".to_owned();
        signature.verify_hash(key.key(), digest).map_err(wrong)
    }

    /// Digests the content as the signature wants it (RFC 9580, 5.2.4).
    fn digest(&mut self, signature: &Signature) -> Result<Context, String> {
        let text = match signature.typ() {
            SignatureType::Binary => false,
            SignatureType::Text => true,
            _ => return Err("not a signature over content".into()),
        };
        let algorithm = signature.hash_algo();
        let version = signature.version();
        let key = (algorithm, text, version);
        if let Some(digest) = self.digests.get(&key) {
            return Ok(digest.clone());
        }
        self.digested += 1;
        if self.digested > MOST_DIGESTS {
            return Err("too many kinds of signatures".into());
        }
        let unknown = |_| "unknown digest".to_owned();
        let mut digest = algorithm.context().map_err(unknown)?.for_signature(version);
        if let Some(salt) = salt(signature) {
            digest.update(salt);
        }
        let mut last = 0;
        let fed: Result<(), Error> = self.content.pieces(|piece| {
            if text {
                feed_text(piece, &mut last, |part| digest.update(part));
            } else {
                digest.update(piece);
            }
            Ok(())
        });
        if let Err(why) = fed {
            self.failure = Some(why);
            return Err("the content cannot be read".into());
        }
        if version < 6 {
            self.digests.insert(key, digest.clone());
        }
        Ok(digest)
    }
}

/// Returns the time at which to look at a key that signed at `created`.
///
/// That is `created`, unless the certificate has lost the self-signatures of that time: gpg
/// replaces them whenever an expiry is changed. Then the first later one speaks for the key,
/// provided that the key itself existed.
fn binding_time(
    key: &ErasedKeyAmalgamation<'_, pgp::packet::key::PublicParts>,
    created: SystemTime,
) -> SystemTime {
    let policy = policy();
    let bound = |at: &SystemTime| key.clone().with_policy(&policy, *at).is_ok();
    if bound(&created) || key.key().creation_time() > created {
        return created;
    }
    let cert = key.cert();
    let ids = cert
        .userids()
        .flat_map(|id| id.self_signatures().collect::<Vec<_>>());
    let primary = cert.primary_key();
    let all = key
        .self_signatures()
        .chain(primary.self_signatures())
        .chain(ids);
    let times = all.filter_map(|signature| signature.signature_creation_time());
    let mut times: Vec<SystemTime> = times.filter(|time| *time > created).collect();
    times.sort();
    times.dedup();
    times.truncate(MOST);
    times.into_iter().find(bound).unwrap_or(created)
}

/// Passes text on with every line end (CR, LF, CRLF) as CRLF. `last` is the byte before.
fn feed_text(piece: &[u8], last: &mut u8, mut sink: impl FnMut(&[u8])) {
    let mut start = 0;
    for (i, byte) in piece.iter().enumerate() {
        if matches!(byte, b'\r' | b'\n') {
            sink(&piece[start..i]);
            start = i + 1;
            if !(*byte == b'\n' && *last == b'\r') {
                sink(b"\r\n");
            }
        }
        *last = *byte;
    }
    sink(&piece[start..]);
}

fn key_ids(signature: &Signature) -> Vec<[u8; 8]> {
    let issuers = signature.get_issuers().into_iter().take(MOST);
    let ids = issuers.filter_map(|issuer| pgp::KeyID::from(issuer).as_bytes().try_into().ok());
    ids.collect()
}

fn salt(signature: &Signature) -> Option<&[u8]> {
    match signature {
        Signature::V6(signature) => Some(signature.salt()),
        _ => None,
    }
}

fn intended(signature: &Signature) -> Vec<Fingerprint> {
    let subpackets = signature.hashed_area().iter();
    let intended = subpackets.filter_map(|subpacket| match subpacket.value() {
        SubpacketValue::IntendedRecipient(fingerprint) => fingerprint_of(fingerprint),
        _ => None,
    });
    intended.collect()
}

fn bad(why: &str) -> SignatureStatus {
    SignatureStatus::Bad(why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_digested_with_crlf_whatever_its_pieces() {
        let text = b"a\nb\r\nc\rd\n\ne\r\r\n";
        for cut in 0..text.len() {
            let (mut last, mut out) = (0, Vec::new());
            for piece in [&text[..cut], &text[cut..]] {
                feed_text(piece, &mut last, |part| out.extend_from_slice(part));
            }
            assert_eq!(out, b"a\r\nb\r\nc\r\nd\r\n\r\ne\r\n\r\n", "cut at {cut}");
        }
    }
}
