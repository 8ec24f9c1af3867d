//! Opens and seals blobs: bytes in, bytes out.
//!
//! This is the only module that names sequoia. It owns the format inside a blob, which
//! dds-store(5) describes: notations, padding, anonymous recipients, signatures judged one by one.
//! It never touches files, prints, asks or reads the environment, and it knows neither contacts nor
//! directories: it reports facts (signers, their intended readers, their notations), and its
//! callers judge them.
//!
//! ```text
//! seal:  Plaintext + Notations + Identity + [Certificate] -> Sealed -> armored bytes + Receipt
//! open:  bytes -> armor -> packets -> session key -> Plaintext + Facts; the outline on the way
//! ```
//!
//! | files | subject |
//! |---|---|
//! | `armor`, `utf16`, `packets`, `parts`, `source` | bytes of a file as packets, and back |
//! | `outline`, `inspect`, `addressees`, `refusal` | the form of a file from its outside |
//! | `limits`, `budget`, `key_search`, `chunks`, `open` | from a file to its authenticated content |
//! | `signatures`, `candidates`, `notations`, `version` | statements about a content, one by one |
//! | `certificate`, `condition`, `vouched`, `ring`, `endorsement` | others' keys, as found and as kept |
//! | `identity`, `protection`, `shortcomings`, `generate` | my own keys |
//! | `seal`, `padding`, `session_key`, `ciphertext` | blobs that are written, and taken over |

mod addressees;
mod armor;
mod budget;
mod candidates;
mod certificate;
mod chunks;
mod ciphertext;
mod condition;
mod endorsement;
mod generate;
mod identity;
mod inspect;
mod key_search;
mod limits;
mod notations;
mod open;
mod outline;
mod packets;
mod padding;
mod parts;
mod protection;
mod refusal;
mod ring;
mod seal;
#[cfg(test)]
mod seal_tests;
mod session_key;
mod shortcomings;
mod signatures;
mod source;
mod utf16;
mod version;
mod vouched;

pub use candidates::{CertIndex, ChangedKeys, Keyring};
pub use certificate::{Certificate, UserId, holds_secret_key};
pub use ciphertext::{Ciphertext, Rereadable};
pub use condition::Condition;
pub use endorsement::{Endorsement, Endorsements, Endorsers};
pub use generate::{NewIdentity, Profile, email_of, generate};
pub use identity::{Identity, Role};
pub use inspect::{Inspected, inspect, outline};
pub use limits::Limits;
pub use notations::{Notations, RESERVED};
pub use open::{Examined, Facts, Opened, Outcome, examine, open};
pub use outline::Outline;
pub use refusal::Refusal;
pub use ring::{RawCertificate, Ring};
pub use seal::{Receipt, SealRequest, Sealed};
pub use session_key::SessionKey;
pub use signatures::{SignatureFacts, SignatureStatus};

use sequoia_openpgp as pgp;

use crate::error::{Error, Kind};

/// Returns the rules by which keys and signatures are accepted.
fn policy() -> pgp::policy::StandardPolicy<'static> {
    pgp::policy::StandardPolicy::new()
}

/// Turns a failure inside the library into ours, with words for the attempt.
fn failed(kind: Kind, doing: &str, why: impl std::fmt::Display) -> Error {
    Error::new(kind, format!("{doing}: {why}"))
}

/// Turns a fingerprint of the library into ours; `None` for other than versions 4 and 6.
fn fingerprint_of(of: &pgp::Fingerprint) -> Option<crate::ids::Fingerprint> {
    crate::ids::Fingerprint::from_bytes(of.as_bytes()).ok()
}

/// Turns our fingerprint into the library's.
fn to_library(of: &crate::ids::Fingerprint) -> pgp::Fingerprint {
    let version = if of.as_bytes().len() == 20 { 4 } else { 6 };
    pgp::Fingerprint::from_bytes(version, of.as_bytes()).expect("its length fits the version")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_certificates_may_be_shared_among_threads() {
        fn shared<T: Send + Sync>() {}
        shared::<Identity>();
        shared::<Certificate>();
        shared::<CertIndex>();
        shared::<SessionKey>();
        shared::<Sealed<'_>>();
        shared::<Opened>();
    }
}
