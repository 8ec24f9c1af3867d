//! Unmounting is locking: in whichever way it comes about and whatever is open, closed files are
//! saved, others are rescued, and mount, keys, page cache and process are gone.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::support::disk::Disk;
use crate::support::mount::{Home, daemon_of, is_mounted, process_of, skipped, wait_for};
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
fn a_copy_of_the_mount_in_another_namespace_does_not_keep_it_unlocked() {
    needs!(mount, root);
    let scene = Scene::new(&["Bob"]);
    scene.mount_in_background();
    fs::write(scene.path("notes/me/a.txt"), "a").unwrap();
    let copy = Command::new("unshare")
        .args([
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            "echo ready; exec sleep 1000",
        ])
        .stdout(Stdio::piped())
        .spawn();
    let mut copy = Running(copy.unwrap());
    copy.0
        .stdout
        .take()
        .unwrap()
        .read_exact(&mut [0; 6])
        .unwrap();
    crate::support::mount::unmount(&scene.mountpoint());
    scene.assert_locked();
}

/// A store on a disk that stops answering: a filesystem in user space whose server is stopped.
struct HangingDisk {
    server: Running,
    at: PathBuf,
}

impl HangingDisk {
    fn new(home: &Home) -> HangingDisk {
        let (cipher, at) = (home.path("cipher"), home.path("disk"));
        fs::create_dir(&cipher).unwrap();
        fs::create_dir(&at).unwrap();
        fs::write(home.path("password"), "p").unwrap();
        let gocryptfs = |more: &[&str]| {
            let mut command = home.command("gocryptfs");
            command.args(["-q", "-passfile"]).arg(home.path("password"));
            command.args(more);
            command
        };
        let mut made = gocryptfs(&["-init", "-scryptn", "10"]);
        assert!(made.arg(&cipher).status().unwrap().success());
        let mut server = gocryptfs(&["-fg", "-nosyslog"]);
        server.arg(&cipher).arg(&at).stderr(Stdio::null());
        let server = Running(server.spawn().unwrap());
        wait_for("the disk", || {
            let table = fs::read("/proc/self/mountinfo").unwrap();
            let table = String::from_utf8_lossy(&table);
            table.contains(at.to_str().unwrap())
        });
        HangingDisk { server, at }
    }

    fn signal(&self, number: i32) {
        signal(self.server.0.id().try_into().unwrap(), number);
    }
}

impl Drop for HangingDisk {
    fn drop(&mut self) {
        self.signal(libc::SIGCONT);
        let _ = Command::new("fusermount3")
            .args(["-u", "-z", "-q"])
            .arg(&self.at)
            .status();
    }
}

/// Waits until no thread of a process has waited for a filesystem in user space for a while.
fn wait_until_idle(pid: i32) {
    let waits = || {
        let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        let mut threads = threads.flatten();
        threads.any(|thread| {
            let place = fs::read_to_string(thread.path().join("wchan"));
            place.is_ok_and(|place| place == "request_wait_answer")
        })
    };
    let mut quiet = 0;
    wait_for("the daemon is idle", || {
        quiet = if waits() { 0 } else { quiet + 1 };
        quiet > 200
    });
}

