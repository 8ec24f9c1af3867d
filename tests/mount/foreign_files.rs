//! Files of others in the store: of people who have only gpg and write their files as they like,
//! and of synchronisers, with their conflict copies, temporary files and trash.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::support::gnupg::Gnupg;
use crate::support::mount::{Home, wait_for};
use crate::support::people::{Blob, Person, blobs, make_store};
use crate::support::rig::{Mounted, Rig as _};
use crate::support::tree::files_below;
use dds::contacts::Contacts;
use dds::ids::{BlobKind, BlobName, Folder};
use dds::openpgp::Identity;
use dds::state::State;
use dds::store::DirStore;
use dds::vault::{StateKey, Vault};

/// Alice, who mounts the store, and Bob, who has gpg and writes into the same folder.
struct WithGpg {
    rig: Mounted,
    gpg: Gnupg,
}

impl WithGpg {
    fn new() -> WithGpg {
        let home = Home::new();
        let alice = Person::new("Alice");
        let store = make_store(home.dir.path(), &[("alice", &alice)]);
        let gpg = Gnupg::new("");
        gpg.generate("bob <bob@example.org>", "future-default", &[]);
        gpg.import(&alice.certificate().to_bytes());
        std::fs::write(store.join("keys/bob.gpg"), gpg.certificate("bob")).unwrap();
        let rig = Mounted::of(&alice, home, store, "");
        WithGpg { rig, gpg }
    }

    fn file(&self, path: &str) -> PathBuf {
        self.rig.store().join(path)
    }

    /// Bob writes a file of the store in place, as gpg does; it shows as `name`.
    fn gpg_writes(&self, path: &str, name: &str, content: &[u8]) {
        let file = self.file(path);
        let file = file.to_str().unwrap();
        self.gpg.feed(
            &[
                "-u",
                "bob",
                "-r",
                "bob",
                "-r",
                "alice",
                "--set-filename",
                name,
                "--armor",
                "-o",
                file,
                "--encrypt",
                "--sign",
            ],
            content,
        );
    }

    /// What gpg would write.
    fn gpg_makes(&self, name: &str, content: &[u8]) -> Vec<u8> {
        let file = self.rig.home.path("made.asc");
        self.gpg_writes(file.to_str().unwrap(), name, content);
        std::fs::read(file).unwrap()
    }

    /// What a directory shows.
    fn shown(&self, dir: &str) -> BTreeMap<String, Vec<u8>> {
        let names = self.rig.list(dir).unwrap().into_iter();
        names
            .filter_map(|name| {
                let content = self.rig.read(&format!("{dir}/{name}")).ok()?;
                Some((name, content))
            })
            .collect()
    }

    #[track_caller]
    fn wait_shown(&self, dir: &str, expected: &[(&str, &[u8])]) {
        let expected: BTreeMap<_, _> = expected
            .iter()
            .map(|(name, content)| ((*name).to_owned(), content.to_vec()))
            .collect();
        wait_for(&format!("{dir} to show {:?}", expected.keys()), || {
            self.shown(dir) == expected
        });
    }
}

#[test]
fn an_open_reader_sees_no_mixture_when_gpg_writes_over_the_file() {
    needs!(mount, "gpg");
    let scene = WithGpg::new();
    let [old, new] = [b"old ", b"new "].map(|word| word.repeat(100_000));
    scene.gpg_writes("notes/plan.asc", "plan.md", &old);
    scene.wait_shown("notes/bob", &[("plan.md", &old)]);
    let path = scene.rig.mount().path("notes/bob/plan.md");
    let open = std::fs::File::open(&path).unwrap();
    let mut start = [0; 1000];
    open.read_exact_at(&mut start, 0).unwrap();
    scene.gpg_writes("notes/plan.asc", "plan.md", &new);
    scene.wait_shown("notes/bob", &[("plan.md", &new)]);
    let inode = |metadata: std::fs::Metadata| metadata.ino();
    assert_ne!(
        inode(open.metadata().unwrap()),
        inode(path.metadata().unwrap())
    );
    let mut rest = Vec::new();
    (&open).read_to_end(&mut rest).unwrap();
    assert!(rest == old, "a mixture");
    // One more in the other format, shorter.
    let bytes = scene.gpg_makes("plan.md", b"short");
    std::fs::write(scene.file("notes/plan.asc"), bytes).unwrap();
    scene.wait_shown("notes/bob", &[("plan.md", b"short")]);
}

