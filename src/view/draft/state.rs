//! An open file: its content, shared by all handles, and what of it is not yet published.
//!
//! Lock order: the content's lock is taken before the tree's, never after. What `stat` needs is
//! kept beside the content, so that listing a directory does not wait for a publication.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Instant;

use zeroize::Zeroizing;

use crate::error::{Error, Kind, Result};
use crate::ids::{BlobKind, DocId, Timestamp};
use crate::plaintext::Plaintext;
use crate::vault::{Audience, Version};
use crate::view::draft::scratch::Hold;

/// One inode's content while it is open or unsaved.
pub(in crate::view) struct OpenFile {
    body: Mutex<Body>,
    stat: Mutex<Stat>,
}

/// What `stat` shows of an open file.
#[derive(Clone, Copy)]
pub(in crate::view) struct Stat {
    pub(in crate::view) size: u64,
    pub(in crate::view) mtime: Timestamp,
    pub(in crate::view) mode: u32,
}

/// Where a save goes.
#[derive(Clone)]
pub(in crate::view) enum Target {
    Document {
        kind: BlobKind,
        audience: Audience,
        path: String,
        doc: DocId,
        /// The versions that a save replaces.
        base: Vec<Arc<Version>>,
    },
    /// RAM only: editors' scratch.
    Scratch,
    /// A file in `keys/`.
    Key(crate::store::FileName),
    /// Read only: nothing is ever saved.
    Nowhere,
}

/// The content of an open file, and what of it is unsaved.
pub(in crate::view) struct Body {
    pub(in crate::view) target: Target,
    content: Content,
    /// Bytes were written, or the size changed other than by O_TRUNC, since the last publish.
    pub(in crate::view) written: bool,
    /// New and empty, or emptied by O_TRUNC, since the last publish.
    pub(in crate::view) fresh: bool,
    /// A note's time or mode was set since the last publish.
    pub(in crate::view) touched: bool,
    /// Why the last publish failed, until the next change.
    pub(in crate::view) failed: Option<Kind>,
    /// The place changed since the last publish: saved though the bytes may be the same.
    pub(in crate::view) moved: bool,
    /// Where it was, while a change of place is on its way.
    before: Option<(Target, Option<Kind>)>,
    /// Other heads of the document, which a change of this conflict copy replaces as well.
    pub(in crate::view) settles: Vec<Arc<Version>>,
    /// Removed while open: nothing is published any more.
    pub(in crate::view) unlinked: bool,
    /// Something was saved, and so not kept, since it was unlinked.
    missed: bool,
    /// Its name and the way in which it was made say that it may be a program's temporary file.
    pub(in crate::view) hold: Hold,
    /// When it was closed, while it is held back, unless it was written since.
    pub(in crate::view) left: Option<Instant>,
    pub(in crate::view) mtime: Timestamp,
    /// Owner's permission bits (0..=7).
    pub(in crate::view) mode: u32,
}

/// What a file was before a change that may have to be undone.
pub(in crate::view) struct Checkpoint {
    content: Content,
    mtime: Timestamp,
    mode: u32,
}

/// What is still being written, while the version that was published moves to another place.
pub(in crate::view) struct Unfinished {
    draft: Checkpoint,
    written: bool,
    fresh: bool,
    touched: bool,
    failed: Option<Kind>,
}

enum Content {
    /// As published, shared with the vault's cache.
    Published(Arc<Plaintext>),
    /// A draft, or scratch.
    Own(Plaintext),
}

impl OpenFile {
    /// Opens a content as it was published.
    pub(in crate::view) fn published(content: Arc<Plaintext>, target: Target, stat: Stat) -> Self {
        Self::with(Content::Published(content), target, stat, false)
    }

    /// Begins a new file with a content that is still empty.
    pub(in crate::view) fn fresh(content: Plaintext, target: Target, mode: u32) -> Self {
        let stat = Stat {
            size: 0,
            mtime: Timestamp::now(),
            mode,
        };
        Self::with(Content::Own(content), target, stat, true)
    }

