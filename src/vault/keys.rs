//! `keys/`: certificates in and out of the store, and the pins that follow from them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::contacts::{self, Claimed, ClaimedUserId, ContactName};
use crate::error::{Error, Kind, Result, printable};
use crate::ids::{Fingerprint, Timestamp};
use crate::openpgp::{CertIndex, Certificate, Identity, holds_secret_key};
use crate::store::{self, FileName, Stamp};
use crate::vault::audience::{People, Who};
use crate::vault::{Vault, folder_error, lock};

/// Bytes of the largest file in `keys/` that is looked at.
pub const KEY_FILE_LIMIT: u64 = 1 << 20;

/// Tells whether a file of this name in `keys/` may hold certificates.
pub fn is_key_file_name(name: &str) -> bool {
    [".gpg", ".asc", ".pgp"]
        .iter()
        .any(|ending| name.len() > ending.len() && name.to_ascii_lowercase().ends_with(ending))
}

/// What the files of `keys/` held when they were last looked at.
#[derive(Default)]
pub(super) struct KeyFolder {
    files: HashMap<FileName, KeyFile>,
    /// What is wrong with the pins' file, if it was damaged while we run.
    damaged_pins: Option<String>,
    /// Pins were derived from these files at least once.
    applied: bool,
}

struct KeyFile {
    stamp: Stamp,
    certificates: Vec<Certificate>,
    problem: Option<String>,
}

impl Vault {
    /// Reads what changed in `keys/`, pins newcomers, and judges everything anew if that changed
    /// whom I know. Without a listing what the files are known to hold stays.
    pub(super) fn refresh_keys(
        &self,
        folder: &mut KeyFolder,
        listed: Option<Vec<store::KeyFile>>,
    ) -> Result<()> {
        let edited = lock(&self.contacts).refresh();
        // A file that was damaged by hand while we run changes nothing, and is told.
        let damaged = edited.as_ref().err().map(ToString::to_string);
        let told = damaged == folder.damaged_pins;
        folder.damaged_pins.clone_from(&damaged);
        if !self.reread(folder, listed) && folder.applied && told && !edited.unwrap_or(false) {
            return Ok(());
        }
        // Until all of it took effect, the next look begins anew.
        folder.applied = false;
        let merged = merged(folder.files.values().flat_map(|file| &file.certificates));
        let claimed: Vec<Claimed> = merged.values().map(claim).collect();
        let mine = self.my_fingerprints();
        let called = called(&self.identities);
        let groups = &self.options.groups;
        let taken: Vec<_> = groups.names().cloned().collect();
        let now = Timestamp::now().seconds().unsigned_abs();

        let mut contacts = lock(&self.contacts);
        let trust = self.options.trust;
        let found = match &damaged {
            None => match contacts.observe(&claimed, &mine, &taken, trust, now) {
                Ok(found) => found,
                Err(error) => {
                    // What is in dispute is frozen in memory at least, and must not be written to.
                    let people = Arc::new(People::new(called, &contacts, groups.clone()));
                    drop(contacts);
                    self.state().people = people;
                    return Err(error);
                }
            },
            Some(_) => Vec::new(),
        };
        // Certificates grow: new subkeys, new expiry, revocations. Pins keep the union.
        let mut all = Vec::new();
        let pinned: Vec<Fingerprint> = contacts
            .iter()
            .flat_map(|contact| std::iter::once(&contact.fingerprint).chain(&contact.past))
            .cloned()
            .collect();
        for fingerprint in pinned {
            let stored = contacts.certificate(&fingerprint);
            let stored = stored.and_then(|bytes| Certificate::parse_all(bytes).ok()?.pop());
            let certificate = match (stored, merged.get(&fingerprint)) {
                (Some(stored), Some(seen)) => stored.merge(seen)?,
                (Some(one), None) => one,
                (None, Some(one)) => one.clone(),
                (None, None) => continue,
            };
            let bytes = certificate.to_bytes();
            if damaged.is_none() && contacts.certificate(&fingerprint) != Some(&bytes) {
                contacts.set_certificate(&fingerprint, &bytes)?;
            }
            all.push(certificate);
        }
        all.extend(
            self.identities
                .iter()
                .map(|identity| identity.certificate().clone()),
        );
        let people = Arc::new(People::new(called, &contacts, groups.clone()));
        drop(contacts);

        let mut notices: Vec<String> = folder
            .files
            .values()
            .filter_map(|f| f.problem.clone())
            .collect();
        notices.extend(damaged);
        notices.extend(found.iter().map(ToString::to_string));
        let frozen = people.contacts().filter(|contact| contact.frozen);
        notices.extend(frozen.map(|contact| {
            format!(
                "{} is in dispute: two certificates claim one address",
                contact.name
            )
        }));
        notices.sort();
        notices.dedup();
        {
            let mut state = self.state();
            state.people = people;
            let by_key = |one: &Certificate| (one.fingerprint(), one.clone());
            state.recipients = all.iter().map(by_key).collect();
            state.certificates = Arc::new(CertIndex::new(all));
            state.key_notices = notices;
        }
        folder.applied = true;
        self.rejudge();
        Ok(())
    }