/// What stands around a removed message does not make it new, also where gpg takes it.
#[test]
fn a_removed_message_stays_removed_however_its_armor_is_changed() {
    needs!(mount, "gpg");
    let scene = WithGpg::new();
    let made = String::from_utf8(scene.gpg_makes("lunch.txt", b"at noon?")).unwrap();
    let whole = scene.file("messages/lunch.asc");
    std::fs::write(&whole, &made).unwrap();
    scene.wait_shown("messages/bob", &[("lunch.txt", b"at noon?")]);
    scene.rig.remove("messages/bob/lunch.txt").unwrap();
    assert!(!whole.exists());
    let (begin, rest) = made.split_once('\n').unwrap();
    let binary = scene.gpg.feed(&["--dearmor"], made.as_bytes()).stdout;
    for (name, dressed) in [
        (
            "indented.asc",
            made.replace('\n', "\n  ").replacen("  ", "", 1),
        ),
        ("joined.asc", made.replace("\n=", "=")),
        ("ended.asc", made.replace("\n-----END", "-----END")),
        ("words.asc", made.replace("\n-----END", "\nBye\n-----END")),
        (
            "late.asc",
            format!("{}{made}", "Dear Alice,\n".repeat(100_000)),
        ),
        ("headed.asc", format!("{begin}\n  Comment: x\n{rest}")),
    ] {
        assert_ne!(dressed, made, "{name}");
        let file = scene.file(&format!("messages/{name}"));
        std::fs::write(&file, dressed).unwrap();
        wait_for(&format!("{name} to be removed again"), || !file.exists());
        assert_eq!(scene.shown("messages/bob").len(), 0, "{name}");
    }
    for (name, tail) in [
        ("line.gpg", &b"\n"[..]),
        ("zeros.gpg", &[0; 512]),
        ("bye.gpg", b"Bye\n"),
    ] {
        let file = scene.file(&format!("messages/{name}"));
        std::fs::write(&file, [&binary[..], tail].concat()).unwrap();
        wait_for(&format!("{name} to be removed again"), || !file.exists());
        assert_eq!(scene.shown("messages/bob").len(), 0, "{name}");
    }
}

#[test]
fn a_file_that_comes_in_pieces_shows_when_it_is_whole() {
    needs!(mount, "gpg");
    let scene = WithGpg::new();
    let bytes = scene.gpg_makes("plan.md", &b"some words ".repeat(30_000));
    let whole = b"some words ".repeat(30_000);
    for slow in ["notes/slow.asc", "notes/slow.gpg"] {
        let bytes = match slow.ends_with("gpg") {
            true => scene.gpg.feed(&["--dearmor"], &bytes).stdout,
            false => bytes.clone(),
        };
        let mut file = std::fs::File::create(scene.file(slow)).unwrap();
        for piece in bytes.chunks(bytes.len() / 3 + 1) {
            assert_eq!(scene.rig.list("notes/bob").unwrap(), [""; 0]);
            file.write_all(piece).unwrap();
        }
        scene.wait_shown("notes/bob", &[("plan.md", &whole)]);
        // Cut off again, and written again.
        file.set_len(bytes.len() as u64 / 2).unwrap();
        scene.wait_shown("notes/bob", &[]);
        scene.wait_shown("notes/unverified", &[]);
        file.set_len(0).unwrap();
        scene.wait_shown("notes/bob", &[]);
        file.write_all_at(&bytes, 0).unwrap();
        scene.wait_shown("notes/bob", &[("plan.md", &whole)]);
        std::fs::remove_file(scene.file(slow)).unwrap();
        scene.wait_shown("notes/bob", &[]);
    }
}

#[test]
fn a_file_overwritten_with_a_copy_of_another_is_that_one() {
    needs!(mount, "gpg");
    let scene = WithGpg::new();
    scene.gpg_writes("notes/a.asc", "a.md", b"of a");
    scene.gpg_writes("notes/b.asc", "b.md", b"of b");
    scene.wait_shown("notes/bob", &[("a.md", b"of a"), ("b.md", b"of b")]);
    std::fs::copy(scene.file("notes/b.asc"), scene.file("notes/a.asc")).unwrap();
    scene.wait_shown("notes/bob", &[("b.md", b"of b")]);
    std::fs::remove_file(scene.file("notes/b.asc")).unwrap();
    scene.wait_shown("notes/bob", &[("b.md", b"of b")]);
    std::fs::remove_file(scene.file("notes/a.asc")).unwrap();
    scene.wait_shown("notes/bob", &[]);
}

