//! Open files and directories, by the numbers that programs hold.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::error::{Error, Kind, Result};
use crate::store::SoftwareFile;
use crate::view::draft::state::OpenFile;
use crate::view::ops::open::Access;
use crate::view::tree::Ino;
use crate::view::{DirEntry, HandleId, Reader, View, lock};

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
        entries: Mutex<Vec<DirEntry>>,
    },
}

impl Handle {
    pub(in crate::view) fn is_software(&self) -> bool {
        matches!(self, Handle::Software(_))
    }
}

impl View {
    pub(in crate::view) fn insert_handle(&self, handle: Handle) -> HandleId {
        let id = self.next_handle.fetch_add(1, Ordering::Relaxed);
        lock(&self.handles).insert(id, Arc::new(handle));
        HandleId(id)
    }

    pub(in crate::view) fn handle(&self, id: HandleId) -> Result<Arc<Handle>> {
        let handles = lock(&self.handles);
        let handle = handles.get(&id.0).cloned();
        handle.ok_or_else(|| Error::new(Kind::BadHandle, "not an open file"))
    }

    pub(in crate::view) fn has_writer(&self, ino: Ino) -> bool {
        lock(&self.handles).values().any(|handle| {
            matches!(&**handle, Handle::File { ino: open, access, .. } if *open == ino && access.write)
        })
    }
}
