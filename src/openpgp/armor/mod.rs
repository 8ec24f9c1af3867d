//! Reads ASCII armor (RFC 9580, 6.2), tolerantly but never partly.
//!
//! Text before the armor and after its last line is ignored, as gpg does. Line ends may be LF or
//! CRLF, lines after the first may be indented, the CRC24 may be missing or wrong, stand behind the
//! last line of the body, or be followed by other words. A block without its
//! last line, or a body that is not base64, is not tolerated: such a file is still on its way.
//!
//! The first line must begin a line, as for gpg, which takes neither quoted nor indented ones.

mod base64;

use base64::Decoder;

/// How far into a file the first line of the armor is looked for, in bytes. Gpg sets no bound, but
/// a file can be long, and be none.
const LEADING_TEXT: usize = 4 << 20;

const BEGIN: &[u8] = b"-----BEGIN PGP ";
const DASHES: &[u8] = b"-----";
const SIGNATURE_END: &[u8] = b"-----END PGP SIGNATURE-----";
/// Bytes of a line up to which it is looked at as a whole.
const LONGEST_LINE: usize = 16 * 1024;

/// The content that the armor announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Label {
    Message,
    SignedMessage,
    Signature,
    PublicKey,
    PrivateKey,
    Other,
}

/// One armored block.
pub(super) struct Block<'a> {
    pub label: Label,
    /// The decoded body; `None` when the block is cut off or not base64, and for cleartext.
    pub body: Option<Vec<u8>>,
    /// Tells whether the last line is there.
    pub whole: bool,
    /// The file after this block.
    pub rest: &'a [u8],
}

/// Tells whether a file is binary OpenPGP: every packet starts with its highest bit set.
///
/// A byte order mark starts so too, but starts text.
pub(super) fn is_binary(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|first| first & 0x80 != 0) && !bytes.starts_with(b"\xEF\xBB\xBF")
}

/// Finds and decodes the next armored block, if there is one.
pub(super) fn next_block(bytes: &[u8]) -> Option<Block<'_>> {
    let mut lines = Lines { left: bytes };
    let label = loop {
        if bytes.len() - lines.left.len() > LEADING_TEXT {
            return None;
        }
        if let Some(label) = begins(lines.next()?) {
            break label;
        }
    };
    if label == Label::SignedMessage {
        // A cleartext signature ends where its signature block does.
        let whole = lines.any(|line| line == SIGNATURE_END);
        return Some(Block {
            label,
            body: None,
            whole,
            rest: lines.left,
        });
    }
    let mut body = Body::new(label);
    // Growing would leave copies behind, of a secret key perhaps.
    let mut out = Vec::new();
    out.reserve_exact(lines.left.len() / 4 * 3 + 3);
    while !body.ended {
        let Some(line) = lines.next() else { break };
        body.line(line, &mut out);
    }
    body.end(&mut out);
    Some(Block {
        label,
        body: body.sane.then_some(out),
        whole: body.whole,
        rest: lines.left,
    })
}

/// The lines of one block after its first.
struct Body {
    label: Label,
    decoder: Decoder,
    /// No line of the base64 was seen yet.
    headers: bool,
    /// Everything was base64 so far.
    sane: bool,
    /// The right last line was there.
    whole: bool,
    ended: bool,
}

impl Body {
    fn new(label: Label) -> Self {
        Body {
            label,
            decoder: Decoder::default(),
            headers: true,
            sane: true,
            whole: false,
            ended: false,
        }
    }

    /// Takes one line, or the beginning of one; tells whether its rest would be base64, too.
    fn line(&mut self, line: &[u8], out: &mut Vec<u8>) -> bool {
        let line = line.trim_ascii_start();
        if line.starts_with(DASHES) {
            self.last_line(line, out);
            return false;
        }
        if self.headers {
            self.headers = !line.is_empty();
            // Some writers leave out the blank line: a line that is no header starts the body.
            if line.is_empty() || line.contains(&b':') {
                return false;
            }
            self.headers = false;
        }
        let dashes = line.windows(DASHES.len()).position(|part| part == DASHES);
        let (line, last) = line.split_at(dashes.unwrap_or(line.len()));
        self.sane = self.sane && self.decoder.take(line, out);
        if !last.is_empty() {
            self.last_line(last, out);
        }
        last.is_empty()
    }

    fn last_line(&mut self, line: &[u8], out: &mut Vec<u8>) {
        self.whole = ends(line) == Some(self.label);
        self.end(out);
    }

