//! Old versions of notes: the ciphertext of those that left the store, and spares of those that may
//! leave it, because other machines remove blobs without asking this one.
//!
//! | name in `history/` | content |
//! |---|---|
//! | `spare-<64 hex>` | a note that is in the store, by its id: the SHA-256 of its bytes |
//! | `gone-<seconds>-<64 hex>` | a note that left the store, with the time when it did |
//!
//! A spare is a copy, so that it survives somebody writing over the store's file in place. Only
//! spares of very large notes, and those for which there is no room, are second names of that file.
//! When a note leaves the store, its spare is renamed; so after a crash it has one of the two
//! names. Both names are in one directory, because older kernels let no confined process rename
//! between two. If a second name was overwritten in place, its bytes do not fit its name; each
//! reader notices, because it computes the id anew.
//!
//! `retention` chooses the old versions that are dropped. Of a document that is saved all the time,
//! a few versions of every age are kept.

use std::fs::File;
use std::io::Write;
use std::os::fd::BorrowedFd;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::state::lineage::Lineage;
use crate::state::private_dir::{Look, PrivateDir};

use crate::error::{Error, Kind, Result};
use crate::ids::{BlobId, Timestamp};
use crate::locks::lock;

mod index;
mod pruning;
mod retention;
#[cfg(test)]
mod tests;

use self::index::{
    Counting, GoneFile, Index, Spare, gone_name, parse_gone, parse_spare, spare_name,
};
pub use self::index::{copy_unless, stopped};
pub use self::retention::{Limits, Moment, Pruned};

/// A version that left the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone {
    /// The blob.
    pub id: BlobId,
    /// When it left, or when that was noticed, in whole seconds.
    pub at: Timestamp,
    /// Its length.
    pub bytes: u64,
}

/// The spare that a blob in the store lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing: it has a spare, or none is kept.
    Nothing,
    /// A link, if there can be one; its spare is of an earlier mount and shares no bytes with it.
    Link,
    /// A copy, if there can be one; its spare is a link of an earlier mount.
    Copy,
    /// A spare.
    Spare,
}

/// The reason for a spare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The blob may leave the store some day.
    Present,
    /// The blob is about to leave the store.
    Going,
}

/// The old versions of notes, and the spares. See the module's documentation.
pub struct History {
    /// `None` without a state directory: then nothing is kept.
    home: Option<PrivateDir>,
    began: Moment,
    index: Mutex<Index>,
    /// Held while names are made durable: callers that come meanwhile wait for it, too.
    syncing: Mutex<()>,
}

impl History {
    /// A history that keeps nothing.
    pub(super) fn nowhere() -> History {
        History {
            home: None,
            began: Moment::now(),
            index: Mutex::default(),
            syncing: Mutex::default(),
        }
    }

    /// Opens the history in the state directory, making it if there is none.
    pub(super) fn open(state: &PrivateDir, began: Moment) -> Result<History> {
        let home = state.child("history")?;
        home.clean_temporaries()?;
        let mut index = Index::default();
        let mut names = home.names()?;
        names.sort_unstable();
        for name in names {
            let Some((look, linked)) = home.measure(&name)? else {
                continue;
            };
            if let Some(id) = parse_spare(&name) {
                if look.size == 0 {
                    // A power cut took its bytes; should this fail, it is tried again.
                    let _ = home.remove(&name);
                    continue;
                }
                index.spares.insert(id, Spare::found(look, linked));
            } else if let Some((at, id)) = parse_gone(&name) {
                let (since, bytes, lineage) = (None, look.size, None);
                let past = GoneFile {
                    at,
                    since,
                    bytes,
                    lineage,
                };
                index.add_gone(&home, id, past);
            }
        }
        let both: Vec<BlobId> = index.spares.keys().copied().collect();
        both.iter().for_each(|id| index.drop_gone(&home, *id));
        Ok(History {
            home: Some(home),
            began,
            index: Mutex::new(index),
            syncing: Mutex::default(),
        })
    }

    /// Sets how much is kept. Before this call nothing is; limits of zero drop everything.
    ///
    /// # Errors
    /// The disk's error.
    pub fn set_limits(&self, limits: Limits) -> Result<()> {
        self.index().limits = Some(limits);
        if limits.seconds > 0 {
            return Ok(());
        }
        let gone = self.gone().into_iter();
        let gone = gone.map(|gone| self.forget(gone.id));
        let spares = self.spares().into_iter().map(|id| self.drop_spare(id));
        // Try every one and report the first error.
        gone.chain(spares).fold(Ok(()), Result::and)
    }

    /// Tells whether anything is kept.
    pub fn is_on(&self) -> bool {
        self.open_home().is_some()
    }

