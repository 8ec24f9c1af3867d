//! Everything that changes a locked file, and with it its state as a draft.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::error::{Error, Kind, Result};
use crate::ids::{DocId, Timestamp};
use crate::locks::{Guard, ReadGuard};
use crate::plaintext::Plaintext;
use crate::vault::Version;
use crate::view::draft::open_file::{Body, Content, OpenFile, Target};
use crate::view::draft::scratch::Hold;
use crate::view::draft::state::{Bytes, DraftState};
use crate::view::tree::Stat;

/// The state of a file before a change that may have to be undone.
pub(in crate::view) struct Checkpoint {
    content: Content,
    mtime: Timestamp,
    mode: u32,
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
    pub(super) file: &'a OpenFile,
    pub(super) body: Guard<'a, Body>,
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
        self.file.all_scratch.resize(&self.file.in_scratch, scratch);
        *self.file.stat.lock() = Stat {
            size,
            mtime: self.body.mtime,
            mode: self.body.mode,
        };
    }
}

impl Locked<'_> {
    /// The bytes, which cannot change as long as they are borrowed.
    pub(in crate::view) fn content(&self) -> Bound<'_> {
        Bound(self.file.content.read())
    }

    /// Tells whether the bytes are no longer those that were published.
    pub(in crate::view) fn changed_since_published(&self) -> bool {
        matches!(*self.file.content.read(), Content::Own(_))
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
        *self.file.content.write() = content;
    }

    /// Changes the bytes, which are the file's own then.
    fn change_content(&mut self, change: impl FnOnce(&mut Plaintext) -> Result<()>) -> Result<()> {
        let mut content = self.file.content.write();
        if let Content::Published(shared) = &*content {
            *content = Content::Own(shared.duplicate());
        }
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