    /// Ends the block, if it is not at its end.
    fn end(&mut self, out: &mut Vec<u8>) {
        if !self.ended {
            self.ended = true;
            self.sane &= self.decoder.finish(out);
        }
    }
}

/// The first block of a file whose text comes bit by bit.
#[derive(Default)]
pub(super) struct Stream {
    at: Position,
    /// The beginning of a line whose end is still to come; at most [`LONGEST_LINE`].
    line: Vec<u8>,
    /// How to treat the rest of an overlong line.
    overlong: Option<Overlong>,
    /// Bytes taken so far, without those in `line`.
    passed: usize,
    /// Another message begins after the block.
    another: bool,
}

/// Where in the text the stream is.
#[derive(Default)]
enum Position {
    #[default]
    Before,
    /// In or after the block.
    In(Body),
    /// In a cleartext signature; and whether its end was seen.
    Cleartext(bool),
    /// There is no armor.
    Nowhere,
}

#[derive(Clone, Copy)]
enum Overlong {
    Base64,
    Ignored,
}

impl Stream {
    /// Takes the next text and appends its decoded bytes.
    pub fn feed(&mut self, mut text: &[u8], out: &mut Vec<u8>) {
        while !text.is_empty() {
            let end = text.iter().position(|byte| *byte == b'\n');
            let (piece, rest) = text.split_at(end.map_or(text.len(), |end| end + 1));
            text = rest;
            if self.overlong.is_some() || self.line.len() + piece.len() > LONGEST_LINE {
                self.long(piece, end.is_some(), out);
            } else if end.is_none() {
                self.line.extend_from_slice(piece);
            } else if self.line.is_empty() {
                self.whole_line(piece, out);
            } else {
                let mut line = std::mem::take(&mut self.line);
                line.extend_from_slice(piece);
                self.whole_line(&line, out);
                line.clear();
                self.line = line;
            }
        }
    }

    /// Ends the text.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        let line = std::mem::take(&mut self.line);
        if !line.is_empty() {
            self.whole_line(&line, out);
        }
        if let Position::In(body) = &mut self.at {
            body.end(out);
        }
    }

    /// Returns the label of the block if it is whole; `None` if there is none, or
    /// if it is damaged.
    pub fn whole(&self) -> Option<Label> {
        match &self.at {
            Position::In(body) => Some(body.label).filter(|_| body.whole && body.sane),
            Position::Cleartext(whole) => Some(Label::SignedMessage).filter(|_| *whole),
            Position::Before | Position::Nowhere => None,
        }
    }

    /// Tells whether another message begins after the block.
    pub fn has_another(&self) -> bool {
        self.another
    }

    /// Tells whether no text that may follow makes the block whole.
    pub fn is_hopeless(&self) -> bool {
        match &self.at {
            // A line that has begun is the last in which the armor may begin.
            Position::Before => self.passed > LEADING_TEXT,
            Position::In(body) => !body.sane || (body.ended && !body.whole),
            Position::Cleartext(_) => false,
            Position::Nowhere => true,
        }
    }

    /// Returns the label of the block, whole or not.
    pub fn label(&self) -> Option<Label> {
        match &self.at {
            Position::In(body) => Some(body.label),
            Position::Cleartext(_) => Some(Label::SignedMessage),
            Position::Before | Position::Nowhere => None,
        }
    }

    fn whole_line(&mut self, line: &[u8], out: &mut Vec<u8>) -> bool {
        let passed = self.passed;
        self.passed = passed.saturating_add(line.len());
        let line = line.trim_ascii_end();
        match &mut self.at {
            Position::Before if passed > LEADING_TEXT => self.at = Position::Nowhere,
            Position::Before => match begins(line) {
                Some(Label::SignedMessage) => self.at = Position::Cleartext(false),
                Some(label) => self.at = Position::In(Body::new(label)),
                None => {}
            },
            Position::In(body) if !body.ended => return body.line(line, out),
            Position::Cleartext(whole) if !*whole => *whole = line == SIGNATURE_END,
            Position::In(_) | Position::Cleartext(_) => {
                let label = begins(line.trim_ascii_start());
                self.another |= matches!(label, Some(Label::Message | Label::SignedMessage));
            }
            Position::Nowhere => {}
        }
        false
    }

    /// Takes a piece of a line that is too long to be kept.
    fn long(&mut self, piece: &[u8], ends: bool, out: &mut Vec<u8>) {
        let kind = match self.overlong {
            Some(kind) => {
                self.passed = self.passed.saturating_add(piece.len());
                if let (Overlong::Base64, Position::In(body)) = (kind, &mut self.at) {
                    // Base64 has none: the last line begins here.
                    let last = piece.iter().position(|byte| *byte == b'-');
                    let (piece, last) = piece.split_at(last.unwrap_or(piece.len()));
                    body.sane = body.sane && body.decoder.take(piece.trim_ascii_end(), out);
                    if !last.is_empty() {
                        self.overlong = None;
                        match ends {
                            true => drop(self.whole_line(last, out)),
                            false => self.line.extend_from_slice(last),
                        }
                        return;
                    }
                }
                kind
            }
            None => {
                let mut line = std::mem::take(&mut self.line);
                line.extend_from_slice(piece);
                match self.whole_line(&line, out) {
                    true => Overlong::Base64,
                    false => Overlong::Ignored,
                }
            }
        };
        self.overlong = Some(kind).filter(|_| !ends);
    }
}

