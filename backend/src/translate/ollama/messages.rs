//! Translates the messages of a chat, one to one.
//!
//! Ollama's tool calls need no ids and its results name the tool; in chat completions each result has the id of its call. Ids that
//! are missing are counted from the start of the chat, so that a prompt has the same beginning in each of its turns.

use super::super::json::{Json, escape};
use super::super::{InvalidRequest, invalid, shown};
use super::images;
use super::open_calls::OpenCalls;

/// Translates `messages`.
pub(super) fn to_chat<'a>(messages: &[Json<'a>]) -> Result<Vec<Json<'a>>, InvalidRequest> {
    let mut chat = Chat::default();
    for (index, message) in messages.iter().enumerate() {
        chat.add(message, &format!("messages.{index}"))?;
    }
    chat.end_results();
    Ok(chat.messages)
}

/// Builds a message.
pub(super) fn message<'a>(role: &str, content: Json<'a>) -> Json<'a> {
    Json::object([("role", role.into()), ("content", content)])
}

#[derive(Default)]
struct Chat<'a> {
    messages: Vec<Json<'a>>,
    /// The calls without a result, by escaped ids and names.
    open_calls: OpenCalls,
    /// Number of ids that were counted.
    ids: usize,
    /// Pictures of tool results. A tool message can only have text, so the user shows them after the last result.
    pictures: Vec<Json<'a>>,
}

impl<'a> Chat<'a> {
    fn add(&mut self, source: &Json<'a>, path: &str) -> Result<(), InvalidRequest> {
        let content = match source.get("content") {
            None => "".into(),
            Some(text) if text.is_string() => text.clone(),
            Some(_) => return Err(invalid(format!("{path}.content must be a string"))),
        };
        let pictures = images::parts(source, &format!("{path}.images"))?;
        let role = source.get_str("role").unwrap_or_default().to_lowercase();
        if role != "tool" {
            self.end_results();
        }
        match role.as_str() {
            "system" | "user" => self.messages.push(message(&role, images::content(content, pictures))),
            "assistant" if pictures.is_empty() => self.add_assistant(source, content),
            "assistant" => return Err(invalid(format!("{path}: an assistant's message holds no images"))),
            "tool" => {
                let id = self.call_id(source);
                self.messages.push(Json::object([
                    ("role", "tool".into()),
                    ("tool_call_id", Json::from_fragment(&id)),
                    ("content", content),
                ]));
                self.pictures.extend(pictures);
            }
            _ => {
                let role = shown(&role);
                return Err(invalid(format!(
                    "{path}: the role '{role}' is none of system, user, assistant and tool"
                )));
            }
        }
        Ok(())
    }

    fn add_assistant(&mut self, source: &Json<'a>, content: Json<'a>) {
        let calls: Vec<_> = source.get_items("tool_calls").iter().map(|call| self.call(call)).collect();
        let is_silent = content.fragment() == Some("") && !calls.is_empty();
        let mut out = message("assistant", if is_silent { Json::NULL } else { content });
        let thinking =
            source.get("thinking").filter(|text| text.fragment().is_some_and(|text| !text.is_empty()));
        out.put_some("reasoning_content", thinking.cloned());
        if !calls.is_empty() {
            out.put("tool_calls", Json::Array(calls));
        }
        self.messages.push(out);
    }

    fn call(&mut self, call: &Json<'a>) -> Json<'a> {
        let function = call.get("function").unwrap_or(call);
        let (id, name) = (self.id_or_next(call.get_fragment("id")), function.get_fragment("name"));
        self.open_calls.push(&id, name);
        let arguments = match function.get("arguments") {
            None => "{}".to_owned(),
            // Some clients send the text of chat completions back.
            Some(text) if text.is_string() => text.to_fragment(),
            Some(object) => escape(&object.to_string()),
        };
        let function = Json::object([
            ("name", Json::from_fragment(name)),
            ("arguments", Json::from_fragment(&arguments)),
        ]);
        Json::object([("id", Json::from_fragment(&id)), ("type", "function".into()), ("function", function)])
    }

    /// The id of the call that the tool message `result` answers: by its id, else by the name of the tool, else in order.
    fn call_id(&mut self, result: &Json<'_>) -> String {
        let (id, name) = (result.get_fragment("tool_call_id"), result.get_fragment("tool_name"));
        self.open_calls.take(id, name).unwrap_or_else(|| self.id_or_next(id))
    }

    fn id_or_next(&mut self, id: &str) -> String {
        if !id.is_empty() {
            return id.to_owned();
        }
        self.ids += 1;
        format!("call_{}", self.ids)
    }

    fn end_results(&mut self) {
        let pictures = std::mem::take(&mut self.pictures);
        if !pictures.is_empty() {
            self.messages.push(message("user", Json::Array(pictures)));
        }
    }
}
