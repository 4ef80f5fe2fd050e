//! Decodes a JSON string literal.

use std::borrow::Cow;

/// Decodes the JSON string `literal`, given with its quotes; `None` for any other JSON. An unpaired surrogate, which RFC 8259
/// allows, becomes U+FFFD; `serde_json` rejects the whole text.
pub fn unquote(literal: &str) -> Option<Cow<'_, str>> {
    let inner = literal.strip_prefix('"')?.strip_suffix('"')?;
    if !inner.contains('\\') {
        return Some(Cow::Borrowed(inner));
    }
    let mut out = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let escape = rest[at + 1..].chars().next()?;
        rest = &rest[at + 1 + escape.len_utf8()..];
        out.push(match escape {
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                let (first, after) = take_utf16_unit(rest)?;
                rest = after;
                // A high surrogate combines with a low one that follows.
                match rest.strip_prefix("\\u").and_then(take_utf16_unit) {
                    Some((second @ 0xDC00..=0xDFFF, after)) if (0xD800..0xDC00).contains(&first) => {
                        rest = after;
                        char::from_u32(0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00))
                    }
                    _ => char::from_u32(first),
                }
                .unwrap_or(char::REPLACEMENT_CHARACTER)
            }
            other => other,
        });
    }
    out.push_str(rest);
    Some(Cow::Owned(out))
}

/// Splits off four hexadecimal digits.
fn take_utf16_unit(text: &str) -> Option<(u32, &str)> {
    let digits = text.get(..4).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
    Some((u32::from_str_radix(digits, 16).ok()?, &text[4..]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_unpaired_surrogate_becomes_a_replacement_character() {
        for (literal, text) in [
            (r#""\ud83d""#, "\u{fffd}"),
            (r#""a\ud83d\ud83d\ude00b""#, "a\u{fffd}\u{1f600}b"),
            (r#""\ude00\u0041""#, "\u{fffd}A"),
            (r#""\ud83d\n""#, "\u{fffd}\n"),
        ] {
            assert_eq!(unquote(literal).as_deref(), Some(text), "{literal}");
        }
        for other in ["1", "null", "{}", "", "\"", r#""\u12""#] {
            assert_eq!(unquote(other), None, "{other}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn unquote_reverses_quote(text in any::<String>()) {
            let literal = crate::json::quote(&text);
            prop_assert_eq!(unquote(&literal), Some(Cow::Borrowed(text.as_str())));
            let escaped: Vec<String> = text.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect();
            let escaped = escaped.concat();
            let literal = format!("\"{escaped}\"");
            prop_assert_eq!(unquote(&literal), Some(Cow::Borrowed(text.as_str())));
        }
    }
}
