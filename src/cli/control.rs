//! The socket over which `dds` talks to a running mount: lines of JSON, for the same user only.
//!
//! It is `$XDG_RUNTIME_DIR/dds/<store>.sock`, else `control.sock` in the state directory of the
//! store. It is bound early, when the process may still do everything, and served once the view
//! is there; a socket that nobody serves any more refuses connections, and is replaced.

use std::fs::{DirBuilder, File};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::{AsFd, AsRawFd as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Mode, OFlags};
use serde::{Deserialize, Serialize};

use super::{Exit, Failure, Outcome, paths};
use crate::error::Error;
use crate::fuse::Locker;
use crate::process::mounts::{self, Entry};
use crate::view::{OldNote, Restored, Status, Unsaved, View};

/// What a client may ask: one line.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub(super) enum Request {
    /// How things stand. Answered by [`Reply::Status`].
    Status,
    /// Which old versions there are of the notes at or below a path in the view. Answered by
    /// [`Reply::History`].
    History { path: String },
    /// Drop them. Answered by [`Reply::Forgotten`].
    ForgetHistory { path: String },
    /// Publish an old version anew. Answered by [`Reply::Restored`].
    Restore {
        path: String,
        version: Option<String>,
    },
    /// Take the mount away. Answered by [`Reply::Locked`] when everything is saved.
    Lock,
}

/// What the mount answers: one line.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Reply {
    /// How things stand.
    Status(Box<Status>),
    /// How things stood: the mount is gone, and what is left is being saved.
    Leaving(Box<Status>),
    /// Notes with their versions.
    History(Vec<OldNote>),
    /// So many versions were dropped.
    Forgotten(usize),
    /// A version was restored.
    Restored(Restored),
    /// The mount is gone, and this was not saved where it belongs.
    Locked(Vec<Unsaved>),
    /// The request cannot be answered.
    Error(String),
}

/// Bytes in the longest request: a path may have 4096, each of which may take six.
const REQUEST_LIMIT: usize = 32 << 10;
/// How long a client may take to say a line.
const LISTENING: Duration = Duration::from_secs(10);
/// How long a client may take to take an answer.
const ANSWERING: Duration = Duration::from_secs(1);
/// Clients that are listened to at a time.
const CLIENTS: usize = 16;

/// A control socket that is not served yet: clients wait. Dropping it removes the socket.
pub(super) struct Door {
    listener: UnixListener,
    place: Place,
}

/// A directory, and the socket's name in it.
struct Place {
    directory: File,
    name: String,
}

impl Place {
    /// Opens the directory for a store's socket, and makes it if it is missing.
    fn prepare(store: &Path) -> Outcome<Place> {
        let (directory, name) = match paths::runtime_dir() {
            Some(runtime) => (runtime, format!("{}.sock", paths::store_name(store))),
            None => {
                let state = paths::state_dir(store)?;
                (state, "control.sock".to_owned())
            }
        };
        Place::open(&directory, name).map_err(|error| unusable(&error))
    }

    fn open(directory: &Path, name: String) -> std::io::Result<Place> {
        match DirBuilder::new().mode(0o700).create(directory) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = File::from(rustix::fs::open(directory, flags, Mode::empty())?);
        let me = rustix::process::geteuid().as_raw();
        if directory.metadata()?.uid() != me {
            return Err(std::io::Error::other("its directory is somebody else's"));
        }
        rustix::fs::fchmod(&directory, Mode::RWXU)?;
        Ok(Place { directory, name })
    }

    /// A path that is short enough for a socket, wherever the directory is.
    fn short(&self) -> PathBuf {
        short_path(&self.directory, &self.name)
    }

    fn remove(&self) {
        // What is left behind refuses connections, and the next mount replaces it.
        let _ = rustix::fs::unlinkat(&self.directory, &self.name, AtFlags::empty());
    }
}

fn unusable(error: &std::io::Error) -> Failure {
    Failure::new(Exit::Failure, format!("control socket: {error}"))
        .hint("XDG_RUNTIME_DIR must be a directory of yours, or not set")
}

/// The addresses of sockets have at most 107 bytes; this one has always.
pub(super) fn short_path(directory: &File, name: &str) -> PathBuf {
    let directory = directory.as_fd().as_raw_fd();
    PathBuf::from(format!("/proc/self/fd/{directory}/{name}"))
}

impl Drop for Door {
    fn drop(&mut self) {
        self.place.remove();
    }
}

impl Door {
    /// Binds the socket of a store, which is canonical and whose state is ours.
    pub(super) fn bind(store: &Path) -> Outcome<Door> {
        let place = Place::prepare(store)?;
        let path = place.short();
        let bound = UnixListener::bind(&path).or_else(|error| {
            if error.kind() != ErrorKind::AddrInUse {
                return Err(error);
            }
            match UnixStream::connect(&path) {
                Err(refused) if refused.kind() == ErrorKind::ConnectionRefused => {
                    place.remove();
                    UnixListener::bind(&path)
                }
                _ => Err(error),
            }
        });
        let listener = bound.map_err(|error| unusable(&error))?;
        // Nobody else can have come through the directory meanwhile.
        let mode = Mode::RUSR | Mode::WUSR;
        rustix::fs::chmodat(&place.directory, &place.name, mode, AtFlags::empty())
            .map_err(|errno| unusable(&errno.into()))?;
        Ok(Door { listener, place })
    }

