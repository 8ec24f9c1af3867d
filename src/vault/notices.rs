//! What people should look at, as the store, its keys and its people stand at this moment.

use std::time::{Duration, Instant};

use crate::ids::{Folder, VersionId};
use crate::store::FileName;
use crate::vault::documents::Version;
use crate::vault::known::store_file::StoreFile;
use crate::vault::{Vault, lock};

/// Sentences about single blobs that are kept.
const MOST: usize = 100;
/// How long is told what is over already.
const OVER: Duration = Duration::from_secs(24 * 3600);

/// A sentence about something that happened, and how long it is told.
pub(super) struct Told {
    sentence: String,
    lasting: Lasting,
}

/// How long something is told.
pub(super) enum Lasting {
    /// Until the end of the mount, or until [`Vault::no_longer`].
    Mount,
    /// A day, as nothing is left of it that anybody could mend.
    Day(Instant),
    /// As long as this version, or a file that shows none, has this name in the store.
    Blob(Folder, FileName, VersionId),
}

impl Lasting {
    /// As long as the blob of a version is in the store.
    pub(super) fn of(version: &Version) -> Lasting {
        let name = version.entry.name.clone();
        Lasting::Blob(version.folder(), name, version.id)
    }

    /// Of what is over.
    pub(super) fn over() -> Lasting {
        Lasting::Day(Instant::now())
    }
}

impl Vault {
    /// Sentences about the state of the store, for `.dds/status`.
    pub fn notices(&self) -> Vec<String> {
        let mut notices = self.broken_folders();
        notices.extend(self.known().key_notices.iter().cloned());
        notices.extend(self.key_problems());
        notices.extend(self.shortcomings());
        notices.extend(self.people_notices());
        notices.extend(self.file_problems());
        notices.extend(self.replacements.notices());
        notices.extend(self.memory.notices());
        notices.extend(self.lasting_notices());
        notices
    }

    /// Tells something in `.dds/status`, as long as it lasts.
    pub(super) fn tell(&self, sentence: String, lasting: Lasting) {
        let mut told = lock(&self.told);
        told.retain(|one| one.sentence != sentence);
        told.truncate(MOST - 1);
        told.insert(0, Told { sentence, lasting });
    }

    /// Ends what was told with these words at its beginning: it is mended.
    pub(super) fn no_longer(&self, words: &str) {
        lock(&self.told).retain(|one| !one.sentence.starts_with(words));
    }

    /// Sentences about single blobs that are still so, newest first. The others are kept for a
    /// while: what was told before a file was taken in becomes true with it.
    fn lasting_notices(&self) -> Vec<String> {
        let told = lock(&self.told);
        let known = self.known();
        let lasts = |one: &&Told| match &one.lasting {
            Lasting::Mount => true,
            Lasting::Day(since) => since.elapsed() < OVER,
            Lasting::Blob(folder, name, id) => {
                let file = known.files.get(&(*folder, name.clone()));
                let version = |file: &StoreFile| file.version().cloned();
                file.is_some_and(|file| version(file).is_none_or(|there| there.id == *id))
            }
        };
        told.iter()
            .filter(lasts)
            .map(|one| one.sentence.clone())
            .collect()
    }

    /// Sentences about contacts whom nobody confirmed, until somebody does, and about groups that
    /// cannot be written to.
    fn people_notices(&self) -> Vec<String> {
        let people = self.people();
        let strangers = people.strangers_in_groups().map(|(group, member)| {
            format!(
                "the group {group} has a member {member}, who is no contact: nothing can be \
                 written to it; mend [groups] in config.toml, or copy the certificate into keys/"
            )
        });
        let mut notices: Vec<String> = strangers.collect();
        let unconfirmed = people.contacts().filter(|one| !one.verified && !one.frozen);
        let unconfirmed: Vec<_> = unconfirmed.collect();
        if unconfirmed.is_empty() {
            return notices;
        }
        let contacts = lock(&self.contacts);
        for contact in unconfirmed {
            let name = &contact.name;
            let place = contacts.place_of(name);
            let place = place.unwrap_or_else(|| "contacts.toml".to_owned());
            let key = contact.fingerprint.in_groups();
            let compare = format!(
                "compare that fingerprint with its owner by another way, then set verified = true \
                 for {name} in {place}; if it is another one, set frozen = true there"
            );
            notices.push(match &contact.certified_by {
                None => format!(
                    "new contact {name}, not verified: compare the fingerprint {key} with its \
                     owner, then set verified = true for {name} in {place}"
                ),
                Some(by) if contact.is_coming() => {
                    let former = people.name(by);
                    match contacts.by_fingerprint(by) {
                        Some(pin) if !contact.has_addresses_of(pin) => format!(
                            "{name} has an address of {former}, whose key signed the key {key}, and \
                             not all of them, and so takes its place at no time: {compare}"
                        ),
                        _ => format!(
                            "{former} has a second key: {key}, which the key of {former} signed, is \
                             the contact {name}; what is written to {former} is for the former \
                             key, as long as that can be used, and then for this one: {compare}"
                        ),
                    }
                }
                Some(by) => format!(
                    "{name} has a new key: {key}, which the former key {} signed, took its place, \
                     as that can no longer be used: {compare}",
                    by.in_groups()
                ),
            });
        }
        notices
    }
}
