//! What a frame holds until its blank line comes.

use super::{DEFAULT_EVENT, Frame, LF};
use std::borrow::Cow;

/// Bytes of a line or a value, borrowed from the input as long as that lasts.
pub(super) type Bytes<'a> = Cow<'a, [u8]>;

/// A frame under way.
#[derive(Default)]
pub(super) struct Block<'a> {
    pub(super) event: Bytes<'a>,
    /// Becomes the last event id at the blank line, even where there is nothing to dispatch.
    pub(super) id: Option<Bytes<'a>>,
    /// `None` until there is a data line: a frame without one dispatches nothing.
    pub(super) data: Option<Bytes<'a>>,
    /// Bytes of values and of the line breaks between them, counted against the limit. Comments and unknown fields
    /// are never held, so they do not count.
    pub(super) size: usize,
    /// The limit was passed: nothing is held any more, and all up to the blank line is dropped.
    pub(super) too_large: bool,
}

impl<'a> Block<'a> {
    /// A data line, or the beginning of one.
    pub(super) fn add_data_line(&mut self, value: Bytes<'a>) {
        match &mut self.data {
            None => self.data = Some(value),
            Some(data) => {
                let data = data.to_mut();
                data.push(LF);
                data.extend_from_slice(&value);
            }
        }
    }

    /// More of the data line that was begun last.
    pub(super) fn extend_data(&mut self, more: &[u8]) {
        self.data.get_or_insert_default().to_mut().extend_from_slice(more);
    }

    /// The event that its blank line makes of this block, if any.
    pub(super) fn into_frame(self) -> Option<Frame<'a>> {
        let data = text(self.data?);
        let event = Some(text(self.event)).filter(|event| !event.is_empty() && event != DEFAULT_EVENT);
        Some(Frame { event, data })
    }

    /// The same, independent of the input.
    pub(super) fn into_owned(self) -> Block<'static> {
        let owned = |bytes: Bytes<'a>| Cow::Owned(bytes.into_owned());
        Block {
            event: owned(self.event),
            id: self.id.map(owned),
            data: self.data.map(owned),
            size: self.size,
            too_large: self.too_large,
        }
    }
}

/// UTF-8, with U+FFFD for what is broken, as the Encoding Standard cuts it. A frame is decoded as a whole and not line
/// by line or chunk by chunk: lines are joined with an ASCII byte, so that no sequence reaches over one.
pub(super) fn text(bytes: Bytes<'_>) -> Cow<'_, str> {
    // `from_utf8_lossy` goes byte by byte: only broken text pays for it.
    match bytes {
        Cow::Borrowed(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => String::from_utf8_lossy(bytes),
        },
        Cow::Owned(bytes) => Cow::Owned(
            String::from_utf8(bytes)
                .unwrap_or_else(|broken| String::from_utf8_lossy(broken.as_bytes()).into_owned()),
        ),
    }
}
