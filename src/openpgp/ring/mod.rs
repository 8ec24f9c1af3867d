//! Splits a file of keys into certificates, and bounds each one before anything expensive reads
//! it.
//!
//! Anybody who can write to `keys/` decides over its files. Checking a signature costs much more
//! than skipping it, and the library compares every signature that fits nowhere with every part
//! of a certificate. So only the frames of the packets are read here: signatures that other keys
//! claim to have made, parts that a certificate does not need, and everything beyond fixed
//! numbers are left out. Signatures that contacts' keys seem to have made are kept aside. Leaving
//! something out harms nobody: an attacker who can flood a file can as well delete it.

mod frames;

use std::collections::HashMap;

use sequoia_openpgp as pgp;

use pgp::KeyHandle;
use pgp::packet::Signature;
use pgp::parse::Parse as _;

use self::frames::{Frame, fingerprint};
pub(super) use self::frames::{Packet, packets};
use super::certificate::bodies;
use super::condition::unsupported;
use super::packets::tag;
use super::vouched::vouched;
use super::{Certificate, Endorsements, Endorsers, failed, holds_secret_key, policy};
use crate::error::{Error, Kind, Result, printable};
use crate::ids::Fingerprint;

/// User ids, and subkeys, of one certificate.
const MOST_PARTS: usize = 64;
/// Longest user id in bytes.
const LONGEST_USER_ID: usize = 2048;
/// Copies of one certificate in one file.
const MOST_COPIES: usize = 8;
/// Faults of one file that are reported.
const MOST_FAULTS: usize = 4;

/// One certificate of a file: the packets that matter, not looked into yet.
#[derive(Clone)]
pub struct RawCertificate {
    fingerprint: Fingerprint,
    bytes: Vec<u8>,
    /// There is a user id with a signature, good or not.
    may_name: bool,
    /// Signatures in it that the keys of contacts seem to have made.
    endorsements: Endorsements,
}

/// The content of a file of keys.
#[derive(Default)]
pub struct Ring {
    /// Its certificates, in the file's order.
    pub certificates: Vec<RawCertificate>,
    /// Sentences about anything else in it.
    pub faults: Vec<String>,
}

impl RawCertificate {
    /// Returns the fingerprint of the primary key.
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    /// Tells whether it may say validly whose it is; if not, it need not be read.
    pub fn may_name_somebody(&self) -> bool {
        self.may_name
    }

    /// Returns the signatures in it that endorsers seem to have made.
    pub fn endorsements(&self) -> &Endorsements {
        &self.endorsements
    }

    /// Bytes that the certificate takes.
    pub fn length(&self) -> usize {
        self.bytes.len() + self.endorsements.length()
    }

    /// Returns a sentence about a certificate whose kind of key is not supported, so that none of
    /// its statements can be checked.
    pub fn unsupported(&self) -> Option<String> {
        let cert = pgp::Cert::from_bytes(&self.bytes).ok()?;
        let name = unsupported(cert.primary_key().key())?;
        let owner = cert.userids().next();
        let owner = owner.map(|id| String::from_utf8_lossy(id.userid().value()).into_owned());
        let owner = owner.map_or_else(
            || self.fingerprint.to_string(),
            |owner| printable(&owner.chars().take(80).collect::<String>()),
        );
        Some(format!(
            "the certificate of {owner} cannot be used, because its key is {name}, which is not \
             supported: its owner needs a new key (`dds init` or `gpg --quick-gen-key` makes one)"
        ))
    }

    /// Reads the certificate and keeps the parts that its primary key vouches for.
    ///
    /// # Errors
    /// `Invalid` if the library cannot read it.
    pub fn read(&self) -> Result<Certificate> {
        let unreadable = |why| failed(Kind::Invalid, "not a certificate", why);
        let cert = pgp::Cert::from_bytes(&self.bytes).map_err(unreadable)?;
        Certificate::new(vouched(&cert, None, &[])?)
    }
}

impl RawCertificate {
    /// As [`RawCertificate::read`], of a copy into which only checked revocations by others came.
    fn read_checked(&self) -> Result<Certificate> {
        let unreadable = |why| failed(Kind::Invalid, "not a certificate", why);
        let cert = pgp::Cert::from_bytes(&self.bytes).map_err(unreadable)?;
        let by_revokers = cert.primary_key().other_revocations();
        // Copies of former versions of the program may have any.
        let by_revokers = by_revokers.filter(|one| is_by_revoker(one, &cert));
        let by_revokers: Vec<_> = by_revokers.cloned().collect();
        let cert = vouched(&cert, None, &by_revokers)?;
        Ok(Certificate::new(cert)?.with_checked_revocations())
    }
}

