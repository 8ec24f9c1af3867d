//! What went and what comes back: a peer that was away for long may bring anything, and whoever
//! holds the store may bring it under another name, in another armor, with other recipients. So it
//! is known by what is inside.
//!
//! A message that I removed is not shown again and is removed again. A removed note that returns is
//! shown: data is never destroyed on a guess. A replaced version that returns is shown only while
//! no newer one is there. All of it is told in `.dds/status`.

use std::collections::HashSet;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::error::Result;
use crate::ids::{BlobKind, Folder, Timestamp, VersionId};
use crate::state::{Departure, Lineage, Removal};
use crate::store::Entry;
use crate::vault::Vault;
use crate::vault::documents::{DocKey, Version};
use crate::vault::notices::Lasting;
use crate::vault::publish::twins;
use crate::vault::scan::File;

const NOT_REMEMBERED: &str = "what was replaced cannot be remembered";

/// The blobs that are being taken away, and those that were since the running refresh began: its
/// listing may be older.
#[derive(Default)]
pub(super) struct Taken {
    under_way: HashSet<VersionId>,
    done: HashSet<VersionId>,
}

impl Taken {
    /// Notes that a refresh begins: what was taken away before is in no listing of it.
    pub(super) fn forget_done(&mut self) {
        self.done.clear();
    }

    /// Notes that a blob is about to be taken away.
    pub(super) fn begin(&mut self, id: VersionId) {
        self.under_way.insert(id);
    }

    /// Notes that a blob was taken away, or that this failed.
    pub(super) fn end(&mut self, id: VersionId) {
        self.under_way.remove(&id);
        self.done.insert(id);
    }

    /// Tells whether a file is for the next look.
    pub(super) fn has(&self, file: &File) -> bool {
        let version = file.version();
        version.is_some_and(|one| self.under_way.contains(&one.id) || self.done.contains(&one.id))
    }
}

impl Vault {
    /// Remembers that a version is removed. Called before its blob goes.
    pub(super) fn note_removed(&self, version: &Version) -> Result<()> {
        self.state_dir.note_removed(&Removal {
            id: version.file_id,
            versions: version.ids.clone(),
            name: version.blob,
            lineage: lineage(&version.key),
            replaces: version.replaces.clone(),
            at: Timestamp::now(),
        })
    }

    /// Hides versions that others still read: they stay in the store.
    ///
    /// # Errors
    /// What the state's disk says.
    pub fn hide(&self, versions: &[Arc<Version>]) -> Result<()> {
        for version in versions {
            self.note_removed(version)?;
            let mut state = self.state();
            for same in twins(&state, version).iter().chain([version]) {
                state.hide(&(same.folder(), same.entry.name.clone()));
            }
            drop(state);
            let sentence = format!(
                "blob {} has other readers: it is hidden here and stays in the store",
                version.blob
            );
            self.tell(sentence, Lasting::of(version));
        }
        Ok(())
    }

