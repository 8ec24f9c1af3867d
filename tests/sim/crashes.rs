//! The daemon is killed at random moments while eight writers save, each files of its own.
//!
//! After the next mount each file is as its writer was told last: every change that `close`,
//! `fsync`, `rename` or `unlink` had answered for is there, and one that was under way is done
//! wholly or not at all.
//! `DDS_TEST_SEED` repeats a run as far as the clock allows.

// A run that fails tells its seed.
#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::IntoRawFd as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use crate::support::mount::wait_for;
use crate::support::programs::{assert_only_blobs, full, problems};
use crate::support::rig::{Cast, Mounted, Rig as _};
use dds::openpgp::Identity;
use dds::state::State;
use dds::vault::StateKey;

/// A small generator whose sequence a seed repeats.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % limit
    }

    fn bytes(&mut self) -> Vec<u8> {
        let length = match self.below(8) {
            0 => 1,
            1 => 200_000 + self.below(100_000),
            _ => 1 + self.below(5_000),
        };
        (0..length).map(|_| self.below(256) as u8).collect()
    }
}

type Content = Option<Vec<u8>>;

/// What a writer does with its files.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Habit {
    /// Writes files anew, and closes them.
    Close,
    /// And syncs them before.
    Fsync,
    /// Adds to the end.
    Append,
    /// Writes scratch and renames it over the file, as many editors do.
    RenameOver,
    /// Renames its files over each other.
    Shuffle,
    /// Writes and removes.
    Remove,
}

/// Who writes where, and how.
const WRITERS: [(&str, Habit); 8] = [
    ("notes/me", Habit::Close),
    ("notes/me", Habit::Shuffle),
    ("notes/me", Habit::Remove),
    ("notes/bob", Habit::Append),
    ("notes/bob,carol", Habit::RenameOver),
    ("messages/bob", Habit::Remove),
    ("messages/bob,carol", Habit::Close),
    ("messages/carol", Habit::Fsync),
];

struct Writer {
    directory: &'static str,
    habit: Habit,
    random: Random,
    /// What it was told is saved.
    saved: BTreeMap<String, Vec<u8>>,
    /// What it is about to change, all of it or nothing.
    under_way: Vec<(String, Content)>,
    /// What it did since the last mount.
    history: Vec<String>,
}

impl Writer {
    fn names(&self) -> [String; 3] {
        let habit = format!("{:?}", self.habit).to_lowercase();
        [1, 2, 3].map(|n| format!("{habit} {n}"))
    }

    fn some_name(&mut self) -> String {
        let n = self.random.below(3) as usize;
        self.names()[n].clone()
    }

    fn begin(&mut self, changes: Vec<(String, Content)>) {
        self.history
            .extend(changes.iter().map(|(name, content)| match content {
                Some(content) => format!("{name}: {} bytes", content.len()),
                None => format!("{name}: gone"),
            }));
        self.under_way = changes;
    }

    fn done(&mut self) {
        for (name, content) in std::mem::take(&mut self.under_way) {
            match content {
                Some(content) => self.saved.insert(name, content),
                None => self.saved.remove(&name),
            };
        }
    }

