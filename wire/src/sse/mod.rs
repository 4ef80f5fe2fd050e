//! Server-sent events, after the WHATWG text (HTML, section 9.2.6): one decoder and one encoder for both peers.
//!
//! What the text leaves open is settled here: a frame has a limit ([`DEFAULT_MAX_FRAME`]), and a frame over it is
//! dropped up to its blank line while the stream goes on. What is written can never become more or fewer events
//! than were meant, whatever text a publisher sends ([`write_data`]).

mod block;
mod decoder;
mod encoder;
mod line;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;

pub use decoder::{DEFAULT_MAX_FRAME, Decoder};
pub use encoder::{InvalidField, write_comment, write_data, write_event};

/// One event, owned. Its `Debug` shows the length of the data and never the data: they are prompts and answers.
#[derive(Clone, PartialEq, Eq)]
pub struct Event {
    /// The event's type; `None` is the default, `message`, also where the stream spelled it out.
    pub event: Option<String>,
    /// The data lines, joined with LF.
    pub data: String,
    /// The last event id at this event: its own, or that of an event before it. `None` when empty or never set.
    pub id: Option<String>,
}

impl Event {
    /// The event's type as the text names it: `message` by default.
    pub fn name(&self) -> &str {
        self.event.as_deref().unwrap_or(DEFAULT_EVENT)
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("event", &self.name())
            .field("data_bytes", &self.data.len())
            .finish_non_exhaustive()
    }
}

/// One event that borrows from the input where it can; see [`Decoder::decode`]. No `Debug`, for [`Event`]'s reason.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame<'a> {
    /// As in [`Event`].
    pub event: Option<Cow<'a, str>>,
    /// As in [`Event`].
    pub data: Cow<'a, str>,
}

const DEFAULT_EVENT: &str = "message";
const LF: u8 = b'\n';
const CR: u8 = b'\r';
const NUL: u8 = 0;
