//! The content of one file: chunks, each in RAM, on disk or nowhere.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use zeroize::{Zeroize as _, Zeroizing};

use super::spill::{CHUNK, Ram, SpillArea, SpillFile, Spilled};
use crate::error::{Error, Result};

/// Bytes in the smallest chunk: most messages are short.
const SMALLEST: usize = 4 * 1024;
/// Bytes that are written wholly or not at all.
const ATOMIC: usize = 1024 * 1024;

static ZEROS: [u8; CHUNK] = [0; CHUNK];

/// The content of one file, readable and writable at any offset.
///
/// A range that was never written is a hole: it reads as zeros and takes no memory. A content
/// made by [`Plaintext::new`] stays in RAM and its calls cannot fail; one made by
/// [`Plaintext::spilling`] keeps no more than its area's budget there.
#[derive(Default)]
pub struct Plaintext {
    /// Chunk `i` holds the bytes from `i * CHUNK`. It may be shorter than `CHUNK` (the
    /// rest reads as zeros) and holds only zeros at and after `len`.
    chunks: Vec<Chunk>,
    len: u64,
    /// Exactly the chunks that are in RAM, the oldest first.
    resident: VecDeque<usize>,
    /// Bytes that those take.
    ram: usize,
    area: Option<Arc<SpillArea>>,
    /// Made when the first chunk spills.
    file: Option<Arc<SpillFile>>,
    /// The SHA-256, once it was asked for, until the next change.
    digest: OnceLock<[u8; 32]>,
}

/// One chunk. A chunk that duplicates share is copied when one of them changes it.
#[derive(Clone, Default)]
enum Chunk {
    #[default]
    Hole,
    Ram(Arc<Ram>),
    Spilled(Arc<Spilled>),
}

impl Plaintext {
    /// Makes an empty content that stays in RAM.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes an empty content that spills to disk, encrypted, when it outgrows its budget.
    pub fn spilling(area: &Arc<SpillArea>) -> Self {
        Plaintext {
            area: Some(Arc::clone(area)),
            ..Self::default()
        }
    }

