//! Old versions of notes are kept, as ciphertext and for a while; messages never.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::support::disk::Disk;
use crate::support::mount::{Home, make_mutable, skipped, wait_for};
use crate::support::people::{Blob, blobs, deliver, make_store, other_forms};
use crate::support::rig::{Cast, InProcess, Mounted, Rig};
use crate::support::tree::files_below;
use dds::ids::{BlobId, BlobKind, BlobName, Folder};
use dds::view::{OldState, OldVersion};

const MINE: &str = "notes/me/plan.md";
const SHARED: &str = "notes/bob/plan.md";

/// A file or directory that nobody can change, until this is dropped.
struct Frozen(PathBuf);

impl Frozen {
    /// A test that does this needs `immutable`.
    fn new(path: &Path) -> Frozen {
        let file = fs::File::open(path).unwrap();
        let flags = rustix::fs::ioctl_getflags(&file).unwrap_or(rustix::fs::IFlags::empty());
        let immutable = rustix::fs::IFlags::IMMUTABLE;
        rustix::fs::ioctl_setflags(&file, flags | immutable).unwrap();
        Frozen(path.to_owned())
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        make_mutable(&self.0);
    }
}

/// A view in this process, and where its state is.
struct Past {
    cast: Cast,
    rig: InProcess,
    state: PathBuf,
}

impl Past {
    fn new() -> Past {
        Self::with(|_| {})
    }

    /// One whose home is prepared first.
    fn with(prepare: impl FnOnce(&Home)) -> Past {
        let cast = Cast::new();
        let home = Home::new();
        prepare(&home);
        let people = [
            ("one", &cast.me),
            ("two", &cast.bob),
            ("three", &cast.carol),
        ];
        let store = make_store(home.dir.path(), &people);
        let state = home.path("state");
        let rig = InProcess::of(&cast.me, home, store);
        Past { cast, rig, state }
    }

    /// What the background does when something changed.
    fn look(&self) {
        self.rig.view().refresh().unwrap();
        self.rig.view().keep_history();
    }

    fn save(&self, path: &str, bytes: &[u8]) {
        self.rig.write(path, bytes).unwrap();
        self.rig.settle();
        self.look();
    }

    /// Bob's edit, which replaces `before` as soon as it is there.
    fn edit(&self, content: &[u8], before: &[BlobName]) -> BlobName {
        let (me, bob) = (&self.cast.me, &self.cast.bob);
        let mut blob = Blob::new(BlobKind::Note, bob, &[me, bob], "plan.md").content(content);
        blob.notations.replaces.extend(before);
        let later = Duration::from_secs(before.len() as u64);
        blob.created = Some(SystemTime::now() + later);
        let name = blob.deliver(self.rig.store(), Folder::Notes);
        for before in before {
            self.unlink(*before);
        }
        name
    }

    fn unlink(&self, blob: BlobName) {
        fs::remove_file(self.notes().join(blob.file_name())).unwrap();
    }

    fn notes(&self) -> PathBuf {
        self.rig.store().join("notes")
    }

    fn blob(&self, path: &str) -> BlobName {
        let blob = self.rig.xattr(path, "user.dds.blob").unwrap();
        blob.parse().unwrap()
    }

    /// All versions of the notes of a path, newest first.
    fn versions(&self, path: &str) -> Vec<OldVersion> {
        let notes = self.rig.view().history(path).unwrap();
        notes.into_iter().flat_map(|note| note.versions).collect()
    }

    #[track_caller]
    fn assert_states(&self, path: &str, expected: &[OldState]) {
        let versions = self.versions(path);
        let states: Vec<_> = versions.iter().map(|one| one.state).collect();
        assert_eq!(states, expected, "{versions:#?}");
    }

    fn restore(&self, path: &str, which: Option<&str>) -> String {
        let restored = self.rig.view().restore(path, which).unwrap();
        assert!(restored.changed);
        self.rig.settle();
        self.look();
        restored.path
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = self.rig.view().status().problems;
        problems.retain(|problem| !problem.starts_with("new contact"));
        problems
    }

    /// Files of the history whose names begin so.
    fn kept(&self, prefix: &str) -> Vec<PathBuf> {
        let mut files = files_below(&self.state.join("history"));
        files.retain(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.starts_with(&format!("{prefix}-"))
        });
        files
    }
}

fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    memchr::memmem::find(bytes, needle).is_some()
}

use OldState::{Current, Removed, RemovedByMe, Replaced};

