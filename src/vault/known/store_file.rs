//! One file of the store as it is known: the judged version that it holds, or why it shows nothing.

use std::sync::Arc;
use std::time::Instant;

use crate::ids::Timestamp;
use crate::openpgp::{ChangedKeys, Facts};
use crate::store::{Entry, Stamp};
use crate::vault::audience::People;
use crate::vault::describe::{describe, refused};
use crate::vault::documents::Version;
use crate::vault::learn::{Finding, FoundBlob, Learned};

/// One file in `messages/` or `notes/`.
pub(in crate::vault) struct StoreFile {
    pub(in crate::vault) stamp: Stamp,
    /// The stamp was old enough when the file was read: an equal one means an unchanged file.
    proven: bool,
    /// Opening it took long. It is opened again only when that is certain to tell something.
    pub(in crate::vault) costly: bool,
    pub(in crate::vault) holds: Holds,
}

/// The contents of a file.
pub(in crate::vault) enum Holds {
    /// Not (yet) a whole OpenPGP message: invisible. With the time when it was first seen so.
    Incomplete(Instant),
    /// No key of mine opens it: invisible.
    NotMine,
    /// It cannot be read, for the reason in this sentence. Every refresh tries again.
    Unreadable(String),
    /// A blob that I removed, and that others still read: invisible.
    Hidden,
    /// A blob of mine.
    Blob(Blob),
}

/// A blob, judged.
pub(in crate::vault) struct Blob {
    pub(in crate::vault) facts: Option<Arc<Facts>>,
    pub(in crate::vault) version: Arc<Version>,
}

impl StoreFile {
    /// Judges what was learned of a file.
    pub(in crate::vault) fn judged(entry: &Entry, learned: Learned, people: &People) -> StoreFile {
        let Learned {
            stamp,
            is_settled,
            finding,
        } = learned;
        let is_readable = !matches!(finding, Finding::Unreadable(_));
        let holds = match finding {
            Finding::Incomplete => Holds::Incomplete(Instant::now()),
            Finding::NotMine => Holds::NotMine,
            Finding::Unreadable(why) => Holds::Unreadable(why),
            Finding::Blob(found) => {
                let entry = entry.clone();
                Holds::Blob(Blob::judged(Entry { stamp, ..entry }, found, people))
            }
        };
        StoreFile {
            stamp,
            proven: is_readable && is_settled,
            costly: false,
            holds,
        }
    }

    pub(in crate::vault) fn of_blob(
        stamp: Stamp,
        facts: Arc<Facts>,
        version: Arc<Version>,
    ) -> StoreFile {
        let facts = Some(facts);
        StoreFile {
            stamp,
            proven: true,
            costly: false,
            holds: Holds::Blob(Blob { facts, version }),
        }
    }

    pub(in crate::vault) fn hidden(stamp: Stamp) -> StoreFile {
        StoreFile {
            stamp,
            proven: true,
            costly: false,
            holds: Holds::Hidden,
        }
    }

    pub(in crate::vault) fn facts(&self) -> Option<&Arc<Facts>> {
        self.blob().and_then(|blob| blob.facts.as_ref())
    }

    pub(in crate::vault) fn version(&self) -> Option<&Arc<Version>> {
        self.blob().map(|blob| &blob.version)
    }

    fn blob(&self) -> Option<&Blob> {
        match &self.holds {
            Holds::Blob(blob) => Some(blob),
            Holds::Incomplete(_) | Holds::NotMine | Holds::Hidden | Holds::Unreadable(_) => None,
        }
    }

    /// Takes over the file's stamp after it got another name: only its time of change is new.
    pub(in crate::vault) fn was_linked(&mut self, now: Stamp) {
        if now.is_same_file(&self.stamp) {
            self.stamp = now;
        }
    }

    /// Tells whether a listed file is still the one that is known here.
    ///
    /// A blob that was opened is authentic whatever happens to the file. Any other file may have
    /// been read while somebody wrote it, so until its stamp is old enough to prove something, it
    /// is read again.
    pub(in crate::vault) fn is_still(&self, entry: &Entry) -> bool {
        let sure = match &self.holds {
            Holds::Unreadable(_) => false,
            Holds::Blob(Blob { facts: Some(_), .. }) | Holds::Hidden => true,
            Holds::Blob(Blob { facts: None, .. }) | Holds::Incomplete(_) | Holds::NotMine => {
                self.proven
            }
        };
        let is_settled = || entry.stamp.is_settled(Timestamp::now());
        let read_again = !sure && (!self.costly || is_settled());
        self.stamp == entry.stamp && !read_again
    }

    /// Tells whether other certificates may change the facts of the blob.
    pub(in crate::vault) fn is_concerned(&self, changed: &ChangedKeys) -> bool {
        self.facts().is_some_and(|facts| {
            let mut signatures = facts.signatures.iter();
            signatures.any(|signature| changed.concern(signature))
        })
    }
}

impl Blob {
    fn judged(entry: Entry, found: FoundBlob, people: &People) -> Blob {
        let FoundBlob { name, id, .. } = found;
        let (facts, version) = match found.facts {
            Ok(facts) => {
                let version = describe(entry, name, id, &facts, people);
                (Some(facts), version)
            }
            Err(why) => (None, refused(entry, name, id, found.recipients, why)),
        };
        Blob {
            facts,
            version: Arc::new(version),
        }
    }
}
