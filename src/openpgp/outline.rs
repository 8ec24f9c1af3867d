//! Judges the outside of a file, without any key.

use super::addressees::Addressees;
use super::armor::{Label, Stream};
use super::packets::{Frame, Step, Walker, is_blank, is_passed_over, tag};
use super::refusal::Refusal;

/// The form of a file, as its outside tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outline {
    /// One encrypted message, whole, of a kind that may be opened.
    Message {
        /// Number of recipients (public-key session key packets).
        recipients: usize,
    },
    /// Whole, but of a kind that is never opened.
    Refused(Refusal),
    /// Not (yet) a whole OpenPGP file: cut off, empty or something else.
    Incomplete,
}

/// Bytes that may stand behind a message that are none of its packets.
const LONGEST_TAIL: usize = 64 * 1024;

/// Judges the outside of a file whose packets come bit by bit.
#[derive(Default)]
pub(super) struct Outside {
    walker: Walker,
    seen: Seen,
    /// The first thing behind the message.
    tail: Option<Tail>,
}

/// Text behind a message, as it gets there when files are joined, edited or copied in blocks. Gpg
/// complains of each byte, and takes the message all the same.
#[derive(Default)]
struct Tail {
    length: usize,
    text: Stream,
    /// Something else than blanks.
    has_words: bool,
    /// Bytes that could be packets, behind words.
    is_broken: bool,
}

/// The packets so far.
#[derive(Default)]
struct Seen {
    public: usize,
    addressees: Addressees,
    passphrases: usize,
    /// The first packet that is no session key.
    container: Option<Frame>,
    /// Something follows the container.
    more: bool,
    /// Another container follows.
    several: bool,
    /// A secret key is among the packets.
    secret: bool,
}

impl Outside {
    /// Takes the next bytes of the packets; returns how many of them belong to packets before
    /// which there is nothing else.
    pub fn feed(&mut self, bytes: &[u8]) -> usize {
        let seen = &mut self.seen;
        let mut rest = bytes;
        let mut leading = 0;
        while !rest.is_empty() {
            match &mut self.tail {
                Some(tail) if self.walker.is_broken() => {
                    rest = tail.feed(rest);
                    // After blanks another packet may begin.
                    if !rest.is_empty() && !tail.has_words {
                        self.walker.resume();
                    } else if !rest.is_empty() {
                        tail.is_broken = true;
                        break;
                    }
                }
                tail => {
                    let packets = self.walker.feed(rest, |step| seen.note(step));
                    if tail.is_none() {
                        leading += packets;
                    }
                    rest = &rest[packets..];
                    // Before a container anything else makes it no message.
                    if !rest.is_empty() && seen.container.is_none() {
                        break;
                    }
                    if !rest.is_empty() {
                        tail.get_or_insert_default();
                    }
                }
            }
        }
        leading
    }

    /// Tells whether a whole secret key has come.
    pub fn shows_secret_key(&self) -> bool {
        self.seen.secret
    }

    /// Whom the message names, once all packets have come.
    pub fn addressees(&self) -> &Addressees {
        &self.seen.addressees
    }

    /// Tells whether an armored message stands behind the packets, which is not looked into.
    pub fn has_armor_behind(&self) -> bool {
        let tail = self.tail.as_ref().map(|tail| &tail.text);
        tail.is_some_and(|text| text.label().is_some() || text.has_another())
    }

    /// Tells whether the bytes so far are no packets.
    pub fn is_broken(&self) -> bool {
        match &self.tail {
            Some(tail) => tail.is_broken || tail.length > LONGEST_TAIL,
            None => self.walker.is_broken(),
        }
    }

    /// Judges, once all packets have come.
    pub fn finish(mut self) -> Outline {
        if self.is_broken() {
            return Outline::Incomplete;
        }
        let mut seen = self.seen;
        if let Some(tail) = &mut self.tail {
            tail.text.finish(&mut Vec::new());
            let label = tail.text.label();
            seen.several |= matches!(label, Some(Label::Message | Label::SignedMessage))
                || tail.text.has_another();
            if self.walker.is_broken() {
                self.walker.resume();
            }
        }
        match self.walker.finish(|step| seen.note(step)) {
            Ok(()) => seen.judge(),
            Err(_) => Outline::Incomplete,
        }
    }
}

impl Tail {
    /// Takes text; returns its rest from the first byte that could begin a packet.
    fn feed<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let text = bytes.iter().position(|byte| byte & 0x80 != 0);
        let (text, rest) = bytes.split_at(text.unwrap_or(bytes.len()));
        self.length = self.length.saturating_add(text.len());
        self.has_words |= !text.iter().all(|byte| is_blank(*byte));
        self.text.feed(text, &mut Vec::new());
        rest
    }
}

