//! A Responses request as a chat completions request.

use super::super::conversation::{ContentPart, Conversation};
use super::super::json::Json;
use super::super::{CallerRequest, ChatRequest, InvalidRequest, chat_body, checked, invalid};
use super::items;
use super::offered_tools::OfferedTools;
use super::stored_items::StoredItems;

/// Members that chat completions has under the same name.
const SAME: [&str; 5] = ["temperature", "top_p", "top_k", "user", "stop"];

/// Members of the request that a response repeats, and what it says where the request said nothing.
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

/// The request for chat completions that asks what the Responses request `body` asks.
pub fn to_chat(body: &[u8]) -> Result<ChatRequest, InvalidRequest> {
    to_chat_with(body, &StoredItems::new(0))
}

/// As [`to_chat`], for a request that may refer to items in `kept`.
pub fn to_chat_with(body: &[u8], kept: &StoredItems) -> Result<ChatRequest, InvalidRequest> {
    let text = checked(body)?;
    let asked = Json::of_compact(&text);
    refuse_stored(&asked)?;
    let mut chat = Conversation::default();
    if let Some(instructions) = asked.get("instructions") {
        items::add_all(&mut chat, instructions, "instructions", kept, Conversation::system_part)?;
    }
    match asked.get("input") {
        Some(input) => items::add_all(&mut chat, input, "input", kept, Conversation::user_part)?,
        None => return Err(invalid("input must be a string or an array of items")),
    }
    let (mut out, streaming) = chat_body(&asked, &SAME, chat.end());
    if let Some(limit) = asked.get("max_output_tokens") {
        out.put("max_tokens", limit.clone());
    }
    // In the place of a caller's own `reasoning_effort`, which `chat_body` has put already.
    let effort = asked.get("reasoning").and_then(|reasoning| reasoning.get("effort"));
    if let Some(effort) = effort.filter(|_| asked.get("reasoning_effort").is_none()) {
        out.put("reasoning_effort", effort.clone());
    }
    if let Some(text) = asked.get("text") {
        put_format(text, &mut out);
    }
    let offer = OfferedTools::read(&asked)?;
    let asked = CallerRequest {
        model: asked.get("model").map_or_else(|| "null".to_owned(), Json::to_string),
        echo: ECHOED
            .map(|(key, none)| (key, asked.get(key).map_or_else(|| none.to_owned(), Json::to_string)))
            .into(),
        stops: Vec::new(),
        tools: offer.put(&mut out),
        keeps_reasoning: asked.get("include").map(Json::items).unwrap_or_default().iter().any(is_reasoning),
        is_not_stored: asked.get("store").and_then(Json::as_bool) == Some(false),
    };
    Ok(ChatRequest { body: out.to_string(), streaming, asked })
}

/// What lives at the server of a response's first turn, and is not here.
fn refuse_stored(asked: &Json<'_>) -> Result<(), InvalidRequest> {
    for (key, instead) in [
        ("previous_response_id", "send the whole conversation as input"),
        ("conversation", "send the whole conversation as input"),
        ("prompt", "send its text as instructions and input"),
    ] {
        if asked.get(key).is_some() {
            return Err(invalid(format!("{key}: this model's server stores nothing: {instead}")));
        }
    }
    if asked.get("background").and_then(Json::as_bool) == Some(true) {
        return Err(invalid("background: this model answers while the caller waits"));
    }
    Ok(())
}

fn is_reasoning(included: &Json<'_>) -> bool {
    included.fragment() == Some("reasoning.encrypted_content")
}

fn put_format<'a>(text: &Json<'a>, out: &mut Json<'a>) {
    if let Some(verbosity) = text.get("verbosity") {
        out.put("verbosity", verbosity.clone());
    }
    let Some(format) = text.get("format") else { return };
    match format.get_str("type").as_deref() {
        Some("json_schema") => {
            let mut schema = Json::object([("name", "answer".into())]);
            if let Some(name) = format.get("name") {
                schema = Json::object([("name", name.clone())]);
            }
            for key in ["description", "strict", "schema"] {
                if let Some(value) = format.get(key) {
                    schema.put(key, value.clone());
                }
            }
            out.put(
                "response_format",
                Json::object([("type", "json_schema".into()), ("json_schema", schema)]),
            );
        }
        Some("json_object") => out.put("response_format", Json::object([("type", "json_object".into())])),
        _ => (),
    }
}

impl<'a> Conversation<'a> {
    fn system_part(&mut self, part: ContentPart<'a>) {
        match part {
            ContentPart::Text(text) => self.system(text),
            other @ ContentPart::Other(_) => self.user(other),
        }
    }

    fn user_part(&mut self, part: ContentPart<'a>) {
        self.user(part);
    }
}
