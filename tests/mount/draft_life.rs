//! When a save is published: with real shells and real descriptors.

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::support::mount::wait_for;
use crate::support::people::blobs;
use crate::support::rig::{Cast, InProcess, Mounted, Rig as _};
use crate::support::watch::Watch;
use dds::ids::Folder;
use dds::view::Access;

/// A mount, and a watch on the messages of its store.
fn world() -> (Mounted, Watch) {
    let rig = Mounted::new(&Cast::new(), "");
    let watch = Watch::new(&rig.store().join("messages"));
    (rig, watch)
}

fn shell(directory: &Path, script: &str) {
    for shell in ["sh", "bash"] {
        let status = Command::new(shell)
            .args(["-e", "-c", script])
            .current_dir(directory)
            .env("NAME", shell)
            .status()
            .unwrap();
        assert!(status.success(), "{shell}: {script}: {status}");
    }
}

#[test]
fn what_a_shell_redirects_is_one_message() {
    needs!(mount);
    let (rig, watch) = world();
    let bob = rig.mount().path("messages/bob");
    for (script, content) in [
        ("echo hi > $NAME", "hi\n"),
        ("{ echo one; ls -d .; echo two; } > $NAME", "one\n.\ntwo\n"),
        ("cat > $NAME <<END\nhere\nEND\n", "here\n"),
        ("echo teed | tee $NAME | cat > /dev/null", "teed\n"),
        (
            "printf a > $NAME; rm $NAME; (echo b; echo c) > $NAME",
            "b\nc\n",
        ),
        (
            "(echo from; (echo the; echo background) & wait) > $NAME",
            "from\nthe\nbackground\n",
        ),
        ("exec 3> $NAME; (echo child >&3); exec 3>&-", "child\n"),
    ] {
        watch.appeared();
        shell(&bob, script);
        for shell in ["sh", "bash"] {
            let read = std::fs::read_to_string(bob.join(shell)).unwrap();
            assert_eq!(read, content, "{script}");
            std::fs::remove_file(bob.join(shell)).unwrap();
        }
        let messages = watch.appeared().len();
        let expected = 2 * (1 + script.matches("rm ").count());
        assert_eq!(messages, expected, "{script}");
    }
}

#[test]
fn appending_processes_lose_nothing() {
    needs!(mount);
    let (rig, _) = world();
    let me = rig.mount().path("notes/me");
    shell(
        &me,
        "for i in 1 2 3 4 5 6 7 8; do (for j in 1 2 3 4 5; do echo $i.$j >> log; done) & done; wait",
    );
    let log = std::fs::read_to_string(me.join("log")).unwrap();
    let mut lines: Vec<_> = log.lines().collect();
    lines.sort_unstable();
    lines.dedup();
    // Two shells, whose lines are the same.
    assert_eq!((log.lines().count(), lines.len()), (80, 40));
}

#[test]
fn a_file_opened_on_one_thread_and_closed_on_another_is_published_at_close() {
    needs!(mount);
    let (rig, watch) = world();
    let path = rig.mount().path("messages/bob/threads.txt");
    let mut file = std::thread::spawn(move || File::create(path).unwrap())
        .join()
        .unwrap();
    file.write_all(b"from here").unwrap();
    assert!(watch.appeared().is_empty());
    std::thread::spawn(move || drop(file)).join().unwrap();
    assert_eq!(watch.appeared().len(), 1);
}

#[test]
fn closing_a_duplicate_publishes_and_closing_the_rest_adds_nothing() {
    needs!(mount);
    let (rig, watch) = world();
    let mut file = File::create(rig.mount().path("messages/bob/dup.txt")).unwrap();
    file.write_all(b"text").unwrap();
    let duplicate = file.try_clone().unwrap();
    drop(duplicate);
    assert_eq!(watch.appeared().len(), 1);
    drop(file);
    assert!(watch.appeared().is_empty());
}

#[test]
fn fsync_publishes_without_a_close() {
    needs!(mount);
    let (rig, watch) = world();
    let mut file = File::create(rig.mount().path("messages/bob/sync.txt")).unwrap();
    file.sync_all().unwrap();
    assert_eq!(
        watch.appeared().len(),
        1,
        "a new empty file, because it was asked for"
    );
    file.write_all(b"text").unwrap();
    file.sync_all().unwrap();
    assert_eq!(watch.appeared().len(), 1);
    assert_eq!(blobs(rig.store(), Folder::Messages).len(), 1);
    drop(file);
    assert!(watch.appeared().is_empty());
}

#[test]
fn a_new_file_is_not_published_before_something_is_written_or_it_is_closed() {
    needs!(mount);
    let (rig, watch) = world();
    let path = rig.mount().path("messages/bob/empty.txt");
    let file = File::create(&path).unwrap();
    let duplicate = file.try_clone().unwrap();
    drop(duplicate);
    assert!(watch.appeared().is_empty());
    drop(file);
    // RELEASE comes after close has returned.
    wait_for("the empty message", || {
        blobs(rig.store(), Folder::Messages).len() == 1
    });
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
}

