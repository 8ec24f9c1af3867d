//! Locks the mount at a panic in a thread that answers the kernel.
//!
//! The request that the thread had may never be answered, and its program would wait for ever; with
//! every such thread gone, so would all programs. Locking saves as much as possible, and the end of
//! the connection answers every program that waits.

/// Beginning of the names of the threads that answer the kernel: fuser names them.
const ANSWERING: &str = "fuser-";

/// Locks the mount by `lock` when a thread that answers the kernel panics, after the hook for all
/// panics has run.
pub fn lock_at_panic(lock: impl Fn() + Send + Sync + 'static) {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        before(panic);
        if is_answering() {
            // Where, but not with which words: they may be somebody's content.
            let place = panic.location().map(ToString::to_string);
            let place = place.unwrap_or_default();
            tracing::error!("a fault in dds-mount, which locks the mount: {place}");
            lock();
        }
    }));
}

/// Tells whether the calling thread is one that answers the kernel.
fn is_answering() -> bool {
    let thread = std::thread::current();
    thread
        .name()
        .is_some_and(|name| name.starts_with(ANSWERING))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread::Builder;

    #[test]
    fn a_panic_locks_where_the_kernel_waits_for_an_answer() {
        let locked = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&locked);
        lock_at_panic(move || {
            counter.fetch_add(1, Ordering::SeqCst);
        });
        for (thread, expected) in [("opener", 0), ("fuser-3", 1)] {
            let thread = Builder::new().name(thread.to_owned());
            let panics = thread.spawn(|| panic!("as a test")).unwrap();
            assert!(panics.join().is_err());
            assert_eq!(locked.load(Ordering::SeqCst), expected);
        }
    }
}
