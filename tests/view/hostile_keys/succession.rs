//! A new key with the address of a contact is an impostor's, unless the pinned key certifies it.

use super::*;
use crate::support::gnupg::Gnupg;
use crate::support::people::blobs;
use dds::openpgp::{CertIndex, Keyring, Limits, Outcome, open};

const ALICE: &str = "Alice <alice@example.org>";
const DAY: Duration = Duration::from_secs(24 * 3600);

/// How a signature over a user id differs from a good certification.
type Change<'a> = &'a dyn Fn(SignatureBuilder) -> SignatureBuilder;

fn as_it_is(builder: SignatureBuilder) -> SignatureBuilder {
    builder
}

fn said(
    kind: SignatureType,
    signer: &mut KeyPair,
    of: &Cert,
    id: &str,
    change: Change<'_>,
) -> Packet {
    let builder = change(SignatureBuilder::new(kind));
    let primary = of.primary_key().key();
    let signature = builder.sign_userid_binding(signer, primary, &UserID::from(id));
    signature.unwrap().into()
}

/// A certificate with a certification of one of its user ids.
fn certified(of: &Cert, by: &Cert, id: &str, change: Change<'_>) -> Cert {
    let kind = SignatureType::GenericCertification;
    with(of, id, said(kind, &mut primary_pair(by), of, id, change))
}

fn with(of: &Cert, id: &str, signature: Packet) -> Cert {
    let id = Packet::from(UserID::from(id));
    of.clone().insert_packets([id, signature]).unwrap().0
}

/// A certificate in which a certification of it is taken back.
fn taken_back(of: &Cert, by: &Cert, id: &str) -> Cert {
    let kind = SignatureType::CertificationRevocation;
    let why = |builder: SignatureBuilder| {
        let reason = ReasonForRevocation::UIDRetired;
        builder.set_reason_for_revocation(reason, b"not I").unwrap()
    };
    with(of, id, said(kind, &mut primary_pair(by), of, id, &why))
}

/// Alice's certificate of some months ago, which is valid for so many days from then.
fn former(days: u32) -> Cert {
    CertBuilder::general_purpose(Some(ALICE))
        .set_creation_time(SystemTime::now() - 100 * DAY)
        .set_validity_period(days * DAY)
        .generate()
        .unwrap()
        .0
}

/// The name of somebody whose wanted name is taken.
fn second_name(wanted: &str, of: &Cert) -> String {
    let hex = of.fingerprint().to_hex().to_lowercase();
    format!("{wanted}-{}", &hex[..8])
}

fn pinned(old: &Cert) -> Certificates {
    let scene = Certificates::new(&[]);
    scene.deliver("alice.gpg", &public(old));
    assert_ne!(scene.state("alice"), "unknown");
    scene
}

impl Certificates {
    fn key_of(&self, name: &str) -> String {
        self.list("messages");
        let contacts = self.rig.view().status().contacts;
        let contact = contacts.iter().find(|contact| contact.name == name);
        let key = contact.map_or_else(String::new, |one| one.fingerprint.to_string());
        key.split_whitespace().collect()
    }

    /// Writes to Alice, and tells which of these people can read it.
    fn readers(&self, path: &str, people: &[&Cert]) -> Vec<bool> {
        let before = blobs(self.store(), Folder::Notes);
        self.rig.write(path, b"hello").unwrap();
        self.rig.settle();
        let after = blobs(self.store(), Folder::Notes);
        let new = after.iter().find(|name| !before.contains(name)).unwrap();
        let blob = std::fs::read(self.store().join("notes").join(new)).unwrap();
        let reads = |cert: &&Cert| {
            let keyring = Keyring {
                identities: &[person_of(cert).identity],
                certificates: &CertIndex::default(),
            };
            let outcome = open(&blob, &keyring, &Limits::default(), None);
            matches!(outcome, Outcome::Opened(_))
        };
        people.iter().map(reads).collect()
    }
}

