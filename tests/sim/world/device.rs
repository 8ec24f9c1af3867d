//! A device: a store, the view that its owner has of it, and the syncer.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::path::PathBuf;

use dds::fuse::errno_of;
use dds::ids::BlobName;
use dds::view::{Access, Caller, HandleId, Ino, NodeKind, Reader, RenameMode};

use super::people::Cast;
use super::syncer::{FileId, Syncer};
use crate::support::mount::Home;
use crate::support::people::make_store;
use crate::support::rig::{Done, InProcess, Rig as _};

/// A file that a program has open for writing.
pub struct Slot {
    pub handle: HandleId,
    /// Where it is; empty once it was removed.
    pub path: String,
    /// What a save of it may replace.
    pub may_replace: Vec<BlobName>,
}

pub struct Device {
    /// `None`: nobody's, without keys.
    pub owner: Option<&'static str>,
    rig: Option<InProcess>,
    /// Where everything of it is, the store apart.
    pub home: PathBuf,
    pub store: PathBuf,
    /// Of a device without an owner.
    _home: Option<Home>,
    pub syncer: Syncer,
    /// The files of a copy of the store.
    pub copy: Option<BTreeSet<FileId>>,
    /// Messages that were removed here, and the versions that they had replaced.
    pub removed: BTreeSet<BlobName>,
    /// The version that each program saw last under a path, since the mount began.
    pub seen: HashMap<(u32, String), BlobName>,
    /// The published versions, and those that each may have replaced.
    pub made: HashMap<BlobName, Vec<BlobName>>,
    pub open: HashMap<u32, Slot>,
    /// What may be replaced under a path from which a backup was renamed away.
    pub backups: HashMap<String, Vec<BlobName>>,
    /// What was renamed away, by the backup's path.
    pub renamed_away: HashMap<String, BlobName>,
    /// Paths of files, as last listed.
    pub listed: Vec<String>,
}

fn number(error: dds::error::Error) -> i32 {
    errno_of(error.kind())
}

pub fn caller(group: u32) -> Caller {
    Caller {
        reader: Some(Reader::process(7_000_000 + group)),
        is_root: false,
    }
}

pub fn writing(truncate: bool, append: bool) -> Access {
    Access {
        read: false,
        write: true,
        append,
        truncate,
        exclusive: false,
    }
}

impl Device {
    pub fn new(cast: &Cast, owner: Option<&'static str>) -> Device {
        // Nothing here asks how durable a disk is.
        let memory = std::path::Path::new("/dev/shm");
        let place = match memory.is_dir() {
            true => memory,
            false => "/tmp".as_ref(),
        };
        let dir = tempfile::Builder::new().prefix("dds").tempdir_in(place);
        let dir = dir.unwrap();
        let home = dir.path().to_owned();
        let store = make_store(&home, &cast.all());
        let its = Home { dir };
        let (rig, its) = match owner {
            Some(owner) => (
                Some(InProcess::of(cast.of(owner), its, store.clone())),
                None,
            ),
            None => (None, Some(its)),
        };
        Device {
            owner,
            rig,
            home,
            store,
            _home: its,
            syncer: Syncer::default(),
            copy: None,
            removed: BTreeSet::new(),
            seen: HashMap::new(),
            made: HashMap::new(),
            open: HashMap::new(),
            backups: HashMap::new(),
            renamed_away: HashMap::new(),
            listed: Vec::new(),
        }
    }

    pub fn rig(&self) -> &InProcess {
        self.rig.as_ref().expect("it has an owner")
    }

    pub fn remount(&mut self) {
        self.forget_mount();
        self.rig.as_mut().unwrap().remount_with_rescue();
    }

    /// The process dies, if there is one; meanwhile something happens to the device.
    pub fn crash(&mut self, meanwhile: impl FnOnce()) {
        self.forget_mount();
        match &mut self.rig {
            Some(rig) => rig.crash(|_| meanwhile()),
            None => meanwhile(),
        }
    }

