//! A model test: sequences of everything that programs, other devices and crashes do, taken in
//! the view and in a simple reference of it, compared after every step; in quiet moments also with
//! a new view of the same store.
//!
//! `DDS_TEST_FULL=1` takes more sequences, by another seed each time; `DDS_TEST_SEED` repeats one.
//! A sequence that fails is printed as code, shrunk: it belongs below as a named regression.

mod compare;
mod documents;
mod names;
mod peers;
mod reference;
mod removing;
mod rename;
mod steps;
mod world;
mod writing;

use std::sync::LazyLock;

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use crate::support::rig::Cast;
use reference::{AREAS, How};
use steps::Step::*;
use steps::{Sooner::*, Stays::*, Step, leak};

static CAST: LazyLock<Cast> = LazyLock::new(Cast::new);

/// Sequences of one test in the short form.
const SHORT: u32 = 64;
const FULL: u32 = 400;

fn seed() -> u64 {
    let full = std::env::var_os("DDS_TEST_FULL").is_some();
    let given = std::env::var("DDS_TEST_SEED").ok();
    let given = given.map(|seed| seed.parse().expect("DDS_TEST_SEED is a number"));
    given.unwrap_or_else(|| {
        let now = std::time::SystemTime::now();
        let since = now.duration_since(std::time::UNIX_EPOCH).unwrap();
        if full { since.as_secs() } else { 1 }
    })
}

fn explore(areas: &'static [&'static str]) {
    let _core = crate::one_core();
    let full = std::env::var_os("DDS_TEST_FULL").is_some();
    let config = Config {
        cases: if full { FULL } else { SHORT },
        failure_persistence: None,
        max_shrink_iters: 3000,
        ..Config::default()
    };
    let seed = seed();
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_be_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let result = runner.run(&steps::steps(areas), |steps| {
        world::run(&CAST, &steps).map_err(TestCaseError::fail)
    });
    match result {
        Ok(()) => {}
        Err(TestError::Fail(why, steps)) => {
            let steps: String = steps
                .iter()
                .map(|step| format!("    {step:?},\n"))
                .collect();
            panic!("seed {seed}: {why}\nreplay(&[\n{steps}]);")
        }
        Err(error) => panic!("seed {seed}: {error}"),
    }
}

/// Takes the steps of a failure that was found.
fn replay(steps: &[Step]) {
    if let Err(why) = world::run(&CAST, steps) {
        panic!("{why}");
    }
}

#[test]
fn notes_of_my_own() {
    explore(&AREAS[0..1]);
}

#[test]
fn notes_shared_with_one() {
    explore(&AREAS[1..2]);
}

#[test]
fn messages_to_one() {
    explore(&AREAS[3..4]);
}

#[test]
fn messages_to_several() {
    explore(&AREAS[4..5]);
}

#[test]
fn everything_everywhere() {
    explore(&AREAS);
}

#[test]
fn regression_a_backup_whose_name_another_document_has_taken_comes_back_at_a_save_of_that() {
    replay(&[
        Deliver("notes/me/b.md"),
        Rename("notes/me/b.md", "notes/me/a.md~"),
        Deliver("notes/me/b.md"),
        Append("notes/me/b.md"),
    ]);
}

#[test]
fn regression_the_same_bytes_written_in_the_place_of_a_backup_stay() {
    for area in ["notes/me", "messages/bob", "messages/bob,carol"] {
        let [a, backup] = ["a.md", "a.md~"].map(|name| leak(format!("{area}/{name}")));
        replay(&[Write(a), Rename(a, backup), Copy(backup, a), Remove(backup)]);
    }
}

#[test]
fn regression_what_was_replaced_just_before_a_renaming_over_does_not_show_again() {
    replay(&[
        Write("messages/bob,carol/b.md"),
        Write("messages/bob,carol/b.md"),
        Write("messages/bob,carol/a.md"),
        Rename("messages/bob,carol/b.md", "messages/bob,carol/a.md"),
    ]);
}

#[test]
fn regression_a_conflict_copy_keeps_its_path_when_its_directory_is_renamed() {
    replay(&[
        Deliver("notes/me/d/a.md"),
        Diverge("notes/me/d/a.md", Before),
        Rename("notes/me/d", "notes/me/e"),
    ]);
}

#[test]
fn regression_a_backup_renamed_to_another_name_is_still_the_document() {
    replay(&[
        Write("messages/bob/a.md"),
        Write("messages/bob/b.md"),
        Rename("messages/bob/b.md", "messages/bob/a.md~"),
        Rename("messages/bob/a.md~", "messages/bob/a.md"),
        Rename("messages/bob/a.md", "messages/bob/a.md~"),
        Rename("messages/bob/a.md~", "messages/bob/b.md"),
    ]);
}

