//! A second process, without secrets, that takes the mount away: when the daemon asks for it, and
//! when the daemon dies for any reason. The daemon's sandbox forbids the daemon to do so itself.
//!
//! The keeper is forked before secrets exist, so that it inherits none, and knows nothing but which
//! mount it is. The daemon names the mount once, before it reads anything that others wrote; later
//! corrections are ignored. The keeper also watches the table of mounts: it tells the daemon when
//! the mount is out of the tree, and the daemon may ask it to end the connection, which lasts while
//! files are open in it or another mount namespace holds a copy: unmounting is locking. On request
//! the keeper listens to logind, which the daemon cannot reach, and tells the daemon when to lock;
//! the machine does not sleep before both have ended.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::exit;
use std::sync::mpsc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use super::close_all_but;
use super::logind::{Heard, LockTriggers, Logind};
use super::mounts::{self, Entry};
use super::sandbox::only_thread;
use crate::error::{Error, Kind, Result, printable};

/// How long a filesystem may take to answer, for example to write back mapped pages.
const PATIENCE: Duration = Duration::from_secs(1);

/// The daemon tells where it will mount, after this byte.
const EXPECT: u8 = b'E';
/// The daemon tells that the mount is there.
const WATCH: u8 = b'W';
/// The daemon asks to take the mount away.
const TAKE_AWAY: u8 = b'T';
/// The daemon asks to end the connection of the mount that is gone.
const ABORT: u8 = b'A';
/// The keeper tells that the mount is out of the tree.
const GONE: u8 = b'G';
/// The keeper tells that it listens to logind.
const READY: u8 = b'R';
/// The keeper tells that it cannot listen to logind; why follows.
const FAILED: u8 = b'F';
/// The keeper tells that logind wants the mount locked.
const LOCK: u8 = b'L';
/// The keeper tells that it cannot listen to logind any more.
const DEAF: u8 = b'D';

/// Bytes of the longest message.
const LONGEST: usize = 1 + libc::PATH_MAX as usize;

/// The daemon's end of its connection to the keeper. When it is closed, the keeper takes the mount
/// away, and ends.
pub struct Keeper {
    socket: OwnedFd,
}

/// A message from the keeper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The mount is out of the tree.
    Gone,
    /// The mount shall be locked.
    Lock,
    /// Nothing is heard of logind any more.
    Deaf,
    /// The keeper was killed.
    Lost,
}

impl Keeper {
    /// Forks the keeper, which has the mount locked on these triggers. The process must have one
    /// thread, and no secret.
    ///
    /// # Errors
    /// `Io` if the system has no process or descriptor left.
    pub fn fork(triggers: LockTriggers) -> Result<Keeper> {
        let failed = |error: std::io::Error| Error::io("starting the keeper", error);
        let (ours, theirs) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .map_err(|errno| failed(errno.into()))?;
        assert!(only_thread(), "the keeper is forked first");
        // SAFETY: there is one thread, so the child may go on as the parent would.
        match unsafe { libc::fork() } {
            -1 => Err(failed(std::io::Error::last_os_error())),
            0 => {
                drop(ours);
                // The daemon sees a keeper that could not begin as one that was killed.
                exit(i32::from(run(theirs, triggers).is_err()));
            }
            _ => Ok(Keeper { socket: ours }),
        }
    }

    /// Waits until the keeper listens to logind, if it was forked to do so.
    ///
    /// # Errors
    /// `Io` with the reason if it cannot.
    pub fn listens(&self) -> Result<()> {
        let mut message = vec![0; LONGEST];
        let told = rustix::io::retry_on_intr(|| {
            rustix::net::recv(&self.socket, &mut message, RecvFlags::empty())
        });
        match told.map(|(_, length)| &message[..length.min(LONGEST)]) {
            Ok([READY]) => Ok(()),
            Ok([FAILED, why @ ..]) => {
                let why = printable(&String::from_utf8_lossy(why));
                Err(Error::new(Kind::Io, why))
            }
            _ => Err(Error::new(Kind::Io, "the keeper ended")),
        }
    }

