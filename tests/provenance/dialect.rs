//! The four APIs: how the backend writes an answer, and how the caller reads one.

use serde_json::{Value, json};
use wire::sse::Event;

use crate::plan::{Dialect, Plan};

/// An answer as the backend writes it.
pub struct Written {
    pub body: Vec<u8>,
    /// Length of the body that proves the text whole. A shorter body is a partial answer.
    pub proof: usize,
    /// Offset of the end of each event.
    pub ends: Vec<usize>,
}

/// Body of a request for `plan`.
pub fn request(plan: &Plan) -> Value {
    let messages = json!([{ "role": "user", "content": plan.prompt() }]);
    let mut body = match plan.dialect {
        Dialect::Chat => json!({ "messages": messages }),
        Dialect::Completions => json!({ "prompt": plan.prompt() }),
        Dialect::Responses => json!({ "input": plan.prompt() }),
        Dialect::Messages => json!({ "messages": messages, "max_tokens": 9 }),
    };
    if let Some(asked) = plan.recorded.map(|recorded| recorded.choices).filter(|asked| *asked > 1) {
        body["n"] = asked.into();
    }
    if plan.durable {
        return json!({ "llm": plan.model(), "streaming": plan.streaming, "request": body });
    }
    body["model"] = plan.model().into();
    body["stream"] = plan.streaming.into();
    body
}

