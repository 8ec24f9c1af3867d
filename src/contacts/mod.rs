//! Contacts: which certificate has which local name, and how far it is trusted.
//!
//! This module owns the pins and the rules by which newcomers get a name, wait for a decision, or
//! make room. It knows nothing of OpenPGP: certificates are opaque bytes, and their claims are handed
//! in. A claim is hostile until it became a [`ContactName`] or an address here.
//!
//! Pins lie outside the store, where no peer can reach them: `contacts.toml`, which people may
//! read and edit, and a copy of each certificate in `certificates/`.

mod look;
mod names;
mod notice;
mod pinning;
mod pins;
mod succession;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Kind, Result};
use crate::ids::Fingerprint;
use look::Look;
pub use names::{ContactName, first_name, is_address};
pub use notice::Notice;
use pinning::Book;
use pins::Pins;
pub use succession::{Standing, Statement};

/// Pins that are made on first sight, in all; more need an explicit act.
pub const FIRST_SIGHT_LIMIT: usize = 64;

/// The claims of a certificate about itself; nobody vouches for them.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// Fingerprint of the primary key.
    pub fingerprint: Fingerprint,
    /// Its valid user ids, the primary one first.
    pub user_ids: Vec<ClaimedUserId>,
    /// The certificate in OpenPGP's binary form.
    pub certificate: Vec<u8>,
}

/// One user id of a certificate.
#[derive(Clone, Debug, Default)]
pub struct ClaimedUserId {
    /// The whole user id.
    pub text: String,
    /// The e-mail address in it.
    pub email: Option<String>,
    /// The person's name in it.
    pub name: Option<String>,
}

/// A person or shared key whose certificate is pinned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contact {
    /// The local name.
    pub name: ContactName,
    /// The certificate that receives.
    pub fingerprint: Fingerprint,
    /// Former certificates: they verify and name, and never receive. Sorted.
    pub past: Vec<Fingerprint>,
    /// When the contact was pinned, in seconds since 1970.
    pub since: u64,
    /// Whether a person confirmed the fingerprint.
    pub verified: bool,
    /// Whether the pin waits for a decision, because somebody else had its address before or at the
    /// same time: nothing is written to it and nothing is accepted from it.
    pub frozen: bool,
    /// Whether anything was ever written to it or accepted from it. An unused contact makes room
    /// for others.
    pub used: bool,
    /// E-mail addresses that it ever claimed, in lower case, without those that somebody else had
    /// when it was a contact already. Sorted.
    pub addresses: Vec<String>,
    /// The key that was pinned for one of its addresses and signed this one as its successor. It is
    /// another contact's current key, or, after this one took its place, a past key of this contact.
    /// If the pin is frozen all the same, the signature does not count any more, or a person froze
    /// it.
    pub certified_by: Option<Fingerprint>,
}

impl Contact {
    /// The current certificate and the past ones.
    pub fn certificates(&self) -> impl Iterator<Item = &Fingerprint> {
        std::iter::once(&self.fingerprint).chain(&self.past)
    }

    /// Tells whether it has all addresses of another contact. Otherwise the two may be people with a
    /// common mailbox.
    pub fn has_addresses_of(&self, other: &Contact) -> bool {
        let mut addresses = other.addresses.iter();
        addresses.all(|address| self.addresses.contains(address))
    }

    /// Tells whether it is the successor of a contact that can still be used and keeps its
    /// addresses.
    pub fn is_coming(&self) -> bool {
        let by = self.certified_by.as_ref();
        by.is_some_and(|by| !self.past.contains(by))
    }
}

/// The treatment of certificates that were never seen before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// They are pinned, unverified.
    FirstSight,
    /// Nothing, until a person names them.
    Explicit,
}

/// All pins of one store.
///
/// Every change is on disk before the call returns; if that fails, nothing has changed.
pub struct Contacts {
    book: Book,
    /// Newcomers for which there was no room when they were first seen, and contacts that made room:
    /// no other contact has to go for them.
    declined: BTreeSet<Fingerprint>,
    /// Copies of my own certificates.
    mine: BTreeMap<Fingerprint, Arc<[u8]>>,
    /// Where they are kept; `None` for tests.
    pins: Option<Pins>,
}

impl Contacts {
    /// Reads the pins in a directory. A missing directory holds none.
    ///
    /// # Errors
    /// `BadConfig`, naming file and line, if `contacts.toml` cannot be understood: if a pin were lost
    /// without notice, the next certificate with its name would get it. Any error of the disk.
    pub fn load(dir: &Path) -> Result<Self> {
        let mut pins = Pins::new(dir);
        let book = pins.read()?.unwrap_or_default();
        Ok(Contacts {
            book,
            declined: BTreeSet::new(),
            mine: BTreeMap::new(),
            pins: Some(pins),
        })
    }

    /// Makes an empty set that is kept nowhere.
    pub fn in_memory() -> Self {
        Contacts {
            book: Book::default(),
            declined: BTreeSet::new(),
            mine: BTreeMap::new(),
            pins: None,
        }
    }

