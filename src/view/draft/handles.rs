//! Open files and directories, by the numbers that programs hold.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Kind, Result};
use crate::locks::Ranked;
use crate::store::SoftwareFile;
use crate::view::draft::open_file::OpenFile;
use crate::view::tree::Ino;
use crate::view::{Access, DirEntry, HandleId, Reader, View};

/// An open file.
pub(in crate::view) enum Handle {
    File {
        ino: Ino,
        file: Arc<OpenFile>,
        access: Access,
        /// Whose FLUSH publishes.
        opener: Option<Reader>,
        /// Its opener has read from it.
        has_read: AtomicBool,
    },
    Software(Box<dyn SoftwareFile>),
    Directory {
        ino: Ino,
        /// The listing that the reader is going through.
        entries: Ranked<Vec<DirEntry>>,
    },
}

impl View {
    pub(in crate::view) fn insert_handle(&self, handle: Handle) -> HandleId {
        let id = self.next_handle.fetch_add(1, Ordering::Relaxed);
        self.handles.lock().insert(id, Arc::new(handle));
        HandleId(id)
    }

    pub(in crate::view) fn handle(&self, id: HandleId) -> Result<Arc<Handle>> {
        let handles = self.handles.lock();
        let handle = handles.get(&id.0).cloned();
        handle.ok_or_else(|| Error::new(Kind::BadHandle, "not an open file"))
    }

    pub(in crate::view) fn has_writer(&self, ino: Ino) -> bool {
        !self.writers(ino).is_empty()
    }

    /// How many files of `software/` are open.
    pub(in crate::view) fn open_software_files(&self) -> usize {
        let handles = self.handles.lock();
        let open = handles.values();
        open.filter(|handle| matches!(***handle, Handle::Software(_)))
            .count()
    }

    /// Returns the openers that have a file open for writing; `None` for each unidentified one.
    pub(in crate::view) fn writers(&self, ino: Ino) -> Vec<Option<Reader>> {
        let handles = self.handles.lock();
        let writers = handles.values().filter_map(|handle| match &**handle {
            Handle::File {
                ino: open,
                access,
                opener,
                ..
            } if *open == ino && access.write => Some(*opener),
            _ => None,
        });
        writers.collect()
    }
}
