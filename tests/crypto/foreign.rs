//! What other programs write that DDS never does: GnuPG's own container, ciphers and modes that
//! are not read, and how each of them is named.

use std::io::Write as _;

use dds::openpgp::*;
use pgp::crypto::SessionKey as Key;
use pgp::packet::PKESK;
use pgp::packet::pkesk::PKESK3;
use pgp::parse::Parse as _;
use pgp::serialize::SerializeInto as _;
use pgp::types::{AEADAlgorithm, SymmetricAlgorithm as Cipher};
use sequoia_openpgp as pgp;

mod secret_keys;

struct Person {
    cert: pgp::Cert,
    identity: [Identity; 1],
}

impl Person {
    fn new(name: &str) -> Person {
        let made = generate(name, None, Profile::Compatible).unwrap();
        Person {
            cert: pgp::Cert::from_bytes(&made.certificate.to_bytes()).unwrap(),
            identity: [Identity::unlock(&made.secret, None).unwrap()],
        }
    }

    fn read(&self, blob: &[u8]) -> Outcome {
        let keyring = Keyring {
            identities: &self.identity,
            certificates: &CertIndex::default(),
        };
        open(blob, &keyring, &Limits::default(), None)
    }

    /// The session key packet of a container, to a named recipient.
    fn key_packet(&self, cipher: Cipher, key: &Key) -> Vec<u8> {
        let policy = pgp::policy::StandardPolicy::new();
        let keys = self.cert.keys().with_policy(&policy, None);
        let recipient = keys.for_storage_encryption().next().unwrap();
        let packet = PKESK3::for_recipient(cipher, key, recipient.key()).unwrap();
        pgp::Packet::from(PKESK::from(packet)).to_vec().unwrap()
    }
}

fn packet(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[0xC0 | tag, 255], &length[..], body].concat()
}

fn literal(content: &[u8]) -> Vec<u8> {
    packet(11, &[b"b\0\0\0\0\0", content].concat())
}

/// A message in GnuPG's own container (packet type 20).
struct Gnupg {
    cipher: Cipher,
    size_octet: u8,
}

impl Gnupg {
    fn encrypt(&self, to: &Person, inside: &[u8]) -> Vec<u8> {
        let key = Key::new(self.cipher.key_size().unwrap()).unwrap();
        let fixed = [1, self.cipher.into(), 2, self.size_octet];
        let iv = [0xA5; 15];
        let mut body = [&fixed[..], &iv].concat();
        let mut index = 0_u64;
        let mut seal = |content: &[u8], total: &[u8]| {
            let numbers = [&index.to_be_bytes()[..], total].concat();
            let additional = [&[0xD4][..], &fixed, &numbers].concat();
            let mut nonce = iv;
            for (octet, index) in nonce[7..].iter_mut().zip(index.to_be_bytes()) {
                *octet ^= index;
            }
            index += 1;
            let mut sealed = vec![0; content.len() + 16];
            AEADAlgorithm::OCB
                .context(self.cipher, &key, &additional, &nonce)
                .and_then(|context| context.for_encryption()?.encrypt_seal(&mut sealed, content))
                .unwrap();
            body.extend(sealed);
        };
        for chunk in inside.chunks(1 << (self.size_octet + 6)) {
            seal(chunk, b"");
        }
        seal(b"", &(inside.len() as u64).to_be_bytes());
        [to.key_packet(self.cipher, &key), packet(20, &body)].concat()
    }
}

const SMALL: Gnupg = Gnupg {
    cipher: Cipher::AES256,
    size_octet: 0,
};

/// Returns the content, or the reason why there is none.
fn content(outcome: Outcome) -> Result<Vec<u8>, String> {
    match outcome {
        Outcome::Opened(opened) => Ok(opened.content.read_at(0, usize::MAX).unwrap().to_vec()),
        Outcome::NotMine => Err("not mine".into()),
        Outcome::Incomplete => Err("incomplete".into()),
        Outcome::Refused(refusal) => Err(refusal.to_string()),
        Outcome::Damaged => Err("damaged".into()),
        Outcome::TooLarge => Err("too large".into()),
    }
}

