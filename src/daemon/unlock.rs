//! Unlocking my keys: reading key files, and opening them with a passphrase.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::error::{Error, Kind};
use crate::openpgp::Identity;
use crate::plaintext::Passphrase;

/// Bytes in the largest key file that is read.
const KEY_FILE_LIMIT: u64 = 1 << 20;

/// A key file that cannot be used.
#[derive(Debug)]
pub struct KeyFileError {
    /// The file.
    pub file: PathBuf,
    /// The reason.
    pub problem: KeyFileProblem,
}

/// The reason why a key file cannot be used.
#[derive(Debug)]
pub enum KeyFileProblem {
    /// Others can read it; its mode.
    Exposed(u32),
    /// The disk refuses it.
    Unreadable(std::io::Error),
    /// It is larger than any key.
    TooLarge,
    /// It holds nothing.
    Empty,
    /// The passphrase does not open it.
    WrongPassphrase,
    /// It holds no key that can be used: the library's reason.
    Unusable(Error),
}

impl fmt::Display for KeyFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key {}: ", self.file.display())?;
        match &self.problem {
            KeyFileProblem::Exposed(mode) => {
                write!(f, "others can read it, its mode is {mode:04o}")
            }
            KeyFileProblem::Unreadable(error) => error.fmt(f),
            KeyFileProblem::TooLarge => f.write_str("larger than any key"),
            KeyFileProblem::Empty => f.write_str("the file is empty: nothing was exported into it"),
            KeyFileProblem::WrongPassphrase => f.write_str("wrong passphrase"),
            KeyFileProblem::Unusable(error) => error.fmt(f),
        }
    }
}

fn failed(file: &Path, problem: KeyFileProblem) -> KeyFileError {
    KeyFileError {
        file: file.to_owned(),
        problem,
    }
}

/// Refuses a key of mine that others can read, as ssh does. A key that is missing or belongs to
/// another user is left to the code that opens it.
///
/// # Errors
/// [`KeyFileProblem::Exposed`].
pub fn must_be_private(file: &Path) -> Result<(), KeyFileError> {
    let Ok(found) = std::fs::metadata(file) else {
        return Ok(());
    };
    let mode = found.mode() & 0o777;
    if found.uid() != rustix::process::geteuid().as_raw() || mode & 0o077 == 0 {
        return Ok(());
    }
    Err(failed(file, KeyFileProblem::Exposed(mode)))
}

/// Reads and unlocks a key file. `passphrase` is called only if the key is locked.
///
/// # Errors
/// The file's problem, or the failure of `passphrase`.
pub fn unlock<'a, E: From<KeyFileError>>(
    file: &Path,
    passphrase: impl FnOnce() -> Result<&'a Passphrase, E>,
) -> Result<Identity, E> {
    let bytes = read_key_file(file)?;
    let unusable = |error: Error| unusable(file, &bytes, error);
    if !Identity::is_locked(&bytes).map_err(unusable)? {
        return Ok(Identity::unlock(&bytes, None).map_err(unusable)?);
    }
    let passphrase = passphrase()?;
    let unlocked = Identity::unlock(&bytes, Some(passphrase));
    Ok(unlocked.map_err(|error| match error.kind() {
        Kind::WrongPassphrase => failed(file, KeyFileProblem::WrongPassphrase),
        _ => unusable(error),
    })?)
}

/// Reads a key file.
///
/// # Errors
/// [`KeyFileProblem::Unreadable`] or [`KeyFileProblem::TooLarge`].
pub fn read_key_file(file: &Path) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(16 << 10));
    let read =
        File::open(file).and_then(|opened| opened.take(KEY_FILE_LIMIT + 1).read_to_end(&mut bytes));
    match read {
        Err(error) => Err(failed(file, KeyFileProblem::Unreadable(error))),
        Ok(_) if bytes.len() as u64 > KEY_FILE_LIMIT => Err(failed(file, KeyFileProblem::TooLarge)),
        Ok(_) => Ok(bytes),
    }
}

/// Makes an error of the bytes of a key file that the library cannot use.
pub fn unusable(file: &Path, bytes: &[u8], error: Error) -> KeyFileError {
    let problem = match bytes.iter().all(u8::is_ascii_whitespace) {
        true => KeyFileProblem::Empty,
        false => KeyFileProblem::Unusable(error),
    };
    failed(file, problem)
}
