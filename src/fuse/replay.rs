//! Replays through the mount the changes that others made in the store, so that programs which
//! watch the mount with inotify(7) notice them.
//!
//! The kernel raises events only for calls through the mount, and FUSE has no message for changes
//! made elsewhere (`FUSE_NOTIFY_DELETE` reaches a program that watches the removed file, but not
//! one that watches its directory). So a thread of its own, the replayer, repeats them as calls on
//! the mount: it creates the file that has arrived, sets the time of one that has changed, and
//! unlinks one that is gone. [`Replayed`] stands at the head of the adapter, knows these requests
//! by the thread that they come from, and answers them without changing anything:
//!
//! | others did | the replayer does | events |
//! |---|---|---|
//! | file appeared | create, close | `IN_CREATE`, `IN_OPEN`, `IN_CLOSE_WRITE` |
//! | directory appeared | mkdir | `IN_CREATE` |
//! | content changed | open, utimensat, close | `IN_OPEN`, `IN_MODIFY`, `IN_CLOSE_WRITE` |
//! | file gone | unlink | `IN_DELETE`; for itself `IN_ATTRIB`, `IN_DELETE_SELF` |
//! | directory gone | rmdir | `IN_DELETE`; for itself `IN_DELETE_SELF` |
//!
//! The replayer cannot make the mount hang: it holds no lock, nobody waits for it, and the threads
//! that answer it never touch the mount. When they are killed while it waits for an answer, the
//! kernel ends the connection, as nobody else has it open: the replayer has a table of descriptors
//! of its own, without it. A change that is outdated by now is refused, so only true events are
//! raised. While it holds a directory for a moment, `umount` may find the mount busy.
//!
//! The kernel forgets the pages of a content that has changed when the replayer opens the file.

use std::ffi::OsStr;
use std::io;
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use fuser::Request;
use rustix::fs::{
    AtFlags, Mode, OFlags, ResolveFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT,
};

use crate::error::{Error, Kind, Result};
use crate::ids::Timestamp;
use crate::locks::lock;
use crate::view::{
    Access, Attr, Caller, ChangeKind, HandleId, InService, Ino, NodeKind, Received, SetAttr,
    Subscription, TreeChange, View,
};

/// Number of changes that wait to be replayed. Those that come while as many wait are left out: a
/// program that watches so many files has lost count long before (`IN_Q_OVERFLOW`).
const WAITING: usize = 16_384;

/// The handle of a file that the replayer has open. The view counts its own from 1.
const HANDLE: HandleId = HandleId(u64::MAX);

/// State that the replayer and the adapter share.
#[derive(Default)]
pub(super) struct Replaying {
    /// The replayer's thread; 0 while there is none.
    thread: AtomicU32,
    /// One of its requests was recognised.
    recognised: AtomicBool,
    /// The change that it replays now.
    change: Mutex<Option<TreeChange>>,
}

/// The view as one request sees it: a request of the replayer is answered from the change that it
/// replays, and any other by the view itself.
pub(super) struct Replayed<'a> {
    view: InService<'a>,
    /// `None` if the request is not the replayer's.
    replaying: Option<&'a Replaying>,
}

impl<'a> Replayed<'a> {
    /// Takes the view into service for a request.
    pub(super) fn of(view: &'a View, replaying: &'a Replaying, request: &Request) -> Self {
        Replayed {
            view: view.serve(),
            replaying: replaying.owns(request).then_some(replaying),
        }
    }

    pub(super) fn lookup(&self, parent: Ino, name: &OsStr) -> Result<Attr> {
        match self.replaying {
            Some(replaying) => replaying.lookup(&self.view, parent, name),
            None => self.view.lookup(parent, name),
        }
    }

    pub(super) fn setattr(
        &self,
        ino: Ino,
        handle: Option<HandleId>,
        set: SetAttr,
        caller: Caller,
    ) -> Result<Attr> {
        match self.replaying {
            Some(_) => self.view.getattr(ino),
            None => self.view.setattr(ino, handle, set, caller),
        }
    }

