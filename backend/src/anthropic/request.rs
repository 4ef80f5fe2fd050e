//! Translates a chat completions request to a Messages request.

use serde_json::{Map, Value, json};
use wire::json::{JsonError, TreeBudget};

use super::content;
use crate::hex;
use crate::translate::{InvalidRequest, invalid, shown};

/// Default of `max_tokens`, which the Messages API requires: every current model accepts it, and most answers are shorter.
const MAX_TOKENS: u64 = 8192;

/// Members that chat completions does not have. They are passed on.
const OWN: [&str; 7] =
    ["top_k", "thinking", "container", "context_management", "mcp_servers", "output_config", "cache_control"];

/// A translated request.
#[derive(Debug)]
pub(super) struct MessagesRequest {
    pub(super) body: String,
    /// Whether the stream ends with its usage.
    pub(super) include_usage: bool,
}

pub(super) fn messages_request(body: &[u8]) -> Result<MessagesRequest, InvalidRequest> {
    let no_object = || invalid("the request is not a JSON object");
    let body = std::str::from_utf8(body).map_err(|_| no_object())?;
    let mut budget = TreeBudget::default();
    budget.take(body).map_err(|error| invalid(format!("the request is {error}")))?;
    let mut request: Map<String, Value> = serde_json::from_str(body).map_err(|_| no_object())?;
    if request.get("n").is_some_and(|n| !n.is_null() && n != &json!(1)) {
        return Err(invalid("this model gives one choice: n must be 1"));
    }
    let Some(Value::Array(messages)) = request.remove("messages") else {
        return Err(invalid("messages must be an array"));
    };
    let (system, messages) = turns(messages, &mut budget)?;
    let given = |key: &str| request.get(key).filter(|value| !value.is_null());

    let mut out = Map::new();
    let mut put = |key: &str, value: Value| {
        out.insert(key.to_owned(), value);
    };
    for key in ["model", "stream"].into_iter().chain(OWN) {
        if let Some(value) = given(key) {
            put(key, value.clone());
        }
    }
    put("messages", Value::Array(messages));
    if !system.is_empty() {
        put("system", content::joined(system));
    }
    let limit = given("max_completion_tokens").or_else(|| given("max_tokens"));
    put("max_tokens", limit.cloned().unwrap_or_else(|| json!(MAX_TOKENS)));
    if let Some(temperature) = given("temperature") {
        // The maximum is 1, OpenAI's is 2.
        let is_too_high = temperature.as_f64().is_some_and(|temperature| temperature > 1.0);
        put("temperature", if is_too_high { json!(1.0) } else { temperature.clone() });
    } else if let Some(top_p) = given("top_p") {
        // Newer models reject both together.
        put("top_p", top_p.clone());
    }
    if let Some(stop) = given("stop").map(stop_sequences) {
        put("stop_sequences", stop);
    }
    if let Some(user) = given("user").filter(|user| user.is_string()) {
        put("metadata", json!({ "user_id": user }));
    }
    if let Some(schema) = given("response_format").and_then(|format| format.pointer("/json_schema/schema")) {
        put("output_config", json!({ "format": { "type": "json_schema", "schema": schema } }));
    }
    if let Some(tools) = given("tools").and_then(Value::as_array).filter(|tools| !tools.is_empty()) {
        put("tools", tools.iter().map(tool).collect());
        if let Some(choice) = tool_choice(given("tool_choice"), given("parallel_tool_calls")) {
            put("tool_choice", choice);
        }
    }
    let include_usage = given("stream_options")
        .and_then(|options| options.get("include_usage"))
        .and_then(Value::as_bool)
        .unwrap_or(false);
    Ok(MessagesRequest { body: Value::Object(out).to_string(), include_usage })
}

