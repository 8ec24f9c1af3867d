//! The key of one blob's content.

use sequoia_openpgp as pgp;

use pgp::crypto::mem::{Encrypted, Protected};
use pgp::types::SymmetricAlgorithm;
use zeroize::Zeroizing;

use crate::error::{Error, Kind, Result};

/// The key that opens one blob without a public-key operation.
///
/// There is one for each blob, too many to lock them all in RAM. So each is kept encrypted, as
/// Sequoia keeps secret keys: under a key that it derives from a few pages, which are locked.
pub struct SessionKey {
    /// `None` where the container names the cipher itself (SEIPD version 2).
    pub(super) cipher: Option<SymmetricAlgorithm>,
    key: Encrypted,
}

impl SessionKey {
    pub(super) fn new(cipher: Option<SymmetricAlgorithm>, key: &pgp::crypto::SessionKey) -> Self {
        Self::sealed(cipher, key)
    }

    fn sealed(cipher: Option<SymmetricAlgorithm>, key: &[u8]) -> Self {
        let key = Encrypted::new(Protected::from(key));
        let key = key.expect("the kernel always has random numbers after boot");
        SessionKey { cipher, key }
    }

    pub(super) fn key(&self) -> pgp::crypto::SessionKey {
        self.key.map(|key| key.clone().into())
    }

    /// Reads the bytes of [`SessionKey::to_bytes`].
    ///
    /// # Errors
    /// `Invalid` for lengths that no cipher has.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        match bytes {
            [cipher, key @ ..] if matches!(key.len(), 16 | 24 | 32) => {
                Ok(Self::sealed((*cipher != 0).then(|| (*cipher).into()), key))
            }
            _ => Err(Error::new(Kind::Invalid, "not a session key")),
        }
    }

    /// Returns the cipher's number (0 where the blob names it) and then the key, for the sealed
    /// index only.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        self.key.map(|key| {
            let mut bytes = Zeroizing::new(Vec::with_capacity(1 + key.len()));
            bytes.push(self.cipher.map_or(0, u8::from));
            bytes.extend_from_slice(key);
            bytes
        })
    }
}
