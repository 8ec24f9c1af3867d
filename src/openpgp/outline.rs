//! Judges the outside of a file, without any key.

use super::armor::{self, Label};
use super::packets::{Frames, tag};

/// Why a whole OpenPGP file is refused without trying any key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// Encrypted for passphrases only.
    SymmetricOnly,
    /// Signed, not encrypted; also a detached signature.
    SignedOnly,
    /// A cleartext signature.
    CleartextSigned,
    /// A bare literal data packet.
    Literal,
    /// A bare compressed data packet.
    Compressed,
    /// Encrypted without integrity protection (packet type 9).
    NoIntegrity,
    /// Encrypted in a way that is not offered: packet type 20, or an unknown version.
    UnknownEncryption,
    /// An encrypted container without any recipient.
    NoRecipient,
    /// A certificate or a secret key.
    KeyFile,
    /// Packets that do not make a message.
    Malformed,
}

/// What the outside of a file tells.
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

/// Tells what a file is from its outside, armored or binary; costs no key operation.
///
/// Only the frames are checked: a message that is whole on the outside may still turn out
/// damaged when it is opened.
pub fn outline(bytes: &[u8]) -> Outline {
    outside(bytes).1
}

/// Decodes the armor, if any, and returns the packets with their outline. The packets are
/// returned for [`Outline::Message`] only.
pub(super) fn outside(bytes: &[u8]) -> (Option<std::borrow::Cow<'_, [u8]>>, Outline) {
    if armor::is_binary(bytes) {
        let outline = of_packets(bytes);
        return (Some(bytes.into()), outline);
    }
    let Some(block) = armor::next_block(bytes).filter(|block| block.whole) else {
        return (None, Outline::Incomplete);
    };
    if block.label == Label::SignedMessage {
        return (None, Outline::Refused(Refusal::CleartextSigned));
    }
    let Some(body) = block.body else {
        return (None, Outline::Incomplete);
    };
    let outline = of_packets(&body);
    (Some(body.into()), outline)
}

fn of_packets(bytes: &[u8]) -> Outline {
    let Ok(frames) = Frames::new(bytes).collect::<Result<Vec<_>, _>>() else {
        return Outline::Incomplete;
    };
    let (mut public, mut passphrases) = (0, 0);
    let mut frames = frames.iter();
    let container = loop {
        // Ends before the container: the rest is still on its way.
        let Some(frame) = frames.next() else {
            return Outline::Incomplete;
        };
        match frame.tag {
            tag::PKESK => public += 1,
            tag::SKESK => passphrases += 1,
            tag::MARKER | tag::PADDING => {}
            _ => break frame,
        }
    };
    let refusal = match container.tag {
        // A version 1 container holds at least a block, its repeated end, and the digest.
        tag::SEIPD if container.version == Some(1) && container.length < 1 + 10 + 22 => {
            return Outline::Incomplete;
        }
        tag::SEIPD if !matches!(container.version, Some(1 | 2)) => Refusal::UnknownEncryption,
        tag::SEIPD if frames.next().is_some() => Refusal::Malformed,
        tag::SEIPD if public > 0 => return Outline::Message { recipients: public },
        tag::SEIPD if passphrases > 0 => Refusal::SymmetricOnly,
        tag::SEIPD => Refusal::NoRecipient,
        tag::SED => Refusal::NoIntegrity,
        tag::AEAD => Refusal::UnknownEncryption,
        _ if public + passphrases > 0 => Refusal::Malformed,
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

#[cfg(test)]
mod tests {
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
        for (bytes, refusal) in [
            (with(&skesk, 1), Refusal::SymmetricOnly),
            (with(&[], 2), Refusal::NoRecipient),
            (with(&pkesk, 3), Refusal::UnknownEncryption),
            ([with(&pkesk, 1), pkesk.into()].concat(), Refusal::Malformed),
            ([&pkesk[..], &[0xC9, 1, 1]].concat(), Refusal::NoIntegrity),
            (
                [&pkesk[..], &[0xD4, 1, 1]].concat(),
                Refusal::UnknownEncryption,
            ),
            ([&pkesk[..], &[0xCB, 1, 1]].concat(), Refusal::Malformed),
            (vec![0xC6, 1, 4], Refusal::KeyFile),
        ] {
            assert_eq!(outline(&bytes), Outline::Refused(refusal));
        }
        assert_eq!(outline(&pkesk), Outline::Incomplete);
    }
}
