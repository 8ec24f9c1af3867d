//! Certificates that their owners renew, revoke or take out: the change counts at once, and is reported.

use super::*;
use crate::support::mount::Home;
use crate::support::people::{Person, make_store};
use crate::support::rig::InProcess;
use crate::support::rig::Rig as _;
use pgp::cert::prelude::*;
use pgp::parse::Parse as _;
use pgp::types::ReasonForRevocation;
use sequoia_openpgp as pgp;

#[test]
fn what_a_key_signed_is_judged_anew_when_its_certificate_changes() {
    let (alice, bob, carol) = (
        Person::new("Alice"),
        Person::new("Bob"),
        Person::new("Carol"),
    );
    let mut scene = Certificates::new(&[("alice", &alice), ("bob", &bob)]);
    for one in [&alice, &bob, &carol] {
        scene.message(one, "m.txt");
    }
    assert_eq!(scene.list("messages/alice"), ["m.txt"]);
    assert_eq!(scene.list("messages/unverified").len(), 1);

    // A certificate that comes after the message.
    scene.deliver("carol.gpg", &carol.certificate().to_bytes());
    assert_eq!(scene.list("messages/carol"), ["m.txt"]);
    assert!(scene.list("messages/unverified").is_empty());

    scene.next_second();
    // A key that was stolen may have signed anything at any time; one that was retired did not.
    let stolen = revoked(&cert(&alice), ReasonForRevocation::KeyCompromised);
    let retired = revoked(&cert(&bob), ReasonForRevocation::KeyRetired);
    scene.deliver("alice.gpg", &public(&stolen));
    scene.deliver("bob.gpg", &public(&retired));
    for _ in 0..2 {
        assert!(scene.list("messages/alice").is_empty());
        assert_eq!(scene.list("messages/bob"), ["m.txt"]);
        let [unverified] = &scene.list("messages/unverified")[..] else {
            panic!("one message is of nobody");
        };
        let path = format!("messages/unverified/{unverified}");
        assert_eq!(scene.rig.xattr(&path, "user.dds.signature").unwrap(), "bad");
        assert_eq!(
            scene.rig.xattr(&path, "user.dds.reason").unwrap(),
            "the key is revoked"
        );
        scene.assert_told(&["signature of alice is bad", "the key is revoked"]);
        scene.assert_told(&["certificate of alice is revoked", "as I say", "keys/"]);
        scene.assert_told(&["certificate of bob is revoked"]);
        assert_eq!(scene.state("bob"), "revoked");
        scene.rig.remount();
    }
}

#[test]
fn expiries_are_told_a_month_ahead_and_go_when_mended() {
    let soon = expiring("Alice <alice@example.org>", 20);
    let alice = person_of(&soon);
    let later = expiring("Bob <bob@example.org>", 60);
    let me = expiring("Me <me@example.org>", 3);
    let scene = Certificates::of(
        person_of(&me),
        &[("alice", &alice), ("bob", &person_of(&later))],
    );
    scene.assert_told(&["certificate of alice expires on 20", "--quick-set-expire"]);
    scene.assert_told(&["your own key expires on 20", "--quick-set-expire"]);
    scene.assert_not_told("certificate of bob");
    scene.rig.write("notes/alice/x.txt", b"x").unwrap();
    let mended = renewed(&soon, after(400));
    scene.deliver("alice.gpg", &public(&mended));
    scene.assert_not_told("certificate of alice");
}

#[test]
fn my_own_revocation_is_found_in_keys_and_stays() {
    let alice = Person::new("Alice");
    let mut scene = Certificates::new(&[("alice", &alice)]);
    scene.rig.write("notes/me/mine.txt", b"x").unwrap();
    scene.rig.write("notes/alice/ours.txt", b"x").unwrap();
    scene.assert_not_told("your own key");
    scene.next_second();
    let gone = revoked(&cert(&scene.me), ReasonForRevocation::KeyRetired);
    scene.deliver("somebody.gpg", &public(&gone));
    for when in ["found", "remounted", "taken out", "remounted again"] {
        scene.assert_told(&["your own key is revoked", "as I say", "dds init"]);
        for path in [
            "notes/me/new.txt",
            "notes/alice/new.txt",
            "messages/alice/new.txt",
        ] {
            let written = scene.rig.write(path, b"x");
            assert_eq!(written, Err(libc::EKEYREVOKED), "{path} {when}");
        }
        assert_eq!(scene.rig.read("notes/alice/ours.txt").unwrap(), b"x");
        if when == "remounted" {
            scene.take_out("somebody.gpg");
            let old = public(&cert(&scene.me));
            scene.deliver("me.gpg", &old);
        } else {
            scene.rig.remount();
        }
    }
}

#[test]
fn my_renewed_certificate_takes_the_place_of_the_old_one_in_keys() {
    let old = expiring("Me <me@example.org>", 3);
    let alice = Person::new("Alice");
    let new = renewed(&old, after(900));
    for ring in [false, true] {
        let home = Home::new();
        let store = make_store(home.dir.path(), &[("alice", &alice)]);
        let in_ring = [alice.certificate().to_bytes(), public(&old)].concat();
        let (file, bytes) = match ring {
            true => ("ring.gpg", in_ring.clone()),
            false => ("me.asc", person_of(&old).certificate().to_armored()),
        };
        std::fs::write(store.join("keys").join(file), &bytes).unwrap();
        let me = person_of(&new);
        let rig = InProcess::of(&me, home, store);
        rig.list("messages").unwrap();
        // Whoever reads keys/ now, can write to me after the old expiry.
        let fingerprint = me.fingerprint().to_string();
        let written = match ring {
            true => rig.store().join("keys").join(format!("{fingerprint}.asc")),
            false => rig.store().join("keys/me.asc"),
        };
        let written = std::fs::read(written).unwrap();
        assert!(written.starts_with(b"-----BEGIN PGP PUBLIC KEY BLOCK-----"));
        let read = Cert::from_bytes(&written).unwrap();
        let policy = pgp::policy::StandardPolicy::new();
        let valid = read.with_policy(&policy, after(800)).unwrap();
        assert!(valid.alive().is_ok());
        if ring {
            let ring = std::fs::read(rig.store().join("keys/ring.gpg")).unwrap();
            assert_eq!(ring, in_ring, "others' certificates stay as they are");
        }
        // Somebody who puts the old one back does not make us write for ever.
        std::fs::write(rig.store().join("keys").join("me.asc"), public(&old)).unwrap();
        let _ = std::fs::remove_file(rig.store().join(format!("keys/{fingerprint}.asc")));
        rig.list("messages").unwrap();
        rig.list("messages").unwrap();
    }
}

#[test]
fn a_certificate_that_was_taken_out_is_told_until_it_is_back() {
    let alice = Person::new("Alice");
    let mut scene = Certificates::new(&[("alice", &alice)]);
    scene.assert_not_told("not in keys/");
    scene.take_out("alice.gpg");
    for _ in 0..2 {
        scene.assert_told(&["certificate of alice is not in keys/", "contacts.toml"]);
        scene.rig.write("notes/alice/x.txt", b"x").unwrap();
        scene.rig.remount();
    }
    scene.deliver("other-name.pgp", &alice.certificate().to_bytes());
    scene.assert_not_told("not in keys/");
}
