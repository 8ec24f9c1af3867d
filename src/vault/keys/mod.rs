//! `keys/`: certificates in and out of the store, and the pins that follow from them.

pub(super) mod claims;
pub(super) mod folder;
mod mine;
mod problems;
mod succession;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::contacts::{Claimed, Contact, ContactName, Contacts, Notice};
use crate::error::{Error, Kind, Result};
use crate::ids::{Fingerprint, Timestamp};
use crate::openpgp::{CertIndex, Certificate, Identity, holds_secret_key};
use crate::store::{self, FileName};
use crate::vault::Vault;
use crate::vault::audience::{People, Who};
use crate::vault::disk::folder_error;
use crate::vault::keys::claims::{called, claim};
use crate::vault::keys::folder::{Arrived, KeyFolder};
use crate::vault::keys::succession::{endorsers, revoked_by_others};

pub use folder::KEY_FILE_LIMIT;

impl Vault {
    /// Reads changed files of `keys/`, pins newcomers, and judges everything anew if other people are
    /// known after that. Without a listing the known contents of the files stay.
    pub(super) fn refresh_keys(
        &self,
        folder: &mut KeyFolder,
        listed: Option<Vec<store::KeyFile>>,
    ) -> Result<()> {
        let edited = self.contacts.lock().refresh();
        // A file that was damaged by hand while we run changes nothing, and is reported.
        let damaged = edited.as_ref().err().map(ToString::to_string);
        let reported = damaged == folder.damaged_pins;
        folder.damaged_pins.clone_from(&damaged);
        let edited = edited.unwrap_or(false);
        if edited {
            folder.kept.clear();
            folder.forget_stamps();
        }
        let in_touch = std::mem::take(&mut self.known().in_touch);
        // If it cannot be saved, those of whom more arrives are noted at the next mount.
        let _ = self.contacts.lock().note_used(&in_touch);
        let mine = self.my_fingerprints();
        let known = self.known_keys(&mine);
        let arrived = match listed {
            Some(listed) => {
                folder.ask_for(endorsers(
                    folder,
                    &self.contacts.lock(),
                    &self.my_certificates(),
                ));
                folder.reread(&*self.store, listed, &known, &mine, || {
                    self.progress.openings.is_stopped()
                })
            }
            None => Arrived::default(),
        };
        if !arrived.changed && !arrived.read && folder.applied && reported && !edited {
            return Ok(());
        }
        if arrived.changed || edited {
            folder.events.clear();
        }
        // Until all of it took effect, the next look begins anew.
        folder.applied = false;
        let saved = self.apply_keys(folder, &arrived.of_known, damaged);
        folder.applied = saved.is_ok();
        saved
    }

    fn my_certificates(&self) -> Vec<Certificate> {
        self.identities.iter().map(Identity::certificate).collect()
    }

    /// The mail addresses in my certificates.
    pub(in crate::vault) fn my_addresses(&self) -> Vec<String> {
        let mine = self.my_certificates();
        let user_ids = mine.iter().flat_map(Certificate::user_ids);
        user_ids.filter_map(|user_id| user_id.email).collect()
    }

    /// Fingerprints of contacts, current and past, and mine.
    fn known_keys(&self, mine: &[Fingerprint]) -> BTreeSet<Fingerprint> {
        let contacts = self.contacts.lock();
        let all = contacts.iter().flat_map(Contact::certificates);
        all.chain(mine).cloned().collect()
    }

