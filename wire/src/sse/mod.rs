//! Server-sent events (WHATWG HTML, section 9.2.6): one decoder and one encoder for both peers.
//!
//! Beyond the standard, the decoder drops a frame over a limit ([`DEFAULT_MAX_FRAME`]) up to its blank line and continues. The
//! encoder writes exactly one event for any text ([`write_data`]).

mod decoder;
mod encoder;
mod line;
mod partial;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;

pub use decoder::{DEFAULT_MAX_FRAME, Decoder};
pub use encoder::{InvalidField, write_comment, write_data, write_event};

/// An owned event. `Debug` shows the length of the data only, because data are prompts and answers.
#[derive(Clone, PartialEq, Eq)]
pub struct Event {
    /// The event's type; `None` is the default, `message`, even if it was sent explicitly.
    pub event: Option<String>,
    /// The data lines, joined with LF.
    pub data: String,
    /// The last event id: of this event or an earlier one. `None` if empty or never set.
    pub id: Option<String>,
}

impl Event {
    /// Returns the event's type, `message` by default.
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

/// An event that borrows from the input if possible, from [`Decoder::decode`]. It has no `Debug`, because data are prompts and
/// answers.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame<'a> {
    /// See [`Event::event`].
    pub event: Option<Cow<'a, str>>,
    /// See [`Event::data`].
    pub data: Cow<'a, str>,
}

const DEFAULT_EVENT: &str = "message";
const LF: u8 = b'\n';
const CR: u8 = b'\r';
const NUL: u8 = 0;
