//! The mock as chat completions and completions.

use serde_json::{Value, json};
use wire::json::quote;
use wire::task::Endpoint;

use super::{Asked, Event};

pub(super) fn whole(asked: &Asked, endpoint: Endpoint) -> String {
    let finish = finish(asked);
    let (object, choice) = if endpoint == Endpoint::Completions {
        (
            "text_completion",
            json!({ "index": 0, "text": asked.text(), "logprobs": null, "finish_reason": finish }),
        )
    } else {
        let message = json!({ "role": "assistant", "content": asked.text() });
        (
            "chat.completion",
            json!({ "index": 0, "message": message, "logprobs": null, "finish_reason": finish }),
        )
    };
    json!({
        "id": id(asked, endpoint), "object": object, "created": asked.created, "model": asked.model,
        "choices": [choice], "usage": usage(asked),
    })
    .to_string()
}

/// Role first, then the words, then why it ends, then what it cost if that was asked for.
pub(super) fn events(asked: &Asked, endpoint: Endpoint) -> Vec<Event> {
    let is_chat = endpoint != Endpoint::Completions;
    let object = if is_chat { "chat.completion.chunk" } else { "text_completion" };
    let head = format!(
        r#"{{"id":{},"object":"{object}","created":{},"model":{}"#,
        quote(&id(asked, endpoint)),
        asked.created,
        quote(&asked.model),
    );
    let chunk = |choice: &str| format!(r#"{head},"choices":[{{"index":0,{choice}}}]}}"#);
    let mut events = Vec::with_capacity(asked.words.len() + 3);
    if is_chat {
        let role = r#""delta":{"role":"assistant","content":""},"finish_reason":null"#;
        events.push(Event::frame(chunk(role)));
    }
    for piece in asked.pieces() {
        let piece = quote(&piece);
        let choice = if is_chat {
            format!(r#""delta":{{"content":{piece}}},"finish_reason":null"#)
        } else {
            format!(r#""text":{piece},"logprobs":null,"finish_reason":null"#)
        };
        events.push(Event::word(chunk(&choice)));
    }
    let finish = finish(asked);
    let nothing = if is_chat { r#""delta":{}"# } else { r#""text":"""# };
    events.push(Event::frame(chunk(&format!(r#"{nothing},"finish_reason":"{finish}""#))));
    if asked.include_usage {
        events.push(Event::frame(format!(r#"{head},"choices":[],"usage":{}}}"#, usage(asked))));
    }
    events
}

fn id(asked: &Asked, endpoint: Endpoint) -> String {
    let prefix = if endpoint == Endpoint::Completions { "cmpl" } else { "chatcmpl" };
    format!("{prefix}-mock-{}", asked.number)
}

fn finish(asked: &Asked) -> &'static str {
    if asked.cut { "length" } else { "stop" }
}

fn usage(asked: &Asked) -> Value {
    let (prompt, completion) = (asked.prompt_tokens, asked.words.len());
    json!({ "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion })
}