/// The whole answer in `dialect`.
pub fn whole(dialect: Dialect, text: &str) -> Value {
    let usage = json!({ "prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3 });
    match dialect {
        Dialect::Chat => {
            json!({ "id": "c", "object": "chat.completion", "created": 1, "model": "m", "usage": usage,
            "choices": [{ "index": 0, "message": { "role": "assistant", "content": text }, "finish_reason": "stop" }] })
        }
        Dialect::Completions => json!({ "id": "c", "object": "text_completion", "created": 1, "model": "m",
            "choices": [{ "index": 0, "text": text, "finish_reason": "stop" }], "usage": usage }),
        Dialect::Responses => json!({ "id": "r", "object": "response", "status": "completed", "model": "m",
            "output": [{ "type": "message", "id": "o", "role": "assistant", "status": "completed",
                "content": [{ "type": "output_text", "text": text, "annotations": [] }] }] }),
        Dialect::Messages => json!({ "id": "g", "type": "message", "role": "assistant", "model": "m",
            "content": [{ "type": "text", "text": text }], "stop_reason": "end_turn", "stop_sequence": null,
            "usage": { "input_tokens": 1, "output_tokens": 2 } }),
    }
}

/// Text of a whole answer.
pub fn whole_text(dialect: Dialect, body: &Value) -> String {
    let parts = |list: &Value| -> String {
        list.as_array().into_iter().flatten().filter_map(|part| part["text"].as_str()).collect()
    };
    match dialect {
        Dialect::Chat => body["choices"][0]["message"]["content"].as_str().unwrap_or_default().to_owned(),
        Dialect::Completions => body["choices"][0]["text"].as_str().unwrap_or_default().to_owned(),
        Dialect::Responses => {
            body["output"].as_array().into_iter().flatten().map(|item| parts(&item["content"])).collect()
        }
        Dialect::Messages => parts(&body["content"]),
    }
}

/// The events of a streamed answer in order, and the index of the event that proves the text whole.
fn events(dialect: Dialect, plan: &Plan) -> (Vec<Value>, usize) {
    let texts = plan.texts();
    let mut events = Vec::new();
    match dialect {
        Dialect::Chat | Dialect::Completions => {
            let is_chat = dialect == Dialect::Chat;
            let chunk = |text: &str, reason: Value| {
                let mut choice = json!({ "index": 0 });
                if is_chat {
                    choice["delta"] = if text.is_empty() { json!({}) } else { json!({ "content": text }) };
                } else {
                    choice["text"] = text.into();
                }
                choice["finish_reason"] = reason;
                let object = if is_chat { "chat.completion.chunk" } else { "text_completion" };
                json!({ "id": "c", "object": object, "created": 1, "model": "m", "choices": [choice] })
            };
            if is_chat {
                events.push(json!({ "id": "c", "object": "chat.completion.chunk", "choices": [{ "index": 0,
                    "delta": { "role": "assistant", "content": "" }, "finish_reason": null }] }));
            }
            events.extend(texts.iter().map(|text| chunk(text, Value::Null)));
            events.push(chunk("", "stop".into()));
            let proof = events.len() - 1;
            if plan.has_usage {
                events.push(json!({ "id": "c", "object": "chat.completion.chunk", "choices": [],
                    "usage": { "prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3 } }));
            }
            (events, proof)
        }
        Dialect::Responses => {
            events.push(
                json!({ "type": "response.created", "response": { "id": "r", "status": "in_progress" } }),
            );
            events.extend(texts.iter().map(|text| {
                json!({ "type": "response.output_text.delta", "item_id": "o", "output_index": 0, "content_index": 0,
                    "delta": text })
            }));
            events.push(json!({ "type": "response.completed",
                "response": { "id": "r", "object": "response", "status": "completed", "output": [] } }));
            let proof = events.len() - 1;
            (events, proof)
        }
        Dialect::Messages => {
            events.push(json!({ "type": "message_start", "message": { "id": "g", "type": "message",
                "role": "assistant", "model": "m", "content": [], "stop_reason": null, "stop_sequence": null,
                "usage": { "input_tokens": 1, "output_tokens": 1 } } }));
            events.push(json!({ "type": "content_block_start", "index": 0,
                "content_block": { "type": "text", "text": "" } }));
            events.extend(texts.iter().map(|text| {
                json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "text_delta", "text": text } })
            }));
            events.push(json!({ "type": "content_block_stop", "index": 0 }));
            events.push(json!({ "type": "message_delta", "usage": { "output_tokens": 2 },
                "delta": { "stop_reason": "end_turn", "stop_sequence": null } }));
            events.push(json!({ "type": "message_stop" }));
            let proof = events.len() - 1;
            (events, proof)
        }
    }
}

/// The answer of `plan` as a backend of `dialect` writes it.
pub fn write(dialect: Dialect, streaming: bool, plan: &Plan) -> Written {
    if let Some(recorded) = plan.recorded {
        assert_eq!((dialect, streaming), (recorded.dialect, recorded.streaming), "{}", recorded.name);
        let body = recorded.bytes.to_vec();
        return Written { proof: recorded.proof(), ends: vec![body.len()], body };
    }
    if !streaming {
        let body = whole(dialect, &plan.texts().concat()).to_string().into_bytes();
        return Written { proof: body.len(), ends: vec![body.len()], body };
    }
    let named = matches!(dialect, Dialect::Responses | Dialect::Messages);
    let line = if plan.crlf { "\r\n" } else { "\n" };
    let (events, proves) = events(dialect, plan);
    let (mut body, mut ends, mut proof) = (Vec::new(), Vec::new(), 0);
    for (number, event) in events.iter().enumerate() {
        if named {
            body.extend(format!("event: {}{line}", event["type"].as_str().unwrap()).bytes());
        }
        body.extend(format!("data: {event}{line}{line}").bytes());
        ends.push(body.len());
        if number == proves {
            // In SSE a CR alone ends a line, too.
            proof = body.len() + 1 - line.len();
        }
    }
    if !named && plan.has_mark {
        body.extend(format!("data: [DONE]{line}{line}").bytes());
        ends.push(body.len());
    }
    Written { body, proof, ends }
}

/// A streamed answer as the caller has read it so far.
#[derive(Default)]
pub struct Reading {
    pub text: String,
    pub ended: bool,
    pub error: Option<String>,
    /// A violation of the API's rules for streams, if there was one.
    pub wrong: Option<String>,
}

impl Reading {
    pub fn take(&mut self, dialect: Dialect, event: &Event) {
        if self.ended || self.error.is_some() {
            self.wrong = Some(format!("an event after the end: {}", short(&event.data)));
            return;
        }
        if event.data == "[DONE]" {
            self.ended = true;
            if !matches!(dialect, Dialect::Chat | Dialect::Completions) {
                self.wrong = Some("[DONE] in a stream that has a last event".to_owned());
            }
            return;
        }
        let Ok(data) = serde_json::from_str::<Value>(&event.data) else {
            self.wrong = Some(format!("no JSON: {}", short(&event.data)));
            return;
        };
        let kind = data["type"].as_str().unwrap_or_default();
        if !data["error"].is_null() || kind == "response.failed" {
            self.error = Some(event.data.clone());
            return;
        }
        match dialect {
            Dialect::Chat => self.push(&data["choices"][0]["delta"]["content"]),
            Dialect::Completions => self.push(&data["choices"][0]["text"]),
            Dialect::Responses => match kind {
                "response.output_text.delta" => self.push(&data["delta"]),
                "response.completed" | "response.incomplete" => {
                    self.ended = true;
                    let all = whole_text(dialect, &data["response"]);
                    if !all.is_empty() && all != self.text {
                        self.wrong = Some("the last event has another text than the deltas".to_owned());
                    }
                }
                _ => (),
            },
            Dialect::Messages => match kind {
                "content_block_delta" => self.push(&data["delta"]["text"]),
                "message_stop" => self.ended = true,
                _ => (),
            },
        }
    }

    fn push(&mut self, text: &Value) {
        self.text.push_str(text.as_str().unwrap_or_default());
    }
}

/// The first characters of a long text.
pub fn short(text: &str) -> String {
    text.chars().take(200).collect()
}
