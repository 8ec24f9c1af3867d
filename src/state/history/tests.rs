//! The versions that are kept: for how long, and in how much room.

use std::collections::HashSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use super::index::OF_ONE;
use super::retention::*;
use super::*;
use crate::error::{Error, Kind};
use crate::ids::{BlobId, Timestamp};
use crate::state::lineage::Lineage;
use crate::state::private_dir::{Look, PrivateDir, Room};

const DAY: i64 = 24 * 60 * 60;

/// So many seconds after the mount began, by both clocks.
fn at(seconds: i64) -> Moment {
    moment(seconds, seconds)
}

fn moment(wall: i64, running: i64) -> Moment {
    Moment {
        wall: Timestamp::new(wall, 0).unwrap(),
        running: Duration::from_secs(running.try_into().unwrap()),
    }
}

fn lineage(n: u8) -> Lineage {
    Lineage::from_digest([n; 32])
}

fn open(dir: &Path, limits: Limits) -> History {
    open_at(dir, limits, at(0))
}

fn open_at(dir: &Path, limits: Limits, began: Moment) -> History {
    let history = History::open(&PrivateDir::make(dir).unwrap(), began).unwrap();
    history.set_limits(limits).unwrap();
    history
}

/// How a file looks that is on another disk.
fn elsewhere(bytes: &[u8]) -> Look {
    Look {
        dev: 0,
        ino: 0,
        size: bytes.len() as u64,
        mtime: Timestamp::default(),
    }
}

fn need(history: &History, bytes: &[u8], of: u8) -> Need {
    history.need(BlobId::of(bytes), elsewhere(bytes), true, || lineage(of))
}

fn copy(history: &History, id: BlobId, bytes: &[u8], purpose: Purpose) -> crate::error::Result<()> {
    let write = |to: &mut dyn Write| to.write_all(bytes).map_err(|e| Error::io("", e));
    history.copy(id, lineage(1), (bytes.len() as u64, purpose), write)
}

fn keep(history: &History, bytes: &[u8], of: u8) -> BlobId {
    let id = BlobId::of(bytes);
    if need(history, bytes, of) == Need::Spare
        && !history.take_back(id, lineage(of), &|| false).unwrap()
    {
        let write = |to: &mut dyn Write| to.write_all(bytes).map_err(|e| Error::io("", e));
        let size = (bytes.len() as u64, Purpose::Present);
        history.copy(id, lineage(of), size, write).unwrap();
    }
    id
}

/// The store's file gets a second name.
fn link(history: &History, id: BlobId, file: &Path) {
    let link = |dir: std::os::fd::BorrowedFd<'_>, name: &str| {
        use rustix::fs::{AtFlags, CWD, linkat};
        linkat(CWD, file, dir, name, AtFlags::empty()).map_err(|e| Error::io("", e.into()))
    };
    history.link(id, lineage(1), look(file), link).unwrap();
}

fn look(file: &Path) -> Look {
    let stat = rustix::fs::stat(file).unwrap();
    Look {
        dev: stat.st_dev,
        ino: stat.st_ino,
        size: stat.st_size.try_into().unwrap(),
        mtime: Timestamp::new(stat.st_mtime, stat.st_mtime_nsec as u32).unwrap(),
    }
}

fn ids(history: &History) -> HashSet<BlobId> {
    history.gone().iter().map(|gone| gone.id).collect()
}

/// Names in the directory that begin so.
fn names(dir: &Path, prefix: &str) -> Vec<String> {
    let entries = fs::read_dir(dir.join("history")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with(prefix)).collect()
}

fn pruned(history: &History, now: Moment) -> (usize, usize) {
    let pruned = history.prune(now);
    assert!(pruned.failed.is_none());
    (pruned.old, pruned.early)
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
    history.note_gone(old, at(1_000)).unwrap();
    history.note_gone(new, at(2_000)).unwrap();
    drop(history);
    let history = open(dir.path(), Limits::default());
    assert_eq!(ids(&history), HashSet::from([old, new]));
    assert_eq!(pruned(&history, at(1_000 + 30 * DAY)), (0, 0));
    assert_eq!(pruned(&history, at(1_001 + 30 * DAY)), (1, 0));
    assert_eq!(ids(&history), HashSet::from([new]));
    assert!(history.open_gone(old).is_err() && history.open_gone(new).is_ok());
}

