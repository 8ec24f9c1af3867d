//! What a mount's end does to drafts and to scratch, and which files are scratch.

use std::io::Write as _;
use std::time::Duration;

use crate::support::people::blobs;
use crate::support::rig::{Cast, InProcess, Mounted, Rig as _, on_both};
use dds::ids::Folder;
use dds::view::{Access, Unsaved};

#[test]
fn a_draft_that_is_still_being_written_is_rescued() {
    needs!(mount);
    let mut rig = Mounted::new(&Cast::new(), "");
    let mut file = std::fs::File::create(rig.mount().path("messages/bob/draft.txt")).unwrap();
    file.write_all(b"half a sentence").unwrap();
    rig.end_by(libc::SIGTERM);
    drop(file);
    assert!(
        blobs(rig.store(), Folder::Messages).is_empty(),
        "sent to nobody"
    );
    rig.start();
    assert_eq!(rig.list(".dds/rescued").unwrap(), ["draft.txt"]);
    let rescued = ".dds/rescued/draft.txt";
    assert_eq!(rig.read(rescued).unwrap(), b"half a sentence");
    assert_eq!(rig.size(rescued).unwrap(), 15);
    assert_eq!(rig.write(rescued, b""), Err(libc::EPERM));
    assert_eq!(rig.rename(rescued, "notes/me/draft.txt"), Err(libc::EPERM));
    rig.remount();
    assert_eq!(rig.list(".dds/rescued").unwrap(), ["draft.txt"]);
    rig.remove(rescued).unwrap();
    rig.remount();
    assert!(rig.list(".dds/rescued").unwrap().is_empty());
}

#[test]
fn a_backup_whose_replacement_was_published_is_rescued() {
    on_both(|rig, _| {
        rig.write("notes/me/plan.md", b"old").unwrap();
        rig.rename("notes/me/plan.md", "notes/me/plan.md~").unwrap();
        rig.write("notes/me/plan.md", b"new").unwrap();
        rig.remount_with_rescue();
        assert_eq!(rig.list("notes/me").unwrap(), ["plan.md"]);
        assert_eq!(rig.read("notes/me/plan.md").unwrap(), b"new");
        assert_eq!(rig.list(".dds/rescued").unwrap(), ["plan.md~"]);
        assert_eq!(rig.read(".dds/rescued/plan.md~").unwrap(), b"old");
    });
}

/// Whoever has renamed or removed their scratch is done with it; all other may be somebody's work.
#[test]
fn scratch_that_stays_is_rescued_unless_it_is_empty() {
    on_both(|rig, _| {
        let mine = [".plan.md.swp", "#plan.md#", "plan.md~"];
        for name in mine {
            rig.write(&format!("notes/bob/{name}"), name.as_bytes())
                .unwrap();
        }
        rig.write("messages/bob/.letter.swp", b"dear").unwrap();
        rig.write("notes/bob/.empty.swp", b"").unwrap();
        rig.write("notes/bob/.gone.swp", b"gone").unwrap();
        rig.remove("notes/bob/.gone.swp").unwrap();
        rig.write("notes/me/.saved.swp", b"saved").unwrap();
        rig.rename("notes/me/.saved.swp", "notes/me/saved").unwrap();
        rig.remount_with_rescue();
        let mut rescued = rig.list(".dds/rescued").unwrap();
        rescued.sort();
        assert_eq!(
            rescued,
            ["#plan.md#", ".letter.swp", ".plan.md.swp", "plan.md~"]
        );
        for name in mine {
            let read = rig.read(&format!(".dds/rescued/{name}")).unwrap();
            assert_eq!(read, name.as_bytes());
        }
        assert!(rig.list("notes/bob").unwrap().is_empty());
        assert!(rig.list("messages/bob").unwrap().is_empty());
        assert_eq!(rig.list("notes/me").unwrap(), ["saved"]);
        assert_eq!(blobs(rig.store(), Folder::Notes).len(), 1);
        assert!(blobs(rig.store(), Folder::Messages).is_empty());
    });
}

