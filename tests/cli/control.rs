//! `dds status`, `dds lock`, `dds-mount --idle`, and the socket behind them.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::mount::{
    Home, PATIENCE, Standing, daemon_of, is_mounted, process_of, skipped, wait_for,
};
use dds::ids::{BlobKind, Folder};
use serde_json::Value;

use crate::support::people::{Blob, Person};

use super::ended::{Ended, run};

/// A home with two stores, and mounts in the background, which go when the test ends.
struct Desk {
    home: Home,
}

impl Drop for Desk {
    fn drop(&mut self) {
        for name in ["secure", "other"] {
            if is_mounted(&self.home.path(name)) {
                let mut away = Command::new("fusermount3");
                let _ = away
                    .args(["-u", "-z", "-q"])
                    .arg(self.home.path(name))
                    .status();
            }
        }
    }
}

impl Desk {
    fn new() -> Desk {
        let desk = Desk { home: Home::new() };
        for store in ["documents-btsync", "second"] {
            let store = desk.path(store);
            let store = store.to_str().unwrap();
            let new = ["--no-passphrase"];
            let new = &new[..usize::from(!desk.path(".config/dds").exists())];
            let made = desk.dds(&[&["init", "--store", store], new].concat());
            assert_eq!(made.code, Some(0), "{}", made.err);
        }
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path(name)
    }

    /// Gives the programs a runtime directory.
    fn command(&self, program: &str) -> Command {
        let mut command = self.home.command(program);
        let runtime = self.path("run");
        if runtime.exists() {
            command.env("XDG_RUNTIME_DIR", runtime);
        }
        command
    }

    #[track_caller]
    fn dds(&self, arguments: &[&str]) -> Ended {
        let mut command = self.command(env!("CARGO_BIN_EXE_dds"));
        run(command.args(arguments).current_dir(self.home.dir.path()))
    }

    /// Mounts in the background, and returns the mountpoint.
    #[track_caller]
    fn mount(&self, name: &str, arguments: &[&str]) -> PathBuf {
        let mut command = self.command(env!("CARGO_BIN_EXE_dds-mount"));
        // Not pipes: their reader would wait for the daemon.
        command.args(arguments).arg(self.path(name));
        let ended = run(&mut command);
        assert_eq!((ended.code, &*ended.err), (Some(0), ""));
        self.path(name)
    }

    /// The one socket of the state directories.
    fn socket(&self) -> PathBuf {
        let stores = std::fs::read_dir(self.path(".local/state/dds")).unwrap();
        let mut sockets = stores
            .map(|store| store.unwrap().path().join("control.sock"))
            .filter(|socket| socket.exists());
        let socket = sockets.next().expect("a socket");
        assert_eq!(sockets.next(), None);
        socket
    }

    #[track_caller]
    fn status(&self) -> Value {
        let told = self.dds(&["status", "--json"]);
        assert_eq!((told.code, &*told.err), (Some(0), ""));
        serde_json::from_str(&told.out).unwrap()
    }
}

/// Asserts that mount, daemon and keeper of a mountpoint are gone, and its socket too.
#[track_caller]
fn assert_gone(mountpoint: &Path) {
    assert!(!is_mounted(mountpoint));
    assert_eq!(process_of(mountpoint, "dds-mount"), None);
    // It ends when it sees that the daemon has.
    wait_for("the keeper's end", || {
        process_of(mountpoint, "dds-keeper").is_none()
    });
    // Made by dds-mount: nobody can save plaintext into it.
    let bare = std::fs::metadata(mountpoint).unwrap();
    assert_eq!(bare.mode() & 0o7777, 0o500);
}

#[track_caller]
fn assert_refused(ended: &Ended, sentence: &str) {
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let lines: Vec<_> = ended.err.lines().collect();
    let [first, second] = lines[..] else {
        panic!("not a line and a hint: {:?}", ended.err);
    };
    assert!(first.starts_with("dds: "), "{first:?}");
    assert!(first.contains(sentence), "{first:?}");
    assert!(second.starts_with("dds: hint: "), "{second:?}");
}