#[test]
fn gnupg_s_container_is_read_with_any_number_of_chunks() {
    let alice = Person::new("alice");
    for length in [0, 1, 40, 63, 64, 65, 100, 127, 128, 129, 5000] {
        let text = vec![b'x'; length];
        for size_octet in [0, 1, 4, 16] {
            for cipher in [Cipher::AES128, Cipher::AES192, Cipher::AES256] {
                let blob = Gnupg { cipher, size_octet }.encrypt(&alice, &literal(&text));
                let read = content(alice.read(&blob));
                assert_eq!(read.as_ref(), Ok(&text), "{length} {size_octet} {cipher}");
            }
        }
    }
}

#[test]
fn in_gnupg_s_container_the_same_structures_are_accepted() {
    let alice = Person::new("alice");
    let text = literal(b"text");
    let layer = |inside: &[u8]| packet(8, &[&[0], inside].concat());
    let nested = |depth: usize| (0..depth).fold(text.clone(), |inside, _| layer(&inside));
    let padding = packet(21, &[0; 30]);
    for (i, inside) in [
        text.clone(),
        [&padding[..], &text, &padding].concat(),
        layer(&text),
        nested(14),
    ]
    .iter()
    .enumerate()
    {
        let read = content(alice.read(&SMALL.encrypt(&alice, inside)));
        assert_eq!(read, Ok(b"text".to_vec()), "{i}");
    }
    let inner = SMALL.encrypt(&alice, &text);
    for (i, inside) in [
        vec![],
        b"not a packet".to_vec(),
        padding.clone(),
        [&text[..], &text].concat(),
        [&text[..], &inner].concat(),
        inner.clone(),
        layer(&inner),
        text[..text.len() - 1].to_vec(),
        // The digest that ends another container has no place in this one.
        [&text[..], &[0xD3, 20], &[7; 20]].concat(),
        nested(16),
        nested(40),
    ]
    .iter()
    .enumerate()
    {
        let read = content(alice.read(&SMALL.encrypt(&alice, inside)));
        assert_eq!(read, Err("damaged".into()), "{i}");
    }
    let blob = SMALL.encrypt(&alice, &text);
    for around in [[&blob[..], &text].concat(), [&text[..], &blob].concat()] {
        assert!(matches!(alice.read(&around), Outcome::Refused(_)));
    }
    assert!(matches!(
        alice.read(&blob[..blob.len() - 1]),
        Outcome::Incomplete
    ));
    let bob = Person::new("bob");
    assert!(matches!(bob.read(&blob), Outcome::NotMine));
}

#[test]
fn what_is_for_me_and_not_read_says_what_it_is_and_what_helps() {
    let (alice, bob) = (Person::new("alice"), Person::new("bob"));
    let container = |cipher: Cipher, mode: u8| {
        let key = Key::new(cipher.key_size().unwrap()).unwrap();
        let body = [&[1, cipher.into(), mode, 16][..], &[7; 100]].concat();
        [alice.key_packet(cipher, &key), packet(20, &body)].concat()
    };
    let version_1 = |cipher: Cipher| {
        let key = Key::new(cipher.key_size().unwrap()).unwrap();
        let body = [&[1][..], &[7; 100]].concat();
        [alice.key_packet(cipher, &key), packet(18, &body)].concat()
    };
    #[allow(deprecated)]
    let (idea, cast, triple) = (Cipher::IDEA, Cipher::CAST5, Cipher::TripleDES);
    for (blob, said, remedy) in [
        (container(Cipher::AES256, 1), "EAX", "--rfc4880"),
        (container(Cipher::AES256, 77), "unknown", "--rfc4880"),
        (
            container(Cipher::Twofish, 2),
            "Twofish",
            "--cipher-algo AES256",
        ),
        (container(Cipher::Camellia256, 2), "Camellia", "AES"),
        (container(triple, 2), "3DES", "AES"),
        (version_1(idea), "IDEA", "AES"),
        (version_1(cast), "CAST5", "AES"),
        (version_1(Cipher::Blowfish), "Blowfish", "AES"),
        (version_1(Cipher::Twofish), "Twofish", "setpref"),
    ] {
        let Outcome::Refused(refusal) = alice.read(&blob) else {
            panic!("{said}: not refused");
        };
        assert!(refusal.to_string().contains(said), "{refusal}");
        assert!(refusal.remedy().contains(remedy), "{}", refusal.remedy());
        // It is nothing of those whom it is not for.
        assert!(matches!(bob.read(&blob), Outcome::NotMine), "{said}");
    }
    // What cannot be decrypted with a cipher that is read is damaged.
    for cipher in [triple, Cipher::AES128, Cipher::Camellia192] {
        assert!(matches!(alice.read(&version_1(cipher)), Outcome::Damaged));
    }
}

