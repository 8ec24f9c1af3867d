//! A mount by the real binary, on which system calls are made.

use std::path::{Path, PathBuf};

use super::{Cast, Done, Errno, Rig, members};
use crate::support::mount::{Home, Mount};
use crate::support::people::{Person, make_store};

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
