//! Unlocking my keys.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
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
    let mut given = None;
    if keys.is_empty() {
        let files = configured(config)?.into_iter();
        let unlocked = files.map(|file| {
            must_be_private(&file)?;
            unlock_one(&file, passphrase, &mut given)
        });
        return unlocked.collect::<Outcome<_>>().map(with_roles);
    }
    let files = keys.iter();
    let unlocked = files.map(|file| unlock_one(file, passphrase, &mut given));
    unlocked.collect::<Outcome<_>>().map(with_roles)
}

/// The first identity writes; the others are those of former times, and only read.
fn with_roles(identities: Vec<Identity>) -> Vec<Identity> {
    let identities = identities.into_iter().enumerate();
    let with_role = |(place, identity): (usize, Identity)| match place {
        0 => identity,
        _ => identity.into_former(),
    };
    identities.map(with_role).collect()
}

/// The key files without `--key`: those of the configuration, else `identity.asc` beside it.
pub(super) fn configured(config: &Config) -> Outcome<Vec<PathBuf>> {
    if config.keys.is_empty() {
        return Ok(vec![paths::config_dir()?.join("identity.asc")]);
    }
    let files = config.keys.iter();
    files.map(|file| paths::expand(file)).collect()
}

/// Refuses a key of mine that others can read, as ssh does. One that is not there, or is somebody
/// else's, is told or used by whoever opens it.
pub(super) fn must_be_private(file: &Path) -> Outcome<()> {
    let Ok(found) = std::fs::metadata(file) else {
        return Ok(());
    };
    let mode = found.mode() & 0o777;
    if found.uid() != rustix::process::geteuid().as_raw() || mode & 0o077 == 0 {
        return Ok(());
    }
    let shown = file.display();
    let why = format!("key {shown}: others can read it, its mode is {mode:04o}");
    Err(Failure::new(Exit::Setup, why).hint(format!("chmod 600 {shown}")))
}

/// Unlocks one key file. `given` is the passphrase of `--passphrase-command` or
/// `--passphrase-fd`, which is fetched once and tried on every key.
fn unlock_one(
    file: &Path,
    source: &Source,
    given: &mut Option<crate::plaintext::Passphrase>,
) -> Outcome<Identity> {
    let shown = file.display();
    let bytes = read_key_file(file)?;
    let unreadable = |error: Error| unusable(file, &bytes, &error);
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

/// Reads a key file.
pub(super) fn read_key_file(file: &Path) -> Outcome<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(16 << 10));
    let read =
        File::open(file).and_then(|opened| opened.take(KEY_FILE_LIMIT + 1).read_to_end(&mut bytes));
    let failed = |why: String| {
        Failure::new(Exit::Setup, format!("key {}: {why}", file.display()))
            .hint("dds init makes an identity; --key FILE names another")
    };
    match read {
        Err(error) => Err(failed(error.to_string())),
        Ok(_) if bytes.len() as u64 > KEY_FILE_LIMIT => {
            Err(failed("larger than any key".to_owned()))
        }
        Ok(_) => Ok(bytes),
    }
}

/// Says why the bytes of a key file cannot be used, and what makes them usable.
pub(super) fn unusable(file: &Path, bytes: &[u8], error: &Error) -> Failure {
    let blank = bytes.iter().all(u8::is_ascii_whitespace);
    let shown = file.display();
    let (why, hint) = match (error.kind(), blank) {
        (_, true) => (
            "the file is empty: nothing was exported into it".to_owned(),
            "gpg --list-secret-keys shows what gpg has; remove the file, and export again"
                .to_owned(),
        ),
        (Kind::NoKey, false) => (
            error.to_string(),
            "gpg --export-secret-keys writes a secret key; gpg --export only the certificate"
                .to_owned(),
        ),
        (Kind::Unsupported, false) => (
            error.to_string(),
            format!(
                "gpg --import {shown}, then gpg --armor --export-secret-keys writes it protected \
                 by AES; what gpg does not take, ask of the program that made the key: AES \
                 without AEAD"
            ),
        ),
        _ => (
            error.to_string(),
            "it must hold one secret key, such as gpg --export-secret-keys writes".to_owned(),
        ),
    };
    Failure::new(Exit::Setup, format!("key {shown}: {why}")).hint(hint)
}
