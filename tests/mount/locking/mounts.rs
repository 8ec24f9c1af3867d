//! Other mounts: in another namespace, elsewhere, on top, and a mountpoint that moves.

use std::fs;
use std::io::Read as _;
use std::process::{Command, Stdio};

use super::*;
use crate::support::disk::Disk;
use crate::support::mount::{daemon_of, is_mounted, process_of, wait_for};
use crate::support::scene::Scene;

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
