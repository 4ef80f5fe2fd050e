//! Escaped text: a JSON string without its quotes.

use std::borrow::Cow;

use wire::json::quote;

/// Escapes `text`.
pub(in crate::translate) fn escape(text: &str) -> String {
    let quoted = quote(text);
    quoted[1..quoted.len() - 1].to_owned()
}

/// Unescapes `fragment`. The escape of a lone surrogate, which is no character, stays. In the arguments of a call, which are JSON
/// themselves, it keeps its meaning.
pub(in crate::translate) fn unescape(fragment: &str) -> Cow<'_, str> {
    if !fragment.contains('\\') {
        return Cow::Borrowed(fragment);
    }
    if let Ok(text) = serde_json::from_str::<String>(&format!("\"{fragment}\"")) {
        return Cow::Owned(text);
    }
    let mut out = String::with_capacity(fragment.len());
    let mut rest = fragment;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        // The longest valid escape: a surrogate pair has 12 bytes, another `\u` 6, all else 2.
        let valid = [12, 6, 2].into_iter().find_map(|length| {
            let escape = rest.get(..length)?;
            serde_json::from_str::<String>(&format!("\"{escape}\"")).ok().map(|text| (length, text))
        });
        let (length, text) = valid.unwrap_or_else(|| {
            let length = if rest.len() >= 6 && rest.is_char_boundary(6) { 6 } else { rest.len() };
            (length, rest[..length].to_owned())
        });
        out.push_str(&text);
        rest = &rest[length..];
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// Returns the length of `fragment` without a high surrogate at its end, whose low surrogate may follow. Many readers reject a lone one.
pub(in crate::translate) fn without_half(fragment: &str) -> usize {
    let length = fragment.len();
    let Some(start) = length.checked_sub(6).filter(|start| fragment.is_char_boundary(*start)) else {
        return length;
    };
    let (before, escape) = fragment.split_at(start);
    let is_half =
        matches!(escape.as_bytes(), [b'\\', b'u', b'd' | b'D', b'8' | b'9' | b'a' | b'b' | b'A' | b'B', ..]);
    let is_escape = (before.len() - before.trim_end_matches('\\').len()).is_multiple_of(2);
    if is_half && is_escape { start } else { length }
}
