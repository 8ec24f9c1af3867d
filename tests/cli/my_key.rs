//! A key of gpg's that cannot do everything: `dds init`, each mount and the status name the missing
//! ability and the remedy, and everything else works.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::ended::*;
use crate::support::gnupg::Gnupg;
use crate::support::mount::{Home, daemon_of, is_mounted, wait_for};
use pgp::Packet;
use pgp::parse::Parse as _;
use pgp::serialize::SerializeInto as _;
use sequoia_openpgp as pgp;

const BOB: &str = "Bob <bob@example.org>";
const ALICE: &str = "Alice <alice@example.org>";

/// Where the secret of a subkey is, by what stands for it in a key file.
#[derive(Clone, Copy, Debug)]
enum Stub {
    Absent,
    Offline,
    Card,
}

impl Stub {
    /// What is said of it.
    fn place(self) -> &'static str {
        match self {
            Stub::Absent => "is not in the key file",
            Stub::Offline => "is offline",
            Stub::Card => "is on a smartcard",
        }
    }
}

fn packet(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[0xC0 | tag, 255], &length[..], body].concat()
}

/// The body of a packet that has a header of the new form.
fn body(packet: &Packet) -> Vec<u8> {
    let bytes = packet.to_vec().unwrap();
    let header = if bytes[1] < 192 { 2 } else { 3 };
    bytes[header..].to_vec()
}

/// A secret key file in which these keys (by fingerprint) have a stub in place of their secret.
fn with_stubs(secret: &[u8], of: &[String], stub: Stub) -> Vec<u8> {
    let cert = pgp::Cert::from_bytes(secret).unwrap();
    let mut out = pgp::armor::Writer::new(Vec::new(), pgp::armor::Kind::SecretKey).unwrap();
    for one in cert.into_tsk().into_packets() {
        let (key, public, secret_tag, public_tag) = match &one {
            Packet::SecretKey(key) => {
                let public = Packet::from(key.clone().take_secret().0);
                (key.fingerprint(), public, 5, 6)
            }
            Packet::SecretSubkey(key) => {
                let public = Packet::from(key.clone().take_secret().0);
                (key.fingerprint(), public, 7, 14)
            }
            other => {
                out.write_all(&other.to_vec().unwrap()).unwrap();
                continue;
            }
        };
        let bytes = match (of.contains(&key.to_hex()), stub) {
            (false, _) => one.to_vec().unwrap(),
            (true, Stub::Absent) => packet(public_tag, &body(&public)),
            (true, Stub::Offline) => {
                let mark = [&[255, 0, 101, 2][..], b"GNU", &[1]].concat();
                packet(secret_tag, &[body(&public), mark].concat())
            }
            (true, Stub::Card) => {
                let mark = [&[255, 0, 101, 2][..], b"GNU", &[2, 16], &[0; 16]].concat();
                packet(secret_tag, &[body(&public), mark].concat())
            }
        };
        out.write_all(&bytes).unwrap();
    }
    out.finalize().unwrap()
}

/// Bob, who has a key of gpg's, and Alice, who writes to him with gpg.
struct Gnus {
    home: Home,
    gnupg: Gnupg,
}

impl Gnus {
    fn new() -> Gnus {
        let (home, gnupg) = (Home::new(), Gnupg::new(""));
        gnupg.generate(ALICE, "future-default", &[]);
        for folder in ["keys", "messages", "notes", "software"] {
            let folder = home.path("documents-btsync").join(folder);
            std::fs::create_dir_all(folder).unwrap();
        }
        let alice = gnupg.certificate(ALICE);
        std::fs::write(home.path("documents-btsync/keys/alice.gpg"), alice).unwrap();
        Gnus { home, gnupg }
    }

