//! Serving the control socket: one thread takes connections, and one for each client answers.
//!
//! At most 16 clients are listened to at a time, each for at most ten seconds until it has sent a
//! line. Clients that watch are counted apart (`watchers`), and clients that wait for the lock are
//! not listened to any more.

use std::io::Write as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use rustix::net::Shutdown;

use super::protocol::{Lines, OldNote, REQUEST_LIMIT, Reply, Request, Unsaved, to_line};
use super::socket::{Listener, may_ask};
use super::watchers::Watchers;
use crate::error::{Error, Result};
use crate::locks::lock;
use crate::process::ending::Locker;
use crate::process::mounts::{self, Entry};
use crate::view::{self, View};

/// How long a client may take to send a line.
const LISTENING: Duration = Duration::from_secs(10);
/// How long a client may take to receive an answer.
const ANSWERING: Duration = Duration::from_secs(1);
/// Number of clients that are listened to at a time.
const CLIENTS: usize = 16;

/// A control socket that is served.
pub(super) struct Control {
    server: Arc<Server>,
    // In the order in which they are dropped: the socket goes before the view lets go of the
    // store's state, for then the next daemon may bind its own.
    listener: Listener,
    _view: Arc<View>,
}

/// State that the threads share which answer clients.
struct Server {
    /// Gone when the daemon has locked.
    view: Weak<View>,
    locker: Locker,
    /// The mount in the kernel's table, as it was when it was served.
    mount: Option<Entry>,
    waiting: Mutex<Waiting>,
    watchers: Watchers,
    /// The daemon is locking: nothing of the view is told or changed any more.
    locking: AtomicBool,
    /// No connection is taken any more.
    ended: AtomicBool,
}

/// Clients that wait for the lock.
#[derive(Default)]
struct Waiting {
    streams: Vec<UnixStream>,
    /// There when the daemon has locked.
    answer: Option<Reply>,
}

/// Answers that can still be given when everything else hangs.
pub struct Answers(Arc<Server>);

impl Control {
    /// Begins to answer at a socket.
    ///
    /// # Errors
    /// `Io` if no thread can be started.
    pub(super) fn serve(
        listener: Listener,
        view: Arc<View>,
        mountpoint: Option<&Path>,
        locker: Locker,
    ) -> Result<Control> {
        let failed = |error| Error::io("the control socket", error);
        let accepting = listener.listener.try_clone().map_err(failed)?;
        let mount = mountpoint.and_then(|mountpoint| mounts::at(mountpoint).ok().flatten());
        let server = Arc::new(Server {
            view: Arc::downgrade(&view),
            locker,
            mount,
            waiting: Mutex::default(),
            watchers: Watchers::default(),
            locking: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        });
        let acceptor = Arc::clone(&server);
        let thread = std::thread::Builder::new().name("control".to_owned());
        let thread = thread.spawn(move || acceptor.accept(&accepting));
        thread.map_err(failed)?;
        Ok(Control {
            server,
            listener,
            _view: view,
        })
    }

    pub(super) fn answers(&self) -> Answers {
        Answers(Arc::clone(&self.server))
    }

    /// Answers every client that waits for the lock, lets watchers receive their last lines,
    /// removes the socket, and lets go of the view: everything is saved.
    pub(super) fn finish(self, unsaved: &[view::Unsaved]) {
        let unsaved = unsaved.iter().cloned().map(Unsaved::from);
        self.server
            .answer_waiting(&Reply::Locked(unsaved.collect()));
        self.server.watchers.wait_for_end();
    }
}

impl Drop for Control {
    /// Ends the thread that takes connections, which has the socket open, too.
    fn drop(&mut self) {
        self.server.ended.store(true, Ordering::Relaxed);
        let ended = rustix::net::shutdown(&self.listener.listener, Shutdown::Both);
        if let Err(error) = ended {
            tracing::debug!("control socket: {error}");
        }
    }
}

impl Answers {
    /// From now on nothing of the view is told or changed.
    pub(super) fn begin_locking(&self) {
        self.0.locking.store(true, Ordering::Relaxed);
    }

    /// Tells the clients that wait for the lock that it failed. Returns `false` if they have an
    /// answer already: everything is saved.
    pub fn give_up(&self, why: &str) -> bool {
        self.0.answer_waiting(&Reply::Error(why.to_owned()))
    }
}

