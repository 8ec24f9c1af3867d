//! Reading files and directories through handles.

use std::sync::atomic::Ordering;

use zeroize::Zeroizing;

use crate::error::{Error, Kind, Result};
use crate::locks::Ranked;
use crate::view::draft::handles::Handle;
use crate::view::tree::Ino;
use crate::view::{DirEntry, HandleId, NodeKind, View, ranks};

impl View {
    /// Reads up to `size` bytes from `offset`; fewer at the end of the file.
    ///
    /// # Errors
    /// `BadHandle` unless it was opened for reading; `Io` as the disk says: the store's
    /// for `software/`, that of the spilled part for large files. Everything else was
    /// authenticated and is in RAM since it was opened.
    pub fn read(&self, id: HandleId, offset: u64, size: usize) -> Result<Zeroizing<Vec<u8>>> {
        let _use = self.last_use.begin();
        match &*self.handle(id)? {
            Handle::File {
                ino,
                file,
                access,
                opener,
                has_read,
            } if access.read => {
                if !has_read.swap(true, Ordering::Relaxed) {
                    self.note_read(*opener, *ino);
                }
                file.read(offset, size)
            }
            Handle::Software(file) => Ok(Zeroizing::new(file.read_at(offset, size)?)),
            Handle::File { .. } | Handle::Directory { .. } => {
                Err(Error::new(Kind::BadHandle, "not open for reading"))
            }
        }
    }

    /// Opens a directory for listing.
    ///
    /// # Errors
    /// `NotFound`, `NotDirectory`.
    pub fn open_dir(&self, ino: Ino) -> Result<HandleId> {
        let _use = self.last_use.begin();
        let tree = self.tree();
        tree.dir(ino)
            .ok_or_else(|| self.not_a_directory(&tree, ino))?;
        drop(tree);
        let entries = Ranked::new(ranks::LEAF, Vec::new());
        Ok(self.insert_handle(Handle::Directory { ino, entries }))
    }

    /// Returns the entries of an open directory from the `offset`th on, `.` and `..` first. Offset
    /// 0 takes a new listing; the others go on in it.
    ///
    /// # Errors
    /// `BadHandle`; errors of [`View::list`].
    pub fn read_dir(&self, id: HandleId, offset: u64) -> Result<Vec<DirEntry>> {
        let _use = self.last_use.begin();
        let handle = self.handle(id)?;
        let Handle::Directory { ino, entries } = &*handle else {
            return Err(Error::new(Kind::BadHandle, "not an open directory"));
        };
        if offset == 0 {
            let mut listing = self.dots(*ino);
            listing.extend(self.list(*ino)?);
            *entries.lock() = listing;
        }
        let skip = usize::try_from(offset).unwrap_or(usize::MAX);
        Ok(entries.lock().iter().skip(skip).cloned().collect())
    }

    fn dots(&self, ino: Ino) -> Vec<DirEntry> {
        let parent = self.tree().get(ino).map_or(ino, |node| node.parent);
        let dots = [(ino, "."), (parent, "..")];
        let entry = |(ino, name): (Ino, &str)| DirEntry {
            ino,
            kind: NodeKind::Directory,
            name: name.into(),
        };
        dots.map(entry).into()
    }
}