    /// Reads new and changed files; tells whether there were any, or any went.
    fn reread(&self, folder: &mut KeyFolder, listed: Option<Vec<store::KeyFile>>) -> bool {
        let Some(listed) = listed else {
            return false;
        };
        let before = folder.files.len();
        folder
            .files
            .retain(|name, _| listed.iter().any(|file| file.name == *name));
        let mut changed = folder.files.len() != before;
        for file in listed {
            if self.openings.is_stopped() {
                break;
            }
            if folder
                .files
                .get(&file.name)
                .is_some_and(|known| known.stamp == file.stamp)
            {
                continue;
            }
            let shown = printable(&file.name.as_os_str().to_string_lossy());
            let (certificates, problem) = match self.read_certificates(&file.name) {
                Ok(certificates) => (certificates, None),
                Err(error) => (Vec::new(), Some(format!("keys/{shown}: {error}"))),
            };
            let known = KeyFile {
                stamp: file.stamp,
                certificates,
                problem,
            };
            folder.files.insert(file.name, known);
            changed = true;
        }
        changed
    }

    fn read_certificates(&self, name: &FileName) -> Result<Vec<Certificate>> {
        let bytes = self.store().read_key(name, KEY_FILE_LIMIT)?;
        if holds_secret_key(&bytes) {
            let loud = "HOLDS A SECRET KEY: whoever has this folder has that key; \
                        remove the file and revoke the key";
            return Err(Error::new(Kind::Invalid, loud));
        }
        Certificate::parse_all(&bytes)
    }