/// How synchronisers call their copies of a file.
fn copies(file: &str) -> [String; 4] {
    let stem = file.strip_suffix(".asc").unwrap();
    [
        "sync-conflict-20261121-160900-ABCDEF7",
        "Conflict",
        "Conflict1",
        "conflict12",
    ]
    .map(|word| format!("{stem}.{word}.asc"))
}

#[test]
fn conflict_copies_of_the_same_bytes_are_one_file_and_go_together() {
    needs!(mount, "gpg");
    let scene = WithGpg::new();
    // A note of my own, a message of Bob's by his DDS as it were, and one by gpg.
    scene.rig.write("notes/me/plan.md", b"a plan").unwrap();
    scene.rig.settle();
    let note = blobs(scene.rig.store(), Folder::Notes).remove(0);
    let made = scene.gpg_makes("lunch.txt", b"at noon?");
    let message = BlobName::of(&made).file_name();
    std::fs::write(scene.file(&format!("messages/{message}")), &made).unwrap();
    for (dir, folder, file, name, content) in [
        ("notes/me", "notes", &note, "plan.md", &b"a plan"[..]),
        (
            "messages/bob",
            "messages",
            &message,
            "lunch.txt",
            b"at noon?",
        ),
    ] {
        for copy in copies(file) {
            let from = scene.file(&format!("{folder}/{file}"));
            std::fs::copy(from, scene.file(&format!("{folder}/{copy}"))).unwrap();
        }
        scene.wait_shown(dir, &[(name, content)]);
        scene.rig.remove(&format!("{dir}/{name}")).unwrap();
        assert_eq!(scene.rig.list(dir).unwrap(), [""; 0]);
        scene.rig.settle();
        let left = std::fs::read_dir(scene.file(folder)).unwrap();
        let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, [""; 0], "{dir}");
    }
}

#[test]
fn a_copy_that_is_there_goes_with_the_note_and_one_that_comes_later_is_shown() {
    needs!(mount, "gpg");
    let mut scene = WithGpg::new();
    for round in 0..20 {
        let path = format!("notes/me/plan{round}.md");
        scene.rig.write(&path, b"a plan").unwrap();
        scene.rig.settle();
        let note = blobs(scene.rig.store(), Folder::Notes).remove(0);
        let copy = scene.file(&format!("notes/{}", copies(&note)[0]));
        std::fs::copy(scene.file(&format!("notes/{note}")), &copy).unwrap();
        let bytes = std::fs::read(&copy).unwrap();
        // Whoever looks at a directory has seen what is in it.
        assert_eq!(scene.rig.list("notes/me").unwrap().len(), 1);
        scene.rig.remove(&path).unwrap();
        assert!(!copy.exists());
        assert_eq!(scene.rig.list("notes/me").unwrap(), [""; 0]);
        std::fs::write(&copy, bytes).unwrap();
        assert_eq!(scene.rig.list("notes/me").unwrap().len(), 1);
        scene.rig.remove(&path).unwrap();
    }
    for round in 0..20 {
        let name = format!("plan{round}.md");
        scene.gpg_writes("notes/plan.asc", &name, b"a plan");
        wait_for("the note", || {
            scene.rig.list("notes/bob").unwrap().contains(&name)
        });
        let copy = scene.file(&format!("notes/{}", copies("plan.asc")[0]));
        std::fs::copy(scene.file("notes/plan.asc"), &copy).unwrap();
        scene.rig.list("notes/bob").unwrap();
        scene
            .rig
            .write(&format!("notes/bob/{name}"), b"edited")
            .unwrap();
        wait_for("the copy's removal", || {
            scene.rig.list("notes/bob").unwrap().len() == round + 1 && !copy.exists()
        });
    }
    scene.rig.remount();
    assert_eq!(scene.rig.list("notes/me").unwrap(), [""; 0]);
    assert_eq!(scene.rig.list("notes/bob").unwrap().len(), 20);
}

