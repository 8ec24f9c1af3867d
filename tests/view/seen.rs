//! A save replaces only versions that its writer has seen: one that arrived meanwhile stays as a
//! conflict copy.

use std::ffi::OsStr;
use std::fs;
use std::time::{Duration, SystemTime};

use crate::support::people::Blob;
use crate::support::programs::run;
use crate::support::rig::{Cast, InProcess, Mounted, Rig};
use dds::ids::{BlobKind, BlobName, Folder};
use dds::view::{Access, Caller, Ino, Reader, RenameMode};

/// The editor, and another program.
const VIM: Option<Reader> = Some(Reader::process(7_000_001));
const OTHER: Option<Reader> = Some(Reader::process(7_000_002));

const DIR: &str = "notes/bob";

struct Editing {
    cast: Cast,
    rig: InProcess,
    dir: Ino,
    first: BlobName,
}

fn edit_of(cast: &Cast, store: &std::path::Path, first: Option<BlobName>) -> BlobName {
    let to = [&cast.me, &cast.bob];
    let content: &[u8] = if first.is_some() {
        b"bob's edit"
    } else {
        b"first"
    };
    let mut blob = Blob::new(BlobKind::Note, &cast.bob, &to, "plan.md").content(content);
    blob.notations.replaces.extend(first);
    blob.created = first.map(|_| SystemTime::now() + Duration::from_secs(1));
    let name = blob.deliver(store, Folder::Notes);
    if let Some(first) = first {
        fs::remove_file(store.join("notes").join(first.file_name())).unwrap();
    }
    name
}

impl Editing {
    fn new() -> Editing {
        let cast = Cast::new();
        let rig = InProcess::new(&cast);
        let first = edit_of(&cast, rig.store(), None);
        let view = rig.view();
        let notes = view.lookup(Ino::ROOT, OsStr::new("notes")).unwrap().ino;
        let dir = view.lookup(notes, OsStr::new("bob")).unwrap().ino;
        Editing {
            cast,
            rig,
            dir,
            first,
        }
    }

    fn caller(reader: Option<Reader>) -> Caller {
        let is_root = false;
        Caller { reader, is_root }
    }

    fn access(write: bool, append: bool, truncate: bool) -> Access {
        Access {
            read: !write,
            write,
            append,
            truncate,
            exclusive: false,
        }
    }

    fn read(&self, name: &str, reader: Option<Reader>) {
        let view = self.rig.view();
        let ino = view.lookup(self.dir, OsStr::new(name)).unwrap().ino;
        let access = Self::access(false, false, false);
        let handle = view.open(ino, access, Self::caller(reader)).unwrap();
        view.read(handle, 0, 100).unwrap();
        view.release(handle);
    }

    fn write(&self, name: &str, bytes: &[u8], append: bool, reader: Option<Reader>) {
        let (view, who) = (self.rig.view(), Self::caller(reader));
        let access = Self::access(true, append, !append);
        let handle = match view.lookup(self.dir, OsStr::new(name)) {
            Ok(attr) => view.open(attr.ino, access, who).unwrap(),
            Err(_) => {
                let created = view.create(self.dir, OsStr::new(name), 0o600, access, who);
                created.unwrap().1
            }
        };
        view.write(handle, 0, bytes, false).unwrap();
        view.flush(handle, who).unwrap();
        view.release(handle);
    }

    fn rename(&self, from: &str, to: &str, reader: Option<Reader>) {
        let (from, to) = (OsStr::new(from), OsStr::new(to));
        let (view, mode) = (self.rig.view(), RenameMode::default());
        let renamed = view.rename(self.dir, from, self.dir, to, mode, Self::caller(reader));
        renamed.unwrap();
    }

    /// Bob's edit of the first version.
    fn arrives(&self) -> BlobName {
        let edit = edit_of(&self.cast, self.rig.store(), Some(self.first));
        self.rig.list(DIR).unwrap();
        edit
    }

    /// My save has the name, and bob's edit stands beside it, here and after a remount.
    #[track_caller]
    fn assert_both(mut self, mine: &[u8], edit: BlobName) {
        for round in 0..2 {
            let names = self.rig.list(DIR).unwrap();
            assert_eq!(names.len(), 2, "{round}: {names:?}");
            let contents = names.iter().map(|name| {
                let bytes = self.rig.read(&format!("{DIR}/{name}")).unwrap();
                (name.starts_with("plan (conflict, "), bytes)
            });
            let mut contents: Vec<_> = contents.collect();
            contents.sort();
            let conflicts = contents.iter().filter(|(conflict, _)| *conflict).count();
            assert_eq!(conflicts, 1, "{names:?}");
            let mut bytes: Vec<_> = contents.into_iter().map(|(_, bytes)| bytes).collect();
            bytes.sort();
            let mut expected = [mine.to_vec(), b"bob's edit".to_vec()];
            expected.sort();
            assert_eq!(bytes, expected);
            if round == 0 {
                assert_eq!(self.rig.read("notes/bob/plan.md").unwrap(), mine);
            }
            let blob = self.rig.store().join("notes").join(edit.file_name());
            assert!(blob.exists(), "bob's blob is gone");
            self.rig.remount();
        }
    }

