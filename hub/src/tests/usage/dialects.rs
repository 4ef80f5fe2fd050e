//! Tokens in the audit, of every API, whole and streamed.

use super::*;
use crate::tests::publisher::completion;

const FEATURES: Option<&str> = Some("cancel, endpoints");

#[actix_rt::test]
async fn whole_answers_of_every_api_have_their_tokens_in_the_audit() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], FEATURES).await;
    let chat = json!({ "messages": [{ "role": "user", "content": "hi" }] });
    let messages = json!({ "max_tokens": 9, "messages": [{ "role": "user", "content": "hi" }] });
    let deepseek = json!({ "prompt_tokens": 20, "completion_tokens": 3, "prompt_cache_hit_tokens": 12 });
    let response =
        json!({ "input_tokens": 21, "output_tokens": 2, "input_tokens_details": { "cached_tokens": 20 } });
    let message = json!({ "input_tokens": 5, "output_tokens": 2, "cache_read_input_tokens": 30, "cache_creation_input_tokens": 4 });
    for (path, request, body, tokens) in [
        ("/v1/chat/completions", &chat, completion("x"), json!([3, null, 5, false])),
        (
            "/v1/chat/completions",
            &chat,
            json!({ "choices": [], "usage": deepseek }),
            json!([20, 12, 3, false]),
        ),
        (
            "/v1/completions",
            &json!({ "prompt": "hi" }),
            json!({ "choices": [{ "text": "x" }], "timings": { "cache_n": 10, "prompt_n": 2, "predicted_n": 7 } }),
            json!([12, 10, 7, false]),
        ),
        (
            "/v1/responses",
            &json!({ "input": "hi" }),
            json!({ "output": [], "usage": response }),
            json!([21, 20, 2, false]),
        ),
        ("/v1/messages", &messages, json!({ "content": [], "usage": message }), json!([39, 30, 2, false])),
        (
            "/v1/embeddings",
            &json!({ "input": "hi" }),
            json!({ "data": [], "usage": { "prompt_tokens": 6, "total_tokens": 6 } }),
            json!([6, null, null, false]),
        ),
        (
            "/v1/rerank",
            &json!({ "query": "q", "documents": ["d"] }),
            json!({ "results": [], "usage": { "total_tokens": 17 } }),
            json!([17, null, null, false]),
        ),
        (
            "/v1/rerank",
            &json!({ "query": "q", "documents": ["d"] }),
            json!({ "results": [], "meta": { "billed_units": { "input_tokens": 19, "search_units": 1 } } }),
            json!([19, null, null, false]),
        ),
        ("/v1/chat/completions", &chat, json!({ "choices": [] }), json!([null, null, null, false])),
    ] {
        let call = post(&hub, path, request.clone());
        let result = json!({ "status": 200, "body": body });
        assert_eq!(publisher.post_for(&hub, &call, &result).await.status, 200);
        assert_eq!(audited(&hub).await, tokens, "{path} {body}");
    }
    hub.stop().await;
}

/// The Responses and Messages APIs report usage by themselves; they are sent as they came.
#[actix_rt::test]
async fn streams_of_other_apis_are_counted_without_asking() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], FEATURES).await;
    let response = |kind: &str, usage: &str| {
        format!(r#"{{"type":"response.{kind}","response":{{"id":"r","status":"{kind}","usage":{usage}}}}}"#)
    };
    let usage = r#"{"input_tokens":21,"output_tokens":9,"input_tokens_details":{"cached_tokens":20}}"#;
    let text = r#"{"type":"response.output_text.delta","delta":"x"}"#.to_owned();
    let start = r#"{"type":"message_start","message":{"content":[],"usage":{"input_tokens":5,"cache_read_input_tokens":30,"cache_creation_input_tokens":4,"output_tokens":1}}}"#.to_owned();
    let delta =
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"x"}}"#.to_owned();
    let end = r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"input_tokens":5,"output_tokens":7}}"#.to_owned();
    let created = response("created", "null");
    for (path, events, is_cancelled, tokens) in [
        (
            "/v1/responses",
            vec![created.clone(), text.clone(), response("completed", usage)],
            false,
            json!([21, 20, 9, false]),
        ),
        (
            "/v1/responses",
            vec![created.clone(), text.clone(), response("incomplete", usage)],
            false,
            json!([21, 20, 9, false]),
        ),
        (
            "/v1/responses",
            vec![created.clone(), text.clone(), text.clone(), response("failed", "null")],
            false,
            json!([null, null, 2, true]),
        ),
        (
            "/v1/responses",
            vec![created, text.clone(), text.clone(), text],
            true,
            json!([null, null, 3, true]),
        ),
        ("/v1/messages", vec![start.clone(), delta.clone(), end.clone()], false, json!([39, 30, 7, false])),
        ("/v1/messages", vec![start.clone(), delta.clone(), delta.clone()], true, json!([39, 30, 2, true])),
        // The output tokens of the first event are those up to then.
        ("/v1/messages", vec![start], true, json!([39, 30, 0, true])),
    ] {
        let body = json!({ "stream": true, "max_tokens": 9, "input": "hi", "messages": [{ "role": "user", "content": "hi" }] });
        let call = post(&hub, path, body);
        let (mut answer, task) = futures_util::join!(call.open(), async {
            let task = publisher.task().await;
            assert!(task["request"].get("stream_options").is_none(), "{task}");
            for event in &events {
                assert_eq!(publisher.post(&hub, &task, &json!({ "chunk": { "data": event } })).await, 200);
            }
            task
        });
        answer.until(events.last().unwrap()).await;
        if is_cancelled {
            drop(answer);
            publisher.cancelled().await;
        } else {
            assert_eq!(publisher.done(&hub, &task).await, 200);
            answer.text().await;
        }
        assert_eq!(audited(&hub).await, tokens, "{path} {events:?}");
    }
    hub.stop().await;
}
