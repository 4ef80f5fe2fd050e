//! An incomplete frame: the fields before its blank line.

use super::{DEFAULT_EVENT, Frame, LF};
use std::borrow::Cow;

/// Bytes of a line or a value, borrowed from the input until the next chunk.
pub(super) type Bytes<'a> = Cow<'a, [u8]>;

/// The fields of a frame whose blank line was not read yet.
#[derive(Default)]
pub(super) struct PartialFrame<'a> {
    pub(super) event: Bytes<'a>,
    /// Becomes the last event id at the blank line, even without data.
    pub(super) id: Option<Bytes<'a>>,
    /// `None` until the first data line; a frame without one is no event.
    pub(super) data: Option<Bytes<'a>>,
    /// Bytes of values and line breaks so far, for the limit. Comments and unknown fields are not stored and do not count.
    pub(super) size: usize,
    /// Whether the limit was exceeded, so that all up to the blank line is dropped.
    pub(super) too_large: bool,
}

impl<'a> PartialFrame<'a> {
    /// Appends a data line, or the beginning of one.
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

    /// Appends to the last data line.
    pub(super) fn extend_data(&mut self, more: &[u8]) {
        self.data.get_or_insert_default().to_mut().extend_from_slice(more);
    }

    /// Converts to an event at the blank line; `None` without data.
    pub(super) fn into_frame(self) -> Option<Frame<'a>> {
        let data = text(self.data?);
        let event = Some(text(self.event)).filter(|event| !event.is_empty() && event != DEFAULT_EVENT);
        Some(Frame { event, data })
    }

    /// Copies borrowed bytes.
    pub(super) fn into_owned(self) -> PartialFrame<'static> {
        let owned = |bytes: Bytes<'a>| Cow::Owned(bytes.into_owned());
        PartialFrame {
            event: owned(self.event),
            id: self.id.map(owned),
            data: self.data.map(owned),
            size: self.size,
            too_large: self.too_large,
        }
    }
}

/// Decodes UTF-8 with U+FFFD for invalid sequences, as the Encoding Standard says. Called for whole values, so that chunks cannot
/// split a sequence.
pub(super) fn text(bytes: Bytes<'_>) -> Cow<'_, str> {
    // `from_utf8_lossy` is slow, so it is used for invalid text only.
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
