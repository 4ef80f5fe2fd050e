//! Translates input items to the turns of a chat.

use std::borrow::Cow;

use super::super::chunk::REASONING_MEMBERS;
use super::super::conversation::{ContentPart, Conversation};
use super::super::json::{Json, escape};
use super::super::{InvalidRequest, invalid, shown};
use super::offered_tools::{LOCAL_SHELL, flat_name};
use super::references::References;

/// Adds the items of `input`, which is at `path` in the request. Returns its text if it is a string.
pub(super) fn add_all<'a>(
    chat: &mut Conversation<'a>,
    input: &Json<'a>,
    path: &str,
    references: &mut References<'_>,
) -> Result<Option<Cow<'a, str>>, InvalidRequest> {
    match input {
        Json::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                add(chat, item, &format!("{path}[{index}]"), references)?;
            }
            Ok(None)
        }
        text if text.is_string() => Ok(Some(text.shared_fragment())),
        _ => Err(invalid(format!("{path} must be a string or an array of items"))),
    }
}

fn add<'a>(
    chat: &mut Conversation<'a>,
    item: &Json<'a>,
    path: &str,
    references: &mut References<'_>,
) -> Result<(), InvalidRequest> {
    let kind = item.get_str("type").unwrap_or(Cow::Borrowed("message"));
    let call_id = item.get_fragment("call_id");
    let name = || flat_name(item.get_fragment("namespace"), item.get_fragment("name"));
    match &*kind {
        "message" => add_message(chat, item, path)?,
        "function_call" => chat.add_call(call_id, &name(), item.get_fragment("arguments")),
        "custom_tool_call" => {
            let arguments = format!(r#"{{"input":"{}"}}"#, item.get_fragment("input"));
            chat.add_call(call_id, &name(), &escape(&arguments));
        }
        "local_shell_call" => {
            let action = item.get("action").map_or_else(|| "{}".to_owned(), Json::to_string);
            chat.add_call(call_id, LOCAL_SHELL, &escape(&action));
        }
        "function_call_output" | "custom_tool_call_output" | "local_shell_call_output" => {
            // The output of a local shell has the id of its call in `id`.
            let call_id = if call_id.is_empty() { item.get_fragment("id") } else { call_id };
            chat.add_result(call_id, parts(item.get("output"), &format!("{path}.output"))?);
        }
        "reasoning" => add_reasoning(chat, item),
        "item_reference" => {
            let id = item.get_str("id").unwrap_or_default();
            match references.resolve(&id, path)? {
                Some(item) if item.get_fragment("type") != "item_reference" => {
                    add(chat, &item, path, references)?;
                }
                // Reasoning is optional.
                _ if id.starts_with("rs_") => (),
                _ => {
                    let id = shown(&id);
                    return Err(invalid(format!(
                        "{path}: the item '{id}' is not kept here: send the item itself (store: false)"
                    )));
                }
            }
        }
        other => {
            let other = shown(other);
            return Err(invalid(format!("{path}: an item of type '{other}' cannot be put to this model")));
        }
    }
    Ok(())
}

fn add_message<'a>(chat: &mut Conversation<'a>, item: &Json<'a>, path: &str) -> Result<(), InvalidRequest> {
    let parts = parts(item.get("content"), &format!("{path}.content"))?;
    let role = item.get_str("role").unwrap_or_default();
    match &*role {
        "user" => parts.into_iter().for_each(|part| chat.add_user(part)),
        "system" | "developer" | "assistant" => {
            if role == "assistant" {
                // An empty turn is kept.
                chat.add_assistant("");
            }
            for part in parts {
                match part {
                    ContentPart::Text(text) if role == "assistant" => chat.add_assistant(&text),
                    ContentPart::Text(text) => chat.add_system(text),
                    ContentPart::Other(_) => {
                        return Err(invalid(format!("{path}: a message of role '{role}' must be text")));
                    }
                }
            }
        }
        _ => {
            let role = shown(&role);
            return Err(invalid(format!("{path}: a message of role '{role}' cannot be put to this model")));
        }
    }
    Ok(())
}

/// Adds reasoning of this backend, which `encrypted_content` marks. It goes to the member in which the backend sent it.
fn add_reasoning(chat: &mut Conversation<'_>, item: &Json<'_>) {
    let mark = item.get_fragment("encrypted_content");
    let Some(key) = REASONING_MEMBERS.into_iter().find(|key| *key == mark) else { return };
    let parts = item.get("content").or_else(|| item.get("summary")).map(Json::items);
    for part in parts.unwrap_or_default() {
        chat.add_reasoning(key, part.get_fragment("text"));
    }
}

fn parts<'a>(content: Option<&Json<'a>>, path: &str) -> Result<Vec<ContentPart<'a>>, InvalidRequest> {
    match content {
        None => Ok(Vec::new()),
        Some(Json::Array(parts)) => {
            let parts = parts.iter().enumerate();
            let parts = parts.map(|(index, part)| self::part(part, &format!("{path}[{index}]")).transpose());
            parts.flatten().collect()
        }
        Some(text) if text.is_string() => Ok(ContentPart::text(text).into_iter().collect()),
        Some(_) => Err(invalid(format!("{path} must be a string or an array of parts"))),
    }
}

/// Translates a content part; `None` for an empty text.
fn part<'a>(part: &Json<'a>, path: &str) -> Result<Option<ContentPart<'a>>, InvalidRequest> {
    let kind = part.get_str("type").unwrap_or_default();
    let by_id = || invalid(format!("{path}: this model's server stores no files: send the data itself"));
    Ok(Some(match &*kind {
        "input_text" | "output_text" | "text" | "summary_text" | "reasoning_text" => {
            return Ok(part.get("text").and_then(ContentPart::text));
        }
        "refusal" => return Ok(part.get("refusal").and_then(ContentPart::text)),
        "input_image" | "image_url" => {
            let url = part.get("image_url").ok_or_else(by_id)?;
            let url = url.get("url").unwrap_or(url).clone();
            // Servers other than OpenAI's reject `auto`.
            let detail = part.get("detail").filter(|detail| detail.fragment() != Some("auto"));
            ContentPart::image(url, detail.cloned())
        }
        "input_file" => {
            let data = part.get("file_data").ok_or_else(by_id)?;
            let mut file = Json::object([("file_data", data.clone())]);
            file.put_some("filename", part.get("filename").cloned());
            ContentPart::Other(Json::object([("type", "file".into()), ("file", file)]))
        }
        // Chat completions has the same part.
        "input_audio" => ContentPart::Other(part.clone()),
        other => {
            let other = shown(other);
            return Err(invalid(format!("{path}: this model takes no content of type '{other}'")));
        }
    }))
}