    /// Makes the read files take effect, also where that cannot be saved.
    fn apply_keys(
        &self,
        folder: &mut KeyFolder,
        arrived: &[Certificate],
        damaged: Option<String>,
    ) -> Result<()> {
        let mut contacts = self.contacts.lock();
        let mut saved = Ok(());
        let mut notices = folder.problems();
        notices.extend(self.learn_mine(&mut contacts, arrived));
        let known = self.known_copies(folder, &mut contacts, arrived, damaged.is_none());
        keep_first(&mut saved, known.map(|more| notices.extend(more)));
        if damaged.is_none() {
            match self.observe(folder, &mut contacts) {
                Ok(found) => sort_notices(found, folder, &mut notices),
                Err(error) => keep_first(&mut saved, Err(error)),
            }
            // The copies of new contacts first: one may arrive together with its revocation.
            let known = self.known_copies(folder, &mut contacts, &[], true);
            keep_first(&mut saved, known.map(|more| notices.extend(more)));
            let revoked = revoked_by_others(folder, &self.my_certificates());
            if !revoked.is_empty() {
                notices.extend(self.learn_mine(&mut contacts, &revoked));
                let known = self.known_copies(folder, &mut contacts, &revoked, true);
                keep_first(&mut saved, known.map(|more| notices.extend(more)));
            }
            let followed = self.follow_successors(folder, &mut contacts);
            let followed = followed.map(|found| sort_notices(found, folder, &mut notices));
            keep_first(&mut saved, followed);
        }
        notices.extend(folder.events.iter().cloned());
        let mine = self.identities.iter().map(Identity::certificate);
        let pinned = contacts.iter().flat_map(Contact::certificates);
        let pinned = pinned.filter_map(|key| folder.kept.get(key).cloned());
        let all: Vec<Certificate> = mine.chain(pinned).collect();
        let called = called(&self.identities);
        let people = Arc::new(self.people_of(called, &contacts));
        drop(contacts);

        notices.extend(damaged);
        notices.extend(self.publish_mine(folder));
        notices.extend(taken_out(folder, &people));
        notices.sort();
        notices.dedup();
        let index = CertIndex::new(all.iter().cloned());
        let changed = {
            let mut known = self.known();
            let changed = index.changed_since(&known.certificates);
            known.people = people;
            let by_key = |one: Certificate| (one.fingerprint(), one);
            known.recipients = all.into_iter().map(by_key).collect();
            known.certificates = Arc::new(index);
            known.key_notices = notices;
            changed
        };
        self.judge_again(&changed);
        saved
    }

    /// Pins newcomers, and lets contacts claim the addresses in their certificates.
    fn observe(&self, folder: &KeyFolder, contacts: &mut Contacts) -> Result<Vec<Notice>> {
        let mine = self.my_fingerprints();
        let own = self.identities.iter().map(Identity::certificate);
        let current = contacts.iter().map(|contact| &contact.fingerprint);
        let current = current.filter_map(|key| folder.kept.get(key).cloned());
        let mut claimed: Vec<Claimed> = own.chain(current).map(|one| claim(&one)).collect();
        let pinned = contacts.iter().flat_map(Contact::certificates);
        let known = pinned.chain(&mine).cloned().collect();
        for certificate in folder.strangers(&known) {
            // Its owner may have been a contact once, and have revoked the key then.
            let former = contacts.former_certificate(&certificate.fingerprint());
            let former = former.and_then(|bytes| Certificate::read_kept(&bytes).ok());
            let together = former.and_then(|former| former.grown(&certificate).ok());
            claimed.push(claim(&together.unwrap_or(certificate)));
        }
        let taken: Vec<_> = self.options.groups.names().cloned().collect();
        let now = Timestamp::now().seconds().unsigned_abs();
        contacts.observe(&claimed, &mine, &taken, self.options.trust, now)
    }

