//! `software/`: files that the store shares as they are, without encryption.

use crate::error::Result;
use crate::store::{FileName, SoftwareEntry, SoftwareFile};
use crate::vault::Vault;

impl Vault {
    /// Lists a directory below `software/`, sorted by name; the empty path is `software/` itself.
    ///
    /// # Errors
    /// `NotFound`, also for a hidden name; `NotDirectory` for a file; any error of the disk.
    pub fn software_list(&self, path: &[FileName]) -> Result<Vec<(FileName, SoftwareEntry)>> {
        self.store.software_list(path)
    }

    /// Opens a plain file below `software/`.
    ///
    /// # Errors
    /// `NotFound`, also for a hidden name; `IsDirectory` for a directory; any error of the disk.
    pub fn software_open(&self, path: &[FileName]) -> Result<Box<dyn SoftwareFile>> {
        self.store.software_open(path)
    }
}