    fn open_home(&self) -> Option<(&PrivateDir, Limits)> {
        let limits = self.index().limits.filter(|limits| limits.seconds > 0);
        self.home.as_ref().zip(limits)
    }

    /// Tells which spare a blob needs whose file in the store looks so. A blob that came back needs
    /// one, and so does one whose spare is another file's.
    /// `by_copy` tells whether a copy is better than a link.
    pub fn need(
        &self,
        id: BlobId,
        look: Look,
        by_copy: bool,
        lineage: impl FnOnce() -> Lineage,
    ) -> Need {
        if !self.is_on() {
            return Need::Nothing;
        }
        let mut index = self.index();
        let Some(spare) = index.spares.get_mut(&id) else {
            return Need::Spare;
        };
        spare.lineage.get_or_insert_with(lineage);
        match spare.linked {
            Some(linked) if linked != look => Need::Spare,
            Some(_) if by_copy && std::mem::take(&mut spare.old) => Need::Copy,
            None if !by_copy && std::mem::take(&mut spare.old) => Need::Link,
            Some(_) | None => Need::Nothing,
        }
    }

    /// Lets `link` give the store's file, which looks so, a second name as the spare of a blob.
    ///
    /// # Errors
    /// The error of `link` or of the disk; `Unsupported` if nothing is kept.
    pub fn link<T>(
        &self,
        id: BlobId,
        lineage: Lineage,
        look: Look,
        link: impl FnOnce(BorrowedFd<'_>, &str) -> Result<T>,
    ) -> Result<T> {
        let (home, _) = self.open_home().ok_or_else(off)?;
        let name = spare_name(id);
        // Held, so that nobody else makes the same spare meanwhile: no byte is written here.
        let mut index = self.index();
        let linked = if index.spares.contains_key(&id) {
            let temporary = PrivateDir::temporary_name()?;
            let linked = link(home.handle(), &temporary)?;
            let renamed = home.rename(&temporary, &name);
            // Two names of one file are left as they are by a rename.
            home.remove(&temporary)?;
            renamed?;
            linked
        } else {
            link(home.handle(), &name)?
        };
        let mut spare = Spare::found(look, true);
        (spare.old, spare.lineage) = (false, Some(lineage));
        index.add_spare(home, id, spare);
        Ok(linked)
    }

    /// Lets `write` copy a blob of so many bytes, as its spare.
    ///
    /// # Errors
    /// `TooLarge` if it would take more room than it may; `NoSpace` if the disk has too little;
    /// `Busy` if the bytes are not those of the blob; the error of `write` or of the disk;
    /// `Unsupported` if nothing is kept. There is no new spare then.
    pub fn copy(
        &self,
        id: BlobId,
        lineage: Lineage,
        (bytes, purpose): (u64, Purpose),
        write: impl FnOnce(&mut dyn Write) -> Result<()>,
    ) -> Result<()> {
        let (home, limits) = self.open_home().ok_or_else(off)?;
        let room = home.room()?;
        let (fits, has_room) = match purpose {
            Purpose::Present => {
                let copies = self.index().copies().saturating_add(bytes);
                (copies <= limits.copies, bytes <= room.available / 2)
            }
            Purpose::Going => (bytes <= limits.bytes, room.has(bytes)),
        };
        let refused = |kind| Err(Error::new(kind, format!("no room for {bytes} bytes")));
        match (fits, has_room) {
            (false, _) => return refused(Kind::TooLarge),
            (true, false) => return refused(Kind::NoSpace),
            (true, true) => {}
        }
        let temporary = home.temporary()?;
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
        let name = spare_name(id);
        match purpose {
            Purpose::Going => temporary.sync(&name, length)?,
            // Many may be made at once: `sync` brings all of them to the disk.
            Purpose::Present => temporary.check(&name, length)?,
        }
        let mut index = self.index();
        temporary.name(&name)?;
        let spare = Spare {
            bytes: length,
            linked: None,
            old: false,
            lineage: Some(lineage),
        };
        index.add_spare(home, id, spare);
        Ok(())
    }

    /// Turns the entry of a version that is back in the store into its spare. Tells whether there
    /// was one with the right bytes.
    ///
    /// # Errors
    /// `Busy` if `stop` says so; the disk's error.
    pub fn take_back(&self, id: BlobId, lineage: Lineage, stop: &dyn Fn() -> bool) -> Result<bool> {
        let mut file = match self.open_gone(id) {
            Err(error) if error.kind() == Kind::NotFound => return Ok(false),
            file => file?,
        };
        let mut digest = Sha256::new();
        copy_unless(stop, &mut file, &mut digest, "cannot read an old version")?;
        let (Some(home), true) = (
            &self.home,
            BlobId::from_digest(digest.finalize().into()) == id,
        ) else {
            return Ok(false);
        };
        let mut index = self.index();
        let Some(past) = index.gone.get(&id) else {
            return Ok(false);
        };
        let name = spare_name(id);
        home.rename(&gone_name(past.at, id), &name)?;
        index.gone.remove(&id);
        let Some((look, linked)) = home.measure(&name)? else {
            return Ok(false);
        };
        let mut spare = Spare::found(look, linked);
        (spare.old, spare.lineage) = (false, Some(lineage));
        index.add_spare(home, id, spare);
        Ok(true)
    }

    /// Brings the bytes of a spare to the disk. A copy's are there, those of the store's own file
    /// may not be. No spare is no error.
    ///
    /// # Errors
    /// `Io` if the spare's file is gone; the disk's error.
    pub fn sync_bytes(&self, id: BlobId) -> Result<()> {
        let Some((home, _)) = self.open_home() else {
            return Ok(());
        };
        if !self.index().spares.contains_key(&id) {
            return Ok(());
        }
        let name = spare_name(id);
        let Some(file) = home.open(&name, false)? else {
            self.index().spares.remove(&id);
            let sentence = format!("{} was taken away", home.shown(&name));
            return Err(Error::new(Kind::Io, sentence));
        };
        let synced = file.sync_data();
        synced.map_err(|error| Error::io(&format!("cannot sync {}", home.shown(&name)), error))
    }

    /// Makes the spares and their names survive a power cut.
    ///
    /// # Errors
    /// The disk's error.
    pub fn sync(&self) -> Result<()> {
        let Some((home, _)) = self.open_home() else {
            return Ok(());
        };
        let _one = lock(&self.syncing);
        let unsynced = std::mem::take(&mut self.index().unsynced);
        if unsynced {
            let synced = home.sync_all().and_then(|()| home.sync());
            synced.inspect_err(|_| {
                self.index().unsynced = true;
            })?;
        }
        Ok(())
    }

    /// Lists the blobs that have a spare, in no particular order.
    pub fn spares(&self) -> Vec<BlobId> {
        self.index().spares.keys().copied().collect()
    }

    /// Lists the versions that left the store, in no particular order.
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
    /// The disk's error.
    pub fn note_gone(&self, id: BlobId, now: Moment) -> Result<()> {
        let Some((home, _)) = self.open_home() else {
            return Ok(());
        };
        let mut index = self.index();
        let Some(spare) = index.spares.get(&id) else {
            return Ok(());
        };
        let (bytes, lineage) = (spare.bytes, spare.lineage);
        let at = now.before(Duration::ZERO);
        match home.rename(&spare_name(id), &gone_name(at, id)) {
            Err(error) if error.kind() == Kind::NotFound => {
                index.spares.remove(&id);
                return Ok(());
            }
            renamed => renamed?,
        }
        index.spares.remove(&id);
        let past = GoneFile {
            at,
            since: Some(now.running),
            bytes,
            lineage,
        };
        index.add_gone(home, id, past);
        let surplus = lineage.and_then(|lineage| index.surplus(lineage));
        drop(index);
        surplus.map_or(Ok(()), |surplus| self.forget(surplus))
    }

    /// Opens a version that left the store, for reading.
    ///
    /// # Errors
    /// `NotFound`; the disk's error.
    pub fn open_gone(&self, id: BlobId) -> Result<File> {
        let missing = || Error::new(Kind::NotFound, "this version is not kept");
        let home = self.home.as_ref().ok_or_else(missing)?;
        let at = self.index().gone.get(&id).map(|past| past.at);
        let name = gone_name(at.ok_or_else(missing)?, id);
        home.open(&name, false)?.ok_or_else(missing)
    }

    /// Opens a spare, for reading.
    ///
    /// # Errors
    /// `NotFound`; the disk's error.
    pub fn open_spare(&self, id: BlobId) -> Result<File> {
        let missing = || Error::new(Kind::NotFound, "there is no spare");
        let home = self.home.as_ref().ok_or_else(missing)?;
        home.open(&spare_name(id), false)?.ok_or_else(missing)
    }

    /// Path of the file of a version that left the store, for sentences.
    pub fn shown_gone(&self, id: BlobId) -> Option<String> {
        let at = self.index().gone.get(&id).map(|past| past.at)?;
        let home = self.home.as_ref()?;
        Some(home.shown(&gone_name(at, id)))
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        lock(&self.index)
    }
}

fn off() -> Error {
    Error::new(Kind::Unsupported, "no history is kept")
}
