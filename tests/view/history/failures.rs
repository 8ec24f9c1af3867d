//! A history that fails, a folder that is missing, a crash: no version is lost.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::*;
use crate::support::disk::Disk;
use crate::support::mount::skipped;
use crate::support::people::blobs;
use crate::support::rig::Rig as _;
use OldState::{Current, Removed, Replaced};
use dds::ids::Folder;

#[test]
fn a_missing_folder_is_no_removal() {
    let past = Past::new();
    let first = past.edit(b"first", &[]);
    past.look();
    let aside = past.notes().with_file_name("aside");
    fs::rename(past.notes(), &aside).unwrap();
    past.look();
    let during = (past.kept("spare").len(), past.kept("gone").len());
    fs::rename(&aside, past.notes()).unwrap();
    past.look();
    assert_eq!(during, (1, 0));
    past.assert_states(SHARED, &[Current]);
    past.unlink(first);
    past.look();
    past.assert_states(SHARED, &[Removed]);
}

/// A file or a link in the place of a folder takes no version away, and stops nothing of the
/// others.
#[test]
fn a_folder_that_is_none_takes_no_version_and_stops_no_history() {
    for (broken, restarted, link) in [
        ("keys", false, true),
        ("messages", false, false),
        ("messages", true, true),
        ("software", true, false),
        ("notes", false, false),
        ("notes", true, true),
    ] {
        let mut past = Past::new();
        past.save(MINE, b"one");
        past.save(MINE, b"two");
        let first = past.edit(b"first", &[]);
        past.look();
        past.edit(b"second", &[first]);
        past.look();
        let folder = past.rig.store().join(broken);
        let aside = past.rig.store().with_file_name("aside");
        let replace = |_: &Path| {
            fs::rename(&folder, &aside).unwrap();
            match link {
                true => std::os::unix::fs::symlink("/etc", &folder).unwrap(),
                false => fs::write(&folder, "x").unwrap(),
            }
        };
        match restarted {
            true => past.rig.crash(replace),
            false => replace(past.rig.store()),
        }
        past.look();
        if broken == "notes" {
            for path in [MINE, SHARED] {
                let states = past.versions(path).into_iter().map(|one| one.state);
                let states: Vec<_> = states.collect();
                assert!(states.contains(&Replaced), "{path}: {states:?}");
                assert!(!states.contains(&Removed), "{path}: {states:?}");
            }
            let said = past.rig.view().restore(MINE, None).unwrap_err().to_string();
            assert!(said.contains("move it away"), "{said}");
        } else {
            past.assert_states(SHARED, &[Current, Replaced]);
            past.save(MINE, b"three");
            past.assert_states(MINE, &[Current, Replaced, Replaced]);
            assert_eq!(past.restore(MINE, None), MINE);
            assert_eq!(past.rig.read(MINE).unwrap(), b"two");
            assert_eq!(past.restore(SHARED, None), SHARED);
            assert_eq!(past.rig.read(SHARED).unwrap(), b"first");
        }
        fs::remove_file(&folder).unwrap();
        fs::rename(&aside, &folder).unwrap();
        past.look();
        if broken == "notes" {
            past.assert_states(MINE, &[Current, Replaced]);
            past.assert_states(SHARED, &[Current, Replaced]);
            assert_eq!(past.rig.read(MINE).unwrap(), b"two");
        }
    }
}

#[test]
fn what_waits_is_kept_as_soon_as_it_can_be() {
    needs!(immutable);
    let past = Past::new();
    past.rig.write(MINE, b"first").unwrap();
    past.rig.settle();
    let frozen = Frozen::new(&past.state.join("history"));
    past.rig.write(MINE, b"second").unwrap();
    past.rig.settle();
    let stored = blobs(past.rig.store(), Folder::Notes).len();
    drop(frozen);
    assert_eq!(stored, 2);
    // Without another save.
    past.look();
    assert_eq!(blobs(past.rig.store(), Folder::Notes).len(), 1);
    past.assert_states(MINE, &[Current, Replaced]);
    past.look();
    assert_eq!(past.problems(), [""; 0]);
}

