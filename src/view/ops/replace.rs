//! Replacing a whole content in one step.

use crate::error::Result;
use crate::view::draft::handles::Handle;
use crate::view::draft::open_file::Target;
use crate::view::error_log::About;
use crate::view::tree::Ino;
use crate::view::{Access, Caller, View};

impl View {
    /// Replaces the whole content of a file and makes it durable, as O_TRUNC, writing and fsync do;
    /// but if that fails, the file is as it was before. Unclosed writes of others
    /// are replaced as well.
    ///
    /// # Errors
    /// As [`View::open`], [`View::write`] and [`View::fsync`].
    pub(in crate::view) fn replace_content(
        &self,
        ino: Ino,
        bytes: &[u8],
        caller: Caller,
    ) -> Result<()> {
        let _use = self.last_use.begin();
        self.reporting(About::Node(ino), || {
            let access = Access {
                write: true,
                ..Access::default()
            };
            let id = self.open_file(ino, access, caller)?;
            let replaced = self.replace_open(ino, &*self.handle(id)?, bytes, caller);
            self.release(id);
            replaced
        })?;
        self.vault.make_durable()
    }

    fn replace_open(&self, ino: Ino, handle: &Handle, bytes: &[u8], caller: Caller) -> Result<()> {
        let Handle::File { file, .. } = handle else {
            return Ok(()); // Not opened for writing.
        };
        let target = file.lock().target().clone();
        self.rebase(caller.reader, ino, file);
        let mut body = file.lock();
        // A draft of others has no state to go back to: it stays a draft, with the new content.
        let before = (!body.is_dirty()).then(|| (body.checkpoint(), target));
        let room = match body.target() {
            Target::Scratch => self.check_scratch(bytes.len() as u64),
            Target::Document { .. } | Target::Key(_) | Target::Nowhere => Ok(()),
        };
        let limit = self.vault.options().max_file_size;
        let replaced = room
            .and_then(|()| body.replace(bytes, self.vault.new_content(), limit))
            .and_then(|()| self.publish(ino, &mut body));
        if let (Err(_), Some((content, target))) = (&replaced, before) {
            // Nobody has a handle with which to try again.
            body.roll_back(content);
            body.set_target(target);
            drop(body);
            // It was a draft for a moment: show now any version that arrived then.
            self.show_document_again(ino);
        }
        replaced
    }
}