#[test]
fn chunks_are_bounded_whatever_the_container_says() {
    let alice = Person::new("alice");
    let huge = Gnupg {
        cipher: Cipher::AES256,
        size_octet: 17,
    };
    let small = literal(b"text");
    assert_eq!(
        content(alice.read(&huge.encrypt(&alice, &small))),
        Ok(b"text".to_vec())
    );
    let large = literal(&vec![0; 4 << 20]);
    let outcome = alice.read(&huge.encrypt(&alice, &large));
    assert!(matches!(outcome, Outcome::Refused(Refusal::LargeChunks)));
    let largest = Gnupg {
        cipher: Cipher::AES256,
        size_octet: 16,
    };
    let read = content(alice.read(&largest.encrypt(&alice, &large)));
    assert_eq!(read.map(|content| content.len()), Ok(4 << 20));
    for size_octet in [57, 58, 200, 255] {
        let key = Key::new(32).unwrap();
        let body = [&[1, 9, 2, size_octet][..], &[7; 100]].concat();
        let blob = [alice.key_packet(Cipher::AES256, &key), packet(20, &body)].concat();
        assert!(
            matches!(alice.read(&blob), Outcome::Damaged),
            "{size_octet}"
        );
    }
}

#[test]
fn what_expands_too_much_in_gnupg_s_container_is_too_large() {
    let alice = Person::new("alice");
    let mut inside = Vec::new();
    let message = pgp::serialize::stream::Message::new(&mut inside);
    let message = pgp::serialize::stream::Compressor::new(message).build();
    let message = pgp::serialize::stream::LiteralWriter::new(message.unwrap());
    let mut message = message.build().unwrap();
    for _ in 0..66 {
        message.write_all(&vec![0; 1 << 20]).unwrap();
    }
    message.finalize().unwrap();
    let blob = Gnupg {
        size_octet: 6,
        ..SMALL
    }
    .encrypt(&alice, &inside);
    assert!(matches!(alice.read(&blob), Outcome::TooLarge));
}

