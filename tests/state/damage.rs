//! The sealed log under damage: nothing that was not noted ever counts, and damage is told.

use std::fs;
use std::path::{Path, PathBuf};

use crate::samples::*;
use dds::ids::{BlobName, Folder};
use dds::state::Intent;

/// A closed state directory with removals 0, 1, 2, .. and where each record of its log begins.
struct Sample {
    dir: tempfile::TempDir,
    log: Vec<u8>,
    starts: Vec<usize>,
}

impl Sample {
    fn new(removals: u32) -> Sample {
        // Thousands of starts: where fsync is quick, if there is such a place.
        let ram = Path::new("/dev/shm");
        let base = if ram.is_dir() {
            ram
        } else {
            &std::env::temp_dir()
        };
        let dir = tempfile::tempdir_in(base).unwrap();
        let state = open(dir.path());
        let length = || fs::metadata(dir.path().join("log")).unwrap().len() as usize;
        let mut starts = vec![length()];
        for n in 0..removals {
            state.note_removed(&removal(n)).unwrap();
            starts.push(length());
        }
        drop(state);
        let log = fs::read(dir.path().join("log")).unwrap();
        Sample { dir, log, starts }
    }

    /// Opens the directory with this log in it. Returns the removals that count, and the notices.
    fn with(&self, log: &[u8]) -> (Vec<u32>, Vec<String>) {
        fs::write(self.path("log"), log).unwrap();
        let state = open(self.dir.path());
        let read = removed(&state);
        // Ancestors are forgotten and remembered with what replaced them.
        for n in 0..100 {
            let ancestor = state.is_removed_ancestor(name(n + 1000), lineage(1));
            assert_eq!(ancestor, read.contains(&n));
        }
        // Whatever it was, it goes on from here.
        state.note_removed(&removal(99)).unwrap();
        let notices = state.notices();
        drop(state);
        let again = open(self.dir.path());
        assert_eq!(again.notices(), [""; 0], "told once");
        assert_eq!(removed(&again), [read.as_slice(), &[99]].concat());
        drop(again);
        let aside: Vec<_> = self.aside().collect();
        assert_eq!(aside.len(), notices.len(), "{notices:?}");
        for path in aside {
            assert!(notices[0].contains(path.to_str().unwrap()), "{notices:?}");
            assert_eq!(fs::read(&path).unwrap(), log, "kept to the byte");
            fs::remove_file(path).unwrap();
        }
        (read, notices)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn aside(&self) -> impl Iterator<Item = PathBuf> {
        let entries = fs::read_dir(self.dir.path()).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths.filter(|path| path.to_str().unwrap().contains("/log.damaged-"))
    }

    fn record(&self, n: usize) -> &[u8] {
        &self.log[self.starts[n]..self.starts[n + 1]]
    }

    fn header(&self) -> &[u8] {
        &self.log[..self.starts[0]]
    }
}

/// For thousands of starts: where fsync is quick, if there is such a place.
fn directory() -> tempfile::TempDir {
    let ram = Path::new("/dev/shm");
    let base = if ram.is_dir() {
        ram
    } else {
        &std::env::temp_dir()
    };
    tempfile::tempdir_in(base).unwrap()
}

fn below(n: usize) -> Vec<u32> {
    (0..n as u32).collect()
}

#[test]
fn a_log_that_was_cut_anywhere_keeps_its_whole_records_and_says_nothing() {
    let sample = Sample::new(3);
    for cut in sample.header().len()..=sample.log.len() {
        let (read, notices) = sample.with(&sample.log[..cut]);
        let whole = sample.starts.iter().filter(|start| **start <= cut).count() - 1;
        assert_eq!(read, below(whole), "cut at {cut}");
        assert_eq!(notices, [""; 0], "cut at {cut}");
    }
}

#[test]
fn a_log_without_its_beginning_is_told() {
    let sample = Sample::new(2);
    for cut in 0..sample.header().len() {
        let (read, notices) = sample.with(&sample.log[..cut]);
        assert_eq!((read.len(), notices.len()), (0, 1), "cut at {cut}");
    }
}

#[test]
fn every_flipped_byte_is_told_and_adds_nothing() {
    let sample = Sample::new(3);
    for at in 0..sample.log.len() {
        let mut log = sample.log.clone();
        log[at] ^= 1 << (at % 8);
        if log.starts_with(b"dds state log") && at == 14 && (b'2'..=b'9').contains(&log[at]) {
            log[at] = b'x';
        }
        let (read, notices) = sample.with(&log);
        assert_eq!(notices.len(), 1, "byte {at}");
        let hit = sample.starts.iter().filter(|start| **start <= at).count();
        let expected = match hit.checked_sub(1) {
            None => vec![],
            // A length or its check: what follows cannot be placed.
            Some(record) if at - sample.starts[record] < 8 => below(record),
            Some(record) => (0..3).filter(|n| *n != record as u32).collect(),
        };
        assert_eq!(read, expected, "byte {at}");
    }
}

#[test]
fn overwritten_ranges_are_told() {
    let sample = Sample::new(4);
    let (from, to) = (sample.starts[1], sample.starts[2]);
    for (range, filler) in [
        (from..to, 0),
        (from..sample.log.len(), 0),
        (from..to, 0xff),
        (from..from + 4, 0xff),
        (from + 40..to - 1, 0),
        (sample.starts[3]..sample.log.len(), 0),
    ] {
        let mut log = sample.log.clone();
        log[range.clone()].fill(filler);
        let (read, notices) = sample.with(&log);
        assert_eq!(notices.len(), 1, "{range:?}");
        assert!(read.iter().all(|n| *n < 4) && read.contains(&0));
    }
    let (read, notices) = sample.with(&[&sample.log, [0; 100].as_slice()].concat());
    assert_eq!((read, notices.len()), (below(4), 1));
}

#[test]
fn records_keep_their_place_and_their_file() {
    let sample = Sample::new(4);
    let other = Sample::new(4);
    // The same key, another file.
    let sibling = tempfile::tempdir().unwrap();
    fs::copy(sample.path("key.asc"), sibling.path().join("key.asc")).unwrap();
    let state = open(sibling.path());
    for n in 50..54 {
        state.note_removed(&removal(n)).unwrap();
    }
    drop(state);
    let sibling = Sample {
        log: fs::read(sibling.path().join("log")).unwrap(),
        dir: sibling,
        starts: sample.starts.clone(),
    };
    let record = |n| sample.record(n);
    let cases: [(&str, Vec<&[u8]>, usize); 7] = [
        (
            "swapped",
            vec![record(0), record(2), record(1), record(3)],
            1,
        ),
        ("left out", vec![record(0), record(2), record(3)], 1),
        ("first left out", vec![record(1), record(2), record(3)], 0),
        ("twice", vec![record(0), record(1), record(1), record(2)], 2),
        ("again at the end", vec![record(0), record(1), record(0)], 2),
        ("from another store", vec![record(0), other.record(1)], 1),
        (
            "same key, other file",
            vec![record(0), sibling.record(1), record(2)],
            1,
        ),
    ];
    for (what, records, kept) in cases {
        let log = [sample.header(), &records.concat()].concat();
        let (read, notices) = sample.with(&log);
        assert_eq!((read, notices.len()), (below(kept), 1), "{what}");
    }
    let (read, notices) = sample.with(&other.log);
    assert_eq!((read.len(), notices.len()), (0, 1), "a log of another key");
}

#[test]
fn a_length_is_never_believed() {
    // With its check made right: whoever damages on purpose can do that.
    use sha2::Digest as _;
    let sample = Sample::new(1);
    for length in [0_u32, 15, 16, 17, 1 << 20, (1 << 20) + 1, u32::MAX] {
        let check = sha2::Sha256::new()
            .chain_update(sample.header())
            .chain_update(0_u64.to_be_bytes())
            .chain_update(length.to_be_bytes())
            .finalize();
        let mut log = sample.log.clone();
        let at = sample.starts[0];
        log[at..at + 4].copy_from_slice(&length.to_be_bytes());
        log[at + 4..at + 8].copy_from_slice(&check[..4]);
        let (read, notices) = sample.with(&log);
        let torn = length == 1 << 20;
        assert_eq!((read.len(), notices.is_empty()), (0, torn), "{length}");
    }
}

#[test]
fn an_older_copy_of_the_whole_file_is_what_was_true_then() {
    let sample = Sample::new(3);
    let (read, notices) = sample.with(&sample.log[..sample.starts[2]]);
    assert_eq!((read, notices.len()), (below(2), 0));
}

#[test]
fn a_log_of_a_newer_version_is_left_alone() {
    let sample = Sample::new(1);
    let mut log = sample.log.clone();
    log[14] = b'2';
    fs::write(sample.path("log"), &log).unwrap();
    let error = refused(sample.dir.path());
    assert_eq!(error.kind(), dds::error::Kind::BadConfig);
    assert!(error.to_string().contains("newer version"), "{error}");
    assert_eq!(fs::read(sample.path("log")).unwrap(), log);
}

#[test]
fn a_missing_log_is_told() {
    let sample = Sample::new(1);
    fs::remove_file(sample.path("log")).unwrap();
    let state = open(sample.dir.path());
    let notices = state.notices();
    assert_eq!(notices.len(), 1);
    assert!(notices[0].contains("log is missing"), "{notices:?}");
    drop(state);
    assert_eq!(open(sample.dir.path()).notices(), [""; 0]);
}

#[test]
fn a_damaged_or_missing_key_is_never_replaced() {
    let sample = Sample::new(2);
    let key = sample.path("key.asc");
    let good = fs::read(&key).unwrap();
    let refused = |what: &str| {
        let error = refused(sample.dir.path());
        assert_eq!(error.kind(), dds::error::Kind::BadConfig, "{what}");
        assert!(error.to_string().contains(key.to_str().unwrap()), "{error}");
        assert_eq!(fs::read(sample.path("log")).unwrap(), sample.log);
    };
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        fs::write(&key, &bad).unwrap();
        refused("flipped");
        assert_eq!(fs::read(&key).unwrap(), bad);
    }
    for (what, bytes) in [("empty", vec![]), ("huge", vec![1; (1 << 20) + 1])] {
        fs::write(&key, bytes).unwrap();
        refused(what);
    }
    fs::remove_file(&key).unwrap();
    refused("missing");
    assert!(!key.exists());
    fs::create_dir(&key).unwrap();
    refused("a directory");
    fs::remove_dir(&key).unwrap();
    fs::write(&key, &good).unwrap();
    assert_eq!(removed(&open(sample.dir.path())), [0, 1]);
}

