//! What wakes a thread that gathers changes and then works on all of them.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::vault::locks::lock;

/// Rung when something changed; waits for that, or for a while.
#[derive(Default)]
pub(super) struct Wakeup {
    state: Mutex<Rung>,
    changed: Condvar,
}

#[derive(Default)]
struct Rung {
    changed: bool,
    stop: bool,
}

impl Wakeup {
    /// Notes a change.
    pub(super) fn ring(&self) {
        lock(&self.state).changed = true;
        self.changed.notify_all();
    }

    /// Ends the work: every wait returns at once.
    pub(super) fn stop(&self) {
        lock(&self.state).stop = true;
        self.changed.notify_all();
    }

    pub(super) fn is_stopped(&self) -> bool {
        lock(&self.state).stop
    }

    /// Waits for a change, but no longer than `round`, and then for `gather`, so that one piece of
    /// work covers many changes. `false` when the work must end.
    pub(super) fn wait(&self, round: Duration, gather: Duration) -> bool {
        let quiet = |rung: &mut Rung| !rung.changed && !rung.stop;
        let waiting = self
            .changed
            .wait_timeout_while(lock(&self.state), round, quiet);
        let (rung, _) = waiting.unwrap_or_else(PoisonError::into_inner);
        let going = |rung: &mut Rung| !rung.stop;
        let gathering = self.changed.wait_timeout_while(rung, gather, going);
        let (mut rung, _) = gathering.unwrap_or_else(PoisonError::into_inner);
        rung.changed = false;
        !rung.stop
    }
}
