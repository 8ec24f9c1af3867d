//! Unlink: which files may be removed, and which blobs leave the store then.

use crate::support::mount::wait_for;
use crate::support::people::{Blob, blobs};
use crate::support::rig::{Cast, Rig, on_both};
use dds::ids::{BlobKind, DocId, Folder};
use dds::openpgp::{self, CertIndex, Keyring, Limits, Outcome};

#[test]
fn a_received_message_is_read_only_and_can_be_removed() {
    on_both(|rig, cast| {
        let to = [&cast.me, &cast.bob];
        Blob::new(BlobKind::Message, &cast.bob, &to, "lunch.txt")
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
        Blob::new(BlobKind::Note, &cast.bob, &to, "trip/plan.md")
            .deliver(rig.store(), Folder::Notes);
        assert_eq!(rig.list("notes/bob,carol/trip").unwrap(), ["plan.md"]);
        assert_eq!(rig.remove("notes/bob,carol/trip/plan.md"), Err(libc::EPERM));
        rig.write("notes/me/own.md", b"mine").unwrap();
        rig.remove("notes/me/own.md").unwrap();
        // mv to a larger audience: the copy is published, then the original may go.
        Blob::new(BlobKind::Note, &cast.bob, &[&cast.me, &cast.bob], "x.md")
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
            // Bob's version of what is there, which his synchroniser brings, the old one taken
            // away.
            let blob = rig.xattr(at, "user.dds.blob").unwrap();
            let old = rig.store().join("notes").join(format!("{blob}.asc"));
            let bytes = std::fs::read(&old).unwrap();
            let doc = doc_of(cast, &bytes);
            let mut new = Blob::new(
                BlobKind::Note,
                &cast.bob,
                &[&cast.me, &cast.bob],
                "theirs.md",
            );
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

/// People with gpg write over their files: a content that nobody here has seen is not removed.
#[test]
fn regression_a_file_overwritten_meanwhile_is_not_removed_with_what_it_held() {
    on_both(|rig, cast| {
        let write = |content: &[u8]| {
            let mut foreign = Blob::new(BlobKind::Note, &cast.bob, &[&cast.me], "plan.md");
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
