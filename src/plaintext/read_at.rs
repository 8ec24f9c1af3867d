//! Content that is read at any offset, wherever it is.

use std::ops::ControlFlow;

use sha2::Digest as _;
use zeroize::Zeroizing;

use super::Plaintext;
use super::spill::CHUNK;
use crate::error::{Error, Kind, Result};

/// Content that many can read at once, at any offset.
///
/// Code that only reads takes this and no [`Plaintext`], so that content need not be whole in one
/// place to be read, verified or sealed.
pub trait ReadAt: Send + Sync {
    /// Length in bytes.
    fn len(&self) -> u64;

    /// Tells whether there are no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads up to `size` bytes from `offset`; fewer only at the end of the content.
    ///
    /// # Errors
    /// `Io` if the bytes cannot be had, or are not those that were written.
    fn read_at(&self, offset: u64, size: usize) -> Result<Zeroizing<Vec<u8>>>;

    /// Calls `sink` with the content from first to last byte, in pieces, until it breaks off.
    ///
    /// # Errors
    /// As [`ReadAt::read_at`].
    fn walk(&self, sink: &mut dyn FnMut(&[u8]) -> ControlFlow<()>) -> Result<()> {
        let mut offset = 0;
        while offset < self.len() {
            let piece = self.read_at(offset, CHUNK)?;
            if piece.is_empty() {
                return Err(Error::new(Kind::Io, "the content ends too early"));
            }
            offset += piece.len() as u64;
            if sink(&piece).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Returns the SHA-256 of the content.
    ///
    /// # Errors
    /// As [`ReadAt::read_at`].
    fn digest(&self) -> Result<[u8; 32]> {
        let mut digest = sha2::Sha256::new();
        self.walk(&mut |piece| {
            digest.update(piece);
            ControlFlow::Continue(())
        })?;
        Ok(digest.finalize().into())
    }
}

impl dyn ReadAt + '_ {
    /// Calls `sink` with the content from first to last byte, in pieces.
    ///
    /// # Errors
    /// Whatever `sink` returns; it is not called again after an error. `Io` as
    /// [`ReadAt::read_at`].
    pub fn pieces<E: From<Error>>(
        &self,
        mut sink: impl FnMut(&[u8]) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let mut refused = None;
        self.walk(&mut |piece| match sink(piece) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                refused = Some(error);
                ControlFlow::Break(())
            }
        })?;
        refused.map_or(Ok(()), Err)
    }
}

impl ReadAt for Plaintext {
    fn len(&self) -> u64 {
        self.len()
    }

    fn read_at(&self, offset: u64, size: usize) -> Result<Zeroizing<Vec<u8>>> {
        self.read_at(offset, size)
    }

    /// Without a copy of chunks in RAM.
    fn walk(&self, sink: &mut dyn FnMut(&[u8]) -> ControlFlow<()>) -> Result<()> {
        let mut ended = false;
        let walked = self.pieces::<Error>(|piece| match sink(piece) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => {
                ended = true;
                Err(Error::new(Kind::Busy, "broken off"))
            }
        });
        if ended { Ok(()) } else { walked }
    }

    fn digest(&self) -> Result<[u8; 32]> {
        self.digest()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Content that is nowhere: made when it is read, in pieces of an odd length.
    struct Counted(u64);

    impl ReadAt for Counted {
        fn len(&self) -> u64 {
            self.0
        }

        fn read_at(&self, offset: u64, size: usize) -> Result<Zeroizing<Vec<u8>>> {
            let end = self.0.min(offset + size as u64).min(offset + 60_001);
            Ok(Zeroizing::new(
                (offset..end).map(|at| (at % 251) as u8).collect(),
            ))
        }
    }

    fn whole(content: &dyn ReadAt) -> Vec<u8> {
        let mut all = Vec::new();
        let walked = content.pieces::<Error>(|piece| {
            all.extend_from_slice(piece);
            Ok(())
        });
        walked.unwrap();
        all
    }

    #[test]
    fn every_reader_gives_the_same_bytes_and_digest() {
        for length in [0, 1, 60_001, 200_000] {
            let counted = Counted(length);
            let bytes = whole(&counted);
            let kept = Plaintext::from(&bytes[..]);
            assert_eq!(bytes.len() as u64, length);
            assert_eq!(whole(&kept), bytes);
            let readers: [&dyn ReadAt; 2] = [&counted, &kept];
            let digests = readers.map(|reader| reader.digest().unwrap());
            assert_eq!(digests[0], digests[1], "{length}");
            assert_eq!(readers.map(|reader| reader.is_empty()), [length == 0; 2]);
        }
    }

    #[test]
    fn a_refusal_ends_the_walk_and_is_given_back() {
        let kept = Plaintext::from(&whole(&Counted(200_000))[..]);
        for reader in [&Counted(200_000) as &dyn ReadAt, &kept] {
            let mut calls = 0;
            let refused = reader.pieces(|_| {
                calls += 1;
                match calls {
                    2 => Err(Error::new(Kind::NoSpace, "no more")),
                    _ => Ok(()),
                }
            });
            assert_eq!(refused.unwrap_err().kind(), Kind::NoSpace);
            assert_eq!(calls, 2);
        }
        // A reader that has less than it says is an error, and no endless loop.
        struct Short;
        impl ReadAt for Short {
            fn len(&self) -> u64 {
                10
            }
            fn read_at(&self, offset: u64, _: usize) -> Result<Zeroizing<Vec<u8>>> {
                Ok(Zeroizing::new(vec![0; usize::from(offset < 5)]))
            }
        }
        assert_eq!(Short.digest().unwrap_err().kind(), Kind::Io);
    }
}
