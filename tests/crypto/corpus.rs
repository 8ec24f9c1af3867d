//! Messages and keys as other programs write them: GnuPG 2.2 (tests/corpus, made by scripts/make-corpus),
//! GnuPG 2.4 (scripts/make-corpus-ocb), PGPy and Bouncy Castle (scripts/make-corpus-flagless).

use std::fs;
use std::path::{Path, PathBuf};

use dds::error::Kind;
use dds::openpgp::*;
use dds::plaintext::Passphrase;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")
}

fn file(name: &str) -> Vec<u8> {
    fs::read(directory().join(name)).unwrap_or_else(|why| panic!("{name}: {why}"))
}

fn passphrase(text: &str) -> Passphrase {
    Passphrase::of(text.as_bytes()).unwrap()
}

fn identity(name: &str, secret: Option<&str>) -> Identity {
    let passphrase = secret.map(passphrase);
    Identity::unlock(&file(&format!("{name}.key.asc")), passphrase.as_ref()).unwrap()
}

fn certificate(name: &str) -> Certificate {
    let all = Certificate::parse_all(&file(&format!("{name}.cert.asc"))).unwrap();
    all.into_iter().next().unwrap()
}

/// What a file must turn out to be for the holder of a key. Dave is not known.
enum Expected {
    /// It opens: its signer, and the number of its recipients.
    Opens(&'static [&'static str], usize),
    /// Opens, and every signature is refused or of an unknown key.
    Unproven(usize),
    NotMine,
    Incomplete,
    Refused(Refusal),
}
use Expected::*;

const BOB: &[&str] = &["bob"];
const ALICE: &[&str] = &["alice"];

