//! What the programs say, how they end, and what they leave behind.

mod my_key;

use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::support::gnupg::{Gnupg, installed, piped};
use crate::support::mount::{
    Home, Mount, PATIENCE, Standing, can_mount, daemon_of, is_mounted, skipped, wait_for,
};

const PASSPHRASE: &str = "correct horse";

/// How a program ended and what it said.
struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

/// Runs a program to its end, within the time limit.
fn run(mut command: Command) -> Ended {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    // Little is said: it fits into the pipes.
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if begun.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("{command:?} does not end");
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    };
    let mut ended = Ended {
        code: status.code(),
        out: String::new(),
        err: String::new(),
    };
    out.read_to_string(&mut ended.out).unwrap();
    err.read_to_string(&mut ended.err).unwrap();
    ended
}

/// Runs `dds init`, which must succeed.
#[track_caller]
fn init(home: &Home, passphrase: Option<&str>, more: &[&str]) -> Ended {
    let mut command = home.dds();
    command.args(["init", "--user-id", "Alice <alice@example.org>"]);
    command.args(more);
    match passphrase {
        Some(passphrase) => command
            .args(["--passphrase-fd", "0"])
            .stdin(piped(passphrase)),
        None => command.arg("--no-passphrase"),
    };
    let ended = run(command);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert_eq!(ended.err, "");
    ended
}

/// A home with an identity and the default store.
fn prepared(passphrase: Option<&str>) -> Home {
    let home = Home::new();
    init(&home, passphrase, &[]);
    home
}

/// Everything that is mounted anywhere in a home.
fn mounts_in(home: &Home) -> Vec<String> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let inside = |line: &&str| {
        let path = line.split(' ').nth(4).unwrap();
        path.starts_with(home.dir.path().to_str().unwrap())
    };
    table.lines().filter(inside).map(str::to_owned).collect()
}

/// Asserts one line, one hint, an exit code, and that nothing is mounted.
#[track_caller]
fn assert_refused(home: &Home, command: Command, code: i32, sentence: &str) {
    let told = assert_tells("dds-mount", command, code, sentence);
    assert_eq!(mounts_in(home), [""; 0], "{told}");
}

#[track_caller]
fn assert_tells(program: &str, command: Command, code: i32, sentence: &str) -> String {
    let shown = format!("{command:?}");
    let ended = run(command);
    let lines: Vec<_> = ended.err.lines().collect();
    assert_eq!(ended.code, Some(code), "{shown}: {}", ended.err);
    let [first, second] = lines[..] else {
        panic!("{shown}: not a line and a hint: {:?}", ended.err);
    };
    let begin = format!("{program}: ");
    assert!(first.starts_with(&begin), "{first:?}");
    let hint = second.strip_prefix(&format!("{begin}hint: "));
    assert!(hint.is_some_and(|hint| !hint.is_empty()), "{second:?}");
    assert!(first.contains(sentence), "{shown}: {first:?}");
    assert!(!first.ends_with('.') && !second.ends_with('.'), "{lines:?}");
    assert!(!first.starts_with(&format!("{begin}hint")), "{first:?}");
    assert_eq!(ended.out, "");
    ended.err
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().mode() & 0o7777
}

/// A mountpoint that dds-mount made is gone again, or takes no files.
#[track_caller]
fn assert_harmless(mountpoint: &Path) {
    if mountpoint.exists() {
        assert_eq!(mode(mountpoint), 0o500);
        assert_eq!(std::fs::read_dir(mountpoint).unwrap().count(), 0);
    }
}

#[test]
fn a_wrong_passphrase() {
    if !can_mount() {
        return;
    }
    let home = prepared(Some(PASSPHRASE));
    let mountpoint = home.path("secure");
    for words in ["wrong", "", "correct horse "] {
        let mut command = home.dds_mount();
        command.args(["--passphrase-fd", "0"]).stdin(piped(words));
        command.arg(&mountpoint);
        assert_refused(&home, command, 4, "identity.asc: wrong passphrase");
        assert_harmless(&mountpoint);
    }
    for (program, sentence) in [
        ("echo wrong", "wrong passphrase"),
        ("exit 3", "passphrase command failed"),
        ("kill -9 $$", "passphrase command failed"),
    ] {
        let mut command = home.dds_mount();
        command.args(["--passphrase-command", program]);
        assert_refused(&home, with(command, &mountpoint), 4, sentence);
        assert_harmless(&mountpoint);
    }
    for descriptor in ["77", "-1"] {
        let mut command = home.dds_mount();
        command.arg(format!("--passphrase-fd={descriptor}"));
        let sentence = format!("passphrase from descriptor {descriptor}");
        assert_refused(&home, with(command, &mountpoint), 4, &sentence);
    }
}

fn with(mut command: Command, argument: impl AsRef<std::ffi::OsStr>) -> Command {
    command.arg(argument);
    command
}

#[test]
fn a_locked_key_without_a_terminal() {
    if !can_mount() {
        return;
    }
    let home = prepared(Some(PASSPHRASE));
    let mountpoint = home.path("secure");
    let mut command = home.command("setsid");
    command.arg("--wait").arg(env!("CARGO_BIN_EXE_dds-mount"));
    let sentence = "a passphrase is needed and there is no terminal";
    assert_refused(&home, with(command, &mountpoint), 4, sentence);
    assert_harmless(&mountpoint);
}

