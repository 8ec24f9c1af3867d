//! Opening, creating and closing files.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use crate::error::{Kind, Result};
use crate::view::error_log::About;
use crate::view::handles::Handle;
use crate::view::tree::{FileRole, Ino};
use crate::view::{Caller, HandleId, View, lock};

/// How a file is opened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Access {
    /// For reading.
    pub read: bool,
    /// For writing.
    pub write: bool,
    /// Every write goes to the end.
    pub append: bool,
    /// Emptied when it is opened (O_TRUNC).
    pub truncate: bool,
    /// Must not exist (O_EXCL). Only [`View::create`] heeds it.
    pub exclusive: bool,
}

impl View {
    /// Opens a file.
    ///
    /// # Errors
    /// For writing: the rule that forbids it (`ReadOnlyFile`, `Forbidden`, `ReadOnlyTree`,
    /// `Unsupported`) or what is wrong with a member's key. `Damaged` or `TooLarge` if nothing of
    /// the content may be shown; `NotFound` if it went.
    pub fn open(&self, ino: Ino, access: Access, caller: Caller) -> Result<HandleId> {
        self.reporting(About::Node(ino), || {
            match self.open_file(ino, access, caller) {
                // The version that was shown was removed a moment ago; another may be there now.
                Err(error) if error.kind() == Kind::NotFound => self.open_file(ino, access, caller),
                opened => opened,
            }
        })
    }

    /// As [`View::open`]; the caller reports the error.
    pub(in crate::view) fn open_file(
        &self,
        ino: Ino,
        access: Access,
        caller: Caller,
    ) -> Result<HandleId> {
        if let Some(handle) = self.open_special(ino, access)? {
            return Ok(self.insert_handle(handle));
        }
        if access.write {
            self.check_writable(ino, caller)?;
        }
        let file = match self.hold(ino)? {
            Ok(file) => file,
            Err(error) => {
                self.let_go(ino);
                return Err(error);
            }
        };
        // The handle first: a RELEASE of another one must not publish what we empty here.
        let id = self.insert_handle(Handle::File {
            ino,
            file: Arc::clone(&file),
            access,
            opener: caller.reader,
            has_read: AtomicBool::new(false),
        });
        if access.write && access.truncate {
            self.rebase(caller.reader, ino, &file);
            file.lock().truncate_at_open();
            self.note_draft(ino, &file);
        } else if access.write {
            self.settle_only_seen(caller.reader, ino, &file);
        }
        Ok(id)
    }

    /// Gives a handle back. What is still unsaved when the last writing handle goes is published;
    /// what cannot be published stays as a draft and is told in `.dds/errors`.
    pub fn release(&self, id: HandleId) {
        let Some(handle) = lock(&self.handles).remove(&id.0) else {
            return;
        };
        let Handle::File {
            ino,
            file,
            access,
            opener,
            ..
        } = &*handle
        else {
            return;
        };
        if access.write && !self.has_writer(*ino) {
            let _use = self.last_use.begin();
            let mut body = file.lock();
            if body.is_dirty() && body.failed.is_none() {
                body.left = Some(Instant::now());
                let published = self.publish(*ino, &mut body);
                drop(body);
                self.note_written(*opener, *ino);
                // Nobody hears a RELEASE: the log does.
                let _ = self.report(About::Node(*ino), published);
            }
        }
        self.let_go(*ino);
        self.drop_refused_key(*ino);
    }

    /// A certificate that was refused is not kept as a draft: nothing of it is left.
    fn drop_refused_key(&self, ino: Ino) {
        let open = self.tree().file(ino).and_then(|file| file.open.clone());
        if open.is_some_and(|open| open.lock().is_held()) {
            return; // Nothing was written to it yet.
        }
        let mut tree = self.tree();
        let Some(file) = tree.file_mut(ino) else {
            return;
        };
        if matches!(file.role, FileRole::Key(_)) && file.draft && file.handles == 0 {
            file.draft = false;
            file.open = None;
            if file.stat.is_none() {
                tree.detach(ino);
            }
        }
    }
}
