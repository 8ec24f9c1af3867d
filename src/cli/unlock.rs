//! Unlocking my keys.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::config::Config;
use super::passphrase::Source;
use super::{Exit, Failure, Outcome, paths};
use crate::error::{Error, Kind};
use crate::openpgp::Identity;

/// Reads and unlocks the key files, asking for a passphrase where one is needed.
pub(super) fn unlock(
    keys: &[PathBuf],
    passphrase: &Source,
    config: &Config,
) -> Outcome<Vec<Identity>> {
    let mut files = keys.to_vec();
    if files.is_empty() {
        files = config
            .keys
            .iter()
            .map(|file| paths::expand(file))
            .collect::<Outcome<_>>()?;
    }
    if files.is_empty() {
        files.push(paths::config_dir()?.join("identity.asc"));
    }
    let mut given = None;
    files
        .iter()
        .map(|file| unlock_one(file, passphrase, &mut given))
        .collect()
}

/// Unlocks one key file. `given` is the passphrase of `--passphrase-command` or
/// `--passphrase-fd`, which is fetched once and tried on every key.
fn unlock_one(
    file: &Path,
    source: &Source,
    given: &mut Option<crate::plaintext::Passphrase>,
) -> Outcome<Identity> {
    let shown = file.display();
    let bytes = read_key_file(file).map_err(|error| {
        Failure::new(Exit::Setup, format!("key {shown}: {error}"))
            .hint("dds init makes an identity; --key FILE names another")
    })?;
    let unreadable = |error: Error| {
        Failure::new(Exit::Setup, format!("key {shown}: {error}"))
            .hint("--key FILE takes a secret key, such as gpg --export-secret-keys writes")
    };
    if !Identity::is_locked(&bytes).map_err(unreadable)? {
        return Identity::unlock(&bytes, None).map_err(unreadable);
    }
    let asked;
    let passphrase = if source.is_given() {
        if given.is_none() {
            *given = Some(source.get("", false)?);
        }
        given.as_ref().expect("filled above")
    } else {
        asked = source.get(&format!("passphrase for {shown}: "), false)?;
        &asked
    };
    Identity::unlock(&bytes, Some(passphrase)).map_err(|error| match error.kind() {
        Kind::WrongPassphrase => {
            Failure::new(Exit::Passphrase, format!("key {shown}: wrong passphrase"))
                .hint("the key was not unlocked and nothing was mounted; try again")
        }
        _ => unreadable(error),
    })
}

/// Bytes in the largest key file that is read.
const KEY_FILE_LIMIT: u64 = 1 << 20;

fn read_key_file(file: &Path) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(16 << 10));
    File::open(file)?
        .take(KEY_FILE_LIMIT + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > KEY_FILE_LIMIT {
        return Err(std::io::Error::other("larger than any key"));
    }
    Ok(bytes)
}
