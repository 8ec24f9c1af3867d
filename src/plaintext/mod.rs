//! The only home of plaintext and passphrases.
//!
//! Every content here is zeroed when it is dropped, truncated or moved to a larger buffer. The
//! types have neither `Debug` nor `Clone`, so a copy or a log line of plaintext does not
//! compile by accident. Content that outgrows its share of RAM is written to a file that has no
//! name, encrypted under a key that only RAM holds.

mod content;
mod locked;
mod read_at;
mod spill;
#[cfg(test)]
mod spill_tests;

pub use content::Plaintext;
pub use locked::{InRam, in_ram};
pub use read_at::ReadAt;
pub use spill::{Budget, SpillArea};

use locked::Locked;

/// A passphrase, which unlocks a secret key.
pub struct Passphrase {
    bytes: Locked,
    len: usize,
}

impl Passphrase {
    /// Bytes in the longest passphrase.
    pub const LIMIT: usize = 4096;

    /// Makes an empty one.
    #[expect(
        clippy::new_without_default,
        reason = "an empty passphrase is not a default"
    )]
    pub fn new() -> Self {
        Passphrase {
            bytes: Locked::new(Self::LIMIT),
            len: 0,
        }
    }

    /// Takes the bytes of a passphrase, at most [`Passphrase::LIMIT`] of them.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let mut passphrase = Self::new();
        let fits = bytes.iter().all(|byte| passphrase.push(*byte));
        fits.then_some(passphrase)
    }

    /// Appends a byte. Tells whether there was room for it.
    pub fn push(&mut self, byte: u8) -> bool {
        let room = self.len < self.bytes.len();
        if room {
            self.bytes[self.len] = byte;
            self.len += 1;
        }
        room
    }

    /// Drops a last byte that is this one.
    pub fn trim_end(&mut self, byte: u8) {
        if self.expose().last() == Some(&byte) {
            self.len -= 1;
        }
    }

    /// Shows the bytes to the one place that needs them.
    pub fn expose(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}
