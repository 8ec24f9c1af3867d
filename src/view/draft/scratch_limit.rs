//! How much scratch may be in RAM.

use crate::error::{Error, Kind, Result};
use crate::view::View;

/// Bytes that all scratch together may take.
const SCRATCH_LIMIT: u64 = 512 << 20;

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
