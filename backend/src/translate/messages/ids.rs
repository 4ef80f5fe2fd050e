//! Ids of tool calls. Anthropic's consist of `[A-Za-z0-9_-]`, and some callers check that. A backend's (`functions.read:0`) can contain
//! anything and must be sent back unchanged, because some templates parse it.

use std::borrow::Cow;

use super::super::json::{escape, unescape};
use crate::hex;

/// Prefix of an id that is encoded in hexadecimal.
const HEX: &str = "toolu_hex_";

/// Converts a backend's id to a caller's; both are escaped. `default` is for a call without an id.
pub(super) fn to_caller(id: &str, default: impl FnOnce() -> String) -> String {
    let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if id.is_empty() {
        return default();
    }
    if id.chars().all(is_legal) && !id.starts_with(HEX) {
        return id.to_owned();
    }
    format!("{HEX}{}", hex(unescape(id).as_bytes()))
}

/// Reverses [`to_caller`].
pub(super) fn to_backend(id: &str) -> Cow<'_, str> {
    let bytes = |hex: &str| -> Option<Vec<u8>> {
        let is_hex = hex.len().is_multiple_of(2) && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
        let digits = is_hex.then_some(0..hex.len() / 2)?;
        digits.map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).ok()).collect()
    };
    let original = id.strip_prefix(HEX).and_then(bytes).and_then(|bytes| String::from_utf8(bytes).ok());
    original.map_or(Cow::Borrowed(id), |original| Cow::Owned(escape(&original)))
}
