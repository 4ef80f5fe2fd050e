//! Answers, whole and streamed.

use std::time::Duration;

use super::super::super::AnswerError;
use super::super::super::ollama::{Durations, OllamaApi};
use super::super::{chunk, completion, last};
use super::{AT, request};

const TOOK: Durations = Durations {
    total: Duration::from_nanos(30),
    prompt: Duration::from_nanos(10),
    eval: Duration::from_nanos(20),
};

const HI: &str = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;

/// The lines of a streamed answer to `body`.
fn lines(api: OllamaApi, body: &str, chunks: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut stream = request(api, body).answer.stream();
    let mut lines: Vec<_> = chunks.into_iter().flat_map(|chunk| stream.push(&chunk, AT).unwrap()).collect();
    lines.extend(stream.finish(AT, TOOK));
    lines
}

#[test]
fn a_whole_answer_has_all_members_that_clients_read() {
    let answer = request(OllamaApi::Chat, HI).answer;
    let call = r#"{"id":"c1","type":"function","function":{"name":"f","arguments":"{\"x\":[1.10]}"}}"#;
    let body = completion(&format!(r#""reasoning":"hm","content":"ab","tool_calls":[{call}]"#), "tool_calls");
    assert_eq!(
        answer.whole(&body, AT, TOOK).unwrap(),
        concat!(
            r#"{"model":"m","created_at":"2026-01-02T03:04:05.678Z","message":{"role":"assistant","content":"ab","thinking":"hm","#,
            r#""tool_calls":[{"id":"c1","function":{"index":0,"name":"f","arguments":{"x":[1.10]}}}]},"done":true,"done_reason":"stop","#,
            r#""total_duration":30,"load_duration":0,"prompt_eval_count":20,"prompt_eval_duration":10,"eval_count":5,"eval_duration":20}"#
        )
    );
    let answer = request(OllamaApi::Generate, r#"{"model":"m","prompt":"p","raw":true}"#).answer;
    let body = r#"{"choices":[{"index":0,"text":"xy","finish_reason":"length"}]}"#;
    assert_eq!(
        answer.whole(body, AT, TOOK).unwrap(),
        concat!(
            r#"{"model":"m","created_at":"2026-01-02T03:04:05.678Z","response":"xy","done":true,"done_reason":"length","#,
            r#""total_duration":30,"load_duration":0,"prompt_eval_duration":10,"eval_duration":20}"#
        )
    );
    let answer = request(OllamaApi::Chat, r#"{"messages":[{"role":"user"}],"logprobs":true}"#).answer;
    let token = r#"{"token":"a","logprob":-0.10,"bytes":[97],"top_logprobs":[]}"#;
    let body = format!(
        r#"{{"choices":[{{"message":{{"content":"a"}},"logprobs":{{"content":[{token}]}},"finish_reason":"stop"}}]}}"#
    );
    assert!(answer.whole(&body, AT, TOOK).unwrap().ends_with(&format!(r#""logprobs":[{token}]}}"#)));
    assert_eq!(answer.whole("{}", AT, TOOK), Err(AnswerError::NotChat));
}

#[test]
fn embeddings_are_in_the_order_of_their_inputs_with_their_own_digits() {
    let answer = request(OllamaApi::Embed, r#"{"model":"m","input":["a","b"]}"#).answer;
    let body = r#"{"data":[{"index":1,"embedding":[1.10,2]},{"index":0,"embedding":[3e-9]}],"usage":{"prompt_tokens":4}}"#;
    assert_eq!(
        answer.whole(body, AT, TOOK).unwrap(),
        r#"{"model":"m","embeddings":[[3e-9],[1.10,2]],"total_duration":30,"load_duration":0,"prompt_eval_count":4}"#
    );
    let answer = request(OllamaApi::Embeddings, r#"{"model":"m","prompt":"a"}"#).answer;
    assert_eq!(answer.whole(r#"{"data":[{"embedding":[1]}]}"#, AT, TOOK).unwrap(), r#"{"embedding":[1]}"#);
    for body in ["{}", r#"{"data":[]}"#, r#"{"data":[{"embedding":"AAAA"}]}"#] {
        assert_eq!(answer.whole(body, AT, TOOK), Err(AnswerError::NotEmbeddings), "{body}");
    }
}

#[test]
fn a_stream_is_lines_of_text_then_whole_calls_then_the_numbers() {
    let begin = r#""tool_calls":[{"index":0,"id":"c","function":{"name":"f","arguments":""}}]"#;
    let more = r#""tool_calls":[{"index":0,"function":{"arguments":"{\"x\":1}"}}]"#;
    let chunks = [
        r#""role":"assistant","content":"""#,
        r#""reasoning_content":"hm""#,
        r#""content":"a""#,
        begin,
        more,
    ];
    let said = lines(OllamaApi::Chat, HI, chunks.map(chunk).into_iter().chain(last("tool_calls")));
    let head =
        r#"{"model":"m","created_at":"2026-01-02T03:04:05.678Z","message":{"role":"assistant","content":"#;
    assert_eq!(
        said,
        [
            format!(r#"{head}"","thinking":"hm"}},"done":false}}"#),
            format!(r#"{head}"a"}},"done":false}}"#),
            format!(
                r#"{head}"","tool_calls":[{{"id":"c","function":{{"index":0,"name":"f","arguments":{{"x":1}}}}}}]}},"done":false}}"#
            ),
            format!(
                r#"{head}""}},"done":true,"done_reason":"stop","total_duration":30,"load_duration":0,"prompt_eval_count":20,"prompt_eval_duration":10,"eval_count":5,"eval_duration":20}}"#
            ),
        ]
    );
    let said = lines(
        OllamaApi::Generate,
        r#"{"prompt":"p","raw":true}"#,
        [
            r#"{"choices":[{"text":"x"}]}"#.to_owned(),
            r#"{"choices":[{"text":"","finish_reason":"length"}]}"#.to_owned(),
        ],
    );
    assert!(
        said[0].contains(r#""response":"x","done":false"#) && said[1].contains(r#""done_reason":"length""#),
        "{said:?}"
    );
}

/// Python's `splitlines`, with which its client cuts a stream, breaks lines at characters that JSON may have in strings.
#[test]
fn no_character_of_an_answer_ends_a_line() {
    let text = "a\u{85}b\u{2028}c\u{2029}d\u{b}e\u{1c}f";
    let quoted = wire::json::quote(text);
    let said = lines(OllamaApi::Chat, HI, [chunk(&format!(r#""content":{quoted}"#))]);
    assert!(!said[0].contains(['\u{85}', '\u{2028}', '\u{2029}', '\u{b}', '\u{1c}']), "{}", said[0]);
    let line: serde_json::Value = serde_json::from_str(&said[0]).unwrap();
    assert_eq!(line["message"]["content"], text);
}

#[test]
fn the_text_of_a_long_stream_is_not_kept() {
    let mut stream = request(OllamaApi::Chat, HI).answer.stream();
    let (thought, text) = (
        format!(r#""reasoning":"{}""#, "x".repeat(1 << 20)),
        format!(r#""content":"{}""#, "y".repeat(1 << 20)),
    );
    for delta in [&thought, &text] {
        for _ in 0..20 {
            stream.push(&chunk(delta), AT).unwrap();
            assert!(stream.size() < 100);
        }
    }
    let arguments = r#""tool_calls":[{"index":0,"function":{"name":"f","arguments":"{\"a"}}]"#;
    stream.push(&chunk(arguments), AT).unwrap();
    assert!(stream.size() > 0, "an incomplete call is kept");
}