/// Tells whether a signature says that it is by a key that the certificate's owner named as revoker.
fn is_by_revoker(signature: &Signature, cert: &pgp::Cert) -> bool {
    let policy = policy();
    let mut named = cert.revocation_keys(&policy);
    let issuers = signature.get_issuers();
    named.any(|named| {
        let named = KeyHandle::from(named.revoker().1);
        issuers.iter().any(|issuer| issuer.aliases(&named))
    })
}

impl Ring {
    /// Splits a file, armored (also several blocks) or binary, into its certificates. An unreadable
    /// one becomes a fault and keeps none of the others from being read.
    ///
    /// # Errors
    /// `Invalid` if the file holds a secret key or no certificate.
    pub fn split(bytes: &[u8]) -> Result<Ring> {
        Self::split_for(bytes, &Endorsers::default())
    }

    /// As [`Ring::split`], and keeps signatures that `endorsers` seem to have made in the
    /// certificates.
    ///
    /// # Errors
    /// As [`Ring::split`].
    pub fn split_for(bytes: &[u8], endorsers: &Endorsers) -> Result<Ring> {
        if holds_secret_key(bytes) {
            let why = "holds a secret key, which must never be shared";
            return Err(Error::new(Kind::Invalid, why));
        }
        let mut ring = Ring::default();
        for body in bodies(bytes)? {
            match body {
                Some(body) => ring.add(&body, Bound::ARRIVING, endorsers),
                None => ring.fault("not a whole certificate".to_owned()),
            }
        }
        if ring.certificates.is_empty() {
            let why = ring.faults.into_iter().next();
            let why = why.unwrap_or_else(|| "no certificate in it".to_owned());
            return Err(Error::new(Kind::Invalid, why));
        }
        Ok(ring)
    }

    fn fault(&mut self, fault: String) {
        if self.faults.len() < MOST_FAULTS && !self.faults.contains(&fault) {
            self.faults.push(fault);
        }
    }

    fn add(&mut self, bytes: &[u8], bound: Bound, endorsers: &Endorsers) {
        let (packets, whole) = packets(bytes);
        let primary = |packet: &Packet| packet.tag == tag::PUBLIC_KEY;
        let mut starts: Vec<usize> = (0..packets.len())
            .filter(|at| primary(&packets[*at]))
            .collect();
        let leading = starts.first().copied().unwrap_or(packets.len());
        if packets[..leading].iter().any(|p| p.tag != tag::MARKER) {
            self.fault("something that is no certificate is in it".to_owned());
        }
        if !whole {
            self.fault("not a whole certificate".to_owned());
        }
        starts.push(packets.len());
        let mut copies: HashMap<Fingerprint, usize> = HashMap::new();
        for (position, ends) in starts.windows(2).enumerate() {
            let last = position + 2 == starts.len();
            if last && !whole {
                break; // Its end is missing.
            }
            match raw(bytes, &packets[ends[0]..ends[1]], bound, endorsers) {
                Ok(certificate) => {
                    let copies = copies.entry(certificate.fingerprint.clone()).or_default();
                    *copies += 1;
                    if *copies <= MOST_COPIES {
                        self.certificates.push(certificate);
                    }
                }
                Err(fault) => self.fault(fault),
            }
        }
    }
}

impl Certificate {
    /// Reads the copy of one certificate that was kept of a contact, whatever its size and
    /// whatever words it contains.
    ///
    /// # Errors
    /// `Invalid` unless it is exactly one certificate that the library can read.
    pub fn read_kept(bytes: &[u8]) -> Result<Certificate> {
        let mut ring = Ring::default();
        ring.add(bytes, Bound::KEPT, &Endorsers::default());
        match (ring.certificates.as_slice(), ring.faults.as_slice()) {
            ([one], []) => one.read_checked(),
            (_, [fault, ..]) => Err(Error::new(Kind::Invalid, fault.clone())),
            _ => Err(Error::new(Kind::Invalid, "not one certificate")),
        }
    }
}

