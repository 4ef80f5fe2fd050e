//! Ids of tool calls. Anthropic's are of `[A-Za-z0-9_-]`, and callers check it when they go on elsewhere; a backend's
//! (`functions.read:0`) may hold anything, and must come back to it as they were: some templates read them.

use std::borrow::Cow;
use std::fmt::Write;

use super::super::json::{escape, unescape};

/// In front of an id whose bytes are written in hexadecimal.
const HEX: &str = "toolu_hex_";

/// The id for the caller; both escaped. `spare` is for a call that has none.
pub(super) fn outward(id: &str, spare: impl FnOnce() -> String) -> String {
    let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if id.is_empty() {
        return spare();
    }
    if id.chars().all(is_legal) && !id.starts_with(HEX) {
        return id.to_owned();
    }
    unescape(id).bytes().fold(HEX.to_owned(), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// The backend's id for one that [`outward`] made; both escaped.
pub(super) fn inward(id: &str) -> Cow<'_, str> {
    let bytes = |hex: &str| -> Option<Vec<u8>> {
        let digits = hex.len().is_multiple_of(2) && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
        digits.then(|| {
            (0..hex.len() / 2).map_while(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).ok()).collect()
        })
    };
    let original = id.strip_prefix(HEX).and_then(bytes).and_then(|bytes| String::from_utf8(bytes).ok());
    original.map_or(Cow::Borrowed(id), |original| Cow::Owned(escape(&original)))
}