    /// Tells the keeper where there will be a mount. Should the daemon die before it can say which
    /// it is, a dead one there is taken away.
    ///
    /// # Errors
    /// `Io` if there is no keeper any more.
    pub fn expect(&self, mountpoint: &Path) -> Result<()> {
        self.tell(&[&[EXPECT], mountpoint.as_os_str().as_bytes()].concat())
    }

    /// Tells the keeper that the mount is there.
    ///
    /// # Errors
    /// `Io` if there is no keeper any more.
    pub fn watch(&self) -> Result<()> {
        self.tell(&[WATCH])
    }

    /// Asks the keeper to take the mount away; [`Keeper::listen`] hears when it is done.
    ///
    /// # Errors
    /// `Io` if there is no keeper any more.
    pub fn take_away(&self) -> Result<()> {
        self.tell(&[TAKE_AWAY])
    }

    /// Asks the keeper to end the connection of the mount that is gone. The daemon must still be
    /// served by it, for its number is given anew as soon as it ends.
    ///
    /// # Errors
    /// `Io` if there is no keeper any more.
    pub fn abort(&self) -> Result<()> {
        self.tell(&[ABORT])
    }

    fn tell(&self, message: &[u8]) -> Result<()> {
        let sent = rustix::net::send(&self.socket, message, SendFlags::NOSIGNAL);
        sent.map(drop)
            .map_err(|errno| Error::io("telling the keeper", errno.into()))
    }

    /// Waits for a message from the keeper.
    pub fn listen(&self) -> Notice {
        let mut message = [0];
        loop {
            match rustix::net::recv(&self.socket, &mut message, RecvFlags::empty()) {
                Ok((_, 0)) => return Notice::Lost,
                Ok(_) if message[0] == GONE => return Notice::Gone,
                Ok(_) if message[0] == LOCK => return Notice::Lock,
                Ok(_) if message[0] == DEAF => return Notice::Deaf,
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(_) => return Notice::Lost,
            }
        }
    }
}