#[test]
fn a_certification_that_is_not_the_pinned_key_s_own_changes_nothing() {
    let old = former(1000);
    let mallory = generate_cert("Mallory <mallory@example.org>");
    // Alice's certificate has a subkey that did not agree to it, and one that nobody bound.
    let foreign = generate_cert("Nobody <nobody@example.org>");
    let unbound = generate_cert("Nobody <nobody@example.org>");
    let subkey = |of: &Cert| {
        let key = of.primary_key().key().clone().role_into_subordinate();
        Packet::from(key)
    };
    let adopted = foreign.primary_key().key().clone().role_into_subordinate();
    let binding = SignatureBuilder::new(SignatureType::SubkeyBinding)
        .set_key_flags(KeyFlags::empty().set_certification())
        .unwrap()
        .sign_subkey_binding(&mut primary_pair(&old), old.primary_key().key(), &adopted)
        .unwrap();
    let packets = [subkey(&foreign), binding.into(), subkey(&unbound)];
    let in_keys = bytes_of(
        old.clone()
            .strip_secret_key_material()
            .into_packets()
            .chain(packets),
    );
    let mut scene = pinned(&old);
    scene.deliver("alice.gpg", &in_keys);
    scene.deliver("mallory.gpg", &public(&mallory));
    assert_eq!(scene.state("mallory"), "not verified");

    let now = SystemTime::now();
    let at = |time: SystemTime| {
        move |builder: SignatureBuilder| builder.set_signature_creation_time(time).unwrap()
    };
    let alone = || generate_cert(ALICE);
    let also = |id: &str| {
        let builder = CertBuilder::general_purpose(Some(ALICE)).add_userid(id);
        builder.generate().unwrap().0
    };
    let persona = |of: &Cert| {
        let kind = SignatureType::PersonaCertification;
        let packet = said(kind, &mut primary_pair(&old), of, ALICE, &as_it_is);
        with(of, ALICE, packet)
    };
    let other = "A. <a@other.example>";
    let expired = |builder: SignatureBuilder| {
        let builder = at(now - 3 * DAY)(builder);
        builder.set_signature_validity_period(DAY).unwrap()
    };
    let local = |builder: SignatureBuilder| builder.set_exportable_certification(false).unwrap();
    let weak = |builder: SignatureBuilder| builder.set_hash_algo(HashAlgorithm::SHA1);
    let pretends = |builder: SignatureBuilder| builder.set_issuer(old.keyid()).unwrap();
    let two_days_ago = CertBuilder::general_purpose(Some(ALICE))
        .set_creation_time(now - 5 * DAY)
        .generate()
        .unwrap()
        .0;
    let genuine = alone();
    let genuine_says = said(
        SignatureType::GenericCertification,
        &mut primary_pair(&old),
        &genuine,
        ALICE,
        &as_it_is,
    );
    let bob = generate_cert("Bob <bob@example.org>");
    scene.deliver("bob.gpg", &public(&bob));
    let attacks: Vec<(&str, Cert)> = vec![
        ("nobody", alone()),
        (
            "another contact",
            certified(&alone(), &mallory, ALICE, &as_it_is),
        ),
        (
            "one who pretends",
            certified(&alone(), &mallory, ALICE, &pretends),
        ),
        (
            "a stranger",
            certified(&alone(), &generate_cert(ALICE), ALICE, &as_it_is),
        ),
        (
            "an adopted subkey",
            certified(&alone(), &foreign, ALICE, &as_it_is),
        ),
        (
            "an unbound subkey",
            certified(&alone(), &unbound, ALICE, &as_it_is),
        ),
        (
            "another user id",
            certified(&also(other), &old, other, &as_it_is),
        ),
        ("a persona", persona(&alone())),
        (
            "an expired one",
            certified(&two_days_ago, &old, ALICE, &expired),
        ),
        (
            "a future one",
            certified(&alone(), &old, ALICE, &at(now + 10 * DAY)),
        ),
        ("a local one", certified(&alone(), &old, ALICE, &local)),
        ("a weak one", certified(&alone(), &old, ALICE, &weak)),
        ("one over another key", with(&alone(), ALICE, genuine_says)),
        ("one of two addresses", {
            certified(&also("Bob <bob@example.org>"), &old, ALICE, &as_it_is)
        }),
        ("my address, too", {
            let mine = "Me <me@example.org>";
            let once = certified(&also(mine), &old, ALICE, &as_it_is);
            certified(&once, &old, mine, &as_it_is)
        }),
        ("one taken back", {
            let once = certified(&alone(), &old, ALICE, &as_it_is);
            taken_back(&once, &old, ALICE)
        }),
    ];
    for (n, (how, cert)) in attacks.iter().enumerate() {
        scene.deliver(&format!("n{n}.gpg"), &public(cert));
        let name = second_name("alice", cert);
        assert_eq!(scene.state(&name), "in dispute", "{how}");
        let written = scene.rig.write(&format!("notes/{name}/x"), b"x");
        assert_eq!(written, Err(libc::EKEYREJECTED), "{how}");
    }
    scene.rig.remount();
    for (how, cert) in &attacks {
        let name = second_name("alice", cert);
        assert_eq!(scene.state(&name), "in dispute", "{how}");
    }
    assert_eq!(scene.state("alice"), "not verified");
    let old_key = old.fingerprint().to_hex();
    assert_eq!(scene.key_of("alice"), old_key);
    let path = "notes/alice@example.org/x.txt";
    assert_eq!(scene.readers(path, &[&old, &attacks[0].1]), [true, false]);

    // Nor when the pinned key can no longer be used: nobody takes its name.
    scene.next_second();
    let retired = revoked(&old, ReasonForRevocation::KeyRetired);
    scene.deliver("alice.gpg", &public(&retired));
    assert_eq!(scene.state("alice"), "revoked");
    assert_eq!(scene.key_of("alice"), old_key);
}

