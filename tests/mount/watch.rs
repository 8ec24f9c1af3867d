//! What arrives, goes and returns in the store is noticed while nobody looks.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::mount::wait_for;
use crate::support::people::{Blob, blobs, deliver};
use crate::support::rig::{Cast, Mounted, Rig as _};
use crate::support::watch::Watch;
use dds::ids::{BlobKind, Folder};

fn status(rig: &Mounted) -> String {
    // Neither the directory nor the name is unknown, so this looks at nothing in the store.
    fs::read_to_string(rig.mount().path(".dds/status")).unwrap()
}

fn keys(rig: &Mounted, name: &str) -> PathBuf {
    rig.store().join("keys").join(name)
}

#[test]
fn a_certificate_that_arrives_is_a_contact_at_once() {
    needs!(mount);
    let cast = Cast::new();
    let rig = Mounted::new(&cast, "");
    assert!(!status(&rig).contains("mallory"));
    fs::write(keys(&rig, "new.gpg"), cast.mallory.certificate().to_bytes()).unwrap();
    wait_for("the new contact", || {
        status(&rig).contains("contact: mallory ")
    });
}

/// A message to me that I removed, as it was.
fn removed(rig: &Mounted, cast: &Cast) -> Vec<u8> {
    let to = [&cast.me, &cast.bob];
    let name = Blob::new(BlobKind::Message, &cast.bob, &to, "lunch.txt")
        .content(b"at noon?")
        .deliver(rig.store(), Folder::Messages);
    let file = rig.store().join("messages").join(name.file_name());
    let bytes = fs::read(&file).unwrap();
    rig.remove("messages/bob/lunch.txt").unwrap();
    assert!(!file.exists());
    bytes
}

#[test]
fn a_removed_message_that_returns_goes_again_at_once() {
    needs!(mount);
    let cast = Cast::new();
    let rig = Mounted::new(&cast, "");
    let message = removed(&rig, &cast);
    for _ in 0..3 {
        deliver(rig.store(), Folder::Messages, &message);
        wait_for("it goes again", || {
            blobs(rig.store(), Folder::Messages).is_empty()
        });
    }
    assert!(status(&rig).contains("problem: "), "{}", status(&rig));
}

#[test]
fn folders_that_are_removed_and_made_anew_are_watched_again() {
    needs!(mount);
    let cast = Cast::new();
    let rig = Mounted::new(&cast, "");
    let message = removed(&rig, &cast);
    let folder = rig.store().join("messages");
    for way in ["removed", "moved"] {
        match way {
            "removed" => fs::remove_dir_all(&folder).unwrap(),
            _ => fs::rename(&folder, rig.home.path("elsewhere")).unwrap(),
        }
        assert!(rig.list("messages/bob").unwrap().is_empty());
        fs::create_dir(&folder).unwrap();
        // It is watched anew a moment after it was made; what came before that is seen as well.
        deliver(rig.store(), Folder::Messages, &message);
        wait_for(way, || blobs(rig.store(), Folder::Messages).is_empty());
        deliver(rig.store(), Folder::Messages, &message);
        wait_for(way, || blobs(rig.store(), Folder::Messages).is_empty());
    }
    rig.write("messages/bob/answer.txt", b"yes").unwrap();
    assert_eq!(blobs(rig.store(), Folder::Messages).len(), 1);
}

#[test]
fn a_burst_of_files_is_taken_in_and_nothing_of_it_is_missed() {
    needs!(mount);
    let cast = Cast::new();
    let rig = Mounted::new(&cast, "");
    let message = removed(&rig, &cast);
    let count = if crate::support::programs::full() {
        10_000
    } else {
        1_000
    };
    let folder = rig.store().join("messages");
    for number in 0..count {
        fs::write(folder.join(format!("{number}.asc")), "nothing of value").unwrap();
        if number % 100 == 0 {
            assert!(rig.list("messages/bob").unwrap().is_empty());
        }
    }
    deliver(rig.store(), Folder::Messages, &message);
    wait_for("the last one", || {
        blobs(rig.store(), Folder::Messages).len() == count
    });
    for number in 0..count {
        fs::remove_file(folder.join(format!("{number}.asc"))).unwrap();
    }
    deliver(rig.store(), Folder::Messages, &message);
    wait_for("and again", || {
        blobs(rig.store(), Folder::Messages).is_empty()
    });
}

/// Stops a process, and lets it go on when this is dropped.
struct Stopped(libc::pid_t);

impl Stopped {
    fn new(pid: u32) -> Stopped {
        let pid = libc::pid_t::try_from(pid).unwrap();
        // SAFETY: the process is a child that has not been waited for.
        assert_eq!(unsafe { libc::kill(pid, libc::SIGSTOP) }, 0);
        // One thread after the other; what waits for an answer of the others (D) goes no further.
        wait_for("it is stopped", || {
            let mut threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
            threads.all(|thread| {
                let stat = fs::read_to_string(thread.unwrap().path().join("stat"));
                stat.is_ok_and(|stat| stat.contains(") T ") || stat.contains(") D "))
            })
        });
        Stopped(pid)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { libc::kill(self.0, libc::SIGCONT) };
    }
}

