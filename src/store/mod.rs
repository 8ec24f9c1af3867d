//! The synced folder: ciphertext, certificates and plain software, by file name.
//!
//! Owns the rules of the store's files (dds-store(5)): which names are candidates, how a blob is
//! published so that no part of it ever has a blob's name, and that nothing but plain files
//! beneath the store is ever opened. Sees no plaintext and no keys.
//!
//! Assumes nothing about the other writers: a syncer may replace, truncate or remove any file
//! and any folder at any time. So no call trusts an earlier one.

mod beneath;
mod dir;
mod memory;
mod names;
mod publish;
#[cfg(test)]
mod put_tests;
mod survey;
mod watch;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::Read;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt as _;

use crate::error::{Error, Kind, Result, printable};
use crate::ids::{Folder, Timestamp};
use crate::openpgp::{Ciphertext, Receipt, Sealed};
pub use dir::DirStore;
pub use memory::MemoryStore;
pub use names::{is_candidate, is_conflict_copy, is_syncers};
pub use survey::{Node, NodeKind, SurveyedFolder};
pub use watch::{Change, Watch};

/// One component of a path in the store, any bytes but `/` and NUL.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileName(OsString);

impl FileName {
    /// Takes a file name.
    ///
    /// # Errors
    /// `Invalid` if it is empty, `.`, `..` or holds `/` or NUL; `NameTooLong` over 255 bytes.
    pub fn new(name: impl Into<OsString>) -> Result<Self> {
        let name = name.into();
        let bytes = name.as_bytes();
        if bytes.len() > 255 {
            return Err(Error::new(Kind::NameTooLong, "a name of over 255 bytes"));
        }
        if matches!(bytes, b"" | b"." | b"..") || bytes.iter().any(|b| matches!(b, b'/' | 0)) {
            return Err(Error::new(Kind::Invalid, "not a file name"));
        }
        Ok(FileName(name))
    }

    /// Returns the name.
    pub fn as_os_str(&self) -> &OsStr {
        &self.0
    }

    /// Returns the bytes of the name.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// Shows the name safely for terminals; not every name can be told from its display.
impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(&self.0.to_string_lossy()))
    }
}

impl fmt::Debug for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The look of a file from outside; only ever a shortcut for "unchanged since".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stamp {
    /// Device number.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Length in bytes.
    pub size: u64,
    /// Time of the last change of the content, as its writer says.
    pub mtime: Timestamp,
    /// Time of the last change of content or attributes, as the kernel says.
    pub ctime: Timestamp,
}

impl Stamp {
    /// Tells whether two are of one file with the same content. Linking and unlinking change the
    /// time of change, and nothing else does that alone: it does not count.
    pub fn is_same_file(&self, other: &Stamp) -> bool {
        let as_other = Stamp {
            ctime: other.ctime,
            ..*self
        };
        as_other == *other
    }

    /// Tells whether any later change must show in the stamp.
    ///
    /// Clocks of file systems tick in steps of up to 2 s (FAT): a file that was changed just
    /// now may change again without a trace, so its equal stamp proves nothing yet. A time far
    /// ahead was set by its writer, and does not stay if they write again.
    pub fn is_settled(&self, now: Timestamp) -> bool {
        let recent = |time: Timestamp| time.seconds().abs_diff(now.seconds()) <= 2;
        !recent(self.mtime) && !recent(self.ctime)
    }
}

/// A file that may hold a blob.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// The folder it lies in.
    pub folder: Folder,
    /// Its name there.
    pub name: FileName,
    /// How it looked.
    pub stamp: Stamp,
}

/// A file that may hold certificates.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyFile {
    /// Its name in `keys/`, which identifies nobody.
    pub name: FileName,
    /// How it looked.
    pub stamp: Stamp,
}

/// The kinds of entries of `software/` that are shown; everything else is hidden.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SoftwareKind {
    /// A plain file.
    File,
    /// A directory.
    Directory,
}

/// Returns the name and the length of a written blob.
fn label(receipt: &Receipt) -> (FileName, u64) {
    let name = FileName::new(receipt.name.file_name());
    (name.expect("hex digits and .asc"), receipt.length)
}

/// Metadata of a plain file or directory below `software/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SoftwareEntry {
    /// File or directory.
    pub kind: SoftwareKind,
    /// How it looks: size, times, identity.
    pub stamp: Stamp,
}

impl SoftwareEntry {
    /// Length in bytes, 0 for directories.
    pub fn size(&self) -> u64 {
        match self.kind {
            SoftwareKind::File => self.stamp.size,
            SoftwareKind::Directory => 0,
        }
    }