/// How many signatures of a certificate are looked at.
#[derive(Clone, Copy)]
struct Bound {
    /// Over one part of it.
    of_one_part: usize,
    in_all: usize,
    /// Other keys' revocations of the whole certificate are kept in it.
    by_revokers: bool,
}

impl Bound {
    /// Of a file that somebody put there.
    const ARRIVING: Bound = Bound {
        of_one_part: 48,
        in_all: 512,
        by_revokers: false,
    };
    /// Of our own copy, which earlier versions of this program did not bound.
    const KEPT: Bound = Bound {
        of_one_part: 4096,
        in_all: 4096,
        by_revokers: true,
    };
}

/// Takes the packets of one certificate that matter; an error is a sentence.
fn raw(
    bytes: &[u8],
    packets: &[Packet],
    bound: Bound,
    endorsers: &Endorsers,
) -> std::result::Result<RawCertificate, String> {
    let primary = &bytes[packets[0].body.clone()];
    let Some(fingerprint) = fingerprint(primary) else {
        let version = primary.first().copied().unwrap_or(0);
        let owner = packets.iter().find(|packet| packet.tag == tag::USER_ID);
        let owner = owner.map(|owner| {
            let text = &bytes[owner.body.clone()];
            String::from_utf8_lossy(&text[..text.len().min(80)]).into_owned()
        });
        let owner = owner.map_or_else(String::new, |owner| format!(" ({})", printable(&owner)));
        return Err(format!(
            "a certificate of version {version}{owner} cannot be used, only versions 4 and 6: its \
             owner needs a new key"
        ));
    };
    let id = match fingerprint.as_bytes() {
        v4 if v4.len() == 20 => &v4[12..],
        v6 => &v6[..8],
    };
    let mut kept = Vec::new();
    let mut room = bound.in_all;
    let mut may_name = false;
    let mut by_others = Vec::new();
    let (mut user_ids, mut subkeys) = (0, 0);
    let mut parts = packets.chunk_by(|_, next| next.tag == tag::SIGNATURE);
    // The first part is the primary key with the signatures over it.
    let first = parts.next().into_iter();
    let others = parts.filter(|part| match part[0].tag {
        tag::USER_ID => {
            user_ids += 1;
            user_ids <= MOST_PARTS && part[0].body.len() <= LONGEST_USER_ID
        }
        tag::PUBLIC_SUBKEY => {
            subkeys += 1;
            subkeys <= MOST_PARTS
        }
        _ => false,
    });
    for part in first.chain(others) {
        kept.extend_from_slice(&bytes[part[0].all.clone()]);
        let signatures = part[1..].iter().filter_map(|packet| {
            let signature = Frame::of(&bytes[packet.body.clone()])?;
            let own = signature.issuers.is_empty() || signature.issuers.iter().any(|i| i == id);
            let own = own || bound.by_revokers && signature.revokes_key;
            own.then_some((signature.revokes, signature.created, packet))
        });
        let mut signatures: Vec<_> = signatures.collect();
        signatures.sort_by_key(|(revokes, created, _)| (!revokes, std::cmp::Reverse(*created)));
        for (_, _, packet) in signatures.iter().take(bound.of_one_part.min(room)) {
            kept.extend_from_slice(&bytes[packet.all.clone()]);
            room -= 1;
            may_name |= part[0].tag == tag::USER_ID;
        }
        let over = part[0].tag;
        by_others.extend(part[1..].iter().filter_map(|packet| {
            let signature = Frame::of(&bytes[packet.body.clone()])?;
            let mut others = signature.issuers.iter().filter(|one| *one != id);
            let asked = others.any(|one| endorsers.has(one));
            let key = (!signature.revokes, std::cmp::Reverse(signature.created));
            let counts = match over {
                tag::USER_ID => signature.is_certification,
                tag::PUBLIC_KEY => signature.revokes_key,
                _ => false,
            };
            (asked && counts).then_some((key, &part[0], packet))
        }));
    }
    by_others.sort_by_key(|(key, ..)| *key);
    let mut endorsements = Endorsements::default();
    for (_, part, signature) in by_others {
        let over = match part.tag {
            tag::USER_ID => Some(&bytes[part.body.clone()]),
            _ => None,
        };
        endorsements.add(over, &bytes[signature.all.clone()]);
    }
    Ok(RawCertificate {
        fingerprint,
        bytes: kept,
        may_name,
        endorsements,
    })
}
