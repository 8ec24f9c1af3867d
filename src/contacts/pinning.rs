//! A set of contacts in memory, and the changes that people make in it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::names::ContactName;
use super::{Claimed, Contact};
use crate::error::{Error, Kind, Result};
use crate::ids::Fingerprint;

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

    pub(super) fn get_mut(&mut self, name: &ContactName) -> Result<&mut Contact> {
        self.contacts.get_mut(name).ok_or_else(|| unknown(name))
    }

    /// Lists the contacts with an address, except one.
    pub(super) fn holders<'a>(
        &'a self,
        address: &'a String,
        except: Option<&'a ContactName>,
    ) -> impl Iterator<Item = &'a Contact> {
        self.contacts
            .values()
            .filter(move |c| c.addresses.contains(address) && Some(&c.name) != except)
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

    /// Carries out `Contacts::succeed`.
    pub(super) fn succeed(&mut self, name: &ContactName, successor: &ContactName) -> Result<()> {
        if name == successor {
            let sentence = format!("{name} cannot succeed itself");
            return Err(Error::new(Kind::Invalid, sentence));
        }
        let contact = self.join(name, successor)?;
        contact.verified = true;
        contact.frozen = false;
        Ok(())
    }

    /// Gives a contact the certificate and the addresses of another one, and removes that one.
    pub(super) fn join(
        &mut self,
        name: &ContactName,
        successor: &ContactName,
    ) -> Result<&mut Contact> {
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
        contact.used |= new.used;
        Ok(contact)
    }

    pub(super) fn is_taken(&self, name: &ContactName, taken: &[ContactName]) -> bool {
        let mut all = self.contacts.keys().chain(taken);
        all.any(|other| other.resembles(name))
    }

    pub(super) fn insert(&mut self, claimed: &Claimed, name: ContactName, since: u64) {
        let fingerprint = claimed.fingerprint.clone();
        let certificate = claimed.certificate.as_slice().into();
        self.certificates.insert(fingerprint.clone(), certificate);
        let contact = Contact {
            name: name.clone(),
            fingerprint,
            past: Vec::new(),
            since,
            verified: false,
            frozen: false,
            used: false,
            addresses: Vec::new(),
            certified_by: None,
        };
        self.contacts.insert(name, contact);
    }
}

pub(super) fn unknown(name: &ContactName) -> Error {
    Error::new(Kind::NotFound, format!("there is no contact {name}"))
}

pub(super) fn exists(name: &ContactName) -> Error {
    let sentence = format!("the name {name} is taken by a contact or group");
    Error::new(Kind::Exists, sentence)
}
