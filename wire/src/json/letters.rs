//! Iterates over the letters of a JSON string, unescaped and without a copy.

/// Stands for every non-ASCII letter except the two below.
const OTHER: u16 = 0xFFFF;

/// `ſ`, which folds to `s`.
const LONG_S: u16 = 0x17F;
/// The Kelvin sign, which folds to `k`.
const KELVIN: u16 = 0x212A;

/// The unescaped letters of a JSON string as UTF-16 units. Each byte of an unescaped non-ASCII letter becomes [`OTHER`], except
/// for the two letters that fold to ASCII.
pub(crate) struct Letters<'a> {
    rest: &'a [u8],
}

/// Iterates over the letters of `inner`, the text between the quotes of a valid JSON string.
pub(crate) fn letters(inner: &[u8]) -> Letters<'_> {
    Letters { rest: inner }
}

impl Iterator for Letters<'_> {
    type Item = u16;

    fn next(&mut self) -> Option<u16> {
        let (&first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(match first {
            b'\\' => self.escape(),
            0..0x80 => first.into(),
            0xC5 if rest.first() == Some(&0xBF) => self.skip(1, LONG_S),
            0xE2 if rest.starts_with(&[0x84, 0xAA]) => self.skip(2, KELVIN),
            _ => OTHER,
        })
    }
}

impl Letters<'_> {
    fn skip(&mut self, bytes: usize, letter: u16) -> u16 {
        self.rest = &self.rest[bytes..];
        letter
    }

    /// Reads the rest of an escape whose backslash was read.
    fn escape(&mut self) -> u16 {
        let Some((&kind, rest)) = self.rest.split_first() else { return OTHER };
        self.rest = rest;
        match kind {
            b'b' => 0x8,
            b'f' => 0xC,
            b'n' => b'\n'.into(),
            b'r' => b'\r'.into(),
            b't' => b'\t'.into(),
            b'u' => {
                let Some((digits, rest)) = rest.split_first_chunk::<4>() else { return OTHER };
                self.rest = rest;
                let digits = std::str::from_utf8(digits).unwrap_or_default();
                u16::from_str_radix(digits, 16).unwrap_or(OTHER)
            }
            other => other.into(),
        }
    }
}

/// Converts to lower case as readers that ignore letter case do; 0xFF if the result is not ASCII.
pub(crate) fn fold(letter: u16) -> u8 {
    match letter {
        LONG_S => b's',
        KELVIN => b'k',
        letter => {
            u8::try_from(letter).ok().filter(u8::is_ascii).map_or(0xFF, |byte| byte.to_ascii_lowercase())
        }
    }
}

/// Whether a reader that ignores letter case reads `name` as `key`, which is in ASCII lower case. Go's `encoding/json` is such a
/// reader: of two such members it takes the last, and it folds `ſ` and the Kelvin sign to ASCII.
pub fn folds(name: &str, key: &str) -> bool {
    let units = name.chars().map(|letter| u16::try_from(u32::from(letter)).unwrap_or(OTHER));
    units.map(fold).eq(key.bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::json::quote;

    #[test]
    fn folding_ignores_letter_case() {
        for name in ["stokes", "STOKES", "Stokes", "\u{17f}tokes", "sto\u{212a}e\u{17f}"] {
            assert!(folds(name, "stokes"), "{name}");
        }
        for name in ["", "stoke", "stokess", "ştokes", "st\u{ff4f}kes", "\u{1017f}tokes"] {
            assert!(!folds(name, "stokes"), "{name}");
        }
    }

    proptest! {
        #[test]
        fn escaped_and_plain_letters_fold_alike(text in "[a-zA-Z_/\\\\\"\u{17f}\u{212a}ä\n]{0,20}") {
            let escaped: Vec<_> = text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
            let escaped = escaped.concat();
            let quoted = quote(&text);
            let folded = |inner: &str| letters(inner.as_bytes()).map(fold).filter(|byte| *byte != 0xFF).collect::<Vec<_>>();
            prop_assert_eq!(folded(&escaped), folded(&quoted[1..quoted.len() - 1]));
            let key = String::from_utf8(folded(&escaped)).unwrap();
            prop_assert_eq!(folds(&text, &key), !text.contains('ä'));
        }
    }
}
