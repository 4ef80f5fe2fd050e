//! Translates a Messages request to chat completions.

use std::borrow::Cow;

use super::super::chunk::REASONING_MEMBERS;
use super::super::conversation::{ContentPart, Conversation};
use super::super::json::{Json, escape};
use super::super::tools;
use super::super::{CallerRequest, ChatRequest, InvalidRequest, chat_body, checked, invalid, shown};
use super::{content, ids};

/// Members with the same name in chat completions. OpenAI has no `top_k`, but most local servers do.
const SAME: [&str; 4] = ["max_tokens", "temperature", "top_p", "top_k"];

/// Translates the Messages request `body`.
///
/// `thinking`, `context_management`, `output_config.effort` and `cache_control` are ignored: Claude Code sends them with every request,
/// and servers reject an effort for a model without reasoning.
pub fn to_chat(body: &[u8]) -> Result<ChatRequest, InvalidRequest> {
    let text = checked(body)?;
    let request = Json::of_compact(&text);
    if !request.get_items("mcp_servers").is_empty() {
        return Err(invalid("mcp_servers: this model connects to no MCP servers"));
    }
    let (mut out, streaming) = chat_body(&request, &SAME, messages(&request)?);
    let stops = request.get_items("stop_sequences").iter();
    let stops: Vec<_> = stops.filter(|stop| stop.fragment().is_some_and(|stop| !stop.is_empty())).collect();
    if !stops.is_empty() {
        out.put("stop", Json::Array(stops.iter().copied().cloned().collect()));
    }
    let user = request.get("metadata").and_then(|metadata| metadata.get("user_id"));
    out.put_some("user", user.filter(|id| id.is_string()).cloned());
    let format = request.get("output_config").and_then(|config| config.get("format"));
    let format = format.or_else(|| request.get("output_format"));
    if let Some(schema) = format.and_then(|format| format.get("schema")) {
        let schema =
            Json::object([("name", "answer".into()), ("strict", true.into()), ("schema", schema.clone())]);
        out.put("response_format", Json::object([("type", "json_schema".into()), ("json_schema", schema)]));
    }
    offer_tools(&request, &mut out)?;
    let request = CallerRequest {
        model: request.get("model").unwrap_or(&Json::NULL).to_string(),
        stop_sequences: stops.into_iter().map(Json::to_fragment).collect(),
        ..CallerRequest::default()
    };
    Ok(ChatRequest { body: out.to_string(), streaming, request: request.into() })
}

fn messages<'a>(request: &Json<'a>) -> Result<Vec<Json<'a>>, InvalidRequest> {
    let mut chat = Conversation::default();
    add_system(&mut chat, request.get("system"), "system")?;
    let Some(Json::Array(messages)) = request.get("messages") else {
        return Err(invalid("messages must be an array"));
    };
    for (index, message) in messages.iter().enumerate() {
        let path = format!("messages.{index}.content");
        let content = message.get("content");
        match message.get_str("role").as_deref() {
            Some("user") => add_user(&mut chat, content, &path)?,
            Some("assistant") => add_assistant(&mut chat, content, &path)?,
            // Claude Code sends system messages between the turns.
            Some("system" | "developer") => add_system(&mut chat, content, &path)?,
            role => {
                let role = shown(role.unwrap_or_default());
                return Err(invalid(format!(
                    "messages.{index}: a message of role '{role}' cannot be put to this model"
                )));
            }
        }
    }
    Ok(chat.into_messages())
}

fn add_system<'a>(
    chat: &mut Conversation<'a>,
    content: Option<&Json<'a>>,
    path: &str,
) -> Result<(), InvalidRequest> {
    for part in content::parts(content, path)? {
        match part {
            ContentPart::Text(text) => chat.add_system(text),
            ContentPart::Other(_) => return Err(invalid(format!("{path} must be text"))),
        }
    }
    Ok(())
}

fn add_user<'a>(
    chat: &mut Conversation<'a>,
    content: Option<&Json<'a>>,
    path: &str,
) -> Result<(), InvalidRequest> {
    let mut parts = Vec::new();
    content::each_block(content, path, |kind, block, block_path| {
        if kind != "tool_result" {
            return content::add_parts(kind, block, block_path, &mut parts);
        }
        let mut result = content::parts(block.get("content"), &format!("{path} (tool_result)"))?;
        if block.get_bool("is_error") {
            content::mark_error(&mut result);
        }
        chat.add_result(&ids::to_backend(block.get_fragment("tool_use_id")), result);
        Ok(())
    })?;
    for part in parts {
        chat.add_user(part);
    }
    Ok(())
}

fn add_assistant<'a>(
    chat: &mut Conversation<'a>,
    content: Option<&Json<'a>>,
    path: &str,
) -> Result<(), InvalidRequest> {
    // An empty turn is kept.
    chat.add_assistant("");
    content::each_block(content, path, |kind, block, block_path| {
        match kind {
            "thinking" => {
                // Only reasoning of this backend has such a signature. Servers may reject that of another model.
                let signature = block.get_fragment("signature");
                if let Some(key) = REASONING_MEMBERS.into_iter().find(|key| *key == signature) {
                    chat.add_reasoning(key, block.get_fragment("thinking"));
                }
            }
            "tool_use" => {
                let input = block.get("input").map_or_else(|| "{}".to_owned(), Json::to_string);
                let id = ids::to_backend(block.get_fragment("id"));
                chat.add_call(&id, block.get_fragment("name"), &escape(&input));
            }
            _ => {
                let mut parts = Vec::new();
                content::add_parts(kind, block, block_path, &mut parts)?;
                for part in parts {
                    let ContentPart::Text(text) = part else {
                        return Err(invalid(format!("{path}: an assistant's turn holds no images")));
                    };
                    chat.add_assistant(&text);
                }
            }
        }
        Ok(())
    })
}

fn offer_tools<'a>(request: &Json<'a>, out: &mut Json<'a>) -> Result<(), InvalidRequest> {
    let tools = request.get_items("tools");
    if tools.is_empty() {
        return Ok(());
    }
    let mut functions = Vec::with_capacity(tools.len());
    for tool in tools {
        let kind = tool.get_str("type").unwrap_or(Cow::Borrowed("custom"));
        if kind != "custom" {
            let kind = shown(&kind);
            return Err(invalid(format!("tools: this model has no tool of type '{kind}'")));
        }
        let get = |key: &str| tool.get(key).cloned();
        let name = tool.get_fragment("name");
        functions.push(tools::function(name, get("description"), get("input_schema"), get("strict")));
    }
    out.put("tools", Json::Array(functions));
    let Some(choice) = request.get("tool_choice") else { return Ok(()) };
    let kind = choice.get_str("type").unwrap_or_default();
    let word: Json<'_> = match &*kind {
        "auto" => "auto".into(),
        "any" => "required".into(),
        "none" => "none".into(),
        "tool" => tools::only(choice.get_fragment("name")),
        _ => return Err(invalid(format!("tool_choice: the type '{}' is unknown", shown(&kind)))),
    };
    out.put("tool_choice", word);
    if choice.get_bool("disable_parallel_tool_use") {
        out.put("parallel_tool_calls", false);
    }
    Ok(())
}
