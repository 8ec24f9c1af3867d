//! Create, write, truncate and close: which blob a save publishes, and where nothing can be saved.

use crate::support::people::blobs;
use crate::support::rig::on_both;
use dds::ids::{BlobName, Folder};

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
