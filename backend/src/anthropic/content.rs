//! What a message says, as content blocks.

use serde_json::{Value, json};

use super::request::InvalidRequest;

/// The text blocks in `content`, all else left out.
pub(super) fn texts(content: Value) -> Vec<Value> {
    match content {
        Value::String(text) if text.is_empty() => Vec::new(),
        Value::String(text) => vec![json!({ "type": "text", "text": text })],
        Value::Array(parts) => {
            let is_text = |part: &Value| part["text"].as_str().is_some_and(|text| !text.is_empty());
            parts.into_iter().filter(is_text).collect()
        }
        _ => Vec::new(),
    }
}

/// Text blocks as one text, or as they are where one is marked for the cache.
pub(super) fn joined(blocks: Vec<Value>) -> Value {
    if blocks.iter().any(|block| block.get("cache_control").is_some()) {
        return Value::Array(blocks);
    }
    let texts: Vec<&str> = blocks.iter().filter_map(|block| block["text"].as_str()).collect();
    Value::String(texts.join("\n\n"))
}

/// Marks a block for the cache, where a message or a part says so.
pub(super) fn mark(block: Option<&mut Value>, cached: Option<Value>) {
    if let (Some(Value::Object(block)), Some(cached)) = (block, cached) {
        block.entry("cache_control").or_insert(cached);
    }
}

/// `content` as blocks. Empty texts are refused there, and left out here.
pub(super) fn blocks(content: Value) -> Result<Vec<Value>, InvalidRequest> {
    let parts = match content {
        Value::String(text) => vec![json!({ "type": "text", "text": text })],
        Value::Array(parts) => parts,
        _ => Vec::new(),
    };
    let is_empty = |part: &Value| part["type"] == "text" && part["text"] == "";
    parts.into_iter().filter(|part| !is_empty(part)).map(block).collect()
}

fn block(mut part: Value) -> Result<Value, InvalidRequest> {
    let cached = part.get("cache_control").filter(|cached| !cached.is_null()).cloned();
    let mut block = translated(part.take())?;
    mark(Some(&mut block), cached);
    Ok(block)
}

fn translated(mut part: Value) -> Result<Value, InvalidRequest> {
    let kind = part.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
    match kind.as_str() {
        "image_url" => {
            let Some(Value::String(url)) = part.pointer_mut("/image_url/url").map(Value::take) else {
                return Err(InvalidRequest("an image_url part needs a url".to_owned()));
            };
            Ok(json!({ "type": "image", "source": source(&url)? }))
        }
        "file" => match part.pointer_mut("/file/file_data").map(Value::take) {
            Some(Value::String(data)) => Ok(json!({ "type": "document", "source": source(&data)? })),
            _ => Err(InvalidRequest(
                "a file part needs file_data: this model cannot fetch files by id".to_owned(),
            )),
        },
        "refusal" => Ok(json!({ "type": "text", "text": part["refusal"] })),
        "input_audio" | "audio" => Err(InvalidRequest("this model takes no audio".to_owned())),
        // Text is the same, and so is what a caller wrote for this API.
        _ => Ok(part),
    }
}

/// `data:image/png;base64,…` carries its bytes; any other URL is for the backend to fetch.
fn source(url: &str) -> Result<Value, InvalidRequest> {
    let Some(data) = url.strip_prefix("data:") else {
        return Ok(json!({ "type": "url", "url": url }));
    };
    let (kind, data) = data
        .split_once(";base64,")
        .ok_or_else(|| InvalidRequest("a data URL must be in base64: data:image/png;base64,…".to_owned()))?;
    Ok(json!({ "type": "base64", "media_type": kind, "data": data }))
}
