//! Certificates that somebody delivers who can write to the store, but has no key: they change
//! nothing that was known before, and take no name, view or writing away. And certificates that
//! their owners deliver: renewals and revocations take effect at once, and are reported.

mod old_keys;
mod renewals;
mod revokers;
mod succession;

use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::support::mount::{Home, wait_for};
use crate::support::people::{Blob, Person, make_store};
use crate::support::rig::{InProcess, Rig as _};
use dds::ids::{BlobKind, Folder};
use dds::openpgp::{Certificate, Identity};
use pgp::Packet;
use pgp::cert::prelude::*;
use pgp::crypto::KeyPair;
use pgp::packet::key::{Key4, PrimaryRole, PublicParts, SecretParts, SubordinateRole};
use pgp::packet::signature::SignatureBuilder;
use pgp::packet::signature::subpacket::{
    NotationData, NotationDataFlags, Subpacket, SubpacketValue,
};
use pgp::packet::{Key, Signature, UserID};
use pgp::parse::Parse as _;
use pgp::serialize::SerializeInto as _;
use pgp::types::{Curve, HashAlgorithm, KeyFlags, ReasonForRevocation, SignatureType};
use sequoia_openpgp as pgp;

/// My view of a store in which certificates come and go.
struct Certificates {
    me: Person,
    rig: InProcess,
}

impl Certificates {
    fn new(people: &[(&str, &Person)]) -> Certificates {
        Self::of(Person::new("Me"), people)
    }

    fn of(me: Person, people: &[(&str, &Person)]) -> Certificates {
        let home = Home::new();
        let all: Vec<_> = people.iter().copied().chain([("me", &me)]).collect();
        let store = make_store(home.dir.path(), &all);
        let rig = InProcess::of(&me, home, store);
        Certificates { me, rig }
    }

    fn store(&self) -> &Path {
        self.rig.store()
    }

    /// What a syncer does when a file arrives in `keys/`.
    fn deliver(&self, file: &str, bytes: &[u8]) {
        let keys = self.store().join("keys");
        let temporary = keys.join(".syncthing.test.tmp");
        std::fs::write(&temporary, bytes).unwrap();
        std::fs::rename(&temporary, keys.join(file)).unwrap();
    }

    fn take_out(&self, file: &str) {
        std::fs::remove_file(self.store().join("keys").join(file)).unwrap();
    }

    fn message(&self, from: &Person, name: &str) {
        let blob = Blob::new(BlobKind::Message, from, &[&self.me, from], name);
        blob.content(name.as_bytes())
            .deliver(self.store(), Folder::Messages);
    }

    /// Waits until the next signature will have another time than the last.
    fn next_second(&self) {
        let now = || {
            SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap()
                .as_secs()
        };
        let then = now();
        wait_for("the next second", || now() > then);
    }

    fn list(&self, path: &str) -> Vec<String> {
        self.rig.list(path).unwrap()
    }

    /// Problems, after a look at the store.
    fn problems(&self) -> Vec<String> {
        self.list("messages");
        self.rig.view().status().problems
    }

    #[track_caller]
    fn assert_told(&self, words: &[&str]) {
        let problems = self.problems();
        let told = |one: &String| words.iter().all(|word| one.contains(word));
        assert!(problems.iter().any(told), "{words:?}: {problems:?}");
    }

    #[track_caller]
    fn assert_not_told(&self, words: &str) {
        let problems = self.problems();
        assert!(
            !problems.iter().any(|one| one.contains(words)),
            "{problems:?}"
        );
    }

    /// How far a contact can be relied on, as the status says.
    fn state(&self, name: &str) -> String {
        self.list("messages");
        let contacts = self.rig.view().status().contacts;
        let contact = contacts.iter().find(|contact| contact.name == name);
        contact.map_or_else(|| "unknown".to_owned(), |contact| contact.state.clone())
    }
}

fn cert(person: &Person) -> Cert {
    Cert::from_bytes(&person.secret).unwrap()
}

