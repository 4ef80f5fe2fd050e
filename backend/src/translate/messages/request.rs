//! A Messages request as a chat completions request.

use std::borrow::Cow;

use super::super::blocks::BlockKind;
use super::super::chunk::REASONING_MEMBERS;
use super::super::conversation::{ContentPart, Conversation};
use super::super::json::{Json, escape};
use super::super::tools;
use super::super::{CallerRequest, ChatRequest, InvalidRequest, chat_body, checked, invalid, shown};
use super::{content, ids};

/// Members that chat completions has under the same name. `top_k` is no member of OpenAI's, but of the servers that
/// people run.
const SAME: [&str; 4] = ["max_tokens", "temperature", "top_p", "top_k"];

/// A line that Claude Code puts in front of the system text for Anthropic's billing. Parts of it change from call to call,
/// which would make every prompt new to a backend's prefix cache.
const BILLING: &str = "x-anthropic-billing-header:";

/// The request for chat completions that asks what the Messages request `body` asks.
///
/// `thinking`, `context_management`, `output_config.effort` and `cache_control` are left out: Claude Code sends them
/// with every request, and servers refuse an effort for a model that does not think.
pub fn to_chat(body: &[u8]) -> Result<ChatRequest, InvalidRequest> {
    let text = checked(body)?;
    let asked = Json::of_compact(&text);
    if asked.get("mcp_servers").is_some_and(|servers| !servers.items().is_empty()) {
        return Err(invalid("mcp_servers: this model connects to no MCP servers"));
    }
    let (mut out, streaming) = chat_body(&asked, &SAME, conversation(&asked)?);
    let stops: Vec<Json<'_>> =
        asked.get("stop_sequences").map(|stops| stops.items().to_vec()).unwrap_or_default();
    let stops: Vec<_> =
        stops.into_iter().filter(|stop| stop.fragment().is_some_and(|stop| !stop.is_empty())).collect();
    let known = stops.iter().filter_map(Json::fragment).map(str::to_owned).collect();
    if !stops.is_empty() {
        out.put("stop", Json::Array(stops));
    }
    if let Some(user) =
        asked.get("metadata").and_then(|metadata| metadata.get("user_id")).filter(|id| id.is_string())
    {
        out.put("user", user.clone());
    }
    let format = asked.get("output_config").and_then(|config| config.get("format"));
    if let Some(schema) =
        format.or_else(|| asked.get("output_format")).and_then(|format| format.get("schema"))
    {
        let schema =
            Json::object([("name", "answer".into()), ("strict", true.into()), ("schema", schema.clone())]);
        out.put("response_format", Json::object([("type", "json_schema".into()), ("json_schema", schema)]));
    }
    offer_tools(&asked, &mut out)?;
    let model = asked.get("model").map_or_else(|| "null".to_owned(), Json::to_string);
    let asked = CallerRequest { model, stops: known, ..CallerRequest::default() };
    Ok(ChatRequest { body: out.to_string(), streaming, asked })
}

fn conversation<'a>(asked: &Json<'a>) -> Result<Vec<Json<'a>>, InvalidRequest> {
    let mut chat = Conversation::default();
    add_system(&mut chat, asked.get("system"), "system")?;
    let Some(Json::Array(messages)) = asked.get("messages") else {
        return Err(invalid("messages must be an array"));
    };
    for (index, message) in messages.iter().enumerate() {
        let place = format!("messages.{index}.content");
        match message.get_str("role").as_deref() {
            Some("user") => add_user(&mut chat, message.get("content"), &place)?,
            Some("assistant") => add_assistant(&mut chat, message.get("content"), &place)?,
            // Claude Code's, in mid-conversation.
            Some("system" | "developer") => add_system(&mut chat, message.get("content"), &place)?,
            role => {
                let role = shown(role.unwrap_or_default());
                return Err(invalid(format!(
                    "messages.{index}: a message of role '{role}' cannot be put to this model"
                )));
            }
        }
    }
    Ok(chat.end())
}