    /// Treats what went and is there again, before it is shown.
    pub(super) fn without_returned(&self, files: Vec<(Entry, File)>) -> Vec<(Entry, File)> {
        files
            .into_iter()
            .filter_map(|(entry, file)| match file.version().cloned() {
                Some(version) if self.was_removed(&version) => self.treat(entry, file, &version),
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
            let lineage = lineage(&version.key);
            let names = self.state_dir.names_of(&version.ids, lineage);
            let mut names = names.into_iter().chain([version.blob]);
            names.any(|name| self.state_dir.is_removed_ancestor(name, lineage))
        }
    }

    /// Tells whether I removed this very version, as far as is remembered.
    pub(super) fn was_removed_itself(&self, version: &Version) -> bool {
        self.state_dir.is_removed(version.file_id)
            || self.state_dir.removed_as(&version.ids).is_some()
    }

    /// Tells of a version that newer ones replaced, that went, and that is there again.
    fn tell_if_replaced(&self, version: &Version) {
        let slot = (version.folder(), version.entry.name.clone());
        let known = {
            let state = self.state();
            let there = state.files.get(&slot).and_then(File::version);
            there.is_some_and(|there| there.id == version.id)
        };
        let went = self.was_replaced_at(version);
        // What a crash left there is older than that.
        if !known && went.is_some_and(|went| is_younger(version.entry.stamp.ctime, went)) {
            self.tell_returned(version);
        }
    }

    /// When a version went as a newer one of its document had replaced it.
    fn was_replaced_at(&self, version: &Version) -> Option<Timestamp> {
        let lineage = lineage(&version.key);
        self.state_dir.replaced_at(&version.ids, lineage)
    }

    /// Tells whether a version went as a newer one of its document had replaced it.
    pub fn was_replaced(&self, version: &Version) -> bool {
        self.was_replaced_at(version).is_some()
    }

    fn tell_returned(&self, version: &Version) {
        let sentence = format!(
            "an old version came back as blob {}: a newer one replaced it, and it is shown only \
             while that is not there",
            version.blob
        );
        self.tell(sentence, Lasting::of(version));
    }

    fn treat(&self, entry: Entry, file: File, version: &Version) -> Option<(Entry, File)> {
        let blob = version.blob;
        match version.folder() {
            Folder::Notes => {
                let sentence = format!("note {blob} was removed here and came back; it is shown");
                self.tell(sentence, Lasting::of(version));
                Some((entry, file))
            }
            Folder::Messages if version.has_other_readers() => {
                let hidden = File::hidden(file.stamp());
                Some((entry, hidden))
            }
            Folder::Messages => match self.remove_again(&entry, version) {
                Ok(()) => {
                    self.shared.published(entry.folder, Vec::new(), Vec::new());
                    let sentence = format!("message {blob} came back and was removed again");
                    self.tell(sentence, Lasting::over());
                    None
                }
                Err(error) => {
                    let sentence =
                        format!("message {blob} came back and cannot be removed: {error}");
                    self.tell(sentence, Lasting::of(version));
                    let hidden = File::hidden(file.stamp());
                    Some((entry, hidden))
                }
            },
        }
    }

    fn remove_again(&self, entry: &Entry, version: &Version) -> Result<()> {
        if self.state_dir.removed_as(&version.ids).is_none() {
            // An older record, which knows its bytes or its name alone.
            self.note_removed(version)?;
        }
        self.remove_file(entry.folder, &entry.name)
    }

    /// Remembers what is no longer in the store and was not removed here, and what newer versions
    /// replaced. What fails is told in `.dds/status`.
    pub(super) fn remember_gone(&self, gone: &[Arc<Version>], new: &[Arc<Version>]) {
        let now = Timestamp::now();
        let mut went = Vec::new();
        {
            let state = self.state();
            for version in gone {
                let document = state.documents.get(&version.key);
                let replaced = document.is_some_and(|document| document.replaces(version));
                // Of messages that others removed nothing needs to be known.
                if replaced || version.kind == BlobKind::Note {
                    went.push(went_of(version, replaced, now));
                }
            }
        }
        for version in new {
            let lineage = lineage(&version.key);
            let known = version.replaces.iter().filter_map(|name| {
                let known = self.state_dir.version_called(*name, lineage)?;
                (known != version.id).then_some((*name, known))
            });
            let known: Vec<_> = known.collect();
            if known.is_empty() {
                continue;
            }
            // Some may be there still, and go after this.
            let versions = self.versions(&version.key);
            for (name, known) in known {
                let there = versions.iter().filter(|there| there.id == known);
                let made = there.map(|there| later(there.entry.stamp.ctime)).max();
                went.push(Departure {
                    version: known,
                    name,
                    lineage,
                    replaced: true,
                    at: made.map_or(now, |made| made.max(now)),
                });
            }
        }
        if went.is_empty() {
            return;
        }
        match self.state_dir.note_departed(&went) {
            Ok(()) => self.no_longer(NOT_REMEMBERED),
            Err(error) => self.tell(format!("{NOT_REMEMBERED}: {error}"), Lasting::Mount),
        }
        let mut state = self.state();
        for version in gone {
            state.name_again(version);
        }
    }

    /// As [`Vault::remember_gone`], for what went while nobody looked.
    pub(super) fn remember_missed(&self, gone: &[Arc<Version>]) {
        self.remember_gone(gone, &[]);
        for version in gone {
            let lineage = lineage(&version.key);
            let there = self.versions(&version.key).into_iter();
            let there = there.filter(|there| there.id == version.id);
            if self.state_dir.replaced_at(&version.ids, lineage).is_some() {
                there.for_each(|there| self.tell_returned(&there));
            }
        }
    }
}

/// How far the clock of files, which goes in steps, may be behind the other one, in nanoseconds.
const STEP: u32 = 50_000_000;

/// Tells whether a file is younger than a moment, by the clock of files.
fn is_younger(file: Timestamp, moment: Timestamp) -> bool {
    later(file) > moment
}

/// A step of the clock of files later.
fn later(time: Timestamp) -> Timestamp {
    let nanos = time.nanos() + STEP;
    let seconds = time
        .seconds()
        .saturating_add((nanos / 1_000_000_000).into());
    Timestamp::new(seconds, nanos % 1_000_000_000).unwrap_or(time)
}

/// What is to be remembered of a version that went. If a crash leaves its file, that is not younger
/// than the moment that is remembered, however soon after it was made it went.
pub(super) fn went_of(version: &Version, replaced: bool, at: Timestamp) -> Departure {
    Departure {
        version: version.id,
        name: version.blob,
        lineage: lineage(&version.key),
        replaced,
        at: at.max(later(version.entry.stamp.ctime)),
    }
}

/// Digest of everything by which one version may replace another (DESIGN 6).
pub(super) fn lineage(key: &DocKey) -> Lineage {
    let mut digest = Sha256::new();
    match key {
        DocKey::Placed {
            kind,
            audience,
            doc,
            signer,
        } => {
            digest.update(kind.name());
            digest.update(doc.to_string());
            for key in audience.members().chain(signer) {
                digest.update([0]);
                digest.update(key.as_bytes());
            }
            digest.update([u8::from(signer.is_some())]);
        }
        DocKey::Single(folder, id) => {
            digest.update(folder.name());
            digest.update(id.as_bytes());
        }
    }
    Lineage::from_digest(digest.finalize().into())
}
