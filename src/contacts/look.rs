//! One look at certificates: the rules by which newcomers become contacts.
//!
//! A contact was there first: it keeps its name and its addresses, whatever a newcomer says.
//! Otherwise anybody who can write to the store could stop all writing to all contacts.

use std::collections::{BTreeMap, BTreeSet};

use super::names::{self, ContactName, MOST_ADDRESSES};
use super::pinning::{Book, exists};
use super::{Claimed, FIRST_SIGHT_LIMIT, Notice, Trust};
use crate::error::{Error, Kind, Result};
use crate::ids::Fingerprint;

/// Newcomers of one look for which contacts that were never used make room. More of them are a
/// flood, which may fill the room that is left, and no more.
const MOST_ROOM_MADE: usize = 8;

/// The state that one look changes.
pub(super) struct Look<'a> {
    pub(super) book: Book,
    /// The newcomers that no contact has to go for.
    pub(super) declined: BTreeSet<Fingerprint>,
    /// Names of groups.
    pub(super) taken: &'a [ContactName],
    /// In seconds since 1970.
    pub(super) now: u64,
}

impl Look<'_> {
    /// Carries out `Contacts::observe`.
    pub(super) fn observe(
        &mut self,
        seen: &[Claimed],
        mine: &[Fingerprint],
        trust: Trust,
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
        let mut newcomers = Vec::new();
        for claimed in others.values() {
            match self.book.by_fingerprint(&claimed.fingerprint) {
                // A former certificate says nothing any more.
                Some(known) if known.fingerprint != claimed.fingerprint => {}
                Some(known) => {
                    let name = known.name.clone();
                    notices.extend(self.claim_more(name, claimed, &my_addresses));
                }
                None if claimed.user_ids.is_empty() => {}
                None => newcomers.push(claimed),
            }
        }
        match trust {
            Trust::FirstSight => notices.extend(self.newcomers(&newcomers, &my_addresses)),
            Trust::Explicit => notices.extend(self.unasked(&newcomers)),
        }
        notices
    }

    /// Lets a contact claim addresses that nobody has, and gives it a name if it had none.
    fn claim_more(
        &mut self,
        mut name: ContactName,
        claimed: &Claimed,
        my_addresses: &[String],
    ) -> Vec<Notice> {
        let mut notices = Vec::new();
        let mut granted = Vec::new();
        let known = &self.book.contacts[&name].addresses;
        let room = MOST_ADDRESSES.saturating_sub(known.len());
        let fresh = names::addresses(claimed).into_iter();
        for address in fresh.filter(|address| !known.contains(address)) {
            let holder = self.book.holders(&address, Some(&name)).next();
            let holder = holder.map(|holder| holder.name.clone());
            if holder.is_some() || my_addresses.contains(&address) {
                notices.push(Notice::Contested {
                    name: name.clone(),
                    address,
                    holder,
                });
            } else if granted.len() < room {
                granted.push(address);
            }
        }
        let unnamed = names::is_of_fingerprint(&name, &claimed.fingerprint);
        if unnamed && names::names_somebody(claimed) {
            let contested = !notices.is_empty();
            let is_taken = |name: &ContactName| self.book.is_taken(name, self.taken);
            let better = names::choose(claimed, contested, is_taken);
            if self.book.rename(&name, &better, self.taken).is_ok() {
                notices.push(Notice::Named {
                    from: name,
                    name: better.clone(),
                });
                name = better;
            }
        }
        if let Some(contact) = self.book.contacts.get_mut(&name) {
            contact.addresses.extend(granted);
            contact.addresses.sort();
        }
        notices
    }

    /// Pins newcomers, as far as there is room.
    fn newcomers(&mut self, newcomers: &[&Claimed], my_addresses: &[String]) -> Vec<Notice> {
        let before: BTreeSet<ContactName> = self.book.contacts.keys().cloned().collect();
        let fresh = newcomers.iter();
        let fresh = fresh.filter(|one| !self.declined.contains(&one.fingerprint));
        let flood = fresh.count() > MOST_ROOM_MADE;
        // How many newcomers claim each address.
        let mut claims = BTreeMap::<String, usize>::new();
        for address in newcomers
            .iter()
            .flat_map(|claimed| names::addresses(claimed))
        {
            *claims.entry(address).or_default() += 1;
        }
        let (mut notices, mut gone, mut left_out) = (Vec::new(), Vec::new(), 0);
        for claimed in newcomers {
            if self.book.contacts.len() >= FIRST_SIGHT_LIMIT {
                let may_ask = !flood && !self.declined.contains(&claimed.fingerprint);
                match may_ask.then(|| self.make_room(&before)).flatten() {
                    Some(name) => gone.push(name),
                    None => {
                        self.declined.insert(claimed.fingerprint.clone());
                        left_out += 1;
                        continue;
                    }
                }
            }
            notices.extend(self.pin_newcomer(claimed, &claims, my_addresses));
        }
        if !gone.is_empty() {
            notices.push(Notice::MadeRoom { gone });
        }
        if left_out > 0 {
            notices.push(Notice::TooMany { left_out });
        }
        notices
    }

    /// Drops the oldest of the contacts that were there before and never used.
    fn make_room(&mut self, before: &BTreeSet<ContactName>) -> Option<ContactName> {
        let contacts = self.book.contacts.values();
        let unused = contacts.filter(|contact| {
            let untouched = !contact.used && !contact.verified && contact.past.is_empty();
            untouched && before.contains(&contact.name)
        });
        // Prefer one that only waits for a decision.
        let oldest = unused.min_by_key(|contact| (!contact.frozen, contact.since));
        let name = oldest?.name.clone();
        let contact = self.book.contacts.remove(&name)?;
        self.book.certificates.remove(&contact.fingerprint);
        self.declined.insert(contact.fingerprint);
        Some(name)
    }

    /// Pins a certificate that was never seen. It is frozen if somebody else has one of its addresses
    /// or claims one at the same time.
    fn pin_newcomer(
        &mut self,
        claimed: &Claimed,
        claims: &BTreeMap<String, usize>,
        my_addresses: &[String],
    ) -> Vec<Notice> {
        let mut addresses = names::addresses(claimed);
        let held = |address: &&String| {
            my_addresses.contains(address) || self.book.holders(address, None).next().is_some()
        };
        let held = addresses.iter().find(held).cloned();
        let shared = addresses
            .iter()
            .find(|one| claims.get(*one).is_some_and(|n| *n > 1));
        let disputed = held.clone().or_else(|| shared.cloned());
        let is_taken = |name: &ContactName| self.book.is_taken(name, self.taken);
        let name = names::choose(claimed, held.is_some(), is_taken);
        self.book.insert(claimed, name.clone(), self.now);
        if let Some(contact) = self.book.contacts.get_mut(&name) {
            contact.frozen = disputed.is_some();
            addresses.sort();
            contact.addresses = addresses;
        }
        let pinned = Notice::Pinned {
            name: name.clone(),
            fingerprint: claimed.fingerprint.clone(),
        };
        let disputed = disputed.map(|address| Notice::Disputed {
            claimant: claimed.fingerprint.clone(),
            address,
            frozen: vec![name],
        });
        std::iter::once(pinned).chain(disputed).collect()
    }

    /// Reports newcomers where contacts are pinned explicitly.
    fn unasked(&self, newcomers: &[&Claimed]) -> Vec<Notice> {
        let notices = newcomers.iter().take(FIRST_SIGHT_LIMIT);
        let notices = notices.map(|claimed| Notice::NotPinned {
            fingerprint: claimed.fingerprint.clone(),
            name: names::choose(claimed, false, |name| self.book.is_taken(name, self.taken)),
        });
        notices.collect()
    }

    /// Carries out `Contacts::pin`.
    pub(super) fn pin(
        &mut self,
        claimed: &Claimed,
        name: Option<&ContactName>,
    ) -> Result<ContactName> {
        if let Some(known) = self.book.by_fingerprint(&claimed.fingerprint) {
            let known = known.clone();
            if known.fingerprint != claimed.fingerprint {
                let sentence = format!("that is a former certificate of {}", known.name);
                return Err(Error::new(Kind::Busy, sentence));
            }
            let name = match name {
                Some(name) if *name != known.name => {
                    self.book.rename(&known.name, name, self.taken)?;
                    name.clone()
                }
                _ => known.name,
            };
            let contact = self.book.get_mut(&name)?;
            contact.verified = true;
            contact.frozen = false;
            return Ok(name);
        }
        let is_taken = |name: &ContactName| self.book.is_taken(name, self.taken);
        let name = match name {
            Some(name) if is_taken(name) => return Err(exists(name)),
            Some(name) => name.clone(),
            None => names::choose(claimed, false, is_taken),
        };
        self.book.insert(claimed, name.clone(), self.now);
        // My own addresses do not matter: a person has decided.
        let mut addresses = names::addresses(claimed);
        for contact in self.book.contacts.values_mut() {
            let mut held = contact.addresses.iter();
            contact.frozen |= !contact.verified && held.any(|one| addresses.contains(one));
        }
        let contact = self.book.get_mut(&name)?;
        contact.verified = true;
        addresses.sort();
        contact.addresses = addresses;
        Ok(name)
    }
}
