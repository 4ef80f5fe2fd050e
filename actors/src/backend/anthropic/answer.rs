//! Answers of the Messages API as chat completions: whole, and event by event. Pure.

use serde_json::{Value, json};

/// A `message` as a `chat.completion`. `created` in seconds.
pub(super) fn completion(message: &Value, created: i64) -> Value {
    let blocks = || message["content"].as_array().into_iter().flatten();
    let text: String = blocks().filter_map(|block| block["text"].as_str()).collect();
    let calls: Vec<Value> = blocks()
        .filter(|block| block["type"] == "tool_use")
        .map(|block| {
            let function = json!({ "name": block["name"], "arguments": block["input"].to_string() });
            json!({ "id": block["id"], "type": "function", "function": function })
        })
        .collect();
    let content = if text.is_empty() && !calls.is_empty() { Value::Null } else { text.into() };
    let mut answer = json!({ "role": "assistant", "content": content });
    if !calls.is_empty() {
        answer["tool_calls"] = calls.into();
    }
    let finish = finish_reason(&message["stop_reason"]);
    json!({
        "id": message["id"], "object": "chat.completion", "created": created, "model": message["model"],
        "choices": [{ "index": 0, "message": answer, "finish_reason": finish }],
        "usage": usage(&message["usage"], &message["usage"]),
    })
}

/// An error body in OpenAI's shape.
pub(super) fn error(body: &Value) -> Value {
    let (message, kind) = (&body["error"]["message"], &body["error"]["type"]);
    json!({ "error": { "message": message, "type": kind, "param": null, "code": null } })
}

fn finish_reason(reason: &Value) -> Value {
    match reason.as_str() {
        None => Value::Null,
        Some("max_tokens" | "model_context_window_exceeded") => "length".into(),
        Some("tool_use") => "tool_calls".into(),
        Some("refusal") => "content_filter".into(),
        Some(_) => "stop".into(),
    }
}

fn usage(input: &Value, output: &Value) -> Value {
    let count = |usage: &Value, key: &str| usage[key].as_u64().unwrap_or(0);
    // Tokens read from or written to the cache are tokens of the prompt.
    let cached = count(input, "cache_read_input_tokens");
    let prompt = count(input, "input_tokens") + cached + count(input, "cache_creation_input_tokens");
    let completion = count(output, "output_tokens");
    json!({
        "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion,
        "prompt_tokens_details": { "cached_tokens": cached },
    })
}

/// The events of one streamed message, as they are translated.
pub(super) struct Chunks {
    created: i64,
    wants_usage: bool,
    id: Value,
    model: Value,
    input: Value,
    output: Value,
    /// Tool calls begun.
    calls: usize,
}

impl Chunks {
    pub(super) fn new(created: i64, wants_usage: bool) -> Self {
        let (id, model, input, output) = (Value::Null, Value::Null, Value::Null, Value::Null);
        Self { created, wants_usage, id, model, input, output, calls: 0 }
    }

    /// The chunk that says what `event` says, if it says anything.
    pub(super) fn chunk(&mut self, event: &Value) -> Option<Value> {
        match event["type"].as_str()? {
            "message_start" => {
                let message = &event["message"];
                (self.id, self.model) = (message["id"].clone(), message["model"].clone());
                self.input = message["usage"].clone();
                Some(self.delta(&json!({ "role": "assistant", "content": "" })))
            }
            "content_block_start" if event["content_block"]["type"] == "tool_use" => {
                let block = &event["content_block"];
                let function = json!({ "name": block["name"], "arguments": "" });
                self.calls += 1;
                Some(self.call(json!({ "id": block["id"], "type": "function", "function": function })))
            }
            "content_block_delta" => {
                let delta = &event["delta"];
                match delta["type"].as_str()? {
                    "text_delta" => Some(self.delta(&json!({ "content": delta["text"] }))),
                    "input_json_delta" => {
                        Some(self.call(json!({ "function": { "arguments": delta["partial_json"] } })))
                    }
                    _ => None,
                }
            }
            "message_delta" => {
                self.output = event["usage"].clone();
                let mut chunk = self.delta(&json!({}));
                chunk["choices"][0]["finish_reason"] = finish_reason(&event["delta"]["stop_reason"]);
                Some(chunk)
            }
            "message_stop" if self.wants_usage => {
                let mut chunk = self.frame(&json!([]));
                chunk["usage"] = usage(&self.input, &self.output);
                Some(chunk)
            }
            _ => None,
        }
    }

    fn call(&self, mut call: Value) -> Value {
        call["index"] = self.calls.saturating_sub(1).into();
        self.delta(&json!({ "tool_calls": [call] }))
    }

    fn delta(&self, delta: &Value) -> Value {
        self.frame(&json!([{ "index": 0, "delta": delta, "finish_reason": null }]))
    }

    fn frame(&self, choices: &Value) -> Value {
        json!({
            "id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": self.model,
            "choices": choices,
        })
    }
}