    /// Begins to answer.
    pub(super) fn serve(
        self,
        view: Arc<View>,
        mountpoint: &Path,
        locker: Locker,
    ) -> Outcome<Control> {
        let failed = |error| Failure::from(Error::io("the control socket", error));
        let listener = self.listener.try_clone().map_err(failed)?;
        let desk = Arc::new(Desk {
            view: Arc::downgrade(&view),
            locker,
            mount: mounts::at(mountpoint).ok().flatten(),
            waiting: Mutex::default(),
            ended: AtomicBool::new(false),
        });
        let clerk = Arc::clone(&desk);
        let thread = std::thread::Builder::new().name("control".to_owned());
        let thread = thread.spawn(move || clerk.receive(&listener));
        thread.map_err(failed)?;
        Ok(Control {
            desk,
            _door: self,
            _view: view,
        })
    }
}

/// A control socket that is served.
pub(super) struct Control {
    desk: Arc<Desk>,
    // In the order in which they are dropped: the socket goes before the view lets go of the
    // store's state, for then the next mount may bind its own.
    _door: Door,
    _view: Arc<View>,
}

impl Control {
    /// What can still answer when everything else hangs.
    pub(super) fn answers(&self) -> Answers {
        Answers(Arc::clone(&self.desk))
    }

    /// Answers everybody who waits for the lock, removes the socket, and lets go of the view:
    /// everything is saved.
    pub(super) fn finish(self, unsaved: &[Unsaved]) {
        self.desk.answer(&Reply::Locked(unsaved.to_vec()));
    }
}

/// Who wait for the lock.
pub(super) struct Answers(Arc<Desk>);

impl Answers {
    /// Nothing of the mount is told or changed from now on.
    pub(super) fn end(&self) {
        self.0.ended.store(true, Ordering::Relaxed);
    }

    /// Tells them that it went wrong.
    pub(super) fn give_up(&self, why: &str) {
        self.0.answer(&Reply::Error(why.to_owned()));
    }
}

/// What the threads that listen to clients share.
struct Desk {
    /// Gone when the mount is.
    view: Weak<View>,
    locker: Locker,
    /// The mount in the kernel's table, as it was when it was served.
    mount: Option<Entry>,
    waiting: Mutex<Waiting>,
    /// The mount is being locked: nothing of it is told or changed any more.
    ended: AtomicBool,
}

/// Who waits for the lock.
#[derive(Default)]
struct Waiting {
    streams: Vec<UnixStream>,
    /// There when the mount is locked.
    answer: Option<Reply>,
}

impl Desk {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets clients in, until the process ends.
    fn receive(self: Arc<Self>, listener: &UnixListener) {
        let seats = Arc::new(());
        loop {
            let stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of descriptors, for example: that may pass.
                    tracing::warn!("control socket: {error}");
                    std::thread::sleep(Duration::from_millis(100));
                    continue;
                }
            };
            let taken = Arc::strong_count(&seats) > CLIENTS;
            if taken || !may_ask(&stream) || stream.set_write_timeout(Some(ANSWERING)).is_err() {
                continue;
            }
            let (desk, seat) = (Arc::clone(&self), Arc::clone(&seats));
            let thread = std::thread::Builder::new().name("client".to_owned());
            let thread = thread.spawn(move || {
                let _seat = seat;
                desk.listen(stream);
            });
            if let Err(error) = thread {
                tracing::warn!("control socket: {error}");
            }
        }
    }

    /// Answers a client's requests.
    fn listen(&self, stream: UnixStream) {
        let mut lines = Lines::of(&stream);
        loop {
            let line = match lines.next(REQUEST_LIMIT, LISTENING) {
                Ok(Some(line)) => line,
                Ok(None) => return,
                Err(error) => {
                    say(&stream, &Reply::Error(error.to_string()));
                    return;
                }
            };
            match serde_json::from_slice(&line) {
                Ok(Request::Status) => say(&stream, &self.status()),
                Ok(Request::Lock) => return self.lock(stream),
                Ok(Request::History { path }) => {
                    let listed = |view: &View| view.history(&path).map(Reply::History);
                    say(&stream, &self.answer_while_open(listed));
                }
                Ok(Request::ForgetHistory { path }) => {
                    let forgotten = |view: &View| view.forget_history(&path).map(Reply::Forgotten);
                    say(&stream, &self.answer_while_open(forgotten));
                }
                Ok(Request::Restore { path, version }) => {
                    let restored = |view: &View| view.restore(&path, version.as_deref());
                    say(
                        &stream,
                        &self.answer_while_open(|view| restored(view).map(Reply::Restored)),
                    );
                }
                Err(error) => say(&stream, &Reply::Error(error.to_string())),
            }
        }
    }

    /// Tells how things stand. That the mount is gone shows in the kernel's table before anybody
    /// here has noticed.
    fn status(&self) -> Reply {
        let mounted = self.mount.as_ref();
        let gone = mounted.is_some_and(|mount| matches!(mounts::again(mount), Ok(None)));
        self.answer_by(|view| {
            let status = Box::new(view.status());
            Ok(match gone || self.ended.load(Ordering::Relaxed) {
                true => Reply::Leaving(status),
                false => Reply::Status(status),
            })
        })
    }

    /// Answers from the view, while it is there.
    fn answer_by(&self, ask: impl FnOnce(&View) -> crate::error::Result<Reply>) -> Reply {
        match self.view.upgrade() {
            Some(view) => ask(&view).unwrap_or_else(|error| Reply::Error(error.to_string())),
            None => Reply::Error("it is locked".to_owned()),
        }
    }

    fn answer_while_open(&self, ask: impl FnOnce(&View) -> crate::error::Result<Reply>) -> Reply {
        match self.ended.load(Ordering::Relaxed) {
            true => Reply::Error("it is locked".to_owned()),
            false => self.answer_by(ask),
        }
    }

    fn answer(&self, answer: &Reply) {
        let waiting = {
            let mut waiting = self.waiting();
            waiting.answer = Some(answer.clone());
            std::mem::take(&mut waiting.streams)
        };
        for stream in waiting {
            say(&stream, answer);
        }
    }

    fn lock(&self, stream: UnixStream) {
        let mut waiting = self.waiting();
        if let Some(answer) = &waiting.answer {
            say(&stream, answer);
            return;
        }
        waiting.streams.push(stream);
        drop(waiting);
        self.locker.lock();
    }
}

