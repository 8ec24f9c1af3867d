//! Certificates: the public half of a key pair, as others may see it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sequoia_openpgp as pgp;

use pgp::cert::ValidCert;
use pgp::cert::amalgamation::ValidAmalgamation as _;
use pgp::cert::prelude::*;
use pgp::packet::key::{PublicParts, UnspecifiedRole};
use pgp::packet::{Key, Signature};
use pgp::parse::Parse as _;
use pgp::serialize::SerializeInto as _;
use pgp::types::{RevocationStatus, RevocationType};

use super::armor::{self, Label};
use super::packets::{Step, tag, walk, without_blanks};
use super::{failed, fingerprint_of, policy, utf16};
use crate::error::{Error, Kind, Result};
use crate::ids::Fingerprint;

/// Largest certificate that is read, in bytes: a larger one was flooded with signatures.
const LARGEST: usize = 1 << 20;
/// How far ahead of our clock a certificate may have been made.
pub(super) const CLOCK_SKEW: Duration = Duration::from_secs(48 * 3600);

/// A public key of whatever use.
pub(super) type PublicKey = Key<PublicParts, UnspecifiedRole>;

/// The public parts of one certificate. Cloning is cheap.
#[derive(Clone, PartialEq)]
pub struct Certificate {
    cert: Arc<Cert>,
    /// Revocations in `cert` by keys that its owner named for that, checked.
    by_revokers: Arc<Vec<Signature>>,
}

/// A user id that its own certificate vouches for (nobody else does).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserId {
    /// The whole of it; hostile text.
    pub text: String,
    /// The part before the address, if there is one.
    pub name: Option<String>,
    /// The e-mail address in lower case, if there is one.
    pub email: Option<String>,
}

impl UserId {
    pub(super) fn of(id: &pgp::packet::UserID) -> UserId {
        UserId {
            text: String::from_utf8_lossy(id.value()).into_owned(),
            name: id.name().ok().flatten().map(str::to_owned),
            email: id.email().ok().flatten().map(str::to_lowercase),
        }
    }
}

impl Certificate {
    /// Reads all certificates of a file, armored (also several blocks) or binary.
    ///
    /// # Errors
    /// `Invalid` if the file holds a secret key or anything that is not a certificate, if it
    /// holds none, or if one is larger than 1 MiB.
    pub fn parse_all(bytes: &[u8]) -> Result<Vec<Certificate>> {
        if holds_secret_key(bytes) {
            return Err(invalid("holds a secret key, which must never be shared"));
        }
        let mut all = Vec::new();
        for body in bodies(bytes)? {
            let body = body.ok_or_else(|| invalid("not a whole certificate"))?;
            for cert in certs(&body)? {
                all.push(Certificate::new(cert)?);
            }
        }
        if all.is_empty() {
            return Err(invalid("no certificate in it"));
        }
        Ok(all)
    }

    /// Keeps the public parts of a certificate.
    pub(super) fn new(cert: Cert) -> Result<Certificate> {
        let cert = cert.strip_secret_key_material();
        fingerprint_of(&cert.fingerprint())
            .ok_or_else(|| invalid("a certificate of an unsupported version"))?;
        // Some malformed signatures can be read but not written.
        let unwritable = |why| failed(Kind::Invalid, "not a certificate", why);
        cert.to_vec().map_err(unwritable)?;
        Ok(Certificate {
            cert: Arc::new(cert),
            by_revokers: Arc::default(),
        })
    }

    /// Takes the revocations by other keys that stand in it as checked: it is our own copy.
    pub(super) fn with_checked_revocations(mut self) -> Certificate {
        let primary = self.cert.primary_key();
        self.by_revokers = Arc::new(primary.other_revocations().cloned().collect());
        self
    }