#[test]
fn no_store() {
    let home = prepared(None);
    let file = home.path("file");
    std::fs::write(&file, "").unwrap();
    for store in [&home.path("nowhere"), &file] {
        let mut command = home.dds_mount();
        command.arg("--store").arg(store);
        let sentence = format!("store {}: ", store.display());
        assert_refused(&home, with(command, home.path("secure")), 3, &sentence);
        assert!(!home.path("secure").exists());
    }
    std::fs::remove_file(home.path(".config/dds/config.toml")).unwrap();
    std::fs::remove_dir_all(home.path("documents-btsync")).unwrap();
    let command = with(home.dds_mount(), home.path("secure"));
    assert_refused(&home, command, 3, "documents-btsync: ");
}

#[test]
fn no_key() {
    if !can_mount() {
        return;
    }
    let home = prepared(None);
    let mountpoint = home.path("secure");
    let garbage = home.path("garbage");
    std::fs::write(&garbage, "no key").unwrap();
    let mut public = std::fs::read_dir(home.path("documents-btsync/keys")).unwrap();
    let public = public.next().unwrap().unwrap().path();
    for key in [home.path("nowhere"), garbage, public] {
        let mut command = home.dds_mount();
        command.arg("--key").arg(&key);
        let sentence = format!("key {}: ", key.display());
        assert_refused(&home, with(command, &mountpoint), 3, &sentence);
        assert_harmless(&mountpoint);
    }
    std::fs::remove_file(home.path(".config/dds/identity.asc")).unwrap();
    let command = with(home.dds_mount(), &mountpoint);
    assert_refused(&home, command, 3, ".config/dds/identity.asc: ");
}

#[test]
fn an_unusable_mountpoint() {
    if !can_mount() {
        return;
    }
    let home = prepared(None);
    let store = home.path("documents-btsync");
    let make = |name: &str| {
        let path = home.path(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    };
    let full = make("full");
    std::fs::write(full.join(".hidden"), "").unwrap();
    let file = home.path("file");
    std::fs::write(&file, "").unwrap();
    let mut cases = vec![
        (full, "not empty"),
        (file.clone(), "not a directory"),
        (file.join("below"), ""),
        (home.path("missing/parent"), ""),
        (store.clone(), "inside the store"),
        (store.join("notes"), "inside the store"),
        (store.join("made by the mount"), "inside the store"),
        (home.dir.path().to_owned(), "the store is inside it"),
    ];
    let link = home.path("link");
    std::os::unix::fs::symlink(store.join("messages"), &link).unwrap();
    cases.push((link, "inside the store"));
    for mark in [".stfolder", ".stignore", ".sync", ".SyncID", ".SyncIgnore"] {
        let top = make(&format!("synced{mark}"));
        std::fs::write(top.join(mark), "").unwrap();
        let below = make(&format!("synced{mark}/a/b"));
        cases.push((below.clone(), "inside a synced folder"));
        cases.push((below.join("new"), "inside a synced folder"));
        cases.push((top, "inside a synced folder"));
    }
    for (mountpoint, sentence) in &cases {
        let existed = mountpoint.exists().then(|| mode(mountpoint));
        let command = with(home.dds_mount(), mountpoint);
        assert_refused(&home, command, 5, sentence);
        let exists = mountpoint.exists().then(|| mode(mountpoint));
        assert_eq!(existed, exists, "{}", mountpoint.display());
    }
    // Another filesystem, and a second mount on the same place.
    if rustix::process::geteuid().is_root() {
        let command = with(home.dds_mount(), "/proc");
        assert_refused(&home, command, 5, "another filesystem is mounted here");
    }
    let mount = Mount::start(home.dds_mount(), &home.path("secure"));
    let command = with(home.dds_mount(), home.path("secure"));
    let told = assert_tells("dds-mount", command, 5, "already mounted");
    assert!(told.contains("fusermount3 -u"), "{told}");
    assert!(std::fs::read_dir(mount.path("notes/me")).is_ok());
    assert_eq!(mount.unmount(), (Some(0), String::new()));
}

#[test]
fn a_wrong_command_line() {
    let home = prepared(None);
    let mountpoint = home.path("secure");
    for (arguments, sentence) in [
        (&["-o", "allow_other"][..], "allow_other is refused"),
        (&["-o", "ro,allow_root"], "allow_root is refused"),
        (&["--no-such-flag"], "'--no-such-flag'"),
        (&["-x"], "'-x'"),
        (&["--store"], "--store"),
        (&["--passphrase-fd", "three"], "'three'"),
        (
            &["--passphrase-fd", "3", "--passphrase-command", "x"],
            "cannot be used with",
        ),
        (&["a store", "and", "too much"], "too much"),
    ] {
        let mut command = home.dds_mount();
        command.args(arguments);
        if arguments != ["--store"] {
            command.arg(&mountpoint);
        }
        assert_refused(&home, command, 2, sentence);
    }
    assert_refused(&home, home.dds_mount(), 2, "MOUNTPOINT");
    assert!(!mountpoint.exists());
    let mut command = home.dds();
    command.args(["init", "--no-such-flag"]);
    assert_tells("dds", command, 2, "'--no-such-flag'");
    for wish in [&["--modern"][..], &["--no-passphrase"], &["--user-id", "x"]] {
        let mut command = home.dds();
        command.args(["init", "--key", "x"]).args(wish);
        assert_tells("dds", command, 2, "cannot be used with");
    }
    let mut command = home.dds();
    command.args(["init", "--key-in-place"]);
    assert_tells("dds", command, 2, "--key");
    let mut command = home.dds();
    command.arg("destroy");
    assert_tells("dds", command, 2, "'destroy'");
}

#[test]
fn a_command_that_others_have_points_to_ours() {
    let home = Home::new();
    for (tried, helps) in [
        ("unlock", "dds-mount MOUNTPOINT"),
        ("mount", "dds-mount MOUNTPOINT"),
        ("unmount", "dds lock"),
        ("umount", "dds lock"),
        ("trust", "contacts.toml"),
        ("import", "keys/"),
    ] {
        let mut command = home.dds();
        command.arg(tried);
        let told = assert_tells("dds", command, 2, tried);
        assert!(told.contains(helps), "{told}");
    }
}

#[test]
fn locking_on_what_cannot_be_noticed_is_refused() {
    if cfg!(feature = "logind") {
        return; // tests/logind.rs
    }
    let home = Home::new();
    for option in ["--lock-on-suspend", "--lock-on-screen-lock"] {
        let command = with(home.dds_mount(), option);
        let command = with(command, home.path("secure"));
        assert_refused(&home, command, 2, "built without logind");
        assert!(!home.path("secure").exists());
    }
}

#[test]
fn a_damaged_configuration_is_told_with_its_line() {
    let home = prepared(None);
    let config = home.path(".config/dds/config.toml");
    for (text, sentence) in [
        (
            "# a comment\nstore = \"x\"\nstor = \"y\"\n",
            "config.toml:3: unknown field",
        ),
        ("\n\n\nstore = \n", "config.toml:4: "),
        (
            "recipients = \"nobody\"\n",
            "config.toml:1: unknown variant",
        ),
        ("max_file_mib = \"many\"\n", "config.toml:1: invalid type"),
        ("[groups]\nteam = []\n", "config.toml: group \"team\""),
        (
            "[groups]\n\"a b\" = [\"x\"]\n",
            "config.toml: group \"a b\"",
        ),
        ("x = \"\u{1b}[2J\n", "config.toml:1: "),
    ] {
        std::fs::write(&config, text).unwrap();
        let command = with(home.dds_mount(), home.path("secure"));
        assert_refused(&home, command, 3, sentence);
    }
    std::fs::write(&config, [0xff, 0xfe]).unwrap();
    let command = with(home.dds_mount(), home.path("secure"));
    assert_refused(&home, command, 3, "config.toml");
    let mut command = home.dds_mount();
    command.args(["--config", "/nonexistent/config.toml"]);
    let command = with(command, home.path("secure"));
    assert_refused(&home, command, 3, "/nonexistent/config.toml: ");
    assert!(!home.path("secure").exists());
}

#[test]
fn no_fuse() {
    let home = prepared(None);
    let mut probe = home.command("unshare");
    probe.args(["--mount", "--map-root-user", "mount", "-t", "tmpfs"]);
    if run(with(with(probe, "none"), "/dev")).code != Some(0) {
        skipped("without /dev/fuse: no mount namespace of our own here");
        return;
    }
    let mut command = home.command("unshare");
    command.args(["--mount", "--map-root-user", "sh", "-c"]);
    command.arg("mount -t tmpfs none /dev && exec \"$@\"");
    command.arg("sh").arg(env!("CARGO_BIN_EXE_dds-mount"));
    let command = with(command, home.path("secure"));
    assert_refused(&home, command, 6, "/dev/fuse");
    assert_harmless(&home.path("secure"));
}

fn signal(pid: i32, signal: i32) {
    // SAFETY: the process was started by this test.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
}

/// Takes a background mount away if a test fails while it lasts.
struct Detached<'a>(&'a Path);

