//! One set of file operations, two ways to carry them out: calls on the view in this process, and
//! system calls on the real binary's mount.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dds::contacts::Contacts;
use dds::fuse::errno_of;
use dds::openpgp::Identity;
use dds::state::State;
use dds::store::DirStore;
use dds::vault::{self, Vault};
use dds::view::{
    self, Access, Caller, HandleId, Ino, NodeKind, RenameMode, SetAttr, ThreadGroup, View,
};

use super::mount::{Home, Mount, can_mount, wait_for};
use super::people::{Person, make_store};

/// An errno.
pub type Errno = i32;
pub type Done<T> = Result<T, Errno>;

/// The operations of which scenarios are made. Paths are below the mountpoint.
pub trait Rig {
    fn store(&self) -> &Path;
    fn read(&self, path: &str) -> Done<Vec<u8>>;
    /// Opens with O_CREAT and O_TRUNC, writes, closes.
    fn write(&self, path: &str, bytes: &[u8]) -> Done<()>;
    /// Opens for appending, writes, closes.
    fn append(&self, path: &str, bytes: &[u8]) -> Done<()>;
    /// Opens, writes at an offset, fsyncs, closes.
    fn write_at(&self, path: &str, offset: u64, bytes: &[u8]) -> Done<()>;
    /// Changes the size by path.
    fn truncate(&self, path: &str, size: u64) -> Done<()>;
    fn list(&self, path: &str) -> Done<Vec<String>>;
    fn size(&self, path: &str) -> Done<u64>;
    /// Permission bits and modification time in seconds.
    fn stat(&self, path: &str) -> Done<(u32, i64)>;
    fn chmod(&self, path: &str, mode: u32) -> Done<()>;
    fn remove(&self, path: &str) -> Done<()>;
    fn mkdir(&self, path: &str) -> Done<()>;
    fn rmdir(&self, path: &str) -> Done<()>;
    fn readlink(&self, path: &str) -> Done<String>;
    fn xattr(&self, path: &str, name: &str) -> Done<String>;
    fn rename(&self, from: &str, to: &str) -> Done<()>;
    fn symlink(&self, path: &str, target: &str) -> Done<()>;
    fn link(&self, from: &str, to: &str) -> Done<()>;
    /// Waits until what was published is durable and what it replaced is gone.
    fn settle(&self);
    /// Ends this mount, at which everything must be saved, and begins another of the same store.
    fn remount(&mut self);
    /// The same; what cannot be saved must be rescued.
    fn remount_with_rescue(&mut self);
}

/// Me, alice, and the people whose certificates are in my store.
pub struct Cast {
    pub me: Person,
    pub bob: Person,
    pub carol: Person,
    /// Has no certificate in the store.
    pub mallory: Person,
}

impl Cast {
    pub fn new() -> Cast {
        Cast {
            me: Person::new("Alice"),
            bob: Person::new("Bob"),
            carol: Person::new("Carol"),
            mallory: Person::new("Mallory"),
        }
    }
}

/// Runs a scenario on both rigs.
pub fn on_both(scenario: impl Fn(&mut dyn Rig, &Cast)) {
    let cast = Cast::new();
    scenario(&mut InProcess::new(&cast), &cast);
    if can_mount() {
        scenario(&mut Mounted::new(&cast, ""), &cast);
    }
}

fn members(cast: &Cast) -> [(&str, &Person); 3] {
    [
        ("one", &cast.me),
        ("two", &cast.bob),
        ("three", &cast.carol),
    ]
}

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
        rig.open();
        rig
    }

    fn open(&mut self) {
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
        self.open();
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
        rig.open();
        rig
    }

    /// Opens as `open(2)` does and leaves it open.
    pub fn open_as(&self, path: &str, access: Access) -> Done<HandleId> {
        if access.write {
            return self.open_for_writing(path, access);
        }
        self.view()
            .open(self.find(path)?, access, caller())
            .map_err(number)
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
        self.open();
    }

    fn find(&self, path: &str) -> Done<Ino> {
        let mut at = Ino::ROOT;
        let mut parts: Vec<String> = path.split('/').rev().map(str::to_owned).collect();
        while let Some(part) = parts.pop() {
            let attr = self.view().lookup(at, OsStr::new(&part)).map_err(number)?;
            if attr.kind == NodeKind::Symlink {
                parts.push(self.view().readlink(attr.ino).map_err(number)?);
            } else {
                at = attr.ino;
            }
        }
        Ok(at)
    }

    fn parent<'a>(&self, path: &'a str) -> Done<(Ino, &'a OsStr)> {
        match path.rsplit_once('/') {
            Some((parent, name)) => Ok((self.find(parent)?, OsStr::new(name))),
            None => Ok((Ino::ROOT, OsStr::new(path))),
        }
    }

    /// Opens for writing as `open(2)` does, creating the file if it is missing.
    fn open_for_writing(&self, path: &str, access: Access) -> Done<HandleId> {
        let (parent, name) = self.parent(path)?;
        let access = Access {
            write: true,
            ..access
        };
        match self.view().lookup(parent, name) {
            Ok(attr) if attr.kind == NodeKind::Directory => Err(libc::EISDIR),
            Ok(attr) => self.view().open(attr.ino, access, caller()).map_err(number),
            Err(error) if number_of(&error) == libc::ENOENT => {
                let created = self.view().create(parent, name, 0o600, access, caller());
                created.map(|(_, handle)| handle).map_err(number)
            }
            Err(error) => Err(number(error)),
        }
    }

    fn close(&self, handle: HandleId, so_far: Done<()>) -> Done<()> {
        let flushed = self.view().flush(handle, caller()).map_err(number);
        self.view().release(handle);
        so_far.and(flushed)
    }
}

