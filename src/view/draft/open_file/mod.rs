//! An open file: its content, shared by all handles, and whether it is saved.
//!
//! Everything of an open file is changed under its one lock, which a publication holds from its
//! first step to its last. Three things are beside it, so that nobody waits for a publication:
//! the bytes, for readers; size and times, for listings; whether it is a draft, for the tree.

mod locked;

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use zeroize::Zeroizing;

use crate::error::{Kind, Result};
use crate::ids::{BlobKind, DocId, Timestamp};
use crate::locks::{Ranked, RankedShared};
use crate::plaintext::Plaintext;
use crate::vault::{Audience, Version};
use crate::view::draft::scratch::Hold;
use crate::view::draft::scratch_limit::ScratchBytes;
use crate::view::draft::state::{Bytes, DraftState};
use crate::view::ranks;
use crate::view::tree::{OpenContent, Stat};

pub(in crate::view) use locked::Locked;

/// One inode's content while it is open or unsaved.
pub(in crate::view) struct OpenFile {
    body: Ranked<Body>,
    /// The bytes. They change only while the body is locked, too; a reader waits for one change,
    /// never for a publication.
    content: RankedShared<Content>,
    /// Size, time and mode as they were when the body was unlocked last.
    stat: Ranked<Stat>,
    /// The body's [`Body::is_draft`], at every moment.
    is_draft: AtomicBool,
    /// Bytes of scratch that this file adds to the view's.
    in_scratch: AtomicU64,
    all_scratch: Arc<ScratchBytes>,
}

/// Where a save is written to.
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

/// An open file but for its bytes. It is changed by the methods of [`Locked`] alone.
pub(in crate::view) struct Body {
    target: Target,
    state: DraftState,
    /// Other heads of the document, which a change of this conflict copy replaces as well.
    settles: Vec<Arc<Version>>,
    /// Its name and the way in which it was made say that it may be a program's temporary file.
    hold: Hold,
    /// When it was closed, while it is held back, unless it was written since.
    left: Option<Instant>,
    mtime: Timestamp,
    /// Owner's permission bits (0..=7).
    mode: u32,
}

enum Content {
    /// As published, shared with the vault's cache.
    Published(Arc<Plaintext>),
    /// A draft, or scratch.
    Own(Plaintext),
}

impl Deref for Content {
    type Target = Plaintext;
    fn deref(&self) -> &Plaintext {
        match self {
            Content::Published(content) => content,
            Content::Own(content) => content,
        }
    }
}

impl OpenFile {
    /// Opens a content as it was published.
    pub(in crate::view) fn published(
        content: Arc<Plaintext>,
        target: Target,
        stat: Stat,
        scratch: &Arc<ScratchBytes>,
    ) -> Self {
        let content = Content::Published(content);
        Self::with(content, target, stat, DraftState::Saved, scratch)
    }

    /// Begins a new file with a content that is still empty.
    pub(in crate::view) fn fresh(
        content: Plaintext,
        target: Target,
        mode: u32,
        scratch: &Arc<ScratchBytes>,
    ) -> Self {
        let stat = Stat {
            size: 0,
            mtime: Timestamp::now(),
            mode,
        };
        let content = Content::Own(content);
        Self::with(content, target, stat, DraftState::NEW, scratch)
    }

    fn with(
        content: Content,
        target: Target,
        stat: Stat,
        state: DraftState,
        scratch: &Arc<ScratchBytes>,
    ) -> Self {
        let body = Body {
            target,
            state,
            settles: Vec::new(),
            hold: Hold::No,
            left: None,
            mtime: stat.mtime,
            mode: stat.mode,
        };
        let file = OpenFile {
            is_draft: AtomicBool::new(body.is_draft()),
            body: Ranked::new(ranks::BODY, body),
            content: RankedShared::new(ranks::CONTENT, content),
            stat: Ranked::new(ranks::LEAF, stat),
            in_scratch: AtomicU64::new(0),
            all_scratch: Arc::clone(scratch),
        };
        drop(file.lock()); // Counts it if it is scratch.
        file
    }

