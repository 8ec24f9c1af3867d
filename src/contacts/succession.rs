//! How a contact gets a new key: the pinned key certifies its successor.
//!
//! Anybody who can write to the store can bring a certificate with anybody's address. Only the key
//! that is pinned for that address tells a successor from an impostor, by its signature. The decision
//! is kept with the pins: taking the signature out of the store later changes nothing.

use super::names::{ContactName, ends_in_digits_of};
use super::pinning::Book;
use super::{Contact, Notice};
use crate::ids::Fingerprint;

/// A statement of one contact's certificate in the certificate of another contact; its signature is
/// checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The certificate that holds the statement.
    pub of: Fingerprint,
    /// The certificate that made the statement.
    pub by: Fingerprint,
    /// The address in question.
    pub address: String,
    /// The statement is that the address does not belong there (any more); otherwise that it does.
    pub withdrawn: bool,
}

/// How far a certificate can be relied on, as its owner says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It can be written to.
    InForce,
    /// It expired, or its owner no longer uses it.
    Over,
    /// It was revoked as a key that others may have, or without a reason: each of its statements may
    /// be a thief's.
    Stolen,
    /// It cannot be written to for another reason.
    Unusable,
}

impl Book {
    /// Freezes successors whose certification is worth nothing any more.
    pub(super) fn take_back(
        &mut self,
        said: &[Statement],
        standing: impl Fn(&Fingerprint) -> Standing,
    ) {
        let mut withdrawn = Vec::new();
        for contact in self.contacts.values().filter(|one| !one.verified) {
            let taken_back = said.iter().find(|one| {
                let concerns = one.withdrawn && one.of == contact.fingerprint;
                concerns
                    && match &contact.certified_by {
                        Some(by) => *by == one.by,
                        // It is remembered, so that nobody can make us forget it.
                        None => self.may_say(one, contact),
                    }
            });
            let by = taken_back.map(|one| &one.by);
            // Also where a stolen key certified the key that certified this one.
            let stolen = contact.certified_by.as_ref().filter(|by| {
                let mut before = contact.past.iter().chain([*by]);
                before.any(|key| standing(key) == Standing::Stolen)
            });
            if let Some(by) = by.or(stolen) {
                withdrawn.push((contact.name.clone(), by.clone()));
            }
        }
        for (name, by) in withdrawn {
            if let Some(contact) = self.contacts.get_mut(&name) {
                contact.frozen = true;
                contact.certified_by = Some(by);
            }
        }
    }

    /// Unfreezes contacts that the pins with their addresses certify.
    pub(super) fn accept(
        &mut self,
        said: &[Statement],
        standing: impl Fn(&Fingerprint) -> Standing,
        my_addresses: &[String],
    ) {
        let waiting = self.contacts.values().filter(|one| {
            let undecided = one.frozen && !one.verified && one.certified_by.is_none();
            let mine = one.addresses.iter().any(|one| my_addresses.contains(one));
            undecided && !mine && standing(&one.fingerprint) == Standing::InForce
        });
        let certifies = |pin: &Contact, contact: &Contact, address: &String| {
            let mut said = said.iter().filter(|one| !one.withdrawn);
            said.any(|one| {
                one.of == contact.fingerprint
                    && one.by == pin.fingerprint
                    && one.address.eq_ignore_ascii_case(address)
            })
        };
        let mut accepted = Vec::new();
        for contact in waiting {
            let mut by = Vec::new();
            let mut all = true;
            for address in &contact.addresses {
                let holders: Vec<&Contact> = self.holders(address, Some(&contact.name)).collect();
                let pins: Vec<_> = holders
                    .iter()
                    .filter(|one| !one.frozen && !one.is_coming())
                    .collect();
                all &= holders.is_empty() || !pins.is_empty();
                for pin in pins {
                    all &= standing(&pin.fingerprint) != Standing::Stolen;
                    all &= certifies(pin, contact, address);
                    by.push(pin.fingerprint.clone());
                }
            }
            by.dedup();
            if let (true, [one]) = (all, by.as_slice()) {
                accepted.push((contact.name.clone(), one.clone()));
            }
        }
        for (name, by) in accepted {
            if let Some(contact) = self.contacts.get_mut(&name) {
                contact.frozen = false;
                contact.certified_by = Some(by);
            }
        }
    }

    /// Lets successors take the place of keys that can no longer be used, if there is only one for a
    /// key and it has all of its addresses. A successor that a person named keeps its name.
    pub(super) fn hand_over(&mut self, standing: impl Fn(&Fingerprint) -> Standing) -> Vec<Notice> {
        let mut due: Vec<(ContactName, ContactName)> = Vec::new();
        for pin in self.contacts.values() {
            if pin.frozen || standing(&pin.fingerprint) != Standing::Over {
                continue;
            }
            let successors = self.contacts.values().filter(|one| {
                let certified = one.certified_by.as_ref() == Some(&pin.fingerprint);
                certified && !one.frozen && one.name != pin.name
            });
            let successors: Vec<&Contact> = successors.collect();
            let [one] = successors.as_slice() else {
                continue;
            };
            // The readers of a common mailbox certify each other's addresses, too: a certificate that
            // lacks one of the pin's may be somebody else's.
            if standing(&one.fingerprint) == Standing::InForce
                && one.has_addresses_of(pin)
                && ends_in_digits_of(&one.name, &one.fingerprint)
            {
                due.push((pin.name.clone(), one.name.clone()));
            }
        }
        let mut notices = Vec::new();
        for (name, from) in due {
            let Some(new) = self.contacts.get(&from).cloned() else {
                continue;
            };
            if let Ok(contact) = self.join(&name, &from) {
                contact.verified = new.verified;
                contact.certified_by = new.certified_by;
                notices.push(Notice::Succeeded { name, from });
            }
        }
        notices
    }

    /// Tells whether the author of a statement is pinned, for somebody else, with the address of the
    /// statement.
    fn may_say(&self, said: &Statement, of: &Contact) -> bool {
        let mut holders = self.contacts.values().filter(|one| one.name != of.name);
        let claimed = |one: &Contact| {
            let mut addresses = one.addresses.iter();
            addresses.any(|known| known.eq_ignore_ascii_case(&said.address))
        };
        claimed(of) && holders.any(|one| !one.frozen && one.fingerprint == said.by && claimed(one))
    }
}
