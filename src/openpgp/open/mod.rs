//! Opens blobs, whoever made them.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::SystemTime;

use sequoia_openpgp as pgp;

use pgp::packet::header::BodyLength;
use pgp::packet::{PKESK, Packet, SEIP, Signature, Tag};
use pgp::parse::buffered_reader::BufferedReader as _;
use pgp::parse::{Dearmor, PacketParser, PacketParserBuilder, PacketParserResult, Parse as _};
use pgp::types::{CompressionAlgorithm, SymmetricAlgorithm};
use sha2::Digest as _;
use zeroize::Zeroizing;

use super::budget::Budget;
use super::chunks::{self, Header};
use super::key_search::{Found, KeySearch, Misfit};
use super::outline::Outline;
use super::packets::is_passed_over;
use super::refusal::Refusal;
use super::signatures::{Judge, SignatureFacts};
use super::source::Source;
use super::{CertIndex, Identity, SessionKey, version};
use crate::error::{Error, Kind, Result as Fallible};
use crate::ids::{BlobId, BlobName, Fingerprint, VersionId};
use crate::plaintext::{Plaintext, SpillArea};

/// Bytes read at once from the content.
const PIECE: usize = 64 * 1024;
/// Largest packet that is read whole (a signature, a session key), in bytes.
const LARGEST_PACKET: u32 = 64 << 10;

/// As how many readers those of several messages in one file count at least: more than a file has
/// that may be removed for all of them.
const SEVERAL: usize = 64;

/// With which keys blobs are opened and judged.
pub struct Keyring<'a> {
    /// My own keys, tried in this order.
    pub identities: &'a [Identity],
    /// Certificates by which signatures are verified, besides my own.
    pub certificates: &'a CertIndex,
}

/// How much work one blob may cause.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Largest content in bytes.
    pub max_content: u64,
    /// How many session key packets are tried with my keys.
    pub max_tried: usize,
    /// How many containers may be nested, the encryption included.
    pub max_depth: u8,
    /// Where content spills that is too large for RAM; without it all of it is in RAM.
    pub spill: Option<Arc<SpillArea>>,
    /// Set when the work is to be given up.
    pub stop: Option<Arc<AtomicBool>>,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_content: 64 << 30,
            max_tried: 64,
            max_depth: 16,
            spill: None,
            stop: None,
        }
    }
}

/// What became of a blob.
pub enum Outcome {
    /// Opened and authenticated to its end.
    Opened(Box<Opened>),
    /// No key of mine opens it.
    NotMine,
    /// Not (yet) a whole OpenPGP message.
    Incomplete,
    /// Whole, but of a kind that is never opened.
    Refused(Refusal),
    /// A key of mine opens it, but it is not authentic, or malformed inside. Nothing of its
    /// content is given out.
    Damaged,
    /// Its content is larger than the limits allow.
    TooLarge,
}

/// A blob's content and what is known about it.
pub struct Opened {
    /// The content.
    pub content: Plaintext,
    /// What is known about it.
    pub facts: Facts,
}

/// What is known about a blob that was opened: facts, not judgements.
pub struct Facts {
    /// Length of the content in bytes.
    pub size: u64,
    /// SHA-256 of the content.
    pub digest: [u8; 32],
    /// The literal's file name, if not empty. Not signed, hostile.
    pub name: Option<Vec<u8>>,
    /// The literal's date in seconds since 1970, if not 0. Not signed.
    pub date: Option<u32>,
    /// Number of readers, as far as the session key packets tell: keys of one certificate are one.
    pub recipients: usize,
    /// What identifies all that is inside the encryption.
    pub inside: VersionId,
    /// Each signature over the content, in their order in the blob.
    pub signatures: Vec<SignatureFacts>,
    /// Opens the blob again without a public-key operation.
    pub session_key: SessionKey,
    /// The identity of mine whose key opened it, by its primary key; `None` if a session key was
    /// given.
    pub opened_by: Option<Fingerprint>,
    /// A good signature is more than a minute ahead of our clock (and at most 48 hours).
    pub clock_ahead: bool,
}

/// A blob that was read, whatever it turned out to be.
pub struct Examined {
    /// What became of it.
    pub outcome: Outcome,
    /// It was read to its end. What cannot be a whole OpenPGP file is not: its digests are then
    /// those of a part.
    pub to_its_end: bool,
    /// SHA-1 of its bytes.
    pub name: BlobName,
    /// SHA-256 of its bytes.
    pub id: BlobId,
    /// Number of readers, as far as the session key packets tell: keys of one certificate are one.
    pub recipients: usize,
}

