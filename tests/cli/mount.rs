//! `dds-mount`: every refusal before it mounts, and the begin and the end of a mount in the
//! background.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use super::ended::*;
use crate::support::gnupg::piped;
use crate::support::mount::{
    Home, Mount, Standing, can_mount, daemon_of, is_mounted, skipped, wait_for,
};

#[test]
fn a_wrong_passphrase() {
    needs!(mount);
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

#[test]
fn a_locked_key_without_a_terminal() {
    needs!(mount);
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
    needs!(mount);
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
    needs!(mount);
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
    needs!(mount);
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
    needs!(mount);
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
    needs!(mount);
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
    needs!(mount);
    let home = prepared(None);
    let mount = Mount::start(home.dds_mount(), &home.path("secure"));
    std::fs::write(mount.path("notes/me/a"), "a").unwrap();
    assert_eq!(mount.end_by(libc::SIGTERM), (Some(0), String::new()));
    assert_eq!(mounts_in(&home), [""; 0]);
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
    needs!(mount);
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
