//! One record of the log: its meaning and its spelling.
//!
//! A record is one line of words separated by single spaces, filled up with line ends to a multiple
//! of 256 bytes:
//!
//! ```text
//! removed  <blob id> <blob name> <seconds.nanoseconds> <lineage> [<blob name>...]
//! removed-version  <as removed, to the lineage> <version id>... [<blob name>...]
//! went     (<version id> <blob name> <seconds.nanoseconds> <lineage> replaced|gone)...
//! restored <blob id>
//! begin    <intent, 16 hex> <folder> publish [<blob name>...] remove [<blob name>...]
//! finish   <intent>
//! ```
//!
//! Ids and lineages have 64 hex digits, blob names 40. The names at the end of `removed` are
//! those of the versions that the removed one replaced. A version id stands for the content of a
//! blob, whatever its bytes are; removals of older versions of DDS know the bytes alone. `went`
//! records versions that left the store without being removed here. Other words belong to newer
//! versions of DDS and are kept as they are; a newer format has another digit in the header.

use std::fmt::Write as _;

use super::departures::Departure;
use crate::ids::{BlobId, BlobName, Folder, Timestamp, VersionId, hex_digits, unhex};
use crate::state::lineage::Lineage;

/// Records are filled up to a multiple of this, so that their sizes tell less.
const PADDING: usize = 256;

/// One removal of a blob by me.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removal {
    /// The blob.
    pub id: BlobId,
    /// Its version's ids, by which it is known whatever armor or encryption stands around it. Empty
    /// in records of older versions of DDS.
    pub versions: Vec<VersionId>,
    /// Its name in the store.
    pub name: BlobName,
    /// The document it was a version of.
    pub lineage: Lineage,
    /// The versions it replaced, which are removed with it.
    pub replaces: Vec<BlobName>,
    /// When it was removed; after two years it is forgotten.
    pub at: Timestamp,
}

/// Names an intent in this directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IntentId(pub(super) u64);

/// Blobs that are published together, and those that are removed afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// Where all of them belong.
    pub folder: Folder,
    /// The staged blobs to be placed there.
    pub publish: Vec<BlobName>,
    /// The blobs to be removed from there once all are in place.
    pub remove: Vec<BlobName>,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Record {
    /// I removed this.
    Removed(Removal),
    /// I did not remove this, or it is back by my own wish.
    Restored(BlobId),
    /// These blobs belong together.
    Begin(IntentId, Intent),
    /// They are all in place, or all taken back.
    Finish(IntentId),
    /// These left the store.
    Departed(Vec<Departure>),
    /// Something that a newer version wrote: kept as it is.
    Unknown(Vec<u8>),
}

impl Record {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut text = match self {
            Record::Unknown(bytes) => return bytes.clone(),
            Record::Removed(removal) => {
                let Removal {
                    id,
                    versions,
                    name,
                    lineage,
                    replaces,
                    at,
                } = removal;
                let (id, lineage) = (hex_digits(id.as_bytes()), hex_digits(&lineage.0));
                let word = if versions.is_empty() {
                    "removed"
                } else {
                    "removed-version"
                };
                let mut text = format!("{word} {id} {name} {at} {lineage}");
                for version in versions {
                    write!(text, " {}", hex_digits(version.as_bytes()))
                        .expect("a String takes everything");
                }
                names(&mut text, replaces);
                text
            }
            Record::Departed(all) => {
                let mut text = "went".to_owned();
                for departure in all {
                    let Departure {
                        version,
                        name,
                        lineage,
                        replaced,
                        at,
                    } = departure;
                    let (version, lineage) =
                        (hex_digits(version.as_bytes()), hex_digits(&lineage.0));
                    let how = if *replaced { "replaced" } else { "gone" };
                    write!(text, " {version} {name} {at} {lineage} {how}")
                        .expect("a String takes everything");
                }
                text
            }
            Record::Restored(id) => format!("restored {}", hex_digits(id.as_bytes())),
            Record::Begin(id, intent) => {
                let mut text = format!("begin {:016x} {} publish", id.0, intent.folder.name());
                names(&mut text, &intent.publish);
                text.push_str(" remove");
                names(&mut text, &intent.remove);
                text
            }
            Record::Finish(id) => format!("finish {:016x}", id.0),
        };
        let size = text.len().next_multiple_of(PADDING);
        text.extend(std::iter::repeat_n('\n', size - text.len()));
        text.into_bytes()
    }

    /// Reads a record that was authenticated. One that is not understood is a newer version's.
    pub(super) fn decode(bytes: &[u8]) -> Record {
        let text = std::str::from_utf8(bytes).ok();
        text.and_then(|text| parse(text.trim_end_matches('\n')))
            .unwrap_or_else(|| Record::Unknown(bytes.to_vec()))
    }
}

