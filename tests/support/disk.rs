//! Disks that end with a test: small ones in memory, and one in a file that can be searched.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::mount::wait_for;

/// A filesystem of its own, until this is dropped.
pub struct Disk {
    at: PathBuf,
    /// Where its bytes lie, if not in memory.
    image: Option<PathBuf>,
}

impl Disk {
    /// A disk in memory for so many bytes, mounted on a directory, which is made if it is missing.
    /// A test that makes one needs `disk`.
    pub fn in_memory(at: &Path, bytes: u64) -> Disk {
        std::fs::create_dir_all(at).unwrap();
        assert!(mount_in_memory(at, bytes), "a disk at {}", at.display());
        let at = at.to_owned();
        Disk { at, image: None }
    }

    /// An ext4 filesystem in a file, which can be searched to the last byte. `None` where there is
    /// no loop device or no `mkfs.ext4`.
    pub fn in_file(file: &Path, bytes: u64, at: &Path) -> Option<Disk> {
        File::create(file).unwrap().set_len(bytes).unwrap();
        std::fs::create_dir_all(at).unwrap();
        let made = succeeds(Command::new("mkfs.ext4").arg("-q").arg(file));
        let mounted =
            made && succeeds(Command::new("mount").args(["-o", "loop"]).arg(file).arg(at));
        mounted.then(|| Disk {
            at: at.to_owned(),
            image: Some(file.to_owned()),
        })
    }

    pub fn path(&self) -> &Path {
        &self.at
    }

    /// Counts how often bytes occur on a disk that lies in a file, in whatever is or was there.
    pub fn count(&self, wanted: &[u8]) -> usize {
        rustix::fs::syncfs(File::open(&self.at).unwrap()).unwrap();
        let image = std::fs::read(self.image.as_ref().unwrap()).unwrap();
        memchr::memmem::find_iter(&image, wanted).count()
    }

    fn filler(&self) -> PathBuf {
        self.at.join("filler")
    }

    /// Fills it up but for so many bytes.
    pub fn fill(&self, left: u64) {
        let mut file = File::create(self.filler()).unwrap();
        let full = loop {
            match file.write(&[0; 4096]) {
                Ok(0) => panic!("nothing is written and nothing is wrong"),
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(full.raw_os_error(), Some(libc::ENOSPC));
        let size = file.metadata().unwrap().len();
        file.set_len(size - left).unwrap();
    }

    /// Removes the file that filled it up.
    pub fn free(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }

    /// Changes an option of the mount, such as `ro` and `rw`.
    pub fn remount(&self, option: &str) {
        let option = format!("remount,{option}");
        let mut mount = Command::new("mount");
        assert!(succeeds(mount.args(["-o", &option]).arg(&self.at)));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.image.is_some() {
            // Its loop device must be gone before the file is.
            wait_for("the disk is free", || unmount(&self.at));
        } else if !unmount(&self.at) {
            // Whatever is open in it ends with the test.
            succeeds(Command::new("umount").arg("-l").arg(&self.at));
        }
    }
}

/// Mounts an empty filesystem in memory. Tells whether that succeeded.
pub(super) fn mount_in_memory(at: &Path, bytes: u64) -> bool {
    let size = format!("size={bytes},mode=0700");
    let mut mount = Command::new("mount");
    succeeds(mount.args(["-t", "tmpfs", "-o", &size, "dds-test"]).arg(at))
}

/// Unmounts. Tells whether that succeeded.
pub(super) fn unmount(at: &Path) -> bool {
    succeeds(Command::new("umount").arg(at))
}

fn succeeds(command: &mut Command) -> bool {
    let ended = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    ended.is_ok_and(|status| status.success())
}
