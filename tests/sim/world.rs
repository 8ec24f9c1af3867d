//! A simulated world: three to five devices, each with a real view of a store of its own, and a
//! syncer between them that delivers, delays, reorders, repeats, forgets and loses. People write,
//! edit, rename and remove; processes die between any two steps; somebody puts hostile files into
//! a store. In every quiet moment a device shows the same as a new mount of its store would, as
//! `support/fresh.rs` defines it. In the end everything arrives everywhere, and then
//!
//! - devices with the same blobs show the same;
//! - no published version is lost, unless somebody removed it, or had seen it and replaced it;
//! - no message that its reader removed comes back;
//! - nobody is shown a file that is not for them, and each stands where its signature puts it.
//!
//! Each world has a seed. `DDS_TEST_FULL=1` takes thousands of worlds, others each time;
//! `DDS_TEST_SEED` repeats one. A world that fails is printed as code, shrunk: it belongs below as
//! a named regression.

mod act;
mod attacks;
mod check;
mod device;
mod machines;
mod oracle;
mod people;
mod run;
mod steps;
mod syncer;
mod work;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::LazyLock;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use people::Cast;
use run::Different;
use steps::At::*;
use steps::Links::{self, *};
use steps::Step::{self, *};
use steps::{By, Plan};

static CAST: LazyLock<Cast> = LazyLock::new(Cast::new);

/// Worlds of the short and of the long form.
const SHORT: u64 = 40;
const FULL: u64 = 2000;

fn try_world(plan: &Plan, steps: &[Step]) -> Result<(), Different> {
    let tried = catch_unwind(AssertUnwindSafe(|| run::run(&CAST, plan, steps)));
    tried.unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().cloned();
        let said = said.or_else(|| panic.downcast_ref::<&str>().map(|said| (*said).to_owned()));
        Err(format!("panic: {}", said.unwrap_or_default()))
    })
}

/// Makes the world of a seed and takes its steps. A failure is told as code.
fn explore(seed: u64) -> Result<(), Different> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_be_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let (plan, steps) = steps::worlds().new_tree(&mut runner).unwrap().current();
    let Err(why) = try_world(&plan, &steps) else {
        return Ok(());
    };
    let (why, steps) = shrink(&plan, steps, why);
    let steps = steps.iter().map(|step| format!("        {step:?},\n"));
    let steps: String = steps.collect();
    let Plan {
        owners,
        links,
        areas,
    } = plan;
    Err(format!(
        "DDS_TEST_SEED={seed}: {why}\nreplay(\n    &{owners:?},\n    {links:?},\n    &{areas:?},\n    \
         &[\n{steps}    ],\n);"
    ))
}

/// Leaves out the steps that a failure does not need.
fn shrink(plan: &Plan, mut steps: Vec<Step>, mut why: Different) -> (Different, Vec<Step>) {
    let mut size = steps.len();
    while size > 0 {
        let mut at = 0;
        while at < steps.len() {
            let mut fewer = steps.clone();
            fewer.drain(at..(at + size).min(steps.len()));
            match try_world(plan, &fewer) {
                Err(still) => (steps, why) = (fewer, still),
                Ok(()) => at += size,
            }
        }
        size /= 2;
    }
    (why, steps)
}

/// Takes the steps of a failure that was found.
fn replay(owners: &[&'static str], links: Links, areas: &[&str], steps: &[Step]) {
    let plan = Plan {
        owners: owners.to_vec(),
        links,
        areas: areas.iter().map(|area| (*area).to_owned()).collect(),
    };
    if let Err(why) = try_world(&plan, steps) {
        panic!("{why}");
    }
}

#[test]
fn worlds() {
    let _cores = crate::every_core();
    let given = std::env::var("DDS_TEST_SEED").ok();
    let given = given.map(|seed| seed.parse().expect("DDS_TEST_SEED is a number"));
    let full = std::env::var_os("DDS_TEST_FULL").is_some();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let (first, count) = match (given, full) {
        (Some(seed), _) => (seed, 1),
        (None, true) => (now.unwrap().as_secs() * 10_000, FULL),
        (None, false) => (1, SHORT),
    };
    let next = AtomicU64::new(first);
    let failure = Mutex::new(None);
    let explore_all = || {
        while failure.lock().unwrap().is_none() {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + count {
                break;
            }
            if let Err(why) = explore(seed) {
                failure.lock().unwrap().get_or_insert(why);
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(explore_all);
        }
    });
    if let Some(why) = failure.into_inner().unwrap() {
        panic!("{why}");
    }
}

#[test]
fn regression_a_note_that_a_renaming_over_replaced_is_shown_when_it_returns() {
    // It was hidden until the next mount: the mark that hides it until it is unlinked stayed, if
    // nobody looked at the store before it was back.
    replay(
        &["alice", "alice"],
        Mesh,
        &["notes/alice"],
        &[
            Write(By(0, 0, 0), Is("b.md")),
            Write(By(0, 0, 0), Is("a.md")),
            Rename(By(0, 0, 0), Is("b.md"), "a.md"),
            Write(By(0, 0, 0), Is("a.md")),
            Return(0, 0),
        ],
    );
}

#[test]
fn regression_what_is_renamed_over_and_not_replaced_is_shown_beside() {
    // Its writer had seen another document there, which is what his save replaced; the one that
    // had taken its name meanwhile was hidden until the next mount.
    replay(
        &["alice", "alice"],
        Mesh,
        &["notes/alice"],
        &[
            Write(By(0, 1, 0), Is("a.md")),
            Write(By(1, 1, 0), Is("a.md")),
            Vim(By(0, 0, 0), Is("a.md"), 1),
            Sync(1, 0, 100, 0),
            Replace(By(0, 1, 0), Is("a.md")),
        ],
    );
}

#[test]
fn regression_what_was_renamed_away_is_not_forked_by_a_save_under_its_former_name() {
    // Another note had arrived under that name, which the writer had not seen.
    let here = |area| By(3, 1, area);
    for save in [
        Write(here(0), Is("a.md")),
        Replace(here(0), Is("a.md")),
        Edit(here(0), Is("a.md")),
    ] {
        replay(
            &["alice", "alice", "bob", "carol"],
            Mesh,
            &["notes/alice,bob"],
            &[
                Replace(By(1, 0, 2), Is("a.md")),
                Write(here(1), Is("a.md")),
                Rename(here(1), Is("a.md"), "d/a.md"),
                Sync(5, 3, 100, 7140411868603027491),
                Sync(3, 0, 100, 8259500250744692138),
                save,
            ],
        );
    }
}