const TABLE: &[(&str, &str, Expected)] = &[
    ("alice", "named.asc", Opens(BOB, 1)),
    ("alice", "named.gpg", Opens(BOB, 1)),
    ("alice", "unsigned.asc", Opens(&[], 1)),
    ("alice", "several.asc", Opens(BOB, 3)),
    ("alice", "hidden.asc", Opens(BOB, 1)),
    ("alice", "hidden-several.asc", Opens(BOB, 3)),
    ("alice", "throw-keyids.asc", Opens(BOB, 2)),
    ("alice", "mixed.asc", Opens(BOB, 3)),
    ("alice", "passphrase-too.asc", Opens(BOB, 1)),
    ("alice", "two-signers.asc", Opens(&["alice", "bob"], 1)),
    ("alice", "unknown-signer.asc", Unproven(1)),
    ("alice", "text-mode.asc", Opens(BOB, 1)),
    ("alice", "eyes-only.asc", Opens(BOB, 1)),
    ("alice", "hostile-name.asc", Opens(BOB, 1)),
    ("alice", "sha1-signature.asc", Unproven(1)),
    ("alice", "aes128.asc", Opens(BOB, 1)),
    ("alice", "compress-none.asc", Opens(BOB, 1)),
    ("alice", "compress-zip.asc", Opens(BOB, 1)),
    ("alice", "compress-zlib.asc", Opens(BOB, 1)),
    ("alice", "compress-bzip2.asc", Opens(BOB, 1)),
    ("alice", "piped.asc", Opens(BOB, 1)),
    ("bob", "to-rsa.asc", Opens(ALICE, 1)),
    ("bob", "to-rsa-hidden.asc", Opens(ALICE, 1)),
    ("bob", "throw-keyids.asc", Opens(BOB, 2)),
    ("bob", "hidden-several.asc", Opens(BOB, 3)),
    ("carol", "to-carol.asc", Opens(ALICE, 1)),
    ("carol", "several.asc", Opens(BOB, 3)),
    ("alice", "by-erin.asc", Opens(&["erin"], 2)),
    // An expired key still reads.
    ("erin", "by-erin.asc", Opens(&["erin"], 2)),
    ("alice", "not-mine.asc", NotMine),
    ("alice", "not-mine-hidden.asc", NotMine),
    ("bob", "hidden.asc", NotMine),
    ("alice", "no-crc.asc", Opens(BOB, 1)),
    ("alice", "wrong-crc.asc", Opens(BOB, 1)),
    ("alice", "crlf.asc", Opens(BOB, 1)),
    ("alice", "in-a-letter.asc", Opens(BOB, 1)),
    ("alice", "comment.asc", Opens(BOB, 1)),
    ("alice", "symmetric.asc", Refused(Refusal::SymmetricOnly)),
    ("alice", "signed.asc", Refused(Refusal::Compressed)),
    ("alice", "signed-plain.asc", Refused(Refusal::SignedOnly)),
    (
        "alice",
        "clearsigned.asc",
        Refused(Refusal::CleartextSigned),
    ),
    ("alice", "detached.asc", Refused(Refusal::SignedOnly)),
    ("alice", "literal.asc", Refused(Refusal::Literal)),
    ("alice", "compressed.asc", Refused(Refusal::Compressed)),
    ("alice", "alice.cert.asc", Refused(Refusal::KeyFile)),
    ("alice", "bob.key.asc", Refused(Refusal::KeyFile)),
    // GnuPG's own container (packet type 20), as GnuPG 2.4 writes it.
    ("alice", "ocb.asc", Opens(BOB, 1)),
    ("alice", "ocb-hidden.asc", Opens(BOB, 2)),
    ("bob", "ocb-rsa.asc", Opens(BOB, 1)),
    ("alice", "ocb-rsa.asc", NotMine),
    ("alice", "ocb-not-mine.asc", NotMine),
    ("alice", "ocb-aes128.asc", Opens(BOB, 1)),
    ("alice", "ocb-chunks.gpg", Opens(BOB, 1)),
    ("alice", "ocb-chunk.gpg", Opens(BOB, 1)),
    // Keys that say nothing of their use.
    ("alice", "by-pgpy.asc", Opens(&["pgpy"], 1)),
    ("alice", "by-bouncy.asc", Opens(&["bouncy"], 1)),
    ("pgpy", "to-pgpy.asc", Opens(BOB, 1)),
    // This key names no digest, so that gpg signs with SHA-1.
    ("bouncy", "to-bouncy.asc", Unproven(1)),
    ("alice", "cut.gpg", Incomplete),
    ("alice", "cut.asc", Incomplete),
    ("alice", "empty.asc", Incomplete),
    ("alice", "lunch.txt", Incomplete),
    ("alice", "made-by.txt", Incomplete),
    ("alice", "made-by-ocb.txt", Incomplete),
    ("alice", "made-by-flagless.txt", Incomplete),
];

#[test]
fn every_message_of_gpg_is_what_it_should_be() {
    let lunch = file("lunch.txt");
    let known = CertIndex::new(["alice", "bob", "erin", "pgpy", "bouncy"].map(certificate));
    for (holder, name, expected) in TABLE {
        let secret = (*holder == "carol").then_some("corpus");
        let identities = [identity(holder, secret)];
        let keyring = Keyring {
            identities: &identities,
            certificates: &known,
        };
        let bytes = file(name);
        let outcome = open(&bytes, &keyring, &Limits::default(), None);
        let (signers, recipients) = match (outcome, expected) {
            (Outcome::NotMine, NotMine) | (Outcome::Incomplete, Incomplete) => continue,
            (Outcome::Refused(found), Refused(wanted)) if found == *wanted => {
                assert_eq!(outline(&bytes), Outline::Refused(found), "{name}");
                continue;
            }
            (Outcome::Opened(opened), Opens(..) | Unproven(_)) => {
                let content = opened.content.read_at(0, usize::MAX).unwrap();
                // Also in gpg's text mode, which has other line ends inside.
                assert!(*content == *lunch, "{name}: content");
                let facts = opened.facts;
                let recipients = facts.recipients;
                assert_eq!(outline(&bytes), Outline::Message { recipients }, "{name}");
                assert_eq!(facts.size, content.len() as u64, "{name}");
                let hint = match *name {
                    "eyes-only.asc" => Some("_CONSOLE"),
                    "hostile-name.asc" => Some("..\nlunch\u{1b}[2J"),
                    "piped.asc" => None,
                    _ => Some("lunch.txt"),
                };
                assert_eq!(facts.name.as_deref(), hint.map(str::as_bytes), "{name}");
                (facts.signatures, recipients)
            }
            _ => panic!("{name} for {holder}: something else"),
        };
        let good = |s: &&SignatureFacts| s.status == SignatureStatus::Good;
        let mut good: Vec<_> = signers
            .iter()
            .filter(good)
            .map(|s| s.signer.clone())
            .collect();
        good.sort();
        match expected {
            Opens(names, count) => {
                let wanted = names
                    .iter()
                    .map(|name| Some(certificate(name).fingerprint()));
                let mut wanted: Vec<_> = wanted.collect();
                wanted.sort();
                assert_eq!((good, recipients), (wanted, *count), "{name}");
                assert_eq!(signers.len(), names.len(), "{name}");
            }
            Unproven(count) => {
                assert_eq!((good.len(), recipients), (0, *count), "{name}");
                assert_eq!(signers.len(), 1, "{name}");
            }
            _ => unreachable!("handled above"),
        }
        assert!(signers.iter().all(|s| s.intended.is_empty()), "{name}");
    }
}

