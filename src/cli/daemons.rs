//! Finding the running mounts of this user, and asking them.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::config::{Config, find_store};
use super::control::{Lines, Reply, Request, peer, short_path};
use super::{Exit, Failure, Outcome, paths};
use crate::process::mounts::{self, Entry};
use crate::view::{Status, Unsaved};

/// How long a mount may take to say how it is.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a mount may take to lock and to end.
const LOCKING: Duration = Duration::from_secs(6);
/// How long a mount may take to open all old versions, or to publish a large one.
const WORKING: Duration = Duration::from_secs(600);
/// Bytes in the longest answer: a path may have 4096, and there may be many.
const ANSWER_LIMIT: usize = 64 << 20;

/// Which of the running mounts are meant.
#[derive(clap::Args)]
pub(super) struct Choice {
    /// The synced folder whose mount is meant
    #[arg(short, long, value_name = "DIR")]
    pub(super) store: Option<PathBuf>,
    /// Where the mount is
    #[arg(value_name = "MOUNTPOINT")]
    pub(super) mountpoint: Option<PathBuf>,
}

impl Choice {
    /// Finds the mounts that are meant; without an argument, all.
    pub(super) fn find(&self) -> Outcome<Found> {
        let Found {
            mut daemons,
            silent,
            mut unreachable,
        } = all()?;
        if let Some(mountpoint) = &self.mountpoint {
            let wanted = canonical(mountpoint);
            daemons.retain(|daemon| Path::new(&daemon.status.surroundings.mountpoint) == wanted);
            unreachable.retain(|entry| entry.path == wanted);
        }
        if let Some(store) = &self.store {
            let wanted = canonical(store);
            daemons.retain(|daemon| Path::new(&daemon.status.surroundings.store) == wanted);
            // Of which store they are cannot be told.
            unreachable.clear();
        }
        Ok(Found {
            daemons,
            silent,
            unreachable,
        })
    }
}

/// What runs.
pub(super) struct Found {
    pub(super) daemons: Vec<Daemon>,
    /// Processes that are there and do not answer.
    pub(super) silent: Vec<OwnedFd>,
    /// Mounts of mine whose daemon cannot be asked: it hangs, or was started in another session
    /// and has its socket elsewhere.
    pub(super) unreachable: Vec<Entry>,
}

/// Locks a mount whose daemon cannot be asked: that it is out of the tree locks it as well.
pub(super) fn lock_unreachable(entry: &Entry) -> Outcome<()> {
    let path = crate::error::printable(&entry.path.to_string_lossy());
    mounts::detach(&entry.path).map_err(|error| {
        Failure::new(Exit::Failure, format!("{path}: {error}")).hint("it is still mounted")
    })
}

/// Ends a process that does not answer, for it may hold keys. It had its time.
pub(super) fn end(process: &OwnedFd) -> Outcome<()> {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if ended(process, 100_000_000) {
            return Ok(());
        }
    }
    // If it ended a moment ago, so much the better.
    let _ = pidfd_send_signal(process, Signal::KILL);
    let why = "a mount did not answer, and was killed: what was unsaved in it is lost";
    Err(Failure::new(Exit::Failure, why).hint("it is locked now"))
}

/// Tells where the store of this user that is in use is mounted; `None` if its mount is gone.
pub(super) fn place_of(store: &Path) -> Outcome<Option<String>> {
    let me = rustix::process::geteuid().as_raw();
    let source = format!("{}{}", mounts::SOURCE, paths::store_name(store));
    let is_one = |entry: &Entry| {
        entry.kind == mounts::TYPE && entry.source == source && entry.user == Some(me)
    };
    let places: Vec<_> = mounts::all()?.into_iter().filter(is_one).collect();
    if let [one] = places.as_slice() {
        return Ok(Some(crate::error::printable(&one.path.to_string_lossy())));
    }
    // Several homes of one user may have mounted it: only ours is at this socket.
    let daemons = all()?.daemons.into_iter();
    let mut ours = daemons.filter(|daemon| Path::new(&daemon.status.surroundings.store) == store);
    Ok(ours
        .find(|daemon| !daemon.is_leaving)
        .map(|daemon| daemon.mountpoint()))
}

