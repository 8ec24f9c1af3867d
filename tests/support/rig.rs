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
use dds::view::{self, Access, Caller, HandleId, OpenPath, Paths, Reader, SetAttr, View};

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
    /// Waits until every published blob is durable and every replaced one is gone.
    fn settle(&self);
    /// Ends this mount, at which everything must be saved, and begins another of the same store.
    fn remount(&mut self);
    /// The same; every draft that cannot be saved must be rescued.
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