#[test]
fn every_file_of_the_corpus_is_in_the_table() {
    for entry in fs::read_dir(directory()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let key = name.ends_with(".cert.asc") || name.ends_with(".key.asc");
        assert!(
            key || TABLE.iter().any(|(_, file, _)| *file == name),
            "{name}"
        );
        assert!(file(&name).len() < 10 * 1024, "{name} is large");
    }
}

#[test]
fn keys_of_gpg_are_read() {
    for name in ["alice", "bob", "carol", "dave"] {
        let secret = file(&format!("{name}.key.asc"));
        assert!(holds_secret_key(&secret));
        let why = Certificate::parse_all(&secret).err().unwrap();
        assert_eq!(why.kind(), Kind::Invalid);
        assert!(why.to_string().contains("secret key"), "{why}");
        assert_eq!(Identity::is_locked(&secret).unwrap(), name == "carol");

        let certificate = certificate(name);
        assert!(!holds_secret_key(&certificate.to_bytes()));
        assert!(!certificate.announces_seipdv2());
        certificate.check_encryption().unwrap();
        let ids = certificate.user_ids();
        assert_eq!(
            ids[0].email.as_deref(),
            Some(&*format!("{name}@example.org"))
        );
        let again = Certificate::parse_all(&certificate.to_armored()).unwrap();
        assert_eq!(again[0].fingerprint(), certificate.fingerprint());
    }
    let carol = file("carol.key.asc");
    let wrong = Identity::unlock(&carol, Some(&passphrase("wrong")))
        .err()
        .unwrap();
    assert_eq!(wrong.kind(), Kind::WrongPassphrase);
    let rings = [file("alice.cert.asc"), file("bob.cert.asc")].concat();
    assert_eq!(Certificate::parse_all(&rings).unwrap().len(), 2);
    let hidden = [file("alice.cert.asc"), file("bob.key.asc")].concat();
    assert!(Certificate::parse_all(&hidden).is_err());
    for cut in [20, 300] {
        assert!(Certificate::parse_all(&file("alice.cert.asc")[..cut]).is_err());
    }
}

