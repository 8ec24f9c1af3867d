//! The real binary, mounted in a subprocess, unmounted on drop, with time limits.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Nothing that a test waits for may take longer.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until a condition holds; panics with `what` when patience ends.
pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < PATIENCE, "waited too long: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Tells whether mounts can be made here; says loudly if not.
pub fn can_mount() -> bool {
    let device = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/fuse");
    if device.is_ok() {
        return true;
    }
    assert!(
        std::env::var_os("DDS_TEST_WITHOUT_FUSE").is_some(),
        "/dev/fuse cannot be opened; set DDS_TEST_WITHOUT_FUSE=1 to test without mounts"
    );
    skipped("mounted tests: /dev/fuse cannot be opened");
    false
}

/// Says loudly that something was not tested. The line goes to standard error, past the capture of
/// cargo's test runner.
pub fn skipped(why: &str) {
    use std::io::Write as _;
    let line = format!("SKIPPED: {why}\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

/// A home directory with nothing in it, for one test.
pub struct Home {
    pub dir: tempfile::TempDir,
}

impl Home {
    pub fn new() -> Home {
        // Short: gpg's sockets must have short paths.
        let dir = tempfile::Builder::new()
            .prefix("dds")
            .tempdir_in("/tmp")
            .unwrap();
        Home { dir }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A program that sees only this home.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for (variable, _) in std::env::vars_os() {
            let name = variable.to_string_lossy().into_owned();
            if name.starts_with("XDG_") || name.starts_with("DDS_") || name == "GNUPGHOME" {
                command.env_remove(variable);
            }
        }
        command.env("HOME", self.dir.path()).stdin(Stdio::null());
        command
    }

    pub fn dds(&self) -> Command {
        self.command(env!("CARGO_BIN_EXE_dds"))
    }

    pub fn dds_mount(&self) -> Command {
        self.command(env!("CARGO_BIN_EXE_dds-mount"))
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // Bare mountpoints are immutable where root mounted.
        let Ok(entries) = std::fs::read_dir(self.dir.path()) else {
            return;
        };
        for entry in entries.flatten() {
            make_mutable(&entry.path());
        }
    }
}

/// Tells whether a mount has opened everything that was in the store when it began.
pub fn has_read_the_store(mountpoint: &Path) -> bool {
    let status = std::fs::read_to_string(mountpoint.join(".dds/status"));
    status.is_ok_and(|status| !status.contains("files not opened yet: "))
}

/// Lets root remove a bare mountpoint.
pub fn make_mutable(directory: &Path) {
    let Ok(directory) = std::fs::File::open(directory) else {
        return;
    };
    if let Ok(flags) = rustix::fs::ioctl_getflags(&directory) {
        if flags.contains(rustix::fs::IFlags::IMMUTABLE) {
            let cleared = flags - rustix::fs::IFlags::IMMUTABLE;
            rustix::fs::ioctl_setflags(&directory, cleared).unwrap();
        }
    }
}

/// A mounted view.
pub struct Mount {
    daemon: Child,
    pub mountpoint: PathBuf,
}

impl Mount {
    /// Mounts in the foreground mode, in a subprocess, and waits until the mount answers.
    pub fn start(command: Command, mountpoint: &Path) -> Mount {
        Self::start_within(PATIENCE, command, mountpoint)
    }

    /// As [`Mount::start`], for a store that takes long to read.
    pub fn start_within(patience: Duration, mut command: Command, mountpoint: &Path) -> Mount {
        command
            .arg("--foreground")
            .arg(mountpoint)
            .stderr(Stdio::piped());
        let mut daemon = command.spawn().unwrap();
        let begun = Instant::now();
        // The mount is there before it is served, and it is served before the store was read.
        while !is_mounted(mountpoint) || !has_read_the_store(mountpoint) {
            if let Some(status) = daemon.try_wait().unwrap() {
                let mut said = String::new();
                daemon
                    .stderr
                    .take()
                    .unwrap()
                    .read_to_string(&mut said)
                    .unwrap();
                panic!("dds-mount ended with {status}: {said}");
            }
            if begun.elapsed() > patience {
                let _ = daemon.kill();
                panic!("not mounted in time");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Mount {
            daemon,
            mountpoint: mountpoint.to_owned(),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.mountpoint.join(name)
    }

    pub fn pid(&self) -> u32 {
        self.daemon.id()
    }

    /// Sends a signal and waits for the end. Returns the exit code and the messages.
    pub fn end_by(mut self, signal: i32) -> (Option<i32>, String) {
        let pid = i32::try_from(self.daemon.id()).unwrap();
        // SAFETY: the process is our child and has not been waited for.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
        self.wait()
    }

    /// Unmounts from outside and waits for the daemon's end.
    pub fn unmount(mut self) -> (Option<i32>, String) {
        unmount(&self.mountpoint);
        self.wait()
    }

    /// Ends the daemon without any chance to tidy up.
    pub fn kill(mut self) {
        self.daemon.kill().unwrap();
        self.daemon.wait().unwrap();
        let _ = Command::new("fusermount3")
            .args(["-u", "-z", "-q"])
            .arg(&self.mountpoint)
            .status();
    }

    fn wait(&mut self) -> (Option<i32>, String) {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.daemon.try_wait().unwrap() {
                break status;
            }
            assert!(begun.elapsed() < PATIENCE, "dds-mount does not end");
            std::thread::sleep(Duration::from_millis(5));
        };
        let mut said = String::new();
        self.daemon
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut said)
            .unwrap();
        (status.code(), said)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if matches!(self.daemon.try_wait(), Ok(Some(_))) {
            return;
        }
        let _ = Command::new("fusermount3")
            .args(["-u", "-z", "-q"])
            .arg(&self.mountpoint)
            .status();
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// Unmounts. A program that another test is just starting may for a moment hold copies of this
/// process's descriptors, and so keep the mount busy.
pub fn unmount(mountpoint: &Path) {
    wait_for("fusermount3 -u", || {
        let done = Command::new("fusermount3")
            .args(["-u", "-q"])
            .arg(mountpoint)
            .status();
        done.unwrap().success()
    });
}

/// Tells whether something of ours is mounted exactly here.
pub fn is_mounted(path: &Path) -> bool {
    // Other tests mount on paths that are not UTF-8.
    let table = std::fs::read("/proc/self/mountinfo").unwrap();
    let table = String::from_utf8_lossy(&table);
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    table.lines().any(|line| {
        line.split(' ').nth(4).map(Path::new) == Some(&path) && line.contains(" - fuse.dds-mount ")
    })
}

/// Finds the process that serves a mountpoint in the background. Its keeper has another name.
pub fn daemon_of(mountpoint: &Path) -> i32 {
    process_of(mountpoint, "dds-mount").expect("a process serves the mount")
}

/// Finds a process that was started for a mountpoint, by its own name: the daemon's is
/// `dds-mount`, its keeper's `dds-keeper`.
pub fn process_of(mountpoint: &Path, name: &str) -> Option<i32> {
    let wanted = mountpoint.as_os_str().as_encoded_bytes();
    std::fs::read_dir("/proc").unwrap().find_map(|entry| {
        let pid: i32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let ours = line.split(|byte| *byte == 0).any(|one| one == wanted);
        let called = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        (ours && called.trim_end() == name).then_some(pid)
    })
}

/// A process that stands in a directory.
pub struct Standing(Child);

impl Standing {
    pub fn inside(directory: &Path) -> Standing {
        let child = Command::new("cat")
            .current_dir(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn();
        Standing(child.unwrap())
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
