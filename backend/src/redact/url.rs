//! A key as a URL writes it: `%2B` for `+`.

use memchr::memchr2;

use super::{HIDDEN, is_token};

/// Whether a URL has this byte as it is (RFC 3986, section 2.3).
pub(super) fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// `text` with each `key` hidden, or each that is a `whole` token, of which any bytes may be escaped; `None` where there is
/// none.
pub(super) fn cut(text: &str, key: &str, whole: bool) -> Option<String> {
    let bytes = text.as_bytes();
    let first = *key.as_bytes().first()?;
    let mut out = String::new();
    let (mut copied, mut from) = (0, 0);
    while let Some(at) = bytes.get(from..).and_then(|rest| memchr2(first, b'%', rest)) {
        let start = from + at;
        from = start + 1;
        let Some(length) = length_of(&bytes[start..], key.as_bytes()) else { continue };
        let end = start + length;
        if whole && !is_token(text, start, end) {
            continue;
        }
        out.push_str(&text[copied..start]);
        out.push_str(HIDDEN);
        (copied, from) = (end, end);
    }
    (copied > 0).then(|| out + &text[copied..])
}

/// Bytes of `text` that `key` takes at its beginning; `None` where something else is there.
fn length_of(text: &[u8], key: &[u8]) -> Option<usize> {
    let mut at = 0;
    for byte in key {
        at += match text.get(at..)? {
            [b'%', high, low, ..] if value(*high).zip(value(*low)) == Some((byte >> 4, byte & 15)) => 3,
            [same, ..] if same == byte => 1,
            _ => return None,
        };
    }
    Some(at)
}

/// The value of a hexadecimal digit.
fn value(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Key;
    use super::*;

    /// `key` as a URL writes it, with digits in either case.
    fn encoded(key: &str, are_lower: &[bool]) -> String {
        key.bytes()
            .zip(are_lower.iter().cycle())
            .map(|(byte, is_lower)| match (is_unreserved(byte), is_lower) {
                (true, _) => char::from(byte).to_string(),
                (false, true) => format!("%{byte:02x}"),
                (false, false) => format!("%{byte:02X}"),
            })
            .collect()
    }

    proptest! {
        /// A key goes out of a text and of a JSON text however a URL writes it, and nothing else does.
        #[test]
        fn a_key_is_cut_as_a_url_writes_it(
            key in "[a-z]{6}[+/=:]{1,3}[A-Za-z0-9+/%=]{0,9}[+/=][a-z]{6}",
            digits in prop::collection::vec(any::<bool>(), 1..9),
            around in ("[ -~é]{0,9}[ &=?]", "[ &\"][ -~é]{0,9}"),
            times in 1..3_usize,
        ) {
            let (before, after) = around;
            prop_assume!(!before.contains('%') && !after.contains('%'));
            let one = format!("{before}{}{after}", encoded(&key, &digits));
            let cut = Key::new(&key).cut(&one.repeat(times));
            prop_assert_eq!(cut, Some(format!("{before}***{after}").repeat(times)));
            let json = format!("{{\"message\":{}}}", wire::json::quote(&one));
            let clean = format!("{{\"message\":{}}}", wire::json::quote(&format!("{before}***{after}")));
            prop_assert_eq!(Key::new(&key).cut_json(&json), Some(clean));
        }
    }

    #[test]
    fn what_is_a_part_of_another_word_stays() {
        let key = Key::new("abc+def/g");
        assert_eq!(
            key.cut("xabc%2Bdef%2fg, abc%2Bdef%2fgh, abc%2Bdef%2f%67").as_deref(),
            Some("xabc%2Bdef%2fg, abc%2Bdef%2fgh, ***")
        );
        assert_eq!(key.cut("%2Babc, 100 %, %, abc%2"), None);
    }
}
