//! A save replaces only versions that its writer has read, so that nobody's edit is lost unseen.
//!
//! The version that each reader last read under a name is remembered. When it saves there, by
//! truncating, by renaming over it, or by renaming it away first, its new version replaces that
//! one; another version that arrived meanwhile stays as a conflict copy. Versions that other
//! programs here published on top of it count as read: scripts whose parts write one file in turn
//! make no conflicts.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::num::NonZeroUsize;
use std::sync::Arc;

use lru::LruCache;

use crate::ids::VersionId;
use crate::vault::{Head, Version};
use crate::view::draft::open_file::Locked;
use crate::view::tree::Ino;
use crate::view::{Reader, View};

/// Names under which a version is remembered. A reader that is forgotten counts as one that never
/// read the file.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

type ReadName = (Reader, Ino, OsString);

/// The version that a reader read under a name.
#[derive(Clone)]
pub(in crate::view) struct LastRead {
    pub(in crate::view) head: Head,
    /// It was a conflict copy.
    pub(in crate::view) is_conflict: bool,
    /// A conflict copy: the document's other heads that were shown.
    others: Vec<Arc<Version>>,
}

/// The version that a file shows, and where.
pub(in crate::view) struct ShownThere {
    pub(in crate::view) parent: Ino,
    pub(in crate::view) name: OsString,
    pub(in crate::view) head: Head,
    is_conflict: bool,
    /// A conflict copy: the document's other heads.
    pub(in crate::view) others: Vec<Arc<Version>>,
}

/// The version on which a reader's save is based instead of the one that has a name.
pub(in crate::view) enum Instead {
    /// The version that it read.
    Seen(Head),
    /// None: the version that it read has another name by now. A new document, or that one would
    /// fork.
    New,
}

impl LastRead {
    /// Tells whether another head of a document was shown beside its conflict copy.
    pub(in crate::view) fn saw(&self, version: &Version) -> bool {
        self.others.iter().any(|other| other.id == version.id)
    }
}

/// The versions that readers read, and those that were published on top of others.
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
    /// From versions that others made.
    Arrived,
}

impl View {
    /// Remembers that a reader read the version that a file shows now.
    pub(in crate::view) fn note_read(&self, reader: Option<Reader>, ino: Ino) {
        self.remember_read(reader, ino, |there, _| there.others.clone());
    }

    /// Remembers that a reader made the version that a file shows now. It has not read any that
    /// arrived beside it meanwhile.
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

    /// Returns the version that a reader last read under a name.
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

    /// Returns where a file is, and which published version it shows.
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

    /// Returns the base of a reader's save under a name, if that is not the version that has the
    /// name now: it read another one there.
    pub(in crate::view) fn seen_instead(
        &self,
        reader: Option<Reader>,
        parent: Ino,
        name: &OsStr,
        current: &Head,
    ) -> Option<Instead> {
        let read = self.last_read(reader, parent, name)?;
        let before = read.head;
        let same_place = before.version.place == current.version.place
            && before.version.kind == current.version.kind;
        if !same_place || self.read_set.lock().led_to(&before, current) {
            return None;
        }
        // A conflict copy never had its document's name.
        let has_moved = !read.is_conflict && self.has_moved(&before.version);
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

    /// Bases a reader's coming save on the version that it read.
    pub(in crate::view) fn rebase(&self, reader: Option<Reader>, ino: Ino, body: &mut Locked<'_>) {
        if body.is_dirty() {
            return; // Somebody is writing already.
        }
        let Some(there) = self.shown_there(ino) else {
            return;
        };
        self.settle_only_seen(reader, &there, body);
        let Some(instead) = self.seen_instead(reader, there.parent, &there.name, &there.head)
        else {
            return;
        };
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

    /// Remembers a publication: all writers of the file have read it.
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
