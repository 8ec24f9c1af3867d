//! Signatures by the keys of contacts in other certificates: that a user id belongs to the key
//! there, or no longer does, and that a key is revoked whose owner named the contact for that.
//!
//! Nothing else that others sign in a certificate is looked at. These signatures are kept beside
//! the certificate as they were found, bounded, and checked with the contact's certificate. Only a
//! revocation by a named revoker then becomes part of the certificate.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use sequoia_openpgp as pgp;

use pgp::Packet;
use pgp::packet::{Signature, UserID};
use pgp::parse::Parse as _;
use pgp::policy::{HashAlgoSecurity, Policy as _, StandardPolicy};
use pgp::types::SignatureType;

use super::certificate::{CLOCK_SKEW, PublicKey};
use super::vouched::agreement;
use super::{Certificate, UserId, policy};

/// Signatures that are kept for being checked, of one copy of a certificate.
const MOST: usize = 16;
/// The same of all copies of it: each look at `keys/` checks them anew. Somebody who could bring
/// more could as well take away the one that counts.
const MOST_OF_ALL: usize = 512;
/// Bytes of the largest one.
const LARGEST: usize = 8 << 10;

/// Ids of the keys whose signatures in others' certificates are kept for being checked.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Endorsers(BTreeSet<[u8; 8]>);

impl Endorsers {
    /// Takes all keys of these certificates.
    pub fn new<'a>(certificates: impl IntoIterator<Item = &'a Certificate>) -> Self {
        let keys = certificates.into_iter().flat_map(|one| one.cert().keys());
        let ids = keys.filter_map(|key| key.key().keyid().as_bytes().try_into().ok());
        Endorsers(ids.collect())
    }

    /// Tells whether all of these keys are among others.
    pub fn are_among(&self, others: &Endorsers) -> bool {
        self.0.is_subset(&others.0)
    }

    pub(super) fn has(&self, key: &[u8; 8]) -> bool {
        self.0.contains(key)
    }
}

/// Signatures that endorsers seem to have made in one certificate: over its user ids, and revocations
/// of it.
#[derive(Clone, Default)]
pub struct Endorsements(Vec<Unchecked>);

#[derive(Clone, PartialEq)]
struct Unchecked {
    /// `None` over the whole certificate.
    user_id: Option<Vec<u8>>,
    /// The whole packet.
    signature: Vec<u8>,
}

/// A key's statement about a user id with a mail address in another certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endorsement {
    /// The address, in lower case.
    pub address: String,
    /// The key took back, at any time, that the user id belongs there.
    pub withdrawn: bool,
}

impl Endorsements {
    /// Keeps a signature over a user id, or over the whole certificate, as long as there is room.
    pub(super) fn add(&mut self, user_id: Option<&[u8]>, signature: &[u8]) {
        if self.0.len() < MOST && signature.len() <= LARGEST {
            self.0.push(Unchecked {
                user_id: user_id.map(<[u8]>::to_vec),
                signature: signature.to_vec(),
            });
        }
    }

    /// Adds those of another copy of the certificate, as long as there is room.
    pub fn extend(&mut self, others: &Endorsements) {
        for one in &others.0 {
            if self.0.len() >= MOST_OF_ALL {
                break;
            }
            if !self.0.contains(one) {
                self.0.push(one.clone());
            }
        }
    }

    /// Tells whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes that they take.
    pub fn length(&self) -> usize {
        let lengths = self
            .0
            .iter()
            .map(|one| one.user_id.as_ref().map_or(0, Vec::len) + one.signature.len());
        lengths.sum()
    }

