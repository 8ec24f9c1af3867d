//! Messages to several readers: one blob for each, placed all together or not at all.
//!
//! All copies are sealed and on disk in the state directory, with an intent record, before the
//! first is placed. A crash in between is completed at the next start; a failure takes back what
//! was placed.

use crate::error::{Error, Kind, Result};
use crate::ids::{BlobName, Fingerprint, Folder};
use crate::openpgp::{Ciphertext, Receipt, SealRequest, Sealed};
use crate::state::{Intent, IntentId};
use crate::store::{Entry, FileName};
use crate::vault::publish::{Draft, Publication};
use crate::vault::{Vault, folder_error};

/// A copy that was placed.
pub(in crate::vault) struct Placed {
    pub(in crate::vault) receipt: Receipt,
    pub(in crate::vault) entry: Entry,
    /// Notation `copy@`.
    pub(in crate::vault) reader: Option<Fingerprint>,
    /// Number of keys that it is encrypted to.
    pub(in crate::vault) recipients: usize,
}

impl Vault {
    /// Places one copy of a message for every reader.
    pub(in crate::vault) fn place_copies(
        &self,
        publication: &Publication<'_>,
        draft: &Draft<'_>,
    ) -> Result<Vec<Placed>> {
        let folder = publication.kind.folder();
        let mut staged = Vec::new();
        let sealed = self.stage_copies(publication, draft, &mut staged);
        let intent = sealed.and_then(|()| {
            self.state_dir.begin(&Intent {
                folder,
                publish: staged.iter().map(|(receipt, _)| receipt.name).collect(),
                remove: publication.replaces.iter().map(|old| old.blob).collect(),
            })
        });
        let intent = match intent {
            Ok(intent) => intent,
            Err(error) => {
                for (receipt, _) in staged {
                    // What stays behind is ciphertext, and goes at the next start.
                    let _ = self.state_dir.unstage(receipt.name);
                }
                return Err(error);
            }
        };
        let mut placed = Vec::new();
        for (receipt, reader) in staged {
            match self.place_staged(folder, receipt.name) {
                Ok(entry) => placed.push(Placed {
                    receipt,
                    entry,
                    reader: Some(reader),
                    recipients: 2,
                }),
                Err(error) => return Err(self.give_up(folder, &placed, intent, error)),
            }
        }
        // Durable before the intent is finished: a power cut must not leave some of them.
        let durable = self.store().sync(folder);
        match durable.and_then(|()| self.state_dir.finish(intent)) {
            Ok(()) => Ok(placed),
            Err(error) => Err(self.give_up(folder, &placed, intent, error)),
        }
    }

    /// Takes back what was placed, and forgets the intent: nothing is sent later behind the
    /// writer's back. Returns the error with what is to be said of it.
    fn give_up(&self, folder: Folder, placed: &[Placed], intent: IntentId, error: Error) -> Error {
        let back = self.take_back(folder, placed);
        let finished = self.state_dir.finish(intent);
        match back.and(finished) {
            Ok(()) => error.context("nothing was sent"),
            Err(_) => error.context("some copies may have been sent"),
        }
    }

    fn stage_copies(
        &self,
        publication: &Publication<'_>,
        draft: &Draft<'_>,
        staged: &mut Vec<(Receipt, Fingerprint)>,
    ) -> Result<()> {
        let people = self.people();
        let mine = self.recipient(&people, people.me())?;
        for reader in publication.audience.members() {
            let mut notations = draft.notations.clone();
            notations.copy = Some(reader.clone());
            let sealed = Sealed::prepare(SealRequest {
                signer: &self.identities[0],
                co_signers: &[],
                recipients: &[self.recipient(&people, reader)?, mine.clone()],
                intended: &draft.intended,
                named: self.options.named_recipients,
                name: draft.name,
                notations: &notations,
                content: publication.content,
                created: None,
            })?;
            let mut receipt = None;
            self.state_dir.stage(&mut |out| {
                let written = sealed.write_to(out)?;
                let name = written.name;
                receipt = Some(written);
                Ok(name)
            })?;
            staged.extend(receipt.map(|receipt| (receipt, reader.clone())));
        }
        Ok(())
    }

    pub(in crate::vault) fn place_staged(&self, folder: Folder, name: BlobName) -> Result<Entry> {
        let mut file = self.state_dir.open_staged(name)?;
        let mut blob = Ciphertext::check(&mut file)?;
        if blob.name() != name {
            let changed = format!("staged blob {name} was changed on disk");
            return Err(Error::new(Kind::Damaged, changed));
        }
        self.store().place(folder, &mut blob).map_err(folder_error)
    }

    fn take_back(&self, folder: Folder, placed: &[Placed]) -> Result<()> {
        for copy in placed {
            self.remove_file(folder, &copy.entry.name)?;
        }
        self.store().sync(folder)
    }

    /// Unlinks a file of the store; one that is gone already is no error.
    pub(in crate::vault) fn remove_file(&self, folder: Folder, name: &FileName) -> Result<()> {
        match self.store().remove(folder, name) {
            Err(error) if error.kind() != Kind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Completes at the start what a crash interrupted.
    pub(in crate::vault) fn complete_intents(&self) -> Result<()> {
        for (id, intent) in self.state_dir.unfinished() {
            let mut placed = 0;
            for name in &intent.publish {
                match self.place_staged(intent.folder, *name) {
                    Ok(_) => placed += 1,
                    Err(error) if error.kind() == Kind::NotFound => {}
                    Err(error) => {
                        let what = "completing an interrupted publication of several files";
                        return Err(error.context(what));
                    }
                }
            }
            if placed == 0 {
                // Without what was staged nothing is known of the outcome: nothing is removed.
                self.state_dir.finish(id)?;
                continue;
            }
            self.store().sync(intent.folder)?;
            for name in &intent.remove {
                let file = FileName::new(name.file_name())?;
                self.remove_file(intent.folder, &file)?;
            }
            self.state_dir.finish(id)?;
        }
        self.state_dir.clean_staged()?;
        Ok(())
    }
}
