//! Unmounting is locking: in whichever way it comes about and whatever is open, closed files are
//! saved, others are rescued, and mount, keys, page cache and process are gone.

mod messages;
mod mounts;
mod slow_disk;

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::mount::{Home, is_mounted, process_of, wait_for};
use crate::support::people::{Person, deliver, make_store, zeros};
use crate::support::scene::Scene;
use dds::ids::Folder;

fn signal(pid: i32, signal: i32) {
    // SAFETY: the process was started by this test.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
}

/// A child process that is ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_killed_daemon_leaves_a_clean_mountpoint() {
    needs!(mount);
    let scene = Scene::new(&["Bob"]);
    for round in 0..3 {
        scene.mount_in_background();
        fs::write(scene.path(&format!("notes/me/{round}")), "saved").unwrap();
        let open = File::open(scene.path("notes/me/0")).unwrap();
        signal(scene.pid(), libc::SIGKILL);
        scene.assert_locked();
        drop(open);
    }
    scene.mount_in_background();
    for round in 0..3 {
        let saved = fs::read(scene.path(&format!("notes/me/{round}"))).unwrap();
        assert_eq!(saved, b"saved");
    }
    signal(scene.pid(), libc::SIGTERM);
    scene.assert_locked();
}

/// Many files, each of which takes long to open.
fn fill(store: &Path, me: &Person) {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    for _ in 0..200 * threads {
        deliver(store, Folder::Messages, &zeros(me, 60 << 20));
    }
}

/// Number of files that a mount has not opened yet.
fn unopened(scene: &Scene) -> usize {
    let status = fs::read_to_string(scene.path(".dds/status")).unwrap_or_default();
    let mut lines = status.lines();
    let number = lines.find_map(|line| line.strip_prefix("files not opened yet: "));
    number.map_or(0, |number| number.parse().unwrap())
}

/// Mounts, and waits until it is served and has begun to read the store.
fn begin(scene: &Scene) -> Running {
    let mut command = scene.command();
    command.arg("--foreground").arg(scene.mountpoint());
    let daemon = Running(command.spawn().unwrap());
    wait_for("the mount is served", || {
        is_mounted(&scene.mountpoint()) && unopened(scene) > 0
    });
    daemon
}

/// Waits for the end, which is a regular one.
fn assert_ends(mut daemon: Running) {
    let mut ended = None;
    wait_for("dds-mount ends", || {
        ended = daemon.0.try_wait().unwrap();
        ended.is_some()
    });
    assert_eq!(ended.unwrap().code(), Some(0));
}

/// What the store holds decides how long it takes to read it, and not how long anything else does.
#[test]
fn it_serves_and_locks_while_it_reads_the_store_for_the_first_time() {
    needs!(mount);
    let home = Home::new();
    let me = Person::new("Alice");
    let store = make_store(
        home.dir.path(),
        &[("me", &me), ("bob", &Person::new("Bob"))],
    );
    fill(&store, &me);
    let scene = Scene::of(&me, home, store);

    // In the background once it is usable, or after a while all the same.
    let mut command = scene.command();
    let begun = command.arg(scene.mountpoint()).output().unwrap();
    let said = String::from_utf8_lossy(&begun.stderr);
    assert_eq!(begun.status.code(), Some(0), "{said}");
    assert!(said.contains("the store is still being read: "), "{said}");
    assert!(said.contains("dds status"), "{said}");
    fs::write(scene.path("notes/me/now"), "saved").unwrap();
    assert_eq!(fs::read(scene.path("notes/me/now")).unwrap(), b"saved");
    assert!(fs::read_dir(scene.path("keys")).unwrap().count() > 0);
    assert!(unopened(&scene) > 0, "too few files for this machine");
    let mut lock = scene.home.dds();
    let locked = lock.arg("lock").arg(scene.mountpoint()).output().unwrap();
    let said = String::from_utf8_lossy(&locked.stderr);
    assert_eq!((locked.status.code(), &*said), (Some(0), ""));
    scene.assert_locked();

    let daemon = begin(&scene);
    fs::write(scene.path("notes/me/then"), "saved").unwrap();
    assert!(unopened(&scene) > 0, "too few files for this machine");
    signal(scene.pid(), libc::SIGTERM);
    assert_ends(daemon);
    scene.assert_locked();

    let daemon = begin(&scene);
    fs::write(scene.path("notes/me/at last"), "saved").unwrap();
    assert!(unopened(&scene) > 0, "too few files for this machine");
    crate::support::mount::unmount(&scene.mountpoint());
    assert_ends(daemon);
    scene.assert_locked();
}