    /// Checks them: returns the statements of `endorser` about the valid user ids of the
    /// certificate that they stand in.
    ///
    /// A certification counts if it is the newest one, has not expired, and was made by a key that
    /// could certify at that time. That it was taken back counts whenever that was.
    pub fn by(&self, endorser: &Certificate, of: &Certificate) -> Vec<Endorsement> {
        let mut said = Vec::new();
        for id in of.user_ids() {
            let Some(address) = id.email.clone() else {
                continue;
            };
            let over: Vec<(UserID, Signature)> = self.over(&id).collect();
            let withdrawn = over
                .iter()
                .any(|(id, one)| withdraws(one, endorser, of, id));
            let good = over
                .iter()
                .filter(|(id, one)| certifies(one, endorser, of, id));
            let newest = good
                .map(|(_, one)| one)
                .max_by_key(|one| one.signature_creation_time());
            if withdrawn || newest.is_some_and(is_alive) {
                said.push(Endorsement { address, withdrawn });
            }
        }
        said
    }

    /// Returns the certificate `of` revoked, if its owner named the key `revoker` for that and a
    /// signature here is its revocation; `None` also if the certificate has it already.
    ///
    /// It counts whatever digest it was made with: an alarm need not be as strong as a promise.
    pub fn revocation(&self, revoker: &Certificate, of: &Certificate) -> Option<Certificate> {
        if !of.revokers().contains(&revoker.fingerprint()) {
            return None;
        }
        let key = revoker.cert().primary_key().key();
        let primary = of.cert().primary_key().key();
        let revocations = self.0.iter().filter(|one| one.user_id.is_none());
        let mut revocations = revocations.filter_map(|one| {
            let Ok(Packet::Signature(signature)) = Packet::from_bytes(&one.signature) else {
                return None;
            };
            let is_new = !of.has_revocation(&signature);
            let good = signature.verify_primary_key_revocation(key, primary);
            (is_new && good.is_ok()).then_some(signature)
        });
        of.with_revocation(revocations.next()?).ok()
    }

    fn over<'a>(&'a self, id: &'a UserId) -> impl Iterator<Item = (UserID, Signature)> + 'a {
        self.0.iter().filter_map(move |one| {
            let user_id = UserID::from(one.user_id.as_deref()?);
            // With an address it is text, and so no other has the same.
            if UserId::of(&user_id) != *id {
                return None;
            }
            match Packet::from_bytes(&one.signature) {
                Ok(Packet::Signature(signature)) => Some((user_id, signature)),
                _ => None,
            }
        })
    }
}

/// Tells whether a signature is a certification that was good when it was made.
fn certifies(signature: &Signature, endorser: &Certificate, of: &Certificate, id: &UserID) -> bool {
    // A persona certification says that nothing was checked.
    let kind = matches!(
        signature.typ(),
        SignatureType::GenericCertification
            | SignatureType::CasualCertification
            | SignatureType::PositiveCertification
    );
    let Some(made) = signature.signature_creation_time() else {
        return false;
    };
    let policy = policy();
    let primary = of.cert().primary_key().key();
    let acceptable = policy.signature(signature, HashAlgoSecurity::CollisionResistance);
    if !kind
        || acceptable.is_err()
        || signature.exportable_certification() == Some(false)
        || made > SystemTime::now() + CLOCK_SKEW
        || made < primary.creation_time()
    {
        return false;
    }
    let mut keys = certifying(endorser, &policy, made);
    if keys.is_empty() && made >= endorser.cert().primary_key().key().creation_time() {
        // Programs leave out the former self-signatures of a renewed certificate.
        keys = certifying(endorser, &policy, SystemTime::now());
    }
    let mut keys = keys.iter();
    keys.any(|key| signature.verify_userid_binding(key, primary, id).is_ok())
}

fn is_alive(signature: &Signature) -> bool {
    let made = signature.signature_creation_time();
    let now = SystemTime::now();
    let at = made.map_or(now, |made| made.max(now));
    signature.signature_alive(at, Duration::ZERO).is_ok()
}