/// PGPy and Bouncy Castle write no key flags unless they are told to: then the algorithm decides, as
/// it does for gpg.
#[test]
fn a_key_that_says_nothing_of_its_use_signs_and_opens() {
    for (name, warned) in [("pgpy", false), ("bouncy", true)] {
        let certificate = certificate(name);
        certificate.check_encryption().unwrap();
        let me = identity(name, None);
        me.can_sign().unwrap();
        let said = me.shortcomings();
        assert_eq!(said.len(), usize::from(warned), "{name}: {said:?}");
        assert!(said.iter().all(|said| said.contains("names no digest")));

        let content = dds::plaintext::Plaintext::from(&b"a note"[..]);
        let notations = Notations::default();
        let request = || SealRequest {
            signer: &me,
            co_signers: &[],
            recipients: std::slice::from_ref(&certificate),
            intended: &[],
            named: true,
            name: "note",
            notations: &notations,
            content: &content,
            created: None,
        };
        for (sealed, to_all) in [
            (Sealed::prepare(request()), false),
            (Sealed::prepare_for_signer(request()), true),
        ] {
            let mut blob = Vec::new();
            sealed.unwrap().write_to(&mut blob).unwrap();
            // Bouncy Castle's key has two parts that could be encrypted for.
            let all_open = to_all || name == "pgpy";
            assert_eq!(me.each_key_opens(&blob), all_open, "{name}");
            let certificates = CertIndex::default();
            let keyring = Keyring {
                identities: std::slice::from_ref(&me),
                certificates: &certificates,
            };
            let opened = open(&blob, &keyring, &Limits::default(), None);
            let Outcome::Opened(opened) = opened else {
                panic!("{name}: not opened");
            };
            let signature = &opened.facts.signatures[0];
            assert_eq!(signature.status, SignatureStatus::Good, "{name}");
            assert_eq!(opened.facts.recipients, 1, "{name}");
        }
    }
}

#[test]
fn what_a_key_signed_before_it_expired_or_was_renewed_stays_good() {
    let (expired, renewed) = (certificate("erin"), certificate("erin-renewed"));
    assert_eq!(expired.fingerprint(), renewed.fingerprint());
    let why = expired.check_encryption().unwrap_err();
    assert_eq!(why.kind(), Kind::KeyExpired);
    renewed.check_encryption().unwrap();
    expired.merge(&renewed).unwrap().check_encryption().unwrap();

    let alice = [identity("alice", None)];
    for certificate in [&expired, &renewed, &expired.merge(&renewed).unwrap()] {
        let keyring = Keyring {
            identities: &alice,
            certificates: &CertIndex::new([certificate.clone()]),
        };
        let outcome = open(&file("by-erin.asc"), &keyring, &Limits::default(), None);
        let Outcome::Opened(opened) = outcome else {
            panic!("not opened");
        };
        let signature = &opened.facts.signatures[0];
        assert_eq!(signature.status, SignatureStatus::Good);
        assert_eq!(signature.signer, Some(expired.fingerprint()));
    }
}

#[test]
fn damaged_keys_never_panic_and_never_pass_as_public() {
    for name in ["alice", "carol"] {
        for kind in ["cert", "key"] {
            let armored = file(&format!("{name}.{kind}.asc"));
            let text = String::from_utf8(armored.clone()).unwrap();
            assert!(text.starts_with("-----BEGIN PGP"));
            for at in 0..armored.len() {
                let mut bad = armored.clone();
                bad[at] ^= 1 << (at % 8);
                for bytes in [&bad[..], &armored[..at]] {
                    let certificates = Certificate::parse_all(bytes);
                    for certificate in certificates.into_iter().flatten() {
                        assert!(!holds_secret_key(&certificate.to_bytes()), "byte {at}");
                        let _ = (certificate.user_ids(), certificate.check_encryption());
                    }
                    // A passphrase is slow on purpose; reading the rest is not.
                    let _ = Identity::is_locked(bytes);
                    if name == "alice" {
                        let _ = Identity::unlock(bytes, None);
                    }
                }
            }
        }
    }
    let cut = &file("alice.key.asc")[60..];
    assert!(holds_secret_key(&file("alice.key.asc")[..100]) && !holds_secret_key(&cut[..100]));
}

#[test]
fn a_session_key_opens_gnupg_s_own_container_again() {
    let alice = [identity("alice", None)];
    let known = CertIndex::new([certificate("bob")]);
    let mine = Keyring {
        identities: &alice,
        certificates: &known,
    };
    let nobody = Keyring {
        identities: &[],
        certificates: &known,
    };
    for name in ["ocb.asc", "ocb-chunks.gpg"] {
        let bytes = file(name);
        let Outcome::Opened(first) = open(&bytes, &mine, &Limits::default(), None) else {
            panic!("{name} is not opened");
        };
        let key = first.facts.session_key.to_bytes();
        let key = SessionKey::from_bytes(&key).unwrap();
        let Outcome::Opened(again) = open(&bytes, &nobody, &Limits::default(), Some(&key)) else {
            panic!("{name} is not opened by its session key");
        };
        assert_eq!(again.facts.digest, first.facts.digest);
        assert_eq!(again.facts.signatures[0].status, SignatureStatus::Good);
        let other = file("ocb-aes128.asc");
        let outcome = open(&other, &nobody, &Limits::default(), Some(&key));
        assert!(matches!(outcome, Outcome::NotMine));
    }
}

