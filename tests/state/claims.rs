//! Certificates as the contacts see them, made of a byte and addresses.

use dds::contacts::{Claimed, ClaimedUserId, Contact, ContactName, Contacts, Notice, Trust};
use dds::ids::Fingerprint;

pub fn fpr(byte: u8) -> Fingerprint {
    Fingerprint::from_bytes(&[byte; 20]).unwrap()
}

pub fn name(text: &str) -> ContactName {
    text.parse().unwrap()
}

/// A certificate whose fingerprint is made of one byte, with these addresses.
pub fn cert(byte: u8, emails: &[&str]) -> Claimed {
    let user_id = |email: &&str| ClaimedUserId {
        text: format!("Somebody <{email}>"),
        email: Some(email.to_string()),
        name: Some("Somebody".to_owned()),
    };
    Claimed {
        fingerprint: fpr(byte),
        user_ids: emails.iter().map(user_id).collect(),
        certificate: vec![byte; 3],
    }
}

pub fn see(contacts: &mut Contacts, seen: &[Claimed]) -> Vec<Notice> {
    contacts
        .observe(seen, &[], &[], Trust::FirstSight, 1000)
        .unwrap()
}

/// Names in order, frozen ones with a `!`.
pub fn listed(contacts: &Contacts) -> Vec<String> {
    let mark = |c: &Contact| format!("{}{}", c.name, if c.frozen { "!" } else { "" });
    contacts.iter().map(mark).collect()
}
