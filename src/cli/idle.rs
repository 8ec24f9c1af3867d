//! `--idle`: locking a mount that nobody uses.

use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::fuse::Locker;
use crate::view::View;

/// How often it is looked at the least: the clock of sleeping stands still while the machine
/// sleeps, the one of use does not.
const ROUND: Duration = Duration::from_secs(20);

/// Parses a time in minutes, such as `15` or `0.5`.
pub(super) fn minutes(text: &str) -> Result<Duration, String> {
    let wrong = || "a number of minutes, such as 15 or 0.5".to_owned();
    let minutes: f64 = text.parse().map_err(|_| wrong())?;
    if !(minutes > 0.0 && minutes.is_finite()) {
        return Err(wrong());
    }
    Duration::try_from_secs_f64(minutes * 60.0).map_err(|_| wrong())
}

/// Locks when the view was not used for that time.
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