    pub(super) fn mkdir(&self, parent: Ino, name: &OsStr, mode: u32) -> Result<Attr> {
        match self.replaying {
            Some(replaying) => replaying.appeared(&self.view, parent, name),
            None => self.view.mkdir(parent, name, mode),
        }
    }

    pub(super) fn unlink(&self, parent: Ino, name: &OsStr) -> Result<()> {
        match self.replaying {
            Some(replaying) => replaying.gone(&self.view, parent, name).map(drop),
            None => self.view.unlink(parent, name),
        }
    }

    pub(super) fn rmdir(&self, parent: Ino, name: &OsStr) -> Result<()> {
        match self.replaying {
            Some(replaying) => replaying.gone(&self.view, parent, name).map(drop),
            None => self.view.rmdir(parent, name),
        }
    }

    pub(super) fn open(&self, ino: Ino, access: Access, caller: Caller) -> Result<HandleId> {
        match self.replaying {
            Some(_) => Ok(HANDLE),
            None => self.view.open(ino, access, caller),
        }
    }

    pub(super) fn create(
        &self,
        parent: Ino,
        name: &OsStr,
        mode: u32,
        access: Access,
        caller: Caller,
    ) -> Result<(Attr, HandleId)> {
        match self.replaying {
            Some(replaying) => {
                let there = replaying.appeared(&self.view, parent, name)?;
                Ok((there, HANDLE))
            }
            None => self.view.create(parent, name, mode, access, caller),
        }
    }

    pub(super) fn flush(&self, handle: HandleId, caller: Caller) -> Result<()> {
        match handle {
            HANDLE => Ok(()),
            handle => self.view.flush(handle, caller),
        }
    }
}

/// All other calls change nothing when the replayer makes them.
impl Deref for Replayed<'_> {
    type Target = View;
    fn deref(&self) -> &View {
        &self.view
    }
}

impl Replaying {
    /// Tells whether a request is the replayer's.
    fn owns(&self, request: &Request) -> bool {
        let thread = self.thread.load(Ordering::Relaxed);
        thread != 0 && request.pid() == thread
    }

    fn current(&self) -> Option<TreeChange> {
        lock(&self.change).clone()
    }

    fn set(&self, change: Option<TreeChange>) {
        *lock(&self.change) = change;
    }

    /// Answers a lookup: the name that the change is about is free if its file appeared, and taken
    /// if it is gone.
    fn lookup(&self, view: &View, parent: Ino, name: &OsStr) -> Result<Attr> {
        self.recognised.store(true, Ordering::Relaxed);
        match self.current() {
            Some(change) if change.is_about(parent, name) => match change.change {
                ChangeKind::Appeared => Err(outdated()),
                ChangeKind::Changed => view.peek(parent, name),
                ChangeKind::Gone => self.gone(view, parent, name),
            },
            _ => view.peek(parent, name),
        }
    }

    /// Answers the creation of a file or directory that appeared: it is there.
    fn appeared(&self, view: &View, parent: Ino, name: &OsStr) -> Result<Attr> {
        let there = view.peek(parent, name)?;
        match self.current() {
            Some(change) if change.is_about(parent, name) && change.ino == there.ino => Ok(there),
            _ => Err(outdated()),
        }
    }

    /// Answers the removal of a file or directory that is gone: by now the name may be another's.
    /// Returns its last attributes.
    fn gone(&self, view: &View, parent: Ino, name: &OsStr) -> Result<Attr> {
        let change = self.current().ok_or_else(outdated)?;
        let there = view.peek(parent, name);
        let is_back = there.is_ok_and(|there| there.ino == change.ino);
        if is_back || change.change != ChangeKind::Gone || !change.is_about(parent, name) {
            return Err(outdated());
        }
        Ok(Attr {
            ino: change.ino,
            kind: change.kind,
            size: 0,
            atime: Timestamp::now(),
            mtime: Timestamp::now(),
            ctime: Timestamp::now(),
            mode: 0o600,
            links: 1,
        })
    }
}

impl TreeChange {
    fn is_about(&self, parent: Ino, name: &OsStr) -> bool {
        self.parent == parent && self.name == name
    }
}

