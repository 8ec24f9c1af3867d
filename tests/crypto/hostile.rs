//! Hostile, damaged and half-arrived blobs: never a panic, never a byte of unproven content.

use std::io::Write as _;

use dds::openpgp::*;
use dds::plaintext::Plaintext;
use pgp::parse::Parse as _;
use pgp::serialize::stream::{Encryptor, Message, Recipient};
use pgp::serialize::{Serialize as _, SerializeInto as _};
use pgp::types::{AEADAlgorithm, Features, SymmetricAlgorithm};
use sequoia_openpgp as pgp;

fn alice() -> (NewIdentity, Identity) {
    let made = generate("alice <alice@example.org>", None, Profile::Compatible).unwrap();
    let identity = Identity::unlock(&made.secret, None).unwrap();
    (made, identity)
}

fn seal(by: &Identity, modern: Option<&Identity>, content: &[u8]) -> Vec<u8> {
    let to = modern.unwrap_or(by);
    let recipients = [to.certificate().clone()];
    let content = Plaintext::from(content);
    let sealed = Sealed::prepare(SealRequest {
        signer: by,
        co_signers: &[],
        recipients: &recipients,
        intended: &[to.fingerprint()],
        named: false,
        name: "x",
        notations: &Notations::default(),
        content: &content,
        created: None,
    });
    let mut bytes = Vec::new();
    sealed.unwrap().write_to(&mut bytes).unwrap();
    bytes
}

fn read(bytes: &[u8], mine: &Identity, key: Option<&SessionKey>) -> Outcome {
    read_within(bytes, mine, key, &Limits::default())
}

fn read_within(
    bytes: &[u8],
    mine: &Identity,
    key: Option<&SessionKey>,
    limits: &Limits,
) -> Outcome {
    let certificates = CertIndex::default();
    let keyring = Keyring {
        identities: std::slice::from_ref(mine),
        certificates: &certificates,
    };
    open(bytes, &keyring, limits, key)
}

fn dearmored(bytes: &[u8]) -> Vec<u8> {
    let mut binary = Vec::new();
    let mut reader = pgp::armor::Reader::from_bytes(bytes, None);
    std::io::copy(&mut reader, &mut binary).unwrap();
    binary
}

/// How a message of the test's own making is encrypted.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Container {
    V1,
    V2,
}

/// Encrypts arbitrary bytes for somebody, as packets of a container.
fn encrypt(to: &NewIdentity, container: Container, inside: &[u8]) -> Vec<u8> {
    let cert = pgp::Cert::from_bytes(&to.certificate.to_bytes()).unwrap();
    let policy = pgp::policy::StandardPolicy::new();
    let keys = cert
        .keys()
        .with_policy(&policy, None)
        .for_storage_encryption();
    let features = Features::empty().set_seipdv1();
    let recipients = keys.map(|key| Recipient::new(features.clone(), None, key.key()));
    let mut out = Vec::new();
    let encryptor = Encryptor::for_recipients(Message::new(&mut out), recipients)
        .symmetric_algo(SymmetricAlgorithm::AES256);
    let encryptor = match container {
        Container::V1 => encryptor,
        Container::V2 => encryptor.aead_algo(AEADAlgorithm::OCB),
    };
    let mut message = encryptor.build().unwrap();
    message.write_all(inside).unwrap();
    message.finalize().unwrap();
    out
}

fn packet(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[0xC0 | tag, 255], &length[..], body].concat()
}

fn literal(content: &[u8]) -> Vec<u8> {
    packet(11, &[b"b\0\0\0\0\0", content].concat())
}

fn compressed(algorithm: u8, packets: &[u8]) -> Vec<u8> {
    assert_eq!(algorithm, 0, "uncompressed");
    packet(8, &[&[0], packets].concat())
}