#[test]
fn a_conflict_copy_of_other_bytes_is_a_file_of_its_own() {
    needs!(mount, "gpg");
    let mut scene = WithGpg::new();
    scene.gpg_writes("notes/plan.asc", "plan.md", b"one");
    scene.wait_shown("notes/bob", &[("plan.md", b"one")]);
    let [sync_conflict, conflict, ..] = copies("plan.asc");
    scene.gpg_writes(&format!("notes/{sync_conflict}"), "plan.md", b"two");
    let two: [(&str, &[u8]); 2] = [("plan (bob).md", b"two"), ("plan.md", b"one")];
    scene.wait_shown("notes/bob", &two);
    scene.gpg_writes(&format!("messages/{conflict}"), "lunch.txt", b"at noon?");
    scene.wait_shown("messages/bob", &[("lunch.txt", b"at noon?")]);
    scene.rig.remount();
    assert_eq!(scene.shown("notes/bob").len(), 2);
    // An edit replaces the one that was edited.
    scene.rig.write("notes/bob/plan.md", b"edited").unwrap();
    scene.rig.settle();
    let contents: Vec<_> = scene.shown("notes/bob").into_values().collect();
    assert!(contents.contains(&b"edited".to_vec()) && contents.len() == 2);
    assert_eq!(blobs(scene.rig.store(), Folder::Notes).len(), 2);
}

/// Every file below a directory, with its content and the time of its last change.
fn everything(below: &Path) -> BTreeMap<PathBuf, (Option<Vec<u8>>, i64, i64)> {
    let files = files_below(below).into_iter();
    let files = files.map(|path| {
        let metadata = path.symlink_metadata().unwrap();
        let bytes = std::fs::read(&path).ok();
        (path, (bytes, metadata.ctime(), metadata.ctime_nsec()))
    });
    files.collect()
}

#[test]
fn what_synchronisers_keep_for_themselves_is_not_shown_and_not_touched() {
    needs!(mount, "gpg");
    let mut scene = WithGpg::new();
    let message = scene.gpg_makes("lunch.txt", b"at noon?");
    let name = BlobName::of(&message).file_name();
    let store = scene.rig.store().to_owned();
    for path in [
        ".stversions/messages/NAME",
        ".stversions/messages/STEM~20261121-160900.asc",
        ".SyncTrash/messages/NAME",
        ".SyncArchive/messages/NAME",
        ".sync/Archive/messages/NAME",
        ".sync/Archive/NAME",
        "messages/.stversions/NAME",
        "messages/.sync/Archive/NAME",
        "messages/.SyncTrash/NAME",
        "notes/.SyncArchive/NAME",
        "messages/.syncthing.NAME.tmp",
        "messages/.syncthing.NAME",
        "messages/~syncthing~NAME.tmp",
        "messages/~syncthing~NAME",
        "messages/NAME.!sync",
        "messages/NAME.bts",
        "messages/NAME.SyncPart",
        "notes/NAME.SyncTemp",
        "notes/.syncthing.NAME.tmp",
        "messages/.trash/NAME",
        "messages/old/NAME",
    ] {
        let path = path.replace("NAME", &name);
        let path = store.join(path.replace("STEM", name.strip_suffix(".asc").unwrap()));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, &message).unwrap();
    }
    std::fs::write(store.join(".stignore"), "*.tmp").unwrap();
    std::fs::create_dir(store.join(".stfolder")).unwrap();
    let before = everything(&store);
    for round in 0..2 {
        for dir in [
            "messages/bob",
            "messages/unverified",
            "notes/bob",
            "notes/unverified",
        ] {
            assert_eq!(scene.rig.list(dir).unwrap(), [""; 0], "{dir}");
        }
        // The message itself comes, is read and removed; of the others nothing is.
        let file = store.join("messages").join(&name);
        std::fs::write(&file, &message).unwrap();
        let path = "messages/bob/lunch.txt";
        // Once removed, it is not shown again.
        if round == 0 {
            wait_for("the message", || scene.rig.read(path).is_ok());
            scene.rig.remove(path).unwrap();
        }
        wait_for("its removal", || !file.exists());
        assert!(
            everything(&store) == before,
            "{:?}",
            everything(&store).keys()
        );
        scene.rig.remount();
    }
}