#[test]
fn several_damaged_logs_are_all_kept() {
    let sample = Sample::new(1);
    for n in 1..=3 {
        fs::write(sample.path("log"), [n; 64]).unwrap();
        open(sample.dir.path());
        let aside = sample.path(&format!("log.damaged-{n}"));
        assert_eq!(fs::read(aside).unwrap(), [n; 64]);
    }
    assert_eq!(sample.aside().count(), 3);
}

#[test]
fn what_was_promised_is_in_every_copy_taken_at_a_random_moment() {
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
    let sample = Sample::new(0);
    let copy = directory();
    fs::copy(sample.path("key.asc"), copy.path().join("key.asc")).unwrap();
    let state = open(sample.dir.path());
    let (promised, stop) = (AtomicU32::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let intent = Intent {
                folder: Folder::Notes,
                publish: vec![],
                remove: vec![],
            };
            for n in 0.. {
                // Mostly void, so that the log is rewritten again and again.
                state.finish(state.begin(&intent).unwrap()).unwrap();
                if n % 40 == 0 && n / 40 < 99 {
                    state.note_removed(&removal(n / 40)).unwrap();
                    promised.store(n / 40 + 1, SeqCst);
                }
                if stop.load(SeqCst) {
                    break;
                }
            }
        });
        for _ in 0..50 {
            let before = promised.load(SeqCst);
            fs::copy(sample.path("log"), copy.path().join("log")).unwrap();
            let after = promised.load(SeqCst);
            let found = open(copy.path());
            assert_eq!(found.notices(), [""; 0]);
            assert!(found.unfinished().len() <= 1);
            let read = removed(&found);
            assert_eq!(read, below(read.len()));
            // One more may be on disk and not yet promised.
            let expected = before as usize..=after as usize + 1;
            assert!(expected.contains(&read.len()), "{read:?} {expected:?}");
        }
        stop.store(true, SeqCst);
    });
    assert!(promised.load(SeqCst) > 0);
}

