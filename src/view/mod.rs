//! Files and directories, as programs see them.
//!
//! The view turns the vault's documents into a tree of names, keeps the drafts of programs
//! until they are published, and holds every rule of dds(7) about who may write where. It knows
//! nothing of the kernel: a web
//! page or a mail gateway can use it as `fuse/` does.
//!
//! The order of its locks is in `ranks.rs`. None is held during cryptography or disk I/O, except an
//! open file's own two while it is loaded, read, written or published.

mod arrivals;
mod background;
mod close;
mod draft;
mod error_log;
mod events;
mod facts;
mod history;
mod local_time;
mod looking;
mod ops;
mod paths;
mod ranks;
mod reader;
mod rules;
mod special;
mod spot;
mod tree;

use std::collections::HashMap;
use std::ffi::OsString;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

pub use background::Background;
pub use close::Unsaved;
pub use events::{Event, EventFile, Received, Subscription};
pub use facts::{Correspondent, Facts, Readers};
pub use history::list::{OldNote, OldState, OldVersion};
pub use history::restore::Restored;
pub use ops::attr::SetAttr;
pub use ops::rename::RenameMode;
pub use ops::save::Saved;
pub use paths::{Listed, OpenPath, Paths};
pub use reader::Reader;
pub use special::status::{ContactStatus, InService, Status, Surroundings};
pub use tree::changes::{ChangeKind, TreeChange};
pub use tree::{Ino, NodeKind};

use crate::error::Result;
use crate::ids::Timestamp;
use crate::locks::{Guard, Ranked};
use crate::vault::{ChangeReader, Vault};

/// The tree of a view.
type Tree = tree::Tree<draft::open_file::OpenFile>;

/// How the view behaves; see `dds-mount(1)` for the configuration that sets it.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Notes shared with others may be removed.
    pub remove_shared_notes: bool,
    /// How many files of `software/` may be open at once, as each takes a descriptor; without a
    /// number as many as the system lets.
    pub open_software: Option<usize>,
    /// The part of the status about the process.
    pub surroundings: Surroundings,
}

/// The mounted tree.
pub struct View {
    vault: Vault,
    options: Options,
    tree: Ranked<Tree>,
    handles: Ranked<HashMap<u64, Arc<draft::handles::Handle>>>,
    next_handle: AtomicU64,
    /// Bytes in editors' scratch.
    scratch: Arc<draft::scratch_limit::ScratchBytes>,
    errors: error_log::ErrorLog,
    /// Which of the vault's changes are shown.
    changes: Ranked<ChangeReader>,
    /// The versions that each reader read last. Leaf.
    read_set: Ranked<draft::read_set::ReadSet>,
    /// Contents that this mount published, with their audiences. Leaf.
    published: Ranked<draft::moved_here::PublishedContents>,
    /// The documents that this mount made.
    made_here: Ranked<draft::made_here::MadeHere>,
    started: Timestamp,
    last_use: special::status::LastUse,
    looks: looking::Looks,
    /// Everything that was in the store at first is shown.
    was_read: AtomicBool,
    /// Names under which programs wrote certificates in this mount that have other ones.
    spelled_keys: Ranked<HashMap<OsString, special::keys::SpelledKey>>,
    events: events::Events,
}

/// The reader on whose behalf a call is made.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// The asking process or session; `None` if it cannot be identified.
    pub reader: Option<Reader>,
    /// The superuser passes permission bits, but not the rules of the view.
    pub is_root: bool,
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Access {
    /// For reading.
    pub read: bool,
    /// For writing.
    pub write: bool,
    /// Every write is appended.
    pub append: bool,
    /// Emptied when it is opened (O_TRUNC).
    pub truncate: bool,
    /// Must not exist (O_EXCL). Only [`View::create`] heeds it.
    pub exclusive: bool,
}

/// The attributes that `stat` shows.
#[derive(Clone, Copy, Debug)]
pub struct Attr {
    /// The inode's number.
    pub ino: Ino,
    /// Its kind.
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
    /// Its kind.
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
    /// Those of the first look at the store.
    pub fn new(vault: Vault, options: Options) -> Result<View> {
        let mut tree = Tree::new();
        special::plant(&mut tree);
        let view = View {
            vault,
            options,
            tree: Ranked::new(ranks::TREE, tree),
            handles: Ranked::new(ranks::LEAF, HashMap::new()),
            scratch: Arc::default(),
            next_handle: AtomicU64::new(1),
            errors: error_log::ErrorLog::new(),
            changes: Ranked::new(ranks::LEAF, Default::default()),
            read_set: Ranked::new(ranks::LEAF, Default::default()),
            published: Ranked::new(ranks::LEAF, Default::default()),
            made_here: Ranked::new(ranks::LEAF, Default::default()),
            started: Timestamp::now(),
            last_use: special::status::LastUse::now(),
            looks: looking::Looks::new(),
            was_read: AtomicBool::new(false),
            spelled_keys: Ranked::new(ranks::LEAF, HashMap::new()),
            events: events::Events::new(),
        };
        view.show_changes();
        view.show_rescued();
        Ok(view)
    }

    /// Counts that somebody looked an inode number up; undone by [`View::forget`].
    pub fn remember(&self, ino: Ino) {
        self.tree().remember(ino);
    }

    /// Counts that an inode number was forgotten `times` times.
    pub fn forget(&self, ino: Ino, times: u64) {
        self.tree().forget(ino, times);
    }

    fn tree(&self) -> Guard<'_, Tree> {
        self.tree.lock()
    }
}
