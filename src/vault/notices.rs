//! Everything that people should look at, as the store, its keys and its people are at this moment.

use crate::vault::Vault;

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
        notices.extend(self.reports.sentences(&self.known()));
        notices
    }

    /// Sentences about unconfirmed contacts, until somebody confirms them, and about groups that
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
        let contacts = self.contacts.lock();
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
