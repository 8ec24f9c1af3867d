//! A sealed log: one file of records, each bound to its file and its place in it.
//!
//! [`Format`] says how the file is called and begins; the records are their owner's.
//!
//! Numbers are big-endian. The file is a header and then records, numbered from 0:
//!
//! ```text
//! header  words                 16 bytes, the last two a digit (the version) and a line end
//!         file id               16 bytes, random, new for each file
//! record  length                 4 bytes: of the box, 16 to 2^20
//!         check                  4 bytes: first of SHA-256(header, number, length)
//!         nonce                 24 bytes, random
//!         box                   XChaCha20-Poly1305(key, nonce, text; header, number)
//! ```
//!
//! `number` takes 8 bytes in both places where it is authenticated.
//!
//! - A record is appended by one write and one fdatasync. A file that ends within its last
//!   record was cut by a crash: nobody was told that this record is kept, and it is cut off
//!   silently.
//! - Random nonces, because the file may come back older than it was (backups, snapshots): a
//!   counter would then seal different records under one nonce.
//! - Any other difference is damage. A record that does not open is left out; at a length that
//!   fails its check reading ends, because the rest cannot be placed (so also where records were
//!   swapped, left out, or came from another file).
//! - **An older copy of the whole file** (or one cut between two records) is a log that was
//!   valid once. Nothing inside the directory can tell it from the present one; telling needs
//!   a memory elsewhere.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305, XNonce};
use sha2::Digest as _;
use zeroize::Zeroizing;

use super::key::Key;
use super::private_dir::PrivateDir;
use super::random::fill_random;
use crate::error::{Error, Kind, Result};

/// Which log a file is.
#[derive(Clone, Copy)]
pub(super) struct Format {
    /// The file's name.
    pub(super) name: &'static str,
    /// Its first bytes, which end with a digit, the version, and a line end.
    pub(super) words: &'static [u8; 16],
}

/// Bytes of the header: the words and the file's id.
pub(super) const HEADER: usize = 32;
/// Bytes of the words.
const WORDS: usize = 16;
/// Where in the header the version is.
const VERSION: usize = 14;
/// Bytes before a record's box: length, check, nonce.
const FRONT: usize = 4 + 4 + NONCE;
const NONCE: usize = 24;
const TAG: usize = 16;
/// Bytes in the largest box.
const LARGEST: u32 = 1 << 20;

/// An open log. Not all of its methods keep it usable: see [`SealedLog::is_doubtful`].
pub(super) struct SealedLog {
    format: Format,
    seal: Seal,
    file: File,
    /// Number of the next record.
    sequence: u64,
    /// Bytes that are known to be whole and on disk.
    length: u64,
    /// The file on disk may differ from the one that callers were told of.
    doubtful: bool,
}

/// A log to be continued, or a description of its damage, for people.
pub(super) type ReadLog = std::result::Result<SealedLog, String>;

impl SealedLog {
    /// Writes a new log that holds `records`, replacing the one that is there at once or not at
    /// all. The directory is not synced.
    fn write(
        format: Format,
        dir: &PrivateDir,
        key: &Arc<Key>,
        records: &[Vec<u8>],
    ) -> Result<SealedLog> {
        let seal = Seal::new(format, key)?;
        let temporary = dir.temporary()?;
        let mut out = BufWriter::new(temporary.file());
        let failed = |error| Error::io(&format!("cannot write {}", dir.shown(format.name)), error);
        out.write_all(&seal.header).map_err(failed)?;
        let (mut sequence, mut length) = (0, HEADER as u64);
        for record in records {
            let sealed = seal.seal(sequence, record)?;
            out.write_all(&sealed).map_err(failed)?;
            sequence += 1;
            length += sealed.len() as u64;
        }
        out.flush().map_err(failed)?;
        drop(out);
        let file = temporary.place(format.name, length)?;
        Ok(SealedLog {
            format,
            seal,
            file,
            sequence,
            length,
            doubtful: false,
        })
    }

    /// Makes a log of `records`, durably.
    pub(super) fn create(
        format: Format,
        dir: &PrivateDir,
        key: &Arc<Key>,
        records: &[Vec<u8>],
    ) -> Result<SealedLog> {
        let log = SealedLog::write(format, dir, key, records)?;
        dir.sync()?;
        Ok(log)
    }

