//! Events: `dds watch`, the request behind it, and a daemon without a mount.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use dds::daemon::client::Connection;
use dds::daemon::protocol::{Event, EventFile, Reply, Request};
use dds::daemon::{self, Directories, Parts, SocketPath};
use dds::ids::{BlobKind, BlobName, Folder};
use dds::openpgp::Identity;
use dds::store::DirStore;
use serde_json::{Value, json};

use super::ended::run;
use crate::support::mount::{Home, PATIENCE, wait_for};
use crate::support::people::{Blob, deliver, make_store};
use crate::support::rig::{Cast, Mounted, Rig as _};

/// Clients that may watch at a time.
const WATCHERS: usize = 4;

/// A client that watches, by the lines of the protocol alone.
struct Watcher {
    lines: BufReader<UnixStream>,
}

impl Watcher {
    /// Asks to watch, and returns the client with the first line that it gets.
    fn ask(socket: &Path) -> (Watcher, Value) {
        let stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        (&stream).write_all(b"{\"command\":\"watch\"}\n").unwrap();
        let mut watcher = Watcher {
            lines: BufReader::new(stream),
        };
        let first = watcher.next().expect("an answer");
        (watcher, first)
    }

    #[track_caller]
    fn new(socket: &Path) -> Watcher {
        let (watcher, first) = Watcher::ask(socket);
        assert!(first["status"].is_object(), "{first}");
        watcher
    }

    /// The next line; `None` at the end.
    fn next(&mut self) -> Option<Value> {
        let mut line = String::new();
        let read = self.lines.read_line(&mut line).unwrap();
        (read > 0).then(|| serde_json::from_str(&line).unwrap())
    }

    #[track_caller]
    fn expect(&mut self, event: &Value) {
        assert_eq!(self.next().as_ref(), Some(event));
    }

    /// Reads events until one of them is about the path.
    fn until(&mut self, path: &str) -> Vec<Value> {
        let mut events = Vec::new();
        loop {
            let event = self.next().expect("another event");
            let found = event["path"] == path;
            events.push(event);
            if found {
                return events;
            }
        }
    }
}

/// The one socket of a home without a runtime directory.
fn socket(home: &Home) -> PathBuf {
    let stores = std::fs::read_dir(home.path(".local/state/dds")).unwrap();
    let mut sockets = stores.map(|store| store.unwrap().path().join("control.sock"));
    sockets.find(|socket| socket.exists()).expect("a socket")
}

/// The event of a file that bob signed, who is not verified.
fn event(event: &str, path: &str) -> Value {
    json!({"event": event, "path": path, "from": "bob", "signature": "good-unverified"})
}

fn message(cast: &Cast, store: &Path, path: &str, content: &[u8]) -> BlobName {
    let to = [&cast.me, &cast.bob];
    Blob::new(BlobKind::Message, &cast.bob, &to, path)
        .content(content)
        .deliver(store, Folder::Messages)
}

/// A note of bob's and mine, in the place of an older version. The document is that of `first_path`.
fn note(
    cast: &Cast,
    store: &Path,
    first_path: &str,
    path: &str,
    old: Option<BlobName>,
) -> BlobName {
    let to = [&cast.me, &cast.bob];
    let mut blob = Blob::new(BlobKind::Note, &cast.bob, &to, first_path);
    blob.notations.path = Some(path.to_owned());
    blob.notations.replaces.extend(old);
    blob.created = old.map(|_| SystemTime::now() + Duration::from_secs(1));
    let content = format!("{path} after {old:?}");
    let name = blob
        .content(content.as_bytes())
        .deliver(store, Folder::Notes);
    if let Some(old) = old {
        take_away(store, Folder::Notes, old);
    }
    name
}

fn take_away(store: &Path, folder: Folder, blob: BlobName) {
    let file = store.join(folder.name()).join(blob.file_name());
    std::fs::remove_file(file).unwrap();
}