/// A file of several messages is said to be one, and none of them stands for the others.
#[test]
fn several_messages_in_one_file_are_said_whoever_they_are_for() {
    let (alice, bob) = (Person::new("alice"), Person::new("bob"));
    let seal = |to: &Person| SMALL.encrypt(to, &literal(b"text"));
    let armored = |to: &Person| {
        let mut out = pgp::armor::Writer::new(Vec::new(), pgp::armor::Kind::Message).unwrap();
        out.write_all(&seal(to)).unwrap();
        String::from_utf8(out.finalize().unwrap()).unwrap()
    };
    assert!(matches!(
        alice.read(armored(&alice).as_bytes()),
        Outcome::Opened(_)
    ));
    for (first, second) in [(&alice, &alice), (&alice, &bob), (&bob, &alice)] {
        let text = format!("{}Hello,\n\n{}bye\n", armored(first), armored(second));
        let binary = [seal(first), seal(second)].concat();
        for blob in [text.as_bytes(), &binary] {
            let outcome = alice.read(blob);
            assert!(matches!(outcome, Outcome::Refused(Refusal::Several)));
            assert_eq!(outline(blob), Outline::Refused(Refusal::Several));
        }
    }
    // Whatever comes first, and however they are joined.
    let clear = "-----BEGIN PGP SIGNED MESSAGE-----\n\nhello\n-----BEGIN PGP SIGNATURE-----\n\n\
                 wgEE\n-----END PGP SIGNATURE-----\n";
    let block =
        "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nxgEE\n-----END PGP PUBLIC KEY BLOCK-----\n";
    for to in [&alice, &bob] {
        for blob in [
            format!("{clear}{}", armored(to)).into_bytes(),
            format!("{block}{}", armored(to)).into_bytes(),
            [&seal(&alice)[..], b"\n", armored(to).as_bytes()].concat(),
            [&seal(&bob)[..], b"Hello,\n", armored(to).as_bytes()].concat(),
            [&seal(&alice)[..], b"\0\0\r\n", &seal(to)].concat(),
            [&packet(2, &[4]), &seal(&alice)[..]].concat(),
        ] {
            let outcome = alice.read(&blob);
            assert!(matches!(outcome, Outcome::Refused(Refusal::Several)));
            assert_eq!(outline(&blob), Outline::Refused(Refusal::Several));
        }
    }
    // What cannot be told apart from a part of another packet is still on its way.
    for tail in [&b"Gr\xC3\xBC\xC3\x9Fe\n"[..], &[b'\n'; 100_000]] {
        let blob = [&seal(&alice)[..], tail].concat();
        assert!(matches!(alice.read(&blob), Outcome::Incomplete));
    }
    // A key behind a message, as mail programs append it, is no second message.
    let key = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nYWJj\n-----END PGP PUBLIC KEY BLOCK-----\n";
    let letter = format!("{}{key}", armored(&alice));
    assert!(matches!(alice.read(letter.as_bytes()), Outcome::Opened(_)));
    let others = [seal(&bob), seal(&bob)].concat();
    assert!(matches!(alice.read(&others), Outcome::NotMine));
}

#[test]
fn packets_that_are_not_critical_are_passed_over_wherever_they_stand() {
    let alice = Person::new("alice");
    let text = literal(b"text");
    for unknown in [40, 52, 60, 63] {
        let unknown = packet(unknown, b"of somebody else's");
        for inside in [
            [&unknown[..], &text].concat(),
            [&text[..], &unknown].concat(),
        ] {
            let read = content(alice.read(&SMALL.encrypt(&alice, &inside)));
            assert_eq!(read, Ok(b"text".to_vec()));
        }
        let blob = SMALL.encrypt(&alice, &text);
        let read = content(alice.read(&[&unknown[..], &blob].concat()));
        assert_eq!(read, Ok(b"text".to_vec()));
    }
    let critical = packet(39, b"of somebody else's");
    let blob = SMALL.encrypt(&alice, &[&critical[..], &text].concat());
    assert_eq!(content(alice.read(&blob)), Err("damaged".into()));
}

#[test]
fn a_text_has_the_line_ends_that_gpg_gives_it() {
    let alice = Person::new("alice");
    for (format, expected) in [
        (b't', "one\ntwo\n"),
        (b'u', "one\ntwo\n"),
        (b'b', "one\r\ntwo\r\n"),
    ] {
        let body = [&[format][..], b"\0\0\0\0\0one\r\ntwo\r\n"].concat();
        let blob = SMALL.encrypt(&alice, &packet(11, &body));
        let Outcome::Opened(opened) = alice.read(&blob) else {
            panic!("not opened");
        };
        assert_eq!(opened.facts.size, expected.len() as u64);
        assert_eq!(opened.facts.digest, opened.content.digest().unwrap());
        assert_eq!(
            content(Outcome::Opened(opened)),
            Ok(expected.as_bytes().to_vec())
        );
    }
}

