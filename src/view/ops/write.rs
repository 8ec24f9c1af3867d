//! Writing, and the calls that publish: close and fsync.

use crate::error::{Error, Kind, Result};
use crate::view::draft::handles::Handle;
use crate::view::draft::open_file::{OpenFile, Target};
use crate::view::error_log::About;
use crate::view::{Caller, HandleId, View};

impl View {
    /// Writes at an offset, or at the end if the file was opened for appending and the write is
    /// not one that must stay in place.
    ///
    /// # Errors
    /// `BadHandle` unless it was opened for writing; `TooLarge`; `NoSpace` when scratch takes too
    /// much memory or the disk for spilling is full.
    pub fn write(&self, id: HandleId, offset: u64, data: &[u8], in_place: bool) -> Result<()> {
        let handle = self.handle(id)?;
        match &*handle {
            Handle::File {
                ino, file, access, ..
            } if access.write => self.reporting(About::Node(*ino), || {
                self.write_file(file, access.append && !in_place, offset, data)
            }),
            Handle::File { .. } | Handle::Software(_) | Handle::Directory { .. } => {
                Err(Error::new(Kind::BadHandle, "not open for writing"))
            }
        }
    }

    fn write_file(&self, file: &OpenFile, append: bool, offset: u64, data: &[u8]) -> Result<()> {
        let limit = self.vault.options().max_file_size;
        let mut body = file.lock();
        if let Target::Scratch = body.target() {
            self.check_scratch(data.len() as u64)?;
        }
        let offset = if append { body.content().len() } else { offset };
        body.write(offset, data, limit)
    }

    /// A descriptor was closed by `caller`: publishes the writes of the opener's process.
    ///
    /// # Errors
    /// Those of [`crate::vault::Vault::publish`]. The draft stays, and the file can be closed
    /// or synced again.
    pub fn flush(&self, id: HandleId, caller: Caller) -> Result<()> {
        let handle = self.handle(id)?;
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
        let by_opener = match (opener, caller.reader) {
            (Some(opener), Some(closer)) => *opener == closer,
            // An unidentified closer counts as the opener: publishing twice beats never.
            (None, _) | (_, None) => true,
        };
        if !access.write || !by_opener {
            return Ok(());
        }
        let _use = self.last_use.begin();
        let mut body = file.lock();
        if !body.is_saved_by_close() {
            return Ok(());
        }
        let published = self.publish(*ino, &mut body);
        body.note_left();
        drop(body);
        self.report(About::Node(*ino), published)
    }

    /// Publishes unsaved changes and makes them durable.
    ///
    /// # Errors
    /// As [`View::flush`].
    pub fn fsync(&self, id: HandleId) -> Result<()> {
        let _use = self.last_use.begin();
        let handle = self.handle(id)?;
        let synced = match &*handle {
            Handle::File {
                ino, file, access, ..
            } => {
                let mut body = file.lock();
                let published = match access.write && body.is_dirty() {
                    true => self.publish(*ino, &mut body),
                    false => Ok(()),
                };
                drop(body);
                self.report(About::Node(*ino), published)
            }
            Handle::Software(_) | Handle::Directory { .. } => Ok(()),
        };
        synced.and_then(|()| self.vault.make_durable())
    }
}
