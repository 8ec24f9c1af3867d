//! The rules of pinning, on a set of contacts in memory (DESIGN 7).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::names::{self, ContactName};
use super::{Claimed, Contact, FIRST_SIGHT_LIMIT, Notice, Trust};
use crate::error::{Error, Kind, Result};
use crate::ids::Fingerprint;

/// Addresses that are kept of one contact; a certificate may claim any number.
pub(super) const MOST_ADDRESSES: usize = 32;

/// All contacts and the copies of their certificates.
///
/// Names are unique in whatever case, and no fingerprint belongs to two contacts.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Book {
    pub(super) contacts: BTreeMap<ContactName, Contact>,
    pub(super) certificates: BTreeMap<Fingerprint, Arc<[u8]>>,
}

impl Book {
    pub(super) fn by_fingerprint(&self, fingerprint: &Fingerprint) -> Option<&Contact> {
        self.contacts.values().find(|contact| {
            contact.fingerprint == *fingerprint || contact.past.contains(fingerprint)
        })
    }

    pub(super) fn by_address(&self, address: &str) -> Option<&Contact> {
        let address = address.to_ascii_lowercase();
        let holders: Vec<&Contact> = self
            .contacts
            .values()
            .filter(|contact| contact.addresses.contains(&address))
            .collect();
        let verified = holders.iter().filter(|c| c.verified && !c.frozen);
        match (
            verified.copied().collect::<Vec<_>>().as_slice(),
            holders.as_slice(),
        ) {
            ([one], _) | ([], [one]) => Some(one),
            _ => None,
        }
    }

    pub(super) fn get_mut(&mut self, name: &ContactName) -> Result<&mut Contact> {
        self.contacts.get_mut(name).ok_or_else(|| unknown(name))
    }

    /// Freezes every contact that is frozen in another book.
    pub(super) fn freeze_as(&mut self, other: &Book) {
        for contact in self.contacts.values_mut() {
            let there = other.contacts.get(&contact.name);
            contact.frozen |= there.is_some_and(|there| there.frozen);
        }
    }

    /// Does what `Contacts::observe` says.
    pub(super) fn observe(
        &mut self,
        seen: &[Claimed],
        mine: &[Fingerprint],
        taken: &[ContactName],
        trust: Trust,
        now: u64,
    ) -> Vec<Notice> {
        let mut my_addresses = Vec::new();
        let mut others = BTreeMap::<&Fingerprint, Claimed>::new();
        for claimed in seen {
            if mine.contains(&claimed.fingerprint) {
                my_addresses.extend(names::addresses(claimed));
            } else if let Some(known) = others.get_mut(&claimed.fingerprint) {
                // Several files with one certificate.
                known.user_ids.extend_from_slice(&claimed.user_ids);
            } else {
                others.insert(&claimed.fingerprint, claimed.clone());
            }
        }
        let mut notices = Vec::new();
        let mut left_out = 0;
        for claimed in others.values() {
            let addresses = names::addresses(claimed);
            match self.by_fingerprint(&claimed.fingerprint) {
                // A former certificate says nothing any more.
                Some(known) if known.fingerprint != claimed.fingerprint => {}
                Some(known) => {
                    let name = known.name.clone();
                    notices.extend(self.claim_more(&name, addresses, &my_addresses));
                }
                None if trust == Trust::FirstSight && self.contacts.len() < FIRST_SIGHT_LIMIT => {
                    notices.extend(self.pin_newcomer(
                        claimed,
                        addresses,
                        &my_addresses,
                        taken,
                        now,
                    ));
                }
                None => {
                    notices.extend(self.dispute(&claimed.fingerprint, &addresses, None));
                    match trust {
                        Trust::FirstSight => left_out += 1,
                        Trust::Explicit => notices.push(Notice::NotPinned {
                            fingerprint: claimed.fingerprint.clone(),
                            name: names::choose(claimed, false, |name| self.is_taken(name, taken)),
                        }),
                    }
                }
            }
        }
        if left_out > 0 {
            notices.push(Notice::TooMany { left_out });
        }
        notices
    }

    /// Pins a certificate that was never seen, frozen if somebody else has its address.
    fn pin_newcomer(
        &mut self,
        claimed: &Claimed,
        addresses: Vec<String>,
        my_addresses: &[String],
        taken: &[ContactName],
        now: u64,
    ) -> Vec<Notice> {
        let disputed = addresses.iter().any(|address| {
            my_addresses.contains(address) || self.holders(address, None).next().is_some()
        });
        let name = names::choose(claimed, disputed, |name| self.is_taken(name, taken));
        self.insert(claimed, name.clone(), now, false);
        let mut notices = vec![Notice::Pinned {
            name: name.clone(),
            fingerprint: claimed.fingerprint.clone(),
        }];
        notices.extend(self.claim_more(&name, addresses, my_addresses));
        notices
    }

    /// Lets a contact claim addresses. Those it has not claimed before may be in dispute.
    fn claim_more(
        &mut self,
        name: &ContactName,
        addresses: Vec<String>,
        my_addresses: &[String],
    ) -> Vec<Notice> {
        let Some(contact) = self.contacts.get_mut(name) else {
            return Vec::new();
        };
        let fingerprint = contact.fingerprint.clone();
        let room = MOST_ADDRESSES.saturating_sub(contact.addresses.len());
        let fresh: Vec<String> = addresses
            .into_iter()
            .filter(|address| !contact.addresses.contains(address))
            .take(room)
            .collect();
        contact.addresses.extend_from_slice(&fresh);
        contact.addresses.sort();
        let mut notices = Vec::new();
        let of_me = fresh.iter().find(|address| my_addresses.contains(address));
        if let (Some(address), false) = (of_me, contact.verified || contact.frozen) {
            contact.frozen = true;
            notices.push(Notice::Disputed {
                claimant: fingerprint.clone(),
                address: address.clone(),
                frozen: vec![name.clone()],
            });
        }
        notices.extend(self.dispute(&fingerprint, &fresh, Some(name)));
        notices
    }

