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
    let mut out = String::with_capacity(fragment.len());
    let mut rest = fragment;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let (c, length) = escaped_char(rest).unwrap_or(('\\', 1));
        out.push(c);
        rest = &rest[length..];
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// Whether the escaped text `fragment` is `text`. Compares no further than the first difference.
pub(super) fn is_escaped(fragment: &str, text: &str) -> bool {
    let mut rest = fragment;
    for expected in text.chars() {
        let (c, length) = match rest.chars().next() {
            Some('\\') => match escaped_char(rest) {
                Some(escaped) => escaped,
                None => return false,
            },
            Some(c) => (c, c.len_utf8()),
            None => return false,
        };
        if c != expected {
            return false;
        }
        rest = &rest[length..];
    }
    rest.is_empty()
}

/// Decodes the escape at the beginning of `rest`: its character, and its length in bytes. `None` for a lone surrogate, and for
/// what is no escape.
pub(in crate::translate) fn escaped_char(rest: &str) -> Option<(char, usize)> {
    let c = match rest.as_bytes().get(1)? {
        c @ (b'"' | b'\\' | b'/') => char::from(*c),
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => {
            let first = code_unit(rest)?;
            if let Some(c) = char::from_u32(first.into()) {
                return Some((c, 6));
            }
            let pair = [first, code_unit(&rest[6..])?];
            return char::decode_utf16(pair).next()?.ok().map(|c| (c, 12));
        }
        _ => return None,
    };
    Some((c, 2))
}

/// The number of the escape `\uXXXX` at the beginning of `rest`.
fn code_unit(rest: &str) -> Option<u16> {
    let digits = rest.strip_prefix("\\u")?.get(..4)?;
    let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_hex.then(|| u16::from_str_radix(digits, 16).ok()).flatten()
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

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// serde_json is the reference for text without lone surrogates.
        #[test]
        fn text_is_unescaped_as_serde_json_does(
            text in r#"([a-zé😀 "\\/\n]|\PC){0,20}"#,
            is_coded in any::<[bool; 8]>(),
        ) {
            let mut escaped = String::new();
            for (c, is_coded) in text.chars().zip(is_coded.iter().cycle()) {
                if *is_coded {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        write!(escaped, "\\u{unit:04x}").unwrap();
                    }
                } else {
                    escaped.push_str(&escape(&c.to_string()));
                }
            }
            let reference: String = serde_json::from_str(&format!("\"{escaped}\"")).unwrap();
            prop_assert_eq!(&reference, &text);
            prop_assert_eq!(unescape(&escaped), text.as_str());
            prop_assert!(is_escaped(&escaped, &text));
            let (longer, longer_escaped) = (format!("{text}x"), format!("{escaped}x"));
            prop_assert!(!is_escaped(&escaped, &longer) && !is_escaped(&longer_escaped, &text));
        }

        #[test]
        fn any_text_can_be_unescaped(fragment in r#"([a-z😀]|\\|\\u|[0-9a-fA-F]{4}|\\ud83d|\\ude00|"){0,12}"#) {
            prop_assert!(unescape(&fragment).len() <= fragment.len());
        }
    }

    #[test]
    fn a_lone_surrogate_stays_and_equals_no_text() {
        for lone in [r"\ud83d", r"\ude00", r"\ud83d\ud83d", r"\ud83dx", r"\u+123", r"\u12"] {
            assert_eq!(unescape(lone), lone);
            assert!(!is_escaped(lone, lone));
        }
        assert_eq!(unescape(r"\ud83d\ud83d\ude00"), "\\ud83d😀");
    }
}