fn caller() -> Caller {
    Caller {
        group: Some(ThreadGroup(std::process::id())),
        is_root: rustix::process::geteuid().is_root(),
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
        let access = Access {
            read: true,
            ..Access::default()
        };
        let ino = self.find(path)?;
        let handle = self.view().open(ino, access, caller()).map_err(number)?;
        let bytes = self
            .view()
            .read(handle, 0, usize::MAX)
            .map_err(number)?
            .to_vec();
        self.close(handle, Ok(()))?;
        Ok(bytes)
    }

    fn write(&self, path: &str, bytes: &[u8]) -> Done<()> {
        let handle = self.open_for_writing(
            path,
            Access {
                truncate: true,
                ..Access::default()
            },
        )?;
        let written = match bytes {
            [] => Ok(()),
            bytes => self.view().write(handle, 0, bytes, false).map_err(number),
        };
        self.close(handle, written)
    }

    fn append(&self, path: &str, bytes: &[u8]) -> Done<()> {
        let handle = self.open_for_writing(
            path,
            Access {
                append: true,
                ..Access::default()
            },
        )?;
        let written = self.view().write(handle, 0, bytes, false).map_err(number);
        self.close(handle, written)
    }

    fn write_at(&self, path: &str, offset: u64, bytes: &[u8]) -> Done<()> {
        let handle = self.open_for_writing(path, Access::default())?;
        let written = self
            .view()
            .write(handle, offset, bytes, false)
            .map_err(number);
        let synced = written.and_then(|()| self.view().fsync(handle).map_err(number));
        self.close(handle, synced)
    }

    fn truncate(&self, path: &str, size: u64) -> Done<()> {
        let set = SetAttr {
            size: Some(size),
            ..SetAttr::default()
        };
        self.view()
            .setattr(self.find(path)?, None, set, caller())
            .map(drop)
            .map_err(number)
    }

    fn list(&self, path: &str) -> Done<Vec<String>> {
        let ino = if path.is_empty() {
            Ino::ROOT
        } else {
            self.find(path)?
        };
        let entries = self.view().list(ino).map_err(number)?.into_iter();
        let names = entries.map(|entry| entry.name.into_string().unwrap());
        Ok(names.filter(|name| name != "." && name != "..").collect())
    }

    fn size(&self, path: &str) -> Done<u64> {
        self.view()
            .getattr(self.find(path)?)
            .map(|attr| attr.size)
            .map_err(number)
    }

    fn stat(&self, path: &str) -> Done<(u32, i64)> {
        let attr = self.view().getattr(self.find(path)?).map_err(number)?;
        Ok((attr.mode, attr.mtime.seconds()))
    }

    fn chmod(&self, path: &str, mode: u32) -> Done<()> {
        let set = SetAttr {
            mode: Some(mode),
            ..SetAttr::default()
        };
        self.view()
            .setattr(self.find(path)?, None, set, caller())
            .map(drop)
            .map_err(number)
    }

    fn remove(&self, path: &str) -> Done<()> {
        let (parent, name) = self.parent(path)?;
        self.view().unlink(parent, name).map_err(number)
    }

    fn mkdir(&self, path: &str) -> Done<()> {
        let (parent, name) = self.parent(path)?;
        if self.view().lookup(parent, name).is_ok() {
            return Err(libc::EEXIST);
        }
        self.view()
            .mkdir(parent, name, 0o700)
            .map(drop)
            .map_err(number)
    }

    fn rmdir(&self, path: &str) -> Done<()> {
        let (parent, name) = self.parent(path)?;
        self.view().rmdir(parent, name).map_err(number)
    }

    fn readlink(&self, path: &str) -> Done<String> {
        let (parent, name) = self.parent(path)?;
        let attr = self.view().lookup(parent, name).map_err(number)?;
        self.view().readlink(attr.ino).map_err(number)
    }

    fn xattr(&self, path: &str, name: &str) -> Done<String> {
        self.view()
            .xattr(self.find(path)?, OsStr::new(name))
            .map_err(number)
    }

    fn rename(&self, from: &str, to: &str) -> Done<()> {
        // As the kernel does before it asks.
        if to.starts_with(&format!("{from}/")) {
            return Err(libc::EINVAL);
        }
        let (parent, name) = self.parent(from)?;
        let (new_parent, new_name) = self.parent(to)?;
        let mode = RenameMode::default();
        let view = self.view();
        view.lookup(parent, name).map_err(number)?;
        view.rename(parent, name, new_parent, new_name, mode, caller())
            .map_err(number)
    }

    fn link(&self, from: &str, to: &str) -> Done<()> {
        let ino = self.find(from)?;
        let (parent, name) = self.parent(to)?;
        self.view()
            .link(ino, parent, name, caller())
            .map(drop)
            .map_err(number)
    }

    fn symlink(&self, path: &str, target: &str) -> Done<()> {
        let (parent, name) = self.parent(path)?;
        self.view()
            .symlink(parent, name, target)
            .map(drop)
            .map_err(number)
    }

    fn settle(&self) {
        self.view().make_durable().unwrap();
    }

    fn remount(&mut self) {
        assert_eq!(self.view().close(), []);
        self.view = None;
        self.open();
    }

    fn remount_with_rescue(&mut self) {
        assert!(self.view().close().iter().all(|file| file.rescued));
        self.view = None;
        self.open();
    }
}

