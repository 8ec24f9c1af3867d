//! Old versions of notes: the ciphertext of those that went from the store, and spares of those
//! that may go, for whoever removes one asks nobody here before.
//!
//! | name | what |
//! |---|---|
//! | `history/spare/<64 hex>` | a note that is in the store, by its id: the SHA-256 of its bytes |
//! | `history/gone/<seconds>-<64 hex>` | one that is there no more, with the time when it went |
//!
//! A spare is a second name of the store's own file and takes no room, or a copy. That a note went
//! is a rename, so after a crash it is in one of the two places. A file that was overwritten in
//! place has other bytes than its name says, which whoever opens it sees: its id is computed anew.
//!
//! What is gone is dropped after a time, the oldest first if it takes more room than it may, which
//! is never more than what the disk has left. Of one document that is saved all the time, a few
//! versions are kept, of every age.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::BorrowedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sha2::{Digest as _, Sha256};

use super::Lineage;
use super::dir::Dir;
use crate::error::{Error, Kind, Result};
use crate::ids::{BlobId, Timestamp};

/// Versions of one document that are kept of those that went in one mount.
pub(super) const OF_ONE: usize = 64;

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Seconds for which a version is kept after it went; with 0 nothing is kept.
    pub seconds: u64,
    /// Bytes of all versions that went.
    pub bytes: u64,
    /// Number of versions that went.
    pub versions: usize,
    /// Bytes of all spares that are copies.
    pub copies: u64,
}

impl Limits {
    /// So many days, and what else is usual.
    pub fn days(days: u32) -> Limits {
        Limits {
            seconds: u64::from(days) * 24 * 60 * 60,
            bytes: 1 << 30,
            versions: 10_000,
            copies: 1 << 30,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits::days(30)
    }
}

/// A version that went from the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone {
    /// The blob.
    pub id: BlobId,
    /// When it went, or when that was noticed, in whole seconds.
    pub at: Timestamp,
    /// Its length.
    pub bytes: u64,
}

/// What is kept of notes that were replaced or removed. See the module's documentation.
pub struct History {
    /// `None` without a state directory: then nothing is kept.
    places: Option<Places>,
    index: Mutex<Index>,
}

struct Places {
    spare: Dir,
    gone: Dir,
}

#[derive(Default)]
struct Index {
    /// `None` until it is known how much shall be kept.
    limits: Option<Limits>,
    spares: HashMap<BlobId, Spare>,
    gone: HashMap<BlobId, Past>,
    /// Spares were made whose names a power cut may take away.
    unsynced: bool,
}

struct Spare {
    bytes: u64,
    copied: bool,
    lineage: Option<Lineage>,
}

struct Past {
    at: Timestamp,
    bytes: u64,
    /// Which document it was, if it went in this mount.
    lineage: Option<Lineage>,
}

impl History {
    /// A history that keeps nothing.
    pub(super) fn nowhere() -> History {
        History {
            places: None,
            index: Mutex::default(),
        }
    }

    /// Opens the history in the state directory, making it if there is none.
    pub(super) fn open(state: &Dir) -> Result<History> {
        let home = state.child("history")?;
        let (spare, gone) = (home.child("spare")?, home.child("gone")?);
        let mut index = Index::default();
        for dir in [&spare, &gone] {
            dir.clean_temporaries()?;
        }
        for name in gone.names()? {
            let Some((at, id)) = parse_gone(&name) else {
                continue;
            };
            let Some((bytes, _)) = gone.measure(&name)? else {
                continue;
            };
            let lineage = None;
            if let Some(twice) = index.gone.insert(id, Past { at, bytes, lineage }) {
                gone.remove(&gone_name(twice.at.min(at), id))?;
                let at = twice.at.max(at);
                index.gone.insert(id, Past { at, bytes, lineage });
            }
        }
        for name in spare.names()? {
            let Some(id) = parse_id(&name) else {
                continue;
            };
            if index.gone.contains_key(&id) {
                spare.remove(&name)?;
            } else if let Some((bytes, linked)) = spare.measure(&name)? {
                let one = Spare {
                    bytes,
                    copied: !linked,
                    lineage: None,
                };
                index.spares.insert(id, one);
            }
        }
        Ok(History {
            places: Some(Places { spare, gone }),
            index: Mutex::new(index),
        })
    }

    /// Sets how much is kept. Nothing is kept before; if nothing shall be, what there is goes.
    ///
    /// # Errors
    /// What the disk says.
    pub fn set_limits(&self, limits: Limits) -> Result<()> {
        self.index().limits = Some(limits);
        if limits.seconds > 0 {
            return Ok(());
        }
        for gone in self.gone() {
            self.forget(gone.id)?;
        }
        for id in self.spares() {
            self.drop_spare(id)?;
        }
        Ok(())
    }

    /// Tells whether anything is kept.
    pub fn is_on(&self) -> bool {
        self.open_places().is_some()
    }

