//! Certificates that are written into `keys/`.

use crate::support::mount::wait_for;
use crate::support::people::{Blob, Person};
use crate::support::rig::{Rig, on_both};
use dds::ids::{BlobKind, Folder};

#[test]
fn certificates_go_in_and_secret_keys_do_not() {
    on_both(|rig, cast| {
        let stranger = Blob::new(
            BlobKind::Message,
            &cast.mallory,
            &[&cast.me, &cast.mallory],
            "hi.txt",
        );
        stranger.deliver(rig.store(), Folder::Messages);
        assert_eq!(rig.list("messages/unverified").unwrap(), ["hi.txt"]);
        let keys = rig.list("keys").unwrap();
        assert_eq!(keys, ["one.gpg", "three.gpg", "two.gpg"]);
        assert_eq!(
            rig.write("keys/m.asc", &cast.mallory.secret),
            Err(libc::EINVAL)
        );
        assert_eq!(rig.write("keys/m.asc", b"no key"), Err(libc::EINVAL));
        // The kernel tells of the last close after it has returned.
        wait_for("the refused files to go", || {
            rig.list("keys").unwrap() == keys
        });
        assert_eq!(
            std::fs::read_dir(rig.store().join("keys")).unwrap().count(),
            3
        );
        rig.write("keys/m.asc", &cast.mallory.certificate().to_armored())
            .unwrap();
        assert_eq!(rig.list("keys").unwrap().len(), 4);
        // Once the key is known, her message stands under her name.
        assert_eq!(
            rig.list("messages").unwrap(),
            ["bob", "carol", "mallory", "unverified"]
        );
        assert_eq!(rig.list("messages/mallory").unwrap(), ["hi.txt"]);
        assert!(rig.list("messages/unverified").unwrap().is_empty());
        // A file is only overwritten by the same key.
        let carol = cast.carol.certificate().to_bytes();
        assert_eq!(rig.write("keys/two.gpg", &carol), Err(libc::EINVAL));
        rig.write("keys/two.gpg", &cast.bob.certificate().to_bytes())
            .unwrap();
        // Removing the file keeps the contact.
        rig.remove("keys/two.gpg").unwrap();
        rig.write("messages/bob/still.txt", b"here").unwrap();
        rig.remount();
        assert_eq!(rig.read("messages/bob/still.txt").unwrap(), b"here");
    });
}

/// Files of the store's `keys/`, in order.
fn key_files(rig: &dyn Rig) -> Vec<String> {
    let entries = std::fs::read_dir(rig.store().join("keys")).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_certificate_may_have_any_name_and_is_stored_under_its_fingerprint() {
    for name in [
        "m.cert",
        "m",
        "Mallory's key",
        ".m.gpg.Ab1xYz",
        "m.asc.txt",
        "m.key~",
    ] {
        on_both(|rig, cast| {
            let certificate = cast.mallory.certificate();
            let stored = format!("{}.asc", cast.mallory.fingerprint());
            rig.write(&format!("keys/{name}"), &certificate.to_bytes())
                .unwrap();
            assert!(
                key_files(rig).contains(&stored),
                "{name}: {:?}",
                key_files(rig)
            );
            assert_eq!(key_files(rig).len(), 4, "{name}");
            assert_eq!(rig.list("keys").unwrap(), key_files(rig));
            assert!(
                rig.list("messages")
                    .unwrap()
                    .contains(&"mallory".to_owned())
            );
            let armored = certificate.to_armored();
            assert_eq!(rig.read(&format!("keys/{stored}")).unwrap(), armored);
            // A program that looks at what it wrote finds a file, in this mount.
            let link = rig.readlink(&format!("keys/{name}"));
            assert_eq!(link, Err(libc::EINVAL));
            rig.chmod(&format!("keys/{name}"), 0o644).unwrap();
            assert_eq!(rig.read(&format!("keys/{name}")).unwrap(), armored);
            // It is the file: written again, renamed as a file that was written aside, removed.
            rig.write(&format!("keys/{stored}"), &certificate.to_bytes())
                .unwrap();
            assert_eq!(key_files(rig).len(), 4, "{name}");
            rig.rename(&format!("keys/{name}"), "keys/mallory.gpg")
                .unwrap();
            assert_eq!(rig.read(&format!("keys/{name}")), Err(libc::ENOENT));
            assert_eq!(rig.read("keys/mallory.gpg").unwrap(), armored);
            rig.remove("keys/mallory.gpg").unwrap();
            assert_eq!(rig.list("keys").unwrap().len(), 3);
            assert_eq!(rig.read("keys/mallory.gpg"), Err(libc::ENOENT));
            assert_eq!(key_files(rig).len(), 3, "{name}");

            // Renamed over a file, its certificates go into that one, if they are of its keys.
            let bob = cast.bob.certificate().to_bytes();
            for (bytes, renamed) in [(&bob, Ok(())), (&certificate.to_bytes(), Err(libc::EINVAL))] {
                rig.write(&format!("keys/{name}"), bytes).unwrap();
                assert_eq!(rig.rename(&format!("keys/{name}"), "keys/two.gpg"), renamed);
                let there = std::fs::read(rig.store().join("keys/two.gpg")).unwrap();
                assert_eq!(there, bob, "{name}");
            }
            assert_eq!(key_files(rig).len(), 4, "{name}: {:?}", key_files(rig));
            rig.remove(&format!("keys/{name}")).unwrap();
            assert_eq!(key_files(rig).len(), 3, "{name}");
        });
    }
}

#[test]
fn several_certificates_of_any_name_get_a_file_each() {
    on_both(|rig, cast| {
        let dave = Person::new("Dave");
        let both = [
            cast.mallory.certificate().to_armored(),
            dave.certificate().to_armored(),
        ];
        rig.write("keys/our friends.txt", &both.concat()).unwrap();
        let mut expected = vec!["one.gpg", "three.gpg", "two.gpg"]
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>();
        for person in [&cast.mallory, &dave] {
            expected.push(format!("{}.asc", person.fingerprint()));
        }
        expected.sort();
        assert_eq!(key_files(rig), expected);
        let people = rig.list("messages").unwrap();
        for name in ["dave", "mallory"] {
            assert!(people.contains(&name.to_owned()), "{people:?}");
        }
        // Under a name of the store's own they stay together.
        let erin = Person::new("Erin");
        let both = [erin.certificate().to_bytes(), dave.certificate().to_bytes()].concat();
        rig.write("keys/ring.pgp", &both).unwrap();
        assert_eq!(rig.read("keys/ring.pgp").unwrap(), both);
        assert_eq!(key_files(rig).len(), 6);
    });
}

#[test]
fn what_is_no_certificate_is_refused_under_any_name_and_the_reason_is_told() {
    on_both(|rig, cast| {
        let before = key_files(rig);
        let passwd = std::fs::read("/etc/passwd").unwrap();
        for name in ["passwd", "carol.cert", "carol.asc", "x"] {
            for (bytes, sentence) in [
                (&passwd[..], "certificate"),
                (&cast.mallory.secret, "secret key"),
            ] {
                let path = format!("keys/{name}");
                assert_eq!(rig.write(&path, bytes), Err(libc::EINVAL), "{name}");
                let errors = String::from_utf8(rig.read(".dds/errors").unwrap()).unwrap();
                let last = errors.lines().rfind(|line| line.contains(&path));
                let last = last.unwrap_or_else(|| panic!("{path}: {errors}"));
                assert!(last.contains(sentence), "{last}");
                wait_for("the refused file to go", || {
                    rig.list("keys").unwrap() == before
                });
            }
        }
        assert_eq!(key_files(rig), before);
    });
}
