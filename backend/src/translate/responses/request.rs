//! Translates a Responses request to chat completions.

use super::super::conversation::{ContentPart, Conversation};
use super::super::json::Json;
use super::super::{CallerRequest, ChatRequest, InvalidRequest, chat_body, checked_by, invalid};
use super::items;
use super::offered_tools::offer_tools;
use super::references::{FindItem, References};
use wire::json::TreeBudget;

/// Members with the same name in chat completions.
const SAME: [&str; 5] = ["temperature", "top_p", "top_k", "user", "stop"];

/// Members of the request that a response repeats, with their defaults.
const ECHOED: [(&str, &str); 15] = [
    ("instructions", "null"),
    ("max_output_tokens", "null"),
    ("max_tool_calls", "null"),
    ("metadata", "{}"),
    ("parallel_tool_calls", "true"),
    ("prompt_cache_key", "null"),
    ("reasoning", r#"{"effort":null,"summary":null}"#),
    ("safety_identifier", "null"),
    ("temperature", "null"),
    ("text", r#"{"format":{"type":"text"}}"#),
    ("tool_choice", r#""auto""#),
    ("tools", "[]"),
    ("top_p", "null"),
    ("truncation", r#""disabled""#),
    ("user", "null"),
];

/// Translates the Responses request `body`.
pub fn to_chat(body: &[u8]) -> Result<ChatRequest, InvalidRequest> {
    to_chat_with(body, &|_| None)
}

/// Like [`to_chat`], for a request that can refer to the items that `find` returns.
pub(crate) fn to_chat_with(body: &[u8], find: FindItem<'_>) -> Result<ChatRequest, InvalidRequest> {
    let mut budget = TreeBudget::default();
    let text = checked_by(body, &mut budget)?;
    let mut references = References::new(find, text.len(), budget);
    let request = Json::of_compact(&text);
    refuse_stored(&request)?;
    let mut chat = Conversation::default();
    if let Some(instructions) = request.get("instructions")
        && let Some(text) = items::add_all(&mut chat, instructions, "instructions", &mut references)?
    {
        chat.add_system(text);
    }
    let input = request.get("input").ok_or_else(|| invalid("input must be a string or an array of items"))?;
    let text = items::add_all(&mut chat, input, "input", &mut references)?;
    if let Some(text) = text.filter(|text| !text.is_empty()) {
        chat.add_user(ContentPart::Text(text));
    }
    let (mut out, streaming) = chat_body(&request, &SAME, chat.into_messages());
    out.put_some("max_tokens", request.get("max_output_tokens").cloned());
    // A `reasoning_effort` of the caller has precedence; `chat_body` has copied it.
    if request.get("reasoning_effort").is_none() {
        let effort = request.get("reasoning").and_then(|reasoning| reasoning.get("effort"));
        out.put_some("reasoning_effort", effort.cloned());
    }
    if let Some(text) = request.get("text") {
        put_format(text, &mut out);
    }
    let echo = |(key, default): (_, &str)| {
        (key, request.get(key).map_or_else(|| default.to_owned(), Json::to_string))
    };
    let is_reasoning = |included: &Json<'_>| included.fragment() == Some("reasoning.encrypted_content");
    let request = CallerRequest {
        model: request.get("model").unwrap_or(&Json::NULL).to_string(),
        echo: ECHOED.map(echo).into(),
        stop_sequences: Vec::new(),
        tools: offer_tools(&request, &mut out)?,
        keeps_reasoning: request.get_items("include").iter().any(is_reasoning),
        is_stored: request.get("store").is_none_or(|store| store.to_string() != "false"),
    };
    Ok(ChatRequest { body: out.to_string(), streaming, request: request.into() })
}

/// Refuses references to conversations and prompts that OpenAI's server stores.
fn refuse_stored(request: &Json<'_>) -> Result<(), InvalidRequest> {
    for (key, instead) in [
        ("previous_response_id", "send the whole conversation as input"),
        ("conversation", "send the whole conversation as input"),
        ("prompt", "send its text as instructions and input"),
    ] {
        if request.get(key).is_some() {
            return Err(invalid(format!("{key}: this model's server stores nothing: {instead}")));
        }
    }
    if request.get_bool("background") {
        return Err(invalid("background: this model answers while the caller waits"));
    }
    Ok(())
}

fn put_format<'a>(text: &Json<'a>, out: &mut Json<'a>) {
    out.put_some("verbosity", text.get("verbosity").cloned());
    let Some(format) = text.get("format") else { return };
    match format.get_str("type").as_deref() {
        Some("json_schema") => {
            let name = format.get("name").cloned().unwrap_or_else(|| "answer".into());
            let mut schema = Json::object([("name", name)]);
            for key in ["description", "strict", "schema"] {
                schema.put_some(key, format.get(key).cloned());
            }
            let format = Json::object([("type", "json_schema".into()), ("json_schema", schema)]);
            out.put("response_format", format);
        }
        Some("json_object") => out.put("response_format", Json::object([("type", "json_object".into())])),
        _ => (),
    }
}
