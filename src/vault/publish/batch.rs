//! Versions of several notes, placed all together or not at all: a directory gets another name.
//!
//! All blobs are sealed and on disk in the state directory, with an intent record, before the
//! first is placed. A crash in between is completed at the next start; a failure takes back what
//! was placed. One content at a time is in RAM.

use std::sync::atomic::Ordering;

use crate::error::{Error, Kind, Result};
use crate::ids::{BlobKind, BlobName, Folder};
use crate::openpgp::{Receipt, SealRequest, Sealed};
use crate::state::Intent;
use crate::vault::Vault;
use crate::vault::publish::copies::Placed;
use crate::vault::publish::{Draft, InFlight, Publication, Published, Sent};

/// Versions that wait to be placed together.
pub struct Batch<'a> {
    vault: &'a Vault,
    staged: Vec<Staged>,
}

struct Staged {
    receipt: Receipt,
    sent: Sent,
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
        if vault.shared.closing.load(Ordering::Relaxed) {
            return Err(Error::new(Kind::Busy, "the mount is being locked"));
        }
        let draft = vault.draft(publication)?;
        let recipients = vault.recipients(publication.audience)?;
        let sealed = Sealed::prepare(SealRequest {
            signer: &vault.identities[0],
            co_signers: &[],
            recipients: &recipients,
            intended: &draft.intended,
            named: vault.options.named_recipients,
            name: draft.name,
            notations: &draft.notations,
            content: publication.content,
            created: None,
        })?;
        let mut receipt = None;
        vault.state_dir.stage(&mut |out| {
            let written = sealed.write_to(out)?;
            let name = written.name;
            receipt = Some(written);
            Ok(name)
        })?;
        let receipt = receipt.expect("what was staged was written");
        let Draft {
            notations,
            intended,
            ..
        } = draft;
        self.staged.push(Staged {
            receipt,
            sent: vault.sent(publication, notations, intended)?,
            recipients: recipients.len(),
        });
        Ok(())
    }

    /// Places all of them, and lets go of what they replace. They are durable when this returns.
    ///
    /// # Errors
    /// `NoSpace` and `Io` as the disk says; then none of them is there.
    pub fn publish(mut self) -> Result<Vec<Published<'a>>> {
        let (vault, folder) = (self.vault, Folder::Notes);
        if self.staged.is_empty() {
            return Ok(Vec::new());
        }
        let keys = self.staged.iter().map(|one| one.sent.key.clone());
        let flights: Vec<_> = keys.map(|key| InFlight::begin(vault, key)).collect();
        // `replaces@` does not count between documents: what is continued under another id goes
        // even if a crash comes before it is unlinked.
        let unnamed = self.staged.iter().flat_map(|one| {
            let parents = one.sent.replaces.iter();
            parents.filter(|old| old.key != one.sent.key)
        });
        let intent = vault.state_dir.begin(&Intent {
            folder,
            publish: self.names(),
            remove: unnamed.map(|old| old.blob).collect(),
        })?;
        let mut placed = Vec::new();
        let mut failed = None;
        for one in &self.staged {
            match vault.place_staged(folder, one.receipt.name) {
                Ok(entry) => placed.push(entry),
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        let durable = match failed {
            Some(error) => Err(error),
            // Before the intent is finished: a power cut must not leave some of them.
            None => vault.store().sync(folder),
        };
        let finished = durable.and_then(|()| vault.state_dir.finish(intent));
        if let Err(error) = finished {
            let back = placed
                .iter()
                .try_for_each(|entry| vault.remove_file(folder, &entry.name));
            let back = back.and_then(|()| vault.store().sync(folder));
            // The intent stays unless all is taken back: the next start completes it.
            let back = back.and_then(|()| vault.state_dir.finish(intent));
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
            vault.take_published(one.sent, vec![placed], flight)
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
            // What an unfinished intent names stays; what else stays behind is ciphertext, and goes
            // at the next start.
            let _ = self.vault.state_dir.unstage(name);
        }
    }
}