    /// Time of the last change.
    pub fn mtime(&self) -> Timestamp {
        self.stamp.mtime
    }
}

/// An open file below `software/`: keeps reading the same file whatever happens to its name.
pub trait SoftwareFile: Send + Sync {
    /// Reads up to `size` bytes from `offset`; fewer only at the end of the file.
    ///
    /// # Errors
    /// The disk's error.
    fn read_at(&self, offset: u64, size: usize) -> Result<Vec<u8>>;

    /// Returns the present metadata.
    ///
    /// # Errors
    /// The disk's error.
    fn metadata(&self) -> Result<SoftwareEntry>;
}

/// A file that is being read, and that somebody else may change meanwhile.
///
/// It gives no more bytes than the file had when it was opened.
pub trait BlobFile: Read + Send + Sync {
    /// How the file looked when it was opened.
    fn stamp(&self) -> Stamp;

    /// Tells, after the last byte was read, whether the bytes are those of the stamp.
    ///
    /// A write that had begun before and still goes on leaves no trace, so the bytes may be a
    /// mixture of two contents nevertheless: only authentication tells.
    ///
    /// # Errors
    /// `Busy` if the file changed while it was read, or was not read to its end.
    fn finish(self: Box<Self>) -> Result<Stamp>;
}

fn read_whole(mut file: Box<dyn BlobFile>) -> Result<(Vec<u8>, Stamp)> {
    let doing = "cannot read a file of the store";
    // The size is only a claim, and one byte more lets the end be seen without growing.
    let size = usize::try_from(file.stamp().size).unwrap_or(usize::MAX);
    let mut bytes = Vec::new();
    bytes
        .try_reserve_exact(size.saturating_add(1))
        .map_err(|_| {
            let sentence = format!("{doing}: no memory for {size} bytes");
            Error::new(Kind::TooLarge, sentence)
        })?;
    let read = file.read_to_end(&mut bytes);
    read.map_err(|error| Error::io(doing, error))?;
    Ok((bytes, file.finish()?))
}

/// The synced folder.
///
/// A folder that does not exist is an empty one; a folder that is a symbolic link or a file is
/// an error (`NotDirectory`), and so is a store that is gone (`NotFound`).
pub trait Store: Send + Sync {
    /// Lists the plain files that may hold a blob, in no particular order.
    ///
    /// # Errors
    /// The disk's error.
    fn list(&self, folder: Folder) -> Result<Vec<Entry>>;

    /// Opens a file for reading it once from its first byte to its last.
    ///
    /// # Errors
    /// `NotFound`; `TooLarge` if it is longer than `limit` bytes; `Invalid` if it is not a plain
    /// file.
    fn open_blob(&self, entry: &Entry, limit: u64) -> Result<Box<dyn BlobFile>>;

    /// Reads a file whole, with the stamp that fits the bytes.
    ///
    /// # Errors
    /// As [`Store::open_blob`] and [`BlobFile::finish`].
    fn read(&self, entry: &Entry, limit: u64) -> Result<(Vec<u8>, Stamp)> {
        read_whole(self.open_blob(entry, limit)?)
    }