    /// Stores a file of certificates in `keys/` after checking it, and pins what is new.
    ///
    /// An existing file is only replaced by certificates of the same primary keys, and the two
    /// are merged, so that no revocation is lost.
    ///
    /// # Errors
    /// `Invalid` for a secret key, for anything but certificates, for a wrong file name, or for
    /// other keys than the file holds; `TooLarge` above [`KEY_FILE_LIMIT`]. Nothing is stored then.
    pub fn put_key(&self, name: &FileName, bytes: &[u8]) -> Result<()> {
        if !name.as_os_str().to_str().is_some_and(is_key_file_name) {
            let rule = "files in keys/ are certificates named *.gpg, *.asc or *.pgp";
            return Err(Error::new(Kind::Invalid, rule));
        }
        if bytes.len() as u64 > KEY_FILE_LIMIT {
            return Err(Error::new(
                Kind::TooLarge,
                "a file in keys/ has at most 1 MiB",
            ));
        }
        if holds_secret_key(bytes) {
            let refused = "this is a secret key; keys/ is shared with others and takes \
                           certificates only (gpg --export, without -secret-keys)";
            return Err(Error::new(Kind::Invalid, refused));
        }
        let new = merged(&Certificate::parse_all(bytes)?);
        let old = match self.store().read_key(name, KEY_FILE_LIMIT) {
            Ok(old) => merged(&Certificate::parse_all(&old).unwrap_or_default()),
            Err(error) if error.kind() == Kind::NotFound => BTreeMap::new(),
            Err(error) => return Err(folder_error(error)),
        };
        if old.is_empty() {
            self.store().put_key(name, bytes).map_err(folder_error)?;
        } else {
            if !old.keys().eq(new.keys()) {
                let other = "this file holds another key; copy the new one under another name";
                return Err(Error::new(Kind::Invalid, other));
            }
            let armored = name.as_bytes().ends_with(b".asc");
            let mut both = Vec::new();
            for (fingerprint, certificate) in &old {
                let certificate = certificate.merge(&new[fingerprint])?;
                both.extend(match armored {
                    true => certificate.to_armored(),
                    false => certificate.to_bytes(),
                });
            }
            self.store().put_key(name, &both).map_err(folder_error)?;
        }
        self.refresh()
    }

    /// Returns the certificate to which `key`'s owner is written.
    ///
    /// # Errors
    /// `NoKey` for somebody unknown, `KeyRejected` for a pin in dispute, else what
    /// [`Certificate::check_encryption`] says.
    pub(super) fn recipient(&self, people: &People, key: &Fingerprint) -> Result<Certificate> {
        let name = people.name(key);
        match people.who(key) {
            Who::Me => {}
            Who::Contact(contact) if contact.frozen => {
                let dispute = format!(
                    "{name}: two certificates claim one address; \
                     nothing is written until you decide which is right"
                );
                return Err(Error::new(Kind::KeyRejected, dispute));
            }
            Who::Contact(contact) if contact.fingerprint != *key => {
                let past = format!("{name}: a former key, which is never written to");
                return Err(Error::new(Kind::KeyRejected, past));
            }
            Who::Contact(_) => {}
            Who::Unknown => {
                return Err(Error::new(Kind::NoKey, format!("{name}: no such contact")));
            }
        }
        let certificate = self.state().recipients.get(key).cloned();
        let Some(certificate) = certificate else {
            return Err(Error::new(Kind::NoKey, format!("{name}: no certificate")));
        };
        certificate
            .check_encryption()
            .map_err(|error| error.context(&name))?;
        Ok(certificate)
    }
}

/// Merges certificates of one primary key, from however many files.
fn merged<'a>(
    certificates: impl IntoIterator<Item = &'a Certificate>,
) -> BTreeMap<Fingerprint, Certificate> {
    let mut merged: BTreeMap<Fingerprint, Certificate> = BTreeMap::new();
    for certificate in certificates {
        let fingerprint = certificate.fingerprint();
        let together = match merged.get(&fingerprint) {
            Some(known) => known.merge(certificate).unwrap_or_else(|_| known.clone()),
            None => certificate.clone(),
        };
        merged.insert(fingerprint, together);
    }
    merged
}

/// My keys with the names that others give them on first sight.
pub(super) fn called(identities: &[Identity]) -> Vec<(Fingerprint, ContactName)> {
    let called = |identity: &Identity| {
        let name = contacts::first_name(&claim(identity.certificate()));
        (identity.fingerprint(), name)
    };
    identities.iter().map(called).collect()
}

fn claim(certificate: &Certificate) -> Claimed {
    let user_ids = certificate.user_ids().into_iter();
    Claimed {
        fingerprint: certificate.fingerprint(),
        user_ids: user_ids
            .map(|user_id| ClaimedUserId {
                text: user_id.text,
                email: user_id.email,
                name: user_id.name,
            })
            .collect(),
        certificate: certificate.to_bytes(),
    }
}
