//! A save replaces only what its writer has seen (DESIGN 6).
//!
//! What each process last read under a name is remembered. When it saves there, by truncating,
//! by renaming over it, or by renaming it away first, its new version replaces that one; another
//! version that arrived meanwhile stays as a conflict copy. What other programs here published on
//! top of it counts as seen: scripts whose parts write one file in turn make no conflicts.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::num::NonZeroUsize;
use std::sync::Arc;

use lru::LruCache;

use crate::ids::VersionId;
use crate::vault::{Head, Version};
use crate::view::draft::open_file::OpenFile;
use crate::view::tree::Ino;
use crate::view::{Reader, View};

/// Names of which it is remembered what a process saw there. Who is forgotten counts as one that
/// never read the file.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

type ReadName = (Reader, Ino, OsString);

/// What a process saw under a name.
#[derive(Clone)]
pub(in crate::view) struct LastRead {
    pub(in crate::view) head: Head,
    /// It was a conflict copy.
    pub(in crate::view) is_conflict: bool,
    /// A conflict copy: the document's other heads that were shown.
    others: Vec<Arc<Version>>,
}

/// What a file shows, and where.
pub(in crate::view) struct ShownThere {
    pub(in crate::view) parent: Ino,
    pub(in crate::view) name: OsString,
    pub(in crate::view) head: Head,
    is_conflict: bool,
    /// A conflict copy: the document's other heads.
    pub(in crate::view) others: Vec<Arc<Version>>,
}

/// What a process goes on with instead of the version that has a name.
pub(in crate::view) enum Instead {
    /// The version that it saw.
    Seen(Head),
    /// What it saw has another name by now: a new document, or that one would fork.
    New,
}

impl LastRead {
    /// Tells whether another head of a document was shown beside its conflict copy.
    pub(in crate::view) fn saw(&self, version: &Version) -> bool {
        self.others.iter().any(|other| other.id == version.id)
    }
}

/// What processes saw, and what was published on top of what.
pub(in crate::view) struct ReadSet {
    opened: LruCache<ReadName, LastRead>,
    /// Blobs that this mount published, with those that they replaced.
    published: LruCache<VersionId, Vec<VersionId>>,
}

impl Default for ReadSet {
    fn default() -> Self {
        ReadSet {
            opened: LruCache::new(REMEMBERED),
            published: LruCache::new(REMEMBERED),
        }
    }
}

impl ReadSet {
    /// Tells whether a version was made from another one by programs here, or by them alone.
    fn led_to(&self, seen: &Head, current: &Head) -> bool {
        self.trace(seen, current) != Trace::Arrived
    }

    /// Follows a version back to another one.
    fn trace(&self, seen: &Head, current: &Head) -> Trace {
        let known: HashSet<VersionId> = seen.blobs().map(|blob| blob.id).collect();
        let mut open: Vec<VersionId> = current.blobs().map(|blob| blob.id).collect();
        let mut done = HashSet::new();
        let mut arrived = false;
        while let Some(id) = open.pop() {
            if known.contains(&id) {
                return Trace::Reached;
            }
            if done.insert(id) {
                match self.published.peek(&id) {
                    Some(parents) => open.extend(parents),
                    None => arrived = true,
                }
            }
        }
        match arrived {
            true => Trace::Arrived,
            false => Trace::Ours,
        }
    }
}

/// Where a version comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trace {
    /// From the version that was asked about.
    Reached,
    /// From programs here alone.
    Ours,
    /// From what others made.
    Arrived,
}

impl View {
    /// Remembers that a process saw what a file shows now.
    pub(in crate::view) fn note_read(&self, reader: Option<Reader>, ino: Ino) {
        self.remember_read(reader, ino, |there, _| there.others.clone());
    }

    /// Remembers that a process made what a file shows now. What arrived beside it meanwhile it has
    /// not seen.
    pub(in crate::view) fn note_written(&self, reader: Option<Reader>, ino: Ino) {
        self.remember_read(reader, ino, |_, before| {
            before.map(|read| read.others.clone()).unwrap_or_default()
        });
    }

