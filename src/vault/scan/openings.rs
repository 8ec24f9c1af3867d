//! Files of the store that wait to be opened, and those that are being opened.
//!
//! The cost of a file is known only after it was opened, and an enemy may have put it there. So a
//! refresh only queues new files, the newest first; other threads open them, and the refresh waits
//! for a file only as long as it is cheap. A file that is not opened by then is not shown yet, and is
//! taken in when it is.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar};
use std::time::{Duration, Instant};

use crate::ids::{Folder, Timestamp};
use crate::locks::Ranked;
use crate::openpgp::CertIndex;
use crate::store::{Entry, FileName, Stamp};
use crate::vault::known::Slot;
use crate::vault::learn::Learned;
use crate::vault::ranks;
use crate::vault::scan::clock::ThreadClock;

/// Files above this size are opened one at a time, which bounds memory, and leaves the other
/// threads to the small ones.
const LARGE: u64 = 4 << 20;
/// Processor time that one file may take while somebody waits for it.
const CHEAP: Duration = Duration::from_millis(20);
/// Time in which a file must be read while somebody waits: its disk may not answer.
const PROMPT: Duration = Duration::from_secs(5);
/// How often the clocks are looked at.
const TICK: Duration = Duration::from_millis(2);

fn slot(entry: &Entry) -> Slot {
    (entry.folder, entry.name.clone())
}

/// A file that was opened.
pub(in crate::vault) struct Opening {
    pub(in crate::vault) entry: Entry,
    /// `None` if the file vanished or changed while it was read.
    pub(in crate::vault) learned: Option<Learned>,
    /// The certificates by which its signatures were verified.
    pub(in crate::vault) certificates: Arc<CertIndex>,
    /// Opening it took longer than anybody waits.
    pub(in crate::vault) was_costly: bool,
}

/// The queue.
pub(in crate::vault) struct Openings {
    desk: Ranked<Desk>,
    changed: Condvar,
    /// Nothing is opened any more.
    stopped: Arc<AtomicBool>,
}

#[derive(Default)]
struct Desk {
    /// The newest is the last: by the time of change, then as they came.
    waiting: BTreeMap<(Timestamp, u64), Entry>,
    /// The place of each file in it.
    places: HashMap<Slot, (Timestamp, u64)>,
    /// Files that were ever queued.
    count: u64,
    running: HashMap<Slot, Running>,
    done: Vec<Opening>,
    /// Threads that open the waiting files.
    openers: usize,
    /// There are such threads, or there will be.
    is_served: bool,
    /// Processor time of everything that was opened.
    used: Duration,
}

struct Running {
    stamp: Stamp,
    clock: Option<ThreadClock>,
    /// The time on the clock when the file's turn came.
    began: Duration,
    since: Instant,
}

impl Running {
    fn used(&self) -> Option<Duration> {
        let now = self.clock?.read()?;
        Some(now.saturating_sub(self.began))
    }

    fn is_slow(&self) -> bool {
        self.used().is_none_or(|used| used > CHEAP) || self.since.elapsed() > PROMPT
    }
}

impl Desk {
    fn is_large(entry: &Entry) -> bool {
        entry.stamp.size > LARGE
    }

    fn next(&mut self) -> Option<Entry> {
        let large = self.running.values().any(|one| one.stamp.size > LARGE);
        let free = |entry: &Entry| {
            !(large && Self::is_large(entry) || self.running.contains_key(&slot(entry)))
        };
        let mut newest = self.waiting.iter().rev();
        let (place, _) = newest.find(|(_, entry)| free(entry))?;
        let entry = self.waiting.remove(&place.clone())?;
        self.places.remove(&slot(&entry));
        let clock = ThreadClock::of_this_thread();
        let running = Running {
            stamp: entry.stamp,
            clock,
            began: clock.and_then(ThreadClock::read).unwrap_or_default(),
            since: Instant::now(),
        };
        self.running.insert(slot(&entry), running);
        Some(entry)
    }

    /// Queues a file, in the place of an older one of that name.
    fn add(&mut self, entry: Entry) {
        let place = (entry.stamp.ctime, self.count);
        self.count += 1;
        if let Some(old) = self.places.insert(slot(&entry), place) {
            self.waiting.remove(&old);
        }
        self.waiting.insert(place, entry);
    }

    /// Tells whether a file is queued, or being opened, as it is.
    fn has(&self, entry: &Entry) -> bool {
        let slot = slot(entry);
        let queued = self.places.get(&slot);
        let queued = queued.and_then(|place| self.waiting.get(place));
        let running = self.running.get(&slot);
        queued.is_some_and(|queued| queued.stamp == entry.stamp)
            || running.is_some_and(|running| running.stamp == entry.stamp)
    }

    /// Processor time of all openings, also of those that are not done.
    fn used(&self) -> Duration {
        let running = self.running.values().filter_map(Running::used);
        self.used + running.sum::<Duration>()
    }
}