    /// Puts a new log that holds `records` in the place of this one, durably.
    ///
    /// # Errors
    /// The disk's error; then either log is the one on disk, and this one is doubtful.
    pub(super) fn rewrite(
        &mut self,
        dir: &PrivateDir,
        key: &Arc<Key>,
        records: &[Vec<u8>],
    ) -> Result<()> {
        *self = SealedLog::write(self.format, dir, key, records)?;
        // Until then a power cut may bring the old one back.
        self.doubtful = true;
        dir.sync()?;
        self.doubtful = false;
        Ok(())
    }

    /// Reads a log, calling `each` with every record that is as it was written.
    ///
    /// A last record that was not written to its end is cut off.
    ///
    /// # Errors
    /// `BadConfig` if a newer version wrote it; the disk's error.
    pub(super) fn read(
        format: Format,
        dir: &PrivateDir,
        key: &Arc<Key>,
        file: File,
        mut each: impl FnMut(&[u8]),
    ) -> Result<ReadLog> {
        let failed = |error| Error::io(&format!("cannot read {}", dir.shown(format.name)), error);
        let size = file.metadata().map_err(failed)?.len();
        let mut reader = BufReader::with_capacity(1 << 16, &file);
        let mut header = [0; HEADER];
        if size < HEADER as u64 {
            return Ok(Err("its beginning is missing".to_owned()));
        }
        reader.read_exact(&mut header).map_err(failed)?;
        if header[..WORDS] != *format.words {
            if is_newer(format, &header) {
                let path = dir.shown(format.name);
                let sentence = format!("{path} was written by a newer version of dds");
                return Err(Error::new(Kind::BadConfig, sentence));
            }
            return Ok(Err("its beginning is not that of a log".to_owned()));
        }
        let seal = Seal::with_header(key, header);
        let (mut sequence, mut length) = (0_u64, HEADER as u64);
        let mut unreadable = 0_u64;
        let mut rest = 0;
        while length < size {
            let left = size - length;
            let mut front = [0; FRONT];
            let have = left.min(FRONT as u64) as usize;
            reader.read_exact(&mut front[..have]).map_err(failed)?;
            if have < 8 {
                break;
            }
            let Some(box_length) = seal.length(sequence, &front) else {
                rest = left;
                break;
            };
            if left < FRONT as u64 + u64::from(box_length) {
                break;
            }
            let mut sealed = vec![0; box_length as usize];
            reader.read_exact(&mut sealed).map_err(failed)?;
            match seal.open(sequence, &front, &sealed) {
                Some(record) => each(&record),
                None => unreadable += 1,
            }
            sequence += 1;
            length += FRONT as u64 + u64::from(box_length);
        }
        if unreadable > 0 || rest > 0 {
            let damage = format!(
                "{unreadable} of its records and the last {rest} of its {size} bytes cannot be read"
            );
            return Ok(Err(damage));
        }
        if length < size {
            // A crash while it was written: nobody was told that it is kept.
            let cut = file.set_len(length).and_then(|()| file.sync_all());
            cut.map_err(|error| {
                Error::io(&format!("cannot cut {}", dir.shown(format.name)), error)
            })?;
        }
        Ok(Ok(SealedLog {
            format,
            seal,
            file,
            sequence,
            length,
            doubtful: false,
        }))
    }

    /// Appends a record durably, in one write.
    ///
    /// # Errors
    /// `TooLarge`; the disk's error. Then the record is not in the log, or the log is doubtful.
    pub(super) fn append(&mut self, dir: &PrivateDir, record: &[u8]) -> Result<()> {
        let name = self.format.name;
        let sealed = self.seal.seal(self.sequence, record)?;
        let failed = |error| Error::io(&format!("cannot write {}", dir.shown(name)), error);
        if let Err(error) = self.file.write_all_at(&sealed, self.length) {
            self.doubtful = self.file.set_len(self.length).is_err();
            return Err(failed(error));
        }
        if let Err(error) = self.file.sync_data() {
            // The disk's content is unknown now, and a second fsync would not tell.
            self.doubtful = true;
            let _ = self.file.set_len(self.length);
            return Err(failed(error));
        }
        self.sequence += 1;
        self.length += sealed.len() as u64;
        Ok(())
    }

