//! The one error type of the library.
//!
//! An [`Error`] is a [`Kind`], which decides the errno and the exit code, and a sentence for
//! people. The sentence may name files of the view; it appears in `.dds/errors` (which lives in
//! RAM) and to the terminal, never to a log.

mod text;

use std::io;

pub use text::{judged, printable, skeleton};

/// Result of the library's calls.
pub type Result<T> = std::result::Result<T, Error>;

/// The kind of a failure, as far as a caller may act on it.
///
/// `fuse/errno.rs` maps each kind to its errno without a catch-all, so a new kind does not
/// compile until its errno is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// No such file, contact or key.
    NotFound,
    /// A file of that name exists.
    Exists,
    /// A directory was needed.
    NotDirectory,
    /// A file was needed.
    IsDirectory,
    /// The directory holds something.
    NotEmpty,
    /// A rule of the view forbids it, for everybody.
    Forbidden,
    /// The file may be read but not changed.
    ReadOnlyFile,
    /// This part of the view is read-only.
    ReadOnlyTree,
    /// Across audiences: copy and delete instead.
    CrossAudience,
    /// In use, or a directory that always exists.
    Busy,
    /// An argument that can never be right, such as a secret key copied into `keys/`.
    Invalid,
    /// A name longer than 255 bytes.
    NameTooLong,
    /// Larger than the limit, or a decompression bomb.
    TooLarge,
    /// Not offered (yet).
    Unsupported,
    /// No such extended attribute.
    NoAttribute,
    /// The caller's buffer is too small for the attribute.
    BufferTooSmall,
    /// A file handle that is not open in that way.
    BadHandle,
    /// No usable key: an audience member has none, or mine is locked.
    NoKey,
    /// A member's certificate is expired.
    KeyExpired,
    /// A member's certificate is revoked.
    KeyRevoked,
    /// A member's certificate is not the pinned one, or the pin is in dispute.
    KeyRejected,
    /// The blob is damaged, of a refused kind, or not authenticated.
    Damaged,
    /// The passphrase does not open the key.
    WrongPassphrase,
    /// A file of ours (configuration, pins) that cannot be understood.
    BadConfig,
    /// The disk is full, or the quota is used up.
    NoSpace,
    /// The disk is mounted read-only; no rule of the view says so.
    DiskReadOnly,
    /// The operating system refuses it to this user; no rule of the view says so.
    DiskForbids,
    /// The disk or the kernel failed.
    Io,
}

/// A kind and a sentence for people: lower case, no full stop.
#[derive(Debug, thiserror::Error)]
#[error("{sentence}")]
pub struct Error {
    kind: Kind,
    sentence: String,
    #[source]
    source: Option<io::Error>,
}

impl Error {
    /// Makes an error from its kind and a sentence (lower case, no full stop).
    pub fn new(kind: Kind, sentence: impl Into<String>) -> Self {
        Error {
            kind,
            sentence: sentence.into(),
            source: None,
        }
    }

    /// Wraps an error of the operating system with words for the attempt.
    pub fn io(doing: &str, source: io::Error) -> Self {
        let kind = match source.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT) => Kind::NoSpace,
            Some(libc::ENOENT) => Kind::NotFound,
            Some(libc::EEXIST) => Kind::Exists,
            Some(libc::EROFS) => Kind::DiskReadOnly,
            Some(libc::EACCES | libc::EPERM) => Kind::DiskForbids,
            Some(libc::EFBIG) => Kind::TooLarge,
            // Whatever else the system says, the caller can only try again: EIO.
            _ => Kind::Io,
        };
        Error {
            kind,
            sentence: format!("{doing}: {source}"),
            source: Some(source),
        }
    }

    /// Returns the kind, on which a caller may act.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Puts words before the sentence, keeping the kind.
    #[must_use]
    pub fn context(mut self, words: &str) -> Self {
        self.sentence = format!("{words}: {}", self.sentence);
        self
    }
}

/// Lets our errors pass through `std::io`'s traits; the sentence is kept, the errno is not.
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        match error.kind {
            Kind::NoSpace => io::Error::new(io::ErrorKind::StorageFull, error),
            _ => io::Error::other(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disk_full_keeps_its_kind() {
        let full = io::Error::from_raw_os_error(libc::ENOSPC);
        assert_eq!(Error::io("writing", full).kind(), Kind::NoSpace);
    }

    #[test]
    fn a_refusal_of_the_system_is_no_rule_of_the_view() {
        for (errno, kind) in [
            (libc::EROFS, Kind::DiskReadOnly),
            (libc::EACCES, Kind::DiskForbids),
            (libc::EPERM, Kind::DiskForbids),
        ] {
            let error = Error::io("writing", io::Error::from_raw_os_error(errno));
            assert_eq!(error.kind(), kind, "{errno}");
        }
    }
}
