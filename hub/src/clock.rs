//! The wall clock, asked at the edges only: what decides takes its time as an argument.

use wire::row::Timestamp;

/// This moment.
pub fn now() -> Timestamp {
    Timestamp(jiff::Timestamp::now().as_millisecond())
}
