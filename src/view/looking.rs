//! Looks at the store on behalf of whoever asks for a name or a listing.
//!
//! Reading the store may take long: others decide what is in it. So a mounted view has a thread
//! that does nothing else. A caller waits for it only as long as that is cheap, and then gets the
//! state that is known so far. A view without such a thread looks by itself, and reads everything.

use std::sync::{Arc, Condvar};
use std::time::{Duration, Instant};

use crate::error::{Error, Kind, Result};
use crate::locks::Ranked;
use crate::vault::{ThreadClock, Worker};
use crate::view::{View, ranks};

/// Processor time that listing the store and reading certificates may take while somebody waits.
const LISTING: Duration = Duration::from_millis(50);
/// The same for the first look, at the beginning.
const FIRST_LISTING: Duration = Duration::from_secs(1);
/// How long anybody waits, whatever for: a disk may not answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long files that were opened late are gathered.
const GATHER: Duration = Duration::from_millis(20);
/// How often the clock is looked at.
const TICK: Duration = Duration::from_millis(2);

/// The requests to the thread that looks at the store.
pub(super) struct Looks {
    asked: Ranked<Asked>,
    changed: Condvar,
}

#[derive(Default)]
struct Asked {
    /// There while a thread looks.
    clock: Option<ThreadClock>,
    is_served: bool,
    /// Looks that were asked for, that the thread has begun, and that it has finished.
    wanted: u64,
    begun: u64,
    finished: u64,
    /// Files were opened that an earlier look did not wait for.
    opened: bool,
    /// How the last look ended.
    failed: Option<(Kind, String)>,
    stop: bool,
}

impl Asked {
    /// Processor time of the thread that looks.
    fn used(&self) -> Option<Duration> {
        self.clock?.read()
    }

    fn outcome(&self) -> Result<()> {
        match &self.failed {
            Some((kind, sentence)) => Err(Error::new(*kind, sentence.clone())),
            None => Ok(()),
        }
    }
}

impl View {
    /// Looks at the store, as far as that is cheap, and shows its changes.
    ///
    /// # Errors
    /// As [`View::refresh`]; `Io` if the store's disk does not answer, or the mount is being
    /// locked: a file that was not looked for is not reported as missing.
    pub(super) fn look(&self) -> Result<()> {
        let mut asked = self.looks.asked.lock();
        if !asked.is_served {
            drop(asked);
            return self.refresh();
        }
        asked.wanted += 1;
        let mine = asked.wanted;
        let before = asked.used();
        let begun = Instant::now();
        let enough = match self.vault.is_scanned() {
            true => LISTING,
            false => LISTING.max(FIRST_LISTING.saturating_sub(before.unwrap_or_default())),
        };
        self.looks.changed.notify_all();
        loop {
            if asked.finished >= mine {
                return asked.outcome();
            }
            let spent = asked.used().zip(before).map(|(now, then)| now - then);
            if asked.stop {
                return Err(Error::new(Kind::Io, "the mount is being locked"));
            }
            if begun.elapsed() > PATIENCE {
                let silent = "the store's disk does not answer: nothing can be said of what is new";
                return Err(Error::new(Kind::Io, silent));
            }
            if spent.is_none_or(|spent| spent > enough) {
                return Ok(());
            }
            asked = asked.wait_timeout(&self.looks.changed, TICK);
        }
    }

    /// Asks for a look at the store, and does not wait for it.
    pub(super) fn look_soon(&self) {
        self.looks.asked.lock().wanted += 1;
        self.looks.changed.notify_all();
    }

    /// Starts the threads that read the store for this view.
    ///
    /// # Errors
    /// `Io` if one cannot be started.
    pub(super) fn read_in_background(self: &Arc<Self>) -> Result<Vec<Worker>> {
        // One large file does not keep the small ones waiting.
        let openers = std::thread::available_parallelism().map_or(1, usize::from);
        let mut workers = Vec::new();
        self.vault.hand_over_opening();
        for _ in 0..openers.max(2) {
            let view = Arc::clone(self);
            let work = move || view.vault.open_files(|| view.looks.note_opened());
            workers.push(self.reader("opener", work)?);
        }
        let view = Arc::clone(self);
        workers.push(self.reader("scanner", move || view.scan())?);
        self.looks.asked.lock().is_served = true;
        Ok(workers)
    }