impl Drop for Detached<'_> {
    fn drop(&mut self) {
        if is_mounted(self.0) {
            let _ = Command::new("fusermount3")
                .args(["-u", "-z", "-q"])
                .arg(self.0)
                .status();
        }
    }
}

#[test]
fn in_the_background_the_mount_is_usable_at_once() {
    if !can_mount() {
        return;
    }
    let home = prepared(Some(PASSPHRASE));
    let mountpoint = home.path("secure");
    let _detached = Detached(&mountpoint);
    for round in ["one", "two"] {
        let mut command = home.dds_mount();
        command.args(["--passphrase-command", "echo 'correct horse'"]);
        let ended = run(with(command, &mountpoint));
        assert_eq!((ended.code, &*ended.err, &*ended.out), (Some(0), "", ""));
        let file = mountpoint.join("notes/me").join(round);
        std::fs::write(&file, round).unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), round.as_bytes());
        let names = std::fs::read_dir(mountpoint.join("notes/me")).unwrap();
        assert_eq!(names.count(), if round == "one" { 1 } else { 2 });
        let pid = daemon_of(&mountpoint);
        // No terminal, no standard streams, and not in anybody's way.
        assert_eq!(
            std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap(),
            Path::new("/")
        );
        for stream in 0..3 {
            let stream = std::fs::read_link(format!("/proc/{pid}/fd/{stream}")).unwrap();
            assert_eq!(stream, Path::new("/dev/null"));
        }
        if round == "one" {
            crate::support::mount::unmount(&mountpoint);
        } else {
            signal(pid, libc::SIGTERM);
        }
        wait_for("the end of the daemon", || {
            !Path::new(&format!("/proc/{pid}")).exists()
        });
        assert!(!is_mounted(&mountpoint));
        // The bare directory was made by dds-mount: nobody can save plaintext into it.
        assert_eq!(mode(&mountpoint), 0o500);
    }
}