    fn remember_read(
        &self,
        reader: Option<Reader>,
        ino: Ino,
        others: impl FnOnce(&ShownThere, Option<&LastRead>) -> Vec<Arc<Version>>,
    ) {
        let (Some(reader), Some(there)) = (reader, self.shown_there(ino)) else {
            return;
        };
        let read_name = (reader, there.parent, there.name.clone());
        let mut read_set = self.read_set.lock();
        let others = others(&there, read_set.opened.get(&read_name));
        let last_read = LastRead {
            head: there.head,
            is_conflict: there.is_conflict,
            others,
        };
        read_set.opened.put(read_name, last_read);
    }

    /// Returns what a process saw last under a name.
    pub(in crate::view) fn last_read(
        &self,
        reader: Option<Reader>,
        parent: Ino,
        name: &OsStr,
    ) -> Option<LastRead> {
        let mut seen = self.read_set.lock();
        seen.opened
            .get(&(reader?, parent, name.to_owned()))
            .cloned()
    }

    /// Tells whether programs here made one version from another one.
    pub(in crate::view) fn descends_from(&self, before: &Head, now: &Head) -> bool {
        self.read_set.lock().trace(before, now) == Trace::Reached
    }

    /// Returns where a file is, and what it shows of a document that was published.
    pub(in crate::view) fn shown_there(&self, ino: Ino) -> Option<ShownThere> {
        let tree = self.tree();
        let shown = tree.shown(ino)?;
        let node = tree.get(ino)?;
        Some(ShownThere {
            parent: node.parent,
            name: node.name.clone(),
            head: shown.head.clone()?,
            is_conflict: shown.is_conflict,
            others: tree.other_heads(ino),
        })
    }

    /// Returns what a process goes on with that saves under a name, if not with the version that
    /// has the name now: it saw another one there.
    pub(in crate::view) fn seen_instead(
        &self,
        reader: Option<Reader>,
        parent: Ino,
        name: &OsStr,
        current: &Head,
    ) -> Option<Instead> {
        let sight = self.last_read(reader, parent, name)?;
        let before = sight.head;
        let same_place = before.version.place == current.version.place
            && before.version.kind == current.version.kind;
        if !same_place || self.read_set.lock().led_to(&before, current) {
            return None;
        }
        // A conflict copy never had its document's name.
        let has_moved = !sight.is_conflict && self.has_moved(&before.version);
        Some(match has_moved {
            true => Instead::New,
            false => Instead::Seen(before),
        })
    }

    /// Tells whether a document is there, but not under the name that a version of it had.
    fn has_moved(&self, version: &Version) -> bool {
        let document = self.vault.document(&version.key);
        let heads = document.map(|document| document.heads());
        let heads = heads.unwrap_or_default();
        !heads.is_empty() && heads.iter().all(|head| head.version.path != version.path)
    }

    /// Lets what a process is about to write replace what it saw.
    pub(in crate::view) fn rebase(&self, reader: Option<Reader>, ino: Ino, file: &OpenFile) {
        let Some(there) = self.shown_there(ino) else {
            return;
        };
        self.settle_only_seen(reader, &there, file);
        let Some(instead) = self.seen_instead(reader, there.parent, &there.name, &there.head)
        else {
            return;
        };
        let mut body = file.lock();
        if body.is_dirty() {
            return; // Somebody is writing already.
        }
        body.update_target(|_, doc, base| {
            (*doc, *base) = match instead {
                Instead::New => (self.vault.new_doc_id(), Vec::new()),
                Instead::Seen(seen) => (
                    self.doc_of(&seen.version.key),
                    seen.blobs().cloned().collect(),
                ),
            };
        });
    }

    /// Remembers a publication: everybody who writes the file has seen it.
    pub(in crate::view) fn note_publication(
        &self,
        ino: Ino,
        new: &[Arc<Version>],
        base: &[Arc<Version>],
    ) {
        let parents: Vec<VersionId> = base.iter().map(|version| version.id).collect();
        {
            let mut seen = self.read_set.lock();
            for version in new {
                seen.published.put(version.id, parents.clone());
            }
        }
        for writer in self.writers(ino) {
            self.note_written(writer, ino);
        }
    }
}
