//! A thread that works until its handle is dropped, which waits for its end.

use std::num::NonZeroUsize;
use std::thread::JoinHandle;

use crate::error::{Error, Result};

/// A thread's work, until this is dropped.
pub struct Worker {
    stop: Box<dyn Fn() + Send + Sync>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts a thread that does `work`, which `stop` makes come to its end.
    ///
    /// # Errors
    /// `Io` if no thread can be started.
    pub fn start(
        name: &str,
        work: impl FnOnce() + Send + 'static,
        stop: impl Fn() + Send + Sync + 'static,
    ) -> Result<Worker> {
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(work);
        Ok(Worker {
            stop: Box::new(stop),
            thread: Some(thread.map_err(|error| Error::io("starting a thread", error))?),
        })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        (self.stop)();
        if let Some(thread) = self.thread.take() {
            // The thread has nothing to return; a panic in it was already reported by the hook.
            let _ = thread.join();
        }
    }
}

/// Number of threads that can compute at once.
pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}
