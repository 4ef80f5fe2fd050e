//! The token counts of one inference, for the audit and the lists of tasks.

use schemars::JsonSchema;
use serde::Serialize;
use wire::openai::Usage;

/// Counts of tokens; null is unknown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct TokenCounts {
    /// All tokens of the prompt, cached or not.
    #[serde(rename = "inputTokens")]
    pub input: Option<u64>,
    /// Those of them that the backend had in its cache.
    #[serde(rename = "cachedTokens")]
    pub cached: Option<u64>,
    /// Tokens of the answer.
    #[serde(rename = "outputTokens")]
    pub output: Option<u64>,
    /// Whether the tokens of the answer are the events of its stream that have content, since the backend reported no usage.
    #[serde(rename = "counted")]
    pub is_counted: bool,
}

impl TokenCounts {
    /// The counts of an answer that reported `usage`. `content` are the events with content of a stream, `None` for a whole
    /// answer and before the first event. The backend's count of a stream that broke off may be older than its last event.
    pub fn of(usage: Usage, content: Option<u64>, is_whole: bool) -> Self {
        let reported = usage.output;
        let counted = content.filter(|content| reported.is_none_or(|output| !is_whole && *content > output));
        Self {
            input: usage.prompt(),
            cached: usage.cache().map(|cache| cache.cached),
            output: counted.or(reported),
            is_counted: counted.is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use wire::openai::usage;

    use super::*;

    #[test]
    fn events_are_counted_if_no_usage_or_an_older_one_is_reported() {
        let full = r#"{"usage":{"prompt_tokens":9,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":7}}}"#;
        let input = r#"{"usage":{"input_tokens":2,"cache_read_input_tokens":7}}"#;
        for (body, content, is_whole, output, is_counted) in [
            (full, Some(4), true, Some(5), false),
            (full, Some(9), true, Some(5), false),
            (full, Some(4), false, Some(5), false),
            (full, Some(6), false, Some(6), true),
            (full, None, true, Some(5), false),
            (input, Some(4), false, Some(4), true),
            (input, Some(0), true, Some(0), true),
            (input, None, false, None, false),
        ] {
            let counts = TokenCounts::of(usage(body).unwrap(), content, is_whole);
            let expected = TokenCounts { input: Some(9), cached: Some(7), output, is_counted };
            assert_eq!(counts, expected, "{body} {content:?}");
        }
        let unknown = TokenCounts::of(Usage::default(), Some(3), false);
        assert_eq!(
            serde_json::to_string(&unknown).unwrap(),
            r#"{"inputTokens":null,"cachedTokens":null,"outputTokens":3,"counted":true}"#
        );
    }
}
