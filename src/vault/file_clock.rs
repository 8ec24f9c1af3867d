//! Compares the times of files with the time of day: the clock of files goes in steps, and so may be
//! behind.

use crate::ids::Timestamp;

/// How far the clock of files may be behind, in nanoseconds.
const STEP: u32 = 50_000_000;

/// Tells whether a file is younger than a moment, by the clock of files.
pub(super) fn is_younger(file: Timestamp, moment: Timestamp) -> bool {
    a_step_later(file) > moment
}

/// A step of the clock of files later.
pub(super) fn a_step_later(time: Timestamp) -> Timestamp {
    let nanos = time.nanos() + STEP;
    let seconds = time
        .seconds()
        .saturating_add((nanos / 1_000_000_000).into());
    Timestamp::new(seconds, nanos % 1_000_000_000).unwrap_or(time)
}
