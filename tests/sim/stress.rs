//! Readers, writers, programs that watch, and arrivals, all at once on one mount: nothing hangs,
//! nobody reads a mixture, nothing is lost.

#![allow(clippy::print_stdout)]

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::{Scope, scope};
use std::time::{Duration, Instant, SystemTime};

use crate::support::mount::{is_mounted, wait_for};
use crate::support::people::Blob;
use crate::support::programs::{assert_quiet, full};
use crate::support::rig::{Cast, Mounted, Rig as _};
use dds::ids::{BlobKind, BlobName, Folder};

/// Notes that bob edits while programs here read them, and one that they edit, too.
const SHARED: usize = 3;
/// Messages of bob that lie there at once.
const MESSAGES: usize = 5;
/// Who takes longer for one step hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A content that shows whether it is whole: its first line determines all others.
fn content(who: &str, number: usize) -> Vec<u8> {
    let lines = number * 7919 % 1500;
    let mut text = format!("{who} {number} {lines}\n");
    for line in 0..lines {
        text.push_str(&format!("{who} {number} line {line}\n"));
    }
    text.into_bytes()
}

fn assert_whole(path: &Path, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut words = text.split_whitespace();
    let (Some(who), Some(number)) = (words.next(), words.next()) else {
        // A new file before its first save, as its writer has it open.
        return assert!(bytes.is_empty(), "{}: {text:.60}", path.display());
    };
    let whole = content(who, number.parse().unwrap());
    assert!(bytes == whole, "{}: {text:.60}...", path.display());
}

/// A thread that repeats one activity.
struct Worker<'a> {
    name: &'static str,
    stop: &'a AtomicBool,
    alive: Sender<&'static str>,
    root: PathBuf,
}

impl Worker<'_> {
    fn work(self, mut step: impl FnMut(&Path, usize)) {
        let mut number = 0;
        while !self.stop.load(Ordering::Relaxed) {
            number += 1;
            step(&self.root, number);
            self.alive.send(self.name).unwrap();
        }
    }
}

/// Reads every file that is there, in small pieces. A file may disappear meanwhile.
fn read_everything(root: &Path, number: usize) {
    let dirs = ["messages/bob", "notes/bob", "notes/me"];
    let dir = root.join(dirs[number % dirs.len()]);
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => panic!("{}: {error}", path.display()),
        };
        // Long before the end is read another version may be there.
        let (mut bytes, mut piece) = (Vec::new(), [0; 3000]);
        loop {
            match file.read(&mut piece) {
                Ok(0) => break,
                Ok(length) => bytes.extend(&piece[..length]),
                Err(error) => panic!("{}: {error}", path.display()),
            }
        }
        if !bytes.is_empty() {
            assert_whole(&path, &bytes);
        }
    }
}

/// Writes a note beside another that is renamed over it, reads it back, removes it.
fn write_own(root: &Path, number: usize, who: &str) {
    let path = root.join(format!("notes/me/{who}.md"));
    // A program that reads it meanwhile would else see it half written.
    let scratch = root.join(format!("notes/me/{who}.md~"));
    fs::write(&scratch, content(who, number)).unwrap();
    fs::rename(&scratch, &path).unwrap();
    assert_eq!(fs::read(&path).unwrap(), content(who, number));
    if number % 5 == 0 {
        fs::remove_file(&path).unwrap();
        assert!(!path.exists());
    }
}

/// Edits the notes that Bob edits, too, and removes the conflict copies.
fn edit_shared(root: &Path, number: usize) {
    let dir = root.join("notes/bob");
    let path = dir.join("shared 0.md");
    match fs::read(&path) {
        Ok(bytes) => assert_whole(&path, &bytes),
        // Bob's next version is on its way.
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => panic!("{}: {error}", path.display()),
    }
    let scratch = dir.join("shared 0.md~");
    fs::write(&scratch, content("me", number)).unwrap();
    fs::rename(&scratch, &path).unwrap();
    for entry in fs::read_dir(&dir).unwrap() {
        let name = entry.unwrap().file_name();
        if name.to_string_lossy().contains("(conflict") {
            match fs::remove_file(dir.join(&name)).map_err(|error| error.kind()) {
                // Bob's next version is on its way, or this one is the only one by now.
                Ok(()) | Err(ErrorKind::NotFound | ErrorKind::PermissionDenied) => {}
                Err(error) => panic!("{name:?}: {error}"),
            }
        }
    }
}

/// What bob's machine sends.
struct Bob<'a> {
    cast: &'a Cast,
    store: &'a Path,
    notes: [Option<BlobName>; SHARED],
    messages: Vec<BlobName>,
    /// The number of the message that he sent last.
    last: usize,
}