    #[track_caller]
    fn assert_one(&self, bytes: &[u8]) {
        assert_eq!(self.rig.list(DIR).unwrap(), ["plan.md"]);
        assert_eq!(self.rig.read("notes/bob/plan.md").unwrap(), bytes);
    }
}

#[test]
fn a_save_in_place_leaves_what_its_writer_has_not_seen() {
    let scene = Editing::new();
    scene.read("plan.md", VIM);
    let edit = scene.arrives();
    scene.write("plan.md", b"mine", false, VIM);
    scene.assert_both(b"mine", edit);
}

#[test]
fn so_does_a_save_by_renaming_over() {
    for temporary in [".goutputstream-ABCDEF", "plan.new"] {
        let scene = Editing::new();
        scene.read("plan.md", VIM);
        let edit = scene.arrives();
        scene.write(temporary, b"mine", false, VIM);
        scene.rename(temporary, "plan.md", VIM);
        scene.assert_both(b"mine", edit);
    }
}

#[test]
fn so_does_a_save_after_renaming_away() {
    let scene = Editing::new();
    scene.read("plan.md", VIM);
    let edit = scene.arrives();
    scene.rename("plan.md", "plan.md~", VIM);
    scene.write("plan.md", b"mine", false, VIM);
    // The backup holds what arrived: removing it removes nothing that was not replaced.
    let unlinked = scene.rig.view().unlink(scene.dir, OsStr::new("plan.md~"));
    unlinked.unwrap();
    scene.assert_both(b"mine", edit);
}

#[test]
fn who_never_read_it_or_read_it_again_replaces_what_is_there() {
    let scene = Editing::new();
    scene.read("plan.md", OTHER);
    scene.arrives();
    scene.write("plan.md", b"mine", false, VIM);
    scene.assert_one(b"mine");

    let scene = Editing::new();
    scene.read("plan.md", VIM);
    scene.arrives();
    scene.read("plan.md", VIM);
    scene.write("plan.md", b"mine", false, VIM);
    scene.assert_one(b"mine");

    let scene = Editing::new();
    scene.read("plan.md", VIM);
    scene.arrives();
    scene.write("plan.md", b", and mine", true, VIM);
    scene.assert_one(b"bob's edit, and mine");
}

#[test]
fn a_second_save_replaces_the_first() {
    let scene = Editing::new();
    scene.read("plan.md", VIM);
    let edit = scene.arrives();
    scene.write("plan.md", b"mine", false, VIM);
    scene.write("plan.md", b"mine again", false, VIM);
    scene.assert_both(b"mine again", edit);
}

#[test]
fn programs_here_that_write_one_file_in_turn_make_no_conflicts() {
    let scene = Editing::new();
    scene.read("plan.md", VIM);
    scene.write("plan.md", b", more", true, OTHER);
    scene.write("plan.md", b"mine", false, VIM);
    scene.assert_one(b"mine");
    // But what another program here made of something unseen is unseen as well.
    scene.arrives_on_top();
    scene.write("plan.md", b", more", true, OTHER);
    scene.write("plan.md", b"mine again", false, VIM);
    let names = scene.rig.list(DIR).unwrap();
    assert_eq!(names.len(), 2, "{names:?}");
}

impl Editing {
    /// Bob's edit of my version.
    fn arrives_on_top(&self) {
        self.rig.settle();
        let blob = self
            .rig
            .xattr("notes/bob/plan.md", "user.dds.blob")
            .unwrap();
        edit_of(&self.cast, self.rig.store(), Some(blob.parse().unwrap()));
        self.rig.list(DIR).unwrap();
    }
}