/// Sends one line. A client that does not take it is gone, or does not want it.
fn say(mut stream: &UnixStream, reply: &Reply) {
    let Ok(mut line) = serde_json::to_vec(reply) else {
        tracing::error!("control socket: an answer that is not JSON");
        return;
    };
    line.push(b'\n');
    if let Err(error) = stream.write_all(&line) {
        tracing::debug!("control socket: {error}");
    }
}

/// What the other side says, line by line.
pub(super) struct Lines<'a> {
    stream: &'a UnixStream,
    /// Said, and not looked at yet.
    rest: Vec<u8>,
}

impl<'a> Lines<'a> {
    pub(super) fn of(stream: &'a UnixStream) -> Self {
        let rest = Vec::new();
        Lines { stream, rest }
    }

    /// Reads a line without its end; `None` if the other side has said everything.
    ///
    /// # Errors
    /// `TimedOut`, also if bytes keep coming; `Other` if the line is too long.
    pub(super) fn next(
        &mut self,
        limit: usize,
        patience: Duration,
    ) -> std::io::Result<Option<Vec<u8>>> {
        let begun = Instant::now();
        let mut looked_at = 0;
        loop {
            let new = &self.rest[looked_at..];
            if let Some(end) = new.iter().position(|byte| *byte == b'\n') {
                let after = self.rest.split_off(looked_at + end + 1);
                let mut line = std::mem::replace(&mut self.rest, after);
                line.pop();
                return Ok(Some(line));
            }
            looked_at = self.rest.len();
            if looked_at > limit {
                return Err(std::io::Error::other("the line is too long"));
            }
            let left = patience.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            self.stream.set_read_timeout(Some(left))?;
            let mut bytes = [0; 4096];
            let mut stream = self.stream;
            match stream.read(&mut bytes) {
                Ok(0) => return Ok(None),
                Ok(read) => self.rest.extend_from_slice(&bytes[..read]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Err(ErrorKind::TimedOut.into());
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// My own processes may ask, and root's.
fn may_ask(stream: &UnixStream) -> bool {
    let me = rustix::process::geteuid().as_raw();
    peer(stream).is_ok_and(|peer| peer.uid == me || peer.uid == 0)
}

/// Who is at the other end: who connected, or who bound the socket.
pub(super) fn peer(stream: &UnixStream) -> std::io::Result<libc::ucred> {
    // Not by rustix: its process ids cannot be 0, as that of a process in another namespace is.
    let mut peer = libc::ucred {
        pid: 0,
        uid: u32::MAX,
        gid: u32::MAX,
    };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the descriptor is open, and the kernel writes at most `length` bytes to `peer`.
    let done = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut length,
        )
    };
    match done {
        0 => Ok(peer),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// One line about a file that was not saved where it belongs.
pub(super) fn told(file: &Unsaved) -> String {
    let path = crate::error::printable(&file.path);
    let kept = match file.rescued {
        true => " (kept for you in .dds/rescued/ of the next mount)",
        false => "",
    };
    format!("not saved: {path}{kept}")
}
