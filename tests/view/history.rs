//! Old versions of notes are kept, as ciphertext and for a while; messages never.

mod failures;
mod forms;
mod retention;
mod spares;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::support::mount::{Home, make_mutable};
use crate::support::people::{Blob, blobs, deliver, make_store};
use crate::support::rig::{Cast, InProcess, Rig as _};
use crate::support::tree::files_below;
use OldState::{Current, Removed, RemovedByMe, Replaced};
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