#[test]
fn every_flipped_byte_is_noticed() {
    let (_, alice) = alice();
    let modern = generate("m <m@example.org>", None, Profile::Modern).unwrap();
    let modern = Identity::unlock(&modern.secret, None).unwrap();
    for reader in [&alice, &modern] {
        let armored = seal(&alice, Some(reader), b"attack at dawn");
        let known = match read(&armored, reader, None) {
            Outcome::Opened(opened) => opened.facts.session_key,
            _ => panic!("not opened"),
        };
        let binary = dearmored(&armored);
        let pile = pgp::PacketPile::from_bytes(&binary).unwrap();
        let container = pile.children().next().unwrap().serialized_len();
        for blob in [&binary, &armored] {
            for at in 0..blob.len() {
                for flip in [1, 0x80] {
                    let mut bad = blob.clone();
                    bad[at] ^= flip;
                    // The session key spares the test two key operations for each.
                    for key in [Some(&known), None] {
                        if key.is_none() && at % 16 != 0 {
                            continue;
                        }
                        let outcome = read(&bad, reader, key);
                        let inside = blob == &binary && at >= container;
                        if inside && at >= container + 6 && key.is_none() {
                            // In the header of the container it would be cut off instead.
                            assert!(
                                matches!(outcome, Outcome::Damaged | Outcome::Incomplete),
                                "byte {at}"
                            );
                        }
                        if let Outcome::Opened(opened) = outcome {
                            assert!(!inside, "byte {at} of {container}..{}", blob.len());
                            let content = opened.content.read_at(0, usize::MAX).unwrap();
                            assert_eq!(*content, *b"attack at dawn", "byte {at}");
                            // Armor around the data, and keys that are not used, may differ.
                            let other = dearmored_quietly(&bad);
                            assert!(key.is_some() || other == binary, "byte {at}");
                        }
                    }
                }
            }
        }
    }
}

fn dearmored_quietly(bytes: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(bytes);
    let lines = text
        .lines()
        .filter(|line| !line.starts_with('-') && !line.starts_with('='));
    let body: String = lines.collect();
    let whole = format!("-----BEGIN PGP MESSAGE-----\n\n{body}\n-----END PGP MESSAGE-----\n");
    let mut out = Vec::new();
    let _ = std::io::copy(
        &mut pgp::armor::Reader::from_bytes(whole.as_bytes(), None),
        &mut out,
    );
    out
}

#[test]
fn a_part_of_a_blob_is_incomplete() {
    let (_, alice) = alice();
    let armored = seal(&alice, None, b"attack at dawn");
    let binary = dearmored(&armored);
    for length in 0..binary.len() {
        assert_eq!(
            outline(&binary[..length]),
            Outline::Incomplete,
            "{length} bytes"
        );
    }
    // Without its last line end, it is whole.
    for length in 0..armored.len() - 1 {
        let part = &armored[..length];
        assert_eq!(outline(part), Outline::Incomplete, "{length} bytes");
        assert!(matches!(read(part, &alice, None), Outcome::Incomplete));
    }
}