/// Tells whether a signature takes back that a user id belongs to a certificate. Whatever key of
/// the endorser made it, and whenever: to stop vouching needs no proof that it was allowed to
/// vouch.
fn withdraws(signature: &Signature, endorser: &Certificate, of: &Certificate, id: &UserID) -> bool {
    if signature.typ() != SignatureType::CertificationRevocation {
        return false;
    }
    let primary = of.cert().primary_key().key();
    let own = endorser.cert().primary_key().key();
    if signature.verify_userid_revocation(own, primary, id).is_ok() {
        return true;
    }
    let policy = policy();
    let made = signature.signature_creation_time();
    let keys = made.map(|made| certifying(endorser, &policy, made));
    let mut keys = keys.iter().flatten();
    keys.any(|key| signature.verify_userid_revocation(key, primary, id).is_ok())
}

/// Lists the keys of a certificate that may certify others at a time. Subkeys must agree to belong
/// to it, as anybody's key can be taken into a certificate.
fn certifying(by: &Certificate, policy: &StandardPolicy<'_>, at: SystemTime) -> Vec<PublicKey> {
    let Ok(valid) = by.cert().with_policy(policy, at) else {
        return Vec::new();
    };
    if valid.alive().is_err() || by.is_revoked(&valid) {
        return Vec::new();
    }
    let primary = valid.primary_key();
    let mut found = Vec::new();
    if primary
        .key_flags()
        .is_none_or(|flags| flags.for_certification())
    {
        found.push(primary.key().clone().role_into_unspecified());
    }
    let subkeys = valid.keys().subkeys().supported();
    for subkey in subkeys.alive().revoked(false).for_certification() {
        if agreement(subkey.binding_signature(), primary.key(), subkey.key()).is_some() {
            found.push(subkey.key().clone().role_into_unspecified());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use pgp::Cert;
    use pgp::cert::prelude::*;
    use pgp::serialize::SerializeInto as _;
    use pgp::types::{HashAlgorithm, ReasonForRevocation, RevocationKey};

    use super::super::{Condition, Ring};
    use super::*;

    fn person(name: &str, revoker: Option<&Cert>) -> Cert {
        let made = CertBuilder::general_purpose(Some(name));
        let made = made.set_revocation_keys(revoker.map(RevocationKey::from).into_iter().collect());
        made.generate().unwrap().0
    }

    fn certificate(cert: &Cert) -> Certificate {
        Certificate::new(cert.clone()).unwrap()
    }

    /// A revocation of one certificate by the primary key of another.
    fn revocation(of: &Cert, by: &Cert) -> Signature {
        revocation_with(of, by, HashAlgorithm::SHA512)
    }

    fn revocation_with(of: &Cert, by: &Cert, digest: HashAlgorithm) -> Signature {
        let key = by.primary_key().key().clone().parts_into_secret();
        let mut key = key.unwrap().into_keypair().unwrap();
        let reason = ReasonForRevocation::KeyCompromised;
        let made = CertRevocationBuilder::new().set_reason_for_revocation(reason, b"lost");
        made.unwrap().build(&mut key, of, digest).unwrap()
    }

    /// Reads a file that has a certificate with another key's signature in it.
    fn arriving(of: &Cert, signature: Signature, endorser: &Cert) -> (Certificate, Endorsements) {
        let (cert, _) = of.clone().insert_packets([signature]).unwrap();
        let bytes = cert.strip_secret_key_material().to_vec().unwrap();
        let endorsers = Endorsers::new([&certificate(endorser)]);
        let ring = Ring::split_for(&bytes, &endorsers).unwrap();
        let [raw] = &ring.certificates[..] else {
            panic!("one certificate");
        };
        (raw.read().unwrap(), raw.endorsements().clone())
    }

    #[test]
    fn a_named_revoker_revokes_for_good() {
        let (carol, eve) = (
            person("carol@example.org", None),
            person("eve@example.org", None),
        );
        let alice = person("alice@example.org", Some(&carol));
        let usable = |one: &Certificate| matches!(one.condition(), Condition::Usable(_));
        let (seen, said) = arriving(&alice, revocation(&alice, &carol), &carol);
        assert!(usable(&seen), "nobody has checked it");
        assert_eq!(seen.revokers(), [certificate(&carol).fingerprint()]);
        assert!(said.revocation(&certificate(&eve), &seen).is_none());
        let revoked = said.revocation(&certificate(&carol), &seen).unwrap();
        let words = Condition::Revoked {
            reason: "Key material has been compromised: lost".to_owned(),
            retired: false,
        };
        assert_eq!(revoked.condition(), words);
        assert!(revoked.check_encryption().is_err());
        assert!(
            said.revocation(&certificate(&carol), &revoked).is_none(),
            "no news"
        );

        // The kept copy keeps it, whatever comes, and when it is read again.
        let kept = seen.grown(&revoked).unwrap();
        for kept in [&kept, &kept.grown(&seen).unwrap()] {
            let again = Certificate::read_kept(&kept.to_bytes()).unwrap();
            assert_eq!(again.condition(), words);
            assert!(again.grown(&certificate(&alice)).unwrap() == again);
        }
        // A claim in a file counts for nothing until it is checked.
        let ring = Ring::split(&kept.to_bytes()).unwrap();
        assert!(usable(&ring.certificates[0].read().unwrap()));
    }

    #[test]
    fn a_revocation_with_a_weak_digest_counts() {
        let carol = person("carol@example.org", None);
        let alice = person("alice@example.org", Some(&carol));
        let weak = revocation_with(&alice, &carol, HashAlgorithm::SHA1);
        let (seen, said) = arriving(&alice, weak, &carol);
        let revoked = said.revocation(&certificate(&carol), &seen).unwrap();
        assert!(revoked.check_encryption().is_err());
        let kept = Certificate::read_kept(&revoked.to_bytes()).unwrap();
        assert!(matches!(kept.condition(), Condition::Revoked { .. }));
    }

    #[test]
    fn a_copy_of_a_former_version_is_not_revoked_by_whom_nobody_named() {
        let (carol, eve) = (
            person("carol@example.org", None),
            person("eve@example.org", None),
        );
        let alice = person("alice@example.org", Some(&carol));
        let planted = alice.clone().insert_packets([revocation(&alice, &eve)]);
        let planted = planted.unwrap().0.strip_secret_key_material();
        let kept = Certificate::read_kept(&planted.to_vec().unwrap()).unwrap();
        assert!(matches!(kept.condition(), Condition::Usable(_)));
    }

    #[test]
    fn others_and_forgeries_revoke_nothing() {
        let (carol, eve) = (
            person("carol@example.org", None),
            person("eve@example.org", None),
        );
        let alice = person("alice@example.org", Some(&carol));
        let bob = person("bob@example.org", None);
        for (of, by) in [(&alice, &eve), (&bob, &carol)] {
            let (seen, said) = arriving(of, revocation(of, by), by);
            assert!(said.revocation(&certificate(by), &seen).is_none());
        }
        // Of another certificate, and with a digest that was changed.
        let foreign = revocation(&bob, &carol);
        let mut packet = Packet::from(revocation(&alice, &carol)).to_vec().unwrap();
        let last = packet.len() - 1;
        packet[last] ^= 1;
        let Packet::Signature(forged) = Packet::from_bytes(&packet).unwrap() else {
            panic!("a signature");
        };
        for wrong in [foreign, forged] {
            let mut said = Endorsements::default();
            said.add(None, &Packet::from(wrong).to_vec().unwrap());
            let (carol, alice) = (certificate(&carol), certificate(&alice));
            assert!(said.revocation(&carol, &alice).is_none());
        }
    }

    #[test]
    fn many_copies_of_a_certificate_bring_no_more_than_is_checked_at_once() {
        let mut all = Endorsements::default();
        for copy in 0..400u16 {
            let mut one = Endorsements::default();
            for signature in 0..20u16 {
                one.add(
                    Some(b"a@b.c"),
                    &[copy.to_be_bytes(), signature.to_be_bytes()].concat(),
                );
            }
            assert_eq!(one.0.len(), MOST);
            all.extend(&one);
            all.extend(&one);
        }
        assert_eq!(all.0.len(), MOST_OF_ALL);
    }
}
