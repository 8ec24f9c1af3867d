//! Taking in what lies in the store: one listing compared with what is known, new files queued and
//! opened, the result applied at once.

mod clock;
pub(super) mod openings;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::error::{Error, Kind, Result, printable};
use crate::ids::{Folder, Timestamp};
use crate::openpgp::{CertIndex, ChangedKeys, Facts, Limits, Outcome, SessionKey};
use crate::store::{Entry, FileName, Stamp};
use crate::vault::audience::People;
use crate::vault::documents::{Unreadable, Version};
use crate::vault::judge::describe::{describe, refused};
use crate::vault::keys::folder::KeyFolder;
use crate::vault::removals::lineage;
use crate::vault::scan::openings::Opening;
use crate::vault::{State, Vault, lock, openers};

pub use clock::ThreadClock;

/// Processor time that what is opened for one look at the store may cost while somebody waits for it.
const COST: Duration = Duration::from_millis(100);
/// What is waited for once, at the beginning: a small store is all there when the mount is.
const FIRST_COST: Duration = Duration::from_secs(2);

/// Files with bad signatures of which is told one by one.
const MOST_BAD_TOLD: usize = 16;

/// One file in `messages/` or `notes/`.
pub(super) struct File {
    stamp: Stamp,
    /// The stamp was old enough when the file was read: an equal one means an unchanged file.
    proven: bool,
    /// It took long to be opened: that is done again only when it is certain to tell something.
    dear: bool,
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
            dear: false,
            what: What::Blob(Blob { facts, version }),
        }
    }

    pub(super) fn hidden(stamp: Stamp) -> File {
        File {
            stamp,
            proven: true,
            dear: false,
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

    /// Describes the blob as it is judged by other pins.
    fn describe_again(&mut self, people: &People) {
        if let What::Blob(Blob {
            facts: Some(facts),
            version,
        }) = &mut self.what
        {
            let (entry, blob, id) = (version.entry.clone(), version.blob, version.file_id);
            *version = Arc::new(describe(entry, blob, id, facts, people));
        }
    }

    /// Tells whether other certificates may change what is known of the blob.
    fn is_concerned(&self, changed: &ChangedKeys) -> bool {
        self.facts().is_some_and(|facts| {
            let mut signatures = facts.signatures.iter();
            signatures.any(|signature| changed.concern(signature))
        })
    }
}

/// What a folder was found to hold.
struct Listing {
    folder: Folder,
    /// What was known before: a file that we publish meanwhile is not missing.
    known: HashMap<FileName, Stamp>,
    names: HashSet<FileName>,
}

impl Vault {
    /// Looks at every folder of the store once, and takes in what is new. Each stands for itself:
    /// one that cannot be listed keeps what is known of it, and stops no other.
    pub(super) fn look_around(&self, keys: &mut KeyFolder) -> Result<()> {
        if self.openings.is_idle() {
            self.state().taken.forget_done();
        }
        let mut broken = BTreeMap::new();
        let mut failed = None;
        let listed = self.store().keys();
        let listed = listed.map_err(|error| note(&mut broken, "keys", error));
        let pinned = self.refresh_keys(keys, listed.ok());
        let mut listings = Vec::new();
        for folder in Folder::ALL {
            match self.list(folder) {
                Ok(listing) => listings.push(listing),
                Err(error) => {
                    failed = Some(Error::new(error.kind(), error.to_string()));
                    note(&mut broken, folder.name(), error);
                }
            }
        }
        let all_failed = broken.len() > Folder::ALL.len();
        self.state().broken = broken;
        self.open_queued();
        self.take_in_opened(&listings);
        self.listed.store(true, Ordering::SeqCst);
        self.note_scanned();
        pinned?;
        // The store itself is gone, or everything in it.
        failed.filter(|_| all_failed).map_or(Ok(()), Err)
    }

    /// Lists one folder, and queues what is new in it.
    fn list(&self, folder: Folder) -> Result<Listing> {
        let known = {
            let state = self.state();
            let files = state.files.iter();
            let files = files.filter(|((in_folder, _), _)| *in_folder == folder);
            files
                .map(|((_, name), file)| (name.clone(), file.stamp))
                .collect()
        };
        let listed = self.store().list(folder)?;
        let names: HashSet<_> = listed.iter().map(|entry| entry.name.clone()).collect();
        self.openings.keep_only(folder, &names);
        let unknown: Vec<Entry> = {
            let state = self.state();
            let unknown = listed.into_iter().filter(|entry| state.needs_look(entry));
            unknown.collect()
        };
        self.openings.queue(unknown);
        Ok(Listing {
            folder,
            known,
            names,
        })
    }

    /// Opens what is queued: on all cores and to the end, or, where threads are at work that do
    /// only that, as much as is cheap.
    fn open_queued(&self) {
        if self.openings.has_openers() {
            let first = match self.is_scanned() {
                true => Duration::ZERO,
                false => FIRST_COST,
            };
            return self.openings.wait_while_cheap(COST, first);
        }
        let work = || {
            while let Some(entry) = self.openings.try_next() {
                self.open_one(entry);
            }
        };
        let threads = openers().min(self.openings.pending());
        std::thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(work);
            }
            work();
        });
    }

    /// Leaves the opening of files to threads that are about to call [`Vault::open_files`]: from now
    /// on a look at the store waits for them only while that is cheap.
    pub fn hand_over_opening(&self) {
        self.openings.hand_over();
    }

    /// Opens what waits, one file after the other, until [`Vault::stop_opening`]; calls `opened`
    /// after each.
    pub fn open_files(&self, opened: impl Fn()) {
        let _opener = self.openings.enter();
        while let Some(entry) = self.openings.next() {
            self.open_one(entry);
            opened();
        }
    }

    /// Ends the opening of files, and every look at the store.
    pub fn stop_opening(&self) {
        self.openings.stop();
    }

    /// Takes in what was opened since the last look.
    pub fn take_in(&self) {
        let _keys = lock(&self.refreshing);
        self.take_in_opened(&[]);
        self.note_scanned();
        if self.openings.is_idle() {
            // What is missing is gone, and not just unopened: the history waits for that.
            self.state().bell.ring();
        }
    }

    fn note_scanned(&self) {
        let all_opened = self.listed.load(Ordering::SeqCst) && self.openings.is_idle();
        if all_opened && !self.scanned.swap(true, Ordering::SeqCst) {
            self.state().bell.ring();
        }
    }

    /// Takes in what was opened; in the folders that were listed, forgets what is gone.
    fn take_in_opened(&self, listings: &[Listing]) {
        let (people, certificates) = {
            let state = self.state();
            (Arc::clone(&state.people), Arc::clone(&state.certificates))
        };
        let mut opened = Vec::new();
        for one in self.openings.take_done() {
            let Opening { entry, file, .. } = one;
            let listing = listings.iter().find(|found| found.folder == entry.folder);
            let there = match listing {
                Some(listing) => listing.names.contains(&entry.name),
                // It was listed some time ago.
                None => self.store().stamp(entry.folder, &entry.name).is_ok(),
            };
            let Some(mut file) = file.filter(|_| there) else {
                continue;
            };
            if !Arc::ptr_eq(&one.certificates, &certificates) {
                let changed = certificates.changed_since(&one.certificates);
                if file.is_concerned(&changed) {
                    self.openings.queue_again(entry.clone());
                }
            }
            file.dear = one.was_dear;
            if !Arc::ptr_eq(&one.people, &people) {
                file.describe_again(&people);
            }
            opened.push((entry, file));
        }
        {
            let state = self.state();
            opened.retain(|(_, file)| !state.taken.has(file));
        }
        let opened = self.without_returned(opened);
        let new = opened.iter().filter_map(|(_, file)| file.version());
        let new: Vec<_> = new.cloned().collect();
        let mut gone = Vec::new();
        let mut state = self.state();
        for Listing {
            folder,
            known,
            names,
        } in listings
        {
            state
                .retired
                .retain(|(of, name), _| of != folder || names.contains(name));
            for (name, stamp) in known.iter().filter(|(name, _)| !names.contains(*name)) {
                let slot = (*folder, name.clone());
                let there = state.files.get(&slot);
                if let Some(file) = there.filter(|file| file.stamp == *stamp) {
                    gone.extend(file.version().cloned());
                    state.forget(&slot);
                }
            }
        }
        for (entry, file) in opened {
            state.take_in(entry, file);
        }
        drop(state);
        self.remember_gone(&gone, &new);
    }

    /// Judges all blobs anew after the pins changed. Blobs whose signers' certificates are other ones
    /// than before are opened again, which their session keys make cheap.
    pub(super) fn rejudge(&self, changed: &ChangedKeys) {
        let mut again = Vec::new();
        let mut state = self.state();
        let people = Arc::clone(&state.people);
        let mut judged = Vec::new();
        for file in state.files.values() {
            let Some(version) = file.version() else {
                continue;
            };
            if file.is_concerned(changed) {
                again.push(version.entry.clone());
            } else if let Some(facts) = file.facts() {
                judged.push((file.stamp, Arc::clone(facts), Arc::clone(version)));
            }
        }
        for (stamp, facts, old) in judged {
            let version = describe(old.entry.clone(), old.blob, old.file_id, &facts, &people);
            let entry = version.entry.clone();
            state.take_in(entry, File::of_blob(stamp, facts, Arc::new(version)));
        }
        drop(state);
        self.openings.queue(again);
    }

    /// Opens one file.
    fn open_one(&self, entry: Entry) {
        let (people, certificates, facts) = {
            let state = self.state();
            let known = state.files.get(&(entry.folder, entry.name.clone()));
            let facts = known.and_then(File::facts).cloned();
            let (people, certificates) = (&state.people, &state.certificates);
            (Arc::clone(people), Arc::clone(certificates), facts)
        };
        let session_key = facts.as_ref().map(|facts| &facts.session_key);
        let file = self.look_at(&entry, &people, &certificates, session_key);
        self.openings.finish(Opening {
            entry,
            file,
            people,
            certificates,
            was_dear: false,
        });
    }

    /// Opens one file. `None` if it went away or changed while it was read, or the work ends.
    fn look_at(
        &self,
        entry: &Entry,
        people: &People,
        certificates: &CertIndex,
        session_key: Option<&SessionKey>,
    ) -> Option<File> {
        let limits = Limits {
            stop: Some(self.openings.stopped()),
            ..self.limits()
        };
        let (examined, stamp) = match self.examine(entry, certificates, &limits, session_key) {
            Ok(read) => read,
            Err(error) => {
                let what = match error.kind() {
                    Kind::NotFound | Kind::Busy => return None,
                    _ => What::Unreadable(error.to_string()),
                };
                return Some(File {
                    stamp: entry.stamp,
                    proven: false,
                    dear: false,
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
            Outcome::Refused(why) => refused(Unreadable::Refused(why)),
            Outcome::Damaged => refused(Unreadable::Damaged),
            Outcome::TooLarge => refused(Unreadable::TooLarge),
        };
        let proven = stamp.is_settled(Timestamp::now());
        Some(File {
            stamp,
            proven,
            dear: false,
            what,
        })
    }

    /// Tells whether every file was opened once, as far as it can be.
    pub fn is_scanned(&self) -> bool {
        self.scanned.load(Ordering::SeqCst)
    }

    /// Number of files in the store that are not opened yet.
    pub fn unopened(&self) -> usize {
        self.openings.pending()
    }

    /// Tells whether what is known of the notes is all there is.
    pub(super) fn knows_all_notes(&self) -> bool {
        let listed = !self.state().broken.contains_key(Folder::Notes.name());
        listed && self.is_scanned() && self.openings.is_idle()
    }

    /// Sentences about folders of the store that cannot be used.
    pub fn broken_folders(&self) -> Vec<String> {
        let mut broken: Vec<String> = self.state().broken.values().cloned().collect();
        if let Err(error) = self.store().software_metadata(&[]) {
            if error.kind() != Kind::NotFound {
                broken.push(error.to_string());
            }
        }
        broken
    }

    /// Sentences about files that cannot be shown.
    pub(super) fn file_notices(&self) -> Vec<String> {
        let people = self.people();
        let mut bad = Vec::new();
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
                    What::Blob(Blob { version, .. }) if version.reason.is_some() => {
                        bad.push(bad_signature(&name, version, &people));
                        None
                    }
                    What::Incomplete(_) | What::NotMine | What::Hidden | What::Blob(_) => None,
                }
            })
            .collect();
        notices.sort();
        bad.sort();
        if bad.len() > MOST_BAD_TOLD {
            let more = bad.len() - MOST_BAD_TOLD;
            bad.truncate(MOST_BAD_TOLD);
            bad.push(format!("{more} more files have bad signatures"));
        }
        notices.extend(bad);
        notices
    }
}

