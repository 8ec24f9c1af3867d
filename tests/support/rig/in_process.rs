//! The view in this process, whose operations by path need no kernel.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Cast, Done, Errno, Rig, members};
use crate::support::mount::{Home, wait_for};
use crate::support::people::{Person, make_store};
use dds::contacts::Contacts;
use dds::fuse::errno_of;
use dds::openpgp::Identity;
use dds::state::State;
use dds::store::DirStore;
use dds::vault::{self, Vault};
use dds::view::{self, Access, Caller, HandleId, OpenPath, Paths, Reader, SetAttr, View};

/// The view in this process.
pub struct InProcess {
    home: Home,
    store: PathBuf,
    secret: Vec<u8>,
    view: Option<View>,
}

impl InProcess {
    pub fn new(cast: &Cast) -> InProcess {
        let home = Home::new();
        let store = make_store(home.dir.path(), &members(cast));
        Self::of(&cast.me, home, store)
    }

    /// The view that somebody has of a store.
    pub fn of(person: &Person, home: Home, store: PathBuf) -> InProcess {
        let mut rig = InProcess {
            home,
            store,
            secret: person.secret.clone(),
            view: None,
        };
        rig.start();
        rig
    }

    fn start(&mut self) {
        let store = DirStore::open(&self.store).unwrap();
        let identity = Identity::unlock(&self.secret, None).unwrap();
        let contacts = Contacts::load(&self.home.path("pins")).unwrap();
        let options = vault::Options::default();
        let identities = vec![identity];
        let state = self.open_state(&identities);
        let vault = Vault::open(Arc::new(store), state, identities, contacts, options).unwrap();
        self.view = Some(View::new(vault, view::Options::default()).unwrap());
    }

    fn open_state(&self, identities: &[Identity]) -> State {
        let key = vault::StateKey(identities);
        // Its lock goes with the last copy of its descriptor, and a program that another test is
        // just starting may for a moment have one.
        let mut state = None;
        wait_for("the state of the last mount", || {
            let opened = State::open(&self.home.path("state"), &key);
            if matches!(&opened, Err(error) if error.kind() == dds::error::Kind::Busy) {
                return false;
            }
            state = Some(opened.unwrap());
            true
        });
        state.unwrap()
    }

    /// Ends this mount, changes its state directory and its store as a crash could have left
    /// them, and begins another.
    pub fn remount_after(
        &mut self,
        change_state: impl FnOnce(&State),
        change_store: impl FnOnce(&Path),
    ) {
        assert_eq!(self.view().close(), []);
        self.view = None;
        let identities = vec![Identity::unlock(&self.secret, None).unwrap()];
        change_state(&self.open_state(&identities));
        change_store(&self.store);
        self.start();
    }

    pub fn view(&self) -> &View {
        self.view.as_ref().unwrap()
    }

    pub fn home(&self) -> &Home {
        &self.home
    }

    /// The same person's view of another store.
    pub fn another(&self, home: Home, store: PathBuf) -> InProcess {
        let mut rig = InProcess {
            home,
            store,
            secret: self.secret.clone(),
            view: None,
        };
        rig.start();
        rig
    }

    /// Opens as `open(2)` does and leaves it open.
    pub fn open_as(&self, path: &str, access: Access) -> Done<HandleId> {
        let file = self.open(path, access)?;
        Ok(file.keep())
    }

    pub fn write_handle(&self, handle: HandleId, offset: u64, bytes: &[u8]) -> Done<()> {
        self.view()
            .write(handle, offset, bytes, false)
            .map_err(number)
    }

    pub fn flush_handle(&self, handle: HandleId) -> Done<()> {
        self.view().flush(handle, caller()).map_err(number)
    }

    pub fn fsync_handle(&self, handle: HandleId) -> Done<()> {
        self.view().fsync(handle).map_err(number)
    }

    /// The daemon dies and is started again; meanwhile the store may be changed.
    pub fn crash(&mut self, meanwhile: impl FnOnce(&Path)) {
        self.view = None;
        meanwhile(&self.store);
        self.start();
    }

    /// The operations by path, for the one reader that this rig is.
    pub fn paths(&self) -> Paths<'_> {
        self.view().paths(reader())
    }

    fn open(&self, path: &str, access: Access) -> Done<OpenPath<'_>> {
        self.paths().open(path, access).map_err(number)
    }
}

fn reader() -> Reader {
    Reader::process(std::process::id())
}

