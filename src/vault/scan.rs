//! Taking in what lies in the store: one listing compared with what is known, new files opened
//! on all cores, the result applied at once.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use crate::error::{Kind, Result, printable};
use crate::ids::{Folder, Timestamp};
use crate::openpgp::{CertIndex, Facts, Outcome, SignatureStatus};
use crate::store::{Entry, Stamp};
use crate::vault::audience::People;
use crate::vault::describe::{describe, refused};
use crate::vault::documents::Version;
use crate::vault::{State, Vault, lock, openers};

/// Blobs above this size, and smaller ones that hold more, are opened one at a time, which bounds
/// memory.
const LARGE: u64 = 4 << 20;

/// One file in `messages/` or `notes/`.
pub(super) struct File {
    stamp: Stamp,
    /// The stamp was old enough when the file was read: an equal one means an unchanged file.
    proven: bool,
    what: What,
}

enum What {
    /// Not (yet) a whole OpenPGP message: invisible. When it was first seen so.
    Incomplete(Instant),
    /// No key of mine opens it: invisible.
    NotMine,
    /// It cannot be read: the sentence says why. Tried again at each refresh.
    Unreadable(String),
    /// A blob that I removed, and that others still read: invisible.
    Hidden,
    /// A blob of mine.
    Blob(Blob),
}

struct Blob {
    facts: Option<Arc<Facts>>,
    version: Arc<Version>,
}

impl File {
    pub(super) fn facts(&self) -> Option<&Arc<Facts>> {
        match &self.what {
            What::Blob(blob) => blob.facts.as_ref(),
            What::Incomplete(_) | What::NotMine | What::Hidden | What::Unreadable(_) => None,
        }
    }

    pub(super) fn version(&self) -> Option<&Arc<Version>> {
        match &self.what {
            What::Blob(blob) => Some(&blob.version),
            What::Incomplete(_) | What::NotMine | What::Hidden | What::Unreadable(_) => None,
        }
    }

    pub(super) fn of_blob(stamp: Stamp, facts: Arc<Facts>, version: Arc<Version>) -> File {
        let facts = Some(facts);
        File {
            stamp,
            proven: true,
            what: What::Blob(Blob { facts, version }),
        }
    }

    pub(super) fn hidden(stamp: Stamp) -> File {
        File {
            stamp,
            proven: true,
            what: What::Hidden,
        }
    }

    pub(super) fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// Takes note that the file was given another name: its time of change alone is a new one.
    pub(super) fn was_linked(&mut self, now: Stamp) {
        if now.is_same_file(&self.stamp) {
            self.stamp = now;
        }
    }

    /// Tells whether another set of certificates may change what is known of the blob.
    fn has_unknown_signer(&self) -> bool {
        self.facts().is_some_and(|facts| {
            let mut signatures = facts.signatures.iter();
            signatures.any(|signature| signature.status == SignatureStatus::UnknownKey)
        })
    }
}

impl Vault {
    /// Brings one folder up to date.
    pub(super) fn refresh_folder(&self, folder: Folder) -> Result<()> {
        // What is known before the listing: a file that we publish meanwhile is not missing.
        let known: HashSet<_> = {
            let state = self.state();
            let names = state
                .files
                .keys()
                .filter(|(in_folder, _)| *in_folder == folder);
            names.map(|(_, name)| name.clone()).collect()
        };
        let listed = self.store().list(folder)?;
        let names: HashSet<_> = listed.iter().map(|entry| &entry.name).collect();
        let (unknown, people, certificates) = {
            let mut state = self.state();
            let listed_or_elsewhere =
                |slot: &(Folder, _)| slot.0 != folder || names.contains(&slot.1);
            state.retired.retain(|slot, _| listed_or_elsewhere(slot));
            for name in known.iter().filter(|name| !names.contains(name)) {
                state.forget(&(folder, name.clone()));
            }
            let unknown: Vec<Entry> = listed
                .iter()
                .filter(|entry| state.needs_look(entry))
                .cloned()
                .collect();
            (
                unknown,
                Arc::clone(&state.people),
                Arc::clone(&state.certificates),
            )
        };
        let mut looked_at = self.look_at(&unknown, &people, &certificates);
        {
            let state = self.state();
            looked_at.retain(|(_, file)| !state.taken.has(file));
        }
        let looked_at = self.without_returned(looked_at);
        let mut state = self.state();
        for (entry, file) in looked_at {
            state.take_in(entry, file);
        }
        Ok(())
    }

