//! A blob that was sealed earlier and is placed as it is.

use crate::error::{Error, Kind, Result};
use crate::ids::{BlobId, BlobName};
use crate::openpgp::{Outline, outline};

/// The bytes of a whole encrypted message. Only this module can make one.
pub struct Ciphertext<'a>(&'a [u8]);

impl<'a> Ciphertext<'a> {
    /// Takes bytes that are one whole message encrypted to somebody's key.
    ///
    /// # Errors
    /// `Damaged` for anything else: what is not encrypted never reaches the store.
    pub fn check(bytes: &'a [u8]) -> Result<Self> {
        match outline(bytes) {
            Outline::Message { .. } => Ok(Ciphertext(bytes)),
            Outline::Refused(_) | Outline::Incomplete => {
                Err(Error::new(Kind::Damaged, "not a whole encrypted message"))
            }
        }
    }

    /// The bytes.
    pub fn bytes(&self) -> &'a [u8] {
        self.0
    }

    /// The name under which it lies in a store.
    pub fn name(&self) -> BlobName {
        BlobName::of(self.0)
    }

    /// What identifies it.
    pub fn id(&self) -> BlobId {
        BlobId::of(self.0)
    }
}
