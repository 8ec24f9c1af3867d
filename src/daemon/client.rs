//! Finding the running daemons of this user, and asking them.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::protocol::{Lines, REPLY_LIMIT, Reply, Request, Status, Unsaved, to_line};
use super::socket::{peer, short_path};
use crate::error::{Error, Kind, Result, printable};
use crate::process::mounts::{self, Entry};

/// How long a daemon may take to tell its status.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a daemon may take to lock and to end.
const LOCKING: Duration = Duration::from_secs(6);
/// How long a daemon may take to open all old versions, or to publish a large one.
const WORKING: Duration = Duration::from_secs(600);

/// Where control sockets may be.
pub struct Sockets {
    /// Directory of sockets named after their stores, if there is a session.
    pub runtime: Option<PathBuf>,
    /// Directory with one state directory for each store, each of which may hold a socket.
    pub states: PathBuf,
}

/// The daemons that were found.
pub struct Found {
    /// Those that answered.
    pub daemons: Vec<Connection>,
    /// Processes at a socket that did not answer.
    pub silent: Vec<OwnedFd>,
    /// Mounts of this user whose daemon cannot be asked: it hangs, or was started in another
    /// session and has its socket elsewhere.
    pub unreachable: Vec<Entry>,
}

/// A connection to a daemon.
pub struct Connection {
    stream: UnixStream,
    lines: Lines,
    /// Its process; `None` if the kernel cannot show it to us.
    process: Option<OwnedFd>,
    /// `None` if it is not mounted where we can see it.
    mount: Option<Entry>,
    /// Its mount is gone, and it saves the rest.
    pub is_leaving: bool,
    /// Its first answer.
    pub status: Status,
}

/// Asks every socket there is, and compares the answers with the mounts of this user.
///
/// # Errors
/// `Io` if the table of mounts cannot be read.
pub fn find(places: &Sockets) -> Result<Found> {
    let mut found = Vec::new();
    let names = |directory: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(directory).into_iter().flatten();
        entries.flatten().map(|entry| entry.path()).collect()
    };
    if let Some(runtime) = &places.runtime {
        let sockets = names(runtime).into_iter();
        found.extend(sockets.filter(|path| path.extension().is_some_and(|end| end == "sock")));
    }
    let stores = names(&places.states).into_iter();
    found.extend(stores.map(|store| store.join("control.sock")));
    // All at once: together they keep us waiting no longer than the slowest of them.
    let asked: Vec<_> = found
        .into_iter()
        .map(|path| std::thread::spawn(move || Connection::to(&path)))
        .collect();
    let (mut daemons, mut silent) = (Vec::new(), Vec::new());
    for answer in asked.into_iter().filter_map(|asked| asked.join().ok()) {
        match answer {
            Answer::Given(daemon) => daemons.push(*daemon),
            Answer::None(process) => silent.extend(process),
            Answer::Nobody => {}
        }
    }
    daemons.sort_by_key(Connection::name);
    let me = rustix::process::geteuid().as_raw();
    let mut unreachable = mounts::all()?;
    unreachable.retain(|entry| {
        let asked = |daemon: &Connection| daemon.mount.as_ref().is_some_and(|one| one.is(entry));
        let store = entry.source.strip_prefix(mounts::SOURCE);
        // Mounts of another home of this user are not ours to ask.
        let is_mine =
            entry.user == Some(me) && store.is_some_and(|name| places.states.join(name).is_dir());
        entry.kind == mounts::TYPE && is_mine && !daemons.iter().any(asked)
    });
    Ok(Found {
        daemons,
        silent,
        unreachable,
    })
}

/// Ends a process that does not answer, for it may hold keys. Returns `false` if it had to be
/// killed.
pub fn end(process: &OwnedFd) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if has_ended(process, 100_000_000) {
            return true;
        }
    }
    // If it ended a moment ago, so much the better.
    let _ = pidfd_send_signal(process, Signal::KILL);
    false
}

/// The outcome of asking at a socket.
enum Answer {
    Given(Box<Connection>),
    /// A process is there, and does not answer.
    None(Option<OwnedFd>),
    Nobody,
}

impl Connection {
    /// Connects to the daemon at a socket, and asks for its status.
    ///
    /// # Errors
    /// `NotFound` if no daemon is there, or it does not answer.
    pub fn at(socket: &Path) -> Result<Connection> {
        match Connection::to(socket) {
            Answer::Given(daemon) => Ok(*daemon),
            Answer::None(_) | Answer::Nobody => {
                let nobody = format!("no daemon answers at {}", socket.display());
                Err(Error::new(Kind::NotFound, nobody))
            }
        }
    }

    fn to(socket: &Path) -> Answer {
        let connected = socket.parent().and_then(|directory| {
            let directory = File::open(directory).ok()?;
            let name = socket.file_name()?.to_str()?;
            UnixStream::connect(short_path(&directory, name)).ok()
        });
        let Some(stream) = connected else {
            return Answer::Nobody;
        };
        let mut lines = Lines::new();
        let pid = peer(&stream).ok().and_then(|peer| Pid::from_raw(peer.pid));
        // Before it is asked for anything, so that it is the process that was connected to.
        let process = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        let (status, is_leaving) = match ask(&stream, &mut lines, &Request::Status, PATIENCE) {
            Ok(Reply::Status(status)) => (*status, false),
            Ok(Reply::Leaving(status)) => (*status, true),
            Ok(_) | Err(_) => return Answer::None(process),
        };
        Answer::Given(Box::new(Connection {
            stream,
            lines,
            process,
            mount: mounted_at(&status),
            is_leaving,
            status,
        }))
    }

