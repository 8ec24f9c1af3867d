//! What people are told about contacts.

use std::fmt;

use super::{ContactName, FIRST_SIGHT_LIMIT};
use crate::ids::Fingerprint;

/// Something about contacts that people should know; displays as a sentence for `.dds/status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A newcomer was pinned.
    Pinned {
        /// Its local name.
        name: ContactName,
        /// Its fingerprint.
        fingerprint: Fingerprint,
    },
    /// A certificate claims an address that another one has, and contacts were frozen for it.
    Disputed {
        /// The certificate.
        claimant: Fingerprint,
        /// An address that is in dispute.
        address: String,
        /// Who is frozen now. Sorted.
        frozen: Vec<ContactName>,
    },
    /// Newcomers were not pinned because there are too many contacts.
    TooMany {
        /// How many were left out.
        left_out: usize,
    },
    /// A newcomer was not pinned because contacts are pinned explicitly. Told at every look.
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
                let frozen: Vec<&str> = frozen.iter().map(ContactName::as_str).collect();
                write!(
                    f,
                    "the certificate {claimant} claims {address}, which another certificate \
                     has: frozen until you decide in contacts.toml: {}",
                    frozen.join(", ")
                )
            }
            Notice::TooMany { left_out } => write!(
                f,
                "{left_out} new certificates are not pinned, because at most \
                 {FIRST_SIGHT_LIMIT} contacts are pinned on first sight"
            ),
            Notice::NotPinned { fingerprint, name } => write!(
                f,
                "the certificate {fingerprint} ({name}) is not pinned: compare the fingerprint \
                 with its owner before you pin it in contacts.toml"
            ),
        }
    }
}