    /// Locks the file. Never called while the tree is locked.
    pub(in crate::view) fn lock(&self) -> Locked<'_> {
        let body = self.body.lock();
        Locked { file: self, body }
    }

    /// Locks one of several files that the caller locks in the order of their inodes.
    pub(in crate::view) fn lock_beside(&self) -> Locked<'_> {
        let body = self.body.lock_beside();
        Locked { file: self, body }
    }

    /// Locks the file, unless that would have to wait.
    pub(in crate::view) fn try_lock(&self) -> Option<Locked<'_>> {
        let body = self.body.try_lock()?;
        Some(Locked { file: self, body })
    }

    /// Reads up to `size` bytes, as they are now; never waits for a publication.
    pub(in crate::view) fn read(&self, offset: u64, size: usize) -> Result<Zeroizing<Vec<u8>>> {
        let content = self.content.read();
        if let Content::Published(shared) = &*content {
            // Nobody changes it: the disk is read while others may write.
            let shared = Arc::clone(shared);
            drop(content);
            return shared.read_at(offset, size);
        }
        content.read_at(offset, size)
    }
}

impl OpenContent for OpenFile {
    fn stat(&self) -> Stat {
        *self.stat.lock()
    }

    fn is_draft(&self) -> bool {
        self.is_draft.load(Ordering::Acquire)
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        self.all_scratch.resize(&self.in_scratch, 0);
    }
}

impl Body {
    pub(in crate::view) fn target(&self) -> &Target {
        &self.target
    }

    pub(in crate::view) fn settles(&self) -> &[Arc<Version>] {
        &self.settles
    }

    pub(in crate::view) fn hold(&self) -> Hold {
        self.hold
    }

    /// When it was closed, while it is held back.
    pub(in crate::view) fn left(&self) -> Option<Instant> {
        self.left
    }

    pub(in crate::view) fn mtime(&self) -> Timestamp {
        self.mtime
    }

    /// Owner's permission bits (0..=7).
    pub(in crate::view) fn mode(&self) -> u32 {
        self.mode
    }

    /// Tells whether something is unsaved, also of a file that was removed.
    pub(in crate::view) fn is_dirty(&self) -> bool {
        self.state.changes().any()
    }

    /// Tells whether something would be lost if the file were dropped now: arrivals do not take
    /// its place meanwhile.
    pub(in crate::view) fn is_draft(&self) -> bool {
        let removed = matches!(self.state, DraftState::Removed(_));
        self.is_dirty() && !removed && !matches!(self.target, Target::Scratch)
    }

    /// Tells whether a close saves it. A file that is only new, emptied or at another path waits
    /// until the last writer is gone.
    pub(in crate::view) fn is_saved_by_close(&self) -> bool {
        let changes = self.state.changes();
        changes.bytes == Bytes::Written || changes.attributes
    }

    /// Tells whether somebody is in the middle of changing it: it was not only opened.
    pub(in crate::view) fn is_being_changed(&self) -> bool {
        self.is_saved_by_close() || self.state.changes().place
    }

    /// Tells whether something other than its place is unsaved.
    pub(in crate::view) fn has_unsaved_content(&self) -> bool {
        let changes = self.state.changes();
        changes.bytes != Bytes::AsSaved || changes.attributes
    }

    /// Tells whether a note with the bytes that are saved already is to be saved all the same.
    pub(in crate::view) fn has_new_attributes(&self) -> bool {
        self.state.changes().attributes
    }

    /// Tells whether it has another path than the saved version.
    pub(in crate::view) fn has_new_place(&self) -> bool {
        self.state.changes().place
    }

    /// Why the last save failed, until the bytes are changed.
    pub(in crate::view) fn failed(&self) -> Option<Kind> {
        self.state.failed()
    }

    /// Tells whether nothing of it is saved any more: it was removed, or is being renamed over.
    pub(in crate::view) fn is_unlinked(&self) -> bool {
        self.state.is_suspended()
    }

    /// Tells whether it is sent to other people, and is no note.
    pub(in crate::view) fn is_message(&self) -> bool {
        matches!(
            self.target,
            Target::Document {
                kind: BlobKind::Message,
                ..
            }
        )
    }
}
