//! The writes to the disk: only whole blobs under their names, in an order that survives a crash.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Write as _;
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::mount::{Mount, skipped, wait_for};
use crate::support::people::blobs;
use crate::support::programs::full;
use crate::support::scene::Scene;
use dds::ids::{BlobName, Folder};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use sha2::Digest as _;

/// Asserts that every file in the store is a blob under its own name, and returns how many.
#[track_caller]
fn assert_only_whole_blobs(store: &Path) -> usize {
    let mut count = 0;
    for folder in [Folder::Messages, Folder::Notes] {
        for name in blobs(store, folder) {
            let bytes = std::fs::read(store.join(folder.name()).join(&name)).unwrap();
            assert_eq!(name, BlobName::of(&bytes).file_name());
            count += 1;
        }
    }
    count
}

fn content(number: usize) -> Vec<u8> {
    let length = match number % 10 {
        9 => 300_000 + number,
        _ => number * 7,
    };
    (0..length).map(|i| (i * 31 / 7 + number) as u8).collect()
}

/// What a watcher of the store has seen.
#[derive(Default)]
struct Seen {
    /// Names that appeared and whose files were whole then.
    whole: HashSet<String>,
    /// Names that appeared and were gone before they could be read.
    gone: usize,
    wrong: Vec<String>,
}

/// Looks at everything that appears in `folders` until `done` and nothing more is reported.
fn watch(
    inotify: &impl std::os::fd::AsFd,
    folders: &HashMap<i32, PathBuf>,
    done: &AtomicBool,
) -> Seen {
    let mut seen = Seen::default();
    let mut buffer = [MaybeUninit::uninit(); 1 << 16];
    let mut reader = inotify::Reader::new(inotify, &mut buffer);
    loop {
        // Asked before reading: whatever was done before `done` is in the queue by then.
        let last = done.load(Ordering::Acquire);
        let event = match reader.next() {
            Ok(event) => event,
            Err(rustix::io::Errno::AGAIN) if last => return seen,
            Err(rustix::io::Errno::AGAIN) => {
                std::thread::sleep(std::time::Duration::from_millis(1));
                continue;
            }
            Err(error) => panic!("inotify: {error}"),
        };
        if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
            seen.wrong
                .push("more events than the queue holds".to_owned());
            continue;
        }
        let name = event.file_name().unwrap().to_str().unwrap().to_owned();
        if name.starts_with('#') {
            continue; // A file that has no name yet.
        }
        let path = folders[&event.wd()].join(&name);
        match std::fs::read(&path) {
            Ok(bytes) if BlobName::of(&bytes).file_name() == name => {
                seen.whole.insert(name);
            }
            Ok(bytes) => seen.wrong.push(format!("{name}: {} bytes", bytes.len())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let hex = name.strip_suffix(".asc").unwrap_or_default();
                if hex.len() == 40 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                    seen.gone += 1;
                } else {
                    seen.wrong.push(name);
                }
            }
            Err(error) => seen.wrong.push(format!("{name}: {error}")),
        }
    }
}

#[test]
fn only_whole_blobs_ever_appear_in_the_store() {
    needs!(mount);
    let writes = if full() { 1000 } else { 200 };
    let scene = Scene::new(&["Bob"]);
    let queue = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap();
    let mut folders = HashMap::new();
    for folder in ["messages", "notes"] {
        let path = scene.store.join(folder);
        let appears = WatchFlags::CREATE | WatchFlags::MOVED_TO;
        folders.insert(inotify::add_watch(&queue, &path, appears).unwrap(), path);
    }
    let done = AtomicBool::new(false);
    let mount = scene.mount();
    let seen = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| watch(&queue, &folders, &done));
        for number in 1..=writes {
            // New messages and notes, and edits of a few of them.
            let path = match number % 4 {
                0 => format!("messages/bob/{number}.txt"),
                1 => format!("notes/bob/{number}.txt"),
                2 => format!("notes/me/edited {}.txt", number % 12),
                _ => format!("messages/bob/edited {}.txt", number % 12),
            };
            let mut file = File::create(mount.path(&path)).unwrap();
            file.write_all(&content(number)).unwrap();
            if number % 5 == 0 {
                file.sync_all().unwrap();
            }
        }
        assert_eq!(mount.unmount(), (Some(0), String::new()));
        done.store(true, Ordering::Release);
        watcher.join().unwrap()
    });
    assert_eq!(seen.wrong, [""; 0]);
    assert!(
        seen.whole.len() + seen.gone >= writes,
        "{} and {} of {writes}",
        seen.whole.len(),
        seen.gone
    );
    // Each that is there now was seen when it came.
    for folder in [Folder::Messages, Folder::Notes] {
        for name in blobs(&scene.store, folder) {
            assert!(seen.whole.contains(&name), "{name}");
        }
    }
    assert!(assert_only_whole_blobs(&scene.store) >= writes / 2);
}

/// A system call that succeeded, by the lines on which it began and ended.
struct Call {
    began: usize,
    ended: usize,
    text: String,
}

