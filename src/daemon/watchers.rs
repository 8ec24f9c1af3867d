//! Clients of the control socket that watch: each receives events as they happen.
//!
//! A watcher has two threads. One sends the events; the other notices that the client is gone, which
//! also ends the first. Nobody else ever waits for a client: up to 256 events wait for it, besides
//! those that the kernel holds, and if more come, the client gets `lost` as its last line, for
//! which it has ten seconds.

use std::io::{ErrorKind, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};

use super::protocol::{Event, to_line};
use crate::locks::lock;
use crate::view::{self, Received, Subscription};

/// Number of events that wait for a client.
pub(super) const WAITING: usize = 256;
/// Number of clients that watch at a time.
const WATCHERS: usize = 4;
/// How long a client may take to receive its last lines.
const LAST_LINES: Duration = Duration::from_secs(10);
/// How long the daemon's end waits for clients that receive their last lines.
const AT_THE_END: Duration = Duration::from_millis(500);
/// Time between two looks whether a client that receives nothing has lost its subscription.
const ROUND: Duration = Duration::from_millis(250);

/// The clients that watch.
#[derive(Clone, Default)]
pub(super) struct Watchers(Arc<Count>);

#[derive(Default)]
struct Count {
    number: Mutex<usize>,
    changed: Condvar,
}

/// A client that watches, until this is dropped.
pub(super) struct Watcher(Arc<Count>);

impl Watchers {
    /// Counts one client more, unless there are as many as may be.
    pub(super) fn enter(&self) -> Option<Watcher> {
        let mut number = lock(&self.0.number);
        (*number < WATCHERS).then(|| {
            *number += 1;
            Watcher(Arc::clone(&self.0))
        })
    }

    /// Waits until all clients have received their last lines, but not for long.
    pub(super) fn wait_for_end(&self) {
        let number = lock(&self.0.number);
        let changed = &self.0.changed;
        // Clients that are still there after the wait have not received everything.
        let _ = changed.wait_timeout_while(number, AT_THE_END, |number| *number > 0);
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        *lock(&self.0.number) -= 1;
        self.0.changed.notify_all();
    }
}

impl Watcher {
    /// Sends a client the events of a subscription, until either of them ends.
    pub(super) fn send_events(self, stream: &UnixStream, events: Subscription<view::Event>) {
        let events = Arc::new(events);
        if let Err(error) = end_with_client(stream, &events) {
            tracing::warn!("control socket: {error}");
            return;
        }
        let mut patience = Patience::default();
        loop {
            let (event, is_last) = match events.next() {
                Received::Item(event) => {
                    let is_last = event == view::Event::Lock;
                    (Event::from(event), is_last)
                }
                Received::Lost => (Event::Lost, true),
                // The view was locked before the client had subscribed, or the client is gone.
                Received::Closed => (Event::Lock, true),
            };
            if !send(stream, &event, &events, &mut patience) || is_last {
                break;
            }
        }
        // Wakes the other thread as well. Of a client that is gone already, nothing is to be closed.
        let _ = stream.shutdown(Shutdown::Both);
    }
}

/// Starts a thread that closes the subscription when the client is gone.
fn end_with_client(
    stream: &UnixStream,
    events: &Arc<Subscription<view::Event>>,
) -> std::io::Result<()> {
    let (stream, events) = (stream.try_clone()?, Arc::clone(events));
    let watch = move || {
        // Only the end of both directions wakes it: a client need not keep its own open.
        let mut client = [PollFd::new(&stream, PollFlags::empty())];
        while let Err(rustix::io::Errno::INTR) = poll(&mut client, None) {}
        events.close();
    };
    let thread = std::thread::Builder::new().name("watcher".to_owned());
    thread.spawn(watch).map(drop)
}

/// When it was first seen that a client's subscription has ended while it received nothing.
#[derive(Default)]
struct Patience(Option<Instant>);

/// Sends one line. Tells whether the client received it: as long as its subscription lasts it may
/// take its time.
fn send(
    mut stream: &UnixStream,
    event: &Event,
    events: &Subscription<view::Event>,
    patience: &mut Patience,
) -> bool {
    let (Ok(line), Ok(())) = (to_line(event), stream.set_write_timeout(Some(ROUND))) else {
        return false;
    };
    let mut rest = &line[..];
    while !rest.is_empty() {
        match stream.write(rest) {
            Ok(sent) => rest = &rest[sent..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if events.has_ended() {
                    let ended = patience.0.get_or_insert_with(Instant::now);
                    if ended.elapsed() > LAST_LINES {
                        return false;
                    }
                }
            }
            Err(_) => return false,
        }
    }
    true
}
