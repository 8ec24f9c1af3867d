//! The frames of packets, and the claims that a signature makes of itself, read without checking
//! any.

use std::ops::Range;

use sha1::Digest as _;

use crate::ids::Fingerprint;

/// Subpackets of one signature, with those of the signatures that are embedded in it. The library
/// keeps each one for itself, in a hundred times the memory that the file needs for it.
const MOST_SUBPACKETS: usize = 256;

/// One packet's frame.
pub(in crate::openpgp) struct Packet {
    pub tag: u8,
    /// The whole packet in the file.
    pub all: Range<usize>,
    /// Its body.
    pub body: Range<usize>,
}

/// Lists the packets of a file up to its end or the first malformed one, and tells whether it ended
/// well. Parts of unknown length, which no certificate has, are wrong.
pub(in crate::openpgp) fn packets(bytes: &[u8]) -> (Vec<Packet>, bool) {
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

/// Computes the fingerprint of a public key (RFC 9580, 5.5.4); `None` for other than versions 4
/// and 6.
pub(super) fn fingerprint(body: &[u8]) -> Option<Fingerprint> {
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

/// The claims of a signature about itself, checked by nobody.
#[derive(Default)]
pub(super) struct Frame {
    pub(super) revokes: bool,
    /// It revokes a whole certificate.
    pub(super) revokes_key: bool,
    /// It says that a user id belongs to a key, or no longer does.
    pub(super) is_certification: bool,
    pub(super) created: u32,
    /// Key ids of its makers.
    pub(super) issuers: Vec<[u8; 8]>,
    /// Number of its subpackets.
    subpackets: usize,
    /// It stands in another one.
    is_embedded: bool,
}

impl Frame {
    /// `None` for a signature that cannot be read at all, or says too much.
    pub(super) fn of(body: &[u8]) -> Option<Frame> {
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
        frame.revokes_key = kind == 0x20;
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
