//! Validated names of things: blobs, keys, documents, kinds.
//!
//! A string or number that crosses a module does so in one of these types; only their
//! constructors validate.

use std::fmt;
use std::str::FromStr;

use sha1::Digest as _;

use crate::error::{Error, Kind as ErrorKind, Result};

/// Spells bytes in lower-case hex.
pub(crate) fn hex_digits(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

/// Reads exactly `N` bytes in hex, of either case; `None` for anything else.
pub(crate) fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; N];
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).ok()?;
    }
    Some(bytes)
}

fn invalid(expected: &str) -> Error {
    Error::new(ErrorKind::Invalid, format!("not {expected}"))
}

/// SHA-1 of a blob's bytes: the label under which it lies in the store. Peers without keys can
/// check the store by it; it is no security boundary.
///
/// Like git's object names it is a label, not a security boundary. Displayed as 40 lower-case
/// hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobName([u8; 20]);

impl BlobName {
    /// Computes the name of a blob from its bytes.
    pub fn of(bytes: &[u8]) -> Self {
        BlobName(sha1::Sha1::digest(bytes).into())
    }

    /// Takes a finished SHA-1 digest.
    pub fn from_digest(digest: [u8; 20]) -> Self {
        BlobName(digest)
    }

    /// Returns the name of the blob's file in the store: `<40 hex>.asc`.
    pub fn file_name(&self) -> String {
        format!("{self}.asc")
    }

    /// Returns the first eight hex digits, by which a blob without a name is called.
    pub fn short(&self) -> String {
        self.to_string()[..8].to_owned()
    }
}

impl fmt::Display for BlobName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl fmt::Debug for BlobName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlobName({self})")
    }
}

impl FromStr for BlobName {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        unhex(text)
            .map(BlobName)
            .ok_or_else(|| invalid("40 hex digits"))
    }
}

/// SHA-256 of a blob's bytes: identifies a file's content as it lies on the disk.
///
/// It names files and shortcuts a look. The content of a blob has a [`VersionId`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobId([u8; 32]);

impl BlobId {
    /// Computes the id of a blob from its bytes.
    pub fn of(bytes: &[u8]) -> Self {
        BlobId(sha2::Sha256::digest(bytes).into())
    }

    /// Takes a finished SHA-256 digest.
    pub fn from_digest(digest: [u8; 32]) -> Self {
        BlobId(digest)
    }

    /// Returns the digest.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BlobId(")?;
        hex(&self.0, f)?;
        f.write_str(")")
    }
}

/// Identifies a version: a digest over the packets inside the encryption.
///
/// Anybody who can write to the store, without a key of mine, can give a blob another armor,
/// another name, other session key packets, but not another id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VersionId([u8; 32]);

impl VersionId {
    /// Takes a finished SHA-256 digest.
    pub fn from_digest(digest: [u8; 32]) -> Self {
        VersionId(digest)
    }

    /// Returns the digest.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The id of a blob of which nothing inside is known: nothing but its bytes identifies it.
    pub fn of_unopened(blob: BlobId) -> Self {
        let digest = sha2::Sha256::new().chain_update(b"dds unopened\0");
        VersionId(digest.chain_update(blob.0).finalize().into())
    }
}

impl fmt::Debug for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VersionId(")?;
        hex(&self.0, f)?;
        f.write_str(")")
    }
}

/// Fingerprint of a primary key (RFC 9580, 5.5.4): 20 bytes for version 4, 32 for version 6.
///
/// Displayed as upper-case hex, as gpg prints it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(Vec<u8>);

impl Fingerprint {
    /// Takes the bytes of a version 4 or 6 fingerprint.
    ///
    /// # Errors
    /// `Invalid` for any other length.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        match bytes.len() {
            20 | 32 => Ok(Fingerprint(bytes.to_vec())),
            _ => Err(invalid("a fingerprint of 20 or 32 bytes")),
        }
    }

    /// Returns the bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Writes it in groups of four digits, for people who compare it.
    pub fn in_groups(&self) -> String {
        let digits = self.to_string();
        let groups: Vec<&str> = (0..digits.len())
            .step_by(4)
            .map(|start| &digits[start..start + 4])
            .collect();
        groups.join(" ")
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02X}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

impl FromStr for Fingerprint {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let v4 = unhex::<20>(text).map(|bytes| bytes.to_vec());
        v4.or_else(|| unhex::<32>(text).map(|bytes| bytes.to_vec()))
            .map(Fingerprint)
            .ok_or_else(|| invalid("a full fingerprint"))
    }
}

/// Random 128-bit id of a document, kept across edits and copies (notation `doc@`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DocId([u8; 16]);

impl DocId {
    /// Takes 16 bytes that a cryptographic generator made.
    pub fn from_random(bytes: [u8; 16]) -> Self {
        DocId(bytes)
    }
}

impl fmt::Display for DocId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl fmt::Debug for DocId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DocId({self})")
    }
}

impl FromStr for DocId {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        unhex(text)
            .map(DocId)
            .ok_or_else(|| invalid("32 hex digits"))
    }
}

/// The two folders of the store that hold blobs, and the two trees of the view made of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Folder {
    /// `messages/`: deleted after reading.
    Messages,
    /// `notes/`: kept.
    Notes,
}

impl Folder {
    /// Both folders.
    pub const ALL: [Folder; 2] = [Folder::Messages, Folder::Notes];

    /// Returns the directory name, in the store and in the view.
    pub fn name(self) -> &'static str {
        match self {
            Folder::Messages => "messages",
            Folder::Notes => "notes",
        }
    }
}

