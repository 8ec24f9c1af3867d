//! What a mount's end does to drafts and to scratch that was a document.

mod support;

use std::io::Write as _;

use dds::ids::Folder;
use support::mount::can_mount;
use support::people::blobs;
use support::rig::{Cast, Mounted, Rig as _, on_both};

#[test]
fn a_draft_that_is_still_being_written_is_rescued() {
    if !can_mount() {
        return;
    }
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
        // Other scratch goes without a trace.
        rig.write("notes/me/.plan.md.swp", b"swap").unwrap();
        rig.remount_with_rescue();
        assert_eq!(rig.list("notes/me").unwrap(), ["plan.md"]);
        assert_eq!(rig.read("notes/me/plan.md").unwrap(), b"new");
        assert_eq!(rig.list(".dds/rescued").unwrap(), ["plan.md~"]);
        assert_eq!(rig.read(".dds/rescued/plan.md~").unwrap(), b"old");
    });
}
