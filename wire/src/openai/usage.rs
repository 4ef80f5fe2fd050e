//! The token counts that an answer reports.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use crate::json::member;

/// Largest number of tokens that counts: some 10^12, a million times what any context holds. A backend's larger number would
/// only spoil the audit and the rates.
pub const MAX_TOKENS: u64 = 1 << 40;

/// Reads a JSON number as a count of tokens: whole, at most [`MAX_TOKENS`], in any notation (`12`, `12.0`, `1.2e1`). Anything
/// else is no count.
pub fn token_count(number: &str) -> Option<u64> {
    let whole = number.parse().ok().or_else(|| {
        let number = number.parse::<f64>().ok()?;
        #[expect(clippy::cast_precision_loss, reason = "a power of two is exact")]
        let is_count = number.fract() == 0.0 && (0.0..=MAX_TOKENS as f64).contains(&number);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "whole, not negative and in range"
        )]
        is_count.then_some(number as u64)
    });
    whole.filter(|count| *count <= MAX_TOKENS)
}

/// The token usage that an answer reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Input tokens: `prompt_tokens`, or `input_tokens` of the Responses and Messages APIs.
    pub input: Option<u64>,
    /// Output tokens: `completion_tokens`, or `output_tokens`.
    pub output: Option<u64>,
}

/// Built once: the search is made for every chunk.
static USAGE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"usage\""));

/// Reads the `usage` of an answer or a chunk. A member that is no [`token_count`] is treated as absent.
pub fn usage(body: &str) -> Option<Usage> {
    // Most chunks have none, and a search is cheaper than a scan.
    USAGE.find(body.as_bytes())?;
    let usage = member(body, "usage").filter(|usage| usage.starts_with('{'))?;
    let number = |keys: [&str; 2]| keys.iter().find_map(|key| token_count(member(usage, key)?));
    Some(Usage {
        input: number(["prompt_tokens", "input_tokens"]),
        output: number(["completion_tokens", "output_tokens"]),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn usage_is_read_in_both_dialects() {
        let both = Some(Usage { input: Some(3), output: Some(4) });
        assert_eq!(usage(r#"{"usage":{"prompt_tokens":3,"completion_tokens":4}}"#), both);
        assert_eq!(usage(r#"{"usage":{"input_tokens":3,"output_tokens":4}}"#), both);
        for other in ["null", "5", "[]", r#""x""#] {
            assert_eq!(usage(&format!(r#"{{"usage":{other}}}"#)), None, "{other}");
        }
        assert_eq!(usage(r#"{"choices":[]}"#), None);
    }

    #[test]
    fn a_count_is_a_whole_number_up_to_the_limit() {
        for (number, count) in [
            ("0", Some(0)),
            ("12", Some(12)),
            ("12.0", Some(12)),
            ("1.2e1", Some(12)),
            ("1099511627776", Some(MAX_TOKENS)),
            ("1099511627777", None),
            ("1099511627776.5", None),
            ("18446744073709551615", None),
            ("18446744073709551616", None),
            ("1e400", None),
            ("12.5", None),
            ("-1", None),
            ("null", None),
            (r#""12""#, None),
            ("[12]", None),
        ] {
            let found = usage(&format!(r#"{{"usage":{{"prompt_tokens":{number},"output_tokens":7}}}}"#));
            assert_eq!(found, Some(Usage { input: count, output: Some(7) }), "{number}");
        }
    }

    proptest! {
        #[test]
        fn no_number_makes_a_count_above_the_limit(
            members in prop::collection::vec(
                ("(prompt|completion|input|output|total)_tokens", "-?(0|[1-9][0-9]{0,24})([.][0-9]{1,20})?([eE][+-]?[0-9]{1,4})?"),
                0..6,
            ),
        ) {
            let members: Vec<_> = members.iter().map(|(name, number)| format!("\"{name}\":{number}")).collect();
            let found = usage(&format!(r#"{{"usage":{{{}}}}}"#, members.join(","))).unwrap();
            prop_assert!([found.input, found.output].iter().flatten().all(|count| *count <= MAX_TOKENS), "{found:?}");
        }
    }
}
