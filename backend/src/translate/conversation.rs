//! The messages of a chat, built from the turns of another API.
//!
//! Chat templates require this order: one system message first, tool results directly after their calls, and all words of a speaker in
//! one message.

use std::borrow::Cow;

use super::json::Json;

/// Builds messages. All texts are escaped.
#[derive(Debug, Default)]
pub(super) struct Conversation<'a> {
    system: Vec<Cow<'a, str>>,
    messages: Vec<Json<'a>>,
    user: Vec<ContentPart<'a>>,
    assistant: Option<AssistantTurn<'a>>,
}

/// A part of a user's message.
#[derive(Debug)]
pub(super) enum ContentPart<'a> {
    Text(Cow<'a, str>),
    /// An image or a file, as a content part of chat completions.
    Other(Json<'a>),
}

#[derive(Debug, Default)]
struct AssistantTurn<'a> {
    text: String,
    /// Reasoning, and the member in which the backend sent it.
    reasoning: Option<(&'static str, String)>,
    calls: Vec<Json<'a>>,
}

impl<'a> Conversation<'a> {
    /// Adds to the system message. After the first turn, where templates refuse a system message, the user message gets the text, marked
    /// as coding agents mark such texts.
    pub(super) fn add_system(&mut self, text: Cow<'a, str>) {
        if text.is_empty() {
            return;
        }
        if self.messages.is_empty() && self.user.is_empty() && self.assistant.is_none() {
            self.system.push(text);
        } else {
            let text = format!(r"<system-reminder>\n{text}\n</system-reminder>");
            self.add_user(ContentPart::Text(text.into()));
        }
    }

    /// Adds to the user message.
    pub(super) fn add_user(&mut self, part: ContentPart<'a>) {
        self.end_assistant();
        self.user.push(part);
    }

    /// Adds a tool result. Images and files go to the user message, because a tool message can only have text.
    pub(super) fn add_result(&mut self, call_id: &str, parts: Vec<ContentPart<'a>>) {
        self.end_assistant();
        let mut texts = Vec::new();
        let mut others = Vec::new();
        for part in parts {
            match part {
                ContentPart::Text(text) => texts.push(text),
                other @ ContentPart::Other(_) => others.push(other),
            }
        }
        if !others.is_empty() {
            if texts.is_empty() {
                texts.push("(see the next user message)".into());
            }
            self.user.push(ContentPart::Text(format!("What the tool call {call_id} gave:").into()));
            self.user.append(&mut others);
        }
        // The user message so far comes after the result.
        self.messages.push(Json::object([
            ("role", "tool".into()),
            ("tool_call_id", Json::from_fragment(call_id)),
            ("content", Json::from_fragment(&texts.join(r"\n\n"))),
        ]));
    }

    /// Adds to the assistant's text.
    pub(super) fn add_assistant(&mut self, text: &str) {
        self.assistant_turn().text.push_str(text);
    }

    /// Adds reasoning in the member `key`, in which the backend sent it.
    pub(super) fn add_reasoning(&mut self, key: &'static str, text: &str) {
        self.assistant_turn().reasoning.get_or_insert_with(|| (key, String::new())).1.push_str(text);
    }

    /// Adds a tool call.
    pub(super) fn add_call(&mut self, id: &str, name: &str, arguments: &str) {
        let function = Json::object([
            ("name", Json::from_fragment(name)),
            ("arguments", Json::from_fragment(arguments)),
        ]);
        let call = Json::object([
            ("id", Json::from_fragment(id)),
            ("type", "function".into()),
            ("function", function),
        ]);
        self.assistant_turn().calls.push(call);
    }

    pub(super) fn into_messages(mut self) -> Vec<Json<'a>> {
        self.end_assistant();
        self.end_user();
        if !self.system.is_empty() {
            let system = message("system", Json::from_fragment(&self.system.join(r"\n\n")));
            self.messages.insert(0, system);
        }
        self.messages
    }

    fn assistant_turn(&mut self) -> &mut AssistantTurn<'a> {
        self.end_user();
        self.assistant.get_or_insert_default()
    }

    fn end_user(&mut self) {
        let parts = std::mem::take(&mut self.user);
        if parts.is_empty() {
            return;
        }
        let texts = parts.iter().map(|part| match part {
            ContentPart::Text(text) => Some(&**text),
            ContentPart::Other(_) => None,
        });
        // Every template accepts a string.
        let content = match texts.collect::<Option<Vec<_>>>() {
            Some(texts) => Json::from_fragment(&texts.join(r"\n\n")),
            None => Json::Array(parts.into_iter().map(ContentPart::into_json).collect()),
        };
        self.messages.push(message("user", content));
    }

    fn end_assistant(&mut self) {
        let Some(turn) = self.assistant.take() else { return };
        let is_silent = turn.text.is_empty() && !turn.calls.is_empty();
        let content = if is_silent { Json::NULL } else { Json::from_fragment(&turn.text) };
        let mut out = message("assistant", content);
        if let Some((key, text)) = turn.reasoning {
            out.put(key, Json::from_fragment(&text));
        }
        if !turn.calls.is_empty() {
            out.put("tool_calls", Json::Array(turn.calls));
        }
        self.messages.push(out);
    }
}

impl<'a> ContentPart<'a> {
    /// Builds a text part; `None` if `text` is empty or no string.
    pub(super) fn text(text: &Json<'a>) -> Option<Self> {
        let text = text.shared_fragment();
        (!text.is_empty()).then_some(Self::Text(text))
    }

    /// Builds an image part. `url` is a JSON string, which can be a `data:` URL.
    pub(super) fn image(url: Json<'a>, detail: Option<Json<'a>>) -> Self {
        let mut image = Json::object([("url", url)]);
        image.put_some("detail", detail);
        Self::Other(Json::object([("type", "image_url".into()), ("image_url", image)]))
    }

    pub(super) fn into_json(self) -> Json<'a> {
        match self {
            Self::Text(text) => Json::object([("type", "text".into()), ("text", Json::from_fragment(&text))]),
            Self::Other(part) => part,
        }
    }
}

fn message<'a>(role: &str, content: Json<'a>) -> Json<'a> {
    Json::object([("role", role.into()), ("content", content)])
}