    /// Makes a key that only signs, and adds an encryption subkey; returns its fingerprint.
    fn make_bob(&self, signing: &str, encryption: &[&str]) -> String {
        let at = |when: &str, more: &[&str]| {
            let time = ["--faked-system-time", when];
            self.gnupg.run(&[&time[..], more].concat());
        };
        let make = ["--quick-gen-key", BOB, signing, "cert,sign", "never"];
        at("20200101T000000", &make);
        let key = self.gnupg.fingerprint(BOB);
        for (algorithm, year) in encryption.iter().zip(2021..) {
            let add = ["--quick-add-key", &key, algorithm, "encr", "never"];
            at(&format!("{year}0101T000000"), &add);
        }
        key
    }

    fn key_file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.home.path(name);
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// What Alice writes to one of Bob's keys, as a file of the store.
    fn message(&self, to: &str, file: &str, content: &str) -> PathBuf {
        // For a key that names no digests gpg would sign with SHA-1.
        self.message_with(&["--digest-algo", "SHA512"], to, file, content)
    }

    fn message_with(&self, how: &[&str], to: &str, file: &str, content: &str) -> PathBuf {
        let what = ["--armor", "--sign", "--encrypt", "-u", ALICE, "-r", to];
        let args = [how, &what].concat();
        let blob = self.gnupg.feed(&args, content.as_bytes()).stdout;
        let path = self.home.path("documents-btsync/messages").join(file);
        std::fs::write(&path, blob).unwrap();
        path
    }

    /// Sets the preferences of a key as the warning of them says.
    fn prefer_what_the_sentence_says(&self, of: &str) {
        let fingerprint = self.gnupg.fingerprint(of);
        let edit = ["--no-batch", "--no-tty", "--command-fd", "0", "--edit-key"];
        let commands = "setpref AES256 AES192 AES SHA512 SHA384 SHA256 ZLIB ZIP\ny\nsave\n";
        let args = [&edit[..], &[&fingerprint]].concat();
        self.gnupg.feed(&args, commands.as_bytes());
    }

    fn init(&self, key: &Path) -> Ended {
        let mut command = self.home.dds();
        command.args(["init", "--yes", "--key"]).arg(key);
        let made = run(command);
        assert_eq!(made.code, Some(0), "{}", made.err);
        made
    }

    /// Mounts in the background.
    fn mount(&self, key: &Path) -> Mounted {
        let mountpoint = self.home.path("secure");
        let mut command = self.home.dds_mount();
        command
            .arg("--store")
            .arg(self.home.path("documents-btsync"));
        command.arg("--key").arg(key).arg(&mountpoint);
        let ended = run(command);
        assert_eq!(ended.code, Some(0), "{}", ended.err);
        let pid = daemon_of(&mountpoint);
        Mounted {
            mountpoint,
            pid,
            said: ended.err,
        }
    }
}

struct Mounted {
    mountpoint: PathBuf,
    pid: i32,
    said: String,
}

impl Mounted {
    fn path(&self, path: &str) -> PathBuf {
        self.mountpoint.join(path)
    }

    fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.path(path)).unwrap()
    }

    /// The contents of all files of a directory.
    fn all(&self, directory: &str) -> Vec<String> {
        let files = std::fs::read_dir(self.path(directory)).unwrap();
        let files = files.map(|file| std::fs::read_to_string(file.unwrap().path()));
        let mut all: Vec<String> = files.map(Result::unwrap).collect();
        all.sort();
        all
    }

    /// Problems, without those about contacts whom nobody confirmed.
    fn problems(&self) -> String {
        let status = self.read(".dds/status");
        let problems = status.lines().filter(|line| line.starts_with("problem: "));
        let problems = problems.filter(|line| !line.contains("not verified"));
        problems.map(|line| format!("{line}\n")).collect()
    }

    /// Writes a new file; gives the number of the error.
    fn write(&self, path: &str) -> Option<i32> {
        let written = std::fs::write(self.path(path), "x");
        written.err().and_then(|error| error.raw_os_error())
    }

    fn end(self) {
        crate::support::mount::unmount(&self.mountpoint);
        let process = format!("/proc/{}", self.pid);
        wait_for("the end of the daemon", || !Path::new(&process).exists());
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if is_mounted(&self.mountpoint) {
            let mut command = Command::new("fusermount3");
            let _ = command.args(["-uzq"]).arg(&self.mountpoint).status();
        }
    }
}

