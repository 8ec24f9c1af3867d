//! Link and symlink.

use crate::support::rig::on_both;

#[test]
fn links_are_for_scratch_and_locks_only() {
    on_both(|rig, _| {
        rig.symlink("notes/me/.#plan.md", "alice@host.1:2").unwrap();
        assert_eq!(
            rig.readlink("notes/me/.#plan.md").unwrap(),
            "alice@host.1:2"
        );
        rig.remove("notes/me/.#plan.md").unwrap();
        assert_eq!(rig.symlink("notes/me/link", "x"), Err(libc::EPERM));
        rig.write("notes/me/x", b"1").unwrap();
        assert_eq!(rig.link("notes/me/x", "notes/me/y"), Err(libc::EPERM));
        rig.write("notes/me/tmp_obj_1", b"object").unwrap();
        rig.link("notes/me/tmp_obj_1", "notes/me/object").unwrap();
        rig.remove("notes/me/tmp_obj_1").unwrap();
        rig.remount();
        assert_eq!(rig.list("notes/me").unwrap(), ["object", "x"]);
        assert_eq!(rig.read("notes/me/object").unwrap(), b"object");
    });
}
