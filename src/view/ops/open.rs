//! Opening and closing files.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::error::{Error, Kind, Result};
use crate::view::draft::handles::Handle;
use crate::view::error_log::About;
use crate::view::rules::{check_writable, not_found};
use crate::view::tree::{FileRole, Ino, NodeData};
use crate::view::{Access, Caller, HandleId, View};

impl View {
    /// Opens a file.
    ///
    /// # Errors
    /// For writing: the rule that forbids it (`ReadOnlyFile`, `Forbidden`, `ReadOnlyTree`,
    /// `Unsupported`) or the fault of a member's key. `Damaged` or `TooLarge` if nothing of
    /// the content may be shown; `NotFound` if it was removed.
    pub fn open(&self, ino: Ino, access: Access, caller: Caller) -> Result<HandleId> {
        self.reporting(About::Node(ino), || self.open_current(ino, access, caller))
    }

    /// As [`View::open`]; the caller reports the error.
    pub(in crate::view) fn open_current(
        &self,
        ino: Ino,
        access: Access,
        caller: Caller,
    ) -> Result<HandleId> {
        match self.open_file(ino, access, caller) {
            // The version that was shown was removed a moment ago; another may be there now.
            Err(error) if error.kind() == Kind::NotFound => self.open_file(ino, access, caller),
            opened => opened,
        }
    }

    /// As [`View::open_current`], for the version that is shown at this moment.
    pub(in crate::view) fn open_file(
        &self,
        ino: Ino,
        access: Access,
        caller: Caller,
    ) -> Result<HandleId> {
        let (begun, audience) = {
            let mut tree = self.tree();
            let node = match &tree.get(ino).ok_or_else(not_found)?.data {
                NodeData::File(node) => node,
                NodeData::Dir(_) => return Err(Error::new(Kind::IsDirectory, "it is a directory")),
                NodeData::Alias(_) => return Err(not_found()),
            };
            match &node.role {
                FileRole::Software(path) if !access.write => {
                    let path = path.clone();
                    drop(tree);
                    return self.open_software(&path);
                }
                _ => {}
            }
            let audience = match access.write {
                true => check_writable(&node.role, self.file_stat(node).mode, caller)?,
                false => None,
            };
            (self.begin_hold(&mut tree, ino)?, audience)
        };
        if let Some(audience) = audience {
            self.vault.check_audience(&audience)?;
        }
        let held = self.finish_hold(begun)?;
        let file = Arc::clone(&held);
        // The handle first: a RELEASE of another one must not publish the emptied file.
        let id = self.insert_handle(Handle::File {
            ino,
            file: held.into_handle(),
            access,
            opener: caller.reader,
            has_read: AtomicBool::new(false),
        });
        if access.write && access.truncate {
            let mut body = file.lock();
            self.rebase(caller.reader, ino, &mut body);
            body.truncate_at_open();
        } else if access.write {
            if let Some(there) = self.shown_there(ino) {
                self.settle_only_seen(caller.reader, &there, &mut file.lock());
            }
        }
        Ok(id)
    }

    /// Gives a handle back. Giving back the last writing handle publishes unsaved changes; if
    /// that fails, they stay a draft, and `.dds/errors` says why.
    pub fn release(&self, id: HandleId) {
        // A RELEASE has no answer: only the log can say why it failed.
        let _ = self.give_back(id);
    }

    /// As [`View::release`]; the error that is in the log is also returned.
    pub(in crate::view) fn give_back(&self, id: HandleId) -> Result<()> {
        let Some(handle) = self.handles.lock().remove(&id.0) else {
            return Ok(());
        };
        let Handle::File {
            ino,
            file,
            access,
            opener,
            ..
        } = &*handle
        else {
            return Ok(());
        };
        let mut saved = Ok(());
        let held = self.take_back(*ino, file);
        if access.write && !self.has_writer(*ino) {
            let _use = self.last_use.begin();
            let mut body = file.lock();
            if body.is_dirty() && body.failed().is_none() {
                body.note_left();
                let published = self.publish(*ino, &mut body);
                drop(body);
                self.note_written(*opener, *ino);
                saved = self.report(About::Node(*ino), published);
            }
        }
        drop(held);
        self.drop_refused_key(*ino);
        saved
    }

    /// A certificate that was refused is not kept as a draft: nothing of it is left.
    fn drop_refused_key(&self, ino: Ino) {
        let open = {
            let tree = self.tree();
            let file = tree.file(ino);
            let Some(file) = file.filter(|file| matches!(file.role, FileRole::Key(_))) else {
                return;
            };
            file.open.clone()
        };
        if open.is_some_and(|open| open.lock().is_held()) {
            return; // Nothing was written to it yet.
        }
        let mut tree = self.tree();
        let Some(file) = tree.file_mut(ino) else {
            return;
        };
        if matches!(file.role, FileRole::Key(_)) && file.is_draft() && file.handles == 0 {
            file.open = None;
            if file.stat.is_none() {
                tree.detach(ino);
            }
        }
    }
}