    /// Tells whether the log has to be rewritten before anything is appended: an error left the
    /// disk in doubt, or somebody removed or replaced the file.
    pub(super) fn is_doubtful(&self, dir: &PrivateDir) -> bool {
        self.doubtful || !dir.is_named(self.format.name, &self.file)
    }

    /// Length of the file in bytes.
    pub(super) fn length(&self) -> u64 {
        self.length
    }
}

/// Bytes that a record takes in the file.
pub(super) fn sealed_length(record: &[u8]) -> u64 {
    (FRONT + TAG + record.len()) as u64
}

/// Seals and opens the records of one file.
struct Seal {
    key: Arc<Key>,
    header: [u8; HEADER],
}

impl Seal {
    fn new(format: Format, key: &Arc<Key>) -> Result<Seal> {
        let mut header = [0; HEADER];
        header[..WORDS].copy_from_slice(format.words);
        fill_random(&mut header[WORDS..])?;
        Ok(Seal::with_header(key, header))
    }

    fn with_header(key: &Arc<Key>, header: [u8; HEADER]) -> Seal {
        let key = Arc::clone(key);
        Seal { key, header }
    }

    /// Short-lived, because every place that a cipher is moved to would hold the key.
    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(self.key.expose().into())
    }

    fn seal(&self, sequence: u64, record: &[u8]) -> Result<Vec<u8>> {
        let too_large = || Error::new(Kind::TooLarge, "larger than a record of a log can be");
        let length = u32::try_from(record.len() + TAG).map_err(|_| too_large())?;
        if length > LARGEST {
            return Err(too_large());
        }
        let mut nonce = [0; NONCE];
        fill_random(&mut nonce)?;
        let payload = Payload {
            msg: record,
            aad: &self.place(sequence),
        };
        let sealed = self
            .cipher()
            .encrypt(XNonce::from_slice(&nonce), payload)
            .map_err(|_| Error::new(Kind::Io, "cannot seal a record of the log"))?;
        let length = length.to_be_bytes();
        let check = self.check(sequence, length);
        Ok([&length, &check, nonce.as_slice(), &sealed].concat())
    }

    /// Reads a box's length; `None` if it is not as it was written.
    fn length(&self, sequence: u64, front: &[u8; FRONT]) -> Option<u32> {
        let length: [u8; 4] = front[..4].try_into().expect("four bytes");
        let sound = self.check(sequence, length) == front[4..8];
        let length = u32::from_be_bytes(length);
        (sound && (TAG as u32..=LARGEST).contains(&length)).then_some(length)
    }

    fn open(
        &self,
        sequence: u64,
        front: &[u8; FRONT],
        sealed: &[u8],
    ) -> Option<Zeroizing<Vec<u8>>> {
        let payload = Payload {
            msg: sealed,
            aad: &self.place(sequence),
        };
        let nonce = XNonce::from_slice(&front[8..]);
        let record = self.cipher().decrypt(nonce, payload).ok()?;
        Some(Zeroizing::new(record))
    }

    /// Returns the data that bind a record to its file and its place.
    fn place(&self, sequence: u64) -> [u8; HEADER + 8] {
        let mut place = [0; HEADER + 8];
        place[..HEADER].copy_from_slice(&self.header);
        place[HEADER..].copy_from_slice(&sequence.to_be_bytes());
        place
    }

    /// Tells a length that is damaged from a record that was not written to its end.
    fn check(&self, sequence: u64, length: [u8; 4]) -> [u8; 4] {
        let digest = sha2::Sha256::new()
            .chain_update(self.place(sequence))
            .chain_update(length)
            .finalize();
        digest[..4].try_into().expect("32 bytes")
    }
}

fn is_newer(format: Format, header: &[u8; HEADER]) -> bool {
    let mut expected = *format.words;
    expected[VERSION] = header[VERSION];
    header[..WORDS] == expected && (b'2'..=b'9').contains(&header[VERSION])
}
