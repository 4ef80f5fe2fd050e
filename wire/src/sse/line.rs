//! One line: where it ends, what field it is, and what is kept of one that is not whole yet.

use super::block::Bytes;
use super::{CR, LF};
use memchr::memchr2;
use std::borrow::Cow;

/// What came of the line under way in earlier chunks.
#[derive(Default)]
pub(super) enum Line {
    /// Nothing.
    #[default]
    Start,
    /// These bytes: its field is not known yet, or is one that is read as a whole (`event`, `id`, `retry`).
    Held(Vec<u8>),
    /// A data line, whose beginning went to the block.
    Data,
    /// Nothing of it is kept.
    Ignored,
}

/// The fields that mean something.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Data,
    Event,
    Id,
    Retry,
    /// A comment, or a name that we do not know.
    Ignored,
}

/// The field of a line and where its value starts; `None` when the line's next bytes must be seen to tell.
pub(super) fn field_of(line: &[u8], whole: bool) -> Option<(Field, usize)> {
    const NAMES: [(&[u8], Field); 4] =
        [(b"data", Field::Data), (b"event", Field::Event), (b"id", Field::Id), (b"retry", Field::Retry)];
    /// With so many bytes seen, a line that has matched no name never will: `event` and `retry` are the longest.
    const LONGEST: usize = 5;

    for (name, field) in NAMES {
        match line.strip_prefix(name) {
            // Exactly one space belongs to the colon.
            Some([b':', b' ', ..]) => return Some((field, name.len() + 2)),
            Some([b':']) if !whole => return None,
            Some([b':', ..]) => return Some((field, name.len() + 1)),
            Some([]) if whole => return Some((field, name.len())),
            Some([]) => return None,
            Some(_) => break,
            None => {}
        }
    }
    (whole || line.len() >= LONGEST).then_some((Field::Ignored, 0))
}

/// CR and LF end a line, and nothing else does.
pub(super) fn line_end(input: &[u8]) -> Option<usize> {
    match input.first()? {
        // Every frame ends so: not worth a vectorised search.
        &(LF | CR) => Some(0),
        _ => memchr2(LF, CR, input),
    }
}

/// The line from there on: its value.
pub(super) fn value_of(line: Bytes<'_>, at: usize) -> Bytes<'_> {
    match line {
        Cow::Borrowed(line) => Cow::Borrowed(&line[at..]),
        Cow::Owned(mut line) => {
            line.drain(..at);
            Cow::Owned(line)
        }
    }
}

/// ASCII digits only; a number that does not fit is ignored like any other nonsense.
pub(super) fn milliseconds(value: &[u8]) -> Option<u64> {
    value.iter().all(u8::is_ascii_digit).then(|| std::str::from_utf8(value).ok()?.parse().ok()).flatten()
}