/// The fingerprints of the subkeys of a secret key, the oldest first.
fn subkeys(secret: &[u8]) -> Vec<String> {
    let cert = pgp::Cert::from_bytes(secret).unwrap();
    let subkeys = cert.keys().subkeys();
    let mut subkeys: Vec<_> = subkeys
        .map(|key| (key.key().creation_time(), key.key().fingerprint().to_hex()))
        .collect();
    subkeys.sort();
    subkeys.into_iter().map(|(_, key)| key).collect()
}

#[test]
fn my_newest_encryption_key_may_be_elsewhere() {
    needs!(mount, "gpg");
    let gnus = Gnus::new();
    let bob = gnus.make_bob("ed25519", &["cv25519", "cv25519"]);
    let secret = gnus.gnupg.secret_key(&bob);
    let [old, new] = &subkeys(&secret)[..] else {
        panic!("not two subkeys");
    };
    gnus.message(&format!("{old}!"), "old.asc", "to the old key");
    gnus.message(&format!("{new}!"), "new.asc", "to the new key");
    let full = gnus.key_file("full.asc", &secret);
    for stub in [Stub::Absent, Stub::Offline, Stub::Card] {
        let bytes = with_stubs(&secret, std::slice::from_ref(new), stub);
        let part = gnus.key_file("part.asc", &bytes);
        if let Stub::Absent = stub {
            let made = gnus.init(&part);
            assert!(made.err.contains(stub.place()), "{}", made.err);
        }
        let id = &new[24..];
        let words = [
            id,
            stub.place(),
            "newest encryption key",
            "--key takes a file",
        ];
        let mount = gnus.mount(&part);
        let problems = mount.problems();
        for word in words {
            assert!(mount.said.contains(word), "{stub:?} {word}: {}", mount.said);
            assert!(problems.contains(word), "{stub:?} {word}: {problems}");
        }
        assert_eq!(mount.all("messages/alice"), ["to the old key"]);
        // New files, and the state, are sealed to the keys that are here.
        assert_eq!(mount.write(&format!("notes/me/{stub:?}")), None);
        assert_eq!(mount.write("notes/alice/ours"), None);
        assert_eq!(mount.problems(), problems);
        mount.end();
        let mount = gnus.mount(&full);
        assert_eq!(mount.said, "");
        assert_eq!(mount.problems(), "");
        let both = ["to the new key", "to the old key"];
        assert_eq!(mount.all("messages/alice"), both);
        assert_eq!(mount.read(&format!("notes/me/{stub:?}")), "x");
        mount.end();
    }
}

