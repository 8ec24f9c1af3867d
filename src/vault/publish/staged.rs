//! Blobs that are placed all together or not at all.
//!
//! All of them are sealed and on disk in the state directory, with an intent record, before the
//! first is placed. A crash in between is completed at the next start; a failure takes back those
//! that were placed.

use crate::error::{Error, Kind, Result};
use crate::ids::{BlobName, Folder};
use crate::openpgp::{Ciphertext, Receipt, Sealed};
use crate::state::IntentId;
use crate::store::{Entry, FileName};
use crate::vault::Vault;
use crate::vault::disk::folder_error;

impl Vault {
    /// Writes a sealed blob to the state directory.
    pub(super) fn stage(&self, sealed: &Sealed<'_>) -> Result<Receipt> {
        let mut receipt = None;
        self.memory.stage(&mut |out| {
            let written = sealed.write_to(out)?;
            let name = written.name;
            receipt = Some(written);
            Ok(name)
        })?;
        Ok(receipt.expect("a staged blob was written"))
    }

    /// Places staged blobs in their order and makes them durable; calls `placed` for each.
    pub(super) fn place_all(
        &self,
        folder: Folder,
        names: impl Iterator<Item = BlobName>,
        mut placed: impl FnMut(Entry),
    ) -> Result<()> {
        for name in names {
            placed(self.place_staged(folder, name)?);
        }
        // Durable before the intent is finished: a power cut must not leave some of them.
        self.store.sync(folder)
    }

    fn place_staged(&self, folder: Folder, name: BlobName) -> Result<Entry> {
        let mut file = self.memory.open_staged(name)?;
        let mut blob = Ciphertext::check(&mut file)?;
        if blob.name() != name {
            let changed = format!("staged blob {name} was changed on disk");
            return Err(Error::new(Kind::Damaged, changed));
        }
        self.store.place(folder, &mut blob).map_err(folder_error)
    }

    /// Unlinks blobs that were placed, durably.
    pub(super) fn take_back<'e>(
        &self,
        folder: Folder,
        placed: impl IntoIterator<Item = &'e Entry>,
    ) -> Result<()> {
        for entry in placed {
            self.remove_file(folder, &entry.name)?;
        }
        self.store.sync(folder)
    }

    /// Forgets a staged blob. If it stays behind, it is ciphertext, and the next start removes it.
    pub(super) fn unstage(&self, name: BlobName) {
        let _ = self.memory.unstage(name);
    }

    /// Notes that an intent is done with.
    pub(super) fn finish(&self, intent: IntentId) -> Result<()> {
        self.memory.finish(intent)
    }

    /// Unlinks a file of the store; one that is gone already is no error.
    pub(in crate::vault) fn remove_file(&self, folder: Folder, name: &FileName) -> Result<()> {
        match self.store.remove(folder, name) {
            Err(error) if error.kind() != Kind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Completes at the start the publications that a crash interrupted.
    pub(in crate::vault) fn complete_intents(&self) -> Result<()> {
        for (id, intent) in self.memory.unfinished() {
            let mut placed = 0;
            for name in &intent.publish {
                match self.place_staged(intent.folder, *name) {
                    Ok(_) => placed += 1,
                    Err(error) if error.kind() == Kind::NotFound => {}
                    Err(error) => {
                        let doing = "completing an interrupted publication of several files";
                        return Err(error.context(doing));
                    }
                }
            }
            if placed == 0 {
                // Without any staged blob nothing is known of the outcome: nothing is removed.
                self.memory.finish(id)?;
                continue;
            }
            self.store.sync(intent.folder)?;
            for name in &intent.remove {
                let file = FileName::new(name.file_name())?;
                self.remove_file(intent.folder, &file)?;
            }
            self.memory.finish(id)?;
        }
        self.memory.clean_staged()?;
        Ok(())
    }
}
