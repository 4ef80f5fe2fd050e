//! The mock's answers of chat completions and completions.

use serde_json::{Value, json};
use wire::json::quote;
use wire::task::Endpoint;

use super::{EchoRequest, MockEvent};

pub(super) fn whole(echo: &EchoRequest, endpoint: Endpoint) -> String {
    let finish = finish_reason(echo);
    let (object, choice) = if endpoint == Endpoint::Completions {
        (
            "text_completion",
            json!({ "index": 0, "text": echo.text(), "logprobs": null, "finish_reason": finish }),
        )
    } else {
        let message = json!({ "role": "assistant", "content": echo.text(), "refusal": null });
        (
            "chat.completion",
            json!({ "index": 0, "message": message, "logprobs": null, "finish_reason": finish }),
        )
    };
    json!({
        "id": id(echo, endpoint), "object": object, "created": echo.created, "model": echo.model,
        "choices": [choice], "usage": usage(echo),
    })
    .to_string()
}

/// The chunks of an answer: the role, the words, the finish reason, and the usage if requested.
pub(super) fn events(echo: &EchoRequest, endpoint: Endpoint) -> Vec<MockEvent> {
    let is_chat = endpoint != Endpoint::Completions;
    let object = if is_chat { "chat.completion.chunk" } else { "text_completion" };
    let head = format!(
        r#"{{"id":{},"object":"{object}","created":{},"model":{}"#,
        quote(&id(echo, endpoint)),
        echo.created,
        quote(&echo.model),
    );
    let chunk = |choice: &str| format!(r#"{head},"choices":[{{"index":0,{choice}}}]}}"#);
    let mut events = Vec::with_capacity(echo.words.len() + 3);
    if is_chat {
        let role = r#""delta":{"role":"assistant","content":""},"finish_reason":null"#;
        events.push(MockEvent::frame(chunk(role)));
    }
    for word in echo.chunks() {
        let word = quote(&word);
        let choice = if is_chat {
            format!(r#""delta":{{"content":{word}}},"finish_reason":null"#)
        } else {
            format!(r#""text":{word},"logprobs":null,"finish_reason":null"#)
        };
        events.push(MockEvent::word(chunk(&choice)));
    }
    let finish = finish_reason(echo);
    let nothing = if is_chat { r#""delta":{}"# } else { r#""text":"""# };
    events.push(MockEvent::frame(chunk(&format!(r#"{nothing},"finish_reason":"{finish}""#))));
    if echo.include_usage {
        events.push(MockEvent::frame(format!(r#"{head},"choices":[],"usage":{}}}"#, usage(echo))));
    }
    events
}

fn id(echo: &EchoRequest, endpoint: Endpoint) -> String {
    let prefix = if endpoint == Endpoint::Completions { "cmpl" } else { "chatcmpl" };
    format!("{prefix}-mock-{}", echo.number)
}

fn finish_reason(echo: &EchoRequest) -> &'static str {
    if echo.cut { "length" } else { "stop" }
}

fn usage(echo: &EchoRequest) -> Value {
    let (prompt, completion) = (echo.prompt_tokens, echo.words.len());
    json!({
        "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion,
        "prompt_tokens_details": { "cached_tokens": 0 },
        "completion_tokens_details": { "reasoning_tokens": 0 },
    })
}
