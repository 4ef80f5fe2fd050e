//! An answer in one piece for a caller who asked for pieces, in the shape of each endpoint's stream. Pure.

use serde_json::{Value, json};
use wire::json::{JsonError, compact};
use wire::openai::completion_as_chunk;
use wire::task::Endpoint;

/// The events that say what `body` says, the end mark left out.
pub(super) fn pieces(endpoint: Endpoint, body: &str) -> Result<Vec<String>, JsonError> {
    let body = compact(body)?;
    Ok(match endpoint {
        Endpoint::ChatCompletions => vec![completion_as_chunk(&body)?],
        Endpoint::Responses => {
            vec![format!(r#"{{"type":"response.completed","sequence_number":0,"response":{body}}}"#)]
        }
        Endpoint::Messages => message_events(&body)?,
        // A text completion's chunk looks as the whole does; the others have no stream of their own.
        Endpoint::Completions | Endpoint::Embeddings | Endpoint::Rerank => vec![body],
    })
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
        let pieces = pieces(endpoint, &body.to_string()).unwrap();
        let kind = |piece: &String| serde_json::from_str::<Value>(piece).unwrap();
        pieces.iter().map(kind).map(|piece| piece["type"].as_str().unwrap_or("").to_owned()).collect()
    }

    #[test]
    fn each_endpoint_gets_the_shape_of_its_stream() {
        let body = json!({ "object": "text_completion", "choices": [{ "text": "a" }] });
        assert_eq!(pieces(Endpoint::Completions, &body.to_string()).unwrap(), [body.to_string()]);
        assert_eq!(types(Endpoint::Responses, &json!({ "id": "r" })), ["response.completed"]);
        let chat = pieces(Endpoint::ChatCompletions, r#"{ "choices": [{ "message": {} }] }"#).unwrap();
        assert_eq!(chat, [r#"{"choices":[{"delta":{}}],"object":"chat.completion.chunk"}"#]);
        assert!(pieces(Endpoint::ChatCompletions, "<html>").is_err());
    }

    #[test]
    fn a_whole_message_is_built_from_its_blocks() {
        let body = json!({ "type": "message", "id": "m", "stop_reason": "tool_use", "content": [
            { "type": "text", "text": "hi" }, { "type": "tool_use", "id": "t", "name": "f", "input": { "a": 1 } } ] });
        let events = pieces(Endpoint::Messages, &body.to_string()).unwrap();
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
}
