//! What a user does, on both rigs: calls on the view in this process, and system calls on the
//! real binary's mount. Each test proves a sentence of the semantics.

use std::time::{Duration, SystemTime};

use crate::support::mount::wait_for;
use crate::support::people::{Blob, Person, blobs, deliver};
use crate::support::rig::{Cast, Rig, on_both};
use dds::ids::{BlobKind, BlobName, DocId, Folder};
use dds::openpgp::{self, CertIndex, Keyring, Limits, Outcome};

const MESSAGE: BlobKind = BlobKind::Message;
const NOTE: BlobKind = BlobKind::Note;

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
fn a_message_to_a_contact_is_one_blob_of_its_own_name() {
    on_both(|rig, _| {
        rig.write("messages/bob/hello.txt", b"hi\n").unwrap();
        assert_eq!(rig.read("messages/bob/hello.txt").unwrap(), b"hi\n");
        assert_eq!(rig.size("messages/bob/hello.txt").unwrap(), 3);
        let names = blobs(rig.store(), Folder::Messages);
        assert_eq!(names.len(), 1);
        let bytes = std::fs::read(rig.store().join("messages").join(&names[0])).unwrap();
        assert_eq!(names[0], BlobName::of(&bytes).file_name());
        assert!(bytes.starts_with(b"-----BEGIN PGP MESSAGE-----\n"));
        assert_eq!(
            rig.xattr("messages/bob/hello.txt", "user.dds.pending")
                .unwrap(),
            "bob"
        );
        assert_eq!(
            rig.xattr("messages/bob/hello.txt", "user.dds.blob")
                .unwrap(),
            names[0][..40]
        );
    });
}

#[test]
fn everything_written_is_there_after_a_remount() {
    on_both(|rig, _| {
        rig.write("messages/bob/hello.txt", b"hi").unwrap();
        rig.mkdir("notes/me/trip").unwrap();
        rig.mkdir("notes/me/trip/empty").unwrap();
        let large: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
        rig.write("notes/me/trip/plan.bin", &large).unwrap();
        rig.write("notes/bob,carol/shared.md", b"us").unwrap();
        rig.write("notes/me/empty.txt", b"").unwrap();
        rig.remount();
        assert_eq!(rig.read("messages/bob/hello.txt").unwrap(), b"hi");
        assert_eq!(rig.list("notes/me/trip").unwrap(), ["empty", "plan.bin"]);
        assert!(rig.read("notes/me/trip/plan.bin").unwrap() == large);
        assert_eq!(rig.read("notes/bob,carol/shared.md").unwrap(), b"us");
        assert_eq!(rig.read("notes/me/empty.txt").unwrap(), b"");
        assert_eq!(
            rig.list("notes").unwrap(),
            ["bob", "bob,carol", "carol", "me", "unverified"]
        );
    });
}

#[test]
fn editing_a_note_leaves_one_blob_that_names_the_old_one() {
    on_both(|rig, _| {
        rig.write("notes/bob/plan.md", b"one\n").unwrap();
        rig.settle();
        let before = blobs(rig.store(), Folder::Notes);
        rig.append("notes/bob/plan.md", b"two\n").unwrap();
        rig.settle();
        let after = blobs(rig.store(), Folder::Notes);
        assert_eq!((before.len(), after.len()), (1, 1));
        assert_ne!(before, after);
        assert_eq!(rig.read("notes/bob/plan.md").unwrap(), b"one\ntwo\n");
        rig.write_at("notes/bob/plan.md", 1, b"N").unwrap();
        assert_eq!(rig.read("notes/bob/plan.md").unwrap(), b"oNe\ntwo\n");
        rig.truncate("notes/bob/plan.md", 3).unwrap();
        rig.settle();
        assert_eq!(rig.read("notes/bob/plan.md").unwrap(), b"oNe");
        assert_eq!(blobs(rig.store(), Folder::Notes).len(), 1);
        rig.remount();
        assert_eq!(rig.read("notes/bob/plan.md").unwrap(), b"oNe");
    });
}

