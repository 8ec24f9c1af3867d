//! Takes each step in the view and in the reference, and compares all that can be seen.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, SystemTime};

use dds::ids::{BlobName, DocId};
use dds::openpgp::CertIndex;
use dds::view::{Access, HandleId};

use super::documents::{Vid, Who};
use super::peers;
use super::reference::{Errno, Handle, How, Model, Node, area, split};
use super::steps::{At, Step};
use crate::support::mount::Home;
use crate::support::people::make_store;
use crate::support::rig::{Cast, InProcess, Rig as _};

/// What differs, in words.
pub type Different = String;

pub struct World<'a> {
    pub cast: &'a Cast,
    pub rig: InProcess,
    pub model: Model,
    pub handles: Vec<Option<HandleId>>,
    /// Names of backups that other files had since.
    taken: BTreeSet<String>,
    /// Every blob that was seen in the store, in order, with the version that it holds.
    pub seen: Vec<(BlobName, Vid)>,
    pub archive: BTreeMap<BlobName, Vec<u8>>,
    pub certificates: CertIndex,
    /// Number of the step, which makes contents different.
    pub now: usize,
    /// No key of the cast is younger, no signature of the view older.
    pub begun: SystemTime,
}

/// Takes all steps, then looks again after a remount.
pub fn run(cast: &Cast, steps: &[Step]) -> Result<(), Different> {
    let mut world = World::new(cast);
    let end = [
        Step::Close(0),
        Step::Close(1),
        Step::Close(2),
        Step::Settle,
        Step::Remount,
        Step::Remount,
    ];
    for (number, step) in steps.iter().chain(&end).enumerate() {
        world.now = number;
        let taken = world.take(*step).and_then(|()| world.compare());
        let taken = taken.and_then(|()| match step {
            Step::Settle => world.compare_with_fresh(),
            _ => Ok(()),
        });
        taken.map_err(|why| format!("step {number}, {step:?}: {why}"))?;
    }
    Ok(())
}

