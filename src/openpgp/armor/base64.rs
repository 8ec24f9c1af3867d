//! Decodes the base64 body of armor, which may end in its CRC24.

/// Bytes that may stand between the CRC24 and the last line.
pub(super) const AFTER_CRC: usize = 64 * 1024;
/// Base64 digits of a CRC24.
const CRC_DIGITS: u8 = 4;

/// Base64 with padding, and the CRC24 behind it, line by line.
#[derive(Default)]
pub(super) struct Decoder {
    bits: u32,
    /// Digits in `bits`, 0 to 3.
    digits: u8,
    /// Equals signs so far. One that a digit follows begins the CRC24 and does not count.
    padding: u8,
    /// Digits of the CRC24, which is ignored: the content is authenticated.
    crc: u8,
    /// Bytes after it.
    after: usize,
}

impl Decoder {
    /// Takes one line; false if it is not base64.
    pub(super) fn take(&mut self, mut line: &[u8], out: &mut Vec<u8>) -> bool {
        if self.crc == CRC_DIGITS {
            self.after += line.len();
            return self.after <= AFTER_CRC;
        }
        // Whole groups of digits, which is nearly everything.
        while let (0, 0, Some((group, rest))) = (
            self.digits,
            self.padding + self.crc,
            line.split_at_checked(4),
        ) {
            let [a, b, c, d] = [group[0], group[1], group[2], group[3]];
            let [a, b, c, d] = [a, b, c, d].map(|byte| u32::from(VALUES[usize::from(byte)]));
            if a | b | c | d >= 64 {
                break;
            }
            let bits = a << 18 | b << 12 | c << 6 | d;
            out.extend_from_slice(&bits.to_be_bytes()[1..]);
            line = rest;
        }
        for byte in line {
            let value = VALUES[usize::from(*byte)];
            match value {
                BLANK => {}
                BAD => return false,
                _ if self.crc == CRC_DIGITS => return false,
                PAD if self.crc > 0 => return false,
                PAD => {
                    self.padding += 1;
                    if self.padding > 3 {
                        return false;
                    }
                }
                _ if self.padding > 0 || self.crc > 0 => {
                    self.padding -= u8::from(self.crc == 0);
                    self.crc += 1;
                }
                value => {
                    self.bits = self.bits << 6 | u32::from(value);
                    self.digits += 1;
                    if self.digits == 4 {
                        out.extend_from_slice(&self.bits.to_be_bytes()[1..]);
                        (self.bits, self.digits) = (0, 0);
                    }
                }
            }
        }
        true
    }

    /// Ends the text; false if it ends within a group of digits, or within the CRC24.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) -> bool {
        if !matches!(self.crc, 0 | CRC_DIGITS) {
            return false;
        }
        match (self.digits, self.padding) {
            (0, 0) => {}
            (2, 2) => out.push((self.bits >> 4) as u8),
            (3, 1) => out.extend_from_slice(&((self.bits >> 2) as u16).to_be_bytes()),
            _ => return false,
        }
        true
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
