//! Signatures that other programs, or enemies, could make.

use std::io::Write as _;
use std::time::{Duration, SystemTime};

use dds::ids::{BlobKind, BlobName};
use dds::openpgp::*;
use pgp::cert::prelude::*;
use pgp::packet::signature::SignatureBuilder;
use pgp::packet::signature::subpacket::{
    NotationData, NotationDataFlags, Subpacket, SubpacketValue,
};
use pgp::parse::Parse as _;
use pgp::serialize::SerializeInto as _;
use pgp::serialize::stream::{Encryptor, LiteralWriter, Message, Recipient, Signer};
use pgp::types::{Features, HashAlgorithm, ReasonForRevocation, SignatureType};
use sequoia_openpgp as pgp;

const CONTENT: &[u8] = b"at noon\n";

struct Person {
    cert: Cert,
    identity: Identity,
}

fn person(name: &str) -> Person {
    let user_id = format!("{name} <{name}@example.org>");
    let made = generate(&user_id, None, Profile::Compatible).unwrap();
    person_of(Cert::from_bytes(&made.secret[..]).unwrap())
}

fn person_of(cert: Cert) -> Person {
    let identity = Identity::unlock(&cert.as_tsk().armored().to_vec().unwrap(), None).unwrap();
    Person { cert, identity }
}

impl Person {
    fn pair(&self) -> pgp::crypto::KeyPair {
        let policy = pgp::policy::StandardPolicy::new();
        let keys = self.cert.keys().with_policy(&policy, None);
        let mut keys = keys.secret().for_signing();
        keys.next().unwrap().key().clone().into_keypair().unwrap()
    }

    fn public(&self) -> Certificate {
        self.identity.certificate().clone()
    }

    /// A message for this person.
    fn letter(&self, signers: Vec<(&Person, SignatureBuilder)>) -> Vec<u8> {
        let policy = pgp::policy::StandardPolicy::new();
        let keys = self
            .cert
            .keys()
            .with_policy(&policy, None)
            .for_storage_encryption();
        let features = Features::empty().set_seipdv1();
        let keys =
            keys.map(|key| Recipient::new(features.clone(), key.key().key_handle(), key.key()));
        let mut out = Vec::new();
        let mut message = Encryptor::for_recipients(Message::new(&mut out), keys)
            .build()
            .unwrap();
        // Each in its own group, as programs do that sign what is signed already.
        for (signer, template) in signers {
            let layer = Signer::with_template(message, signer.pair(), template).unwrap();
            message = layer
                .hash_algo(HashAlgorithm::SHA512)
                .unwrap()
                .build()
                .unwrap();
        }
        let mut message = LiteralWriter::new(message).build().unwrap();
        message.write_all(CONTENT).unwrap();
        message.finalize().unwrap();
        out
    }

    #[track_caller]
    fn read(&self, blob: &[u8], known: &[Certificate]) -> Vec<SignatureFacts> {
        let keyring = Keyring {
            identities: std::slice::from_ref(&self.identity),
            certificates: &CertIndex::new(known.iter().cloned()),
        };
        let Outcome::Opened(opened) = open(blob, &keyring, &Limits::default(), None) else {
            panic!("not opened");
        };
        assert_eq!(*opened.content.read_at(0, usize::MAX).unwrap(), *CONTENT);
        opened.facts.signatures
    }
}

fn plain() -> SignatureBuilder {
    SignatureBuilder::new(SignatureType::Binary)
}

fn noted(notations: &[(&str, &[u8])]) -> SignatureBuilder {
    let readable = NotationDataFlags::empty().set_human_readable();
    notations.iter().fold(plain(), |builder, (name, value)| {
        let name = format!("{name}@dds.invalid");
        builder
            .add_notation(name, value, readable.clone(), false)
            .unwrap()
    })
}

fn notations(builder: SignatureBuilder) -> Notations {
    let (alice, bob) = (person("alice"), person("bob"));
    let blob = alice.letter(vec![(&bob, builder)]);
    let mut signatures = alice.read(&blob, &[bob.public()]);
    assert_eq!(signatures[0].status, SignatureStatus::Good);
    signatures.remove(0).notations
}

#[test]
fn a_malformed_notation_is_absent_and_the_others_count() {
    let read = notations(noted(&[
        ("v", b"7"),
        ("kind", b"letter"),
        ("path", b"\xff"),
        ("doc", b"xyz"),
        ("copy", b"DEADBEEF"),
        ("mtime", b"yesterday"),
        ("mode", b"u=rw"),
        ("replaces", b"nothing"),
        ("replaces", BlobName::of(b"a").to_string().as_bytes()),
        ("unheard-of", b"x"),
        ("subject", b"kept \xff"),
    ]));
    let expected = Notations {
        version: Some(7),
        replaces: vec![BlobName::of(b"a")],
        reserved: vec![("subject".into(), b"kept \xff".to_vec())],
        ..Notations::default()
    };
    assert_eq!(read, expected);
}