fn label(name: &[u8]) -> Label {
    match name {
        b"MESSAGE" => Label::Message,
        b"SIGNED MESSAGE" => Label::SignedMessage,
        b"SIGNATURE" => Label::Signature,
        b"PUBLIC KEY BLOCK" => Label::PublicKey,
        b"PRIVATE KEY BLOCK" | b"SECRET KEY BLOCK" => Label::PrivateKey,
        _ => Label::Other,
    }
}

fn begins(line: &[u8]) -> Option<Label> {
    let line = line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line);
    line.strip_prefix(BEGIN)?.strip_suffix(DASHES).map(label)
}

fn ends(line: &[u8]) -> Option<Label> {
    let name = line.strip_prefix(b"-----END PGP ")?;
    name.strip_suffix(DASHES).map(label)
}

/// The lines of a file, without line ends and trailing blanks.
struct Lines<'a> {
    left: &'a [u8],
}

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];
    fn next(&mut self) -> Option<&'a [u8]> {
        if self.left.is_empty() {
            return None;
        }
        let end = self.left.iter().position(|byte| *byte == b'\n');
        let line = &self.left[..end.unwrap_or(self.left.len())];
        self.left = end.map_or(&[], |end| &self.left[end + 1..]);
        Some(line.trim_ascii_end())
    }
}

#[cfg(test)]
mod tests {
    use super::base64::AFTER_CRC;
    use super::*;

    /// The body of the first block, read in both ways, and however its text comes.
    fn body(text: &str) -> Option<Vec<u8>> {
        let block = next_block(text.as_bytes());
        let at_once = block.and_then(|block| block.body.filter(|_| block.whole));
        for part in [1, 2, 7, 100, 1 << 20] {
            let (mut stream, mut out) = (Stream::default(), Vec::new());
            for part in text.as_bytes().chunks(part) {
                stream.feed(part, &mut out);
                assert!(stream.line.len() <= LONGEST_LINE);
            }
            stream.finish(&mut out);
            assert_eq!(stream.whole().map(|_| out), at_once);
        }
        at_once
    }

    #[test]
    fn overlong_lines_are_read_with_little_memory() {
        let frame = |body: &str| {
            format!("-----BEGIN PGP MESSAGE-----\n{body}\n-----END PGP MESSAGE-----\n")
        };
        let digits = "YWJj".repeat(LONGEST_LINE);
        let decoded = b"abc".repeat(LONGEST_LINE);
        assert!(body(&frame(&format!("\n{digits}\n{digits}"))) == Some(decoded.repeat(2)));
        assert!(body(&frame(&digits)) == Some(decoded.clone()));
        let comment = "x".repeat(2 * LONGEST_LINE);
        let commented = format!("Comment: {comment}\nComment: {comment}\n\nYWJj");
        assert!(body(&frame(&commented)) == Some(b"abc".to_vec()));
        assert!(body(&frame(&format!("\n{digits}*"))).is_none());
        assert!(body(&frame(&format!("\n{digits}\n-----{digits}"))).is_none());
        // The CRC24 and the last line behind it.
        assert!(body(&frame(&format!("\n{digits}=AAAA"))) == Some(decoded.clone()));
        let last = "-----END PGP MESSAGE-----";
        for line in ["", "\n", "\nYours"] {
            let text = format!("-----BEGIN PGP MESSAGE-----\n\n{digits}=AAAA{last}{line}");
            assert!(body(&text) == Some(decoded.clone()));
        }
        // Words after the CRC24, but not any amount.
        let words = |count| format!("\n{digits}\n=AAAA\n{}", "x".repeat(count));
        assert!(body(&frame(&words(AFTER_CRC))) == Some(decoded.clone()));
        assert!(body(&frame(&words(AFTER_CRC + 1))).is_none());
        // Text before the armor, but not any amount.
        let before = "x".repeat(LEADING_TEXT - 1);
        assert!(body(&format!("{before}\n{}", frame("\nYWJj"))).is_some());
        assert!(body(&format!("{before}xx\n{}", frame("\nYWJj"))).is_none());
    }