    /// Judges all blobs anew after the pins changed. Blobs whose signer was unknown are opened
    /// again, which their session keys make cheap.
    pub(super) fn rejudge(&self) {
        let (people, certificates, blobs, again) = {
            let state = self.state();
            let mut blobs = Vec::new();
            let mut again = Vec::new();
            for file in state.files.values() {
                let Some(version) = file.version() else {
                    continue;
                };
                if file.has_unknown_signer() {
                    again.push(version.entry.clone());
                } else if let Some(facts) = file.facts() {
                    blobs.push((file.stamp, Arc::clone(facts), Arc::clone(version)));
                }
            }
            (
                Arc::clone(&state.people),
                Arc::clone(&state.certificates),
                blobs,
                again,
            )
        };
        let opened_again = self.look_at(&again, &people, &certificates);
        let mut state = self.state();
        for (stamp, facts, old) in blobs {
            let version = describe(old.entry.clone(), old.blob, old.id, &facts, &people);
            let entry = version.entry.clone();
            state.take_in(entry, File::of_blob(stamp, facts, Arc::new(version)));
        }
        for (entry, file) in opened_again {
            state.take_in(entry, file);
        }
    }

    /// Opens files on all cores; large ones one at a time.
    fn look_at(
        &self,
        entries: &[Entry],
        people: &People,
        certificates: &CertIndex,
    ) -> Vec<(Entry, File)> {
        let next = AtomicUsize::new(0);
        let large = Mutex::new(());
        let done = Mutex::new(Vec::with_capacity(entries.len()));
        let work = || {
            while let Some(entry) = entries.get(next.fetch_add(1, Ordering::Relaxed)) {
                let file = self.look_at_one(entry, people, certificates, &large);
                lock(&done).extend(file.map(|file| (entry.clone(), file)));
            }
        };
        let threads = openers().min(entries.len());
        if threads < 2 {
            work();
        } else {
            std::thread::scope(|scope| {
                for _ in 0..threads {
                    scope.spawn(work);
                }
            });
        }
        done.into_inner()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Opens one file. `None` if it went away or changed while it was read.
    fn look_at_one(
        &self,
        entry: &Entry,
        people: &People,
        certificates: &CertIndex,
        large: &Mutex<()>,
    ) -> Option<File> {
        let alone = (entry.stamp.size > LARGE).then(|| lock(large));
        let (examined, stamp) = match self.examine(entry, certificates, None) {
            Ok(read) => read,
            Err(error) => {
                let what = match error.kind() {
                    Kind::NotFound | Kind::Busy => return None,
                    _ => What::Unreadable(error.to_string()),
                };
                return Some(File {
                    stamp: entry.stamp,
                    proven: false,
                    what,
                });
            }
        };
        let entry = Entry {
            stamp,
            ..entry.clone()
        };
        let (blob, id) = (examined.name, examined.id);
        let refused = |why| {
            let version = refused(entry.clone(), blob, id, examined.recipients, why);
            What::Blob(Blob {
                facts: None,
                version: Arc::new(version),
            })
        };
        let what = match examined.outcome {
            Outcome::Opened(opened) => {
                let version = describe(entry.clone(), blob, id, &opened.facts, people);
                self.remember(id, &Arc::new(opened.content));
                What::Blob(Blob {
                    facts: Some(Arc::new(opened.facts)),
                    version: Arc::new(version),
                })
            }
            Outcome::NotMine => What::NotMine,
            Outcome::Incomplete => What::Incomplete(Instant::now()),
            Outcome::Refused(_) | Outcome::Damaged => refused(Kind::Damaged),
            Outcome::TooLarge => refused(Kind::TooLarge),
        };
        drop(alone);
        let proven = stamp.is_settled(Timestamp::now());
        Some(File {
            stamp,
            proven,
            what,
        })
    }

    /// Sentences about files that cannot be shown.
    pub(super) fn file_notices(&self) -> Vec<String> {
        let state = self.state();
        let mut notices: Vec<String> = state
            .files
            .iter()
            .filter_map(|((folder, name), file)| {
                let name = format!(
                    "{}/{}",
                    folder.name(),
                    printable(&name.as_os_str().to_string_lossy())
                );
                match &file.what {
                    What::Incomplete(since)
                        if since.elapsed() >= self.options.report_incomplete =>
                    {
                        Some(format!("{name} is not a whole OpenPGP message"))
                    }
                    What::Unreadable(why) => Some(format!("{name} cannot be read: {why}")),
                    What::Blob(Blob {
                        facts: Some(facts), ..
                    }) if facts.clock_ahead => {
                        Some(format!("{name} was signed ahead of this machine's clock"))
                    }
                    What::Incomplete(_) | What::NotMine | What::Hidden | What::Blob(_) => None,
                }
            })
            .collect();
        notices.sort();
        notices
    }
}

impl State {
    /// Tells whether a listed file is new, changed, or may have changed without a trace.
    ///
    /// What was opened is authentic whatever happens to the file. What was not may have been read
    /// while it was written: until its stamp is old enough to prove something, it is looked at
    /// again.
    fn needs_look(&self, entry: &Entry) -> bool {
        let Some(file) = self.files.get(&(entry.folder, entry.name.clone())) else {
            return true;
        };
        let sure = match &file.what {
            What::Unreadable(_) => false,
            What::Blob(Blob { facts: Some(_), .. }) | What::Hidden => true,
            What::Blob(Blob { facts: None, .. }) | What::Incomplete(_) | What::NotMine => {
                file.proven
            }
        };
        !sure || file.stamp != entry.stamp
    }

