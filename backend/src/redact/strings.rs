//! Searches for strings in JSON, and for words in texts.

use memchr::memmem::Finder;
use memchr::{memchr, memchr2};
use wire::json::{quote, unquote};

use super::HIDDEN;

/// Replaces each string of `json` for which `change` returns another one; `None` if there is no such string.
pub(super) fn rewritten(json: &str, change: impl Fn(&str) -> Option<String>) -> Option<String> {
    let mut out = String::new();
    let mut copied = 0;
    for JsonString { start, end, .. } in strings(json) {
        let Some(text) = unquote(&json[start..end]) else { continue };
        if let Some(clean) = change(&text) {
            out.push_str(&json[copied..start]);
            out.push_str(&quote(&clean));
            copied = end;
        }
    }
    (copied > 0).then(|| out + &json[copied..])
}

/// Replaces each occurrence of `word` by [`HIDDEN`]; if `whole`, only those that are a whole token. `rest_of` gets the text after an
/// occurrence and returns what remains of it, or `None` to keep the occurrence. `folded` is `text` in the case of `word`. Returns
/// `None` if nothing was replaced.
pub(super) fn replaced(
    text: &str,
    folded: &str,
    word: &Finder<'_>,
    whole: bool,
    rest_of: impl for<'r> Fn(&'r str) -> Option<&'r str>,
) -> Option<String> {
    let mut out = String::new();
    let mut copied = 0;
    for at in word.find_iter(folded.as_bytes()) {
        let end = at + word.needle().len();
        if at < copied || whole && !is_token(text, at, end) {
            continue;
        }
        let Some(rest) = rest_of(&text[end..]) else { continue };
        out.push_str(&text[copied..at]);
        out.push_str(HIDDEN);
        copied = text.len() - rest.len();
    }
    (copied > 0).then(|| {
        out.push_str(&text[copied..]);
        out
    })
}

/// Whether `text[start..end]` is a whole token: no letter, digit, `-` or `_` is next to it, and no dot that continues a name.
pub(super) fn is_token(text: &str, start: usize, end: usize) -> bool {
    let is_part = |next: char| next.is_alphanumeric() || next == '-' || next == '_';
    let mut after = text[end..].chars();
    let begins = match char_before(&text[..start]) {
        Some('.') => !char_before(&text[..start - 1]).is_some_and(is_part),
        previous => !previous.is_some_and(is_part),
    };
    let ends = match after.next() {
        Some('.') => !after.next().is_some_and(is_part),
        next => !next.is_some_and(is_part),
    };
    begins && ends
}

/// Returns the last character of `text`, or `None` if it ends an escape such as `\n` or `%3D`.
pub(super) fn char_before(text: &str) -> Option<char> {
    let is_escape = match text.as_bytes() {
        [.., b'%', a, b] => a.is_ascii_hexdigit() && b.is_ascii_hexdigit(),
        _ => false,
    };
    let is_escape = is_escape || matches!(text.as_bytes(), [.., b'\\', b'n' | b'r' | b't']);
    text.chars().next_back().filter(|_| !is_escape)
}

/// The range of a string in a JSON text, quotes included.
pub(super) struct JsonString {
    pub(super) start: usize,
    pub(super) end: usize,
    /// Whether it is the name of a member.
    pub(super) is_name: bool,
}

/// Iterates over the strings of `json`.
pub(super) fn strings(json: &str) -> impl Iterator<Item = JsonString> {
    let bytes = json.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at + memchr(b'"', bytes.get(at..)?)?;
        let mut end = start + 1;
        loop {
            let stop = end + memchr2(b'"', b'\\', bytes.get(end..)?)?;
            if bytes[stop] == b'"' {
                end = stop + 1;
                break;
            }
            end = stop + 2;
        }
        at = end;
        let next = bytes[end..].iter().find(|byte| !byte.is_ascii_whitespace());
        Some(JsonString { start, end, is_name: next == Some(&b':') })
    })
}
