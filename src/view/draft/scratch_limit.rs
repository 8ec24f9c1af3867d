//! How much scratch may be in RAM.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Kind, Result};
use crate::view::View;

/// Bytes that all scratch together may take.
const SCRATCH_LIMIT: u64 = 512 << 20;

/// Bytes that all scratch of a view takes.
#[derive(Default)]
pub(in crate::view) struct ScratchBytes(AtomicU64);

impl ScratchBytes {
    pub(in crate::view) fn total(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts that one file, whose share `part` is, takes another number of bytes.
    pub(in crate::view) fn resize(&self, part: &AtomicU64, bytes: u64) {
        let before = part.swap(bytes, Ordering::Relaxed);
        self.0.fetch_add(bytes, Ordering::Relaxed);
        self.0.fetch_sub(before, Ordering::Relaxed);
    }
}

impl View {
    /// Checks that scratch may take `more` bytes.
    pub(in crate::view) fn check_scratch(&self, more: u64) -> Result<()> {
        if self.scratch.total().saturating_add(more) > SCRATCH_LIMIT {
            return Err(Error::new(
                Kind::NoSpace,
                "editors' scratch takes too much memory",
            ));
        }
        Ok(())
    }
}
