//! Drafts that could not be published when the mount ended: they are sealed to me alone, lie in the
//! state directory, are shown at the next mount, and are never published to anyone.

use std::sync::Arc;

use crate::error::{Error, Kind, Result};
use crate::ids::{BlobKind, BlobName, Timestamp};
use crate::openpgp::{self, Notations, Outcome};
use crate::plaintext::Plaintext;
use crate::vault::Vault;
use crate::vault::state_key::for_me_alone;

/// A rescued draft.
#[derive(Clone, Debug)]
pub struct Rescued {
    /// Its name in the state directory.
    pub blob: BlobName,
    /// Where it was in the view.
    pub path: String,
    /// Bytes of content.
    pub size: u64,
    /// When it was last written.
    pub mtime: Timestamp,
}

impl Vault {
    /// Keeps a draft that cannot be saved where it belongs.
    ///
    /// # Errors
    /// `NoKey` and the like if I cannot write to myself; any error of the state's disk.
    pub fn rescue(&self, path: &str, content: &Plaintext, mtime: Timestamp) -> Result<()> {
        let notations = Notations {
            version: Some(Notations::VERSION),
            kind: Some(BlobKind::Note),
            path: Some(path.to_owned()),
            mtime: Some(mtime),
            ..Notations::default()
        };
        let sealed = for_me_alone(self.signer(), &notations, content)?;
        self.memory
            .rescue(&mut |out| Ok(sealed.write_to(out)?.name))
            .map(drop)
    }

    /// Lists the rescued drafts, those of earlier mounts too.
    ///
    /// # Errors
    /// Any error of the state's disk. A file there that is no rescued draft of mine is left out.
    pub fn rescued(&self) -> Result<Vec<Rescued>> {
        let blobs = self.memory.rescued()?;
        let mut found: Vec<_> = blobs
            .into_iter()
            .filter_map(|blob| self.open_rescued(blob).ok().map(|(rescued, _)| rescued))
            .collect();
        found.sort_by_key(|rescued| (rescued.mtime, rescued.blob));
        Ok(found)
    }

    /// Returns the content of a rescued draft.
    ///
    /// # Errors
    /// `NotFound`; `Damaged`; any error of the state's disk.
    pub fn rescued_content(&self, blob: BlobName) -> Result<Arc<Plaintext>> {
        self.open_rescued(blob)
            .map(|(_, content)| Arc::new(content))
    }

    /// Drops a rescued draft.
    ///
    /// # Errors
    /// Any error of the state's disk.
    pub fn drop_rescued(&self, blob: BlobName) -> Result<()> {
        self.memory.drop_rescued(blob)
    }

    fn open_rescued(&self, blob: BlobName) -> Result<(Rescued, Plaintext)> {
        let mut file = self.memory.open_rescued(blob)?;
        let length = file.metadata();
        let length = length.map_err(|error| Error::io("reading a rescued blob", error))?;
        let certificates = Arc::clone(&self.known().certificates);
        let examined = self
            .learner
            .examine(&mut file, length.len(), &certificates)?;
        let Outcome::Opened(opened) = examined.outcome else {
            let damaged = format!("rescued blob {blob} cannot be opened");
            return Err(Error::new(Kind::Damaged, damaged));
        };
        let mine = self.my_fingerprints();
        let signatures = opened.facts.signatures.iter();
        let signed = signatures
            .filter(|signature| {
                signature
                    .signer
                    .as_ref()
                    .is_some_and(|key| mine.contains(key))
            })
            .find(|signature| signature.status == openpgp::SignatureStatus::Good);
        let Some(notations) = signed.map(|signature| &signature.notations) else {
            let damaged = format!("rescued blob {blob} is not signed by me");
            return Err(Error::new(Kind::Damaged, damaged));
        };
        let rescued = Rescued {
            blob,
            path: notations.path.clone().unwrap_or_default(),
            size: opened.facts.size,
            mtime: notations.mtime.unwrap_or_default(),
        };
        Ok((rescued, opened.content))
    }
}
