//! `dds verify`: a sound store, each kind of damage, hostile names and huge files.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::mount::Home;
use crate::support::people::{Blob, Person, deliver, make_store};
use dds::ids::{BlobKind, BlobName, Folder};

/// Every word that `dds verify --json` has for a finding.
const WORDS: [&str; 14] = [
    "bad-certificate",
    "conflict-copy",
    "foreign",
    "incomplete",
    "malformed",
    "not-a-message",
    "not-encrypted",
    "refused-encryption",
    "refused-kind",
    "secret-key",
    "stray",
    "too-large",
    "unreadable",
    "wrong-name",
];

/// A store with two certificates, a message and a note.
struct Sound {
    home: Home,
    store: PathBuf,
    alice: Person,
    message: Vec<u8>,
}

impl Sound {
    fn new() -> Sound {
        let home = Home::new();
        let (alice, bob) = (Person::new("Alice"), Person::new("Bob"));
        let store = make_store(home.dir.path(), &[("alice", &alice), ("bob", &bob)]);
        let message = Blob::new(BlobKind::Message, &alice, &[&bob], "lunch.txt");
        let message = message.content(b"at noon?").seal();
        deliver(&store, Folder::Messages, &message);
        let note = Blob::new(BlobKind::Note, &bob, &[&alice, &bob], "trip/plan.md");
        note.content(b"train at 9").deliver(&store, Folder::Notes);
        Sound {
            home,
            store,
            alice,
            message,
        }
    }

    fn put(&self, path: impl AsRef<Path>, bytes: &[u8]) {
        std::fs::write(self.store.join(path), bytes).unwrap();
    }

    /// Puts bytes into `notes/` under the name that fits them. Returns the path in the store.
    fn named(&self, bytes: &[u8]) -> String {
        let name = deliver(&self.store, Folder::Notes, bytes);
        format!("notes/{}", name.file_name())
    }

    fn verify(&self, arguments: &[&str]) -> Output {
        let mut command = self.home.dds();
        command.arg("verify").args(arguments).arg(&self.store);
        command.output().unwrap()
    }

    /// What `--json` tells, with words by path; and that the text and the exit code fit it.
    #[track_caller]
    fn found(&self) -> BTreeMap<String, String> {
        let json = self.verify(&["--json"]);
        let report: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
        let text = self.verify(&[]);
        let said = String::from_utf8(text.stdout).unwrap();
        let mut found = BTreeMap::new();
        let mut problems = 0;
        let mut lines = said.lines();
        for finding in report["found"].as_array().unwrap() {
            let [path, problem, sentence] =
                ["path", "problem", "sentence"].map(|key| finding[key].as_str().unwrap());
            assert_eq!(lines.next(), Some(&*format!("{path}: {sentence}")));
            assert!(!sentence.ends_with('.'), "{sentence}");
            problems += u64::from(problem != "foreign");
            found.insert(path.to_owned(), problem.to_owned());
        }
        let count = |key: &str| report[key].as_u64().unwrap();
        let counted = |key: &str| match count(key) {
            1 => format!("1 {}", key.strip_suffix('s').unwrap()),
            number => format!("{number} {key}"),
        };
        let [messages, notes, certificates, all] =
            ["messages", "notes", "certificates", "problems"].map(counted);
        let last = format!("{messages}, {notes}, {certificates}: {all}");
        assert_eq!((lines.next(), lines.next()), (Some(&*last), None));
        assert_eq!(count("problems"), problems);
        for ended in [(json.status, json.stderr), (text.status, text.stderr)] {
            let (code, told) = match problems {
                0 => (0, String::new()),
                _ => (1, format!("dds: {all} in this store\ndds: hint: ")),
            };
            assert_eq!(ended.0.code(), Some(code));
            let stderr = String::from_utf8(ended.1).unwrap();
            assert!(stderr.starts_with(&told) && stderr.is_empty() == told.is_empty());
        }
        found
    }
}

/// A container of version 1 or another, as its outside shows it.
fn container(version: u8) -> Vec<u8> {
    let mut bytes = vec![0xC0 | 18, 60, version];
    bytes.extend([7; 59]);
    bytes
}

const FOR_A_KEY: &[u8] = &[0xC1, 1, 3];
const FOR_A_PASSPHRASE: &[u8] = &[0xC3, 1, 4];

