//! The state through its interface: everything that was confirmed as kept is kept.

use std::fs;
use std::io::{Read as _, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::samples::*;
use crate::support::disk::Disk;
use dds::error::{Error, Kind};
use dds::ids::{BlobName, Folder, Timestamp, VersionId};
use dds::state::{Departure, Intent, KeyWrap, Removal, State};
use zeroize::Zeroizing;

fn size(dir: &Path) -> u64 {
    fs::metadata(dir.join("log")).unwrap().len()
}

fn intent(publish: &[BlobName], remove: &[BlobName]) -> Intent {
    Intent {
        folder: Folder::Messages,
        publish: publish.to_vec(),
        remove: remove.to_vec(),
    }
}

/// Stages some bytes.
fn stage(state: &State, bytes: &[u8]) -> BlobName {
    let write = &mut |out: &mut (dyn std::io::Write + Send + Sync)| {
        out.write_all(bytes)
            .map_err(|error| Error::io("writing", error))?;
        Ok(BlobName::of(bytes))
    };
    let staged = state.stage(write).unwrap();
    assert_eq!(staged.length, bytes.len() as u64);
    staged.name
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// On disk and in memory alike.
fn both(test: impl Fn(&State)) {
    let dir = tempfile::tempdir().unwrap();
    test(&open(dir.path()));
    test(&State::in_memory());
}

#[test]
fn a_removal_is_known_by_its_bytes_and_its_ancestors_by_name_and_lineage() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(dir.path());
    let check = |state: &State| {
        assert_eq!(removed(state), [1]);
        assert!(state.is_removed_ancestor(name(1001), lineage(1)));
        assert!(!state.is_removed_ancestor(name(1001), lineage(2)));
        assert!(!state.is_removed_ancestor(name(1), lineage(1)));
        assert_eq!(state.removals().len(), 1);
    };
    let noted = removal(1);
    for state in [&state, &State::in_memory()] {
        state.note_removed(&noted).unwrap();
        check(state);
    }
    drop(state);
    let state = open(dir.path());
    check(&state);
    assert_eq!(state.removals(), [noted]);
    // Again, with another ancestor: neither is forgotten.
    let more = Removal {
        replaces: vec![name(2001)],
        ..removal(1)
    };
    state.note_removed(&more).unwrap();
    drop(state);
    check(&open(dir.path()));
    assert!(open(dir.path()).is_removed_ancestor(name(2001), lineage(1)));
}

#[test]
fn a_removal_is_known_by_what_is_inside_and_taken_back_with_all_its_files() {
    let dir = tempfile::tempdir().unwrap();
    let version = |n: u8| VersionId::from_digest([n; 32]);
    let noted = |n: u32, versions: Vec<VersionId>| Removal {
        versions,
        ..removal(n)
    };
    let state = open(dir.path());
    let one = noted(1, vec![version(1), version(2)]);
    state.note_removed(&one).unwrap();
    state.note_removed(&noted(2, vec![version(2)])).unwrap();
    state.note_removed(&noted(3, vec![version(3)])).unwrap();
    // As older versions wrote it.
    state.note_removed(&removal(4)).unwrap();
    drop(state);
    let state = open(dir.path());
    assert_eq!(state.removed_as(&[version(9), version(1)]), Some(id(1)));
    assert_eq!(state.removed_as(&[version(9)]), None);
    assert!(state.is_removed(id(4)));
    state.note_restored(id(1)).unwrap();
    drop(state);
    let state = open(dir.path());
    assert_eq!(state.removed_as(&[version(1), version(2)]), None);
    assert!(!state.is_removed(id(2)), "another file of the same version");
    assert_eq!(state.removed_as(&[version(3)]), Some(id(3)));
    assert!(state.is_removed(id(4)));
}

#[test]
fn what_went_is_remembered_by_what_is_inside() {
    let dir = tempfile::tempdir().unwrap();
    let version = VersionId::from_digest([1; 32]);
    let went = |n: u32, replaced| Departure {
        version,
        name: name(n),
        lineage: lineage(1),
        replaced,
        at: Timestamp::now(),
    };
    let state = open(dir.path());
    state.note_departed(&[went(1, false)]).unwrap();
    assert!(state.replaced_at(&[version], lineage(1)).is_none());
    state
        .note_departed(&[went(2, true), went(1, false)])
        .unwrap();
    drop(state);
    let length = || fs::metadata(dir.path().join("log")).unwrap().len();
    let before = length();
    let state = open(dir.path());
    assert!(state.replaced_at(&[version], lineage(1)).is_some());
    assert!(state.replaced_at(&[version], lineage(2)).is_none());
    assert_eq!(state.names_of(&[version], lineage(1)), [name(1), name(2)]);
    assert_eq!(state.version_called(name(2), lineage(1)), Some(version));
    assert_eq!(state.version_called(name(2), lineage(2)), None);
    state
        .note_departed(&[went(2, true), went(1, false)])
        .unwrap();
    assert_eq!(length(), before, "what is known is not written again");
}

#[test]
fn a_removal_that_was_taken_back_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(dir.path());
    state.note_removed(&removal(1)).unwrap();
    let shared = Removal {
        replaces: vec![name(1001), name(1002)],
        ..removal(2)
    };
    state.note_removed(&shared).unwrap();
    state.note_restored(id(2)).unwrap();
    state.note_restored(id(3)).unwrap();
    let check = |state: &State| {
        assert_eq!(removed(state), [1]);
        assert!(state.is_removed_ancestor(name(1001), lineage(1)));
        assert!(!state.is_removed_ancestor(name(1002), lineage(1)));
    };
    check(&state);
    drop(state);
    check(&open(dir.path()));
}

