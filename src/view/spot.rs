//! A name in a directory of an audience: where a document is, or will be.

use std::ffi::OsStr;

use crate::error::Result;
use crate::ids::Folder;
use crate::vault::Audience;
use crate::view::View;
use crate::view::rules::{no_files_here, not_found};
use crate::view::tree::layout::join;
use crate::view::tree::{Ino, Role};

/// A name in a directory of an audience.
#[derive(Clone)]
pub(in crate::view) struct Spot {
    pub(in crate::view) parent: Ino,
    pub(in crate::view) name: String,
    pub(in crate::view) folder: Folder,
    pub(in crate::view) audience: Audience,
    /// Path of the directory below the audience.
    directory: String,
}

impl Spot {
    pub(in crate::view) fn path(&self) -> String {
        join(&self.directory, &self.name)
    }

    pub(in crate::view) fn same_audience(&self, other: &Spot) -> bool {
        (self.folder, &self.audience) == (other.folder, &other.audience)
    }
}

impl View {
    /// Finds out where a name is, if files may be there at all.
    pub(in crate::view) fn spot(&self, parent: Ino, name: &OsStr) -> Result<Spot> {
        let tree = self.tree();
        let dir = tree.dir(parent).ok_or_else(not_found)?;
        let (folder, audience, directory) = match &dir.role {
            Role::Audience(folder, audience) => (*folder, audience, ""),
            Role::Sub(audience, path) => (Folder::Notes, audience, path.as_str()),
            other => return Err(no_files_here(other)),
        };
        Ok(Spot {
            parent,
            name: name.to_string_lossy().into_owned(),
            folder,
            audience: audience.clone(),
            directory: directory.to_owned(),
        })
    }
}
