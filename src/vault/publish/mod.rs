//! Publishing a version: a template is made ([`template`]), sealed and placed in the store (here for
//! one blob, in [`copies`] and [`batch`] for several), and takes the place of its parents
//! ([`replace`]).

mod batch;
mod copies;
mod in_flight;
mod publication;
mod replace;
mod staged;
mod template;

use crate::error::Result;
use crate::ids::BlobKind;
use crate::openpgp::Certificate;
use crate::vault::Vault;
use crate::vault::audience::Audience;
use crate::vault::disk::folder_error;
use crate::vault::publish::in_flight::InFlight;
use crate::vault::publish::publication::Placed;
use crate::vault::publish::template::SealTemplate;

pub use batch::Batch;
pub use in_flight::Published;
pub use publication::Publication;

impl Vault {
    /// Checks that everybody in an audience, and I, can be written to, and that I can sign.
    ///
    /// # Errors
    /// `NoKey`, `KeyExpired`, `KeyRevoked` or `KeyRejected`, naming the member.
    pub fn check_audience(&self, audience: &Audience) -> Result<()> {
        self.recipients(audience)?;
        self.signer().can_sign()
    }

    /// The certificates of an audience and mine. No member is ever left out.
    fn recipients(&self, audience: &Audience) -> Result<Vec<Certificate>> {
        let people = self.people();
        let members = audience.members().chain([people.me()]);
        members.map(|key| self.recipient(&people, key)).collect()
    }

    /// Seals a version, places it in the store, and replaces its parents by it.
    ///
    /// When this returns the blob is whole on disk under its name; the directory entry is
    /// durable, and the replaced blobs are gone, within a second, or after
    /// [`Vault::make_durable`].
    ///
    /// # Errors
    /// Those of [`Vault::check_audience`]; `Forbidden` for a message to nobody; `TooLarge`;
    /// `NoSpace` and `Io` as the disk says. Nothing is published then.
    pub fn publish(&self, publication: &Publication<'_>) -> Result<Published<'_>> {
        let Publication { kind, audience, .. } = *publication;
        let template = self.template(publication)?;
        let record = self.record(publication, &template)?;
        let flight = InFlight::begin(self, record.key.clone());
        let placed = match kind == BlobKind::Message && audience.len() > 1 {
            true => self.place_copies(publication, &template)?,
            false => vec![self.place_one(publication, &template)?],
        };
        let versions = self.take_place(record, placed);
        Ok(Published {
            versions,
            _flight: flight,
        })
    }

    /// Seals one blob for the whole audience and me, and places it.
    fn place_one(
        &self,
        publication: &Publication<'_>,
        template: &SealTemplate<'_>,
    ) -> Result<Placed> {
        let Publication { kind, audience, .. } = *publication;
        let recipients = self.recipients(audience)?;
        let reader = audience.members().next();
        let reader = reader.filter(|_| kind == BlobKind::Message).cloned();
        let sealed = self.seal(template, &recipients, reader.as_ref())?;
        let placed = self.store.put(kind.folder(), &sealed);
        let (receipt, entry) = placed.map_err(folder_error)?;
        Ok(Placed {
            receipt,
            entry,
            reader,
            recipients: recipients.len(),
        })
    }
}
