//! Splits a file of keys into certificates, and bounds each one before anything expensive reads
//! it.
//!
//! Whoever can write to `keys/` decides what lies there. Checking a signature costs much more
//! than skipping it, and the library compares every signature that fits nowhere with every part
//! of a certificate. So only the frames of the packets are read here: signatures that other keys
//! claim to have made, parts that a certificate does not need, and everything beyond fixed
//! numbers are left out. What contacts' keys seem to have signed is kept aside. Leaving something
//! out harms nobody: who can flood a file can as well delete it.

use std::collections::HashMap;
use std::ops::Range;

use sequoia_openpgp as pgp;

use pgp::parse::Parse as _;
use sha1::Digest as _;

use super::certificate::bodies;
use super::condition::unsupported;
use super::packets::tag;
use super::vouched::vouched;
use super::{Certificate, Endorsements, Endorsers, failed, holds_secret_key};
use crate::error::{Error, Kind, Result, printable};
use crate::ids::Fingerprint;

/// User ids, and subkeys, of one certificate.
const MOST_PARTS: usize = 64;
/// Longest user id in bytes.
const LONGEST_USER_ID: usize = 2048;
/// Subpackets of one signature, with those of the signatures that are embedded in it. The library
/// keeps each one for itself, in a hundred times the memory that the file needs for it.
const MOST_SUBPACKETS: usize = 256;
/// Copies of one certificate in one file.
const MOST_COPIES: usize = 8;
/// Faults of one file that are told.
const MOST_FAULTS: usize = 4;

/// One certificate of a file: the packets that matter, not looked into yet.
#[derive(Clone)]
pub struct RawCertificate {
    fingerprint: Fingerprint,
    bytes: Vec<u8>,
    /// There is a user id with a signature, good or not.
    may_name: bool,
    /// What the keys of contacts seem to have signed in it.
    endorsements: Endorsements,
}

/// What a file of keys holds.
#[derive(Default)]
pub struct Ring {
    /// Its certificates, in the file's order.
    pub certificates: Vec<RawCertificate>,
    /// Sentences about what else is in it.
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

    /// What endorsers seem to have signed in it.
    pub fn endorsements(&self) -> &Endorsements {
        &self.endorsements
    }

    /// Bytes that the certificate takes.
    pub fn length(&self) -> usize {
        self.bytes.len() + self.endorsements.length()
    }

    /// Says what is wrong with a certificate of somebody whose kind of key is not supported, so
    /// that nothing that it says can be checked.
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

    /// Reads the certificate and keeps what its primary key vouches for.
    ///
    /// # Errors
    /// `Invalid` if the library cannot read it.
    pub fn read(&self) -> Result<Certificate> {
        let unreadable = |why| failed(Kind::Invalid, "not a certificate", why);
        let cert = pgp::Cert::from_bytes(&self.bytes).map_err(unreadable)?;
        Certificate::new(vouched(&cert, None)?)
    }
}

impl Ring {
    /// Splits a file, armored (also several blocks) or binary, into its certificates. What is not
    /// a certificate that can be read is told and keeps none of the others from being read.
    ///
    /// # Errors
    /// `Invalid` if the file holds a secret key or no certificate.
    pub fn split(bytes: &[u8]) -> Result<Ring> {
        Self::split_for(bytes, &Endorsers::default())
    }

    /// As [`Ring::split`], and keeps what `endorsers` seem to have signed in the certificates.
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
            ([one], []) => one.read(),
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
}

impl Bound {
    /// Of a file that somebody put there.
    const ARRIVING: Bound = Bound {
        of_one_part: 48,
        in_all: 512,
    };
    /// Of our own copy, which earlier versions of this program did not bound.
    const KEPT: Bound = Bound {
        of_one_part: 4096,
        in_all: 4096,
    };
}

/// One packet's frame.
pub(super) struct Packet {
    pub tag: u8,
    /// The whole packet in the file.
    pub all: Range<usize>,
    /// Its body.
    pub body: Range<usize>,
}

/// Lists the packets of a file up to where it ends or goes wrong, and tells whether it ended well.
/// Parts of unknown length, which no certificate has, are wrong.
pub(super) fn packets(bytes: &[u8]) -> (Vec<Packet>, bool) {
    let mut packets = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let Some(packet) = packet(bytes, at) else {
            return (packets, false);
        };
        at = packet.all.end;
        packets.push(packet);
    }
    (packets, true)
}

fn packet(bytes: &[u8], start: usize) -> Option<Packet> {
    let number = |from: usize, octets: usize| -> Option<usize> {
        let octets = bytes.get(from..from + octets)?;
        Some(
            octets
                .iter()
                .fold(0, |n, octet| n << 8 | usize::from(*octet)),
        )
    };
    let first = bytes[start];
    let (tag, head, length) = match (first, first & 3) {
        (0xC0.., _) => {
            let octet = number(start + 1, 1)?;
            let (head, length) = match octet {
                0..=191 => (2, octet),
                192..=223 => (3, ((octet - 192) << 8) + number(start + 2, 1)? + 192),
                255 => (6, number(start + 2, 4)?),
                _ => return None,
            };
            (first & 0x3F, head, length)
        }
        (0x80.., 3) => return None,
        (0x80.., size) => {
            let octets = 1 << size;
            (first >> 2 & 0xF, 1 + octets, number(start + 1, octets)?)
        }
        _ => return None,
    };
    let body = start + head..start.checked_add(head)?.checked_add(length)?;
    (body.end <= bytes.len()).then_some(Packet {
        tag,
        all: start..body.end,
        body,
    })
}

