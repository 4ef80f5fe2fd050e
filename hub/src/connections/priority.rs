//! Priority of connections that hold, or queue for, something that only a few can have: a turn, or a slot on a row.
//!
//! The scheduler polls such a connection at once, however much time its user has used: otherwise a slot given to one of a
//! user's thousands of connections would be unavailable to other users while it waits. Its time is charged all the same.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use backend::{FairPermit, FairSemaphore};

/// The number of a connection's [`PriorityGuard`]s.
pub(crate) type PriorityCount = Arc<AtomicU32>;

thread_local! {
    /// The count of the connection that is being polled.
    static POLLED: Cell<Option<PriorityCount>> = const { Cell::new(None) };
}

/// Gives priority to the connection that is being polled, until dropped. Without effect outside of a connection.
#[derive(Debug)]
pub(crate) struct PriorityGuard(Option<PriorityCount>);

impl PriorityGuard {
    pub(crate) fn new() -> Self {
        let polled = POLLED.take();
        POLLED.set(polled.clone());
        if let Some(count) = &polled {
            count.fetch_add(1, Ordering::Relaxed);
        }
        Self(polled)
    }
}

impl Drop for PriorityGuard {
    fn drop(&mut self) {
        if let Some(count) = &self.0 {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Waits for `user`'s turn. Drop the result in its order: the turn first.
pub(crate) async fn turn(turns: &'static FairSemaphore, user: &str) -> (FairPermit, PriorityGuard) {
    let guard = PriorityGuard::new();
    (turns.acquire(user).await, guard)
}

/// Runs `poll` for the connection of `count`.
pub(super) fn with_polled<T>(count: &mut Option<PriorityCount>, poll: impl FnOnce() -> T) -> T {
    POLLED.set(count.take());
    let result = poll();
    *count = POLLED.take();
    result
}

/// Runs `work` as a connection, and returns its count.
#[cfg(test)]
pub(crate) fn with_priority_count<T>(work: impl FnOnce() -> T) -> (T, PriorityCount) {
    let count = PriorityCount::default();
    let result = with_polled(&mut Some(count.clone()), work);
    (result, count)
}
