//! The work that no program asks for: showing arrivals, making saves durable, saving again notes
//! that the disk refused, keeping spares of notes for the history, forgetting contents that nobody
//! reads any more.
//!
//! Only notes are saved again. A message, and a note that failed because of a reader's key, waits
//! for its writer: nothing is sent later behind their back.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::error::Result;
use crate::store::{Change, Watch};
use crate::vault::Worker;
use crate::view::View;

/// Time between two looks at the store when the system reports every change: it may be on a disk
/// that does not report those of another machine.
const RESCAN: Duration = Duration::from_secs(60);
/// The same when the system reports none.
const POLL: Duration = Duration::from_secs(2);
/// How long changes are gathered, and how many.
const GATHER: Duration = Duration::from_millis(2);
const BURST: usize = 1000;
/// Time between two rounds.
const INTERVAL: Duration = Duration::from_secs(2);
/// Most rounds between two attempts to save again, when all of them fail.
const PAUSE: u32 = 32;
/// How long content that was opened is kept for whoever reads it next.
const KEEP_CONTENT: Duration = Duration::from_secs(5);

/// How long a file that may have been somebody's temporary one has to stay to be a file like any
/// other. Programs rename or remove theirs at once.
const STAYS: Duration = Duration::from_secs(10);

/// The background work of a view, until this is dropped.
pub struct Background {
    // In the order in which they end.
    _readers: Vec<Worker>,
    _attendant: Worker,
    _historian: Worker,
    _flusher: Worker,
}

/// A reason to wake the background work.
enum Wake {
    Changed(Change),
    Stop,
}

impl View {
    /// Begins the background work.
    ///
    /// # Errors
    /// `Io` if no thread can be started.
    pub fn work_in_background(self: &Arc<Self>) -> Result<Background> {
        let readers = self.read_in_background()?;
        let flusher = self.vault.flush_in_background()?;
        let view = Arc::clone(self);
        let historian = self
            .vault
            .history_in_background(move || view.keep_history())?;
        let (wake, woken) = mpsc::channel();
        let tell = wake.clone();
        let watch = self.vault.watch(Box::new(move |change| {
            // Without a receiver the view is closed.
            let _ = tell.send(Wake::Changed(change));
        }));
        let watch = match watch {
            Ok(watch) => Some(watch),
            Err(error) => {
                tracing::warn!("the store is looked at from time to time only: {error}");
                None
            }
        };
        let view = Arc::clone(self);
        let stop = move || {
            // Without a receiver it has ended.
            let _ = wake.send(Wake::Stop);
        };
        let attendant = Worker::start("background", move || view.attend(&woken, watch), stop)?;
        Ok(Background {
            _readers: readers,
            _attendant: attendant,
            _historian: historian,
            _flusher: flusher,
        })
    }

    /// Makes spares of the notes that have none, and notes which of them left the store. The
    /// background work does so soon after each change.
    pub fn keep_history(&self) {
        self.vault.keep_history();
    }

    /// The background work itself.
    fn attend(&self, woken: &Receiver<Wake>, mut watch: Option<Box<dyn Watch>>) {
        let rescan = if watch.is_some() { RESCAN } else { POLL };
        let (mut looked, mut tidied) = (Instant::now(), Instant::now());
        let (mut pause, mut passed) = (1, 0);
        // Something may have changed between the first look and the beginning of the watch.
        let mut unsure = true;
        loop {
            let mut changes = HashSet::new();
            let wait = match unsure {
                true => Duration::ZERO,
                false => INTERVAL.saturating_sub(tidied.elapsed()),
            };
            match woken.recv_timeout(wait) {
                Ok(Wake::Changed(change)) => {
                    changes.insert(change);
                    // A burst is one look.
                    while let Ok(more) = woken.recv_timeout(GATHER) {
                        match more {
                            Wake::Changed(change) => changes.insert(change),
                            Wake::Stop => return,
                        };
                        if changes.len() >= BURST {
                            break;
                        }
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Ok(Wake::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            }
            if let Some(watch) = &mut watch {
                watch.renew();
            }
            unsure |= looked.elapsed() >= rescan;
            if std::mem::take(&mut unsure) || changes.iter().any(|change| self.is_news(change)) {
                looked = Instant::now();
                self.look_soon();
            }
            self.give_unreserved_names(None);
            if tidied.elapsed() >= INTERVAL {
                tidied = Instant::now();
                self.vault.forget_contents(KEEP_CONTENT);
                self.save_what_stays(STAYS);
                passed += 1;
                if passed >= pause {
                    passed = 0;
                    pause = if self.retry_failed() {
                        1
                    } else {
                        (pause * 2).min(PAUSE)
                    };
                }
            }
        }
    }

    /// Tells whether a change was made by anybody but this mount.
    fn is_news(&self, change: &Change) -> bool {
        match change {
            Change::Blob(folder, name) => !self.vault.is_current(*folder, name),
            Change::Other => true,
        }
    }
}