#[test]
fn only_one_structure_is_accepted() {
    let (made, alice) = alice();
    let text = literal(b"text");
    let padding = packet(21, &[0; 30]);
    let marker = packet(10, b"PGP");
    let ops = dummy_one_pass();
    let nested = |depth: usize| (0..depth).fold(text.clone(), |inside, _| compressed(0, &inside));
    let inner = encrypt(&made, Container::V1, &text);
    let join = |parts: &[&[u8]]| parts.concat();
    let accepted = [
        text.clone(),
        join(&[&marker, &text]),
        join(&[&padding, &text, &padding]),
        compressed(0, &text),
        join(&[&compressed(0, &join(&[&text, &padding])), &padding]),
        nested(14),
    ];
    let refused = [
        vec![],
        b"not a packet".to_vec(),
        marker.clone(),
        padding.clone(),
        join(&[&text, &text]),
        join(&[&compressed(0, &text), &text]),
        join(&[&compressed(0, &join(&[&text, &text]))]),
        join(&[&ops, &text]),
        join(&[&ops, &compressed(0, &text)]),
        join(&[&text, &ops]),
        join(&[&text, &packet(2, b"what")]),
        inner.clone(),
        join(&[&text, &inner]),
        join(&[&text, &packet(13, b"user id")]),
        join(&[&packet(39, b"critical"), &text]),
        join(&[&packet(9, b"no integrity"), &text]),
        compressed(0, &inner),
        compressed(0, b""),
        packet(8, &[99, 1, 2, 3]),
        packet(11, b"b"),
        text[..text.len() - 1].to_vec(),
        nested(16),
        nested(40),
    ];
    for container in [Container::V1, Container::V2] {
        for (i, inside) in accepted.iter().enumerate() {
            let blob = encrypt(&made, container, inside);
            let Outcome::Opened(opened) = read(&blob, &alice, None) else {
                panic!("{container:?}: {i} is not accepted");
            };
            assert_eq!(*opened.content.read_at(0, 10).unwrap(), *b"text");
            assert!(opened.facts.signatures.is_empty());
        }
        for (i, inside) in refused.iter().enumerate() {
            let blob = encrypt(&made, container, inside);
            let outcome = read(&blob, &alice, None);
            assert!(matches!(outcome, Outcome::Damaged), "{container:?}: {i}");
        }
    }
    // Around the container.
    let blob = encrypt(&made, Container::V1, &text);
    for around in [
        join(&[&blob, &text]),
        join(&[&blob, &blob]),
        join(&[&text, &blob]),
    ] {
        assert!(matches!(read(&around, &alice, None), Outcome::Refused(_)));
    }
    // Gpg complains of words behind it, and takes it; what could be a packet makes it no message.
    let trailing = join(&[&blob, b"garbage"]);
    assert!(matches!(read(&trailing, &alice, None), Outcome::Opened(_)));
    for garbage in [&b"\xff"[..], b"garbage\xff"] {
        let trailing = join(&[&blob, garbage]);
        assert!(matches!(read(&trailing, &alice, None), Outcome::Incomplete));
    }
}

fn dummy_one_pass() -> Vec<u8> {
    let mut packet = vec![3, 0, 8, 22];
    packet.extend([1; 8]);
    packet.push(1);
    self::packet(4, &packet)
}

#[test]
fn integrity_cannot_be_stripped() {
    let (made, alice) = alice();
    let blob = encrypt(&made, Container::V1, &literal(b"attack at dawn"));
    let pile = pgp::PacketPile::from_bytes(&blob).unwrap();
    let packets: Vec<pgp::Packet> = pile.into_children().collect();
    let pkesk = packets[0].to_vec().unwrap();
    let pgp::Packet::SEIP(container) = &packets[1] else {
        panic!("no container");
    };
    let mut body = Vec::new();
    pgp::Packet::SEIP(container.clone())
        .serialize(&mut body)
        .unwrap();
    let body = match container {
        pgp::packet::SEIP::V1(container) => match container.body() {
            pgp::packet::Body::Unprocessed(body) => body.clone(),
            _ => panic!("processed"),
        },
        _ => panic!("version"),
    };
    let v1 = |body: &[u8]| [&pkesk[..], &packet(18, &[&[1], body].concat())].concat();
    assert!(matches!(read(&v1(&body), &alice, None), Outcome::Opened(_)));
    let mut wrong = body.clone();
    *wrong.last_mut().unwrap() ^= 1;
    assert!(matches!(read(&v1(&wrong), &alice, None), Outcome::Damaged));
    // Cut off: the digest, a part of it, and what CFB then decrypts to garbage.
    for cut in [22, 21, 20, 2, 1] {
        let outcome = read(&v1(&body[..body.len() - cut]), &alice, None);
        assert!(matches!(outcome, Outcome::Damaged), "{cut} bytes");
    }
    // The same bytes without integrity protection (EFAIL).
    for body in [&body[..], &body[..body.len() - 22]] {
        let sed = [&pkesk[..], &packet(9, body)].concat();
        assert_eq!(outline(&sed), Outline::Refused(Refusal::NoIntegrity));
        let outcome = read(&sed, &alice, None);
        assert!(matches!(outcome, Outcome::Refused(Refusal::NoIntegrity)));
    }
    // A container of the other version around the same bytes.
    let v2 = [
        &pkesk[..],
        &packet(18, &[&[2, 9, 2, 6], &body[..]].concat()),
    ]
    .concat();
    assert!(!matches!(read(&v2, &alice, None), Outcome::Opened(_)));
}