    /// Takes over the changes that a person made in `contacts.toml` meanwhile, and tells whether
    /// there were any. Every call that changes pins does so first.
    ///
    /// # Errors
    /// As [`Contacts::load`]; then the pins in memory stay as they are.
    pub fn refresh(&mut self) -> Result<bool> {
        let Some(pins) = &mut self.pins else {
            return Ok(false);
        };
        let Some(book) = pins.read_if_changed()? else {
            return Ok(false);
        };
        let changed = book != self.book;
        self.book = book;
        Ok(changed)
    }

    /// Looks at the claims of certificates, those of contacts and those of newcomers: pins newcomers,
    /// and reports claims to an address that somebody else has.
    ///
    /// A newcomer that claims an address of a contact, of mine, or of another newcomer of the same
    /// look is pinned frozen. No claim of a newcomer changes a contact. A certificate that names
    /// nobody is no newcomer.
    ///
    /// `mine` are my own certificates, which are never contacts; `taken` are names of groups,
    /// which contacts cannot have; `now` is in seconds since 1970. Newcomers are handled in the
    /// order of their fingerprints, so that peers with the same set choose the same names.
    ///
    /// # Errors
    /// As [`Contacts::load`]; any error of the disk.
    pub fn observe(
        &mut self,
        seen: &[Claimed],
        mine: &[Fingerprint],
        taken: &[ContactName],
        trust: Trust,
        now: u64,
    ) -> Result<Vec<Notice>> {
        self.refresh()?;
        let mut look = Look {
            book: self.book.clone(),
            declined: self.declined.clone(),
            taken,
            now,
        };
        let notices = look.observe(seen, mine, trust);
        let declined = look.declined;
        self.commit(look.book)?;
        self.declined = declined;
        Ok(notices)
    }

    /// Acts on the statements of pinned keys about the certificates of other contacts with the same
    /// address.
    ///
    /// A frozen contact is the successor of another contact if every key that is pinned for one of
    /// its addresses belongs to that contact and certifies it. It is frozen no longer. Once the
    /// certifying key can no longer be used, the successor takes the contact's name and place, not
    /// verified, unless it lacks one of the contact's addresses. If the certifying key took its
    /// statement back, or was revoked as a key that others may have, the successor is frozen until a
    /// person decides. A verified contact changes in nothing but its name.
    ///
    /// # Errors
    /// As [`Contacts::load`]; any error of the disk.
    pub fn follow(
        &mut self,
        said: &[Statement],
        standing: impl Fn(&Fingerprint) -> Standing,
        my_addresses: &[String],
        trust: Trust,
    ) -> Result<Vec<Notice>> {
        self.refresh()?;
        let mut book = self.book.clone();
        book.take_back(said, &standing);
        let mut notices = Vec::new();
        if trust == Trust::FirstSight {
            book.accept(said, &standing, my_addresses);
            notices = book.hand_over(&standing);
        }
        self.commit(book)?;
        Ok(notices)
    }

