//! Locking a view that nobody uses.

use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::process::ending::Locker;
use crate::view::View;

/// Longest time between two looks: the clock of sleeping stands still while the machine sleeps, the
/// one of use does not.
const ROUND: Duration = Duration::from_secs(20);

/// Starts a thread that locks when the view was not used for that time.
///
/// # Errors
/// The system has no thread left.
pub(super) fn lock_after(idle: Duration, view: &Arc<View>, locker: Locker) -> std::io::Result<()> {
    let view: Weak<View> = Arc::downgrade(view);
    let thread = std::thread::Builder::new().name("idle".to_owned());
    let watch = move || {
        while let Some(unused) = view.upgrade().map(|view| view.unused_for()) {
            if unused >= idle {
                locker.lock();
                return;
            }
            // Not too short: the clock of use counts whole milliseconds.
            let left = (idle - unused).max(Duration::from_millis(1));
            std::thread::sleep(left.min(ROUND));
        }
    };
    thread.spawn(watch).map(drop)
}