/// What is told if there is no mount to talk to.
pub(super) fn none_running(unreachable: &[Entry]) -> Failure {
    let Some(entry) = unreachable.first() else {
        return Failure::new(Exit::Failure, "no mount of this store is running")
            .hint("dds-mount MOUNTPOINT mounts one; dds status lists those that run");
    };
    let path = crate::error::printable(&entry.path.to_string_lossy());
    let why = format!("{path} is mounted, and cannot be asked");
    Failure::new(Exit::Failure, why).hint(format!("dds lock {path}, or dds lock --all"))
}

/// Chooses one of several: that of the configured store.
pub(super) fn of_configured_store(mut daemons: Vec<Daemon>) -> Outcome<Daemon> {
    let names: Vec<_> = daemons.iter().map(Daemon::mountpoint).collect();
    let several = format!("several mounts are running: {}", names.join(", "));
    let wanted = canonical(&find_store(None, &Config::load(None)?)?);
    daemons.retain(|daemon| Path::new(&daemon.status.surroundings.store) == wanted);
    match (daemons.pop(), daemons.is_empty()) {
        (Some(daemon), true) => Ok(daemon),
        _ => Err(Failure::new(Exit::Failure, several)
            .hint("name a mountpoint or its store; dds lock --all locks all")),
    }
}

pub(super) fn canonical(path: &Path) -> PathBuf {
    let absolute = || std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    path.canonicalize().unwrap_or_else(|_| absolute())
}

/// A running mount, at the other end of a connection.
pub(super) struct Daemon {
    stream: UnixStream,
    /// Its process; `None` if the kernel cannot show it to us.
    process: Option<OwnedFd>,
    /// `None` if it is not mounted where we can see it.
    mount: Option<Entry>,
    /// Its mount is gone, and it saves what is left.
    pub(super) is_leaving: bool,
    pub(super) status: Status,
}

/// Asks every socket there is, and compares with what is mounted.
fn all() -> Outcome<Found> {
    let mut found = Vec::new();
    let names = |directory: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(directory).into_iter().flatten();
        entries.flatten().map(|entry| entry.path()).collect()
    };
    if let Some(runtime) = paths::runtime_dir() {
        let sockets = names(&runtime).into_iter();
        found.extend(sockets.filter(|path| path.extension().is_some_and(|end| end == "sock")));
    }
    let stores = names(&paths::all_state_dirs()?).into_iter();
    found.extend(stores.map(|store| store.join("control.sock")));
    // All at once: one that does not answer keeps nobody waiting but us.
    let asked: Vec<_> = found
        .into_iter()
        .map(|path| std::thread::spawn(move || Daemon::at(&path)))
        .collect();
    let (mut daemons, mut silent) = (Vec::new(), Vec::new());
    for answer in asked.into_iter().filter_map(|asked| asked.join().ok()) {
        match answer {
            Answer::Given(daemon) => daemons.push(*daemon),
            Answer::None(process) => silent.extend(process),
            Answer::Nobody => {}
        }
    }
    daemons.sort_by_key(Daemon::mountpoint);
    let me = rustix::process::geteuid().as_raw();
    let states = paths::all_state_dirs()?;
    let mut unreachable = mounts::all()?;
    unreachable.retain(|entry| {
        let asked = |daemon: &Daemon| daemon.mount.as_ref().is_some_and(|known| known.is(entry));
        let store = entry.source.strip_prefix(mounts::SOURCE);
        // Another home's mounts are another's business.
        let is_mine =
            entry.user == Some(me) && store.is_some_and(|name| states.join(name).is_dir());
        entry.kind == mounts::TYPE && is_mine && !daemons.iter().any(asked)
    });
    Ok(Found {
        daemons,
        silent,
        unreachable,
    })
}