#[test]
fn a_notation_given_twice_is_absent() {
    let read = notations(noted(&[
        ("path", b"a"),
        ("path", b"b"),
        ("kind", b"note"),
        ("kind", b"note"),
        ("mode", b"600"),
    ]));
    let expected = Notations {
        mode: Some(0o600),
        ..Notations::default()
    };
    assert_eq!(read, expected);
}

#[test]
fn at_most_64_versions_are_replaced() {
    let names: Vec<String> = (0..100_u8)
        .map(|i| BlobName::of(&[i]).to_string())
        .collect();
    let all: Vec<_> = names
        .iter()
        .map(|name| ("replaces", name.as_bytes()))
        .collect();
    let read = notations(noted(&all)).replaces;
    assert_eq!(read.len(), 64);
    assert!(
        read.iter()
            .zip(&names)
            .all(|(read, name)| read.to_string() == *name)
    );
}

#[test]
fn what_is_not_signed_does_not_count() {
    let alice = person("alice");
    let readable = NotationDataFlags::empty().set_human_readable();
    let blob = notation_outside(&alice, readable);
    let signatures = alice.read(&blob, &[]);
    assert_eq!(signatures[0].status, SignatureStatus::Good);
    assert_eq!(signatures[0].notations, Notations::default());
    assert!(signatures[0].intended.is_empty());
    // Neither does a notation that is not text, or of another domain.
    let binary = plain()
        .add_notation("path@dds.invalid", "a", None, false)
        .unwrap();
    assert_eq!(notations(binary), Notations::default());
    let readable = NotationDataFlags::empty().set_human_readable();
    let other = plain()
        .add_notation("path@dds.example", "a", readable, false)
        .unwrap();
    assert_eq!(notations(other), Notations::default());
}

/// A signature with a kind and an intended recipient in its unhashed area.
fn notation_outside(by: &Person, flags: NotationDataFlags) -> Vec<u8> {
    let value = NotationData::new("kind@dds.invalid", BlobKind::Note.name(), flags);
    let notation = Subpacket::new(SubpacketValue::NotationData(value), false).unwrap();
    let me = SubpacketValue::IntendedRecipient(by.cert.fingerprint());
    let me = Subpacket::new(me, false).unwrap();
    let signature = plain().modify_unhashed_area(|mut area| {
        area.add(notation)?;
        area.add(me)?;
        Ok(area)
    });
    let signature = signature.unwrap().sign_message(&mut by.pair(), CONTENT);
    let signature = pgp::Packet::from(signature.unwrap()).to_vec().unwrap();
    let literal = [
        &[0xCB, 6 + CONTENT.len() as u8][..],
        b"b\0\0\0\0\0",
        CONTENT,
    ]
    .concat();
    raw(by, &[signature, literal].concat())
}

/// Encrypts packets of any kind.
fn raw(to: &Person, inside: &[u8]) -> Vec<u8> {
    let policy = pgp::policy::StandardPolicy::new();
    let keys = to
        .cert
        .keys()
        .with_policy(&policy, None)
        .for_storage_encryption();
    let features = Features::empty().set_seipdv1();
    let keys = keys.map(|key| Recipient::new(features.clone(), None, key.key()));
    let mut out = Vec::new();
    let mut message = Encryptor::for_recipients(Message::new(&mut out), keys)
        .build()
        .unwrap();
    message.write_all(inside).unwrap();
    message.finalize().unwrap();
    out
}

#[test]
fn each_signature_is_judged_by_itself() {
    let (alice, bob, eve) = (person("alice"), person("bob"), person("eve"));
    let for_eve = plain()
        .set_intended_recipients([eve.cert.fingerprint()])
        .unwrap();
    let good = plain().sign_message(&mut bob.pair(), CONTENT).unwrap();
    let for_others = for_eve.sign_message(&mut bob.pair(), CONTENT).unwrap();
    let wrong = plain().sign_message(&mut bob.pair(), b"at one\n").unwrap();
    let unknown = plain().sign_message(&mut eve.pair(), CONTENT).unwrap();
    let signatures = [wrong, good, unknown, for_others];
    let mut inside: Vec<u8> = Vec::new();
    for signature in signatures {
        inside.extend(pgp::Packet::from(signature).to_vec().unwrap());
    }
    inside.extend([0xC2, 3, 99, 1, 1]); // A signature of an unknown version.
    inside.extend(
        [
            &[0xCB, 6 + CONTENT.len() as u8][..],
            b"b\0\0\0\0\0",
            CONTENT,
        ]
        .concat(),
    );
    let facts = alice.read(&raw(&alice, &inside), &[bob.public()]);
    let (status, signer): (Vec<_>, Vec<_>) = facts
        .iter()
        .map(|facts| (facts.status.clone(), facts.signer.clone()))
        .unzip();
    assert!(matches!(status[0], SignatureStatus::Bad(_)));
    assert_eq!(status[1], SignatureStatus::Good);
    assert_eq!(status[2], SignatureStatus::UnknownKey);
    assert_eq!(status[3], SignatureStatus::Good);
    assert!(matches!(status[4], SignatureStatus::Bad(_)));
    assert_eq!(facts[3].intended.len(), 1);
    let bob = Some(bob.identity.fingerprint());
    assert_eq!(signer, [bob.clone(), bob.clone(), None, bob, None]);
}