    fn with(content: Content, target: Target, stat: Stat, fresh: bool) -> Self {
        OpenFile {
            body: Mutex::new(Body {
                target,
                content,
                written: false,
                fresh,
                touched: false,
                failed: None,
                moved: false,
                before: None,
                settles: Vec::new(),
                unlinked: false,
                missed: false,
                hold: Hold::No,
                left: None,
                mtime: stat.mtime,
                mode: stat.mode,
            }),
            stat: Mutex::new(stat),
        }
    }

    /// Size, time and mode at this moment; never waits for a publication.
    pub(in crate::view) fn stat(&self) -> Stat {
        *self.stat.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks the content. Never called while the tree is locked.
    pub(in crate::view) fn lock(&self) -> Locked<'_> {
        let body = self.body.lock().unwrap_or_else(PoisonError::into_inner);
        Locked { file: self, body }
    }

    /// Locks the content, unless that would have to wait.
    pub(in crate::view) fn try_lock(&self) -> Option<Locked<'_>> {
        let body = match self.body.try_lock() {
            Ok(body) => body,
            Err(TryLockError::Poisoned(body)) => body.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        Some(Locked { file: self, body })
    }
}

/// The locked content. What `stat` shows is brought up to date when it is dropped.
pub(in crate::view) struct Locked<'a> {
    file: &'a OpenFile,
    body: MutexGuard<'a, Body>,
}

impl std::ops::Deref for Locked<'_> {
    type Target = Body;
    fn deref(&self) -> &Body {
        &self.body
    }
}

impl std::ops::DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut Body {
        &mut self.body
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        let stat = Stat {
            size: self.body.content().len(),
            mtime: self.body.mtime,
            mode: self.body.mode,
        };
        *self
            .file
            .stat
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = stat;
    }
}

impl Body {
    pub(in crate::view) fn content(&self) -> &Plaintext {
        match &self.content {
            Content::Published(content) => content,
            Content::Own(content) => content,
        }
    }

    /// Tells whether something would be lost if the file went now.
    pub(in crate::view) fn is_dirty(&self) -> bool {
        self.written || self.fresh || self.touched || self.moved
    }

    /// Tells whether it is not published yet, though it may be closed and synced.
    pub(in crate::view) fn is_held(&self) -> bool {
        match self.hold {
            Hold::No => false,
            Hold::WhileEmpty => self.content().is_empty(),
            Hold::UntilRenamed => true,
        }
    }

    /// Tells whether it goes to other people and not among notes.
    pub(in crate::view) fn is_message(&self) -> bool {
        matches!(
            self.target,
            Target::Document {
                kind: BlobKind::Message,
                ..
            }
        )
    }

    /// Tells whether the bytes are no longer those that were published.
    pub(in crate::view) fn changed_since_published(&self) -> bool {
        matches!(self.content, Content::Own(_))
    }

    /// Points the file at another place, until that is accepted or reverted.
    pub(in crate::view) fn set_target(&mut self, target: Target) {
        let before = std::mem::replace(&mut self.target, target);
        self.before = Some((before, self.failed));
        self.settles.clear();
        self.moved = true;
    }

    /// The file is at its new place.
    pub(in crate::view) fn accept_target(&mut self) {
        self.before = None;
    }

    /// The file stays where it was.
    pub(in crate::view) fn revert_target(&mut self) {
        if let Some(before) = self.before.take() {
            // The last save of its own is no better for the move that failed.
            (self.target, self.failed) = before;
            self.settles.clear();
            self.moved = false;
        }
    }

    /// Remembers a file of which nothing is unsaved, for [`Body::roll_back`].
    pub(in crate::view) fn checkpoint(&self) -> Checkpoint {
        let content = match &self.content {
            Content::Published(content) => Content::Published(Arc::clone(content)),
            Content::Own(content) => Content::Own(content.duplicate()),
        };
        Checkpoint {
            content,
            mtime: self.mtime,
            mode: self.mode,
        }
    }

    /// Undoes everything since the checkpoint.
    pub(in crate::view) fn roll_back(&mut self, before: Checkpoint) {
        self.content = before.content;
        self.mtime = before.mtime;
        self.mode = before.mode;
        self.saved();
    }

