//! The token counts that an answer reports. All reading of usage is here, for whole answers and for events of a stream.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use crate::json::{each_member, member};

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
    /// Input tokens: `prompt_tokens`, or `input_tokens` of the Responses and Messages APIs. The Messages API leaves out
    /// those that its cache has.
    pub input: Option<u64>,
    /// Output tokens: `completion_tokens`, or `output_tokens`.
    pub output: Option<u64>,
    /// The prompt cache, if the backend reports it.
    pub cache: Option<PromptCache>,
}

/// The part of a prompt that a backend had in its cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PromptCache {
    /// Tokens of the whole prompt.
    pub prompt: u64,
    /// Tokens that the cache had, at most those of the prompt.
    pub cached: u64,
}

impl PromptCache {
    /// Counts that contradict each other are none.
    fn checked(prompt: u64, cached: u64) -> Option<Self> {
        (cached <= prompt && prompt <= MAX_TOKENS).then_some(Self { prompt, cached })
    }
}

impl Usage {
    /// This usage with what a `later` part of the same answer reports. Some APIs report input and output in two parts.
    #[must_use]
    pub fn merged(self, later: Self) -> Self {
        Self {
            input: later.input.or(self.input),
            output: later.output.or(self.output),
            cache: later.cache.or(self.cache),
        }
    }
}

/// Built once: the searches are made for every chunk.
static USAGE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"usage\""));
static TIMINGS: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"timings\""));

/// Reads the usage of an answer or a chunk: its `usage`, and `timings` of llama.cpp, which its streams have even if the
/// caller asked for no usage. A member that is no [`token_count`] is treated as absent.
pub fn usage(body: &str) -> Option<Usage> {
    // Most chunks have neither, and a search is cheaper than a scan.
    let object = |key: &str, quoted: &Finder<'_>| {
        quoted.find(body.as_bytes())?;
        member(body, key).filter(|value| value.starts_with('{'))
    };
    let usage = object("usage", &USAGE).map(reported);
    if usage.is_some_and(|usage| usage.cache.is_some()) {
        return usage;
    }
    match object("timings", &TIMINGS).and_then(timed) {
        Some(cache) => Some(Usage { cache: Some(cache), ..usage.unwrap_or_default() }),
        None => usage,
    }
}

/// Reads `usage` in one pass.
fn reported(usage: &str) -> Usage {
    let [mut prompt, mut input, mut completion, mut output, mut details, mut read, mut written] = [None; 7];
    let read_all = each_member(usage, |key, value| match key {
        "\"prompt_tokens\"" => prompt = token_count(value),
        "\"input_tokens\"" => input = token_count(value),
        "\"completion_tokens\"" => completion = token_count(value),
        "\"output_tokens\"" => output = token_count(value),
        "\"prompt_tokens_details\"" | "\"input_tokens_details\"" => {
            details = member(value, "cached_tokens").and_then(token_count);
        }
        "\"cache_read_input_tokens\"" => read = token_count(value),
        "\"cache_creation_input_tokens\"" => written = token_count(value),
        _ => (),
    });
    if read_all.is_err() {
        return Usage::default();
    }
    let input = prompt.or(input);
    let cache = match (input, details, read) {
        (Some(prompt), Some(cached), _) => PromptCache::checked(prompt, cached),
        // The Messages API counts what was read from the cache, and written to it, beside the input.
        (Some(input), None, Some(cached)) => {
            PromptCache::checked(input + cached + written.unwrap_or_default(), cached)
        }
        _ => None,
    };
    Usage { input, output: completion.or(output), cache }
}

/// Reads `timings`: tokens from the cache, and tokens that were processed.
fn timed(timings: &str) -> Option<PromptCache> {
    let number = |key: &str| token_count(member(timings, key)?);
    let cached = number("cache_n")?;
    PromptCache::checked(cached + number("prompt_n")?, cached)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn usage_is_read_in_both_dialects() {
        let both = Some(Usage { input: Some(3), output: Some(4), cache: None });
        assert_eq!(usage(r#"{"usage":{"prompt_tokens":3,"completion_tokens":4}}"#), both);
        assert_eq!(usage(r#"{"usage":{"input_tokens":3,"output_tokens":4}}"#), both);
        for other in ["null", "5", "[]", r#""x""#] {
            assert_eq!(usage(&format!(r#"{{"usage":{other}}}"#)), None, "{other}");
        }
        assert_eq!(usage(r#"{"choices":[]}"#), None);
    }

    #[test]
    fn cached_tokens_are_read_in_all_dialects() {
        for (body, prompt, cached) in [
            (r#"{"usage":{"prompt_tokens":9,"prompt_tokens_details":{"cached_tokens":7}}}"#, 9, 7),
            (r#"{"usage":{"input_tokens":9,"input_tokens_details":{"cached_tokens":0}}}"#, 9, 0),
            (
                r#"{"usage":{"input_tokens":2,"cache_read_input_tokens":7,"cache_creation_input_tokens":1}}"#,
                10,
                7,
            ),
            (r#"{"choices":[],"timings":{"cache_n":7,"prompt_n":2}}"#, 9, 7),
            (r#"{"usage":{"prompt_tokens":9},"timings":{"cache_n":7,"prompt_n":2}}"#, 9, 7),
        ] {
            let found = usage(body).and_then(|usage| usage.cache);
            assert_eq!(found, Some(PromptCache { prompt, cached }), "{body}");
        }
        for body in [
            r#"{"usage":{"prompt_tokens":9,"prompt_tokens_details":null}}"#,
            r#"{"usage":{"prompt_tokens":9,"prompt_tokens_details":{"cached_tokens":10}}}"#,
            r#"{"usage":{"prompt_tokens":9},"timings":{"prompt_n":2}}"#,
            r#"{"timings":{"cache_n":1099511627776,"prompt_n":1}}"#,
        ] {
            assert_eq!(usage(body).and_then(|usage| usage.cache), None, "{body}");
        }
    }

    #[test]
    fn a_later_part_of_an_answer_completes_its_usage() {
        let begin =
            usage(r#"{"usage":{"input_tokens":2,"cache_read_input_tokens":7,"output_tokens":1}}"#).unwrap();
        let end = usage(r#"{"usage":{"output_tokens":5}}"#).unwrap();
        let cache = Some(PromptCache { prompt: 9, cached: 7 });
        assert_eq!(begin.merged(end), Usage { input: Some(2), output: Some(5), cache });
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
            assert_eq!(found, Some(Usage { input: count, output: Some(7), cache: None }), "{number}");
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
