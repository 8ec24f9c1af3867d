//! What went from the store: versions, the names of their blobs, and whether newer ones replaced them.
//!
//! A newer version names the blobs that it replaces. Whoever holds the store can bring an old one
//! back under another name, so what is remembered of it is what it is.

use std::collections::HashMap;

use crate::ids::{BlobName, Timestamp, VersionId};
use crate::state::Lineage;

/// Versions that are remembered; half of them go, the oldest, when there are more.
const MOST: usize = 1 << 15;
/// Names that are remembered of one version.
const NAMES: usize = 4;

/// A version that went from the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Departure {
    /// What it is.
    pub version: VersionId,
    /// What its blob was called.
    pub name: BlobName,
    /// The document that it was a version of.
    pub lineage: Lineage,
    /// A newer version of its document replaced it.
    pub replaced: bool,
    /// When it went; after two years it is forgotten.
    pub at: Timestamp,
}

/// What went.
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
    /// Takes in what went. Returns how many entries of the log say nothing any more.
    pub(super) fn add(&mut self, went: Departure) -> usize {
        let mut void = 0;
        let entry = self.versions.entry(went.version).or_insert(Entry {
            names: Vec::new(),
            lineage: went.lineage,
            at: went.at,
        });
        entry.lineage = went.lineage;
        entry.at = entry.at.max(went.at);
        self.by_name.insert(went.name, went.version);
        let mut names = entry.names.iter_mut();
        if let Some((_, replaced)) = names.find(|(name, _)| *name == went.name) {
            *replaced |= went.replaced;
            void += 1;
        } else {
            entry.names.push((went.name, went.replaced));
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

    /// Tells whether nothing is new in this.
    pub(super) fn knows(&self, went: &Departure) -> bool {
        self.versions.get(&went.version).is_some_and(|known| {
            let mut names = known.names.iter();
            let same = |(name, replaced): &(BlobName, bool)| {
                *name == went.name && (*replaced || !went.replaced)
            };
            known.lineage == went.lineage && names.any(same)
        })
    }

    /// When a version went that a newer version of its document had replaced.
    pub(super) fn replaced_at(&self, version: VersionId, lineage: Lineage) -> Option<Timestamp> {
        let known = self.versions.get(&version)?;
        let replaced = known.names.iter().any(|(_, replaced)| *replaced);
        (replaced && known.lineage == lineage).then_some(known.at)
    }

    /// What the blobs of a version were called.
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

    /// The version of a document whose blob was called so.
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
        all.sort_by_key(|went| went.at);
        all
    }

    /// Forgets what went before a time. Returns how many entries that were.
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

    fn went(n: u32, name: u32) -> Departure {
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
        let mut departed = Departures::default();
        let first = went(1, 1);
        assert_eq!(departed.add(first), 0);
        assert!(departed.knows(&first));
        assert!(departed.replaced_at(first.version, first.lineage).is_none());
        let replaced = Departure {
            replaced: true,
            ..first
        };
        assert!(!departed.knows(&replaced));
        departed.add(replaced);
        assert!(departed.knows(&first) && departed.knows(&replaced));
        let other = Lineage::from_digest([8; 32]);
        assert!(departed.replaced_at(first.version, first.lineage).is_some());
        assert!(departed.replaced_at(first.version, other).is_none());
        assert_eq!(
            departed.called(first.name, first.lineage),
            Some(first.version)
        );
        assert_eq!(departed.called(first.name, other), None);
        let names = |departed: &Departures| -> Vec<BlobName> {
            departed.names(first.version, first.lineage).collect()
        };
        assert_eq!(names(&departed), [first.name]);
        // Names that anybody gives it do not push out those that newer versions know.
        let known = Departure {
            replaced: true,
            ..went(1, 2)
        };
        departed.add(known);
        for name in 3..20 {
            departed.add(went(1, name));
        }
        assert_eq!(names(&departed).len(), NAMES);
        assert_eq!(names(&departed)[..2], [first.name, known.name]);
        assert_eq!(departed.by_name.len(), NAMES);
    }

    #[test]
    fn there_is_an_end_to_what_is_remembered() {
        for step in [0, 1] {
            let mut departed = Departures::default();
            for n in 0..MOST as u32 + 10 {
                departed.add(Departure {
                    at: Timestamp::new(i64::from(n * step), 0).unwrap(),
                    ..went(n, n)
                });
            }
            assert!(departed.versions.len() <= MOST);
            assert_eq!(departed.by_name.len(), departed.versions.len());
            let last = went(MOST as u32 + 9, 0);
            let kept = departed.versions.contains_key(&last.version);
            assert!(kept || step == 0, "the latest are kept");
        }
    }
}