#[test]
fn a_killed_keeper_is_told_and_what_it_leaves_is_cleaned_by_the_next_mount() {
    needs!(mount);
    let scene = Scene::new(&["Bob"]);
    // The daemon goes on without it, and still ends when asked.
    scene.mount_in_background();
    signal(scene.keeper(), libc::SIGKILL);
    fs::write(scene.path("notes/me/a"), "saved").unwrap();
    let pid = scene.pid();
    signal(pid, libc::SIGTERM);
    wait_for("the daemon ends", || {
        !Path::new(&format!("/proc/{pid}")).exists()
    });
    // Both are killed: a dead mount is left.
    scene.mount_in_background();
    assert_eq!(fs::read(scene.path("notes/me/a")).unwrap(), b"saved");
    let (pid, keeper) = (scene.pid(), scene.keeper());
    signal(keeper, libc::SIGSTOP);
    signal(pid, libc::SIGKILL);
    signal(keeper, libc::SIGKILL);
    wait_for("both are gone", || {
        process_of(&scene.mountpoint(), "dds-keeper").is_none()
    });
    assert!(is_mounted(&scene.mountpoint()));
    scene.mount_in_background();
    assert_eq!(fs::read(scene.path("notes/me/a")).unwrap(), b"saved");
    signal(scene.pid(), libc::SIGTERM);
    scene.assert_locked();
}

#[test]
fn every_signal_locks_whatever_is_open() {
    needs!(mount);
    for number in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
        let scene = Scene::new(&["Bob"]);
        scene.mount_in_background();
        fs::write(scene.path("notes/me/closed.txt"), "closed").unwrap();
        let shell = Command::new("sleep")
            .arg("1000")
            .current_dir(scene.path("notes/me"))
            .spawn();
        let _shell = Running(shell.unwrap());
        let mut clean = File::open(scene.path("notes/me/closed.txt")).unwrap();
        let mut dirty = File::create(scene.path("messages/bob/draft.txt")).unwrap();
        dirty.write_all(b"half a message").unwrap();
        signal(scene.pid(), number);
        scene.assert_locked();
        // What the kernel remembered of the files is gone, too.
        let mut bytes = Vec::new();
        assert!(clean.read_to_end(&mut bytes).is_err(), "{bytes:?}");
        assert!(dirty.write_all(b"more").is_err());
        drop(dirty);
        scene.mount_in_background();
        assert_eq!(
            fs::read(scene.path("notes/me/closed.txt")).unwrap(),
            b"closed"
        );
        let rescued = fs::read(scene.path(".dds/rescued/draft.txt")).unwrap();
        assert_eq!(rescued, b"half a message");
        assert!(crate::support::people::blobs(&scene.store, dds::ids::Folder::Messages).is_empty());
        signal(scene.pid(), libc::SIGTERM);
        scene.assert_locked();
    }
}

#[test]
fn what_was_read_before_is_not_readable_afterwards() {
    needs!(mount);
    let scene = Scene::new(&["Bob"]);
    scene.mount_in_background();
    fs::write(scene.path("notes/me/a.txt"), vec![b'a'; 100_000]).unwrap();
    let mut file = File::open(scene.path("notes/me/a.txt")).unwrap();
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes.len(), 100_000);
    signal(scene.pid(), libc::SIGTERM);
    scene.assert_locked();
    file.seek(SeekFrom::Start(0)).unwrap();
    let mut again = [0; 10];
    assert!(file.read(&mut again).is_err(), "{again:?}");
}

/// Maps a file, writes to the mapping, tells so, waits, and looks at the mapping again.
const MAPPING: &str = "
import mmap, os, sys
file = os.open(sys.argv[1], os.O_RDWR)
mapping = mmap.mmap(file, 0)
os.close(file)
mapping[0:6] = b'mapped'
print('ready', flush=True)
sys.stdin.readline()
print(mapping[0:6].decode(), flush=True)
";