/// Opens a blob that is in RAM; its content will be there, too. As [`examine`].
pub fn open(
    mut bytes: &[u8],
    keyring: &Keyring<'_>,
    limits: &Limits,
    session_key: Option<&SessionKey>,
) -> Outcome {
    let limits = Limits {
        spill: None,
        ..limits.clone()
    };
    let length = bytes.len() as u64;
    let examined = examine(&mut bytes, length, keyring, &limits, session_key);
    examined.expect("what is in RAM can be read").outcome
}

/// Opens a blob of `length` bytes, armored or binary, reading it once and with little memory.
///
/// Armor may have text before and after it, any line ends, and no CRC24 line or a wrong one.
/// Every signature is reported by itself, whatever the others are, and also one that is meant
/// for others: its intended recipients are for the caller to judge. A bad signature does not
/// make a blob damaged.
///
/// A signature made up to 48 hours ahead of our clock is verified as if now were its time;
/// expiry and revocation of keys are judged at the time of signing, expiry of signatures now.
/// A `session_key` that does not fit is ignored.
///
/// # Errors
/// What reading `from` gives; `NoSpace` or `Io` if the content cannot be spilled; `Busy` if the work
/// was to be given up; what a key of mine says that cannot be asked, if no other opens the blob.
pub fn examine(
    from: &mut (dyn Read + Send + Sync),
    length: u64,
    keyring: &Keyring<'_>,
    limits: &Limits,
    session_key: Option<&SessionKey>,
) -> Fallible<Examined> {
    let reader = Reader {
        limits,
        search: KeySearch {
            identities: keyring.identities,
            most: limits.max_tried,
            known: session_key,
        },
        budget: Budget::new(limits, length),
        piece: Zeroizing::new(vec![0; PIECE]),
        inside: Inside::default(),
    };
    let mut source = Source::while_it_may_be_whole(from, length);
    let mut keys = Vec::new();
    let inside = reader.read(&mut source, &mut keys);
    // Only the end tells whether the file is whole, and nothing else, on the outside.
    source.skip_rest();
    let to_its_end = source.was_read_to_its_end();
    let (name, id) = source.digests()?;
    let addressees = source.addressees();
    let recipients = addressees.readers(keyring);
    // Only asked for what was not opened: it may cost key operations.
    let of_others = {
        let addressees = addressees.clone();
        move || addressees.exclude_me(&keys, keyring, limits.max_tried)
    };
    // For whom the others are, nobody has looked: they are kept from being removed unseen.
    let unseen = source.has_another();
    let outcome = match source.outline() {
        Outline::Message { .. } => match finish(inside, recipients, keyring, limits)? {
            Outcome::Damaged if of_others() => Outcome::NotMine,
            outcome => outcome,
        },
        Outline::Refused(_) if !unseen && of_others() => Outcome::NotMine,
        Outline::Refused(refusal) => Outcome::Refused(refusal),
        Outline::Incomplete => Outcome::Incomplete,
    };
    let recipients = match outcome {
        Outcome::Refused(Refusal::Several) => recipients.max(SEVERAL),
        _ => recipients,
    };
    Ok(Examined {
        outcome,
        to_its_end,
        name,
        id,
        recipients,
    })
}