#[test]
fn a_sound_store_has_no_problem() {
    let sound = Sound::new();
    for ignored in [
        "notes/.syncthing.0a.asc.tmp",
        "notes/0a.asc.!sync",
        "keys/~syncthing~bob.gpg.tmp",
        "messages/.stignore",
        "elsewhere.txt",
    ] {
        sound.put(ignored, b"half");
    }
    std::fs::create_dir(sound.store.join("messages/.stversions")).unwrap();
    assert_eq!(sound.found(), BTreeMap::new());
    let said = String::from_utf8(sound.verify(&[]).stdout).unwrap();
    assert_eq!(said, "1 message, 1 note, 2 certificates: 0 problems\n");
    let before = walk(&sound.store);
    sound.verify(&[]);
    assert_eq!(walk(&sound.store), before, "nothing is changed");
}

/// Names and times of everything in the folders.
fn walk(store: &Path) -> Vec<(PathBuf, std::time::SystemTime)> {
    let folders = ["keys", "messages", "notes"].map(|folder| store.join(folder));
    let entries = folders
        .iter()
        .flat_map(|folder| std::fs::read_dir(folder).unwrap());
    let entries = entries.map(|entry| entry.unwrap());
    let mut all: Vec<_> = entries
        .map(|entry| (entry.path(), entry.metadata().unwrap().modified().unwrap()))
        .collect();
    all.sort();
    all
}

/// As a program writes text that takes two bytes for each character.
fn utf16(text: &[u8]) -> Vec<u8> {
    let text = text.iter().flat_map(|byte| [*byte, 0]);
    [0xFF, 0xFE].into_iter().chain(text).collect()
}

#[test]
fn each_kind_of_damage_has_its_word() {
    let sound = Sound::new();
    let mut expected = BTreeMap::new();
    let mut expect = |path: &str, word: &str| {
        assert!(WORDS.contains(&word));
        expected.insert(path.to_owned(), word.to_owned());
    };

    let zeros = format!("messages/{}.asc", "0".repeat(40));
    sound.put(&zeros, &sound.message);
    expect(&zeros, "wrong-name");

    let half = &sound.message[..sound.message.len() / 2];
    expect(&sound.named(half), "incomplete");
    expect(&sound.named(b"\x00\x01 garbage"), "incomplete");
    sound.put("messages/empty.asc", b"");
    expect("messages/empty.asc", "incomplete");

    for (bytes, word) in [
        (&[0xCB, 1, 1][..], "not-encrypted"),
        (&[0xC8, 1, 1], "not-encrypted"),
        (&[0xC2, 1, 4], "not-encrypted"),
        (
            b"-----BEGIN PGP SIGNED MESSAGE-----\n\nhello\n-----BEGIN PGP SIGNATURE-----\n\n\
              wgEE\n-----END PGP SIGNATURE-----\n",
            "not-encrypted",
        ),
        (
            &[FOR_A_PASSPHRASE, &container(1)].concat(),
            "refused-encryption",
        ),
        (&[FOR_A_KEY, &[0xC9, 1, 1]].concat(), "refused-encryption"),
        (&[FOR_A_KEY, &container(9)].concat(), "refused-encryption"),
        (&container(2), "refused-encryption"),
        (&[FOR_A_KEY, &container(1), FOR_A_KEY].concat(), "malformed"),
        (&sound.message.repeat(2), "malformed"),
        (&[FOR_A_KEY, &container(1)].concat().repeat(2), "malformed"),
        (&utf16(&sound.message), "malformed"),
        (&utf16(&sound.alice.secret), "secret-key"),
        (&sound.alice.certificate().to_bytes(), "not-a-message"),
        (&sound.alice.certificate().to_armored(), "not-a-message"),
        (&sound.alice.secret, "secret-key"),
    ] {
        expect(&sound.named(bytes), word);
    }

    for path in ["keys/readme.txt", "messages/plan.txt", "notes/#1.asc"] {
        sound.put(path, b"hello");
        expect(path, "stray");
    }
    std::fs::create_dir(sound.store.join("notes/sub.asc")).unwrap();
    expect("notes/sub.asc", "stray");

    let at = |path: &str| sound.store.join(path);
    std::os::unix::fs::symlink("/etc/passwd", at("notes/link.asc")).unwrap();
    expect("notes/link.asc", "refused-kind");
    std::os::unix::fs::symlink("nowhere", at("keys/dangling.gpg")).unwrap();
    expect("keys/dangling.gpg", "refused-kind");
    let fifo = std::process::Command::new("mkfifo")
        .arg(at("messages/fifo.asc"))
        .status();
    assert!(fifo.unwrap().success());
    expect("messages/fifo.asc", "refused-kind");
    let _socket = std::os::unix::net::UnixListener::bind(at("notes/socket.asc")).unwrap();
    expect("notes/socket.asc", "refused-kind");

    for name in [
        "messages/0a.sync-conflict-20261121-160900-ABCDEF7.asc",
        "messages/0a.Conflict.asc",
    ] {
        sound.put(name, &sound.message);
        expect(name, "conflict-copy");
    }
    let copy = "keys/bob.sync-conflict-20261121-160900-ABCDEF7.gpg";
    std::fs::copy(at("keys/bob.gpg"), at(copy)).unwrap();
    expect(copy, "conflict-copy");

    for name in ["messages/answer.asc", "messages/letter.gpg", "notes/x.pgp"] {
        sound.put(name, &sound.message);
        expect(name, "foreign");
    }

    sound.put("keys/junk.gpg", b"junk");
    expect("keys/junk.gpg", "bad-certificate");
    sound.put("keys/carol.asc", &sound.message);
    expect("keys/carol.asc", "bad-certificate");
    sound.put("keys/secret.gpg", &sound.alice.secret);
    expect("keys/secret.gpg", "secret-key");
    sound.put("keys/flooded.gpg", &vec![0x99; (1 << 20) + 1]);
    expect("keys/flooded.gpg", "too-large");

    let found = sound.found();
    assert_eq!(found, expected);
    // One word is left, for what never holds still.
    let mut seen: Vec<_> = found.into_values().chain(["unreadable".into()]).collect();
    seen.sort();
    seen.dedup();
    assert_eq!(seen, WORDS);
    let said = String::from_utf8(sound.verify(&[]).stdout).unwrap();
    assert_eq!(said.matches("HOLDS A SECRET KEY").count(), 3, "{said}");
    assert_eq!(said.matches("several messages in one file").count(), 2);
    assert_eq!(said.matches("text in UTF-16").count(), 1);
}