    /// Notes that something was written to contacts or accepted from them.
    ///
    /// # Errors
    /// As [`Contacts::load`]; any error of the disk.
    pub fn note_used<'a>(&mut self, keys: impl IntoIterator<Item = &'a Fingerprint>) -> Result<()> {
        let keys: BTreeSet<_> = keys.into_iter().collect();
        let unused = |contact: &Contact| {
            !contact.used && contact.certificates().any(|key| keys.contains(key))
        };
        if !self.iter().any(unused) {
            return Ok(());
        }
        self.refresh()?;
        let mut book = self.book.clone();
        for contact in book.contacts.values_mut() {
            contact.used |= unused(contact);
        }
        self.commit(book)
    }

    /// Pins one certificate as verified because a person asked for it, and returns its name.
    ///
    /// Without `name` it is named as on first sight. Unverified contacts that share an address
    /// with it are frozen. A certificate that is pinned already is only confirmed.
    ///
    /// # Errors
    /// `Exists` if `name` is taken; `Busy` if the certificate is a former one of a contact;
    /// as [`Contacts::load`]; any error of the disk.
    pub fn pin(
        &mut self,
        claimed: &Claimed,
        name: Option<&ContactName>,
        taken: &[ContactName],
        now: u64,
    ) -> Result<ContactName> {
        self.refresh()?;
        let mut look = Look {
            book: self.book.clone(),
            declined: BTreeSet::new(),
            taken,
            now,
        };
        let name = look.pin(claimed, name)?;
        self.commit(look.book)?;
        Ok(name)
    }

    /// Confirms a contact's fingerprint, which also decides a dispute in its favour.
    ///
    /// # Errors
    /// `NotFound`; as [`Contacts::load`]; any error of the disk.
    pub fn trust(&mut self, name: &ContactName) -> Result<()> {
        self.refresh()?;
        let mut book = self.book.clone();
        let contact = book.get_mut(name)?;
        contact.verified = true;
        contact.frozen = false;
        self.commit(book)
    }

    /// Gives a contact another name.
    ///
    /// # Errors
    /// `NotFound`; `Exists` if the new name is taken; as [`Contacts::load`]; any error of the disk.
    pub fn rename(
        &mut self,
        from: &ContactName,
        to: &ContactName,
        taken: &[ContactName],
    ) -> Result<()> {
        self.refresh()?;
        let mut book = self.book.clone();
        book.rename(from, to, taken)?;
        self.commit(book)
    }

    /// Makes the certificate of `successor` the current one of `name`, verified. The former
    /// certificate becomes a past one, and the name of `successor` is free again.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` if both are the same; as [`Contacts::load`]; any error of the disk.
    pub fn succeed(&mut self, name: &ContactName, successor: &ContactName) -> Result<()> {
        self.refresh()?;
        let mut book = self.book.clone();
        book.succeed(name, successor)?;
        self.commit(book)
    }

    /// Names the place where a person confirms a contact: the file, and the line.
    pub fn place_of(&self, name: &ContactName) -> Option<String> {
        self.pins.as_ref()?.place_of(name)
    }

    /// Returns the contact of that name.
    pub fn by_name(&self, name: &str) -> Option<&Contact> {
        self.iter().find(|contact| contact.name.as_str() == name)
    }

    /// Returns the contact whose current or past certificate that is.
    pub fn by_fingerprint(&self, fingerprint: &Fingerprint) -> Option<&Contact> {
        self.book.by_fingerprint(fingerprint)
    }

    /// Returns the one contact that stands for an address, in any case of letters.
    ///
    /// Contacts that wait for a decision stand for none. If several claim it, a verified one counts
    /// before those that are not; `None` if that does not decide.
    pub fn by_address(&self, address: &str) -> Option<&Contact> {
        holder_of(address, self.iter())
    }

    /// Lists the contacts in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Contact> {
        self.book.contacts.values()
    }

    /// Returns the copy of a contact's current or past certificate.
    pub fn certificate(&self, fingerprint: &Fingerprint) -> Option<&[u8]> {
        self.book
            .certificates
            .get(fingerprint)
            .map(|bytes| &**bytes)
    }

    /// Keeps another copy of a contact's certificate: the former copy with the news merged in.
    ///
    /// # Errors
    /// `NotFound` unless it is a contact's; as [`Contacts::load`]; any error of the disk.
    pub fn set_certificate(&mut self, fingerprint: &Fingerprint, bytes: &[u8]) -> Result<()> {
        self.refresh()?;
        if self.by_fingerprint(fingerprint).is_none() {
            let sentence = format!("no contact has the fingerprint {fingerprint}");
            return Err(Error::new(Kind::NotFound, sentence));
        }
        if self.certificate(fingerprint) == Some(bytes) {
            return Ok(());
        }
        let mut book = self.book.clone();
        let bytes = Arc::from(bytes);
        book.certificates.insert(fingerprint.clone(), bytes);
        self.commit(book)
    }

    /// Returns the copy that was kept of a certificate whose owner was a contact once.
    pub fn former_certificate(&self, fingerprint: &Fingerprint) -> Option<Vec<u8>> {
        let pins = self.pins.as_ref()?;
        pins.certificate_bytes(fingerprint).ok().flatten()
    }

    /// Returns the copy that was kept of a certificate of mine.
    ///
    /// # Errors
    /// Any error of the disk.
    pub fn my_certificate(&mut self, fingerprint: &Fingerprint) -> Result<Option<Arc<[u8]>>> {
        if let Some(pins) = &self.pins {
            if let Some(bytes) = pins.my_certificate(fingerprint)? {
                self.mine.insert(fingerprint.clone(), Arc::from(bytes));
            }
        }
        Ok(self.mine.get(fingerprint).cloned())
    }

    /// Keeps a copy of a certificate of mine, since others' copies may be lost in the store.
    ///
    /// # Errors
    /// Any error of the disk.
    pub fn keep_my_certificate(&mut self, fingerprint: &Fingerprint, bytes: &[u8]) -> Result<()> {
        if let Some(pins) = &self.pins {
            pins.keep_my_certificate(fingerprint, bytes)?;
        }
        self.mine.insert(fingerprint.clone(), Arc::from(bytes));
        Ok(())
    }

    /// Makes a changed book the valid one, once it is on disk.
    fn commit(&mut self, book: Book) -> Result<()> {
        if book == self.book {
            return Ok(());
        }
        if let Some(pins) = &mut self.pins {
            pins.write(&self.book, &book)?;
        }
        self.book = book;
        Ok(())
    }
}

/// Returns the one of some contacts that stands for an address.
pub(crate) fn holder_of<'a>(
    address: &str,
    among: impl Iterator<Item = &'a Contact>,
) -> Option<&'a Contact> {
    let holds = |contact: &&Contact| {
        let mut addresses = contact.addresses.iter();
        // Nobody confirmed a successor: its predecessor was there first.
        let waits = contact.frozen || contact.is_coming() && !contact.verified;
        !waits && addresses.any(|known| known.eq_ignore_ascii_case(address))
    };
    let holders: Vec<&Contact> = among.filter(holds).collect();
    let verified: Vec<_> = holders.iter().filter(|contact| contact.verified).collect();
    match (verified.as_slice(), holders.as_slice()) {
        ([one], _) => Some(one),
        ([], [one]) => Some(one),
        _ => None,
    }
}