#[test]
fn saving_my_own_message_again_replaces_it() {
    on_both(|rig, _| {
        rig.write("messages/bob/hello.txt", b"one").unwrap();
        rig.write("messages/bob/hello.txt", b"two").unwrap();
        rig.settle();
        assert_eq!(blobs(rig.store(), Folder::Messages).len(), 1);
        assert_eq!(rig.read("messages/bob/hello.txt").unwrap(), b"two");
    });
}

#[test]
fn a_save_that_leaves_the_bytes_unchanged_publishes_nothing() {
    on_both(|rig, _| {
        rig.write("notes/me/plan.md", b"same").unwrap();
        rig.settle();
        let before = blobs(rig.store(), Folder::Notes);
        rig.write("notes/me/plan.md", b"same").unwrap();
        rig.settle();
        assert_eq!(blobs(rig.store(), Folder::Notes), before);
    });
}

#[test]
fn chmod_of_a_note_is_kept_and_of_a_message_resends_nothing() {
    on_both(|rig, _| {
        rig.write("notes/me/run.sh", b"#!/bin/sh\n").unwrap();
        rig.chmod("notes/me/run.sh", 0o755).unwrap();
        rig.write("messages/bob/hello.txt", b"hi").unwrap();
        rig.settle();
        let before = blobs(rig.store(), Folder::Messages);
        rig.chmod("messages/bob/hello.txt", 0o700).unwrap();
        rig.settle();
        assert_eq!(blobs(rig.store(), Folder::Messages), before);
        rig.remount();
        assert_eq!(rig.stat("notes/me/run.sh").unwrap().0, 0o700);
        assert_eq!(rig.stat("messages/bob/hello.txt").unwrap().0, 0o600);
        assert_eq!(blobs(rig.store(), Folder::Notes).len(), 1);
    });
}

#[test]
fn a_received_message_is_read_only_and_can_be_removed() {
    on_both(|rig, cast| {
        let to = [&cast.me, &cast.bob];
        Blob::new(MESSAGE, &cast.bob, &to, "lunch.txt")
            .content(b"at noon")
            .deliver(rig.store(), Folder::Messages);
        assert_eq!(rig.list("messages/bob").unwrap(), ["lunch.txt"]);
        assert_eq!(rig.read("messages/bob/lunch.txt").unwrap(), b"at noon");
        assert_eq!(
            rig.stat("messages/bob/lunch.txt").unwrap(),
            (0o400, 1_700_000_000)
        );
        let xattr = |name| rig.xattr("messages/bob/lunch.txt", name).unwrap();
        assert_eq!(xattr("user.dds.signature"), "good-unverified");
        assert_eq!(xattr("user.dds.from"), "bob");
        assert_eq!(xattr("user.dds.addressee"), "proven");
        assert_eq!(
            rig.write("messages/bob/lunch.txt", b"no"),
            Err(libc::EACCES)
        );
        assert_eq!(
            rig.append("messages/bob/lunch.txt", b"no"),
            Err(libc::EACCES)
        );
        assert_eq!(rig.truncate("messages/bob/lunch.txt", 0), Err(libc::EACCES));
        assert_eq!(rig.read("messages/bob/lunch.txt").unwrap(), b"at noon");
        rig.remove("messages/bob/lunch.txt").unwrap();
        assert!(blobs(rig.store(), Folder::Messages).is_empty());
        assert!(rig.list("messages/bob").unwrap().is_empty());
    });
}

#[test]
fn notes_shared_with_others_are_kept() {
    on_both(|rig, cast| {
        let to = [&cast.me, &cast.bob, &cast.carol];
        Blob::new(NOTE, &cast.bob, &to, "trip/plan.md").deliver(rig.store(), Folder::Notes);
        assert_eq!(rig.list("notes/bob,carol/trip").unwrap(), ["plan.md"]);
        assert_eq!(rig.remove("notes/bob,carol/trip/plan.md"), Err(libc::EPERM));
        rig.write("notes/me/own.md", b"mine").unwrap();
        rig.remove("notes/me/own.md").unwrap();
        // mv to a larger audience: the copy is published, then the original may go.
        Blob::new(NOTE, &cast.bob, &[&cast.me, &cast.bob], "x.md")
            .content(b"for all")
            .deliver(rig.store(), Folder::Notes);
        assert_eq!(rig.list("notes/bob").unwrap(), ["x.md"]);
        assert_eq!(rig.remove("notes/bob/x.md"), Err(libc::EPERM));
        rig.write("notes/bob,carol/x.md", b"for all").unwrap();
        rig.remove("notes/bob/x.md").unwrap();
    });
}

