//! What people should look at, as the store, its keys and its people stand at this moment.

use crate::vault::{Vault, lock};

impl Vault {
    /// Sentences about the state of the store, for `.dds/status`.
    pub fn notices(&self) -> Vec<String> {
        let mut notices = self.broken_folders();
        notices.extend(self.state().key_notices.iter().cloned());
        notices.extend(self.key_problems());
        notices.extend(self.shortcomings());
        notices.extend(self.people_notices());
        notices.extend(self.file_notices());
        notices.extend(self.shared.notices());
        notices.extend(self.state_dir.notices());
        notices.extend(lock(&self.told).iter().cloned());
        notices
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
            notices.push(format!(
                "new contact {name}, not verified: compare the fingerprint {} with its owner, \
                 then set verified = true for {name} in {place}",
                contact.fingerprint.in_groups()
            ));
        }
        notices
    }
}