#[test]
fn what_expands_too_much_is_refused() {
    let (made, alice) = alice();
    let bomb = |length: usize| {
        use pgp::serialize::stream::{Compressor, LiteralWriter};
        let mut out = Vec::new();
        let message = Compressor::new(Message::new(&mut out));
        let message = message
            .algo(pgp::types::CompressionAlgorithm::Zlib)
            .build()
            .unwrap();
        let mut message = LiteralWriter::new(message).build().unwrap();
        let zeros = vec![0; 1 << 20];
        for _ in 0..length >> 20 {
            message.write_all(&zeros).unwrap();
        }
        message.finalize().unwrap();
        encrypt(&made, Container::V1, &out)
    };
    let small = bomb(60 << 20);
    let large = bomb(66 << 20);
    assert!(large.len() < 100_000);
    assert!(matches!(read(&small, &alice, None), Outcome::Opened(_)));
    assert!(matches!(read(&large, &alice, None), Outcome::TooLarge));
    let limits = Limits {
        max_content: 1 << 20,
        ..Limits::default()
    };
    assert!(matches!(
        read_within(&small, &alice, None, &limits),
        Outcome::TooLarge
    ));

    // A header may promise anything.
    let promise = [&[0xC0 | 11, 255, 255, 255, 255, 255][..], b"b\0\0\0\0\0x"].concat();
    let blob = encrypt(&made, Container::V2, &promise);
    assert!(matches!(read(&blob, &alice, None), Outcome::Damaged));
}

#[test]
fn regression_a_container_too_short_for_its_digest_is_no_message() {
    let (made, alice) = alice();
    let blob = encrypt(&made, Container::V1, b"");
    assert!(
        blob[0] == 0xC1 && blob[1] < 192,
        "a short session key packet"
    );
    let key = blob[..2 + usize::from(blob[1])].to_vec();
    // The version and a block with its repeated end, which the session key decrypts.
    let body = &blob[blob.len() - (1 + 16 + 2 + 22)..];
    assert_eq!(body[0], 1);
    for length in 1..body.len() {
        let short = [&key[..], &packet(18, &body[..length])].concat();
        let outcome = read(&short, &alice, None);
        assert!(
            matches!(outcome, Outcome::Incomplete | Outcome::Damaged),
            "{length} bytes"
        );
    }
    let whole = [&key[..], &packet(18, body)].concat();
    assert!(matches!(read(&whole, &alice, None), Outcome::Damaged));
}

#[test]
fn only_so_many_recipients_are_tried() {
    let (made, alice) = alice();
    let (other, _) = self::alice();
    let blob = encrypt(&made, Container::V1, &literal(b"text"));
    let theirs = encrypt(&other, Container::V1, &literal(b"text"));
    let first = |blob: &[u8]| {
        let pile = pgp::PacketPile::from_bytes(blob).unwrap();
        pile.children().next().unwrap().to_vec().unwrap()
    };
    let theirs = first(&theirs);
    let with = |count: usize| [&theirs.repeat(count)[..], &blob].concat();
    assert!(matches!(read(&with(63), &alice, None), Outcome::Opened(_)));
    assert!(matches!(read(&with(64), &alice, None), Outcome::NotMine));
}

