//! Usage as servers report it.

use proptest::prelude::*;

use super::*;

#[test]
fn usage_is_read_in_both_dialects() {
    let both = Some(Usage { input: Some(3), output: Some(4), ..Usage::default() });
    assert_eq!(usage(r#"{"usage":{"prompt_tokens":3,"completion_tokens":4}}"#), both);
    assert_eq!(usage(r#"{"usage":{"input_tokens":3,"output_tokens":4}}"#), both);
    for other in ["null", "5", "[]", r#""x""#] {
        assert_eq!(usage(&format!(r#"{{"usage":{other}}}"#)), None, "{other}");
    }
    let nested = "{\"a\":{\"usage\":null},\"usage\" :\n {\"prompt_tokens\":3,\"completion_tokens\":4}}";
    assert_eq!(usage(nested), both);
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
        // A gateway's answer in OpenAI's format: the prompt is whole.
        (
            r#"{"usage":{"prompt_tokens":9,"cache_read_input_tokens":7,"cache_creation_input_tokens":1}}"#,
            9,
            7,
        ),
        (
            r#"{"usage":{"input_tokens":9,"input_tokens_details":{"cached_tokens":7},"cache_creation_input_tokens":2}}"#,
            9,
            7,
        ),
        (r#"{"usage":{"prompt_tokens":9,"prompt_cache_hit_tokens":7,"prompt_cache_miss_tokens":2}}"#, 9, 7),
        (r#"{"usage":{"prompt_tokens":9,"cached_tokens":7}}"#, 9, 7),
        (r#"{"choices":[],"timings":{"cache_n":7,"prompt_n":2}}"#, 9, 7),
        (r#"{"usage":{"prompt_tokens":9},"timings":{"cache_n":7,"prompt_n":2}}"#, 9, 7),
    ] {
        let found = usage(body).and_then(Usage::cache);
        assert_eq!(found, Some(PromptCache { prompt, cached }), "{body}");
    }
    for body in [
        r#"{"usage":{"prompt_tokens":9,"prompt_tokens_details":null}}"#,
        r#"{"usage":{"prompt_tokens":9,"prompt_tokens_details":{"cached_tokens":10}}}"#,
        r#"{"usage":{"prompt_tokens":9},"timings":{"prompt_n":2}}"#,
        r#"{"timings":{"cache_n":1099511627776,"prompt_n":1}}"#,
    ] {
        assert_eq!(usage(body).and_then(Usage::cache), None, "{body}");
    }
}

#[test]
fn a_later_part_of_an_answer_completes_its_usage() {
    let begin =
        usage(r#"{"usage":{"input_tokens":2,"cache_read_input_tokens":7,"output_tokens":1}}"#).unwrap();
    let end = usage(r#"{"usage":{"output_tokens":5}}"#).unwrap();
    let merged = begin.merged(end);
    assert_eq!((merged.prompt(), merged.output), (Some(9), Some(5)));
    assert_eq!(merged.cache(), Some(PromptCache { prompt: 9, cached: 7 }));
    // The end of a message repeats its input, and may leave out what was cached.
    let end = usage(r#"{"usage":{"input_tokens":2,"output_tokens":5}}"#).unwrap();
    assert_eq!(begin.merged(end).prompt(), Some(9));
}

#[test]
fn other_counts_replace_a_missing_usage() {
    let read = |body: &str| {
        let usage = answer_usage(body).unwrap_or_default();
        (usage.prompt(), usage.output, usage.cache().map(|cache| cache.cached))
    };
    for (body, expected) in [
        (r#"{"timings":{"cache_n":236,"prompt_n":1,"predicted_n":35}}"#, (Some(237), Some(35), Some(236))),
        // Without `cache_n` the size of the prompt is unknown.
        (r#"{"timings":{"prompt_n":1,"predicted_n":35}}"#, (None, Some(35), None)),
        (
            r#"{"usage":{"completion_tokens":6},"timings":{"cache_n":1,"prompt_n":2,"predicted_n":5}}"#,
            (Some(3), Some(6), Some(1)),
        ),
        (r#"{"data":[],"usage":{"total_tokens":8}}"#, (Some(8), None, None)),
        (r#"{"results":[],"usage":{"prompt_tokens":8,"total_tokens":9}}"#, (Some(8), None, None)),
        (r#"{"results":[],"meta":{"billed_units":{"search_units":1}}}"#, (None, None, None)),
        (
            r#"{"results":[],"meta":{"api_version":{},"billed_units":{"input_tokens":8,"output_tokens":0}}}"#,
            (Some(8), Some(0), None),
        ),
        (
            r#"{"results":[],"meta":{"billed_units":{"input_tokens":8},"tokens":{"input_tokens":11}}}"#,
            (Some(11), None, None),
        ),
        (r#"{"results":[],"meta":{"tokens":{"input_tokens":-1}}}"#, (None, None, None)),
        (r#"{"usage":{"input_tokens":1099511627776,"cache_read_input_tokens":1}}"#, (None, None, None)),
    ] {
        assert_eq!(read(body), expected, "{body}");
    }
}

#[test]
fn a_usage_chunk_has_no_choice() {
    for chunk in [
        r#"{"id":"c","choices":[],"usage":{"prompt_tokens":3}}"#,
        r#"{"usage":{},"choices":[],"system_fingerprint":null}"#,
        r#"{"usage":{},"choices":null,"timings":{"cache_n":7}}"#,
        r#"{"choices":[],"us\u0061ge":{},"a":"\"usage\""}"#,
    ] {
        // No backend escapes the key, and an escaped one is not found.
        assert_eq!(is_usage_chunk(chunk), !chunk.contains("u0061"), "{chunk}");
    }
    for chunk in [
        r#"{"choices":[],"usage":null}"#,
        r#"{"choices":[]}"#,
        r#"{"usage":{"prompt_tokens":3}}"#,
        r#"{"choices":[{"index":0,"delta":{"content":"a"}}],"usage":{"prompt_tokens":3}}"#,
        r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":3}}"#,
        r#"{"choices":[],"a":{"usage":{}}}"#,
        r#"{"choices":[{"index":0}],"a":{"choices":[]},"usage":{}}"#,
        r#"{"choices":{},"usage":{}}"#,
    ] {
        assert!(!is_usage_chunk(chunk), "{chunk}");
    }
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
        assert_eq!(found, Some(Usage { input: count, output: Some(7), ..Usage::default() }), "{number}");
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
        prop_assert!([found.prompt(), found.output].iter().flatten().all(|count| *count <= MAX_TOKENS), "{found:?}");
    }
}
