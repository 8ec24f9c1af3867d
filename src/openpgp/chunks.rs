//! Decrypts GnuPG's own container: packet type 20, OCB by chunks.
//!
//! GnuPG 2.3 and newer write it to every key that announces it, which are those that it made
//! itself. It is described in draft-ietf-openpgp-rfc4880bis-10, 5.16, and was replaced by
//! version 2 of packet type 18 in RFC 9580.
//!
//! ```text
//! body:   version 1, cipher, mode 2 (OCB), chunk size octet c, IV of 15 bytes,
//!         chunks of 2^(c + 6) bytes, the last one shorter, each followed by its tag; final tag
//! chunk:  nonce = IV xor index, additional data = 0xD4, version, cipher, mode, c, index
//! final:  as an empty chunk, with the whole length behind the index
//! ```

use std::io::{self, Read};

use sequoia_openpgp as pgp;

use pgp::crypto::SessionKey;
use pgp::types::{AEADAlgorithm, SymmetricAlgorithm};
use zeroize::Zeroizing;

use super::refusal::Refusal;

/// Bytes of a tag.
const TAG: usize = 16;
/// Bytes of the nonce.
const NONCE: usize = 15;
/// Largest chunk that is decrypted, in bytes: GnuPG's default.
const LARGEST: usize = 4 << 20;
const VERSION: u8 = 1;

/// The content of a container. As a reader it gives only authenticated bytes, and ends only
/// if the end is authentic, too.
pub(super) struct Chunks<R> {
    from: R,
    cipher: SymmetricAlgorithm,
    /// As the container says it, which the tags cover.
    size_octet: u8,
    /// Bytes of a chunk without its tag; over [`LARGEST`] it is only known to be so.
    size: usize,
    iv: [u8; NONCE],
    key: Option<SessionKey>,
    /// Ciphertext that was read ahead: at most a chunk, its tag, and another tag.
    ahead: Vec<u8>,
    plain: Zeroizing<Vec<u8>>,
    /// Bytes of `plain` that were given out.
    given: usize,
    /// Index of the next chunk.
    index: u64,
    /// Bytes of all chunks so far.
    length: u64,
    ended: bool,
}

/// The beginning of a container.
pub(super) enum Header<R> {
    /// It can be read.
    Readable(Chunks<R>),
    /// It is for the holder of a key to this cipher, but cannot be read.
    Unsupported(SymmetricAlgorithm, Refusal),
}

/// Reads the beginning of a container's body.
///
/// # Errors
/// Errors of reading; `InvalidData` if it is no container.
pub(super) fn header<R: Read>(mut from: R) -> io::Result<Header<R>> {
    let mut fixed = [0; 4];
    from.read_exact(&mut fixed)?;
    let [version, cipher, mode, size_octet] = fixed;
    let cipher = SymmetricAlgorithm::from(cipher);
    // 2^62 bytes are the largest size that the draft knows.
    if version != VERSION || size_octet > 56 {
        return Err(broken("not a container of type 20"));
    }
    let refusal = match AEADAlgorithm::from(mode) {
        mode @ (AEADAlgorithm::OCB | AEADAlgorithm::EAX) => Refusal::of_mode(mode),
        _ => Some(Refusal::Mode("unknown")),
    };
    if let Some(refusal) = refusal {
        return Ok(Header::Unsupported(cipher, refusal));
    }
    if let Some(refusal) = Refusal::of_aead_cipher(cipher) {
        return Ok(Header::Unsupported(cipher, refusal));
    }
    let mut iv = [0; NONCE];
    from.read_exact(&mut iv)?;
    let size = 1_u64 << (size_octet + 6);
    let mut chunks = Chunks {
        from,
        cipher,
        size_octet,
        size: usize::try_from(size).map_or(LARGEST + 1, |size| size.min(LARGEST + 1)),
        iv,
        key: None,
        ahead: Vec::new(),
        plain: Zeroizing::default(),
        given: 0,
        index: 0,
        length: 0,
        ended: false,
    };
    chunks.fill()?;
    // A short content is a short chunk, whatever the size says.
    if chunks.ahead.len() > LARGEST + 2 * TAG {
        return Ok(Header::Unsupported(cipher, Refusal::LargeChunks));
    }
    Ok(Header::Readable(chunks))
}

impl<R: Read> Chunks<R> {
    pub fn cipher(&self) -> SymmetricAlgorithm {
        self.cipher
    }

    /// Tries a key on the first chunk, and keeps it if it fits.
    pub fn try_key(&mut self, key: &SessionKey) -> bool {
        self.key = Some(key.clone());
        let fits = self.decrypt_next().is_ok();
        if !fits {
            self.key = None;
        }
        fits
    }

    /// Tells whether everything was read and is authentic.
    pub fn is_at_its_end(&self) -> bool {
        self.ended && self.given == self.plain.len()
    }

    /// Reads a chunk, its tag and as much as another tag, as far as there is so much.
    fn fill(&mut self) -> io::Result<()> {
        let missing = self.whole() - self.ahead.len();
        let missing = u64::try_from(missing).expect("a length fits");
        let read = self.from.by_ref().take(missing);
        { read }.read_to_end(&mut self.ahead).map(drop)
    }

    fn whole(&self) -> usize {
        self.size + 2 * TAG
    }

    /// Decrypts the next chunk, or checks the final tag if there is none.
    fn decrypt_next(&mut self) -> io::Result<()> {
        self.fill()?;
        let rest = self.ahead.len().checked_sub(TAG);
        let rest = rest.ok_or_else(|| broken("cut off"))?;
        let chunk = rest.min(self.size + TAG);
        let mut additional = Vec::with_capacity(5 + 2 * 8);
        let mode = u8::from(AEADAlgorithm::OCB);
        additional.extend([0xD4, VERSION, self.cipher.into(), mode, self.size_octet]);
        additional.extend(self.index.to_be_bytes());
        if chunk == 0 {
            additional.extend(self.length.to_be_bytes());
            self.decrypt(&additional, TAG)?;
            self.ended = true;
        } else if chunk <= TAG {
            return Err(broken("a chunk without content"));
        } else {
            self.decrypt(&additional, chunk)?;
            self.index += 1;
            self.length += self.plain.len() as u64;
        }
        Ok(())
    }

    /// Decrypts so many of the bytes that were read ahead.
    fn decrypt(&mut self, additional: &[u8], bytes: usize) -> io::Result<()> {
        let key = self.key.as_ref().expect("a key was tried before");
        let mut nonce = self.iv;
        for (octet, index) in nonce[NONCE - 8..].iter_mut().zip(self.index.to_be_bytes()) {
            *octet ^= index;
        }
        self.plain.resize(bytes - TAG, 0);
        self.given = 0;
        let context = AEADAlgorithm::OCB.context(self.cipher, key, additional, &nonce);
        let decrypted = context
            .and_then(|context| context.for_decryption())
            .and_then(|mut context| context.decrypt_verify(&mut self.plain, &self.ahead[..bytes]));
        if decrypted.is_err() {
            self.plain.clear();
            return Err(broken("not authentic"));
        }
        self.ahead.drain(..bytes);
        Ok(())
    }
}

impl<R: Read> Read for Chunks<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if self.given == self.plain.len() && !self.ended {
            self.decrypt_next()?;
        }
        let left = &self.plain[self.given..];
        let count = left.len().min(to.len());
        to[..count].copy_from_slice(&left[..count]);
        self.given += count;
        Ok(count)
    }
}

fn broken(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}
