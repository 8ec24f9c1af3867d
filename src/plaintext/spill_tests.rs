//! Contents that spill keep their bytes, the budget and the secrecy.

use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use super::spill::CHUNK;
use super::{Budget, Plaintext, SpillArea};
use crate::error::{Error, Kind};

const TINY: Budget = Budget {
    each: 2 * CHUNK,
    all: 1 << 30,
};

fn area(budget: Budget) -> (tempfile::TempDir, Arc<SpillArea>) {
    let dir = tempfile::tempdir().unwrap();
    let area = SpillArea::open(dir.path(), budget).unwrap();
    (dir, area)
}

fn random(seed: &mut u64, below: u64) -> u64 {
    *seed = seed
        .wrapping_mul(6364136223846793005)
        .wrapping_add(1442695040888963407);
    (*seed >> 33) % below
}

fn whole(content: &Plaintext) -> Vec<u8> {
    let mut all = Vec::new();
    let done: Result<(), Error> = content.pieces(|piece| {
        all.extend_from_slice(piece);
        Ok(())
    });
    done.unwrap();
    all
}

/// A content of `count` chunks that differ, larger than any tiny budget.
fn chunks(area: &Arc<SpillArea>, count: usize) -> Plaintext {
    let mut content = Plaintext::spilling(area);
    for index in 0..count {
        content.append(&[index as u8 + 1; CHUNK]).unwrap();
    }
    content
}

#[test]
fn a_spilling_content_agrees_with_a_plain_vector() {
    let (dir, area) = area(TINY);
    let seed = &mut 7;
    // Several contents, each a duplicate of another at some time, each with its model.
    let mut all: Vec<(Plaintext, Vec<u8>)> = vec![(Plaintext::spilling(&area), Vec::new())];
    for round in 0..2000 {
        let which = random(seed, all.len() as u64) as usize;
        let at = random(seed, 12 * CHUNK as u64);
        let (content, model) = &mut all[which];
        match random(seed, 12) {
            0 => {
                content.set_len(at).unwrap();
                model.resize(at as usize, 0);
            }
            1 => {
                let copy = (content.duplicate(), model.clone());
                if all.len() == 4 {
                    all.remove(0);
                }
                all.push(copy);
            }
            2..=7 => {
                let most = [10, CHUNK as u64, 4 * CHUNK as u64][round % 3];
                let data = vec![round as u8 | 1; 1 + random(seed, most) as usize];
                content.write_at(at, &data).unwrap();
                model.resize(model.len().max(at as usize + data.len()), 0);
                model[at as usize..at as usize + data.len()].copy_from_slice(&data);
            }
            8 => assert!(whole(content) == *model, "round {round}"),
            _ => {
                let size = random(seed, 3 * CHUNK as u64) as usize;
                let read = content.read_at(at, size).unwrap();
                let start = model.len().min(at as usize);
                let end = model.len().min(start + size);
                assert!(*read == model[start..end], "round {round}");
            }
        }
        for (content, model) in &all {
            assert_eq!(content.len(), model.len() as u64, "round {round}");
            // One write may need more than the budget; the next gives it back.
            assert!(content.ram() <= TINY.each.max(6 * CHUNK), "round {round}");
        }
    }
    assert!(all.iter().any(|(content, _)| content.spilled().count() > 0));
    for (content, model) in &all {
        assert!(whole(content) == *model);
        assert_eq!(
            content.digest().unwrap(),
            Plaintext::from(&model[..]).digest().unwrap()
        );
    }
    drop(all);
    assert_eq!(area.used(), 0, "all that was taken was given back");
    let left = std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(left, 0, "no file has a name");
}

#[test]
fn a_digest_is_forgotten_by_every_change() {
    let (_dir, area) = area(TINY);
    let mut content = chunks(&area, 5);
    let changes: [fn(&mut Plaintext); 3] = [
        |content| content.write_at(9, b"x").unwrap(),
        |content| content.set_len(3 * CHUNK as u64 + 1).unwrap(),
        |content| content.append(b"y").unwrap(),
    ];
    for change in changes {
        let before = content.digest().unwrap();
        change(&mut content);
        let after = content.digest().unwrap();
        assert_ne!(before, after);
        assert_eq!(
            after,
            Plaintext::from(&whole(&content)[..]).digest().unwrap()
        );
    }
}