#[test]
fn it_locks_though_the_store_s_disk_does_not_answer() {
    needs!(mount, "gocryptfs");
    let home = Home::new();
    let disk = HangingDisk::new(&home);
    let scene = Scene::with_store_in(home, &disk.at, &["Bob"]);
    scene.mount_in_background();
    fs::write(scene.path("notes/me/closed.txt"), "closed").unwrap();
    let mut dirty = File::create(scene.path("notes/me/draft.txt")).unwrap();
    dirty.write_all(b"half a note").unwrap();
    // What its server has begun to do for us nobody could interrupt, not even by SIGKILL.
    wait_until_idle(scene.pid());
    disk.signal(libc::SIGSTOP);
    // A time limit: what hangs in the kernel would hang this test as well.
    let server = disk.server.0.id();
    std::thread::spawn(move || {
        std::thread::sleep(crate::support::mount::PATIENCE);
        let still = fs::read_to_string(format!("/proc/{server}/comm"));
        if still.is_ok_and(|name| name.trim_end() == "gocryptfs") {
            signal(server.try_into().unwrap(), libc::SIGCONT);
        }
    });
    // One that waits for the disk.
    let waiting = scene.path("notes/me/waiting.txt");
    let waiting = std::thread::spawn(move || fs::write(waiting, "waits"));
    signal(scene.pid(), libc::SIGTERM);
    for name in ["dds-mount", "dds-keeper"] {
        wait_for(&format!("{name} ends"), || {
            process_of(&scene.mountpoint(), name).is_none()
        });
    }
    assert!(!is_mounted(&scene.mountpoint()));
    disk.signal(libc::SIGCONT);
    assert!(waiting.join().unwrap().is_err(), "it was not saved");
    drop(dirty);
    scene.mount_in_background();
    assert_eq!(
        fs::read(scene.path("notes/me/closed.txt")).unwrap(),
        b"closed"
    );
    let rescued = fs::read(scene.path(".dds/rescued/draft.txt")).unwrap();
    assert_eq!(rescued, b"half a note");
    signal(scene.pid(), libc::SIGTERM);
    scene.assert_locked();
    drop(scene);
}

#[test]
fn in_the_foreground_it_says_what_was_not_saved() {
    needs!(mount);
    let scene = Scene::new(&["Bob"]);
    let mount = scene.mount();
    let mut dirty = File::create(scene.path("notes/me/draft.txt")).unwrap();
    dirty.write_all(b"half").unwrap();
    let (code, said) = mount.end_by(libc::SIGINT);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("not saved: notes/me/draft.txt (kept for you in"),
        "{said}"
    );
    scene.assert_locked();
    if !rustix::process::geteuid().is_root() {
        skipped("the immutable flag of a bare mountpoint: only root can set it");
    }
}

/// Listens on a log socket in a mount namespace of its own, mounts, kills the keeper, and prints
/// the lines that the daemon logs.
const LOGGING: &str = "
import os, signal, socket, subprocess, sys, time
where, mountpoint, command = sys.argv[1], sys.argv[2], sys.argv[3:]
sink = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
sink.settimeout(20)
sink.bind(where)
done = subprocess.run(command + [mountpoint], env=os.environ)
assert done.returncode == 0, done
def named(name):
    for pid in filter(str.isdigit, os.listdir('/proc')):
        try:
            line = open(f'/proc/{pid}/cmdline').read().split(chr(0))
            if mountpoint in line and open(f'/proc/{pid}/comm').read().strip() == name:
                return int(pid)
        except OSError:
            pass
with open(mountpoint + '/notes/me/nobody shall know this name', 'w') as file:
    file.write('nor this text')
daemon = named('dds-mount')
os.kill(named('dds-keeper'), signal.SIGKILL)
said = ''
while 'keeper is gone' not in said:
    said += sink.recv(65536).decode(errors='replace')
os.kill(daemon, signal.SIGTERM)
while os.path.exists(f'/proc/{daemon}'):
    time.sleep(0.01)
sink.settimeout(0.01)
try:
    while True:
        said += sink.recv(65536).decode(errors='replace')
except TimeoutError:
    pass
print(said)
";

#[test]
fn in_the_background_it_logs_to_syslog() {
    needs!(mount, "python3");
    if !rustix::process::geteuid().is_root() {
        skipped("logging in the background: only root can make a log of its own");
        return;
    }
    let socket = "/dev/log";
    let directory = "mount -t tmpfs none /mnt && cd /mnt && mknod null c 1 3 &&
         mknod urandom c 1 9 && mknod fuse c 10 229 && chmod 666 * && cd / &&
         mount --bind /mnt /dev";
    let scene = Scene::new(&["Bob"]);
    let mut command = scene.home.command("unshare");
    let script = format!("{directory} && exec \"$@\"");
    command.args([
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        &script,
        "sh",
    ]);
    command.env("DDS_LOG", "trace");
    command
        .args(["python3", "-c", LOGGING, socket])
        .arg(scene.mountpoint());
    let mount = scene.command();
    command.arg(mount.get_program()).args(mount.get_args());
    let ended = command.output().unwrap();
    let said = String::from_utf8_lossy(&ended.stdout);
    assert!(
        ended.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&ended.stderr)
    );
    assert!(said.contains("dds-mount"), "{said}");
    assert!(said.contains("the keeper is gone"), "{said}");
    assert!(
        !said.contains("nobody shall know") && !said.contains("nor this"),
        "{said}"
    );
}

