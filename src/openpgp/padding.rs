//! Brings the packets inside the encryption to one of few lengths.
//!
//! The length is Padme(n + 20), at least 2 KiB, so that at least 20 bytes of filler are needed,
//! because stored deflate blocks need that to reach every length.

use std::io::{self, Write};

use zeroize::Zeroizing;

/// Least length in bytes.
const FLOOR: u64 = 2048;
/// Least filler in bytes.
const LEAST: u64 = 20;
/// Content of the largest stored block (RFC 1951, 3.2.4).
const BLOCK: usize = 65535;
/// An empty stored block; the low bit of the first byte marks the last block.
const EMPTY_STORED: [u8; 5] = [0, 0, 0, 0xFF, 0xFF];
/// An empty block of fixed codes and an empty stored block (10 + 3 bits, then byte-aligned);
/// bit 2 of the second byte marks the last block.
const EMPTY_FIXED_STORED: [u8; 6] = [2, 0, 0, 0, 0xFF, 0xFF];

/// Returns the length that `length` bytes are brought to (both in bytes).
pub(super) fn padded(length: u64) -> u64 {
    padme(length + LEAST).max(FLOOR)
}

/// Rounds a length up to the next one that Padme allows (Nikitin et al., PURBs, 2019).
fn padme(length: u64) -> u64 {
    let exponent = length.ilog2();
    let bits = exponent.max(1).ilog2() + 1;
    let unit = 1 << exponent.saturating_sub(bits);
    length.next_multiple_of(unit)
}

/// Returns the length of `length` bytes as stored deflate blocks, without the last one.
pub(super) fn stored(length: u64) -> u64 {
    length + length.div_ceil(BLOCK as u64) * EMPTY_STORED.len() as u64
}

/// Writes stored deflate blocks; the stream ends by [`StoredBlocks::finish`].
pub(super) struct StoredBlocks<W: Write> {
    out: W,
    block: Zeroizing<Vec<u8>>,
}

impl<W: Write> StoredBlocks<W> {
    pub fn new(out: W) -> Self {
        StoredBlocks {
            out,
            block: Zeroizing::new(Vec::with_capacity(BLOCK)),
        }
    }

    fn emit(&mut self) -> io::Result<()> {
        let length = (self.block.len() as u16).to_le_bytes();
        let inverse = length.map(|byte| !byte);
        self.out.write_all(&[0])?;
        self.out.write_all(&length)?;
        self.out.write_all(&inverse)?;
        self.out.write_all(&self.block)?;
        self.block.clear();
        Ok(())
    }

    /// Writes the open block and then exactly `filler` bytes (at least 20) that decode to
    /// nothing and end the stream.
    pub fn finish(mut self, filler: u64) -> io::Result<W> {
        if !self.block.is_empty() {
            self.emit()?;
        }
        let sixes = filler % 5;
        let fives = filler.checked_sub(6 * sixes).ok_or_else(too_short)? / 5;
        for left in (0..sixes).rev() {
            let mut block = EMPTY_FIXED_STORED;
            block[1] |= u8::from(left == 0 && fives == 0) << 2;
            self.out.write_all(&block)?;
        }
        for left in (0..fives).rev() {
            let mut block = EMPTY_STORED;
            block[0] |= u8::from(left == 0);
            self.out.write_all(&block)?;
        }
        Ok(self.out)
    }
}

fn too_short() -> io::Error {
    io::Error::other("filler is too short")
}

