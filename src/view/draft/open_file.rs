//! An open file: its content, shared by all handles, and whether it is saved.
//!
//! Everything of an open file is changed under its one lock, which a publication holds from its
//! first step to its last. Three things are beside it, so that nobody waits for a publication:
//! the bytes, for readers; size and times, for listings; whether it is a draft, for the tree.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use zeroize::Zeroizing;

use crate::error::{Error, Kind, Result};
use crate::ids::{BlobKind, DocId, Timestamp};
use crate::locks::{Guard, Ranked, RankedShared, ReadGuard};
use crate::plaintext::Plaintext;
use crate::vault::{Audience, Version};
use crate::view::draft::scratch::Hold;
use crate::view::draft::state::{Bytes, DraftState};
use crate::view::ranks;
use crate::view::tree::{OpenContent, Stat};

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

/// Bytes that all scratch of a view takes.
#[derive(Default)]
pub(in crate::view) struct ScratchBytes(AtomicU64);

impl ScratchBytes {
    pub(in crate::view) fn total(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
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
    /// The bytes are not those that were published, or opened.
    is_own: bool,
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

/// The state of a file before a change that may have to be undone.
pub(in crate::view) struct Checkpoint {
    content: Content,
    mtime: Timestamp,
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
            is_own: matches!(content, Content::Own(_)),
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
        let scratch = self.in_scratch.load(Ordering::Relaxed);
        self.all_scratch.0.fetch_sub(scratch, Ordering::Relaxed);
    }
}

/// The bytes of a locked file, which do not change meanwhile.
pub(in crate::view) struct Bound<'a>(ReadGuard<'a, Content>);

impl Deref for Bound<'_> {
    type Target = Plaintext;
    fn deref(&self) -> &Plaintext {
        &self.0
    }
}

/// A locked file. Its attributes are brought up to date when it is unlocked; whether it is a draft,
/// at each change.
pub(in crate::view) struct Locked<'a> {
    file: &'a OpenFile,
    body: Guard<'a, Body>,
}

impl Deref for Locked<'_> {
    type Target = Body;
    fn deref(&self) -> &Body {
        &self.body
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        let size = self.content().len();
        let scratch = match self.body.target {
            Target::Scratch => size,
            Target::Document { .. } | Target::Key(_) | Target::Nowhere => 0,
        };
        let before = self.file.in_scratch.swap(scratch, Ordering::Relaxed);
        let all = &self.file.all_scratch.0;
        all.fetch_add(scratch, Ordering::Relaxed);
        all.fetch_sub(before, Ordering::Relaxed);
        *self.file.stat.lock() = Stat {
            size,
            mtime: self.body.mtime,
            mode: self.body.mode,
        };
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

    /// Tells whether the bytes are no longer those that were published.
    pub(in crate::view) fn changed_since_published(&self) -> bool {
        self.is_own
    }
}

