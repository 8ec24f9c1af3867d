//! Saving a whole content in one step: all of it, or nothing.

use std::ffi::OsStr;
use std::sync::Arc;

use crate::error::{Error, Kind, Result};
use crate::view::draft::handles::Handle;
use crate::view::draft::open_file::{Locked, OpenFile, Target};
use crate::view::draft::scratch::Hold;
use crate::view::error_log::About;
use crate::view::facts::Facts;
use crate::view::rules::not_found;
use crate::view::tree::Ino;
use crate::view::{Access, Caller, HandleId, View};

const WRITING: Access = Access {
    read: false,
    write: true,
    append: false,
    truncate: false,
    exclusive: false,
};

/// A file that was saved: it is published and shown.
#[derive(Debug)]
pub struct Saved {
    /// Its path below the root.
    pub path: String,
    /// What is known of it; `None` for a certificate in `keys/`.
    pub facts: Option<Facts>,
    /// An error if a crash of the machine may lose it still, because the disk did not confirm the
    /// save. It is tried again in the background. To save it once more would publish it twice.
    pub durable: Result<()>,
}

/// Where a save is shown, and what is known of it.
type Shown = (String, Option<Facts>);

impl View {
    /// Replaces the whole content of a file, on the base of what the caller has read.
    ///
    /// # Errors
    /// `Busy` if another program has unsaved changes in it; as [`View::open`], [`View::write`] and
    /// [`View::flush`]. Then the file is as it was before.
    pub(in crate::view) fn save_over(
        &self,
        ino: Ino,
        bytes: &[u8],
        caller: Caller,
    ) -> Result<Saved> {
        let _use = self.last_use.begin();
        let shown = self.reporting(About::Node(ino), || {
            let id = self.open_current(ino, WRITING, caller)?;
            let shown = self.replace_content(ino, id, bytes, caller);
            self.release(id);
            shown
        })?;
        Ok(self.make_saved_durable(ino, shown))
    }

    /// Makes a file with a content.
    ///
    /// # Errors
    /// `Exists`; as [`View::create`], [`View::write`] and [`View::flush`]. Then there is no such file.
    pub(in crate::view) fn save_new(
        &self,
        parent: Ino,
        name: &OsStr,
        bytes: &[u8],
        caller: Caller,
    ) -> Result<Saved> {
        let _use = self.last_use.begin();
        let (ino, shown) = self.reporting(About::Name(parent, name), || {
            let access = Access {
                exclusive: true,
                ..WRITING
            };
            let (attr, id) = self.create_file(parent, name, 0o600, access, caller)?;
            let shown = self.fill(attr.ino, id, bytes);
            if shown.is_err() && self.tree().child(parent, name) == Some(attr.ino) {
                // Removed before it is closed, as closing publishes. It was never published, so this
                // touches no disk; the error that counts is the first.
                let _ = self.remove_file(parent, name);
            }
            self.release(id);
            shown.map(|shown| (attr.ino, shown))
        })?;
        Ok(self.make_saved_durable(ino, shown))
    }

    fn replace_content(
        &self,
        ino: Ino,
        id: HandleId,
        bytes: &[u8],
        caller: Caller,
    ) -> Result<Shown> {
        let file = self.opened(id)?;
        let mut body = file.lock();
        check_savable(&body)?;
        if body.is_dirty() {
            let why = "another program has changes in it that are not saved yet";
            return Err(Error::new(Kind::Busy, why));
        }
        let before = body.checkpoint();
        let target = body.target().clone();
        let settles = body.settles().to_vec();
        self.rebase(caller.reader, ino, &mut body);
        let saved = self.publish_content(ino, &mut body, bytes);
        if saved.is_err() {
            body.roll_back(before);
            body.set_target(target);
            body.set_settles(settles);
            drop(body);
            // It was a draft for a moment: show now any version that arrived then.
            self.show_document_again(ino);
        }
        saved
    }

    fn fill(&self, ino: Ino, id: HandleId, bytes: &[u8]) -> Result<Shown> {
        let file = self.opened(id)?;
        let mut body = file.lock();
        check_savable(&body)?;
        self.publish_content(ino, &mut body, bytes)
    }

    fn opened(&self, id: HandleId) -> Result<Arc<OpenFile>> {
        match &*self.handle(id)? {
            Handle::File { file, .. } => Ok(Arc::clone(file)),
            Handle::Software(_) | Handle::Directory { .. } => Err(not_found()),
        }
    }

    fn publish_content(&self, ino: Ino, body: &mut Locked<'_>, bytes: &[u8]) -> Result<Shown> {
        let hold = body.hold();
        // The name may be one that programs rename away; but this is the whole content.
        body.set_hold(Hold::No);
        let limit = self.vault.options().max_file_size;
        let saved = body
            .replace(bytes, self.vault.new_content(), limit)
            .and_then(|()| self.publish(ino, body));
        if saved.is_err() {
            body.set_hold(hold);
        }
        saved.map(|()| self.shown_as(ino, body))
    }

    /// Finds the file that shows what was just published: a node whose version was replaced
    /// meanwhile has no name any more, and the new version is a conflict copy or has its name.
    fn shown_as(&self, ino: Ino, body: &Locked<'_>) -> Shown {
        let version = match body.target() {
            Target::Key(name) => return (format!("keys/{name}"), None),
            Target::Document { base, .. } => base.first(),
            Target::Scratch | Target::Nowhere => None,
        };
        let (path, shown) = {
            let tree = self.tree();
            let shown_by = version.and_then(|version| tree.shown_by(version));
            let ino = shown_by.unwrap_or(ino);
            (tree.path(ino), tree.shown(ino).cloned())
        };
        let facts = shown.and_then(|shown| Some(self.facts_of(&shown.head?, shown.is_conflict)));
        (path, facts)
    }

    fn make_saved_durable(&self, ino: Ino, (path, facts): Shown) -> Saved {
        let durable = self.report(About::Node(ino), self.vault.make_durable());
        Saved {
            path,
            facts,
            durable,
        }
    }
}

/// Refuses files of which a save keeps nothing.
fn check_savable(body: &Locked<'_>) -> Result<()> {
    if body.is_unlinked() {
        return Err(not_found());
    }
    match body.target() {
        Target::Document { .. } | Target::Key(_) => Ok(()),
        Target::Scratch => {
            let rule =
                "its name is that of a program's temporary file, which is kept in memory only";
            Err(Error::new(Kind::Forbidden, rule))
        }
        Target::Nowhere => Err(Error::new(Kind::Forbidden, "it is only for reading")),
    }
}