    fn forget_mount(&mut self) {
        self.seen.clear();
        self.made.clear();
        self.open.clear();
        self.backups.clear();
        self.renamed_away.clear();
    }

    /// The blob that stands under a path.
    pub fn blob_at(&self, path: &str) -> Option<BlobName> {
        let blob = self.rig().xattr(path, "user.dds.blob").ok()?;
        Some(blob.parse().unwrap())
    }

    /// No message stands under a path that was removed here.
    pub fn check_removed(&self, path: &str) -> Result<(), String> {
        match self.blob_at(path) {
            Some(blob) if self.removed.contains(&blob) && path.starts_with("messages/") => {
                Err(format!("{path} was removed and is back: {blob}"))
            }
            _ => Ok(()),
        }
    }

    fn find(&self, path: &str) -> Done<Ino> {
        self.rig().paths().find(path).map_err(number)
    }

    fn parent<'a>(&self, path: &'a str) -> Done<(Ino, &'a OsStr)> {
        self.rig().paths().parent(path).map_err(number)
    }

    /// Opens for writing; creates the file if it is missing.
    pub fn open_file(&self, group: u32, path: &str, access: Access) -> Done<HandleId> {
        let view = self.rig().view();
        match self.find(path) {
            Ok(ino) => view.open(ino, access, caller(group)).map_err(number),
            Err(libc::ENOENT) => {
                let (parent, name) = self.parent(path)?;
                let made = view.create(parent, name, 0o600, access, caller(group));
                made.map(|(_, handle)| handle).map_err(number)
            }
            Err(error) => Err(error),
        }
    }

    pub fn save(&self, group: u32, path: &str, access: Access, bytes: &[u8]) -> Done<()> {
        let handle = self.open_file(group, path, access)?;
        let view = self.rig().view();
        let written = view.write(handle, 0, bytes, false).map_err(number);
        written.and(self.close(group, handle))
    }

    pub fn put(&self, handle: HandleId, bytes: &[u8]) -> Done<()> {
        let view = self.rig().view();
        view.write(handle, 0, bytes, false).map_err(number)
    }

    pub fn close(&self, group: u32, handle: HandleId) -> Done<()> {
        let view = self.rig().view();
        let flushed = view.flush(handle, caller(group)).map_err(number);
        view.release(handle);
        flushed
    }

    pub fn read(&self, group: u32, path: &str) -> Done<Vec<u8>> {
        let view = self.rig().view();
        let access = Access {
            read: true,
            ..Access::default()
        };
        let handle = view.open(self.find(path)?, access, caller(group));
        let handle = handle.map_err(number)?;
        let bytes = view.read(handle, 0, usize::MAX).map_err(number);
        let bytes = bytes.map(|bytes| bytes.to_vec());
        view.release(handle);
        bytes
    }

    pub fn rename(&self, group: u32, from: &str, to: &str) -> Done<()> {
        // As the kernel does before it asks.
        if to.starts_with(&format!("{from}/")) {
            return Err(libc::EINVAL);
        }
        let (parent, name) = self.parent(from)?;
        let (new_parent, new_name) = self.parent(to)?;
        self.find(from)?;
        let (mode, who) = (RenameMode::default(), caller(group));
        let view = self.rig().view();
        view.rename(parent, name, new_parent, new_name, mode, who)
            .map_err(number)
    }

    /// Paths below a directory: files, and directories with a slash at the end.
    pub fn below(&self, dir: &str) -> Vec<String> {
        let view = self.rig().view();
        let mut found = Vec::new();
        let mut open: Vec<_> = self.find(dir).ok().into_iter().collect();
        let mut paths = vec![dir.to_owned()];
        while let Some((ino, dir)) = open.pop().zip(paths.pop()) {
            for entry in view.list(ino).unwrap_or_default() {
                let name = entry.name.into_string().unwrap();
                let path = format!("{dir}/{name}");
                if entry.kind != NodeKind::Directory {
                    found.push(path);
                } else {
                    found.push(format!("{path}/"));
                    open.push(entry.ino);
                    paths.push(path);
                }
            }
        }
        found.sort();
        found
    }
}
