//! The mock's answers at each endpoint, whole and in chunks.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::time::pause;

use super::*;
use crate::AnswerBudget;

fn request(endpoint: Endpoint, streaming: bool, body: &Value) -> BackendRequest {
    let body = Bytes::from(body.to_string());
    BackendRequest {
        endpoint,
        streaming,
        body,
        user: String::new(),
        headers: Vec::new(),
        budget: AnswerBudget::default(),
    }
}

fn chat(text: &str) -> Value {
    json!({ "model": "m", "messages": [{ "role": "user", "content": "before" },
        { "role": "assistant", "content": "well" }, { "role": "user", "content": text }] })
}

async fn whole(mock: &MockBackend, endpoint: Endpoint, body: &Value) -> Value {
    let Reply::Whole { status: 200, body } = mock.infer(request(endpoint, false, body)).await.unwrap() else {
        panic!("no answer")
    };
    serde_json::from_str(&body).unwrap()
}

async fn chunks(mock: &MockBackend, endpoint: Endpoint, body: &Value) -> Vec<Value> {
    let Reply::Stream(stream) = mock.infer(request(endpoint, true, body)).await.unwrap() else {
        panic!("not a stream")
    };
    stream.map(|chunk| serde_json::from_str(&chunk.unwrap()).unwrap()).collect().await
}

fn with(config: MockConfig) -> MockBackend {
    MockBackend::new(config)
}

#[actix_rt::test]
async fn the_mock_echoes_the_last_user_text_within_both_token_limits() {
    for (tokens, said) in [(None, "a b c"), (Some(2), "a b"), (Some(5), "a b c a b")] {
        let mock = with(MockConfig { tokens, ..MockConfig::default() });
        let answer = whole(&mock, Endpoint::ChatCompletions, &chat("a b c")).await;
        let choice = &answer["choices"][0];
        assert_eq!((&choice["message"]["content"], &choice["finish_reason"]), (&json!(said), &json!("stop")));
        assert_eq!(answer["usage"]["completion_tokens"], said.split(' ').count());
    }
    let mut limited = chat("a b c");
    limited["max_tokens"] = json!(1);
    let answer = whole(&with(MockConfig::default()), Endpoint::ChatCompletions, &limited).await;
    let choice = &answer["choices"][0];
    assert_eq!((&choice["message"]["content"], &choice["finish_reason"]), (&json!("a"), &json!("length")));
}

#[actix_rt::test]
async fn a_streamed_chat_sends_role_words_finish_reason_and_requested_usage() {
    let mut body = chat("a b");
    body["stream_options"] = json!({ "include_usage": true });
    let chunks = chunks(&with(MockConfig::default()), Endpoint::ChatCompletions, &body).await;
    let deltas: Vec<&Value> = chunks.iter().map(|chunk| &chunk["choices"][0]["delta"]).collect();
    assert_eq!(*deltas[0], json!({ "role": "assistant", "content": "" }));
    assert_eq!((&deltas[1]["content"], &deltas[2]["content"]), (&json!("a"), &json!(" b")));
    assert_eq!(chunks[3]["choices"][0]["finish_reason"], "stop");
    assert_eq!((&chunks[4]["choices"], &chunks[4]["usage"]["completion_tokens"]), (&json!([]), &json!(2)));
}

#[actix_rt::test]
async fn each_endpoint_is_answered_in_its_format() {
    let mock = with(MockConfig::default());
    let body = json!({ "model": "m", "prompt": "a b", "input": "a b", "query": "b", "documents": ["a", "b"],
        "messages": [{ "role": "user", "content": [{ "type": "text", "text": "a b" }] }] });
    for (endpoint, pointer, value) in [
        (Endpoint::Completions, "/choices/0/text", json!("a b")),
        (Endpoint::Responses, "/output/0/content/0/text", json!("a b")),
        (Endpoint::Messages, "/content/0/text", json!("a b")),
        (Endpoint::Rerank, "/results/0/index", json!(1)),
    ] {
        assert_eq!(whole(&mock, endpoint, &body).await.pointer(pointer), Some(&value), "{endpoint:?}");
    }
    for (endpoint, last) in
        [(Endpoint::Responses, "response.completed"), (Endpoint::Messages, "message_stop")]
    {
        assert_eq!(chunks(&mock, endpoint, &body).await.last().unwrap()["type"], last);
    }
}