#[test]
fn an_intent_outlives_crashes_until_it_is_finished() {
    let dir = tempfile::tempdir().unwrap();
    let crashed = tempfile::tempdir().unwrap();
    // What the directory held at each step, in order.
    let snapshot = |step: &str| copy(dir.path(), &crashed.path().join(step));
    let state = open(dir.path());
    let names = [stage(&state, b"for alice"), stage(&state, b"for bob")];
    snapshot("staged");
    let intent = intent(&names, &[name(7)]);
    let begun = state.begin(&intent).unwrap();
    snapshot("begun");
    let later = state.begin(&self::intent(&[], &[name(8)])).unwrap();
    assert!(begun < later);
    assert_eq!(state.unfinished().len(), 2);
    assert_eq!(state.unstage(names[0]).unwrap_err().kind(), Kind::Busy);
    state.finish(later).unwrap();
    state.finish(begun).unwrap();
    state.finish(begun).unwrap();
    snapshot("finished");
    assert_eq!(state.unfinished(), []);
    drop(state);

    let staged = open(&crashed.path().join("staged"));
    assert_eq!(staged.unfinished(), []);
    assert_eq!(staged.clean_staged().unwrap(), 2);
    assert_eq!(
        staged.open_staged(names[0]).unwrap_err().kind(),
        Kind::NotFound
    );

    let begun_dir = crashed.path().join("begun");
    let state = open(&begun_dir);
    assert_eq!(state.unfinished(), [(begun, intent)]);
    assert_eq!(state.clean_staged().unwrap(), 0);
    assert_eq!(state.staged_bytes(names[1], 100).unwrap(), b"for bob");
    assert!(state.begin(&self::intent(&[], &[])).unwrap() > begun);
    state.finish(begun).unwrap();
    drop(state);
    assert_eq!(open(&begun_dir).unfinished().len(), 1);

    let finished = open(&crashed.path().join("finished"));
    assert_eq!(finished.unfinished(), []);
    assert_eq!(finished.clean_staged().unwrap(), 0);
}

