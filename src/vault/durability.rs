//! Fsyncs directories and unlinks replaced blobs, within a second of a publication.
//!
//! The order is what matters: a replaced blob is unlinked only after the directory that names its
//! replacement is on disk, so that after a crash at any instruction a peer sees the old blob, the
//! new one, or both. A note is kept in the history after that fsync and before it is unlinked. If it
//! cannot be kept and a newer version of its document replaces it, it stays in the store, hidden,
//! until it can be: a few versions, of which the oldest is given up when there are too many. A
//! version that I remove is unlinked in any case.

use std::collections::{HashSet, VecDeque};
use std::mem;
use std::sync::{Arc, Condvar};
use std::time::Duration;

use crate::error::{Kind, Result};
use crate::ids::{BlobId, Folder, Timestamp, VersionId};
use crate::locks::Ranked;
use crate::state::{Moment, State};
use crate::store::Store;
use crate::vault::documents::Version;
use crate::vault::history::keep::{Deferred, Keeper, has_own_name};
use crate::vault::ranks;
use crate::vault::worker::Worker;

/// How long publications are gathered before their directory is fsynced. The contract promises
/// one second; half of it is left for the disk.
const GATHER: Duration = Duration::from_millis(500);

/// Bytes of the largest file that is read to see whether it is still the same.
const COMPARED: u64 = 256 << 20;

/// Replaced notes that stay in the store as they cannot be kept.
const HELD: usize = 64;

/// The publications that are not durable yet, and the blobs that they replaced.
pub(super) struct PendingReplacements {
    store: Arc<dyn Store>,
    memory: Arc<State>,
    pub(super) keeper: Keeper,
    pending: Ranked<Pending>,
    wake: Condvar,
    /// Held by the thread that flushes: nobody returns from [`PendingReplacements::make_durable`]
    /// while another thread is still at the work that was asked for.
    flushing: Ranked<()>,
}

#[derive(Default)]
struct Pending {
    messages: Unflushed,
    notes: Unflushed,
    /// Replaced notes that wait until they can be kept, the oldest first.
    held: VecDeque<Arc<Version>>,
    stop: bool,
    /// The sentence about the last failure.
    notice: Option<String>,
}

/// The work in one folder.
#[derive(Default)]
struct Unflushed {
    /// Names were added or taken away since the last fsync.
    dirty: bool,
    /// Replaced by newer versions of their documents, which hide them as long as they stay.
    replaced: Vec<Arc<Version>>,
    /// Replaced by other documents: nothing hides them when they stay.
    retired: Vec<Arc<Version>>,
}

impl Pending {
    fn of(&mut self, folder: Folder) -> &mut Unflushed {
        match folder {
            Folder::Messages => &mut self.messages,
            Folder::Notes => &mut self.notes,
        }
    }
}

impl PendingReplacements {
    pub(super) fn new(store: Arc<dyn Store>, memory: Arc<State>) -> Self {
        PendingReplacements {
            keeper: Keeper::new(Arc::clone(&store), Arc::clone(&memory)),
            store,
            memory,
            pending: Ranked::new(ranks::LEAF, Pending::default()),
            wake: Condvar::new(),
            flushing: Ranked::new(ranks::FLUSHING, ()),
        }
    }

    /// Notes that names were added to or taken from a folder, and the versions that this replaced:
    /// by newer versions, or by other documents.
    pub(super) fn add(
        &self,
        folder: Folder,
        replaced: Vec<Arc<Version>>,
        retired: Vec<Arc<Version>>,
    ) {
        let mut pending = self.pending.lock();
        let unflushed = pending.of(folder);
        unflushed.dirty = true;
        unflushed.replaced.extend(replaced);
        unflushed.retired.extend(retired);
        self.wake.notify_all();
    }

    /// Notes that names were taken from a folder.
    pub(super) fn note_removed(&self, folder: Folder) {
        self.add(folder, Vec::new(), Vec::new());
    }