    /// Freezes everybody unverified who has one of these addresses, if there is anybody besides
    /// the claimant, and the claimant as well.
    fn dispute(
        &mut self,
        claimant: &Fingerprint,
        addresses: &[String],
        name: Option<&ContactName>,
    ) -> Option<Notice> {
        let address = addresses
            .iter()
            .find(|address| self.holders(address, name).next().is_some())?
            .clone();
        let mut frozen = Vec::new();
        for contact in self.contacts.values_mut() {
            let party = Some(&contact.name) == name
                || contact
                    .addresses
                    .iter()
                    .any(|held| addresses.contains(held));
            if party && !contact.verified && !contact.frozen {
                contact.frozen = true;
                frozen.push(contact.name.clone());
            }
        }
        (!frozen.is_empty()).then(|| Notice::Disputed {
            claimant: claimant.clone(),
            address,
            frozen,
        })
    }

    /// Lists who has an address, except one.
    fn holders<'a>(
        &'a self,
        address: &'a String,
        except: Option<&'a ContactName>,
    ) -> impl Iterator<Item = &'a Contact> {
        self.contacts
            .values()
            .filter(move |c| c.addresses.contains(address) && Some(&c.name) != except)
    }

    /// Does what `Contacts::pin` says.
    pub(super) fn pin(
        &mut self,
        claimed: &Claimed,
        name: Option<&ContactName>,
        taken: &[ContactName],
        now: u64,
    ) -> Result<ContactName> {
        if let Some(known) = self.by_fingerprint(&claimed.fingerprint) {
            let known = known.clone();
            if known.fingerprint != claimed.fingerprint {
                let sentence = format!("that is a former certificate of {}", known.name);
                return Err(Error::new(Kind::Busy, sentence));
            }
            let name = match name {
                Some(name) if *name != known.name => {
                    self.rename(&known.name, name, taken)?;
                    name.clone()
                }
                _ => known.name,
            };
            let contact = self.get_mut(&name)?;
            contact.verified = true;
            contact.frozen = false;
            return Ok(name);
        }
        let name = match name {
            Some(name) if self.is_taken(name, taken) => return Err(exists(name)),
            Some(name) => name.clone(),
            None => names::choose(claimed, false, |name| self.is_taken(name, taken)),
        };
        self.insert(claimed, name.clone(), now, true);
        // My own addresses do not matter: a person has decided.
        self.claim_more(&name, names::addresses(claimed), &[]);
        Ok(name)
    }

    pub(super) fn rename(
        &mut self,
        from: &ContactName,
        to: &ContactName,
        taken: &[ContactName],
    ) -> Result<()> {
        // Only its letters' case may change while it is "taken" by the contact itself.
        if !to.resembles(from) && self.is_taken(to, taken) {
            return Err(exists(to));
        }
        let mut contact = self.contacts.remove(from).ok_or_else(|| unknown(from))?;
        contact.name = to.clone();
        self.contacts.insert(to.clone(), contact);
        Ok(())
    }

    /// Does what `Contacts::succeed` says.
    pub(super) fn succeed(&mut self, name: &ContactName, successor: &ContactName) -> Result<()> {
        if name == successor {
            let sentence = format!("{name} cannot succeed itself");
            return Err(Error::new(Kind::Invalid, sentence));
        }
        self.get_mut(name)?;
        let new = self.contacts.remove(successor);
        let new = new.ok_or_else(|| unknown(successor))?;
        let contact = self.get_mut(name)?;
        let former = std::mem::replace(&mut contact.fingerprint, new.fingerprint);
        contact.past.push(former);
        contact.past.extend(new.past);
        contact.past.sort();
        for address in new.addresses {
            if !contact.addresses.contains(&address) {
                contact.addresses.push(address);
            }
        }
        contact.addresses.sort();
        contact.verified = true;
        contact.frozen = false;
        Ok(())
    }

    fn is_taken(&self, name: &ContactName, taken: &[ContactName]) -> bool {
        let mut all = self.contacts.keys().chain(taken);
        all.any(|other| other.resembles(name))
    }

    fn insert(&mut self, claimed: &Claimed, name: ContactName, now: u64, verified: bool) {
        let fingerprint = claimed.fingerprint.clone();
        let certificate = claimed.certificate.as_slice().into();
        self.certificates.insert(fingerprint.clone(), certificate);
        let contact = Contact {
            name: name.clone(),
            fingerprint,
            past: Vec::new(),
            since: now,
            verified,
            frozen: false,
            addresses: Vec::new(),
        };
        self.contacts.insert(name, contact);
    }
}

fn unknown(name: &ContactName) -> Error {
    Error::new(Kind::NotFound, format!("there is no contact {name}"))
}

fn exists(name: &ContactName) -> Error {
    let sentence = format!("the name {name} is taken by a contact or group");
    Error::new(Kind::Exists, sentence)
}