#[test]
fn somebody_else_s_bare_mountpoint_keeps_its_mode() {
    if !can_mount() {
        return;
    }
    let home = prepared(None);
    let mountpoint = home.path("secure");
    std::fs::create_dir(&mountpoint).unwrap();
    std::fs::set_permissions(&mountpoint, std::fs::Permissions::from_mode(0o751)).unwrap();
    let mount = Mount::start(home.dds_mount(), &mountpoint);
    assert_eq!(mode(&mountpoint), 0o700);
    mount.unmount();
    assert_eq!(mode(&mountpoint), 0o751);
}

#[test]
fn sigterm_ends_a_mount_that_is_in_use_and_names_what_is_unsaved() {
    if !can_mount() {
        return;
    }
    for ending in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
        let home = prepared(None);
        let mountpoint = home.path("secure");
        let mount = Mount::start(home.dds_mount(), &mountpoint);
        std::fs::write(mount.path("notes/me/saved.txt"), "needle".repeat(1000)).unwrap();
        let mut reading = std::fs::File::open(mount.path("notes/me/saved.txt")).unwrap();
        let mut start = [0; 6];
        reading.read_exact(&mut start).unwrap();
        let mut writing = std::fs::File::create(mount.path("notes/me/draft.txt")).unwrap();
        writing.write_all(b"half a sentence").unwrap();
        let _shell = Standing::inside(&mount.path("notes/me"));
        let (code, said) = mount.end_by(ending);
        assert_eq!(code, Some(0), "{said}");
        assert_eq!(
            said,
            "dds-mount: not saved: notes/me/draft.txt (kept for you in .dds/rescued/ of the \
             next mount)\n"
        );
        assert_eq!(mounts_in(&home), [""; 0]);
        // Whoever still has something open gets nothing more.
        assert!(writing.write_all(b", and the rest").is_err());
        assert!(writing.sync_all().is_err());
        assert!(reading.read(&mut start).is_err());
        let notes = home.path("documents-btsync/notes");
        assert_eq!(std::fs::read_dir(notes).unwrap().count(), 1);
        let mount = Mount::start(home.dds_mount(), &mountpoint);
        let read = std::fs::read(mount.path("notes/me/saved.txt")).unwrap();
        assert_eq!(read, "needle".repeat(1000).into_bytes());
        assert!(!mount.path("notes/me/draft.txt").exists());
        mount.unmount();
    }
}

#[test]
fn sigterm_of_an_idle_mount_says_nothing() {
    if !can_mount() {
        return;
    }
    let home = prepared(None);
    let mount = Mount::start(home.dds_mount(), &home.path("secure"));
    std::fs::write(mount.path("notes/me/a"), "a").unwrap();
    assert_eq!(mount.end_by(libc::SIGTERM), (Some(0), String::new()));
    assert_eq!(mounts_in(&home), [""; 0]);
}

/// Every file below a directory, with its mode and content.
fn everything_in(directory: &Path) -> Vec<(PathBuf, u32, Vec<u8>)> {
    let mut found = Vec::new();
    let mut waiting = vec![directory.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let bytes = if path.is_dir() {
                waiting.push(path.clone());
                Vec::new()
            } else {
                std::fs::read(&path).unwrap()
            };
            found.push((path.clone(), mode(&path), bytes));
        }
    }
    found.sort();
    found
}

#[test]
fn init_makes_everything_for_me_alone_and_never_again() {
    let home = Home::new();
    let said = init(&home, None, &[]).out;
    assert!(said.contains("IT HAS NO PASSPHRASE"), "{said}");
    assert!(said.contains("back up"), "{said}");
    assert!(said.contains("dds-mount ~/secure"), "{said}");
    let config = home.path(".config/dds");
    assert_eq!(mode(&config), 0o700);
    for name in ["identity.asc", "identity.rev.asc", "config.toml"] {
        assert_eq!(mode(&config.join(name)), 0o600, "{name}");
    }
    let store = home.path("documents-btsync");
    for folder in ["", "keys", "messages", "notes", "software"] {
        assert_eq!(mode(&store.join(folder)), 0o700, "{folder}");
    }
    assert_eq!(std::fs::read_dir(store.join("keys")).unwrap().count(), 1);
    let before = everything_in(home.dir.path());
    // Again: nothing changes. What could only be heeded in a new identity is refused.
    let again = run(with(home.dds(), "init"));
    assert_eq!((again.code, &*again.err), (Some(0), ""), "{}", again.out);
    for wish in [
        &["--user-id", "Bob <bob@example.org>"][..],
        &["--modern"],
        &["--no-passphrase"],
        &["--passphrase-command", "echo another"],
    ] {
        let mut command = home.dds();
        command.arg("init").args(wish);
        assert_tells("dds", command, 2, "is for a new identity");
    }
    assert!(everything_in(home.dir.path()) == before);
    // A lost key beside its revocation certificate: that is not overwritten either.
    std::fs::remove_file(config.join("identity.asc")).unwrap();
    let before = everything_in(home.dir.path());
    let mut command = home.dds();
    command.args(["init", "--no-passphrase"]);
    assert_tells("dds", command, 3, "identity.rev.asc");
    assert!(everything_in(home.dir.path()) == before);
}