fn person_of(cert: &Cert) -> Person {
    let secret = cert.as_tsk().armored().to_vec().unwrap();
    Person {
        identity: Identity::unlock(&secret, None).unwrap(),
        secret,
    }
}

fn public(cert: &Cert) -> Vec<u8> {
    cert.clone().strip_secret_key_material().to_vec().unwrap()
}

fn primary_pair(cert: &Cert) -> KeyPair {
    let key = cert.primary_key().key().clone().parts_into_secret();
    key.unwrap().into_keypair().unwrap()
}

/// A certificate with its owner's revocation.
fn revoked(cert: &Cert, why: ReasonForRevocation) -> Cert {
    let revocation = cert.revoke(&mut primary_pair(cert), why, b"as I say");
    let revocation: Packet = revocation.unwrap().into();
    cert.clone().insert_packets([revocation]).unwrap().0
}

/// A certificate that expires so long after now, or never.
fn renewed(cert: &Cert, until: Option<SystemTime>) -> Cert {
    let policy = pgp::policy::StandardPolicy::new();
    let mut signer = primary_pair(cert);
    let mut signatures = cert
        .set_expiration_time(&policy, None, &mut signer, until)
        .unwrap();
    let subkeys = cert.keys().subkeys().with_policy(&policy, None);
    for key in subkeys.for_transport_encryption().for_storage_encryption() {
        let renewed = key.set_expiration_time(&mut signer, None, until);
        signatures.extend(renewed.unwrap());
    }
    cert.clone().insert_packets(signatures).unwrap().0
}

fn after(days: u64) -> Option<SystemTime> {
    Some(SystemTime::now() + Duration::from_secs(days * 24 * 3600))
}

fn bytes_of(packets: impl IntoIterator<Item = Packet>) -> Vec<u8> {
    let parts = packets.into_iter().map(|packet| packet.to_vec().unwrap());
    parts.flatten().collect()
}

/// A signature with text in its part that nobody signed.
fn stuffed(signature: &Signature, text: &[u8]) -> Signature {
    let notation = NotationData::new("x@example.org", text, NotationDataFlags::empty());
    let value = SubpacketValue::NotationData(notation);
    let mut signature = signature.clone();
    let area = signature.unhashed_area_mut();
    area.add(Subpacket::new(value, false).unwrap()).unwrap();
    signature
}

const WORDS: &str = "x -----BEGIN PGP PRIVATE KEY BLOCK----- x";

/// What anybody can make of somebody's certificate.
fn poisons(cert: &Cert) -> Vec<Vec<u8>> {
    let packets: Vec<Packet> = cert
        .clone()
        .strip_secret_key_material()
        .into_packets()
        .collect();
    let unbound = |id: String| Packet::from(UserID::from(id));
    let with = |more: Vec<Packet>| {
        let (primary, rest) = packets.split_at(1);
        bytes_of([primary, &more, rest].concat())
    };
    let stuff = |text: &[u8]| {
        let stuffed = packets.iter().map(|packet| match packet {
            Packet::Signature(signature) => stuffed(signature, text).into(),
            other => other.clone(),
        });
        bytes_of(stuffed)
    };
    let mallory = generate_cert("Mallory <mallory@example.org>");
    let mut signer = primary_pair(&mallory);
    let id = cert.userids().next().unwrap().userid().clone();
    let foreign: Packet = SignatureBuilder::new(SignatureType::GenericCertification)
        .sign_userid_binding(&mut signer, cert.primary_key().key(), &id)
        .unwrap()
        .into();
    let mut flooded = packets.clone();
    flooded.extend(std::iter::repeat_n(foreign, 3000));
    let armored = |bytes: &[u8]| {
        let mut out = pgp::armor::Writer::new(Vec::new(), pgp::armor::Kind::PublicKey).unwrap();
        std::io::Write::write_all(&mut out, bytes).unwrap();
        out.finalize().unwrap()
    };
    vec![
        armored(&with(vec![unbound(WORDS.to_owned())])),
        armored(&with(
            (0..9000).map(|n| unbound(format!("{n:060}"))).collect(),
        )),
        armored(&with(
            (0..300).map(|n| unbound(format!("{n:02040}"))).collect(),
        )),
        armored(&stuff(WORDS.as_bytes())),
        armored(&stuff(&vec![b'x'; 60_000])),
        armored(&bytes_of(flooded)),
        public(cert).repeat(600),
    ]
}

