//! The files of the history by their names, and the facts known of each.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::retention::Limits;
use crate::error::{Error, Kind, Result};
use crate::ids::{BlobId, Timestamp, hex_digits, unhex};
use crate::state::lineage::Lineage;
use crate::state::private_dir::{Look, PrivateDir};

/// Versions of one document that are kept if they left the store in one mount.
pub(super) const OF_ONE: usize = 64;

#[derive(Default)]
pub(super) struct Index {
    /// `None` until it is known how much shall be kept.
    pub(super) limits: Option<Limits>,
    pub(super) spares: HashMap<BlobId, Spare>,
    pub(super) gone: HashMap<BlobId, GoneFile>,
    /// Spares were made whose names a power cut may take away.
    pub(super) unsynced: bool,
}

pub(super) struct Spare {
    pub(super) bytes: u64,
    /// How the store's file looked whose second name it is; `None` for a copy.
    pub(super) linked: Option<Look>,
    /// Of an earlier mount, and the better form of it was not tried yet.
    pub(super) old: bool,
    pub(super) lineage: Option<Lineage>,
}

pub(super) struct GoneFile {
    pub(super) at: Timestamp,
    /// The same by [`Moment::running`], if it left the store in this mount.
    pub(super) since: Option<Duration>,
    pub(super) bytes: u64,
    /// Which document it was, if it left the store in this mount.
    pub(super) lineage: Option<Lineage>,
}

impl Spare {
    /// A file that was found.
    pub(super) fn found(look: Look, linked: bool) -> Spare {
        Spare {
            bytes: look.size,
            linked: linked.then_some(look),
            old: true,
            lineage: None,
        }
    }
}

impl Index {
    pub(super) fn copies(&self) -> u64 {
        let copied = self.spares.values().filter(|spare| spare.linked.is_none());
        copied.map(|spare| spare.bytes).sum()
    }

    pub(super) fn add_spare(&mut self, home: &PrivateDir, id: BlobId, spare: Spare) {
        self.spares.insert(id, spare);
        self.unsynced = true;
        self.drop_gone(home, id);
    }

    /// The blob is back in the store: drops its history entry. If this fails, the next start tries
    /// it again.
    pub(super) fn drop_gone(&mut self, home: &PrivateDir, id: BlobId) {
        if let Some(past) = self.gone.remove(&id) {
            let _ = home.remove(&gone_name(past.at, id));
        }
    }

    /// Adds a version that left the store. One file of it is enough: the one that `past` names.
    pub(super) fn add_gone(&mut self, home: &PrivateDir, id: BlobId, past: GoneFile) {
        let at = past.at;
        let twice = self.gone.insert(id, past);
        if let Some(twice) = twice.filter(|twice| twice.at != at) {
            // Should this fail, the next start tries it again.
            let _ = home.remove(&gone_name(twice.at, id));
        }
    }

    /// Returns the most dispensable version of a document with too many: without it the others are
    /// spread best over the time.
    pub(super) fn surplus(&self, lineage: Lineage) -> Option<BlobId> {
        let of_it = |past: &&GoneFile| past.lineage == Some(lineage);
        if self.gone.values().filter(of_it).count() <= OF_ONE {
            return None;
        }
        let versions = self.gone.iter().filter(|(_, past)| of_it(past));
        let mut versions: Vec<_> = versions.map(|(id, past)| (past.at, *id)).collect();
        versions.sort_unstable();
        let gap = |three: &&[(Timestamp, BlobId)]| {
            three[2].0.seconds().saturating_sub(three[0].0.seconds())
        };
        versions.windows(3).min_by_key(gap).map(|three| three[1].1)
    }
}

pub(super) fn spare_name(id: BlobId) -> String {
    format!("spare-{}", hex_digits(id.as_bytes()))
}

pub(super) fn gone_name(at: Timestamp, id: BlobId) -> String {
    format!("gone-{}-{}", at.seconds(), hex_digits(id.as_bytes()))
}

fn parse_id(hex: &str) -> Option<BlobId> {
    Some(BlobId::from_digest(unhex(hex)?))
}

pub(super) fn parse_spare(name: &str) -> Option<BlobId> {
    let id = parse_id(name.strip_prefix("spare-")?)?;
    (spare_name(id) == name).then_some(id)
}

pub(super) fn parse_gone(name: &str) -> Option<(Timestamp, BlobId)> {
    let (at, id) = name.strip_prefix("gone-")?.split_once('-')?;
    let at = Timestamp::new(at.parse().ok()?, 0).ok()?;
    let id = parse_id(id)?;
    (gone_name(at, id) == name).then_some((at, id))
}

/// A file that is written, counted and digested.
pub(super) struct Counting<'a> {
    pub(super) file: &'a File,
    pub(super) digest: Sha256,
    pub(super) length: u64,
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

/// Copies `from` to its end, or until `stop` says so. `doing` begins the sentence of an error.
///
/// # Errors
/// `Busy` if `stop` says so; errors of reading and writing.
pub fn copy_unless(
    stop: &dyn Fn() -> bool,
    from: &mut (impl Read + ?Sized),
    to: &mut (impl Write + ?Sized),
    doing: &str,
) -> Result<()> {
    /// Bytes between two looks at whether to stop.
    const CHUNK: usize = 1 << 20;
    let mut buffer = vec![0; CHUNK];
    loop {
        if stop() {
            return Err(stopped());
        }
        let read = from.read(&mut buffer);
        let read = read.map_err(|error| Error::io(doing, error))?;
        if read == 0 {
            return Ok(());
        }
        let written = to.write_all(&buffer[..read]);
        written.map_err(|error| Error::io(doing, error))?;
    }
}

/// There is no time left for a copy.
pub fn stopped() -> Error {
    Error::new(Kind::Busy, "the mount ends")
}
