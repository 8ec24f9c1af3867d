//! Versions that left the store without being removed here: their ids, the names of their blobs,
//! and whether newer versions replaced them.
//!
//! A newer version names the blobs that it replaces. Anybody who can write to the store can bring
//! an old one back under another name, so it is remembered by its id, too.

use std::collections::HashMap;

use crate::ids::{BlobName, Timestamp, VersionId};
use crate::state::lineage::Lineage;

/// Versions that are remembered; when there are more, the older half is forgotten.
const MOST: usize = 1 << 15;
/// Names that are remembered of one version.
const NAMES: usize = 4;

/// A version that left the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Departure {
    /// The version.
    pub version: VersionId,
    /// The name of its blob.
    pub name: BlobName,
    /// The document that it was a version of.
    pub lineage: Lineage,
    /// A newer version of its document replaced it.
    pub replaced: bool,
    /// When it left; after two years it is forgotten.
    pub at: Timestamp,
}

/// The versions that left the store.
#[derive(Default)]
pub(super) struct Departures {
    versions: HashMap<VersionId, Entry>,
    by_name: HashMap<BlobName, VersionId>,
}

struct Entry {
    /// Never empty, the latest last, each with whether a newer version replaced it by that name.
    names: Vec<(BlobName, bool)>,
    lineage: Lineage,
    at: Timestamp,
}

impl Departures {
    /// Adds a departure. Returns how many entries of the log became void by it.
    pub(super) fn add(&mut self, departure: Departure) -> usize {
        let mut void = 0;
        let entry = self.versions.entry(departure.version).or_insert(Entry {
            names: Vec::new(),
            lineage: departure.lineage,
            at: departure.at,
        });
        entry.lineage = departure.lineage;
        entry.at = entry.at.max(departure.at);
        self.by_name.insert(departure.name, departure.version);
        let mut names = entry.names.iter_mut();
        if let Some((_, replaced)) = names.find(|(name, _)| *name == departure.name) {
            *replaced |= departure.replaced;
            void += 1;
        } else {
            entry.names.push((departure.name, departure.replaced));
        }
        if entry.names.len() > NAMES {
            // Anybody can make more names. Those that newer versions know stay, and the first.
            let mut others = entry.names.iter().skip(1);
            let other = others.position(|(_, replaced)| !replaced).unwrap_or(0);
            let (name, _) = entry.names.remove(other + 1);
            self.by_name.remove(&name);
            void += 1;
        }
        if self.versions.len() > MOST {
            void += self.forget_half();
        }
        void
    }

    /// Tells whether a departure is known, with all that it says.
    pub(super) fn knows(&self, departure: &Departure) -> bool {
        self.versions.get(&departure.version).is_some_and(|known| {
            let mut names = known.names.iter();
            let same = |(name, replaced): &(BlobName, bool)| {
                *name == departure.name && (*replaced || !departure.replaced)
            };
            known.lineage == departure.lineage && names.any(same)
        })
    }

    /// Returns when a version left that a newer version of its document had replaced.
    pub(super) fn replaced_at(&self, version: VersionId, lineage: Lineage) -> Option<Timestamp> {
        let known = self.versions.get(&version)?;
        let replaced = known.names.iter().any(|(_, replaced)| *replaced);
        (replaced && known.lineage == lineage).then_some(known.at)
    }

    /// Returns the names that the blobs of a version had.
    pub(super) fn names(
        &self,
        version: VersionId,
        lineage: Lineage,
    ) -> impl Iterator<Item = BlobName> {
        let known = self.versions.get(&version);
        let known = known.filter(|known| known.lineage == lineage);
        let names = known.into_iter().flat_map(|known| &known.names);
        names.map(|(name, _)| *name)
    }

    /// Returns the version of a document whose blob had this name.
    pub(super) fn called(&self, name: BlobName, lineage: Lineage) -> Option<VersionId> {
        let version = *self.by_name.get(&name)?;
        let known = self.versions.get(&version)?;
        (known.lineage == lineage).then_some(version)
    }