    /// Leaves out revocations by others, even by those whom the owner named: a file in `keys/` is
    /// read without them, too.
    #[must_use]
    pub fn as_its_owner_says(&self) -> Certificate {
        Certificate {
            cert: Arc::clone(&self.cert),
            by_revokers: Arc::default(),
        }
    }

    /// Tells whether a signature is a checked revocation by a key that its owner named for that.
    pub(super) fn has_revocation(&self, one: &Signature) -> bool {
        self.by_revokers
            .iter()
            .any(|known| known.normalized_eq(one))
    }

    /// Revocations by keys that its owner named for that, checked.
    pub(super) fn by_revokers(&self) -> &[Signature] {
        &self.by_revokers
    }

    /// Adds a revocation by a key that its owner named for that, which was checked.
    pub(super) fn with_revocation(&self, by_revoker: Signature) -> Result<Certificate> {
        let cert = Cert::clone(&self.cert).insert_packets([by_revoker.clone()]);
        let (cert, _) = cert.map_err(|why| failed(Kind::Invalid, "not a certificate", why))?;
        let mut all = self.by_revokers.to_vec();
        all.push(by_revoker);
        Ok(Certificate {
            cert: Arc::new(cert),
            by_revokers: Arc::new(all),
        })
    }

    /// Returns the revocations of the whole certificate that are in force when `valid` is: by its
    /// owner, and by keys that the owner named for that.
    pub(super) fn revocations<'a>(&self, valid: &ValidCert<'a>) -> Vec<&'a Signature> {
        match valid.revocation_status() {
            RevocationStatus::Revoked(by) => by,
            // Not as the library lists those that could be: it leaves out weak digests, but a false
            // alarm is better than none.
            RevocationStatus::CouldBe(_) | RevocationStatus::NotAsFarAsWeKnow => {
                let by_others = valid.cert().primary_key().other_revocations();
                by_others
                    .filter(|one| self.has_revocation(one) && is_in_force(one, valid))
                    .collect()
            }
        }
    }

    /// Tells whether the whole certificate is revoked when `valid` is in force.
    pub(super) fn is_revoked(&self, valid: &ValidCert<'_>) -> bool {
        !self.revocations(valid).is_empty()
    }

    pub(super) fn cert(&self) -> &Cert {
        &self.cert
    }

    /// Tells whether a key id or fingerprint is that of one of its keys.
    pub(super) fn has_key(&self, handle: &pgp::KeyHandle) -> bool {
        let mut keys = self.cert().keys();
        keys.any(|key| handle.aliases(pgp::KeyHandle::from(key.key().fingerprint())))
    }

    /// Returns the fingerprint of the primary key, which names the certificate.
    pub fn fingerprint(&self) -> Fingerprint {
        fingerprint_of(&self.cert.fingerprint()).expect("checked when it was made")
    }

    /// Returns the user ids that are bound by a valid self-signature and not revoked, the
    /// primary one first.
    ///
    /// Where there are none, those that are bound by a signature that is good but no longer
    /// accepted, so that the owner of an old certificate has a name.
    pub fn user_ids(&self) -> Vec<UserId> {
        let policy = policy();
        let mut ids = Vec::new();
        if let Ok(valid) = at_present(&self.cert, &policy) {
            let found = valid.userids();
            let found = found.filter(|id| !revoked(&id.revocation_status()));
            ids.extend(found.map(|id| UserId::of(id.userid())));
            if let Ok(primary) = valid.primary_userid() {
                let text = String::from_utf8_lossy(primary.userid().value());
                ids.sort_by_key(|id| id.text != text);
            }
        }
        match ids.is_empty() {
            true => self.weak_user_ids(),
            false => ids,
        }
    }

    /// Lists the keys whose revocation of the whole certificate its owner accepts beforehand
    /// (RFC 9580, 5.2.3.23).
    pub fn revokers(&self) -> Vec<Fingerprint> {
        let policy = policy();
        let named = self.cert.revocation_keys(&policy);
        named
            .filter_map(|named| fingerprint_of(named.revoker().1))
            .collect()
    }

    /// Tells whether messages can be encrypted for this certificate now.
    ///
    /// # Errors
    /// `KeyRevoked`, `KeyExpired`, or `NoKey` if it never had a usable encryption key. The
    /// sentence does not name the certificate's owner.
    pub fn check_encryption(&self) -> Result<()> {
        self.encryption_key().map(|_| ())
    }

    /// Merges two copies of one certificate. No revocation is ever lost.
    ///
    /// # Errors
    /// `KeyRejected` if the primary keys differ.
    pub fn merge(&self, other: &Certificate) -> Result<Certificate> {
        if self.cert.fingerprint() != other.cert.fingerprint() {
            let why = "the certificate belongs to another key";
            return Err(Error::new(Kind::KeyRejected, why));
        }
        let merged = Cert::clone(&self.cert).merge_public(Cert::clone(&other.cert));
        let merged = merged.map_err(|why| failed(Kind::KeyRejected, "merging", why))?;
        let mut by_revokers = self.by_revokers.to_vec();
        let new = other.by_revokers().iter();
        by_revokers.extend(new.filter(|one| !self.has_revocation(one)).cloned());
        Ok(Certificate {
            cert: Arc::new(merged),
            by_revokers: Arc::new(by_revokers),
        })
    }

    /// Tells whether its owner reads SEIPD version 2 (RFC 9580, 5.13.2).
    pub fn announces_seipdv2(&self) -> bool {
        let policy = policy();
        let features = at_present(&self.cert, &policy).ok();
        let features = features.and_then(|valid| valid.features());
        features.is_some_and(|features| features.supports_seipdv2())
    }

    /// Returns the certificate in binary form.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.cert.to_vec().expect("tried when it was made")
    }

    /// Returns the certificate as an armored block without comments.
    pub fn to_armored(&self) -> Vec<u8> {
        armored(pgp::armor::Kind::PublicKey, &[], &self.to_bytes())
    }
}