    /// Makes an empty content that spills where this one does, if it does.
    pub fn empty_alike(&self) -> Self {
        Plaintext {
            area: self.area.clone(),
            ..Self::default()
        }
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Tells whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that the content takes, in RAM and on disk.
    pub fn allocated(&self) -> u64 {
        let chunks = self.chunks.iter().map(|chunk| chunk.len() as u64);
        chunks.sum()
    }

    /// Reads up to `size` bytes from `offset`; fewer at the end of the content.
    ///
    /// # Errors
    /// `Io` if spilled bytes cannot be read or were changed on disk.
    pub fn read_at(&self, offset: u64, size: usize) -> Result<Zeroizing<Vec<u8>>> {
        let left = self.len.saturating_sub(offset);
        let size = usize::try_from(left).unwrap_or(usize::MAX).min(size);
        let mut out = Zeroizing::new(vec![0; size]);
        let mut whole = Zeroizing::new(Vec::new());
        let mut done = 0;
        while done < size {
            let (index, start) = Self::locate(offset + done as u64);
            let part = (size - done).min(CHUNK - start);
            let to = &mut out[done..done + part];
            match self.chunks.get(index) {
                None | Some(Chunk::Hole) => {}
                Some(Chunk::Ram(ram)) => copy_from(ram.bytes(), start, to),
                Some(Chunk::Spilled(spilled)) if start == 0 && part >= spilled.len() => {
                    spilled.read(index, to)?;
                }
                Some(Chunk::Spilled(spilled)) => {
                    whole.resize(CHUNK, 0);
                    spilled.read(index, &mut whole)?;
                    copy_from(&whole[..spilled.len()], start, to);
                }
            }
            done += part;
        }
        Ok(out)
    }

    /// Writes `data` at `offset`, extending the content as needed.
    ///
    /// # Errors
    /// `NoSpace` if the disk for spilling is full, `Io` if it fails. Of up to 1 MiB then nothing
    /// is written.
    pub fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<()> {
        self.digest = OnceLock::new();
        let mut offset = offset;
        for part in data.chunks(ATOMIC) {
            self.write_part(offset, part)?;
            offset += part.len() as u64;
        }
        Ok(())
    }

    fn write_part(&mut self, offset: u64, data: &[u8]) -> Result<()> {
        let end = offset + data.len() as u64;
        let touched = Self::locate(offset).0..Self::locate(end - 1).0 + 1;
        // Whatever may fail comes first.
        self.make_room(&touched)?;
        for index in touched.clone() {
            let from = index as u64 * CHUNK as u64;
            let need = (end - from).min(CHUNK as u64) as usize;
            let covered = offset <= from && need == CHUNK;
            self.bring(index, need, covered)?;
        }
        let mut done = 0;
        for index in touched {
            let (_, start) = Self::locate(offset + done as u64);
            let part = (data.len() - done).min(CHUNK - start);
            let chunk = self.resident_mut(index).expect("brought above");
            chunk[start..start + part].copy_from_slice(&data[done..done + part]);
            done += part;
        }
        self.len = self.len.max(end);
        Ok(())
    }

    /// Appends `data`.
    ///
    /// # Errors
    /// As [`Plaintext::write_at`].
    pub fn append(&mut self, data: &[u8]) -> Result<()> {
        self.write_at(self.len, data)
    }

    /// Cuts the content, zeroing the rest, or extends it by a hole.
    ///
    /// # Errors
    /// `Io` if spilled bytes cannot be read; then nothing is cut.
    pub fn set_len(&mut self, len: u64) -> Result<()> {
        if len < self.len {
            let (index, start) = Self::locate(len);
            if start > 0 && self.chunks.get(index).is_some_and(|c| c.len() > start) {
                // No room is made for it: cutting must work when the disk is full.
                self.bring(index, start, false)?;
                if let Some(chunk) = self.resident_mut(index) {
                    chunk[start..].zeroize();
                }
            }
            let kept = index + usize::from(start > 0);
            self.chunks.truncate(kept);
            self.resident.retain(|index| *index < kept);
            let sizes = self.resident.iter().map(|index| self.chunks[*index].len());
            self.ram = sizes.sum();
        }
        self.len = len;
        self.digest = OnceLock::new();
        Ok(())
    }

    /// Calls `sink` with the content from first to last byte, in pieces.
    ///
    /// # Errors
    /// Whatever `sink` returns; it is not called again after an error. `Io` as
    /// [`Plaintext::read_at`].
    pub fn pieces<E: From<Error>>(
        &self,
        mut sink: impl FnMut(&[u8]) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let mut buffer = Zeroizing::new(Vec::new());
        let mut left = self.len;
        for index in 0.. {
            if left == 0 {
                break;
            }
            let size = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
            let present = match self.chunks.get(index) {
                None | Some(Chunk::Hole) => &[],
                Some(Chunk::Ram(ram)) => ram.bytes(),
                Some(Chunk::Spilled(spilled)) => {
                    buffer.resize(CHUNK, 0);
                    spilled.read(index, &mut buffer)?;
                    &buffer[..spilled.len()]
                }
            };
            let present = &present[..size.min(present.len())];
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

    /// Makes an independent copy: a draft of a published content. Shares the chunks that neither
    /// changes.
    pub fn duplicate(&self) -> Plaintext {
        Plaintext {
            chunks: self.chunks.clone(),
            len: self.len,
            resident: self.resident.clone(),
            ram: self.ram,
            area: self.area.clone(),
            file: None,
            digest: self.digest.clone(),
        }
    }

    /// Tells whether both hold the same bytes.
    #[cfg(test)]
    pub(crate) fn same_bytes(&self, other: &Plaintext) -> Result<bool> {
        if self.len != other.len {
            return Ok(false);
        }
        for offset in (0..self.len).step_by(CHUNK) {
            if self.read_at(offset, CHUNK)? != other.read_at(offset, CHUNK)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Returns the SHA-256 of the content; computed once after each change.
    ///
    /// # Errors
    /// As [`Plaintext::read_at`].
    pub fn digest(&self) -> Result<[u8; 32]> {
        use sha2::Digest as _;
        if let Some(known) = self.digest.get() {
            return Ok(*known);
        }
        let mut digest = sha2::Sha256::new();
        self.pieces::<Error>(|piece| {
            digest.update(piece);
            Ok(())
        })?;
        let digest = digest.finalize().into();
        Ok(*self.digest.get_or_init(|| digest))
    }

    fn locate(offset: u64) -> (usize, usize) {
        let index = usize::try_from(offset / CHUNK as u64).expect("64-bit address space");
        (index, (offset % CHUNK as u64) as usize)
    }

    /// Spills the oldest chunks, but none of `touched`, until those fit into the budget.
    fn make_room(&mut self, touched: &Range<usize>) -> Result<()> {
        let Some(area) = self.area.clone() else {
            return Ok(());
        };
        let absent = touched.clone().filter(|index| !self.is_resident(*index));
        let more = absent.count() * CHUNK;
        while more > 0 && area.is_full(self.ram, more) {
            let mut oldest = self.resident.iter();
            let Some(position) = oldest.position(|index| !touched.contains(index)) else {
                break;
            };
            self.spill(self.resident[position], &area)?;
            self.resident.remove(position);
        }
        Ok(())
    }

    fn spill(&mut self, index: usize, area: &SpillArea) -> Result<()> {
        let Chunk::Ram(ram) = &self.chunks[index] else {
            unreachable!("only chunks in RAM are resident");
        };
        let file = match &self.file {
            Some(file) => file,
            None => self.file.insert(SpillFile::new(area)?),
        };
        let spilled = file.write(index, ram.bytes())?;
        self.ram -= ram.bytes().len();
        self.chunks[index] = Chunk::Spilled(Arc::new(spilled));
        Ok(())
    }

    fn is_resident(&self, index: usize) -> bool {
        matches!(self.chunks.get(index), Some(Chunk::Ram(_)))
    }

    /// Brings chunk `index` into RAM, with room for `need` bytes. A chunk that is `covered` is
    /// about to be overwritten: its content need not be read.
    fn bring(&mut self, index: usize, need: usize, covered: bool) -> Result<()> {
        if self.chunks.len() <= index {
            self.chunks.resize(index + 1, Chunk::Hole);
        }
        let old = &self.chunks[index];
        let resident = self.is_resident(index);
        if resident && old.len() >= need {
            return Ok(());
        }
        let size = need.max(old.len()).next_power_of_two();
        let mut new = Ram::new(size.clamp(SMALLEST, CHUNK), self.area.as_ref());
        match old {
            Chunk::Hole => {}
            Chunk::Ram(ram) => copy_from(ram.bytes(), 0, new.bytes_mut()),
            Chunk::Spilled(_) if covered => {}
            Chunk::Spilled(spilled) => spilled.read(index, new.bytes_mut())?,
        }
        if resident {
            self.ram -= old.len();
        } else {
            self.resident.push_back(index);
        }
        self.ram += new.bytes().len();
        // An old chunk in RAM is zeroed as it is dropped here.
        self.chunks[index] = Chunk::Ram(Arc::new(new));
        Ok(())
    }

    /// The bytes of a chunk that is in RAM, copied first if a duplicate shares them.
    fn resident_mut(&mut self, index: usize) -> Option<&mut [u8]> {
        let Some(Chunk::Ram(ram)) = self.chunks.get_mut(index) else {
            return None;
        };
        if Arc::get_mut(ram).is_none() {
            let mut own = Ram::new(ram.bytes().len(), self.area.as_ref());
            own.bytes_mut().copy_from_slice(ram.bytes());
            *ram = Arc::new(own);
        }
        Arc::get_mut(ram).map(Ram::bytes_mut)
    }

    #[cfg(test)]
    pub(super) fn spilled(&self) -> impl Iterator<Item = &Spilled> {
        self.chunks.iter().filter_map(|chunk| match chunk {
            Chunk::Spilled(spilled) => Some(&**spilled),
            Chunk::Hole | Chunk::Ram(_) => None,
        })
    }

    #[cfg(test)]
    pub(super) fn ram(&self) -> usize {
        self.ram
    }
}

impl Chunk {
    fn len(&self) -> usize {
        match self {
            Chunk::Hole => 0,
            Chunk::Ram(ram) => ram.bytes().len(),
            Chunk::Spilled(spilled) => spilled.len(),
        }
    }
}

/// Copies the bytes of `from` from `start` on, up to the length of `to`.
fn copy_from(from: &[u8], start: usize, to: &mut [u8]) {
    let from = from.get(start..).unwrap_or_default();
    let count = from.len().min(to.len());
    to[..count].copy_from_slice(&from[..count]);
}

impl From<&[u8]> for Plaintext {
    fn from(bytes: &[u8]) -> Self {
        let mut content = Plaintext::new();
        let copied = content.append(bytes);
        copied.expect("content in RAM cannot fail");
        content
    }
}

impl io::Write for Plaintext {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.append(data)?;
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(content: &Plaintext) -> Vec<u8> {
        let mut all = Vec::new();
        content
            .pieces::<Error>(|piece| {
                all.extend_from_slice(piece);
                Ok(())
            })
            .unwrap();
        assert!(all == *content.read_at(0, usize::MAX).unwrap());
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
                content.set_len(at).unwrap();
                model.resize(at as usize, 0);
            } else {
                let data = vec![round as u8 | 1; random(CHUNK as u64 + 10) as usize];
                content.write_at(at, &data).unwrap();
                model.resize(model.len().max(at as usize + data.len()), 0);
                model[at as usize..at as usize + data.len()].copy_from_slice(&data);
            }
            assert_eq!(content.len(), model.len() as u64, "round {round}");
            let (from, size) = (random(4 * CHUNK as u64), random(CHUNK as u64) as usize);
            let start = model.len().min(from as usize);
            let expected = &model[start..model.len().min(start + size)];
            assert!(
                *content.read_at(from, size).unwrap() == *expected,
                "round {round}"
            );
            assert!(whole(&content) == model, "round {round}");
        }
    }

    #[test]
    fn what_was_cut_never_comes_back() {
        let mut content = Plaintext::from(&b"secret"[..]);
        content.set_len(2).unwrap();
        content.set_len(6).unwrap();
        assert_eq!(whole(&content), b"se\0\0\0\0");
    }

    #[test]
    fn a_hole_takes_no_memory() {
        let mut content = Plaintext::new();
        content.write_at(1 << 30, b"x").unwrap();
        assert!(content.allocated() <= CHUNK as u64);
        assert_eq!(*content.read_at((1 << 30) - 2, 10).unwrap(), *b"\0\0x");
    }

    #[test]
    fn equality_sees_holes_as_zeros() {
        let mut hole = Plaintext::new();
        hole.set_len(CHUNK as u64 + 5).unwrap();
        let zeros = Plaintext::from(&vec![0; CHUNK + 5][..]);
        assert!(hole.same_bytes(&zeros).unwrap());
        assert!(hole.duplicate().same_bytes(&zeros).unwrap());
        assert!(!hole.same_bytes(&Plaintext::from(&b"x"[..])).unwrap());
    }
}
