//! Reasons for the daemon's end: one channel, on which every thread reports that can end it.
//!
//! The threads that serve the kernel, the keeper, signals, the control socket, idleness and a panic
//! all write to it; the thread that serves the view reads it.

use std::io;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

/// A reason to end.
#[derive(Debug)]
pub enum Ending {
    /// Somebody asked for it.
    Asked,
    /// The mount is out of the tree, but its connection may last as long as this process.
    MountGone,
    /// The kernel closed the mount's connection, with an error if it broke.
    Disconnected(io::Result<()>),
}

/// The reasons that were reported, in their order.
pub struct Endings {
    sender: Sender<Ending>,
    receiver: Receiver<Ending>,
}

/// Asks the daemon to lock, from any thread.
#[derive(Clone)]
pub struct Locker(Sender<Ending>);

impl Locker {
    /// Asks for locking, and does not wait for it.
    pub fn lock(&self) {
        self.report(Ending::Asked);
    }

    /// Reports a reason to end.
    pub fn report(&self, ending: Ending) {
        // Without a receiver the daemon has locked already.
        let _ = self.0.send(ending);
    }
}

impl Default for Endings {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel();
        Endings { sender, receiver }
    }
}

impl Endings {
    /// Returns a handle by which others report.
    pub fn locker(&self) -> Locker {
        Locker(self.sender.clone())
    }

    /// Waits for a reason to end.
    pub fn wait(&self) -> Ending {
        let ending = self.receiver.recv();
        ending.expect("the sender lives as long as the receiver")
    }

    /// Waits for a reason to end; `None` if there is none within that time.
    pub fn wait_within(&self, time: Duration) -> Option<Ending> {
        self.receiver.recv_timeout(time).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_arrive_in_their_order_from_any_thread() {
        let endings = Endings::default();
        let locker = endings.locker();
        std::thread::spawn(move || {
            locker.report(Ending::MountGone);
            locker.lock();
        })
        .join()
        .unwrap();
        assert!(matches!(endings.wait(), Ending::MountGone));
        assert!(matches!(endings.wait(), Ending::Asked));
        assert!(endings.wait_within(Duration::ZERO).is_none());
    }

    #[test]
    fn a_report_after_the_end_does_no_harm() {
        let endings = Endings::default();
        let locker = endings.locker();
        drop(endings);
        locker.lock();
    }
}