#[test]
fn vim_keeps_what_arrived_while_it_was_open() {
    needs!(mount, "vim");
    // (With `backupcopy=yes` vim reads the file again to copy it, and so has seen what arrived.)
    for set in [
        "set backupcopy=auto",
        "set backupcopy=no",
        "set backup backupcopy=no",
    ] {
        let cast = Cast::new();
        let rig = Mounted::new(&cast, "");
        let first = edit_of(&cast, rig.store(), None);
        let notes = rig.store().join("notes");
        let first_blob = notes.join(first.file_name());
        let bytes = fs::read(&first_blob).unwrap();
        // The edit is made beforehand, and arrives while vim is open.
        let edit = notes.join(edit_of(&cast, rig.store(), Some(first)).file_name());
        fs::rename(&edit, rig.home.path("edit")).unwrap();
        fs::write(&first_blob, bytes).unwrap();
        assert_eq!(rig.read("notes/bob/plan.md").unwrap(), b"first");
        let script = format!(
            "cat > $HOME/session.vim <<'END'
call system('mv $HOME/edit {edit}; rm {first}; ls notes/bob; cat notes/bob/plan.md')
call setline(1, 'mine')
w!
q!
END
vim -N -es -u NONE -i NONE --cmd 'set swapfile directory=.' --cmd '{set}' \
  -S $HOME/session.vim notes/bob/plan.md; rm -f notes/bob/plan.md~",
            edit = edit.display(),
            first = first_blob.display(),
        );
        run(&rig.home, &rig.mount().mountpoint, &script);
        let names = rig.list(DIR).unwrap();
        let read = |name: &String| rig.read(&format!("{DIR}/{name}")).unwrap();
        let mut contents: Vec<_> = names.iter().map(read).collect();
        contents.sort();
        assert_eq!(
            contents,
            [b"bob's edit".to_vec(), b"mine\n".to_vec()],
            "{set}: {names:?}"
        );
        assert_eq!(rig.read("notes/bob/plan.md").unwrap(), b"mine\n", "{set}");
        assert!(edit.exists(), "{set}");
    }
}

#[test]
fn what_settles_a_conflict_has_the_note_s_name_whatever_came_and_went_before_it() {
    let cast = Cast::new();
    let rig = InProcess::new(&cast);
    let to = [&cast.me, &cast.bob];
    let version = |replaces: &[BlobName], content: &'static [u8], later: u64| {
        let mut blob = Blob::new(BlobKind::Note, &cast.bob, &to, "plan.md").content(content);
        blob.notations.replaces.extend(replaces);
        blob.created = Some(SystemTime::now() + Duration::from_secs(later));
        blob.deliver(rig.store(), Folder::Notes)
    };
    let take_away = |blob: BlobName| {
        fs::remove_file(rig.store().join("notes").join(blob.file_name())).unwrap();
        rig.list(DIR).unwrap()
    };
    let older = version(&[], b"older", 0);
    rig.list(DIR).unwrap();
    let newer = version(&[], b"newer", 1);
    let both = rig.list(DIR).unwrap();
    assert_eq!(both.len(), 2);
    // The syncer tells of what the other side removed before it brings what was made of both.
    // The version that is left has the name, as in a new mount.
    assert_eq!(take_away(older), ["plan.md"]);
    version(&[older, newer], b"settled", 2);
    assert_eq!(rig.list(DIR).unwrap(), ["plan.md"]);
    assert_eq!(take_away(newer), ["plan.md"]);
    assert_eq!(rig.read("notes/bob/plan.md").unwrap(), b"settled");
}

#[test]
fn saving_a_conflict_copy_twice_settles_nothing_that_arrived_after_it_was_read() {
    let scene = Editing::new();
    let to = [&scene.cast.me, &scene.cast.bob];
    let mut other = Blob::new(BlobKind::Note, &scene.cast.bob, &to, "plan.md").content(b"other");
    other.created = Some(SystemTime::now() + Duration::from_secs(1));
    scene.rig.list(DIR).unwrap();
    other.deliver(scene.rig.store(), Folder::Notes);
    let names = scene.rig.list(DIR).unwrap();
    let copy = names
        .iter()
        .find(|name| name.contains("(conflict"))
        .unwrap();
    scene.read(copy, VIM);
    let edit = scene.arrives();
    for content in [&b"mine"[..], b"mine again"] {
        scene.write(copy, content, false, VIM);
        let shown = scene.rig.list(DIR).unwrap();
        assert_eq!(shown.len(), 2, "{shown:?}");
        let shown: Vec<_> = shown
            .iter()
            .map(|name| scene.rig.read(&format!("{DIR}/{name}")).unwrap())
            .collect();
        assert!(shown.contains(&content.to_vec()) && shown.contains(&b"bob's edit".to_vec()));
    }
    assert!(
        scene
            .rig
            .store()
            .join("notes")
            .join(edit.file_name())
            .exists()
    );
    // Who never read the copy settles nothing either.
    let shown = scene.rig.list(DIR).unwrap();
    let copy = shown
        .iter()
        .find(|name| name.contains("(conflict"))
        .unwrap();
    scene.write(copy, b"another's", false, OTHER);
    assert_eq!(scene.rig.list(DIR).unwrap().len(), 2);
}
