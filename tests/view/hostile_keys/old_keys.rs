//! Certificates of contacts that are too old, of a kind that is not supported, or without what
//! newer programs say in them, as gpg makes them.

use super::*;
use crate::support::gnupg::Gnupg;

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
