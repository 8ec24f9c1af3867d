//! A store whose disk does not answer, and drafts that take long to rescue.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::*;
use crate::support::mount::{Home, is_mounted, process_of, wait_for};
use crate::support::scene::Scene;

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
