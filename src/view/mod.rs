//! Files and directories, as programs see them.
//!
//! The view turns the vault's documents into a tree of names, keeps what programs write until it
//! is published, and holds every rule of DESIGN 4 and 5. It knows nothing of the kernel: a web
//! page or a mail gateway can use it as `fuse/` does.
//!
//! Locks, in the order in which they are taken: an open file's content, then the tree. The
//! handle table, the error log and what processes saw are leaves. None is held during cryptography or disk I/O,
//! except a file's own content while that file is published.

mod background;
mod draft;
mod error_log;
mod history;
mod looking;
mod news;
mod ops;
mod special;
mod tree;

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

pub use background::Background;
pub use draft::rescue::Unsaved;
pub use history::list::{OldNote, OldState, OldVersion};
pub use history::restore::Restored;
pub use news::{Event, News, Watcher};
pub use ops::open::Access;
pub use ops::rename::RenameMode;
pub use ops::write::SetAttr;
pub use special::status::{ContactStatus, InService, Status, Surroundings};
pub use tree::Ino;

use crate::error::{Error, Kind, Result};
use crate::ids::{Folder, Timestamp};
use crate::vault::{Audience, Vault};
use crate::view::ops::open::check_length;
use crate::view::tree::{FileRole, NodeData, Role, Tree};

/// How the view behaves; see `dds-mount(1)` for the configuration that sets it.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Notes shared with others may be removed.
    pub remove_shared_notes: bool,
    /// How many files of `software/` may be open at once, as each takes a descriptor; without a
    /// number as many as the system lets.
    pub open_software: Option<usize>,
    /// What the status tells of the process.
    pub surroundings: Surroundings,
}

/// The mounted tree.
pub struct View {
    vault: Vault,
    options: Options,
    tree: Mutex<Tree>,
    handles: Mutex<HashMap<u64, Arc<ops::open::Handle>>>,
    next_handle: AtomicU64,
    errors: error_log::ErrorLog,
    /// What each process saw last.
    read_set: Mutex<draft::read_set::ReadSet>,
    /// What this mount published: digests of contents, and to whom.
    published: Mutex<HashMap<[u8; 32], Vec<Audience>>>,
    /// The documents that this mount made.
    made_here: Mutex<draft::made_here::MadeHere>,
    started: Timestamp,
    last_use: special::status::LastUse,
    looks: looking::Looks,
    /// Everything that was in the store at first is shown.
    was_read: AtomicBool,
    /// Names under which programs wrote certificates in this mount that have other ones.
    spelled_keys: Mutex<HashMap<OsString, special::SpelledKey>>,
    /// Who is told what others did.
    watcher: OnceLock<Watcher>,
}

/// A process, as far as writing is concerned: threads of one group share their files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ThreadGroup(pub u32);

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// The asking process; `None` if it cannot be told.
    pub group: Option<ThreadGroup>,
    /// The superuser passes permission bits, but not the rules of the view.
    pub is_root: bool,
}

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link.
    Symlink,
}

/// What `stat` shows.
#[derive(Clone, Copy, Debug)]
pub struct Attr {
    /// The inode's number.
    pub ino: Ino,
    /// What it is.
    pub kind: NodeKind,
    /// Bytes of content.
    pub size: u64,
    /// Last access, as far as a program set it; else the last change of the content.
    pub atime: Timestamp,
    /// Last change of the content.
    pub mtime: Timestamp,
    /// Last change of anything that `stat` shows.
    pub ctime: Timestamp,
    /// Permission bits, 0..=0o777.
    pub mode: u32,
    /// Number of links.
    pub links: u32,
}

/// A line of a directory listing.
#[derive(Clone, Debug)]
pub struct DirEntry {
    /// The entry's inode.
    pub ino: Ino,
    /// What it is.
    pub kind: NodeKind,
    /// Its name.
    pub name: OsString,
}

/// Number of an open file or directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HandleId(pub u64);