/// Reads the trace of strace, and joins the halves of calls that others interrupted.
fn calls(trace: &Path) -> Vec<Call> {
    let text = std::fs::read_to_string(trace).unwrap();
    let mut unfinished: HashMap<&str, (usize, &str)> = HashMap::new();
    let mut calls = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let Some((pid, rest)) = line.split_once(' ') else {
            continue;
        };
        let rest = rest.trim_start();
        if let Some(begin) = rest.strip_suffix(" <unfinished ...>") {
            unfinished.insert(pid, (at, begin));
        } else if let Some((_, end)) = rest.split_once(" resumed>") {
            let (began, begin) = unfinished.remove(pid).unwrap();
            let text = format!("{begin}{end}");
            calls.push(Call {
                began,
                ended: at,
                text,
            });
        } else {
            calls.push(Call {
                began: at,
                ended: at,
                text: rest.to_owned(),
            });
        }
    }
    calls.retain(|call| {
        let result = call.text.rsplit_once(" = ").map(|(_, result)| result);
        result.is_some_and(|result| !result.starts_with('-'))
    });
    calls
}

/// Where the history keeps second names of notes.
const SPARES: &str = "/history>";

/// Asserts that the history had a note, durably, when that went from the store: a copy, or another
/// name of its file, called by the digest of its bytes.
#[track_caller]
fn assert_kept(calls: &[Call], spare: &str, unlinked: usize) {
    let name = format!("\"{spare}\"");
    let names = |call: &&Call| {
        let text = &call.text;
        let names = text.starts_with("linkat(") || text.starts_with("rename");
        names && text.contains(&name) && text.contains(SPARES)
    };
    let linked = calls.iter().find(names).expect("it was kept");
    let durable = calls
        .iter()
        .find(|call| is_sync(call, SPARES) && call.began > linked.ended && call.ended < unlinked);
    assert!(durable.is_some(), "kept durably, then unlinked");
    let bytes = calls
        .iter()
        .find(|call| is_sync(call, &format!("/history/{spare}>")) && call.ended < unlinked);
    assert!(bytes.is_some(), "its bytes, too");
}

/// Finds where a blob got its name, and checks that its content was on disk before.
#[track_caller]
fn placed<'a>(calls: &'a [Call], folder: &Path, blob: &str) -> &'a Call {
    let name = format!("\"{blob}\"");
    let places = |call: &Call| {
        let names = call.text.starts_with("linkat(") || call.text.starts_with("rename");
        names && !call.text.contains(SPARES)
    };
    let named = |call: &&Call| places(call) && call.text.contains(&name);
    let placed = calls.iter().find(named).expect("it got its name");
    // Named "#..." or by a temporary name: a file in the folder, not the folder itself.
    let file = format!("<{}/", folder.display());
    let synced = calls
        .iter()
        .filter(|call| is_sync(call, &file) && call.ended < placed.began);
    let placed_before = calls.iter().filter(|call| {
        places(call)
            && call.text.contains(".asc\"")
            && call.text.contains(&format!("<{}>", folder.display()))
            && call.ended <= placed.ended
    });
    assert_eq!(synced.count(), placed_before.count(), "synced, then named");
    placed
}

fn is_sync(call: &Call, what: &str) -> bool {
    let sync = call.text.starts_with("fsync(") || call.text.starts_with("fdatasync(");
    sync && call.text.contains(what)
}

/// The first sync of a folder that began after something else had ended.
fn folder_synced<'a>(calls: &'a [Call], folder: &Path, after: &Call) -> Option<&'a Call> {
    let itself = format!("<{}>", folder.display());
    let mut later = calls.iter().filter(|call| call.began > after.ended);
    later.find(|call| is_sync(call, &itself))
}