/// Returns the blocks of the system text, and the turns. Consecutive messages of a speaker become one turn, because the results of
/// parallel tool calls belong in the turn after the calls.
fn turns(messages: Vec<Value>, budget: &mut TreeBudget) -> Result<(Vec<Value>, Vec<Value>), InvalidRequest> {
    let mut system: Vec<Value> = Vec::new();
    let mut turns: Vec<(&'static str, Vec<Value>)> = Vec::new();
    for mut message in messages {
        let role = message.get("role").and_then(Value::as_str).unwrap_or_default().to_owned();
        let content = message.get_mut("content").map(Value::take).unwrap_or_default();
        let cached = message.get("cache_control").filter(|cached| !cached.is_null()).cloned();
        let (speaker, mut blocks) = match role.as_str() {
            "system" | "developer" => {
                let mut blocks = content::texts(content);
                content::mark(blocks.last_mut(), cached);
                system.append(&mut blocks);
                continue;
            }
            "user" => ("user", content::blocks(content)?),
            "assistant" => {
                let mut blocks = content::blocks(content)?;
                let calls = message.get("tool_calls").and_then(Value::as_array);
                for call in calls.into_iter().flatten() {
                    blocks.push(tool_use(call, budget)?);
                }
                ("assistant", blocks)
            }
            "tool" => {
                let call = message.get("tool_call_id").map(legal_id).unwrap_or_default();
                let result = content::blocks(content)?;
                ("user", vec![json!({ "type": "tool_result", "tool_use_id": call, "content": result })])
            }
            other => {
                let other = shown(other);
                return Err(invalid(format!("a message of role '{other}' cannot be put to this model")));
            }
        };
        content::mark(blocks.last_mut(), cached);
        match turns.last_mut() {
            Some((last, together)) if *last == speaker => together.append(&mut blocks),
            // The API rejects an empty turn.
            _ if blocks.is_empty() => (),
            _ => turns.push((speaker, blocks)),
        }
    }
    // A final turn of the assistant is the prefix of the answer, which the API rejects with white space at its end.
    if let Some(("assistant", blocks)) = turns.last_mut()
        && let Some(Value::String(text)) = blocks.last_mut().and_then(|block| block.get_mut("text"))
    {
        text.truncate(text.trim_end().len());
    }
    let turns = turns.into_iter().map(|(role, content)| json!({ "role": role, "content": content }));
    Ok((system, turns.collect()))
}

/// Translates a tool call, whose arguments are JSON in a string, to one whose input is an object. `budget` counts the arguments.
fn tool_use(call: &Value, budget: &mut TreeBudget) -> Result<Value, InvalidRequest> {
    let no_object = || invalid("the arguments of a tool call are not a JSON object");
    let arguments = match call.pointer("/function/arguments") {
        Some(Value::String(text)) if text.trim().is_empty() => Value::Null,
        Some(Value::String(text)) => {
            budget.take(text).map_err(|error| match error {
                JsonError::TooManyValues => {
                    invalid(format!("the request with the arguments of its tool calls is {error}"))
                }
                _ => no_object(),
            })?;
            serde_json::from_str(text).map_err(|_| no_object())?
        }
        Some(other) => other.clone(),
        None => Value::Null,
    };
    let input = match arguments {
        Value::Object(_) => arguments,
        Value::Null => json!({}),
        Value::Array(items) if items.is_empty() => json!({}),
        _ => return Err(no_object()),
    };
    let name = call.pointer("/function/name").cloned().unwrap_or_default();
    Ok(json!({ "type": "tool_use", "id": legal_id(&call["id"]), "name": name, "input": input }))
}

/// Translates the id of a tool call to one of `[a-zA-Z0-9_-]`: any other id is encoded in hexadecimal, so that different ids stay
/// different.
fn legal_id(id: &Value) -> Value {
    const PREFIX: &str = "hex_";

    let Some(id) = id.as_str() else { return id.clone() };
    let is_legal =
        !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    if is_legal && !id.starts_with(PREFIX) {
        return Value::from(id);
    }
    Value::from(format!("{PREFIX}{}", hex(id.as_bytes())))
}

fn tool(tool: &Value) -> Value {
    let Some(function) = tool.get("function") else {
        // A tool in Anthropic's format.
        return tool.clone();
    };
    let nothing = json!({ "type": "object", "properties": {} });
    let mut out = json!({
        "name": function["name"],
        "input_schema": function.get("parameters").filter(|schema| !schema.is_null()).unwrap_or(&nothing),
    });
    for key in ["description", "strict", "cache_control"] {
        let value = function.get(key).or_else(|| tool.get(key));
        if let Some(value) = value.filter(|value| !value.is_null()) {
            out[key] = value.clone();
        }
    }
    out
}

fn tool_choice(choice: Option<&Value>, parallel: Option<&Value>) -> Option<Value> {
    let mut out = match choice {
        Some(Value::String(word)) => match word.as_str() {
            "required" => Some(json!({ "type": "any" })),
            "none" => Some(json!({ "type": "none" })),
            _ => Some(json!({ "type": "auto" })),
        },
        Some(choice) => match choice.pointer("/function/name").or_else(|| choice.get("name")) {
            Some(name) => Some(json!({ "type": "tool", "name": name })),
            None => Some(choice.clone()),
        },
        None => None,
    };
    if parallel == Some(&Value::Bool(false)) {
        let choice = out.get_or_insert_with(|| json!({ "type": "auto" }));
        if choice["type"] != "none" {
            choice["disable_parallel_tool_use"] = json!(true);
        }
    }
    out
}

/// Returns one or more stop sequences as an array, without blank ones, which the API rejects.
fn stop_sequences(stop: &Value) -> Value {
    let all = match stop {
        Value::Array(all) => all.clone(),
        one => vec![one.clone()],
    };
    all.into_iter().filter(|stop| stop.as_str().is_some_and(|stop| !stop.trim().is_empty())).collect()
}
