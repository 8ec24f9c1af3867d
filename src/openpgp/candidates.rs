//! Which keys may have made a signature.
//!
//! A certificate may carry any public key as a subkey, without asking the key's owner. So only
//! those keys count that agree: primary keys, and subkeys whose binding holds a signature of their
//! own. A key that is somebody's primary key belongs to nobody else.

use std::collections::{HashMap, HashSet};

use sequoia_openpgp as pgp;

use pgp::KeyHandle;

use super::vouched::agrees;
use super::{Certificate, Identity};

/// Certificates by the keys that may have made signatures, indexed once for many blobs.
#[derive(Default)]
pub struct CertIndex {
    certificates: Vec<Certificate>,
    /// Key id to positions in `certificates`, with the fingerprint of the key; primary keys first.
    by_key: HashMap<pgp::KeyID, Vec<(usize, pgp::Fingerprint)>>,
    /// Key id of any key to positions in `certificates`, whether the key agrees or not.
    by_any_key: HashMap<pgp::KeyID, Vec<usize>>,
}

impl CertIndex {
    /// Indexes certificates. Two copies of one certificate are both kept and tried in order.
    pub fn new(certificates: impl IntoIterator<Item = Certificate>) -> Self {
        let mut index = CertIndex {
            certificates: certificates.into_iter().collect(),
            by_key: HashMap::new(),
            by_any_key: HashMap::new(),
        };
        let primary: HashSet<_> = index
            .certificates
            .iter()
            .map(|certificate| certificate.cert().fingerprint())
            .collect();
        for (position, certificate) in index.certificates.iter().enumerate() {
            let key = certificate.cert().fingerprint();
            let positions = index.by_key.entry(key.clone().into()).or_default();
            positions.push((position, key));
            for key in certificate.cert().keys() {
                let positions = index.by_any_key.entry(key.key().keyid()).or_default();
                if positions.last() != Some(&position) {
                    positions.push(position);
                }
            }
        }
        for (position, certificate) in index.certificates.iter().enumerate() {
            let subkeys = certificate.cert().keys().subkeys();
            for key in subkeys.map(|subkey| subkey.key().fingerprint()) {
                if !primary.contains(&key) && agrees(certificate.cert(), &key) {
                    let positions = index.by_key.entry(key.clone().into()).or_default();
                    positions.push((position, key));
                }
            }
        }
        index
    }

    /// Returns the certificates in which a key of that id is, for whatever it is used there.
    pub(super) fn with_any_key(&self, key: &KeyHandle) -> impl Iterator<Item = &Certificate> {
        let positions = self.by_any_key.get(&pgp::KeyID::from(key.clone()));
        let positions = positions.into_iter().flatten();
        positions.map(|position| &self.certificates[*position])
    }

    /// Returns the keys that may have made a signature.
    fn with_key<'a>(&'a self, issuers: &'a [KeyHandle]) -> impl Iterator<Item = Candidate<'a>> {
        issuers.iter().flat_map(|issuer| {
            let found = self
                .of_key_id(&pgp::KeyID::from(issuer.clone()))
                .into_iter();
            found.filter(|(_, key)| issuer.aliases(KeyHandle::from(*key)))
        })
    }

    /// Tells which keys' signatures must be judged anew where `former` judged them before.
    pub fn changed_since(&self, former: &CertIndex) -> ChangedKeys {
        let keys: HashSet<_> = self.by_key.keys().chain(former.by_key.keys()).collect();
        let changed = keys.into_iter().filter(|key| {
            let (now, then) = (self.of_key_id(key), former.of_key_id(key));
            let same = |((one, key), (two, other)): (&Candidate<'_>, &Candidate<'_>)| {
                let same = std::ptr::eq(one.cert(), two.cert()) || one.cert() == two.cert();
                key == other && same
            };
            now.len() != then.len() || !now.iter().zip(&then).all(same)
        });
        ChangedKeys(changed.cloned().collect())
    }

    fn of_key_id(&self, id: &pgp::KeyID) -> Vec<Candidate<'_>> {
        let positions = self.by_key.get(id).into_iter().flatten();
        let candidates = positions.map(|(position, key)| (&self.certificates[*position], key));
        candidates.collect()
    }
}

/// With which keys blobs are opened and judged.
pub struct Keyring<'a> {
    /// My own keys, tried in this order.
    pub identities: &'a [Identity],
    /// Certificates by which signatures are verified, besides my own.
    pub certificates: &'a CertIndex,
}

/// A key, and the certificate that it is of.
type Candidate<'a> = (&'a Certificate, &'a pgp::Fingerprint);

/// Keys whose known certificates changed, or became more.
pub struct ChangedKeys(pub(super) HashSet<pgp::KeyID>);

/// Returns the keys that may have made a signature, each with its certificate and once: mine
/// first, then those of others.
pub(super) fn candidates(
    identities: &[Identity],
    others: &CertIndex,
    issuers: &[KeyHandle],
) -> Vec<(Certificate, pgp::Fingerprint)> {
    let mut found: Vec<(Certificate, pgp::Fingerprint)> = Vec::new();
    let mine: Vec<_> = identities.iter().map(Identity::certificate).collect();
    let my_primaries: Vec<_> = mine.iter().map(|mine| mine.cert().fingerprint()).collect();
    for certificate in &mine {
        let cert = certificate.cert();
        for key in cert.keys().map(|key| key.key().fingerprint()) {
            let mut named = issuers.iter();
            let is_named = named.any(|issuer| issuer.aliases(KeyHandle::from(&key)));
            // A primary key is nobody's subkey.
            let is_elsewhere = key != cert.fingerprint() && my_primaries.contains(&key);
            if is_named && !is_elsewhere && agrees(cert, &key) {
                found.push((certificate.clone(), key));
            }
        }
    }
    for (certificate, key) in others.with_key(issuers) {
        let fingerprint = certificate.cert().fingerprint();
        // My own keys are in the index, too; and nobody else has a primary key of mine.
        let mine = my_primaries.contains(&fingerprint) || my_primaries.contains(key);
        let twice = found
            .iter()
            .any(|(known, other)| other == key && std::ptr::eq(known.cert(), certificate.cert()));
        if !mine && !twice {
            found.push((certificate.clone(), key.clone()));
        }
    }
    found
}
