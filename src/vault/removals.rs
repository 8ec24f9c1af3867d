//! Removing versions, and treating those that come back: a peer that was away for long may bring
//! anything, and whoever holds the store may bring it under another name, in another armor, with
//! other recipients. So a version is recognised by the data inside the encryption.
//!
//! A message that I removed is not shown again and is removed again. A removed note that returns is
//! shown: data is never destroyed on a guess. A replaced version that returns is shown only while
//! no newer one is there. `.dds/status` tells of each of them.

use std::collections::HashSet;
use std::sync::Arc;

use crate::error::Result;
use crate::ids::{BlobKind, Folder, Timestamp};
use crate::state::{Departure, Removal};
use crate::store::Entry;
use crate::vault::Vault;
use crate::vault::documents::Version;
use crate::vault::file_clock::{a_step_later, is_younger};
use crate::vault::known::slot_of;
use crate::vault::known::store_file::StoreFile;
use crate::vault::reports::Lasting;

const NOT_REMEMBERED: &str = "what was replaced cannot be remembered";

impl Vault {
    /// Removes versions from the store, at once, with all other files of the same versions:
    /// their document is gone.
    ///
    /// # Errors
    /// `Io` as the disk says. A file that is already gone is no error.
    pub fn remove(&self, versions: &[Arc<Version>]) -> Result<()> {
        // First the versions that these replaced, or a crash in between would bring them back.
        let folders: HashSet<Folder> = versions.iter().map(|version| version.folder()).collect();
        for folder in folders {
            self.replacements.flush_replaced(folder)?;
        }
        for version in versions {
            self.remove_one(version)?;
            loop {
                let twin = self.known().twins(version).pop();
                let Some(twin) = twin else { break };
                self.remove_one(&twin)?;
            }
        }
        Ok(())
    }

    fn remove_one(&self, version: &Version) -> Result<()> {
        self.known().taken.begin(version.id);
        let taken = self.take_away(version);
        self.known().taken.end(version.id);
        taken?;
        self.known().forget_version(version);
        self.replacements.note_removed(version.folder());
        Ok(())
    }

    fn take_away(&self, version: &Version) -> Result<()> {
        self.note_removed(version)?;
        // It is removed whether it can be kept or not.
        self.replacements.keeper.keep_removed(version);
        if let Err(error) = self.replacements.remove_unchanged(version) {
            // It is still there, and so it is not removed.
            self.memory.note_restored(version.file_id)?;
            return Err(error);
        }
        Ok(())
    }

    /// Remembers that a version is removed. Called before its blob is unlinked.
    fn note_removed(&self, version: &Version) -> Result<()> {
        self.memory.note_removed(&Removal {
            id: version.file_id,
            versions: version.ids.clone(),
            name: version.blob,
            lineage: version.key.lineage(),
            replaces: version.replaces.clone(),
            at: Timestamp::now(),
        })
    }

    /// Hides versions that others still read: they stay in the store.
    ///
    /// # Errors
    /// Any error of the state's disk.
    pub fn hide(&self, versions: &[Arc<Version>]) -> Result<()> {
        for version in versions {
            self.note_removed(version)?;
            let mut known = self.known();
            for twin in known.twins(version) {
                known.hide(&slot_of(&twin));
            }
            known.hide(&slot_of(version));
            drop(known);
            let sentence = format!(
                "blob {} has other readers: it is hidden here and stays in the store",
                version.blob
            );
            self.reports.report(sentence, Lasting::of(version));
        }
        Ok(())
    }

    /// Treats the versions that had left the store and are there again, before any is shown. Returns
    /// the files without those that were removed again.
    pub(super) fn without_returned(
        &self,
        files: Vec<(Entry, StoreFile)>,
    ) -> Vec<(Entry, StoreFile)> {
        files
            .into_iter()
            .filter_map(|(entry, file)| match file.version().cloned() {
                Some(version) if self.was_removed(&version) => {
                    self.treat_removed(entry, file, &version)
                }
                Some(version) => {
                    self.tell_if_replaced(&version);
                    Some((entry, file))
                }
                None => Some((entry, file)),
            })
            .collect()
    }

    fn was_removed(&self, version: &Version) -> bool {
        self.was_removed_itself(version) || {
            let lineage = version.key.lineage();
            let mut names = self.names_of(version).into_iter();
            names.any(|name| self.memory.is_removed_ancestor(name, lineage))
        }
    }

    /// Tells whether I removed this very version, as far as is remembered.
    pub(super) fn was_removed_itself(&self, version: &Version) -> bool {
        self.memory.is_removed(version.file_id) || self.memory.removed_as(&version.ids).is_some()
    }

    /// Tells of a version that newer ones replaced, that left the store, and that is there again.
    fn tell_if_replaced(&self, version: &Version) {
        let is_known = self.known().has(version);
        let replaced = self.was_replaced_at(version);
        // A file that a crash left there is older than that.
        if !is_known && replaced.is_some_and(|at| is_younger(version.entry.stamp.ctime, at)) {
            self.tell_returned(version);
        }
    }