#[test]
fn a_successor_waits_under_its_own_name_and_follows_the_pinned_key() {
    let old = former(1000);
    let new = certified(&generate_cert(ALICE), &old, ALICE, &as_it_is);
    let mut scene = pinned(&old);
    let alice = person_of(&old);
    scene.message(&alice, "early.txt");
    // An impostor that comes together with it disturbs neither.
    scene.deliver("new.gpg", &public(&new));
    scene.deliver("impostor.gpg", &public(&generate_cert(ALICE)));
    let name = second_name("alice", &new);
    for when in [
        "at first",
        "remounted",
        "signature taken out",
        "remounted again",
    ] {
        assert_eq!(scene.state("alice"), "not verified", "{when}");
        assert_eq!(scene.key_of("alice"), old.fingerprint().to_hex(), "{when}");
        assert_eq!(scene.state(&name), "not verified", "{when}");
        scene.assert_told(&["alice has a second key", &name, "verified = true"]);
        let path = format!("notes/alice@example.org/{}.txt", when.replace(' ', "-"));
        assert_eq!(scene.readers(&path, &[&old, &new]), [true, false], "{when}");
        let path = format!("notes/{name}/{}.txt", when.replace(' ', "-"));
        assert_eq!(scene.readers(&path, &[&old, &new]), [false, true], "{when}");
        if when == "remounted" {
            let bare = Cert::from_packets(new.clone().into_packets().filter(|packet| {
                // What the former key signed.
                let by_old = |signature: &Signature| {
                    let mut issuers = signature.issuer_fingerprints();
                    issuers.any(|issuer| *issuer == old.fingerprint())
                };
                !matches!(packet, Packet::Signature(signature) if by_old(signature))
            }));
            scene.deliver("new.gpg", &public(&bare.unwrap()));
        } else {
            scene.rig.remount();
        }
    }

    scene.next_second();
    let retired = revoked(&old, ReasonForRevocation::KeySuperseded);
    scene.deliver("alice.gpg", &public(&retired));
    for when in ["at first", "remounted", "taken out", "remounted again"] {
        assert_eq!(scene.state("alice"), "not verified", "{when}");
        assert_eq!(scene.key_of("alice"), new.fingerprint().to_hex(), "{when}");
        assert_eq!(scene.state(&name), "unknown", "{when}");
        scene.assert_told(&["alice has a new key", "former key", "verified = true"]);
        // What the former key signed while it was in use stays where it was.
        assert!(
            scene.list("messages/alice").contains(&"early.txt".into()),
            "{when}"
        );
        let path = format!(
            "notes/alice@example.org/then-{}.txt",
            when.replace(' ', "-")
        );
        assert_eq!(scene.readers(&path, &[&old, &new]), [false, true], "{when}");
        if when == "remounted" {
            scene.take_out("alice.gpg");
            scene.take_out("new.gpg");
        } else {
            scene.rig.remount();
        }
    }
    scene.message(&person_of(&new), "late.txt");
    assert!(scene.list("messages/alice").contains(&"late.txt".into()));
}