#[test]
fn what_the_kernel_had_no_room_to_tell_is_looked_for() {
    needs!(mount);
    let room = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let room: usize = room.trim().parse().unwrap();
    let cast = Cast::new();
    let rig = Mounted::new(&cast, "");
    let folder = rig.store().join("messages");
    // From then on it is told, and has nothing more to look for.
    let told = Watch::new(&rig.mount().path("messages/bob"));
    let to = [&cast.me, &cast.bob];
    Blob::new(BlobKind::Message, &cast.bob, &to, "lunch.txt")
        .deliver(rig.store(), Folder::Messages);
    told.wait();
    {
        let _stopped = Stopped::new(rig.mount().pid());
        // Making, opening, closing and removing are events of their own: the queue overflows.
        for number in 0..=room / 3 {
            let path = folder.join(format!("{number}.asc"));
            fs::write(&path, "").unwrap();
            fs::remove_file(&path).unwrap();
        }
        fs::write(keys(&rig, "new.gpg"), cast.mallory.certificate().to_bytes()).unwrap();
    }
    wait_for("the new contact", || {
        status(&rig).contains("contact: mallory ")
    });
}

#[test]
fn what_takes_long_to_be_opened_shows_when_it_is() {
    needs!(mount);
    let cast = Cast::new();
    let rig = Mounted::new(&cast, "");
    let to = [&cast.me, &cast.bob];
    let long = b"a long story ".repeat(3 << 20);
    let told = Watch::new(&rig.mount().path("messages/bob"));
    Blob::new(BlobKind::Message, &cast.bob, &to, "long.txt")
        .content(&long)
        .deliver(rig.store(), Folder::Messages);
    // What comes meanwhile is there at once.
    Blob::new(BlobKind::Message, &cast.bob, &to, "short.txt")
        .content(b"short")
        .deliver(rig.store(), Folder::Messages);
    assert_eq!(rig.read("messages/bob/short.txt").unwrap(), b"short");
    wait_for("those who watch are told", || {
        told.appeared().iter().any(|name| name == "long.txt")
    });
    assert_eq!(rig.read("messages/bob/long.txt").unwrap(), long);
    assert!(!status(&rig).contains("files not opened yet"));
}

/// Puts something that is no directory in a folder's place.
fn replace_folder(folder: &Path, what: &str) {
    match what {
        "a file" => fs::write(folder, "x").unwrap(),
        "a link" => symlink("/etc", folder).unwrap(),
        "a fifo" => {
            let made = Command::new("mkfifo").arg(folder).status();
            assert!(made.unwrap().success());
        }
        _ => assert_eq!(what, "missing"),
    }
}

/// Reads the files of the folders that are not broken.
fn read_others(rig: &Mounted, broken: &str, how: &str) {
    let files = [
        ("notes", "notes/me/kept.txt", &b"a note"[..]),
        ("messages", "messages/bob/lunch.txt", b"at noon?"),
        ("software", "software/tool.txt", b"a program"),
    ];
    for (folder, file, content) in files {
        if folder != broken {
            let read = rig.read(file);
            assert_eq!(read.as_deref(), Ok(content), "{broken}/ is {how}: {file}");
        }
    }
    if broken != "keys" {
        assert!(rig.list("keys").unwrap().contains(&"two.gpg".to_owned()));
    } else if how != "missing" {
        assert_eq!(rig.list("keys"), Err(libc::EIO), "keys/ is {how}");
    }
    if broken == "software" && how != "missing" {
        assert_eq!(rig.list("software"), Err(libc::EIO), "software/ is {how}");
    }
    for (folder, file) in [
        ("notes", "notes/bob/new.txt"),
        ("messages", "messages/bob/new.txt"),
    ] {
        let written = rig.write(file, how.as_bytes());
        if folder != broken || how == "missing" {
            assert_eq!(written, Ok(()), "{broken}/ is {how}: {file}");
            rig.settle();
            continue;
        }
        assert_eq!(written, Err(libc::EIO), "{broken}/ is {how}: {file}");
        let errors = fs::read_to_string(rig.mount().path(".dds/errors")).unwrap();
        let said = errors.lines().last().unwrap();
        assert!(
            said.contains(file) && said.contains("move it away"),
            "{errors}"
        );
    }
}

/// People replace a folder by a link to a larger disk, and synchronisers by a file of that name.
#[test]
fn a_folder_that_is_none_stops_no_other() {
    needs!(mount);
    let cast = Cast::new();
    for broken in ["keys", "messages", "notes", "software"] {
        let mut rig = Mounted::new(&cast, "");
        let folder = rig.store().join(broken);
        let away = rig.home.path("away");
        fs::write(rig.store().join("software/tool.txt"), "a program").unwrap();
        rig.write("notes/me/kept.txt", b"a note").unwrap();
        rig.settle();
        let to = [&cast.me, &cast.bob];
        Blob::new(BlobKind::Message, &cast.bob, &to, "lunch.txt")
            .content(b"at noon?")
            .deliver(rig.store(), Folder::Messages);
        let problem = format!("problem: {broken}/ in the store is a link, a file or");
        for how in ["a file", "a link", "a fifo", "missing"] {
            fs::rename(&folder, &away).unwrap();
            replace_folder(&folder, how);
            if how != "missing" {
                wait_for("status says so", || status(&rig).contains(&problem));
            }
            read_others(&rig, broken, how);
            if how == "a link" {
                // The next mount begins, and knows the others.
                rig.end_by(libc::SIGTERM);
                rig.start();
                wait_for("status says so", || status(&rig).contains(&problem));
                read_others(&rig, broken, how);
            }
            match fs::symlink_metadata(&folder) {
                Ok(found) if found.is_dir() => fs::remove_dir_all(&folder).unwrap(),
                Ok(_) => fs::remove_file(&folder).unwrap(),
                Err(_) => {}
            }
            fs::rename(&away, &folder).unwrap();
            wait_for("it is whole again", || !status(&rig).contains(&problem));
            read_others(&rig, "none", how);
        }
    }
}
