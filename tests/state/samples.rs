//! What the tests of the state have in common: a wrap without OpenPGP, samples, snapshots.

use std::path::Path;

use dds::error::{Error, Kind, Result};
use dds::ids::{BlobId, BlobName, Timestamp};
use dds::state::{KeyWrap, Lineage, Removal, State};
use sha2::Digest as _;
use zeroize::Zeroizing;

/// Hides nothing, but notices every change.
pub struct Wrap(pub u8);

impl KeyWrap for Wrap {
    fn wrap(&self, key: &[u8; 32]) -> Result<Vec<u8>> {
        let digest = sha2::Sha256::new().chain_update([self.0]).chain_update(key);
        Ok([key.as_slice(), &digest.finalize()].concat())
    }

    fn unwrap(&self, wrapped: &[u8]) -> Result<Zeroizing<[u8; 32]>> {
        let bad = || Error::new(Kind::Damaged, "no good signature of mine");
        let key = wrapped.first_chunk::<32>().ok_or_else(bad)?;
        if self.wrap(key)? != wrapped {
            return Err(bad());
        }
        Ok(Zeroizing::new(*key))
    }
}

pub fn open(dir: &Path) -> State {
    State::open(dir, &Wrap(1)).unwrap()
}

pub fn refused(dir: &Path) -> Error {
    State::open(dir, &Wrap(1)).err().expect("refused")
}

pub fn name(n: u32) -> BlobName {
    BlobName::of(&n.to_be_bytes())
}

pub fn id(n: u32) -> BlobId {
    BlobId::of(&n.to_be_bytes())
}

pub fn lineage(n: u8) -> Lineage {
    Lineage::from_digest([n; 32])
}

/// Removal number `n`, of a version that replaced number `n + 1000`.
pub fn removal(n: u32) -> Removal {
    Removal {
        id: id(n),
        versions: Vec::new(),
        name: name(n),
        lineage: lineage(1),
        replaces: vec![name(n + 1000)],
        at: Timestamp::now(),
    }
}

/// The numbers below 100 that count as removed.
pub fn removed(state: &State) -> Vec<u32> {
    (0..100).filter(|n| state.is_removed(id(*n))).collect()
}
