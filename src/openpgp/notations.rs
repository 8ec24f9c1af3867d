//! The notations that a blob's signature carries (dds-store(5)).

use std::fmt;
use std::str::FromStr;

use sequoia_openpgp as pgp;

use pgp::packet::Signature;
use pgp::packet::signature::SignatureBuilder;
use pgp::packet::signature::subpacket::{NotationData, NotationDataFlags, SubpacketValue};

use crate::ids::{BlobKind, BlobName, DocId, Fingerprint, Timestamp};

/// The domain of all names. Nobody can own it (RFC 2606).
const DOMAIN: &str = "@dds.invalid";
/// How many superseded versions one blob names.
const MOST_REPLACES: usize = 64;
/// Names reserved for later: their values are kept and written back, but mean nothing yet.
pub const RESERVED: [&str; 5] = ["via", "list", "subject", "type", "reply-to"];

/// Statements of a signature about the content.
///
/// Every value comes from the signed part of a signature, and is worth as much as that
/// signature. A value that is malformed (not UTF-8, not flagged human readable, or against the
/// form of its name), and a value given twice where one is allowed, counts as absent.
///
/// `Debug` leaves out the path and the reserved values: they are content.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Notations {
    /// `v@`: version of this list; 1 now. A higher one is kept as it is, so that it can be
    /// refused for writing.
    pub version: Option<u32>,
    /// `kind@`: the kind of the blob.
    pub kind: Option<BlobKind>,
    /// `path@`: path below the audience directory; hostile until made safe.
    pub path: Option<String>,
    /// `doc@`: id of the document.
    pub doc: Option<DocId>,
    /// `copy@`: the one reader that this copy of a message is for.
    pub copy: Option<Fingerprint>,
    /// `replaces@`: superseded versions, direct parents first; at most 64.
    pub replaces: Vec<BlobName>,
    /// `mtime@`: modification time.
    pub mtime: Option<Timestamp>,
    /// `mode@`: permission bits, 0 to 0o7777.
    pub mode: Option<u32>,
    /// Names of [`RESERVED`] with their values, in the order found.
    pub reserved: Vec<(String, Vec<u8>)>,
}

impl Notations {
    /// The version of the notations that this program writes.
    pub const VERSION: u32 = 1;

    /// Reads the signed notations of a signature.
    pub(super) fn read(signature: &Signature) -> Self {
        let all = signature.hashed_area().iter();
        let ours = all.filter_map(|subpacket| match subpacket.value() {
            SubpacketValue::NotationData(n) => Some((n.name().strip_suffix(DOMAIN)?, n)),
            _ => None,
        });
        let ours: Vec<(&str, &NotationData)> = ours.collect();
        let one = |name: &str| -> Option<&str> {
            let mut found = ours.iter().filter(|(known, _)| *known == name);
            let (first, second) = (found.next()?, found.next());
            text(first.1).filter(|_| second.is_none())
        };
        fn parse<T: FromStr>(value: Option<&str>) -> Option<T> {
            value?.parse().ok()
        }
        let replaces = ours.iter().filter(|(name, _)| *name == "replaces");
        let reserved = ours.iter().filter(|(name, _)| RESERVED.contains(name));
        Notations {
            version: one("v").and_then(version),
            kind: parse(one("kind")),
            path: one("path").filter(|path| !path.is_empty()).map(Into::into),
            doc: parse(one("doc")),
            copy: parse(one("copy")),
            replaces: replaces
                .filter_map(|(_, value)| parse(text(value)))
                .take(MOST_REPLACES)
                .collect(),
            mtime: parse(one("mtime")),
            mode: one("mode").and_then(mode),
            reserved: reserved
                .map(|(name, value)| ((*name).to_owned(), value.value().to_vec()))
                .collect(),
        }
    }

    /// Adds the notations to a signature that is being made.
    pub(super) fn write(&self, mut to: SignatureBuilder) -> pgp::Result<SignatureBuilder> {
        for (name, value) in self.values() {
            let flags = NotationDataFlags::empty().set_human_readable();
            to = to.add_notation(format!("{name}{DOMAIN}"), value, flags, false)?;
        }
        Ok(to)
    }

    fn values(&self) -> Vec<(&str, Vec<u8>)> {
        let single = [
            ("v", self.version.map(|v| v.to_string())),
            ("kind", self.kind.map(|kind| kind.name().to_owned())),
            ("path", self.path.clone()),
            ("doc", self.doc.map(|doc| doc.to_string())),
            ("copy", self.copy.as_ref().map(ToString::to_string)),
            ("mtime", self.mtime.map(|time| time.to_string())),
            (
                "mode",
                self.mode.map(|mode| format!("{:03o}", mode & 0o7777)),
            ),
        ];
        let single = single.into_iter();
        let single = single.filter_map(|(name, value)| Some((name, value?.into_bytes())));
        let replaces = self.replaces.iter().take(MOST_REPLACES);
        let replaces = replaces.map(|name| ("replaces", name.to_string().into_bytes()));
        let reserved = self.reserved.iter();
        let reserved = reserved.filter(|(name, _)| RESERVED.contains(&name.as_str()));
        let reserved = reserved.map(|(name, value)| (name.as_str(), value.clone()));
        single.chain(replaces).chain(reserved).collect()
    }
}

impl fmt::Debug for Notations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notations")
            .field("version", &self.version)
            .field("kind", &self.kind)
            .field("doc", &self.doc)
            .field("copy", &self.copy)
            .field("replaces", &self.replaces)
            .field("mtime", &self.mtime)
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}

fn text(value: &NotationData) -> Option<&str> {
    let readable = value.flags().human_readable();
    std::str::from_utf8(value.value()).ok().filter(|_| readable)
}

fn digits(text: &str, radix: u32) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_digit(radix))
}

/// A version too large for 32 bits is as unknown as the largest one that fits.
fn version(text: &str) -> Option<u32> {
    let canonical = digits(text, 10) && !text.starts_with('0');
    canonical.then(|| text.parse().unwrap_or(u32::MAX))
}

fn mode(text: &str) -> Option<u32> {
    let form = digits(text, 8) && matches!(text.len(), 3 | 4);
    form.then(|| u32::from_str_radix(text, 8).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_modes_have_one_form() {
        assert_eq!(version("1"), Some(1));
        assert_eq!(version("99999999999"), Some(u32::MAX));
        for text in ["", "0", "01", "+1", "1 ", "x"] {
            assert_eq!(version(text), None, "{text}");
        }
        assert_eq!(mode("600"), Some(0o600));
        assert_eq!(mode("0755"), Some(0o755));
        for text in ["", "60", "00600", "+60", "888"] {
            assert_eq!(mode(text), None, "{text}");
        }
    }
}
