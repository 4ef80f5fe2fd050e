//! What only a few can have at once: a turn at something, or a place on a row.
//!
//! A connection that has it is served at once, however much its user used, and so is one that stands in line for it, which
//! may be given it at any moment: behind the thousands that its user has in line it would keep it from everybody else.
//! There are few who have it; those in line have nothing to do until they are given it. Their time is charged all the same.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use backend::{Turn, Turns};

/// How much a connection has, or stands in line for.
pub(crate) type Pressure = Arc<AtomicU32>;

thread_local! {
    /// That of the connection that is polled at the moment.
    static POLLED: Cell<Option<Pressure>> = const { Cell::new(None) };
}

/// The connection that is polled while this is made has something that others wait for, until this is dropped. Work of no
/// connection has no share that it waits for: there it is nothing.
#[derive(Debug)]
pub(crate) struct Pressing(Option<Pressure>);

impl Pressing {
    pub(crate) fn new() -> Self {
        let polled = POLLED.take();
        POLLED.set(polled.clone());
        if let Some(pressure) = &polled {
            pressure.fetch_add(1, Ordering::Relaxed);
        }
        Self(polled)
    }
}

impl Drop for Pressing {
    fn drop(&mut self) {
        if let Some(pressure) = &self.0 {
            pressure.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Waits until it is `user`'s turn. What is given is dropped in this order.
pub(crate) async fn turn(turns: &'static Turns, user: &str) -> (Turn, Pressing) {
    let pressing = Pressing::new();
    (turns.take(user).await, pressing)
}

/// Does something for the connection whose `pressure` that is.
pub(super) fn polled<T>(pressure: &mut Option<Pressure>, poll: impl FnOnce() -> T) -> T {
    POLLED.set(pressure.take());
    let done = poll();
    *pressure = POLLED.take();
    done
}

/// Does something for a connection, and gives what then presses on it.
#[cfg(test)]
pub(crate) fn pressed<T>(work: impl FnOnce() -> T) -> (T, Pressure) {
    let pressure = Pressure::default();
    let done = polled(&mut Some(pressure.clone()), work);
    (done, pressure)
}
