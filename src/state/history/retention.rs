//! Limits of the history: for how long old versions are kept, and in how much room.
//!
//! A clock that jumps must drop nothing. The age of a version that left the store in this mount is
//! measured by a clock that nobody sets; older ones are judged only once the mount has lasted for
//! an hour and both clocks agree. Nor may many notes that leave at once push out older ones: a
//! version that left less than a day ago neither counts nor is dropped, unless the disk is nearly
//! full.

use std::time::Duration;

use crate::error::Error;
use crate::ids::{BlobId, Timestamp};
use crate::state::private_dir::Room;

const HOUR: Duration = Duration::from_secs(60 * 60);
/// Seconds.
pub(super) const DAY: u64 = 24 * 60 * 60;

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Seconds for which a version is kept after it left the store; with 0 nothing is kept.
    pub seconds: u64,
    /// Bytes of all versions that left the store a day ago or more.
    pub bytes: u64,
    /// Number of versions that left the store a day ago or more.
    pub versions: usize,
    /// Bytes of all spares that are copies.
    pub copies: u64,
}

impl Limits {
    /// Returns the usual limits, with so many days.
    pub fn days(days: u32) -> Limits {
        Limits {
            seconds: u64::from(days) * DAY,
            bytes: 1 << 30,
            versions: 10_000,
            copies: 1 << 30,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits::days(30)
    }
}

/// A moment, by two clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// As people set it.
    pub wall: Timestamp,
    /// Since the machine was started, its sleep included.
    pub running: Duration,
}

impl Moment {
    /// Now.
    pub fn now() -> Moment {
        let running = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let seconds = u64::try_from(running.tv_sec).unwrap_or(0);
        let nanos = u32::try_from(running.tv_nsec).unwrap_or(0);
        Moment {
            wall: Timestamp::now(),
            running: Duration::new(seconds, nanos),
        }
    }

    /// The time so long before, in whole seconds.
    pub(super) fn before(self, age: Duration) -> Timestamp {
        let age = i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
        let seconds = self.wall.seconds().saturating_sub(age).max(0);
        Timestamp::new(seconds, 0).unwrap_or_default()
    }

    /// Tells whether ages by the wall clock may be believed in a mount that began then.
    pub(super) fn is_sure(self, began: Moment) -> bool {
        let mounted = self.running.saturating_sub(began.running);
        let seconds = i64::try_from(mounted.as_secs()).unwrap_or(i64::MAX);
        let walked = self.wall.seconds().saturating_sub(began.wall.seconds());
        mounted >= HOUR && walked.abs_diff(seconds) <= DAY
    }
}

/// A version that left the store so many seconds ago.
#[derive(Clone, Copy, Debug)]
pub(super) struct Aged {
    pub(super) id: BlobId,
    pub(super) bytes: u64,
    pub(super) age: u64,
}

/// The number of versions that were dropped.
#[derive(Debug, Default)]
pub struct Pruned {
    /// Versions that were kept for as long as they shall be.
    pub old: usize,
    /// Versions for which there was no more room.
    pub early: usize,
    /// Why not all of it could be dropped.
    pub failed: Option<Error>,
}

/// The versions to be dropped.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Surplus {
    pub(super) old: Vec<BlobId>,
    pub(super) early: Vec<BlobId>,
}

/// Chooses the versions to be dropped; `gone` has the oldest first.
pub(super) fn surplus(gone: &[Aged], limits: Limits, room: Room, sure: bool) -> Surplus {
    let mut surplus = Surplus::default();
    let (old, mut left): (Vec<&Aged>, Vec<&Aged>) = gone
        .iter()
        .partition(|one| sure && one.age > limits.seconds);
    surplus.old.extend(old.iter().map(|one| one.id));
    let freed: u64 = old.iter().map(|one| one.bytes).sum();
    let mut available = room.available.saturating_add(freed);
    let settled = || left.iter().filter(|one| one.age >= DAY);
    let mut count = settled().count();
    let mut bytes: u64 = settled().map(|one| one.bytes).sum();
    left.retain(|one| {
        let too_much = one.age >= DAY && (count > limits.versions || bytes > limits.bytes);
        let dropped = too_much || available < room.reserve();
        if dropped {
            surplus.early.push(one.id);
            available = available.saturating_add(one.bytes);
            if one.age >= DAY {
                (count, bytes) = (count - 1, bytes - one.bytes);
            }
        }
        !dropped
    });
    surplus
}