impl World<'_> {
    fn new(cast: &Cast) -> World<'_> {
        // Nothing here asks how durable a disk is.
        let memory = std::path::Path::new("/dev/shm");
        let place = if memory.is_dir() {
            memory
        } else {
            "/tmp".as_ref()
        };
        let dir = tempfile::Builder::new().prefix("dds").tempdir_in(place);
        let dir = dir.unwrap();
        let home = Home { dir };
        let people = [
            ("one", &cast.me),
            ("two", &cast.bob),
            ("three", &cast.carol),
        ];
        let store = make_store(home.dir.path(), &people);
        let certificates = CertIndex::new(people.map(|(_, person)| person.certificate()));
        World {
            cast,
            rig: InProcess::of(&cast.me, home, store),
            model: Model::new(),
            handles: vec![None; 3],
            taken: BTreeSet::new(),
            seen: Vec::new(),
            archive: BTreeMap::new(),
            certificates,
            now: 0,
            begun: SystemTime::now(),
        }
    }

    /// Bytes that no other step writes.
    pub fn bytes(&self) -> Vec<u8> {
        format!("step {}", self.now).into_bytes()
    }

    /// The path that a step means; `None` if there is no such remarked name.
    fn resolve(&self, at: At) -> Option<String> {
        let (dir, name) = split(at);
        let Some(n) = name.strip_prefix('*') else {
            return Some(at.to_owned());
        };
        let children = self.model.children(dir);
        let mut remarked = children.iter().filter(|path| path.contains(" ("));
        remarked.nth(n.parse().unwrap()).cloned()
    }

    fn take(&mut self, step: Step) -> Result<(), Different> {
        let resolved = |at: At| self.resolve(at);
        let (first, second) = match step {
            Step::Copy(a, b) | Step::Rename(a, b) | Step::Link(a, b) | Step::Move(a, b) => {
                (resolved(a), resolved(b))
            }
            Step::Write(a) | Step::Touch(a) | Step::Append(a) | Step::WriteAt(a, _) => {
                (resolved(a), None)
            }
            Step::Rewrite(a) | Step::Truncate(a, _) | Step::Chmod(a, _) => (resolved(a), None),
            Step::Remove(a) | Step::Mkdir(a) | Step::Rmdir(a) | Step::Open(_, a, _) => {
                (resolved(a), None)
            }
            Step::Deliver(a) | Step::Edit(a, _) | Step::Diverge(a, _) | Step::DeliverDir(a) => {
                (resolved(a), None)
            }
            Step::Vanish(a) => (resolved(a), None),
            _ => (Some(String::new()), None),
        };
        let Some(at) = first else {
            return Ok(());
        };
        let to = second.as_deref().unwrap_or_default();
        // Who read what had the name meanwhile goes on with that one, but what was read is not in
        // the reference.
        self.taken.extend(self.model.taken_from_backups());
        if [&at, to]
            .iter()
            .any(|path| self.taken.contains(*path) && self.model.is_free(path))
        {
            return Ok(());
        }
        let (real, expected) = match step {
            Step::Copy(..) | Step::Rename(..) | Step::Link(..) | Step::Move(..)
                if to.is_empty() =>
            {
                return Ok(());
            }
            Step::Write(_) => self.write(&at, &self.bytes()),
            Step::Touch(_) => self.write(&at, b""),
            Step::Append(_) => {
                let how = How {
                    write: true,
                    append: true,
                    truncate: false,
                };
                let bytes = self.bytes();
                let expected = self.save(&at, how, 0, &bytes, false);
                (self.rig.append(&at, &bytes), expected)
            }
            Step::WriteAt(_, offset) => {
                let how = How {
                    write: true,
                    ..How::default()
                };
                let bytes = self.bytes();
                let expected = self.save(&at, how, offset, &bytes, true);
                (self.rig.write_at(&at, offset as u64, &bytes), expected)
            }
            Step::Rewrite(_) => self.copy(&at, &at),
            Step::Copy(..) => self.copy(&at, to),
            Step::Truncate(_, size) => (
                self.rig.truncate(&at, size as u64),
                self.model.truncate(&at, size),
            ),
            Step::Chmod(_, mode) => (self.rig.chmod(&at, mode << 6), self.model.chmod(&at, mode)),
            Step::Remove(_) => (self.rig.remove(&at), self.model.unlink(&at)),
            Step::Mkdir(_) => (self.rig.mkdir(&at), self.model.mkdir(&at)),
            Step::Rmdir(_) => (self.rig.rmdir(&at), self.model.rmdir(&at)),
            Step::Rename(..) => (self.rig.rename(&at, to), self.model.rename(&at, to)),
            Step::Link(..) => (self.rig.link(&at, to), self.model.link(&at, to)),
            Step::Open(slot, _, how) => self.open(slot, &at, how),
            Step::Put(slot) => self.put(slot),
            Step::Flush(slot) | Step::Fsync(slot) => self.flush(slot, step),
            Step::Close(slot) => {
                self.release(slot, true);
                (Ok(()), Ok(()))
            }
            Step::Release(slot) => {
                self.release(slot, false);
                (Ok(()), Ok(()))
            }
            Step::Settle => {
                self.settle();
                (Ok(()), Ok(()))
            }
            Step::Remount => {
                self.remount();
                (Ok(()), Ok(()))
            }
            Step::Crash => {
                self.crash();
                (Ok(()), Ok(()))
            }
            Step::Deliver(_)
            | Step::Edit(..)
            | Step::Diverge(..)
            | Step::Move(..)
            | Step::Vanish(_)
            | Step::DeliverDir(_)
            | Step::Return(_) => {
                peers::take(self, step, &at, to);
                (Ok(()), Ok(()))
            }
        };
        match real == expected {
            true => Ok(()),
            false => Err(format!("answered {real:?} instead of {expected:?}")),
        }
    }

    /// Opens, writes, closes, in the reference.
    fn save(
        &mut self,
        at: &str,
        how: How,
        offset: usize,
        bytes: &[u8],
        sync: bool,
    ) -> Result<(), Errno> {
        let handle = self.model.open(at, how)?;
        self.model.handles.push(Some(handle));
        if !bytes.is_empty() {
            self.model.write(handle, offset, bytes);
        }
        if sync {
            self.model.fsync(handle);
        }
        self.model.flush(handle);
        self.model.handles.pop();
        self.model.release(handle);
        Ok(())
    }

    fn write(&mut self, at: &str, bytes: &[u8]) -> (Result<(), Errno>, Result<(), Errno>) {
        let how = How {
            write: true,
            append: false,
            truncate: true,
        };
        let expected = self.save(at, how, 0, bytes, false);
        (self.rig.write(at, bytes), expected)
    }

    fn copy(&mut self, from: &str, to: &str) -> (Result<(), Errno>, Result<(), Errno>) {
        let expected = self
            .model
            .find(from)
            .and_then(|id| match self.model.nodes[&id] {
                Node::Dir { .. } => Err(libc::EISDIR),
                Node::File(ref file) => Ok(file.bytes.clone()),
            });
        match (self.rig.read(from), expected) {
            (Ok(real), Ok(expected)) if real == expected => self.write(to, &real),
            (real, expected) => (real.map(drop), expected.map(drop)),
        }
    }

    fn open(&mut self, slot: usize, at: &str, how: How) -> (Result<(), Errno>, Result<(), Errno>) {
        if self.handles[slot].is_some() {
            return (Ok(()), Ok(()));
        }
        let access = Access {
            read: true,
            write: how.write,
            append: how.append,
            truncate: how.truncate,
            exclusive: false,
        };
        let real = self.rig.open_as(at, access);
        let expected = self.model.open(at, how);
        let answers = (real.map(drop), expected.map(drop));
        self.handles[slot] = real.ok();
        self.model.handles[slot] = expected.ok();
        answers
    }

    pub fn slot(&self, slot: usize) -> Option<(HandleId, Handle)> {
        self.handles[slot].zip(self.model.handles[slot])
    }

    fn put(&mut self, slot: usize) -> (Result<(), Errno>, Result<(), Errno>) {
        let Some((real, handle)) = self.slot(slot) else {
            return (Ok(()), Ok(()));
        };
        let (bytes, offset) = (self.bytes(), self.now % 7);
        let done = self.rig.write_handle(real, offset as u64, &bytes);
        if !handle.how.write {
            return (done, Err(libc::EBADF));
        }
        self.model.write(handle, offset, &bytes);
        (done, Ok(()))
    }

    fn flush(&mut self, slot: usize, step: Step) -> (Result<(), Errno>, Result<(), Errno>) {
        let Some((real, handle)) = self.slot(slot) else {
            return (Ok(()), Ok(()));
        };
        let done = if let Step::Fsync(_) = step {
            self.model.fsync(handle);
            self.rig.fsync_handle(real)
        } else {
            self.model.flush(handle);
            self.rig.flush_handle(real)
        };
        (done, Ok(()))
    }

    fn release(&mut self, slot: usize, flush: bool) {
        let Some((real, handle)) = self.slot(slot) else {
            return;
        };
        if flush {
            self.rig.flush_handle(real).unwrap();
            self.model.flush(handle);
        }
        self.rig.view().release(real);
        self.handles[slot] = None;
        self.model.handles[slot] = None;
        self.model.release(handle);
    }

    pub fn settle(&mut self) {
        self.rig.settle();
        self.model.docs.settle_all();
    }

    fn remount(&mut self) {
        for slot in 0..self.handles.len() {
            self.release(slot, true);
        }
        // Before names are given anew: they depend on signatures' times.
        self.bind().unwrap();
        // What scratch is left is rescued, which is another story.
        self.rig.remount_with_rescue();
        self.model.docs.settle_all();
        self.model.start();
    }

    fn crash(&mut self) {
        self.handles.fill(None);
        self.bind().unwrap();
        let left = std::mem::take(&mut self.model.docs.unsettled);
        let archive = &self.archive;
        let model = &mut self.model;
        self.rig.crash(|store| {
            for vid in left {
                let version = &mut model.docs.all[vid];
                version.present = !version.blobs.is_empty();
                for blob in &version.blobs {
                    let folder = store.join(split(&version.key.area).0);
                    fs::write(folder.join(blob.file_name()), &archive[blob]).unwrap();
                }
            }
        });
        self.model.start();
    }

    /// The real id of a document.
    pub fn doc_id(&mut self, doc: usize) -> DocId {
        let mut random = [7; 16];
        random[..8].copy_from_slice(&(doc as u64).to_be_bytes());
        *self.model.docs.docs[doc].get_or_insert(DocId::from_random(random))
    }

    pub fn later(&self) -> SystemTime {
        self.begun + Duration::from_secs(3600 + 60 * self.now as u64)
    }
}

/// Who writes in an area when I do not.
pub fn other(path: &str) -> Who {
    match area(path).0 {
        "notes/me" => Who::Me,
        _ => Who::Bob,
    }
}