    /// Puts what is still being written aside for what was published, on its way to another place.
    pub(in crate::view) fn set_aside(
        &mut self,
        published: Arc<Plaintext>,
        stat: Stat,
    ) -> Unfinished {
        let content = std::mem::replace(&mut self.content, Content::Published(published));
        let unfinished = Unfinished {
            draft: Checkpoint {
                content,
                mtime: std::mem::replace(&mut self.mtime, stat.mtime),
                mode: std::mem::replace(&mut self.mode, stat.mode),
            },
            written: self.written,
            fresh: self.fresh,
            touched: self.touched,
            failed: self.failed,
        };
        self.saved();
        self.moved = true;
        unfinished
    }

    /// Goes on with what was put aside.
    pub(in crate::view) fn take_up(&mut self, unfinished: Unfinished) {
        let Unfinished {
            draft,
            written,
            fresh,
            touched,
            failed,
        } = unfinished;
        self.content = draft.content;
        self.mtime = draft.mtime;
        self.mode = draft.mode;
        self.written = written;
        self.fresh = fresh;
        self.touched = touched;
        self.failed = failed;
    }

    /// A save of what was removed: there is nothing to keep.
    pub(in crate::view) fn miss_save(&mut self) {
        self.missed |= self.is_dirty();
        self.saved();
    }

    /// It was not removed after all; what passed by meanwhile is unsaved.
    pub(in crate::view) fn relink(&mut self) {
        self.unlinked = false;
        self.written |= std::mem::take(&mut self.missed);
    }

    /// Notes that everything is saved.
    pub(in crate::view) fn saved(&mut self) {
        self.written = false;
        self.fresh = false;
        self.touched = false;
        self.moved = false;
        self.failed = None;
    }

    pub(in crate::view) fn read(&self, offset: u64, size: usize) -> Result<Zeroizing<Vec<u8>>> {
        self.content().read_at(offset, size)
    }

    /// Writes at an offset; `limit` bounds the size of the file.
    pub(in crate::view) fn write(&mut self, offset: u64, data: &[u8], limit: u64) -> Result<()> {
        let end = offset.checked_add(data.len() as u64);
        if end.is_none_or(|end| end > limit) {
            return Err(too_large(limit));
        }
        self.own().write_at(offset, data)?;
        self.changed();
        Ok(())
    }

    /// Replaces the whole content; `empty` is what it is built in, so that on an error nothing changed.
    pub(in crate::view) fn replace(
        &mut self,
        bytes: &[u8],
        mut empty: Plaintext,
        limit: u64,
    ) -> Result<()> {
        if bytes.len() as u64 > limit {
            return Err(too_large(limit));
        }
        empty.write_at(0, bytes)?;
        self.content = Content::Own(empty);
        self.changed();
        Ok(())
    }

    /// Changes the size otherwise than by O_TRUNC.
    pub(in crate::view) fn set_len(&mut self, len: u64, limit: u64) -> Result<()> {
        if len > limit {
            return Err(too_large(limit));
        }
        if len != self.content().len() {
            self.own().set_len(len)?;
        }
        self.changed();
        Ok(())
    }

    /// Empties the file as O_TRUNC does: published at RELEASE unless something is written.
    pub(in crate::view) fn truncate_at_open(&mut self) {
        if self.content().is_empty() {
            return;
        }
        self.content = Content::Own(self.content().empty_alike());
        self.fresh = true;
        self.failed = None;
        self.mtime = Timestamp::now();
    }

    fn changed(&mut self) {
        self.written = true;
        self.left = None;
        self.failed = None;
        self.mtime = Timestamp::now();
    }

    fn own(&mut self) -> &mut Plaintext {
        if let Content::Published(shared) = &self.content {
            self.content = Content::Own(shared.duplicate());
        }
        match &mut self.content {
            Content::Own(content) => content,
            Content::Published(_) => unreachable!("made our own above"),
        }
    }
}

fn too_large(limit: u64) -> Error {
    let sentence = format!("files have at most {} MiB (max_file_mib)", limit >> 20);
    Error::new(Kind::TooLarge, sentence)
}
