//! An answer in one piece for a caller who asked for pieces, in the shape of each endpoint's stream. Pure.

use serde_json::{Value, json};
use wire::json::{JsonError, compact};
use wire::openai::completion_as_chunk;
use wire::task::Endpoint;

/// The events that say what `body` says, the end mark left out.
pub fn events_of(endpoint: Endpoint, body: &str) -> Result<Vec<String>, JsonError> {
    let body = compact(body)?;
    if !body.starts_with('{') {
        return Err(JsonError::NotAnObject);
    }
    Ok(match endpoint {
        Endpoint::ChatCompletions => vec![completion_as_chunk(&body)?],
        Endpoint::Responses => response_events(&body)?,
        Endpoint::Messages => message_events(&body)?,
        // A text completion's chunk looks as the whole does; the others have no stream of their own.
        Endpoint::Completions | Endpoint::Embeddings | Endpoint::Rerank => vec![body],
    })
}

/// A whole response as the events of its stream. Readers build it from its items, and expect its beginning first.
fn response_events(body: &str) -> Result<Vec<String>, JsonError> {
    let response: Value = serde_json::from_str(body).map_err(|_| JsonError::TooDeep)?;
    if !response.is_object() {
        return Err(JsonError::NotAnObject);
    }
    let mut begun = response.clone();
    begun["status"] = json!("in_progress");
    begun["output"] = json!([]);
    begun["usage"] = Value::Null;
    let mut events = vec![
        json!({ "type": "response.created", "response": begun }),
        json!({ "type": "response.in_progress", "response": begun }),
    ];
    for (index, item) in response["output"].as_array().into_iter().flatten().enumerate() {
        item_events(index, item, &mut events);
    }
    let end = match response["status"].as_str() {
        Some("failed") => "response.failed",
        Some("incomplete") => "response.incomplete",
        _ => "response.completed",
    };
    events.push(json!({ "type": end, "response": response }));
    let numbered = events.into_iter().enumerate().map(|(number, mut event)| {
        event["sequence_number"] = json!(number);
        event.to_string()
    });
    Ok(numbered.collect())
}

fn item_events(index: usize, item: &Value, events: &mut Vec<Value>) {
    let mut begun = item.clone();
    begun["status"] = json!("in_progress");
    for (key, empty) in [("content", json!([])), ("arguments", json!("")), ("input", json!(""))] {
        if begun.get(key).is_some_and(|value| !value.is_null()) {
            begun[key] = empty;
        }
    }
    let about = |kind: &str, mut event: Value| {
        event["type"] = json!(kind);
        event["output_index"] = json!(index);
        event
    };
    let id = &item["id"];
    events.push(about("response.output_item.added", json!({ "item": begun })));
    for (place, part) in item["content"].as_array().into_iter().flatten().enumerate() {
        let text = part["text"].as_str().or_else(|| part["refusal"].as_str());
        let mut empty = part.clone();
        for key in ["text", "refusal"] {
            if part.get(key).is_some() {
                empty[key] = json!("");
            }
        }
        let in_part = |part: &Value| json!({ "item_id": id, "content_index": place, "part": part });
        events.push(about("response.content_part.added", in_part(&empty)));
        if let (Some("output_text"), Some(text)) = (part["type"].as_str(), text) {
            let delta = json!({ "item_id": id, "content_index": place, "delta": text, "logprobs": [] });
            events.push(about("response.output_text.delta", delta));
            let done = json!({ "item_id": id, "content_index": place, "text": text, "logprobs": [] });
            events.push(about("response.output_text.done", done));
        }
        events.push(about("response.content_part.done", in_part(part)));
    }
    if let (Some("function_call"), Some(arguments)) = (item["type"].as_str(), item["arguments"].as_str()) {
        let delta = json!({ "item_id": id, "delta": arguments });
        events.push(about("response.function_call_arguments.delta", delta));
        let done = json!({ "item_id": id, "name": item["name"], "arguments": arguments });
        events.push(about("response.function_call_arguments.done", done));
    }
    events.push(about("response.output_item.done", json!({ "item": item })));
}