#[test]
fn what_was_changed_on_disk_is_an_error_and_never_wrong_bytes() {
    let (_dir, area) = area(TINY);
    let content = chunks(&area, 8);
    let spilled: Vec<_> = content.spilled().collect();
    assert!(spilled.len() >= 6);
    let (file, first) = spilled[0].place();
    let (_, second) = spilled[1].place();
    let raw = file.raw();
    let mut kept = [vec![0; CHUNK], vec![0; CHUNK]];
    raw.read_exact_at(&mut kept[0], first).unwrap();
    raw.read_exact_at(&mut kept[1], second).unwrap();
    let refused = || {
        let error = content.read_at(5, 10).unwrap_err();
        assert_eq!(error.kind(), Kind::Io);
        let error = content.read_at(0, CHUNK).unwrap_err();
        assert_eq!(error.kind(), Kind::Io);
        content.digest().unwrap_err();
        let mut draft = content.duplicate();
        draft.write_at(3, b"xyz").unwrap_err();
        draft.set_len(7).unwrap_err();
        assert_eq!(draft.len(), content.len());
    };
    for at in [0, 1, CHUNK / 2, CHUNK - 1] {
        let flipped = [kept[0][at] ^ 1];
        raw.write_all_at(&flipped, first + at as u64).unwrap();
        refused();
        raw.write_all_at(&kept[0][at..=at], first + at as u64)
            .unwrap();
    }
    // Another chunk of the same file, also authentic.
    raw.write_all_at(&kept[1], first).unwrap();
    refused();
    raw.write_all_at(&kept[0], first).unwrap();
    assert_eq!(*content.read_at(5, 3).unwrap(), [1, 1, 1]);
    // Cut off.
    raw.set_len(0).unwrap();
    refused();
}

#[test]
fn an_older_state_of_a_chunk_is_not_taken() {
    let (_dir, area) = area(TINY);
    let mut content = chunks(&area, 8);
    let (file, place) = {
        let (file, place) = content.spilled().next().unwrap().place();
        (Arc::clone(file), place)
    };
    let mut old = vec![0; CHUNK];
    file.raw().read_exact_at(&mut old, place).unwrap();
    content.write_at(0, b"new").unwrap();
    // Read others in, so that the chunk is spilled again.
    for index in 3..8 {
        content.write_at(index * CHUNK as u64, b"x").unwrap();
    }
    let (_, again) = content.spilled().next().unwrap().place();
    assert_eq!(*content.read_at(0, 3).unwrap(), *b"new");
    file.raw().write_all_at(&old, again).unwrap();
    content.read_at(0, 3).unwrap_err();
}

#[test]
fn nothing_of_the_content_is_readable_on_disk() {
    let (_dir, area) = area(TINY);
    let needle = b"attack at dawn, said the needle ";
    let mut content = Plaintext::spilling(&area);
    let text = needle.repeat(CHUNK / needle.len());
    for _ in 0..10 {
        content.append(&text).unwrap();
    }
    let (file, _) = content.spilled().next().unwrap().place();
    let length = file.raw().metadata().unwrap().len();
    assert!(length >= 8 * CHUNK as u64);
    let mut bytes = vec![0; length as usize];
    file.raw().read_exact_at(&mut bytes, 0).unwrap();
    assert!(!bytes.windows(8).any(|part| part == &needle[..8]));
    // Equal chunks do not look equal.
    assert!(bytes[..CHUNK] != bytes[CHUNK..2 * CHUNK]);
}

#[test]
fn all_contents_together_keep_the_budget() {
    let (_dir, area) = area(Budget {
        each: 16 * CHUNK,
        all: 24 * CHUNK,
    });
    let contents: Vec<_> = (0..10).map(|_| chunks(&area, 40)).collect();
    // Each may keep a little, however many there are.
    assert!(area.used() <= (24 + 4 * 10) * CHUNK, "{}", area.used());
    for content in &contents {
        assert_eq!(content.len(), 40 * CHUNK as u64);
        assert_eq!(content.read_at(39 * CHUNK as u64, 1).unwrap()[0], 40);
        assert_eq!(content.read_at(0, 1).unwrap()[0], 1);
    }
}