#[test]
fn copies_of_what_cannot_be_opened_or_has_other_readers_are_one_file_too() {
    needs!(mount, "gpg");
    let scene = WithGpg::new();
    // What nobody may read, and a message to more than two.
    let symmetric = ["--armor", "--passphrase", "x", "--symmetric"];
    let refused = scene.gpg.feed(&symmetric, b"secret").stdout;
    let everybody = ["bob", "alice", "carol"].map(|name| ["-r", name]).concat();
    scene
        .gpg
        .generate("carol <carol@example.org>", "future-default", &[]);
    let to_many = ["-u", "bob", "--armor", "-se", "--set-filename", "lunch.txt"];
    let to_many = scene
        .gpg
        .feed(&[&to_many[..], &everybody].concat(), b"all")
        .stdout;
    for (dir, bytes, stays) in [("unverified", refused, 0), ("bob", to_many, 5)] {
        for file in copies("x.asc").iter().chain([&"x.asc".to_owned()]) {
            std::fs::write(scene.file(&format!("messages/{file}")), &bytes).unwrap();
        }
        let dir = format!("messages/{dir}");
        wait_for("one entry", || scene.rig.list(&dir).unwrap().len() == 1);
        let name = scene.rig.list(&dir).unwrap().remove(0);
        scene.rig.remove(&format!("{dir}/{name}")).unwrap();
        assert_eq!(scene.rig.list(&dir).unwrap(), [""; 0]);
        assert_eq!(blobs(scene.rig.store(), Folder::Messages).len(), stays);
    }
}

/// Counts how often a file is opened.
struct Opened(std::os::fd::OwnedFd);

impl Opened {
    fn of(file: &Path) -> Opened {
        use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
        let fd = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap();
        add_watch(&fd, file, WatchFlags::OPEN).unwrap();
        Opened(fd)
    }

    fn times(&self) -> usize {
        let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
        let mut events = rustix::fs::inotify::Reader::new(&self.0, &mut buffer);
        std::iter::from_fn(|| events.next().ok().map(drop)).count()
    }
}

#[test]
fn what_is_not_whole_is_not_read_again_until_it_changes() {
    needs!(mount, "gpg");
    let scene = WithGpg::new();
    let bytes = scene.gpg_makes("plan.md", b"a plan");
    let part = scene.file("notes/plan.asc");
    std::fs::write(&part, &bytes[..bytes.len() / 2]).unwrap();
    // As written by a clock that is ahead; times are kept by synchronisers.
    let ahead = SystemTime::now() + Duration::from_secs(3600);
    let file = std::fs::File::options().write(true).open(&part).unwrap();
    file.set_modified(ahead).unwrap();
    wait_for("the file to be old enough", || {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        now.unwrap().as_secs() > part.metadata().unwrap().ctime() as u64 + 2
    });
    let list = || scene.rig.list("notes/bob").unwrap();
    list();
    let opened = Opened::of(&part);
    for _ in 0..5 {
        assert_eq!(list(), [""; 0]);
    }
    assert_eq!(opened.times(), 0);
    std::fs::write(&part, &bytes).unwrap();
    scene.wait_shown("notes/bob", &[("plan.md", b"a plan")]);
}

/// Reading it all would take longer than anybody waits.
#[test]
fn garbage_of_any_length_keeps_nobody_waiting() {
    needs!(mount, "gpg");
    let mut scene = WithGpg::new();
    let made = scene.gpg_makes("lunch.txt", b"at noon?");
    let whole = String::from_utf8(made.clone()).unwrap();
    let beginnings: [(&str, &[u8]); 5] = [
        ("zeros", b""),
        ("text", &b"no armor here\n".repeat(10_000)),
        ("binary", b"\xC1\x01\x03\x01"),
        ("no base64", b"-----BEGIN PGP MESSAGE-----\n\n\0\0\n"),
        (
            "other end",
            &whole
                .replace("END PGP MESSAGE", "END PGP SIGNATURE")
                .into_bytes(),
        ),
    ];
    for (name, beginning) in beginnings {
        for folder in ["messages", "notes"] {
            let mut file = std::fs::File::create(scene.file(&format!("{folder}/{name}.asc")));
            let file = file.as_mut().unwrap();
            file.write_all(beginning).unwrap();
            file.set_len(64 << 30).unwrap();
        }
    }
    // In a letter, with much text after it.
    let mut letter = b"Dear Alice,\n".repeat(1000);
    letter.extend(made);
    letter.extend(b"Yours, Bob\n".repeat(1_000_000));
    std::fs::write(scene.file("messages/letter.asc"), letter).unwrap();
    scene.wait_shown("messages/bob", &[("lunch.txt", b"at noon?")]);
    scene.rig.remount();
    scene.wait_shown("messages/bob", &[("lunch.txt", b"at noon?")]);
    assert_eq!(scene.rig.list("messages/unverified").unwrap(), [""; 0]);
}