#[test]
fn what_i_replace_is_kept_and_can_be_restored() {
    let past = Past::new();
    past.save(MINE, b"first");
    let name = past.notes().join(past.blob(MINE).file_name());
    let first = fs::read(&name).unwrap();
    past.save(MINE, b"second");
    past.save(MINE, b"third");
    assert!(!name.exists());
    past.assert_states(MINE, &[Current, Replaced, Replaced]);
    let sizes: Vec<_> = past.versions(MINE).iter().map(|one| one.size).collect();
    assert_eq!(sizes, [5, 6, 5]);
    // It is the ciphertext that it was, under its own name.
    let gone = past.kept("gone");
    let bytes = gone.iter().map(|path| fs::read(path).unwrap());
    assert!(bytes.into_iter().any(|bytes| bytes == first));

    assert_eq!(past.restore(MINE, None), MINE);
    assert_eq!(past.rig.read(MINE).unwrap(), b"second");
    assert_eq!(past.restore(MINE, Some("4")), MINE);
    assert_eq!(past.rig.read(MINE).unwrap(), b"first");
    let third = past.versions(MINE)[2].version.to_string();
    assert_eq!(past.restore(MINE, Some(&third[..8])), MINE);
    assert_eq!(past.rig.read(MINE).unwrap(), b"third");
    assert_eq!(past.rig.list("notes/me").unwrap(), ["plan.md"]);
    assert_eq!(blobs(past.rig.store(), Folder::Notes).len(), 1);
    // Nothing is published of what is there already.
    let again = past.rig.view().restore(MINE, Some("1")).unwrap();
    assert!(!again.changed);
    assert!(past.rig.view().restore(MINE, Some("99")).is_err());
    assert!(past.rig.view().restore("notes/me/other", None).is_err());
}

#[test]
fn it_is_kept_also_when_the_background_was_too_slow() {
    let past = Past::new();
    for content in [b"one", b"two"] {
        past.rig.write(MINE, content).unwrap();
        past.rig.settle();
    }
    past.assert_states(MINE, &[Current, Replaced]);
    assert_eq!(past.kept("gone").len(), 1);
}

#[test]
fn what_others_replace_is_kept_and_others_see_what_i_restore() {
    let past = Past::new();
    let first = past.edit(b"first", &[]);
    past.look();
    past.edit(b"second", &[first]);
    past.look();
    past.assert_states(SHARED, &[Current, Replaced]);
    let by: Vec<_> = past
        .versions(SHARED)
        .into_iter()
        .map(|one| one.by)
        .collect();
    assert_eq!(by, ["bob", "bob"]);
    past.restore(SHARED, None);
    past.assert_states(SHARED, &[Current, Replaced, Replaced]);
    assert_eq!(past.versions(SHARED)[0].by, "me");

    let bob = InProcess::of(&past.cast.bob, Home::new(), past.rig.store().to_owned());
    assert_eq!(bob.list("notes/alice").unwrap(), ["plan.md"]);
    assert_eq!(bob.read("notes/alice/plan.md").unwrap(), b"first");
    assert_eq!(
        bob.xattr("notes/alice/plan.md", "user.dds.from").unwrap(),
        "alice"
    );
}

#[test]
fn what_others_remove_can_be_restored() {
    for mounted in [true, false] {
        let mut past = Past::new();
        let first = past.edit(b"first", &[]);
        past.look();
        let unlink = |notes: &Path| fs::remove_file(notes.join(first.file_name())).unwrap();
        match mounted {
            true => unlink(&past.notes()),
            false => past.rig.crash(|store| unlink(&store.join("notes"))),
        }
        past.look();
        assert_eq!(past.rig.list("notes/bob").unwrap(), [""; 0]);
        past.assert_states(SHARED, &[Removed]);
        let all = past.rig.view().history("").unwrap();
        let [note] = &all[..] else { panic!("{all:?}") };
        assert_eq!((note.path.as_str(), note.present), (SHARED, false));
        assert_eq!(past.restore(SHARED, None), SHARED);
        assert_eq!(past.rig.read(SHARED).unwrap(), b"first");
        // Should a stale peer bring it back, it is superseded.
        deliver_again(&past, first);
        assert_eq!(past.rig.list("notes/bob").unwrap(), ["plan.md"]);
    }
}

/// Brings a blob that went back into the store, as a peer that was away for long.
fn deliver_again(past: &Past, blob: BlobName) {
    let mut gone = past
        .kept("gone")
        .into_iter()
        .map(|path| fs::read(path).unwrap());
    let bytes = gone.find(|bytes| BlobName::of(bytes) == blob).unwrap();
    deliver(past.rig.store(), Folder::Notes, &bytes);
}

