//! Determines the form of whole files, without any key.

use std::io::Read;

use super::Outline;
use super::source::Source;
use crate::error::Result;
use crate::ids::BlobName;

/// Determines the form of a file from its outside, armored or binary; costs no key operation.
///
/// Only the frames are checked: a message that is whole on the outside may still turn out
/// damaged when it is opened.
pub fn outline(mut bytes: &[u8]) -> Outline {
    let length = bytes.len() as u64;
    let mut source = Source::new(&mut bytes, length);
    source.skip_rest();
    source.outline()
}

/// Facts about a file that need no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inspected {
    /// Its form.
    pub outline: Outline,
    /// SHA-1 of its bytes.
    pub name: BlobName,
    /// A whole secret key is in it, or armor that says to hold one.
    pub secret_key: bool,
}

/// Determines the form of a file of `length` bytes from its outside, reading it once to its end and
/// with little memory. As [`outline()`].
///
/// # Errors
/// Errors of reading `from`.
pub fn inspect(from: &mut (dyn Read + Send + Sync), length: u64) -> Result<Inspected> {
    let mut source = Source::new(from, length);
    source.skip_rest();
    let (name, _) = source.digests()?;
    let secret_key = source.shows_secret_key();
    Ok(Inspected {
        outline: source.outline(),
        name,
        secret_key,
    })
}
