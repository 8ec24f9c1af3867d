//! Locks that know their place in the order in which they are taken.
//!
//! Each lock has a rank. A thread that holds one may only take locks of higher ranks: then no two
//! threads ever wait for each other. A debug build checks that at each lock that is taken, and
//! panics where the order is wrong, whether or not another thread is there to wait for. A release
//! build has the plain locks of `std`.
//!
//! A lock that a panic left behind is taken all the same: what it protects is valid between any
//! two statements, or its owner says otherwise.

use std::ops::{Deref, DerefMut};
use std::sync::{
    Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
    TryLockError,
};
use std::time::Duration;

/// Place in the order: locks of lower ranks are taken first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank(pub u8);

#[cfg(debug_assertions)]
mod held {
    //! The ranks that this thread holds.

    use std::cell::RefCell;

    use super::Rank;

    thread_local! {
        static HELD: RefCell<Vec<Rank>> = const { RefCell::new(Vec::new()) };
    }

    /// A rank that is held until this is dropped, on the thread that took it.
    pub(super) struct Mark(Rank);

    impl Mark {
        /// Notes that a lock is about to be taken. `beside`: locks of its own rank may be held.
        pub(super) fn new(rank: Rank, beside: bool) -> Mark {
            HELD.with_borrow_mut(|held| {
                let highest = held.iter().max().copied();
                let in_order = highest.is_none_or(|highest| match beside {
                    true => highest <= rank,
                    false => highest < rank,
                });
                assert!(
                    in_order,
                    "a lock of {rank:?} is taken while {held:?} are held"
                );
                held.push(rank);
            });
            Mark(rank)
        }
    }

    impl Drop for Mark {
        fn drop(&mut self) {
            // While a thread ends there may be no list any more.
            let _ = HELD.try_with(|held| {
                let mut held = held.borrow_mut();
                if let Some(at) = held.iter().rposition(|rank| *rank == self.0) {
                    held.remove(at);
                }
            });
        }
    }
}

#[cfg(not(debug_assertions))]
mod held {
    //! Nothing is noted.

    use super::Rank;

    pub(super) struct Mark;

    impl Mark {
        #[inline(always)]
        pub(super) fn new(_: Rank, _: bool) -> Mark {
            Mark
        }
    }
}

use held::Mark;

/// A mutex with a rank.
pub struct Ranked<T> {
    rank: Rank,
    inner: Mutex<T>,
}

/// A [`Ranked`] that is locked.
pub struct Guard<'a, T> {
    // In this order they are dropped.
    inner: MutexGuard<'a, T>,
    mark: Mark,
}

impl<T> Ranked<T> {
    /// Makes a mutex of a rank.
    pub fn new(rank: Rank, value: T) -> Self {
        let inner = Mutex::new(value);
        Ranked { rank, inner }
    }

    /// Waits for the lock.
    pub fn lock(&self) -> Guard<'_, T> {
        self.lock_marked(Mark::new(self.rank, false))
    }

    /// Waits for the lock while others of its rank may be held. The caller takes all of them in one
    /// order that every thread keeps.
    pub fn lock_beside(&self) -> Guard<'_, T> {
        self.lock_marked(Mark::new(self.rank, true))
    }

    fn lock_marked(&self, mark: Mark) -> Guard<'_, T> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        Guard { inner, mark }
    }

    /// Takes the lock, unless that would have to wait.
    pub fn try_lock(&self) -> Option<Guard<'_, T>> {
        let inner = match self.inner.try_lock() {
            Ok(inner) => inner,
            Err(TryLockError::Poisoned(inner)) => inner.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        // As one that is locked beside others of its rank.
        let mark = Mark::new(self.rank, true);
        Some(Guard { inner, mark })
    }
}

