//! What is kept, for how long, and in how much room.

use std::collections::HashSet;

use super::Lineage;
use super::dir::Dir;
use super::history::*;
use crate::error::{Error, Kind};
use crate::ids::{BlobId, Timestamp};
use std::io::Write;

fn at(seconds: i64) -> Timestamp {
    Timestamp::new(seconds, 0).unwrap()
}

fn lineage(n: u8) -> Lineage {
    Lineage::from_digest([n; 32])
}

fn open(dir: &std::path::Path, limits: Limits) -> History {
    let history = History::open(&Dir::make(dir).unwrap()).unwrap();
    history.set_limits(limits).unwrap();
    history
}

fn keep(history: &History, bytes: &[u8], of: u8) -> BlobId {
    let id = BlobId::of(bytes);
    if history.needs_spare(id, || lineage(of)).unwrap() {
        let size = bytes.len() as u64;
        let write = |to: &mut dyn Write| to.write_all(bytes).map_err(|e| Error::io("", e));
        history.copy(id, lineage(of), size, write).unwrap();
    }
    id
}

fn ids(history: &History) -> HashSet<BlobId> {
    history.gone().iter().map(|gone| gone.id).collect()
}

fn limits(bytes: u64, versions: usize) -> Limits {
    Limits {
        bytes,
        versions,
        ..Limits::days(30)
    }
}

#[test]
fn what_went_is_there_after_a_restart_until_it_is_old() {
    let dir = tempfile::tempdir().unwrap();
    let history = open(dir.path(), Limits::default());
    let (old, new) = (keep(&history, b"old", 1), keep(&history, b"new", 1));
    history.went(old, at(1_000)).unwrap();
    history.went(new, at(2_000)).unwrap();
    drop(history);
    let history = open(dir.path(), Limits::default());
    assert_eq!(ids(&history), HashSet::from([old, new]));
    let month = 30 * 24 * 60 * 60;
    assert_eq!(history.prune(at(1_000 + month)).unwrap(), 0);
    assert_eq!(history.prune(at(1_001 + month)).unwrap(), 1);
    assert_eq!(ids(&history), HashSet::from([new]));
    assert!(history.open_gone(old).is_err() && history.open_gone(new).is_ok());
}

#[test]
fn the_oldest_goes_when_there_are_too_many_or_too_large_ones() {
    for limits in [limits(u64::MAX, 2), limits(9, 10)] {
        let dir = tempfile::tempdir().unwrap();
        let history = open(dir.path(), limits);
        let versions = [b"one.", b"two.", b"3..."].map(|bytes| keep(&history, bytes, 1));
        for (id, time) in versions.into_iter().zip([20, 10, 30]) {
            history.went(id, at(time)).unwrap();
        }
        assert_eq!(history.prune(at(40)).unwrap(), 1);
        let [one, _, three] = versions;
        assert_eq!(ids(&history), HashSet::from([one, three]));
    }
}

#[test]
fn copies_take_no_more_room_than_they_may() {
    let dir = tempfile::tempdir().unwrap();
    let copies = 5;
    let history = open(
        dir.path(),
        Limits {
            copies,
            ..Limits::default()
        },
    );
    keep(&history, b"four", 1);
    let id = BlobId::of(b"more");
    let write = |_: &mut dyn Write| panic!("nothing is written");
    let refused = history.copy(id, lineage(1), 4, write);
    assert_eq!(refused.unwrap_err().kind(), Kind::TooLarge);
}

#[test]
fn a_copy_of_something_else_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let history = open(dir.path(), Limits::default());
    let write = |to: &mut dyn Write| to.write_all(b"other").map_err(|e| Error::io("", e));
    let copied = history.copy(BlobId::of(b"bytes"), lineage(1), 5, write);
    assert_eq!(copied.unwrap_err().kind(), Kind::Busy);
    let left = std::fs::read_dir(dir.path().join("history/spare")).unwrap();
    assert_eq!(left.count(), 0);
}

#[test]
fn what_is_back_is_a_spare_again() {
    let dir = tempfile::tempdir().unwrap();
    let history = open(dir.path(), Limits::default());
    let id = keep(&history, b"bytes", 1);
    history.went(id, at(5)).unwrap();
    assert!(!history.needs_spare(id, || lineage(1)).unwrap());
    assert_eq!((history.spares(), history.gone()), (vec![id], vec![]));
    history.went(id, at(7)).unwrap();
    let went: Vec<_> = history.gone().iter().map(|gone| gone.at).collect();
    assert_eq!(went, [at(7)]);
}

#[test]
fn one_busy_document_does_not_push_out_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let history = open(dir.path(), Limits::default());
    let other = keep(&history, b"other", 2);
    history.went(other, at(0)).unwrap();
    let mut first = None;
    for n in 0..200_i64 {
        let id = keep(&history, &n.to_be_bytes(), 1);
        first.get_or_insert(id);
        history.went(id, at(n)).unwrap();
    }
    let left = ids(&history);
    assert_eq!(left.len(), OF_ONE + 1);
    let last = BlobId::of(&199_i64.to_be_bytes());
    assert!(left.contains(&other) && left.contains(&first.unwrap()) && left.contains(&last));
    // Spread over the time: no gap is much longer than if all were equal.
    let mut times: Vec<_> = history
        .gone()
        .iter()
        .map(|gone| gone.at.seconds())
        .collect();
    times.sort_unstable();
    assert!(
        times.windows(2).all(|two| two[1] - two[0] <= 16),
        "{times:?}"
    );
}

#[test]
fn with_no_days_what_there_is_goes() {
    let dir = tempfile::tempdir().unwrap();
    let history = open(dir.path(), Limits::default());
    let id = keep(&history, b"bytes", 1);
    keep(&history, b"more", 1);
    history.went(id, at(5)).unwrap();
    drop(history);
    let history = open(dir.path(), Limits::days(0));
    assert!(!history.is_on() && !history.needs_spare(id, || lineage(1)).unwrap());
    for place in ["spare", "gone"] {
        let left = std::fs::read_dir(dir.path().join("history").join(place)).unwrap();
        assert_eq!(left.count(), 0, "{place}");
    }
}
