//! What the keys of contacts say of other certificates: that a user id belongs to the key there, or
//! no longer does.
//!
//! Nothing else that others sign in a certificate is looked at, and none of it becomes part of the
//! certificate: it is kept beside it as it was found, bounded, and checked with the contact's
//! certificate.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use sequoia_openpgp as pgp;

use pgp::Packet;
use pgp::packet::{Signature, UserID};
use pgp::parse::Parse as _;
use pgp::policy::{HashAlgoSecurity, Policy as _, StandardPolicy};
use pgp::types::SignatureType;

use super::certificate::{CLOCK_SKEW, PublicKey, revoked};
use super::vouched::agreement;
use super::{Certificate, UserId, policy};

/// Signatures that are kept for being checked, of one copy of a certificate.
const MOST: usize = 16;
/// The same of all copies of it: each look at `keys/` checks them anew. Whoever could bring more could
/// as well take away the one that counts.
const MOST_OF_ALL: usize = 512;
/// Bytes of the largest one.
const LARGEST: usize = 8 << 10;

/// Ids of the keys whose signatures over others' user ids are kept for being checked.
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

/// Signatures that endorsers seem to have made over user ids of one certificate.
#[derive(Clone, Default)]
pub struct Endorsements(Vec<Unchecked>);

#[derive(Clone, PartialEq)]
struct Unchecked {
    user_id: Vec<u8>,
    /// The whole packet.
    signature: Vec<u8>,
}

/// What a key says of a user id with a mail address in another certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endorsement {
    /// The address, in lower case.
    pub address: String,
    /// The key took back, at any time, that the user id belongs there.
    pub withdrawn: bool,
}

impl Endorsements {
    /// Keeps a signature over a user id, as long as there is room.
    pub(super) fn add(&mut self, user_id: &[u8], signature: &[u8]) {
        if self.0.len() < MOST && signature.len() <= LARGEST {
            self.0.push(Unchecked {
                user_id: user_id.to_vec(),
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
            .map(|one| one.user_id.len() + one.signature.len());
        lengths.sum()
    }

    /// Checks them: what `endorser` says of the valid user ids of the certificate that they stand
    /// in.
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

    fn over<'a>(&'a self, id: &'a UserId) -> impl Iterator<Item = (UserID, Signature)> + 'a {
        self.0.iter().filter_map(move |one| {
            let user_id = UserID::from(one.user_id.as_slice());
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
        // Programs leave out what a renewed certificate said of itself at that time.
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

/// Tells whether a signature takes back that a user id belongs to a certificate. Whatever key of the
/// endorser made it, and whenever: who no longer vouches need not prove that they could.
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
    if valid.alive().is_err() || revoked(&valid.revocation_status()) {
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
    use super::*;

    #[test]
    fn many_copies_of_a_certificate_bring_no_more_than_is_checked_at_once() {
        let mut all = Endorsements::default();
        for copy in 0..400u16 {
            let mut one = Endorsements::default();
            for signature in 0..20u16 {
                one.add(
                    b"a@b.c",
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