/// A certificate of some months ago that expires in so many days.
fn expiring(user_id: &str, days: u64) -> Cert {
    let day = Duration::from_secs(24 * 3600);
    CertBuilder::general_purpose(Some(user_id))
        .set_creation_time(SystemTime::now() - 100 * day)
        .set_validity_period(day * (100 + days as u32))
        .generate()
        .unwrap()
        .0
}

fn generate_cert(user_id: &str) -> Cert {
    CertBuilder::general_purpose(Some(user_id))
        .generate()
        .unwrap()
        .0
}

#[test]
fn a_revocation_once_seen_is_not_unseen_whatever_lies_in_keys() {
    let alice = Person::new("Alice");
    let before = cert(&alice);
    let after = revoked(&before, ReasonForRevocation::KeyCompromised);
    let mut scene = Certificates::new(&[("alice", &alice)]);
    scene.rig.write("notes/alice/before.txt", b"x").unwrap();
    scene.deliver("alice.gpg", &public(&after));
    let refused = |scene: &Certificates, when: &str| {
        let written = scene.rig.write("notes/alice/after.txt", b"x");
        assert_eq!(written, Err(libc::EKEYREVOKED), "{when}");
        assert_eq!(scene.state("alice"), "revoked", "{when}");
    };
    refused(&scene, "the revocation");
    scene.deliver("alice.gpg", &public(&before));
    refused(&scene, "the old certificate again");
    for (n, poison) in poisons(&before).iter().enumerate() {
        assert!(poison.len() < 1 << 20, "it is read at all");
        for round in 0..2 {
            scene.deliver("zz.asc", poison);
            refused(&scene, &format!("poison {n}, round {round}"));
            scene.rig.remount();
            refused(&scene, &format!("poison {n}, round {round}, remounted"));
            scene.take_out("zz.asc");
            refused(&scene, &format!("poison {n}, round {round}, taken out"));
        }
    }
    scene.take_out("alice.gpg");
    refused(&scene, "nothing is left in keys/");
    scene.rig.remount();
    refused(&scene, "nothing is left in keys/, remounted");
    assert_eq!(scene.rig.read("notes/alice/before.txt").unwrap(), b"x");
}

#[test]
fn the_kept_copy_is_what_the_key_vouches_for_and_small() {
    let alice = Person::new("Alice");
    let original = Certificate::parse_all(&public(&cert(&alice)))
        .unwrap()
        .remove(0);
    let mut kept = original.grown(&original).unwrap();
    let size = kept.to_bytes().len();
    for poison in poisons(&cert(&alice)) {
        let ring = dds::openpgp::Ring::split(&poison).unwrap();
        for one in ring.certificates {
            kept = kept.grown(&one.read().unwrap()).unwrap();
        }
        assert_eq!(kept.to_bytes().len(), size);
        assert!(Certificate::read_kept(&kept.to_bytes()).unwrap() == kept);
    }
    let stranger = Person::new("Bob").certificate();
    assert!(kept.grown(&stranger).is_err());
}

