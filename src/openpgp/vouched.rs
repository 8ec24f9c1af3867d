//! Reduces a certificate to the parts that its primary key vouches for.
//!
//! Anybody may add packets to a certificate on its way: user ids that nobody signed, signatures
//! by other keys, text in the part of a signature that is not signed. None of that is kept. The
//! rest is bounded in number and in bytes, so that a certificate can be merged with any copy for as
//! long as its owner is a contact.

use sequoia_openpgp as pgp;

use pgp::Packet;
use pgp::cert::prelude::*;
use pgp::packet::key::{PublicParts, SubordinateRole};
use pgp::packet::signature::subpacket::{Subpacket, SubpacketTag, SubpacketValue};
use pgp::packet::{Key, Signature};
use pgp::serialize::SerializeInto as _;

use super::{Certificate, failed};
use crate::error::{Error, Kind, Result};

/// Signatures that are kept over one part of a certificate, at first and where that is too much.
const MOST_SIGNATURES: [usize; 4] = [24, 8, 2, 1];
/// Revocations that are kept of one part.
const MOST_REVOCATIONS: usize = 8;
/// User ids, and subkeys, that are kept.
const MOST_PARTS: usize = 64;
/// Bytes of the result.
const LARGEST: usize = 256 << 10;

/// Returns the parts of a certificate that its primary key vouches for: itself, user ids and
/// subkeys with their signatures by it, newest first, and its revocations, of which those in
/// `before` go first, besides those by revokers whom it names.
///
/// # Errors
/// `TooLarge` if that is over 256 KiB even with one signature each; `Invalid` if the library
/// cannot put it together.
pub(super) fn vouched(
    cert: &Cert,
    before: Option<&Cert>,
    by_revokers: &[Signature],
) -> Result<Cert> {
    for most in MOST_SIGNATURES {
        let lean = lean(cert, before, by_revokers, most)?;
        if lean.serialized_len() <= LARGEST {
            return Ok(lean);
        }
    }
    let why = "the certificate is too large, even without what others added to it";
    Err(Error::new(Kind::TooLarge, why))
}

/// Tells whether a certificate has every revocation that another copy of it has.
fn covers(new: &Certificate, old: &Certificate) -> bool {
    if !old.by_revokers().iter().all(|one| new.has_revocation(one)) {
        return false;
    }
    let (new, old) = (new.cert(), old.cert());
    let there = revocations(new);
    let same_part = |(part, one): &(Part, Signature)| {
        let mut found = there.iter();
        found.any(|(of, other)| of == part && other.normalized_eq(one))
    };
    revocations(old).iter().all(same_part)
}

/// The part of a certificate that a revocation is over.
#[derive(PartialEq)]
enum Part {
    Primary,
    UserId(Vec<u8>),
    Subkey(pgp::Fingerprint),
}

fn revocations(cert: &Cert) -> Vec<(Part, Signature)> {
    let primary = cert.primary_key();
    let primary = primary.self_revocations();
    let mut all: Vec<_> = primary.map(|r| (Part::Primary, r.clone())).collect();
    for id in cert.userids() {
        let part = || Part::UserId(id.userid().value().to_vec());
        all.extend(id.self_revocations().map(|r| (part(), r.clone())));
    }
    for key in cert.keys().subkeys() {
        let part = || Part::Subkey(key.key().fingerprint());
        all.extend(key.self_revocations().map(|r| (part(), r.clone())));
    }
    all
}

impl Certificate {
    /// Joins a contact's kept copy with a copy from elsewhere, for being kept in its place.
    ///
    /// The result has only parts that the primary key vouches for, it was read back from its bytes,
    /// and it has no less revocation than `self`.
    ///
    /// # Errors
    /// `KeyRejected` if the primary keys differ; `Invalid` or `TooLarge` if there is no such
    /// result: then the copy must stay as it is.
    pub fn grown(&self, seen: &Certificate) -> Result<Certificate> {
        let merged = self.merge(seen)?;
        let by_revokers = merged.by_revokers();
        let lean = vouched(merged.cert(), Some(self.cert()), by_revokers)?;
        let lean = Certificate::new(lean)?;
        let kept = Certificate::read_kept(&lean.to_bytes())?;
        if kept.fingerprint() != self.fingerprint() || !covers(&kept, self) {
            let why = "the copy of the certificate would lose a revocation";
            return Err(Error::new(Kind::Invalid, why));
        }
        // An unchanged one stays the same object, with the signatures it has verified.
        Ok(match kept.cert() == self.cert() {
            true => self.clone(),
            false => kept,
        })
    }
}

fn lean(
    cert: &Cert,
    before: Option<&Cert>,
    by_revokers: &[Signature],
    most: usize,
) -> Result<Cert> {
    let before = before.map(revocations).unwrap_or_default();
    let issuer = cert.fingerprint();
    let primary = cert.primary_key();
    let mut packets = vec![Packet::from(primary.key().clone())];
    let revoked = chosen_revocations(&Part::Primary, primary.self_revocations(), &before);
    let direct = newest(primary.self_signatures(), most);
    let add = |packets: &mut Vec<Packet>, signature: &Signature, subkey: Option<&Subkey>| {
        packets.push(strip(signature, &issuer, primary.key(), subkey)?.into());
        Ok::<(), Error>(())
    };
    for signature in revoked.into_iter().chain(direct) {
        add(&mut packets, signature, None)?;
    }
    for revocation in by_revokers.iter().take(MOST_REVOCATIONS) {
        packets.push(signed_part(revocation)?.into());
    }
    let mut user_ids = 0;
    for id in cert.userids() {
        let part = Part::UserId(id.userid().value().to_vec());
        let revoked = chosen_revocations(&part, id.self_revocations(), &before);
        let bound = newest(id.self_signatures(), most);
        let known = before.iter().any(|(of, _)| *of == part);
        if bound.is_empty() && revoked.is_empty() || user_ids == MOST_PARTS && !known {
            continue;
        }
        user_ids += 1;
        packets.push(id.userid().clone().into());
        for signature in revoked.into_iter().chain(bound) {
            add(&mut packets, signature, None)?;
        }
    }
    let mut subkeys = 0;
    for key in cert.keys().subkeys() {
        let part = Part::Subkey(key.key().fingerprint());
        let revoked = chosen_revocations(&part, key.self_revocations(), &before);
        let bound = newest(key.self_signatures(), most);
        let known = before.iter().any(|(of, _)| *of == part);
        if bound.is_empty() && revoked.is_empty() || subkeys == MOST_PARTS && !known {
            continue;
        }
        subkeys += 1;
        packets.push(key.key().clone().into());
        for signature in revoked.into_iter().chain(bound) {
            add(&mut packets, signature, Some(key.key()))?;
        }
    }
    let malformed = |why| failed(Kind::Invalid, "not a certificate", why);
    Cert::from_packets(packets.into_iter()).map_err(malformed)
}