    /// Lets contacts' certificates grow by the arrived copies: subkeys, another expiry, revocations.
    /// A kept copy is never replaced by a smaller one.
    fn known_copies(
        &self,
        folder: &mut KeyFolder,
        contacts: &mut Contacts,
        arrived: &[Certificate],
        save: bool,
    ) -> Result<Vec<String>> {
        let mut notices = Vec::new();
        let mut saved = Ok(());
        let pinned = contacts.iter().flat_map(Contact::certificates);
        let pinned: Vec<Fingerprint> = pinned.cloned().collect();
        for key in &pinned {
            let newly_read = !folder.kept.contains_key(key);
            if newly_read {
                match read_kept(contacts, key) {
                    Ok(Some(copy)) => drop(folder.kept.insert(key.clone(), copy)),
                    Ok(None) => {}
                    Err(sentence) => {
                        // Nothing takes its place: it may have known of a revocation.
                        notices.push(sentence);
                        continue;
                    }
                }
            }
            for copy in arrived.iter().filter(|copy| copy.fingerprint() == *key) {
                let grown = match folder.kept.get(key) {
                    Some(kept) => kept.grown(copy),
                    None => copy.grown(copy),
                };
                match grown {
                    Ok(grown) => drop(folder.kept.insert(key.clone(), grown)),
                    Err(error) => {
                        let name = contacts.by_fingerprint(key);
                        let name = name.map_or_else(|| key.to_string(), |c| c.name.to_string());
                        notices.push(format!(
                            "a certificate of {name} is not taken over: {error}"
                        ));
                    }
                }
            }
            if let (Some(kept), true) = (folder.kept.get(key), save) {
                let bytes = kept.to_bytes();
                if contacts.certificate(key) != Some(&bytes) {
                    keep_first(&mut saved, contacts.set_certificate(key, &bytes));
                }
            }
        }
        folder.kept.retain(|key, _| pinned.contains(key));
        saved.map(|()| notices)
    }

    /// Everybody whom I know, with my own addresses.
    pub(super) fn people_of(
        &self,
        called: Vec<(Fingerprint, ContactName)>,
        contacts: &Contacts,
    ) -> People {
        let people = People::new(called, contacts, self.options.groups.clone());
        people.with_my_addresses(self.my_addresses())
    }

    /// Stores certificates in `keys/` after checking them, and pins the new ones. Returns the name of
    /// the file that holds them, or the first of them.
    ///
    /// Under a name that certificates can have in the store they stay as they are. Under any other
    /// each is stored by itself, as `<fingerprint>.asc`. An existing file is only replaced by
    /// certificates of the same primary keys, and the two are merged, so that no revocation is
    /// lost.
    ///
    /// # Errors
    /// `Invalid` for a secret key, for anything but certificates, or for other keys than the file
    /// holds; `TooLarge` above [`KEY_FILE_LIMIT`]. Nothing is stored then.
    pub fn put_key(&self, name: &FileName, bytes: &[u8]) -> Result<FileName> {
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
        let certificates = Certificate::parse_all(bytes).map_err(|error| {
            let helps = "keys/ takes OpenPGP certificates only, such as gpg --export writes";
            Error::new(error.kind(), format!("{error}; {helps}"))
        })?;
        let stored = if store::is_candidate(name) {
            self.put_certificates(name, merged(&certificates), Some(bytes))?;
            name.clone()
        } else {
            let own = |one: &Fingerprint| FileName::new(format!("{one}.asc"));
            for (fingerprint, certificate) in merged(&certificates) {
                let alone = BTreeMap::from([(fingerprint.clone(), certificate)]);
                self.put_certificates(&own(&fingerprint)?, alone, None)?;
            }
            own(&certificates[0].fingerprint())?
        };
        self.refresh()?;
        Ok(stored)
    }

    /// Lists the files of `keys/` that may hold certificates.
    ///
    /// # Errors
    /// Any error of the disk.
    pub fn key_files(&self) -> Result<Vec<store::KeyFile>> {
        self.store.keys()
    }

    /// Reads a file of `keys/` of at most [`KEY_FILE_LIMIT`] bytes.
    ///
    /// # Errors
    /// `NotFound`; `TooLarge`; any error of the disk.
    pub fn read_key_file(&self, name: &FileName) -> Result<Vec<u8>> {
        self.store.read_key(name, KEY_FILE_LIMIT)
    }

    /// Unlinks a file of `keys/` durably.
    ///
    /// # Errors
    /// `NotFound`; any error of the disk.
    pub fn remove_key_file(&self, name: &FileName) -> Result<()> {
        self.store.remove_key(name)
    }

