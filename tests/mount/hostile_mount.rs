//! Files that a hostile peer or syncer may put into the store: the mount shows nothing that is not
//! authenticated, within bounded memory and time.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::support::gnupg::Gnupg;
use crate::support::mount::{Home, Mount, PATIENCE};
use crate::support::people::{Blob, Person, deliver, make_store, zeros};
use dds::ids::{BlobKind, BlobName, Folder};
use dds::openpgp::{Notations, SealRequest, Sealed};
use dds::plaintext::Plaintext;

fn corpus(name: &str) -> Vec<u8> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    std::fs::read(directory.join(name)).unwrap()
}

/// Mounts a store with a secret key.
fn mount(home: &Home, store: &Path, secret: &[u8]) -> Mount {
    let key = home.path("secret.asc");
    std::fs::write(&key, secret).unwrap();
    let mut command = home.dds_mount();
    command.arg("--store").arg(store).arg("--key").arg(&key);
    Mount::start(command, &home.path("secure"))
}

/// Lists everything with `ls -lR`, within the time limit. Returns its output.
fn listed(directory: &Path) -> String {
    let mut child = Command::new("ls")
        .args(["-lAR", "--quoting-style=literal"])
        .arg(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("ls hangs");
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let output = child.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    String::from_utf8(output.stdout).unwrap()
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Asserts that a blob stands in `unverified/` under 8 hex digits, with size 0, and that opening
/// it fails.
#[track_caller]
fn assert_refused(mount: &Mount, folder: Folder, what: &str, blob: &[u8], errno: i32) {
    let short = BlobName::of(blob).short();
    let path = mount.path(&format!("{}/unverified/{short}", folder.name()));
    let found = std::fs::metadata(&path).unwrap_or_else(|why| panic!("{what}: {why}"));
    assert_eq!(found.len(), 0, "{what}");
    assert!(found.is_file(), "{what}");
    let error = std::fs::File::open(&path).map(drop).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(errno), "{what}");
    let error = std::fs::read(&path).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(errno), "{what}");
}

/// Peak resident memory of a process in bytes.
fn peak_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kib = line.unwrap().split_whitespace().nth(1).unwrap();
    kib.parse::<u64>().unwrap() << 10
}

#[track_caller]
fn assert_memory_below(mount: &Mount, mib: u64) {
    let peak = peak_memory(mount.pid()) >> 20;
    assert!(peak < mib, "{peak} MiB");
}

/// A file of several messages is not removed: nobody has seen them.
#[test]
fn several_messages_in_one_file_are_never_removed() {
    needs!(mount);
    let home = Home::new();
    let (alice, bob) = (Person::new("Alice"), Person::new("Bob"));
    let store = make_store(home.dir.path(), &[("alice", &alice), ("bob", &bob)]);
    let seal = |to: &[&Person], name: &str| Blob::new(BlobKind::Message, &bob, to, name).seal();
    let lunch = seal(&[&alice, &bob], "lunch.txt");
    let files = [
        (
            "mine twice",
            [&lunch[..], &seal(&[&alice, &bob], "dinner.txt")].concat(),
        ),
        (
            "mine and another's",
            [&lunch[..], b"\nBye\n", &seal(&[&bob], "secret.txt")].concat(),
        ),
        (
            "another's and mine",
            [&seal(&[&bob], "secret.txt")[..], &lunch].concat(),
        ),
    ];
    for folder in ["messages", "notes"] {
        for (name, bytes) in &files {
            std::fs::write(store.join(format!("{folder}/{name}.asc")), bytes).unwrap();
        }
    }
    let mount = mount(&home, &store, &alice.secret);
    for folder in [Folder::Messages, Folder::Notes] {
        for (name, bytes) in &files {
            assert_refused(&mount, folder, name, bytes, libc::EBADMSG);
            let short = BlobName::of(bytes).short();
            let path = mount.path(&format!("{}/unverified/{short}", folder.name()));
            let refused = std::fs::remove_file(&path).unwrap_err();
            assert_eq!(refused.raw_os_error(), Some(libc::EPERM), "{name}");
            let told = std::fs::read_to_string(mount.path(".dds/errors")).unwrap();
            let line = told.lines().rfind(|line| line.contains("in this one file"));
            let line = line.unwrap_or_else(|| panic!("{told}"));
            assert!(
                line.contains("several messages are in this one file"),
                "{line}"
            );
            let file = format!("{}/{name}.asc", folder.name());
            assert!(line.contains(&file), "{line}");
            let moved = std::fs::rename(&path, mount.path("notes/me/x")).unwrap_err();
            assert_ne!(moved.raw_os_error(), None, "{name}");
            assert_eq!(std::fs::read(store.join(&file)).unwrap(), *bytes);
            assert!(path.exists(), "{name}");
        }
    }
    drop(mount);
    for folder in ["messages", "notes"] {
        for (name, bytes) in &files {
            let file = store.join(format!("{folder}/{name}.asc"));
            assert_eq!(std::fs::read(file).unwrap(), *bytes);
        }
    }
}