impl<W: Write> Write for StoredBlocks<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if data.is_empty() {
            return Ok(0);
        }
        let part = data.len().min(BLOCK - self.block.len());
        // The capacity is never exceeded, so no copy is left behind by growing.
        self.block.extend_from_slice(&data[..part]);
        if self.block.len() == BLOCK {
            self.emit()?;
        }
        Ok(part)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    use sequoia_openpgp as pgp;

    #[test]
    fn padme_keeps_the_published_values() {
        for (length, padded) in [
            (2, 2),
            (9, 10),
            (100, 104),
            (2049, 2176),
            (1 << 20, 1 << 20),
        ] {
            assert_eq!(padme(length), padded, "{length}");
        }
        assert_eq!(padded(1), 2048);
        assert_eq!(padded(2028), 2048);
        assert_eq!(padded(2029), 2176);
    }

    /// The data of a deflate stream that has stored blocks and empty fixed blocks only, after
    /// checking its form bit by bit. Written from RFC 1951 without looking at the writer.
    fn inflate(bytes: &[u8]) -> Vec<u8> {
        let mut at = 0; // in bits
        let take = |at: &mut usize, count: usize| {
            let bit = |i: usize| u32::from(bytes[i / 8] >> (i % 8) & 1);
            let value = (0..count).fold(0, |sum, i| sum | bit(*at + i) << i);
            *at += count;
            value
        };
        let mut out = Vec::new();
        loop {
            let last = take(&mut at, 1);
            match take(&mut at, 2) {
                0 => {
                    at = at.next_multiple_of(8);
                    let (length, inverse) = (take(&mut at, 16), take(&mut at, 16));
                    assert_eq!(length ^ 0xFFFF, inverse);
                    let start = at / 8;
                    out.extend_from_slice(&bytes[start..start + length as usize]);
                    at += 8 * length as usize;
                }
                1 => assert_eq!(take(&mut at, 7), 0, "only the end code"),
                other => panic!("block type {other}"),
            }
            if last == 1 {
                assert_eq!(at.div_ceil(8), bytes.len(), "nothing after the last block");
                return out;
            }
        }
    }

    #[test]
    fn every_filler_from_20_on_decodes_to_nothing() {
        for filler in 20..5000 {
            let data = filler.to_string();
            let mut blocks = StoredBlocks::new(Vec::new());
            blocks.write_all(data.as_bytes()).unwrap();
            let bytes = blocks.finish(filler).unwrap();
            assert_eq!(bytes.len() as u64, stored(data.len() as u64) + filler);
            assert_eq!(inflate(&bytes), data.as_bytes());
            if filler < 200 || filler % 97 == 0 {
                check_by_parser(filler);
            }
        }
    }

    /// Checks that the packet parser finds a literal packet before so much filler, and no more.
    fn check_by_parser(filler: u64) {
        use pgp::parse::{PacketParserBuilder, PacketParserResult, Parse as _};
        let literal = [&[0xC0 | 11, 10][..], b"b\0\0\0\0\0data"].concat();
        let mut blocks = StoredBlocks::new(Vec::new());
        blocks.write_all(&literal).unwrap();
        let body = blocks.finish(filler).unwrap();
        let length = (1 + body.len() as u32).to_be_bytes();
        let packet = [&[0xC0 | 8, 255][..], &length, &[1], &body].concat();
        let parser = PacketParserBuilder::from_bytes(&packet).unwrap();
        let PacketParserResult::Some(compressed) = parser.build().unwrap() else {
            panic!("no packet");
        };
        let PacketParserResult::Some(mut literal) = compressed.recurse().unwrap().1 else {
            panic!("no literal");
        };
        let mut content = Vec::new();
        literal.read_to_end(&mut content).unwrap();
        assert_eq!(content, b"data", "{filler}");
        assert!(literal.next().unwrap().1.is_eof(), "{filler}");
    }

    #[test]
    fn a_filler_that_cannot_be_made_is_an_error() {
        assert!(StoredBlocks::new(Vec::new()).finish(19).is_err());
    }

    #[test]
    fn long_content_is_cut_into_blocks() {
        for length in [BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK] {
            let data: Vec<u8> = (0..length).map(|i| i as u8).collect();
            let mut blocks = StoredBlocks::new(Vec::new());
            blocks.write_all(&data).unwrap();
            let bytes = blocks.finish(23).unwrap();
            assert_eq!(bytes.len() as u64, stored(length as u64) + 23);
            assert!(inflate(&bytes) == data);
        }
    }
}
