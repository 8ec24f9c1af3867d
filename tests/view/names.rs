//! Lookup and readdir: which names files and directories have, and by which spellings they are
//! found.

use std::time::{Duration, SystemTime};

use crate::support::people::Blob;
use crate::support::rig::on_both;
use dds::ids::{BlobKind, Folder};

#[test]
fn the_root_holds_the_four_folders_and_dds() {
    on_both(|rig, _| {
        assert_eq!(
            rig.list("").unwrap(),
            [".dds", "keys", "messages", "notes", "software"]
        );
        assert_eq!(
            rig.list("messages").unwrap(),
            ["bob", "carol", "unverified"]
        );
        assert_eq!(
            rig.list("notes").unwrap(),
            ["bob", "carol", "me", "unverified"]
        );
        assert_eq!(rig.list(".dds").unwrap(), ["errors", "rescued", "status"]);
    });
}

#[test]
fn a_directory_is_found_under_every_spelling_and_has_one_name() {
    on_both(|rig, cast| {
        let spellings = [
            "carol,bob".to_owned(),
            "bob@example.org,carol".to_owned(),
            format!("{},bob", cast.carol.fingerprint()),
        ];
        for spelled in spellings {
            assert_eq!(
                rig.readlink(&format!("messages/{spelled}")).unwrap(),
                "bob,carol"
            );
            assert_eq!(rig.remove(&format!("messages/{spelled}")), Err(libc::EPERM));
        }
        assert_eq!(rig.mkdir("messages/bob,carol"), Err(libc::EEXIST));
        assert_eq!(rig.mkdir("messages/carol,bob"), Err(libc::EEXIST));
        rig.write("notes/carol,bob/x", b"1").unwrap();
        assert_eq!(rig.read("notes/bob,carol/x").unwrap(), b"1");
        let short = cast.bob.fingerprint().to_string()[24..].to_owned();
        for unknown in ["dave", "bob,dave", "dave@example.org", &short, "bob,", ""] {
            let path = format!("messages/{unknown}/x");
            let expected = if unknown.is_empty() {
                libc::EPERM
            } else {
                libc::ENOENT
            };
            if !unknown.is_empty() {
                assert_eq!(rig.write(&path, b"1"), Err(expected), "{unknown}");
            }
        }
        assert_eq!(rig.mkdir("messages/dave"), Err(libc::ENOENT));
        assert_eq!(rig.list("messages/me"), Err(libc::ENOENT));
        assert_eq!(rig.rmdir("messages/bob"), Err(libc::EBUSY));
        assert_eq!(rig.rmdir("notes/me"), Err(libc::EBUSY));
    });
}

#[test]
fn words_keep_the_joiners_that_they_are_spelled_with() {
    let persian = "\u{645}\u{6CC}\u{200C}\u{62E}\u{648}\u{627}\u{647}\u{645}.txt";
    let without = persian.replace('\u{200C}', "");
    let words = [
        persian,
        "\u{DC1}\u{DCA}\u{200D}\u{DBB}\u{DD3} \u{DBD}\u{D82}\u{D9A}\u{DCF}.txt",
        "\u{1F468}\u{200D}\u{1F469}\u{200D}\u{1F467}.txt",
        "\u{5E9}\u{5DC}\u{5D5}\u{5DD}\u{200E} (1).txt",
    ];
    on_both(|rig, cast| {
        for word in words {
            rig.write(&format!("notes/me/{word}"), word.as_bytes())
                .unwrap();
            rig.mkdir(&format!("notes/bob/{word}")).unwrap();
        }
        // What looks the same cannot be made beside it,
        let alike = format!("notes/me/{without}");
        assert_eq!(rig.write(&alike, b"another"), Err(libc::EINVAL));
        assert_eq!(rig.mkdir(&alike), Err(libc::EINVAL));
        rig.write("notes/me/x", b"x").unwrap();
        assert_eq!(rig.rename("notes/me/x", &alike), Err(libc::EINVAL));
        rig.remove("notes/me/x").unwrap();
        // nor what nobody sees where it does not belong.
        for name in [
            "pl\u{200D}an",
            "pl\u{AD}an",
            "plan\u{2061}",
            "\u{3164}",
            "a\u{E0041}",
        ] {
            let path = format!("notes/me/{name}");
            assert_eq!(
                rig.write(&path, b"hidden"),
                Err(libc::EINVAL),
                "{}",
                path.escape_unicode()
            );
        }
        // Of what others made the first has the name.
        let to = [&cast.me, &cast.bob];
        let now = SystemTime::now();
        for (name, ahead) in [(persian, 100), (&without, 150)] {
            let path = format!("in/{name}");
            let mut note = Blob::new(BlobKind::Note, &cast.bob, &to, &path);
            note.created = Some(now + Duration::from_secs(ahead));
            note.content(name.as_bytes())
                .deliver(rig.store(), Folder::Notes);
        }
        rig.remount();
        let mut names = rig.list("notes/me").unwrap();
        names.sort();
        let mut sorted = words.to_vec();
        sorted.sort();
        assert_eq!(names, sorted);
        for word in words {
            assert_eq!(
                rig.read(&format!("notes/me/{word}")).unwrap(),
                word.as_bytes()
            );
        }
        assert_eq!(
            rig.read(&format!("notes/bob/in/{persian}")).unwrap(),
            persian.as_bytes()
        );
        let other = without.replace(".txt", " (bob).txt");
        assert_eq!(
            rig.read(&format!("notes/bob/in/{other}")).unwrap(),
            without.as_bytes()
        );
        assert_eq!(rig.list("notes/bob/in").unwrap().len(), 2);
        // Without its joiner it has the other name.
        rig.rename(&format!("notes/me/{persian}"), &alike).unwrap();
    });
}