#[test]
fn no_number_and_no_size_of_files_keeps_a_mount_from_starting() {
    let (alice, bob) = (Person::new("Alice"), Person::new("Bob"));
    let mut scene = Certificates::new(&[("alice", &alice)]);
    scene.message(&alice, "before.txt");
    assert_eq!(scene.list("messages/alice"), ["before.txt"]);
    let certificate = alice.certificate().to_bytes();
    for n in 0..200 {
        scene.deliver(&format!("copy{n}.gpg"), &certificate);
    }
    scene.deliver("huge.gpg", &vec![0x99; (1 << 20) + 1]);
    scene.deliver("sparse.gpg", &[0; 1 << 20]);
    // Thousands of blocks, and thousands of keys that nobody signed.
    let block =
        "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmQ==\n-----END PGP PUBLIC KEY BLOCK-----\n";
    scene.deliver("blocks.asc", block.repeat(12_000).as_bytes());
    let mut ring = Vec::new();
    for n in 0..5000_u32 {
        // Version 4, Ed25519 with a point of 33 octets.
        let mut body = vec![4];
        body.extend(n.to_be_bytes());
        body.extend(b"\x16\x09\x2b\x06\x01\x04\x01\xda\x47\x0f\x01\x01\x07\x01\x07\x40");
        body.extend([7; 32]);
        ring.push(0x98);
        ring.push(body.len() as u8);
        ring.extend(body);
        ring.extend(b"\xb4\x0bm <m@x.org>");
    }
    ring.extend(bob.certificate().to_bytes());
    scene.deliver("ring.gpg", &ring);
    for _ in 0..2 {
        assert_eq!(scene.list("messages/alice"), ["before.txt"]);
        assert_eq!(scene.state("alice"), "not verified");
        assert_eq!(scene.state("bob"), "not verified", "at the end of the ring");
        assert_eq!(scene.rig.view().status().contacts.len(), 2);
        scene.assert_told(&["huge.gpg"]);
        scene.rig.remount();
    }
}

/// A certificate that takes public keys of somebody else as its own subkeys, each for the given
/// use.
fn adopting(n: usize, keys: &[Key<PublicParts, SubordinateRole>], flags: &KeyFlags) -> Vec<u8> {
    let cert = generate_cert(&format!("a{n} <a{n}@evil.example>"));
    let mut signer = primary_pair(&cert);
    let mut packets = Vec::new();
    for key in keys {
        let binding = SignatureBuilder::new(SignatureType::SubkeyBinding)
            .set_key_flags(flags.clone())
            .unwrap()
            .sign_subkey_binding(&mut signer, cert.primary_key().key(), key)
            .unwrap();
        packets.push(Packet::from(key.clone()));
        packets.push(binding.into());
    }
    bytes_of(
        cert.strip_secret_key_material()
            .into_packets()
            .chain(packets),
    )
}

fn all_keys(person: &Person) -> Vec<Key<PublicParts, SubordinateRole>> {
    let cert = cert(person).strip_secret_key_material();
    let keys = cert
        .keys()
        .map(|key| key.key().clone().role_into_subordinate());
    keys.collect()
}

#[test]
fn a_key_in_others_certificates_is_still_its_owner_s() {
    let alice = Person::new("Alice");
    let with_subkey = CertBuilder::general_purpose(Some("Carol <carol@example.org>"));
    let carol = person_of(&with_subkey.generate().unwrap().0);
    let mut scene = Certificates::new(&[("alice", &alice), ("carol", &carol)]);
    scene.message(&alice, "early.txt");
    scene.message(&carol, "early.txt");
    scene.rig.write("notes/me/own.txt", b"x").unwrap();
    assert_eq!(scene.list("messages/alice"), ["early.txt"]);
    let mut keys = all_keys(&alice);
    keys.extend(all_keys(&carol));
    keys.extend(all_keys(&scene.me));
    for n in 0..40 {
        let flags = match n % 4 {
            0 => KeyFlags::empty(),
            1 => KeyFlags::empty().set_authentication(),
            2 => KeyFlags::empty().set_signing(),
            _ => KeyFlags::empty().set_storage_encryption(),
        };
        scene.deliver(&format!("m{n}.gpg"), &adopting(n, &keys, &flags));
    }
    scene.message(&alice, "late.txt");
    scene.message(&carol, "late.txt");
    for _ in 0..2 {
        for owner in ["alice", "carol"] {
            let mut found = scene.list(&format!("messages/{owner}"));
            found.sort();
            assert_eq!(found, ["early.txt", "late.txt"], "{owner}");
        }
        assert_eq!(scene.list("notes/me"), ["own.txt"]);
        assert!(scene.list("messages/unverified").is_empty());
        assert!(scene.list("notes/unverified").is_empty());
        scene.rig.remount();
    }
}

