//! The ids of versions: digests over the packets inside the encryption.
//!
//! They are made of the parsed packets, so that nothing that stands around them counts: armor,
//! file, session key packets, container, compression, framing, padding, markers. Also left out are
//! one-pass signatures, which say nothing that the signatures do not, and packets that a reader has
//! to ignore.

use sequoia_openpgp as pgp;

use pgp::packet::Signature;
use pgp::serialize::MarshalInto as _;
use sha2::{Digest as _, Sha256};

use crate::ids::VersionId;

/// The packets inside: the literal as its header and the digest of its content, and the signatures
/// in their order; `None` for one that cannot be read.
pub(super) fn inside<'a>(
    header: &[u8],
    content: &[u8; 32],
    signatures: impl IntoIterator<Item = Option<&'a Signature>>,
) -> VersionId {
    let mut digest = Sha256::new();
    digest.update(b"dds packets\0");
    feed(&mut digest, header);
    digest.update(content);
    for signature in signatures {
        let packet = signature.and_then(|signature| signature.to_vec().ok());
        feed(&mut digest, packet.as_deref().unwrap_or_default());
    }
    VersionId::from_digest(digest.finalize().into())
}

/// One statement about a content: the signed part of a signature, and nothing else.
///
/// Another reader can encrypt the packets anew, and change in them everything that no signature
/// protects: the literal's name and date, unhashed subpackets, signatures beside this one, the
/// numbers of an ECDSA signature. While the signature is good, this stays the same.
pub(super) fn signed(content: &[u8; 32], signature: &Signature) -> VersionId {
    let mut digest = Sha256::new();
    digest.update(b"dds signed\0");
    digest.update(content);
    digest.update([
        signature.version(),
        signature.typ().into(),
        signature.pk_algo().into(),
        signature.hash_algo().into(),
    ]);
    let salt = match signature {
        Signature::V6(signature) => signature.salt(),
        _ => &[],
    };
    feed(&mut digest, salt);
    feed(
        &mut digest,
        &signature.hashed_area().to_vec().unwrap_or_default(),
    );
    let created = signature.signature_creation_time();
    let seconds = created.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    digest.update(seconds.map_or(0, |time| time.as_secs()).to_be_bytes());
    VersionId::from_digest(digest.finalize().into())
}

/// The beginning of a literal packet, before its content (RFC 9580, 5.9).
pub(super) fn literal_header(format: u8, name: &[u8], date: u32) -> Vec<u8> {
    let mut header = vec![format, u8::try_from(name.len()).unwrap_or(u8::MAX)];
    header.extend_from_slice(name);
    header.extend_from_slice(&date.to_be_bytes());
    header
}

fn feed(digest: &mut Sha256, part: &[u8]) {
    digest.update((part.len() as u64).to_be_bytes());
    digest.update(part);
}
