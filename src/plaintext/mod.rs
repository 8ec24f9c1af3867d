//! The only home of plaintext and passphrases.
//!
//! What is stored here is zeroed when it is dropped, truncated or moved to a larger buffer. The
//! types have neither `Debug` nor `Clone`, so a copy or a log line of plaintext does not
//! compile by accident. Content that outgrows its share of RAM goes to a file that has no name,
//! encrypted under a key that only RAM holds.

mod content;
mod spill;
#[cfg(test)]
mod spill_tests;

pub use content::Plaintext;
pub use spill::{Budget, SpillArea};

use zeroize::Zeroizing;

/// What unlocks a secret key. Zeroed when dropped.
pub struct Passphrase(Zeroizing<Vec<u8>>);

impl Passphrase {
    /// Takes the bytes of a passphrase, without the line end that it was entered with.
    pub fn new(bytes: Zeroizing<Vec<u8>>) -> Self {
        Passphrase(bytes)
    }

    /// Shows the bytes to the one place that needs them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}