#[test]
fn what_other_programs_put_there_is_no_problem() {
    let sound = Sound::new();
    sound.put("messages/answer.asc", &sound.message);
    let ended = sound.verify(&[]);
    assert_eq!(ended.status.code(), Some(0));
    let said = String::from_utf8(ended.stdout).unwrap();
    assert!(said.starts_with("messages/answer.asc: foreign: "), "{said}");
    assert!(said.ends_with("\n2 messages, 1 note, 2 certificates: 0 problems\n"));
}

#[test]
fn a_file_that_never_holds_still_is_unreadable() {
    let sound = Sound::new();
    let path = sound.store.join("notes/busy.asc");
    std::fs::write(&path, vec![b'x'; 32 << 20]).unwrap();
    let done = AtomicBool::new(false);
    let found = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut file = std::fs::OpenOptions::new()
                .append(true)
                .open(&path)
                .unwrap();
            while !done.load(Ordering::Relaxed) {
                file.write_all(b"x").unwrap();
                std::thread::sleep(std::time::Duration::from_micros(100));
            }
        });
        let json = sound.verify(&["--json"]);
        done.store(true, Ordering::Relaxed);
        serde_json::from_slice::<serde_json::Value>(&json.stdout).unwrap()["found"].clone()
    });
    assert_eq!(found[0]["path"], "notes/busy.asc");
    assert_eq!(found[0]["problem"], "unreadable");
}

#[test]
fn a_folder_that_is_a_link_is_refused() {
    let sound = Sound::new();
    let elsewhere = sound.home.path("elsewhere");
    std::fs::rename(sound.store.join("notes"), &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, sound.store.join("notes")).unwrap();
    let expected = [("notes".to_owned(), "refused-kind".to_owned())];
    assert_eq!(sound.found(), expected.into());
    std::fs::remove_file(sound.store.join("notes")).unwrap();
    assert_eq!(sound.found(), BTreeMap::new(), "a missing folder is empty");
}