    /// Saves something in its way. Returns what the first call that fails says.
    fn step(&mut self, mountpoint: &Path) -> std::io::Result<()> {
        let directory = mountpoint.join(self.directory);
        let name = self.some_name();
        let path = directory.join(&name);
        let bytes = self.random.bytes();
        let old = self.saved.get(&name).cloned();
        match (self.habit, old) {
            (Habit::Append, old) => {
                let all = [old.unwrap_or_default(), bytes.clone()].concat();
                self.begin(vec![(name, Some(all))]);
                let file = File::options().append(true).create(true).open(path)?;
                write_and_close(file, &bytes)?;
            }
            (Habit::RenameOver, _) => {
                self.begin(vec![(name, Some(bytes.clone()))]);
                let scratch = directory.join(".goutputstream-ABC123");
                write_and_close(File::create(&scratch)?, &bytes)?;
                std::fs::rename(scratch, path)?;
            }
            (Habit::Shuffle, Some(old)) => {
                let other = self.some_name();
                if other == name {
                    return Ok(());
                }
                let to = directory.join(&other);
                self.begin(vec![(name, None), (other, Some(old))]);
                std::fs::rename(path, to)?;
            }
            (Habit::Remove, Some(_)) if self.random.below(2) == 0 => {
                self.begin(vec![(name, None)]);
                std::fs::remove_file(path)?;
            }
            (Habit::Fsync, _) => {
                self.begin(vec![(name, Some(bytes.clone()))]);
                let mut file = File::create(path)?;
                file.write_all(&bytes)?;
                file.sync_all()?;
                self.done();
                return close(file);
            }
            (Habit::Close | Habit::Shuffle | Habit::Remove, _) => {
                self.begin(vec![(name, Some(bytes.clone()))]);
                write_and_close(File::create(path)?, &bytes)?;
            }
        }
        self.done();
        Ok(())
    }

    /// It is not known whether its last removal was done.
    fn was_removing(&self) -> bool {
        matches!(&self.under_way[..], [(_, None)])
    }

    /// Compares its files with the answers that it got, and goes on from the files.
    fn check(&mut self, rig: &Mounted) {
        let found: BTreeMap<String, Vec<u8>> = self
            .names()
            .into_iter()
            .filter_map(|name| {
                let path = rig.mount().path(self.directory).join(&name);
                match std::fs::read(path) {
                    Ok(bytes) => Some((name, bytes)),
                    Err(error) => {
                        assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{name}");
                        None
                    }
                }
            })
            .collect();
        let old = self.saved.clone();
        let under_way = std::mem::take(&mut self.under_way);
        let mut possible = vec![old.clone()];
        // Renamed and not yet told so: it may stand under both names, never under none.
        possible.extend(under_way.iter().rev().scan(old, |files, (name, content)| {
            match content {
                Some(content) => files.insert(name.clone(), content.clone()),
                None => files.remove(name),
            };
            Some(files.clone())
        }));
        if !possible.contains(&found) {
            let told = |files: &BTreeMap<String, Vec<u8>>| {
                let sizes = files
                    .iter()
                    .map(|(name, bytes)| (name.clone(), bytes.len()));
                sizes.collect::<Vec<_>>()
            };
            let possible: Vec<_> = possible.iter().map(told).collect();
            let (directory, habit, found) = (self.directory, self.habit, told(&found));
            let history = self.history.join("\n");
            panic!(
                "{directory} {habit:?}: found {found:?}, none of {possible:?}, after\n{history}"
            );
        }
        self.saved = found;
        self.history.clear();
    }
}

fn write_and_close(mut file: File, bytes: &[u8]) -> std::io::Result<()> {
    let (first, second) = bytes.split_at(bytes.len() / 2);
    file.write_all(first)?;
    file.write_all(second)?;
    close(file)
}