impl<'a, T> Guard<'a, T> {
    /// Waits for a notification; the lock is free meanwhile.
    pub fn wait(self, condition: &Condvar) -> Guard<'a, T> {
        let Guard { inner, mark } = self;
        let inner = condition
            .wait(inner)
            .unwrap_or_else(PoisonError::into_inner);
        Guard { inner, mark }
    }

    /// Waits for a notification, or for so long.
    pub fn wait_timeout(self, condition: &Condvar, time: Duration) -> Guard<'a, T> {
        let Guard { inner, mark } = self;
        let waited = condition.wait_timeout(inner, time);
        let inner = waited.unwrap_or_else(PoisonError::into_inner).0;
        Guard { inner, mark }
    }

    /// Waits as long as something is true, but no longer than so long.
    pub fn wait_timeout_while(
        self,
        condition: &Condvar,
        time: Duration,
        holds: impl FnMut(&mut T) -> bool,
    ) -> Guard<'a, T> {
        let Guard { inner, mark } = self;
        let waited = condition.wait_timeout_while(inner, time, holds);
        let inner = waited.unwrap_or_else(PoisonError::into_inner).0;
        Guard { inner, mark }
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

/// A lock with a rank that many may hold for reading.
pub struct RankedShared<T> {
    rank: Rank,
    inner: RwLock<T>,
}

/// A [`RankedShared`] that is locked for reading.
pub struct ReadGuard<'a, T> {
    inner: RwLockReadGuard<'a, T>,
    _mark: Mark,
}

/// A [`RankedShared`] that is locked for writing.
pub struct WriteGuard<'a, T> {
    inner: RwLockWriteGuard<'a, T>,
    _mark: Mark,
}

impl<T> RankedShared<T> {
    /// Makes a lock of a rank.
    pub fn new(rank: Rank, value: T) -> Self {
        let inner = RwLock::new(value);
        RankedShared { rank, inner }
    }

    /// Waits until nobody writes. A thread that reads already must not read again: a writer that
    /// waits in between would stop both.
    pub fn read(&self) -> ReadGuard<'_, T> {
        let _mark = Mark::new(self.rank, false);
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        ReadGuard { inner, _mark }
    }

    /// Waits until nobody reads or writes.
    pub fn write(&self) -> WriteGuard<'_, T> {
        let _mark = Mark::new(self.rank, false);
        let inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        WriteGuard { inner, _mark }
    }
}

impl<T> Deref for ReadGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> Deref for WriteGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> DerefMut for WriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

/// Locks a mutex without a rank, also after a panic elsewhere. For the lower rooms, which call nothing
/// outside of them while they hold a lock, so that it comes last in every order.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// As [`lock`], for reading among others that read.
pub(crate) fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

/// As [`lock`], for a change that others wait for.
pub(crate) fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_another_thread_takes_no_lock_with_it() {
        let (mutex, shared) = (Mutex::new(1), RwLock::new(2));
        let died = std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let _held = (lock(&mutex), write(&shared));
                panic!("on purpose");
            });
            thread.join().is_err()
        });
        assert!(died && mutex.is_poisoned() && shared.is_poisoned());
        *lock(&mutex) += 1;
        *write(&shared) += 1;
        assert_eq!((*lock(&mutex), *read(&shared)), (2, 3));
    }

    fn panics(run: impl FnOnce() + std::panic::UnwindSafe) -> bool {
        std::panic::catch_unwind(run).is_err()
    }

    #[test]
    fn locks_are_taken_in_the_order_of_their_ranks_only() {
        let order = || (Ranked::new(Rank(1), ()), RankedShared::new(Rank(2), ()));
        assert!(!panics(|| {
            let (first, second) = order();
            let _first = first.lock();
            let _second = second.write();
        }));
        assert!(panics(|| {
            let (first, second) = order();
            let _second = second.read();
            let _first = first.lock();
        }));
        // What was held is free again, also after a panic.
        let (first, second) = order();
        drop(second.read());
        drop(first.lock());
    }

    #[test]
    fn of_one_rank_there_is_one_lock_unless_the_caller_orders_them() {
        assert!(panics(|| {
            let (one, other) = (Ranked::new(Rank(1), ()), Ranked::new(Rank(1), ()));
            let _one = one.lock();
            let _other = other.lock();
        }));
        let (one, other) = (Ranked::new(Rank(1), ()), Ranked::new(Rank(1), ()));
        let _one = one.lock_beside();
        let _other = other.lock_beside();
    }
}