/// Tells whether a file holds a secret key, armored or binary, whole or cut off.
///
/// Errs on the side of yes: the words of a private key's armor anywhere are enough.
pub fn holds_secret_key(bytes: &[u8]) -> bool {
    // A file that begins as UTF-16 may continue as anything else.
    let text = utf16::text_of(bytes);
    shows_secret_key(bytes) || text.is_some_and(|text| shows_secret_key(&text))
}

fn shows_secret_key(bytes: &[u8]) -> bool {
    let says_so = |word: &[u8]| bytes.windows(word.len()).any(|found| found == word);
    if says_so(b"PGP PRIVATE KEY BLOCK") || says_so(b"PGP SECRET KEY BLOCK") {
        return true;
    }
    if armor::is_binary(bytes) {
        return has_secret_packet(bytes);
    }
    let mut rest = bytes;
    while let Some(block) = armor::next_block(rest) {
        if block.label == Label::PrivateKey
            || block.body.is_some_and(|body| has_secret_packet(&body))
        {
            return true;
        }
        rest = block.rest;
    }
    false
}

/// Looks for a secret key packet, even one that is cut off.
fn has_secret_packet(bytes: &[u8]) -> bool {
    let mut found = false;
    // That it is cut off makes it no less secret.
    let _ = walk(bytes, |step| {
        found |= matches!(step, Step::Begins(tag::SECRET_KEY | tag::SECRET_SUBKEY));
    });
    found
}