#[test]
fn what_was_mapped_is_saved_and_not_readable_afterwards() {
    needs!(mount, "python3");
    let scene = Scene::new(&["Bob"]);
    scene.mount_in_background();
    let path = scene.path("notes/me/a.txt");
    fs::write(&path, "before, and more").unwrap();
    let mut program = Command::new("python3");
    program.args(["-c", MAPPING]).arg(&path);
    program.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut program = Running(program.spawn().unwrap());
    let mut said = program.0.stdout.take().unwrap();
    let mut ready = [0; 6];
    said.read_exact(&mut ready).unwrap();
    assert_eq!(&ready, b"ready\n");
    signal(scene.pid(), libc::SIGTERM);
    scene.assert_locked();
    writeln!(program.0.stdin.take().unwrap()).unwrap();
    let ended = program.0.wait().unwrap();
    use std::os::unix::process::ExitStatusExt as _;
    assert_eq!(ended.signal(), Some(libc::SIGBUS), "{ended}");
    scene.mount_in_background();
    let saved = fs::read(&path).unwrap();
    let rescued = fs::read(scene.path(".dds/rescued/a.txt")).unwrap_or_default();
    // Its descriptor was closed, so it is saved where it belongs once the kernel hands it over.
    assert!(
        saved == b"mapped, and more" || rescued == b"mapped, and more",
        "{saved:?} {rescued:?}"
    );
    signal(scene.pid(), libc::SIGTERM);
    scene.assert_locked();
}

#[test]
fn umount_of_a_busy_mount_says_so_and_a_lazy_one_locks() {
    needs!(mount);
    let scene = Scene::new(&["Bob"]);
    scene.mount_in_background();
    fs::write(scene.path("notes/me/a.txt"), "a").unwrap();
    let mut open = File::open(scene.path("notes/me/a.txt")).unwrap();
    let plain = |options: &[&str]| {
        let mut unmount = Command::new("fusermount3");
        let done = unmount.args(options).arg(scene.mountpoint()).status();
        done.unwrap().success()
    };
    assert!(!plain(&["-u", "-q"]), "it is in use");
    assert_eq!(fs::read(scene.path("notes/me/a.txt")).unwrap(), b"a");
    assert!(plain(&["-u", "-q", "-z"]));
    scene.assert_locked();
    assert!(open.read(&mut [0]).is_err());
}

#[test]
fn killed_at_the_prompt_it_leaves_the_bare_mountpoint_closed() {
    needs!(mount);
    let scene = Scene::new(&["Bob"]);
    scene.mount_in_background();
    signal(scene.pid(), libc::SIGTERM);
    scene.assert_locked();
    let passphrase = dds::plaintext::Passphrase::of(b"correct horse").unwrap();
    let profile = dds::openpgp::Profile::Compatible;
    let made = dds::openpgp::generate("Alice <a@example.org>", Some(&passphrase), profile);
    fs::write(
        scene.home.path(".config/dds/identity.asc"),
        &*made.unwrap().secret,
    )
    .unwrap();
    let asked = scene.home.path("asked");
    let mut command = scene.command();
    let ask = format!(
        "echo $$ > {0}.new; mv {0}.new {0}; exec sleep 1000",
        asked.display()
    );
    command
        .args(["--passphrase-command", &ask])
        .arg(scene.mountpoint());
    let mut prompting = Running(command.spawn().unwrap());
    wait_for("it asks", || asked.exists());
    signal(prompting.0.id().try_into().unwrap(), libc::SIGTERM);
    prompting.0.wait().unwrap();
    let asking = fs::read_to_string(&asked).unwrap();
    signal(asking.trim().parse().unwrap(), libc::SIGKILL);
    scene.assert_locked();
}

#[test]
fn what_the_caller_left_open_is_closed() {
    needs!(mount);
    let scene = Scene::new(&["Bob"]);
    let left = scene.home.path("left open");
    fs::write(&left, "a secret of the caller").unwrap();
    let mount = scene.command();
    let mut shell = scene.home.command("bash");
    shell
        .arg("-c")
        .arg("exec 9<\"$1\"; shift; exec \"$@\"")
        .arg("bash")
        .arg(&left);
    shell
        .arg(mount.get_program())
        .args(mount.get_args())
        .arg(scene.mountpoint());
    assert!(shell.status().unwrap().success());
    for pid in [scene.pid(), scene.keeper()] {
        let open = fs::read_dir(format!("/proc/{pid}/fd"));
        let Ok(open) = open else {
            continue; // Not ours to see: the process is hidden, and this is no root.
        };
        let paths = open.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        assert!(!paths.into_iter().any(|path| path == left), "{pid}");
    }
    signal(scene.pid(), libc::SIGTERM);
    scene.assert_locked();
}