    /// Its mountpoint, or else its store, for people.
    pub fn name(&self) -> String {
        match self.status.mountpoint.as_str() {
            "" => printable(&self.status.store),
            mountpoint => printable(mountpoint),
        }
    }

    /// Asks for something that may take a while.
    ///
    /// # Errors
    /// `Io` if it does not answer.
    pub fn ask(&mut self, request: &Request) -> Result<Reply> {
        self.ask_within(request, WORKING)
    }

    fn ask_within(&mut self, request: &Request, patience: Duration) -> Result<Reply> {
        let answer = ask(&self.stream, &mut self.lines, request, patience);
        answer.map_err(|error| {
            let why = format!("{}: it does not answer: {error}", self.name());
            Error::new(Kind::Io, why)
        })
    }

    /// Asks for events. [`Connection::next_line`] returns them after this.
    ///
    /// # Errors
    /// `Io` if it does not answer; `Busy` with its sentence if it refuses.
    pub fn watch(&mut self) -> Result<()> {
        match self.ask_within(&Request::Watch, PATIENCE)? {
            Reply::Status(status) | Reply::Leaving(status) => {
                self.status = *status;
                Ok(())
            }
            Reply::Error(why) => {
                let why = format!("{}: {}", self.name(), printable(&why));
                Err(Error::new(Kind::Busy, why))
            }
            _ => {
                let why = format!("{}: an answer to another question", self.name());
                Err(Error::new(Kind::Io, why))
            }
        }
    }

    /// Waits for the next line after [`Connection::watch`]; `None` if the daemon closed. Lines are
    /// [`super::protocol::Event`]s, or of a kind that a newer daemon knows.
    ///
    /// # Errors
    /// `Io` if the connection breaks.
    pub fn next_line(&mut self) -> Result<Option<Vec<u8>>> {
        let line = self.lines.next(&self.stream, REPLY_LIMIT, None);
        line.map_err(|error| Error::io("control socket", error))
    }

    /// Locks, and waits until mount and process are gone. Returns the files that were not saved
    /// where they belong.
    ///
    /// # Errors
    /// `Io` if it does not lock, or does not end.
    pub fn lock(mut self) -> Result<Vec<Unsaved>> {
        let begun = Instant::now();
        let name = self.name();
        let failed = |why: String| Error::new(Kind::Io, format!("{name}: {why}"));
        let unsaved = match ask(&self.stream, &mut self.lines, &Request::Lock, LOCKING) {
            Ok(Reply::Locked(unsaved)) => unsaved,
            Ok(Reply::Error(error)) => return Err(failed(printable(&error))),
            Ok(_) => return Err(failed("an answer to another question".to_owned())),
            Err(error) => return Err(failed(format!("it did not tell what was saved: {error}"))),
        };
        while !self.is_gone() {
            if begun.elapsed() > LOCKING {
                return Err(failed(
                    "everything is saved, but it does not end".to_owned(),
                ));
            }
            self.wait_a_moment();
        }
        Ok(unsaved)
    }

    fn is_gone(&self) -> bool {
        let mount = self.mount.as_ref();
        let ended = self
            .process
            .as_ref()
            .is_none_or(|process| has_ended(process, 0));
        let there = mount.is_some_and(|mount| !matches!(mounts::again(mount), Ok(None)));
        if let Some(mount) = mount.filter(|_| ended && there && self.process.is_some()) {
            // Its keeper was killed. If it cannot be taken away, it is still there next time.
            let _ = mounts::detach(&mount.path);
        }
        ended && !there
    }

    fn wait_a_moment(&self) {
        const MOMENT: i64 = 10_000_000;
        match &self.process {
            Some(process) if !has_ended(process, MOMENT) => {}
            _ => std::thread::sleep(Duration::from_nanos(MOMENT as u64)),
        }
    }
}

/// Finds the mount of ours where the status says that it is.
fn mounted_at(status: &Status) -> Option<Entry> {
    let entry = mounts::at(Path::new(&status.mountpoint)).ok()?;
    entry.filter(|entry| entry.kind == mounts::TYPE)
}

/// Tells whether a process has ended, after so many nanoseconds at the latest.
fn has_ended(process: &OwnedFd, nanoseconds: i64) -> bool {
    let timeout = Timespec {
        tv_sec: 0,
        tv_nsec: nanoseconds,
    };
    let mut wanted = [PollFd::new(process, PollFlags::IN)];
    poll(&mut wanted, Some(&timeout)).is_ok_and(|ready| ready > 0)
}

fn ask(
    mut stream: &UnixStream,
    lines: &mut Lines,
    request: &Request,
    patience: Duration,
) -> io::Result<Reply> {
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(&to_line(request)?)?;
    let answer = lines.next(stream, REPLY_LIMIT, Some(patience))?;
    let answer = answer.ok_or_else(|| io::Error::other("it ended without an answer"))?;
    Ok(Reply::from_line(&answer)?)
}