fn caller() -> Caller {
    Caller {
        reader: Some(reader()),
        is_root: false,
    }
}

fn number_of(error: &dds::error::Error) -> Errno {
    errno_of(error.kind())
}

fn number(error: dds::error::Error) -> Errno {
    number_of(&error)
}

impl Rig for InProcess {
    fn store(&self) -> &Path {
        &self.store
    }

    fn read(&self, path: &str) -> Done<Vec<u8>> {
        let bytes = self.paths().read(path).map_err(number)?;
        Ok(bytes.to_vec())
    }

    fn write(&self, path: &str, bytes: &[u8]) -> Done<()> {
        let access = Access {
            write: true,
            truncate: true,
            ..Access::default()
        };
        let file = self.open(path, access)?;
        let written = match bytes {
            [] => Ok(()),
            bytes => file.write(0, bytes).map_err(number),
        };
        let closed = file.close().map_err(number);
        written.and(closed)
    }

    fn append(&self, path: &str, bytes: &[u8]) -> Done<()> {
        let access = Access {
            write: true,
            append: true,
            ..Access::default()
        };
        let file = self.open(path, access)?;
        let written = file.write(0, bytes).map_err(number);
        let closed = file.close().map_err(number);
        written.and(closed)
    }

    fn write_at(&self, path: &str, offset: u64, bytes: &[u8]) -> Done<()> {
        let access = Access {
            write: true,
            ..Access::default()
        };
        let file = self.open(path, access)?;
        let written = file.write(offset, bytes).and_then(|()| file.sync());
        let closed = file.close().map_err(number);
        written.map_err(number).and(closed)
    }

    fn truncate(&self, path: &str, size: u64) -> Done<()> {
        let set = SetAttr {
            size: Some(size),
            ..SetAttr::default()
        };
        self.paths().set(path, set).map(drop).map_err(number)
    }

    fn list(&self, path: &str) -> Done<Vec<String>> {
        let listed = self.paths().list(path).map_err(number)?.into_iter();
        Ok(listed.map(|file| file.name).collect())
    }

    fn size(&self, path: &str) -> Done<u64> {
        let attr = self.paths().stat(path).map_err(number)?;
        Ok(attr.size)
    }

    fn stat(&self, path: &str) -> Done<(u32, i64)> {
        let attr = self.paths().stat(path).map_err(number)?;
        Ok((attr.mode, attr.mtime.seconds()))
    }

    fn chmod(&self, path: &str, mode: u32) -> Done<()> {
        let set = SetAttr {
            mode: Some(mode),
            ..SetAttr::default()
        };
        self.paths().set(path, set).map(drop).map_err(number)
    }

    fn remove(&self, path: &str) -> Done<()> {
        self.paths().remove(path).map_err(number)
    }

    fn mkdir(&self, path: &str) -> Done<()> {
        self.paths().mkdir(path).map_err(number)
    }

    fn rmdir(&self, path: &str) -> Done<()> {
        self.paths().remove_dir(path).map_err(number)
    }

    fn readlink(&self, path: &str) -> Done<String> {
        self.paths().link_target(path).map_err(number)
    }

    fn xattr(&self, path: &str, name: &str) -> Done<String> {
        let ino = self.paths().find(path).map_err(number)?;
        self.view().xattr(ino, OsStr::new(name)).map_err(number)
    }

    fn rename(&self, from: &str, to: &str) -> Done<()> {
        self.paths().rename(from, to).map_err(number)
    }

    fn link(&self, from: &str, to: &str) -> Done<()> {
        let paths = self.paths();
        let linked = paths.find(from).and_then(|ino| {
            let (parent, name) = paths.parent(to)?;
            self.view().link(ino, parent, name, caller())
        });
        linked.map(drop).map_err(number)
    }

    fn symlink(&self, path: &str, target: &str) -> Done<()> {
        let (parent, name) = self.paths().parent(path).map_err(number)?;
        let linked = self.view().symlink(parent, name, target);
        linked.map(drop).map_err(number)
    }

    fn settle(&self) {
        self.view().make_durable().unwrap();
    }

    fn remount(&mut self) {
        assert_eq!(self.view().close(), []);
        self.view = None;
        self.start();
    }

    fn remount_with_rescue(&mut self) {
        assert!(self.view().close().iter().all(|file| file.rescued));
        self.view = None;
        self.start();
    }
}
