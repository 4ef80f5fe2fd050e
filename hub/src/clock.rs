//! Clocks. Only the edges of the hub read them: rules get the time as an argument.

use std::time::Duration;

use tokio::time::Instant;
use wire::row::Timestamp;

/// Reads the wall clock.
pub fn now() -> Timestamp {
    Timestamp(jiff::Timestamp::now().as_millisecond())
}

/// A reading of a [`Clock`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// For people and records.
    pub wall: Timestamp,
    /// Time since the hub's start, for decisions: a wall clock that jumps must not expire anything.
    pub mono: Duration,
}

/// The wall clock and a monotonic one.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
    started_at: Timestamp,
}

impl Clock {
    pub fn start() -> Self {
        Self { start: Instant::now(), started_at: now() }
    }

    /// The wall clock at the start.
    pub fn started_at(&self) -> Timestamp {
        self.started_at
    }

    pub fn now(&self) -> Now {
        Now { wall: now(), mono: self.start.elapsed() }
    }
}