#[test]
fn what_i_removed_can_be_restored_and_nothing_is_said_to_have_come_back() {
    let mut past = Past::new();
    past.save(MINE, b"first");
    past.save(MINE, b"second");
    let last = past.blob(MINE);
    past.rig.remove(MINE).unwrap();
    past.look();
    past.assert_states(MINE, &[RemovedByMe, Replaced]);
    past.restore(MINE, None);
    assert_eq!(past.rig.read(MINE).unwrap(), b"second");
    past.assert_states(MINE, &[Current, Replaced, Replaced]);
    deliver_again(&past, last);
    past.look();
    for _ in 0..2 {
        assert_eq!(past.rig.list("notes/me").unwrap(), ["plan.md"]);
        assert_eq!(past.problems(), [""; 0]);
        past.rig.remount();
        past.look();
    }
}

#[test]
fn what_came_back_is_no_history_until_it_goes_again() {
    let past = Past::new();
    let first = past.edit(b"first", &[]);
    past.look();
    past.unlink(first);
    past.look();
    assert_eq!((past.kept("spare").len(), past.kept("gone").len()), (0, 1));
    deliver_again(&past, first);
    past.look();
    assert_eq!((past.kept("spare").len(), past.kept("gone").len()), (1, 0));
    past.assert_states(SHARED, &[Current]);
    past.unlink(first);
    past.look();
    past.assert_states(SHARED, &[Removed]);
}

#[test]
fn a_renamed_note_is_found_by_all_its_names() {
    let past = Past::new();
    past.save(MINE, b"first");
    past.rig.rename(MINE, "notes/me/new.md").unwrap();
    past.rig.settle();
    past.look();
    for path in [MINE, "notes/me/new.md"] {
        let notes = past.rig.view().history(path).unwrap();
        let [note] = &notes[..] else {
            panic!("{notes:?}")
        };
        assert_eq!(
            (note.path.as_str(), note.present),
            ("notes/me/new.md", true)
        );
        let paths: Vec<_> = note.versions.iter().map(|one| one.path.as_str()).collect();
        assert_eq!(paths, ["notes/me/new.md", MINE]);
    }
    // Which one is wanted cannot be told from the old name alone.
    assert!(past.rig.view().restore(MINE, None).is_err());
    past.save("notes/me/new.md", b"second");
    assert_eq!(past.restore(MINE, Some("3")), "notes/me/new.md");
    assert_eq!(past.rig.read("notes/me/new.md").unwrap(), b"first");
    assert_eq!(past.rig.list("notes/me").unwrap(), ["new.md"]);
}

#[test]
fn two_notes_of_one_name_are_told_apart() {
    let past = Past::new();
    past.save(MINE, b"old");
    past.rig.remove(MINE).unwrap();
    past.save(MINE, b"new");
    past.assert_states(MINE, &[Current, RemovedByMe]);
    let notes = past.rig.view().history(MINE).unwrap();
    assert_eq!(notes.len(), 2);
    // The other note is not touched: the usual rules name the one that is restored.
    let shown = past.restore(MINE, Some("2"));
    assert_eq!(past.rig.read(&shown).unwrap(), b"old");
    assert_eq!(past.rig.list("notes/me").unwrap().len(), 2);
    assert_eq!(past.rig.read(MINE).unwrap(), b"new");
}

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
fn conflict_copies_and_unverified_notes_are_kept() {
    let past = Past::new();
    past.edit(b"first", &[]);
    let mut mine = Blob::new(
        BlobKind::Note,
        &past.cast.me,
        &[&past.cast.me, &past.cast.bob],
        "plan.md",
    );
    mine.created = Some(SystemTime::now() + Duration::from_secs(5));
    mine.content(b"mine")
        .deliver(past.rig.store(), Folder::Notes);
    let stranger = &past.cast.mallory;
    let strange = Blob::new(
        BlobKind::Note,
        stranger,
        &[&past.cast.me, stranger],
        "odd.md",
    );
    strange
        .content(b"strange")
        .deliver(past.rig.store(), Folder::Notes);
    past.look();
    let names = past.rig.list("notes/bob").unwrap();
    let conflict = names.iter().find(|name| name.contains("conflict")).unwrap();
    past.rig.remove(&format!("notes/bob/{conflict}")).unwrap();
    past.rig.remove("notes/unverified/odd.md").unwrap();
    past.look();
    past.assert_states(SHARED, &[Current, RemovedByMe]);
    past.assert_states("notes/unverified/odd.md", &[RemovedByMe]);
    let error = past.rig.view().restore("notes/unverified/odd.md", None);
    let error = error.unwrap_err();
    assert_eq!(error.kind(), dds::error::Kind::Forbidden);
    assert!(error.to_string().contains("vouches"), "{error}");
    // gpg opens its file, which is named.
    let file = error.to_string().rsplit(' ').next().map(PathBuf::from);
    assert!(past.kept("gone").contains(&file.unwrap()), "{error}");
}