#[test]
fn state_that_is_sealed_to_a_key_elsewhere_keeps_nobody_from_mounting_and_is_kept() {
    needs!(mount, "gpg");
    let gnus = Gnus::new();
    let bob = gnus.make_bob("ed25519", &["cv25519"]);
    let first = gnus.gnupg.secret_key(&bob);
    let add = ["--quick-add-key", &bob, "cv25519", "encr", "never"];
    gnus.gnupg.run(&add);
    let secret = gnus.gnupg.secret_key(&bob);
    let [old, new] = &subkeys(&secret)[..] else {
        panic!("not two subkeys");
    };
    let keep = |name: &str, bytes: &[u8]| gnus.key_file(name, bytes);
    let first = keep("first.asc", &first);
    let without_old = with_stubs(&secret, std::slice::from_ref(old), Stub::Offline);
    let without_old = keep("without.asc", &without_old);
    let full = keep("full.asc", &secret);
    // To both of them.
    let gone = {
        let (old, new) = (format!("{old}!"), format!("{new}!"));
        let to = [
            "--armor",
            "-u",
            ALICE,
            "-r",
            &old,
            "-r",
            &new,
            "--sign",
            "--encrypt",
        ];
        gnus.gnupg.feed(&to, b"gone").stdout
    };
    let file = gnus.home.path("documents-btsync/messages/gone.asc");
    std::fs::write(&file, &gone).unwrap();

    let remove = |mount: &Mounted| {
        let found = std::fs::read_dir(mount.path("messages/alice")).unwrap();
        let found: Vec<_> = found.map(|one| one.unwrap().path()).collect();
        let [one] = &found[..] else {
            panic!("not one message: {found:?}");
        };
        std::fs::remove_file(one)
    };
    let mount = gnus.mount(&first);
    remove(&mount).unwrap();
    assert!(!file.exists());
    mount.end();

    let stores = gnus.home.path(".local/state/dds");
    let store = std::fs::read_dir(stores).unwrap().next().unwrap();
    let state = store.unwrap().path();
    let kept = || ["key.asc", "log"].map(|name| std::fs::read(state.join(name)).unwrap());
    let before = kept();
    std::fs::write(&file, &gone).unwrap();
    let mount = gnus.mount(&without_old);
    let problems = mount.problems();
    for words in [
        "key.asc is sealed to a key that is not here",
        "mount once with the key file",
    ] {
        assert!(problems.contains(words), "{problems}");
    }
    // It cannot be known that it was removed, and nothing can be removed that would be forgotten.
    assert_eq!(mount.all("messages/alice"), ["gone"]);
    let refused = remove(&mount).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::ENOKEY));
    assert_eq!(mount.write("notes/alice/x"), None);
    mount.end();
    assert!(kept() == before);
    assert!(file.exists());

    // With the other key it is known, and from then on with each of them.
    for key in [&full, &without_old] {
        let mount = gnus.mount(key);
        assert!(mount.all("messages/alice").is_empty(), "{key:?}");
        assert!(!file.exists());
        let problems = mount.problems();
        assert!(!problems.contains("key.asc"), "{problems}");
        assert!(
            problems.contains("came back and was removed again"),
            "{problems}"
        );
        mount.end();
        std::fs::write(&file, &gone).unwrap();
    }
}

#[test]
fn a_key_whose_secrets_are_all_elsewhere_is_named_as_such() {
    needs!(mount, "gpg");
    let gnus = Gnus::new();
    let bob = gnus.make_bob("ed25519", &["cv25519"]);
    let secret = gnus.gnupg.secret_key(&bob);
    let mut all = subkeys(&secret);
    gnus.message(BOB, "m.asc", "hello");
    // The primary key signs, and is offline, as after gpg --export-secret-subkeys.
    let export = ["--armor", "--export-secret-subkeys", &bob];
    let part = gnus.key_file("part.asc", &gnus.gnupg.run(&export));
    let made = gnus.init(&part);
    let mount = gnus.mount(&part);
    for said in [&made.err, &mount.said, &mount.problems()] {
        for words in ["signing key", "is offline", "nothing can be written"] {
            assert!(said.contains(words), "{words}: {said}");
        }
    }
    assert_eq!(mount.all("messages/alice"), ["hello"]);
    assert_eq!(mount.write("notes/me/x"), Some(libc::ENOKEY));
    assert!(mount.read(".dds/errors").contains("is offline"));
    mount.end();

    all.push(bob);
    for stub in [Stub::Offline, Stub::Card] {
        let key = gnus.key_file("none.asc", &with_stubs(&secret, &all, stub));
        let mut command = gnus.home.dds_mount();
        command
            .arg("--store")
            .arg(gnus.home.path("documents-btsync"));
        command.arg("--key").arg(&key).arg(gnus.home.path("secure"));
        assert_tells("dds-mount", command, 3, stub.place());
        let other = Home::new();
        let mut command = other.dds();
        command.args(["init", "--yes", "--key"]).arg(&key);
        assert_tells("dds", command, 3, stub.place());
    }
}

