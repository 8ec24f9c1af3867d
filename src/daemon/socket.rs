//! The control socket as a file: where it is, who may connect, how a stale one is replaced.
//!
//! It is bound early, when the process may still do everything, and served once the view is there.
//! A socket that nobody serves any more refuses connections, and is replaced.

use std::fs::{DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags};

use crate::error::{Error, Result};

/// Where a store's control socket is.
#[derive(Clone, Debug)]
pub struct SocketPath {
    /// Its directory, made for the user alone if it is missing.
    pub directory: PathBuf,
    /// Its name there.
    pub name: String,
}

/// A control socket that is not served yet: clients wait. Dropping it removes the socket.
pub(super) struct Listener {
    pub(super) listener: UnixListener,
    directory: File,
    name: String,
}

impl Listener {
    /// Binds the socket of a store whose state is ours.
    ///
    /// # Errors
    /// `Io` and its like if the directory cannot be used or belongs to somebody else, or another
    /// process serves the socket.
    pub(super) fn bind(path: &SocketPath) -> Result<Listener> {
        Listener::try_bind(path).map_err(|error| Error::io("control socket", error))
    }

    fn try_bind(path: &SocketPath) -> io::Result<Listener> {
        let directory = open_directory(&path.directory)?;
        let short = short_path(&directory, &path.name);
        let listener = UnixListener::bind(&short).or_else(|error| {
            if error.kind() != ErrorKind::AddrInUse {
                return Err(error);
            }
            match UnixStream::connect(&short) {
                Err(refused) if refused.kind() == ErrorKind::ConnectionRefused => {
                    remove(&directory, &path.name);
                    UnixListener::bind(&short)
                }
                _ => Err(error),
            }
        })?;
        let listener = Listener {
            listener,
            directory,
            name: path.name.clone(),
        };
        // Nobody else can have come through the directory meanwhile.
        let mode = Mode::RUSR | Mode::WUSR;
        rustix::fs::chmodat(&listener.directory, &listener.name, mode, AtFlags::empty())?;
        Ok(listener)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        remove(&self.directory, &self.name);
    }
}

/// Opens the directory of a socket, and makes it if it is missing.
fn open_directory(directory: &Path) -> io::Result<File> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = File::from(rustix::fs::open(directory, flags, Mode::empty())?);
    let me = rustix::process::geteuid().as_raw();
    if directory.metadata()?.uid() != me {
        return Err(io::Error::other("its directory is somebody else's"));
    }
    rustix::fs::fchmod(&directory, Mode::RWXU)?;
    Ok(directory)
}

fn remove(directory: &File, name: &str) {
    // A socket that is left behind refuses connections, and the next daemon replaces it.
    let _ = rustix::fs::unlinkat(directory, name, AtFlags::empty());
}

/// Returns an address of at most 107 bytes, the most that an address of a socket may have, wherever
/// the directory is.
pub(super) fn short_path(directory: &File, name: &str) -> PathBuf {
    let directory = directory.as_fd().as_raw_fd();
    PathBuf::from(format!("/proc/self/fd/{directory}/{name}"))
}

/// Tells whether the other end may ask: processes of the same user may, and root's.
pub(super) fn may_ask(stream: &UnixStream) -> bool {
    let me = rustix::process::geteuid().as_raw();
    peer(stream).is_ok_and(|peer| peer.uid == me || peer.uid == 0)
}

/// Returns the process at the other end: the one that connected, or the one that bound the socket.
pub(super) fn peer(stream: &UnixStream) -> io::Result<libc::ucred> {
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
        _ => Err(io::Error::last_os_error()),
    }
}