impl Default for Openings {
    fn default() -> Self {
        Openings {
            desk: Ranked::new(ranks::LEAF, Desk::default()),
            changed: Condvar::new(),
            stopped: Arc::default(),
        }
    }
}

impl Openings {
    /// Queues files, unless they are queued, or being opened, as they are.
    pub(in crate::vault) fn queue(&self, entries: impl IntoIterator<Item = Entry>) {
        let mut desk = self.desk.lock();
        let done: HashSet<Entry> = desk.done.iter().map(|one| one.entry.clone()).collect();
        for entry in entries {
            if !desk.has(&entry) && !done.contains(&entry) {
                desk.add(entry);
            }
        }
        drop(desk);
        self.changed.notify_all();
    }

    /// Queues a file again whose signatures were verified by older certificates.
    pub(in crate::vault) fn queue_again(&self, entry: Entry) {
        self.desk.lock().add(entry);
        self.changed.notify_all();
    }

    /// Forgets the waiting files of a folder that are not there any more.
    pub(in crate::vault) fn keep_only(&self, folder: Folder, names: &HashSet<FileName>) {
        let there = |entry: &Entry| entry.folder != folder || names.contains(&entry.name);
        let mut desk = self.desk.lock();
        let desk = &mut *desk;
        desk.waiting.retain(|_, entry| there(entry));
        let waiting = &desk.waiting;
        desk.places.retain(|_, place| waiting.contains_key(place));
    }

    /// Takes the next file to be opened, if there is one.
    pub(in crate::vault) fn try_next(&self) -> Option<Entry> {
        self.desk.lock().next()
    }

    /// Waits for the next file to be opened. `None` when nothing is opened any more.
    pub(in crate::vault) fn next(&self) -> Option<Entry> {
        let mut desk = self.desk.lock();
        loop {
            if self.is_stopped() {
                return None;
            }
            if let Some(entry) = desk.next() {
                return Some(entry);
            }
            desk = desk.wait(&self.changed);
        }
    }

    /// Hands over an opened file.
    pub(in crate::vault) fn finish(&self, mut opening: Opening) {
        let mut desk = self.desk.lock();
        if let Some(running) = desk.running.remove(&slot(&opening.entry)) {
            desk.used += running.used().unwrap_or_default();
            opening.was_costly = running.is_slow();
        }
        desk.done.push(opening);
        drop(desk);
        self.changed.notify_all();
    }

    /// Takes the opened files.
    pub(in crate::vault) fn take_done(&self) -> Vec<Opening> {
        std::mem::take(&mut self.desk.lock().done)
    }

    /// Tells whether nothing waits, is being opened, or is to be taken in.
    pub(in crate::vault) fn is_idle(&self) -> bool {
        let desk = self.desk.lock();
        desk.waiting.is_empty() && desk.running.is_empty() && desk.done.is_empty()
    }

    /// Number of files that are not opened yet.
    pub(in crate::vault) fn pending(&self) -> usize {
        let desk = self.desk.lock();
        desk.waiting.len() + desk.running.len()
    }

    /// Waits until everything is opened that can be at little cost: it does not wait for a file that
    /// costs more, and all together may cost no more than `all`, or the rest of `first`, which
    /// everything since the beginning may cost.
    pub(in crate::vault) fn wait_while_cheap(&self, all: Duration, first: Duration) {
        let mut desk = self.desk.lock();
        let before = desk.used();
        let all = all.max(first.saturating_sub(before));
        let begun = Instant::now();
        loop {
            let busy = desk.running.values().any(|one| !one.is_slow());
            let stuck = !busy && desk.openers > 0 && desk.running.len() >= desk.openers;
            let idle = desk.waiting.is_empty() && !busy;
            let spent = desk.used().saturating_sub(before) > all || begun.elapsed() > PROMPT;
            if idle || stuck || spent || self.is_stopped() {
                return;
            }
            desk = desk.wait_timeout(&self.changed, TICK);
        }
    }

    /// Notes that a thread opens waiting files until the guard is dropped.
    pub(in crate::vault) fn enter(&self) -> Opener<'_> {
        self.desk.lock().openers += 1;
        Opener(self)
    }

    /// Leaves the opening to threads that are about to begin.
    pub(in crate::vault) fn hand_over(&self) {
        self.desk.lock().is_served = true;
    }

    /// Tells whether threads open the waiting files.
    pub(in crate::vault) fn has_openers(&self) -> bool {
        self.desk.lock().is_served
    }

    /// Ends the opening of files, also of those that are being opened.
    pub(in crate::vault) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        // A thread that is about to wait sees it, or is woken.
        drop(self.desk.lock());
        self.changed.notify_all();
    }

    pub(in crate::vault) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// The flag that makes the opening of a file give up.
    pub(in crate::vault) fn stopped(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stopped)
    }
}

/// A thread that opens waiting files.
pub(in crate::vault) struct Opener<'a>(&'a Openings);

impl Drop for Opener<'_> {
    fn drop(&mut self) {
        self.0.desk.lock().openers -= 1;
    }
}
