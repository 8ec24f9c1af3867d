//! How failures of the store's disk are reported.

use crate::error::{Error, Kind};

/// Reports a folder of the store that is no directory as a disk that fails: in the view it is a
/// directory.
pub(super) fn folder_error(error: Error) -> Error {
    match error.kind() {
        Kind::NotDirectory => Error::new(Kind::Io, error.to_string()),
        _ => error,
    }
}
