//! Seals content into a blob in the format that dds-store(5) describes.

use std::io::{self, Write};
use std::time::SystemTime;

use sequoia_openpgp as pgp;

use pgp::crypto::hash::Context;
use pgp::crypto::mpi;
use pgp::packet::one_pass_sig::{OnePassSig3, OnePassSig6};
use pgp::packet::signature::SignatureBuilder;
use pgp::packet::{Packet, Signature};
use pgp::serialize::SerializeInto as _;
use pgp::serialize::stream::{Armorer, Encryptor, Message, Recipient};
use pgp::types::{AEADAlgorithm, Features, HashAlgorithm, SignatureType, SymmetricAlgorithm};
use sha1::Digest as _;
use zeroize::Zeroizing;

use super::certificate::PublicKey;
use super::identity::SecretKey;
use super::packets::tag;
use super::padding::{StoredBlocks, padded, stored};
use super::parts::{Cut, Frame, HEADER};
use super::{Certificate, Identity, Notations, SessionKey, failed, version};
use crate::error::{Error, Kind, Result};
use crate::ids::{BlobId, BlobName, Fingerprint, Timestamp, VersionId};
use crate::plaintext::ReadAt;

const CIPHER: SymmetricAlgorithm = SymmetricAlgorithm::AES256;
/// ZIP, as compressed data packets name raw deflate (RFC 9580, 9.4).
const ZIP: u8 = 1;
/// Bytes written to the file at once.
const BUFFER: usize = 64 * 1024;
/// Longest literal file name in bytes.
const LONGEST_NAME: usize = 255;

/// Some packets in their binary form.
type Packets = Zeroizing<Vec<u8>>;

/// An order to seal: the content, its signers and its readers.
pub struct SealRequest<'a, 'c> {
    /// The signer.
    pub signer: &'a Identity,
    /// Shared keys that add a signature each, for an audience that has them; mostly empty.
    pub co_signers: &'a [&'a Identity],
    /// The readers, myself included. Each gets one session key packet.
    pub recipients: &'a [Certificate],
    /// Whom the signature says that it is for.
    pub intended: &'a [Fingerprint],
    /// Writes the recipients' key ids for everybody to see, instead of none.
    pub named: bool,
    /// Base name for other programs (not signed); left out if over 255 bytes.
    pub name: &'a str,
    /// Further statements of the signature.
    pub notations: &'a Notations,
    /// The content, which outlives everything else here.
    pub content: &'c dyn ReadAt,
    /// Signature time, rounded down to seconds; `None` for now.
    pub created: Option<SystemTime>,
}

/// A signed message ready to be encrypted and written. Only this module can make one.
pub struct Sealed<'c> {
    content: &'c dyn ReadAt,
    recipients: Vec<PublicKey>,
    named: bool,
    /// SEIPD version 2 instead of 1.
    aead: bool,
    /// From when on packets come in parts.
    cut: Cut,
    /// The packets before the literal: one-pass signatures.
    before: Packets,
    literal: Frame,
    /// The beginning of the literal's body, before the content.
    fields: Packets,
    /// The packets after the literal: signatures.
    after: Packets,
    /// Identifies everything inside.
    inside: VersionId,
    /// Identifies the statement of each signature, in the order of the packets.
    signed: Vec<VersionId>,
    session_key: pgp::crypto::SessionKey,
    created: SystemTime,
}

/// The blob that was written.
pub struct Receipt {
    /// SHA-1 of the bytes: the blob's name.
    pub name: BlobName,
    /// SHA-256 of the bytes.
    pub id: BlobId,
    /// Length in bytes.
    pub length: u64,
    /// Opens the blob without a public-key operation.
    pub session_key: SessionKey,
    /// Signature time.
    pub created: SystemTime,
    /// Identifies everything inside, as [`super::Facts::inside`].
    pub inside: VersionId,
    /// Identifies the statement of each signature, as [`super::SignatureFacts::version`].
    pub signed: Vec<VersionId>,
}