#[test]
fn what_this_mount_made_and_nobody_changed_may_be_removed() {
    on_both(|rig, cast| {
        let bobs = |rig: &dyn Rig, at: &str| {
            // Bob's version of what is there, which his synchroniser brings, the old one taken away.
            let blob = rig.xattr(at, "user.dds.blob").unwrap();
            let old = rig.store().join("notes").join(format!("{blob}.asc"));
            let bytes = std::fs::read(&old).unwrap();
            let doc = doc_of(cast, &bytes);
            let mut new = Blob::new(NOTE, &cast.bob, &[&cast.me, &cast.bob], "theirs.md");
            new.notations.doc = Some(doc);
            new.notations.replaces = vec![blob.parse().unwrap()];
            new.content(b"bob's").deliver(rig.store(), Folder::Notes);
            std::fs::remove_file(old).unwrap();
            wait_for("bob's version", || rig.read(at).as_deref() == Ok(b"bob's"));
        };
        rig.write("notes/bob/lock", b"1").unwrap();
        rig.append("notes/bob/lock", b"2").unwrap();
        rig.remove("notes/bob/lock").unwrap();
        assert!(rig.list("notes/bob").unwrap().is_empty());
        // Nothing was held back: it was in the store, and is gone from there.
        rig.settle();
        assert_eq!(blobs(rig.store(), Folder::Notes).len(), 0);
        // A temporary file that took another one's place.
        rig.write("notes/bob/data", b"old").unwrap();
        rig.write("notes/bob/data.tmp", b"new").unwrap();
        rig.rename("notes/bob/data.tmp", "notes/bob/data").unwrap();
        rig.remove("notes/bob/data").unwrap();
        // What somebody else changed stays, even after I changed it again.
        rig.write("notes/bob/theirs.md", b"mine").unwrap();
        bobs(rig, "notes/bob/theirs.md");
        assert_eq!(rig.remove("notes/bob/theirs.md"), Err(libc::EPERM));
        rig.append("notes/bob/theirs.md", b" and mine").unwrap();
        assert_eq!(rig.remove("notes/bob/theirs.md"), Err(libc::EPERM));
        // Nor does it help to put something of mine in its place, or to rename it.
        rig.write("notes/bob/new.tmp", b"new").unwrap();
        rig.rename("notes/bob/new.tmp", "notes/bob/theirs.md")
            .unwrap();
        rig.rename("notes/bob/theirs.md", "notes/bob/ours.md")
            .unwrap();
        assert_eq!(rig.remove("notes/bob/ours.md"), Err(libc::EPERM));
        // What an earlier mount made stays, too.
        rig.write("notes/bob/kept.md", b"kept").unwrap();
        rig.remount();
        assert_eq!(rig.remove("notes/bob/kept.md"), Err(libc::EPERM));
        rig.append("notes/bob/kept.md", b"more").unwrap();
        assert_eq!(rig.remove("notes/bob/kept.md"), Err(libc::EPERM));
    });
}