/// Judges the signatures of a content that was read to its authenticated end.
fn finish(
    inside: Result<Inside, Stop>,
    recipients: usize,
    keyring: &Keyring<'_>,
    limits: &Limits,
) -> Fallible<Outcome> {
    let inside = match inside {
        Ok(inside) => inside,
        Err(Stop::NotMine) => return Ok(Outcome::NotMine),
        Err(Stop::Damaged) => return Ok(Outcome::Damaged),
        Err(Stop::Refused(refusal)) => return Ok(Outcome::Refused(refusal)),
        Err(Stop::TooLarge) => return Ok(Outcome::TooLarge),
        Err(Stop::GivenUp) => {
            return Err(Error::new(Kind::Busy, "reading a blob was given up"));
        }
        Err(Stop::Failed(error)) => return Err(error),
    };
    let (Some(content), Some(session_key)) = (inside.content, inside.session_key) else {
        return Ok(Outcome::Damaged);
    };
    let now = SystemTime::now();
    let mut judge = Judge::new(&content, inside.digest, keyring, now);
    let signatures = inside.signatures.iter();
    let signatures = signatures.map(|signature| match signature {
        Some(signature) => judge.judge(signature),
        None => SignatureFacts::unreadable(),
    });
    let signatures: Vec<_> = signatures.collect();
    if let Some(failure) = judge.failure {
        return Err(failure);
    }
    let header = version::literal_header(
        inside.format,
        inside.name.as_deref().unwrap_or_default(),
        inside.date.unwrap_or(0),
    );
    let packets = inside.signatures.iter().map(Option::as_ref);
    let version = version::inside(&header, &inside.digest, packets);
    // What was signed is the text as it came.
    let (content, digest) = match inside.format {
        b't' | b'u' => with_plain_line_ends(&content, limits)?,
        _ => (content, inside.digest),
    };
    let facts = Facts {
        inside: version,
        size: content.len(),
        digest,
        name: inside.name,
        date: inside.date,
        recipients,
        clock_ahead: signatures.iter().any(|signature| signature.ahead_of(now)),
        signatures,
        session_key,
        opened_by: inside.opened_by,
    };
    Ok(Outcome::Opened(Box::new(Opened { content, facts })))
}

/// Copies a text without its carriage returns, as GnuPG gives it out, with the copy's digest.
fn with_plain_line_ends(text: &Plaintext, limits: &Limits) -> Fallible<(Plaintext, [u8; 32])> {
    let area = limits.spill.as_ref();
    let mut plain = area.map_or_else(Plaintext::new, Plaintext::spilling);
    let mut digest = sha2::Sha256::new();
    let copied: Fallible<()> = text.pieces(|piece| {
        let mut kept = Zeroizing::new(Vec::with_capacity(piece.len()));
        kept.extend(piece.iter().filter(|byte| **byte != b'\r'));
        digest.update(&*kept);
        plain.append(&kept)
    });
    copied?;
    Ok((plain, digest.finalize().into()))
}

/// Why reading ended before the end.
pub(super) enum Stop {
    NotMine,
    Damaged,
    /// For me, but of a kind that is not read.
    Refused(Refusal),
    TooLarge,
    /// Nobody waits for it any more.
    GivenUp,
    /// The content cannot be kept.
    Failed(Error),
}

/// Where in the message the reader is.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Stage {
    /// Session key packets.
    #[default]
    Keys,
    /// In the container, before any signature.
    Container,
    /// After a one-pass or prefixed signature: the literal is next.
    Signed,
    /// After the literal.
    After,
    /// After the digest that ends a version 1 container.
    Ended,
}

/// What was found in the container.
#[derive(Default)]
struct Inside {
    stage: Stage,
    /// Version 1, which must end by its digest.
    needs_digest: bool,
    /// One-pass signatures whose signature is still to come.
    open_signatures: usize,
    literal_depth: isize,
    content: Option<Plaintext>,
    digest: [u8; 32],
    /// The literal's format, name and date.
    format: u8,
    name: Option<Vec<u8>>,
    date: Option<u32>,
    /// `None` for a signature that cannot be read.
    signatures: Vec<Option<Signature>>,
    session_key: Option<SessionKey>,
    opened_by: Option<Fingerprint>,
}

struct Reader<'a> {
    limits: &'a Limits,
    search: KeySearch<'a>,
    budget: Budget<'a>,
    /// Room for what is read at once.
    piece: Zeroizing<Vec<u8>>,
    inside: Inside,
}