/// The keeper's life.
fn run(socket: OwnedFd, triggers: LockTriggers) -> std::io::Result<()> {
    leave_everything(&socket)?;
    let mut logind = None;
    if triggers.any() {
        match Logind::connect(triggers) {
            Ok(connected) => logind = Some(connected),
            Err(error) => {
                tell(&socket, &[&[FAILED], error.to_string().as_bytes()].concat());
                return Ok(());
            }
        }
        tell(&socket, &[READY]);
    }
    let table = File::open(mounts::TABLE)?;
    let mut expected: Option<PathBuf> = None;
    let mut mount: Option<Entry> = None;
    let mut is_gone = false;
    let mut is_locking = false;
    let mut message = vec![0; LONGEST];
    loop {
        // In this order: the daemon's requests, the state of the mount, logind's signals.
        let mut wanted = vec![
            PollFd::new(&socket, PollFlags::IN),
            PollFd::new(&table, PollFlags::PRI),
        ];
        if !is_locking {
            wanted.extend(
                logind
                    .iter()
                    .map(|logind| PollFd::new(logind, PollFlags::IN)),
            );
        }
        match poll(&mut wanted, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let is_told = wanted.get(2).is_some_and(|fd| !fd.revents().is_empty());
        if !wanted[0].revents().is_empty() {
            let length = rustix::net::recv(&socket, &mut message, RecvFlags::empty());
            match length.map(|(_, length)| &message[..length.min(LONGEST)]) {
                Ok([EXPECT, path @ ..]) if expected.is_none() => {
                    expected = Some(PathBuf::from(OsStr::from_bytes(path)));
                }
                Ok([WATCH]) if mount.is_none() => {
                    let there = expected.as_deref().map(mounts::at);
                    let there = there.and_then(Result::ok).flatten();
                    mount = there.filter(|entry| entry.kind == mounts::TYPE);
                }
                Ok([TAKE_AWAY]) => {
                    if let Some(mount) = &mount {
                        write_back(mount);
                        take_away(mount);
                    }
                }
                Ok([ABORT]) => {
                    let aborted = mount.as_ref().filter(|_| is_gone);
                    if let Some(Err(error)) = aborted.map(|mount| mounts::abort(mount.device)) {
                        tracing::debug!("{error}");
                    }
                }
                Ok([_, ..]) => {}
                Ok([]) | Err(_) => {
                    // The daemon is gone.
                    let dead = || expected.as_deref().and_then(dead_mount);
                    let mount = mount.or_else(dead);
                    if let Some(mount) = mount.filter(|_| !is_gone) {
                        take_away(&mount);
                    }
                    return Ok(());
                }
            }
        }
        // A mount that cannot be looked up is not gone.
        let missing = |mount: &Entry| matches!(mounts::again(mount), Ok(None));
        if !is_gone && mount.as_ref().is_some_and(missing) {
            is_gone = true;
            tell(&socket, &[GONE]);
        }
        if let Some(listening) = logind.as_mut().filter(|_| is_told) {
            let is_unlocked = expected.is_some();
            match obey(listening, is_unlocked) {
                Some(LOCK) => {
                    // Sleep is delayed until this process ends, and so has the daemon.
                    is_locking = true;
                    tell(&socket, &[LOCK]);
                }
                Some(_) => {
                    logind = None;
                    tell(&socket, &[DEAF]);
                }
                None => {}
            }
        }
    }
}

/// Sends the daemon a message. A daemon that does not listen any more is about to end.
fn tell(socket: &OwnedFd, message: &[u8]) {
    let _ = rustix::net::send(socket, message, SendFlags::NOSIGNAL);
}

/// Acts on a signal of logind, and returns the message for the daemon, if there is one. A daemon that
/// still asks for a passphrase has nothing to lock, and keeps no machine from sleeping.
fn obey(logind: &mut Logind, is_unlocked: bool) -> Option<u8> {
    match logind.hear() {
        Heard::Sleep | Heard::ScreenLock if is_unlocked => Some(LOCK),
        Heard::Sleep => {
            logind.let_sleep();
            None
        }
        Heard::ScreenLock => None,
        Heard::Wake => logind.delay_sleep().is_err().then_some(DEAF),
        Heard::Lost => Some(DEAF),
    }
}

/// Finds a mount whose daemon is dead.
fn dead_mount(path: &Path) -> Option<Entry> {
    let there = mounts::at(path).ok().flatten();
    let entry = there.filter(|entry| entry.kind == mounts::TYPE)?;
    let path = path.to_owned();
    let asked = within(move || std::fs::metadata(path).err());
    let dead = asked.flatten().is_some_and(|error| mounts::is_dead(&error));
    dead.then_some(entry)
}

/// Leaves terminal, directory and standard streams, for which others may wait, and ignores signals
/// that are meant for the daemon: the keeper ends when the daemon has ended. Descriptors that the
/// caller left open may lead to secrets, or keep a process waiting for their end.
fn leave_everything(socket: &OwnedFd) -> std::io::Result<()> {
    rustix::process::setsid()?;
    rustix::process::chdir("/")?;
    close_all_but(socket.as_raw_fd());
    let null = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGPIPE] {
        // SAFETY: no handler is installed; ignoring is always allowed for these.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
    rustix::thread::set_name(c"dds-keeper")?;
    Ok(())
}

/// Does work for which a filesystem may keep it waiting, but does not wait for long.
fn within<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (done, result) = mpsc::channel();
    let begun = std::thread::Builder::new().spawn(move || {
        // Nobody may be waiting any more.
        let _ = done.send(work());
    });
    begun.ok()?;
    result.recv_timeout(PATIENCE).ok()
}

/// Lets the kernel hand over the pages that programs wrote to mapped files. The daemon has to answer
/// for that, so waiting has a limit. The mount is taken away in any case.
fn write_back(mount: &Entry) {
    let path = mount.path.clone();
    within(move || File::open(path).map(|root| rustix::fs::syncfs(root.as_fd())));
}

/// Takes the mount out of the tree, wherever it is now. A mount that another one covers
/// stays: its owner may uncover it, and it shows nothing without its daemon.
fn take_away(mount: &Entry) {
    for way in [mounts::unmount, mounts::detach] {
        let Ok(Some(entry)) = mounts::again(mount) else {
            return;
        };
        let on_top = mounts::at(&entry.path).ok().flatten();
        if !on_top.is_some_and(|top| top.is(mount)) {
            return;
        }
        match way(&entry.path) {
            // Not looked for again: its numbers may be given anew, to the next mount of the store.
            Ok(()) => return,
            Err(error) => tracing::debug!("{error}"),
        }
    }
}