/// The document of a blob that I can open.
fn doc_of(cast: &Cast, bytes: &[u8]) -> DocId {
    let people = [&cast.me, &cast.bob, &cast.carol];
    let keyring = Keyring {
        identities: std::slice::from_ref(&cast.me.identity),
        certificates: &CertIndex::new(people.map(|person| person.certificate())),
    };
    match openpgp::open(bytes, &keyring, &Limits::default(), None) {
        Outcome::Opened(opened) => opened.facts.signatures[0].notations.doc.unwrap(),
        _ => panic!("a blob that I cannot open"),
    }
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
fn what_nobody_vouches_for_is_unverified() {
    on_both(|rig, cast| {
        let me = &cast.me;
        // Signed by somebody I do not know.
        Blob::new(MESSAGE, &cast.mallory, &[me], "stranger.txt")
            .deliver(rig.store(), Folder::Messages);
        // Bob's message to Carol, encrypted anew to me: surreptitious forwarding.
        let mut forwarded = Blob::new(MESSAGE, &cast.bob, &[me], "forwarded.txt");
        forwarded.intended = vec![cast.carol.fingerprint(), cast.bob.fingerprint()];
        forwarded.deliver(rig.store(), Folder::Messages);
        // Carol claims that Bob and I talk; she is not among us.
        let mut outside = Blob::new(MESSAGE, &cast.carol, &[me], "outside.txt");
        outside.intended = vec![me.fingerprint(), cast.bob.fingerprint()];
        outside.deliver(rig.store(), Folder::Messages);
        // A note among the messages.
        Blob::new(NOTE, &cast.bob, &[me, &cast.bob], "note.txt")
            .deliver(rig.store(), Folder::Messages);
        // Mine, without saying for whom.
        let mut mine = Blob::new(MESSAGE, me, &[me], "mine.txt");
        mine.intended.clear();
        mine.deliver(rig.store(), Folder::Messages);
        let names = [
            "forwarded.txt",
            "mine.txt",
            "note.txt",
            "outside.txt",
            "stranger.txt",
        ];
        assert_eq!(rig.list("messages/unverified").unwrap(), names);
        assert!(rig.list("messages/bob").unwrap().is_empty());
        assert!(rig.list("messages/carol").unwrap().is_empty());
        let label = rig
            .xattr("messages/unverified/stranger.txt", "user.dds.signature")
            .unwrap();
        assert_eq!(label, "unknown-key");
        assert_eq!(
            rig.write("messages/unverified/stranger.txt", b""),
            Err(libc::EPERM)
        );
        assert_eq!(
            rig.write("messages/unverified/new.txt", b""),
            Err(libc::EPERM)
        );
        rig.remove("messages/unverified/stranger.txt").unwrap();
        assert_eq!(rig.list("messages/unverified").unwrap().len(), 4);
    });
}

#[test]
fn a_signature_without_intended_recipients_shows_under_its_signer() {
    on_both(|rig, cast| {
        let mut plain = Blob::new(MESSAGE, &cast.bob, &[&cast.me], "from-gpg.txt");
        plain.intended.clear();
        plain.notations = dds::openpgp::Notations::default();
        plain.deliver(rig.store(), Folder::Messages);
        assert_eq!(rig.list("messages/bob").unwrap(), ["from-gpg.txt"]);
        let addressee = rig
            .xattr("messages/bob/from-gpg.txt", "user.dds.addressee")
            .unwrap();
        assert_eq!(addressee, "unproven");
        // As sq writes: only I am named.
        let mut sq = Blob::new(NOTE, &cast.carol, &[&cast.me], "");
        sq.notations = dds::openpgp::Notations::default();
        let name = sq.deliver(rig.store(), Folder::Notes);
        assert_eq!(rig.list("notes/carol").unwrap(), [name.short()]);
    });
}

#[test]
fn two_documents_with_one_path_both_show() {
    on_both(|rig, cast| {
        let to = [&cast.me, &cast.bob];
        let now = SystemTime::now();
        let mut first = Blob::new(MESSAGE, &cast.bob, &to, "lunch.txt").content(b"first");
        first.created = Some(now + Duration::from_secs(100));
        let mut second = Blob::new(MESSAGE, &cast.bob, &to, "lunch.txt").content(b"second");
        second.created = Some(now + Duration::from_secs(150));
        second.notations.doc = Some(dds::ids::DocId::from_random([7; 16]));
        // Delivered in the wrong order, seen at once.
        second.deliver(rig.store(), Folder::Messages);
        first.deliver(rig.store(), Folder::Messages);
        rig.remount();
        assert_eq!(
            rig.list("messages/bob").unwrap(),
            ["lunch (bob).txt", "lunch.txt"]
        );
        assert_eq!(rig.read("messages/bob/lunch.txt").unwrap(), b"first");
        assert_eq!(rig.read("messages/bob/lunch (bob).txt").unwrap(), b"second");
        // Names are sticky: what is shown keeps its name when an older one arrives.
        let mut oldest = Blob::new(MESSAGE, &cast.bob, &to, "lunch.txt").content(b"oldest");
        oldest.created = Some(now + Duration::from_secs(50));
        oldest.notations.doc = Some(dds::ids::DocId::from_random([8; 16]));
        oldest.deliver(rig.store(), Folder::Messages);
        assert_eq!(rig.list("messages/bob").unwrap().len(), 3);
        assert_eq!(rig.read("messages/bob/lunch.txt").unwrap(), b"first");
    });
}

#[test]
fn concurrent_versions_both_show_and_a_directory_beats_a_file() {
    on_both(|rig, cast| {
        let to = [&cast.me, &cast.bob];
        let now = SystemTime::now();
        let mut one = Blob::new(NOTE, &cast.bob, &to, "plan.md").content(b"older");
        one.created = Some(now + Duration::from_secs(100));
        let mut two = Blob::new(NOTE, &cast.bob, &to, "plan.md").content(b"newer");
        two.created = Some(now + Duration::from_secs(150));
        one.deliver(rig.store(), Folder::Notes);
        two.deliver(rig.store(), Folder::Notes);
        Blob::new(NOTE, &cast.bob, &to, "trip").deliver(rig.store(), Folder::Notes);
        Blob::new(NOTE, &cast.bob, &to, "trip/x").deliver(rig.store(), Folder::Notes);
        rig.remount();
        let names = rig.list("notes/bob").unwrap();
        assert_eq!(names.len(), 4, "{names:?}");
        assert_eq!(rig.read("notes/bob/plan.md").unwrap(), b"newer");
        let conflict = names
            .iter()
            .find(|name| name.starts_with("plan (conflict, bob 20"));
        let conflict = format!("notes/bob/{}", conflict.unwrap());
        assert_eq!(rig.read(&conflict).unwrap(), b"older");
        assert_eq!(rig.xattr(&conflict, "user.dds.conflict").unwrap(), "yes");
        assert_eq!(rig.list("notes/bob/trip").unwrap(), ["x"]);
        assert_eq!(rig.read("notes/bob/trip (bob)").unwrap(), b"");
        // A conflict copy may be removed; that settles it.
        rig.remove(&conflict).unwrap();
        assert_eq!(rig.list("notes/bob").unwrap().len(), 3);
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
            let mut note = Blob::new(NOTE, &cast.bob, &to, &path);
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
fn an_editors_lock_becomes_no_file() {
    on_both(|rig, _| {
        rig.write("notes/me/latest", b"precious").unwrap();
        for dir in ["notes/me", "notes/bob", "messages/bob"] {
            let [lock, other, name] = [".#x", ".#y", "latest"].map(|name| format!("{dir}/{name}"));
            rig.symlink(&lock, "me@here.1:2").unwrap();
            assert_eq!(rig.rename(&lock, &name), Err(libc::EPERM), "{dir}");
            assert_eq!(rig.rename(&lock, &format!("{dir}/free")), Err(libc::EPERM));
            rig.rename(&lock, &other).unwrap();
            assert_eq!(rig.readlink(&other).unwrap(), "me@here.1:2");
            rig.remove(&other).unwrap();
        }
        assert_eq!(rig.read("notes/me/latest").unwrap(), b"precious");
        assert_eq!(rig.list("notes/me").unwrap(), ["latest"]);
    });
}

#[test]
fn my_own_version_has_the_name_that_the_other_readers_see() {
    on_both(|rig, cast| {
        let now = SystemTime::now();
        for (from, ahead, content) in [(&cast.me, 100, b"mine"), (&cast.bob, 150, b"his.")] {
            let to = [&cast.me, &cast.bob];
            let mut note = Blob::new(NOTE, from, &to, "plan.md").content(content);
            note.created = Some(now + Duration::from_secs(ahead));
            note.deliver(rig.store(), Folder::Notes);
        }
        rig.remount();
        let names = rig.list("notes/bob").unwrap();
        assert!(
            names[0].starts_with("plan (conflict, alice 20") && names[1] == "plan.md",
            "{names:?}"
        );
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
            Blob::new(NOTE, &cast.bob, &to, path)
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
fn writing_elsewhere_is_refused() {
    on_both(|rig, _| {
        std::fs::write(rig.store().join("software/tool"), "#!").unwrap();
        for (path, errno) in [
            ("x", libc::EPERM),
            ("messages/x", libc::EPERM),
            ("notes/x", libc::EPERM),
            (".dds/x", libc::EPERM),
            (".dds/status", libc::EPERM),
            ("software/x", libc::EROFS),
            ("software/tool", libc::EROFS),
            ("notes/me/.Trash-1000", libc::EPERM),
            ("keys/readme.txt", libc::EINVAL),
        ] {
            assert_eq!(rig.write(path, b"x"), Err(errno), "{path}");
        }
        assert_eq!(rig.mkdir("x"), Err(libc::EPERM));
        assert_eq!(rig.mkdir("messages/bob/x"), Err(libc::EPERM));
        assert_eq!(rig.mkdir("notes/me/.Trash-0"), Err(libc::EPERM));
        assert_eq!(rig.mkdir("software/x"), Err(libc::EROFS));
        assert_eq!(rig.remove("software/tool"), Err(libc::EROFS));
        assert_eq!(rig.remove(".dds/status"), Err(libc::EPERM));
        assert_eq!(rig.read("software/tool").unwrap(), b"#!");
        assert_eq!(rig.stat("software/tool").unwrap().0, 0o400);
        assert_eq!(rig.write("notes/me/a\u{1}b", b"x"), Err(libc::EINVAL));
        assert_eq!(
            rig.write(&format!("notes/me/{}", "x".repeat(256)), b""),
            Err(libc::ENAMETOOLONG)
        );
    });
}

#[test]
fn scratch_stays_in_ram() {
    on_both(|rig, _| {
        for name in [".plan.md.swp", "plan.md~", "#plan.md#", ".~lock.a.odt#"] {
            let path = format!("notes/bob/{name}");
            rig.write(&path, b"needle").unwrap();
            assert_eq!(rig.read(&path).unwrap(), b"needle");
        }
        rig.settle();
        assert!(blobs(rig.store(), Folder::Notes).is_empty());
        rig.remount_with_rescue();
        assert!(blobs(rig.store(), Folder::Notes).is_empty());
        assert!(rig.list("notes/bob").unwrap().is_empty());
    });
}

#[test]
fn directories_among_notes_come_and_go() {
    on_both(|rig, _| {
        rig.mkdir("notes/bob/a").unwrap();
        assert_eq!(rig.mkdir("notes/bob/a"), Err(libc::EEXIST));
        rig.mkdir("notes/bob/a/b").unwrap();
        rig.write("notes/bob/a/b/f", b"1").unwrap();
        assert_eq!(rig.rmdir("notes/bob/a"), Err(libc::ENOTEMPTY));
        assert_eq!(rig.rmdir("notes/bob/a/b/f"), Err(libc::ENOTDIR));
        assert_eq!(rig.remove("notes/bob/a"), Err(libc::EISDIR));
        rig.mkdir("notes/me/d").unwrap();
        rig.write("notes/me/d/f", b"1").unwrap();
        rig.remove("notes/me/d/f").unwrap();
        rig.rmdir("notes/me/d").unwrap();
        assert!(rig.list("notes/me").unwrap().is_empty());
        rig.remount();
        assert!(rig.list("notes/me").unwrap().is_empty());
        assert_eq!(rig.list("notes/bob/a/b").unwrap(), ["f"]);
    });
}

#[test]
fn certificates_go_in_and_secret_keys_do_not() {
    on_both(|rig, cast| {
        let stranger = Blob::new(MESSAGE, &cast.mallory, &[&cast.me, &cast.mallory], "hi.txt");
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

#[test]
fn a_blob_that_goes_or_is_replaced_goes_from_the_view() {
    on_both(|rig, cast| {
        let to = [&cast.me, &cast.bob];
        let blob = Blob::new(MESSAGE, &cast.bob, &to, "gone.txt").content(b"soon gone");
        let name = blob.deliver(rig.store(), Folder::Messages);
        assert_eq!(rig.read("messages/bob/gone.txt").unwrap(), b"soon gone");
        std::fs::remove_file(rig.store().join("messages").join(name.file_name())).unwrap();
        assert!(rig.list("messages/bob").unwrap().is_empty());
        assert_eq!(rig.read("messages/bob/gone.txt"), Err(libc::ENOENT));
    });
}

#[test]
fn half_a_blob_is_invisible_until_it_is_whole() {
    on_both(|rig, cast| {
        let to = [&cast.me, &cast.bob];
        let whole = Blob::new(MESSAGE, &cast.bob, &to, "whole.txt")
            .content(b"all of it")
            .seal();
        let file = rig.store().join("messages/anything.asc");
        std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
        assert!(rig.list("messages/bob").unwrap().is_empty());
        assert!(rig.list("messages/unverified").unwrap().is_empty());
        std::fs::write(&file, &whole).unwrap();
        assert_eq!(rig.list("messages/bob").unwrap(), ["whole.txt"]);
        assert_eq!(rig.read("messages/bob/whole.txt").unwrap(), b"all of it");
    });
}

#[test]
fn a_damaged_blob_shows_nothing_of_itself() {
    on_both(|rig, cast| {
        let to = [&cast.me, &cast.bob];
        let mut bytes = Blob::new(MESSAGE, &cast.bob, &to, "x.txt")
            .content(b"needle")
            .seal();
        // Damage the last line of base64 before the checksum: the end of the ciphertext.
        let end = bytes.windows(2).rposition(|pair| pair == b"\n=").unwrap();
        bytes[end - 8] = if bytes[end - 8] == b'A' { b'B' } else { b'A' };
        let name = deliver(rig.store(), Folder::Messages, &bytes);
        assert_eq!(rig.list("messages/unverified").unwrap(), [name.short()]);
        let path = format!("messages/unverified/{}", name.short());
        assert_eq!(rig.size(&path).unwrap(), 0);
        assert_eq!(rig.read(&path), Err(libc::EBADMSG));
        let told = String::from_utf8(rig.read(".dds/errors").unwrap()).unwrap();
        assert!(told.contains(&name.to_string()), "{told}");
        assert!(rig.list("messages/bob").unwrap().is_empty());
    });
}

/// People with gpg write over their files: what nobody here has seen is not removed.
#[test]
fn regression_a_file_overwritten_meanwhile_is_not_removed_with_what_it_held() {
    on_both(|rig, cast| {
        let write = |content: &[u8]| {
            let mut foreign = Blob::new(NOTE, &cast.bob, &[&cast.me], "plan.md");
            foreign.notations = dds::openpgp::Notations::default();
            foreign.intended.clear();
            let bytes = foreign.content(content).seal();
            std::fs::write(rig.store().join("notes/plan.asc"), bytes).unwrap();
        };
        write(b"one");
        assert_eq!(rig.read("notes/bob/plan.md").unwrap(), b"one");
        // Known here by its first content only: nothing has listed the directory since.
        write(b"two");
        rig.append("notes/bob/plan.md", b" and more")
            .unwrap_or_default();
        rig.settle();
        rig.remount();
        let mut contents = Vec::new();
        for name in rig.list("notes/bob").unwrap() {
            contents.push(rig.read(&format!("notes/bob/{name}")).unwrap());
        }
        assert!(
            contents.iter().any(|content| content.starts_with(b"two")),
            "{contents:?}"
        );
    });
}

/// A call that fails by path leaves the file as it was, for those who have it open, too.
#[test]
fn regression_a_failed_truncate_changes_nothing() {
    on_both(|rig, _| {
        rig.write("notes/me/plan.md", b"text").unwrap();
        assert_eq!(rig.truncate("notes/me/plan.md", 1 << 60), Err(libc::EFBIG));
        assert_eq!(rig.read("notes/me/plan.md").unwrap(), b"text");
        rig.append("notes/me/plan.md", b"!").unwrap();
        assert_eq!(rig.read("notes/me/plan.md").unwrap(), b"text!");
    });
}

#[test]
fn a_path_that_is_too_deep_is_shown_flat() {
    on_both(|rig, cast| {
        let path = "a/".repeat(1000) + "deep.txt";
        Blob::new(NOTE, &cast.bob, &[&cast.me, &cast.bob], &path)
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