impl Bob<'_> {
    fn send(&mut self, number: usize) {
        let to = [&self.cast.me, &self.cast.bob];
        let bob = &self.cast.bob;
        let text = content("bob", number);
        let which = number % SHARED;
        let path = format!("shared {which}.md");
        let mut note = Blob::new(BlobKind::Note, bob, &to, &path).content(&text);
        note.notations.replaces.extend(self.notes[which]);
        note.created = Some(SystemTime::now());
        let name = note.deliver(self.store, Folder::Notes);
        self.last = number;
        if let Some(old) = self.notes[which].replace(name) {
            self.take_away(Folder::Notes, old);
        }
        let path = format!("message {number}.txt");
        let message = Blob::new(BlobKind::Message, bob, &to, &path).content(&text);
        self.messages
            .push(message.deliver(self.store, Folder::Messages));
        if self.messages.len() > MESSAGES {
            let old = self.messages.remove(0);
            self.take_away(Folder::Messages, old);
        }
    }

    /// What was replaced by a program here is gone already.
    fn take_away(&self, folder: Folder, blob: BlobName) {
        let file = self.store.join(folder.name()).join(blob.file_name());
        match fs::remove_file(file) {
            Err(error) if error.kind() != ErrorKind::NotFound => panic!("{error}"),
            _ => {}
        }
    }
}

fn start<'s>(
    threads: &'s Scope<'s, '_>,
    worker: Worker<'s>,
    step: impl FnMut(&Path, usize) + Send + 's,
) {
    threads.spawn(move || worker.work(step));
}

#[test]
fn everything_at_once_neither_hangs_nor_mixes_nor_loses() {
    needs!(mount);
    let _cores = crate::every_core();
    let time = Duration::from_secs(if full() { 60 } else { 5 });
    let cast = Cast::new();
    let mut rig = Mounted::new(&cast, "");
    let root = rig.mount().path("");
    let store = rig.store().to_owned();
    let mut bob = Bob {
        cast: &cast,
        store: &store,
        notes: [None; SHARED],
        messages: Vec::new(),
        last: 0,
    };
    (0..SHARED).for_each(|number| bob.send(number));
    let mut watching = Command::new("inotifywait");
    watching.args(["--monitor", "--recursive", "--quiet", "."]);
    watching.current_dir(&root).stdin(Stdio::null());
    let watching = watching.stdout(Stdio::null()).stderr(Stdio::null()).spawn();

    let stop = AtomicBool::new(false);
    let names = [
        "reader",
        "reader too",
        "writer",
        "writer too",
        "editor",
        "bob",
    ];
    let (alive, heard) = channel();
    scope(|threads| {
        let worker = |name| Worker {
            name,
            stop: &stop,
            alive: alive.clone(),
            root: root.clone(),
        };
        start(threads, worker("reader"), read_everything);
        start(threads, worker("reader too"), |root, number| {
            read_everything(root, number + 1);
        });
        start(threads, worker("writer"), |root, n| write_own(root, n, "a"));
        start(threads, worker("writer too"), |root, n| {
            write_own(root, n, "b");
        });
        start(threads, worker("editor"), edit_shared);
        let bob = &mut bob;
        start(threads, worker("bob"), move |_, n| bob.send(n + SHARED));
        let begun = Instant::now();
        let mut last = names.map(|name| (name, Instant::now(), 0));
        let mut stuck = None;
        while stuck.is_none() && begun.elapsed() < time {
            let step = heard.recv_timeout(PATIENCE);
            for (name, when, count) in &mut last {
                if step == Ok(*name) {
                    (*when, *count) = (Instant::now(), *count + 1);
                } else if when.elapsed() > PATIENCE {
                    stuck = Some(*name);
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
        if stuck.is_some() {
            // Else the threads could not end.
            rig.kill();
        }
        assert_eq!(stuck, None, "who does not get on");
        println!("steps: {:?}", last.map(|(name, _, count)| (name, count)));
        assert!(last.iter().all(|(.., count)| *count > 0), "{last:?}");
    });
    if let Ok(mut watching) = watching {
        watching.kill().unwrap();
        watching.wait().unwrap();
    }

    // Bob's last version may have come after the last look of the editor, who settles that, too.
    let last = root.join(format!("messages/bob/message {}.txt", bob.last));
    wait_for("bob's last message", || last.exists());
    wait_for("an end of the conflicts", || {
        edit_shared(&root, bob.last);
        let names = rig.list("notes/bob").unwrap();
        !names.iter().any(|name| name.contains("(conflict"))
    });

    let shown = |rig: &Mounted| {
        let dirs = ["messages/bob", "notes/bob", "notes/me"];
        let paths = dirs.into_iter().flat_map(|dir| {
            let names = rig.list(dir).unwrap().into_iter();
            names.map(move |name| format!("{dir}/{name}"))
        });
        let mut contents: Vec<Vec<u8>> = paths.map(|path| rig.read(&path).unwrap()).collect();
        contents.sort();
        contents
    };
    assert_quiet(&rig);
    let before = shown(&rig);
    for bytes in &before {
        assert_whole(Path::new("at the end"), bytes);
    }
    rig.remount();
    assert!(shown(&rig) == before, "another mount shows something else");
    let mountpoint = rig.mount().path("");
    rig.end_by(libc::SIGTERM);
    assert!(!is_mounted(&mountpoint));
}
