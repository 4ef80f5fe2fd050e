//! Whether the backend of a row takes `stream_options`. It is found out by calls; a row that is registered anew begins anew.

use std::sync::atomic::{AtomicU8, Ordering};

const UNKNOWN: u8 = 0;
const TAKEN: u8 = 1;
const REFUSED: u8 = 2;

/// What is known of one row, shared with the calls that were sent to it.
#[derive(Debug, Default)]
pub struct UsageSupport(AtomicU8);

impl UsageSupport {
    /// Whether a stream with the option has begun.
    pub fn is_known(&self) -> bool {
        self.0.load(Ordering::Relaxed) == TAKEN
    }

    /// Whether the backend refused a request with the option that it accepted without.
    pub fn is_refused(&self) -> bool {
        self.0.load(Ordering::Relaxed) == REFUSED
    }

    pub fn set_taken(&self) {
        // A refusal of another call is not overwritten, and a read for each call is cheaper than a write.
        if self.0.load(Ordering::Relaxed) == UNKNOWN {
            self.0.store(TAKEN, Ordering::Relaxed);
        }
    }

    pub fn set_refused(&self) {
        self.0.store(REFUSED, Ordering::Relaxed);
    }
}
