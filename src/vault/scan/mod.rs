//! Taking in the files of the store: a listing is compared with the known files, new files are queued
//! and opened, and the result is applied at once.

mod clock;
pub(super) mod openings;
mod problems;
pub(super) mod progress;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::ids::Folder;
use crate::openpgp::ChangedKeys;
use crate::store::{Entry, FileName, Stamp};
use crate::vault::Vault;
use crate::vault::keys::folder::KeyFolder;
use crate::vault::known::store_file::StoreFile;
use crate::vault::scan::openings::Opening;
use crate::vault::worker::cores;

pub use clock::ThreadClock;

/// Processor time that one refresh may spend on opening files while somebody waits for it.
const COST: Duration = Duration::from_millis(100);
/// The same for the first refreshes together: a small store is all there when the mount is.
const FIRST_COST: Duration = Duration::from_secs(2);

/// The files that a folder was found to have.
struct Listing {
    folder: Folder,
    /// The known files before: a file that we publish meanwhile is not missing.
    known: HashMap<FileName, Stamp>,
    names: HashSet<FileName>,
}

impl Vault {
    /// Lists every folder of the store once, and takes in the new files. Each folder stands for
    /// itself: the knowledge of one that cannot be listed stays, and the others are listed.
    pub(super) fn scan(&self, keys: &mut KeyFolder) -> Result<()> {
        if self.progress.openings.is_idle() {
            self.known().taken.forget_done();
        }
        let mut broken = BTreeMap::new();
        let mut failed = None;
        let listed = self.store.keys();
        let listed = listed.map_err(|error| note(&mut broken, "keys", &error));
        let pinned = self.refresh_keys(keys, listed.ok());
        let mut listings = Vec::new();
        for folder in Folder::ALL {
            match self.list(folder) {
                Ok(listing) => listings.push(listing),
                Err(error) => {
                    note(&mut broken, folder.name(), &error);
                    failed = Some(error);
                }
            }
        }
        let all_failed = broken.len() > Folder::ALL.len();
        self.known().broken = broken;
        self.open_queued();
        self.take_in_opened(&listings);
        self.progress.listed.store(true, Ordering::SeqCst);
        self.note_scanned();
        pinned?;
        // The store itself is gone, or everything in it.
        failed.filter(|_| all_failed).map_or(Ok(()), Err)
    }

    /// Lists one folder, and queues its new files.
    fn list(&self, folder: Folder) -> Result<Listing> {
        let known = {
            let known = self.known();
            let files = known.files.iter();
            let files = files.filter(|((in_folder, _), _)| *in_folder == folder);
            files
                .map(|((_, name), file)| (name.clone(), file.stamp))
                .collect()
        };
        let listed = self.store.list(folder)?;
        let names: HashSet<_> = listed.iter().map(|entry| entry.name.clone()).collect();
        self.progress.openings.keep_only(folder, &names);
        let unknown: Vec<Entry> = {
            let known = self.known();
            let unknown = listed.into_iter().filter(|entry| known.must_read(entry));
            unknown.collect()
        };
        self.progress.openings.queue(unknown);
        Ok(Listing {
            folder,
            known,
            names,
        })
    }