#[test]
fn at_the_end_of_a_mount_nothing_is_copied() {
    let other = tempfile::tempdir_in("/dev/shm").unwrap();
    let device = |path: &Path| fs::metadata(path).unwrap().dev();
    if device(other.path()) == device(Path::new("/tmp")) {
        return skipped("history on another disk: /dev/shm and /tmp are one");
    }
    let mut past = Past::with(|home| {
        std::os::unix::fs::symlink(other.path(), home.path("state")).unwrap();
    });
    past.rig.write(MINE, b"first").unwrap();
    past.rig.settle();
    past.rig.write(MINE, b"second").unwrap();
    assert_eq!(past.rig.view().close(), []);
    // So it stays in the store.
    assert_eq!(past.kept("spare").len(), 0);
    assert_eq!(blobs(past.rig.store(), Folder::Notes).len(), 2);
    past.rig.remount();
    assert_eq!(past.rig.list("notes/me").unwrap(), ["plan.md"]);
    past.save(MINE, b"third");
    assert_eq!(blobs(past.rig.store(), Folder::Notes).len(), 1);
    past.assert_states(MINE, &[Current, Replaced, Replaced]);
}

#[test]
fn what_the_disk_of_the_history_has_no_room_for_waits_in_the_store() {
    needs!(disk);
    let mut disk = None;
    let past = Past::with(|home| {
        disk = Some(Disk::in_memory(&home.path("state"), 512 << 10));
    });
    let mut large = vec![0; 1 << 20];
    rustix::rand::getrandom(&mut large, rustix::rand::GetRandomFlags::empty()).unwrap();
    past.save(MINE, &large);
    past.save(MINE, b"second");
    assert_eq!(blobs(past.rig.store(), Folder::Notes).len(), 2);
    assert_eq!(past.rig.list("notes/me").unwrap(), ["plan.md"]);
    let problems = past.problems();
    assert!(
        problems.iter().any(|one| one.contains("stay in the store")),
        "{problems:?}"
    );
    assert!(!problems.iter().any(|one| one.contains("could not be kept")));
    past.save(MINE, b"third");
    past.assert_states(MINE, &[Current, Replaced, Replaced]);
    past.restore(MINE, Some("3"));
    assert_eq!(past.rig.read(MINE).unwrap(), large);
}

#[test]
fn a_crash_at_any_point_loses_no_version_and_shows_none_twice() {
    let mut past = Past::new();
    past.save(MINE, b"first");
    let first = past.notes().join(past.blob(MINE).file_name());
    let bytes = fs::read(&first).unwrap();
    past.save(MINE, b"second");
    // It was kept, and not unlinked yet.
    past.rig.crash(|_| fs::write(&first, &bytes).unwrap());
    past.look();
    assert_eq!(past.rig.list("notes/me").unwrap(), ["plan.md"]);
    assert_eq!(past.rig.read(MINE).unwrap(), b"second");
    assert_eq!(past.versions(MINE).len(), 2);
    // It was unlinked, and did not become history yet.
    past.rig.crash(|_| fs::remove_file(&first).unwrap());
    past.look();
    past.assert_states(MINE, &[Current, Replaced]);
    // What was being copied goes.
    let half = past.state.join("history/.tmp-0123");
    fs::write(&half, b"half").unwrap();
    past.rig.crash(|_| {});
    assert!(!half.exists());
}

#[test]
fn a_replaced_version_waits_in_the_store_for_a_history_that_fails() {
    needs!(immutable);
    let mut past = Past::new();
    past.rig.write(MINE, b"first").unwrap();
    past.rig.settle();
    let frozen = Frozen::new(&past.state.join("history"));
    past.rig.write(MINE, b"second").unwrap();
    past.rig.settle();
    let stored = blobs(past.rig.store(), Folder::Notes).len();
    let problems = past.problems();
    // Only a few wait.
    for n in 0..70_u8 {
        past.rig.write(MINE, &[n]).unwrap();
        past.rig.settle();
    }
    let many = blobs(past.rig.store(), Folder::Notes).len();
    drop(frozen);
    assert_eq!(stored, 2);
    assert!(problems[0].contains("stay in the store"), "{problems:?}");
    assert_eq!(many, 65);
    assert_eq!(past.rig.list("notes/me").unwrap(), ["plan.md"]);
    past.rig.write(MINE, b"third").unwrap();
    past.rig.settle();
    assert_eq!(blobs(past.rig.store(), Folder::Notes).len(), 1);
    assert!(past.versions(MINE).len() >= 60);
    past.rig.remount();
}