#[test]
fn status_tells_how_things_stand() {
    needs!(mount);
    let desk = Desk::new();
    let mountpoint = desk.mount("secure", &[]);
    let text = desk.dds(&["status"]);
    assert_eq!((text.code, &*text.err), (Some(0), ""));
    let shown = std::fs::read_to_string(mountpoint.join(".dds/status")).unwrap();
    assert_eq!(text.out, shown);
    for line in [
        format!("mountpoint: {}", mountpoint.display()),
        format!("store: {}", desk.path("documents-btsync").display()),
        "unsaved files: 0".to_owned(),
        "rescued files: 0".to_owned(),
        "problems: none".to_owned(),
    ] {
        assert!(text.out.lines().any(|told| told == line), "{}", text.out);
    }
    let mut draft = File::create(mountpoint.join("notes/me/draft.txt")).unwrap();
    draft.write_all(b"half a sentence").unwrap();
    std::fs::write(mountpoint.join("notes/me/.draft.txt.swp"), "swap").unwrap();
    let text = desk.dds(&["status", mountpoint.to_str().unwrap()]).out;
    assert!(
        text.contains("\nunsaved files: 1\nunsaved: notes/me/draft.txt\nscratch files: 1\n"),
        "{text}"
    );
    let status = desk.status();
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["mountpoint"], mountpoint.to_str().unwrap());
    assert_eq!(
        status["store"],
        desk.path("documents-btsync").to_str().unwrap()
    );
    assert_eq!(status["unsaved"], serde_json::json!(["notes/me/draft.txt"]));
    assert_eq!(status["scratch_files"], 1);
    assert_eq!(status["identity"].as_str().unwrap().len(), 40);
    let since = status["mounted_since"].as_str().unwrap();
    assert!(since.starts_with("20") && since.ends_with('Z'), "{since}");
    for list in ["rescued", "problems", "contacts"] {
        assert_eq!(status[list], serde_json::json!([]), "{list}");
    }
    for list in ["sandbox", "locked_memory"] {
        assert!(status[list].is_array(), "{list}");
    }
    drop(draft);
    assert_eq!(desk.dds(&["lock"]).code, Some(0));
    assert_refused(&desk.dds(&["status"]), "no mount of this store is running");
}

impl Desk {
    /// Lines of the status that begin with a word.
    #[track_caller]
    fn lines(&self, word: &str) -> Vec<String> {
        let told = self.dds(&["status"]);
        assert_eq!((told.code, &*told.err), (Some(0), ""));
        let lines = told.out.lines().filter(|line| line.starts_with(word));
        lines.map(str::to_owned).collect()
    }
}

#[test]
fn status_tells_what_is_wrong_as_long_as_it_is() {
    needs!(mount);
    let desk = Desk::new();
    let store = desk.path("documents-btsync");
    let (bob, carol) = (Person::new("Bob"), Person::new("Carol"));
    for (name, person) in [("bob", &bob), ("carol", &carol)] {
        let file = store.join("keys").join(format!("{name}.gpg"));
        std::fs::write(file, person.certificate().to_bytes()).unwrap();
    }
    let mountpoint = desk.mount("secure", &[]);
    // Not verified: told until it is so, also after a remount.
    let expect = |names: &[&str]| {
        wait_for("who is not verified", || {
            let told = desk.lines("problem: new contact");
            let named = |name: &&str| {
                told.iter()
                    .any(|line| line.contains(&format!("contact {name},")))
            };
            told.len() == names.len() && names.iter().all(named)
        });
    };
    expect(&["bob", "carol"]);
    assert_eq!(desk.dds(&["lock"]).code, Some(0));
    desk.mount("secure", &[]);
    expect(&["bob", "carol"]);
    // It names the file and the line to be edited, and the fingerprint as people compare it.
    let line = &desk.lines("problem: new contact bob")[0];
    assert!(line.contains(&bob.fingerprint().in_groups()), "{line}");
    let (before, number) = line.rsplit_once(", line ").unwrap();
    let file = &before[before.find(" in /").unwrap() + 4..];
    let text = std::fs::read_to_string(file).unwrap();
    let mut lines: Vec<_> = text.lines().collect();
    let at = number.parse::<usize>().unwrap() - 1;
    assert_eq!(lines[at], "verified = false");
    assert!(
        lines[..at]
            .iter()
            .rfind(|line| line.starts_with("name"))
            .unwrap()
            .contains("bob")
    );
    lines[at] = "verified = true";
    std::fs::write(file, lines.join("\n") + "\n").unwrap();
    // Whoever looks up something looks at the pins.
    let _ = std::fs::read_dir(mountpoint.join("messages"))
        .unwrap()
        .count();
    expect(&["carol"]);
    let contacts = desk.lines("contact: ");
    assert_eq!(
        contacts,
        [
            format!("contact: bob {} (verified)", bob.fingerprint().in_groups()),
            format!(
                "contact: carol {} (not verified)",
                carol.fingerprint().in_groups()
            ),
        ]
    );
    // A damaged file.
    let me = std::fs::read(desk.path(".config/dds/identity.asc")).unwrap();
    let me = Person {
        identity: dds::openpgp::Identity::unlock(&me, None).unwrap(),
        secret: me,
    };
    let mut damaged = Blob::new(BlobKind::Message, &bob, &[&me, &bob], "x.txt").seal();
    let near_the_end = damaged.len() - 150;
    damaged[near_the_end] = if damaged[near_the_end] == b'A' {
        b'B'
    } else {
        b'A'
    };
    let name = crate::support::people::deliver(&store, Folder::Messages, &damaged);
    wait_for("the damaged file", || {
        desk.lines("problem: messages/unverified/").len() == 1
    });
    std::fs::remove_file(store.join("messages").join(name.file_name())).unwrap();
    wait_for("its end", || {
        desk.lines("problem: messages/unverified/").is_empty()
    });
    // What failed last.
    assert_eq!(desk.lines("last error: "), [""; 0]);
    assert!(std::fs::write(mountpoint.join("messages/Carol/x"), "x").is_err());
    let last = desk.lines("last error: ");
    assert!(
        last.len() == 1 && last[0].contains("messages/Carol: "),
        "{last:?}"
    );
    let status = desk.status();
    assert_eq!(status["errors"].as_array().unwrap().len(), 1);
    assert_eq!(desk.dds(&["lock"]).code, Some(0));
}