    /// Takes in what a file was found to be.
    pub(super) fn take_in(&mut self, entry: Entry, mut file: File) {
        let slot = (entry.folder, entry.name.clone());
        if self.taken.has(&file) {
            return;
        }
        if let Some(version) = file.version() {
            // Our own publication, found by a scan before its publisher recorded it.
            if version.mine && self.in_flight.contains_key(&version.key) {
                return;
            }
        }
        if let (
            What::Incomplete(now),
            Some(File {
                what: What::Incomplete(before),
                ..
            }),
        ) = (&mut file.what, self.files.get(&slot))
        {
            *now = *before;
        }
        if let Some(version) = file.version() {
            if self.retired.get(&slot) == Some(&version.id) {
                return;
            }
        }
        self.insert(entry, file);
    }

    /// Makes a publication that was just placed, or what a scan found, part of what is known.
    pub(super) fn insert(&mut self, entry: Entry, file: File) {
        let slot = (entry.folder, entry.name);
        self.forget(&slot);
        if let Some(version) = file.version() {
            let version = Arc::clone(version);
            self.bell.ring();
            self.changed.insert(version.key.clone());
            let document = self.documents.entry(version.key.clone()).or_default();
            document.add(version);
        }
        self.files.insert(slot, file);
    }

    /// Hides a blob that a publication replaced and that is about to be unlinked, where its
    /// replacement is another document and so cannot hide it itself.
    pub(super) fn retire(&mut self, version: &Version) {
        let slot = (version.folder(), version.entry.name.clone());
        self.forget_version(version);
        self.taken.end(version.id);
        self.retired.insert(slot, version.id);
    }

    /// What was retired is unlinked: only a listing from before may still have it.
    pub(super) fn unlinked(&mut self, version: &Version) {
        let slot = (version.folder(), version.entry.name.clone());
        if self.retired.remove(&slot).is_some() {
            self.taken.end(version.id);
        }
    }

    /// Forgets a version, but not another one that has taken its file meanwhile.
    pub(super) fn forget_version(&mut self, version: &Version) {
        let slot = (version.folder(), version.entry.name.clone());
        let there = self.files.get(&slot).and_then(File::version);
        if there.is_some_and(|there| there.id == version.id) {
            self.forget(&slot);
        }
    }

    /// Shows a file no longer that stays where it is.
    pub(super) fn hide(&mut self, slot: &(Folder, crate::store::FileName)) {
        if let Some(stamp) = self.files.get(slot).map(|file| file.stamp) {
            self.forget(slot);
            self.files.insert(slot.clone(), File::hidden(stamp));
        }
    }

    /// Forgets a file that is gone.
    pub(super) fn forget(&mut self, slot: &(Folder, crate::store::FileName)) {
        let Some(file) = self.files.remove(slot) else {
            return;
        };
        let Some(version) = file.version() else {
            return;
        };
        self.bell.ring();
        self.changed.insert(version.key.clone());
        if let Some(document) = self.documents.get_mut(&version.key) {
            document.remove(&version.entry);
            if document.is_empty() {
                self.documents.remove(&version.key);
            }
        }
    }
}
