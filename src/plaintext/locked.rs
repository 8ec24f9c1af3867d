//! Memory for plaintext and passphrases: pages of its own, which are not swapped, not dumped, and
//! zeroed before they go back to the system.
//!
//! An ordinary user may lock only so much (RLIMIT_MEMLOCK, often 8 MiB). Memory beyond that is
//! used all the same, and counted, so that it can be said.

use std::alloc::{Layout, handle_alloc_error};
use std::ffi::c_void;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::mm::{Advice, MapFlags, ProtFlags};
use zeroize::Zeroize as _;

/// Bytes of plaintext in RAM that are locked, and that are not.
static LOCKED: AtomicUsize = AtomicUsize::new(0);
static UNLOCKED: AtomicUsize = AtomicUsize::new(0);
/// It is said once, when it first happens; `.dds/status` says how it is.
static WARNED: Once = Once::new();

/// How much plaintext is in RAM at this moment, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InRam {
    /// It cannot be swapped.
    pub locked: usize,
    /// The system did not let us lock it.
    pub unlocked: usize,
}

/// Tells how much plaintext is in RAM.
pub fn in_ram() -> InRam {
    InRam {
        locked: LOCKED.load(Ordering::Relaxed),
        unlocked: UNLOCKED.load(Ordering::Relaxed),
    }
}

/// Bytes in pages of their own.
pub(super) struct Locked {
    start: NonNull<u8>,
    len: usize,
    pages: usize,
    is_locked: bool,
}

// SAFETY: the pages belong to this value alone, as a boxed slice's memory does.
unsafe impl Send for Locked {}
// SAFETY: shared access only reads.
unsafe impl Sync for Locked {}

impl Locked {
    /// Makes `len` zeros.
    pub(super) fn new(len: usize) -> Locked {
        let pages = len.max(1).next_multiple_of(rustix::param::page_size());
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        // SAFETY: the kernel chooses a place that is free.
        let mapped =
            unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), pages, protection, flags) };
        let start = mapped
            .ok()
            .and_then(|start| NonNull::new(start.cast::<u8>()));
        let Some(start) = start else {
            handle_alloc_error(Layout::array::<u8>(len).unwrap_or(Layout::new::<u8>()));
        };
        let raw: *mut c_void = start.as_ptr().cast();
        // SAFETY: these pages were just mapped. Both calls leave their content alone.
        let is_locked = unsafe {
            // Where dumping cannot be told by page it is off as a whole.
            let _ = rustix::mm::madvise(raw, pages, Advice::LinuxDontDump);
            rustix::mm::mlock(raw, pages).is_ok()
        };
        counter(is_locked).fetch_add(pages, Ordering::Relaxed);
        if !is_locked {
            WARNED.call_once(|| {
                tracing::warn!(
                    "contents beyond the limit for locked memory may be swapped: raise memlock \
                     in /etc/security/limits.conf, or LimitMEMLOCK of the service"
                );
            });
        }
        Locked {
            start,
            len,
            pages,
            is_locked,
        }
    }
}

fn counter(is_locked: bool) -> &'static AtomicUsize {
    match is_locked {
        true => &LOCKED,
        false => &UNLOCKED,
    }
}

impl Deref for Locked {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: `len` bytes are mapped and initialized (by the kernel, with zeros).
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl DerefMut for Locked {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and nobody else has access.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        self.zeroize();
        counter(self.is_locked).fetch_sub(self.pages, Ordering::Relaxed);
        // SAFETY: the pages were mapped by us, and nothing refers to them any more. Unmapping
        // unlocks them; that it cannot fail for a whole mapping is munmap(2)'s word.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.pages) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_memory() {
        let mut some = Locked::new(5000);
        assert_eq!(some.len(), 5000);
        assert!(some.iter().all(|byte| *byte == 0));
        some[4999] = 7;
        assert_eq!(some.last(), Some(&7));
        assert!(Locked::new(0).is_empty());
    }
}