#[test]
fn times_are_those_of_the_place_and_fingerprints_in_groups() {
    needs!(mount);
    if !Path::new("/usr/share/zoneinfo/Asia/Kolkata").exists() {
        return skipped("times of another place: there is no tzdata");
    }
    let desk = Desk::new();
    let zone = |program: &str| {
        let mut command = desk.command(program);
        command.env("TZ", "Asia/Kolkata");
        command
    };
    let mounted = run(zone(env!("CARGO_BIN_EXE_dds-mount")).arg(desk.path("secure")));
    assert_eq!((mounted.code, &*mounted.err), (Some(0), ""));
    assert!(std::fs::write(desk.path("secure/messages/dave/x"), "x").is_err());
    let text = run(zone(env!("CARGO_BIN_EXE_dds")).arg("status")).out;
    let shown = std::fs::read_to_string(desk.path("secure/.dds/status")).unwrap();
    assert_eq!(text, shown);
    let line = |word: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(word))
            .unwrap()
    };
    assert!(line("mounted: ").ends_with(" +0530"), "{text}");
    assert!(
        line("last error: ").contains(" +0530 messages/dave: "),
        "{text}"
    );
    let groups: Vec<_> = line("identity: ").split(' ').collect();
    assert!(groups.len() == 10 && groups.iter().all(|group| group.len() == 4));
    let status = desk.status();
    assert_eq!(status["identity"], groups.concat());
    assert!(status["mounted_since"].as_str().unwrap().ends_with('Z'));
    assert_eq!(desk.dds(&["lock"]).code, Some(0));
}

#[test]
fn status_never_answers_for_a_mount_that_is_gone() {
    needs!(mount);
    let desk = Desk::new();
    let mountpoint = desk.mount("secure", &[]);
    // Taken out of the tree while a file is open: the daemon has still to end.
    let _shell = Standing::inside(&mountpoint.join("notes"));
    let away = Command::new("umount").arg("-l").arg(&mountpoint).status();
    if !away.is_ok_and(|ended| ended.success()) {
        let mut away = Command::new("fusermount3");
        away.args(["-u", "-z", "-q"]).arg(&mountpoint);
        assert!(away.status().unwrap().success());
    }
    assert_refused(&desk.dds(&["status"]), "no mount of this store is running");
    wait_for("its end", || process_of(&mountpoint, "dds-mount").is_none());
}

