//! Mkdir and rmdir.

use crate::support::rig::on_both;

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