impl Locked<'_> {
    /// The bytes, which cannot change as long as they are borrowed.
    pub(in crate::view) fn content(&self) -> Bound<'_> {
        Bound(self.file.content.read())
    }

    /// Tells whether it is not published yet, though it may be closed and synced.
    pub(in crate::view) fn is_held(&self) -> bool {
        match self.body.hold {
            Hold::No => false,
            Hold::WhileEmpty => self.content().is_empty(),
            Hold::UntilRenamed => true,
        }
    }

    fn set_state(&mut self, state: DraftState) {
        self.body.state = state;
        self.tell_tree();
    }

    fn tell_tree(&self) {
        let is_draft = self.body.is_draft();
        self.file.is_draft.store(is_draft, Ordering::Release);
    }

    /// Notes that everything is saved.
    pub(in crate::view) fn note_saved(&mut self) {
        self.set_state(self.body.state.saved());
    }

    /// Notes that a save failed.
    pub(in crate::view) fn note_failed(&mut self, kind: Kind) {
        self.set_state(self.body.state.with_failure(kind));
    }

    /// Notes that a save was asked for that does not count: the file was removed.
    pub(in crate::view) fn note_missed(&mut self) {
        self.set_state(self.body.state.missed());
    }

    /// Begins to rename another file over it.
    pub(in crate::view) fn begin_renaming_over(&mut self) {
        self.set_state(self.body.state.renamed_over());
    }

    /// Its name is gone. Programs that have it open go on, and nothing is saved.
    pub(in crate::view) fn remove(&mut self) {
        self.set_state(self.body.state.removed());
    }

    /// It was not renamed over after all; a save that was missed meanwhile is made up for.
    pub(in crate::view) fn keep(&mut self) {
        self.set_state(self.body.state.kept());
    }

    /// Sets whether it is held back, and until when.
    pub(in crate::view) fn set_hold(&mut self, hold: Hold) {
        self.body.hold = hold;
    }

    /// Notes that it was closed just now.
    pub(in crate::view) fn note_left(&mut self) {
        self.body.left = Some(Instant::now());
    }

    /// Forgets when it was closed: its writer knows now that it is held back.
    pub(in crate::view) fn forget_left(&mut self) {
        self.body.left = None;
    }

    /// Sets the heads that a change of it replaces as well.
    pub(in crate::view) fn set_settles(&mut self, settles: Vec<Arc<Version>>) {
        self.body.settles = settles;
    }

    /// Points the file at another place. Returns the one that it had.
    pub(in crate::view) fn set_target(&mut self, target: Target) -> Target {
        let before = std::mem::replace(&mut self.body.target, target);
        self.tell_tree();
        before
    }

    /// Changes the path, the document or the base of a document's target.
    pub(in crate::view) fn update_target(
        &mut self,
        change: impl FnOnce(&mut String, &mut DocId, &mut Vec<Arc<Version>>),
    ) {
        if let Target::Document {
            path, doc, base, ..
        } = &mut self.body.target
        {
            change(path, doc, base);
        }
    }

    /// The place changed, and the saved version is still at the old one.
    pub(in crate::view) fn note_moved(&mut self) {
        self.set_state(self.body.state.with_place());
    }

    /// Remembers a file of which nothing is unsaved, for [`Locked::roll_back`].
    pub(in crate::view) fn checkpoint(&self) -> Checkpoint {
        let content = match &*self.file.content.read() {
            Content::Published(content) => Content::Published(Arc::clone(content)),
            Content::Own(content) => Content::Own(content.duplicate()),
        };
        Checkpoint {
            content,
            mtime: self.body.mtime,
            mode: self.body.mode,
        }
    }

    /// Undoes everything since the checkpoint.
    pub(in crate::view) fn roll_back(&mut self, before: Checkpoint) {
        self.set_content(before.content);
        self.body.mtime = before.mtime;
        self.body.mode = before.mode;
        self.note_saved();
    }

    /// Writes at an offset; `limit` bounds the size of the file.
    pub(in crate::view) fn write(&mut self, offset: u64, data: &[u8], limit: u64) -> Result<()> {
        let end = offset.checked_add(data.len() as u64);
        if end.is_none_or(|end| end > limit) {
            return Err(too_large(limit));
        }
        self.change_content(|content| content.write_at(offset, data))?;
        self.note_written();
        Ok(())
    }

    /// Replaces all bytes, which are gathered in `empty`: on an error nothing has changed.
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
        self.set_content(Content::Own(empty));
        self.note_written();
        Ok(())
    }

    /// Changes the size otherwise than by O_TRUNC.
    pub(in crate::view) fn set_len(&mut self, len: u64, limit: u64) -> Result<()> {
        if len > limit {
            return Err(too_large(limit));
        }
        if len != self.content().len() {
            self.change_content(|content| content.set_len(len))?;
        }
        self.note_written();
        Ok(())
    }

    /// Empties the file as O_TRUNC does: published at RELEASE unless something is written.
    pub(in crate::view) fn truncate_at_open(&mut self) {
        if self.content().is_empty() {
            return;
        }
        let empty = self.content().empty_alike();
        self.set_content(Content::Own(empty));
        self.note_bytes(Bytes::Emptied);
    }

    /// Sets the time of modification; `keeps`: it is one that a save keeps.
    pub(in crate::view) fn set_mtime(&mut self, mtime: Timestamp, keeps: bool) {
        if keeps && mtime != self.body.mtime {
            self.note_attributes();
        }
        self.body.mtime = mtime;
    }

    /// Sets the owner's permission bits (0..=7).
    pub(in crate::view) fn set_mode(&mut self, mode: u32) {
        if mode != self.body.mode {
            self.note_attributes();
        }
        self.body.mode = mode;
    }

    fn note_attributes(&mut self) {
        self.set_state(self.body.state.with_attributes());
    }

    fn note_written(&mut self) {
        self.body.left = None;
        self.note_bytes(Bytes::Written);
    }

    fn note_bytes(&mut self, bytes: Bytes) {
        self.set_state(self.body.state.with_bytes(bytes));
        self.body.mtime = Timestamp::now();
    }

    fn set_content(&mut self, content: Content) {
        self.body.is_own = matches!(content, Content::Own(_));
        *self.file.content.write() = content;
    }

    /// Changes the bytes, which are the file's own then.
    fn change_content(&mut self, change: impl FnOnce(&mut Plaintext) -> Result<()>) -> Result<()> {
        let mut content = self.file.content.write();
        if let Content::Published(shared) = &*content {
            *content = Content::Own(shared.duplicate());
        }
        self.body.is_own = true;
        match &mut *content {
            Content::Own(own) => change(own),
            Content::Published(_) => unreachable!("made our own above"),
        }
    }
}

fn too_large(limit: u64) -> Error {
    let sentence = format!("files have at most {} MiB (max_file_mib)", limit >> 20);
    Error::new(Kind::TooLarge, sentence)
}