/// Names that programs give to their temporary files, and people to their own.
const LIKE_SCRATCH: [&str; 10] = [
    ".env.202411",
    ".bashrc.241128",
    ".profile.backup",
    "sedan2024",
    "sedatives",
    "4913",
    "05036",
    "5159",
    "lunch.tmp",
    "lu2024.tmp",
];

#[test]
fn a_file_that_is_only_called_like_scratch_is_a_file_like_any_other() {
    on_both(|rig, _| {
        for name in LIKE_SCRATCH {
            let note = format!("notes/me/{name}");
            rig.write(&note, name.as_bytes()).unwrap();
            rig.write(&format!("messages/bob/{name}"), name.as_bytes())
                .unwrap();
            // A file may be given such a name, too.
            rig.write("notes/bob/other", name.as_bytes()).unwrap();
            rig.rename("notes/bob/other", &format!("notes/bob/{name}"))
                .unwrap();
        }
        rig.settle();
        let count = LIKE_SCRATCH.len();
        assert_eq!(blobs(rig.store(), Folder::Messages).len(), count);
        assert_eq!(blobs(rig.store(), Folder::Notes).len(), 2 * count);
        rig.remount();
        for name in LIKE_SCRATCH {
            for directory in ["notes/me", "notes/bob", "messages/bob"] {
                let read = rig.read(&format!("{directory}/{name}")).unwrap();
                assert_eq!(read, name.as_bytes());
            }
        }
    });
}

/// As mkstemp(3) opens a file.
const TEMPORARY: Access = Access {
    read: true,
    write: true,
    append: false,
    truncate: false,
    exclusive: true,
};

#[test]
fn what_mkstemp_made_under_such_a_name_reaches_the_store_under_its_last_name_only() {
    let rig = InProcess::new(&Cast::new());
    for name in ["sedAbC123", ".plan.md.Xy12Zw", "lu1234.tmp"] {
        let path = format!("messages/bob/{name}");
        let handle = rig.open_as(&path, TEMPORARY).unwrap();
        rig.write_handle(handle, 0, b"whole").unwrap();
        rig.fsync_handle(handle).unwrap();
        rig.flush_handle(handle).unwrap();
        rig.view().release(handle);
        rig.append(&path, b" now").unwrap();
        assert!(blobs(rig.store(), Folder::Messages).is_empty(), "{name}");
        rig.rename(&path, "messages/bob/plan.md").unwrap();
        rig.settle();
        assert_eq!(blobs(rig.store(), Folder::Messages).len(), 1, "{name}");
        assert_eq!(rig.read("messages/bob/plan.md").unwrap(), b"whole now");
        rig.remove("messages/bob/plan.md").unwrap();
    }
    // Of one that stays nothing is sent, and nothing is lost.
    let handle = rig.open_as("messages/bob/sedXyZ789", TEMPORARY).unwrap();
    rig.write_handle(handle, 0, b"half").unwrap();
    rig.view().release(handle);
    rig.view().save_what_stays(Duration::ZERO);
    let unsaved = rig.view().close();
    let expected = Unsaved {
        path: "messages/bob/sedXyZ789".to_owned(),
        rescued: true,
    };
    assert_eq!(unsaved, [expected]);
    assert!(blobs(rig.store(), Folder::Messages).is_empty());
}

#[test]
fn vim_s_probe_is_never_published_and_an_empty_file_of_its_name_that_stays_is() {
    let mut rig = InProcess::new(&Cast::new());
    let probe = Access {
        read: false,
        ..TEMPORARY
    };
    for directory in ["notes/bob", "messages/bob"] {
        let path = format!("{directory}/4913");
        let handle = rig.open_as(&path, probe).unwrap();
        rig.flush_handle(handle).unwrap();
        rig.view().release(handle);
        assert_eq!(rig.size(&path).unwrap(), 0);
        rig.remove(&path).unwrap();
    }
    assert!(blobs(rig.store(), Folder::Notes).is_empty());
    assert!(blobs(rig.store(), Folder::Messages).is_empty());
    // A mail folder of nmh, whose files are made exclusively as well.
    let handle = rig.open_as("notes/me/5036", probe).unwrap();
    rig.write_handle(handle, 0, b"Subject: hi").unwrap();
    rig.flush_handle(handle).unwrap();
    rig.view().release(handle);
    assert_eq!(blobs(rig.store(), Folder::Notes).len(), 1);
    let handle = rig.open_as("notes/me/5159", probe).unwrap();
    rig.view().release(handle);
    rig.view().save_what_stays(Duration::from_secs(3600));
    assert_eq!(blobs(rig.store(), Folder::Notes).len(), 1);
    rig.view().save_what_stays(Duration::ZERO);
    assert_eq!(blobs(rig.store(), Folder::Notes).len(), 2);
    let handle = rig.open_as("notes/me/5282", probe).unwrap();
    rig.view().release(handle);
    rig.remount();
    assert_eq!(rig.list("notes/me").unwrap(), ["5036", "5159", "5282"]);
}