#[test]
fn every_watcher_is_sent_what_others_do_and_never_a_content() {
    needs!(mount);
    let cast = Cast::new();
    let mut rig = Mounted::new(&cast, "");
    let socket = socket(&rig.home);
    let mut watchers = [(); 3].map(|()| Watcher::new(&socket));
    let mut all = |expected: &Value| {
        for watcher in &mut watchers {
            watcher.expect(expected);
        }
    };
    let content = b"a needle in the haystack";
    let lunch = message(&cast, rig.store(), "lunch.txt", content);
    all(&event("arrival", "messages/bob/lunch.txt"));
    assert_eq!(rig.read("messages/bob/lunch.txt").unwrap(), content);
    take_away(rig.store(), Folder::Messages, lunch);
    all(&event("removal", "messages/bob/lunch.txt"));
    let first = note(&cast, rig.store(), "plan.md", "plan.md", None);
    all(&event("arrival", "notes/bob/plan.md"));
    let second = note(&cast, rig.store(), "plan.md", "plan.md", Some(first));
    all(&event("edit", "notes/bob/plan.md"));
    note(
        &cast,
        rig.store(),
        "plan.md",
        "trip/agenda.md",
        Some(second),
    );
    let mut renamed = event("rename", "notes/bob/trip/agenda.md");
    renamed["old_path"] = json!("notes/bob/plan.md");
    all(&renamed);
    // Whose file it is shows in its event.
    let mallory = Blob::new(BlobKind::Message, &cast.mallory, &[&cast.me], "x.txt").content(b"x");
    mallory.deliver(rig.store(), Folder::Messages);
    let stranger = json!({
        "event": "arrival", "path": "messages/unverified/x.txt", "signature": "unknown-key",
    });
    for watcher in &mut watchers {
        let mut said = watcher.next().unwrap();
        // Nobody has a name for the key.
        said.as_object_mut().unwrap().remove("from");
        assert_eq!(said, stranger);
    }
    // Those who are gone keep nobody from being told.
    let [mut left, gone, half] = watchers;
    drop(gone);
    half.lines
        .get_ref()
        .shutdown(std::net::Shutdown::Write)
        .unwrap();
    message(&cast, rig.store(), "dinner.txt", content);
    for mut watcher in [half, left] {
        watcher.expect(&event("arrival", "messages/bob/dinner.txt"));
    }
    left = Watcher::new(&socket);
    rig.end_by(libc::SIGTERM);
    left.expect(&json!({"event": "lock"}));
    assert_eq!(left.next(), None);
}

#[test]
fn programs_here_cause_no_events() {
    needs!(mount);
    let cast = Cast::new();
    let rig = Mounted::new(&cast, "");
    // There before anybody watched.
    message(&cast, rig.store(), "early.txt", b"early");
    wait_for("the first message", || {
        rig.list("messages/bob").unwrap() == ["early.txt"]
    });
    let mut watcher = Watcher::new(&socket(&rig.home));
    rig.write("notes/me/a.txt", b"one").unwrap();
    rig.write("notes/me/a.txt", b"two").unwrap();
    rig.rename("notes/me/a.txt", "notes/me/b.txt").unwrap();
    rig.write("messages/bob/answer.txt", b"yes").unwrap();
    rig.remove("messages/bob/early.txt").unwrap();
    rig.remove("notes/me/b.txt").unwrap();
    rig.settle();
    message(&cast, rig.store(), "last.txt", b"last");
    let events = watcher.until("messages/bob/last.txt");
    assert_eq!(events, [event("arrival", "messages/bob/last.txt")]);
}