    /// When a version left the store because a newer one of its document had replaced it.
    fn was_replaced_at(&self, version: &Version) -> Option<Timestamp> {
        let lineage = version.key.lineage();
        self.memory.replaced_at(&version.ids, lineage)
    }

    /// Tells whether a version left the store because a newer one of its document had replaced it.
    pub fn was_replaced(&self, version: &Version) -> bool {
        self.was_replaced_at(version).is_some()
    }

    fn tell_returned(&self, version: &Version) {
        let sentence = format!(
            "an old version came back as blob {}: a newer one replaced it, and it is shown only \
             while that is not there",
            version.blob
        );
        self.reports.report(sentence, Lasting::of(version));
    }

    /// Treats a version that I removed and that is there again.
    fn treat_removed(
        &self,
        entry: Entry,
        file: StoreFile,
        version: &Version,
    ) -> Option<(Entry, StoreFile)> {
        let blob = version.blob;
        match version.folder() {
            Folder::Notes => {
                let sentence = format!("note {blob} was removed here and came back; it is shown");
                self.reports.report(sentence, Lasting::of(version));
                Some((entry, file))
            }
            Folder::Messages if version.has_other_readers() => {
                Some((entry, StoreFile::hidden(file.stamp)))
            }
            Folder::Messages => match self.remove_again(&entry, version) {
                Ok(()) => {
                    self.replacements.note_removed(entry.folder);
                    let sentence = format!("message {blob} came back and was removed again");
                    self.reports.report(sentence, Lasting::over());
                    None
                }
                Err(error) => {
                    let sentence =
                        format!("message {blob} came back and cannot be removed: {error}");
                    self.reports.report(sentence, Lasting::of(version));
                    Some((entry, StoreFile::hidden(file.stamp)))
                }
            },
        }
    }

    fn remove_again(&self, entry: &Entry, version: &Version) -> Result<()> {
        if self.memory.removed_as(&version.ids).is_none() {
            // An older record, which knows its bytes or its name alone.
            self.note_removed(version)?;
        }
        self.remove_file(entry.folder, &entry.name)
    }

    /// Remembers the versions that left the store and were not removed here, and those that newer
    /// versions replaced. `.dds/status` tells if that fails.
    pub(super) fn remember_gone(&self, gone: &[Arc<Version>], new: &[Arc<Version>]) {
        let now = Timestamp::now();
        let mut departures = self.departures(gone, now);
        for version in new {
            departures.extend(self.replaced_earlier(version, now));
        }
        if departures.is_empty() {
            return;
        }
        match self.memory.note_departed(&departures) {
            Ok(()) => self.reports.withdraw(NOT_REMEMBERED),
            Err(error) => self
                .reports
                .report(format!("{NOT_REMEMBERED}: {error}"), Lasting::Mount),
        }
        let mut known = self.known();
        for version in gone {
            known.name_again(version);
        }
    }

    /// The records of versions that left the store.
    fn departures(&self, gone: &[Arc<Version>], now: Timestamp) -> Vec<Departure> {
        let known = self.known();
        let mut departures = Vec::new();
        for version in gone {
            let document = known.documents.get(&version.key);
            let replaced = document.is_some_and(|document| document.replaces(version));
            // Of messages that others removed nothing needs to be known.
            if replaced || version.kind == BlobKind::Note {
                departures.push(version.departure(replaced, now));
            }
        }
        departures
    }

    /// The records of remembered versions that a new one replaces. Some of them may still be there,
    /// and leave the store after this.
    fn replaced_earlier(&self, version: &Version, now: Timestamp) -> Vec<Departure> {
        let lineage = version.key.lineage();
        let remembered = version.replaces.iter().filter_map(|name| {
            let replaced = self.memory.version_called(*name, lineage)?;
            (replaced != version.id).then_some((*name, replaced))
        });
        let remembered: Vec<_> = remembered.collect();
        if remembered.is_empty() {
            return Vec::new();
        }
        let versions = self.versions(&version.key);
        let records = remembered.into_iter().map(|(name, replaced)| {
            let there = versions.iter().filter(|there| there.id == replaced);
            let made = there.map(|there| a_step_later(there.entry.stamp.ctime));
            Departure {
                version: replaced,
                name,
                lineage,
                replaced: true,
                at: made.max().map_or(now, |made| made.max(now)),
            }
        });
        records.collect()
    }

    /// As [`Vault::remember_gone`], for the versions that left the store while nobody looked.
    pub(super) fn remember_missed(&self, gone: &[Arc<Version>]) {
        self.remember_gone(gone, &[]);
        for version in gone {
            let there = self.versions(&version.key).into_iter();
            let there = there.filter(|there| there.id == version.id);
            if self.was_replaced(version) {
                there.for_each(|there| self.tell_returned(&there));
            }
        }
    }
}
