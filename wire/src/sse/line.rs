//! Lines: their ends, their fields, and the state of an incomplete line.

use super::partial::Bytes;
use super::{CR, LF};
use memchr::memchr2;
use std::borrow::Cow;

/// The part of the current line that earlier chunks contained.
#[derive(Default)]
pub(super) enum Line {
    /// The line begins here.
    #[default]
    Start,
    /// The bytes so far. The field is unknown, or is handled at the end of the line (`event`, `id`, `retry`).
    Held(Vec<u8>),
    /// In the value of a `data` field, of which the bytes so far were appended to the frame.
    Data,
    /// A line whose bytes are dropped.
    Ignored,
}

/// The field of a line.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Data,
    Event,
    Id,
    Retry,
    /// A comment or an unknown field.
    Ignored,
}

/// Returns the field of a line and the offset of its value; `None` if more bytes are needed.
pub(super) fn field_of(line: &[u8], whole: bool) -> Option<(Field, usize)> {
    const NAMES: [(&[u8], Field); 4] =
        [(b"data", Field::Data), (b"event", Field::Event), (b"id", Field::Id), (b"retry", Field::Retry)];
    /// Length of the longest names, `event` and `retry`.
    const MAX_NAME: usize = 5;

    for (name, field) in NAMES {
        match line.strip_prefix(name) {
            // One space after the colon is not part of the value.
            Some([b':', b' ', ..]) => return Some((field, name.len() + 2)),
            Some([b':']) if !whole => return None,
            Some([b':', ..]) => return Some((field, name.len() + 1)),
            Some([]) if whole => return Some((field, name.len())),
            Some([]) => return None,
            Some(_) => break,
            None => {}
        }
    }
    (whole || line.len() >= MAX_NAME).then_some((Field::Ignored, 0))
}

/// Returns the offset of the next CR or LF.
pub(super) fn line_end(input: &[u8]) -> Option<usize> {
    match input.first()? {
        // Fast path for blank lines.
        &(LF | CR) => Some(0),
        _ => memchr2(LF, CR, input),
    }
}

/// Returns the line from offset `at`.
pub(super) fn value_of(line: Bytes<'_>, at: usize) -> Bytes<'_> {
    match line {
        Cow::Borrowed(line) => Cow::Borrowed(&line[at..]),
        Cow::Owned(mut line) => {
            line.drain(..at);
            Cow::Owned(line)
        }
    }
}

/// Parses a `retry` value; `None` unless it has only ASCII digits and fits.
pub(super) fn milliseconds(value: &[u8]) -> Option<u64> {
    value.iter().all(u8::is_ascii_digit).then(|| std::str::from_utf8(value).ok()?.parse().ok()).flatten()
}
