//! What happened to files without a program here having done it: arrivals, edits and removals
//! by others, for whoever watches.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use crate::view::tree::{Ino, Tree};
use crate::view::{NodeKind, View};

/// Something that others did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// What it was.
    pub what: Event,
    /// Directory in which it happened.
    pub parent: Ino,
    /// That directory's path below the view's root, at that moment.
    pub directory: PathBuf,
    /// Name of the file or directory.
    pub name: OsString,
    /// Its inode.
    pub ino: Ino,
    /// What it is.
    pub kind: NodeKind,
}

/// What others did to a file or directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It is there now.
    Appeared,
    /// It has another content, or another time.
    Changed,
    /// It is not there any more.
    Gone,
}

/// Who wants to be told. Called with locks held: it only passes on, and does not wait.
pub type Watcher = Box<dyn Fn(News) + Send + Sync>;

impl View {
    /// Tells of everything that happens from now on without a program here having done it. There
    /// is one watcher in a view's life; a second one is told nothing.
    pub fn watch(&self, watcher: Watcher) {
        // The first one stays.
        let _ = self.watcher.set(watcher);
    }

    /// Begins to note what others do, if somebody wants to be told. What was there before this
    /// mount is no news.
    pub(super) fn begin_news(&self, tree: &mut Tree) {
        if self.watcher.get().is_some() && self.was_read.load(Ordering::Relaxed) {
            tree.begin_news();
        }
    }

    /// Passes on what others did, in its order: the caller still holds the tree.
    pub(super) fn tell_news(&self, tree: &mut Tree) {
        let news = tree.take_news();
        if let Some(watcher) = self.watcher.get() {
            news.into_iter().for_each(watcher);
        }
    }
}