#[test]
fn what_my_key_asks_others_for_is_read_or_warned_of() {
    let ciphers = [
        ("CAST5", false),
        ("TWOFISH", false),
        ("3DES", true),
        ("AES", true),
    ];
    for (cipher, is_read) in ciphers {
        needs!(mount, "gpg");
        let gnus = Gnus::new();
        let preferences = format!("{cipher} SHA256 ZLIB");
        let preferred = ["--default-preference-list", &preferences];
        let make = ["--quick-gen-key", BOB, "future-default", "default", "never"];
        gnus.gnupg.run(&[&preferred[..], &make].concat());
        gnus.message(BOB, "m.asc", "hello");
        let key = gnus.key_file("bob.asc", &gnus.gnupg.secret_key(BOB));
        let made = gnus.init(&key);
        let mount = gnus.mount(&key);
        let problems = mount.problems();
        if is_read {
            assert_eq!(
                (&*made.err, &*mount.said, &*problems),
                ("", "", ""),
                "{cipher}"
            );
            assert_eq!(mount.all("messages/alice"), ["hello"], "{cipher}");
            mount.end();
            continue;
        }
        let called = if cipher == "CAST5" {
            "CAST5"
        } else {
            "Twofish"
        };
        for said in [&made.err, &mount.said, &problems] {
            let asks = format!("asks others to encrypt with {called} first");
            for words in [&*asks, "setpref AES256"] {
                assert!(said.contains(words), "{words}: {said}");
            }
            assert!(!said.contains("verything"), "{said}");
        }
        // A message that was encrypted so already names the reason, and the remedy for its sender.
        let names = std::fs::read_dir(mount.path("messages/unverified")).unwrap();
        let names: Vec<_> = names.map(|name| name.unwrap().path()).collect();
        assert_eq!(names.len(), 1, "{cipher}");
        let read = std::fs::read(&names[0]).unwrap_err();
        assert_eq!(read.raw_os_error(), Some(libc::EBADMSG));
        let errors = mount.read(".dds/errors");
        let what = format!("encrypted with {called}, which is not read here");
        for words in [&*what, "--cipher-algo AES256"] {
            assert!(errors.contains(words), "{errors}");
        }
        mount.end();
        gnus.prefer_what_the_sentence_says(BOB);
        gnus.message(BOB, "again.asc", "hello again");
        let key = gnus.key_file("bob.asc", &gnus.gnupg.secret_key(BOB));
        let mount = gnus.mount(&key);
        assert_eq!(mount.said, "", "{cipher}");
        assert_eq!(mount.all("messages/alice"), ["hello again"]);
        mount.end();
    }
}

/// gpg 2.2 takes the first digest that the reader's key names, and SHA-1 if it names none.
#[test]
fn a_key_that_names_no_strong_digest_is_warned_of() {
    for (preferences, words) in [
        ("AES256", "names no digest, so that gpg signs with SHA-1"),
        ("AES256 SHA1 SHA256", "so that gpg signs with SHA-1"),
    ] {
        needs!(mount, "gpg");
        let gnus = Gnus::new();
        let preferred = ["--default-preference-list", preferences];
        let make = ["--quick-gen-key", BOB, "future-default", "default", "never"];
        gnus.gnupg.run(&[&preferred[..], &make].concat());
        gnus.message_with(&[], BOB, "m.asc", "hello");
        let key = gnus.key_file("bob.asc", &gnus.gnupg.secret_key(BOB));
        let made = gnus.init(&key);
        let mount = gnus.mount(&key);
        for said in [&made.err, &mount.said, &mount.problems()] {
            for words in [words, "unverified/", "setpref AES256"] {
                assert!(said.contains(words), "{preferences}: {words}: {said}");
            }
        }
        assert_eq!(mount.all("messages/unverified"), ["hello"], "{preferences}");
        mount.end();
        gnus.prefer_what_the_sentence_says(BOB);
        gnus.message_with(&[], BOB, "again.asc", "hello again");
        let key = gnus.key_file("bob.asc", &gnus.gnupg.secret_key(BOB));
        let mount = gnus.mount(&key);
        assert_eq!(mount.said, "", "{preferences}");
        assert_eq!(mount.all("messages/alice"), ["hello again"]);
        mount.end();
    }
}

