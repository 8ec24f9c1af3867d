//! Blobs that others put into the store: where each is shown, from when on, and until when.

use std::time::{Duration, SystemTime};

use crate::support::people::{Blob, deliver};
use crate::support::rig::on_both;
use dds::ids::{BlobKind, Folder};

#[test]
fn what_nobody_vouches_for_is_unverified() {
    on_both(|rig, cast| {
        let me = &cast.me;
        // Signed by somebody I do not know.
        Blob::new(BlobKind::Message, &cast.mallory, &[me], "stranger.txt")
            .deliver(rig.store(), Folder::Messages);
        // Bob's message to Carol, encrypted anew to me: surreptitious forwarding.
        let mut forwarded = Blob::new(BlobKind::Message, &cast.bob, &[me], "forwarded.txt");
        forwarded.intended = vec![cast.carol.fingerprint(), cast.bob.fingerprint()];
        forwarded.deliver(rig.store(), Folder::Messages);
        // Carol claims that Bob and I talk; she is not among us.
        let mut outside = Blob::new(BlobKind::Message, &cast.carol, &[me], "outside.txt");
        outside.intended = vec![me.fingerprint(), cast.bob.fingerprint()];
        outside.deliver(rig.store(), Folder::Messages);
        // A note among the messages.
        Blob::new(BlobKind::Note, &cast.bob, &[me, &cast.bob], "note.txt")
            .deliver(rig.store(), Folder::Messages);
        // Mine, without saying for whom.
        let mut mine = Blob::new(BlobKind::Message, me, &[me], "mine.txt");
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
        let mut plain = Blob::new(BlobKind::Message, &cast.bob, &[&cast.me], "from-gpg.txt");
        plain.intended.clear();
        plain.notations = dds::openpgp::Notations::default();
        plain.deliver(rig.store(), Folder::Messages);
        assert_eq!(rig.list("messages/bob").unwrap(), ["from-gpg.txt"]);
        let addressee = rig
            .xattr("messages/bob/from-gpg.txt", "user.dds.addressee")
            .unwrap();
        assert_eq!(addressee, "unproven");
        // As sq writes: only I am named.
        let mut sq = Blob::new(BlobKind::Note, &cast.carol, &[&cast.me], "");
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
        let mut first = Blob::new(BlobKind::Message, &cast.bob, &to, "lunch.txt").content(b"first");
        first.created = Some(now + Duration::from_secs(100));
        let mut second =
            Blob::new(BlobKind::Message, &cast.bob, &to, "lunch.txt").content(b"second");
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
        let mut oldest =
            Blob::new(BlobKind::Message, &cast.bob, &to, "lunch.txt").content(b"oldest");
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
        let mut one = Blob::new(BlobKind::Note, &cast.bob, &to, "plan.md").content(b"older");
        one.created = Some(now + Duration::from_secs(100));
        let mut two = Blob::new(BlobKind::Note, &cast.bob, &to, "plan.md").content(b"newer");
        two.created = Some(now + Duration::from_secs(150));
        one.deliver(rig.store(), Folder::Notes);
        two.deliver(rig.store(), Folder::Notes);
        Blob::new(BlobKind::Note, &cast.bob, &to, "trip").deliver(rig.store(), Folder::Notes);
        Blob::new(BlobKind::Note, &cast.bob, &to, "trip/x").deliver(rig.store(), Folder::Notes);
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
fn my_own_version_has_the_name_that_the_other_readers_see() {
    on_both(|rig, cast| {
        let now = SystemTime::now();
        for (from, ahead, content) in [(&cast.me, 100, b"mine"), (&cast.bob, 150, b"his.")] {
            let to = [&cast.me, &cast.bob];
            let mut note = Blob::new(BlobKind::Note, from, &to, "plan.md").content(content);
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
fn a_blob_that_goes_or_is_replaced_goes_from_the_view() {
    on_both(|rig, cast| {
        let to = [&cast.me, &cast.bob];
        let blob = Blob::new(BlobKind::Message, &cast.bob, &to, "gone.txt").content(b"soon gone");
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
        let whole = Blob::new(BlobKind::Message, &cast.bob, &to, "whole.txt")
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
        let mut bytes = Blob::new(BlobKind::Message, &cast.bob, &to, "x.txt")
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
