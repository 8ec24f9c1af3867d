//! My store and my key in a home, of which mounts are made.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::mount::{Home, Mount, daemon_of, is_mounted, process_of, wait_for};
use super::people::{Person, make_store};

/// A store with certificates, and the home of somebody who mounts it.
pub struct Scene {
    pub home: Home,
    pub store: PathBuf,
}

impl Scene {
    /// The store of Alice, who is me, and of contacts by these names.
    pub fn new(contacts: &[&str]) -> Scene {
        let home = Home::new();
        let store = home.dir.path().to_owned();
        Self::with_store_in(home, &store, contacts)
    }

    /// The same, with the store below another directory.
    pub fn with_store_in(home: Home, dir: &Path, contacts: &[&str]) -> Scene {
        let me = Person::new("Alice");
        let contacts: Vec<_> = contacts
            .iter()
            .map(|name| (*name, Person::new(name)))
            .collect();
        let contacts = contacts.iter().map(|(name, person)| (*name, person));
        let people: Vec<_> = [("me", &me)].into_iter().chain(contacts).collect();
        let store = make_store(dir, &people);
        Self::of(&me, home, store)
    }

    /// Somebody's scene of a store that is there.
    pub fn of(me: &Person, home: Home, store: PathBuf) -> Scene {
        let config = home.path(".config/dds");
        fs::create_dir_all(&config).unwrap();
        me.install_identity(&config);
        Scene { home, store }
    }

    pub fn mountpoint(&self) -> PathBuf {
        self.home.path("secure")
    }

    /// A path in the mount.
    pub fn path(&self, path: &str) -> PathBuf {
        self.mountpoint().join(path)
    }

    /// `dds-mount`, which needs a mountpoint yet.
    pub fn command(&self) -> Command {
        self.arguments(self.home.dds_mount())
    }

    /// Adds the options of `dds-mount` to a command that ends with it.
    pub fn arguments(&self, mut command: Command) -> Command {
        command.arg("--store").arg(&self.store);
        command
    }

    pub fn mount(&self) -> Mount {
        Mount::start(self.command(), &self.mountpoint())
    }

    /// Mounts as people do.
    pub fn mount_in_background(&self) {
        let mut command = self.command();
        let ended = command.arg(self.mountpoint()).output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!((ended.status.code(), &*said), (Some(0), ""));
    }

    /// The process that serves a mount in the background.
    pub fn pid(&self) -> i32 {
        daemon_of(&self.mountpoint())
    }

    pub fn keeper(&self) -> i32 {
        process_of(&self.mountpoint(), "dds-keeper").expect("there is a keeper")
    }

    /// Waits until nothing is left of a mount, and checks what a bare mountpoint is.
    #[track_caller]
    pub fn assert_locked(&self) {
        for name in ["dds-mount", "dds-keeper"] {
            wait_for(&format!("{name} ends"), || {
                process_of(&self.mountpoint(), name).is_none()
            });
        }
        assert!(!is_mounted(&self.mountpoint()));
        assert_eq!(fs::read_dir(self.mountpoint()).unwrap().count(), 0);
        let mode = fs::metadata(self.mountpoint()).unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, 0o500);
        // Nothing can be saved into it, not even by root where the filesystem knows how.
        if is_immutable(&self.mountpoint()) || !rustix::process::geteuid().is_root() {
            assert!(File::create(self.mountpoint().join("plaintext")).is_err());
        }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        // Only if a test failed.
        if is_mounted(&self.mountpoint()) {
            let _ = Command::new("fusermount3")
                .args(["-u", "-z", "-q"])
                .arg(self.mountpoint())
                .status();
        }
    }
}

fn is_immutable(directory: &Path) -> bool {
    let directory = File::open(directory).unwrap();
    rustix::fs::ioctl_getflags(&directory)
        .is_ok_and(|flags| flags.contains(rustix::fs::IFlags::IMMUTABLE))
}