/// The real binary.
pub struct Mounted {
    /// Goes first, or its directory could not be removed.
    mount: Option<Mount>,
    pub home: Home,
    store: PathBuf,
}

impl Mounted {
    pub fn new(cast: &Cast, configuration: &str) -> Mounted {
        let home = Home::new();
        let store = make_store(home.dir.path(), &members(cast));
        Self::of(&cast.me, home, store, configuration)
    }

    /// The mount that somebody has of a store.
    pub fn of(person: &Person, home: Home, store: PathBuf, configuration: &str) -> Mounted {
        let config = home.path(".config/dds");
        std::fs::create_dir_all(&config).unwrap();
        person.install_identity(&config);
        std::fs::write(config.join("config.toml"), configuration).unwrap();
        let mut rig = Mounted {
            home,
            store,
            mount: None,
        };
        rig.start();
        rig
    }

    /// Ends the mount by a signal, with files open.
    pub fn end_by(&mut self, signal: i32) {
        let (code, said) = self.mount.take().unwrap().end_by(signal);
        assert_eq!(code, Some(0), "{said}");
    }

    /// Kills the daemon.
    pub fn kill(&mut self) {
        self.mount.take().unwrap().kill();
    }

    /// Begins a mount.
    pub fn start(&mut self) {
        let mut command = self.home.dds_mount();
        command.arg("--store").arg(&self.store);
        self.mount = Some(Mount::start(command, &self.home.path("secure")));
    }

    pub fn mount(&self) -> &Mount {
        self.mount.as_ref().unwrap()
    }

    pub fn take(mut self) -> (Home, Mount) {
        let mount = self.mount.take().unwrap();
        (self.home, mount)
    }

    fn path(&self, path: &str) -> PathBuf {
        self.mount().path(path)
    }
}

fn errno(error: std::io::Error) -> Errno {
    error.raw_os_error().unwrap_or(libc::EIO)
}

/// Writes and closes, with the errno of whichever fails first; std drops errors of close.
fn write_and_close(file: std::fs::File, offset: Option<u64>, bytes: &[u8], sync: bool) -> Done<()> {
    use std::io::Write as _;
    use std::os::fd::IntoRawFd as _;
    use std::os::unix::fs::FileExt as _;
    let written = match offset {
        Some(offset) => file.write_all_at(bytes, offset),
        None => (&file).write_all(bytes),
    };
    let synced = written.and_then(|()| if sync { file.sync_all() } else { Ok(()) });
    // SAFETY: the descriptor is ours, and nothing uses it afterwards.
    let closed = unsafe { libc::close(file.into_raw_fd()) };
    let close_error = std::io::Error::last_os_error();
    synced.map_err(errno)?;
    if closed == 0 {
        Ok(())
    } else {
        Err(errno(close_error))
    }
}