/// The kind of a blob (notation `kind@`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BlobKind {
    /// One message to one reader.
    Message,
    /// One note, readable by its audience.
    Note,
    /// An empty directory among the notes, zero bytes.
    Directory,
}

impl BlobKind {
    /// Returns the notation's value.
    pub fn name(self) -> &'static str {
        match self {
            BlobKind::Message => "message",
            BlobKind::Note => "note",
            BlobKind::Directory => "directory",
        }
    }

    /// Returns the one folder in which such a blob belongs.
    pub fn folder(self) -> Folder {
        match self {
            BlobKind::Message => Folder::Messages,
            BlobKind::Note | BlobKind::Directory => Folder::Notes,
        }
    }
}

impl FromStr for BlobKind {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        [BlobKind::Message, BlobKind::Note, BlobKind::Directory]
            .into_iter()
            .find(|kind| kind.name() == text)
            .ok_or_else(|| invalid("a kind of blob"))
    }
}

/// A point in time: seconds since 1970-01-01 UTC and nanoseconds (notation `mtime@`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    seconds: i64,
    nanos: u32,
}

impl Timestamp {
    /// Makes a time from seconds since the epoch and nanoseconds.
    ///
    /// # Errors
    /// `Invalid` unless `nanos` is below 10^9.
    pub fn new(seconds: i64, nanos: u32) -> Result<Self> {
        if nanos < 1_000_000_000 {
            Ok(Timestamp { seconds, nanos })
        } else {
            Err(invalid("a time with nanoseconds below 10^9"))
        }
    }

    /// Seconds since the epoch, rounded down.
    pub fn seconds(self) -> i64 {
        self.seconds
    }

    /// Nanoseconds after [`Timestamp::seconds`].
    pub fn nanos(self) -> u32 {
        self.nanos
    }

    /// Returns the current time.
    pub fn now() -> Self {
        std::time::SystemTime::now().into()
    }

    /// Returns whole seconds clamped to 1..=2^32-1, as OpenPGP's four-byte dates need them.
    pub fn openpgp_seconds(self) -> u32 {
        u32::try_from(self.seconds.max(1)).unwrap_or(u32::MAX)
    }
}

impl From<std::time::SystemTime> for Timestamp {
    fn from(time: std::time::SystemTime) -> Self {
        match time.duration_since(std::time::UNIX_EPOCH) {
            Ok(after) => Timestamp {
                seconds: i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
                nanos: after.subsec_nanos(),
            },
            Err(before) => {
                let before = before.duration();
                let back = |seconds| 0_i64.saturating_sub_unsigned(seconds);
                match before.subsec_nanos() {
                    0 => Timestamp {
                        seconds: back(before.as_secs()),
                        nanos: 0,
                    },
                    nanos => Timestamp {
                        seconds: back(before.as_secs().saturating_add(1)),
                        nanos: 1_000_000_000 - nanos,
                    },
                }
            }
        }
    }
}

impl From<Timestamp> for std::time::SystemTime {
    fn from(time: Timestamp) -> Self {
        use std::time::{Duration, UNIX_EPOCH};
        let whole = Duration::from_secs(time.seconds.unsigned_abs());
        let base = if time.seconds >= 0 {
            UNIX_EPOCH.checked_add(whole)
        } else {
            UNIX_EPOCH.checked_sub(whole)
        };
        base.and_then(|base| base.checked_add(Duration::from_nanos(time.nanos.into())))
            .unwrap_or(UNIX_EPOCH)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}", self.seconds, self.nanos)
    }
}

impl FromStr for Timestamp {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let parse = || {
            let (seconds, nanos) = text.split_once('.')?;
            if nanos.len() != 9 || !nanos.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            Timestamp::new(seconds.parse().ok()?, nanos.parse().ok()?).ok()
        };
        parse().ok_or_else(|| invalid("<seconds>.<9 digits>"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blob_name_is_the_sha1_of_the_bytes() {
        let name = BlobName::of(b"abc");
        assert_eq!(name.to_string(), "a9993e364706816aba3e25717850c26c9cd0d89d");
        assert_eq!(name.to_string().parse::<BlobName>().unwrap(), name);
        assert_eq!(name.file_name(), format!("{name}.asc"));
        assert_eq!(name.short(), "a9993e36");
    }

    #[test]
    fn malformed_ids_are_refused() {
        assert!("a999".parse::<BlobName>().is_err());
        assert!("zz".repeat(20).parse::<BlobName>().is_err());
        assert!("\u{e9}".repeat(20).parse::<BlobName>().is_err());
        assert!("DEADBEEF".parse::<Fingerprint>().is_err());
        assert!(Fingerprint::from_bytes(&[0; 16]).is_err());
        assert!("post".parse::<BlobKind>().is_err());
    }

    #[test]
    fn timestamps_keep_nanoseconds_and_times_before_1970() {
        let ends = [
            "-9223372036854775808.000000000",
            "-9223372036854775808.000000001",
            "-9223372036854775807.000000000",
            "9223372036854775807.999999999",
        ];
        let common = ["1763740800.000000001", "-1.500000000", "0.000000000"];
        for text in common.into_iter().chain(ends) {
            let time: Timestamp = text.parse().unwrap();
            assert_eq!(time.to_string(), text);
            assert_eq!(Timestamp::from(std::time::SystemTime::from(time)), time);
        }
        for text in ["1", "1.5", "1.1000000000", "x.000000000", "1.+00000000"] {
            assert!(text.parse::<Timestamp>().is_err(), "{text}");
        }
    }
}