impl<'c> Sealed<'c> {
    /// Checks every recipient and signs the content.
    ///
    /// # Errors
    /// `NoKey`, `KeyExpired` or `KeyRevoked` if the signer or any recipient cannot be used, or
    /// if there is no recipient; `TooLarge` if its padding is over 2 GiB (some 128 GiB of
    /// content); `Invalid` if the notations do not fit into a signature (64 KiB); `Io` if the
    /// content cannot be read.
    pub fn prepare(request: SealRequest<'_, 'c>) -> Result<Sealed<'c>> {
        Self::prepare_cut(request, Cut::default())
    }

    /// As [`Sealed::prepare`], with packets cut into parts as `cut` says.
    pub(super) fn prepare_cut(request: SealRequest<'_, 'c>, cut: Cut) -> Result<Sealed<'c>> {
        let mut keys = Vec::new();
        for recipient in request.recipients {
            let newest = recipient.encryption_key()?;
            // The secret of my newest key may be elsewhere: I must be able to read my own blobs
            // here.
            if recipient.fingerprint() == request.signer.fingerprint() {
                let mut here = request.signer.encryption_keys();
                let opens = here
                    .iter()
                    .any(|key| key.fingerprint() == newest.fingerprint());
                keys.extend(here.pop().filter(|_| !opens));
            }
            keys.push(newest);
        }
        Self::prepare_for(request, keys, cut)
    }

    /// As [`Sealed::prepare`], for the signer alone, by every key of theirs that opens here: the
    /// newest may be elsewhere at any later time.
    ///
    /// # Errors
    /// As [`Sealed::prepare`].
    pub fn prepare_for_signer(request: SealRequest<'_, 'c>) -> Result<Sealed<'c>> {
        let mut keys = request.signer.encryption_keys();
        if keys.is_empty() {
            keys.push(request.signer.certificate().encryption_key()?);
        }
        Self::prepare_for(request, keys, Cut::default())
    }

    /// Seals for these keys, which are those of the recipients.
    fn prepare_for(
        request: SealRequest<'_, 'c>,
        recipients: Vec<PublicKey>,
        cut: Cut,
    ) -> Result<Sealed<'c>> {
        if recipients.is_empty() {
            return Err(Error::new(Kind::NoKey, "nobody to encrypt for"));
        }
        let aead = request
            .recipients
            .iter()
            .all(Certificate::announces_seipdv2);

        let created = request.created.unwrap_or_else(SystemTime::now);
        let created = Timestamp::from(created).openpgp_seconds();
        let created = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(created.into());
        let (before, signatures) = sign(&request, created)?;
        let fields = literal_fields(&request);
        let digest = request.content.digest()?;
        let inside = version::inside(&fields, &digest, signatures.iter().map(Some));
        let signed = signatures.iter();
        let signed = signed.map(|signature| version::signed(&digest, signature));
        let signed = signed.collect();
        let mut after = Zeroizing::new(Vec::new());
        for signature in signatures {
            let packet = Packet::from(signature).to_vec();
            let packet = packet.map_err(|why| failed(Kind::Invalid, "signing", why))?;
            after.extend_from_slice(&Zeroizing::new(packet));
        }
        let literal = cut.frame(fields.len() as u64 + request.content.len());

        let no_random = |why| failed(Kind::Io, "making a session key", why);
        let session_key = pgp::crypto::SessionKey::new(32).map_err(no_random)?;
        let sealed = Sealed {
            content: request.content,
            recipients,
            named: request.named,
            aead,
            cut,
            before,
            literal,
            fields,
            after,
            inside,
            signed,
            session_key,
            created,
        };
        if aead && sealed.filler() > Cut::default().longest {
            return Err(too_large());
        }
        Ok(sealed)
    }

    /// Length of the signed message in bytes.
    fn length(&self) -> u64 {
        self.before.len() as u64 + self.literal.whole() + self.after.len() as u64
    }

    /// Length of the body of the padding packet in bytes.
    fn filler(&self) -> u64 {
        padded(self.length()) - self.length() - HEADER
    }

    /// Encrypts, armors and writes the blob; needs constant memory.
    ///
    /// The blob is whole only if this succeeds. Written twice, the bytes differ.
    ///
    /// # Errors
    /// Errors of writing to `out`, as [`Error::io`] reports them.
    pub fn write_to(&self, out: &mut (dyn Write + Send + Sync)) -> Result<Receipt> {
        let mut tally = Tally {
            out,
            sha1: sha1::Sha1::new(),
            sha256: sha2::Sha256::new(),
            length: 0,
            failure: None,
        };
        // The armor comes line by line; it is digested and written in larger pieces.
        let mut buffer = io::BufWriter::with_capacity(BUFFER, &mut tally);
        let done = self.encrypt(&mut buffer);
        let done = done.and_then(|()| Ok(buffer.flush()?));
        // The rest of an unfinished blob in the buffer is not worth writing.
        let _ = buffer.into_parts();
        if let Some(failure) = tally.failure {
            return Err(Error::io("writing the blob", failure));
        }
        done.map_err(|why| failed(Kind::Io, "encrypting", why))?;
        Ok(Receipt {
            name: BlobName::from_digest(tally.sha1.finalize().into()),
            id: BlobId::from_digest(tally.sha256.finalize().into()),
            length: tally.length,
            session_key: SessionKey::new((!self.aead).then_some(CIPHER), &self.session_key),
            created: self.created,
            inside: self.inside,
            signed: self.signed.clone(),
        })
    }

    fn encrypt(&self, out: impl Write + Send + Sync) -> pgp::Result<()> {
        // The armorer writes the CRC24 line for version 1, and leaves it out for version 2, as
        // RFC 9580 (6.1) wants it.
        let message = Armorer::new(Message::new(out)).build()?;
        // The encryptor takes version 2 if all recipients announce it, so they repeat the
        // decision.
        let features = Features::empty().set_seipdv1();
        let features = if self.aead {
            features.set_seipdv2()
        } else {
            features
        };
        let recipients = self.recipients.iter().map(|key| {
            let handle: Option<pgp::KeyHandle> = match (self.named, self.aead) {
                (false, _) => None,
                (true, true) => Some(key.fingerprint().into()),
                (true, false) => Some(key.keyid().into()),
            };
            Recipient::new(features.clone(), handle, key)
        });
        let session_key = self.session_key.clone();
        let mut encryptor =
            Encryptor::with_session_key(message, CIPHER, session_key)?.add_recipients(recipients);
        if self.aead {
            encryptor = encryptor.aead_algo(AEADAlgorithm::OCB);
        }
        let mut inside = encryptor.build()?;
        if self.aead {
            self.write_with_padding_packet(&mut inside)?;
        } else {
            self.write_as_stored_zip(&mut inside)?;
        }
        inside.finalize()
    }

    fn write_as_stored_zip(&self, out: &mut impl Write) -> pgp::Result<()> {
        let plain = 1 + stored(self.length());
        let frame = self.cut.frame_with_filler(plain, padded);
        let mut out = frame.begin(tag::COMPRESSED, out)?;
        out.write_all(&[ZIP])?;
        let mut blocks = StoredBlocks::new(out);
        self.write_message(&mut blocks)?;
        blocks.finish(frame.body() - plain)?.finish()?;
        Ok(())
    }

    fn write_with_padding_packet(&self, out: &mut impl Write) -> pgp::Result<()> {
        self.write_message(out)?;
        let mut filler = self.filler();
        // Only packets that hold data may come in parts, so this one does not.
        let whole = Cut::default();
        let mut out = whole.frame(filler).begin(tag::PADDING, out)?;
        let mut random = [0; 4096];
        while filler > 0 {
            let part = filler.min(random.len() as u64);
            pgp::crypto::random(&mut random[..])?;
            out.write_all(&random[..part as usize])?;
            filler -= part;
        }
        out.finish()?;
        Ok(())
    }

    pub(super) fn write_message(&self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(&self.before)?;
        let mut literal = self.literal.begin(tag::LITERAL, &mut *out)?;
        literal.write_all(&self.fields)?;
        self.content.pieces(|piece| literal.write_all(piece))?;
        literal.finish()?;
        out.write_all(&self.after)
    }
}

