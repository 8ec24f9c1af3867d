//! Signals of logind that lock a mount: the machine is about to sleep, or the screen is being
//! locked.
//!
//! Only the keeper listens: the daemon's sandbox lets it reach no bus. Without the feature `logind`
//! nothing can be heard, and a request to listen fails.

#[cfg(not(feature = "logind"))]
mod absent;
#[cfg(feature = "logind")]
mod bus;

#[cfg(not(feature = "logind"))]
pub use absent::Logind;
#[cfg(feature = "logind")]
pub use bus::Logind;

/// Tells whether this program was built to hear logind.
pub const OFFERED: bool = cfg!(feature = "logind");

/// The events that lock a mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LockTriggers {
    /// Before the machine sleeps.
    pub suspend: bool,
    /// When the screen is locked, or the session ends.
    pub screen_lock: bool,
}

impl LockTriggers {
    /// Tells whether there are any.
    pub fn any(self) -> bool {
        self.suspend || self.screen_lock
    }
}

/// A signal of logind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Heard {
    /// The machine will sleep, as soon as it may.
    Sleep = b'S',
    /// The machine woke up, or does not sleep after all.
    Wake = b'W',
    /// The screen is being locked, or the session ended.
    ScreenLock = b'L',
    /// Nothing will be heard any more.
    Lost = b'X',
}