#[test]
fn nested_signatures_are_over_the_content() {
    let (alice, bob, carol) = (person("alice"), person("bob"), person("carol"));
    let blob = alice.letter(vec![(&bob, plain()), (&carol, plain())]);
    let facts = alice.read(&blob, &[bob.public(), carol.public()]);
    assert_eq!(facts.len(), 2);
    assert!(facts.iter().all(|facts| matches!(
        facts.status,
        SignatureStatus::Good | SignatureStatus::Bad(_)
    )));
    let inner = facts
        .iter()
        .find(|facts| facts.signer == Some(carol.identity.fingerprint()));
    assert_eq!(inner.unwrap().status, SignatureStatus::Good);
}

#[test]
fn an_expired_signature_and_a_revoked_key_are_bad() {
    let (alice, bob) = (person("alice"), person("bob"));
    let old = plain()
        .set_signature_validity_period(Duration::from_secs(1))
        .unwrap();
    let long_ago = SystemTime::now() - Duration::from_secs(30);
    let old = old.set_signature_creation_time(long_ago).unwrap();
    let old = old.sign_message(&mut bob.pair(), CONTENT).unwrap();
    let mut inside = pgp::Packet::from(old).to_vec().unwrap();
    inside.extend(
        [
            &[0xCB, 6 + CONTENT.len() as u8][..],
            b"b\0\0\0\0\0",
            CONTENT,
        ]
        .concat(),
    );
    let facts = alice.read(&raw(&alice, &inside), &[bob.public()]);
    assert!(matches!(facts[0].status, SignatureStatus::Bad(_)));

    let blob = alice.letter(vec![(&bob, plain())]);
    assert_eq!(
        alice.read(&blob, &[bob.public()])[0].status,
        SignatureStatus::Good
    );
    let revocation = CertRevocationBuilder::new()
        .set_reason_for_revocation(ReasonForRevocation::KeyCompromised, b"stolen")
        .unwrap()
        .build(&mut bob.pair(), &bob.cert, None)
        .unwrap();
    let (revoked, _) = bob.cert.clone().insert_packets([revocation]).unwrap();
    let public = revoked.strip_secret_key_material().to_vec().unwrap();
    let revoked = Certificate::parse_all(&public).unwrap();
    let facts = alice.read(&blob, &revoked);
    assert!(matches!(facts[0].status, SignatureStatus::Bad(_)));
    assert_eq!(facts[0].signer, Some(bob.identity.fingerprint()));
}

#[test]
fn my_old_and_revoked_keys_still_open_what_was_sent_to_them() {
    // An older encryption key beside the present one.
    let keys = || {
        CertBuilder::new()
            .set_profile(pgp::Profile::RFC4880)
            .unwrap()
            .set_cipher_suite(CipherSuite::Cv25519)
            .set_primary_key_flags(
                pgp::types::KeyFlags::empty()
                    .set_signing()
                    .set_certification(),
            )
            .add_userid("alice")
            .add_storage_encryption_subkey()
    };
    let (cert, _) = keys().add_signing_subkey().generate().unwrap();
    let alice = person_of(cert.clone());
    let blob = alice.letter(vec![]);
    let policy = pgp::policy::StandardPolicy::new();
    let old = cert
        .keys()
        .with_policy(&policy, None)
        .for_storage_encryption()
        .next()
        .unwrap();
    let primary = cert
        .primary_key()
        .key()
        .clone()
        .parts_into_secret()
        .unwrap();
    let revocation = SubkeyRevocationBuilder::new()
        .set_reason_for_revocation(ReasonForRevocation::KeyRetired, b"old")
        .unwrap()
        .build(
            &mut primary.into_keypair().unwrap(),
            &cert,
            old.key().role_as_subordinate(),
            None,
        )
        .unwrap();
    let (revoked, _) = cert.insert_packets([revocation]).unwrap();
    let alice = person_of(revoked);
    let kind = alice.public().check_encryption().unwrap_err().kind();
    assert_eq!(kind, dds::error::Kind::KeyRevoked);
    assert!(alice.read(&blob, &[]).is_empty());
}
