//! Tells programs that watch the mount with inotify(7) what arrived, changed and went.
//!
//! The kernel raises events only for what is done through the mount, and FUSE has no message for
//! what happens elsewhere (`FUSE_NOTIFY_DELETE` reaches who watches the removed file, but not who
//! watches its directory). So the herald, a thread of its own, does through the mount what others
//! did in the store: it creates the file that has arrived, sets the time of the one that has
//! changed, unlinks the one that is gone. The adapter knows its requests by the thread that they
//! come from, answers them as if it were so, and changes nothing:
//!
//! | others did | the herald does | events |
//! |---|---|---|
//! | file appeared | create, close | `IN_CREATE`, `IN_OPEN`, `IN_CLOSE_WRITE` |
//! | directory appeared | mkdir | `IN_CREATE` |
//! | content changed | open, utimensat, close | `IN_OPEN`, `IN_MODIFY`, `IN_CLOSE_WRITE` |
//! | file gone | unlink | `IN_DELETE`; for itself `IN_ATTRIB`, `IN_DELETE_SELF` |
//! | directory gone | rmdir | `IN_DELETE`; for itself `IN_DELETE_SELF` |
//!
//! It cannot make the mount hang: it holds no lock, nobody waits for it, and the threads that
//! answer it never touch the mount. When they are killed while it waits for an answer, the kernel
//! ends the connection, as nobody else has it open: the herald has a table of descriptors of its
//! own, without it. Whatever is no longer as the news says is refused, so it can only ever tell of
//! what is there. While it holds a directory for a moment, `umount` may find the mount busy.
//!
//! What the kernel remembers of a content that has changed it forgets when the herald opens it.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use fuser::{FileHandle, Request};
use rustix::fs::{
    AtFlags, Mode, OFlags, ResolveFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT,
};

use crate::error::{Error, Kind, Result};
use crate::ids::Timestamp;
use crate::view::{Attr, Event, Ino, News, NodeKind, View};

/// News that wait to be told. What comes while as many wait is not told: whoever watches so many
/// files has lost count long before (`IN_Q_OVERFLOW`).
const WAITING: usize = 16_384;

/// The handle of a file that the herald has open. The view counts its own from 1.
pub(super) const HANDLE: FileHandle = FileHandle(u64::MAX);

/// What the adapter has to know of the herald.
#[derive(Default)]
pub(super) struct Telling {
    /// The herald's thread; 0 while there is none.
    thread: AtomicU32,
    /// One of its requests was known for what it is.
    known: AtomicBool,
    /// What it is telling now.
    news: Mutex<Option<News>>,
}

impl Telling {
    /// Tells whether a request is the herald's.
    pub(super) fn is_asking(&self, request: &Request) -> bool {
        let thread = self.thread.load(Ordering::Relaxed);
        thread != 0 && request.pid() == thread
    }

    fn current(&self) -> Option<News> {
        let news = self.news.lock();
        news.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, news: Option<News>) {
        *self.news.lock().unwrap_or_else(PoisonError::into_inner) = news;
    }

    /// Answers a lookup: the name that is told of is free if it appeared, and taken if it is gone.
    pub(super) fn lookup(&self, view: &View, parent: Ino, name: &OsStr) -> Result<Attr> {
        self.known.store(true, Ordering::Relaxed);
        match self.current() {
            Some(news) if news.is_about(parent, name) => match news.what {
                Event::Appeared => Err(outdated()),
                Event::Changed => view.peek(parent, name),
                Event::Gone => self.gone(view, parent, name),
            },
            _ => view.peek(parent, name),
        }
    }

    /// Answers the creation of what has appeared: it is there.
    pub(super) fn appeared(&self, view: &View, parent: Ino, name: &OsStr) -> Result<Attr> {
        let there = view.peek(parent, name)?;
        match self.current() {
            Some(news) if news.is_about(parent, name) && news.ino == there.ino => Ok(there),
            _ => Err(outdated()),
        }
    }

    /// Answers the removal of what is gone: by now the name may be another's. Returns what it was.
    pub(super) fn gone(&self, view: &View, parent: Ino, name: &OsStr) -> Result<Attr> {
        let news = self.current().ok_or_else(outdated)?;
        let there = view.peek(parent, name);
        let is_back = there.is_ok_and(|there| there.ino == news.ino);
        if is_back || news.what != Event::Gone || !news.is_about(parent, name) {
            return Err(outdated());
        }
        Ok(Attr {
            ino: news.ino,
            kind: news.kind,
            size: 0,
            atime: Timestamp::now(),
            mtime: Timestamp::now(),
            ctime: Timestamp::now(),
            mode: 0o600,
            links: 1,
        })
    }
}

impl News {
    fn is_about(&self, parent: Ino, name: &OsStr) -> bool {
        self.parent == parent && self.name == name
    }
}

/// The news are old: something else happened to the name meanwhile.
fn outdated() -> Error {
    Error::new(Kind::NotFound, "not what the news say")
}