#[test]
fn a_key_that_expired_has_a_successor_if_it_certified_one_in_its_time() {
    let old = former(50);
    let key = |days| {
        CertBuilder::general_purpose(Some(ALICE))
            .set_creation_time(SystemTime::now() - days * DAY)
            .generate()
            .unwrap()
            .0
    };
    let made = |days: u32| {
        move |builder: SignatureBuilder| {
            let time = SystemTime::now() - days * DAY;
            builder.set_signature_creation_time(time).unwrap()
        }
    };
    let scene = pinned(&old);
    assert_eq!(scene.state("alice"), "expired");
    // An expired key certifies nobody any more.
    let late = certified(&key(20), &old, ALICE, &made(10));
    scene.deliver("late.gpg", &public(&late));
    assert_eq!(scene.state(&second_name("alice", &late)), "in dispute");
    assert_eq!(scene.state("alice"), "expired");
    let new = certified(&key(70), &old, ALICE, &made(60));
    scene.deliver("new.gpg", &public(&new));
    assert_eq!(scene.state("alice"), "not verified");
    assert_eq!(scene.key_of("alice"), new.fingerprint().to_hex());
    scene.assert_told(&["alice has a new key"]);
}

#[test]
fn what_certifies_counts_also_from_a_subkey_that_agrees_to_it() {
    let old = CertBuilder::general_purpose(Some(ALICE))
        .add_certification_subkey()
        .generate()
        .unwrap()
        .0;
    let policy = pgp::policy::StandardPolicy::new();
    let keys = old.keys().subkeys().with_policy(&policy, None);
    let key = keys.for_certification().next().unwrap().key().clone();
    let key = key.parts_into_secret().unwrap();
    let mut signer = key.role_into_unspecified().into_keypair().unwrap();
    let new = generate_cert(ALICE);
    let kind = SignatureType::PositiveCertification;
    let new = with(&new, ALICE, said(kind, &mut signer, &new, ALICE, &as_it_is));
    let scene = pinned(&old);
    scene.deliver("new.gpg", &public(&new));
    assert_eq!(scene.state(&second_name("alice", &new)), "not verified");
}

#[test]
fn a_successor_is_one_no_more_when_the_pinned_key_takes_it_back_or_was_stolen() {
    for (stolen, after_it_took_over) in [(false, false), (false, true), (true, false), (true, true)]
    {
        let old = former(1000);
        let new = certified(&generate_cert(ALICE), &old, ALICE, &as_it_is);
        let mut scene = pinned(&old);
        scene.deliver("new.gpg", &public(&new));
        let mut name = second_name("alice", &new);
        assert_eq!(scene.state(&name), "not verified");
        scene.next_second();
        if after_it_took_over {
            let retired = revoked(&old, ReasonForRevocation::KeyRetired);
            scene.deliver("alice.gpg", &public(&retired));
            name = "alice".to_owned();
            assert_eq!(scene.key_of("alice"), new.fingerprint().to_hex());
        }
        if stolen {
            let gone = revoked(&old, ReasonForRevocation::KeyCompromised);
            scene.deliver("alice.gpg", &public(&gone));
        } else {
            scene.deliver("new.gpg", &public(&taken_back(&new, &old, ALICE)));
        }
        for when in ["at first", "remounted", "unsaid", "remounted again"] {
            let case = format!("{stolen} {after_it_took_over} {when}");
            assert_eq!(scene.state(&name), "in dispute", "{case}");
            scene.assert_told(&[&name, "in dispute", "does not count any more"]);
            let written = scene.rig.write(&format!("notes/{name}/x"), b"x");
            assert_eq!(written, Err(libc::EKEYREJECTED), "{case}");
            if when == "remounted" {
                scene.deliver("new.gpg", &public(&new));
                scene.deliver("alice.gpg", &public(&old));
            } else {
                scene.rig.remount();
            }
        }
    }
}

#[test]
fn of_two_successors_none_takes_the_place_until_a_person_decides() {
    let old = former(1000);
    let one = certified(&generate_cert(ALICE), &old, ALICE, &as_it_is);
    let two = certified(&generate_cert(ALICE), &old, ALICE, &as_it_is);
    let scene = pinned(&old);
    scene.deliver("one.gpg", &public(&one));
    scene.deliver("two.gpg", &public(&two));
    scene.next_second();
    let retired = revoked(&old, ReasonForRevocation::KeyRetired);
    scene.deliver("alice.gpg", &public(&retired));
    assert_eq!(scene.state("alice"), "revoked");
    for new in [&one, &two] {
        assert_eq!(scene.state(&second_name("alice", new)), "not verified");
    }
    let written = scene.rig.write("notes/alice/x.txt", b"x");
    assert_eq!(written, Err(libc::EKEYREVOKED));
}

