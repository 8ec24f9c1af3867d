//! `software/`: files that are read from the disk piece by piece.

use crate::error::Result;
use crate::store::{FileName, SoftwareEntry, SoftwareKind};
use crate::view::View;
use crate::view::draft::state::Stat;
use crate::view::special::{Special, StoredEntry, shown_name};

impl View {
    pub(super) fn find_software(&self, path: &[FileName]) -> Result<Vec<StoredEntry>> {
        let listed = self.vault.software_list(path)?.into_iter();
        let found = |(name, entry): (FileName, SoftwareEntry)| StoredEntry {
            shown: shown_name(&name),
            name,
            what: match entry.kind {
                SoftwareKind::File => Special::SoftwareFile,
                SoftwareKind::Directory => Special::SoftwareDir,
            },
            stat: Stat {
                size: entry.size(),
                mtime: entry.mtime(),
                mode: 0o4,
            },
        };
        Ok(listed.map(found).collect())
    }
}
