//! Messages to several readers: one blob for each, placed all together or not at all.

use crate::error::{Error, Result};
use crate::ids::Fingerprint;
use crate::openpgp::Receipt;
use crate::state::{Intent, IntentId};
use crate::vault::Vault;
use crate::vault::publish::publication::{Placed, Publication};
use crate::vault::publish::template::SealTemplate;

impl Vault {
    /// Places one copy of a message for every reader.
    pub(super) fn place_copies(
        &self,
        publication: &Publication<'_>,
        template: &SealTemplate<'_>,
    ) -> Result<Vec<Placed>> {
        let folder = publication.kind.folder();
        let mut staged = Vec::new();
        let sealed = self.stage_copies(publication, template, &mut staged);
        let intent = sealed.and_then(|()| {
            self.memory.begin(&Intent {
                folder,
                publish: staged.iter().map(|(receipt, _)| receipt.name).collect(),
                remove: publication.replaces.iter().map(|old| old.blob).collect(),
            })
        });
        let intent = match intent {
            Ok(intent) => intent,
            Err(error) => {
                staged
                    .iter()
                    .for_each(|(receipt, _)| self.unstage(receipt.name));
                return Err(error);
            }
        };
        let mut placed = Vec::new();
        let names = staged.iter().map(|(receipt, _)| receipt.name);
        let durable = self.place_all(folder, names, |entry| placed.push(entry));
        if let Err(error) = durable.and_then(|()| self.finish(intent)) {
            let back = self.take_back(folder, &placed);
            return Err(self.give_up(back, intent, error));
        }
        let copies = staged.into_iter().zip(placed);
        let copies = copies.map(|((receipt, reader), entry)| Placed {
            receipt,
            entry,
            reader: Some(reader),
            recipients: 2,
        });
        Ok(copies.collect())
    }

    /// Forgets the intent after the placed copies were taken back: nothing is sent later behind the
    /// writer's back. Returns the error together with its outcome.
    fn give_up(&self, back: Result<()>, intent: IntentId, error: Error) -> Error {
        let finished = self.finish(intent);
        match back.and(finished) {
            Ok(()) => error.context("nothing was sent"),
            Err(_) => error.context("some copies may have been sent"),
        }
    }

    fn stage_copies(
        &self,
        publication: &Publication<'_>,
        template: &SealTemplate<'_>,
        staged: &mut Vec<(Receipt, Fingerprint)>,
    ) -> Result<()> {
        let people = self.people();
        let mine = self.recipient(&people, people.me())?;
        for reader in publication.audience.members() {
            let recipients = [self.recipient(&people, reader)?, mine.clone()];
            let sealed = self.seal(template, &recipients, Some(reader))?;
            staged.push((self.stage(&sealed)?, reader.clone()));
        }
        Ok(())
    }
}