/// Certificates in the default store's `keys/`.
fn announced(home: &Home) -> usize {
    std::fs::read_dir(home.path("documents-btsync/keys"))
        .unwrap()
        .count()
}

#[test]
fn init_with_a_key_keeps_to_it() {
    let other = prepared(None);
    let key = other.path(".config/dds/identity.asc");
    let with_key = |home: &Home, key: &Path, more: &[&str]| {
        let mut command = home.dds();
        command.args(["init", "--key"]).arg(key).args(more);
        command
    };
    // A copy: the file may go. Another init finds it, and makes nothing.
    let home = Home::new();
    let given = home.path("export.asc");
    std::fs::copy(&key, &given).unwrap();
    let made = run(with_key(&home, &given, &[]));
    assert_eq!((made.code, &*made.err), (Some(0), ""));
    let copy = home.path(".config/dds/identity.asc");
    assert_eq!(std::fs::read(&copy).unwrap(), std::fs::read(&key).unwrap());
    assert_eq!(mode(&copy), 0o600);
    std::fs::remove_file(&given).unwrap();
    let before = everything_in(home.dir.path());
    for again in [with(home.dds(), "init"), with_key(&home, &key, &[])] {
        let again = run(again);
        assert_eq!((again.code, &*again.err), (Some(0), ""));
    }
    assert!(everything_in(home.dir.path()) == before);
    // Somebody else's key is not mine all of a sudden.
    let third = prepared(None);
    let stranger = third.path(".config/dds/identity.asc");
    let command = with_key(&home, &stranger, &[]);
    assert_tells("dds", command, 3, "there is another identity");
    assert!(everything_in(home.dir.path()) == before);
    // In place: the configuration names the file, and the next init goes by it.
    let home = Home::new();
    let made = run(with_key(&home, &key, &["--key-in-place"]));
    assert_eq!((made.code, &*made.err), (Some(0), ""));
    assert!(!home.path(".config/dds/identity.asc").exists());
    let before = everything_in(home.dir.path());
    let again = run(with(home.dds(), "init"));
    assert_eq!((again.code, &*again.err), (Some(0), ""));
    let mut command = home.dds();
    command.args(["init", "--no-passphrase"]);
    assert_tells("dds", command, 2, "is for a new identity");
    let command = with_key(&home, &stranger, &[]);
    assert_tells("dds", command, 3, "there is another identity");
    assert!(everything_in(home.dir.path()) == before);
    assert_eq!(announced(&home), 1);
    // The file went: nothing takes its place.
    std::fs::remove_file(&key).unwrap();
    let command = with(home.dds(), "init");
    assert_tells("dds", command, 3, "identity.asc: ");
    assert!(everything_in(home.dir.path()) == before);
    // A configuration that names no key is not changed.
    let home = Home::new();
    std::fs::create_dir_all(home.path(".config/dds")).unwrap();
    std::fs::write(home.path(".config/dds/config.toml"), "").unwrap();
    let command = with_key(&home, &stranger, &["--key-in-place"]);
    let told = assert_tells("dds", command, 3, "names no key");
    assert!(told.contains("keys = ["), "{told}");
}

#[test]
fn init_says_what_is_wrong_with_an_export_before_it_makes_anything() {
    let home = Home::new();
    let public = prepared(None);
    let keys = std::fs::read_dir(public.path("documents-btsync/keys")).unwrap();
    let certificate = keys.map(|entry| entry.unwrap().path()).next().unwrap();
    let export = home.path("export.asc");
    for (bytes, sentence, helps) in [
        (Vec::new(), "is empty: nothing was exported", "export again"),
        (
            b"\n".to_vec(),
            "is empty: nothing was exported",
            "export again",
        ),
        (
            b"gpg: no key\n".to_vec(),
            "not a secret key",
            "export-secret-keys",
        ),
        (
            std::fs::read(&certificate).unwrap(),
            "no secret key in it",
            "only the certificate",
        ),
    ] {
        std::fs::write(&export, bytes).unwrap();
        let before = everything_in(home.dir.path());
        let mut command = home.dds();
        command.args(["init", "--key"]).arg(&export);
        let told = assert_tells("dds", command, 3, sentence);
        assert!(told.contains(helps), "{told}");
        assert!(everything_in(home.dir.path()) == before);
    }
    // The same where the identity would be.
    std::fs::create_dir_all(home.path(".config/dds")).unwrap();
    std::fs::write(home.path(".config/dds/identity.asc"), "").unwrap();
    let identity = home.path(".config/dds/identity.asc");
    std::fs::set_permissions(identity, std::fs::Permissions::from_mode(0o600)).unwrap();
    let command = with(home.dds(), "init");
    assert_tells("dds", command, 3, "identity.asc: the file is empty");
    assert!(!home.path("documents-btsync").exists());
}