/// Takes what matters of one certificate; an error is a sentence.
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
            own.then_some((signature.revokes, signature.created, packet))
        });
        let mut signatures: Vec<_> = signatures.collect();
        signatures.sort_by_key(|(revokes, created, _)| (!revokes, std::cmp::Reverse(*created)));
        for (_, _, packet) in signatures.iter().take(bound.of_one_part.min(room)) {
            kept.extend_from_slice(&bytes[packet.all.clone()]);
            room -= 1;
            may_name |= part[0].tag == tag::USER_ID;
        }
        if part[0].tag == tag::USER_ID {
            by_others.extend(part[1..].iter().filter_map(|packet| {
                let signature = Frame::of(&bytes[packet.body.clone()])?;
                let mut others = signature.issuers.iter().filter(|one| *one != id);
                let asked = others.any(|one| endorsers.has(one));
                let key = (!signature.revokes, std::cmp::Reverse(signature.created));
                (asked && signature.is_certification).then_some((key, &part[0], packet))
            }));
        }
    }
    by_others.sort_by_key(|(key, ..)| *key);
    let mut endorsements = Endorsements::default();
    for (_, id, signature) in by_others {
        endorsements.add(&bytes[id.body.clone()], &bytes[signature.all.clone()]);
    }
    Ok(RawCertificate {
        fingerprint,
        bytes: kept,
        may_name,
        endorsements,
    })
}

/// Computes the fingerprint of a public key (RFC 9580, 5.5.4); `None` for other than versions 4
/// and 6.
fn fingerprint(body: &[u8]) -> Option<Fingerprint> {
    let digest = match body.first()? {
        4 => {
            let length = u16::try_from(body.len()).ok()?.to_be_bytes();
            let digest = sha1::Sha1::new().chain_update([0x99]).chain_update(length);
            digest.chain_update(body).finalize().to_vec()
        }
        6 => {
            let length = u32::try_from(body.len()).ok()?.to_be_bytes();
            let digest = sha2::Sha256::new().chain_update([0x9B]);
            let digest = digest.chain_update(length).chain_update(body);
            digest.finalize().to_vec()
        }
        _ => return None,
    };
    Fingerprint::from_bytes(&digest).ok()
}

/// What a signature says of itself, checked by nobody.
#[derive(Default)]
struct Frame {
    revokes: bool,
    /// It says that a user id belongs to a key, or no longer does.
    is_certification: bool,
    created: u32,
    /// Key ids of its makers.
    issuers: Vec<[u8; 8]>,
    /// Number of its subpackets.
    subpackets: usize,
    /// It stands in another one.
    is_embedded: bool,
}

impl Frame {
    /// `None` for a signature that cannot be read at all, or says too much.
    fn of(body: &[u8]) -> Option<Frame> {
        Self::read(body, false).filter(|frame| frame.subpackets <= MOST_SUBPACKETS)
    }

    fn read(body: &[u8], is_embedded: bool) -> Option<Frame> {
        let mut frame = Frame {
            is_embedded,
            ..Frame::default()
        };
        let kind = match *body.first()? {
            3 => {
                frame.created = u32::from_be_bytes(body.get(3..7)?.try_into().ok()?);
                frame.issuers.push(body.get(7..15)?.try_into().ok()?);
                body[2]
            }
            4 | 6 => {
                let octets = if body[0] == 4 { 2 } else { 4 };
                let hashed = area(body.get(4..)?, octets)?;
                let unhashed = area(&body[4 + octets + hashed.len()..], octets)?;
                frame.subpackets(hashed, true)?;
                frame.subpackets(unhashed, false)?;
                body[1]
            }
            _ => return None,
        };
        frame.revokes = matches!(kind, 0x20 | 0x28 | 0x30);
        frame.is_certification = matches!(kind, 0x10..=0x13 | 0x30);
        Some(frame)
    }

    fn subpackets(&mut self, mut area: &[u8], hashed: bool) -> Option<()> {
        while let Some(first) = area.first() {
            let (head, length): (usize, usize) = match usize::from(*first) {
                octet @ 0..=191 => (1, octet),
                octet @ 192..=254 => {
                    let low = usize::from(*area.get(1)?);
                    (2, ((octet - 192) << 8) + low + 192)
                }
                _ => {
                    let length = area.get(1..5)?.try_into().ok()?;
                    (5, usize::try_from(u32::from_be_bytes(length)).ok()?)
                }
            };
            let subpacket = area.get(head..head.checked_add(length)?)?;
            area = &area[head + length..];
            self.subpackets += 1;
            match subpacket
                .split_first()
                .map(|(kind, value)| (kind & 0x7F, value))
            {
                Some((2, value)) if hashed => {
                    self.created = u32::from_be_bytes(value.try_into().ok()?);
                }
                Some((16, value)) => self.issuers.push(value.try_into().ok()?),
                Some((33, [4, fingerprint @ ..])) if fingerprint.len() == 20 => {
                    self.issuers.push(fingerprint[12..].try_into().ok()?);
                }
                Some((33, [6, fingerprint @ ..])) if fingerprint.len() == 32 => {
                    self.issuers.push(fingerprint[..8].try_into().ok()?);
                }
                Some((32, signature)) if !self.is_embedded => {
                    self.subpackets += Frame::read(signature, true)?.subpackets;
                }
                // The library reads no deeper, either.
                Some((32, _)) => return None,
                _ => {}
            }
        }
        Some(())
    }
}

/// Returns an area of subpackets that begins with its length in so many octets.
fn area(bytes: &[u8], octets: usize) -> Option<&[u8]> {
    let length = bytes.get(..octets)?;
    let length = length
        .iter()
        .fold(0, |n, octet| n << 8 | usize::from(*octet));
    bytes.get(octets..octets.checked_add(length)?)
}
