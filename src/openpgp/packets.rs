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
    pub const USER_ID: u8 = 13;
    pub const PUBLIC_SUBKEY: u8 = 14;
    pub const SEIPD: u8 = 18;
    pub const AEAD: u8 = 20;
    pub const PADDING: u8 = 21;
}

/// First bytes of a body that are kept: a session key packet says in them for whom it is.
const HEAD: usize = 35;

/// Tells whether a packet of this type, which nobody knows, is passed over (RFC 9580, 4.3): types
/// 40 to 63 are not critical.
pub(super) fn is_passed_over(tag: u8) -> bool {
    (40..=63).contains(&tag)
}

/// One packet, as far as its frame tells.
#[derive(Clone, Copy)]
pub(super) struct Frame {
    pub tag: u8,
    /// The first bytes of the body; zeros after its end.
    pub head: [u8; HEAD],
    /// First byte of the body, which is the version in all packets that have one.
    pub version: Option<u8>,
    /// Length of the body in bytes.
    pub length: u64,
}

impl Default for Frame {
    fn default() -> Self {
        Frame {
            tag: 0,
            head: [0; HEAD],
            version: None,
            length: 0,
        }
    }
}

/// A step of a [`Walker`].
pub(super) enum Step {
    /// A packet of this type begins. It may yet turn out to be cut off.
    Begins(u8),
    /// A packet is whole.
    Whole(Frame),
}

/// The bytes end, or go wrong, before a packet does.
#[derive(Debug)]
pub(super) struct Broken;

/// Walks over packets as their bytes come, and keeps none of them.
#[derive(Default)]
pub(super) struct Walker {
    at: At,
    /// The packet in which the walker is.
    frame: Frame,
}

/// Where the walker is.
#[derive(Clone, Copy, Default)]
enum At {
    #[default]
    Between,
    /// At the first octet of a length in the new format.
    Length,
    /// At the second octet of a length of two.
    Second(u64),
    /// In a length that is a plain number, of which so many octets are missing.
    Number {
        missing: u8,
        value: u64,
    },
    /// In a body, or in a part of one that is not its last.
    Body {
        left: u64,
        last: bool,
    },
    /// In a body that ends where the bytes do (old format).
    ToEnd,
    Broken,
}

impl Walker {
    /// Takes the next bytes and reports each step to `sink`. Returns how many there were before one
    /// that begins no packet.
    pub fn feed(&mut self, bytes: &[u8], mut sink: impl FnMut(Step)) -> usize {
        let all = bytes.len();
        let mut bytes = bytes;
        while let Some((first, rest)) = bytes.split_first() {
            let octet = u64::from(*first);
            let next = match self.at {
                At::Body { left, last } => {
                    let taken = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    self.pass(&bytes[..taken]);
                    bytes = &bytes[taken..];
                    self.enter(Self::body(left - taken as u64, last), &mut sink);
                    continue;
                }
                At::ToEnd => {
                    self.pass(bytes);
                    return all;
                }
                At::Broken => return all - bytes.len(),
                At::Between => self.begin(*first, &mut sink),
                At::Length => match octet {
                    0..=191 => Self::body(octet, true),
                    192..=223 => At::Second((octet - 192) << 8),
                    255 => At::Number {
                        missing: 4,
                        value: 0,
                    },
                    _ => Self::body(1 << (octet & 0x1F), false),
                },
                At::Second(high) => Self::body(high + octet + 192, true),
                At::Number { missing, value } => {
                    let value = value << 8 | octet;
                    match missing - 1 {
                        0 => Self::body(value, true),
                        missing => At::Number { missing, value },
                    }
                }
            };
            if let At::Broken = next {
                self.at = next;
                break;
            }
            bytes = rest;
            self.enter(next, &mut sink);
        }
        all - bytes.len()
    }

    /// Goes on with the next packet after bytes that were none.
    pub fn resume(&mut self) {
        self.at = At::Between;
    }

    /// Tells whether the bytes are malformed already.
    pub fn is_broken(&self) -> bool {
        matches!(self.at, At::Broken)
    }

    /// Ends the walk.
    ///
    /// # Errors
    /// [`Broken`] unless the bytes end where a packet does.
    pub fn finish(mut self, mut sink: impl FnMut(Step)) -> Result<(), Broken> {
        match self.at {
            At::Between => Ok(()),
            At::ToEnd => {
                self.enter(At::Between, &mut sink);
                Ok(())
            }
            _ => Err(Broken),
        }
    }

    fn begin(&mut self, first: u8, sink: &mut impl FnMut(Step)) -> At {
        let (tag, next) = match (first, first & 3) {
            (0xC0.., _) => (first & 0x3F, At::Length),
            (0x80.., 3) => (first >> 2 & 0xF, At::ToEnd),
            (0x80.., size) => {
                let missing = 1 << size;
                (first >> 2 & 0xF, At::Number { missing, value: 0 })
            }
            _ => return At::Broken,
        };
        self.frame = Frame {
            tag,
            ..Frame::default()
        };
        sink(Step::Begins(tag));
        next
    }

    fn body(left: u64, last: bool) -> At {
        match (left, last) {
            (0, true) => At::Between,
            (0, false) => At::Length,
            _ => At::Body { left, last },
        }
    }

    fn pass(&mut self, bytes: &[u8]) {
        let frame = &mut self.frame;
        frame.version = frame.version.or(bytes.first().copied());
        let known = usize::try_from(frame.length).unwrap_or(HEAD).min(HEAD);
        let more = bytes.len().min(HEAD - known);
        frame.head[known..known + more].copy_from_slice(&bytes[..more]);
        frame.length += bytes.len() as u64;
    }

    fn enter(&mut self, at: At, sink: &mut impl FnMut(Step)) {
        self.at = at;
        if let At::Between = at {
            sink(Step::Whole(self.frame));
        }
    }
}

/// Tells whether a byte may stand behind the last packet: one that editors, terminals and copying
/// in blocks leave there, and that begins no packet.
pub(super) fn is_blank(byte: u8) -> bool {
    matches!(byte, 0 | b'\t'..=b'\r' | 0x1A | b' ')
}

/// Leaves out blanks behind the last packet, if they are all that keeps a file from being packets.
pub(super) fn without_blanks(bytes: &[u8]) -> &[u8] {
    let mut walker = Walker::default();
    let (packets, rest) = bytes.split_at(walker.feed(bytes, |_| {}));
    match rest.iter().all(|byte| is_blank(*byte)) {
        true => packets,
        false => bytes,
    }
}

/// Walks over the packets of a whole file.
///
/// # Errors
/// [`Broken`] if the file ends, or is malformed, before a packet ends.
pub(super) fn walk(bytes: &[u8], mut sink: impl FnMut(Step)) -> Result<(), Broken> {
    let mut walker = Walker::default();
    walker.feed(bytes, &mut sink);
    walker.finish(sink)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(bytes: &[u8]) -> Option<Vec<(u8, u64)>> {
        let walked = |part: usize| {
            let mut tags = Vec::new();
            let mut note = |step: Step| {
                if let Step::Whole(frame) = step {
                    tags.push((frame.tag, frame.length));
                }
            };
            let mut walker = Walker::default();
            for part in bytes.chunks(part) {
                walker.feed(part, &mut note);
            }
            walker.finish(&mut note).ok().map(|()| tags)
        };
        let at_once = walked(bytes.len());
        assert_eq!(at_once, walked(1), "the same however the bytes come");
        at_once
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
