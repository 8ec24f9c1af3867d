//! Reports of changes in the store, by inotify.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{Config, Event, RecommendedWatcher, RecursiveMode, Watcher as _};

use super::{FileName, names};
use crate::error::{Error, Kind, Result};
use crate::ids::Folder;

/// Folders in which a change matters at once.
const WATCHED: [&str; 3] = ["keys", "messages", "notes"];

/// Something that may have changed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// A file in `messages/` or `notes/`.
    Blob(Folder, FileName),
    /// Anything else: certificates, folders, or so much that it was not told one by one.
    Other,
}

/// Reports changes in a store, until it is dropped.
pub trait Watch: Send {
    /// Watches folders that are new, or were made anew. Called from time to time.
    fn renew(&mut self);
}

struct Inotify {
    root: PathBuf,
    watcher: RecommendedWatcher,
    /// A folder appeared or vanished since the last look.
    folders_changed: Arc<AtomicBool>,
}

/// Watches a store's own directory and its folders.
pub(super) fn watch(root: &Path, tell: impl Fn(Change) + Send + 'static) -> Result<Box<dyn Watch>> {
    let failed = |error: notify::Error| Error::new(Kind::Io, format!("watching: {error}"));
    let folders_changed = Arc::new(AtomicBool::new(true));
    let changed = Arc::clone(&folders_changed);
    let (top, known) = (root.to_owned(), WATCHED.iter().map(|name| root.join(name)));
    let known: Vec<PathBuf> = known.collect();
    let told = move |event: notify::Result<Event>| {
        let Ok(event) = event else {
            tell(Change::Other);
            return;
        };
        if event.need_rescan() || event.paths.is_empty() {
            changed.store(true, Ordering::Relaxed);
            tell(Change::Other);
            return;
        }
        if !is_change(event.kind) {
            return;
        }
        for path in &event.paths {
            if *path == top || known.contains(path) {
                changed.store(true, Ordering::Relaxed);
            }
            if let Some(change) = change(&top, path) {
                tell(change);
            }
        }
    };
    let config = Config::default().with_follow_symlinks(false);
    let watcher = RecommendedWatcher::new(told, config).map_err(failed)?;
    let mut watching = Inotify {
        root: root.to_owned(),
        watcher,
        folders_changed,
    };
    watching
        .watcher
        .watch(root, RecursiveMode::NonRecursive)
        .map_err(failed)?;
    watching.renew();
    Ok(Box::new(watching))
}

impl Watch for Inotify {
    fn renew(&mut self) {
        if !self.folders_changed.swap(false, Ordering::Relaxed) {
            return;
        }
        for folder in WATCHED {
            // One that is missing is watched when it comes.
            let path = self.root.join(folder);
            let _ = self.watcher.unwatch(&path);
            if path.symlink_metadata().is_ok_and(|found| found.is_dir()) {
                if let Err(error) = self.watcher.watch(&path, RecursiveMode::NonRecursive) {
                    tracing::warn!("changes in {folder}/ are noticed late: {error}");
                }
            }
        }
    }
}

/// Reading is none.
fn is_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(access) => access == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}

/// The subject of a path; `None` for one that is never looked at.
fn change(root: &Path, path: &Path) -> Option<Change> {
    let below = path.strip_prefix(root).ok()?;
    let mut parts = below.iter();
    let (folder, name) = (parts.next(), parts.next());
    let Some(name) = name.and_then(|name| FileName::new(name).ok()) else {
        return Some(Change::Other);
    };
    // A file without a name shows so for a moment, until it is linked to one.
    let nameless = name.as_os_str().as_encoded_bytes().starts_with(b"#");
    if nameless || names::is_syncers(&name) {
        return None;
    }
    let folder = Folder::ALL
        .into_iter()
        .find(|known| folder == Some(known.name().as_ref()));
    Some(folder.map_or(Change::Other, |folder| Change::Blob(folder, name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_never_looked_at_is_no_change() {
        let of = |path: &str| change(Path::new("/s"), &Path::new("/s").join(path));
        let blob = |name: &str| Change::Blob(Folder::Notes, FileName::new(name).unwrap());
        assert_eq!(of("notes/a.asc"), Some(blob("a.asc")));
        assert_eq!(of("notes/#123"), None);
        assert_eq!(of("notes/.syncthing.a.asc.tmp"), None);
        assert_eq!(of("keys/bob.gpg"), Some(Change::Other));
        assert_eq!(of("notes"), Some(Change::Other));
    }
}