#[test]
fn who_claims_everybody_s_address_takes_nothing_from_anybody() {
    let (alice, bob) = (Person::new("Alice"), Person::new("Bob"));
    let mut scene = Certificates::new(&[("alice", &alice), ("bob", &bob)]);
    scene.message(&alice, "hello.txt");
    assert_eq!(scene.list("messages/alice"), ["hello.txt"]);
    let everybody = ["alice", "bob", "me"];
    for n in 0..4 {
        let mut builder = CertBuilder::general_purpose(Some("Mallory <mallory@example.org>"));
        for name in everybody {
            builder = builder.add_userid(format!("{name} <{name}@example.org>"));
        }
        scene.deliver(
            &format!("m{n}.gpg"),
            &public(&builder.generate().unwrap().0),
        );
        for (name, person) in [("alice", &alice), ("bob", &bob)] {
            assert_eq!(scene.state(name), "not verified");
            let path = format!("notes/{name}@example.org/{n}.txt");
            scene.rig.write(&path, b"x").unwrap();
            assert!(
                scene
                    .list(&format!("notes/{name}"))
                    .contains(&format!("{n}.txt"))
            );
            assert_eq!(person.fingerprint().to_string().len(), 40);
        }
        assert_eq!(scene.list("messages/alice"), ["hello.txt"]);
        scene.assert_told(&["in dispute", "mallory-"]);
        if n % 2 == 1 {
            scene.take_out(&format!("m{n}.gpg"));
        }
        scene.rig.remount();
    }
    let contacts = scene.rig.view().status().contacts;
    let mallory = contacts.iter().find(|one| one.name.starts_with("mallory-"));
    let mallory = mallory.unwrap();
    assert_eq!(mallory.state, "in dispute");
    let written = scene.rig.write(&format!("notes/{}/x", mallory.name), b"x");
    assert_eq!(written, Err(libc::EKEYREJECTED));
}

#[test]
fn keys_that_nobody_signed_and_contacts_never_used_leave_room() {
    let alice = Person::new("Alice");
    let scene = Certificates::new(&[]);
    for n in 0..64 {
        let key: Key<SecretParts, PrimaryRole> =
            Key4::generate_ecc(true, Curve::Ed25519).unwrap().into();
        let id = Packet::from(UserID::from(format!("n{n} <n{n}@evil.example>")));
        let bytes = bytes_of([Packet::from(key.take_secret().0), id]);
        scene.deliver(&format!("n{n}.gpg"), &bytes);
    }
    assert!(scene.rig.view().status().contacts.is_empty());
    scene.deliver("alice.gpg", &alice.certificate().to_bytes());
    assert_eq!(scene.state("alice"), "not verified");
    scene.message(&alice, "hello.txt");
    assert_eq!(scene.list("messages/alice"), ["hello.txt"]);
    for n in 0..70 {
        let one = generate_cert(&format!("m{n} <m{n}@evil.example>"));
        scene.deliver(&format!("m{n}.gpg"), &public(&one));
    }
    // The look at which they come is also the one that notes who was heard from.
    assert_eq!(scene.list("messages/alice"), ["hello.txt"]);
    assert_eq!(scene.rig.view().status().contacts.len(), 64);
    let bob = Person::new("Bob");
    scene.deliver("bob.gpg", &bob.certificate().to_bytes());
    assert_eq!(scene.state("bob"), "not verified");
    assert_eq!(scene.state("alice"), "not verified");
    scene.assert_told(&["made room"]);
    assert_eq!(scene.rig.view().status().contacts.len(), 64);
}