#[test]
fn hostile_names_are_made_printable() {
    let sound = Sound::new();
    for name in [
        &b"a\nnotes: 0 problems.asc"[..],
        b"\x1b[2J.asc",
        b"\xff\xfe.asc",
        "a\u{202e}csa.txt".as_bytes(),
        b"-rf",
        &[b'n'; 255],
    ] {
        let path = sound.store.join("notes").join(OsStr::from_bytes(name));
        std::fs::write(path, b"hello").unwrap();
    }
    assert_eq!(sound.found().len(), 6);
    for arguments in [&[][..], &["--json"]] {
        let said = String::from_utf8(sound.verify(arguments).stdout).unwrap();
        let unsafe_ones = dds::error::judged(&said).filter(|(_, shown)| !shown);
        let unsafe_ones = unsafe_ones.map(|(c, _)| c);
        assert!(unsafe_ones.eq(said.lines().map(|_| '\n')), "{said:?}");
    }
}

#[test]
fn huge_files_need_little_memory() {
    const HUGE: usize = 100 << 20;
    let sound = Sound::new();
    let at = |path: &str| std::fs::File::create(sound.store.join(path)).unwrap();
    at("notes/garbage.asc").set_len(HUGE as u64).unwrap();
    let mut one_line = at("notes/line.asc");
    let head = b"-----BEGIN PGP MESSAGE-----\n\n";
    one_line.write_all(head).unwrap();
    let piece = vec![b'A'; 1 << 20];
    for _ in 0..HUGE >> 20 {
        one_line.write_all(&piece).unwrap();
    }
    // Whole on the outside, and nearly all of it a hole.
    let mut whole = at("notes/whole.gpg");
    let length = (HUGE as u32).to_be_bytes();
    let head = [FOR_A_KEY, &[0xC0 | 18, 255], &length, &[1]].concat();
    whole.write_all(&head).unwrap();
    whole.set_len((head.len() - 1 + HUGE) as u64).unwrap();

    let mut command = sound.home.command("bash");
    let script = r#"ulimit -d 40000; exec "$0" verify --json "$1""#;
    command.args(["-c", script, env!("CARGO_BIN_EXE_dds")]);
    let ended = command.arg(&sound.store).output().unwrap();
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    let report: serde_json::Value = serde_json::from_slice(&ended.stdout).unwrap();
    let found = report["found"].as_array().unwrap().iter();
    let found: Vec<_> = found
        .map(|found| found["problem"].as_str().unwrap())
        .collect();
    assert_eq!(found, ["incomplete", "incomplete", "foreign"]);
}

#[test]
fn the_store_is_found_without_keys_and_home() {
    let sound = Sound::new();
    let run = |arguments: &[&str], environment: &[(&str, &OsStr)]| {
        let mut command = sound.home.dds();
        command.arg("verify").args(arguments).env_remove("HOME");
        let ended = command.envs(environment.iter().copied()).output().unwrap();
        let stderr = String::from_utf8(ended.stderr).unwrap();
        (ended.status.code().unwrap(), stderr)
    };
    let store = sound.store.as_os_str();
    let path = store.to_str().unwrap();
    assert_eq!(run(&[path], &[]).0, 0);
    assert_eq!(run(&["--store", path], &[]).0, 0);
    assert_eq!(run(&[], &[("DDS_STORE", store)]).0, 0);
    let config = sound.home.path("dds");
    std::fs::create_dir(&config).unwrap();
    std::fs::write(config.join("config.toml"), format!("store = {path:?}\n")).unwrap();
    let home = sound.home.dir.path().as_os_str();
    assert_eq!(run(&[], &[("XDG_CONFIG_HOME", home)]).0, 0);

    let (code, told) = run(&[], &[]);
    assert_eq!((code, told.lines().count()), (3, 2), "{told}");
    let nowhere = sound.home.path("nowhere");
    for no_store in [&nowhere, &sound.store.join("notes")] {
        let (code, told) = run(&[no_store.to_str().unwrap()], &[]);
        assert_eq!((code, told.lines().count()), (3, 2), "{told}");
    }
    assert_eq!(run(&["--store", path, path], &[]).0, 2);
}

#[test]
fn the_manual_lists_the_words() {
    let page = include_str!("../../man/dds.1");
    let listed = page.lines().filter_map(|line| line.strip_prefix(".It Cm "));
    let listed: Vec<_> = listed.collect();
    assert_eq!(listed, WORDS);
}

#[test]
fn the_right_name_may_be_in_capitals() {
    let sound = Sound::new();
    let name = BlobName::of(&sound.message).to_string();
    let messages = sound.store.join("messages");
    let capitals = messages.join(format!("{}.asc", name.to_uppercase()));
    std::fs::rename(messages.join(format!("{name}.asc")), capitals).unwrap();
    assert_eq!(sound.found(), BTreeMap::new());
}