/// The packets of a file of keys, block by block; `None` for a block that cannot be read.
///
/// # Errors
/// `Invalid` for armor in UTF-16.
pub(super) fn bodies(bytes: &[u8]) -> Result<Vec<Option<Vec<u8>>>> {
    if let Some(text) = utf16::text_of(bytes) {
        return match armor::next_block(&text) {
            Some(_) => Err(invalid(
                "text in UTF-16; gpg --armor --output FILE writes ASCII (in PowerShell, > does not)",
            )),
            None => Ok(Vec::new()),
        };
    }
    if armor::is_binary(bytes) {
        return Ok(vec![Some(without_blanks(bytes).to_vec())]);
    }
    let mut bodies = Vec::new();
    let mut rest = bytes;
    while let Some(block) = armor::next_block(rest) {
        let keys = matches!(block.label, Label::PublicKey | Label::PrivateKey);
        bodies.push(block.body.filter(|_| block.whole && keys));
        rest = block.rest;
    }
    Ok(bodies)
}

/// Reads the certificates (with secret keys, if any) of one binary file.
pub(super) fn certs(bytes: &[u8]) -> Result<Vec<Cert>> {
    if walk(bytes, |_| {}).is_err() {
        return Err(invalid("not a whole certificate"));
    }
    let unreadable = |why| failed(Kind::Invalid, "not a certificate", why);
    let all = CertParser::from_bytes(bytes).map_err(unreadable)?;
    let all: Vec<Cert> = all.collect::<pgp::Result<_>>().map_err(unreadable)?;
    for cert in &all {
        if cert.serialized_len() > LARGEST {
            return Err(invalid("a certificate larger than 1 MiB"));
        }
    }
    Ok(all)
}

/// Armors bytes with comment lines.
pub(super) fn armored(kind: pgp::armor::Kind, comments: &[&str], bytes: &[u8]) -> Vec<u8> {
    let headers = comments.iter().map(|comment| ("Comment", *comment));
    let write = || -> std::io::Result<Vec<u8>> {
        // Large enough from the start, so that growing leaves no copy of a secret key behind.
        let room = Vec::with_capacity(2 * bytes.len() + 1024);
        let mut out = pgp::armor::Writer::with_headers(room, kind, headers)?;
        std::io::Write::write_all(&mut out, bytes)?;
        out.finalize()
    };
    write().expect("writing to a vector")
}

/// Returns the certificate as its self-signatures stand now.
///
/// A certificate from a clock somewhat ahead of ours counts as made now.
pub(super) fn at_present<'a>(
    cert: &'a Cert,
    policy: &'a pgp::policy::StandardPolicy<'_>,
) -> Result<ValidCert<'a>> {
    let now = SystemTime::now();
    let made = cert.primary_key().key().creation_time();
    let early = made > now && made <= now + CLOCK_SKEW;
    let at = if early { now + CLOCK_SKEW } else { now };
    let unusable = |why| failed(Kind::NoKey, "the certificate cannot be used", why);
    cert.with_policy(policy, at).map_err(unusable)
}

pub(super) fn revoked(status: &RevocationStatus<'_>) -> bool {
    matches!(status, RevocationStatus::Revoked(_))
}

/// Orders keys by age, and keys made in the same second by fingerprint.
pub(super) fn age(
    key: &ValidErasedKeyAmalgamation<'_, PublicParts>,
) -> (SystemTime, pgp::Fingerprint) {
    (key.key().creation_time(), key.key().fingerprint())
}

fn invalid(why: &str) -> Error {
    Error::new(Kind::Invalid, why)
}
/// Tells whether a revocation of a whole certificate counts at the time of `valid`: one that says
/// that the key is lost or stolen always does; one that retires it, from its time on, unless
/// the owner has vouched for the key since.
fn is_in_force(revocation: &Signature, valid: &ValidCert<'_>) -> bool {
    let kind = revocation.reason_for_revocation();
    let kind = kind.map_or(RevocationType::Hard, |(reason, _)| reason.revocation_type());
    let made = revocation.signature_creation_time();
    let vouched = valid.primary_key().binding_signature();
    match kind {
        RevocationType::Hard => true,
        RevocationType::Soft => {
            made.is_some_and(|made| made <= valid.time())
                && made >= vouched.signature_creation_time()
        }
    }
}