/// Every octet of GnuPG's own container counts, and so does its end.
#[test]
fn a_changed_or_shortened_container_of_gnupg_shows_nothing() {
    let alice = [identity("alice", None)];
    let keyring = Keyring {
        identities: &alice,
        certificates: &CertIndex::default(),
    };
    let read = |bytes: &[u8]| open(bytes, &keyring, &Limits::default(), None);
    let whole = file("ocb-chunks.gpg");
    let (pkesk, body) = split(&whole);
    let again = |body: &[u8]| [pkesk, &packet(20, body)].concat();
    assert!(matches!(read(&again(&body)), Outcome::Opened(_)));
    for at in 0..body.len() {
        let mut bad = body.clone();
        bad[at] ^= 1;
        match read(&again(&bad)) {
            Outcome::Damaged => {}
            // The version, the cipher, which the key packet has to fit, and the mode.
            Outcome::Refused(Refusal::UnknownEncryption) if at == 0 => {}
            Outcome::NotMine | Outcome::Refused(Refusal::Cipher(_)) if at == 1 => {}
            Outcome::Refused(Refusal::Mode("unknown")) if at == 2 => {}
            _ => panic!("octet {at}"),
        }
    }
    // Cut off after any octet, after whole chunks with or without the final tag, too.
    let (head, tag) = (4 + 15, 16);
    let chunk = 64 + tag;
    let chunks = (body.len() - head - tag) / chunk;
    for end in 0..body.len() {
        assert!(
            !matches!(read(&again(&body[..end])), Outcome::Opened(_)),
            "{end} octets"
        );
    }
    let last = &body[body.len() - tag..];
    for count in 0..chunks {
        let shorter = [&body[..head + count * chunk], last].concat();
        assert!(
            !matches!(read(&again(&shorter)), Outcome::Opened(_)),
            "{count} chunks"
        );
    }
    // Chunks exchanged, repeated, or from elsewhere.
    let at = |index: usize| &body[head + index * chunk..head + (index + 1) * chunk];
    let rest = &body[head + 2 * chunk..];
    for parts in [[at(1), at(0)], [at(0), at(0)], [at(0), at(2)]] {
        let exchanged = [&body[..head], parts[0], parts[1], rest].concat();
        assert!(matches!(read(&again(&exchanged)), Outcome::Damaged));
    }
    let more = [&body[..], &[0; 16]].concat();
    assert!(matches!(read(&again(&more)), Outcome::Damaged));
}

fn packet(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[0xC0 | tag, 255], &length[..], body].concat()
}

/// Splits a message of gpg into its first packet, of the old format and less than 256 octets, and
/// the body of its second, which may come in parts.
fn split(message: &[u8]) -> (&[u8], Vec<u8>) {
    assert_eq!(message[0], 0x84, "a key packet with a length of one octet");
    let (first, mut rest) = message.split_at(2 + usize::from(message[1]));
    assert_eq!(rest[0], 0xD4, "a container of type 20");
    rest = &rest[1..];
    let mut body = Vec::new();
    loop {
        let (length, octets, last) = match rest[0] {
            short @ 0..=191 => (usize::from(short), 1, true),
            high @ 192..=223 => {
                let high = usize::from(high - 192) << 8;
                (high + usize::from(rest[1]) + 192, 2, true)
            }
            255 => panic!("a long one"),
            part => (1 << (part & 31), 1, false),
        };
        body.extend_from_slice(&rest[octets..octets + length]);
        rest = &rest[octets + length..];
        if last {
            assert!(rest.is_empty());
            return (first, body);
        }
    }
}