/// Closes with the error that std does not tell.
fn close(file: File) -> std::io::Result<()> {
    // SAFETY: the descriptor is ours, and nothing uses it afterwards.
    match unsafe { libc::close(file.into_raw_fd()) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// Lets all writers work until the daemon is killed, at some moment after so many steps of theirs.
fn round(rig: &mut Mounted, writers: &mut [Writer], steps: usize, then: Duration) {
    let mountpoint = rig.mount().path("");
    let (done, killed) = (AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for writer in writers {
            let (mountpoint, done, killed) = (&mountpoint, &done, &killed);
            scope.spawn(move || {
                loop {
                    match writer.step(mountpoint) {
                        Ok(()) => done.fetch_add(1, Ordering::Relaxed),
                        Err(_) if killed.load(Ordering::Acquire) => return,
                        Err(error) => {
                            // The others must end, too.
                            done.fetch_add(1 << 20, Ordering::Relaxed);
                            panic!("{} {:?}: {error}", writer.directory, writer.habit);
                        }
                    };
                }
            });
        }
        wait_for("the writers", || done.load(Ordering::Relaxed) >= steps);
        // Not a wait for anything: any moment will do, and each round has another.
        std::thread::sleep(then);
        killed.store(true, Ordering::Release);
        rig.kill();
    });
}

/// Asserts that no file shows but those that the writers know of.
fn assert_no_others(rig: &Mounted, writers: &[Writer]) {
    for directory in WRITERS.map(|(directory, _)| directory) {
        let theirs = writers
            .iter()
            .filter(|writer| writer.directory == directory);
        let mut known: Vec<_> = theirs.flat_map(|writer| writer.saved.keys()).collect();
        known.sort();
        let shown = rig.list(directory).unwrap();
        assert_eq!(shown.iter().collect::<Vec<_>>(), known, "{directory}");
        for name in shown {
            let pending = rig.xattr(&format!("{directory}/{name}"), "user.dds.pending");
            if let Some(readers) = directory.strip_prefix("messages/") {
                assert_eq!(pending.as_deref(), Ok(readers), "{directory}/{name}");
            }
        }
    }
}

/// Asserts that nothing is wrong. A removal is written down before it is done: one that a kill came
/// between is told as one of a file that a peer brought back.
fn assert_few_returned(rig: &Mounted, removals: usize) {
    let problems = problems(rig);
    let returned = |problem: &&String| problem.contains(" came back");
    let count = problems.iter().filter(returned).count();
    assert!(
        count == problems.len() && count <= removals,
        "{removals} removals: {problems:?}"
    );
}

#[test]
fn what_was_answered_for_survives_kills_at_random_moments() {
    needs!(mount);
    let _cores = crate::every_core();
    let seed = match std::env::var("DDS_TEST_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            now.unwrap().as_nanos() as u64 | 1
        }
    };
    println!("DDS_TEST_SEED={seed}");
    let cast = Cast::new();
    let mut rig = Mounted::new(&cast, "");
    let mut random = Random(seed);
    let mut writers = WRITERS.map(|(directory, habit)| Writer {
        directory,
        habit,
        random: Random(random.below(u64::MAX) | 1),
        saved: BTreeMap::new(),
        under_way: Vec::new(),
        history: Vec::new(),
    });
    let mut removals = 0;
    for number in 1..=if full() { 50 } else { 5 } {
        println!("round {number}");
        let steps = 8 + random.below(60) as usize;
        let then = Duration::from_micros(random.below(30_000));
        round(&mut rig, &mut writers, steps, then);
        rig.start();
        removals += writers
            .iter()
            .filter(|writer| writer.was_removing())
            .count();
        for writer in &mut writers {
            writer.check(&rig);
        }
        assert_no_others(&rig, &writers);
        assert_few_returned(&rig, removals);
    }
    // Once more in peace: what is saved now is what is there, blob by blob.
    let mountpoint = rig.mount().path("");
    for writer in &mut writers {
        for _ in 0..3 {
            writer.step(&mountpoint).unwrap();
        }
    }
    rig.remount();
    for writer in &mut writers {
        writer.check(&rig);
    }
    assert_no_others(&rig, &writers);
    assert_few_returned(&rig, removals);

    // Nothing is left to be completed.
    let (home, mount) = rig.take();
    assert_eq!(mount.unmount(), (Some(0), String::new()));
    assert_only_blobs(&home.path("store"));
    let mut states = std::fs::read_dir(home.path(".local/state/dds")).unwrap();
    let state = states.next().unwrap().unwrap().path();
    let identities = vec![Identity::unlock(&cast.me.secret, None).unwrap()];
    let opened = State::open(&state, &StateKey(&identities)).unwrap();
    assert!(opened.unfinished().is_empty());
    assert!(state.join("staged").read_dir().unwrap().next().is_none());
}