fn add_system<'a>(
    chat: &mut Conversation<'a>,
    content: Option<&Json<'a>>,
    place: &str,
) -> Result<(), InvalidRequest> {
    for part in content::parts(content, place, |_, _| Ok(false))? {
        match part {
            ContentPart::Text(text) if text.starts_with(BILLING) => (),
            ContentPart::Text(text) => chat.system(text),
            ContentPart::Other(_) => return Err(invalid(format!("{place} must be text"))),
        }
    }
    Ok(())
}

fn add_user<'a>(
    chat: &mut Conversation<'a>,
    content: Option<&Json<'a>>,
    place: &str,
) -> Result<(), InvalidRequest> {
    let mut results = Vec::new();
    let said = content::parts(content, place, |kind, block| {
        if kind != "tool_result" {
            return Ok(false);
        }
        let place = format!("{place} (tool_result)");
        let mut result = content::parts(block.get("content"), &place, |_, _| Ok(false))?;
        if block.get("is_error").and_then(Json::as_bool) == Some(true) {
            content::mark_error(&mut result);
        }
        results.push((ids::inward(block.get_fragment("tool_use_id")).into_owned(), result));
        Ok(true)
    })?;
    for (call, result) in results {
        chat.result(&call, result);
    }
    for part in said {
        chat.user(part);
    }
    Ok(())
}

fn add_assistant<'a>(
    chat: &mut Conversation<'a>,
    content: Option<&Json<'a>>,
    place: &str,
) -> Result<(), InvalidRequest> {
    // An empty turn is one, too.
    chat.assistant("");
    let mut said = Vec::new();
    let texts = content::parts(content, place, |kind, block| {
        match kind {
            "text" => said.push((BlockKind::Text, block.get_fragment("text").to_owned())),
            "thinking" => {
                // Our own, by its signature; to other models it says nothing, and their servers may refuse it.
                let signature = block.get_fragment("signature");
                if let Some(key) = REASONING_MEMBERS.into_iter().find(|key| *key == signature) {
                    said.push((BlockKind::Reasoning(key), block.get_fragment("thinking").to_owned()));
                }
            }
            "tool_use" => {
                let input = block.get("input").map_or_else(|| "{}".to_owned(), Json::to_string);
                let (id, name) =
                    (ids::inward(block.get_fragment("id")).into_owned(), block.get_fragment("name").into());
                said.push((BlockKind::Call { index: None, id, name }, escape(&input)));
            }
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    for part in texts {
        match part {
            ContentPart::Text(text) => chat.assistant(&text),
            ContentPart::Other(_) => {
                return Err(invalid(format!("{place}: an assistant's turn holds no images")));
            }
        }
    }
    for (kind, text) in said {
        match kind {
            BlockKind::Reasoning(key) => chat.thought(key, &text),
            BlockKind::Call { id, name, .. } => chat.call(&id, &name, &text),
            BlockKind::Text | BlockKind::Refusal => chat.assistant(&text),
        }
    }
    Ok(())
}

fn offer_tools<'a>(asked: &Json<'a>, out: &mut Json<'a>) -> Result<(), InvalidRequest> {
    let offered = asked.get("tools").map(Json::items).unwrap_or_default();
    if offered.is_empty() {
        return Ok(());
    }
    let mut functions = Vec::with_capacity(offered.len());
    for tool in offered {
        let kind = tool.get_str("type").unwrap_or(Cow::Borrowed("custom"));
        if kind != "custom" {
            let kind = shown(&kind);
            return Err(invalid(format!("tools: this model has no tool of type '{kind}'")));
        }
        let name = tool.get_fragment("name");
        let get = |key: &str| tool.get(key).cloned();
        functions.push(tools::function(name, get("description"), get("input_schema"), get("strict")));
    }
    out.put("tools", Json::Array(functions));
    let Some(choice) = asked.get("tool_choice") else { return Ok(()) };
    let kind = choice.get_str("type").unwrap_or_default();
    let word: Json<'_> = match &*kind {
        "auto" => "auto".into(),
        "any" => "required".into(),
        "none" => "none".into(),
        "tool" => tools::only(choice.get_fragment("name")),
        _ => return Err(invalid(format!("tool_choice: the type '{}' is unknown", shown(&kind)))),
    };
    out.put("tool_choice", word);
    if choice.get("disable_parallel_tool_use").and_then(Json::as_bool) == Some(true) {
        out.put("parallel_tool_calls", false);
    }
    Ok(())
}