/// What came of asking at a socket.
enum Answer {
    Given(Box<Daemon>),
    /// Somebody is there, and does not answer.
    None(Option<OwnedFd>),
    Nobody,
}

impl Daemon {
    fn at(socket: &Path) -> Answer {
        let connected = socket.parent().and_then(|directory| {
            let directory = File::open(directory).ok()?;
            let name = socket.file_name()?.to_str()?;
            UnixStream::connect(short_path(&directory, name)).ok()
        });
        let Some(mut stream) = connected else {
            return Answer::Nobody;
        };
        let pid = peer(&stream).ok().and_then(|peer| Pid::from_raw(peer.pid));
        // Before it is asked for anything, so that it is the process that was connected to.
        let process = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        let (status, is_leaving) = match ask(&mut stream, &Request::Status, PATIENCE) {
            Ok(Reply::Status(status)) => (*status, false),
            Ok(Reply::Leaving(status)) => (*status, true),
            Ok(_) | Err(_) => return Answer::None(process),
        };
        Answer::Given(Box::new(Daemon {
            stream,
            process,
            mount: mounted_at(&status),
            is_leaving,
            status,
        }))
    }

    /// Its mountpoint, for people.
    pub(super) fn mountpoint(&self) -> String {
        crate::error::printable(&self.status.surroundings.mountpoint)
    }

    /// Asks for something that may take a while.
    pub(super) fn ask(&mut self, request: &Request) -> Outcome<Reply> {
        let answer = ask(&mut self.stream, request, WORKING);
        answer.map_err(|error| {
            let why = format!("{}: it does not answer: {error}", self.mountpoint());
            Failure::new(Exit::Failure, why).hint("dds status tells whether it still runs")
        })
    }

    /// Locks, and waits until mount and process are gone. Returns what was not saved where it
    /// belongs.
    pub(super) fn lock(mut self) -> Outcome<Vec<Unsaved>> {
        let begun = Instant::now();
        let mountpoint = self.mountpoint();
        let failed = |why: String| {
            Failure::new(Exit::Failure, format!("{mountpoint}: {why}"))
                .hint("dds status tells whether it still runs; the next mount shows what was kept in .dds/rescued/")
        };
        let unsaved = match ask(&mut self.stream, &Request::Lock, LOCKING) {
            Ok(Reply::Locked(unsaved)) => unsaved,
            Ok(Reply::Error(error)) => return Err(failed(crate::error::printable(&error))),
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
            .is_none_or(|process| ended(process, 0));
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
            Some(process) if !ended(process, MOMENT) => {}
            _ => std::thread::sleep(Duration::from_nanos(MOMENT as u64)),
        }
    }
}

/// Finds the mount of ours where the status says that it is.
fn mounted_at(status: &Status) -> Option<Entry> {
    let entry = mounts::at(Path::new(&status.surroundings.mountpoint)).ok()?;
    entry.filter(|entry| entry.kind == mounts::TYPE)
}

/// Tells whether a process has ended, after so many nanoseconds at the latest.
fn ended(process: &OwnedFd, nanoseconds: i64) -> bool {
    let timeout = Timespec {
        tv_sec: 0,
        tv_nsec: nanoseconds,
    };
    let mut wanted = [PollFd::new(process, PollFlags::IN)];
    poll(&mut wanted, Some(&timeout)).is_ok_and(|ready| ready > 0)
}

fn ask(stream: &mut UnixStream, request: &Request, patience: Duration) -> std::io::Result<Reply> {
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(&line)?;
    let answer = Lines::of(stream).next(ANSWER_LIMIT, patience)?;
    let answer = answer.ok_or_else(|| std::io::Error::other("it ended without an answer"))?;
    Ok(serde_json::from_slice(&answer)?)
}