impl View {
    /// Makes the view of a vault.
    ///
    /// # Errors
    /// What the first look at the store gives.
    pub fn new(vault: Vault, options: Options) -> Result<View> {
        let mut tree = Tree::new();
        special::plant(&mut tree);
        let view = View {
            vault,
            options,
            tree: Mutex::new(tree),
            handles: Mutex::default(),
            next_handle: AtomicU64::new(1),
            errors: error_log::ErrorLog::default(),
            read_set: Mutex::default(),
            published: Mutex::default(),
            made_here: Mutex::default(),
            started: Timestamp::now(),
            last_use: special::status::LastUse::now(),
            looks: looking::Looks::default(),
            was_read: AtomicBool::new(false),
            spelled_keys: Mutex::default(),
            watcher: OnceLock::new(),
        };
        view.show_changes();
        view.show_rescued();
        Ok(view)
    }

    /// Finds a name in a directory.
    ///
    /// # Errors
    /// `NotFound`; `NotDirectory`; `NameTooLong`; `Io` when the store cannot be read.
    pub fn lookup(&self, parent: Ino, name: &OsStr) -> Result<Attr> {
        check_length(name)?;
        self.refresh_special(parent, Some(name))?;
        if let Some(ino) = self.find(parent, name)? {
            return self.getattr(ino);
        }
        self.look()?;
        if let Some(ino) = self.find(parent, name)? {
            return self.getattr(ino);
        }
        self.give_unreserved_names(Some(parent));
        match self.find(parent, name)? {
            Some(ino) => self.getattr(ino),
            None => {
                self.tell_unknown_audience(parent, name);
                Err(not_found())
            }
        }
    }

    /// Tells in `.dds/errors` why a name in `messages/` or `notes/` is no audience: the errno alone
    /// does not say whom it would have been. Hidden names are probes of programs.
    fn tell_unknown_audience(&self, parent: Ino, name: &OsStr) {
        let folder = match self.tree().dir(parent).map(|dir| dir.role.clone()) {
            Some(Role::Folder(folder)) => folder,
            _ => return,
        };
        let spelled = name.to_string_lossy();
        if spelled.starts_with('.') {
            return;
        }
        let why = tree::audiences::why_unknown(&self.vault.people(), folder, &spelled);
        let path = format!("{}/{spelled}", folder.name());
        self.errors.note_once(&path, &why);
    }

    fn find(&self, parent: Ino, name: &OsStr) -> Result<Option<Ino>> {
        let people = self.vault.people();
        let mut tree = self.tree();
        let dir = tree
            .dir(parent)
            .ok_or_else(|| self.not_a_directory(&tree, parent))?;
        let found = dir.children.get(name).copied();
        if dir.role == Role::Keys && found.is_none() {
            // A second name and no link: programs set modes and times of what they wrote without
            // following links.
            let stored = self.spelled_key(&tree, parent, name);
            return Ok(stored.and_then(|stored| tree.child(parent, stored.as_os_str())));
        }
        let Role::Folder(folder) = dir.role else {
            return Ok(found);
        };
        if let Some(ino) = found {
            // Looked up by its canonical name: it stays listed in this mount.
            if let Some(dir) = tree.dir_mut(ino) {
                dir.listed_while_empty = true;
            }
            return Ok(found);
        }
        let spelled = name.to_str();
        let Some(audience) =
            spelled.and_then(|name| tree::audiences::resolve(&people, folder, name))
        else {
            return Ok(None);
        };
        let canonical = tree::audiences::canonical_name(&people, &audience);
        if spelled != Some(canonical.as_str()) {
            if tree::audiences::resolve(&people, folder, &canonical).is_none() {
                // A name that does not spell its members is only found while it is there.
                let ino = tree.audience_dir(folder, &audience, &people);
                if let Some(dir) = tree.dir_mut(ino) {
                    dir.listed_while_empty = true;
                }
            }
            return Ok(Some(tree.alias(parent, name, canonical)));
        }
        let ino = tree.audience_dir(folder, &audience, &people);
        if let Some(dir) = tree.dir_mut(ino) {
            dir.listed_while_empty = true;
        }
        Ok(Some(ino))
    }

