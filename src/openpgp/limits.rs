//! How much work one blob may cause, and why its reading ended.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::Refusal;
use crate::error::Error;
use crate::plaintext::SpillArea;

/// How much work one blob may cause.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Largest content in bytes.
    pub max_content: u64,
    /// How many session key packets are tried with my keys.
    pub max_tried: usize,
    /// How many containers may be nested, the encryption included.
    pub max_depth: u8,
    /// Where content spills that is too large for RAM; without it all of it is in RAM.
    pub spill: Option<Arc<SpillArea>>,
    /// Set when the work is to be given up.
    pub stop: Option<Arc<AtomicBool>>,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_content: 64 << 30,
            max_tried: 64,
            max_depth: 16,
            spill: None,
            stop: None,
        }
    }
}

/// Why reading ended before the end.
pub(super) enum Stop {
    NotMine,
    Damaged,
    /// For me, but of a kind that is not read.
    Refused(Refusal),
    TooLarge,
    /// Nobody waits for it any more.
    GivenUp,
    /// The content cannot be kept.
    Failed(Error),
}
