//! Whose reads and writes belong together.

use std::sync::atomic::{AtomicU64, Ordering};

/// Somebody who reads and writes here: a process behind a mount, a page's session, a gateway. A save
/// replaces only what its reader has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reader(Identity);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Identity {
    /// Threads of one group share their files.
    Process(u32),
    Session(u64),
}

static SESSIONS: AtomicU64 = AtomicU64::new(0);

impl Reader {
    /// The process whose thread group has this number.
    pub const fn process(thread_group: u32) -> Reader {
        Reader(Identity::Process(thread_group))
    }

    /// A new reader, which has read nothing yet and equals no other.
    pub fn session() -> Reader {
        Reader(Identity::Session(SESSIONS.fetch_add(1, Ordering::Relaxed)))
    }
}