    fn reader(
        self: &Arc<Self>,
        name: &str,
        work: impl FnOnce() + Send + 'static,
    ) -> Result<Worker> {
        let view = Arc::clone(self);
        Worker::start(name, work, move || view.stop_looking())
    }

    /// Ends every look at the store; callers that wait for one get the state that is known so far.
    pub fn stop_looking(&self) {
        self.looks.asked.lock().stop = true;
        self.looks.changed.notify_all();
        self.vault.stop_opening();
    }

    /// Waits until everything in the store was read once, or for so long. Returns the sentences that
    /// the user should know at the start; `None` if reading ended before.
    pub fn wait_until_read(&self, patience: Duration) -> Option<Vec<String>> {
        let looked = self.wait_for_looks(patience)?;
        let mut warnings = self.vault.shortcomings();
        warnings.extend(self.vault.broken_folders());
        warnings.extend(looked.err().map(|error| error.to_string()));
        if !self.vault.is_scanned() {
            let unopened = self.vault.unopened();
            warnings.push(format!(
                "the store is still being read: {unopened} files are not shown yet, dds status \
                 tells how many are left"
            ));
        }
        warnings.dedup();
        Some(warnings)
    }

    /// Waits until everything in the store was read once, or for so long. Returns how the last look
    /// ended; `None` if reading ended before.
    fn wait_for_looks(&self, patience: Duration) -> Option<Result<()>> {
        // A mount does not lock for want of use before it can be used.
        let _use = self.last_use.begin();
        let begun = Instant::now();
        let mut asked = self.looks.asked.lock();
        loop {
            if asked.stop {
                return None;
            }
            let is_read = asked.finished > 0 && self.vault.is_scanned();
            if is_read || begun.elapsed() > patience {
                return Some(asked.outcome());
            }
            asked = asked.wait_timeout(&self.looks.changed, TICK);
        }
    }

    /// The life of the thread that looks.
    fn scan(&self) {
        let mut broken = Vec::new();
        let mut asked = self.looks.asked.lock();
        asked.clock = ThreadClock::of_this_thread();
        while !asked.stop {
            if asked.wanted == asked.begun && !asked.opened {
                asked = asked.wait(&self.looks.changed);
                continue;
            }
            // A caller does not wait for more.
            let alone = |asked: &mut Asked| asked.wanted == asked.begun && !asked.stop;
            asked = asked.wait_timeout_while(&self.looks.changed, GATHER, alone);
            let wanted = asked.wanted;
            let is_asked = wanted > asked.begun;
            asked.opened = false;
            asked.begun = wanted;
            drop(asked);
            let looked = match is_asked {
                true => self.refresh(),
                false => {
                    self.vault.take_in();
                    self.show_changes();
                    Ok(())
                }
            };
            if is_asked {
                let now = self.vault.broken_folders();
                for sentence in now.iter().filter(|sentence| !broken.contains(*sentence)) {
                    tracing::warn!("{sentence}");
                }
                broken = now;
            }
            asked = self.looks.asked.lock();
            if is_asked {
                asked.finished = wanted;
                if let Err(error) = &looked {
                    tracing::warn!("looking at the store: {error}");
                }
                asked.failed = looked.err().map(|error| (error.kind(), error.to_string()));
            }
            self.looks.changed.notify_all();
            if !asked.stop {
                // It may ask the disk, as a look does, and nobody waits for it here.
                drop(asked);
                self.publish_problems();
                asked = self.looks.asked.lock();
            }
        }
    }
}

impl Looks {
    pub(super) fn new() -> Self {
        Looks {
            asked: Ranked::new(ranks::LEAF, Asked::default()),
            changed: Condvar::new(),
        }
    }

    fn note_opened(&self) {
        self.asked.lock().opened = true;
        self.changed.notify_all();
    }
}