impl Server {
    /// Takes connections, until the control socket ends.
    fn accept(self: Arc<Self>, listener: &UnixListener) {
        let slots = Arc::new(());
        loop {
            let stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(_) if self.ended.load(Ordering::Relaxed) => return,
                Err(error) => {
                    // Out of descriptors, for example: that may pass.
                    tracing::warn!("control socket: {error}");
                    std::thread::sleep(Duration::from_millis(100));
                    continue;
                }
            };
            let all_taken = Arc::strong_count(&slots) > CLIENTS;
            if all_taken || !may_ask(&stream) || stream.set_write_timeout(Some(ANSWERING)).is_err()
            {
                continue;
            }
            let (worker, slot) = (Arc::clone(&self), Arc::clone(&slots));
            let thread = std::thread::Builder::new().name("client".to_owned());
            if let Err(error) = thread.spawn(move || worker.listen(stream, slot)) {
                tracing::warn!("control socket: {error}");
            }
        }
    }

    /// Answers a client's requests. The client has a slot until it watches or waits for the lock.
    fn listen(&self, stream: UnixStream, slot: Arc<()>) {
        let mut lines = Lines::new();
        loop {
            let line = match lines.next(&stream, REQUEST_LIMIT, Some(LISTENING)) {
                Ok(Some(line)) => line,
                Ok(None) => return,
                Err(error) => {
                    send(&stream, &Reply::Error(error.to_string()));
                    return;
                }
            };
            let reply = match Request::from_line(&line) {
                Ok(Request::Status) => self.status(),
                Ok(Request::Lock) => return self.lock(stream),
                Ok(Request::Watch) => match self.watch(&stream) {
                    Ok(watching) => {
                        drop(slot);
                        return watching();
                    }
                    Err(refused) => refused,
                },
                Ok(Request::History { path }) => self.answer(|view| {
                    let notes = view.history(&path)?.into_iter();
                    Ok(Reply::History(notes.map(OldNote::from).collect()))
                }),
                Ok(Request::ForgetHistory { path }) => {
                    self.answer(|view| view.forget_history(&path).map(Reply::Forgotten))
                }
                Ok(Request::Restore { path, version }) => self.answer(|view| {
                    let restored = view.restore(&path, version.as_deref())?;
                    Ok(Reply::Restored(restored.into()))
                }),
                Err(error) => Reply::Error(error.to_string()),
            };
            if !send(&stream, &reply) {
                return;
            }
        }
    }

    /// Tells how things stand. That the mount is gone shows in the kernel's table before anybody
    /// here has noticed.
    fn status(&self) -> Reply {
        let mounted = self.mount.as_ref();
        let gone = mounted.is_some_and(|mount| matches!(mounts::again(mount), Ok(None)));
        self.answer_also_when_locking(|view| {
            let status = Box::new(view.status().into());
            Ok(match gone || self.locking.load(Ordering::Relaxed) {
                true => Reply::Leaving(status),
                false => Reply::Status(status),
            })
        })
    }

    /// Subscribes a client to events. Returns the work of sending them, or the answer that refuses
    /// it.
    fn watch<'a>(
        &'a self,
        stream: &'a UnixStream,
    ) -> std::result::Result<impl FnOnce() + 'a, Reply> {
        let view = self.view.upgrade();
        let Some(view) = view.filter(|_| !self.locking.load(Ordering::Relaxed)) else {
            return Err(locked());
        };
        let Some(watcher) = self.watchers.enter() else {
            return Err(Reply::Error("too many clients watch already".to_owned()));
        };
        // Before the status: an event between the two is in both.
        let events = view.subscribe(super::watchers::WAITING);
        drop(view);
        Ok(move || {
            // Half a line would run into the next one.
            if send(stream, &self.status()) {
                watcher.send_events(stream, events);
            }
        })
    }

    /// Answers from the view, unless the daemon is locking.
    fn answer(&self, ask: impl FnOnce(&View) -> Result<Reply>) -> Reply {
        match self.locking.load(Ordering::Relaxed) {
            true => locked(),
            false => self.answer_also_when_locking(ask),
        }
    }

    /// Answers from the view, as long as it is there.
    fn answer_also_when_locking(&self, ask: impl FnOnce(&View) -> Result<Reply>) -> Reply {
        match self.view.upgrade() {
            Some(view) => ask(&view).unwrap_or_else(|error| Reply::Error(error.to_string())),
            None => locked(),
        }
    }

    /// Answers the clients that wait for the lock, now and later. Tells whether it did: the first
    /// answer counts.
    fn answer_waiting(&self, answer: &Reply) -> bool {
        let waiting = {
            let mut waiting = lock(&self.waiting);
            if waiting.answer.is_some() {
                return false;
            }
            waiting.answer = Some(answer.clone());
            std::mem::take(&mut waiting.streams)
        };
        for stream in waiting {
            send(&stream, answer);
        }
        true
    }

    fn lock(&self, stream: UnixStream) {
        let mut waiting = lock(&self.waiting);
        if let Some(answer) = &waiting.answer {
            send(&stream, answer);
            return;
        }
        waiting.streams.push(stream);
        drop(waiting);
        self.locker.lock();
    }
}

fn locked() -> Reply {
    Reply::Error("it is locked".to_owned())
}

/// Sends one line. Tells whether the client received it: one that did not is gone, or does not want
/// it.
fn send(mut stream: &UnixStream, reply: &Reply) -> bool {
    let sent = to_line(reply).and_then(|line| stream.write_all(&line));
    sent.inspect_err(|error| tracing::debug!("control socket: {error}"))
        .is_ok()
}