impl Reader<'_> {
    /// Reads all packets; the session key packets among them are added to `keys`.
    fn read(mut self, packets: &mut Source<'_>, keys: &mut Vec<PKESK>) -> Result<Inside, Stop> {
        self.walk(packets, 0, keys)?;
        let inside = self.inside;
        let end = if inside.needs_digest {
            Stage::Ended
        } else {
            Stage::After
        };
        if inside.stage == end && inside.open_signatures == 0 {
            Ok(inside)
        } else {
            Err(Stop::Damaged)
        }
    }

    /// Reads packets that are in so many containers already, to their end.
    fn walk(
        &mut self,
        packets: impl Read + Send + Sync,
        above: u8,
        keys: &mut Vec<PKESK>,
    ) -> Result<(), Stop> {
        let parser = PacketParserBuilder::from_reader(packets).map_err(damaged)?;
        let parser = parser
            .dearmor(Dearmor::Disabled)
            // Signatures are verified over the content afterwards.
            .automatic_hashing(false)
            .max_recursion_depth(self.limits.max_depth.saturating_sub(above))
            .max_packet_size(LARGEST_PACKET);
        let mut next = parser.build().map_err(damaged)?;
        while let PacketParserResult::Some(mut packet) = next {
            self.packet(&mut packet, above, keys)?;
            let (packet, following) = packet.recurse().map_err(damaged)?;
            match packet {
                Packet::PKESK(key) => keys.push(key),
                Packet::Signature(signature) => self.inside.signatures.push(Some(signature)),
                _ => {}
            }
            next = following;
        }
        Ok(())
    }

    /// Checks that a packet may be here, and consumes containers and content.
    fn packet(
        &mut self,
        packet: &mut PacketParser<'_>,
        above: u8,
        keys: &[PKESK],
    ) -> Result<(), Stop> {
        let depth = packet.recursion_depth() + isize::from(above);
        let stage = self.inside.stage;
        if (depth == 0) != (stage == Stage::Keys) || stage == Stage::Ended {
            return Err(Stop::Damaged);
        }
        match stage {
            Stage::Keys => self.budget.packet_outside()?,
            _ => self.budget.packet_inside()?,
        }
        let tag = packet.packet.tag();
        match (stage, tag) {
            (Stage::Keys, Tag::PKESK | Tag::SKESK) => self.budget.keep(length(packet)),
            (_, Tag::Padding | Tag::Marker) => self.skip(packet),
            (_, unknown) if is_passed_over(unknown.into()) => self.skip(packet),
            (Stage::Keys, Tag::SEIP) => self.decrypt(packet, keys),
            (Stage::Keys, Tag::AED) => self.decrypt_chunks(packet, keys),
            (Stage::Container, Tag::CompressedData) => self.compressed(packet, depth),
            (Stage::Container | Stage::Signed, Tag::OnePassSig) => {
                self.inside.stage = Stage::Signed;
                self.inside.open_signatures += 1;
                self.skip(packet)
            }
            // A signature in front of what it signs, as old programs wrote it.
            (Stage::Container | Stage::Signed, Tag::Signature) => {
                self.inside.stage = Stage::Signed;
                self.signature(packet)
            }
            (Stage::Container | Stage::Signed, Tag::Literal) => self.literal(packet, depth),
            (Stage::After, Tag::Signature)
                if depth == self.inside.literal_depth && self.inside.open_signatures > 0 =>
            {
                self.inside.open_signatures -= 1;
                self.signature(packet)
            }
            #[allow(deprecated)]
            (Stage::After, Tag::MDC) if depth == 1 && self.inside.needs_digest => {
                match &packet.packet {
                    Packet::MDC(digest) if digest.valid() => {
                        self.inside.stage = Stage::Ended;
                        Ok(())
                    }
                    _ => Err(Stop::Damaged),
                }
            }
            _ => Err(Stop::Damaged),
        }
    }

    /// Notes a signature that cannot be read; [`Reader::read`] keeps the others.
    fn signature(&mut self, packet: &mut PacketParser<'_>) -> Result<(), Stop> {
        if matches!(packet.packet, Packet::Signature(_)) {
            self.budget.keep(length(packet))?;
        } else {
            self.inside.signatures.push(None);
        }
        self.skip(packet)
    }

    fn compressed(&mut self, packet: &PacketParser<'_>, depth: isize) -> Result<(), Stop> {
        let is_packed = match &packet.packet {
            Packet::CompressedData(data) => data.algo() != CompressionAlgorithm::Uncompressed,
            _ => true,
        };
        if is_packed {
            self.budget.layer(length(packet))?;
        }
        // At this depth the parser no longer looks inside.
        let deepest = depth >= isize::from(self.limits.max_depth);
        if packet.processed() && !deepest {
            Ok(())
        } else {
            Err(Stop::Damaged)
        }
    }

    fn literal(&mut self, packet: &mut PacketParser<'_>, depth: isize) -> Result<(), Stop> {
        let Packet::Literal(literal) = &packet.packet else {
            return Err(Stop::Damaged);
        };
        self.inside.stage = Stage::After;
        self.inside.literal_depth = depth;
        self.inside.format = literal.format().into();
        self.inside.name = literal.filename().map(<[u8]>::to_vec);
        let date = literal
            .date()
            .map(|date| crate::ids::Timestamp::from(date).seconds());
        self.inside.date = date.and_then(|date| u32::try_from(date).ok());
        let area = self.limits.spill.as_ref();
        let mut content = area.map_or_else(Plaintext::new, Plaintext::spilling);
        let mut digest = sha2::Sha256::new();
        self.drain(packet, |piece| {
            digest.update(piece);
            content.append(piece).map_err(Stop::Failed)
        })?;
        self.inside.digest = digest.finalize().into();
        self.inside.content = Some(content);
        Ok(())
    }

    fn skip(&mut self, packet: &mut PacketParser<'_>) -> Result<(), Stop> {
        self.drain(packet, |_| Ok(()))
    }

    /// Reads the rest of a packet's body, within the limits.
    fn drain(
        &mut self,
        packet: &mut PacketParser<'_>,
        mut sink: impl FnMut(&[u8]) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        loop {
            let count = packet.read(&mut self.piece).map_err(damaged)?;
            if count == 0 {
                return Ok(());
            }
            self.budget.bytes(count)?;
            sink(&self.piece[..count])?;
        }
    }

    fn decrypt(&mut self, packet: &mut PacketParser<'_>, keys: &[PKESK]) -> Result<(), Stop> {
        let (cipher, refusal) = match &packet.packet {
            Packet::SEIP(SEIP::V1(_)) => (None, None),
            Packet::SEIP(SEIP::V2(container)) => {
                let cipher = container.symmetric_algo();
                let refusal = Refusal::of_mode(container.aead());
                (
                    Some(cipher),
                    refusal.or_else(|| Refusal::of_aead_cipher(cipher)),
                )
            }
            _ => return Err(Stop::Damaged),
        };
        let version_1 = cipher.is_none();
        let attempt = |found: Option<SymmetricAlgorithm>, key: &pgp::crypto::SessionKey| {
            let cipher = cipher.or(found).ok_or(Misfit::Wrong)?;
            if let Some(refusal) = refusal.or_else(|| Refusal::of_cipher(cipher)) {
                return Err(Misfit::Refused(refusal));
            }
            if version_1 {
                // Less than a block, its repeated end and the digest: the library would panic.
                let block = cipher.block_size().map_err(|_| Misfit::Wrong)?;
                let least = packet.data_hard(block + 2 + 22).map(drop);
                least.map_err(|_| Misfit::Wrong)?;
            }
            packet
                .decrypt(cipher, key)
                .map_err(|_| Misfit::Wrong)
                .map(|()| cipher)
        };
        let found = self.search.find(keys, cipher, &self.budget, attempt)?;
        self.inside.needs_digest = version_1;
        self.enter(found, version_1);
        Ok(())
    }

    /// Notes that the container is open. Only version 1 leaves its cipher to the session key.
    fn enter(&mut self, found: Found, version_1: bool) {
        let cipher = version_1.then_some(found.cipher);
        self.inside.stage = Stage::Container;
        self.inside.session_key = Some(SessionKey::new(cipher, &found.key));
        self.inside.opened_by = found.opened_by;
    }

    /// Decrypts and reads GnuPG's own container, which the parser does not know.
    fn decrypt_chunks(
        &mut self,
        packet: &mut PacketParser<'_>,
        keys: &[PKESK],
    ) -> Result<(), Stop> {
        let mut chunks = match chunks::header(packet).map_err(damaged)? {
            Header::Readable(chunks) => chunks,
            Header::Unsupported(cipher, refusal) => {
                // It is refused if it is for me, which only a key can tell.
                let refused =
                    |_: Option<_>, _: &pgp::crypto::SessionKey| Err(Misfit::Refused(refusal));
                let found = self.search.find(keys, Some(cipher), &self.budget, refused);
                return found.map(drop);
            }
        };
        let cipher = chunks.cipher();
        let attempt = |_, key: &pgp::crypto::SessionKey| match chunks.try_key(key) {
            true => Ok(cipher),
            false => Err(Misfit::Wrong),
        };
        let found = self
            .search
            .find(keys, Some(cipher), &self.budget, attempt)?;
        self.enter(found, false);
        self.walk(&mut chunks, 1, &mut Vec::new())?;
        match chunks.is_at_its_end() {
            true => Ok(()),
            false => Err(Stop::Damaged),
        }
    }
}

/// Length of a packet's body, if its header says it.
fn length(packet: &PacketParser<'_>) -> Option<u32> {
    match packet.header().length() {
        BodyLength::Full(length) => Some(*length),
        BodyLength::Partial(_) | BodyLength::Indeterminate => None,
    }
}

fn damaged<E>(_: E) -> Stop {
    Stop::Damaged
}
