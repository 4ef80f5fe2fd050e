//! The mock's answers of responses, messages, embeddings and rerank.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::{EchoRequest, MockEvent};

/// Length of an embedding: enough to distinguish texts.
const DIMENSIONS: usize = 16;

pub(super) fn response(echo: &EchoRequest) -> Value {
    let status = if echo.cut { "incomplete" } else { "completed" };
    let reason = if echo.cut { json!({ "reason": "max_output_tokens" }) } else { Value::Null };
    let (input, output) = (echo.prompt_tokens, echo.words.len());
    json!({
        "id": format!("resp-mock-{}", echo.number), "object": "response", "created_at": echo.created,
        "status": status, "error": null, "incomplete_details": reason, "instructions": null,
        "model": echo.model, "output": [output_message(echo, &echo.text(), "completed")],
        "parallel_tool_calls": true, "tool_choice": "auto", "tools": [], "metadata": {},
        "usage": {
            "input_tokens": input, "input_tokens_details": { "cached_tokens": 0, "cache_write_tokens": 0 },
            "output_tokens": output, "output_tokens_details": { "reasoning_tokens": 0 },
            "total_tokens": input + output,
        },
    })
}

fn output_message(echo: &EchoRequest, text: &str, status: &str) -> Value {
    let content = if status == "completed" { json!([output_text(text)]) } else { json!([]) };
    json!({
        "id": format!("msg-mock-{}", echo.number), "type": "message", "status": status,
        "role": "assistant", "content": content,
    })
}

fn output_text(text: &str) -> Value {
    json!({ "type": "output_text", "text": text, "annotations": [], "logprobs": [] })
}

pub(super) fn response_events(echo: &EchoRequest) -> Vec<MockEvent> {
    let mut begun = response(echo);
    begun["status"] = json!("in_progress");
    begun["output"] = json!([]);
    begun["usage"] = Value::Null;
    let item = format!("msg-mock-{}", echo.number);
    let place = json!({ "item_id": item, "output_index": 0, "content_index": 0 });
    let at = |mut event: Value| {
        if let (Value::Object(event), Value::Object(place)) = (&mut event, &place) {
            event.extend(place.clone());
        }
        event
    };
    let text = echo.text();
    let mut events = vec![
        (json!({ "type": "response.created", "response": begun }), false),
        (json!({ "type": "response.in_progress", "response": begun }), false),
        (
            json!({ "type": "response.output_item.added", "output_index": 0,
                "item": output_message(echo, "", "in_progress") }),
            false,
        ),
        (at(json!({ "type": "response.content_part.added", "part": output_text("") })), false),
    ];
    for chunk in echo.chunks() {
        events.push((
            at(json!({ "type": "response.output_text.delta", "delta": chunk, "logprobs": [] })),
            true,
        ));
    }
    events.push((at(json!({ "type": "response.output_text.done", "text": text, "logprobs": [] })), false));
    events.push((at(json!({ "type": "response.content_part.done", "part": output_text(&text) })), false));
    let item = output_message(echo, &text, "completed");
    events.push((json!({ "type": "response.output_item.done", "output_index": 0, "item": item }), false));
    let last = if echo.cut { "response.incomplete" } else { "response.completed" };
    events.push((json!({ "type": last, "response": response(echo) }), false));
    let numbered = events.into_iter().enumerate().map(|(number, (mut event, word))| {
        event["sequence_number"] = json!(number);
        MockEvent { data: event.to_string(), word }
    });
    numbered.collect()
}

pub(super) fn message(echo: &EchoRequest) -> Value {
    json!({
        "id": format!("msg-mock-{}", echo.number), "type": "message", "role": "assistant",
        "model": echo.model, "content": [{ "type": "text", "text": echo.text() }],
        "stop_reason": stop_reason(echo), "stop_sequence": null,
        "usage": usage(echo, echo.words.len()),
    })
}

