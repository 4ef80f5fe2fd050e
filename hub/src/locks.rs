//! Mutexes that check the lock order of `hub.rs` in debug builds.

use std::ops::{Deref, DerefMut};

use parking_lot::{Mutex, MutexGuard};

#[cfg(debug_assertions)]
thread_local! {
    /// The ranks of the mutexes that this thread holds, one bit each.
    static HELD: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

/// A mutex that a thread may lock only while it holds none of the same or a higher rank.
#[derive(Default)]
pub(crate) struct RankedMutex<T, const RANK: u32>(Mutex<T>);

/// A locked [`RankedMutex`].
pub(crate) struct RankedGuard<'a, T, const RANK: u32>(MutexGuard<'a, T>);

impl<T, const RANK: u32> RankedMutex<T, RANK> {
    pub(crate) const fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    /// Locks the mutex.
    ///
    /// # Panics
    /// In debug builds, if the thread holds a mutex of rank `RANK` or higher: two threads could wait for each other.
    pub(crate) fn lock(&self) -> RankedGuard<'_, T, RANK> {
        #[cfg(debug_assertions)]
        HELD.with(|held| {
            assert!(held.get() >> RANK == 0, "lock order: rank {RANK} behind {:b}", held.get());
            held.set(held.get() | 1 << RANK);
        });
        RankedGuard(self.0.lock())
    }
}

#[cfg(test)]
impl<T, const RANK: u32> RankedMutex<T, RANK> {
    pub(crate) fn is_locked(&self) -> bool {
        self.0.is_locked()
    }
}

impl<T, const RANK: u32> Deref for RankedGuard<'_, T, RANK> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T, const RANK: u32> DerefMut for RankedGuard<'_, T, RANK> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

#[cfg(debug_assertions)]
impl<T, const RANK: u32> Drop for RankedGuard<'_, T, RANK> {
    fn drop(&mut self) {
        HELD.set(HELD.get() & !(1 << RANK));
    }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    #[test]
    fn locking_in_the_wrong_order_panics() {
        let (first, second) = (RankedMutex::<_, 0>::new(1), RankedMutex::<_, 1>::new(2));
        for _ in 0..2 {
            let guard = first.lock();
            assert_eq!(*guard + *second.lock(), 3);
        }
        let locked_backwards = std::thread::spawn(move || {
            let _guard = second.lock();
            catch_unwind(std::panic::AssertUnwindSafe(|| *first.lock())).is_err()
        });
        assert!(locked_backwards.join().unwrap());
    }
}