fn parse(text: &str) -> Option<Record> {
    let mut words = text.split(' ');
    let record = match words.next()? {
        word @ ("removed" | "removed-version") => {
            let mut removal = Removal {
                id: BlobId::from_digest(unhex(words.next()?)?),
                versions: Vec::new(),
                name: words.next()?.parse().ok()?,
                at: words.next()?.parse().ok()?,
                lineage: Lineage::from_digest(unhex(words.next()?)?),
                replaces: Vec::new(),
            };
            if word == "removed-version" {
                // At least one, and longer than the names that follow.
                removal.versions.push(version_id(words.next()?)?);
                while let Some(version) = words.clone().next().and_then(version_id) {
                    removal.versions.push(version);
                    words.next();
                }
            }
            removal.replaces = parse_names(&mut words)?;
            Record::Removed(removal)
        }
        "went" => {
            let mut all = Vec::new();
            while let Some(version) = words.next() {
                all.push(Departure {
                    version: version_id(version)?,
                    name: words.next()?.parse().ok()?,
                    at: words.next()?.parse().ok()?,
                    lineage: Lineage::from_digest(unhex(words.next()?)?),
                    replaced: match words.next()? {
                        "replaced" => true,
                        "gone" => false,
                        _ => return None,
                    },
                });
            }
            Record::Departed(all)
        }
        "restored" => Record::Restored(BlobId::from_digest(unhex(words.next()?)?)),
        "begin" => {
            let id = intent_id(words.next()?)?;
            let name = words.next()?;
            let folder = Folder::ALL
                .into_iter()
                .find(|folder| folder.name() == name)?;
            words.next().filter(|word| *word == "publish")?;
            let mut publish = words.by_ref().take_while(|word| *word != "remove");
            let intent = Intent {
                folder,
                publish: parse_names(&mut publish)?,
                remove: parse_names(&mut words)?,
            };
            Record::Begin(id, intent)
        }
        "finish" => Record::Finish(intent_id(words.next()?)?),
        _ => return None,
    };
    words.next().is_none().then_some(record)
}

fn names(text: &mut String, names: &[BlobName]) {
    for name in names {
        write!(text, " {name}").expect("a String takes everything");
    }
}

fn parse_names<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<Vec<BlobName>> {
    words.map(|word| word.parse().ok()).collect()
}

fn version_id(word: &str) -> Option<VersionId> {
    Some(VersionId::from_digest(unhex(word)?))
}

fn intent_id(word: &str) -> Option<IntentId> {
    let digits = word.len() == 16 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let id = u64::from_str_radix(word, 16).ok().filter(|_| digits)?;
    Some(IntentId(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Vec<Record> {
        let name = |n: u8| BlobName::of(&[n]);
        let version = |n: u8| VersionId::from_digest([n; 32]);
        let removal = |replaces: Vec<BlobName>| {
            Record::Removed(Removal {
                id: BlobId::of(b"a"),
                versions: replaces.iter().take(2).map(|_| version(9)).collect(),
                name: name(1),
                lineage: Lineage::from_digest([7; 32]),
                replaces,
                at: Timestamp::new(-5, 17).unwrap(),
            })
        };
        let intent = |publish: Vec<BlobName>, remove: Vec<BlobName>| {
            let folder = Folder::Messages;
            let intent = Intent {
                folder,
                publish,
                remove,
            };
            Record::Begin(IntentId(u64::MAX), intent)
        };
        vec![
            removal(vec![]),
            removal((0..64).map(name).collect()),
            Record::Restored(BlobId::of(b"b")),
            intent(vec![], vec![]),
            intent(vec![name(1), name(2)], vec![]),
            intent(vec![], vec![name(3)]),
            intent(vec![name(1)], vec![name(2), name(3)]),
            Record::Finish(IntentId(0)),
            Record::Departed(
                [true, false]
                    .map(|replaced| Departure {
                        version: version(3),
                        name: name(4),
                        lineage: Lineage::from_digest([7; 32]),
                        replaced,
                        at: Timestamp::new(5, 6).unwrap(),
                    })
                    .to_vec(),
            ),
        ]
    }

    #[test]
    fn what_is_written_is_read_again_and_its_size_tells_little() {
        for record in samples() {
            let bytes = record.encode();
            assert_eq!(bytes.len() % PADDING, 0);
            assert_eq!(Record::decode(&bytes), record);
        }
    }

    #[test]
    fn what_is_not_understood_is_kept_to_the_byte() {
        let mut strange = vec![b"moved 1 2\n\n".to_vec(), b"\xff\0".to_vec(), Vec::new()];
        for record in samples() {
            let mut longer = record.encode();
            longer.truncate(longer.iter().position(|byte| *byte == b'\n').unwrap());
            let word = longer.iter().rposition(|byte| *byte == b' ').unwrap();
            strange.push([longer.as_slice(), b" more"].concat());
            strange.push([&longer[..word], b" x".as_slice()].concat());
            strange.push([longer.as_slice(), b"\xc3\xa9".as_slice()].concat());
        }
        for bytes in strange {
            let record = Record::decode(&bytes);
            assert_eq!(record, Record::Unknown(bytes.clone()));
            assert_eq!(record.encode(), bytes);
        }
    }
}
