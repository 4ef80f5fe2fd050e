//! The clock, asked at the edges only: what decides takes its time as an argument.

use std::time::Duration;

use tokio::time::Instant;
use wire::row::Timestamp;

/// This moment.
pub fn now() -> Timestamp {
    Timestamp(jiff::Timestamp::now().as_millisecond())
}

/// One reading of a [`Clock`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// For people and for records.
    pub wall: Timestamp,
    /// Since the hub's start, for decisions: a wall clock that jumps must not expire anything.
    pub mono: Duration,
}

/// Both times at once, from one start.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// A reading.
    pub fn now(&self) -> Now {
        Now { wall: now(), mono: self.start.elapsed() }
    }
}