/// The thread that tells.
struct Herald {
    mountpoint: PathBuf,
    /// Minor number of the mount's device.
    device: u32,
    telling: Arc<Telling>,
}

/// Starts a herald, which ends with the view.
///
/// # Errors
/// `Io` if the thread cannot be started.
pub(super) fn start(
    mountpoint: PathBuf,
    device: u32,
    telling: Arc<Telling>,
    view: &View,
) -> Result<()> {
    let herald = Herald {
        mountpoint,
        device,
        telling,
    };
    let (sender, receiver) = sync_channel(WAITING);
    std::thread::Builder::new()
        .name("herald".to_owned())
        .spawn(move || herald.tell_all(&receiver))
        .map_err(|error| Error::io("starting a thread", error))?;
    view.watch(Box::new(move |news| pass_on(&sender, news)));
    Ok(())
}

/// Gives the calling thread a table of descriptors of its own, with nothing in it: standard output
/// is somebody's who waits until the daemon has let go of it.
fn own_descriptors() -> io::Result<()> {
    const FIRST: libc::c_uint = 0;
    // SAFETY: the thread's own table alone changes, and it owns no descriptor in it.
    let done = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            FIRST,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_UNSHARE,
        )
    };
    match done {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn pass_on(sender: &SyncSender<News>, news: News) {
    match sender.try_send(news) {
        Ok(()) => {}
        Err(TrySendError::Full(_)) => tracing::debug!("too much happens at once to tell it all"),
        // The mount is being taken away.
        Err(TrySendError::Disconnected(_)) => {}
    }
}

impl Drop for Herald {
    fn drop(&mut self) {
        // The thread's number may be given to any other.
        self.telling.thread.store(0, Ordering::Relaxed);
    }
}

impl Herald {
    /// Tells until the view is gone. Nothing is logged here: the log's descriptor is among those
    /// that the thread has given up.
    fn tell_all(&self, receiver: &Receiver<News>) {
        if let Err(error) = own_descriptors() {
            // Without, it could hang when the other threads are killed.
            tracing::warn!("programs that watch the mount are not told what arrives: {error}");
            return;
        }
        let thread = rustix::thread::gettid().as_raw_pid().unsigned_abs();
        self.telling.thread.store(thread, Ordering::Relaxed);
        for news in receiver {
            if !self.is_known() {
                return;
            }
            self.telling.set(Some(news.clone()));
            // An error says that the news are outdated, or nobody may look there, or the mount is
            // being taken away.
            let _ = self.tell(&news);
            self.telling.set(None);
        }
    }

    /// Tells whether the adapter knows the herald's requests: else they would be carried out. The
    /// kernel counts threads otherwise where the mount was made in another pid namespace.
    fn is_known(&self) -> bool {
        let known = || self.telling.known.load(Ordering::Relaxed);
        if !known() {
            // Nothing has this name, so only the question matters.
            let _ = self.open_dir(Path::new(".dds/herald"));
        }
        known()
    }

    fn tell(&self, news: &News) -> io::Result<()> {
        let dir = self.open_dir(&news.directory)?;
        let name = news.name.as_os_str();
        let write = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match (news.what, news.kind) {
            (Event::Appeared, NodeKind::Directory) => {
                rustix::fs::mkdirat(&dir, name, Mode::RWXU)?;
            }
            (Event::Appeared, NodeKind::File) => {
                let create = write | OFlags::CREATE | OFlags::EXCL;
                rustix::fs::openat(&dir, name, create, Mode::RUSR | Mode::WUSR)?;
            }
            (Event::Changed, NodeKind::File) => {
                let file = rustix::fs::openat(&dir, name, write, Mode::empty())?;
                rustix::fs::futimens(&file, &MODIFIED)?;
            }
            (Event::Gone, NodeKind::Directory) => {
                rustix::fs::unlinkat(&dir, name, AtFlags::REMOVEDIR)?;
            }
            (Event::Gone, NodeKind::File) => {
                rustix::fs::unlinkat(&dir, name, AtFlags::empty())?;
            }
            (Event::Changed, NodeKind::Directory) | (_, NodeKind::Symlink) => {}
        }
        Ok(())
    }

    /// Opens a directory of the mount, and of nothing else that may be there by now.
    fn open_dir(&self, path: &Path) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = rustix::fs::open(&self.mountpoint, flags, Mode::empty())?;
        if rustix::fs::fstat(&root)?.st_dev != rustix::fs::makedev(0, self.device) {
            return Err(io::ErrorKind::NotFound.into());
        }
        if path.as_os_str().is_empty() {
            return Ok(root);
        }
        let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        Ok(rustix::fs::openat2(
            &root,
            path,
            flags,
            Mode::empty(),
            within,
        )?)
    }
}

/// Only the time of modification is set: that is what makes it a modification.
const MODIFIED: Timestamps = Timestamps {
    last_access: Timespec {
        tv_sec: 0,
        tv_nsec: UTIME_OMIT,
    },
    last_modification: Timespec {
        tv_sec: 0,
        tv_nsec: UTIME_NOW,
    },
};
