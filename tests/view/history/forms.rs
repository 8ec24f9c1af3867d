//! Versions in other forms than this mount gives them: by gpg, in other armor, written over in
//! place.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, SystemTime};

use super::*;
use crate::support::people::{Blob, blobs, deliver, other_forms};
use crate::support::rig::Rig as _;
use OldState::{Current, Removed, Replaced};
use dds::ids::{BlobKind, Folder};

#[test]
fn a_replaced_note_that_comes_back_in_another_form_is_told_and_no_conflict() {
    let mut past = Past::new();
    past.save(SHARED, b"price 100");
    let first = fs::read(past.notes().join(past.blob(SHARED).file_name())).unwrap();
    past.save(SHARED, b"price 200");
    let second = past.blob(SHARED);
    let told = |past: &Past| {
        let problems = past.problems();
        problems
            .iter()
            .any(|one| one.contains("an old version came back"))
    };
    assert!(!told(&past), "{:?}", past.problems());
    for form in other_forms(&first).iter().chain([&first]) {
        let name = deliver(past.rig.store(), Folder::Notes, form);
        for mount in 0..2 {
            past.look();
            assert_eq!(past.rig.list("notes/bob").unwrap(), ["plan.md"]);
            assert_eq!(past.rig.read(SHARED).unwrap(), b"price 200");
            assert!(told(&past), "{:?}", past.problems());
            past.assert_states(SHARED, &[Current, Replaced]);
            if mount == 0 {
                past.rig.crash(|_| {});
            }
        }
        past.unlink(name);
        past.look();
        assert!(!told(&past), "{:?}", past.problems());
    }
    // Nobody's newer version is there: what comes back is shown, and told.
    past.unlink(second);
    past.look();
    past.rig.crash(|_| {});
    assert!(!told(&past));
    deliver(past.rig.store(), Folder::Notes, &other_forms(&first)[0]);
    past.look();
    assert_eq!(past.rig.read(SHARED).unwrap(), b"price 100");
    assert!(told(&past), "{:?}", past.problems());
    // Its next version replaces it, and removes it.
    past.save(SHARED, b"price 300");
    assert_eq!(blobs(past.rig.store(), Folder::Notes).len(), 1);
    past.look();
    assert!(!told(&past), "{:?}", past.problems());
}

#[test]
fn what_is_there_in_another_form_is_the_same_version() {
    let past = Past::new();
    let first = past.edit(b"first", &[]);
    past.look();
    let bytes = fs::read(past.notes().join(first.file_name())).unwrap();
    // Another armor takes its place, and then it alone is replaced by its old name.
    let form = deliver(past.rig.store(), Folder::Notes, &other_forms(&bytes)[0]);
    past.look();
    assert_eq!(past.rig.list("notes/bob").unwrap(), ["plan.md"]);
    past.unlink(first);
    past.look();
    past.assert_states(SHARED, &[Current]);
    let mut later = Blob::new(
        BlobKind::Note,
        &past.cast.bob,
        &[&past.cast.me, &past.cast.bob],
        "plan.md",
    )
    .content(b"second");
    later.notations.replaces = vec![first];
    later.created = Some(SystemTime::now() + Duration::from_secs(1));
    later.deliver(past.rig.store(), Folder::Notes);
    past.look();
    assert_eq!(past.rig.list("notes/bob").unwrap(), ["plan.md"]);
    assert_eq!(past.rig.read(SHARED).unwrap(), b"second");
    past.assert_states(SHARED, &[Current, Replaced]);
    past.unlink(form);
    past.look();
    past.assert_states(SHARED, &[Current, Replaced]);
    // All forms of it are forgotten at once.
    past.rig.view().forget_history(SHARED).unwrap();
    past.assert_states(SHARED, &[Current]);
}

