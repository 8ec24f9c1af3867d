//! A blob that was sealed earlier and is placed as it is.

use std::io::{Read, Seek, SeekFrom, Write};

use sha2::Digest as _;

use super::source::Source;
use crate::error::{Error, Kind, Result};
use crate::ids::{BlobId, BlobName};
use crate::openpgp::Outline;

/// A file that can be read twice.
pub trait Rereadable: Read + Seek + Send + Sync {}

impl<T: Read + Seek + Send + Sync> Rereadable for T {}

/// A whole encrypted message. Only this module can make one.
pub struct Ciphertext<'a> {
    from: &'a mut dyn Rereadable,
    length: u64,
    name: BlobName,
    id: BlobId,
}

impl<'a> Ciphertext<'a> {
    /// Takes a file that is one whole message encrypted to somebody's key, from its beginning.
    ///
    /// # Errors
    /// `Damaged` for anything else: nothing unencrypted reaches the store. Errors of reading
    /// it gives.
    pub fn check(from: &'a mut dyn Rereadable) -> Result<Self> {
        let failed = |error| Error::io("reading a sealed blob", error);
        let length = from.seek(SeekFrom::End(0)).map_err(failed)?;
        from.rewind().map_err(failed)?;
        let mut reader = Reader(from);
        let mut source = Source::new(&mut reader, length);
        source.skip_rest();
        let (name, id) = source.digests()?;
        match source.outline() {
            Outline::Message { .. } => Ok(Ciphertext {
                from,
                length,
                name,
                id,
            }),
            Outline::Refused(_) | Outline::Incomplete => {
                Err(Error::new(Kind::Damaged, "not a whole encrypted message"))
            }
        }
    }

    /// Length in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The name under which it lies in a store.
    pub fn name(&self) -> BlobName {
        self.name
    }

    /// Its id.
    pub fn id(&self) -> BlobId {
        self.id
    }

    /// Writes it.
    ///
    /// # Errors
    /// `Damaged` if these are no longer the bytes that were checked; errors of reading and writing
    /// give.
    pub fn write_to(&mut self, out: &mut dyn Write) -> Result<()> {
        let reading = |error| Error::io("reading a sealed blob", error);
        self.from.rewind().map_err(reading)?;
        let mut digest = sha2::Sha256::new();
        let mut piece = vec![0; 64 * 1024];
        loop {
            let read = match self.from.read(&mut piece) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(reading(error)),
            };
            digest.update(&piece[..read]);
            let written = out.write_all(&piece[..read]);
            written.map_err(|error| Error::io("writing the blob", error))?;
        }
        if BlobId::from_digest(digest.finalize().into()) != self.id {
            return Err(Error::new(Kind::Damaged, "a sealed blob was changed"));
        }
        Ok(())
    }
}

/// A file that is only read.
struct Reader<'a>(&'a mut dyn Rereadable);

impl Read for Reader<'_> {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(to)
    }
}
