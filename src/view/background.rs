//! What is done without being asked: making saves durable, saving again what the disk refused,
//! forgetting what nobody reads any more.
//!
//! Only notes are saved again. A message, and whatever failed for its readers' keys, waits for
//! its writer: nothing is sent later behind his back (DESIGN 5).

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::error::{Error, Kind, Result};
use crate::ids::BlobKind;
use crate::vault::Settler;
use crate::view::View;
use crate::view::file::{Body, Target};

/// Time between two rounds.
const INTERVAL: Duration = Duration::from_secs(2);
/// Rounds between attempts to save again what fails again and again.
const PAUSE: u32 = 32;
/// How long content that was opened is kept for whoever reads it next.
const KEEP_CONTENT: Duration = Duration::from_secs(5);

/// The background work of a view, until this is dropped.
pub struct Background {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
    _settler: Settler,
}

impl Drop for Background {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // The thread has nothing to return; a panic in it was already reported by the hook.
            let _ = thread.join();
        }
    }
}

impl View {
    /// Begins the background work.
    ///
    /// # Errors
    /// `Io` if no thread can be started.
    pub fn work_in_background(self: &Arc<Self>) -> Result<Background> {
        let settler = self.vault.settle_in_background()?;
        let (stop, stopped) = mpsc::channel();
        let view = Arc::clone(self);
        let thread = std::thread::Builder::new().name("background".to_owned());
        let thread = thread.spawn(move || {
            let (mut pause, mut passed) = (1, 0);
            while stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                view.vault.forget_contents(KEEP_CONTENT);
                passed += 1;
                if passed >= pause {
                    passed = 0;
                    pause = if view.retry_failed() {
                        1
                    } else {
                        (pause * 2).min(PAUSE)
                    };
                }
            }
        });
        Ok(Background {
            stop: Some(stop),
            thread: Some(thread.map_err(|error| Error::io("starting a thread", error))?),
            _settler: settler,
        })
    }

    /// Saves the notes again whose last save failed for the disk and that nobody is writing now.
    /// Tells whether none fails again.
    pub fn retry_failed(&self) -> bool {
        let drafts: Vec<_> = {
            let tree = self.tree();
            let drafts = tree.files().filter(|(_, file)| file.draft);
            drafts
                .filter_map(|(ino, file)| Some((ino, file.open.clone()?)))
                .collect()
        };
        let mut all_saved = true;
        for (ino, file) in drafts {
            let mut body = file.lock();
            if !may_retry(&body) || self.has_writer(ino) || !self.has_room(&body) {
                continue;
            }
            // Why it fails again is what the log already says.
            if self.publish(ino, &mut body).is_ok() {
                drop(body);
                self.drop_if_idle(ino);
                let path = self.tree().path(ino);
                self.errors.note(&path, "it is saved now");
            } else {
                all_saved = false;
            }
        }
        all_saved
    }

    /// Tells whether trying is worth the work of sealing.
    fn has_room(&self, body: &Body) -> bool {
        self.space().is_ok_and(|space| {
            let available = space.available.saturating_mul(space.block_size.into());
            available > body.content().len()
        })
    }
}

fn may_retry(body: &Body) -> bool {
    let is_note = matches!(
        body.target,
        Target::Document {
            kind: BlobKind::Note,
            ..
        }
    );
    is_note && !body.unlinked && matches!(body.failed, Some(Kind::NoSpace | Kind::Io))
}