/// The members that the newest models of OpenAI's and Anthropic's SDKs require.
#[actix_rt::test]
async fn usage_has_every_member_that_the_sdks_require() {
    let mock = with(MockConfig::default());
    let body = json!({ "model": "m", "prompt": "a b", "input": "a b", "query": "b", "documents": ["a", "b"],
        "messages": [{ "role": "user", "content": "a b" }], "stream_options": { "include_usage": true } });
    let counts = |usage: &Value, members: &[&str]| {
        for member in members {
            assert!(usage.pointer(member).is_some_and(Value::is_u64), "{member} of {usage}");
        }
    };
    let chat =
        ["/prompt_tokens", "/completion_tokens", "/total_tokens", "/prompt_tokens_details/cached_tokens"];
    let response = [
        "/input_tokens",
        "/output_tokens",
        "/total_tokens",
        "/input_tokens_details/cached_tokens",
        "/input_tokens_details/cache_write_tokens",
        "/output_tokens_details/reasoning_tokens",
    ];
    let message =
        ["/input_tokens", "/output_tokens", "/cache_creation_input_tokens", "/cache_read_input_tokens"];
    for (endpoint, members) in [
        (Endpoint::ChatCompletions, &chat[..]),
        (Endpoint::Completions, &chat),
        (Endpoint::Responses, &response),
        (Endpoint::Messages, &message),
        (Endpoint::Embeddings, &["/prompt_tokens", "/total_tokens"]),
        (Endpoint::Rerank, &["/total_tokens"]),
    ] {
        counts(&whole(&mock, endpoint, &body).await["usage"], members);
        if endpoint.can_stream() {
            let events = chunks(&mock, endpoint, &body).await;
            let usage = |event: &Value| {
                let parts = [&event["usage"], &event["response"]["usage"], &event["message"]["usage"]];
                parts.into_iter().find(|usage| usage.is_object()).cloned()
            };
            let found: Vec<Value> = events.iter().filter_map(usage).collect();
            assert!(!found.is_empty(), "{events:?}");
            for usage in &found {
                counts(usage, members);
            }
            for event in events.iter().filter(|event| {
                event["type"].as_str().is_some_and(|kind| kind.starts_with("response.output_text"))
            }) {
                assert!(event["logprobs"].is_array(), "{event}");
            }
        }
    }
}

/// OpenAI's SDKs ask for base64 unless their user asks for something else.
#[actix_rt::test]
async fn embeddings_in_base64_are_the_same_numbers() {
    let mock = with(MockConfig::default());
    let mut body = json!({ "model": "m", "input": ["one text"] });
    let numbers = whole(&mock, Endpoint::Embeddings, &body).await;
    body["encoding_format"] = json!("base64");
    let encoded = whole(&mock, Endpoint::Embeddings, &body).await;
    let bytes = BASE64_STANDARD.decode(encoded["data"][0]["embedding"].as_str().unwrap()).unwrap();
    let read = bytes.chunks_exact(4).map(|four| f64::from(f32::from_le_bytes(four.try_into().unwrap())));
    let sent = numbers["data"][0]["embedding"].as_array().unwrap();
    assert_eq!(bytes.len(), 4 * sent.len());
    assert!(read.zip(sent).all(|(read, sent)| (read - sent.as_f64().unwrap()).abs() < 1e-6));
}

#[actix_rt::test]
async fn embeddings_are_equal_for_equal_texts_only() {
    let mock = with(MockConfig::default());
    let body = json!({ "model": "m", "input": ["one text", "another", "one text"] });
    let answer = whole(&mock, Endpoint::Embeddings, &body).await;
    let vector = |index: usize| &answer["data"][index]["embedding"];
    assert_eq!(vector(0), vector(2));
    assert_ne!(vector(0), vector(1));
}

#[actix_rt::test]
async fn the_mock_counts_the_words_of_a_request() {
    let mock = with(MockConfig { tokens_per_second: Some(0.001), ..MockConfig::default() });
    let answer = whole(&mock, Endpoint::CountTokens, &chat("a b c")).await;
    assert_eq!(answer, json!({ "input_tokens": 5 }));
    let answer = whole(&mock, Endpoint::InputTokens, &json!({ "input": "a b c" })).await;
    assert_eq!(answer, json!({ "object": "response.input_tokens", "input_tokens": 3 }));
}

#[actix_rt::test]
async fn words_are_sent_at_the_pace_and_every_nth_request_fails() {
    pause();
    let mock =
        with(MockConfig { tokens_per_second: Some(10.0), fail_every: Some(2), ..MockConfig::default() });
    let start = Instant::now();
    chunks(&mock, Endpoint::ChatCompletions, &chat("a b c d e")).await;
    assert_eq!(start.elapsed().as_millis() / 10, 50);
    let second = mock.infer(request(Endpoint::ChatCompletions, false, &chat("a"))).await;
    assert!(matches!(second, Err(BackendError::Failed(_))));
    whole(&mock, Endpoint::ChatCompletions, &chat("a")).await;
}
