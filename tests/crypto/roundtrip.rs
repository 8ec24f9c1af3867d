//! What is sealed opens again, with every fact, and with nothing else.

use std::time::{Duration, SystemTime};

use dds::error::Kind;
use dds::ids::{BlobId, BlobKind, BlobName, DocId};
use dds::openpgp::*;
use dds::plaintext::{Passphrase, Plaintext};

fn person(name: &str, profile: Profile) -> Identity {
    let made = generate(&format!("{name} <{name}@example.org>"), None, profile).unwrap();
    Identity::unlock(&made.secret, None).unwrap()
}

fn notations() -> Notations {
    Notations {
        version: Some(1),
        kind: Some(BlobKind::Note),
        path: Some("trip/plan \u{e9}.md".into()),
        doc: Some(DocId::from_random([7; 16])),
        copy: None,
        replaces: vec![BlobName::of(b"a"), BlobName::of(b"b")],
        mtime: Some("1763740800.000000001".parse().unwrap()),
        mode: Some(0o640),
        reserved: vec![("via".into(), b"list".to_vec())],
    }
}

struct Letter<'a> {
    from: &'a Identity,
    to: &'a [&'a Identity],
    content: &'a [u8],
    created: Option<SystemTime>,
    named: bool,
}

impl<'a> Letter<'a> {
    fn new(from: &'a Identity, to: &'a [&'a Identity], content: &'a [u8]) -> Self {
        Letter {
            from,
            to,
            content,
            created: None,
            named: false,
        }
    }

    fn seal(&self) -> (Vec<u8>, Receipt) {
        let recipients: Vec<_> = self.to.iter().map(|to| to.certificate().clone()).collect();
        let intended: Vec<_> = self.to.iter().map(|to| to.fingerprint()).collect();
        let content = Plaintext::from(self.content);
        let notations = notations();
        let sealed = Sealed::prepare(SealRequest {
            signer: self.from,
            co_signers: &[],
            recipients: &recipients,
            intended: &intended,
            named: self.named,
            name: "plan.md",
            notations: &notations,
            content: &content,
            created: self.created,
        })
        .unwrap();
        let mut bytes = Vec::new();
        let receipt = sealed.write_to(&mut bytes).unwrap();
        (bytes, receipt)
    }
}

fn read(bytes: &[u8], by: &[Identity], known: &[&Identity], key: Option<&SessionKey>) -> Outcome {
    let certificates = CertIndex::new(known.iter().map(|known| known.certificate().clone()));
    let keyring = Keyring {
        identities: by,
        certificates: &certificates,
    };
    open(bytes, &keyring, &Limits::default(), key)
}

#[track_caller]
fn opened(outcome: Outcome) -> Opened {
    match outcome {
        Outcome::Opened(opened) => *opened,
        Outcome::NotMine => panic!("not mine"),
        Outcome::Incomplete => panic!("incomplete"),
        Outcome::Refused(why) => panic!("refused: {why:?}"),
        Outcome::Damaged => panic!("damaged"),
        Outcome::TooLarge => panic!("too large"),
    }
}

/// The version of the encrypted container of an armored blob.
fn container_version(blob: &[u8]) -> u8 {
    use pgp::parse::Parse as _;
    use sequoia_openpgp as pgp;
    let pile = pgp::PacketPile::from_bytes(blob).unwrap();
    pile.children().last().unwrap().version().unwrap()
}

fn text(content: &Plaintext) -> Vec<u8> {
    content.read_at(0, usize::MAX).unwrap().to_vec()
}

#[test]
fn what_is_sealed_opens_again_with_all_facts() {
    for (profile, version) in [(Profile::Compatible, 1), (Profile::Modern, 2)] {
        let alice = person("alice", profile);
        let bob = person("bob", profile);
        let recipients = [&alice, &bob];
        for length in [0, 1, 2000, 65_535, 70_000, 1 << 20] {
            let content: Vec<u8> = (0..length).map(|i| (i * 7 / 3) as u8).collect();
            let (bytes, receipt) = Letter::new(&alice, &recipients, &content).seal();
            assert_eq!(receipt.name, BlobName::of(&bytes));
            assert_eq!(receipt.id, BlobId::of(&bytes));
            assert_eq!(receipt.length, bytes.len() as u64);
            assert_eq!(outline(&bytes), Outline::Message { recipients: 2 });

            assert_eq!(container_version(&bytes), version);

            let bobs = std::slice::from_ref(&bob);
            let found = opened(read(&bytes, bobs, &[&alice], None));
            assert!(text(&found.content) == content);
            let facts = &found.facts;
            assert_eq!(facts.size, length);
            assert_eq!(facts.digest, *BlobId::of(&content).as_bytes());
            assert_eq!(facts.name.as_deref(), Some(&b"plan.md"[..]));
            assert_eq!(facts.date, Some(1763740800));
            assert_eq!(facts.recipients, 2);
            assert!(!facts.clock_ahead);
            let [signature] = &facts.signatures[..] else {
                panic!("one signature");
            };
            assert_eq!(signature.status, SignatureStatus::Good);
            assert_eq!(signature.signer, Some(alice.fingerprint()));
            assert_eq!(signature.created, Some(receipt.created));
            assert_eq!(signature.intended, [alice.fingerprint(), bob.fingerprint()]);
            assert!(signature.notations == notations());

            // Nobody's key is needed once the session key is known.
            for key in [&facts.session_key, &receipt.session_key] {
                let key = SessionKey::from_bytes(&key.to_bytes()).unwrap();
                let again = opened(read(&bytes, &[], &[&alice], Some(&key)));
                assert!(text(&again.content) == content);
                assert_eq!(again.facts.signatures[0].status, SignatureStatus::Good);
            }
        }
    }
}

#[test]
fn others_cannot_open_it() {
    let (alice, eve) = (
        person("alice", Profile::Compatible),
        person("eve", Profile::Compatible),
    );
    for named in [false, true] {
        let to_myself = [&alice];
        let mut letter = Letter::new(&alice, &to_myself, b"x");
        letter.named = named;
        let (bytes, _) = letter.seal();
        let eves = std::slice::from_ref(&eve);
        assert!(matches!(
            read(&bytes, eves, &[&alice], None),
            Outcome::NotMine
        ));
        let (_, other) = Letter::new(&eve, &[&eve], b"y").seal();
        let wrong = read(&bytes, eves, &[], Some(&other.session_key));
        assert!(matches!(wrong, Outcome::NotMine));
        let alices = std::slice::from_ref(&alice);
        opened(read(&bytes, alices, &[], Some(&other.session_key)));
    }
}

#[test]
fn a_good_signature_for_others_stays_good_and_names_them() {
    let alice = person("alice", Profile::Compatible);
    let bob = person("bob", Profile::Compatible);
    let carol = person("carol", Profile::Compatible);
    // Encrypted for bob, but signed as meant for carol.
    let recipients = [bob.certificate().clone()];
    let content = Plaintext::from(&b"for carol"[..]);
    let sealed = Sealed::prepare(SealRequest {
        signer: &alice,
        co_signers: &[&carol],
        recipients: &recipients,
        intended: &[carol.fingerprint()],
        named: true,
        name: "",
        notations: &Notations::default(),
        content: &content,
        created: None,
    })
    .unwrap();
    let mut bytes = Vec::new();
    sealed.write_to(&mut bytes).unwrap();
    let found = opened(read(&bytes, &[bob], &[&alice], None));
    let signatures = &found.facts.signatures;
    assert_eq!(signatures.len(), 2);
    // The outermost is last: signatures bracket the content.
    assert_eq!(signatures[1].status, SignatureStatus::Good);
    assert_eq!(signatures[1].signer, Some(alice.fingerprint()));
    assert_eq!(signatures[1].intended, [carol.fingerprint()]);
    // Each is judged by itself.
    assert_eq!(signatures[0].status, SignatureStatus::UnknownKey);
    assert_eq!(signatures[0].signer, None);
    assert_eq!(found.facts.name, None);
}

#[test]
fn clocks_may_be_48_hours_ahead() {
    let alice = person("alice", Profile::Compatible);
    let to_myself = [&alice];
    let mut letter = Letter::new(&alice, &to_myself, b"tomorrow");
    for (hours, good) in [(0, true), (47, true), (49, false)] {
        letter.created = Some(SystemTime::now() + Duration::from_secs(hours * 3600));
        let (bytes, _) = letter.seal();
        let found = opened(read(&bytes, std::slice::from_ref(&alice), &[], None));
        let is_good = found.facts.signatures[0].status == SignatureStatus::Good;
        assert_eq!(is_good, good, "{hours} h ahead");
        assert_eq!(found.facts.clock_ahead, hours == 47);
    }
}

#[test]
fn small_contents_have_one_length() {
    for profile in [Profile::Compatible, Profile::Modern] {
        let (alice, bob) = (person("alice", profile), person("bob", profile));
        let recipients = [&bob, &alice];
        let mut lengths: Vec<u64> = (1..=600)
            .step_by(3)
            .map(|length| {
                Letter::new(&alice, &recipients, &vec![b'x'; length])
                    .seal()
                    .1
                    .length
            })
            .collect();
        lengths.dedup();
        assert_eq!(lengths.len(), 1, "{profile:?}: {lengths:?}");
    }
}

#[test]
fn a_passphrase_locks_the_key() {
    let passphrase = |text: &str| Passphrase::of(text.as_bytes()).unwrap();
    let right = passphrase("correct horse");
    let made = generate("alice <Alice@Example.org>", Some(&right), Profile::Modern).unwrap();
    assert!(Identity::is_locked(&made.secret).unwrap());
    for wrong in [None, Some(passphrase("wrong"))] {
        let result = Identity::unlock(&made.secret, wrong.as_ref());
        assert_eq!(result.err().unwrap().kind(), Kind::WrongPassphrase);
    }
    let alice = Identity::unlock(&made.secret, Some(&right)).unwrap();
    assert_eq!(alice.fingerprint(), made.certificate.fingerprint());
    let public = made.certificate.to_armored();
    let none = Identity::unlock(&public, Some(&right));
    assert_eq!(none.err().unwrap().kind(), Kind::NoKey);
    assert!(Certificate::parse_all(&made.secret).is_err());
    assert!(holds_secret_key(&made.secret) && !holds_secret_key(&public));
    let ids = made.certificate.user_ids();
    assert_eq!(ids[0].email.as_deref(), Some("alice@example.org"));
    assert_eq!(ids[0].name.as_deref(), Some("alice"));
}

#[test]
fn a_revocation_is_never_lost() {
    let made = generate("alice <alice@example.org>", None, Profile::Compatible).unwrap();
    let revoked = Certificate::parse_all(&made.revocation).unwrap().remove(0);
    let merged = revoked.merge(&made.certificate).unwrap();
    for certificate in [
        &revoked,
        &merged,
        &made.certificate.merge(&revoked).unwrap(),
    ] {
        let kind = certificate.check_encryption().unwrap_err().kind();
        assert_eq!(kind, Kind::KeyRevoked);
    }
    made.certificate.check_encryption().unwrap();
}

#[test]
fn what_is_encrypted_has_a_padme_length() {
    use pgp::parse::Parse as _;
    use sequoia_openpgp as pgp;
    // Padmé (see dds-store(5)): no more than log2(log2 n) + 1 leading bits, and at least 2 KiB.
    let padme = |n: u64| {
        let exponent = 63 - u64::from(n.leading_zeros());
        let bits = 64 - u64::from(exponent.leading_zeros());
        n.trailing_zeros() as u64 >= exponent - bits
    };
    for profile in [Profile::Compatible, Profile::Modern] {
        let alice = person("alice", profile);
        for length in [0, 1500, 1900, 2500, 10_000, 65_535, 131_070, 200_001] {
            let (bytes, _) = Letter::new(&alice, &[&alice], &vec![7; length]).seal();
            let pile = pgp::PacketPile::from_bytes(&bytes).unwrap();
            let inside = match pile.children().last().unwrap() {
                // Prefix of a block and two bytes; digest of 22 bytes.
                pgp::Packet::SEIP(pgp::packet::SEIP::V1(c)) => unprocessed(c.body()) - 18 - 22,
                pgp::Packet::SEIP(pgp::packet::SEIP::V2(c)) => {
                    let whole = unprocessed(c.body()) - 16;
                    whole - 16 * whole.div_ceil(c.chunk_size() + 16)
                }
                _ => panic!("no container"),
            };
            assert!(
                inside >= 2048 && padme(inside),
                "{length} bytes are {inside}"
            );
            let overhead = inside - length as u64;
            assert!(
                overhead <= 2048 + length as u64 / 8,
                "{length} bytes are {inside}"
            );
        }
    }
    fn unprocessed(body: &pgp::packet::Body) -> u64 {
        match body {
            pgp::packet::Body::Unprocessed(bytes) => bytes.len() as u64,
            _ => panic!("processed"),
        }
    }
}