#[test]
fn names_in_keys_and_software_are_made_safe() {
    use std::os::unix::ffi::OsStrExt as _;
    let hostile: [&[u8]; 5] = [
        b"bob\x1b[2J",
        "exe.\u{202E}cod".as_bytes(),
        "b\u{2061}ob".as_bytes(),
        b"b\xffb",
        b"b\nproblem: none",
    ];
    on_both(|rig, cast| {
        let name = |hostile: &[u8], end: &str| {
            let name = [hostile, end.as_bytes()].concat();
            std::ffi::OsStr::from_bytes(&name).to_owned()
        };
        let keys = rig.list("keys").unwrap().len();
        let (store, certificate) = (
            rig.store().to_owned(),
            cast.mallory.certificate().to_bytes(),
        );
        std::fs::create_dir_all(store.join("software")).unwrap();
        for one in hostile {
            std::fs::write(store.join("keys").join(name(one, ".gpg")), &certificate).unwrap();
            std::fs::write(store.join("software").join(name(one, "")), one).unwrap();
            let dir = store.join("software").join(name(one, ".d"));
            std::fs::create_dir(&dir).unwrap();
            std::fs::write(dir.join("inside"), one).unwrap();
        }
        for (dir, count) in [
            ("keys", keys + hostile.len()),
            ("software", 2 * hostile.len()),
        ] {
            let names = rig.list(dir).unwrap();
            assert_eq!(names.len(), count, "{names:?}");
            for name in &names {
                assert!(dds::error::judged(name).all(|(_, shown)| shown), "{name:?}");
            }
        }
        let mut read: Vec<_> = rig.list("software").unwrap();
        read.retain(|name| rig.list(&format!("software/{name}")).is_err());
        let mut read: Vec<_> = read
            .iter()
            .map(|name| rig.read(&format!("software/{name}")).unwrap())
            .collect();
        read.sort();
        let mut expected = hostile.map(<[u8]>::to_vec);
        expected.sort();
        assert_eq!(read, expected);
        for name in rig.list("software").unwrap() {
            if let Ok(inside) = rig.list(&format!("software/{name}")) {
                assert_eq!(inside, ["inside"]);
                rig.read(&format!("software/{name}/inside")).unwrap();
            }
        }
        for name in rig.list("keys").unwrap() {
            let path = format!("keys/{name}");
            assert!(!rig.read(&path).unwrap().is_empty());
            if !name.is_ascii() {
                rig.remove(&path).unwrap();
            }
        }
        assert_eq!(rig.list("keys").unwrap().len(), keys);
    });
}

#[test]
fn hostile_names_from_inside_blobs_are_made_safe() {
    on_both(|rig, cast| {
        let to = [&cast.me, &cast.bob];
        for path in [
            "../../etc/passwd",
            "a\nb",
            "exe.\u{202e}txt",
            "..",
            "x/../y",
        ] {
            Blob::new(BlobKind::Note, &cast.bob, &to, path)
                .content(path.as_bytes())
                .deliver(rig.store(), Folder::Notes);
        }
        let mut found = 0;
        let mut waiting = vec!["notes/bob".to_owned()];
        while let Some(dir) = waiting.pop() {
            for name in rig.list(&dir).unwrap() {
                assert!(
                    name != ".." && !name.contains(['\n', '\u{202e}']),
                    "{name:?}"
                );
                let path = format!("{dir}/{name}");
                match rig.read(&path) {
                    Ok(_) => found += 1,
                    Err(libc::EISDIR) => waiting.push(path),
                    Err(errno) => panic!("{path}: {errno}"),
                }
            }
        }
        assert_eq!(found, 5);
    });
}

#[test]
fn a_path_that_is_too_deep_is_shown_flat() {
    on_both(|rig, cast| {
        let path = "a/".repeat(1000) + "deep.txt";
        Blob::new(BlobKind::Note, &cast.bob, &[&cast.me, &cast.bob], &path)
            .content(b"down here")
            .deliver(rig.store(), Folder::Notes);
        let names = rig.list("notes/bob").unwrap();
        assert_eq!(names.len(), 1, "{names:?}");
        assert_eq!(
            rig.read(&format!("notes/bob/{}", names[0])).unwrap(),
            b"down here"
        );
    });
}