#[test]
fn regression_a_document_whose_backup_is_overwritten_comes_back() {
    replay(&[
        Write("notes/bob/a.md"),
        Write("notes/bob/b.md"),
        Rename("notes/bob/a.md", "notes/bob/a.md~"),
        Rename("notes/bob/b.md", "notes/bob/a.md~"),
    ]);
}

#[test]
fn regression_what_was_written_to_a_backup_is_saved_when_it_comes_back() {
    replay(&[
        Write("notes/bob/a.md"),
        Rename("notes/bob/a.md", "notes/bob/a.md~"),
        Write("notes/bob/a.md~"),
        Rename("notes/bob/a.md~", "notes/bob/a.md"),
        Crash,
    ]);
}

#[test]
fn regression_of_two_backups_of_one_name_the_last_is_continued() {
    replay(&[
        Deliver("notes/me/a.md"),
        Rename("notes/me/a.md", "notes/me/tmp_obj_1"),
        Deliver("notes/me/a.md"),
        Rename("notes/me/a.md", "notes/me/a.md~"),
        Write("notes/me/a.md"),
    ]);
}

#[test]
fn regression_an_open_message_stays_when_one_reader_removes_his_copy() {
    let how = How {
        write: true,
        append: false,
        truncate: false,
    };
    replay(&[
        Write("messages/bob,carol/a.md"),
        Open(0, "messages/bob,carol/a.md", how),
        Vanish("messages/bob,carol/a.md"),
        Append("messages/bob,carol/a.md"),
    ]);
}

#[test]
fn regression_what_a_renamed_draft_will_replace_is_hidden_and_comes_back_without_it() {
    let how = How {
        write: true,
        append: false,
        truncate: false,
    };
    replay(&[
        Write("notes/me/b.md"),
        Open(0, "notes/me/a.md", how),
        Rename("notes/me/a.md", "notes/me/b.md"),
        Remove("notes/me/b.md"),
    ]);
}

#[test]
fn regression_a_backup_that_was_removed_while_it_is_open_keeps_no_name() {
    let how = How {
        write: true,
        append: false,
        truncate: false,
    };
    replay(&[
        Open(0, "notes/me/a.md", how),
        Deliver("notes/me/a.md"),
        Write("notes/me/a.md"),
        Rename("notes/me/a.md", "notes/me/tmp_obj_1"),
        Remove("notes/me/tmp_obj_1"),
    ]);
}

#[test]
fn regression_a_directory_that_two_devices_made_is_renamed_and_removed() {
    replay(&[
        DeliverDir("notes/me/d"),
        DeliverDir("notes/me/d"),
        Rename("notes/me/d", "notes/me/e"),
        Rmdir("notes/me/e"),
    ]);
}

#[test]
fn regression_a_draft_that_continues_a_backup_is_not_published_with_its_directory() {
    let how = How {
        write: true,
        append: false,
        truncate: false,
    };
    replay(&[
        Write("notes/bob/d/a.md"),
        Mkdir("notes/bob/d"),
        Write("notes/bob/d/a.md"),
        Rename("notes/bob/d/a.md", "notes/bob/d/a.md~"),
        Open(0, "notes/bob/d/a.md", how),
        Put(0),
        Rename("notes/bob/d", "notes/bob/e"),
        Put(0),
    ]);
}

#[test]
fn regression_a_draft_given_up_shows_what_arrived_meanwhile() {
    let how = How {
        write: true,
        append: false,
        truncate: false,
    };
    for stays in [Gone, Kept] {
        replay(&[
            Touch("notes/bob/a.md"),
            Open(0, "notes/bob/a.md", how),
            Put(0),
            Edit("notes/bob/a.md", stays),
            Truncate("notes/bob/a.md", 0),
            Close(0),
        ]);
    }
}

#[test]
fn regression_a_save_that_equals_a_conflict_copy_keeps_its_own_name() {
    let how = How {
        write: true,
        append: false,
        truncate: true,
    };
    replay(&[
        Append("messages/bob,carol/b.md"),
        Open(0, "messages/bob,carol/b.md", how),
        Edit("messages/bob,carol/b.md", Gone),
        Remount,
        Touch("messages/bob,carol/b.md"),
    ]);
}

#[test]
fn regression_a_save_that_equals_a_backup_of_a_conflict_copy_is_shown() {
    replay(&[
        Write("notes/bob/b.md"),
        Diverge("notes/bob/b.md", Before),
        Rename("notes/bob/*0", "notes/bob/a.md~"),
        Copy("notes/bob/a.md~", "notes/bob/b.md"),
    ]);
}