#[test]
fn an_intent_needs_its_blobs_and_keeps_those_of_others() {
    both(|state| {
        let missing = state.begin(&intent(&[name(1)], &[])).unwrap_err();
        assert_eq!(missing.kind(), Kind::NotFound);
        let shared = stage(state, b"shared");
        let first = state.begin(&intent(&[shared], &[])).unwrap();
        let second = state.begin(&intent(&[shared], &[])).unwrap();
        state.finish(first).unwrap();
        let mut text = String::new();
        let mut file = state.open_staged(shared).unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "shared");
        state.finish(second).unwrap();
        assert!(state.open_staged(shared).is_err());
        let unused = stage(state, b"unused");
        state.unstage(unused).unwrap();
        state.unstage(unused).unwrap();
        let gone = state.staged_bytes(unused, 100).unwrap_err();
        assert_eq!(gone.kind(), Kind::NotFound);
        stage(state, b"forgotten");
        assert_eq!(state.clean_staged().unwrap(), 1);
    });
}

#[test]
fn what_is_rescued_stays_until_it_is_dropped() {
    both(|state| {
        assert_eq!(state.rescued().unwrap(), []);
        let bytes = b"a draft, sealed";
        let write = &mut |out: &mut (dyn Write + Send + Sync)| {
            out.write_all(bytes).unwrap();
            Ok(BlobName::of(bytes))
        };
        let name = state.rescue(write).unwrap();
        assert_eq!(state.rescue(write).unwrap(), name);
        assert_eq!(state.rescued().unwrap(), [name]);
        assert_eq!(state.read_rescued(name, 15).unwrap(), bytes);
        let large = state.read_rescued(name, 14).unwrap_err();
        assert_eq!(large.kind(), Kind::TooLarge);
        state.drop_rescued(name).unwrap();
        state.drop_rescued(name).unwrap();
        assert_eq!(
            state.read_rescued(name, 15).unwrap_err().kind(),
            Kind::NotFound
        );
    });
}

#[test]
fn rescued_and_staged_files_are_checked_and_strangers_ignored() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(dir.path());
    let staged = stage(&state, b"whole");
    let rescued = dir.path().join("rescued");
    fs::write(rescued.join("README"), "mine").unwrap();
    fs::write(rescued.join(".tmp-1"), "half").unwrap();
    fs::write(rescued.join(name(1).file_name()), "other").unwrap();
    fs::write(dir.path().join("staged").join(staged.file_name()), "part").unwrap();
    assert_eq!(state.rescued().unwrap(), [name(1)]);
    for damaged in [
        state.read_rescued(name(1), 99),
        state.staged_bytes(staged, 99),
    ] {
        assert_eq!(damaged.unwrap_err().kind(), Kind::Damaged);
    }
    drop(state);
    open(dir.path());
    assert!(!rescued.join(".tmp-1").exists());
    assert!(rescued.join("README").exists());
}

#[test]
fn a_failed_write_leaves_nothing() {
    both(|state| {
        let failed = state.rescue(&mut |out| {
            out.write_all(b"half").unwrap();
            Err(Error::new(Kind::NoKey, "locked"))
        });
        assert_eq!(failed.unwrap_err().kind(), Kind::NoKey);
        let misnamed = state.rescue(&mut |out| {
            out.write_all(b"one").unwrap();
            Ok(BlobName::of(b"other"))
        });
        assert_eq!(misnamed.unwrap_err().kind(), Kind::Io);
        assert_eq!(state.rescued().unwrap(), []);
    });
    let dir = tempfile::tempdir().unwrap();
    let failed = open(dir.path()).stage(&mut |_| Err(Error::new(Kind::NoKey, "locked")));
    assert_eq!(failed.unwrap_err().kind(), Kind::NoKey);
    assert_eq!(fs::read_dir(dir.path().join("staged")).unwrap().count(), 0);
}

#[test]
fn one_process_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(dir.path());
    let busy = refused(dir.path());
    assert_eq!(busy.kind(), Kind::Busy);
    assert!(
        busy.to_string().contains(dir.path().to_str().unwrap()),
        "{busy}"
    );
    drop(state);
    open(dir.path());
}