#[test]
fn a_new_problem_is_sent_and_a_known_one_is_not() {
    needs!(mount);
    let cast = Cast::new();
    let rig = Mounted::new(&cast, "");
    let mut watcher = Watcher::new(&socket(&rig.home));
    let certificate = cast.mallory.certificate().to_bytes();
    std::fs::write(rig.store().join("keys/new.gpg"), certificate).unwrap();
    let problem = watcher.next().unwrap();
    assert_eq!(problem["event"], "problem");
    let sentence = problem["problem"].as_str().unwrap();
    assert!(sentence.contains("new contact mallory"), "{sentence}");
    let mut status = rig.home.dds();
    let status = run(status.args(["status", "--json"]));
    let status: Value = serde_json::from_str(&status.out).unwrap();
    assert!(
        status["problems"]
            .as_array()
            .unwrap()
            .contains(&json!(sentence))
    );
    // One who comes later has it in the status, and both go on with what is new.
    let (mut late, first) = Watcher::ask(&socket(&rig.home));
    assert_eq!(first["status"]["problems"], status["problems"]);
    message(&cast, rig.store(), "lunch.txt", b"at noon?");
    for watcher in [&mut watcher, &mut late] {
        watcher.expect(&event("arrival", "messages/bob/lunch.txt"));
    }
}

#[test]
fn a_fifth_watcher_is_refused_and_watchers_take_no_other_client_s_place() {
    needs!(mount);
    let cast = Cast::new();
    let rig = Mounted::new(&cast, "");
    let socket = socket(&rig.home);
    let mut watchers: Vec<_> = (0..WATCHERS).map(|_| Watcher::new(&socket)).collect();
    let (fifth, refused) = Watcher::ask(&socket);
    assert!(
        refused["error"].as_str().unwrap().contains("too many"),
        "{refused}"
    );
    // It may ask for something else.
    let mut stream = fifth.lines.get_ref();
    stream.write_all(b"{\"command\":\"status\"}\n").unwrap();
    let mut fifth = fifth;
    assert!(fifth.next().unwrap()["status"].is_object());
    let told = run(rig.home.dds().args(["watch", "--json"]));
    assert_eq!(told.code, Some(1));
    assert!(told.err.contains("too many"), "{}", told.err);
    // There are 16 places beside theirs. A client that has just gone may still have one.
    let silent: Vec<_> = (0..12)
        .map(|_| UnixStream::connect(&socket).unwrap())
        .collect();
    assert_eq!(run(rig.home.dds().arg("status")).code, Some(0));
    drop(silent);
    // A place is free once its client is gone.
    watchers.pop();
    wait_for("a free place", || {
        let (watcher, first) = Watcher::ask(&socket);
        let watches = first["status"].is_object();
        if watches {
            watchers.push(watcher);
        }
        watches
    });
    message(&cast, rig.store(), "lunch.txt", b"at noon?");
    for watcher in &mut watchers {
        watcher.expect(&event("arrival", "messages/bob/lunch.txt"));
    }
}

#[test]
fn a_watcher_that_does_not_take_its_lines_is_told_so_and_keeps_nobody_waiting() {
    needs!(mount);
    // The daemon keeps 256 lines for a client, and the kernel some hundred.
    const FILES: usize = 400;
    let cast = Cast::new();
    let rig = Mounted::new(&cast, "");
    let socket = socket(&rig.home);
    let (mut slow, mut quick) = (Watcher::new(&socket), Watcher::new(&socket));
    let to = [&cast.me, &cast.bob];
    let filler = "x".repeat(200);
    let names: Vec<_> = (0..FILES)
        .map(|number| format!("{number}-{filler}"))
        .collect();
    let mut take = |kind: &str, names: &[String]| {
        let mut paths = BTreeSet::new();
        while paths.len() < names.len() {
            let event = quick.next().expect("another event");
            assert_eq!(event["event"], kind);
            paths.insert(event["path"].as_str().unwrap().to_owned());
        }
        let expected = names.iter().map(|name| format!("messages/bob/{name}"));
        assert_eq!(paths, expected.collect());
    };
    // Not more at once than wait for a client.
    for names in names.chunks(100) {
        let sealed = names
            .iter()
            .map(|name| Blob::new(BlobKind::Message, &cast.bob, &to, name).seal());
        let blobs: Vec<_> = sealed
            .map(|bytes| deliver(rig.store(), Folder::Messages, &bytes))
            .collect();
        take("arrival", names);
        for blob in blobs {
            take_away(rig.store(), Folder::Messages, blob);
        }
        take("removal", names);
    }
    // It gets whole lines to its end, the last of which says that more are lost.
    let mut lines = Vec::new();
    while let Some(line) = slow.next() {
        lines.push(line);
    }
    let last = lines.pop();
    assert_eq!(last, Some(json!({"event": "lost"})));
    assert!((256..2 * FILES).contains(&lines.len()), "{}", lines.len());
    // The other one goes on, and one that watches again does so from now on.
    let mut again = Watcher::new(&socket);
    message(&cast, rig.store(), "lunch.txt", b"at noon?");
    for watcher in [&mut quick, &mut again] {
        watcher.expect(&event("arrival", "messages/bob/lunch.txt"));
    }
}

