//! Reads the packets of one blob: only those that make a whole encrypted message, in their order,
//! each within the limits.

use std::io::Read;

use sequoia_openpgp as pgp;

use pgp::packet::header::BodyLength;
use pgp::packet::{PKESK, Packet, SEIP, Signature, Tag};
use pgp::parse::buffered_reader::BufferedReader as _;
use pgp::parse::{Dearmor, PacketParser, PacketParserBuilder, PacketParserResult, Parse as _};
use pgp::types::{CompressionAlgorithm, SymmetricAlgorithm};
use sha2::Digest as _;
use zeroize::Zeroizing;

use crate::ids::Fingerprint;
use crate::openpgp::SessionKey;
use crate::openpgp::budget::Budget;
use crate::openpgp::chunks::{self, Header};
use crate::openpgp::key_search::{ContainerKey, KeySearch, Misfit};
use crate::openpgp::limits::{Limits, Stop};
use crate::openpgp::packets::is_passed_over;
use crate::openpgp::refusal::Refusal;
use crate::openpgp::source::Source;
use crate::plaintext::Plaintext;

/// Bytes read at once from the content.
const PIECE: usize = 64 * 1024;
/// Largest packet that is read whole (a signature, a session key), in bytes.
const LARGEST_PACKET: u32 = 64 << 10;

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

/// The findings in the container.
#[derive(Default)]
pub(super) struct Inside {
    stage: Stage,
    /// Version 1, which must end by its digest.
    needs_digest: bool,
    /// One-pass signatures whose signature is still to come.
    open_signatures: usize,
    literal_depth: isize,
    pub(super) content: Option<Plaintext>,
    pub(super) digest: [u8; 32],
    /// The literal's format, name and date.
    pub(super) format: u8,
    pub(super) name: Option<Vec<u8>>,
    pub(super) date: Option<u32>,
    /// `None` for a signature that cannot be read.
    pub(super) signatures: Vec<Option<Signature>>,
    pub(super) session_key: Option<SessionKey>,
    pub(super) opened_by: Option<Fingerprint>,
}

pub(super) struct Reader<'a> {
    limits: &'a Limits,
    search: KeySearch<'a>,
    budget: Budget<'a>,
    /// Room for the bytes that are read at once.
    piece: Zeroizing<Vec<u8>>,
    inside: Inside,
}

impl<'a> Reader<'a> {
    /// Makes a reader for one blob of so many bytes.
    pub(super) fn new(search: KeySearch<'a>, limits: &'a Limits, length: u64) -> Self {
        Reader {
            limits,
            search,
            budget: Budget::new(limits, length),
            piece: Zeroizing::new(vec![0; PIECE]),
            inside: Inside::default(),
        }
    }

    /// Reads all packets; the session key packets among them are added to `keys`.
    pub(super) fn read(
        mut self,
        packets: &mut Source<'_>,
        keys: &mut Vec<PKESK>,
    ) -> Result<Inside, Stop> {
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
            // A signature in front of its content, as old programs wrote it.
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
    fn enter(&mut self, found: ContainerKey, version_1: bool) {
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
