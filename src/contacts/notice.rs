//! Sentences about contacts, for people.

use std::fmt;

use super::{ContactName, FIRST_SIGHT_LIMIT};
use crate::ids::Fingerprint;

/// An event among contacts that people should know; displays as a sentence for `.dds/status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A newcomer was pinned.
    Pinned {
        /// Its local name.
        name: ContactName,
        /// Its fingerprint.
        fingerprint: Fingerprint,
    },
    /// A newcomer claims an address that another certificate has or claims, and is frozen.
    Disputed {
        /// The certificate.
        claimant: Fingerprint,
        /// An address that is in dispute.
        address: String,
        /// The contacts that are frozen for it.
        frozen: Vec<ContactName>,
    },
    /// A contact's certificate claims an address that somebody else had before: it is not granted.
    /// Reported at every look.
    Contested {
        /// The contact.
        name: ContactName,
        /// The address.
        address: String,
        /// Its holder; `None` if that is me.
        holder: Option<ContactName>,
    },
    /// A contact that was called by its fingerprint now has a name.
    Named {
        /// Its former name.
        from: ContactName,
        /// Its present name.
        name: ContactName,
    },
    /// A contact's key can no longer be used, and the key that it signed took its place.
    Succeeded {
        /// The contact.
        name: ContactName,
        /// The former name of the successor.
        from: ContactName,
    },
    /// Contacts that were never used were dropped for newcomers.
    MadeRoom {
        /// The contacts that were dropped.
        gone: Vec<ContactName>,
    },
    /// Newcomers were not pinned because there are too many contacts.
    TooMany {
        /// How many were left out.
        left_out: usize,
    },
    /// A newcomer was not pinned because contacts are pinned explicitly. Reported at every look.
    NotPinned {
        /// Its fingerprint.
        fingerprint: Fingerprint,
        /// The name that it would get.
        name: ContactName,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Notice::Pinned { name, fingerprint } => write!(
                f,
                "new contact {name}, not verified: compare the fingerprint {fingerprint} with \
                 its owner, then set verified in contacts.toml"
            ),
            Notice::Disputed {
                claimant,
                address,
                frozen,
            } => {
                write!(
                    f,
                    "the certificate {claimant} claims {address}, which another certificate \
                     has: frozen until you decide in contacts.toml: {}",
                    list(frozen)
                )
            }
            Notice::Contested {
                name,
                address,
                holder,
            } => {
                let holder = holder
                    .as_ref()
                    .map_or("your certificate", ContactName::as_str);
                write!(
                    f,
                    "the certificate of {name} claims {address}, which {holder} has: the address \
                     stays with {holder}; ask {name} by another way whether that is right"
                )
            }
            Notice::Named { from, name } => {
                write!(f, "{from} is called {name} now, as the certificate says")
            }
            Notice::Succeeded { name, from } => write!(
                f,
                "the key of {name} can no longer be used: {from}, whose key it signed, is called \
                 {name} now"
            ),
            Notice::MadeRoom { gone } => write!(
                f,
                "contacts that were never written to made room for new ones: {}; whom you know, \
                 set verified in contacts.toml",
                list(gone)
            ),
            Notice::TooMany { left_out } => write!(
                f,
                "{left_out} new certificates are not pinned, because at most \
                 {FIRST_SIGHT_LIMIT} contacts are pinned on first sight: take those that you do \
                 not know out of contacts.toml and keys/"
            ),
            Notice::NotPinned { fingerprint, name } => write!(
                f,
                "the certificate {fingerprint} ({name}) is not pinned: compare the fingerprint \
                 with its owner before you pin it in contacts.toml"
            ),
        }
    }
}

fn list(names: &[ContactName]) -> String {
    let names: Vec<&str> = names.iter().map(ContactName::as_str).collect();
    names.join(", ")
}