/// `dds watch`, with its lines.
struct Program {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Program {
    fn start(mut command: Command) -> Program {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Program { child, lines }
    }

    fn next(&mut self) -> String {
        self.lines.next().expect("a line").unwrap()
    }

    /// The exit code, and the lines on standard error.
    fn end(mut self) -> (Option<i32>, String) {
        assert!(self.lines.next().is_none());
        let mut said = String::new();
        let mut err = self.child.stderr.take().unwrap();
        err.read_to_string(&mut said).unwrap();
        (self.child.wait().unwrap().code(), said)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It has ended already, unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn dds_watch_prints_sentences_or_json_until_the_lock() {
    needs!(mount);
    let cast = Cast::new();
    let mut rig = Mounted::new(&cast, "");
    let command = |arguments: &[&str]| {
        let mut command = rig.home.dds();
        command.arg("watch").args(arguments);
        command
    };
    let mountpoint = rig.mount().path("");
    let mountpoint = mountpoint
        .to_str()
        .unwrap()
        .trim_end_matches('/')
        .to_owned();
    let mut readable = Program::start(command(&[]));
    assert_eq!(readable.next(), format!("watching {mountpoint}"));
    let mut lines = Program::start(command(&["--json", &mountpoint]));
    let status: Value = serde_json::from_str(&lines.next()).unwrap();
    assert_eq!(status["status"]["mountpoint"], mountpoint.as_str());
    let lunch = message(&cast, rig.store(), "lunch.txt", b"at noon?");
    assert_eq!(
        readable.next(),
        "arrived: messages/bob/lunch.txt (from bob)"
    );
    let arrival = r#"{"event":"arrival","path":"messages/bob/lunch.txt","from":"bob","signature":"good-unverified"}"#;
    assert_eq!(lines.next(), arrival);
    take_away(rig.store(), Folder::Messages, lunch);
    assert_eq!(
        readable.next(),
        "removed: messages/bob/lunch.txt (from bob)"
    );
    assert_eq!(lines.next(), arrival.replace("arrival", "removal"));
    let first = note(&cast, rig.store(), "plan.md", "plan.md", None);
    assert_eq!(readable.next(), "arrived: notes/bob/plan.md (from bob)");
    note(&cast, rig.store(), "plan.md", "agenda.md", Some(first));
    let renamed = "renamed: notes/bob/plan.md -> notes/bob/agenda.md (from bob)";
    assert_eq!(readable.next(), renamed);
    let more = [lines.next(), lines.next()];
    assert!(
        more[1].contains(r#""old_path":"notes/bob/plan.md""#),
        "{more:?}"
    );
    // A draft is open while it locks.
    let mut draft = std::fs::File::create(rig.mount().path("notes/me/draft.txt")).unwrap();
    draft.write_all(b"half a sentence").unwrap();
    assert_eq!(run(rig.home.dds().arg("lock")).code, Some(0));
    assert_eq!(readable.next(), "locked");
    assert_eq!(lines.next(), r#"{"event":"lock"}"#);
    assert_eq!(readable.end(), (Some(0), String::new()));
    assert_eq!(lines.end(), (Some(0), String::new()));
    drop(draft);
    let refused = run(command(&[]));
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("no mount of this store is running"));
    // Across the lock: the next mount is watched anew, and one that is killed is no lock.
    rig.start();
    let mut readable = Program::start({
        let mut command = rig.home.dds();
        command.arg("watch");
        command
    });
    assert_eq!(readable.next(), format!("watching {mountpoint}"));
    rig.kill();
    let (code, said) = readable.end();
    assert_eq!(code, Some(1));
    assert!(said.contains("ended without locking"), "{said}");
}

/// A daemon in this process, which is neither mounted nor confined.
fn parts(home: &Home, store: &Path, secret: &[u8]) -> Parts<'static> {
    Parts {
        store: DirStore::open(store).unwrap(),
        identities: vec![Identity::unlock(secret, None).unwrap()],
        directories: Directories {
            pins: home.path("pins"),
            state: home.path("state"),
            cache: home.path("cache"),
            runtime: None,
            socket: SocketPath {
                directory: home.path("run"),
                name: "control.sock".to_owned(),
            },
        },
        vault: dds::vault::Options::default(),
        view: dds::view::Options::default(),
        process: None,
        idle: None,
        mount: None,
    }
}

#[test]
fn a_daemon_without_a_mount_is_asked_watched_and_locked_as_any_other() {
    let cast = Cast::new();
    let home = Home::new();
    let store = make_store(home.dir.path(), &[("one", &cast.me), ("two", &cast.bob)]);
    let socket = home.path("run/control.sock");
    let lunch = EventFile {
        path: "messages/bob/lunch.txt".to_owned(),
        from: Some("bob".to_owned()),
        signature: "good-unverified".to_owned(),
    };
    for round in 0..2 {
        let daemon = daemon::start(parts(&home, &store, &cast.me.secret)).unwrap();
        assert!(daemon.view().wait_until_read(PATIENCE).is_some());
        let serving = std::thread::spawn(move || daemon.serve(|_| {}).finish());
        let mut watcher = Connection::at(&socket).unwrap();
        assert_eq!(watcher.status.mountpoint, "");
        assert_eq!(watcher.status.sandbox, [""; 0]);
        assert_eq!(watcher.name(), store.to_str().unwrap());
        watcher.watch().unwrap();
        let mut next = || {
            let line = watcher.next_line().unwrap();
            line.map(|line| Event::from_line(&line).unwrap())
        };
        let blob = message(&cast, &store, "lunch.txt", b"at noon?");
        assert_eq!(next(), Some(Event::Arrival(lunch.clone())));
        take_away(&store, Folder::Messages, blob);
        assert_eq!(next(), Some(Event::Removal(lunch.clone())));
        let mut other = Connection::at(&socket).unwrap();
        let history = other.ask(&Request::History {
            path: String::new(),
        });
        assert!(matches!(history, Ok(Reply::History(notes)) if notes.is_empty()));
        let locked = other.ask(&Request::Lock);
        assert!(matches!(locked, Ok(Reply::Locked(lost)) if lost.is_empty()));
        assert_eq!((next(), next()), (Some(Event::Lock), None));
        let (lost, served) = serving.join().unwrap();
        assert_eq!((lost, served.is_ok()), (Vec::new(), true), "{round}");
        assert!(!socket.exists());
        wait_for("the end of the thread at the socket", || {
            let threads = std::fs::read_dir("/proc/self/task").unwrap();
            !threads.flatten().any(|thread| {
                let name = std::fs::read_to_string(thread.path().join("comm"));
                name.is_ok_and(|name| name.trim() == "control")
            })
        });
        assert!(Connection::at(&socket).is_err());
    }
}