    /// Publishes a blob: writes it, brings it to the disk, and only then gives it its name.
    ///
    /// A missing folder is made. The directory is not synced: until [`Store::sync`] a power cut
    /// may take the name away again, but never leaves a part. A plain file of that name with the
    /// same bytes is success, too.
    ///
    /// # Errors
    /// `NoSpace`, and whatever the disk or the sealing says; `Exists` if something else has
    /// that name. Then nothing is left behind.
    fn put(&self, folder: Folder, sealed: &Sealed<'_>) -> Result<(Receipt, Entry)>;

    /// Publishes a blob that was sealed earlier. One that is there already is no error.
    ///
    /// # Errors
    /// `NoSpace` or `Io` as the disk says. Nothing is left then.
    fn place(&self, folder: Folder, blob: &mut Ciphertext<'_>) -> Result<Entry>;

    /// Begins to report changes, from another thread, if that can be done here.
    ///
    /// # Errors
    /// `Io` if the system has no watch left; `Unsupported` if this store cannot.
    fn watch(&self, tell: Box<dyn Fn(Change) + Send>) -> Result<Box<dyn Watch>>;

    /// Makes the directory's present entries survive a power cut.
    ///
    /// # Errors
    /// `NotFound` if there is no such folder; the disk's error.
    fn sync(&self, folder: Folder) -> Result<()>;

    /// Returns how a file looks now, without opening it.
    ///
    /// # Errors
    /// `NotFound`; the disk's error.
    fn stamp(&self, folder: Folder, name: &FileName) -> Result<Stamp>;

    /// Gives a file a second name in a directory outside the store, and returns how it looks
    /// then: its time of change is another one. A file that was replaced since `entry` was made
    /// gets none.
    ///
    /// # Errors
    /// `NotFound`; `Unsupported` where it cannot be, as on another disk; `Busy` if it is another
    /// file by now; `NoSpace` and `Io` as the disk says.
    fn link_out(&self, entry: &Entry, dir: BorrowedFd<'_>, name: &str) -> Result<Stamp>;

    /// Unlinks a file.
    ///
    /// # Errors
    /// `NotFound`, which a caller may well ignore; the disk's error.
    fn remove(&self, folder: Folder, name: &FileName) -> Result<()>;

    /// Lists the plain files of `keys/` that may hold certificates.
    ///
    /// # Errors
    /// The disk's error.
    fn keys(&self) -> Result<Vec<KeyFile>>;

    /// Reads a file of `keys/` whole.
    ///
    /// # Errors
    /// As [`Store::read`].
    fn read_key(&self, name: &FileName, limit: u64) -> Result<Vec<u8>>;

    /// Writes a file of `keys/` durably, replacing one that has the name at once or not at all.
    ///
    /// # Errors
    /// `Invalid` unless the name is one that [`Store::keys`] lists; the disk's error.
    fn put_key(&self, name: &FileName, bytes: &[u8]) -> Result<()>;

    /// Unlinks a file of `keys/` durably.
    ///
    /// # Errors
    /// `NotFound`; the disk's error.
    fn remove_key(&self, name: &FileName) -> Result<()>;

    /// Returns the entry at a path below `software/`; the empty path is `software/` itself.
    ///
    /// # Errors
    /// `NotFound`, also for hidden entries: links, devices, names of syncers.
    fn software_metadata(&self, path: &[FileName]) -> Result<SoftwareEntry>;

    /// Lists a directory below `software/`, sorted by name.
    ///
    /// # Errors
    /// As [`Store::software_metadata`]; `NotDirectory` for a file.
    fn software_list(&self, path: &[FileName]) -> Result<Vec<(FileName, SoftwareEntry)>>;

    /// Opens a plain file below `software/`.
    ///
    /// # Errors
    /// As [`Store::software_metadata`]; `IsDirectory` for a directory.
    fn software_open(&self, path: &[FileName]) -> Result<Box<dyn SoftwareFile>>;

    /// Returns how much room the disk has.
    ///
    /// # Errors
    /// The disk's error.
    fn space(&self) -> Result<Space>;
}

/// Room on a disk, as `statvfs(3)` tells it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// Bytes in the unit of the block counts.
    pub block_size: u32,
    /// Blocks in all.
    pub blocks: u64,
    /// Free blocks.
    pub free: u64,
    /// Free blocks for ordinary users.
    pub available: u64,
    /// Inodes in all.
    pub files: u64,
    /// Free inodes.
    pub free_files: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt as _;

    #[test]
    fn a_file_name_is_one_component() {
        for bad in ["", ".", "..", "a/b", "/", "a\0"] {
            assert_eq!(FileName::new(bad).unwrap_err().kind(), Kind::Invalid);
        }
        let long = FileName::new("x".repeat(256)).unwrap_err();
        assert_eq!(long.kind(), Kind::NameTooLong);
        for good in ["...", ".x", "a b", "\u{202e}"] {
            assert_eq!(FileName::new(good).unwrap().as_bytes(), good.as_bytes());
        }
        let odd = FileName::new(OsString::from_vec(b"a\xff\n".to_vec())).unwrap();
        assert_eq!(odd.to_string(), "a\u{fffd}\\u{a}");
    }

    #[test]
    fn a_stamp_of_just_now_is_not_settled() {
        let at = |seconds| Timestamp::new(seconds, 5).unwrap();
        let stamp = Stamp {
            dev: 1,
            ino: 1,
            size: 1,
            mtime: at(10),
            ctime: at(100),
        };
        assert!(!stamp.is_settled(at(100)) && !stamp.is_settled(at(102)));
        assert!(stamp.is_settled(at(103)));
        let ahead = Stamp {
            mtime: at(1000),
            ..stamp
        };
        assert!(!ahead.is_settled(at(100)) && ahead.is_settled(at(103)));
        assert!(!ahead.is_settled(at(999)));
    }
}
