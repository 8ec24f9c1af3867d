//! Spares, which are links or copies of notes that may be replaced.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::*;
use crate::support::mount::{skipped, wait_for};
use crate::support::people::{Blob, deliver, other_forms};
use crate::support::rig::Rig as _;
use OldState::Removed;
use dds::ids::{BlobKind, Folder};

#[test]
fn what_was_replaced_while_nobody_looked_is_known_by_its_spare() {
    let mut past = Past::new();
    let first = past.edit(b"first", &[]);
    past.look();
    let bytes = fs::read(past.notes().join(first.file_name())).unwrap();
    let (me, bob) = (&past.cast.me, &past.cast.bob);
    let mut later = Blob::new(BlobKind::Note, bob, &[me, bob], "plan.md").content(b"second");
    later.notations.replaces = vec![first];
    later.created = Some(SystemTime::now() + Duration::from_secs(1));
    let later = later.seal();
    past.rig.crash(|store| {
        deliver(store, Folder::Notes, &later);
        deliver(store, Folder::Notes, &other_forms(&bytes)[0]);
        fs::remove_file(store.join("notes").join(first.file_name())).unwrap();
    });
    past.look();
    past.look();
    assert_eq!(past.rig.list("notes/bob").unwrap(), ["plan.md"]);
    assert_eq!(past.rig.read(SHARED).unwrap(), b"second");
    let problems = past.problems();
    let told = |one: &String| one.contains("an old version came back");
    assert!(problems.iter().any(told), "{problems:?}");
}

#[test]
fn the_spare_of_a_very_large_note_takes_no_room() {
    let past = Past::new();
    let large = vec![7; 17 << 20];
    past.save(MINE, &large);
    let name = past.notes().join(past.blob(MINE).file_name());
    assert_eq!(fs::metadata(&name).unwrap().nlink(), 2);
}

#[test]
fn a_note_is_not_opened_anew_for_its_spare() {
    let past = Past::new();
    past.save(MINE, b"first");
    let name = past.notes().join(past.blob(MINE).file_name());
    let read = || fs::metadata(&name).unwrap().accessed().unwrap();
    let before = read();
    let tick = Duration::from_millis(20);
    wait_for("the clock of the disk", || {
        SystemTime::now() > before + tick
    });
    past.look();
    assert_eq!(read(), before);
    fs::read(&name).unwrap();
    if read() == before {
        skipped("notes are not opened anew: this disk does not tell when a file was read");
    }
}

#[test]
fn on_another_disk_spares_are_copies() {
    let other = tempfile::tempdir_in("/dev/shm").unwrap();
    let device = |path: &Path| fs::metadata(path).unwrap().dev();
    if device(other.path()) == device(Path::new("/tmp")) {
        return skipped("history on another disk: /dev/shm and /tmp are one");
    }
    let past = Past::with(|home| {
        std::os::unix::fs::symlink(other.path(), home.path("state")).unwrap();
    });
    past.save(MINE, b"first");
    let name = past.notes().join(past.blob(MINE).file_name());
    assert_eq!(fs::metadata(&name).unwrap().nlink(), 1);
    let spares = past.kept("spare");
    assert_eq!(fs::read(&spares[0]).unwrap(), fs::read(&name).unwrap());
    fs::remove_file(&name).unwrap();
    past.look();
    past.restore(MINE, None);
    assert_eq!(past.rig.read(MINE).unwrap(), b"first");
}

#[test]
fn one_spare_that_cannot_be_moved_ends_nothing() {
    needs!(immutable);
    let past = Past::new();
    let (me, bob) = (&past.cast.me, &past.cast.bob);
    let mut strange = Blob::new(BlobKind::Note, bob, &[me, bob], "odd.md").content(b"odd");
    strange.intended.clear();
    strange.notations = Default::default();
    let file = past.notes().join("odd.asc");
    fs::write(&file, strange.seal()).unwrap();
    past.look();
    // It is a copy, so its flag is not the note's.
    let spare = past.kept("spare").remove(0);
    let frozen = Frozen::new(&spare);
    let first = past.edit(b"first", &[]);
    past.look();
    fs::remove_file(&file).unwrap();
    past.unlink(first);
    past.rig.view().refresh().unwrap();
    past.rig.view().keep_history();
    let problems = past.problems();
    let listed = past.rig.view().history(SHARED);
    let restored = past.rig.view().restore(SHARED, None);
    drop(frozen);
    assert!(problems[0].contains("the history of notes"), "{problems:?}");
    assert_eq!(listed.unwrap()[0].versions[0].state, Removed);
    assert!(restored.unwrap().changed);
}