#[test]
fn content_is_synced_before_it_is_named_and_its_name_before_the_old_one_goes() {
    needs!(mount);
    let traced = Command::new("strace")
        .args(["-f", "-o", "/dev/null", "true"])
        .stdin(Stdio::null())
        .output();
    if !traced.is_ok_and(|output| output.status.success()) {
        skipped("the order of system calls: strace cannot be used here");
        return;
    }
    if !rustix::process::geteuid().is_root() {
        skipped("the order of system calls: fusermount3 cannot mount when it is traced");
        return;
    }
    let scene = Scene::new(&["Bob"]);
    let trace = scene.home.path("trace");
    let mut command = scene.home.command("strace");
    command.args(["-f", "-y", "-qq", "-o"]).arg(&trace);
    command.arg("--trace=fsync,fdatasync,linkat,rename,renameat,renameat2,unlink,unlinkat");
    command.arg(env!("CARGO_BIN_EXE_dds-mount"));
    let mount = Mount::start(scene.arguments(command), &scene.home.path("secure"));
    let notes = scene.store.canonicalize().unwrap().join("notes");
    let path = mount.path("notes/bob/plan.md");
    let mut before: Option<String> = None;
    let mut spare = String::new();
    for (turn, fsync) in [false, false, true, true, false].into_iter().enumerate() {
        let mut file = File::create(&path).unwrap();
        write!(file, "edit {turn}").unwrap();
        let at_once = fsync.then(|| {
            file.sync_all().unwrap();
            let names = blobs(&scene.store, Folder::Notes);
            let new = names.into_iter().find(|name| Some(name) != before.as_ref());
            let calls = calls(&trace);
            let placed = placed(&calls, &notes, &new.unwrap());
            folder_synced(&calls, &notes, placed).is_some()
        });
        assert!(
            at_once.unwrap_or(true),
            "fsync returned before its name was safe"
        );
        drop(file);
        // Within a second, the old blob is gone.
        let mut now = Vec::new();
        wait_for("the old blob to go", || {
            now = blobs(&scene.store, Folder::Notes);
            now.len() == 1 && before.as_ref() != Some(&now[0])
        });
        let new = now.remove(0);
        if let Some(old) = before.replace(new.clone()) {
            let name = format!("\"{old}\"");
            let mut unlinked = Vec::new();
            let mut all = Vec::new();
            wait_for("the end of the call in the trace", || {
                all = calls(&trace);
                let gone =
                    |call: &Call| call.text.starts_with("unlink") && call.text.contains(&name);
                unlinked = all
                    .iter()
                    .filter(|call| gone(call))
                    .map(|call| call.began)
                    .collect();
                !unlinked.is_empty()
            });
            assert_eq!(unlinked.len(), 1);
            let placed = placed(&all, &notes, &new);
            let synced = folder_synced(&all, &notes, placed).expect("the folder was synced");
            assert!(synced.ended < unlinked[0], "turn {turn}");
            assert_kept(&all, &spare, unlinked[0]);
        }
        let digest = sha2::Sha256::digest(std::fs::read(notes.join(&new)).unwrap());
        let hex = digest.iter().map(|byte| format!("{byte:02x}"));
        spare = format!("spare-{}", hex.collect::<String>());
    }
    assert_eq!(mount.unmount(), (Some(0), String::new()));
}

#[test]
fn what_was_closed_survives_the_death_of_the_daemon() {
    needs!(mount);
    let scene = Scene::new(&["Bob"]);
    let rounds = if full() { 40 } else { 6 };
    for round in 1..=rounds {
        let new = content(round);
        let edited = content(round + 5);
        let mount = scene.mount();
        std::fs::write(mount.path(&format!("messages/bob/{round}.txt")), &new).unwrap();
        std::fs::write(mount.path(&format!("notes/me/{round}.txt")), &new).unwrap();
        std::fs::write(mount.path("notes/bob/edited.txt"), &edited).unwrap();
        mount.kill();
        let left = assert_only_whole_blobs(&scene.store);
        assert!(left > 2 * round, "{left} blobs");
        let mount = scene.mount();
        for path in [
            format!("messages/bob/{round}.txt"),
            format!("notes/me/{round}.txt"),
        ] {
            assert!(std::fs::read(mount.path(&path)).unwrap() == new, "{path}");
        }
        let read = std::fs::read(mount.path("notes/bob/edited.txt")).unwrap();
        assert!(read == edited, "round {round}");
        // The version that was replaced, if it is still there, is no conflict.
        assert_eq!(
            std::fs::read_dir(mount.path("notes/bob")).unwrap().count(),
            1
        );
        assert_eq!(
            std::fs::read_dir(mount.path("messages/bob"))
                .unwrap()
                .count(),
            round
        );
        assert_eq!(mount.unmount(), (Some(0), String::new()));
    }
}

#[test]
fn a_death_in_the_middle_of_writing_leaves_nothing_half_and_loses_nothing_closed() {
    needs!(mount);
    let scene = Scene::new(&["Bob"]);
    let rounds = if full() { 30 } else { 4 };
    for round in 0..rounds {
        let mount = scene.mount();
        let pid = i32::try_from(mount.pid()).unwrap();
        let directory = mount.path("notes/me");
        let closed = std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut closed = Vec::new();
                for number in 1.. {
                    let name = format!("{round} {number}");
                    let Ok(mut file) = File::create(directory.join(&name)) else {
                        return closed;
                    };
                    if file.write_all(&content(number)).is_err() {
                        return closed;
                    }
                    // std says nothing of the errors of close.
                    // SAFETY: the descriptor is ours, and nothing uses it afterwards.
                    if unsafe { libc::close(std::os::fd::IntoRawFd::into_raw_fd(file)) } != 0 {
                        return closed;
                    }
                    closed.push((name, number));
                }
                unreachable!("numbers do not run out");
            });
            // A different moment in each round.
            let enough = blobs(&scene.store, Folder::Notes).len() + 3 + round;
            wait_for("some blobs", || {
                blobs(&scene.store, Folder::Notes).len() >= enough
            });
            // SAFETY: the process is a child that has not been waited for.
            assert_eq!(unsafe { libc::kill(pid, libc::SIGKILL) }, 0);
            writer.join().unwrap()
        });
        mount.kill();
        assert!(!closed.is_empty());
        assert_only_whole_blobs(&scene.store);
        let mount = scene.mount();
        for (name, number) in &closed {
            let read = std::fs::read(mount.path(&format!("notes/me/{name}"))).unwrap();
            assert!(read == content(*number), "{name}");
        }
        assert_eq!(mount.unmount(), (Some(0), String::new()));
    }
}