#[test]
fn regression_a_renaming_that_is_refused_leaves_its_victim_as_it_was() {
    let how = How {
        write: true,
        append: false,
        truncate: false,
    };
    replay(&[
        Open(1, "messages/bob/b.md", how),
        Deliver("messages/bob/a.md"),
        Rename("messages/bob/a.md", "messages/bob/b.md"),
        Flush(1),
    ]);
}

#[test]
fn regression_a_draft_that_becomes_scratch_gives_back_what_it_would_have_replaced() {
    let how = How {
        write: true,
        append: false,
        truncate: false,
    };
    replay(&[
        Write("messages/bob/a.md"),
        Open(0, "messages/bob/b.md", how),
        Rename("messages/bob/b.md", "messages/bob/a.md"),
        Rename("messages/bob/a.md", "messages/bob/a.md~"),
    ]);
    replay(&[
        Touch("messages/bob,carol/a.md"),
        Rename("messages/bob,carol/a.md", "messages/bob,carol/a.md~"),
        Open(0, "messages/bob,carol/a.md", how),
        Rename("messages/bob,carol/a.md~", "messages/bob,carol/b.md"),
        Rename("messages/bob,carol/a.md", "messages/bob,carol/a.md~"),
    ]);
}

#[test]
fn regression_a_backup_of_what_others_replaced_meanwhile_is_scratch() {
    let how = How {
        write: true,
        append: false,
        truncate: true,
    };
    replay(&[
        Write("notes/me/a.md"),
        Open(0, "notes/me/a.md", how),
        Edit("notes/me/a.md", Gone),
        Rename("notes/me/a.md", "notes/me/a.md~"),
        Touch("notes/me/a.md"),
        Write("notes/me/a.md"),
    ]);
}

#[test]
fn a_renaming_takes_along_what_was_published_and_not_what_is_being_written() {
    let how = How {
        write: true,
        append: false,
        truncate: true,
    };
    for area in ["notes/bob", "messages/bob,carol"] {
        let [a, b] = ["a.md", "b.md"].map(|name| leak(format!("{area}/{name}")));
        replay(&[Write(a), Open(0, a, how), Put(0), Rename(a, b), Crash]);
        replay(&[
            Write(a),
            Open(0, a, how),
            Put(0),
            Rename(a, b),
            Put(0),
            Close(0),
        ]);
    }
    let at = "notes/me/d/a.md";
    replay(&[
        Write(at),
        Open(0, at, how),
        Put(0),
        Rename("notes/me/d", "notes/me/e"),
        Crash,
    ]);
}

#[test]
fn a_conflict_copy_left_alone_is_kept() {
    replay(&[
        Write("notes/bob/a.md"),
        Diverge("notes/bob/a.md", Before),
        Touch("notes/bob/b.md"),
        Rename("notes/bob/a.md", "notes/bob/b.md"),
        Remove("notes/bob/*0"),
    ]);
}

#[test]
fn regression_the_same_bytes_are_not_sent_again_when_one_reader_removed_theirs() {
    let how = How {
        write: true,
        append: true,
        truncate: false,
    };
    // Which reader's copy goes is chance.
    for _ in 0..4 {
        replay(&[
            Open(2, "messages/bob,carol/a.md~", how),
            Rename("messages/bob,carol/a.md~", "messages/bob,carol/a.md"),
            Append("messages/bob,carol/a.md"),
            Vanish("messages/bob,carol/a.md"),
            Rewrite("messages/bob,carol/a.md"),
        ]);
    }
}

#[test]
fn regression_a_name_that_is_kept_for_a_backup_is_not_given_to_what_was_a_conflict_copy() {
    replay(&[
        Touch("notes/me/a.md"),
        Deliver("notes/me/a.md"),
        Diverge("notes/me/*0", Before),
        Rename("notes/me/a.md", "notes/me/a.md~"),
        Vanish("notes/me/*0"),
    ]);
}

#[test]
fn regression_a_change_settles_with_the_heads_that_are_shown_when_it_begins() {
    let how = How {
        write: false,
        append: false,
        truncate: false,
    };
    replay(&[
        Write("notes/bob/a.md"),
        Diverge("notes/bob/a.md", Before),
        Open(0, "notes/bob/*0", how),
        Touch("notes/bob/a.md"),
        Write("notes/bob/*0"),
    ]);
}

#[test]
fn regression_a_save_of_a_file_that_has_no_name_any_more_takes_no_backup_s_place() {
    let how = How {
        write: true,
        append: false,
        truncate: false,
    };
    replay(&[
        Open(1, "notes/bob/a.md", how),
        Write("notes/bob/a.md"),
        Vanish("notes/bob/a.md"),
        Put(1),
        Write("notes/bob/a.md"),
        Rename("notes/bob/a.md", "notes/bob/a.md~"),
        Close(1),
    ]);
}
