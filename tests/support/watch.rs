//! Counts the files that appear in a folder of a store, as a syncer sees them.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};

/// A watch on one folder.
pub struct Watch(OwnedFd);

impl Watch {
    pub fn new(folder: &Path) -> Watch {
        let fd = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap();
        let events = WatchFlags::CREATE | WatchFlags::MOVED_TO;
        inotify::add_watch(&fd, folder, events).unwrap();
        Watch(fd)
    }

    /// Waits until something appears.
    pub fn wait(&self) {
        let limit = Timespec {
            tv_sec: 20,
            tv_nsec: 0,
        };
        let mut waiting = [PollFd::new(&self.0, PollFlags::IN)];
        assert_eq!(poll(&mut waiting, Some(&limit)).unwrap(), 1, "in 20 s");
    }

    /// Names that appeared since the last call. Names of nameless files are left out, as syncers
    /// do not see them.
    pub fn appeared(&self) -> Vec<String> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.0, &mut buffer);
        let mut names = Vec::new();
        while let Ok(event) = reader.next() {
            assert!(!event.events().contains(ReadFlags::QUEUE_OVERFLOW));
            let name = event.file_name().unwrap().to_str().unwrap().to_owned();
            if !name.starts_with('#') {
                names.push(name);
            }
        }
        names
    }
}