#[test]
fn a_clock_that_jumps_drops_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let history = open(dir.path(), Limits::default());
    let before = keep(&history, b"before", 1);
    history.note_gone(before, at(0)).unwrap();
    drop(history);
    // A machine without a clock begins somewhere; later somebody sets it.
    let year = 365 * DAY;
    for (began, now) in [(year, year + 60), (0, 4_000 + year), (0, year)] {
        let history = open_at(dir.path(), Limits::default(), moment(began, 0));
        let now = moment(now, if began == 0 { 4_000 } else { 60 });
        assert_eq!(pruned(&history, now), (0, 0), "{now:?}");
    }
    let history = open_at(dir.path(), Limits::default(), moment(year, 0));
    let mine = keep(&history, b"mine", 1);
    // For a version that left in this mount only the time counts that passed.
    history.note_gone(mine, moment(5, 0)).unwrap();
    assert_eq!(pruned(&history, moment(year + 3_600, 3_600)), (1, 0));
    assert_eq!(ids(&history), HashSet::from([mine]));
}

#[test]
fn what_went_while_the_clock_was_far_behind_is_not_old_in_the_next_mount() {
    let dir = tempfile::tempdir().unwrap();
    let history = open(dir.path(), Limits::default());
    let id = keep(&history, b"bytes", 1);
    history.note_gone(id, at(100)).unwrap();
    let year = 365 * DAY;
    assert_eq!(pruned(&history, moment(year, 200)), (0, 0));
    drop(history);
    let history = open_at(dir.path(), Limits::default(), moment(year, 0));
    let gone: Vec<_> = history
        .gone()
        .iter()
        .map(|gone| gone.at.seconds())
        .collect();
    assert_eq!(gone, [year - 100]);
    assert_eq!(pruned(&history, moment(year + DAY, DAY)), (0, 0));
    assert!(history.open_gone(id).is_ok());
}

#[test]
fn the_oldest_goes_when_there_are_too_many_or_too_large_ones() {
    for limits in [limits(u64::MAX, 2), limits(9, 10)] {
        let dir = tempfile::tempdir().unwrap();
        let history = open(dir.path(), limits);
        let versions = [b"one.", b"two.", b"3..."].map(|bytes| keep(&history, bytes, 1));
        for (id, time) in versions.into_iter().zip([20, 10, 30]) {
            history.note_gone(id, at(time)).unwrap();
        }
        // Many that go at once drop nothing at once.
        assert_eq!(pruned(&history, at(DAY)), (0, 0));
        assert_eq!(pruned(&history, at(DAY + 40)), (0, 1));
        let [one, _, three] = versions;
        assert_eq!(ids(&history), HashSet::from([one, three]));
    }
}

#[test]
fn what_went_today_drops_nothing_older() {
    let dir = tempfile::tempdir().unwrap();
    let history = open(dir.path(), limits(u64::MAX, 2));
    let old = [b"a", b"b"].map(|bytes| keep(&history, bytes, 1));
    old.iter()
        .for_each(|id| history.note_gone(*id, at(0)).unwrap());
    for bytes in [b"c", b"d", b"e"] {
        history
            .note_gone(keep(&history, bytes, 1), at(DAY))
            .unwrap();
    }
    assert_eq!(pruned(&history, at(DAY + 1)), (0, 0));
    assert_eq!(history.gone().len(), 5);
}