    /// All that is remembered, the oldest first.
    pub(super) fn all(&self) -> Vec<Departure> {
        let each = |(version, entry): (&VersionId, &Entry)| {
            let (version, lineage, at) = (*version, entry.lineage, entry.at);
            let names = entry.names.clone().into_iter();
            names.map(move |(name, replaced)| Departure {
                version,
                name,
                lineage,
                replaced,
                at,
            })
        };
        let mut all: Vec<Departure> = self.versions.iter().flat_map(each).collect();
        all.sort_by_key(|departure| departure.at);
        all
    }

    /// Forgets departures before a time. Returns how many entries that were.
    pub(super) fn forget_before(&mut self, time: Timestamp) -> usize {
        self.keep(|_, entry| entry.at >= time)
    }

    fn forget_half(&mut self) -> usize {
        let ages = self.versions.iter();
        let mut ages: Vec<_> = ages.map(|(version, entry)| (entry.at, *version)).collect();
        let middle = ages.len() / 2;
        let oldest = *ages.select_nth_unstable(middle).1;
        self.keep(|version, entry| (entry.at, *version) >= oldest)
    }

    fn keep(&mut self, which: impl Fn(&VersionId, &Entry) -> bool) -> usize {
        let before = self.by_name.len();
        self.versions.retain(|version, entry| which(version, entry));
        let versions = &self.versions;
        self.by_name
            .retain(|_, version| versions.contains_key(version));
        before - self.by_name.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn departure(n: u32, name: u32) -> Departure {
        let version = sha(n);
        Departure {
            version: VersionId::from_digest(version),
            name: BlobName::of(&name.to_be_bytes()),
            lineage: Lineage::from_digest([7; 32]),
            replaced: false,
            at: Timestamp::new(n.into(), 0).unwrap(),
        }
    }

    fn sha(n: u32) -> [u8; 32] {
        *crate::ids::BlobId::of(&n.to_be_bytes()).as_bytes()
    }

    #[test]
    fn a_version_is_known_by_its_names_in_its_document_alone() {
        let mut departures = Departures::default();
        let first = departure(1, 1);
        assert_eq!(departures.add(first), 0);
        assert!(departures.knows(&first));
        assert!(
            departures
                .replaced_at(first.version, first.lineage)
                .is_none()
        );
        let replaced = Departure {
            replaced: true,
            ..first
        };
        assert!(!departures.knows(&replaced));
        departures.add(replaced);
        assert!(departures.knows(&first) && departures.knows(&replaced));
        let other = Lineage::from_digest([8; 32]);
        assert!(
            departures
                .replaced_at(first.version, first.lineage)
                .is_some()
        );
        assert!(departures.replaced_at(first.version, other).is_none());
        assert_eq!(
            departures.called(first.name, first.lineage),
            Some(first.version)
        );
        assert_eq!(departures.called(first.name, other), None);
        let names = |departures: &Departures| -> Vec<BlobName> {
            departures.names(first.version, first.lineage).collect()
        };
        assert_eq!(names(&departures), [first.name]);
        // Names that anybody gives it do not push out those that newer versions know.
        let known = Departure {
            replaced: true,
            ..departure(1, 2)
        };
        departures.add(known);
        for name in 3..20 {
            departures.add(departure(1, name));
        }
        assert_eq!(names(&departures).len(), NAMES);
        assert_eq!(names(&departures)[..2], [first.name, known.name]);
        assert_eq!(departures.by_name.len(), NAMES);
    }

    #[test]
    fn there_is_an_end_to_what_is_remembered() {
        for step in [0, 1] {
            let mut departures = Departures::default();
            for n in 0..MOST as u32 + 10 {
                departures.add(Departure {
                    at: Timestamp::new(i64::from(n * step), 0).unwrap(),
                    ..departure(n, n)
                });
            }
            assert!(departures.versions.len() <= MOST);
            assert_eq!(departures.by_name.len(), departures.versions.len());
            let last = departure(MOST as u32 + 9, 0);
            let kept = departures.versions.contains_key(&last.version);
            assert!(kept || step == 0, "the latest are kept");
        }
    }
}