#[test]
fn lock_ends_mount_and_processes() {
    needs!(mount);
    let desk = Desk::new();
    let mountpoint = desk.mount("secure", &[]);
    std::fs::write(mountpoint.join("notes/me/a.txt"), "a").unwrap();
    let begun = Instant::now();
    let locked = desk.dds(&["lock"]);
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_eq!((locked.code, &*locked.err), (Some(0), ""));
    assert_eq!(locked.out, format!("locked: {}\n", mountpoint.display()));
    assert_gone(&mountpoint);
    // At once again, and the socket is there again.
    let mountpoint = desk.mount("secure", &[]);
    assert_eq!(
        std::fs::read(mountpoint.join("notes/me/a.txt")).unwrap(),
        b"a"
    );
    let socket = desk.socket();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!(
        (mode(&socket), mode(socket.parent().unwrap())),
        (0o600, 0o700)
    );
    assert_eq!(desk.dds(&["lock"]).code, Some(0));
    assert!(!socket.exists());
    assert_refused(&desk.dds(&["lock"]), "no mount of this store is running");
    assert_eq!(desk.dds(&["lock", "--all"]).code, Some(0));
}

#[test]
fn lock_works_while_files_are_open_and_rescues_what_is_being_written() {
    needs!(mount);
    let desk = Desk::new();
    let mountpoint = desk.mount("secure", &[]);
    let mut draft = File::create(mountpoint.join("notes/me/draft.txt")).unwrap();
    draft.write_all(b"half a sentence").unwrap();
    std::fs::write(mountpoint.join("notes/me/saved.txt"), "saved").unwrap();
    let mut reading = File::open(mountpoint.join("notes/me/saved.txt")).unwrap();
    let _shell = Standing::inside(&mountpoint.join("notes/me"));
    let begun = Instant::now();
    let locked = desk.dds(&["lock", "secure"]);
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_eq!((locked.code, &*locked.err), (Some(0), ""));
    assert_eq!(
        locked.out,
        format!(
            "locked: {}\nnot saved: notes/me/draft.txt (kept for you in .dds/rescued/ of the \
             next mount)\n",
            mountpoint.display()
        )
    );
    assert_gone(&mountpoint);
    assert!(draft.write_all(b", and the rest").is_err());
    assert!(reading.read(&mut [0; 5]).is_err());
    drop((draft, reading));
    let mountpoint = desk.mount("secure", &[]);
    let rescued = std::fs::read(mountpoint.join(".dds/rescued/draft.txt")).unwrap();
    assert_eq!(rescued, b"half a sentence");
    let status = desk.status();
    assert_eq!(
        status["rescued"],
        serde_json::json!([".dds/rescued/draft.txt"])
    );
    assert_eq!(desk.dds(&["lock"]).code, Some(0));
}

#[test]
fn one_of_two_mounts_is_found_by_mountpoint_by_store_and_by_configuration() {
    needs!(mount);
    let desk = Desk::new();
    std::fs::create_dir(desk.path("run")).unwrap();
    let second = desk.path("second");
    let second = second.to_str().unwrap();
    let one = desk.mount("secure", &[]);
    let two = desk.mount("other", &["--store", second]);
    let all = desk.dds(&["status", "--json"]).out;
    assert_eq!(all.lines().count(), 2);
    let mounted = desk.dds(&["status"]).out;
    assert_eq!(mounted.matches("\nmountpoint: ").count(), 2, "{mounted}");
    let told = desk.dds(&["status", "--store", second]).out;
    assert!(told.contains(two.to_str().unwrap()) && !told.contains(one.to_str().unwrap()));
    assert_refused(
        &desk.dds(&["status", "elsewhere"]),
        "no mount of this store",
    );
    // By a link to the mountpoint, and by its store.
    std::os::unix::fs::symlink(&two, desk.path("link")).unwrap();
    assert_eq!(desk.dds(&["lock", "link"]).code, Some(0));
    assert_gone(&two);
    assert!(is_mounted(&one));
    let two = desk.mount("other", &["--store", second]);
    assert_eq!(desk.dds(&["lock", "--store", second]).code, Some(0));
    assert_gone(&two);
    // Without an argument: the configured store's.
    let two = desk.mount("other", &["--store", second]);
    assert_eq!(desk.dds(&["lock"]).code, Some(0));
    assert_gone(&one);
    assert!(is_mounted(&two));
    // The only one, whatever is configured.
    assert_eq!(desk.dds(&["lock"]).code, Some(0));
    assert_gone(&two);
    // Neither is the configured one.
    let (one, two) = (
        desk.mount("secure", &[]),
        desk.mount("other", &["--store", second]),
    );
    std::fs::write(
        desk.path(".config/dds/config.toml"),
        "store = \"/nowhere\"\n",
    )
    .unwrap();
    let refused = desk.dds(&["lock"]);
    assert_refused(&refused, "several mounts are running: ");
    for mountpoint in [&one, &two] {
        assert!(refused.err.contains(mountpoint.to_str().unwrap()));
    }
    assert_eq!(desk.dds(&["lock", "--all"]).code, Some(0));
    assert_gone(&one);
    assert_gone(&two);
    let left = std::fs::read_dir(desk.path("run/dds")).unwrap();
    assert_eq!(left.count(), 0);
}

