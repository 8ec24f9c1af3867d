//! Long runs against a reference: random sequences, random worlds, many programs at once, and kills
//! at random moments.
//!
//! The long forms, with `DDS_TEST_FULL=1`, take minutes each. One is selected by its module:
//! `cargo test --test sim -- world::`.

#[macro_use]
#[path = "../support/mod.rs"]
mod support;

mod crashes;
mod model;
mod stress;
mod world;

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Keeps apart tests that have time limits or threads for every core, and tests that would slow
/// those down: the runner starts as many tests at once as there are cores.
static CORES: RwLock<()> = RwLock::new(());

/// Held by a test that has the machine to itself.
fn every_core() -> RwLockWriteGuard<'static, ()> {
    CORES.write().unwrap_or_else(PoisonError::into_inner)
}

/// Held by a long test on one thread, which may run beside others of its kind.
fn one_core() -> RwLockReadGuard<'static, ()> {
    CORES.read().unwrap_or_else(PoisonError::into_inner)
}