/// A key whose protection is not supported is named, and nobody is asked for its passphrase.
#[test]
fn a_key_in_a_form_that_does_not_open_is_named_before_a_passphrase_is_asked_for() {
    use sequoia_openpgp::parse::Parse as _;
    use sequoia_openpgp::serialize::SerializeInto as _;
    let home = prepared(None);
    let passphrase = dds::plaintext::Passphrase::of(PASSPHRASE.as_bytes()).unwrap();
    let profile = dds::openpgp::Profile::Compatible;
    let made = dds::openpgp::generate("carol", Some(&passphrase), profile).unwrap();
    let carol = sequoia_openpgp::Cert::from_bytes(&made.secret).unwrap();
    let mut bytes = carol.as_tsk().to_vec().unwrap();
    // A digest over the numbers, AES-256, an iterated and salted SHA-256: AES becomes Twofish.
    let aes = [254, 9, 3, 8];
    for at in 0..bytes.len() - aes.len() {
        if bytes[at..].starts_with(&aes) {
            bytes[at + 1] = 10;
        }
    }
    let key = home.path("twofish.pgp");
    std::fs::write(&key, bytes).unwrap();
    let asked = home.path("asked");
    let ask = format!("touch {}; echo {PASSPHRASE}", asked.display());
    let named = "is protected with Twofish, which is not supported";
    let before = everything_in(home.dir.path());
    let mut command = home.dds_mount();
    command
        .args(["--passphrase-command", &ask, "--key"])
        .arg(&key);
    let told = assert_tells("dds-mount", with(command, home.path("secure")), 3, named);
    let helps = format!("gpg --import {}", key.display());
    assert!(told.contains(&helps), "{told}");
    assert!(!asked.exists());
    assert_harmless(&home.path("secure"));
    for more in [&[][..], &["--key-in-place"]] {
        let other = Home::new();
        let mut command = other.dds();
        command.args(["init", "--key"]).arg(&key).args(more);
        let told = assert_tells("dds", command, 3, named);
        assert!(told.contains(&helps), "{told}");
        assert!(everything_in(other.dir.path()).is_empty());
    }
    assert!(everything_in(home.dir.path()) == before);
}

#[test]
fn init_warns_of_a_user_id_without_a_mail_address() {
    for (user_id, warned) in [
        ("Alice", true),
        ("Alice (at home)", true),
        ("Alice <alice@example.org>", false),
        ("alice@example.org", false),
    ] {
        let home = Home::new();
        let mut command = home.dds();
        command.args(["init", "--no-passphrase", "--user-id", user_id]);
        let made = run(command);
        assert_eq!(made.code, Some(0), "{}", made.err);
        assert_eq!(made.err.contains("no mail address"), warned, "{}", made.err);
        assert_eq!(made.err.contains("hint: "), warned, "{}", made.err);
    }
}

/// Nobody was asked for a name, so nobody is warned of the one that was found; but told how to
/// choose another.
#[test]
fn init_says_how_to_choose_a_name_where_none_was_given() {
    let login = Command::new("id").arg("-un").output().unwrap();
    let login = String::from_utf8(login.stdout).unwrap();
    for (variable, name) in [(Some("zoe"), "zoe"), (None, login.trim_end())] {
        let home = Home::new();
        let init = || {
            let mut command = home.dds();
            command.env_remove("LOGNAME").env_remove("USER");
            command.args(["init", "--no-passphrase"]);
            command
        };
        let mut command = init();
        if let Some(name) = variable {
            command.env("USER", name);
        }
        let made = run(command);
        assert_eq!(
            (made.code, made.err.as_str()),
            (Some(0), ""),
            "{}",
            made.out
        );
        let said = format!("name: {name}, the login name");
        assert!(made.out.contains(&said), "{}", made.out);
        // As it is said there.
        let lines = made.out.lines().filter_map(|line| line.strip_prefix("  "));
        let lines: Vec<_> = lines
            .filter(|line| !line.starts_with("dds-mount"))
            .collect();
        let [away, again] = lines[..] else {
            panic!("{}", made.out)
        };
        let mut shell = home.command("sh");
        let again =
            format!("{again} --no-passphrase").replace("Name <mail>", "Zoe <zoe@example.org>");
        let program = env!("CARGO_BIN_EXE_dds");
        let again = again.replacen("dds", program, 1);
        shell.arg("-ec").arg(format!("{away}\n{again}"));
        let anew = run(shell);
        assert_eq!(
            (anew.code, anew.err.as_str()),
            (Some(0), ""),
            "{}",
            anew.out
        );
        assert!(!anew.out.contains("login name"), "{}", anew.out);
        let keys = std::fs::read_dir(home.path("documents-btsync/keys")).unwrap();
        assert_eq!(keys.count(), 1);
    }
}

/// Answers the questions of `dds init` in a terminal of its own, which `script` gives it.
fn typed(home: &Home, answers: &[&str]) -> Ended {
    let mut command = home.command("script");
    let program = env!("CARGO_BIN_EXE_dds");
    let init = format!("{program} init --user-id 'Alice <alice@example.org>'");
    command.args(["--quiet", "--return", "--command"]);
    command.arg(init).arg("/dev/null");
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (mut typing, mut shown) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let (mut out, mut answers) = (String::new(), answers.iter());
    let mut answered = 0;
    let mut some = [0; 4096];
    loop {
        let read = shown.read(&mut some).unwrap();
        if read == 0 {
            break;
        }
        out += &String::from_utf8_lossy(&some[..read]);
        let questions = ["? [Y/n] ", "the new key: ", "the same again: "];
        let is_question = questions.iter().any(|question| out.ends_with(question));
        if is_question && out.len() > answered {
            answered = out.len();
            let answer = answers
                .next()
                .unwrap_or_else(|| panic!("too much is asked: {out}"));
            writeln!(typing, "{answer}").unwrap();
        }
    }
    Ended {
        code: child.wait().unwrap().code(),
        out,
        err: String::new(),
    }
}

