//! Walks over the packets of a file without looking into them (RFC 9580, 4.2).

/// Packet types (RFC 9580, 5) that the callers tell apart.
pub(super) mod tag {
    pub const PKESK: u8 = 1;
    pub const SIGNATURE: u8 = 2;
    pub const SKESK: u8 = 3;
    pub const ONE_PASS: u8 = 4;
    pub const SECRET_KEY: u8 = 5;
    pub const PUBLIC_KEY: u8 = 6;
    pub const SECRET_SUBKEY: u8 = 7;
    pub const COMPRESSED: u8 = 8;
    pub const SED: u8 = 9;
    pub const MARKER: u8 = 10;
    pub const LITERAL: u8 = 11;
    pub const PUBLIC_SUBKEY: u8 = 14;
    pub const SEIPD: u8 = 18;
    pub const AEAD: u8 = 20;
    pub const PADDING: u8 = 21;
}

/// One packet, as far as its frame tells.
pub(super) struct Frame {
    pub tag: u8,
    /// First byte of the body, which is the version in all packets that have one.
    pub version: Option<u8>,
    /// Length of the body in bytes.
    pub length: usize,
}

/// The bytes end, or go wrong, before a packet does.
#[derive(Debug)]
pub(super) struct Broken;

/// The packets of a file, from first to last; ends after the first [`Broken`].
pub(super) struct Frames<'a> {
    left: &'a [u8],
    broken: bool,
}

impl<'a> Frames<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Frames {
            left: bytes,
            broken: false,
        }
    }

    /// Returns the type of the packet that begins here, even if it is cut off.
    pub fn peek_tag(&self) -> Option<u8> {
        let first = *self.left.first().filter(|_| !self.broken)?;
        match first {
            0xC0.. => Some(first & 0x3F),
            0x80.. => Some(first >> 2 & 0xF),
            _ => None,
        }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Broken> {
        let (taken, left) = self.left.split_at_checked(count).ok_or(Broken)?;
        self.left = left;
        Ok(taken)
    }

    fn number(&mut self, count: usize) -> Result<usize, Broken> {
        let bytes = self.take(count)?;
        let value = bytes.iter().fold(0_u64, |sum, b| sum << 8 | u64::from(*b));
        usize::try_from(value).map_err(|_| Broken)
    }

    fn frame(&mut self) -> Result<Frame, Broken> {
        let first = self.take(1)?[0];
        if first & 0x80 == 0 {
            return Err(Broken);
        }
        if first & 0x40 != 0 {
            return self.body(first & 0x3F);
        }
        let length = match first & 3 {
            3 => self.left.len(),
            size => self.number(1 << size)?,
        };
        let body = self.take(length)?;
        Ok(Frame {
            tag: first >> 2 & 0xF,
            version: body.first().copied(),
            length,
        })
    }

    /// Skips a body in the new format, which may come in several parts.
    fn body(&mut self, tag: u8) -> Result<Frame, Broken> {
        let (mut version, mut length) = (None, 0_usize);
        loop {
            let first = self.number(1)?;
            let (size, last) = match first {
                0..=191 => (first, true),
                192..=223 => (((first - 192) << 8) + self.number(1)? + 192, true),
                255 => (self.number(4)?, true),
                _ => (1 << (first & 0x1F), false),
            };
            let part = self.take(size)?;
            version = version.or(part.first().copied());
            length = length.checked_add(size).ok_or(Broken)?;
            if last {
                return Ok(Frame {
                    tag,
                    version,
                    length,
                });
            }
        }
    }
}

impl Iterator for Frames<'_> {
    type Item = Result<Frame, Broken>;
    fn next(&mut self) -> Option<Self::Item> {
        if self.left.is_empty() || self.broken {
            return None;
        }
        let frame = self.frame();
        self.broken = frame.is_err();
        Some(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(bytes: &[u8]) -> Option<Vec<(u8, usize)>> {
        Frames::new(bytes)
            .map(|frame| frame.map(|frame| (frame.tag, frame.length)).ok())
            .collect()
    }

    #[test]
    fn both_formats_and_all_lengths_are_walked() {
        let mut two = vec![0xC0 | 18, 192, 8];
        two.extend([1; 200]);
        let mut parts = vec![0xC0 | 18, 0xE1, 1, 1, 0xE0, 1, 1, 7, 0x88, 1, 9];
        assert_eq!(tags(&[0x84, 1, 9, 0xC1, 0]), Some(vec![(1, 1), (1, 0)]));
        assert_eq!(tags(&two), Some(vec![(18, 200)]));
        assert_eq!(tags(&parts), Some(vec![(18, 4), (2, 1)]));
        assert_eq!(tags(&[0xA7, 1, 2]), Some(vec![(9, 2)]));
        assert_eq!(tags(&[0xD2, 255, 0, 0, 0, 1, 5]), Some(vec![(18, 1)]));
        parts.truncate(7);
        assert_eq!(tags(&parts), None);
        assert_eq!(tags(&[0xD2, 255, 255, 255, 255, 255, 5]), None);
        assert_eq!(tags(b"plain"), None);
    }
}
