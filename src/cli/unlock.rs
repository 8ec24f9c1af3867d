//! Choosing the key files, asking for their passphrases, and the remedies if a key cannot be used.

use std::path::{Path, PathBuf};

use super::config::Config;
use super::passphrase::Source;
use super::{Exit, Failure, Outcome, paths};
use crate::daemon::unlock::{self, KeyFileError, KeyFileProblem, must_be_private};
use crate::error::Kind;
use crate::openpgp::Identity;
use crate::plaintext::Passphrase;

/// Reads and unlocks the key files, asking for a passphrase where one is needed.
pub(super) fn unlock(
    keys: &[PathBuf],
    passphrase: &Source,
    config: &Config,
) -> Outcome<Vec<Identity>> {
    let mut given = None;
    if keys.is_empty() {
        let files = configured(config)?.into_iter();
        return files
            .map(|file| {
                must_be_private(&file)?;
                unlock_one(&file, passphrase, &mut given)
            })
            .collect();
    }
    let files = keys.iter();
    files
        .map(|file| unlock_one(file, passphrase, &mut given))
        .collect()
}

/// The key files without `--key`: those of the configuration, else `identity.asc` beside it.
pub(super) fn configured(config: &Config) -> Outcome<Vec<PathBuf>> {
    if config.keys.is_empty() {
        return Ok(vec![paths::config_dir()?.join("identity.asc")]);
    }
    let files = config.keys.iter();
    files.map(|file| paths::expand(file)).collect()
}

/// Unlocks one key file. `given` is the passphrase of `--passphrase-command` or
/// `--passphrase-fd`, which is fetched once and tried on every key.
fn unlock_one(file: &Path, source: &Source, given: &mut Option<Passphrase>) -> Outcome<Identity> {
    let mut asked = None;
    unlock::unlock(file, || {
        if !source.is_given() {
            let prompt = format!("passphrase for {}: ", file.display());
            return Ok(&*asked.insert(source.get(&prompt, false)?));
        }
        if given.is_none() {
            *given = Some(source.get("", false)?);
        }
        Ok(given.as_ref().expect("filled above"))
    })
}

/// Adds the exit code and a remedy.
impl From<KeyFileError> for Failure {
    fn from(error: KeyFileError) -> Self {
        let shown = error.file.display();
        let (exit, hint) = match &error.problem {
            KeyFileProblem::Exposed(_) => (Exit::Setup, format!("chmod 600 {shown}")),
            KeyFileProblem::Unreadable(_) | KeyFileProblem::TooLarge => (
                Exit::Setup,
                "dds init makes an identity; --key FILE names another".to_owned(),
            ),
            KeyFileProblem::WrongPassphrase => (
                Exit::Passphrase,
                "the key was not unlocked and nothing was mounted; try again".to_owned(),
            ),
            KeyFileProblem::Empty => (
                Exit::Setup,
                "gpg --list-secret-keys shows what gpg has; remove the file, and export again"
                    .to_owned(),
            ),
            KeyFileProblem::Unusable(why) => {
                let hint = match why.kind() {
                    Kind::NoKey => "gpg --export-secret-keys writes a secret key; gpg --export \
                                    only the certificate"
                        .to_owned(),
                    Kind::Unsupported => format!(
                        "gpg --import {shown}, then gpg --armor --export-secret-keys writes it \
                         protected by AES; what gpg does not take, ask of the program that made \
                         the key: AES without AEAD"
                    ),
                    _ => "it must hold one secret key, such as gpg --export-secret-keys writes"
                        .to_owned(),
                };
                (Exit::Setup, hint)
            }
        };
        Failure::new(exit, error.to_string()).hint(hint)
    }
}