#[test]
fn small_drafts_are_rescued_before_large_ones() {
    needs!(mount);
    let scene = Scene::new(&["Bob"]);
    scene.mount_in_background();
    let mut large = File::create(scene.path("notes/me/large")).unwrap();
    large.write_all(&vec![7; 64 << 20]).unwrap();
    let mut small = File::create(scene.path("notes/me/small")).unwrap();
    small.write_all(b"a few words").unwrap();
    signal(scene.pid(), libc::SIGTERM);
    scene.assert_locked();
    drop((large, small));
    scene.mount_in_background();
    assert_eq!(
        fs::read(scene.path(".dds/rescued/small")).unwrap(),
        b"a few words"
    );
    signal(scene.pid(), libc::SIGTERM);
    scene.assert_locked();
}

#[test]
fn a_mount_elsewhere_whose_name_is_not_text_changes_nothing() {
    use std::os::unix::ffi::OsStrExt as _;
    needs!(mount, disk);
    let scene = Scene::new(&["Bob"]);
    let strange = scene
        .home
        .path("")
        .join(std::ffi::OsStr::from_bytes(b"bad\xf6"));
    fs::create_dir(&strange).unwrap();
    let disk = Disk::in_memory(&strange, 1 << 20);
    scene.mount_in_background();
    fs::write(scene.path("notes/me/a"), "saved").unwrap();
    // The table changes, and the mount is still there.
    drop(disk);
    let disk = Disk::in_memory(&strange, 1 << 20);
    assert_eq!(fs::read(scene.path("notes/me/a")).unwrap(), b"saved");
    signal(scene.pid(), libc::SIGTERM);
    let gone = || process_of(&scene.mountpoint(), "dds-keeper").is_none();
    wait_for("the keeper ends", gone);
    drop(disk);
    scene.assert_locked();
}

#[test]
fn what_others_mount_on_top_stays() {
    needs!(mount, disk);
    let scene = Scene::new(&["Bob"]);
    scene.mount_in_background();
    let cover = Disk::in_memory(&scene.mountpoint(), 1 << 20);
    fs::write(scene.path("theirs"), "theirs").unwrap();
    signal(scene.pid(), libc::SIGKILL);
    let gone = || process_of(&scene.mountpoint(), "dds-keeper").is_none();
    wait_for("the keeper ends", gone);
    assert_eq!(fs::read(scene.path("theirs")).unwrap(), b"theirs");
    drop(cover);
    scene.mount_in_background();
    signal(scene.pid(), libc::SIGTERM);
    scene.assert_locked();
}

#[test]
fn a_mount_that_moved_with_its_parent_goes_on_and_locks() {
    needs!(mount);
    let scene = Scene::new(&["Bob"]);
    let (old, new) = (scene.home.path("old"), scene.home.path("new"));
    fs::create_dir(&old).unwrap();
    let mut command = scene.command();
    assert!(command.arg(old.join("secure")).status().unwrap().success());
    let pid = daemon_of(&old.join("secure"));
    fs::rename(&old, &new).unwrap();
    fs::write(new.join("secure/notes/me/a"), "saved").unwrap();
    assert_eq!(fs::read(new.join("secure/notes/me/a")).unwrap(), b"saved");
    signal(pid, libc::SIGTERM);
    wait_for("it is gone", || !is_mounted(&new.join("secure")));
    assert_eq!(fs::read_dir(new.join("secure")).unwrap().count(), 0);
    crate::support::mount::make_mutable(&new.join("secure"));
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
