//! Contacts: which certificate has which local name, and how far it is trusted (DESIGN 7).
//!
//! Owns the pins and the rules by which newcomers get a name, and disputes freeze. Knows
//! nothing of OpenPGP: certificates are opaque bytes, and what they say of themselves is handed
//! in. Whatever they say is hostile until it became a [`ContactName`] or an address here.
//!
//! Pins lie outside the store, where no peer can reach them: `contacts.toml`, which people may
//! read and edit, and a copy of each certificate in `certificates/`.

mod book;
mod names;
mod notice;
mod pins;

use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Kind, Result};
use crate::ids::Fingerprint;
use book::Book;
pub use names::{ContactName, first_name, is_address};
pub use notice::Notice;
use pins::Pins;

/// Pins that are made on first sight, in all; more need an explicit act.
pub const FIRST_SIGHT_LIMIT: usize = 64;

/// What a certificate says of itself; nobody vouches for it.
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
    /// The whole of it.
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
    /// Whether the pin is in dispute: nothing is written to it and nothing accepted from it.
    pub frozen: bool,
    /// E-mail addresses that it ever claimed, in lower case. Sorted.
    pub addresses: Vec<String>,
}

/// What happens to certificates that were never seen before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// They are pinned, unverified.
    FirstSight,
    /// Nothing, until a person names them.
    Explicit,
}

/// All pins of one store.
///
/// Every change is on disk before the call returns; if that fails, nothing has changed, except
/// that contacts that were to be frozen are frozen in memory.
pub struct Contacts {
    book: Book,
    /// Where they are kept; `None` for tests.
    pins: Option<Pins>,
}

impl Contacts {
    /// Reads the pins in a directory. A missing directory holds none.
    ///
    /// # Errors
    /// `BadConfig`, naming file and line, if `contacts.toml` cannot be understood: a pin that
    /// is lost without notice would be made anew for whoever comes first. What the disk says.
    pub fn load(dir: &Path) -> Result<Self> {
        let mut pins = Pins::new(dir);
        let book = pins.read()?.unwrap_or_default();
        Ok(Contacts {
            book,
            pins: Some(pins),
        })
    }

    /// Makes an empty set that is kept nowhere.
    pub fn in_memory() -> Self {
        Contacts {
            book: Book::default(),
            pins: None,
        }
    }

    /// Takes over what a person changed in `contacts.toml` meanwhile, and tells whether
    /// something was. Every call that changes pins does so first.
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

    /// Looks at the certificates in the store: pins newcomers, and freezes what is in dispute.
    ///
    /// `mine` are my own certificates, which are never contacts; `taken` are names of groups,
    /// which contacts cannot have; `now` is in seconds since 1970. Newcomers are handled in the
    /// order of their fingerprints, so that peers who see the same set choose the same names.
    ///
    /// # Errors
    /// As [`Contacts::load`]; what the disk says.
    pub fn observe(
        &mut self,
        seen: &[Claimed],
        mine: &[Fingerprint],
        taken: &[ContactName],
        trust: Trust,
        now: u64,
    ) -> Result<Vec<Notice>> {
        self.refresh()?;
        let mut book = self.book.clone();
        let notices = book.observe(seen, mine, taken, trust, now);
        self.commit(book)?;
        Ok(notices)
    }

    /// Pins one certificate as verified because a person asked for it, and returns its name.
    ///
    /// Without `name` it is named as on first sight. Unverified contacts that share an address
    /// with it are frozen. One that is pinned already is only confirmed.
    ///
    /// # Errors
    /// `Exists` if `name` is taken; `Busy` if the certificate is a former one of a contact;
    /// as [`Contacts::load`]; what the disk says.
    pub fn pin(
        &mut self,
        claimed: &Claimed,
        name: Option<&ContactName>,
        taken: &[ContactName],
        now: u64,
    ) -> Result<ContactName> {
        self.refresh()?;
        let mut book = self.book.clone();
        let name = book.pin(claimed, name, taken, now)?;
        self.commit(book)?;
        Ok(name)
    }

    /// Confirms a contact's fingerprint, which also settles a dispute in its favour.
    ///
    /// # Errors
    /// `NotFound`; as [`Contacts::load`]; what the disk says.
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
    /// `NotFound`; `Exists` if the new name is taken; as [`Contacts::load`]; what the disk says.
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

    /// Makes the certificate of `successor` the current one of `name`, verified. The former one
    /// becomes a past one, and the name of `successor` is free again.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` if both are the same; as [`Contacts::load`]; what the disk says.
    pub fn succeed(&mut self, name: &ContactName, successor: &ContactName) -> Result<()> {
        self.refresh()?;
        let mut book = self.book.clone();
        book.succeed(name, successor)?;
        self.commit(book)
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
    /// If several claim it, a verified one counts before those that are not; `None` if that
    /// does not decide.
    pub fn by_address(&self, address: &str) -> Option<&Contact> {
        self.book.by_address(address)
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

    /// Keeps another copy of a contact's certificate: the former one merged with what is new.
    ///
    /// # Errors
    /// `NotFound` unless it is a contact's; as [`Contacts::load`]; what the disk says.
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

    /// Makes a changed book the valid one, once it is on disk.
    fn commit(&mut self, book: Book) -> Result<()> {
        if book == self.book {
            return Ok(());
        }
        if let Some(pins) = &mut self.pins {
            if let Err(error) = pins.write(&self.book, &book) {
                // Fail closed: a full disk must not keep a disputed pin in use.
                self.book.freeze_as(&book);
                return Err(error);
            }
        }
        self.book = book;
        Ok(())
    }
}