    /// Flushes both folders before it returns.
    pub(super) fn make_durable(&self) -> Result<()> {
        let [messages, notes] = Folder::ALL.map(|folder| self.flush(folder));
        messages.and(notes)
    }

    /// Fsyncs a folder, then unlinks the versions that were replaced in it.
    pub(super) fn flush(&self, folder: Folder) -> Result<()> {
        let _one = self.flushing.lock();
        let unflushed = mem::take(self.pending.lock().of(folder));
        if !unflushed.dirty {
            return Ok(());
        }
        let result = self.sync_and_unlink(folder, &unflushed);
        let mut pending = self.pending.lock();
        pending.notice = result
            .as_ref()
            .err()
            .map(|error| format!("{}/ could not be made durable: {error}", folder.name()));
        if result.is_err() {
            let again = pending.of(folder);
            again.dirty = true;
            again.replaced.extend(unflushed.replaced);
            again.retired.extend(unflushed.retired);
        }
        result
    }

    /// Flushes a folder if replaced versions still lie in it.
    pub(super) fn flush_replaced(&self, folder: Folder) -> Result<()> {
        let waiting = {
            // Also waits for a thread that is unlinking some now.
            let _one = self.flushing.lock();
            let mut pending = self.pending.lock();
            let unflushed = pending.of(folder);
            !(unflushed.replaced.is_empty() && unflushed.retired.is_empty())
        };
        match waiting {
            true => self.flush(folder),
            false => Ok(()),
        }
    }

    fn sync_and_unlink(&self, folder: Folder, unflushed: &Unflushed) -> Result<()> {
        // First, since nobody's save shall wait for the history's disk.
        match self.store.sync(folder) {
            // The folder is gone, with everything in it.
            Err(error) if error.kind() == Kind::NotFound => return Ok(()),
            synced => synced?,
        }
        let deferred = self.keep(folder, unflushed);
        let waiting = match folder {
            Folder::Notes => mem::take(&mut self.pending.lock().held),
            Folder::Messages => VecDeque::new(),
        };
        let waited: HashSet<VersionId> = waiting.iter().map(|version| version.id).collect();
        let (mut held, free) = self.sort_out(waiting, unflushed, &deferred);
        self.remember_replaced(&free);
        let mut result = Ok(());
        for version in &free {
            if let Err(error) = self.remove_unchanged(version) {
                result = Err(error);
                // The others are pending still.
                if waited.contains(&version.id) {
                    held.push_back(Arc::clone(version));
                }
            }
        }
        if folder == Folder::Notes {
            self.pending.lock().held = held;
        }
        result
    }

    /// Keeps the notes that are about to be unlinked; returns those that must wait.
    fn keep(&self, folder: Folder, unflushed: &Unflushed) -> Deferred {
        match folder {
            Folder::Messages => Deferred::default(),
            Folder::Notes => {
                let mut replaced = self.held();
                replaced.extend(unflushed.replaced.iter().cloned());
                self.keeper.keep_all(&replaced, &unflushed.retired)
            }
        }
    }

    /// Parts the replaced versions into those that stay in the store until they can be kept, and
    /// those that are unlinked now.
    fn sort_out(
        &self,
        waiting: VecDeque<Arc<Version>>,
        unflushed: &Unflushed,
        deferred: &Deferred,
    ) -> (VecDeque<Arc<Version>>, Vec<Arc<Version>>) {
        let mut seen = HashSet::new();
        let replaced = waiting
            .into_iter()
            .chain(unflushed.replaced.iter().cloned());
        // A version that waits is named again by each later version of its document. All files of a
        // version are unlinked.
        let replaced =
            replaced.filter(|version| seen.insert((version.id, version.entry.name.clone())));
        let (held, mut free): (Vec<_>, Vec<_>) =
            replaced.partition(|version| deferred.must_wait(version));
        let mut held = VecDeque::from(held);
        while held.len() > HELD && !self.keeper.is_closing() {
            if let Some(oldest) = held.pop_front() {
                self.keeper.note_lost(1, "there was never room");
                free.push(oldest);
            }
        }
        let retired = unflushed.retired.iter();
        free.extend(
            retired
                .filter(|version| !deferred.must_wait(version))
                .cloned(),
        );
        (held, free)
    }