impl Rig for Mounted {
    fn store(&self) -> &Path {
        &self.store
    }

    fn read(&self, path: &str) -> Done<Vec<u8>> {
        std::fs::read(self.path(path)).map_err(errno)
    }

    fn write(&self, path: &str, bytes: &[u8]) -> Done<()> {
        let file = std::fs::File::create(self.path(path)).map_err(errno)?;
        write_and_close(file, None, bytes, false)
    }

    fn append(&self, path: &str, bytes: &[u8]) -> Done<()> {
        let mut options = std::fs::File::options();
        let file = options
            .append(true)
            .create(true)
            .open(self.path(path))
            .map_err(errno)?;
        write_and_close(file, None, bytes, false)
    }

    fn write_at(&self, path: &str, offset: u64, bytes: &[u8]) -> Done<()> {
        let mut options = std::fs::File::options();
        options.write(true).create(true).truncate(false);
        let file = options.open(self.path(path)).map_err(errno)?;
        write_and_close(file, Some(offset), bytes, true)
    }

    fn truncate(&self, path: &str, size: u64) -> Done<()> {
        let path = std::ffi::CString::new(self.path(path).into_os_string().into_encoded_bytes());
        let path = path.unwrap();
        // SAFETY: the path is a valid C string.
        match unsafe { libc::truncate(path.as_ptr(), i64::try_from(size).unwrap()) } {
            0 => Ok(()),
            _ => Err(errno(std::io::Error::last_os_error())),
        }
    }

    fn list(&self, path: &str) -> Done<Vec<String>> {
        let entries = std::fs::read_dir(self.path(path)).map_err(errno)?;
        let names =
            entries.map(|entry| entry.map(|entry| entry.file_name().into_string().unwrap()));
        let mut names: Vec<_> = names.collect::<Result<_, _>>().map_err(errno)?;
        names.sort();
        Ok(names)
    }

    fn size(&self, path: &str) -> Done<u64> {
        std::fs::metadata(self.path(path))
            .map(|found| found.len())
            .map_err(errno)
    }

    fn stat(&self, path: &str) -> Done<(u32, i64)> {
        use std::os::unix::fs::MetadataExt as _;
        let found = std::fs::metadata(self.path(path)).map_err(errno)?;
        Ok((found.mode() & 0o7777, found.mtime()))
    }

    fn chmod(&self, path: &str, mode: u32) -> Done<()> {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(self.path(path), mode).map_err(errno)
    }

    fn remove(&self, path: &str) -> Done<()> {
        std::fs::remove_file(self.path(path)).map_err(errno)
    }

    fn mkdir(&self, path: &str) -> Done<()> {
        std::fs::create_dir(self.path(path)).map_err(errno)
    }

    fn rmdir(&self, path: &str) -> Done<()> {
        std::fs::remove_dir(self.path(path)).map_err(errno)
    }

    fn readlink(&self, path: &str) -> Done<String> {
        let target = std::fs::read_link(self.path(path)).map_err(errno)?;
        Ok(target.into_os_string().into_string().unwrap())
    }

    fn xattr(&self, path: &str, name: &str) -> Done<String> {
        let mut value = vec![0; 4096];
        let size = rustix::fs::getxattr(self.path(path), name, &mut value[..])
            .map_err(|error| error.raw_os_error())?;
        value.truncate(size);
        Ok(String::from_utf8(value).unwrap())
    }

    fn rename(&self, from: &str, to: &str) -> Done<()> {
        std::fs::rename(self.path(from), self.path(to)).map_err(errno)
    }

    fn symlink(&self, path: &str, target: &str) -> Done<()> {
        std::os::unix::fs::symlink(target, self.path(path)).map_err(errno)
    }

    fn link(&self, from: &str, to: &str) -> Done<()> {
        std::fs::hard_link(self.path(from), self.path(to)).map_err(errno)
    }

    fn settle(&self) {
        let notes = std::fs::File::open(self.path("notes")).unwrap();
        notes.sync_all().unwrap();
    }

    fn remount(&mut self) {
        let (code, said) = self.mount.take().unwrap().unmount();
        assert_eq!((code, said.as_str()), (Some(0), ""));
        self.start();
    }

    fn remount_with_rescue(&mut self) {
        let (code, said) = self.mount.take().unwrap().unmount();
        assert!(said.contains("kept for you"), "{said}");
        assert_eq!(code, Some(0), "{said}");
        self.start();
    }
}