#[test]
fn the_socket_of_a_killed_daemon_is_replaced() {
    needs!(mount);
    let desk = Desk::new();
    let mountpoint = desk.mount("secure", &[]);
    let daemon = daemon_of(&mountpoint);
    // SAFETY: the process was started by this test.
    assert_eq!(unsafe { libc::kill(daemon, libc::SIGKILL) }, 0);
    wait_for("the keeper's work", || !is_mounted(&mountpoint));
    assert!(desk.socket().exists());
    assert_refused(&desk.dds(&["status"]), "no mount of this store is running");
    let mountpoint = desk.mount("secure", &[]);
    assert_eq!(desk.status()["unsaved"], serde_json::json!([]));
    assert_eq!(desk.dds(&["lock"]).code, Some(0));
    assert_gone(&mountpoint);
}

#[test]
fn a_socket_may_be_deep_below() {
    needs!(mount);
    let desk = Desk::new();
    let deep = desk.path(&"long/".repeat(40));
    std::fs::create_dir_all(&deep).unwrap();
    std::os::unix::fs::symlink(&deep, desk.path("run")).unwrap();
    let command = |program: &str| {
        let mut command = desk.home.command(program);
        command.env("XDG_RUNTIME_DIR", &deep);
        command
    };
    let mountpoint = desk.path("secure");
    let mounted = run(command(env!("CARGO_BIN_EXE_dds-mount")).arg(&mountpoint));
    assert_eq!((mounted.code, &*mounted.err), (Some(0), ""));
    let locked = run(command(env!("CARGO_BIN_EXE_dds")).arg("lock"));
    assert_eq!((locked.code, &*locked.err), (Some(0), ""));
    assert_gone(&mountpoint);
}

/// Says something to a socket, and reads one line.
fn answer(socket: &Path, said: &[u8]) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // What is too long is not taken to its end.
    let _ = stream.write_all(said);
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    line
}

#[test]
fn nonsense_silence_and_strangers_do_no_harm() {
    needs!(mount);
    let desk = Desk::new();
    let mountpoint = desk.mount("secure", &[]);
    let socket = desk.socket();
    let endless = vec![b'x'; 100_000];
    for (said, wanted) in [
        (&b"nonsense\n"[..], "expected"),
        (b"\xff\xfe\n", "expected"),
        (b"\n", "EOF"),
        (b"{\"command\":\"destroy\"}\n", "unknown variant"),
        (b"[\"command\"]\n", "unknown variant"),
        (&endless, "too long"),
    ] {
        let line = answer(&socket, said);
        let error: Value = serde_json::from_str(&line).unwrap();
        let error = error["error"].as_str().unwrap();
        assert!(error.contains(wanted), "{said:?}: {error}");
    }
    // One connection, two questions, the first of them wrong.
    let stream = UnixStream::connect(&socket).unwrap();
    (&stream)
        .write_all(b"what?\n{\"command\":\"status\"}\n")
        .unwrap();
    let lines: Vec<_> = BufReader::new(&stream).lines().take(2).collect();
    assert!(lines[1].as_ref().unwrap().starts_with("{\"status\":{"));
    // A peer that sends nothing, or half a line, keeps nobody waiting.
    let silent: Vec<_> = (0..5)
        .map(|_| {
            let mut stream = UnixStream::connect(&socket).unwrap();
            stream.write_all(b"{\"comm").unwrap();
            stream
        })
        .collect();
    let begun = Instant::now();
    assert_eq!(desk.status()["mountpoint"], mountpoint.to_str().unwrap());
    assert!(begun.elapsed() < Duration::from_secs(5));
    drop(silent);
    a_stranger_is_refused(&desk, &socket);
    assert_eq!(desk.dds(&["lock"]).code, Some(0));
    assert_gone(&mountpoint);
}

