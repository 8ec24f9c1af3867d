//! What syncers and machines do: changes go over, copies come back, disks are lost.

use std::collections::BTreeSet;
use std::fs;
use std::mem;

use dds::ids::BlobName;

use super::run::World;
use super::steps::{Links, Nth};
use super::syncer::{Change, FileId, files};

impl World<'_> {
    /// Two devices that are connected: from which to which.
    pub fn link(&self, from: Nth, to: Nth) -> Option<(usize, usize)> {
        let count = self.devices.len();
        let (from, to) = match self.links {
            Links::Mesh => (from % count, to % count),
            Links::Star => {
                let (relay, one) = (count - 1, from % (count - 1));
                match to % 2 {
                    0 => (one, relay),
                    _ => (relay, one),
                }
            }
        };
        (from != to).then_some((from, to))
    }

    /// What a device would take over from another, in an order that the number decides.
    fn wanted(&mut self, from: usize, to: usize, order: u64) -> Vec<Change> {
        for device in [from, to] {
            let one = &mut self.devices[device];
            one.syncer.scan(device, &one.store, &mut self.clock);
        }
        let mut syncer = mem::take(&mut self.devices[to].syncer);
        let mut changes = syncer.wanted(&self.devices[from].syncer);
        self.devices[to].syncer = syncer;
        let mut random = order;
        for end in (1..changes.len()).rev() {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            changes.swap(end, (random >> 33) as usize % (end + 1));
        }
        changes
    }

    /// Takes changes over. Returns how many.
    pub fn sync(&mut self, from: usize, to: usize, most: usize, order: u64) -> usize {
        let mut changes = self.wanted(from, to, order);
        changes.truncate(most);
        let count = changes.len();
        for change in changes {
            let one = &mut self.devices[to];
            let bytes = match change.is_removal() {
                true => &[],
                false => self.oracle.bytes(&change.file),
            };
            one.syncer.take(&one.store, change, bytes);
        }
        count
    }

    pub fn part(&mut self, from: usize, to: usize, order: u64) {
        let changes = self.wanted(from, to, order);
        if let Some(change) = changes.iter().find(|change| !change.is_removal()) {
            let one = &mut self.devices[to];
            let bytes = self.oracle.bytes(&change.file);
            let in_place = order % 2 == 0;
            one.syncer.take_part(&one.store, change, bytes, in_place);
        }
    }

    /// Syncers remove the parts of files whose rest never came.
    pub fn give_up_parts(&mut self) {
        for one in &mut self.devices {
            for file in mem::take(&mut one.syncer.partial) {
                // It may have been removed, as part of a file that was.
                let _ = fs::remove_file(one.store.join(file));
            }
        }
    }

    fn excuse_files(&mut self, files: impl IntoIterator<Item = FileId>, why: &str) {
        for file in files {
            let blob = self.oracle.blob_of(&file);
            self.oracle.excuse(blob, why);
        }
    }

    /// The blobs of which no other device has a whole file in the same folder.
    fn only_here(&self, device: usize) -> Vec<FileId> {
        let place = |file: &FileId| {
            let (folder, _) = file.split_once('/').unwrap();
            (folder.to_owned(), self.oracle.blob_of(file))
        };
        let others = self.devices.iter().enumerate();
        let others = others.filter(|(other, _)| *other != device);
        let elsewhere: BTreeSet<(String, BlobName)> = others
            .flat_map(|(_, other)| {
                let mut whole = files(&other.store);
                whole.retain(|file| !other.syncer.partial.contains(file));
                whole
            })
            .map(|file| place(&file))
            .collect();
        let mut here = files(&self.devices[device].store);
        here.retain(|file| !elsewhere.contains(&place(file)));
        here.into_iter().collect()
    }

    /// The copy of a store takes its place.
    pub fn restore(&mut self, device: usize, forgets: bool) {
        let Some(copy) = self.devices[device].copy.clone() else {
            return;
        };
        let mut lost = match forgets {
            // What the syncer does not miss it gets again.
            true => self.only_here(device),
            false => files(&self.devices[device].store).into_iter().collect(),
        };
        lost.retain(|file| !copy.contains(file));
        self.excuse_files(lost, "not in the copy that was restored");
        let store = self.devices[device].store.clone();
        let oracle = &self.oracle;
        self.devices[device].crash(|| {
            for file in files(&store) {
                fs::remove_file(store.join(file)).unwrap();
            }
            for file in &copy {
                fs::write(store.join(file), oracle.bytes(file)).unwrap();
            }
        });
        let syncer = &mut self.devices[device].syncer;
        syncer.partial.clear();
        if forgets {
            syncer.forget();
        }
    }

    /// A disk is lost, and with it the index of the syncer.
    pub fn lose(&mut self, device: usize, state: bool) {
        let lost = self.only_here(device);
        self.excuse_files(lost, "lost with a disk");
        let one = &mut self.devices[device];
        let (store, state_dir) = (one.store.clone(), one.home.join("state"));
        one.crash(|| {
            for file in files(&store) {
                fs::remove_file(store.join(file)).unwrap();
            }
            if state {
                // A device that nobody uses has none.
                let _ = fs::remove_dir_all(state_dir);
            }
        });
        one.syncer.partial.clear();
        one.syncer.forget();
        if state {
            one.removed.clear();
        }
    }

    /// A device that was away for long brings a file again.
    pub fn bring_back(&mut self, device: usize, nth: Nth) {
        if let Some((file, bytes)) = self.oracle.nth_file(nth) {
            let one = &mut self.devices[device];
            fs::write(one.store.join(file), bytes).unwrap();
            one.syncer.partial.remove(file);
        }
    }
}
