//! A chat completion's request as a request of the Messages API. Pure.

use serde_json::{Map, Value, json};

/// The Messages API wants a bound; a caller who gives none gets one that ends no usual answer.
const MAX_TOKENS: u64 = 8192;

/// `chat` as the Messages API has it. The error is for the caller.
pub(super) fn to_messages(chat: &Value) -> Result<Value, String> {
    let turns = chat["messages"].as_array().ok_or("messages: expected an array")?;
    let mut system = Vec::new();
    let mut messages: Vec<Value> = Vec::new();
    for turn in turns {
        match turn["role"].as_str() {
            Some("system" | "developer") => system.extend(text_of(&turn["content"])),
            Some("assistant") => push(&mut messages, "assistant", assistant(turn)?),
            Some("tool") => push(&mut messages, "user", vec![tool_result(turn)]),
            _ => push(&mut messages, "user", parts(&turn["content"])),
        }
    }
    let limit = [&chat["max_completion_tokens"], &chat["max_tokens"]].into_iter().find_map(Value::as_u64);
    let mut out = Map::new();
    out.insert("model".into(), chat["model"].clone());
    out.insert("max_tokens".into(), limit.unwrap_or(MAX_TOKENS).into());
    out.insert("messages".into(), messages.into());
    if !system.is_empty() {
        out.insert("system".into(), system.join("\n\n").into());
    }
    for key in ["temperature", "top_p", "stream"] {
        if !chat[key].is_null() {
            out.insert(key.into(), chat[key].clone());
        }
    }
    match &chat["stop"] {
        Value::String(stop) => drop(out.insert("stop_sequences".into(), json!([stop]))),
        Value::Array(stops) => drop(out.insert("stop_sequences".into(), stops.clone().into())),
        _ => (),
    }
    if let Some(user) = chat["user"].as_str() {
        out.insert("metadata".into(), json!({ "user_id": user }));
    }
    if let Some(tools) = chat["tools"].as_array().filter(|tools| !tools.is_empty()) {
        out.insert("tools".into(), tools.iter().map(tool).collect());
        if let Some(choice) = tool_choice(chat) {
            out.insert("tool_choice".into(), choice);
        }
    }
    Ok(Value::Object(out))
}

/// Turns of one role in a row are one turn: the Messages API wants them to alternate, and all results of one round of
/// tool calls together.
fn push(messages: &mut Vec<Value>, role: &str, blocks: Vec<Value>) {
    if let Some(last) = messages.last_mut().filter(|last| last["role"] == role)
        && let Some(content) = last["content"].as_array_mut()
    {
        content.extend(blocks);
        return;
    }
    messages.push(json!({ "role": role, "content": blocks }));
}

fn text_of(content: &Value) -> Vec<String> {
    match content {
        Value::String(text) => vec![text.clone()],
        Value::Array(parts) => {
            parts.iter().filter_map(|part| part["text"].as_str().map(str::to_owned)).collect()
        }
        _ => Vec::new(),
    }
}

fn parts(content: &Value) -> Vec<Value> {
    match content {
        Value::Array(parts) => parts.iter().filter_map(part).collect(),
        Value::String(text) => vec![json!({ "type": "text", "text": text })],
        _ => Vec::new(),
    }
}

fn part(part: &Value) -> Option<Value> {
    if let Some(text) = part["text"].as_str() {
        return Some(json!({ "type": "text", "text": text }));
    }
    let url = part["image_url"]["url"].as_str()?;
    let inline = url.strip_prefix("data:").and_then(|data| data.split_once(";base64,"));
    let source = match inline {
        Some((kind, data)) => json!({ "type": "base64", "media_type": kind, "data": data }),
        None => json!({ "type": "url", "url": url }),
    };
    Some(json!({ "type": "image", "source": source }))
}

fn assistant(turn: &Value) -> Result<Vec<Value>, String> {
    // An empty text block is refused there, and means nothing.
    let mut blocks: Vec<Value> =
        parts(&turn["content"]).into_iter().filter(|part| part["text"] != "").collect();
    for call in turn["tool_calls"].as_array().into_iter().flatten() {
        let arguments = call["function"]["arguments"].as_str().unwrap_or_default();
        let input: Value = if arguments.trim().is_empty() {
            json!({})
        } else {
            serde_json::from_str(arguments).map_err(|_| "tool_calls: the arguments are not JSON")?
        };
        let name = &call["function"]["name"];
        blocks.push(json!({ "type": "tool_use", "id": call["id"], "name": name, "input": input }));
    }
    Ok(blocks)
}

fn tool_result(turn: &Value) -> Value {
    let content = text_of(&turn["content"]).join("\n");
    json!({ "type": "tool_result", "tool_use_id": turn["tool_call_id"], "content": content })
}

fn tool(tool: &Value) -> Value {
    let function = &tool["function"];
    let schema = if function["parameters"].is_object() {
        function["parameters"].clone()
    } else {
        json!({ "type": "object", "properties": {} })
    };
    let mut out = json!({ "name": function["name"], "input_schema": schema });
    if let Some(description) = function["description"].as_str() {
        out["description"] = description.into();
    }
    out
}

fn tool_choice(chat: &Value) -> Option<Value> {
    let choice = &chat["tool_choice"];
    let one_at_a_time = chat["parallel_tool_calls"] == false;
    let mut out = match choice.as_str() {
        Some("none") => return Some(json!({ "type": "none" })),
        Some("required") => json!({ "type": "any" }),
        Some(_) => json!({ "type": "auto" }),
        None if choice.is_object() => json!({ "type": "tool", "name": choice["function"]["name"] }),
        None if one_at_a_time => json!({ "type": "auto" }),
        None => return None,
    };
    if one_at_a_time {
        out["disable_parallel_tool_use"] = true.into();
    }
    Some(out)
}