    /// Finds a name that is shown already, without looking at the store and without keeping
    /// the directory listed.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn peek(&self, parent: Ino, name: &OsStr) -> Result<Attr> {
        let ino = self.tree().child(parent, name).ok_or_else(not_found)?;
        self.getattr(ino)
    }

    /// Returns what `stat` shows of a node.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn getattr(&self, ino: Ino) -> Result<Attr> {
        let tree = self.tree();
        let node = tree.get(ino).ok_or_else(not_found)?;
        let attr = match &node.data {
            NodeData::Dir(dir) => Attr {
                ino,
                kind: NodeKind::Directory,
                size: 0,
                atime: node.atime(dir.mtime),
                mtime: dir.mtime,
                ctime: node.ctime(dir.mtime),
                mode: dir.mode() << 6,
                links: tree.links_of(dir),
            },
            NodeData::Alias(target) => Attr {
                ino,
                kind: NodeKind::Symlink,
                size: target.len() as u64,
                atime: node.atime(self.started),
                mtime: self.started,
                ctime: node.ctime(self.started),
                mode: 0o777,
                links: 1,
            },
            NodeData::File(file) => {
                let stat = match (&file.role, &file.open) {
                    (FileRole::Status | FileRole::Errors, None) => {
                        let role = file.role.clone();
                        drop(tree);
                        let stat = self.load_special(&role)?.stat();
                        return Ok(file_attr(ino, stat, [stat.mtime; 2], 1));
                    }
                    _ => self.file_stat(file),
                };
                let links = u32::from(tree.is_attached(ino));
                let times = [node.atime(stat.mtime), node.ctime(stat.mtime)];
                file_attr(ino, stat, times, links)
            }
        };
        Ok(attr)
    }

    /// Size, time and owner's bits of a file of the tree.
    fn file_stat(&self, file: &tree::FileNode) -> draft::state::Stat {
        if let Some(open) = &file.open {
            return open.stat();
        }
        match &file.role {
            FileRole::Document(tree::Shown {
                head: Some(head), ..
            }) => {
                let version = &head.version;
                draft::state::Stat {
                    size: version.size,
                    mtime: version.mtime,
                    mode: document_mode(version),
                }
            }
            FileRole::Document(_)
            | FileRole::Scratch
            | FileRole::Backup(..)
            | FileRole::Key(_)
            | FileRole::Software(_)
            | FileRole::Status
            | FileRole::Errors
            | FileRole::Rescued(_) => file.stat.unwrap_or(draft::state::Stat {
                size: 0,
                mtime: self.started,
                mode: 0o6,
            }),
        }
    }

    /// Returns the target of a symbolic link.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` for anything but a link.
    pub fn readlink(&self, ino: Ino) -> Result<String> {
        match &self.tree().get(ino).ok_or_else(not_found)?.data {
            NodeData::Alias(target) => Ok(target.clone()),
            NodeData::Dir(_) | NodeData::File(_) => {
                Err(Error::new(Kind::Invalid, "not a symbolic link"))
            }
        }
    }

    /// Lists a directory, after looking at the store.
    ///
    /// # Errors
    /// `NotDirectory`; `NotFound`; `Io` when the store cannot be read.
    pub fn list(&self, ino: Ino) -> Result<Vec<DirEntry>> {
        self.look()?;
        self.give_free_names(Some(ino));
        self.refresh_special(ino, None)?;
        let tree = self.tree();
        let dir = tree
            .dir(ino)
            .ok_or_else(|| self.not_a_directory(&tree, ino))?;
        let parent = tree.get(ino).map_or(ino, |node| node.parent);
        let dots = [(ino, "."), (parent, "..")].map(|(ino, name)| DirEntry {
            ino,
            kind: NodeKind::Directory,
            name: name.into(),
        });
        let children = dir.children.iter().filter_map(|(name, ino)| {
            Some(DirEntry {
                ino: *ino,
                kind: kind_of(&tree.get(*ino)?.data),
                name: name.clone(),
            })
        });
        Ok(dots.into_iter().chain(children).collect())
    }

    /// Counts that somebody was told an inode number; undone by [`View::forget`].
    pub fn remember(&self, ino: Ino) {
        self.tree().remember(ino);
    }

    /// Counts that an inode number was forgotten `times` times.
    pub fn forget(&self, ino: Ino, times: u64) {
        self.tree().forget(ino, times);
    }

    /// The vault below.
    pub fn vault(&self) -> &Vault {
        &self.vault
    }

    /// Looks at the whole store and shows what changed.
    ///
    /// # Errors
    /// As [`Vault::refresh`].
    pub fn refresh(&self) -> Result<()> {
        self.vault.refresh()?;
        self.show_changes();
        Ok(())
    }

    /// Brings the tree up to date with what the vault knows.
    fn show_changes(&self) {
        let people = self.vault.people();
        let is_read = self.vault.is_scanned();
        let mut tree = self.tree();
        self.begin_news(&mut tree);
        let stale = tree.drop_stale_audiences(&people);
        for folder in Folder::ALL {
            tree.unverified_dir(folder);
            for contact in people.contacts() {
                let alone = Audience::from_iter([contact.fingerprint.clone()]);
                tree.audience_dir(folder, &alone, &people);
            }
        }
        tree.audience_dir(Folder::Notes, &Audience::me(), &people);
        // Taken under the tree's lock, so that changes are applied in their order.
        let mut changes = self.vault.take_changes();
        for key in stale {
            if !changes.iter().any(|(changed, _)| *changed == key) {
                let document = self.vault.document(&key);
                changes.push((key, document));
            }
        }
        self.note_made_elsewhere(&changes);
        tree.apply(changes, &people);
        self.tell_news(&mut tree);
        self.was_read.fetch_or(is_read, Ordering::Relaxed);
    }

    fn tree(&self) -> MutexGuard<'_, Tree> {
        lock(&self.tree)
    }

    /// Returns the open files with unsaved content; the tree is not held afterwards.
    fn open_drafts(&self) -> Vec<(Ino, Arc<draft::state::OpenFile>)> {
        let tree = self.tree();
        let drafts = tree.files().filter(|(_, file)| file.draft);
        drafts
            .filter_map(|(ino, file)| Some((ino, file.open.clone()?)))
            .collect()
    }

    fn not_a_directory(&self, tree: &Tree, ino: Ino) -> Error {
        match tree.get(ino) {
            Some(_) => Error::new(Kind::NotDirectory, "not a directory"),
            None => not_found(),
        }
    }

    fn insert_handle(&self, handle: ops::open::Handle) -> HandleId {
        let id = self.next_handle.fetch_add(1, Ordering::Relaxed);
        lock(&self.handles).insert(id, Arc::new(handle));
        HandleId(id)
    }

    fn handle(&self, id: HandleId) -> Result<Arc<ops::open::Handle>> {
        let handles = lock(&self.handles);
        let handle = handles.get(&id.0).cloned();
        handle.ok_or_else(|| Error::new(Kind::BadHandle, "not an open file"))
    }
}

fn file_attr(
    ino: Ino,
    stat: draft::state::Stat,
    [atime, ctime]: [Timestamp; 2],
    links: u32,
) -> Attr {
    Attr {
        ino,
        kind: NodeKind::File,
        size: stat.size,
        atime,
        mtime: stat.mtime,
        ctime,
        mode: stat.mode << 6,
        links,
    }
}

/// Owner's permission bits of a published document.
fn document_mode(version: &crate::vault::Version) -> u32 {
    let unverified = version.audience().is_none();
    if version.is_received() || unverified {
        0o4
    } else {
        version.mode.unwrap_or(0o6)
    }
}

fn kind_of(what: &NodeData) -> NodeKind {
    match what {
        NodeData::Dir(_) => NodeKind::Directory,
        NodeData::Alias(_) => NodeKind::Symlink,
        NodeData::File(_) => NodeKind::File,
    }
}

fn not_found() -> Error {
    Error::new(Kind::NotFound, "no such file or directory")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