#[test]
fn what_is_not_whole_for_long_is_reported() {
    let home = Home::new();
    let alice = Person::new("Alice");
    let store = make_store(home.dir.path(), &[("alice", &alice)]);
    let note = Blob::new(BlobKind::Note, &alice, &[&alice], "plan.md").seal();
    let part = store.join("notes/plan.asc");
    std::fs::write(&part, &note[..note.len() / 2]).unwrap();
    let sentence = "notes/plan.asc is not a whole OpenPGP message";
    let defaults = dds::vault::Options::default();
    assert_eq!(defaults.report_incomplete, Duration::from_secs(60));
    for (after, reported) in [(defaults.report_incomplete, false), (Duration::ZERO, true)] {
        let identities = vec![Identity::unlock(&alice.secret, None).unwrap()];
        let state = home.path(&format!("state{reported}"));
        let state = State::open(&state, &StateKey(&identities)).unwrap();
        let options = dds::vault::Options {
            report_incomplete: after,
            ..defaults.clone()
        };
        let contacts = Contacts::load(&home.path("pins")).unwrap();
        let store = Arc::new(DirStore::open(&store).unwrap());
        let vault = Vault::open(store, state, identities, contacts, options).unwrap();
        let told = |vault: &Vault| vault.notices().iter().any(|notice| notice == sentence);
        assert_eq!(told(&vault), reported);
        if reported {
            std::fs::write(&part, &note).unwrap();
            vault.refresh().unwrap();
            assert!(!told(&vault));
        }
    }
}

#[test]
fn a_blob_under_a_wrong_name_shows_and_verify_tells() {
    needs!(mount, "gpg");
    let scene = WithGpg::new();
    let [one, two] = ["one", "two"].map(|name| scene.gpg_makes(name, name.as_bytes()));
    let wrong = "0123456789abcdef0123456789abcdef01234567";
    std::fs::write(scene.file(&format!("messages/{wrong}.asc")), &one).unwrap();
    scene.wait_shown("messages/bob", &[("one", b"one")]);
    let output = scene
        .rig
        .home
        .dds()
        .arg("verify")
        .arg(scene.rig.store())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let line = format!(
        "messages/{wrong}.asc: the SHA-1 of its bytes is {}",
        BlobName::of(&one)
    );
    assert!(said.contains(&line), "{said}");
    // Names that differ in case only are two files; where they hold the same, they show once.
    let upper = wrong.to_uppercase();
    std::fs::write(scene.file(&format!("messages/{upper}.ASC")), &two).unwrap();
    scene.wait_shown("messages/bob", &[("one", b"one"), ("two", b"two")]);
    std::fs::write(scene.file(&format!("messages/{upper}.asc")), &two).unwrap();
    scene.wait_shown("messages/bob", &[("one", b"one"), ("two", b"two")]);
    scene.rig.remove("messages/bob/two").unwrap();
    assert_eq!(
        blobs(scene.rig.store(), Folder::Messages),
        [format!("{wrong}.asc")]
    );
}

#[test]
fn an_edit_of_what_gpg_made_leaves_what_gpg_wrote_meanwhile() {
    needs!(mount, "gpg");
    let mut scene = WithGpg::new();
    scene.gpg_writes("notes/plan.asc", "plan.md", b"one");
    scene.wait_shown("notes/bob", &[("plan.md", b"one")]);
    // Undisturbed, one new blob takes the place of the file.
    scene.rig.write("notes/bob/plan.md", b"mine").unwrap();
    scene.rig.settle();
    scene.wait_shown("notes/bob", &[("plan.md", b"mine")]);
    let left = blobs(scene.rig.store(), Folder::Notes);
    assert_eq!(left.len(), 1);
    assert_ne!(left, ["plan.asc"]);
    // Bob writes while it is open for writing, and just before it is closed.
    scene.gpg_writes("notes/list.asc", "list.md", b"one");
    scene.wait_shown("notes/bob", &[("list.md", b"one"), ("plan.md", b"mine")]);
    let path = scene.rig.mount().path("notes/bob/list.md");
    let two = scene.gpg_makes("list.md", b"two");
    let mut file = std::fs::File::create(&path).unwrap();
    file.write_all(b"mine").unwrap();
    std::fs::write(scene.file("notes/list.asc"), &two).unwrap();
    drop(file);
    scene.rig.settle();
    for round in 0..2 {
        let shown = scene.shown("notes/bob");
        let contents: Vec<_> = shown.values().map(Vec::as_slice).collect();
        assert!(contents.contains(&&b"two"[..]), "{round}: {shown:?}");
        assert_eq!(contents.len(), 3, "{round}: {shown:?}");
        assert_eq!(std::fs::read(scene.file("notes/list.asc")).unwrap(), two);
        scene.rig.remount();
    }
}
