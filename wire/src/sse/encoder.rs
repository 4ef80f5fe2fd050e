//! Encodes events. `out` is a growing buffer (`Vec<u8>`, `BytesMut`); a fixed one that is too short panics, as for any `BufMut`.

use super::{CR, LF, NUL};
use bytes::BufMut;
use memchr::{memchr2, memchr3};
use thiserror::Error;

/// An event type or id with a line break or NUL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("an SSE {field} must not contain CR, LF or NUL")]
pub struct InvalidField {
    /// `event` or `id`.
    pub field: &'static str,
}

/// Appends one event. An error leaves `out` unchanged; `data` can be any text ([`write_data`]).
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

/// Appends one event of the default type, with one data line for each line of `data`, split at CR, LF and CRLF. So no text can end
/// the event or begin another one. Readers get LF for each line break.
pub fn write_data(out: &mut impl BufMut, data: &str) {
    write_lines(out, "data", data);
}

/// Appends a comment, which readers ignore, as a keep-alive.
pub fn write_comment(out: &mut impl BufMut, text: &str) {
    write_lines(out, "", text);
}

/// Writes a blank line after comments, too, because some readers split the stream at blank lines.
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
