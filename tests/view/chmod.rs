//! Chmod.

use crate::support::people::blobs;
use crate::support::rig::on_both;
use dds::ids::Folder;

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