    /// Opens the queued files: on all cores and to the end, or, where other threads do only that,
    /// as many as are cheap.
    fn open_queued(&self) {
        let openings = &self.progress.openings;
        if openings.has_openers() {
            let first = match self.is_scanned() {
                true => Duration::ZERO,
                false => FIRST_COST,
            };
            return openings.wait_while_cheap(COST, first);
        }
        let work = || {
            while let Some(entry) = openings.try_next() {
                self.open_one(entry);
            }
        };
        let threads = cores().min(openings.pending());
        std::thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(work);
            }
            work();
        });
    }

    /// Leaves the opening of files to threads that are about to call [`Vault::open_files`]: from now
    /// on a refresh waits for them only while that is cheap.
    pub fn hand_over_opening(&self) {
        self.progress.openings.hand_over();
    }

    /// Opens the waiting files, one after the other, until [`Vault::stop_opening`]; calls `opened`
    /// after each.
    pub fn open_files(&self, opened: impl Fn()) {
        let _opener = self.progress.openings.enter();
        while let Some(entry) = self.progress.openings.next() {
            self.open_one(entry);
            opened();
        }
    }

    /// Ends the opening of files, and every refresh.
    pub fn stop_opening(&self) {
        self.progress.openings.stop();
    }

    /// Takes in the files that were opened since the last refresh.
    pub fn take_in(&self) {
        let _keys = self.refreshing.lock();
        self.take_in_opened(&[]);
        self.note_scanned();
        if self.progress.openings.is_idle() {
            // A missing note is gone now, and not just unopened: the history waits for that.
            self.known().wakeup.ring();
        }
    }

    fn note_scanned(&self) {
        let progress = &self.progress;
        let all_opened = progress.listed.load(Ordering::SeqCst) && progress.openings.is_idle();
        if all_opened && !progress.scanned.swap(true, Ordering::SeqCst) {
            self.known().wakeup.ring();
        }
    }

    /// Takes in the opened files, and forgets those that are missing in a listing.
    fn take_in_opened(&self, listings: &[Listing]) {
        let opened = self.judge_opened(listings);
        let opened = self.without_returned(opened);
        let new = opened.iter().filter_map(|(_, file)| file.version());
        let new: Vec<_> = new.cloned().collect();
        let mut gone = Vec::new();
        let mut known = self.known();
        for listing in listings {
            let Listing { folder, names, .. } = listing;
            known.keep_retired(*folder, names);
            let missing = listing.known.iter();
            for (name, stamp) in missing.filter(|(name, _)| !names.contains(*name)) {
                let slot = (*folder, name.clone());
                let there = known.files.get(&slot);
                if let Some(file) = there.filter(|file| file.stamp == *stamp) {
                    gone.extend(file.version().cloned());
                    known.forget(&slot);
                }
            }
        }
        for (entry, file) in opened {
            known.take_in(entry, file);
        }
        drop(known);
        self.remember_gone(&gone, &new);
    }

    /// Judges the opened files that are still in the store and not being taken away.
    fn judge_opened(&self, listings: &[Listing]) -> Vec<(Entry, StoreFile)> {
        let (people, certificates) = {
            let known = self.known();
            (Arc::clone(&known.people), Arc::clone(&known.certificates))
        };
        let mut judged = Vec::new();
        for opening in self.progress.openings.take_done() {
            let Opening { entry, learned, .. } = opening;
            let Some(learned) = learned.filter(|_| self.is_there(&entry, listings)) else {
                continue;
            };
            let mut file = StoreFile::judged(&entry, learned, &people);
            if !Arc::ptr_eq(&opening.certificates, &certificates) {
                let changed = certificates.changed_since(&opening.certificates);
                if file.is_concerned(&changed) {
                    self.progress.openings.queue_again(entry.clone());
                }
            }
            file.costly = opening.was_costly;
            judged.push((entry, file));
        }
        let known = self.known();
        judged.retain(|(_, file)| !known.taken.has(file));
        judged
    }

    fn is_there(&self, entry: &Entry, listings: &[Listing]) -> bool {
        match listings.iter().find(|one| one.folder == entry.folder) {
            Some(listing) => listing.names.contains(&entry.name),
            // It was listed some time ago.
            None => self.store.stamp(entry.folder, &entry.name).is_ok(),
        }
    }

    /// Judges all blobs anew after the pins changed. Blobs whose signers' certificates are other ones
    /// than before are opened again, which their session keys make cheap.
    pub(super) fn judge_again(&self, changed: &ChangedKeys) {
        let again = self.known().judge_again(changed);
        self.progress.openings.queue(again);
    }

    /// Opens one file.
    fn open_one(&self, entry: Entry) {
        let openings = &self.progress.openings;
        let (certificates, facts) = {
            let known = self.known();
            let file = known.files.get(&(entry.folder, entry.name.clone()));
            let facts = file.and_then(StoreFile::facts).cloned();
            (Arc::clone(&known.certificates), facts)
        };
        let stop = openings.stopped();
        let learned = self
            .learner
            .learn(&entry, &certificates, facts.as_deref(), stop);
        openings.finish(Opening {
            entry,
            learned,
            certificates,
            was_costly: false,
        });
    }

    /// Tells whether every file was opened once, as far as it can be.
    pub fn is_scanned(&self) -> bool {
        self.progress.scanned.load(Ordering::SeqCst)
    }

    /// Number of files in the store that are not opened yet.
    pub fn unopened(&self) -> usize {
        self.progress.openings.pending()
    }

    /// Tells whether all notes in the store are known.
    pub(super) fn knows_all_notes(&self) -> bool {
        let listed = !self.known().broken.contains_key(Folder::Notes.name());
        listed && self.is_scanned() && self.progress.openings.is_idle()
    }
}

/// Notes why a folder cannot be listed.
fn note(broken: &mut BTreeMap<&'static str, String>, folder: &'static str, why: &Error) {
    broken.insert(folder, why.to_string());
}