#[test]
fn a_key_that_names_no_ciphers_is_sent_3des_and_reads_it() {
    needs!(mount, "gpg");
    let gnus = Gnus::new();
    let parameters = "%no-protection\nKey-Type: EDDSA\nKey-Curve: ed25519\nSubkey-Type: ECDH\n\
        Subkey-Curve: cv25519\nName-Email: bob@example.org\nPreferences: SHA256\nExpire-Date: 0\n\
        %commit\n";
    gnus.gnupg.feed(&["--gen-key"], parameters.as_bytes());
    let file = gnus.message("bob@example.org", "m.asc", "hello");
    let listed = ["--verbose", "--decrypt", file.to_str().unwrap()];
    let told = gnus.gnupg.feed(&listed, b"").stderr;
    let told = String::from_utf8_lossy(&told).into_owned();
    assert!(told.contains("3DES encrypted data"), "{told}");
    let key = gnus.key_file("bob.asc", &gnus.gnupg.secret_key("bob@example.org"));
    assert_eq!(gnus.init(&key).err, "");
    let mount = gnus.mount(&key);
    assert_eq!((&*mount.said, &*mount.problems()), ("", ""));
    assert_eq!(mount.all("messages/alice"), ["hello"]);
    mount.end();
}

#[test]
fn a_key_of_a_kind_that_is_not_supported_is_named_with_what_helps() {
    // Beside a subkey that is read, alone, and as the primary key.
    for (signing, encryption) in [
        ("ed25519", &["cv25519", "secp256k1"][..]),
        ("ed25519", &["secp256k1"]),
        ("secp256k1", &["cv25519"]),
    ] {
        needs!(mount, "gpg");
        let gnus = Gnus::new();
        let bob = gnus.make_bob(signing, encryption);
        let secret = gnus.gnupg.secret_key(&bob);
        gnus.message(&bob, "m.asc", "to the newest");
        let oldest = &subkeys(&secret)[0];
        gnus.message(&format!("{oldest}!"), "old.asc", "to the oldest");
        let key = gnus.key_file("bob.asc", &secret);
        let made = gnus.init(&key);
        assert!(!made.err.contains("no mail address"), "{}", made.err);
        let mount = gnus.mount(&key);
        let problems = mount.problems();
        let remedy = match signing {
            "ed25519" => "--quick-add-key",
            _ => "make a new key",
        };
        for said in [&made.err, &mount.said, &problems] {
            assert!(
                said.contains("is secp256k1") && said.contains(remedy),
                "{said}"
            );
            assert!(!said.contains("verything"), "{said}");
        }
        let reads = encryption.contains(&"cv25519");
        let writes = reads && signing == "ed25519";
        let expected: &[&str] = if reads { &["to the oldest"] } else { &[] };
        if encryption.len() > 1 || !reads {
            assert_eq!(mount.all("messages/alice"), expected);
            // Named by the file, too.
            let path = mount.path("messages/unverified");
            let file = std::fs::read_dir(path).unwrap().next().unwrap();
            let read = std::fs::read(file.unwrap().path()).unwrap_err();
            assert_eq!(read.raw_os_error(), Some(libc::EBADMSG));
            let errors = mount.read(".dds/errors");
            assert!(errors.contains("your secp256k1 key"), "{errors}");
        } else {
            assert_eq!(
                mount.all("messages/alice"),
                ["to the newest", "to the oldest"]
            );
        }
        let written = mount.write("notes/me/x");
        let refused = (!writes).then_some(libc::ENOKEY);
        assert_eq!(written, refused, "{signing} {encryption:?}");
        mount.end();
    }
}
