//! The packets of a file, read once from its first byte to its last.
//!
//! On their way the bytes are digested, the armor is taken off, and the outside is judged, all
//! with little memory.

use std::io::{self, Read};

use sha1::Digest as _;

use super::addressees::Addressees;
use super::armor::{self, Label, Stream};
use super::outline::{Outline, Outside};
use super::refusal::Refusal;
use super::utf16::Utf16;
use crate::error::{Error, Result};
use crate::ids::{BlobId, BlobName};

/// Bytes read at once.
const PIECE: u64 = 64 * 1024;
/// Bytes that tell armor from packets.
const START: usize = 4;

/// A file that is being read. As a reader it gives the packets without their armor.
pub(super) struct Source<'a> {
    from: &'a mut (dyn Read + Send + Sync),
    form: Form,
    /// The bytes that were read last; all of them while the form is not known.
    raw: Vec<u8>,
    packets: Vec<u8>,
    /// Bytes of `packets` that were given out.
    given: usize,
    outside: Outside,
    sha1: sha1::Sha1,
    sha256: sha2::Sha256,
    /// Why reading ended before the end.
    failure: Option<io::Error>,
    ended: bool,
    /// Ends as soon as it is certain that this is no whole OpenPGP file.
    early: bool,
    /// Ended so.
    cut: bool,
}

enum Form {
    Unknown,
    Binary,
    Armored(Stream),
    /// Armored, but in UTF-16; the bytes that were read last are the text.
    Wide(Stream, Utf16, Vec<u8>),
}

impl Form {
    fn armor(&self) -> Option<&Stream> {
        match self {
            Form::Armored(stream) | Form::Wide(stream, ..) => Some(stream),
            Form::Binary | Form::Unknown => None,
        }
    }
}

impl<'a> Source<'a> {
    /// Begins to read; `length` is a hint.
    pub fn new(from: &'a mut (dyn Read + Send + Sync), length: u64) -> Self {
        let piece = length.saturating_add(1).clamp(START as u64, PIECE) as usize;
        Source {
            from,
            form: Form::Unknown,
            raw: Vec::with_capacity(piece),
            packets: Vec::with_capacity(piece),
            given: 0,
            outside: Outside::default(),
            sha1: sha1::Sha1::new(),
            sha256: sha2::Sha256::new(),
            failure: None,
            ended: false,
            early: false,
            cut: false,
        }
    }

    /// As [`Source::new`], but ends as soon as it is certain that this is no whole OpenPGP file:
    /// garbage may be long.
    pub fn while_it_may_be_whole(from: &'a mut (dyn Read + Send + Sync), length: u64) -> Self {
        Source {
            early: true,
            ..Self::new(from, length)
        }
    }

    /// Tells whether everything was read.
    pub fn was_read_to_its_end(&self) -> bool {
        self.ended && !self.cut
    }

    fn is_hopeless(&self) -> bool {
        let no_armor = self.form.armor().is_some_and(Stream::is_hopeless);
        no_armor || self.outside.is_broken()
    }

    /// Reads up to the end.
    pub fn skip_rest(&mut self) {
        while self.fill() {}
    }

    /// For whom the message is, as far as its outside tells; it must have been read to its end.
    pub fn addressees(&self) -> &Addressees {
        self.outside.addressees()
    }

    /// Tells whether another armored message follows the first, which is not looked into.
    pub fn has_another(&self) -> bool {
        self.form.armor().is_some_and(Stream::has_another) || self.outside.has_armor_behind()
    }

    /// Returns the form of the file, which must have been read to its end.
    pub fn outline(self) -> Outline {
        let Some(stream) = self.form.armor() else {
            return match self.form {
                Form::Binary => self.outside.finish(),
                _ => Outline::Incomplete,
            };
        };
        match stream.whole() {
            None => Outline::Incomplete,
            Some(_) if stream.has_another() => Outline::Refused(Refusal::Several),
            Some(Label::SignedMessage) => Outline::Refused(Refusal::CleartextSigned),
            Some(_) => match (self.outside.finish(), &self.form) {
                (Outline::Message { .. }, Form::Wide(..)) => Outline::Refused(Refusal::Utf16),
                (outline, _) => outline,
            },
        }
    }

    /// Tells whether a secret key was seen, or armor that says to hold one.
    pub fn shows_secret_key(&self) -> bool {
        let label = self.form.armor().and_then(Stream::label);
        label == Some(Label::PrivateKey) || self.outside.shows_secret_key()
    }

    /// Returns the digests of the file as it lies in the store.
    ///
    /// # Errors
    /// The disk's error, if the file could not be read to its end.
    pub fn digests(&mut self) -> Result<(BlobName, BlobId)> {
        if let Some(failure) = self.failure.take() {
            return Err(Error::io("reading a blob", failure));
        }
        let sha1 = self.sha1.finalize_reset();
        let sha256 = self.sha256.finalize_reset();
        Ok((
            BlobName::from_digest(sha1.into()),
            BlobId::from_digest(sha256.into()),
        ))
    }

    /// Gets more packets, if there are any; the rest of the last ones is lost.
    fn fill(&mut self) -> bool {
        self.packets.clear();
        self.given = 0;
        while self.packets.is_empty() && !self.ended {
            if self.early && self.is_hopeless() {
                (self.ended, self.cut) = (true, true);
                break;
            }
            let known = self.raw.len();
            self.ended = self.read_piece() == 0;
            self.sha1.update(&self.raw[known..]);
            self.sha256.update(&self.raw[known..]);
            if let Form::Unknown = self.form {
                if self.raw.len() < START && !self.ended {
                    continue;
                }
                self.form = match Utf16::of(&self.raw) {
                    Some(wide) => Form::Wide(Stream::default(), wide, Vec::new()),
                    None if armor::is_binary(&self.raw) => Form::Binary,
                    None => Form::Armored(Stream::default()),
                };
            }
            match &mut self.form {
                Form::Armored(stream) => {
                    stream.feed(&self.raw, &mut self.packets);
                    if self.ended {
                        stream.finish(&mut self.packets);
                    }
                }
                Form::Wide(stream, wide, text) => {
                    text.clear();
                    wide.feed(&self.raw, text);
                    stream.feed(text, &mut self.packets);
                    if self.ended {
                        stream.finish(&mut self.packets);
                    }
                }
                Form::Binary | Form::Unknown => std::mem::swap(&mut self.raw, &mut self.packets),
            }
            self.raw.clear();
            // The reader of the packets does not see the bytes behind them.
            let packets = self.outside.feed(&self.packets);
            self.packets.truncate(packets);
        }
        !self.packets.is_empty()
    }

    /// Reads one piece to the end of `raw`. Returns 0 at the end and after a failure.
    fn read_piece(&mut self) -> usize {
        let known = self.raw.len();
        let room = self.raw.capacity().max(known + START);
        self.raw.resize(room, 0);
        let read = loop {
            match self.from.read(&mut self.raw[known..]) {
                Ok(read) => break read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.failure = Some(error);
                    break 0;
                }
            }
        };
        self.raw.truncate(known + read);
        read
    }
}

impl Read for Source<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if self.given == self.packets.len() && !self.fill() {
            return match &self.failure {
                Some(failure) => Err(failure.kind().into()),
                None => Ok(0),
            };
        }
        let left = &self.packets[self.given..];
        let count = left.len().min(to.len());
        to[..count].copy_from_slice(&left[..count]);
        self.given += count;
        Ok(count)
    }
}