#[test]
fn two_that_appear_in_one_first_look_stay_in_dispute_whoever_certified_whom() {
    let old = former(1000);
    let new = certified(&generate_cert(ALICE), &old, ALICE, &as_it_is);
    let mut scene = Certificates::new(&[]);
    let ring = [public(&old), public(&new)].concat();
    scene.deliver("ring.gpg", &ring);
    for _ in 0..2 {
        scene.list("messages");
        let contacts = scene.rig.view().status().contacts;
        assert_eq!(contacts.len(), 2);
        assert!(contacts.iter().all(|one| one.state == "in dispute"));
        scene.rig.remount();
    }
}

#[test]
fn gpg_certifies_a_successor_as_the_manual_says() {
    needs!("gpg");
    let gnupg = Gnupg::new("");
    for when in ["20200101T000000", "20210101T000000"] {
        let time = ["--faked-system-time", when];
        let make = ["--quick-gen-key", ALICE, "default", "default", "never"];
        gnupg.run(&[&time[..], &make].concat());
    }
    let listed = gnupg.run(&["--with-colons", "--list-keys"]);
    let listed = String::from_utf8(listed).unwrap();
    let fingerprints: Vec<&str> = listed
        .split("pub:")
        .skip(1)
        .map(|key| {
            let line = key.lines().find(|line| line.starts_with("fpr:"));
            line.unwrap().split(':').nth(9).unwrap()
        })
        .collect();
    let [old, new] = fingerprints[..] else {
        panic!("{listed}");
    };
    let mut scene = Certificates::new(&[]);
    scene.deliver("alice.gpg", &gnupg.certificate(old));
    assert_eq!(scene.key_of("alice"), old);
    gnupg.run(&["--local-user", old, "--quick-sign-key", new]);
    // As a user copies it in.
    scene
        .rig
        .write("keys/new.gpg", &gnupg.certificate(new))
        .unwrap();
    let name = format!("alice-{}", new[..8].to_lowercase());
    assert_eq!(scene.state(&name), "not verified");
    scene.rig.remount();
    assert_eq!(scene.state(&name), "not verified");
    gnupg.feed(
        &[
            "--command-fd",
            "0",
            "--no-batch",
            "--no-tty",
            "--edit-key",
            old,
        ],
        b"revkey\ny\n3\n\ny\nsave\n",
    );
    scene.deliver("alice.gpg", &gnupg.certificate(old));
    assert_eq!(scene.key_of("alice"), new);
}

/// A mailbox that several people read has one address, and it is usual that they certify each
/// other.
#[test]
fn who_shares_only_one_address_of_a_contact_never_takes_its_place() {
    const TEAM: &str = "Team <team@example.org>";
    let made = |own: &str| {
        let builder = CertBuilder::general_purpose(Some(own)).add_userid(TEAM);
        builder.generate().unwrap().0
    };
    let alice = made(ALICE);
    let bob = made("Bob <bob@example.org>");
    let bob = certified(&bob, &alice, TEAM, &as_it_is);
    let bob = certified(&bob, &alice, "Bob <bob@example.org>", &as_it_is);
    let scene = pinned(&alice);
    scene.deliver("bob.gpg", &public(&bob));
    let name = second_name("bob", &bob);
    assert_eq!(scene.state(&name), "not verified");
    scene.assert_told(&[&name, "has an address of alice", "at no time"]);
    scene.assert_not_told("second key");
    scene.next_second();
    let retired = revoked(&alice, ReasonForRevocation::KeyRetired);
    scene.deliver("alice.gpg", &public(&retired));
    assert_eq!(scene.state("alice"), "revoked");
    assert_eq!(scene.key_of("alice"), alice.fingerprint().to_hex());
    assert_eq!(scene.state(&name), "not verified");
    let written = scene.rig.write("notes/alice/x.txt", b"x");
    assert_eq!(written, Err(libc::EKEYREVOKED));
}