/// The same text in UTF-16, with and without a byte order mark.
fn in_utf16(text: &str) -> [Vec<u8>; 4] {
    let text = text.replace('\n', "\r\n");
    let marked = format!("\u{FEFF}{text}");
    let low = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let high = |text: &str| text.encode_utf16().flat_map(u16::to_be_bytes).collect();
    [low(&text), high(&text), low(&marked), high(&marked)]
}

#[test]
fn armor_in_utf_16_is_named_whatever_it_holds() {
    let (alice, bob) = (Person::new("alice"), Person::new("bob"));
    let armored = |to: &Person| {
        let mut out = pgp::armor::Writer::new(Vec::new(), pgp::armor::Kind::Message).unwrap();
        out.write_all(&SMALL.encrypt(to, &literal(b"text")))
            .unwrap();
        String::from_utf8(out.finalize().unwrap()).unwrap()
    };
    let letter = |to: &Person| format!("Grüße \u{1F600}\n{}", armored(to));
    for text in [armored(&alice), letter(&alice)] {
        for blob in in_utf16(&text) {
            let outcome = alice.read(&blob);
            let Outcome::Refused(refusal) = outcome else {
                panic!("it is taken for something else");
            };
            assert_eq!(outline(&blob), Outline::Refused(refusal));
            assert!(refusal.to_string().contains("UTF-16"), "{refusal}");
            assert!(refusal.remedy().contains("--armor --output"));
            assert!(matches!(bob.read(&blob), Outcome::NotMine));
            let part = &blob[..blob.len() - 20];
            assert!(matches!(alice.read(part), Outcome::Incomplete));
        }
    }
    for blob in in_utf16(&format!("{}{}", armored(&bob), armored(&bob))) {
        assert!(matches!(
            alice.read(&blob),
            Outcome::Refused(Refusal::Several)
        ));
    }
    for blob in in_utf16("Lunch is at noon.\n") {
        assert!(matches!(alice.read(&blob), Outcome::Incomplete));
    }
    let made = generate("carol", None, Profile::Compatible).unwrap();
    for file in in_utf16(std::str::from_utf8(&made.secret).unwrap()) {
        assert!(holds_secret_key(&file));
        let refused = Identity::unlock(&file, None).err().unwrap();
        assert!(refused.to_string().contains("UTF-16"), "{refused}");
        let mut bytes = &file[..];
        assert!(inspect(&mut bytes, file.len() as u64).unwrap().secret_key);
    }
    // What only begins as UTF-16 hides none.
    for start in [&b"a\0b\0\n"[..], b"\0a\0b\n", b"\xFF\xFEa\0\n"] {
        assert!(holds_secret_key(&[start, &made.secret].concat()));
    }
    for file in in_utf16(std::str::from_utf8(&made.certificate.to_armored()).unwrap()) {
        assert!(!holds_secret_key(&file));
        let refused = Certificate::parse_all(&file).err().unwrap();
        assert!(refused.to_string().contains("UTF-16"), "{refused}");
        assert!(Ring::split(&file).is_err());
    }
}

#[test]
fn blanks_behind_a_key_change_nothing() {
    let made = generate("carol", None, Profile::Compatible).unwrap();
    let secret = pgp::Cert::from_bytes(&made.secret).unwrap();
    let secret = secret.as_tsk().to_vec().unwrap();
    for tail in [&b"\n"[..], b"\r\n", b"\0\0", b" \x1a"] {
        let file = [&made.certificate.to_bytes()[..], tail].concat();
        assert_eq!(Certificate::parse_all(&file).unwrap().len(), 1);
        assert_eq!(Ring::split(&file).unwrap().certificates.len(), 1);
        let file = [&secret[..], tail].concat();
        assert!(Identity::unlock(&file, None).is_ok());
    }
    let cut = &secret[..secret.len() - 3];
    assert!(Identity::unlock(&[cut, b"\n\n"].concat(), None).is_err());
}
