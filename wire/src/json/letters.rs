//! The letters of a JSON string, read one by one: a key is compared, and the beginning of a picture looked at, without a
//! copy.

/// What stands for any letter outside ASCII that is none of those below.
const OTHER: u16 = 0xFFFF;

/// The letters outside ASCII that fold to one of it: `ſ` is an `s`, the sign of Kelvin a `k`.
const LONG_S: u16 = 0x17F;
const KELVIN: u16 = 0x212A;

/// The letters between the quotes of a JSON string, unescaped, in units of UTF-16. Outside ASCII what has no escape is
/// [`OTHER`], a unit for each byte, but for the two that fold.
pub(crate) struct Letters<'a> {
    rest: &'a [u8],
}

/// The letters of `inner`, which stands between the quotes of a string that was checked.
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

    /// The letter whose escape goes on behind its `\`.
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

/// `letter` as readers have it that do not tell capitals from small letters: small, and 0xFF where it is outside ASCII.
pub(crate) fn fold(letter: u16) -> u8 {
    match letter {
        LONG_S => b's',
        KELVIN => b'k',
        letter => {
            u8::try_from(letter).ok().filter(u8::is_ascii).map_or(0xFF, |byte| byte.to_ascii_lowercase())
        }
    }
}

/// Whether a reader that does not tell capitals from small letters takes `name` for `key`, which is of small letters of
/// ASCII. Go's `encoding/json` reads so, and of two such members it takes the last: `ſ` and the sign of Kelvin are letters
/// to it, too.
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
    fn a_name_folds_to_a_key_in_whatever_letters_it_is_written() {
        for name in ["stokes", "STOKES", "Stokes", "\u{17f}tokes", "sto\u{212a}e\u{17f}"] {
            assert!(folds(name, "stokes"), "{name}");
        }
        for name in ["", "stoke", "stokess", "ştokes", "st\u{ff4f}kes", "\u{1017f}tokes"] {
            assert!(!folds(name, "stokes"), "{name}");
        }
    }

    proptest! {
        /// A string says the same with and without escapes, and folds as its text does.
        #[test]
        fn letters_are_those_of_the_text(text in "[a-zA-Z_/\\\\\"\u{17f}\u{212a}ä\n]{0,20}") {
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
