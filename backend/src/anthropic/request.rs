//! A chat completions request as a Messages request.

use serde_json::{Map, Value, json};
use wire::json::is_small_tree;

use super::content;

/// The Messages API wants a limit, OpenAI's has none: what every current model takes, and more than a usual answer.
const MAX_TOKENS: u64 = 8192;

/// Members that the Messages API has and chat completions has not: a caller who sends them means them.
const OWN: [&str; 7] =
    ["top_k", "thinking", "container", "context_management", "mcp_servers", "output_config", "cache_control"];

/// Why a request cannot be put to the Messages API. The text goes to the caller.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct InvalidRequest(pub(super) String);

/// What is sent, and what the caller wants of the stream.
#[derive(Debug)]
pub(super) struct MessagesRequest {
    pub(super) body: String,
    pub(super) include_usage: bool,
}

pub(super) fn messages_request(body: &[u8]) -> Result<MessagesRequest, InvalidRequest> {
    let no_object = || InvalidRequest("the request is not a JSON object".to_owned());
    let body = std::str::from_utf8(body).map_err(|_| no_object())?;
    is_small_tree(body).map_err(|error| InvalidRequest(format!("the request is {error}")))?;
    let mut asked: Map<String, Value> = serde_json::from_str(body).map_err(|_| no_object())?;
    if asked.get("n").is_some_and(|n| !n.is_null() && n != &json!(1)) {
        return Err(InvalidRequest("this model gives one choice: n must be 1".to_owned()));
    }
    let Some(Value::Array(messages)) = asked.remove("messages") else {
        return Err(InvalidRequest("messages must be an array".to_owned()));
    };
    let (system, messages) = turns(messages)?;
    let given = |key: &str| asked.get(key).filter(|value| !value.is_null());

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
        // OpenAI's scale ends at 2, this one at 1.
        let hot = temperature.as_f64().is_some_and(|temperature| temperature > 1.0);
        put("temperature", if hot { json!(1.0) } else { temperature.clone() });
    } else if let Some(top_p) = given("top_p") {
        // Newer models take one of the two.
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

/// The blocks of the system text, and the turns of user and assistant, each speaker's in one: results of tools that ran side by side
/// belong in the one turn after the calls.
fn turns(messages: Vec<Value>) -> Result<(Vec<Value>, Vec<Value>), InvalidRequest> {
    let mut system: Vec<Value> = Vec::new();
    let mut turns: Vec<(&'static str, Vec<Value>)> = Vec::new();
    for mut message in messages {
        let role = message.get("role").and_then(Value::as_str).unwrap_or_default().to_owned();
        let said = message.get_mut("content").map(Value::take).unwrap_or_default();
        let cached = message.get("cache_control").filter(|cached| !cached.is_null()).cloned();
        let (speaker, mut blocks) = match role.as_str() {
            "system" | "developer" => {
                let mut blocks = content::texts(said);
                content::mark(blocks.last_mut(), cached);
                system.append(&mut blocks);
                continue;
            }
            "user" => ("user", content::blocks(said)?),
            "assistant" => {
                let mut blocks = content::blocks(said)?;
                let calls = message.get("tool_calls").and_then(Value::as_array);
                for call in calls.into_iter().flatten() {
                    blocks.push(tool_use(call)?);
                }
                ("assistant", blocks)
            }
            "tool" => {
                let call = message.get("tool_call_id").map(legal_id).unwrap_or_default();
                let result = content::blocks(said)?;
                ("user", vec![json!({ "type": "tool_result", "tool_use_id": call, "content": result })])
            }
            other => {
                let other: String = other.chars().filter(|c| !c.is_control()).take(40).collect();
                return Err(InvalidRequest(format!(
                    "a message of role '{other}' cannot be put to this model"
                )));
            }
        };
        content::mark(blocks.last_mut(), cached);
        match turns.last_mut() {
            Some((last, together)) if *last == speaker => together.append(&mut blocks),
            // An empty turn is refused, and says nothing.
            _ if blocks.is_empty() => (),
            _ => turns.push((speaker, blocks)),
        }
    }
    // A last word of the assistant is the beginning of its answer, which must not end in white space.
    if let Some(("assistant", blocks)) = turns.last_mut()
        && let Some(Value::String(text)) = blocks.last_mut().and_then(|block| block.get_mut("text"))
    {
        text.truncate(text.trim_end().len());
    }
    let turns = turns.into_iter().map(|(role, content)| json!({ "role": role, "content": content }));
    Ok((system, turns.collect()))
}

/// A call of the assistant's, whose arguments are JSON in a string there and a JSON object here.
fn tool_use(call: &Value) -> Result<Value, InvalidRequest> {
    let invalid = || InvalidRequest("the arguments of a tool call are not a JSON object".to_owned());
    let arguments = match call.pointer("/function/arguments") {
        Some(Value::String(text)) if text.trim().is_empty() => Value::Null,
        Some(Value::String(text)) => serde_json::from_str(text).map_err(|_| invalid())?,
        Some(other) => other.clone(),
        None => Value::Null,
    };
    let input = match arguments {
        Value::Object(_) => arguments,
        Value::Null => json!({}),
        Value::Array(items) if items.is_empty() => json!({}),
        _ => return Err(invalid()),
    };
    let name = call.pointer("/function/name").cloned().unwrap_or_default();
    Ok(json!({ "type": "tool_use", "id": legal_id(&call["id"]), "name": name, "input": input }))
}

/// The id of a tool call in the letters that the Messages API takes (`[a-zA-Z0-9_-]`): any other id as its bytes in
/// hexadecimal behind a prefix. Calls and their results stay together, and two ids never become one.
fn legal_id(id: &Value) -> Value {
    use std::fmt::Write as _;

    const PREFIX: &str = "hex_";

    let Some(id) = id.as_str() else { return id.clone() };
    let is_legal =
        !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    if is_legal && !id.starts_with(PREFIX) {
        return Value::from(id);
    }
    let mut legal = PREFIX.to_owned();
    for byte in id.bytes() {
        // Writing to a string cannot fail.
        let _ = write!(legal, "{byte:02x}");
    }
    Value::from(legal)
}

fn tool(tool: &Value) -> Value {
    let Some(function) = tool.get("function") else {
        // One of Anthropic's own.
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

/// One or many; those of white space alone are refused there, and would stop nothing but a formatted answer.
fn stop_sequences(stop: &Value) -> Value {
    let all = match stop {
        Value::Array(all) => all.clone(),
        one => vec![one.clone()],
    };
    all.into_iter().filter(|stop| stop.as_str().is_some_and(|stop| !stop.trim().is_empty())).collect()
}