#[test]
fn only_a_disk_that_is_nearly_full_drops_what_went_today() {
    let aged = [9, 5, 1].map(|age| Aged {
        id: BlobId::of(&[age]),
        bytes: 10 << 20,
        age: age.into(),
    });
    let room = |available: u64| Room {
        available: available << 20,
        total: 1 << 40,
    };
    let early = |room| surplus(&aged, Limits::default(), room, true).early;
    assert_eq!(early(room(64)), []);
    assert_eq!(early(room(50)), [aged[0].id, aged[1].id]);
    // Of a small disk little is left.
    let small = Room {
        available: 3 << 20,
        total: 100 << 20,
    };
    assert_eq!(early(small), []);
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
    let refused = copy(&history, id, b"more", Purpose::Present).unwrap_err();
    assert_eq!(refused.kind(), Kind::TooLarge);
    assert_eq!(names(dir.path(), ""), names(dir.path(), "spare-"));
    // A spare of a blob that is about to leave is none for long.
    copy(&history, id, b"more", Purpose::Going).unwrap();
    history.note_gone(id, at(5)).unwrap();
    assert_eq!(ids(&history), HashSet::from([id]));
}

#[test]
fn what_the_disk_has_no_room_for_can_wait() {
    let dir = tempfile::tempdir().unwrap();
    let history = open(dir.path(), limits(u64::MAX, 10));
    let write = |_: &mut dyn Write| panic!("nothing is written");
    let size = (1 << 60, Purpose::Going);
    let refused = history.copy(BlobId::of(b"large"), lineage(1), size, write);
    assert_eq!(refused.unwrap_err().kind(), Kind::NoSpace);
}

#[test]
fn a_copy_of_something_else_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let history = open(dir.path(), Limits::default());
    let copied = copy(&history, BlobId::of(b"bytes"), b"other", Purpose::Present);
    assert_eq!(copied.unwrap_err().kind(), Kind::Busy);
    assert_eq!(names(dir.path(), ""), [""; 0]);
}

#[test]
fn what_is_back_is_a_spare_again_if_it_has_its_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let history = open(dir.path(), Limits::default());
    let id = keep(&history, b"bytes", 1);
    history.note_gone(id, at(5)).unwrap();
    assert!(history.take_back(id, lineage(1), &|| false).unwrap());
    assert_eq!((history.spares(), history.gone()), (vec![id], vec![]));
    history.note_gone(id, at(7)).unwrap();
    let went: Vec<_> = history
        .gone()
        .iter()
        .map(|gone| gone.at.seconds())
        .collect();
    assert_eq!(went, [7]);
    let [gone] = &names(dir.path(), "")[..] else {
        panic!("one file");
    };
    fs::write(dir.path().join("history").join(gone), b"other").unwrap();
    assert!(!history.take_back(id, lineage(1), &|| false).unwrap());
    assert_eq!(ids(&history), HashSet::from([id]));
}

#[test]
fn two_copies_at_once_leave_no_double() {
    let dir = tempfile::tempdir().unwrap();
    let history = open(dir.path(), Limits::default());
    let id = keep(&history, b"bytes", 1);
    history.note_gone(id, at(5)).unwrap();
    // Another one began before it left.
    copy(&history, id, b"bytes", Purpose::Going).unwrap();
    assert_eq!((history.spares(), history.gone()), (vec![id], vec![]));
    history.note_gone(id, at(9)).unwrap();
    assert_eq!(names(dir.path(), "").len(), 1);
    // Nor does a crash in between.
    let name = format!(
        "gone-5-{}",
        &names(dir.path(), "gone-9-")[0]["gone-9-".len()..]
    );
    fs::write(dir.path().join("history").join(name), b"bytes").unwrap();
    drop(history);
    let history = open(dir.path(), Limits::default());
    assert_eq!((history.gone().len(), names(dir.path(), "").len()), (1, 1));
}