/// A whole message as the events of its stream. Readers build it from its blocks, so an end alone would be empty.
fn message_events(body: &str) -> Result<Vec<String>, JsonError> {
    let mut message: Value = serde_json::from_str(body).map_err(|_| JsonError::TooDeep)?;
    if !message.is_object() {
        return Err(JsonError::NotAnObject);
    }
    let blocks = match message["content"].take() {
        Value::Array(blocks) => blocks,
        _ => Vec::new(),
    };
    message["content"] = json!([]);
    let (reason, sequence) = (message["stop_reason"].take(), message["stop_sequence"].take());
    let usage = message["usage"].clone();
    let mut events = vec![json!({ "type": "message_start", "message": message })];
    for (index, mut block) in blocks.into_iter().enumerate() {
        let delta = match block["type"].as_str() {
            Some("text") => {
                let text = std::mem::replace(&mut block["text"], json!(""));
                json!({ "type": "text_delta", "text": text })
            }
            Some("thinking") => {
                let thinking = std::mem::replace(&mut block["thinking"], json!(""));
                json!({ "type": "thinking_delta", "thinking": thinking })
            }
            Some("tool_use") => {
                let input = std::mem::replace(&mut block["input"], json!({}));
                json!({ "type": "input_json_delta", "partial_json": input.to_string() })
            }
            _ => Value::Null,
        };
        events.push(json!({ "type": "content_block_start", "index": index, "content_block": block }));
        if !delta.is_null() {
            events.push(json!({ "type": "content_block_delta", "index": index, "delta": delta }));
        }
        events.push(json!({ "type": "content_block_stop", "index": index }));
    }
    let delta = json!({ "stop_reason": reason, "stop_sequence": sequence });
    events.push(json!({ "type": "message_delta", "delta": delta, "usage": usage }));
    events.push(json!({ "type": "message_stop" }));
    Ok(events.iter().map(Value::to_string).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn types(endpoint: Endpoint, body: &Value) -> Vec<String> {
        let pieces = events_of(endpoint, &body.to_string()).unwrap();
        let kind = |piece: &String| serde_json::from_str::<Value>(piece).unwrap();
        pieces.iter().map(kind).map(|piece| piece["type"].as_str().unwrap_or("").to_owned()).collect()
    }

    #[test]
    fn each_endpoint_gets_the_shape_of_its_stream() {
        let body = json!({ "object": "text_completion", "choices": [{ "text": "a" }] });
        assert_eq!(events_of(Endpoint::Completions, &body.to_string()).unwrap(), [body.to_string()]);
        assert_eq!(
            types(Endpoint::Responses, &json!({ "id": "r" })),
            ["response.created", "response.in_progress", "response.completed"]
        );
        let chat = events_of(Endpoint::ChatCompletions, r#"{ "choices": [{ "message": {} }] }"#).unwrap();
        assert_eq!(chat, [r#"{"choices":[{"delta":{}}],"object":"chat.completion.chunk"}"#]);
        for endpoint in [Endpoint::ChatCompletions, Endpoint::Completions, Endpoint::Embeddings] {
            for other in ["<html>", "null", "[{}]", "7", "\"{}\""] {
                assert!(events_of(endpoint, other).is_err(), "{other}");
            }
        }
    }

    #[test]
    fn a_whole_message_is_built_from_its_blocks() {
        let body = json!({ "type": "message", "id": "m", "stop_reason": "tool_use", "content": [
            { "type": "text", "text": "hi" }, { "type": "tool_use", "id": "t", "name": "f", "input": { "a": 1 } } ] });
        let events = events_of(Endpoint::Messages, &body.to_string()).unwrap();
        assert_eq!(
            types(Endpoint::Messages, &body),
            [
                "message_start",
                "content_block_start",
                "content_block_delta",
                "content_block_stop",
                "content_block_start",
                "content_block_delta",
                "content_block_stop",
                "message_delta",
                "message_stop",
            ]
        );
        let delta: Value = serde_json::from_str(&events[5]).unwrap();
        assert_eq!(delta["delta"]["partial_json"], r#"{"a":1}"#);
        assert!(events[7].contains(r#""stop_reason":"tool_use""#), "{}", events[7]);
    }

    #[test]
    fn a_whole_response_is_built_from_its_items() {
        let body = json!({ "id": "r", "status": "incomplete", "output": [
            { "type": "message", "id": "m", "content": [{ "type": "output_text", "text": "hi" }] },
            { "type": "function_call", "id": "f", "name": "g", "arguments": "{}" } ] });
        let events = events_of(Endpoint::Responses, &body.to_string()).unwrap();
        let events: Vec<Value> = events.iter().map(|event| serde_json::from_str(event).unwrap()).collect();
        let kinds: Vec<_> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
        assert_eq!(
            kinds,
            [
                "response.created",
                "response.in_progress",
                "response.output_item.added",
                "response.content_part.added",
                "response.output_text.delta",
                "response.output_text.done",
                "response.content_part.done",
                "response.output_item.done",
                "response.output_item.added",
                "response.function_call_arguments.delta",
                "response.function_call_arguments.done",
                "response.output_item.done",
                "response.incomplete",
            ]
        );
        assert!(events.iter().enumerate().all(|(number, event)| event["sequence_number"] == number));
        assert_eq!(events[4]["delta"], "hi");
        assert_eq!(events[2]["item"]["content"], json!([]));
        assert_eq!(events[12]["response"], body);
    }
}