#[test]
fn messages_are_never_kept() {
    let mut past = Past::new();
    let (me, bob) = (&past.cast.me, &past.cast.bob);
    let received = Blob::new(BlobKind::Message, bob, &[me, bob], "hello.txt").content(b"hello");
    let received = received.seal();
    deliver(past.rig.store(), Folder::Messages, &received);
    // A message in the wrong folder is one, too.
    let misplaced = Blob::new(BlobKind::Message, bob, &[me, bob], "wrong.txt").content(b"wrong");
    let misplaced = misplaced.seal();
    deliver(past.rig.store(), Folder::Notes, &misplaced);
    past.rig.write("messages/bob/lunch.txt", b"noon").unwrap();
    past.look();
    let sent = blobs(past.rig.store(), Folder::Messages);
    let sent = sent
        .iter()
        .map(|name| fs::read(past.rig.store().join("messages").join(name)));
    let mut all: Vec<_> = sent.map(Result::unwrap).collect();
    all.push(misplaced);
    assert_eq!(all.len(), 3);
    for path in ["messages/bob/hello.txt", "messages/bob/lunch.txt"] {
        past.rig.remove(path).unwrap();
    }
    past.rig.remove("notes/unverified/wrong.txt").unwrap();
    past.look();
    past.rig.remount();
    past.look();
    assert!(all.contains(&received));
    for file in files_below(&past.state) {
        let bytes = fs::read(&file).unwrap();
        for message in &all {
            assert!(!contains(&bytes, message), "{}", file.display());
        }
    }
    let kept = [past.kept("spare"), past.kept("gone")];
    assert_eq!(kept, [vec![], Vec::<PathBuf>::new()]);
    assert!(past.rig.view().history("messages/bob/hello.txt").is_err());
    assert!(
        past.rig
            .view()
            .restore("messages/bob/hello.txt", None)
            .is_err()
    );
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
fn what_is_old_stays_until_the_clock_is_sure() {
    let mut past = Past::new();
    for content in [b"one", b"two"] {
        past.save(MINE, content);
    }
    let gone = past.kept("gone").remove(0);
    let name = gone.file_name().unwrap().to_str().unwrap();
    let (_, id) = name.rsplit_once('-').unwrap();
    fs::rename(&gone, gone.with_file_name(format!("gone-0-{id}"))).unwrap();
    past.rig.crash(|_| {});
    past.look();
    // The mount is not an hour old.
    past.assert_states(MINE, &[Current, Replaced]);
}

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

/// A file or a link in the place of a folder takes no version away, and stops nothing of the others.
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
fn nothing_of_it_is_plain() {
    let past = Past::new();
    let path = "notes/me/needle-in-a-path.md";
    past.save(path, b"needle-in-a-note");
    past.save(path, b"another needle-in-a-note");
    past.rig.view().history(path).unwrap();
    assert_eq!(past.kept("gone").len(), 1);
    for file in files_below(&past.state) {
        let bytes = fs::read(&file).unwrap();
        let name = file.to_string_lossy();
        assert!(
            !contains(&bytes, b"needle") && !name.contains("needle"),
            "{name}"
        );
    }
    // Names are what the files hold, for whoever looks without a key.
    for file in [past.kept("gone"), past.kept("spare")].concat() {
        let id = BlobId::of(&fs::read(&file).unwrap());
        let hex: String = id
            .as_bytes()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert!(file.to_string_lossy().ends_with(&hex));
    }
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
fn what_was_written_over_in_the_history_is_left_out() {
    let past = Past::new();
    past.save(MINE, b"first");
    past.save(MINE, b"second");
    let gone = past.kept("gone").remove(0);
    let other = fs::read(past.notes().join(past.blob(MINE).file_name())).unwrap();
    fs::write(&gone, other).unwrap();
    past.assert_states(MINE, &[Current]);
}

#[test]
fn what_is_forgotten_is_gone() {
    let past = Past::new();
    for path in [MINE, "notes/me/trip/a", "notes/me/trip/b"] {
        let _ = past.rig.mkdir("notes/me/trip");
        past.save(path, b"first");
        past.save(path, b"second");
    }
    assert_eq!(past.rig.view().history("notes/me/trip").unwrap().len(), 2);
    assert_eq!(past.rig.view().forget_history("notes/me/trip").unwrap(), 2);
    assert_eq!(past.rig.view().forget_history(MINE).unwrap(), 1);
    assert!(past.rig.view().forget_history(MINE).is_err());
    assert_eq!(past.kept("gone"), Vec::<PathBuf>::new());
    past.assert_states(MINE, &[Current]);
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

/// Runs `dds`, and returns what it printed; its exit code and errors if it failed.
fn dds(rig: &Mounted, arguments: &[&str]) -> Result<String, (Option<i32>, String)> {
    let mut command = rig.home.dds();
    let output = command
        .args(arguments)
        .current_dir(rig.mount().path("notes"))
        .output();
    let output = output.unwrap();
    match output.status.code() {
        Some(0) => Ok(String::from_utf8(output.stdout).unwrap()),
        code => Err((code, String::from_utf8(output.stderr).unwrap())),
    }
}

#[test]
fn dds_history_and_dds_restore() {
    needs!(mount);
    let cast = Cast::new();
    let mut rig = Mounted::new(&cast, "");
    for content in [&b"first"[..], b"second", b"third"] {
        rig.write(MINE, content).unwrap();
        rig.settle();
    }
    let full = rig.mount().path(MINE);
    for path in [full.to_str().unwrap(), "me/plan.md", "./me/../me/plan.md"] {
        let told = dds(&rig, &["history", path]).unwrap();
        let lines: Vec<_> = told.lines().collect();
        assert_eq!(lines.len(), 4, "{told}");
        assert_eq!(lines[0], "notes/me/plan.md: there");
        assert!(lines[1].starts_with("   1  ") && lines[1].contains("  me  5 bytes  current"));
        assert!(lines[2].starts_with("   2  ") && lines[2].contains("6 bytes  replaced 20"));
    }
    let restored = dds(&rig, &["restore", "me/plan.md"]).unwrap();
    assert!(
        restored.starts_with("restored: notes/me/plan.md ("),
        "{restored}"
    );
    assert_eq!(rig.read(MINE).unwrap(), b"second");
    fs::remove_file(&full).unwrap();
    let told = dds(&rig, &["history"]).unwrap();
    assert!(
        told.starts_with("notes/me/plan.md: gone since 20"),
        "{told}"
    );
    let json = dds(&rig, &["history", "--json", full.to_str().unwrap()]).unwrap();
    let note: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(note["present"], false);
    assert_eq!(note["versions"][0]["state"], "removed-by-me");
    let first = note["versions"][3]["version"].as_str().unwrap();
    dds(&rig, &["restore", full.to_str().unwrap(), &first[..8]]).unwrap();
    assert_eq!(rig.read(MINE).unwrap(), b"first");

    let (code, said) = dds(&rig, &["restore", "me/none.md"]).unwrap_err();
    assert_eq!(code, Some(1));
    assert!(
        said.contains("notes/me/none.md") && said.contains("hint: "),
        "{said}"
    );
    let (_, said) = dds(&rig, &["history", "/etc/passwd"]).unwrap_err();
    assert!(said.contains("is in no mount"), "{said}");
    let forgotten = dds(&rig, &["history", "--forget", "me/plan.md"]).unwrap();
    assert_eq!(forgotten, "forgotten versions: 4\n");
    assert_eq!(
        dds(&rig, &["history"]).unwrap(),
        "no old versions are kept\n"
    );
    rig.remount();
    rig.end_by(libc::SIGTERM);
    let mut command = rig.home.dds();
    let output = command.args(["history"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("no mount of this store is running"), "{said}");
}

#[test]
fn with_history_days_0_nothing_is_kept_and_what_was_kept_goes() {
    needs!(mount);
    let cast = Cast::new();
    let mut rig = Mounted::new(&cast, "");
    rig.write(MINE, b"first").unwrap();
    rig.settle();
    rig.write(MINE, b"second").unwrap();
    rig.settle();
    let state = rig.home.path(".local/state/dds");
    let kept = || {
        let files = files_below(&state).into_iter();
        let kept = files.filter(|path| path.to_string_lossy().contains("/history/"));
        kept.collect::<BTreeSet<_>>()
    };
    wait_for("a spare and an old version", || kept().len() == 2);
    let config = rig.home.path(".config/dds/config.toml");
    fs::write(config, "history_days = 0\n").unwrap();
    rig.remount();
    assert_eq!(kept(), BTreeSet::new());
    rig.write(MINE, b"third").unwrap();
    rig.settle();
    assert_eq!(kept(), BTreeSet::new());
    assert_eq!(blobs(rig.store(), Folder::Notes).len(), 1);
    assert_eq!(
        dds(&rig, &["history"]).unwrap(),
        "no old versions are kept\n"
    );
}
