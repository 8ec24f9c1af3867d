//! Text in UTF-16, as some programs write it that were asked for armor: it is named, and not taken
//! for something else.

use zeroize::Zeroizing;

/// The order of the two bytes of a character.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    LowFirst,
    HighFirst,
}

/// Reads text in UTF-16, as some programs write it that were asked for text: characters beyond
/// ASCII become question marks, which no armor has.
#[derive(Clone, Copy)]
pub(super) struct Utf16 {
    order: Order,
    /// The first byte of a character whose second is still to come.
    half: Option<u8>,
}

impl Utf16 {
    /// Recognizes UTF-16 by the first bytes of a file: a byte order mark, or two characters of
    /// ASCII.
    pub fn of(bytes: &[u8]) -> Option<Utf16> {
        let order = match *bytes.first_chunk()? {
            [0xFF, 0xFE, _, 0] => Order::LowFirst,
            [0xFE, 0xFF, 0, _] => Order::HighFirst,
            [1..=0x7F, 0, 1..=0x7F, 0] => Order::LowFirst,
            [0, 1..=0x7F, 0, 1..=0x7F] => Order::HighFirst,
            _ => return None,
        };
        Some(Utf16 { order, half: None })
    }

    /// Appends the next part of the text.
    pub fn feed(&mut self, text: &[u8], out: &mut Vec<u8>) {
        for byte in text {
            let Some(first) = self.half.take() else {
                self.half = Some(*byte);
                continue;
            };
            let (low, high) = match self.order {
                Order::LowFirst => (first, *byte),
                Order::HighFirst => (*byte, first),
            };
            match (high, low) {
                (0, low @ 0..=0x7F) => out.push(low),
                (0xFE, 0xFF) => {} // A byte order mark.
                _ => out.push(b'?'),
            }
        }
    }
}

/// Returns the text of a file in UTF-16; `None` for all others.
pub(super) fn text_of(bytes: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let mut reader = Utf16::of(bytes)?;
    let mut text = Zeroizing::new(Vec::with_capacity(bytes.len() / 2 + 1));
    reader.feed(bytes, &mut text);
    Some(text)
}
