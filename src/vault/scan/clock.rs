//! The time that a thread has spent computing.
//!
//! Unlike the time of day it is the same on a busy machine as on an idle one, so it tells a costly
//! file from one that had to wait for others.

use std::time::Duration;

/// The processor time of one thread, readable from every thread.
#[derive(Clone, Copy)]
pub struct ThreadClock(libc::clockid_t);

impl ThreadClock {
    /// Returns the clock of the calling thread, if the system has one for it.
    pub fn of_this_thread() -> Option<Self> {
        let mut id = 0;
        // SAFETY: the calling thread is alive, and the call writes one number to `id`.
        let got = unsafe { libc::pthread_getcpuclockid(libc::pthread_self(), &raw mut id) };
        (got == 0).then_some(ThreadClock(id))
    }

    /// Reads the clock. `None` once the thread has ended.
    pub fn read(self) -> Option<Duration> {
        let mut time = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: the call writes to `time` only; the clock of a thread that ended is refused.
        let got = unsafe { libc::clock_gettime(self.0, &raw mut time) };
        let seconds = u64::try_from(time.tv_sec).ok()?;
        let nanoseconds = u32::try_from(time.tv_nsec).ok()?;
        (got == 0).then(|| Duration::new(seconds, nanoseconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_ended_has_no_time() {
        let clock = std::thread::spawn(|| {
            let clock = ThreadClock::of_this_thread().unwrap();
            assert!(clock.read().is_some());
            clock
        });
        let clock = clock.join().unwrap();
        // A join may return before the system has forgotten the thread.
        let begun = std::time::Instant::now();
        while clock.read().is_some() {
            assert!(begun.elapsed() < Duration::from_secs(10));
        }
        let mine = ThreadClock::of_this_thread().unwrap();
        let before = mine.read().unwrap();
        while mine.read().unwrap() == before {
            std::hint::black_box([0_u8; 4096]);
        }
    }
}
