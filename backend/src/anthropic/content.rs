//! Translates the content of messages to content blocks.

use serde_json::{Value, json};

use crate::translate::{InvalidRequest, invalid};

/// Returns the text blocks of `content`.
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

/// Joins text blocks to one text, unless one has a cache mark.
pub(super) fn joined(blocks: Vec<Value>) -> Value {
    if blocks.iter().any(|block| block.get("cache_control").is_some()) {
        return Value::Array(blocks);
    }
    let texts: Vec<&str> = blocks.iter().filter_map(|block| block["text"].as_str()).collect();
    Value::String(texts.join("\n\n"))
}

/// Sets the cache mark of a block if there is one.
pub(super) fn mark(block: Option<&mut Value>, cached: Option<Value>) {
    if let (Some(Value::Object(block)), Some(cached)) = (block, cached) {
        block.entry("cache_control").or_insert(cached);
    }
}

/// Translates `content` to blocks, without empty texts, which the API rejects.
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
    let mut block = translate(part.take())?;
    mark(Some(&mut block), cached);
    Ok(block)
}

fn translate(mut part: Value) -> Result<Value, InvalidRequest> {
    let kind = part.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
    match kind.as_str() {
        "image_url" => {
            let Some(Value::String(url)) = part.pointer_mut("/image_url/url").map(Value::take) else {
                return Err(invalid("an image_url part needs a url"));
            };
            Ok(json!({ "type": "image", "source": source(&url)? }))
        }
        "file" => match part.pointer_mut("/file/file_data").map(Value::take) {
            Some(Value::String(data)) => Ok(json!({ "type": "document", "source": source(&data)? })),
            _ => Err(invalid("a file part needs file_data: this model cannot fetch files by id")),
        },
        "refusal" => Ok(json!({ "type": "text", "text": part["refusal"] })),
        "input_audio" | "audio" => Err(invalid("this model takes no audio")),
        // Text has the same format. Other parts are in the format of this API.
        _ => Ok(part),
    }
}

/// Builds the source of an image or a document. The backend fetches any URL except `data:image/png;base64,…`.
fn source(url: &str) -> Result<Value, InvalidRequest> {
    let Some(data) = url.strip_prefix("data:") else {
        return Ok(json!({ "type": "url", "url": url }));
    };
    let (kind, data) = data
        .split_once(";base64,")
        .ok_or_else(|| invalid("a data URL must be in base64: data:image/png;base64,…"))?;
    Ok(json!({ "type": "base64", "media_type": kind, "data": data }))
}