/// The change is old: something else happened to the name meanwhile.
fn outdated() -> Error {
    Error::new(Kind::NotFound, "the change is outdated")
}

/// The thread that replays.
struct Replayer {
    mountpoint: PathBuf,
    /// Minor number of the mount's device.
    device: u32,
    replaying: Arc<Replaying>,
}

/// Starts a replayer, which ends with the view.
///
/// # Errors
/// `Io` if the thread cannot be started.
pub(super) fn start(
    mountpoint: PathBuf,
    device: u32,
    replaying: Arc<Replaying>,
    view: &View,
) -> Result<()> {
    let replayer = Replayer {
        mountpoint,
        device,
        replaying,
    };
    let changes = view.subscribe_to_tree(WAITING);
    std::thread::Builder::new()
        .name("replayer".to_owned())
        .spawn(move || replayer.replay_all(&changes))
        .map(drop)
        .map_err(|error| Error::io("starting a thread", error))
}

/// Gives the calling thread a table of descriptors of its own, with nothing in it: standard output
/// belongs to somebody who waits until the daemon has let go of it.
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

impl Drop for Replayer {
    fn drop(&mut self) {
        // The thread's number may be given to any other.
        self.replaying.thread.store(0, Ordering::Relaxed);
    }
}

impl Replayer {
    /// Replays until the view is gone. Nothing is logged here: the log's descriptor is among those
    /// that the thread has given up.
    fn replay_all(&self, changes: &Subscription<TreeChange>) {
        if let Err(error) = own_descriptors() {
            // Without, it could hang when the other threads are killed.
            tracing::warn!("programs that watch the mount are not told of arrivals: {error}");
            return;
        }
        let thread = rustix::thread::gettid().as_raw_pid().unsigned_abs();
        self.replaying.thread.store(thread, Ordering::Relaxed);
        while let Received::Item(change) = changes.next() {
            if !self.is_recognised() {
                return;
            }
            self.replaying.set(Some(change.clone()));
            // An error says that the change is outdated, or nobody may look there, or the mount is
            // being taken away.
            let _ = self.replay(&change);
            self.replaying.set(None);
        }
    }

    /// Tells whether the adapter recognises the replayer's requests: else they would be carried
    /// out. The kernel counts threads otherwise where the mount was made in another pid namespace.
    fn is_recognised(&self) -> bool {
        let recognised = || self.replaying.recognised.load(Ordering::Relaxed);
        if !recognised() {
            // Nothing has this name, so only the question matters.
            let _ = self.open_dir(Path::new(".dds/replayer"));
        }
        recognised()
    }

    fn replay(&self, change: &TreeChange) -> io::Result<()> {
        let dir = self.open_dir(&change.directory)?;
        let name = change.name.as_os_str();
        let write = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match (change.change, change.kind) {
            (ChangeKind::Appeared, NodeKind::Directory) => {
                rustix::fs::mkdirat(&dir, name, Mode::RWXU)?;
            }
            (ChangeKind::Appeared, NodeKind::File) => {
                let create = write | OFlags::CREATE | OFlags::EXCL;
                rustix::fs::openat(&dir, name, create, Mode::RUSR | Mode::WUSR)?;
            }
            (ChangeKind::Changed, NodeKind::File) => {
                let file = rustix::fs::openat(&dir, name, write, Mode::empty())?;
                rustix::fs::futimens(&file, &MODIFIED)?;
            }
            (ChangeKind::Gone, NodeKind::Directory) => {
                rustix::fs::unlinkat(&dir, name, AtFlags::REMOVEDIR)?;
            }
            (ChangeKind::Gone, NodeKind::File) => {
                rustix::fs::unlinkat(&dir, name, AtFlags::empty())?;
            }
            (ChangeKind::Changed, NodeKind::Directory) | (_, NodeKind::Symlink) => {}
        }
        Ok(())
    }

    /// Opens a directory of the mount, and none of anything else that may be there by now.
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

/// Sets only the time of modification, so that the kernel reports a modification.
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
