//! Reads ASCII armor (RFC 9580, 6.2), tolerantly but never partly.
//!
//! Text before the armor and after its last line is ignored, as gpg does. Line ends may be LF or
//! CRLF, a CRC24 line may be missing or wrong. What is not tolerated is a block without its last
//! line, or a body that is not base64: such a file is still on its way.

/// How far into a file the first line of the armor is looked for, in bytes.
const LEADING_TEXT: usize = 64 * 1024;

const BEGIN: &[u8] = b"-----BEGIN PGP ";
const DASHES: &[u8] = b"-----";

/// What the armor says it holds.
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
        let whole = lines.any(|line| line == b"-----END PGP SIGNATURE-----");
        return Some(Block {
            label,
            body: None,
            whole,
            rest: lines.left,
        });
    }
    let mut decoder = Decoder::default();
    // Growing would leave copies behind, of a secret key perhaps.
    decoder.out.reserve_exact(lines.left.len() / 4 * 3 + 3);
    let (mut headers, mut sane, mut whole) = (true, true, false);
    for line in &mut lines {
        if line.starts_with(DASHES) {
            whole = ends(line) == Some(label);
            break;
        }
        if headers {
            headers = !line.is_empty();
            // Some writers leave out the blank line: what is no header starts the body.
            if line.is_empty() || line.contains(&b':') {
                continue;
            }
            headers = false;
        }
        let crc = line.len() == 5 && line[0] == b'=';
        sane &= crc || decoder.take(line);
    }
    let body = decoder.finish().filter(|_| sane);
    Some(Block {
        label,
        body,
        whole,
        rest: lines.left,
    })
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

/// Base64 with padding, line by line.
#[derive(Default)]
struct Decoder {
    out: Vec<u8>,
    bits: u32,
    /// Digits in `bits`, 0 to 3.
    digits: u8,
    padding: u8,
}

impl Decoder {
    /// Takes one line; false if it is not base64.
    fn take(&mut self, line: &[u8]) -> bool {
        for byte in line {
            let value = VALUES[usize::from(*byte)];
            match value {
                PAD => {
                    self.padding += 1;
                    if self.padding > 2 {
                        return false;
                    }
                }
                BLANK => {}
                BAD => return false,
                _ if self.padding > 0 => return false,
                value => {
                    self.bits = self.bits << 6 | u32::from(value);
                    self.digits += 1;
                    if self.digits == 4 {
                        self.out.extend_from_slice(&self.bits.to_be_bytes()[1..]);
                        (self.bits, self.digits) = (0, 0);
                    }
                }
            }
        }
        true
    }

    fn finish(mut self) -> Option<Vec<u8>> {
        match (self.digits, self.padding) {
            (0, 0) => {}
            (2, 2) => self.out.push((self.bits >> 4) as u8),
            (3, 1) => self
                .out
                .extend_from_slice(&((self.bits >> 2) as u16).to_be_bytes()),
            _ => return None,
        }
        Some(self.out)
    }
}

const BAD: u8 = 255;
const BLANK: u8 = 254;
const PAD: u8 = 253;

/// The value of each base64 digit.
const VALUES: [u8; 256] = {
    let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut values = [BAD; 256];
    let mut i = 0;
    while i < digits.len() {
        values[digits[i] as usize] = i as u8;
        i += 1;
    }
    values[b'=' as usize] = PAD;
    values[b' ' as usize] = BLANK;
    values[b'\t' as usize] = BLANK;
    values[b'\r' as usize] = BLANK;
    values
};

#[cfg(test)]
mod tests {
    use super::*;

    fn body(text: &str) -> Option<Vec<u8>> {
        let block = next_block(text.as_bytes())?;
        block.body.filter(|_| block.whole)
    }

    #[test]
    fn armor_is_read_with_any_line_end_and_crc() {
        for text in [
            "-----BEGIN PGP MESSAGE-----\n\nYWJj\nZGU=\n=AAAA\n-----END PGP MESSAGE-----\n",
            "-----BEGIN PGP MESSAGE-----\r\n\r\nYWJjZGU=\r\n-----END PGP MESSAGE-----",
            "Hello,\n\n-----BEGIN PGP MESSAGE-----\nVersion: x\nComment:\n \nYWJj\nZGU=\n\
             -----END PGP MESSAGE-----\nBye\n",
            "-----BEGIN PGP MESSAGE-----\nYWJjZGU=\n-----END PGP MESSAGE-----\n",
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
        ] {
            assert_eq!(body(text), None, "{text}");
        }
    }
}