    /// Remembers that these versions were replaced, so that one that somebody brings back later does
    /// not look new.
    fn remember_replaced(&self, versions: &[Arc<Version>]) {
        let now = Timestamp::now();
        let departures = versions.iter().map(|version| version.departure(true, now));
        if let Err(error) = self.memory.note_departed(&departures.collect::<Vec<_>>()) {
            self.keeper.note_unremembered(&error);
        }
    }

    /// Tries again to keep the versions that wait for it.
    pub(super) fn retry_held(&self) {
        {
            let mut pending = self.pending.lock();
            if pending.held.is_empty() {
                return;
            }
            pending.notes.dirty = true;
        }
        // `.dds/status` tells why it fails.
        let _ = self.flush(Folder::Notes);
    }

    /// Unlinks a version's blob, unless another one has taken its file meanwhile: people with
    /// gpg write over their files, and a blob that nobody here has seen is not removed. A file that
    /// is gone already is no error. Tells whether the blob is gone.
    pub(super) fn remove_unchanged(&self, version: &Version) -> Result<bool> {
        let (folder, name) = (version.folder(), &version.entry.name);
        let known = version.entry.stamp;
        let now = match self.store.stamp(folder, name) {
            Err(error) if error.kind() == Kind::NotFound => return Ok(true),
            now => now?,
        };
        // Only a file with its own name is ever linked.
        let same = now == known
            || has_own_name(version) && now.is_same_file(&known)
            || match self.store.read(&version.entry, COMPARED) {
                Ok((bytes, _)) => BlobId::of(&bytes) == version.file_id,
                Err(error) if error.kind() == Kind::NotFound => return Ok(true),
                Err(_) => false,
            };
        if !same {
            return Ok(false);
        }
        match self.store.remove(folder, name) {
            Err(error) if error.kind() != Kind::NotFound => Err(error),
            Ok(()) | Err(_) => {
                // If its spare stays where it is, the next round of the history finds it missing.
                let _ = self
                    .memory
                    .history()
                    .note_gone(version.file_id, Moment::now());
                Ok(true)
            }
        }
    }

    /// The replaced notes that wait until they can be kept.
    pub(super) fn held(&self) -> Vec<Arc<Version>> {
        self.pending.lock().held.iter().cloned().collect()
    }

    /// Tells whether any replaced note waits until it can be kept.
    pub(super) fn holds_some(&self) -> bool {
        !self.pending.lock().held.is_empty()
    }

    /// Sentences for `.dds/status`.
    pub(super) fn notices(&self) -> Vec<String> {
        let (held, notice) = {
            let pending = self.pending.lock();
            (pending.held.len(), pending.notice.clone())
        };
        notice
            .into_iter()
            .chain(self.keeper.notices(held))
            .collect()
    }

    /// Starts the thread that flushes.
    pub(super) fn flush_in_background(self: Arc<Self>) -> Result<Worker> {
        let theirs = Arc::clone(&self);
        let stop = move || {
            self.pending.lock().stop = true;
            self.wake.notify_all();
        };
        Worker::start("flusher", move || theirs.run(), stop)
    }

    /// The flusher's life: waits for publications, gathers for a moment, flushes.
    fn run(&self) {
        let mut pending = self.pending.lock();
        while !pending.stop {
            if !(pending.messages.dirty || pending.notes.dirty) {
                pending = pending.wait(&self.wake);
                continue;
            }
            let gathering = |pending: &mut Pending| !pending.stop;
            drop(pending.wait_timeout_while(&self.wake, GATHER, gathering));
            // A failure stays pending and in `.dds/status`; the next round tries again.
            let _ = self.make_durable();
            pending = self.pending.lock();
        }
    }
}
