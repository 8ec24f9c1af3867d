//! `software/`: files that are read from the disk piece by piece.

use crate::error::{Error, Kind, Result};
use crate::store::{FileName, SoftwareEntry, SoftwareKind};
use crate::view::draft::handles::Handle;
use crate::view::special::{Special, StoredEntry, shown_name};
use crate::view::tree::Stat;
use crate::view::{HandleId, View};

impl View {
    /// Opens a file, which is read from the disk piece by piece.
    pub(in crate::view) fn open_software(&self, path: &[FileName]) -> Result<HandleId> {
        let open = self.open_software_files();
        if self.options.open_software.is_some_and(|most| open >= most) {
            let rule = "too many files of software/ are open at once: close some";
            return Err(Error::new(Kind::Busy, rule));
        }
        let file = self.vault.software_open(path)?;
        Ok(self.insert_handle(Handle::Software(file)))
    }

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
