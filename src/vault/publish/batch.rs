//! Versions of several notes, placed all together or not at all: a directory gets another name. One
//! content at a time is in RAM.

use crate::error::{Error, Kind, Result};
use crate::ids::{BlobKind, BlobName, Folder};
use crate::openpgp::Receipt;
use crate::state::Intent;
use crate::vault::Vault;
use crate::vault::publish::in_flight::{InFlight, Published};
use crate::vault::publish::publication::{Placed, Publication};
use crate::vault::publish::replace::Record;

/// Versions that wait to be placed together.
pub struct Batch<'a> {
    vault: &'a Vault,
    staged: Vec<Staged>,
}

struct Staged {
    receipt: Receipt,
    record: Record,
    recipients: usize,
}

impl Vault {
    /// Begins a batch of notes and directories.
    pub fn batch(&self) -> Batch<'_> {
        Batch {
            vault: self,
            staged: Vec::new(),
        }
    }
}

impl<'a> Batch<'a> {
    /// Seals one version into the state directory.
    ///
    /// # Errors
    /// Those of [`Vault::publish`]; `Forbidden` for a message; `Busy` when the mount ends.
    pub fn add(&mut self, publication: &Publication<'_>) -> Result<()> {
        let vault = self.vault;
        if publication.kind == BlobKind::Message {
            return Err(Error::new(Kind::Forbidden, "messages are sent one by one"));
        }
        if vault.replacements.keeper.is_closing() {
            return Err(Error::new(Kind::Busy, "the mount is being locked"));
        }
        let template = vault.template(publication)?;
        let recipients = vault.recipients(publication.audience)?;
        let sealed = vault.seal(&template, &recipients, None)?;
        let receipt = vault.stage(&sealed)?;
        let record = match vault.record(publication, &template) {
            Ok(record) => record,
            Err(error) => {
                vault.unstage(receipt.name);
                return Err(error);
            }
        };
        self.staged.push(Staged {
            receipt,
            record,
            recipients: recipients.len(),
        });
        Ok(())
    }

    /// Places all of them, and replaces their parents by them. They are durable when this returns.
    ///
    /// # Errors
    /// `NoSpace` and `Io` as the disk says; then none of them is there.
    pub fn publish(mut self) -> Result<Vec<Published<'a>>> {
        let (vault, folder) = (self.vault, Folder::Notes);
        if self.staged.is_empty() {
            return Ok(Vec::new());
        }
        let keys = self.staged.iter().map(|one| one.record.key.clone());
        let flights: Vec<_> = keys.map(|key| InFlight::begin(vault, key)).collect();
        // A note that is continued under another id is removed even if a crash comes before it is
        // unlinked.
        let staged = self.staged.iter();
        let others = staged.flat_map(|one| one.record.other_documents());
        let intent = vault.memory.begin(&Intent {
            folder,
            publish: self.names(),
            remove: others.map(|old| old.blob).collect(),
        })?;
        let mut placed = Vec::new();
        let names = self.names().into_iter();
        let durable = vault.place_all(folder, names, |entry| placed.push(entry));
        if let Err(error) = durable.and_then(|()| vault.finish(intent)) {
            let back = vault.take_back(folder, &placed);
            // The intent stays unless all is taken back: the next start completes it.
            let back = back.and_then(|()| vault.finish(intent));
            return Err(match back {
                Ok(()) => error,
                Err(_) => error.context("it is completed at the next start"),
            });
        }
        let staged = std::mem::take(&mut self.staged);
        let done = staged.into_iter().zip(placed).zip(flights);
        let done = done.map(|((one, entry), flight)| {
            let placed = Placed {
                receipt: one.receipt,
                entry,
                reader: None,
                recipients: one.recipients,
            };
            Published {
                versions: vault.take_place(one.record, vec![placed]),
                _flight: flight,
            }
        });
        Ok(done.collect())
    }

    fn names(&self) -> Vec<BlobName> {
        self.staged.iter().map(|one| one.receipt.name).collect()
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        for name in self.names() {
            // The state keeps a blob that an unfinished intent names.
            self.vault.unstage(name);
        }
    }
}