#[test]
fn duplicates_share_what_neither_changes_and_outlive_each_other() {
    let (_dir, area) = area(TINY);
    let content = chunks(&area, 30);
    let used = area.used();
    let mut draft = content.duplicate();
    assert_eq!(area.used(), used, "nothing is copied");
    draft.write_at(CHUNK as u64, b"draft").unwrap();
    assert!(area.used() <= used + TINY.each + CHUNK);
    assert_eq!(content.read_at(CHUNK as u64, 5).unwrap()[0], 2);
    let expected = whole(&draft);
    drop(content);
    assert!(whole(&draft) == expected);
    assert_eq!(*draft.read_at(CHUNK as u64, 5).unwrap(), *b"draft");
}

#[test]
fn room_on_disk_is_used_again() {
    let (_dir, area) = area(TINY);
    let mut content = chunks(&area, 20);
    let file = Arc::clone(content.spilled().next().unwrap().place().0);
    for _ in 0..5 {
        for index in 0..20 {
            content.write_at(index * CHUNK as u64, b"again").unwrap();
        }
    }
    let length = file.raw().metadata().unwrap().len();
    assert!(length <= 22 * CHUNK as u64, "{length}");
    content.set_len(1).unwrap();
    assert_eq!(file.raw().metadata().unwrap().len(), 0);
    assert_eq!(*content.read_at(0, 9).unwrap(), *b"a");
}

#[test]
fn a_hole_spills_nothing() {
    let (_dir, area) = area(TINY);
    let mut content = Plaintext::spilling(&area);
    content.set_len(1 << 36).unwrap();
    content.write_at(1 << 35, b"x").unwrap();
    assert!(content.allocated() <= CHUNK as u64);
    assert_eq!(content.spilled().count(), 0);
    assert_eq!(*content.read_at((1 << 35) - 1, 3).unwrap(), *b"\0x\0");
}

#[test]
fn however_many_contents_spill_they_share_one_file() {
    let (_dir, area) = area(TINY);
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = descriptors();
    let contents: Vec<_> = (0..300).map(|_| chunks(&area, 4)).collect();
    assert!(contents.iter().all(|content| content.spilled().count() > 0));
    // Other tests run beside this one.
    assert!(descriptors() < before + 150, "{before} {}", descriptors());
    for content in &contents {
        assert!(whole(content) == whole(&contents[0]));
    }
}

#[test]
fn room_of_what_went_is_given_back_to_the_disk() {
    use std::os::unix::fs::MetadataExt as _;
    let (_dir, area) = area(TINY);
    let kept = chunks(&area, 6);
    let file = Arc::clone(kept.spilled().next().unwrap().place().0);
    let bytes = || file.raw().metadata().unwrap().blocks() * 512;
    let before = bytes();
    let large = chunks(&area, 100);
    assert!(bytes() > before + 90 * CHUNK as u64);
    drop(large);
    assert!(bytes() <= before + CHUNK as u64, "{before} {}", bytes());
    assert!(whole(&kept)[5 * CHUNK..] == [6; CHUNK]);
    // The places are used again.
    let again = chunks(&area, 100);
    assert!(whole(&again)[99 * CHUNK..] == [100; CHUNK]);
    assert!(whole(&kept)[..CHUNK] == [1; CHUNK]);
}

#[test]
fn very_many_small_contents_keep_little_each() {
    let (_dir, area) = area(Budget {
        each: 16 * CHUNK,
        all: 8 * CHUNK,
    });
    let contents: Vec<_> = (0..100).map(|_| chunks(&area, 4)).collect();
    assert!(area.used() <= (2 * 8 + 100 + 4) * CHUNK, "{}", area.used());
    assert!(whole(&contents[99]) == whole(&contents[0]));
}