#[test]
fn a_link_is_trusted_only_as_long_as_it_is_the_stores_file() {
    let dir = tempfile::tempdir().unwrap();
    let history = open(dir.path(), Limits::default());
    let (file, id) = (dir.path().join("note"), BlobId::of(b"bytes"));
    fs::write(&file, b"bytes").unwrap();
    link(&history, id, &file);
    let need = |history: &History| history.need(id, look(&file), false, || lineage(1));
    assert_eq!(need(&history), Need::Nothing);
    let spare = dir
        .path()
        .join("history")
        .join(&names(dir.path(), "spare-")[0]);
    // Written over in place, then replaced by its old bytes.
    fs::write(&file, b"wrong!").unwrap();
    assert_eq!(fs::read(&spare).unwrap(), b"wrong!");
    fs::write(dir.path().join("new"), b"bytes").unwrap();
    fs::rename(dir.path().join("new"), &file).unwrap();
    for restart in [false, true] {
        let history = match restart {
            true => open(dir.path(), Limits::default()),
            false => open_at(dir.path(), Limits::days(1), at(0)),
        };
        assert_ne!(need(&history), Need::Nothing);
    }
    assert_eq!(need(&history), Need::Spare);
    link(&history, id, &file);
    assert_eq!(need(&history), Need::Nothing);
    assert_eq!(fs::read(&spare).unwrap(), b"bytes");
    // The same file, written over and back.
    fs::write(&file, b"wrong!").unwrap();
    link(&history, id, &file);
    assert_eq!(
        (names(dir.path(), "").len(), history.spares()),
        (1, vec![id])
    );
    history.note_gone(id, at(1)).unwrap();
    link(&history, id, &file);
    assert_eq!((names(dir.path(), "").len(), history.gone()), (1, vec![]));
}

#[test]
fn a_link_of_an_earlier_mount_becomes_a_copy_and_a_copy_of_a_large_file_a_link() {
    let dir = tempfile::tempdir().unwrap();
    let (file, id) = (dir.path().join("note"), BlobId::of(b"bytes"));
    fs::write(&file, b"bytes").unwrap();
    let need = |history: &History, by_copy| history.need(id, look(&file), by_copy, || lineage(1));
    let history = open(dir.path(), Limits::default());
    link(&history, id, &file);
    assert_eq!(
        need(&history, true),
        Need::Nothing,
        "it was made so just now"
    );
    drop(history);
    let history = open(dir.path(), Limits::default());
    assert_eq!(need(&history, true), Need::Copy);
    assert_eq!(need(&history, true), Need::Nothing, "tried once");
    copy(&history, id, b"bytes", Purpose::Present).unwrap();
    history.sync().unwrap();
    fs::write(&file, b"wrong!").unwrap();
    let spare = dir
        .path()
        .join("history")
        .join(&names(dir.path(), "spare-")[0]);
    assert_eq!(fs::read(spare).unwrap(), b"bytes");
    drop(history);
    let history = open(dir.path(), Limits::default());
    assert_eq!(need(&history, true), Need::Nothing);
    assert_eq!(need(&history, false), Need::Link);
}

#[test]
fn a_spare_that_was_taken_away_is_missed_before_its_note_goes() {
    let dir = tempfile::tempdir().unwrap();
    let history = open(dir.path(), Limits::default());
    let id = keep(&history, b"bytes", 1);
    history.sync_bytes(id).unwrap();
    fs::remove_file(
        dir.path()
            .join("history")
            .join(&names(dir.path(), "spare-")[0]),
    )
    .unwrap();
    assert!(history.sync_bytes(id).is_err());
    assert_eq!(need(&history, b"bytes", 1), Need::Spare);
}

#[test]
fn one_busy_document_does_not_push_out_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let history = open(dir.path(), Limits::default());
    let other = keep(&history, b"other", 2);
    history.note_gone(other, at(0)).unwrap();
    let mut first = None;
    for n in 0..200_i64 {
        let id = keep(&history, &n.to_be_bytes(), 1);
        first.get_or_insert(id);
        history.note_gone(id, at(n)).unwrap();
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
    history.note_gone(id, at(5)).unwrap();
    drop(history);
    let history = open(dir.path(), Limits::days(0));
    assert!(!history.is_on());
    assert_eq!(need(&history, b"bytes", 1), Need::Nothing);
    assert_eq!(names(dir.path(), ""), [""; 0]);
}