impl Seen {
    fn note(&mut self, step: Step) {
        let Step::Whole(frame) = step else {
            return;
        };
        self.secret |= matches!(frame.tag, tag::SECRET_KEY | tag::SECRET_SUBKEY);
        if self.container.is_some() {
            self.more = true;
            match frame.tag {
                tag::PKESK => self.addressees.add(&frame),
                tag::SEIPD | tag::SED | tag::AEAD => self.several = true,
                _ => {}
            }
            return;
        }
        match frame.tag {
            tag::PKESK => {
                self.public += 1;
                self.addressees.add(&frame);
            }
            tag::SKESK => self.passphrases += 1,
            tag::MARKER | tag::PADDING => {}
            unknown if is_passed_over(unknown) => {}
            _ => self.container = Some(frame),
        }
    }

    fn judge(&self) -> Outline {
        // Ends before the container: the rest is still on its way.
        let Some(container) = self.container else {
            return Outline::Incomplete;
        };
        if self.several {
            return Outline::Refused(Refusal::Several);
        }
        let refusal = match container.tag {
            // A version 1 container holds at least a block, its repeated end, and the digest.
            tag::SEIPD if container.version == Some(1) && container.length < 1 + 10 + 22 => {
                return Outline::Incomplete;
            }
            tag::SEIPD if !matches!(container.version, Some(1 | 2)) => Refusal::UnknownEncryption,
            tag::AEAD if container.version != Some(1) => Refusal::UnknownEncryption,
            tag::SEIPD | tag::AEAD if self.more => Refusal::Malformed,
            tag::SEIPD | tag::AEAD if self.public > 0 => {
                return Outline::Message {
                    recipients: self.public,
                };
            }
            tag::SEIPD | tag::AEAD if self.passphrases > 0 => Refusal::SymmetricOnly,
            tag::SEIPD | tag::AEAD => Refusal::NoRecipient,
            tag::SED => Refusal::NoIntegrity,
            _ if self.public + self.passphrases > 0 => Refusal::Malformed,
            tag::SIGNATURE | tag::ONE_PASS => Refusal::SignedOnly,
            tag::LITERAL => Refusal::Literal,
            tag::COMPRESSED => Refusal::Compressed,
            tag::SECRET_KEY | tag::PUBLIC_KEY | tag::SECRET_SUBKEY | tag::PUBLIC_SUBKEY => {
                Refusal::KeyFile
            }
            _ => Refusal::Malformed,
        };
        Outline::Refused(refusal)
    }
}

#[cfg(test)]
mod tests {
    use super::super::outline;
    use super::*;

    #[test]
    fn what_is_not_openpgp_is_incomplete() {
        for bytes in [
            &b""[..],
            b"hello\n",
            b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
            b"\xff",
        ] {
            assert_eq!(outline(bytes), Outline::Incomplete);
        }
    }

    #[test]
    fn the_container_decides() {
        let container = |version: u8| {
            let mut bytes = vec![0xC0 | 18, 60, version];
            bytes.extend([7; 59]);
            bytes
        };
        let with = |head: &[u8], version| [head, &container(version)].concat();
        let pkesk = [0xC1, 1, 3];
        let skesk = [0xC3, 1, 4];
        assert_eq!(
            outline(&with(&pkesk, 1)),
            Outline::Message { recipients: 1 }
        );
        assert_eq!(
            outline(&[&pkesk[..], &[0xD4, 1, 1]].concat()),
            Outline::Message { recipients: 1 }
        );
        for (bytes, refusal) in [
            (with(&skesk, 1), Refusal::SymmetricOnly),
            (with(&[], 2), Refusal::NoRecipient),
            (with(&pkesk, 3), Refusal::UnknownEncryption),
            ([with(&pkesk, 1), pkesk.into()].concat(), Refusal::Malformed),
            ([&pkesk[..], &[0xC9, 1, 1]].concat(), Refusal::NoIntegrity),
            (
                [&pkesk[..], &[0xD4, 1, 2]].concat(),
                Refusal::UnknownEncryption,
            ),
            ([&skesk[..], &[0xD4, 1, 1]].concat(), Refusal::SymmetricOnly),
            ([&pkesk[..], &[0xCB, 1, 1]].concat(), Refusal::Malformed),
            (vec![0xC6, 1, 4], Refusal::KeyFile),
        ] {
            assert_eq!(outline(&bytes), Outline::Refused(refusal));
        }
        assert_eq!(outline(&pkesk), Outline::Incomplete);
    }
}