#[test]
fn random_packets_inside_never_panic() {
    let (made, alice) = alice();
    let mut seed = 1_u64;
    let mut random = move |below: u64| {
        seed = seed
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (seed >> 33) % below
    };
    let signed = {
        let blob = seal(&alice, None, b"signed");
        let Outcome::Opened(opened) = read(&blob, &alice, None) else {
            panic!("not opened");
        };
        assert_eq!(opened.facts.signatures.len(), 1);
        signed_packets(&alice)
    };
    for round in 0..1500 {
        let mut parts: Vec<Vec<u8>> = Vec::new();
        for _ in 0..random(6) {
            let part = match random(8) {
                0 => literal(b"x"),
                1 => dummy_one_pass(),
                2 => packet(
                    random(64) as u8,
                    &vec![random(256) as u8; random(40) as usize],
                ),
                3 => compressed(0, &parts.concat()),
                _ => signed[random(signed.len() as u64) as usize].clone(),
            };
            parts.push(part);
        }
        let mut inside = parts.concat();
        if random(2) == 0 && !inside.is_empty() {
            let at = random(inside.len() as u64) as usize;
            inside[at] ^= random(256) as u8;
        }
        let container = [Container::V1, Container::V2][round % 2];
        if let Outcome::Opened(opened) = read(&encrypt(&made, container, &inside), &alice, None) {
            for signature in opened.facts.signatures {
                let good = signature.status == SignatureStatus::Good;
                let content = opened.content.read_at(0, usize::MAX).unwrap();
                assert!(!good || *content == *b"signed", "round {round}");
            }
        }
    }
}

/// The packets of a signed message: one-pass signature, literal, signature.
fn signed_packets(by: &Identity) -> Vec<Vec<u8>> {
    let blob = seal(by, None, b"signed");
    let Outcome::Opened(opened) = read(&blob, by, None) else {
        panic!("not opened");
    };
    let key = opened.facts.session_key.to_bytes();
    let key = pgp::crypto::SessionKey::from(&key[1..]);
    let parser = pgp::parse::PacketParserBuilder::from_bytes(&blob).unwrap();
    let mut next = parser.buffer_unread_content().build().unwrap();
    let mut packets = Vec::new();
    while let pgp::parse::PacketParserResult::Some(mut parser) = next {
        if matches!(parser.packet, pgp::Packet::SEIP(_)) {
            parser.decrypt(SymmetricAlgorithm::AES256, &key).unwrap();
        }
        let (packet, following) = parser.recurse().unwrap();
        if matches!(
            packet.tag(),
            pgp::packet::Tag::OnePassSig | pgp::packet::Tag::Literal | pgp::packet::Tag::Signature
        ) {
            packets.push(packet.to_vec().unwrap());
        }
        next = following;
    }
    assert_eq!(packets.len(), 3);
    packets
}

#[test]
fn a_signature_in_front_of_its_content_counts() {
    let (made, alice) = alice();
    let packets = signed_packets(&alice);
    let (literal, signature) = (&packets[1], &packets[2]);
    let blob = encrypt(&made, Container::V1, &[&signature[..], literal].concat());
    let Outcome::Opened(opened) = read(&blob, &alice, None) else {
        panic!("not opened");
    };
    assert_eq!(opened.facts.signatures[0].status, SignatureStatus::Good);
    // Over another content it is bad, and the blob is still shown.
    let blob = encrypt(
        &made,
        Container::V1,
        &[&signature[..], &self::literal(b"Signed")].concat(),
    );
    let Outcome::Opened(opened) = read(&blob, &alice, None) else {
        panic!("not opened");
    };
    let status = &opened.facts.signatures[0].status;
    assert!(matches!(status, SignatureStatus::Bad(_)), "{status:?}");
}

#[test]
fn a_full_disk_is_told_as_such() {
    struct Full(usize);
    impl std::io::Write for Full {
        fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
            self.0 = self
                .0
                .checked_sub(data.len())
                .ok_or_else(|| std::io::Error::from_raw_os_error(libc::ENOSPC))?;
            Ok(data.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let (_, alice) = alice();
    let content = Plaintext::from(&vec![7; 100_000][..]);
    let sealed = Sealed::prepare(SealRequest {
        signer: &alice,
        co_signers: &[],
        recipients: &[alice.certificate().clone()],
        intended: &[],
        named: false,
        name: "x",
        notations: &Notations::default(),
        content: &content,
        created: None,
    });
    let sealed = sealed.unwrap();
    for room in [0, 1, 100, 5000, 100_000] {
        let result = sealed.write_to(&mut Full(room));
        let kind = result.err().expect("no room").kind();
        assert_eq!(kind, dds::error::Kind::NoSpace, "{room} bytes");
    }
}
