//! Events to bytes. `out` grows (`Vec<u8>`, `BytesMut`); a fixed buffer that is too short panics, as `BufMut` says.

use super::{CR, LF, NUL};
use bytes::BufMut;
use memchr::{memchr2, memchr3};
use thiserror::Error;

/// An event's type or id that would break out of its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("an SSE {field} must not contain CR, LF or NUL")]
pub struct InvalidField {
    /// `event` or `id`.
    pub field: &'static str,
}

/// Appends one event. A refused `event` or `id` leaves `out` as it was; `data` may be any text ([`write_data`]).
pub fn write_event(
    out: &mut impl BufMut,
    event: Option<&str>,
    id: Option<&str>,
    data: &str,
) -> Result<(), InvalidField> {
    let fields = [("id", id), ("event", event)];
    for (field, value) in fields {
        if value.is_some_and(|value| memchr3(CR, LF, NUL, value.as_bytes()).is_some()) {
            return Err(InvalidField { field });
        }
    }
    for (field, value) in fields {
        if let Some(value) = value {
            write_line(out, field, value.as_bytes());
        }
    }
    write_data(out, data);
    Ok(())
}

/// Appends one event of the default type: one data line for each line of `data`, cut at CR, LF and CRLF, so that no
/// text can end the event early or begin another. The reader sees the line breaks as LF.
pub fn write_data(out: &mut impl BufMut, data: &str) {
    write_lines(out, "data", data);
}

/// Appends a comment, which readers ignore: bytes that show that the connection lives.
pub fn write_comment(out: &mut impl BufMut, text: &str) {
    write_lines(out, "", text);
}

/// The blank line comes after a comment too: readers that split at it stay in step.
fn write_lines(out: &mut impl BufMut, field: &str, text: &str) {
    let mut rest = text.as_bytes();
    while let Some(end) = memchr2(CR, LF, rest) {
        write_line(out, field, &rest[..end]);
        let line_break = if rest[end..].starts_with(b"\r\n") { 2 } else { 1 };
        rest = &rest[end + line_break..];
    }
    write_line(out, field, rest);
    out.put_u8(LF);
}

fn write_line(out: &mut impl BufMut, field: &str, value: &[u8]) {
    out.put_slice(field.as_bytes());
    out.put_slice(b": ");
    out.put_slice(value);
    out.put_u8(LF);
}
