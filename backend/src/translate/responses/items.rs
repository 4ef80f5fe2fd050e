//! Input items as the turns of a chat.

use std::borrow::Cow;

use super::super::chunk::REASONING_MEMBERS;
use super::super::conversation::{ContentPart, Conversation};
use super::super::json::{Json, escape};
use super::super::{InvalidRequest, invalid, shown};
use super::offered_tools::{LOCAL_SHELL, flat_name};
use super::stored_items::StoredItems;

/// Adds `input`, a string that `say` takes or items; `place` names it in an error.
pub(super) fn add_all<'a>(
    chat: &mut Conversation<'a>,
    input: &Json<'a>,
    place: &str,
    kept: &StoredItems,
    say: fn(&mut Conversation<'a>, ContentPart<'a>),
) -> Result<(), InvalidRequest> {
    match input {
        Json::Array(items) => items
            .iter()
            .enumerate()
            .try_for_each(|(index, item)| add(chat, item, &format!("{place}[{index}]"), kept)),
        text if text.is_string() => {
            if let Some(part) = text_part(text) {
                say(chat, part);
            }
            Ok(())
        }
        _ => Err(invalid(format!("{place} must be a string or an array of items"))),
    }
}

fn add<'a>(
    chat: &mut Conversation<'a>,
    item: &Json<'a>,
    place: &str,
    kept: &StoredItems,
) -> Result<(), InvalidRequest> {
    let kind = item.get_str("type").unwrap_or(Cow::Borrowed("message"));
    let call = item.get_fragment("call_id");
    match &*kind {
        "message" => message(chat, item, place)?,
        "function_call" => {
            let name = flat_name(item.get_fragment("namespace"), item.get_fragment("name"));
            chat.call(call, &name, item.get_fragment("arguments"));
        }
        "custom_tool_call" => {
            let arguments = format!(r#"{{"input":"{}"}}"#, item.get_fragment("input"));
            let name = flat_name(item.get_fragment("namespace"), item.get_fragment("name"));
            chat.call(call, &name, &escape(&arguments));
        }
        "local_shell_call" => {
            let action = item.get("action").map_or_else(|| "{}".to_owned(), Json::to_string);
            chat.call(call, LOCAL_SHELL, &escape(&action));
        }
        "function_call_output" | "custom_tool_call_output" | "local_shell_call_output" => {
            // A local shell's output names its call in `id`.
            let call = if call.is_empty() { item.get_fragment("id") } else { call };
            let place = format!("{place}.output");
            chat.result(call, item.get("output").map_or_else(|| Ok(Vec::new()), |said| parts(said, &place))?);
        }
        "reasoning" => reasoning(chat, item),
        "item_reference" => {
            let id = item.get_str("id").unwrap_or_default();
            match kept.get(&id).and_then(|item| Json::parse(item).ok()) {
                Some(item) if item.get_fragment("type") != "item_reference" => add(chat, &item, place, kept)?,
                // Reasoning is for the model that made it, and may be left out.
                _ if id.starts_with("rs_") => (),
                _ => {
                    let id = shown(&id);
                    return Err(invalid(format!(
                        "{place}: the item '{id}' is not kept here: send the item itself (store: false)"
                    )));
                }
            }
        }
        other => {
            let other = shown(other);
            return Err(invalid(format!("{place}: an item of type '{other}' cannot be put to this model")));
        }
    }
    Ok(())
}

fn message<'a>(chat: &mut Conversation<'a>, item: &Json<'a>, place: &str) -> Result<(), InvalidRequest> {
    let parts = match item.get("content") {
        Some(content) => parts(content, &format!("{place}.content"))?,
        None => Vec::new(),
    };
    let role = item.get_str("role").unwrap_or_default();
    match &*role {
        "user" => parts.into_iter().for_each(|part| chat.user(part)),
        "system" | "developer" | "assistant" => {
            if role == "assistant" {
                // An empty turn is one, too.
                chat.assistant("");
            }
            for part in parts {
                match part {
                    ContentPart::Text(text) if role == "assistant" => chat.assistant(&text),
                    ContentPart::Text(text) => chat.system(text),
                    ContentPart::Other(_) => {
                        return Err(invalid(format!("{place}: a message of role '{role}' must be text")));
                    }
                }
            }
        }
        _ => {
            let role = shown(&role);
            return Err(invalid(format!("{place}: a message of role '{role}' cannot be put to this model")));
        }
    }
    Ok(())
}

/// Our own reasoning, by its mark: it goes back in the member in which the backend gave it.
fn reasoning(chat: &mut Conversation<'_>, item: &Json<'_>) {
    let mark = item.get_fragment("encrypted_content");
    let Some(key) = REASONING_MEMBERS.into_iter().find(|key| *key == mark) else { return };
    let told = item.get("content").or_else(|| item.get("summary")).map(Json::items).unwrap_or_default();
    for part in told {
        chat.thought(key, part.get_fragment("text"));
    }
}

fn parts<'a>(content: &Json<'a>, place: &str) -> Result<Vec<ContentPart<'a>>, InvalidRequest> {
    match content {
        Json::Array(parts) => {
            let mut out = Vec::with_capacity(parts.len());
            for (index, part) in parts.iter().enumerate() {
                out.extend(self::part(part, &format!("{place}[{index}]"))?);
            }
            Ok(out)
        }
        text if text.is_string() => Ok(text_part(text).into_iter().collect()),
        _ => Err(invalid(format!("{place} must be a string or an array of parts"))),
    }
}

fn part<'a>(part: &Json<'a>, place: &str) -> Result<Option<ContentPart<'a>>, InvalidRequest> {
    let kind = part.get_str("type").unwrap_or_default();
    let stored = || invalid(format!("{place}: this model's server stores no files: send the data itself"));
    match &*kind {
        "input_text" | "output_text" | "text" | "summary_text" | "reasoning_text" => {
            Ok(part.get("text").and_then(text_part))
        }
        "refusal" => Ok(part.get("refusal").and_then(text_part)),
        "input_image" | "image_url" => {
            let url = part.get("image_url").ok_or_else(stored)?;
            let url = url.get("url").unwrap_or(url).clone();
            // A word that vision servers other than OpenAI's do not know.
            let detail = part.get("detail").filter(|detail| detail.fragment() != Some("auto"));
            Ok(Some(ContentPart::image(url, detail.cloned())))
        }
        "input_file" => {
            let data = part.get("file_data").ok_or_else(stored)?;
            let mut file = Json::object([("file_data", data.clone())]);
            if let Some(name) = part.get("filename") {
                file.put("filename", name.clone());
            }
            Ok(Some(ContentPart::Other(Json::object([("type", "file".into()), ("file", file)]))))
        }
        // The same in both.
        "input_audio" => Ok(Some(ContentPart::Other(part.clone()))),
        other => {
            let other = shown(other);
            Err(invalid(format!("{place}: this model takes no content of type '{other}'")))
        }
    }
}

fn text_part<'a>(text: &Json<'a>) -> Option<ContentPart<'a>> {
    let text = text.shared_fragment();
    (!text.is_empty()).then_some(ContentPart::Text(text))
}