    #[test]
    fn armor_is_read_with_any_line_end_and_crc() {
        for text in [
            "-----BEGIN PGP MESSAGE-----\n\nYWJj\nZGU=\n=AAAA\n-----END PGP MESSAGE-----\n",
            "-----BEGIN PGP MESSAGE-----\r\n\r\nYWJjZGU=\r\n-----END PGP MESSAGE-----",
            "Hello,\n\n-----BEGIN PGP MESSAGE-----\nVersion: x\nComment:\n \nYWJj\nZGU=\n\
             -----END PGP MESSAGE-----\nBye\n",
            "-----BEGIN PGP MESSAGE-----\nYWJjZGU=\n-----END PGP MESSAGE-----\n",
            "-----BEGIN PGP MESSAGE-----\n\n  YWJj\n\tZGU=\n  =AAAA\n  -----END PGP MESSAGE-----\n",
            "-----BEGIN PGP MESSAGE-----  \n  Version: x\n  \n  YW Jj\n \nZGU=\n-----END PGP MESSAGE-----",
            "-----BEGIN PGP MESSAGE-----\n\nYWJj\nZGU==AAAA\n-----END PGP MESSAGE-----\n",
            "-----BEGIN PGP MESSAGE-----\n\nYWJj\nZGU= =AAAA\t\n-----END PGP MESSAGE-----\n",
            "-----BEGIN PGP MESSAGE-----\n\nYWJj\nZGU=\n=AAAA-----END PGP MESSAGE-----\n",
            "-----BEGIN PGP MESSAGE-----\n\nYWJj\nZGU=-----END PGP MESSAGE-----\n",
            "-----BEGIN PGP MESSAGE-----\n\nYWJjZGU=\n=AAAA\n\nand - more\n-----END PGP MESSAGE-----\n",
        ] {
            assert_eq!(body(text).as_deref(), Some(&b"abcde"[..]), "{text}");
        }
    }

    #[test]
    fn a_part_of_an_armor_is_not_read() {
        for text in [
            "",
            "-----BEGIN PGP MESSAGE-----\n\nYWJjZGU=\n",
            "-----BEGIN PGP MESSAGE-----\n\nYWJjZGU=\n-----END PGP MESSAGE----",
            "-----BEGIN PGP MESSAGE-----\n\nYWJjZGU=\n-----END PGP SIGNATURE-----\n",
            "-----BEGIN PGP MESSAGE-----\n\nYWJjZGU\n-----END PGP MESSAGE-----\n",
            "-----BEGIN PGP MESSAGE-----\n\nYWJj*GU=\n-----END PGP MESSAGE-----\n",
            "-----BEGIN PGP MESSAGE-----\n\nYWJjZA==YQ\n-----END PGP MESSAGE-----\n",
            "-----BEGIN PGP MESSAGE-----\n\nYWJjZGU=YWJj\n-----END PGP MESSAGE-----\n",
            "-----BEGIN PGP MESSAGE-----\n\nYWJjZA===\n-----END PGP MESSAGE-----\n",
            "-----BEGIN PGP MESSAGE-----\n\nYWJj\n=AA\n-----END PGP MESSAGE-----\n",
            "-----BEGIN PGP MESSAGE-----\n\nYWJj\n=AAAAA\n-----END PGP MESSAGE-----\n",
            "-----BEGIN PGP MESSAGE-----\n\nYWJj\n=AAAA\n-----END PGP SIGNATURE-----\n",
            " -----BEGIN PGP MESSAGE-----\n\nYWJj\n-----END PGP MESSAGE-----\n",
            "> -----BEGIN PGP MESSAGE-----\n> \n> YWJj\n> -----END PGP MESSAGE-----\n",
        ] {
            assert_eq!(body(text), None, "{text}");
        }
    }
}
