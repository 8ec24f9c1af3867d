//! Revocations by somebody whom a key's owner named for that, with what gpg makes of it.

use super::*;
use crate::support::gnupg::{Gnupg, installed};
use pgp::types::RevocationKey;

/// A certificate with a revocation by the primary key of another.
fn revoked_by(cert: &Cert, by: &Cert, reason: ReasonForRevocation) -> Cert {
    let revocation = CertRevocationBuilder::new().set_reason_for_revocation(reason, b"as I say");
    let revocation = revocation
        .unwrap()
        .build(&mut primary_pair(by), cert, None)
        .unwrap();
    cert.clone().insert_packets([revocation]).unwrap().0
}

fn naming(user_id: &str, revoker: &Cert) -> Cert {
    CertBuilder::general_purpose(Some(user_id))
        .set_revocation_keys(vec![RevocationKey::from(revoker)])
        .generate()
        .unwrap()
        .0
}

#[test]
fn who_gpg_names_as_revoker_revokes_and_it_is_not_unseen() {
    if !installed("gpg") {
        return;
    }
    let gnupg = Gnupg::new("");
    for name in ["alice", "carol", "dave"] {
        gnupg.generate(&format!("{name} <{name}@example.org>"), "rsa2048", &[]);
    }
    let ask = ["--no-batch", "--no-tty", "--command-fd", "0"];
    let edit = [&ask[..], &["--edit-key", "alice@example.org"]].concat();
    gnupg.feed(&edit, b"addrevoker\ncarol@example.org\ny\nsave\n");
    let person = |name: &str| {
        let secret = gnupg.secret_key(&format!("{name}@example.org"));
        person_of(&Cert::from_bytes(&secret).unwrap())
    };
    let (alice, carol) = (person("alice"), person("carol"));
    let before = gnupg.certificate("alice@example.org");
    let revoke = [&ask[..], &["--desig-revoke", "alice@example.org"]].concat();
    let revocation = gnupg.feed(&revoke, b"y\n1\nas I say\n\ny\n").stdout;
    gnupg.import(&revocation);
    let after = gnupg.certificate("alice@example.org");
    assert_ne!(before, after);

    // Whether the revoker is known before or after: only who was named counts.
    for known_before in [true, false] {
        let people = [("alice", &alice), ("carol", &carol)];
        let mut scene = Certificates::new(&people[..1 + usize::from(known_before)]);
        scene.message(&alice, "m.txt");
        scene.rig.write("notes/alice/before.txt", b"x").unwrap();
        assert_eq!(scene.list("messages/alice"), ["m.txt"]);
        scene.deliver("alice.gpg", &after);
        if !known_before {
            scene.assert_not_told("certificate of alice is revoked");
            scene.deliver("carol.gpg", &carol.certificate().to_bytes());
            // One look pins her, a later one hears her.
            wait_for("her revocation to count", || {
                scene.list("messages");
                scene.state("alice") == "revoked"
            });
        }
        for when in ["found", "remounted", "unseen", "remounted again"] {
            scene.assert_told(&["certificate of alice is revoked", "as I say"]);
            assert_eq!(scene.state("alice"), "revoked", "{when}");
            let written = scene.rig.write("notes/alice/after.txt", b"x");
            assert_eq!(written, Err(libc::EKEYREVOKED), "{when}");
            // What a stolen key signed proves nothing.
            assert!(scene.list("messages/alice").is_empty(), "{when}");
            if when == "remounted" {
                scene.deliver("alice.gpg", &before);
                scene.take_out("carol.gpg");
            }
            scene.rig.remount();
        }
    }
}

#[test]
fn who_was_not_named_as_revoker_revokes_nothing() {
    let carol = cert(&Person::new("Carol"));
    let eve = cert(&Person::new("Eve"));
    let alice = naming("Alice <alice@example.org>", &carol);
    let bob = generate_cert("Bob <bob@example.org>");
    let mut scene = Certificates::new(&[
        ("alice", &person_of(&alice)),
        ("bob", &person_of(&bob)),
        ("carol", &person_of(&carol)),
        ("eve", &person_of(&eve)),
    ]);
    let stolen = ReasonForRevocation::KeyCompromised;
    scene.deliver("alice.gpg", &public(&revoked_by(&alice, &eve, stolen)));
    scene.deliver("bob.gpg", &public(&revoked_by(&bob, &carol, stolen)));
    for _ in 0..2 {
        scene.assert_not_told("is revoked");
        for name in ["alice", "bob"] {
            scene
                .rig
                .write(&format!("notes/{name}/x.txt"), b"x")
                .unwrap();
        }
        scene.rig.remount();
    }
}

#[test]
fn my_own_key_is_revoked_by_whom_i_named() {
    let carol = cert(&Person::new("Carol"));
    let me = naming("Me <me@example.org>", &carol);
    let mut scene = Certificates::of(person_of(&me), &[("carol", &person_of(&carol))]);
    scene.rig.write("notes/me/mine.txt", b"x").unwrap();
    scene.next_second();
    let retired = ReasonForRevocation::KeyRetired;
    scene.deliver("me.gpg", &public(&revoked_by(&me, &carol, retired)));
    for when in ["found", "remounted", "unseen", "remounted again"] {
        scene.assert_told(&["your own key is revoked", "as I say"]);
        scene.assert_not_told("puts the old one back");
        let written = scene.rig.write("notes/me/new.txt", b"x");
        assert_eq!(written, Err(libc::EKEYREVOKED), "{when}");
        assert_eq!(scene.rig.read("notes/me/mine.txt").unwrap(), b"x");
        if when == "remounted" {
            scene.deliver("me.gpg", &public(&me));
        }
        scene.rig.remount();
    }
}
