//! Directory fsync and removal of replaced blobs, within a second of a publication.
//!
//! Order is the whole point: a replaced blob is unlinked only after the directory that names its
//! replacement is on disk, so that after a crash at any instruction a peer sees the old blob, the
//! new one, or both. Before a note is unlinked, and after that fsync, it is kept in the history. If
//! that cannot be, what a newer version of its document replaces stays, hidden, until it can be: a
//! few versions, of which the oldest goes when there are too many. What I remove goes in any case.

use std::collections::{HashSet, VecDeque};
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use crate::error::{Kind, Result};
use crate::ids::{BlobId, Folder, Timestamp, VersionId};
use crate::state::Moment;
use crate::store::Store;
use crate::vault::Version;
use crate::vault::history::keep::{Unkept, has_own_name};
use crate::vault::lock;
use crate::vault::removals::went_of;
use crate::vault::worker::Worker;

/// How long publications are gathered before their directory is fsynced. The contract promises
/// one second; half of it is left for the disk.
const GATHER: Duration = Duration::from_millis(500);

/// Bytes of the largest file that is read to see whether it is still the same.
const COMPARED: u64 = 256 << 20;

/// Replaced notes that stay in the store as they cannot be kept.
const HELD: usize = 64;

/// The store, and what has been published in it but not settled.
pub(super) struct Shared {
    pub(super) store: Arc<dyn Store>,
    pub(super) state_dir: Arc<crate::state::State>,
    pub(super) unkept: Mutex<Unkept>,
    /// The mount ends: nothing is copied any more, as the time for it is short.
    pub(super) closing: AtomicBool,
    pending: Mutex<Pending>,
    wake: Condvar,
    /// Held by whoever settles: nobody returns from [`Shared::settle`] while what it asked for is
    /// still in another's hands.
    settling: Mutex<()>,
}

#[derive(Default)]
struct Pending {
    messages: Unsettled,
    notes: Unsettled,
    /// Replaced, and waiting to be kept: the oldest first.
    held: VecDeque<Arc<Version>>,
    stop: bool,
    notice: Option<String>,
}

#[derive(Default)]
pub(super) struct Unsettled {
    dirty: bool,
    pub(super) replaced: Vec<Arc<Version>>,
    /// Replaced by another document: nothing hides them when they stay.
    pub(super) retired: Vec<Arc<Version>>,
}

impl Pending {
    fn of(&mut self, folder: Folder) -> &mut Unsettled {
        match folder {
            Folder::Messages => &mut self.messages,
            Folder::Notes => &mut self.notes,
        }
    }
}

impl Shared {
    pub(super) fn new(store: Arc<dyn Store>, state_dir: Arc<crate::state::State>) -> Self {
        Shared {
            store,
            state_dir,
            unkept: Mutex::default(),
            closing: AtomicBool::new(false),
            pending: Mutex::default(),
            wake: Condvar::new(),
            settling: Mutex::default(),
        }
    }

    /// Notes that names were added to or taken from a folder, and what was replaced by it: by
    /// newer versions, or by other documents.
    pub(super) fn published(
        &self,
        folder: Folder,
        replaced: Vec<Arc<Version>>,
        retired: Vec<Arc<Version>>,
    ) {
        let mut pending = lock(&self.pending);
        let unsettled = pending.of(folder);
        unsettled.dirty = true;
        unsettled.replaced.extend(replaced);
        unsettled.retired.extend(retired);
        self.wake.notify_all();
    }

    /// Settles both folders before it returns.
    pub(super) fn settle(&self) -> Result<()> {
        let [messages, notes] = Folder::ALL.map(|folder| self.settle_folder(folder));
        messages.and(notes)
    }

    /// Fsyncs a folder, then unlinks what was replaced in it.
    pub(super) fn settle_folder(&self, folder: Folder) -> Result<()> {
        let _one = lock(&self.settling);
        let unsettled = mem::take(lock(&self.pending).of(folder));
        if !unsettled.dirty {
            return Ok(());
        }
        let result = self.sync_and_unlink(folder, &unsettled);
        let mut pending = lock(&self.pending);
        pending.notice = result
            .as_ref()
            .err()
            .map(|error| format!("{}/ could not be made durable: {error}", folder.name()));
        if result.is_err() {
            let again = pending.of(folder);
            again.dirty = true;
            again.replaced.extend(unsettled.replaced);
            again.retired.extend(unsettled.retired);
        }
        result
    }

    /// Settles a folder if something that was replaced still lies in it.
    pub(super) fn settle_replaced(&self, folder: Folder) -> Result<()> {
        // Also waits for who is just unlinking.
        let waiting = {
            let _one = lock(&self.settling);
            let mut pending = lock(&self.pending);
            let unsettled = pending.of(folder);
            !(unsettled.replaced.is_empty() && unsettled.retired.is_empty())
        };
        match waiting {
            true => self.settle_folder(folder),
            false => Ok(()),
        }
    }