    fn open_places(&self) -> Option<(&Places, Limits)> {
        let limits = self.index().limits.filter(|limits| limits.seconds > 0);
        self.places.as_ref().zip(limits)
    }

    /// Tells whether a blob that is in the store needs a spare. One that had gone and is back is
    /// its own spare.
    ///
    /// # Errors
    /// What the disk says.
    pub fn needs_spare(&self, id: BlobId, lineage: impl FnOnce() -> Lineage) -> Result<bool> {
        let Some((places, _)) = self.open_places() else {
            return Ok(false);
        };
        let mut index = self.index();
        if let Some(spare) = index.spares.get_mut(&id) {
            spare.lineage.get_or_insert_with(lineage);
            return Ok(false);
        }
        let Some(past) = index.gone.get(&id) else {
            return Ok(true);
        };
        let bytes = past.bytes;
        let moved = places
            .gone
            .move_to(&gone_name(past.at, id), &places.spare, &spare_name(id));
        index.gone.remove(&id);
        match moved {
            Err(error) if error.kind() == Kind::NotFound => return Ok(true),
            moved => moved?,
        }
        let spare = Spare {
            bytes,
            copied: true,
            lineage: Some(lineage()),
        };
        index.spares.insert(id, spare);
        Ok(false)
    }

    /// Lets `link` give the store's file a second name as the spare of a blob.
    ///
    /// # Errors
    /// What `link` says; `Unsupported` if nothing is kept.
    pub fn link<T>(
        &self,
        id: BlobId,
        lineage: Lineage,
        bytes: u64,
        link: impl FnOnce(BorrowedFd<'_>, &str) -> Result<T>,
    ) -> Result<T> {
        let (places, _) = self.open_places().ok_or_else(off)?;
        // Held, so that nobody else makes the same spare meanwhile: no byte is written here.
        let mut index = self.index();
        let linked = link(places.spare.handle(), &spare_name(id))?;
        let spare = Spare {
            bytes,
            copied: false,
            lineage: Some(lineage),
        };
        index.spares.insert(id, spare);
        index.unsynced = true;
        Ok(linked)
    }

    /// Lets `write` copy a blob of so many bytes, as its spare.
    ///
    /// # Errors
    /// `TooLarge` if copies would take more room than they may; `Busy` if the bytes are not those
    /// of the blob; what `write` and the disk say; `Unsupported` if nothing is kept. There is no
    /// spare then.
    pub fn copy(
        &self,
        id: BlobId,
        lineage: Lineage,
        bytes: u64,
        write: impl FnOnce(&mut dyn Write) -> Result<()>,
    ) -> Result<()> {
        let (places, limits) = self.open_places().ok_or_else(off)?;
        let copies = self.index().copies();
        let room = places.spare.available()? / 2;
        if copies.saturating_add(bytes) > limits.copies || bytes > room {
            let sentence = format!("no room for a copy of {bytes} bytes");
            return Err(Error::new(Kind::TooLarge, sentence));
        }
        let temporary = places.spare.temporary()?;
        let mut to = Counting {
            file: temporary.file(),
            digest: Sha256::new(),
            length: 0,
        };
        write(&mut to)?;
        let (digest, length) = (to.digest, to.length);
        if BlobId::from_digest(digest.finalize().into()) != id {
            let sentence = "a note of the store was replaced while it was copied";
            return Err(Error::new(Kind::Busy, sentence));
        }
        let mut index = self.index();
        temporary.place(&spare_name(id), length)?;
        let spare = Spare {
            bytes: length,
            copied: true,
            lineage: Some(lineage),
        };
        index.spares.insert(id, spare);
        index.unsynced = true;
        Ok(())
    }

    /// Makes the spares survive a power cut.
    ///
    /// # Errors
    /// What the disk says.
    pub fn sync(&self) -> Result<()> {
        let Some((places, _)) = self.open_places() else {
            return Ok(());
        };
        if std::mem::take(&mut self.index().unsynced) {
            places.spare.sync().inspect_err(|_| {
                self.index().unsynced = true;
            })?;
        }
        Ok(())
    }

    /// Lists the blobs that have a spare, in no particular order.
    pub fn spares(&self) -> Vec<BlobId> {
        self.index().spares.keys().copied().collect()
    }

    /// Lists the versions that went, in no particular order.
    pub fn gone(&self) -> Vec<Gone> {
        let index = self.index();
        let gone = index.gone.iter().map(|(id, past)| Gone {
            id: *id,
            at: past.at,
            bytes: past.bytes,
        });
        gone.collect()
    }

    /// Notes that a blob is no longer in the store. One without a spare is lost, and no error.
    ///
    /// # Errors
    /// What the disk says.
    pub fn went(&self, id: BlobId, now: Timestamp) -> Result<()> {
        let Some((places, _)) = self.open_places() else {
            return Ok(());
        };
        let mut index = self.index();
        let Some(spare) = index.spares.get(&id) else {
            return Ok(());
        };
        let (bytes, lineage) = (spare.bytes, spare.lineage);
        let at = Timestamp::new(now.seconds().max(0), 0).unwrap_or_default();
        let moved = places
            .spare
            .move_to(&spare_name(id), &places.gone, &gone_name(at, id));
        match moved {
            Err(error) if error.kind() == Kind::NotFound => {
                index.spares.remove(&id);
                return Ok(());
            }
            moved => moved?,
        }
        index.spares.remove(&id);
        index.gone.insert(id, Past { at, bytes, lineage });
        let surplus = lineage.and_then(|lineage| index.surplus(lineage));
        drop(index);
        surplus.map_or(Ok(()), |surplus| self.forget(surplus))
    }

    /// Opens a version that went, for reading.
    ///
    /// # Errors
    /// `NotFound`; what the disk says.
    pub fn open_gone(&self, id: BlobId) -> Result<File> {
        let missing = || Error::new(Kind::NotFound, "this version is not kept");
        let places = self.places.as_ref().ok_or_else(missing)?;
        let at = self.index().gone.get(&id).map(|past| past.at);
        let name = gone_name(at.ok_or_else(missing)?, id);
        places.gone.open(&name, false)?.ok_or_else(missing)
    }

    /// Drops a version that went. One that is not kept is no error.
    ///
    /// # Errors
    /// What the disk says.
    pub fn forget(&self, id: BlobId) -> Result<()> {
        let Some(places) = &self.places else {
            return Ok(());
        };
        let mut index = self.index();
        if let Some(past) = index.gone.get(&id) {
            places.gone.remove(&gone_name(past.at, id))?;
            index.gone.remove(&id);
        }
        Ok(())
    }

    fn drop_spare(&self, id: BlobId) -> Result<()> {
        let Some(places) = &self.places else {
            return Ok(());
        };
        let mut index = self.index();
        places.spare.remove(&spare_name(id))?;
        index.spares.remove(&id);
        Ok(())
    }

    /// Drops what is too old, then the oldest of what is too much, and returns how many versions
    /// that were.
    ///
    /// # Errors
    /// What the disk says.
    pub fn prune(&self, now: Timestamp) -> Result<usize> {
        let Some((places, limits)) = self.open_places() else {
            return Ok(0);
        };
        let mut gone = self.gone();
        gone.sort_by_key(|gone| (gone.at, gone.id));
        let mut bytes: u64 = gone.iter().map(|gone| gone.bytes).sum();
        let mut available = places.gone.available()?;
        let oldest = now
            .seconds()
            .saturating_sub(i64::try_from(limits.seconds).unwrap_or(i64::MAX));
        let count = gone.len();
        let mut dropped = 0;
        for old in gone {
            let too_old = old.at.seconds() < oldest;
            let too_many = count - dropped > limits.versions;
            if !too_old && !too_many && bytes <= limits.bytes.min(available) {
                break;
            }
            self.forget(old.id)?;
            dropped += 1;
            bytes -= old.bytes;
            available = available.saturating_add(old.bytes);
        }
        Ok(dropped)
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Index {
    fn copies(&self) -> u64 {
        let copied = self.spares.values().filter(|spare| spare.copied);
        copied.map(|spare| spare.bytes).sum()
    }

    /// Of a document with too many versions, the one that can best be done without: what is left
    /// is spread over the time.
    fn surplus(&self, lineage: Lineage) -> Option<BlobId> {
        let of_it = |past: &&Past| past.lineage == Some(lineage);
        if self.gone.values().filter(of_it).count() <= OF_ONE {
            return None;
        }
        let versions = self.gone.iter().filter(|(_, past)| of_it(past));
        let mut versions: Vec<_> = versions.map(|(id, past)| (past.at, *id)).collect();
        versions.sort_unstable();
        let gap = |three: &&[(Timestamp, BlobId)]| three[2].0.seconds() - three[0].0.seconds();
        versions.windows(3).min_by_key(gap).map(|three| three[1].1)
    }
}

fn off() -> Error {
    Error::new(Kind::Unsupported, "no history is kept")
}

fn spare_name(id: BlobId) -> String {
    id.as_bytes()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn gone_name(at: Timestamp, id: BlobId) -> String {
    format!("{}-{}", at.seconds(), spare_name(id))
}

fn parse_id(name: &str) -> Option<BlobId> {
    let id = BlobId::from_digest(super::record::unhex(name)?);
    (spare_name(id) == name).then_some(id)
}

fn parse_gone(name: &str) -> Option<(Timestamp, BlobId)> {
    let (at, id) = name.split_once('-')?;
    let at = Timestamp::new(at.parse().ok()?, 0).ok()?;
    let id = parse_id(id)?;
    (gone_name(at, id) == name).then_some((at, id))
}

/// A file that is written, counted and digested.
struct Counting<'a> {
    file: &'a File,
    digest: Sha256,
    length: u64,
}

impl Write for Counting<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.digest.update(&bytes[..written]);
        self.length += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
