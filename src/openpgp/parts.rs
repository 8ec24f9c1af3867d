//! Packets that may be longer than one length can say: in parts (RFC 9580, 4.2.1.4).
//!
//! A packet of less than 2 GiB has a header with a length of four octets. A longer one comes in
//! parts of equal size, each after one octet that says so, and a last part after a length of four
//! octets. These could say up to 4 GiB, but GnuPG (2.2.40) takes them for signed there, and drops
//! the end of the decrypted bytes.

use std::io::{self, Write};

/// Bytes of a header without parts: the type and a five-byte length.
pub(super) const HEADER: u64 = 6;

/// The length above which packets are cut, and the length of the parts.
#[derive(Clone, Copy)]
pub(super) struct Cut {
    /// Longest body, and longest last part, in bytes.
    pub longest: u64,
    /// Length of all other parts as a power of two, from 9 to 30.
    pub exponent: u8,
}

impl Default for Cut {
    fn default() -> Self {
        Cut {
            longest: i32::MAX as u64,
            exponent: 30,
        }
    }
}

/// How one packet is written.
#[derive(Clone, Copy)]
pub(super) struct Frame {
    cut: Cut,
    /// Length of the body in bytes.
    body: u64,
    /// Number of parts before the last.
    parts: u64,
}

impl Cut {
    /// Returns how a body of so many bytes is written.
    pub fn frame(self, body: u64) -> Frame {
        let over = body.saturating_sub(self.longest);
        Frame {
            cut: self,
            body,
            parts: over.div_ceil(1 << self.exponent),
        }
    }

    /// Returns how a body of at least so many bytes is written so that the packet has exactly
    /// the length that `whole` makes of the least it could have.
    pub fn frame_with_filler(self, least: u64, whole: impl Fn(u64) -> u64) -> Frame {
        let mut parts = self.frame(least).parts;
        loop {
            let headers = HEADER + parts;
            let body = whole(headers + least) - headers;
            if self.frame(body).parts <= parts {
                return Frame {
                    cut: self,
                    body,
                    parts,
                };
            }
            parts += 1;
        }
    }
}

impl Frame {
    /// Length of the body in bytes.
    pub fn body(self) -> u64 {
        self.body
    }

    /// Length of the packet in bytes.
    pub fn whole(self) -> u64 {
        HEADER + self.parts + self.body
    }

    /// Begins the packet.
    pub fn begin<W: Write>(self, tag: u8, mut out: W) -> io::Result<Parts<W>> {
        out.write_all(&[0xC0 | tag])?;
        Ok(Parts {
            out,
            cut: self.cut,
            parts: self.parts + 1,
            left: 0,
            rest: self.body,
        })
    }
}

/// Writes the body of a packet.
pub(super) struct Parts<W: Write> {
    out: W,
    cut: Cut,
    /// Parts that have not begun, the last one included.
    parts: u64,
    /// Bytes to the end of the part that has begun.
    left: u64,
    /// Bytes after that.
    rest: u64,
}

impl<W: Write> Parts<W> {
    /// Ends the packet.
    ///
    /// # Errors
    /// If it did not get exactly as many bytes as were announced.
    pub fn finish(mut self) -> io::Result<W> {
        if self.left + self.rest > 0 {
            return Err(io::Error::other("a packet is shorter than announced"));
        }
        // A packet without a body still has a length.
        if self.parts > 0 {
            self.next()?;
        }
        Ok(self.out)
    }

    fn next(&mut self) -> io::Result<()> {
        self.parts -= 1;
        if self.parts > 0 {
            self.left = 1 << self.cut.exponent;
            self.out.write_all(&[224 + self.cut.exponent])?;
        } else {
            self.left = self.rest;
            let length = u32::try_from(self.left).map_err(io::Error::other)?;
            let [a, b, c, d] = length.to_be_bytes();
            self.out.write_all(&[255, a, b, c, d])?;
        }
        self.rest -= self.left;
        Ok(())
    }
}

impl<W: Write> Write for Parts<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if data.is_empty() {
            return Ok(0);
        }
        if self.left == 0 {
            if self.rest == 0 {
                return Err(io::Error::other("a packet is longer than announced"));
            }
            self.next()?;
        }
        let part = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(data.len());
        let written = self.out.write(&data[..part])?;
        self.left -= written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