/// Other users cannot reach the socket; and one that does reach it is refused.
fn a_stranger_is_refused(desk: &Desk, socket: &Path) {
    if !rustix::process::geteuid().is_root() {
        skipped("a stranger at the control socket: needs root");
        return;
    }
    let home = desk.home.dir.path();
    let below = socket.parent().unwrap().ancestors();
    for directory in below.take_while(|directory| directory.starts_with(home)) {
        std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o666)).unwrap();
    let path = socket.to_owned();
    let stranger = std::thread::spawn(move || {
        const NOBODY: libc::c_long = 65534;
        // SAFETY: the system call, unlike the C function, changes this thread only, which ends.
        let changed = unsafe { libc::syscall(libc::SYS_setresuid, NOBODY, NOBODY, NOBODY) };
        assert_eq!(changed, 0);
        let mut stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // It may be closed already.
        let _ = stream.write_all(b"{\"command\":\"lock\"}\n");
        let mut said = Vec::new();
        // Closed with or without what we said having been read: nothing is answered.
        let _ = stream.read_to_end(&mut said);
        said
    });
    assert_eq!(stranger.join().unwrap(), b"");
    assert_eq!(desk.dds(&["status"]).code, Some(0));
}

/// Minutes after which the mounts of these tests lock, and the same in seconds.
const IDLE: (&str, Duration) = ("0.025", Duration::from_millis(1500));

#[test]
fn an_idle_mount_locks_though_a_file_is_open() {
    needs!(mount);
    let desk = Desk::new();
    let mountpoint = desk.mount("secure", &["--idle", IDLE.0]);
    std::fs::write(mountpoint.join("notes/me/a.txt"), "a").unwrap();
    let open = File::open(mountpoint.join("notes/me/a.txt")).unwrap();
    // Looking is no use, in the double sense.
    wait_for("the lock", || {
        let _ = std::fs::metadata(mountpoint.join("notes/me/a.txt"));
        let _ = desk.dds(&["status"]);
        process_of(&mountpoint, "dds-mount").is_none()
    });
    assert_gone(&mountpoint);
    drop(open);
}

#[test]
fn a_mount_in_use_does_not_lock() {
    needs!(mount);
    let desk = Desk::new();
    let mountpoint = desk.mount("secure", &["--idle", IDLE.0]);
    let file = mountpoint.join("notes/me/a.txt");
    let mut writing = File::create(&file).unwrap();
    let begun = Instant::now();
    while begun.elapsed() < 2 * IDLE.1 {
        writing.write_all(b"word ").unwrap();
        std::thread::sleep(IDLE.1 / 15);
    }
    drop(writing);
    let begun = Instant::now();
    while begun.elapsed() < 2 * IDLE.1 {
        assert!(std::fs::read(&file).unwrap().starts_with(b"word "));
        std::thread::sleep(IDLE.1 / 15);
    }
    wait_for("the lock", || {
        process_of(&mountpoint, "dds-mount").is_none()
    });
    assert_gone(&mountpoint);
}

#[test]
fn what_is_written_and_not_saved_keeps_an_idle_mount_from_locking() {
    needs!(mount);
    let desk = Desk::new();
    let mountpoint = desk.mount("secure", &["--idle", IDLE.0]);
    let mut writing = File::create(mountpoint.join("notes/me/a.txt")).unwrap();
    writing.write_all(b"word").unwrap();
    let begun = Instant::now();
    while begun.elapsed() < 2 * IDLE.1 {
        assert!(process_of(&mountpoint, "dds-mount").is_some());
        std::thread::sleep(IDLE.1 / 15);
    }
    drop(writing);
    wait_for("the lock", || {
        process_of(&mountpoint, "dds-mount").is_none()
    });
    assert_gone(&mountpoint);
    let mountpoint = desk.mount("secure", &[]);
    let saved = std::fs::read(mountpoint.join("notes/me/a.txt")).unwrap();
    assert_eq!(saved, b"word");
}

#[test]
fn idle_takes_a_positive_number_of_minutes() {
    let desk = Desk { home: Home::new() };
    for wrong in ["0", "-1", "soon", "inf", "nan", "1e300", ""] {
        let mut command = desk.command(env!("CARGO_BIN_EXE_dds-mount"));
        let ended = run(command.arg(format!("--idle={wrong}")).arg(desk.path("x")));
        assert_eq!(ended.code, Some(2), "{wrong}: {}", ended.err);
    }
}