#[test]
fn only_its_owner_enters_and_opens() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state/dds/0123");
    let state = open(&path);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for directory in ["", "staged", "rescued"] {
        assert_eq!(mode(&path.join(directory)), 0o700);
    }
    for file in ["lock", "key.asc", "log"] {
        assert_eq!(mode(&path.join(file)), 0o600);
    }
    state.note_removed(&removal(1)).unwrap();
    drop(state);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let stranger = State::open(&path, &Wrap(2)).err().unwrap();
    assert_eq!(stranger.kind(), Kind::BadConfig);
    assert_eq!(mode(&path), 0o700);
    let log = fs::read(path.join("log")).unwrap();
    for secret in [name(1).to_string(), "removed".to_owned()] {
        let found = log.windows(secret.len()).any(|at| at == secret.as_bytes());
        assert!(!found, "{secret} can be read");
    }
    assert_eq!(removed(&open(&path)), [1]);
}

#[test]
fn with_an_expired_key_the_rest_works_and_the_next_start_makes_up_for_it() {
    struct Expired;
    impl KeyWrap for Expired {
        fn wrap(&self, _: &[u8; 32]) -> Result<Vec<u8>, Error> {
            Err(Error::new(Kind::KeyExpired, "mine is expired"))
        }
        fn unwrap(&self, wrapped: &[u8]) -> Result<Zeroizing<[u8; 32]>, Error> {
            Wrap(1).unwrap(wrapped)
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let state = State::open(dir.path(), &Expired).unwrap();
    assert!(state.notices()[0].contains("mine is expired"));
    let refused = state.note_removed(&removal(1)).unwrap_err();
    assert_eq!(refused.kind(), Kind::KeyExpired);
    assert_eq!(removed(&state), [0; 0]);
    let staged = stage(&state, b"staged");
    let refused = state.begin(&intent(&[staged], &[])).unwrap_err();
    assert_eq!(refused.kind(), Kind::KeyExpired);
    assert!(!dir.path().join("log").exists() && !dir.path().join("key.asc").exists());
    drop(state);
    open(dir.path()).note_removed(&removal(2)).unwrap();
    let state = State::open(dir.path(), &Expired).unwrap();
    assert_eq!(state.notices(), [""; 0]);
    state.note_removed(&removal(3)).unwrap();
    assert_eq!(removed(&state), [2, 3]);
}

#[test]
fn a_log_does_not_grow_without_end_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(dir.path());
    let old = Timestamp::now().seconds() - 731 * 24 * 60 * 60;
    let old = Removal {
        at: Timestamp::new(old, 0).unwrap(),
        replaces: vec![name(3000)],
        ..removal(0)
    };
    state.note_removed(&old).unwrap();
    for n in 1..5 {
        state.note_removed(&removal(n)).unwrap();
    }
    let kept = stage(&state, b"kept");
    let kept = state.begin(&intent(&[kept], &[name(1)])).unwrap();
    assert!(state.is_removed(old.id));
    let header = fs::read(dir.path().join("log")).unwrap()[..32].to_vec();
    let mut largest = 0;
    for _ in 0..400 {
        let id = state.begin(&intent(&[], &[])).unwrap();
        assert!(id > kept);
        state.finish(id).unwrap();
        largest = largest.max(size(dir.path()));
    }
    assert!(largest < 70 << 10, "{largest}");
    let check = |state: &State| {
        assert_eq!(removed(state), [1, 2, 3, 4]);
        assert!(!state.is_removed_ancestor(name(3000), lineage(1)));
        assert!(state.is_removed_ancestor(name(1004), lineage(1)));
        assert_eq!(state.unfinished().len(), 1);
        assert_eq!(state.unfinished()[0].0, kept);
        assert_eq!(state.notices(), [""; 0]);
    };
    check(&state);
    drop(state);
    check(&open(dir.path()));
    let log = fs::read(dir.path().join("log")).unwrap();
    assert_ne!(log[..32], header, "a new file has a new id");
}

#[test]
fn old_removals_go_at_the_start_once_they_are_most_of_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(dir.path());
    let old = Timestamp::new(Timestamp::now().seconds() - 800 * 86400, 0).unwrap();
    for n in 0..250 {
        let at = if n < 10 { Timestamp::now() } else { old };
        state.note_removed(&Removal { at, ..removal(n) }).unwrap();
    }
    assert_eq!(state.removals().len(), 250);
    drop(state);
    assert_eq!(open(dir.path()).removals().len(), 10);
    assert!(size(dir.path()) < 8 << 10);
}