    /// Stores certificates in one file, merged with its contents; `as_given` if it has none.
    fn put_certificates(
        &self,
        name: &FileName,
        new: BTreeMap<Fingerprint, Certificate>,
        as_given: Option<&[u8]>,
    ) -> Result<()> {
        let old = match self.store.read_key(name, KEY_FILE_LIMIT) {
            Ok(old) => merged(&Certificate::parse_all(&old).unwrap_or_default()),
            Err(error) if error.kind() == Kind::NotFound => BTreeMap::new(),
            Err(error) => return Err(folder_error(error)),
        };
        if let (true, Some(given)) = (old.is_empty(), as_given) {
            return self.store.put_key(name, given).map_err(folder_error);
        }
        if !old.is_empty() && !old.keys().eq(new.keys()) {
            let other = "this file holds another key; copy the new one under another name";
            return Err(Error::new(Kind::Invalid, other));
        }
        let armored = name.as_bytes().ends_with(b".asc");
        let mut both = Vec::new();
        for (fingerprint, certificate) in new {
            let certificate = match old.get(&fingerprint) {
                Some(known) => known.merge(&certificate)?,
                None => certificate,
            };
            both.extend(match armored {
                true => certificate.to_armored(),
                false => certificate.to_bytes(),
            });
        }
        self.store.put_key(name, &both).map_err(folder_error)
    }

    /// Returns the certificate that receives for the owner of `key`.
    ///
    /// # Errors
    /// `NoKey` for somebody unknown, `KeyRejected` for a pin in dispute, else those of
    /// [`Certificate::check_encryption`].
    pub(super) fn recipient(&self, people: &People, key: &Fingerprint) -> Result<Certificate> {
        let name = people.name(key);
        match people.owner(key) {
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
        let certificate = self.known().recipients.get(key).cloned();
        let Some(certificate) = certificate else {
            return Err(Error::new(Kind::NoKey, format!("{name}: no certificate")));
        };
        certificate
            .check_encryption()
            .map_err(|error| error.context(&name))?;
        Ok(certificate)
    }
}

/// Adds notices about the present state to `notices`, and keeps notices about events until the next
/// change.
fn sort_notices(found: Vec<Notice>, folder: &mut KeyFolder, notices: &mut Vec<String>) {
    for notice in found {
        match notice {
            // `people_notices` reports an unconfirmed contact, and `key_problems` one in dispute, as
            // long as that lasts.
            Notice::Pinned { .. } | Notice::Disputed { .. } => {}
            Notice::Named { .. } | Notice::MadeRoom { .. } | Notice::Succeeded { .. } => {
                folder.events.push(notice.to_string());
            }
            Notice::Contested { .. } | Notice::TooMany { .. } | Notice::NotPinned { .. } => {
                notices.push(notice.to_string());
            }
        }
    }
}

/// Reads the copy that is kept of a contact's certificate; an error is a sentence.
fn read_kept(
    contacts: &Contacts,
    key: &Fingerprint,
) -> std::result::Result<Option<Certificate>, String> {
    let Some(bytes) = contacts.certificate(key) else {
        return Ok(None);
    };
    match Certificate::read_kept(bytes) {
        Ok(copy) => Ok(Some(copy)),
        Err(error) => {
            let name = contacts.by_fingerprint(key);
            let name = name.map_or_else(|| key.to_string(), |contact| contact.name.to_string());
            Err(format!(
                "the kept copy of the certificate of {name} is damaged ({error}), and no other \
                 takes its place: compare the fingerprint {key} with its owner, then remove \
                 certificates/{key}.pgp beside contacts.toml"
            ))
        }
    }
}

/// Sentences about contacts whose certificates were taken out of `keys/`.
fn taken_out(folder: &KeyFolder, people: &People) -> Vec<String> {
    if !folder.is_complete() {
        return Vec::new();
    }
    let gone = people.contacts();
    let gone = gone.filter(|contact| !folder.has(&contact.fingerprint));
    gone.map(|contact| {
        let name = &contact.name;
        format!(
            "the certificate of {name} is not in keys/ any more, and {name} stays a contact: if \
             others took it out because {name} is to read nothing new, take {name} out of \
             contacts.toml, too"
        )
    })
    .collect()
}

/// Keeps the first of several errors.
fn keep_first(first: &mut Result<()>, next: Result<()>) {
    if first.is_ok() {
        *first = next;
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
