//! A syncer as Syncthing is: each device knows of every file which devices changed it how often;
//! what is newer goes over, and where nothing is newer a file beats a removal.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// `notes/<40 hex>.asc`.
pub type FileId = String;

/// The last change of each device, by the world's clock.
type Versions = BTreeMap<usize, u64>;

#[derive(Clone, Debug, PartialEq)]
struct Known {
    versions: Versions,
    there: bool,
}

/// What one device's syncer knows.
#[derive(Default)]
pub struct Syncer {
    known: BTreeMap<FileId, Known>,
    /// Files of which only a part has arrived.
    pub partial: BTreeSet<FileId>,
}

/// One file that is to go over.
#[derive(Clone, Debug)]
pub struct Change {
    pub file: FileId,
    known: Known,
}

impl Change {
    pub fn is_removal(&self) -> bool {
        !self.known.there
    }
}

fn is_newer(one: &Versions, other: &Versions) -> bool {
    one != other
        && other
            .iter()
            .all(|(device, version)| one.get(device).is_some_and(|own| own >= version))
}

fn merged(one: &Versions, other: &Versions) -> Versions {
    let mut both = one.clone();
    for (device, version) in other {
        let own = both.entry(*device).or_default();
        *own = (*own).max(*version);
    }
    both
}

/// The files of a store, without those that syncers never copy.
pub fn files(store: &Path) -> BTreeSet<FileId> {
    let mut files = BTreeSet::new();
    for folder in ["messages", "notes"] {
        for entry in fs::read_dir(store.join(folder)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if !name.starts_with('.') && !name.ends_with(".!sync") {
                files.insert(format!("{folder}/{name}"));
            }
        }
    }
    files
}

impl Syncer {
    /// Notices the changes in the device's own store.
    pub fn scan(&mut self, device: usize, store: &Path, clock: &mut u64) {
        let mut there = files(store);
        there.retain(|file| !self.partial.contains(file));
        let gone: Vec<_> = self
            .known
            .iter()
            .filter(|(file, known)| known.there && !there.contains(*file))
            .map(|(file, _)| file.clone())
            .collect();
        for file in gone {
            self.note(device, file, false, clock);
        }
        for file in there {
            if !self.known.get(&file).is_some_and(|known| known.there) {
                self.note(device, file, true, clock);
            }
        }
    }

    fn note(&mut self, device: usize, file: FileId, there: bool, clock: &mut u64) {
        *clock += 1;
        let known = self.known.entry(file).or_insert(Known {
            versions: Versions::new(),
            there,
        });
        known.there = there;
        known.versions.insert(device, *clock);
    }

    /// What this device would take over from another one. What both have alike is noted at once.
    pub fn wanted(&mut self, from: &Syncer) -> Vec<Change> {
        let mut changes = Vec::new();
        for (file, theirs) in &from.known {
            let change = Change {
                file: file.clone(),
                known: theirs.clone(),
            };
            let Some(own) = self.known.get_mut(file) else {
                changes.push(change);
                continue;
            };
            if theirs.versions == own.versions || is_newer(&own.versions, &theirs.versions) {
                continue;
            }
            let conflict = !is_newer(&theirs.versions, &own.versions);
            if own.there == theirs.there {
                own.versions = merged(&own.versions, &theirs.versions);
            } else if !conflict || theirs.there {
                changes.push(change);
            }
        }
        changes
    }

    /// Takes over one change. `bytes` is the content of the file.
    pub fn take(&mut self, store: &Path, change: Change, bytes: &[u8]) {
        let path = store.join(&change.file);
        if change.known.there {
            let (folder, name) = change.file.split_once('/').unwrap();
            let temporary = store.join(folder).join(format!(".syncthing.{name}.tmp"));
            fs::write(&temporary, bytes).unwrap();
            fs::rename(temporary, path).unwrap();
        } else {
            // It may never have been here.
            let _ = fs::remove_file(path);
        }
        self.partial.remove(&change.file);
        let own = self.known.remove(&change.file);
        let older = own.map(|own| own.versions).unwrap_or_default();
        let known = Known {
            versions: merged(&change.known.versions, &older),
            there: change.known.there,
        };
        self.known.insert(change.file, known);
    }

    /// The first bytes of a file arrive: under its own name, as some syncers write, or not.
    pub fn take_part(&mut self, store: &Path, change: &Change, bytes: &[u8], in_place: bool) {
        let part = &bytes[..bytes.len() / 2];
        let (folder, name) = change.file.split_once('/').unwrap();
        if in_place {
            fs::write(store.join(&change.file), part).unwrap();
            self.partial.insert(change.file.clone());
        } else {
            for name in [format!(".syncthing.{name}.tmp"), format!("{name}.!sync")] {
                fs::write(store.join(folder).join(name), part).unwrap();
            }
        }
    }

    /// Forgets everything.
    pub fn forget(&mut self) {
        self.known.clear();
    }
}
