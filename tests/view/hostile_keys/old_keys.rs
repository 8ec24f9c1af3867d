//! Certificates of contacts that are too old, of a kind that is not supported, or without what
//! newer programs say in them, as gpg makes them.

use std::time::{Duration, SystemTime};

use super::*;
use crate::support::gnupg::Gnupg;
use crate::support::people::Person;
use dds::contacts::ContactName;
use pgp::Packet;
use pgp::cert::prelude::*;
use pgp::packet::key::{Key4, PrimaryRole, SecretParts};
use pgp::packet::signature::SignatureBuilder;
use pgp::packet::{Key, UserID};
use pgp::types::{Curve, HashAlgorithm, KeyFlags, SignatureType};

/// Certificates of versions 3 and 5, with a user id.
fn other_versions() -> Vec<u8> {
    let mut found = Vec::new();
    for version in [3, 5] {
        let id = format!("v{version} <o@o>");
        found.extend([0x99, 0, 20, version]);
        found.extend([1; 19]);
        found.extend([0xB4, u8::try_from(id.len()).unwrap()]);
        found.extend(id.as_bytes());
    }
    found
}

#[test]
fn each_old_key_of_a_ring_has_a_name_a_reason_and_a_remedy() {
    needs!("gpg");
    let gnupg = Gnupg::new("");
    let time = ["--faked-system-time", "20130501T120000!"];
    let sha1 = ["--cert-digest-algo", "SHA1", "--allow-weak-key-signatures"];
    let mut ring = other_versions();
    let make = |name: &str, algorithm: &str, more: &[&str]| {
        let id = format!("{name} <{name}@example.org>");
        let make = ["--quick-gen-key", &id, algorithm, "cert,sign", "never"];
        gnupg.run(&[&time[..], more, &make].concat());
        let key = gnupg.fingerprint(&id);
        let encryption = if algorithm == "rsa1024" {
            "rsa1024"
        } else {
            "rsa2048"
        };
        let add = ["--quick-add-key", &key, encryption, "encr", "never"];
        gnupg.run(&[&time[..], more, &add].concat());
        gnupg.certificate(&id)
    };
    ring.extend(make("small", "rsa1024", &[]));
    ring.extend(make("dora", "dsa1024", &[]));
    ring.extend(make("sherlock", "rsa2048", &sha1));
    ring.extend(make("kobe", "secp256k1", &[]));
    ring.extend(make("good", "rsa2048", &[]));
    let mut scene = Certificates::new(&[]);
    scene.deliver("friends.gpg", &ring);
    for _ in 0..2 {
        for (name, reason, remedy) in [
            ("small", "RSA of 1024 bits", "new key"),
            ("dora", "DSA of 1024 bits", "new key"),
            ("sherlock", "signed with SHA-1", "--quick-set-expire"),
        ] {
            assert_eq!(scene.state(name), "unusable", "{name}");
            let of = format!("certificate of {name} ");
            scene.assert_told(&[&of, reason, remedy]);
            assert!(scene.list("messages").contains(&name.to_owned()), "{name}");
            let written = scene.rig.write(&format!("notes/{name}/x"), b"x");
            assert_eq!(written, Err(libc::ENOKEY), "{name}");
            let errors = scene.rig.read(".dds/errors").unwrap();
            let errors = String::from_utf8(errors).unwrap();
            let line = errors
                .lines()
                .rfind(|line| line.contains(&format!("{name}/x")));
            assert!(line.is_some_and(|line| line.contains(reason)), "{errors}");
        }
        // What nothing can be checked of is nobody's, and is said as well.
        let kobe = "kobe <kobe@example.org>";
        scene.assert_told(&["friends.gpg", kobe, "secp256k1", "new key"]);
        for version in [3, 5] {
            let owner = format!("v{version} <o@o>");
            scene.assert_told(&[
                "friends.gpg",
                &format!("version {version}"),
                &owner,
                "new key",
            ]);
        }
        assert_eq!(scene.state("good"), "not verified");
        scene.rig.write("notes/good/x.txt", b"x").unwrap();
        assert_eq!(scene.rig.view().status().contacts.len(), 4);
        scene.rig.remount();
    }

    // Its owner makes new signatures, as the sentence says.
    let key = gnupg.fingerprint("sherlock@example.org");
    gnupg.run(&["--quick-set-expire", &key, "20y"]);
    gnupg.run(&["--quick-set-expire", &key, "20y", "*"]);
    scene.deliver("again.gpg", &gnupg.certificate(&key));
    assert_eq!(scene.state("sherlock"), "not verified");
    scene.assert_not_told("certificate of sherlock");
    scene.rig.write("notes/sherlock/x.txt", b"x").unwrap();
}