/// Signs the content; returns the packets that go before the literal, and the signatures that go
/// after it.
fn sign(request: &SealRequest<'_, '_>, created: SystemTime) -> Result<(Packets, Vec<Signature>)> {
    let identities = std::iter::once(&request.signer).chain(request.co_signers);
    let mut signers = Vec::new();
    for identity in identities {
        signers.push(identity.signing_key(created)?);
    }
    let mut before = Zeroizing::new(Vec::new());
    let mut signatures = Vec::new();
    let last = signers.len() - 1;
    for (i, signer) in signers.into_iter().enumerate() {
        let (one_pass, signature) = sign_by(signer, request, created, i == last)?;
        before.extend_from_slice(&one_pass);
        signatures.push(signature);
    }
    // The signatures follow in reverse, so that they bracket the literal.
    signatures.reverse();
    Ok((before, signatures))
}

/// Returns the digest that a key signs: at least as long as its curve, or its prime, is, as
/// RFC 9580 (5.2.3.2 to 5.2.3.5) and every verifier want it.
fn hash_for(key: &PublicKey) -> HashAlgorithm {
    let curve_bits = match key.mpis() {
        mpi::PublicKey::ECDSA { curve, .. } | mpi::PublicKey::EdDSA { curve, .. } => {
            curve.bits().unwrap_or(512)
        }
        mpi::PublicKey::DSA { q, .. } => q.bits(),
        mpi::PublicKey::RSA { .. } | mpi::PublicKey::Ed25519 { .. } => 256,
        // Ed448 and stronger algorithms.
        _ => 512,
    };
    match curve_bits {
        0..=256 => HashAlgorithm::SHA256,
        257..=384 => HashAlgorithm::SHA384,
        _ => HashAlgorithm::SHA512,
    }
}