fn bad_signature(name: &str, version: &Version, people: &People) -> String {
    let signer = version.signer.as_ref().map(|key| people.name(key));
    let signer = signer.map_or_else(String::new, |signer| format!(" of {signer}"));
    let reason = version.reason.as_deref().unwrap_or_default();
    format!(
        "{name}: the signature{signer} is bad: {}",
        printable(reason)
    )
}

/// Notes why a folder cannot be listed.
fn note(broken: &mut BTreeMap<&'static str, String>, folder: &'static str, why: Error) {
    broken.insert(folder, why.to_string());
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
        let is_settled = || entry.stamp.is_settled(Timestamp::now());
        let look_again = !sure && (!file.dear || is_settled());
        look_again || file.stamp != entry.stamp
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
            if let Some(audience) = version.audience() {
                let written_to = audience.members().filter(|_| version.mine);
                self.in_touch
                    .extend(written_to.chain(&version.signer).cloned());
            }
            self.changed.insert(version.key.clone());
            let document = self.documents.entry(version.key.clone()).or_default();
            document.add(Arc::clone(&version));
            self.name_again(&version);
        }
        self.files.insert(slot, file);
    }

    /// Takes in what is remembered of the names of a version, if it is there.
    pub(super) fn name_again(&mut self, version: &Version) {
        let Some(document) = self.documents.get_mut(&version.key) else {
            return;
        };
        if document.has(version.id) {
            let names = self.memory.names_of(&version.ids, lineage(&version.key));
            if document.add_names(version.id, names) {
                self.changed.insert(version.key.clone());
            }
        }
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
