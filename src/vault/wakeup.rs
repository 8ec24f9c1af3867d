//! What wakes a thread that gathers changes and then works on all of them.

use std::sync::Condvar;
use std::time::Duration;

use crate::locks::Ranked;
use crate::vault::ranks;

/// Rung when something changed; waits for that, or for a while.
pub(super) struct Wakeup {
    state: Ranked<Rung>,
    changed: Condvar,
}

#[derive(Default)]
struct Rung {
    changed: bool,
    stop: bool,
}

impl Default for Wakeup {
    fn default() -> Self {
        Wakeup {
            state: Ranked::new(ranks::LEAF, Rung::default()),
            changed: Condvar::new(),
        }
    }
}

impl Wakeup {
    /// Notes a change.
    pub(super) fn ring(&self) {
        self.state.lock().changed = true;
        self.changed.notify_all();
    }

    /// Ends the work: every wait returns at once.
    pub(super) fn stop(&self) {
        self.state.lock().stop = true;
        self.changed.notify_all();
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.state.lock().stop
    }

    /// Waits for a change, but no longer than `round`, and then for `gather`, so that one piece of
    /// work covers many changes. `false` when the work must end.
    pub(super) fn wait(&self, round: Duration, gather: Duration) -> bool {
        let quiet = |rung: &mut Rung| !rung.changed && !rung.stop;
        let rung = self.state.lock();
        let rung = rung.wait_timeout_while(&self.changed, round, quiet);
        let going = |rung: &mut Rung| !rung.stop;
        let mut rung = rung.wait_timeout_while(&self.changed, gather, going);
        rung.changed = false;
        !rung.stop
    }
}
