//! The key of one blob's content.

use sequoia_openpgp as pgp;

use pgp::types::SymmetricAlgorithm;
use zeroize::Zeroizing;

use crate::error::{Error, Kind, Result};

/// The key that opens one blob without a public-key operation. Zeroed when dropped.
pub struct SessionKey {
    /// `None` where the container names the cipher itself (SEIPD version 2).
    pub(super) cipher: Option<SymmetricAlgorithm>,
    pub(super) key: pgp::crypto::SessionKey,
}

impl SessionKey {
    /// Reads what [`SessionKey::to_bytes`] wrote.
    ///
    /// # Errors
    /// `Invalid` for lengths that no cipher has.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        match bytes {
            [cipher, key @ ..] if matches!(key.len(), 16 | 24 | 32) => Ok(SessionKey {
                cipher: (*cipher != 0).then(|| (*cipher).into()),
                key: key.into(),
            }),
            _ => Err(Error::new(Kind::Invalid, "not a session key")),
        }
    }

    /// Returns the cipher's number (0 where the blob names it) and then the key, for the sealed
    /// index only.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(1 + self.key.len()));
        bytes.push(self.cipher.map_or(0, u8::from));
        bytes.extend_from_slice(&self.key);
        bytes
    }
}
