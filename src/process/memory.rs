//! Keeps memory out of core dumps, debuggers and swap.

use std::io;

use rustix::mm::MlockAllFlags;
use rustix::process::{DumpableBehavior, Resource, Rlimit};
use rustix::thread::CapabilitySet;

use crate::error::{Error, Result};

/// How much of this process is locked in RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Locking {
    /// All of it, now and later.
    Everything,
    /// The keys; contents as far as the limit, in bytes, goes.
    Keys {
        /// RLIMIT_MEMLOCK.
        limit: u64,
    },
    /// Not even the keys.
    Nothing,
}

/// Forbids core dumps, and reading this process by others of the same user (ptrace, `/proc`).
/// Children inherit it until they run another program.
///
/// # Errors
/// `Io` if the system does not let us; nothing secret should be read then.
pub fn conceal() -> Result<()> {
    let failed = |errno: rustix::io::Errno| Error::io("forbidding core dumps", errno.into());
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    rustix::process::setrlimit(Resource::Core, none).map_err(failed)?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(failed)
}

/// Locks the present memory, and the future one if the system lets us. Locks are not inherited: this
/// is called after the last fork, when the keys are unlocked and before other threads begin.
pub fn lock() -> Locking {
    let limit = raise_limit();
    let may_everything = limit.is_none()
        || rustix::thread::capabilities(None)
            .is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK));
    // Below a limit this is not even tried: memory beyond it could not be allocated any more.
    let everything = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
    if may_everything && rustix::mm::mlockall(everything).is_ok() {
        return Locking::Everything;
    }
    match lock_heap() {
        Ok(()) => Locking::Keys {
            limit: limit.unwrap_or(u64::MAX),
        },
        Err(error) => {
            tracing::debug!("locking the heap: {error}");
            Locking::Nothing
        }
    }
}

/// Raises the limit as far as an ordinary user may. Returns it, if there is one.
fn raise_limit() -> Option<u64> {
    let Rlimit { maximum, .. } = rustix::process::getrlimit(Resource::Memlock);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    match rustix::process::setrlimit(Resource::Memlock, raised) {
        Ok(()) => maximum,
        Err(_) => rustix::process::getrlimit(Resource::Memlock).current,
    }
}

/// Locks the heap of the main thread: it holds the keys, and the key that encrypts session keys.
fn lock_heap() -> io::Result<()> {
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    let none = || io::Error::other("there is no heap");
    let line = maps.lines().find(|line| line.ends_with("[heap]"));
    let (range, _) = line
        .and_then(|line| line.split_once(' '))
        .ok_or_else(none)?;
    let (start, end) = range.split_once('-').ok_or_else(none)?;
    let number = |hex| usize::from_str_radix(hex, 16).map_err(io::Error::other);
    let (start, end) = (number(start)?, number(end)?);
    // SAFETY: locking changes nothing of what is there; if it is not there any more it fails.
    unsafe { rustix::mm::mlock(start as *mut _, end - start) }?;
    Ok(())
}

impl Locking {
    /// Says how it is, for people.
    pub fn sentence(self) -> String {
        match self {
            Locking::Everything => "everything".to_owned(),
            Locking::Keys { limit } => format!("keys, and contents up to {} KiB", limit >> 10),
            Locking::Nothing => "nothing, so that all may be swapped: raise memlock in \
                 /etc/security/limits.conf, or LimitMEMLOCK of the service"
                .to_owned(),
        }
    }
}