    fn sync_and_unlink(&self, folder: Folder, unsettled: &Unsettled) -> Result<()> {
        // First, as nobody's save shall wait for the history's disk.
        match self.store.sync(folder) {
            // The folder is gone, and what was in it.
            Err(error) if error.kind() == Kind::NotFound => return Ok(()),
            synced => synced?,
        }
        let kept = self.keep_all(folder, unsettled);
        let waiting = match folder {
            Folder::Notes => mem::take(&mut lock(&self.pending).held),
            Folder::Messages => VecDeque::new(),
        };
        let waited: HashSet<VersionId> = waiting.iter().map(|version| version.id).collect();
        let mut seen = HashSet::new();
        let replaced = waiting
            .into_iter()
            .chain(unsettled.replaced.iter().cloned());
        // What waits is named again by each later version of its document. Files of the same version
        // all go.
        let replaced =
            replaced.filter(|version| seen.insert((version.id, version.entry.name.clone())));
        let (mut held, mut free): (VecDeque<_>, VecDeque<_>) =
            replaced.partition(|version| kept.must_wait(version));
        let closing = self.closing.load(Ordering::Relaxed);
        while held.len() > HELD && !closing {
            if let Some(oldest) = held.pop_front() {
                self.lost(1, "there was never room");
                free.push_back(oldest);
            }
        }
        let retired = unsettled.retired.iter();
        let retired = retired.filter(|version| !kept.must_wait(version));
        let going: Vec<_> = free.iter().chain(retired).collect();
        let mut result = Ok(());
        let now = Timestamp::now();
        let went = going.iter().map(|version| went_of(version, true, now));
        // Whoever brings one of them back later shall not make it look new.
        if let Err(error) = self.state_dir.note_departed(&went.collect::<Vec<_>>()) {
            self.not_remembered(&error);
        }
        for version in going {
            if let Err(error) = self.remove_unchanged(version) {
                result = Err(error);
                // What is new is pending still.
                if waited.contains(&version.id) {
                    held.push_back(Arc::clone(version));
                }
            }
        }
        lock(&self.pending).held = held;
        result
    }

    /// Tries again to keep what waits for it.
    pub(super) fn retry_held(&self) {
        {
            let mut pending = lock(&self.pending);
            if pending.held.is_empty() {
                return;
            }
            pending.notes.dirty = true;
        }
        // What fails is told in `.dds/status`.
        let _ = self.settle_folder(Folder::Notes);
    }

    /// Unlinks a version's blob, unless another one has taken its file meanwhile: people with
    /// gpg write over their files, and what nobody here has seen is not removed. A file that is
    /// gone already is no error. Tells whether the blob is gone.
    pub(super) fn remove_unchanged(&self, version: &Version) -> Result<bool> {
        let (folder, name) = (version.folder(), &version.entry.name);
        let known = version.entry.stamp;
        let now = match self.store.stamp(folder, name) {
            Err(error) if error.kind() == Kind::NotFound => return Ok(true),
            now => now?,
        };
        // Only what has its own name is linked.
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
                // If its spare stays where it is, the next look at the store finds that it went.
                let _ = self
                    .state_dir
                    .history()
                    .note_gone(version.file_id, Moment::now());
                Ok(true)
            }
        }
    }

    /// What waits to be kept.
    pub(super) fn held(&self) -> Vec<Arc<Version>> {
        lock(&self.pending).held.iter().cloned().collect()
    }

    /// Sentences for `.dds/status`.
    pub(super) fn notices(&self) -> Vec<String> {
        let pending = lock(&self.pending);
        let held = pending.held.len();
        let notice = pending.notice.clone();
        drop(pending);
        notice
            .into_iter()
            .chain(lock(&self.unkept).notices(held))
            .collect()
    }

    /// Starts a thread that settles.
    pub(super) fn settle_in_background(self: Arc<Self>) -> Result<Worker> {
        let theirs = Arc::clone(&self);
        let stop = move || {
            lock(&self.pending).stop = true;
            self.wake.notify_all();
        };
        Worker::start("settler", move || theirs.run(), stop)
    }

    /// The settler's life: waits for publications, gathers for a moment, settles.
    fn run(&self) {
        let mut pending = lock(&self.pending);
        while !pending.stop {
            if !(pending.messages.dirty || pending.notes.dirty) {
                pending = self.wake.wait(pending).unwrap_or_else(|e| e.into_inner());
                continue;
            }
            let gathered = |pending: &mut Pending| !pending.stop;
            let (stopping, _) = self
                .wake
                .wait_timeout_while(pending, GATHER, gathered)
                .unwrap_or_else(|e| e.into_inner());
            drop(stopping);
            // A failure stays pending and in `.dds/status`; the next round tries again.
            let _ = self.settle();
            pending = lock(&self.pending);
        }
    }
}