#[test]
fn a_mapping_written_after_close_is_published() {
    needs!(mount);
    let (mut rig, _) = world();
    let path = rig.mount().path("notes/me/mapped");
    std::fs::write(&path, [b'a'; 8192]).unwrap();
    let file = File::options().read(true).write(true).open(&path).unwrap();
    // SAFETY: a fresh shared mapping of a file of that length, unmapped below.
    let map = unsafe {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        libc::mmap(
            std::ptr::null_mut(),
            8192,
            access,
            libc::MAP_SHARED,
            file.as_raw_fd(),
            0,
        )
    };
    assert_ne!(map, libc::MAP_FAILED);
    drop(file);
    // SAFETY: the mapping is 8192 bytes long and nobody else uses it.
    unsafe {
        map.cast::<u8>().add(5000).write(b'b');
        assert_eq!(libc::munmap(map, 8192), 0);
    }
    let mut expected = vec![b'a'; 8192];
    expected[5000] = b'b';
    assert!(std::fs::read(&path).unwrap() == expected);
    rig.remount();
    assert!(std::fs::read(&path).unwrap() == expected);
}

#[test]
fn a_removed_open_file_lives_on_and_is_never_published() {
    needs!(mount);
    let (rig, watch) = world();
    let path = rig.mount().path("messages/bob/gone.txt");
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(true);
    let mut file = options.open(&path).unwrap();
    file.write_all(b"one").unwrap();
    std::fs::remove_file(&path).unwrap();
    file.write_all(b" two").unwrap();
    file.rewind().unwrap();
    let mut read = String::new();
    file.read_to_string(&mut read).unwrap();
    assert_eq!(read, "one two");
    file.sync_all().unwrap();
    drop(file);
    assert!(
        std::fs::read_dir(rig.mount().path("messages/bob"))
            .unwrap()
            .next()
            .is_none()
    );
    assert!(watch.appeared().is_empty());
}

#[test]
fn two_writers_of_one_file_lose_nothing() {
    needs!(mount);
    let (mut rig, _) = world();
    let path = rig.mount().path("notes/me/both");
    std::fs::write(&path, [b'.'; 100]).unwrap();
    let open = || File::options().write(true).open(&path).unwrap();
    let (mut first, mut second) = (open(), open());
    first.write_all(b"first").unwrap();
    second.seek(std::io::SeekFrom::Start(50)).unwrap();
    second.write_all(b"second").unwrap();
    drop(first);
    drop(second);
    rig.remount();
    let content = std::fs::read_to_string(&path).unwrap();
    assert_eq!(
        (&content[..5], &content[50..56], content.len()),
        ("first", "second", 100)
    );
}

#[test]
fn a_writer_that_is_killed_leaves_the_old_content_or_what_it_wrote() {
    needs!(mount);
    let (mut rig, _) = world();
    let path = rig.mount().path("notes/me/killed");
    std::fs::write(&path, "old").unwrap();
    let script = "exec 3<> \"$FILE\"; printf new >&3; kill -9 $$";
    let status = Command::new("bash")
        .args(["-c", script])
        .env("FILE", &path)
        .status()
        .unwrap();
    assert!(!status.success());
    rig.remount();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
}

/// The RELEASE that publishes a new empty file comes after close has returned, and what is done to
/// the name meanwhile must not be lost to it.
#[test]
fn what_is_removed_or_renamed_right_after_its_close_stays_so() {
    needs!(mount);
    let (mut rig, _) = world();
    let me = rig.mount().path("notes/me");
    let touch = |name: &str| drop(File::create(me.join(name)).unwrap());
    let rename = |from: &str, to: &str| std::fs::rename(me.join(from), me.join(to)).unwrap();
    for n in 0..20 {
        touch("removed");
        std::fs::remove_file(me.join("removed")).unwrap();
        touch(&format!("from {n}"));
        rename(&format!("from {n}"), &format!("to {n}"));
        touch(&format!("under {n}"));
        std::fs::write(me.join("over"), "over").unwrap();
        rename("over", &format!("under {n}"));
        touch("backup");
        rename("backup", "backup~");
        std::fs::remove_file(me.join("backup~")).unwrap();
    }
    let listed = |rig: &Mounted| {
        let names = rig.list("notes/me").unwrap();
        let count = |start: &str| names.iter().filter(|name| name.starts_with(start)).count();
        (count("to "), count("under "), names.len())
    };
    assert_eq!(listed(&rig), (20, 20, 40));
    rig.remount();
    assert_eq!(listed(&rig), (20, 20, 40));
    assert_eq!(blobs(rig.store(), Folder::Notes).len(), 40);
    assert_eq!(rig.read("notes/me/under 7").unwrap(), b"over");
}

/// `--idle` goes by this time.
#[test]
fn a_view_is_in_use_while_a_request_is_in_service_or_a_draft_waits_for_its_close() {
    let rig = InProcess::new(&Cast::new());
    let view = rig.view();
    let is_unused = || {
        wait_for("time to pass", || view.unused_for() > Duration::ZERO);
    };
    is_unused();
    let request = view.serve();
    assert_eq!(view.unused_for(), Duration::ZERO);
    drop(request);
    is_unused();
    let access = Access {
        write: true,
        ..Access::default()
    };
    let draft = rig.open_as("notes/me/draft", access).unwrap();
    is_unused();
    rig.write_handle(draft, 0, b"half").unwrap();
    assert_eq!(view.unused_for(), Duration::ZERO);
    rig.flush_handle(draft).unwrap();
    is_unused();
    view.release(draft);
    // Nobody will rename a download that was closed long ago.
    rig.write("messages/bob/a.part", b"half").unwrap();
    is_unused();
}