/// A certificate as programs of 2013 made it, or as its owner repaired it.
fn old_style(digest: Option<HashAlgorithm>, flags: bool) -> (Cert, impl Fn(HashAlgorithm) -> Cert) {
    let made = SystemTime::UNIX_EPOCH + Duration::from_secs(1_367_400_000);
    let key = |sign: bool| {
        let curve = if sign { Curve::Ed25519 } else { Curve::Cv25519 };
        let mut key = Key4::<SecretParts, PrimaryRole>::generate_ecc(sign, curve).unwrap();
        key.set_creation_time(made).unwrap();
        key
    };
    let primary: Key<SecretParts, PrimaryRole> = key(true).into();
    let subkey: Key<SecretParts, PrimaryRole> = key(false).into();
    let subkey = subkey.role_into_subordinate();
    let id = UserID::from("Alice <alice@example.org>");
    let sign = move |digest: HashAlgorithm, time: SystemTime| {
        let mut pair = primary.clone().into_keypair().unwrap();
        let template = |kind, encrypt: bool| {
            let builder = SignatureBuilder::new(kind)
                .set_hash_algo(digest)
                .set_signature_creation_time(time)
                .unwrap();
            let for_what = match encrypt {
                true => KeyFlags::empty()
                    .set_transport_encryption()
                    .set_storage_encryption(),
                false => KeyFlags::empty().set_signing().set_certification(),
            };
            match flags {
                true => builder.set_key_flags(for_what).unwrap(),
                false => builder,
            }
        };
        let public = primary.clone().take_secret().0;
        let bound = template(SignatureType::PositiveCertification, false)
            .sign_userid_binding(&mut pair, &public, &id)
            .unwrap();
        let binding = template(SignatureType::SubkeyBinding, true)
            .sign_subkey_binding(&mut pair, &public, &subkey.clone().take_secret().0)
            .unwrap();
        let packets: [Packet; 5] = [
            primary.clone().into(),
            id.clone().into(),
            bound.into(),
            subkey.clone().into(),
            binding.into(),
        ];
        Cert::from_packets(packets.into_iter()).unwrap()
    };
    let old = sign(digest.unwrap_or(HashAlgorithm::SHA512), made);
    (old, move |digest| sign(digest, SystemTime::now()))
}

#[test]
fn an_old_certificate_has_a_name_a_reason_and_a_remedy_and_can_be_repaired() {
    let (old, sign) = old_style(Some(HashAlgorithm::SHA1), true);
    let alice = person_of(&sign(HashAlgorithm::SHA512));
    let mut scene = Certificates::new(&[]);
    scene.deliver("DFAD0D40.gpg", &public(&old));
    scene.message(&alice, "hello.txt");
    assert_eq!(scene.state("alice"), "unusable");
    scene.assert_told(&["certificate of alice", "SHA-1", "--quick-set-expire"]);
    let written = scene.rig.write("notes/alice/x.txt", b"x");
    assert_eq!(written, Err(libc::ENOKEY));
    let unverified = "messages/unverified/hello.txt";
    assert_eq!(scene.list("messages/unverified").len(), 1, "{unverified}");
    let path = format!(
        "messages/unverified/{}",
        scene.list("messages/unverified")[0]
    );
    let why = scene.rig.xattr(&path, "user.dds.reason").unwrap();
    assert!(why.contains("SHA1"), "{why}");

    let repaired = old
        .clone()
        .merge_public(sign(HashAlgorithm::SHA512))
        .unwrap();
    scene.deliver("DFAD0D40.gpg", &public(&repaired));
    for _ in 0..2 {
        assert_eq!(scene.state("alice"), "not verified");
        scene.assert_not_told("certificate of alice");
        assert_eq!(scene.list("messages/alice"), ["hello.txt"]);
        scene.rig.remount();
    }
    scene.rig.write("notes/alice/x.txt", b"x").unwrap();
}

#[test]
fn keys_that_do_not_say_what_they_are_for_do_what_they_can() {
    let (without_flags, _) = old_style(None, false);
    let alice = person_of(&without_flags);
    let scene = Certificates::new(&[("alice", &alice)]);
    scene.message(&alice, "hello.txt");
    assert_eq!(scene.list("messages/alice"), ["hello.txt"]);
    scene.rig.write("notes/alice/x.txt", b"x").unwrap();
    scene.assert_not_told("certificate of alice");
    // And as a key of mine.
    let mine = Certificates::of(alice, &[]);
    mine.rig.write("notes/me/x.txt", b"x").unwrap();
    assert_eq!(mine.list("notes/me"), ["x.txt"]);
}

#[test]
fn one_certificate_of_another_version_keeps_no_other_of_its_ring_away() {
    let (alice, carol) = (Person::new("Alice"), Person::new("Carol"));
    let scene = Certificates::new(&[]);
    for version in [2, 3, 5, 9] {
        let mut foreign = vec![0x99, 0, 20, version];
        foreign.extend([1; 19]);
        foreign.extend(b"\xb4\x0bold <o@o.o>");
        let ring = [
            alice.certificate().to_bytes(),
            foreign,
            carol.certificate().to_bytes(),
        ];
        scene.deliver("ring.gpg", &ring.concat());
        assert_eq!(scene.state("alice"), "not verified");
        assert_eq!(scene.state("carol"), "not verified");
        let of = format!("version {version}");
        scene.assert_told(&["ring.gpg", &of, "old <o@o.o>", "new key"]);
    }
    let name: ContactName = "alice".parse().unwrap();
    assert_eq!(name.as_str(), "alice");
}
