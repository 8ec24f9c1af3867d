//! The versions that are being taken away: a listing that began earlier must not bring them back.

use std::collections::HashSet;

use crate::ids::VersionId;
use crate::vault::known::store_file::StoreFile;

/// The versions that are being taken away, and those that were since the running refresh began: its
/// listing may be older.
#[derive(Default)]
pub(in crate::vault) struct Taken {
    under_way: HashSet<VersionId>,
    done: HashSet<VersionId>,
}

impl Taken {
    /// Notes that a refresh begins: its listing has nothing of the versions taken away before.
    pub(in crate::vault) fn forget_done(&mut self) {
        self.done.clear();
    }

    /// Notes that a version is about to be taken away.
    pub(in crate::vault) fn begin(&mut self, id: VersionId) {
        self.under_way.insert(id);
    }

    /// Notes that a version was taken away, or that this failed.
    pub(in crate::vault) fn end(&mut self, id: VersionId) {
        self.under_way.remove(&id);
        self.done.insert(id);
    }

    /// Tells whether a file must wait for the next refresh.
    pub(in crate::vault) fn has(&self, file: &StoreFile) -> bool {
        let version = file.version();
        version.is_some_and(|one| self.under_way.contains(&one.id) || self.done.contains(&one.id))
    }
}
