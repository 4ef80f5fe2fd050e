//! URL-encoded keys: `%2B` for `+`.

use memchr::memchr2;

use super::HIDDEN;
use super::strings::is_token;

/// Whether URLs do not escape this byte (RFC 3986, section 2.3).
pub(super) fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// Redacts each `key` in `text`, any bytes of which can be escaped; if `whole`, only whole tokens. `None` if there is none.
pub(super) fn redact(text: &str, key: &str, whole: bool) -> Option<String> {
    let bytes = text.as_bytes();
    let first = *key.as_bytes().first()?;
    let mut out = String::new();
    let (mut copied, mut from) = (0, 0);
    while let Some(at) = bytes.get(from..).and_then(|rest| memchr2(first, b'%', rest)) {
        let start = from + at;
        from = start + 1;
        let Some(length) = encoded_len(&bytes[start..], key.as_bytes()) else { continue };
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

/// Returns the length of the encoded `key` at the beginning of `text`; `None` if it is not there.
fn encoded_len(text: &[u8], key: &[u8]) -> Option<usize> {
    let mut at = 0;
    for byte in key {
        at += match text.get(at..)? {
            [b'%', high, low, ..] if digit(*high).zip(digit(*low)) == Some((byte >> 4, byte & 15)) => 3,
            [same, ..] if same == byte => 1,
            _ => return None,
        };
    }
    Some(at)
}

/// Parses a hexadecimal digit.
fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::key::Key;
    use super::*;

    /// URL-encodes `key`, with digits in either case.
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
        #[test]
        fn a_url_encoded_key_is_redacted(
            key in "[a-z]{6}[+/=:]{1,3}[A-Za-z0-9+/%=]{0,9}[+/=][a-z]{6}",
            digits in prop::collection::vec(any::<bool>(), 1..9),
            around in ("[ -~é]{0,9}[ &=?]", "[ &\"][ -~é]{0,9}"),
            times in 1..3_usize,
        ) {
            let (before, after) = around;
            prop_assume!(!before.contains('%') && !after.contains('%'));
            let one = format!("{before}{}{after}", encoded(&key, &digits));
            let redacted = Key::new(&key).redact(&one.repeat(times));
            prop_assert_eq!(redacted, Some(format!("{before}***{after}").repeat(times)));
            let json = format!("{{\"message\":{}}}", wire::json::quote(&one));
            let clean = format!("{{\"message\":{}}}", wire::json::quote(&format!("{before}***{after}")));
            prop_assert_eq!(Key::new(&key).redact_json(&json), Some(clean));
        }
    }

    #[test]
    fn a_key_inside_a_longer_word_is_kept() {
        let key = Key::new("abc+def/g");
        assert_eq!(
            key.redact("xabc%2Bdef%2fg, abc%2Bdef%2fgh, abc%2Bdef%2f%67").as_deref(),
            Some("xabc%2Bdef%2fg, abc%2Bdef%2fgh, ***")
        );
        assert_eq!(key.redact("%2Babc, 100 %, %, abc%2"), None);
    }
}
