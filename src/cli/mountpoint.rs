//! The directory on which the view is mounted: made if it is missing, refused where plaintext
//! would be in danger.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{IFlags, Mode};

use super::{Exit, Failure, Outcome};
use crate::process::mounts;

/// Names that only the top of a synced folder holds.
const SYNC_MARKS: [&str; 5] = [".stfolder", ".stignore", ".sync", ".SyncID", ".SyncIgnore"];

/// Mode of a bare mountpoint of ours: nothing can be saved into it.
const BARE: u32 = 0o500;

/// A directory that is ready to be mounted on.
pub(super) struct Mountpoint {
    /// Canonical path.
    pub(super) path: PathBuf,
    /// The bare directory, which the mount will cover.
    directory: File,
    /// We made it a moment ago.
    made: bool,
    /// We made it, now or earlier: nothing can be saved into it while it is not mounted.
    ours: bool,
}

impl Mountpoint {
    /// Prepares a directory for mounting the view of `store`, which is canonical.
    pub(super) fn prepare(path: &Path, store: &Path) -> Outcome<Mountpoint> {
        let refuse = |why: &str| {
            Failure::new(Exit::Mountpoint, format!("{}: {why}", path.display()))
                .hint("choose a directory of your own, such as ~/secure")
        };
        let made = make_if_missing(path)?;
        let canonical = path
            .canonicalize()
            .map_err(|error| refuse(&error.to_string()))?;
        if let Some(entry) = mounts::at(&canonical)? {
            return Err(if entry.kind == mounts::TYPE {
                refuse("already mounted")
                    .hint(format!("to lock it: fusermount3 -u {}", path.display()))
            } else {
                refuse("another filesystem is mounted here").hint("choose another mountpoint")
            });
        }
        let checked = check(&canonical, store);
        let directory = match checked.and_then(|()| {
            File::open(&canonical).map_err(|error| (error.to_string(), String::new()))
        }) {
            Ok(directory) => directory,
            Err((why, hint)) => {
                if made {
                    // We made it a moment ago, and it is empty; leave nothing behind.
                    let _ = fs::remove_dir(&canonical);
                }
                let refusal = refuse(&why);
                return Err(if hint.is_empty() {
                    refusal
                } else {
                    refusal.hint(hint)
                });
            }
        };
        let bare = directory
            .metadata()
            .map_err(|error| refuse(&error.to_string()))?;
        let ours = made || bare.mode() & 0o777 == BARE;
        let mountpoint = Mountpoint {
            path: canonical,
            directory,
            made,
            ours,
        };
        Ok(mountpoint)
    }

    /// Lets it be mounted on. Called just before that.
    pub(super) fn open_up(&self) {
        self.set_mode(0o700);
    }

    /// Makes the bare directory refuse writes again, if it is ours. Called when the mount covers
    /// it, and when mounting failed.
    pub(super) fn restore(&self) {
        self.set_mode(BARE);
    }

    /// Undoes the preparation: nothing is mounted, and a directory that was made is removed.
    pub(super) fn undo(&self) {
        self.restore();
        if self.made {
            set_immutable(self.directory.as_fd(), false);
            // If somebody put something there meanwhile, it stays.
            let _ = fs::remove_dir(&self.path);
        }
    }

    fn set_mode(&self, mode: u32) {
        if self.ours {
            let directory = self.directory.as_fd();
            set_immutable(directory, false);
            if let Err(error) = rustix::fs::fchmod(directory, Mode::from_raw_mode(mode)) {
                tracing::warn!("mode of the bare mountpoint: {error}");
            }
            set_immutable(directory, mode == BARE);
        }
    }
}

/// Keeps root, too, from saving into a directory, as far as its filesystem knows how to. Whoever
/// is not root may not set this, and does not need it: the mode suffices.
fn set_immutable(directory: BorrowedFd<'_>, immutable: bool) {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let changed = rustix::fs::ioctl_getflags(directory).and_then(|flags| {
        let mut wanted = flags;
        wanted.set(IFlags::IMMUTABLE, immutable);
        match wanted == flags {
            true => Ok(()),
            false => rustix::fs::ioctl_setflags(directory, wanted),
        }
    });
    if let Err(error) = changed {
        tracing::debug!("immutable flag of the bare mountpoint: {error}");
    }
}

/// Makes the directory, and only it. Tells whether it did.
fn make_if_missing(path: &Path) -> Outcome<bool> {
    let refuse = |why: String| {
        Failure::new(Exit::Mountpoint, format!("{}: {why}", path.display()))
            .hint("name a directory, or a new one in a directory that exists")
    };
    match fs::metadata(path) {
        Ok(there) if there.is_dir() => Ok(false),
        Ok(_) => Err(refuse("not a directory".to_owned())),
        Err(error) if mounts::is_dead(&error) => {
            // A mount whose daemon and keeper died. Nobody can be using it any more. That it could
            // not be taken away shows when the directory is looked at again.
            let ours = mounts::at(&in_parent(path))?;
            let ours = ours.filter(|entry| entry.kind == mounts::TYPE);
            if let Some(entry) = ours {
                let _ = mounts::detach(&entry.path);
            }
            match fs::metadata(path) {
                Ok(_) => Ok(false),
                Err(_) => Err(refuse("a dead mount is in the way".to_owned())
                    .hint(format!("fusermount3 -uz {}", path.display()))),
            }
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let made = fs::DirBuilder::new().mode(BARE).create(path);
            made.map(|()| true)
                .map_err(|error| refuse(error.to_string()))
        }
        Err(error) => Err(refuse(error.to_string())),
    }
}

/// The canonical path of a directory that itself cannot be asked.
fn in_parent(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let parent = absolute
        .parent()
        .and_then(|parent| parent.canonicalize().ok());
    match (parent, absolute.file_name()) {
        (Some(parent), Some(name)) => parent.join(name),
        _ => absolute,
    }
}

/// Checks the rules. Returns the objection and a hint.
fn check(mountpoint: &Path, store: &Path) -> Result<(), (String, String)> {
    let elsewhere = "choose a directory outside every synced folder, such as ~/secure";
    let wrong = |why: &str| Err((why.to_owned(), elsewhere.to_owned()));
    if mountpoint.starts_with(store) {
        return wrong("inside the store: the syncer would copy plaintext");
    }
    if store.starts_with(mountpoint) {
        return wrong("the store is inside it");
    }
    for ancestor in mountpoint.ancestors() {
        if SYNC_MARKS
            .iter()
            .any(|mark| fs::symlink_metadata(ancestor.join(mark)).is_ok())
        {
            return wrong("inside a synced folder");
        }
    }
    let fail = |error: std::io::Error| (error.to_string(), String::new());
    if fs::read_dir(mountpoint).map_err(fail)?.next().is_some() {
        return Err((
            "not empty".to_owned(),
            "mount on an empty or missing directory".to_owned(),
        ));
    }
    let owner = fs::metadata(mountpoint).map_err(fail)?.uid();
    let me = rustix::process::geteuid();
    if !me.is_root() && owner != me.as_raw() {
        return Err(("belongs to another user".to_owned(), elsewhere.to_owned()));
    }
    Ok(())
}