#[test]
fn an_older_log_put_back_while_in_use_forgets_nothing() {
    let sample = Sample::new(3);
    let state = open(sample.dir.path());
    let older = sample.path("older");
    fs::write(&older, &sample.log[..sample.starts[1]]).unwrap();
    fs::rename(older, sample.path("log")).unwrap();
    state.note_removed(&removal(3)).unwrap();
    drop(state);
    let state = open(sample.dir.path());
    assert_eq!((removed(&state), state.notices().len()), (below(4), 0));
}

#[test]
fn an_intent_that_comes_back_has_lost_its_blobs() {
    let sample = Sample::new(0);
    let state = open(sample.dir.path());
    let bytes = b"sealed";
    let name = BlobName::of(bytes);
    let staged = state.stage(&mut |out| {
        out.write_all(bytes).unwrap();
        Ok(name)
    });
    let intent = Intent {
        folder: Folder::Messages,
        publish: vec![staged.unwrap().name],
        remove: vec![],
    };
    let begun = state.begin(&intent).unwrap();
    let older = fs::read(sample.path("log")).unwrap();
    state.finish(begun).unwrap();
    drop(state);
    fs::write(sample.path("log"), older).unwrap();
    let state = open(sample.dir.path());
    assert_eq!(state.unfinished(), [(begun, intent)]);
    assert!(state.open_staged(name).is_err());
    state.finish(begun).unwrap();
    assert_eq!(state.unfinished(), []);
}

/// Every file that the directory may hold after a crash at any step of its first start.
#[test]
fn a_first_start_that_died_anywhere_starts_again() {
    let whole = Sample::new(0);
    let make = |names: &[&str]| {
        let dir = tempfile::tempdir().unwrap();
        for name in names {
            let from = whole.path(name.trim_start_matches(".tmp-"));
            fs::copy(from, dir.path().join(name)).unwrap();
        }
        dir
    };
    for names in [
        [].as_slice(),
        &["lock"],
        &["lock", ".tmp-log"],
        &["lock", "log"],
        &["lock", "log", ".tmp-key.asc"],
        &["lock", "log", "key.asc"],
    ] {
        let dir = make(names);
        let state = open(dir.path());
        assert_eq!(state.notices(), [""; 0], "{names:?}");
        state.note_removed(&removal(0)).unwrap();
        drop(state);
        assert_eq!(removed(&open(dir.path())), [0], "{names:?}");
        assert_eq!(files(dir.path()), ["key.asc", "lock", "log"], "{names:?}");
    }
}

fn files(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let files = entries.filter(|entry| entry.file_type().unwrap().is_file());
    let mut names: Vec<_> = files
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