#[test]
fn every_refused_kind_stands_unverified_and_shows_no_byte() {
    needs!(mount);
    let home = Home::new();
    let store = make_store(home.dir.path(), &[]);
    for name in ["alice", "bob"] {
        let file = format!("{name}.cert.asc");
        std::fs::write(store.join("keys").join(&file), corpus(&file)).unwrap();
    }
    let mut refused = BTreeMap::new();
    for name in [
        "symmetric.asc",
        "signed.asc",
        "signed-plain.asc",
        "clearsigned.asc",
        "detached.asc",
        "literal.asc",
        "compressed.asc",
        "alice.cert.asc",
        "bob.key.asc",
    ] {
        refused.insert(name.to_owned(), corpus(name));
    }
    let whole = corpus("named.gpg");
    let (pkesk, container) = split(&whole);
    for (kind, body) in [
        // EFAIL: the container without integrity protection around the same bytes.
        ("no integrity protection", packet(9, &container)),
        ("digest cut off", v1(&container[..container.len() - 22])),
        ("digest cut", v1(&container[..container.len() - 1])),
    ] {
        refused.insert(kind.to_owned(), [pkesk, &body].concat());
    }
    for (kind, at) in [("damaged digest", 1), ("damaged content", 60)] {
        let mut damaged = container.clone();
        let at = damaged.len() - at;
        damaged[at] ^= 1;
        refused.insert(kind.to_owned(), [pkesk, &v1(&damaged)].concat());
    }
    // The same parts, undamaged, are a message: the cases above fail for what they are.
    let intact = [pkesk, &v1(&container)].concat();
    deliver(&store, Folder::Messages, &intact);
    for blob in refused.values() {
        deliver(&store, Folder::Messages, blob);
        // Under a name that says less, too.
        std::fs::write(
            store.join(format!("notes/{}.pgp", BlobName::of(blob).short())),
            blob,
        )
        .unwrap();
    }
    for invisible in [
        "cut.gpg",
        "cut.asc",
        "empty.asc",
        "lunch.txt",
        "not-mine.asc",
    ] {
        deliver(&store, Folder::Messages, &corpus(invisible));
    }
    let mount = mount(&home, &store, &corpus("alice.key.asc"));
    for folder in [Folder::Messages, Folder::Notes] {
        let unverified = mount.path(&format!("{}/unverified", folder.name()));
        assert_eq!(names(&unverified).len(), refused.len(), "{}", folder.name());
        for (kind, blob) in &refused {
            assert_refused(&mount, folder, kind, blob, libc::EBADMSG);
        }
    }
    assert_eq!(
        std::fs::read(mount.path("messages/bob/lunch.txt")).unwrap(),
        corpus("lunch.txt")
    );
    assert_eq!(names(&mount.path("messages/bob")).len(), 1);
    let told = std::fs::read_to_string(mount.path(".dds/errors")).unwrap();
    assert!(told.contains("messages/unverified/"), "{told}");
    for sentence in [
        "is encrypted with a passphrase only; nothing of it is shown: ask for it again",
        "is only signed, not encrypted",
        "is not encrypted",
        "is encrypted without integrity protection (packet type 9)",
        "is a key, not a message",
        "is damaged or not authenticated",
    ] {
        assert!(told.contains(sentence), "{sentence}: {told}");
    }
    listed(&mount.mountpoint);
    assert_memory_below(&mount, 256);
    assert_eq!(mount.unmount(), (Some(0), String::new()));
}

fn packet(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[0xC0 | tag, 255], &length[..], body].concat()
}

/// A container of version 1.
fn v1(ciphertext: &[u8]) -> Vec<u8> {
    packet(18, &[&[1], ciphertext].concat())
}

