//! One call of a view: nothing goes from the store that nobody let go, and nothing is published
//! but where it was written.

use std::fs;

use dds::ids::{BlobKind, BlobName};

use super::device::Device;
use super::oracle::Oracle;
use super::run::{Different, Place, World};
use super::syncer::files;
use crate::support::rig::{Done, Rig as _};

/// What one call may do.
#[derive(Default)]
pub struct May {
    /// Where it publishes.
    pub place: Option<Place>,
    /// What its publications may replace.
    pub replace: Vec<BlobName>,
    /// What it removes.
    pub remove: Option<BlobName>,
    /// What it removes if nothing took its place since it was renamed away.
    pub backup: Option<BlobName>,
}

/// What one call did.
pub struct Did {
    pub done: Done<()>,
    /// Files' blobs that it published.
    pub new: Vec<BlobName>,
}

/// Refusals that a person may meet. Anything else is a failure.
pub const REFUSALS: [i32; 10] = [
    libc::ENOENT,
    libc::EEXIST,
    libc::EACCES,
    libc::EPERM,
    libc::EXDEV,
    libc::EISDIR,
    libc::ENOTDIR,
    libc::ENOTEMPTY,
    libc::EBUSY,
    libc::EINVAL,
];

impl World<'_> {
    /// Calls the view, and looks at the store afterwards.
    pub fn act(
        &mut self,
        device: usize,
        may: May,
        call: impl FnOnce(&mut Device) -> Done<()>,
    ) -> Result<Did, Different> {
        let before = files(&self.devices[device].store);
        let done = call(&mut self.devices[device]);
        if let Err(errno) = done {
            if !REFUSALS.contains(&errno) {
                return Err(refused(errno));
            }
        }
        let after = files(&self.devices[device].store);
        let owner = self.devices[device].owner.expect("only owners act");
        let mut records = Vec::new();
        for file in after.difference(&before) {
            let bytes = fs::read(self.devices[device].store.join(file)).unwrap();
            let blob = BlobName::of(&bytes);
            let record = Oracle::describe(self.cast, owner, &bytes)?;
            let expected = format!("{}/{}", record.folder(), blob.file_name());
            let placed = may.place.as_ref().is_none_or(|place| {
                place.folder == record.folder() && place.members == record.members
            });
            if *file != expected || !placed || record.signer != owner {
                return Err(format!("{file} was published, which is {record:?}"));
            }
            self.oracle.add_file(file.clone(), bytes);
            records.push((blob, record));
        }
        records.sort_by_key(|(blob, _)| *blob);
        let is_file = |kind| kind != BlobKind::Directory;
        let new: Vec<_> = records.iter().filter(|(_, r)| is_file(r.kind)).collect();
        let new: Vec<_> = new.into_iter().map(|(blob, _)| *blob).collect();
        if let Some(first) = new.first() {
            for old in &may.replace {
                for alike in self.oracle.alike(*old) {
                    self.oracle.excuse(alike, &format!("replaced by {first}"));
                }
            }
        }
        for (blob, record) in records {
            let made = may.replace.clone();
            self.devices[device].made.insert(blob, made);
            self.oracle.records.insert(blob, record);
        }
        if done.is_ok() {
            if let Some(shown) = may.remove {
                self.oracle.excuse(shown, &format!("removed by {owner}"));
                self.note_removed(device, shown);
            }
        }
        for file in before.difference(&after) {
            self.check_vanished(device, file, may.remove.or(may.backup))?;
        }
        Ok(Did { done, new })
    }

    fn check_vanished(
        &mut self,
        device: usize,
        file: &str,
        removed: Option<BlobName>,
    ) -> Result<(), Different> {
        let blob = self.oracle.blob_of(file);
        let owner = self.devices[device].owner.unwrap();
        let Some(record) = self.oracle.records.get(&blob) else {
            return Err(format!("{file} vanished, of which {owner} knows nothing"));
        };
        if record.kind == BlobKind::Directory {
            return Ok(());
        }
        let asked = removed
            .and_then(|removed| self.oracle.records.get(&removed))
            .is_some_and(|removed| removed.is_alike(record));
        if asked {
            self.oracle.excuse(blob, &format!("removed by {owner}"));
            self.note_removed(device, blob);
        } else if record.excuse.is_none() {
            return Err(format!("{file} vanished, which was {record:?}"));
        }
        Ok(())
    }

    /// Neither a removed message comes back nor one that it had replaced.
    fn note_removed(&mut self, device: usize, blob: BlobName) {
        let Some(record) = self.oracle.records.get(&blob) else {
            return;
        };
        if record.kind != BlobKind::Message {
            return;
        }
        let owner = self.devices[device].owner;
        let same = |old: &&BlobName| {
            let old = self.oracle.records.get(old);
            old.is_some_and(|old| {
                // What another reader alone can open is nobody's to remove here.
                let opens = old.reader.is_none_or(|reader| Some(reader) == owner)
                    || Some(old.signer) == owner;
                let same = (old.doc, old.signer, &old.members)
                    == (record.doc, record.signer, &record.members);
                opens && same
            })
        };
        let older: Vec<_> = record.replaces.iter().filter(same).copied().collect();
        let removed = &mut self.devices[device].removed;
        removed.insert(blob);
        removed.extend(older);
    }

    /// What a save by a program under a path may replace: what it saw there last, and what it
    /// never saw only if it never read that document, or if programs here made it.
    pub fn may_replace(&self, device: usize, group: u32, path: &str) -> Vec<BlobName> {
        let one = &self.devices[device];
        // Loads the content, so that nothing is refreshed between this and the save.
        let _ = one.rig().read(path);
        let current = one.blob_at(path);
        let seen = one.seen.get(&(group, path.to_owned())).copied();
        let mut may: Vec<_> = seen.into_iter().collect();
        match (seen, current) {
            (Some(seen), Some(current)) if !self.is_unseen(one, seen, current) => may.push(current),
            (None, Some(current)) => may.push(current),
            (_, Some(_)) => {}
            (_, None) => may.extend(one.backups.get(path).into_iter().flatten()),
        }
        if path.contains(" (conflict, ") {
            // Its change settles the conflict. How far is the subject of tests of its own.
            let doc = |blob: &BlobName| self.oracle.records.get(blob).map(|record| record.doc);
            let beside = one.below(path.rsplit_once('/').unwrap().0);
            let heads = beside.iter().filter_map(|path| one.blob_at(path));
            may.extend(heads.filter(|head| current.is_some_and(|c| doc(&c) == doc(head))));
        }
        let slots = one.open.values().filter(|slot| slot.path == path);
        may.extend(slots.flat_map(|slot| &slot.may_replace));
        may
    }

    fn is_unseen(&self, device: &Device, seen: BlobName, current: BlobName) -> bool {
        let doc = |blob| self.oracle.records.get(&blob).map(|record| record.doc);
        if doc(seen) != doc(current) {
            return false;
        }
        let known = self.oracle.alike(seen);
        let (mut open, mut done, mut arrived) = (self.oracle.alike(current), vec![], false);
        while let Some(blob) = open.pop() {
            if known.contains(&blob) {
                return false;
            }
            if !done.contains(&blob) {
                done.push(blob);
                match device.made.get(&blob) {
                    Some(older) => open.extend(older),
                    None => arrived = true,
                }
            }
        }
        arrived
    }

    /// A version published under a path has been seen by its publisher, and by each program that
    /// has the file open.
    pub fn published(&mut self, device: usize, group: u32, path: &str, new: &[BlobName]) {
        let one = &mut self.devices[device];
        let Some(first) = new.first() else {
            return;
        };
        one.seen.insert((group, path.to_owned()), *first);
        for (group, slot) in &mut one.open {
            if slot.path == path {
                slot.may_replace.extend(new);
                one.seen.insert((*group, path.to_owned()), *first);
            }
        }
        one.backups.remove(path);
    }
}

pub fn refused(errno: i32) -> Different {
    format!("refused: {}", std::io::Error::from_raw_os_error(errno))
}
