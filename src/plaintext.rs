//! The only home of plaintext and passphrases.
//!
//! What is stored here is zeroed when it is dropped, truncated or moved to a larger buffer. The
//! types have neither `Debug` nor `Clone`, so a copy or a log line of plaintext does not
//! compile by accident.

use std::io;

use zeroize::{Zeroize, Zeroizing};

/// Bytes in one full chunk. A chunk is the unit in which content is allocated and zeroed.
const CHUNK: usize = 64 * 1024;
/// Bytes in the smallest chunk: most messages are short.
const SMALLEST: usize = 4 * 1024;

/// The content of one file, in RAM, readable and writable at any offset.
///
/// A range that was never written is a hole: it reads as zeros and takes no memory.
#[derive(Default)]
pub struct Plaintext {
    /// Chunk `i` holds the bytes from `i * CHUNK`. It may be shorter than `CHUNK` (what is
    /// missing reads as zeros) and holds only zeros at and after `len`.
    chunks: Vec<Option<Zeroizing<Box<[u8]>>>>,
    len: u64,
}

impl Plaintext {
    /// Makes an empty content.
    pub fn new() -> Self {
        Self::default()
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Tells whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of memory that the content takes.
    pub fn memory(&self) -> usize {
        self.chunks.iter().flatten().map(|chunk| chunk.len()).sum()
    }

    /// Reads up to `size` bytes from `offset`; fewer at the end of the content.
    pub fn read_at(&self, offset: u64, size: usize) -> Zeroizing<Vec<u8>> {
        let left = self.len.saturating_sub(offset);
        let size = usize::try_from(left).unwrap_or(usize::MAX).min(size);
        let mut out = Zeroizing::new(vec![0; size]);
        let mut done = 0;
        while done < size {
            let (index, start) = Self::locate(offset + done as u64);
            let part = (size - done).min(CHUNK - start);
            if let Some(chunk) = self.chunks.get(index).and_then(Option::as_ref) {
                // A chunk may be shorter than what it stands for; the rest is zeros.
                let stored = chunk.get(start..).unwrap_or_default();
                let present = stored.len().min(part);
                out[done..done + present].copy_from_slice(&stored[..present]);
            }
            done += part;
        }
        out
    }

    /// Writes `data` at `offset`, extending the content as needed.
    pub fn write_at(&mut self, offset: u64, data: &[u8]) {
        let mut done = 0;
        while done < data.len() {
            let (index, start) = Self::locate(offset + done as u64);
            let part = (data.len() - done).min(CHUNK - start);
            let chunk = self.chunk_mut(index, start + part);
            chunk[start..start + part].copy_from_slice(&data[done..done + part]);
            done += part;
        }
        self.len = self.len.max(offset + data.len() as u64);
    }

    /// Appends `data`.
    pub fn append(&mut self, data: &[u8]) {
        self.write_at(self.len, data);
    }

    /// Cuts the content, zeroing what is cut, or extends it by a hole.
    pub fn set_len(&mut self, len: u64) {
        if len < self.len {
            let (index, start) = Self::locate(len);
            self.chunks.truncate(index + usize::from(start > 0));
            if start > 0 {
                if let Some(chunk) = self.chunks.get_mut(index).and_then(Option::as_mut) {
                    let start = start.min(chunk.len());
                    chunk[start..].zeroize();
                }
            }
        }
        self.len = len;
    }

    /// Calls `sink` with the content from first to last byte, in pieces.
    ///
    /// # Errors
    /// Whatever `sink` returns; it is not called again after an error.
    pub fn pieces<E>(&self, mut sink: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        static ZEROS: [u8; CHUNK] = [0; CHUNK];
        let mut left = self.len;
        for index in 0.. {
            if left == 0 {
                break;
            }
            let size = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
            let present = match self.chunks.get(index).and_then(Option::as_ref) {
                Some(chunk) => &chunk[..size.min(chunk.len())],
                None => &[],
            };
            if !present.is_empty() {
                sink(present)?;
            }
            if present.len() < size {
                sink(&ZEROS[present.len()..size])?;
            }
            left -= size as u64;
        }
        Ok(())
    }

    /// Makes an independent copy: a draft of a published content.
    pub fn duplicate(&self) -> Plaintext {
        Plaintext {
            chunks: self.chunks.clone(),
            len: self.len,
        }
    }

    /// Tells whether both hold the same bytes.
    pub fn same_bytes(&self, other: &Plaintext) -> bool {
        self.len == other.len
            && (0..self.len)
                .step_by(CHUNK)
                .all(|offset| self.read_at(offset, CHUNK) == other.read_at(offset, CHUNK))
    }

    /// Returns the SHA-256 of the content.
    pub fn digest(&self) -> [u8; 32] {
        use sha2::Digest as _;
        let mut digest = sha2::Sha256::new();
        let hashed: Result<(), std::convert::Infallible> = self.pieces(|piece| {
            digest.update(piece);
            Ok(())
        });
        match hashed {
            Ok(()) => digest.finalize().into(),
            Err(never) => match never {},
        }
    }

    fn locate(offset: u64) -> (usize, usize) {
        let index = usize::try_from(offset / CHUNK as u64).expect("64-bit address space");
        (index, (offset % CHUNK as u64) as usize)
    }

    /// Returns chunk `index`, grown to hold at least `need` bytes. `need` is at most `CHUNK`.
    fn chunk_mut(&mut self, index: usize, need: usize) -> &mut [u8] {
        if self.chunks.len() <= index {
            self.chunks.resize_with(index + 1, || None);
        }
        let slot = &mut self.chunks[index];
        let have = slot.as_ref().map_or(0, |chunk| chunk.len());
        if have < need {
            let size = need.next_power_of_two().clamp(SMALLEST, CHUNK);
            let mut grown = Zeroizing::new(vec![0; size].into_boxed_slice());
            if let Some(old) = slot.as_ref() {
                grown[..have].copy_from_slice(old);
            }
            // The old chunk is zeroed as it is dropped here.
            *slot = Some(grown);
        }
        slot.as_mut().expect("filled above")
    }
}

impl From<&[u8]> for Plaintext {
    fn from(bytes: &[u8]) -> Self {
        let mut content = Plaintext::new();
        content.append(bytes);
        content
    }
}

impl io::Write for Plaintext {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.append(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What unlocks a secret key. Zeroed when dropped.
pub struct Passphrase(Zeroizing<Vec<u8>>);

impl Passphrase {
    /// Takes the bytes of a passphrase, without the line end that it was entered with.
    pub fn new(bytes: Zeroizing<Vec<u8>>) -> Self {
        Passphrase(bytes)
    }

    /// Shows the bytes to the one place that needs them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(content: &Plaintext) -> Vec<u8> {
        let mut all = Vec::new();
        content
            .pieces::<()>(|piece| {
                all.extend_from_slice(piece);
                Ok(())
            })
            .unwrap();
        assert_eq!(all, *content.read_at(0, usize::MAX));
        all
    }

    #[test]
    fn random_writes_and_cuts_agree_with_a_plain_vector() {
        let mut content = Plaintext::new();
        let mut model: Vec<u8> = Vec::new();
        let mut seed = 1_u64;
        let mut random = |below: u64| {
            seed = seed
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (seed >> 33) % below
        };
        for round in 0..400 {
            let at = random(3 * CHUNK as u64);
            if random(4) == 0 {
                content.set_len(at);
                model.resize(at as usize, 0);
            } else {
                let data = vec![round as u8 | 1; random(CHUNK as u64 + 10) as usize];
                content.write_at(at, &data);
                model.resize(model.len().max(at as usize + data.len()), 0);
                model[at as usize..at as usize + data.len()].copy_from_slice(&data);
            }
            assert_eq!(content.len(), model.len() as u64, "round {round}");
            let (from, size) = (random(4 * CHUNK as u64), random(CHUNK as u64) as usize);
            let start = model.len().min(from as usize);
            let expected = &model[start..model.len().min(start + size)];
            assert!(*content.read_at(from, size) == *expected, "round {round}");
            assert!(whole(&content) == model, "round {round}");
        }
    }

    #[test]
    fn what_was_cut_never_comes_back() {
        let mut content = Plaintext::from(&b"secret"[..]);
        content.set_len(2);
        content.set_len(6);
        assert_eq!(whole(&content), b"se\0\0\0\0");
    }

    #[test]
    fn a_hole_takes_no_memory() {
        let mut content = Plaintext::new();
        content.write_at(1 << 30, b"x");
        assert!(content.memory() <= CHUNK);
        assert_eq!(*content.read_at((1 << 30) - 2, 10), *b"\0\0x");
    }

    #[test]
    fn equality_sees_holes_as_zeros() {
        let mut hole = Plaintext::new();
        hole.set_len(CHUNK as u64 + 5);
        let zeros = Plaintext::from(&vec![0; CHUNK + 5][..]);
        assert!(hole.same_bytes(&zeros));
        assert!(hole.duplicate().same_bytes(&zeros));
        assert!(!hole.same_bytes(&Plaintext::from(&b"x"[..])));
    }
}