#[test]
fn two_passphrases_that_differ_are_asked_for_again() {
    if !installed("script") {
        return;
    }
    let home = Home::new();
    let said = typed(&home, &["y", "first", "second", "third", "third"]);
    assert_eq!(said.code, Some(0), "{}", said.out);
    assert_eq!(
        said.out.matches("the two differ").count(),
        1,
        "{}",
        said.out
    );
    assert!(home.path(".config/dds/identity.asc").exists());
    // Not for ever.
    let home = Home::new();
    let said = typed(&home, &["y", "a", "b", "c", "d", "e", "f"]);
    assert_eq!(said.code, Some(4), "{}", said.out);
    assert!(
        said.out.contains("the two passphrases differ"),
        "{}",
        said.out
    );
    assert!(!home.path(".config/dds/identity.asc").exists());
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    let home = prepared(None);
    let key = home.path(".config/dds/identity.asc");
    let permit = |key: &Path, mode| {
        std::fs::set_permissions(key, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let refused = || {
        let init = with(home.dds(), "init");
        let told = assert_tells("dds", init, 3, "others can read it");
        assert!(told.contains("hint: chmod 600 "), "{told}");
        if can_mount() {
            let command = with(home.dds_mount(), home.path("secure"));
            assert_refused(&home, command, 3, "others can read it");
        }
    };
    for open in [0o644, 0o640, 0o604, 0o620, 0o666] {
        permit(&key, open);
        refused();
    }
    permit(&key, 0o400);
    assert_eq!(run(with(home.dds(), "init")).code, Some(0));
    // One that the configuration names, and by a link.
    let elsewhere = home.path("my key.asc");
    std::fs::rename(&key, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &key).unwrap();
    permit(&elsewhere, 0o640);
    refused();
    std::fs::remove_file(&key).unwrap();
    let config = home.path(".config/dds/config.toml");
    std::fs::write(&config, "keys = [\"~/my key.asc\"]\n").unwrap();
    refused();
    permit(&elsewhere, 0o600);
    assert_eq!(run(with(home.dds(), "init")).code, Some(0));
}

#[test]
fn a_store_that_is_mounted_is_named_before_a_passphrase_is_asked_for() {
    if !can_mount() {
        return;
    }
    let home = prepared(Some(PASSPHRASE));
    let place = home.path("here");
    let mut command = home.dds_mount();
    command
        .args(["--passphrase-fd", "0"])
        .stdin(piped(PASSPHRASE));
    let mount = Mount::start(command, &place);
    let asked = home.path("asked");
    let mut command = home.dds_mount();
    command.arg("--passphrase-command");
    command.arg(format!("touch {}", asked.display()));
    let command = with(command, home.path("elsewhere"));
    let sentence = format!("it is mounted on {} already", place.display());
    let told = assert_tells("dds-mount", command, 1, &sentence);
    assert!(told.contains("hint: dds lock "), "{told}");
    assert!(!asked.exists() && !home.path("elsewhere").exists());
    mount.unmount();
    // What is left of a mount that is gone keeps nobody.
    let mut command = home.dds_mount();
    command
        .args(["--passphrase-fd", "0"])
        .stdin(piped(PASSPHRASE));
    Mount::start(command, &home.path("elsewhere")).unmount();
}

#[test]
fn every_failure_has_a_second_line() {
    let home = prepared(None);
    let pins = |text: &str| {
        let store = home.path("documents-btsync").canonicalize().unwrap();
        let digest = dds_store_name(&store);
        let dir = home.path(".config/dds").join(digest);
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("contacts.toml"), text).unwrap();
    };
    let fingerprint = "0123456789ABCDEF0123456789ABCDEF01234567";
    let one =
        |name: &str| format!("[[contact]]\nname = \"{name}\"\nfingerprint = \"{fingerprint}\"\n");
    if can_mount() {
        for (text, sentence) in [
            (one("bob") + &one("carol"), "is here twice"),
            (one("bob") + &one("bob"), "a second contact is called bob"),
            ("nonsense".to_owned(), "contacts.toml, line 1"),
        ] {
            pins(&text);
            let command = with(home.dds_mount(), home.path("secure"));
            assert_refused(&home, command, 3, sentence);
        }
    }
    let key = home.path(".config/dds/identity.asc");
    std::fs::write(&key, "no key").unwrap();
    let command = with(home.dds(), "init");
    assert_tells("dds", command, 3, "not a secret key");
    let home = Home::new();
    std::fs::write(home.path("file"), "").unwrap();
    let mut command = home.dds();
    command.args(["init", "--no-passphrase", "--store"]);
    let command = with(command, home.path("file"));
    let ended = run(command);
    assert_eq!(ended.code, Some(3), "{}", ended.err);
    let lines: Vec<_> = ended.err.lines().collect();
    assert!(lines[0].starts_with("dds: store "), "{lines:?}");
    assert!(
        lines[1].starts_with("dds: hint: ") && lines.len() == 2,
        "{lines:?}"
    );
}

/// Names a store as its directories are named.
fn dds_store_name(store: &Path) -> String {
    use sha2::Digest as _;
    let digest = sha2::Sha256::digest(store.as_os_str().as_encoded_bytes());
    digest[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[test]
fn init_without_a_passphrase_to_be_had_makes_no_key() {
    let home = Home::new();
    let mut command = home.command("setsid");
    command.arg("--wait").arg(env!("CARGO_BIN_EXE_dds"));
    command.arg("init");
    assert_tells("dds", command, 4, "there is no terminal");
    let mut command = home.dds();
    command.args(["init", "--passphrase-fd", "0"]);
    command.stdin(piped(""));
    assert_tells("dds", command, 4, "the passphrase is empty");
    assert!(!home.path(".config/dds/identity.asc").exists());
    assert!(!home.path("documents-btsync").exists());
}

#[test]
fn what_init_makes_is_mounted_and_imported_by_gpg() {
    for more in [&[][..], &["--modern"]] {
        let home = Home::new();
        init(&home, Some(PASSPHRASE), more);
        if can_mount() {
            let mut command = home.dds_mount();
            command
                .args(["--passphrase-fd", "0"])
                .stdin(piped(PASSPHRASE));
            let mount = Mount::start(command, &home.path("secure"));
            std::fs::write(mount.path("notes/me/a"), "a").unwrap();
            mount.unmount();
        }
        if !installed("gpg") {
            continue;
        }
        let gnupg = Gnupg::new(PASSPHRASE);
        let keys = std::fs::read_dir(home.path("documents-btsync/keys")).unwrap();
        let files: Vec<_> = keys.map(|entry| entry.unwrap().path()).collect();
        assert_eq!(files.len(), 1);
        let certificate = std::fs::read(&files[0]).unwrap();
        gnupg.import(&certificate);
        let fingerprint = gnupg.fingerprint("Alice <alice@example.org>");
        let name = files[0].file_stem().unwrap().to_str().unwrap();
        assert_eq!(name, fingerprint);
        let packets = gnupg.packets(&files[0]);
        assert!(!packets.contains("secret"), "{packets}");
        let secret = std::fs::read(home.path(".config/dds/identity.asc")).unwrap();
        gnupg.import(&secret);
        let listed = gnupg.run(&["--with-colons", "--list-secret-keys"]);
        let listed = String::from_utf8(listed).unwrap();
        assert!(listed.contains(&fingerprint), "{listed}");
        // The passphrase is the one that was given.
        gnupg.run(&["--armor", "--export-secret-keys", "Alice"]);
        let revocation = std::fs::read(home.path(".config/dds/identity.rev.asc")).unwrap();
        gnupg.import(&revocation);
        let listed = gnupg.run(&["--with-colons", "--list-keys"]);
        assert!(String::from_utf8(listed).unwrap().contains("pub:r:"));
    }
}

/// Options in the words of `--help`: those at the beginning of a line, both forms.
fn options_in_help(program: &str, arguments: &[&str]) -> Vec<String> {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text
        .lines()
        .map(str::trim_start)
        .filter(|line| line.starts_with('-'));
    let words = lines.flat_map(|line| {
        line.split(' ')
            .take_while(|word| !word.is_empty())
            .filter(|word| word.starts_with('-'))
    });
    let mut options: Vec<_> = words
        .map(|word| word.trim_end_matches(',').to_owned())
        .collect();
    options.sort();
    options.dedup();
    options
}

/// Options that have an entry of their own in a manual page.
fn options_in_manual(page: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(page).unwrap();
    let entries = text.lines().filter(|line| line.starts_with(".It Fl "));
    let mut options = Vec::new();
    for entry in entries {
        let mut words = entry.split(' ');
        while let Some(word) = words.next() {
            if word == "Fl" {
                options.push(format!("-{}", words.next().unwrap()));
            }
        }
    }
    options.sort();
    options.dedup();
    options
}

#[test]
fn the_manual_has_every_option_and_no_other() {
    let man = Path::new(env!("CARGO_MANIFEST_DIR")).join("man");
    let (mount, tool) = (env!("CARGO_BIN_EXE_dds-mount"), env!("CARGO_BIN_EXE_dds"));
    let mut of_tool = options_in_help(tool, &["--help"]);
    for command in ["history", "init", "lock", "restore", "status", "verify"] {
        of_tool.extend(options_in_help(tool, &[command, "--help"]));
    }
    of_tool.sort();
    of_tool.dedup();
    for (page, in_help) in [
        ("dds-mount.1", options_in_help(mount, &["--help"])),
        ("dds.1", of_tool),
    ] {
        let page = man.join(page);
        assert!(in_help.len() >= 10, "{in_help:?}");
        assert_eq!(options_in_manual(&page), in_help, "{}", page.display());
    }
}

#[test]
fn the_manual_has_every_exit_code_and_errno() {
    let man = Path::new(env!("CARGO_MANIFEST_DIR")).join("man");
    let page = std::fs::read_to_string(man.join("dds-mount.1")).unwrap();
    let (_, codes) = page.split_once(".Sh EXIT STATUS").unwrap();
    let (codes, _) = codes.split_once(".Sh ").unwrap();
    let codes: Vec<_> = codes
        .lines()
        .filter_map(|line| line.strip_prefix(".It ")?.parse::<u8>().ok())
        .collect();
    use dds::cli::Exit;
    let known = [
        Exit::Ok,
        Exit::Failure,
        Exit::Usage,
        Exit::Setup,
        Exit::Passphrase,
        Exit::Mountpoint,
        Exit::Fuse,
    ];
    assert_eq!(codes, known.map(|code| code as u8));
    for name in [
        "ENOKEY",
        "EKEYEXPIRED",
        "EKEYREVOKED",
        "EKEYREJECTED",
        "EBADMSG",
        "EFBIG",
        "EXDEV",
        "EPERM",
        "EROFS",
        "EACCES",
        "ENOSPC",
        "EIO",
    ] {
        assert!(page.contains(&format!("Er {name}")), "{name}");
    }
}