#[test]
fn a_note_by_gpg_is_kept_when_it_is_saved_here_or_written_over() {
    let past = Past::new();
    let (me, bob) = (&past.cast.me, &past.cast.bob);
    let sealed = |content: &'static [u8]| {
        let mut blob = Blob::new(BlobKind::Note, bob, &[me, bob], "plan.md").content(content);
        blob.intended.clear();
        blob.notations = Default::default();
        blob.seal()
    };
    let file = past.notes().join("bobs plan.asc");
    let first = sealed(b"first");
    fs::write(&file, &first).unwrap();
    past.look();
    // Its file may be written over in place, so its spare is no link.
    assert_eq!(fs::metadata(&file).unwrap().nlink(), 1);
    fs::write(&file, sealed(b"second")).unwrap();
    past.look();
    let versions = past.versions(SHARED);
    assert_eq!(versions.len(), 2, "{versions:?}");
    assert_eq!(fs::read(&past.kept("gone")[0]).unwrap(), first);

    past.save(SHARED, b"mine");
    let mut states: Vec<_> = past.versions(SHARED).iter().map(|one| one.state).collect();
    // The two by gpg were signed within a second.
    states[1..].sort_by_key(|state| *state == Removed);
    assert_eq!(states, [Current, Replaced, Removed]);
    past.restore(SHARED, None);
    assert_eq!(past.rig.read(SHARED).unwrap(), b"second");
    assert_eq!(past.rig.list("notes/bob").unwrap(), ["plan.md"]);
}

#[test]
fn a_note_that_is_written_over_in_place_can_be_restored() {
    let past = Past::new();
    past.save(MINE, b"precious");
    let name = past.notes().join(past.blob(MINE).file_name());
    assert_eq!(fs::metadata(&name).unwrap().nlink(), 1);
    let first = fs::read(&name).unwrap();
    fs::write(&name, [0; 500]).unwrap();
    past.look();
    assert!(past.rig.list("notes/me").unwrap().is_empty());
    assert_eq!(fs::read(&past.kept("gone")[0]).unwrap(), first);
    past.assert_states(MINE, &[Removed]);
    past.restore(MINE, None);
    assert_eq!(past.rig.read(MINE).unwrap(), b"precious");
}

#[test]
fn what_is_replaced_by_another_document_and_lost_is_told() {
    needs!(immutable);
    let past = Past::new();
    let (me, bob) = (&past.cast.me, &past.cast.bob);
    let mut blob = Blob::new(BlobKind::Note, bob, &[me, bob], "plan.md").content(b"first");
    blob.intended.clear();
    blob.notations = Default::default();
    fs::write(past.notes().join("bobs plan.asc"), blob.seal()).unwrap();
    past.rig.view().refresh().unwrap();
    let frozen = Frozen::new(&past.state.join("history"));
    past.rig.write(SHARED, b"mine").unwrap();
    past.rig.settle();
    drop(frozen);
    let problems = past.problems();
    assert_eq!(blobs(past.rig.store(), Folder::Notes).len(), 1);
    let told = "old versions of notes that could not be kept: 1 ";
    assert!(
        problems.iter().any(|one| one.starts_with(told)),
        "{problems:?}"
    );
}

#[test]
fn a_file_by_gpg_that_was_written_over_is_not_removed_for_its_old_times() {
    let past = Past::new();
    let (me, bob) = (&past.cast.me, &past.cast.bob);
    let mut blob = Blob::new(BlobKind::Note, bob, &[me, bob], "plan.md").content(b"first");
    blob.intended.clear();
    blob.notations = Default::default();
    let file = past.notes().join("bobs plan.asc");
    let sealed = blob.seal();
    fs::write(&file, &sealed).unwrap();
    past.look();
    let modified = fs::metadata(&file).unwrap().modified().unwrap();
    let other = vec![b'x'; sealed.len()];
    let open = fs::OpenOptions::new().write(true).open(&file).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&open, &other, 0).unwrap();
    open.set_modified(modified).unwrap();
    past.rig.write(SHARED, b"mine").unwrap();
    past.rig.settle();
    assert_eq!(fs::read(&file).unwrap(), other);
}

#[test]
fn what_was_written_over_in_the_history_is_left_out() {
    let past = Past::new();
    past.save(MINE, b"first");
    past.save(MINE, b"second");
    let gone = past.kept("gone").remove(0);
    let other = fs::read(past.notes().join(past.blob(MINE).file_name())).unwrap();
    fs::write(&gone, other).unwrap();
    past.assert_states(MINE, &[Current]);
}
