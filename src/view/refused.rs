//! Calls that are not offered, and what `access(2)` and `statfs(2)` answer.

use std::ffi::OsStr;

use crate::error::{Error, Kind, Result};
use crate::store::Space;
use crate::view::open::no_files_here;
use crate::view::tree::{FileRole, Ino, Role, What};
use crate::view::{Attr, Caller, View, not_found};

impl View {
    /// Refuses to make a device node, a FIFO or a socket.
    ///
    /// # Errors
    /// Always `Forbidden`.
    pub fn mknod(&self, parent: Ino, name: &OsStr) -> Result<Attr> {
        let rule = "only files and directories can be made here";
        self.reported_in(parent, name, Err(Error::new(Kind::Forbidden, rule)))
    }

    /// Tells whether a node may be written or executed, as `access(2)` asks.
    ///
    /// # Errors
    /// `ReadOnlyFile`, `ReadOnlyTree` or `Forbidden` if it may not; `NotFound`.
    pub fn may_access(&self, ino: Ino, write: bool, execute: bool, caller: Caller) -> Result<()> {
        let (role, bits) = {
            let tree = self.tree();
            match &tree.get(ino).ok_or_else(not_found)?.what {
                What::File(file) => (file.role.clone(), self.file_stat(file).mode),
                What::Dir(dir) => match dir.role {
                    Role::Software(_) if write => return Err(no_files_here(&dir.role)),
                    _ => return Ok(()),
                },
                What::Alias(_) => return Ok(()),
            }
        };
        if execute && bits & 0o1 == 0 {
            return Err(Error::new(Kind::ReadOnlyFile, "not executable"));
        }
        if !write {
            return Ok(());
        }
        match role {
            FileRole::Software(_) => Err(no_files_here(&Role::Software(Vec::new()))),
            FileRole::Status | FileRole::Errors | FileRole::Rescued(_) => {
                Err(no_files_here(&Role::Dds))
            }
            FileRole::Document(_) => self.check_rules(ino, caller).map(drop),
            FileRole::Scratch | FileRole::Backup(..) | FileRole::Key(_) => Ok(()),
        }
    }

    /// Returns how much room the store's disk has.
    ///
    /// # Errors
    /// `Io` as the disk says.
    pub fn space(&self) -> Result<Space> {
        self.vault.store().space()
    }
}