type Subkey = Key<PublicParts, SubordinateRole>;

fn newest<'a>(signatures: impl Iterator<Item = &'a Signature>, most: usize) -> Vec<&'a Signature> {
    let mut signatures: Vec<&Signature> = signatures.collect();
    signatures.sort_by_key(|one| std::cmp::Reverse(one.signature_creation_time()));
    signatures.truncate(most);
    signatures
}

/// Chooses the revocations of one part: those that were known before, then the newest.
fn chosen_revocations<'a>(
    part: &Part,
    revocations: impl Iterator<Item = &'a Signature>,
    before: &[(Part, Signature)],
) -> Vec<&'a Signature> {
    let known = |one: &Signature| {
        let mut before = before.iter();
        before.any(|(of, other)| of == part && other.normalized_eq(one))
    };
    let mut all = newest(revocations, usize::MAX);
    all.sort_by_key(|one| !known(one));
    let kept = all.iter().filter(|one| known(one)).count();
    all.truncate(kept.max(MOST_REVOCATIONS));
    all
}

/// Removes from a signature the fields that it does not cover itself, except its issuer and the
/// signature by which a subkey agrees.
fn strip(
    signature: &Signature,
    issuer: &pgp::Fingerprint,
    primary: &Key<PublicParts, pgp::packet::key::PrimaryRole>,
    subkey: Option<&Subkey>,
) -> Result<Signature> {
    let mut lean = signature.clone();
    if lean.version() < 4 {
        return Ok(lean);
    }
    let agreed = subkey.and_then(|subkey| agreement(signature, primary, subkey));
    let unwritable = |why| failed(Kind::Invalid, "not a certificate", why);
    let add = |signature: &mut Signature, value| {
        let subpacket = Subpacket::new(value, false).map_err(unwritable)?;
        let area = signature.unhashed_area_mut();
        area.add(subpacket).map_err(unwritable)
    };
    lean.unhashed_area_mut().clear();
    if lean.version() == 4 {
        add(&mut lean, SubpacketValue::Issuer(issuer.into()))?;
    }
    let hashed = signature.hashed_area();
    if let (Some(mut agreed), None) = (agreed, hashed.subpacket(SubpacketTag::EmbeddedSignature)) {
        agreed.unhashed_area_mut().clear();
        if let (4, Some(subkey)) = (agreed.version(), subkey) {
            let subkey = subkey.keyid();
            add(&mut agreed, SubpacketValue::Issuer(subkey))?;
        }
        add(&mut lean, SubpacketValue::EmbeddedSignature(agreed))?;
    }
    Ok(lean)
}

/// Removes from another key's signature the fields that it does not cover itself, except its
/// issuer.
fn signed_part(signature: &Signature) -> Result<Signature> {
    let mut lean = signature.clone();
    let issuers = signature.get_issuers();
    lean.unhashed_area_mut().clear();
    if let (4, true) = (lean.version(), lean.get_issuers().is_empty()) {
        for issuer in issuers {
            let unwritable = |why| failed(Kind::Invalid, "not a certificate", why);
            let issuer = SubpacketValue::Issuer(issuer.into());
            let subpacket = Subpacket::new(issuer, false).map_err(unwritable)?;
            lean.unhashed_area_mut()
                .add(subpacket)
                .map_err(unwritable)?;
        }
    }
    Ok(lean)
}

/// Finds the signature inside a binding by which a subkey agrees to belong to a primary key.
pub(super) fn agreement(
    binding: &Signature,
    primary: &Key<PublicParts, pgp::packet::key::PrimaryRole>,
    subkey: &Subkey,
) -> Option<Signature> {
    let embedded = binding.subpackets(SubpacketTag::EmbeddedSignature);
    let mut embedded = embedded.filter_map(|subpacket| {
        let SubpacketValue::EmbeddedSignature(signature) = subpacket.value() else {
            return None;
        };
        let good = signature.verify_primary_key_binding(primary, subkey);
        good.is_ok().then(|| signature.clone())
    });
    embedded.next()
}

/// Tells whether a key of a certificate may sign for it: the primary key, or a subkey that agrees to be
/// part of it.
pub(super) fn agrees(cert: &Cert, key: &pgp::Fingerprint) -> bool {
    let primary = cert.primary_key().key();
    let mut subkeys = cert.keys().subkeys();
    *key == primary.fingerprint()
        || subkeys.any(|subkey| {
            let by = |binding: &Signature| agreement(binding, primary, subkey.key()).is_some();
            subkey.key().fingerprint() == *key
                && subkey.key().pk_algo().for_signing()
                && subkey.self_signatures().any(by)
        })
}