/// Splits a binary message of gpg's to one recipient into its session key packet and the
/// ciphertext of its container.
fn split(message: &[u8]) -> (&[u8], Vec<u8>) {
    // An old-format header with a one-octet length, then a new-format one in parts.
    assert_eq!(message[0], 0x84);
    let (pkesk, rest) = message.split_at(2 + usize::from(message[1]));
    assert_eq!(rest[0], 0xD2);
    let mut body = Vec::new();
    let mut rest = &rest[1..];
    loop {
        let (header, length, last) = match rest[0] {
            first @ 0..192 => (1, usize::from(first), true),
            first @ 192..224 => {
                let length = (usize::from(first) - 192) << 8;
                (2, length + usize::from(rest[1]) + 192, true)
            }
            first @ 224..255 => (1, 1 << (first & 31), false),
            255 => panic!("a length of four octets"),
        };
        body.extend(&rest[header..header + length]);
        rest = &rest[header + length..];
        if last {
            break;
        }
    }
    assert_eq!((rest.len(), body[0]), (0, 1));
    (pkesk, body.split_off(1))
}

#[test]
fn decompression_bombs_are_too_large_and_take_little_memory() {
    needs!(mount, "gpg");
    let home = Home::new();
    let store = make_store(home.dir.path(), &[]);
    let gnupg = Gnupg::new("");
    gnupg.generate("alice <alice@example.org>", "future-default", &[]);
    let mut bombs = Vec::new();
    let algorithms: &[&str] = match std::env::var_os("DDS_TEST_FULL") {
        Some(_) => &["zlib", "zip", "bzip2"],
        None => &["zlib"],
    };
    for algorithm in algorithms {
        let out = home.path(algorithm);
        let mut zeros = Command::new("head")
            .args(["-c", "1G", "/dev/zero"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let status = gnupg
            .command()
            .args(["--compress-algo", algorithm, "--compress-level", "9"])
            .args(["--bzip2-compress-level", "9"])
            .args(["--recipient", "alice", "--output"])
            .arg(&out)
            .arg("--encrypt")
            .stdin(zeros.stdout.take().unwrap())
            .status()
            .unwrap();
        assert!(zeros.wait().unwrap().success() && status.success());
        let bomb = std::fs::read(&out).unwrap();
        assert!(bomb.len() < 4 << 20, "{} bytes", bomb.len());
        deliver(&store, Folder::Messages, &bomb);
        deliver(&store, Folder::Notes, &bomb);
        bombs.push(bomb);
    }
    let mount = mount(&home, &store, &gnupg.secret_key("alice"));
    for folder in [Folder::Messages, Folder::Notes] {
        for bomb in &bombs {
            assert_refused(&mount, folder, "bomb", bomb, libc::EFBIG);
        }
    }
    assert_memory_below(&mount, 256);
    mount.unmount();
}

#[test]
fn many_bombs_at_once_take_no_more() {
    needs!(mount);
    let home = Home::new();
    let alice = Person::new("Alice");
    let store = make_store(home.dir.path(), &[("alice", &alice)]);
    let bombs: Vec<_> = (0..8).map(|_| zeros(&alice, 100 << 20)).collect();
    for bomb in &bombs {
        deliver(&store, Folder::Messages, bomb);
    }
    let mount = mount(&home, &store, &alice.secret);
    for bomb in &bombs {
        assert_refused(&mount, Folder::Messages, "bomb", bomb, libc::EFBIG);
    }
    // One of them may expand to 64 MiB before it is refused.
    assert_memory_below(&mount, 128);
    mount.unmount();
}

#[test]
fn blobs_of_two_signers_or_for_others_stand_where_their_signatures_prove() {
    needs!(mount);
    let home = Home::new();
    let [me, bob, carol, mallory] = ["Alice", "Bob", "Carol", "Mallory"].map(Person::new);
    let store = make_store(home.dir.path(), &[("a", &me), ("b", &bob), ("c", &carol)]);
    let mut expected = BTreeMap::new();
    let mut put = |name: &str, directory: &str, signers: [&Person; 2], intended: &[&Person]| {
        let content = Plaintext::from(name.as_bytes());
        let intended: Vec<_> = intended.iter().map(|one| one.fingerprint()).collect();
        let notations = Notations {
            version: Some(Notations::VERSION),
            kind: Some(BlobKind::Message),
            path: Some(name.to_owned()),
            ..Notations::default()
        };
        let second = [&signers[1].identity];
        let sealed = Sealed::prepare(SealRequest {
            signer: &signers[0].identity,
            co_signers: &second,
            recipients: &[me.certificate()],
            intended: &intended,
            named: false,
            name,
            notations: &notations,
            content: &content,
            created: None,
        });
        let mut bytes = Vec::new();
        sealed.unwrap().write_to(&mut bytes).unwrap();
        deliver(&store, Folder::Messages, &bytes);
        expected.insert(format!("messages/{directory}/{name}"), name.to_owned());
    };
    // The first good signature whose signer is among the readers decides.
    put("first", "bob,carol", [&bob, &carol], &[&me, &bob, &carol]);
    put("second", "bob", [&carol, &bob], &[&me, &bob]);
    put("one unknown", "carol", [&mallory, &carol], &[&me, &carol]);
    put(
        "neither among us",
        "unverified",
        [&carol, &mallory],
        &[&me, &bob],
    );
    put("not for me", "unverified", [&bob, &carol], &[&bob, &carol]);
    put("for me alone", "carol", [&carol, &mallory], &[&me]);
    // Surreptitious forwarding: what Bob wrote to Carol, encrypted anew to me.
    let mut forwarded =
        Blob::new(BlobKind::Message, &bob, &[&me], "forwarded").content(b"forwarded");
    forwarded.intended = vec![carol.fingerprint(), bob.fingerprint()];
    forwarded.deliver(&store, Folder::Messages);
    expected.insert(
        "messages/unverified/forwarded".to_owned(),
        "forwarded".to_owned(),
    );
    let mount = mount(&home, &store, &me.secret);
    let mut found = BTreeMap::new();
    for directory in names(&mount.path("messages")) {
        for name in names(&mount.path(&format!("messages/{directory}"))) {
            let path = format!("messages/{directory}/{name}");
            let content = std::fs::read_to_string(mount.path(&path)).unwrap();
            found.insert(path, content);
        }
    }
    assert_eq!(found, expected);
    mount.unmount();
}

/// Mine proves nothing without intended recipients, and Bob's stands.
#[test]
fn two_signatures_by_gpg_stand_under_the_other_signer() {
    needs!(mount);
    let home = Home::new();
    let store = make_store(home.dir.path(), &[]);
    for name in ["alice", "bob"] {
        let file = format!("{name}.cert.asc");
        std::fs::write(store.join("keys").join(&file), corpus(&file)).unwrap();
    }
    deliver(&store, Folder::Messages, &corpus("two-signers.asc"));
    let mount = mount(&home, &store, &corpus("alice.key.asc"));
    assert_eq!(names(&mount.path("messages/bob")), ["lunch.txt"]);
    assert_eq!(names(&mount.path("messages/unverified")), [""; 0]);
    mount.unmount();
}

/// Things with names of blobs that are no plain files, in one folder. `blob` would be shown if
/// the links were followed.
fn litter(folder: &Path, ending: &str, blob: &Path) {
    let mut next = 0;
    let mut fresh = || -> PathBuf {
        next += 1;
        folder.join(format!("{next:040x}{ending}"))
    };
    std::os::unix::fs::symlink(blob, fresh()).unwrap();
    std::os::unix::fs::symlink("/dev/zero", fresh()).unwrap();
    std::os::unix::fs::symlink("/nonexistent", fresh()).unwrap();
    std::os::unix::fs::symlink("/etc", fresh()).unwrap();
    let itself = fresh();
    std::os::unix::fs::symlink(&itself, &itself).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        fresh(),
        rustix::fs::FileType::Fifo,
        0o666.into(),
        0,
    )
    .unwrap();
    // The name stays when the socket is closed.
    let socket = fresh();
    let short = Path::new("/proc/self/fd");
    let directory = std::fs::File::open(folder).unwrap();
    use std::os::fd::AsRawFd as _;
    let short = short.join(directory.as_raw_fd().to_string());
    drop(std::os::unix::net::UnixListener::bind(short.join(socket.file_name().unwrap())).unwrap());
    let unreadable = fresh();
    std::fs::write(&unreadable, "garbage").unwrap();
    std::fs::set_permissions(&unreadable, std::fs::Permissions::from_mode(0o000)).unwrap();
    // Half a TiB of nothing.
    let sparse = std::fs::File::create(fresh()).unwrap();
    sparse.set_len(1 << 39).unwrap();
    if rustix::process::geteuid().is_root() {
        let zero = rustix::fs::makedev(1, 5);
        let made = rustix::fs::mknodat(
            rustix::fs::CWD,
            fresh(),
            rustix::fs::FileType::CharacterDevice,
            0o666.into(),
            zero,
        );
        if let Err(why) = made {
            crate::support::mount::skipped(&format!("a device in the store: {why}"));
        }
    }
}

#[test]
fn what_is_no_plain_file_is_neither_shown_nor_followed_and_nothing_hangs() {
    needs!(mount);
    let home = Home::new();
    let [me, bob, mallory] = ["Alice", "Bob", "Mallory"].map(Person::new);
    let store = make_store(home.dir.path(), &[("a", &me), ("b", &bob)]);
    let message = Blob::new(BlobKind::Message, &bob, &[&me, &bob], "outside.txt").seal();
    let (blob, certificate) = (home.path("outside.asc"), home.path("mallory.gpg"));
    std::fs::write(&blob, &message).unwrap();
    std::fs::write(&certificate, mallory.certificate().to_bytes()).unwrap();
    litter(&store.join("messages"), ".asc", &blob);
    litter(&store.join("notes"), ".asc", &blob);
    litter(&store.join("keys"), ".gpg", &certificate);
    litter(&store.join("software"), "", &blob);
    // Directories are not gone into either, but for software/.
    for folder in ["messages", "notes", "keys"] {
        let directory = store.join(folder).join(format!("{}.asc", "f".repeat(40)));
        std::fs::create_dir(&directory).unwrap();
        std::fs::copy(&blob, directory.join("inside.asc")).unwrap();
        std::fs::copy(&certificate, directory.join("inside.gpg")).unwrap();
    }
    let mount = mount(&home, &store, &me.secret);
    for _ in 0..2 {
        let all = listed(&mount.mountpoint);
        assert!(
            !all.contains("outside.txt") && !all.contains("mallory"),
            "{all}"
        );
        assert!(!all.contains(" -> "), "{all}");
    }
    assert_eq!(names(&mount.path("messages")), ["bob", "unverified"]);
    for empty in [
        "messages/bob",
        "messages/unverified",
        "notes/bob",
        "notes/me",
        "notes/unverified",
    ] {
        assert_eq!(names(&mount.path(empty)), [""; 0], "{empty}");
    }
    // What is left in software/ are the two plain files, and they can be opened or not, quickly.
    let software = names(&mount.path("software"));
    assert_eq!(software.len(), 2, "{software:?}");
    // Nothing of it keeps anybody from working.
    std::fs::write(mount.path("messages/bob/hello.txt"), "hi").unwrap();
    assert_eq!(
        std::fs::read(mount.path("messages/bob/hello.txt")).unwrap(),
        b"hi"
    );
    std::fs::read_to_string(mount.path(".dds/status")).unwrap();
    assert_memory_below(&mount, 256);
    assert_eq!(mount.unmount(), (Some(0), String::new()));
    // The litter is the syncer's, and stays.
    assert!(names(&store.join("messages")).len() >= 11);
}

#[test]
fn a_blob_that_may_not_be_read_is_told_and_shown_once_it_may() {
    needs!(mount);
    let home = Home::new();
    let [me, bob] = ["Alice", "Bob"].map(Person::new);
    let store = make_store(home.dir.path(), &[("a", &me), ("b", &bob)]);
    let blob = Blob::new(BlobKind::Message, &bob, &[&me, &bob], "locked.txt").content(b"text");
    let name = blob.deliver(&store, Folder::Messages);
    let file = store.join("messages").join(name.file_name());
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o000)).unwrap();
    let mount = mount(&home, &store, &me.secret);
    if !rustix::process::geteuid().is_root() {
        assert_eq!(names(&mount.path("messages/bob")), [""; 0]);
        let told = std::fs::read_to_string(mount.path(".dds/status")).unwrap();
        assert!(told.contains(&name.to_string()), "{told}");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    assert_eq!(names(&mount.path("messages/bob")), ["locked.txt"]);
    assert_eq!(
        std::fs::read(mount.path("messages/bob/locked.txt")).unwrap(),
        b"text"
    );
    mount.unmount();
}