/// Returns one signature's two packets.
fn sign_by(
    signer: &dyn SecretKey,
    request: &SealRequest<'_, '_>,
    created: SystemTime,
    last: bool,
) -> Result<(Packets, Signature)> {
    let prepared = prepare_signature(signer.public(), request, created, last);
    let prepared = prepared.map_err(|why| failed(Kind::Invalid, "signing", why));
    let (one_pass, signature, digested) = prepared?;
    Ok((one_pass, signer.sign(signature, digested)?))
}

/// Returns the packet that announces a signature, the signature's fields, and the digest of the
/// content.
fn prepare_signature(
    key: &PublicKey,
    request: &SealRequest<'_, '_>,
    created: SystemTime,
    last: bool,
) -> pgp::Result<(Packets, SignatureBuilder, Context)> {
    let algorithm = hash_for(key);
    let version = key.version();
    let mut hash = algorithm.context()?.for_signature(version);
    let mut signature = SignatureBuilder::new(SignatureType::Binary).set_hash_algo(algorithm);
    let one_pass = if version == 6 {
        let mut salt = vec![0; algorithm.salt_size()?];
        pgp::crypto::random(&mut salt)?;
        hash.update(&salt);
        signature = signature.set_prefix_salt(salt.clone()).0;
        let mut packet = OnePassSig6::new(SignatureType::Binary, key.fingerprint());
        packet.set_pk_algo(key.pk_algo());
        packet.set_hash_algo(algorithm);
        packet.set_salt(salt);
        packet.set_last(last);
        Packet::from(packet)
    } else {
        let mut packet = OnePassSig3::new(SignatureType::Binary);
        packet.set_pk_algo(key.pk_algo());
        packet.set_hash_algo(algorithm);
        packet.set_issuer(key.keyid());
        packet.set_last(last);
        Packet::from(packet)
    };
    let intended = request.intended.iter();
    let intended: Vec<_> = intended.map(super::to_library).collect();
    signature = signature.set_signature_creation_time(created)?;
    signature = signature.set_intended_recipients(intended)?;
    signature = request.notations.write(signature)?;
    request.content.pieces(|piece| {
        hash.update(piece);
        Ok::<(), pgp::anyhow::Error>(())
    })?;
    Ok((Zeroizing::new(one_pass.to_vec()?), signature, hash))
}

/// Returns the beginning of a literal data packet, before the content (RFC 9580, 5.9).
fn literal_fields(request: &SealRequest<'_, '_>) -> Packets {
    let name = Some(request.name.as_bytes());
    let name = name
        .filter(|name| name.len() <= LONGEST_NAME)
        .unwrap_or(&[]);
    let time = request.notations.mtime.unwrap_or_else(Timestamp::now);
    Zeroizing::new(version::literal_header(b'b', name, time.openpgp_seconds()))
}

fn too_large() -> Error {
    Error::new(Kind::TooLarge, "larger than one blob can be (128 GiB)")
}

/// Counts and digests the bytes that are written, and keeps the first failure.
struct Tally<'a> {
    out: &'a mut (dyn Write + Send + Sync),
    sha1: sha1::Sha1,
    sha256: sha2::Sha256,
    length: u64,
    failure: Option<io::Error>,
}

impl Tally<'_> {
    fn keep<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        result.map_err(|why| {
            let kind = why.kind();
            if kind != io::ErrorKind::Interrupted && self.failure.is_none() {
                self.failure = Some(why);
            }
            kind.into()
        })
    }
}

impl Write for Tally<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let written = self.out.write(data);
        let written = self.keep(written)?;
        let data = data.get(..written).unwrap_or(data);
        self.sha1.update(data);
        self.sha256.update(data);
        self.length += data.len() as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.out.flush();
        self.keep(flushed)
    }
}