#[test]
fn a_log_that_was_taken_away_while_in_use_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(dir.path());
    state.note_removed(&removal(1)).unwrap();
    fs::remove_file(dir.path().join("log")).unwrap();
    state.note_removed(&removal(2)).unwrap();
    assert_eq!(
        size(dir.path()),
        fs::metadata(dir.path().join("log")).unwrap().len()
    );
    drop(state);
    assert_eq!(removed(&open(dir.path())), [1, 2]);

    let state = open(dir.path());
    fs::remove_dir_all(dir.path()).unwrap();
    assert!(state.note_removed(&removal(3)).is_err());
    assert!(!state.is_removed(id(3)));
}

#[test]
fn a_removal_too_large_for_a_record_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(dir.path());
    let large = Removal {
        replaces: (0..30_000).map(name).collect(),
        ..removal(1)
    };
    assert_eq!(
        state.note_removed(&large).unwrap_err().kind(),
        Kind::TooLarge
    );
    assert!(!state.is_removed(id(1)));
    state.note_removed(&removal(2)).unwrap();
    drop(state);
    assert_eq!(removed(&open(dir.path())), [2]);
}

#[test]
fn many_threads_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let state = open(dir.path());
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let state = &state;
            scope.spawn(move || {
                for n in 0..25 {
                    state.note_removed(&removal(thread * 25 + n)).unwrap();
                    let id = state.begin(&intent(&[], &[])).unwrap();
                    state.finish(id).unwrap();
                }
            });
        }
    });
    drop(state);
    let state = open(dir.path());
    assert_eq!(removed(&state).len(), 100);
    assert_eq!(state.unfinished(), []);
}

#[test]
fn a_full_disk_is_told_as_such_and_nothing_is_half_kept() {
    needs!(disk);
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::in_memory(dir.path(), 256 << 10);
    let path = disk.path();
    let state = open(path);
    for swallow in [false, true] {
        let full = state.stage(&mut |out| match out.write_all(&vec![1; 1 << 20]) {
            Err(_) if !swallow => Err(Error::new(Kind::Damaged, "sealing failed")),
            _ => Ok(BlobName::of(b"")),
        });
        assert_eq!(full.unwrap_err().kind(), Kind::NoSpace);
    }
    assert_eq!(fs::read_dir(path.join("staged")).unwrap().count(), 0);
    let ballast = path.join("ballast");
    fs::write(&ballast, vec![0; 140 << 10]).unwrap();
    // No multiple of a page: part of the last record fits.
    let mut noted = 0;
    let error = loop {
        let large = Removal {
            replaces: (0..100).map(name).collect(),
            ..removal(noted)
        };
        match state.note_removed(&large) {
            Ok(()) => noted += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), Kind::NoSpace);
    assert!(!state.is_removed(id(noted)));
    let before = removed(&state);
    assert_eq!(before.len() as u32, noted);
    assert_eq!(refused(path).kind(), Kind::Busy);
    drop(state);
    let state = open(path);
    assert_eq!(state.notices(), [""; 0]);
    assert_eq!(removed(&state), before);
    // Rewriting needs room, too; that there is none loses nothing.
    fs::remove_file(path.join("log")).unwrap();
    assert_eq!(
        state.note_removed(&removal(90)).unwrap_err().kind(),
        Kind::NoSpace
    );
    fs::remove_file(ballast).unwrap();
    state.note_removed(&removal(91)).unwrap();
    drop(state);
    assert_eq!(removed(&open(path)), [before.as_slice(), &[91]].concat());
}