#[test]
fn a_download_is_published_under_its_last_name_or_if_it_stays() {
    on_both(|rig, _| {
        for part in ["notes/me/a.iso.part", "notes/me/a.iso.crdownload"] {
            rig.write(part, b"all of").unwrap();
            rig.append(part, b" it").unwrap();
            rig.settle();
            assert!(blobs(rig.store(), Folder::Notes).is_empty());
            assert_eq!(rig.read(part).unwrap(), b"all of it");
            rig.rename(part, "notes/me/a.iso").unwrap();
            assert_eq!(blobs(rig.store(), Folder::Notes).len(), 1);
            rig.remove("notes/me/a.iso").unwrap();
        }
        // As Chrome does, which gives its download two names.
        rig.write("notes/me/.org.chromium.swp", b"web").unwrap();
        rig.rename("notes/me/.org.chromium.swp", "notes/me/b.crdownload")
            .unwrap();
        rig.settle();
        assert!(blobs(rig.store(), Folder::Notes).is_empty());
        rig.rename("notes/me/b.crdownload", "notes/me/b").unwrap();
        assert_eq!(rig.read("notes/me/b").unwrap(), b"web");
        rig.remove("notes/me/b").unwrap();
        // One that stays is a file like any other.
        rig.write("notes/me/bracket.part", b"solid").unwrap();
        rig.remount();
        assert_eq!(rig.read("notes/me/bracket.part").unwrap(), b"solid");
        assert_eq!(blobs(rig.store(), Folder::Notes).len(), 1);
        rig.append("notes/me/bracket.part", b"!").unwrap();
        rig.settle();
        rig.write("messages/bob/book.part", b"to be sent").unwrap();
        rig.remount_with_rescue();
        assert_eq!(rig.read("notes/me/bracket.part").unwrap(), b"solid!");
        assert!(blobs(rig.store(), Folder::Messages).is_empty());
        assert_eq!(rig.read(".dds/rescued/book.part").unwrap(), b"to be sent");
    });
}

#[test]
fn what_is_held_back_is_saved_once_it_stays_and_a_message_says_what_it_waits_for() {
    let rig = InProcess::new(&Cast::new());
    let access = Access {
        write: true,
        ..Access::default()
    };
    let writing = rig.open_as("notes/me/c.part", access).unwrap();
    rig.write_handle(writing, 0, b"more and").unwrap();
    rig.flush_handle(writing).unwrap();
    rig.write("messages/bob/book.part", b"to be sent").unwrap();
    rig.view().save_what_stays(Duration::ZERO);
    assert!(blobs(rig.store(), Folder::Notes).is_empty(), "still open");
    rig.view().release(writing);
    rig.view().save_what_stays(Duration::ZERO);
    assert_eq!(blobs(rig.store(), Folder::Notes).len(), 1);
    assert_eq!(rig.read("notes/me/c.part").unwrap(), b"more and");
    rig.view().save_what_stays(Duration::ZERO);
    assert!(blobs(rig.store(), Folder::Messages).is_empty());
    let told = String::from_utf8(rig.read(".dds/errors").unwrap()).unwrap();
    let lines: Vec<_> = told.lines().collect();
    let [line] = &lines[..] else {
        panic!("{told}");
    };
    assert!(
        line.contains("messages/bob/book.part: it is not sent yet"),
        "{line}"
    );
    rig.rename("messages/bob/book.part", "messages/bob/book")
        .unwrap();
    assert_eq!(blobs(rig.store(), Folder::Messages).len(), 1);
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
