//! Programs that watch the mount with inotify(7) get events for the changes that others make.

#![allow(clippy::print_stdout)]

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use crate::support::mount::{Home, is_mounted, process_of, wait_for};
use crate::support::people::{Blob, deliver};
use crate::support::programs::full;
use crate::support::rig::{Cast, Mounted, Rig as _};
use crate::support::watch::Watch;
use dds::ids::{BlobKind, BlobName, Folder};

/// A program that runs while the store changes, and its output.
struct Program {
    child: Child,
    output: std::path::PathBuf,
}

impl Program {
    fn start(home: &Home, name: &str, mut command: Command) -> Program {
        let output = home.path(name);
        let file = File::create(&output).unwrap();
        let errors = file.try_clone().unwrap();
        command.stdin(Stdio::null()).stdout(file).stderr(errors);
        let child = command.spawn().unwrap();
        Program { child, output }
    }

    fn output(&self) -> String {
        fs::read_to_string(&self.output).unwrap()
    }

    fn lines(&self) -> Vec<String> {
        self.output().lines().map(str::to_owned).collect()
    }

    fn wait_for(&self, line: &str) {
        let found = || self.lines().iter().any(|found| found == line);
        let text = || format!("{line:?} among {:#?}", self.lines());
        for _ in 0..2 {
            if found() {
                return;
            }
            wait_for(line, found);
        }
        assert!(found(), "{}", text());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `inotifywait` on some files and directories of the mount, with the events that matter.
fn watch(rig: &Mounted, name: &str, places: &[&str]) -> Program {
    let mut command = rig.home.command("inotifywait");
    command.args(["--monitor", "--format", "%e %w%f"]);
    for event in [
        "create",
        "delete",
        "modify",
        "close_write",
        "move",
        "delete_self",
    ] {
        command.args(["--event", event]);
    }
    command.args(places).current_dir(rig.mount().path(""));
    let program = Program::start(&rig.home, name, command);
    program.wait_for("Watches established.");
    program
}

/// A note from bob to me.
fn note(cast: &Cast, store: &Path, path: &str, content: &[u8], old: Option<BlobName>) -> BlobName {
    let to = [&cast.me, &cast.bob];
    let mut blob = Blob::new(BlobKind::Note, &cast.bob, &to, path).content(content);
    blob.notations.replaces.extend(old);
    blob.created = old.map(|_| SystemTime::now() + Duration::from_secs(1));
    let name = blob.deliver(store, Folder::Notes);
    if let Some(old) = old {
        take_away(store, Folder::Notes, old);
    }
    name
}

fn take_away(store: &Path, folder: Folder, blob: BlobName) {
    let file = store.join(folder.name()).join(blob.file_name());
    fs::remove_file(file).unwrap();
}

fn message(cast: &Cast, store: &Path, path: &str) -> BlobName {
    let to = [&cast.me, &cast.bob];
    Blob::new(BlobKind::Message, &cast.bob, &to, path)
        .content(b"at noon?")
        .deliver(store, Folder::Messages)
}

#[test]
fn arrivals_and_removals_are_told() {
    needs!(mount, "inotifywait");
    let cast = Cast::new();
    let rig = Mounted::new(&cast, "");
    let events = watch(&rig, "events", &["messages/bob", "notes/bob"]);
    let lunch = message(&cast, rig.store(), "lunch.txt");
    events.wait_for("CREATE messages/bob/lunch.txt");
    events.wait_for("CLOSE_WRITE,CLOSE messages/bob/lunch.txt");
    assert_eq!(rig.read("messages/bob/lunch.txt").unwrap(), b"at noon?");
    note(&cast, rig.store(), "trip/plan.md", b"first", None);
    events.wait_for("CREATE,ISDIR notes/bob/trip");
    assert_eq!(rig.read("notes/bob/trip/plan.md").unwrap(), b"first");
    let itself = watch(&rig, "itself", &["messages/bob/lunch.txt"]);
    take_away(rig.store(), Folder::Messages, lunch);
    events.wait_for("DELETE messages/bob/lunch.txt");
    itself.wait_for("DELETE_SELF messages/bob/lunch.txt");
    assert!(rig.list("messages/bob").unwrap().is_empty());
}

#[test]
fn an_edit_is_told_and_a_reader_keeps_what_he_has_open() {
    needs!(mount, "inotifywait");
    let cast = Cast::new();
    let rig = Mounted::new(&cast, "");
    let first = note(&cast, rig.store(), "plan.md", b"first", None);
    let events = watch(&rig, "events", &["notes/bob"]);
    assert_eq!(rig.read("notes/bob/plan.md").unwrap(), b"first");
    let second = note(&cast, rig.store(), "plan.md", b"second", Some(first));
    events.wait_for("MODIFY notes/bob/plan.md");
    events.wait_for("CLOSE_WRITE,CLOSE notes/bob/plan.md");
    assert_eq!(rig.read("notes/bob/plan.md").unwrap(), b"second");
    let mut open = File::open(rig.mount().path("notes/bob/plan.md")).unwrap();
    note(&cast, rig.store(), "plan.md", b"the third", Some(second));
    events.wait_for("DELETE notes/bob/plan.md");
    events.wait_for("CREATE notes/bob/plan.md");
    let mut text = String::new();
    open.read_to_string(&mut text).unwrap();
    assert_eq!(text, "second");
    assert_eq!(rig.read("notes/bob/plan.md").unwrap(), b"the third");
}

#[test]
fn what_programs_here_do_is_told_once() {
    needs!(mount, "inotifywait");
    let cast = Cast::new();
    let rig = Mounted::new(&cast, "");
    let events = watch(&rig, "events", &["notes/bob"]);
    rig.write("notes/bob/mine.md", b"my own").unwrap();
    rig.rename("notes/bob/mine.md", "notes/bob/named.md")
        .unwrap();
    rig.write("notes/bob/named.md", b"edited").unwrap();
    rig.write("notes/bob/short.md", b"").unwrap();
    // What came before it was told before it.
    note(&cast, rig.store(), "end.md", b"end", None);
    events.wait_for("CLOSE_WRITE,CLOSE notes/bob/end.md");
    let lines = events.lines();
    let count = |wanted: &str| lines.iter().filter(|line| line.starts_with(wanted)).count();
    for (event, times) in [
        ("CREATE notes/bob/mine.md", 1),
        ("CLOSE_WRITE,CLOSE notes/bob/mine.md", 1),
        ("MOVED_FROM notes/bob/mine.md", 1),
        ("MOVED_TO notes/bob/named.md", 1),
        ("CREATE notes/bob/named.md", 0),
        ("CLOSE_WRITE,CLOSE notes/bob/named.md", 1),
        ("CREATE notes/bob/short.md", 1),
        ("CLOSE_WRITE,CLOSE notes/bob/short.md", 1),
        ("DELETE", 0),
    ] {
        assert_eq!(count(event), times, "{event} in {lines:#?}");
    }
}

#[test]
fn tail_follows_a_note_that_others_edit() {
    needs!(mount, "inotifywait");
    let cast = Cast::new();
    let rig = Mounted::new(&cast, "");
    let first = note(&cast, rig.store(), "log.md", b"one\n", None);
    let mut command = rig.home.command("tail");
    command.args(["-n", "+1", "-F", "notes/bob/log.md"]);
    command.args(["--sleep-interval", "0.1"]);
    command.current_dir(rig.mount().path(""));
    let tail = Program::start(&rig.home, "tail", command);
    tail.wait_for("one");
    let second = note(&cast, rig.store(), "log.md", b"one\ntwo\n", Some(first));
    tail.wait_for("two");
    take_away(rig.store(), Folder::Notes, second);
    wait_for("it is gone", || tail.output().contains("inaccessible"));
    note(&cast, rig.store(), "log.md", b"anew\n", None);
    tail.wait_for("anew");
}

#[test]
fn a_file_manager_s_monitor_sees_arrivals_and_removals() {
    needs!(mount, "gio");
    let cast = Cast::new();
    let rig = Mounted::new(&cast, "");
    let mut command = rig.home.command("gio");
    command.args(["monitor", "--dir", "messages/bob"]);
    command.current_dir(rig.mount().path(""));
    let monitor = Program::start(&rig.home, "monitor", command);
    // It does not say when it begins to watch.
    let told = |count: usize, what: &str| {
        let output = monitor.output();
        output.lines().filter(|line| line.contains(what)).count() > count
    };
    let mut sent = Vec::new();
    wait_for("an arrival is told", || {
        let path = format!("lunch {}.txt", sent.len());
        sent.push(message(&cast, rig.store(), &path));
        told(0, "created")
    });
    for blob in sent {
        take_away(rig.store(), Folder::Messages, blob);
    }
    wait_for("a removal is told", || told(0, "deleted"));
}

#[test]
fn what_is_told_to_have_arrived_can_be_read() {
    needs!(mount);
    let cast = Cast::new();
    let rig = Mounted::new(&cast, "");
    let dir = rig.mount().path("messages/bob");
    let watch = Watch::new(&dir);
    let mut times = Vec::new();
    for number in 0..20 {
        let name = format!("{number}.txt");
        let to = [&cast.me, &cast.bob];
        let blob = Blob::new(BlobKind::Message, &cast.bob, &to, &name).content(b"at noon?");
        let (bytes, begun) = (blob.seal(), Instant::now());
        deliver(rig.store(), Folder::Messages, &bytes);
        watch.wait();
        assert_eq!(fs::read(dir.join(&name)).unwrap(), b"at noon?");
        times.push(begun.elapsed());
        assert_eq!(watch.appeared(), [name]);
    }
    times.sort();
    let (median, longest) = (times[times.len() / 2], times[times.len() - 1]);
    println!("from a blob's arrival to having read it: median {median:?}, longest {longest:?}");
}

#[test]
fn a_burst_of_arrivals_is_told_and_locking_does_not_wait_for_it() {
    needs!(mount, "inotifywait");
    let cast = Cast::new();
    let mut rig = Mounted::new(&cast, "");
    let events = watch(&rig, "events", &["messages/bob"]);
    let count = if full() { 2_000 } else { 200 };
    let names: Vec<String> = (0..count).map(|number| format!("{number}.txt")).collect();
    for name in &names {
        message(&cast, rig.store(), name);
    }
    for name in &names {
        events.wait_for(&format!("CREATE messages/bob/{name}"));
    }
    // Its own directory and file are busy now and then, but that is no reason to fail.
    for number in 0..count {
        message(&cast, rig.store(), &format!("more {number}.txt"));
    }
    let mountpoint = rig.mount().path("");
    rig.end_by(libc::SIGTERM);
    assert!(!is_mounted(&mountpoint));
}

#[test]
fn a_daemon_that_is_killed_while_it_tells_leaves_nothing_behind() {
    needs!(mount);
    let cast = Cast::new();
    let mut rig = Mounted::new(&cast, "");
    let mut sent = 0;
    for _ in 0..if full() { 30 } else { 5 } {
        let mountpoint = rig.mount().mountpoint.clone();
        let keeper = process_of(&mountpoint, "dds-keeper").unwrap();
        let watch = Watch::new(&mountpoint.join("messages/bob"));
        for _ in 0..10 {
            sent += 1;
            message(&cast, rig.store(), &format!("{sent}.txt"));
        }
        // It is telling of the next one now.
        watch.wait();
        rig.kill();
        let ended = || fs::metadata(format!("/proc/{keeper}")).is_err();
        wait_for("the keeper ends", ended);
        assert!(!is_mounted(&mountpoint));
        rig.start();
    }
    assert_eq!(rig.list("messages/bob").unwrap().len(), sent);
}