fn usage(echo: &EchoRequest, output: usize) -> Value {
    json!({ "input_tokens": echo.prompt_tokens, "output_tokens": output, "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0 })
}

pub(super) fn message_events(echo: &EchoRequest) -> Vec<MockEvent> {
    let mut begun = message(echo);
    begun["content"] = json!([]);
    begun["stop_reason"] = Value::Null;
    begun["usage"] = usage(echo, 0);
    let frame = |event: Value| MockEvent::frame(event.to_string());
    let mut events = vec![
        frame(json!({ "type": "message_start", "message": begun })),
        frame(json!({ "type": "content_block_start", "index": 0,
            "content_block": { "type": "text", "text": "" } })),
    ];
    for chunk in echo.chunks() {
        let delta = json!({ "type": "text_delta", "text": chunk });
        let event = json!({ "type": "content_block_delta", "index": 0, "delta": delta });
        events.push(MockEvent::word(event.to_string()));
    }
    events.push(frame(json!({ "type": "content_block_stop", "index": 0 })));
    events.push(frame(json!({
        "type": "message_delta", "delta": { "stop_reason": stop_reason(echo), "stop_sequence": null },
        "usage": usage(echo, echo.words.len()),
    })));
    events.push(frame(json!({ "type": "message_stop" })));
    events
}

fn stop_reason(echo: &EchoRequest) -> &'static str {
    if echo.cut { "max_tokens" } else { "end_turn" }
}

pub(super) fn embeddings(echo: &EchoRequest) -> Value {
    let data: Vec<Value> = echo
        .texts
        .iter()
        .enumerate()
        .map(|(index, text)| (index, embedding(text)))
        .map(|(index, numbers)| {
            let embedding = if echo.in_base64 { base64(&numbers).into() } else { json!(numbers) };
            json!({ "object": "embedding", "index": index, "embedding": embedding })
        })
        .collect();
    json!({
        "object": "list", "data": data, "model": echo.model,
        "usage": { "prompt_tokens": echo.prompt_tokens, "total_tokens": echo.prompt_tokens },
    })
}

/// 32-bit floats, little-endian, in base64.
#[expect(clippy::cast_possible_truncation, reason = "the API has 32 bits for a number here")]
fn base64(numbers: &[f64]) -> String {
    let bytes: Vec<u8> = numbers.iter().flat_map(|number| (*number as f32).to_le_bytes()).collect();
    BASE64_STANDARD.encode(bytes)
}

pub(super) fn ranking(echo: &EchoRequest) -> Value {
    let query = embedding(&echo.query);
    let mut results: Vec<(usize, f64)> = echo
        .texts
        .iter()
        .map(|text| embedding(text).iter().zip(&query).map(|(a, b)| a * b).sum())
        .enumerate()
        .collect();
    results.sort_by(|a, b| b.1.total_cmp(&a.1));
    let results: Vec<Value> = results
        .into_iter()
        .map(|(index, score)| json!({ "index": index, "relevance_score": score }))
        .collect();
    json!({ "id": format!("rerank-mock-{}", echo.number), "model": echo.model, "results": results,
        "usage": { "total_tokens": echo.prompt_tokens } })
}

/// The embedding of a text: a bag of words as a unit vector. Equal texts have equal vectors, and texts that share words have
/// similar ones.
fn embedding(text: &str) -> Vec<f64> {
    let mut vector = vec![0.0; DIMENSIONS];
    for word in text.split_whitespace() {
        // FNV-1a is stable across versions and machines, unlike the hasher of std.
        let hash = word.to_lowercase().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
        for (index, value) in vector.iter_mut().enumerate() {
            *value += if hash >> index & 1 == 1 { 1.0 } else { -1.0 };
        }
    }
    let length = vector.iter().map(|value| value * value).sum::<f64>().sqrt();
    if length > 0.0 {
        for value in &mut vector {
            *value /= length;
        }
    }
    vector
}
