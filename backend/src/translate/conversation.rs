//! The messages of a chat, put together from the turns of another API, in the order that chat templates accept: one
//! system message in front, results right behind their calls, each speaker's words in one message.

use std::borrow::Cow;

use super::json::Json;

/// Messages that are being put together. All texts are escaped.
#[derive(Debug, Default)]
pub(super) struct Conversation<'a> {
    system: Vec<Cow<'a, str>>,
    messages: Vec<Json<'a>>,
    user: Vec<ContentPart<'a>>,
    assistant: Option<Assistant<'a>>,
}

/// A part of what a user says.
#[derive(Debug)]
pub(super) enum ContentPart<'a> {
    Text(Cow<'a, str>),
    /// An image or a file, as a content part.
    Other(Json<'a>),
}

#[derive(Debug, Default)]
struct Assistant<'a> {
    text: String,
    thought: Option<(&'static str, String)>,
    calls: Vec<Json<'a>>,
}

impl<'a> Conversation<'a> {
    /// Adds to the system message. Templates refuse a system message behind the first turn, so that one is told by the
    /// user, in the form in which coding agents mark what is not a user's own word.
    pub(super) fn system(&mut self, text: impl Into<Cow<'a, str>>) {
        let text = text.into();
        if text.is_empty() {
            return;
        }
        if self.messages.is_empty() && self.user.is_empty() && self.assistant.is_none() {
            self.system.push(text);
        } else {
            self.user(ContentPart::Text(Cow::Owned(format!(
                r"<system-reminder>\n{text}\n</system-reminder>"
            ))));
        }
    }

    /// Adds to the user's message.
    pub(super) fn user(&mut self, part: ContentPart<'a>) {
        self.end_assistant();
        self.user.push(part);
    }

    /// Adds a tool's result; what is no text is told by the user, since a tool message has room for text alone.
    pub(super) fn result(&mut self, call: &str, parts: Vec<ContentPart<'a>>) {
        self.end_assistant();
        let mut texts = Vec::new();
        let mut others = Vec::new();
        for part in parts {
            match part {
                ContentPart::Text(text) => texts.push(text),
                ContentPart::Other(part) => others.push(ContentPart::Other(part)),
            }
        }
        if !others.is_empty() {
            if texts.is_empty() {
                texts.push("(see the next user message)".into());
            }
            let label = format!("What the tool call {call} gave:");
            self.user.push(ContentPart::Text(label.into()));
            self.user.append(&mut others);
        }
        // In front of what the user has said meanwhile: a result belongs right behind its call.
        self.messages.push(Json::object([
            ("role", "tool".into()),
            ("tool_call_id", Json::from_fragment(call)),
            ("content", Json::from_fragment(&texts.join(r"\n\n"))),
        ]));
    }

    /// Adds to the assistant's text.
    pub(super) fn assistant(&mut self, text: &str) {
        self.turn().text.push_str(text);
    }

    /// Adds reasoning in the member in which the backend gave it.
    pub(super) fn thought(&mut self, key: &'static str, text: &str) {
        self.turn().thought.get_or_insert_with(|| (key, String::new())).1.push_str(text);
    }

    /// Adds a tool call; all three are escaped.
    pub(super) fn call(&mut self, id: &str, name: &str, arguments: &str) {
        let function = Json::object([
            ("name", Json::from_fragment(name)),
            ("arguments", Json::from_fragment(arguments)),
        ]);
        let call = Json::object([
            ("id", Json::from_fragment(id)),
            ("type", "function".into()),
            ("function", function),
        ]);
        self.turn().calls.push(call);
    }

    /// All messages.
    pub(super) fn end(mut self) -> Vec<Json<'a>> {
        self.end_assistant();
        self.end_user();
        if !self.system.is_empty() {
            let system = message("system", Json::from_fragment(&self.system.join(r"\n\n")));
            self.messages.insert(0, system);
        }
        self.messages
    }

    fn turn(&mut self) -> &mut Assistant<'a> {
        self.end_user();
        self.assistant.get_or_insert_default()
    }

    fn end_user(&mut self) {
        let parts = std::mem::take(&mut self.user);
        if parts.is_empty() {
            return;
        }
        let texts: Option<Vec<&str>> = parts
            .iter()
            .map(|part| match part {
                ContentPart::Text(text) => Some(&**text),
                ContentPart::Other(_) => None,
            })
            .collect();
        // A plain string is what every template takes.
        let content = match texts {
            Some(texts) => Json::from_fragment(&texts.join(r"\n\n")),
            None => Json::Array(parts.into_iter().map(ContentPart::into_json).collect()),
        };
        self.messages.push(message("user", content));
    }

    fn end_assistant(&mut self) {
        let Some(turn) = self.assistant.take() else { return };
        let silent = turn.text.is_empty() && !turn.calls.is_empty();
        let mut said =
            message("assistant", if silent { Json::NULL } else { Json::from_fragment(&turn.text) });
        if let Some((key, thought)) = turn.thought {
            said.put(key, Json::from_fragment(&thought));
        }
        if !turn.calls.is_empty() {
            said.put("tool_calls", Json::Array(turn.calls));
        }
        self.messages.push(said);
    }
}

impl<'a> ContentPart<'a> {
    /// An image at `url`, or in it (`data:`); a JSON string.
    pub(super) fn image(url: Json<'a>, detail: Option<Json<'a>>) -> Self {
        let mut image = Json::object([("url", url)]);
        if let Some(detail) = detail {
            image.put("detail", detail);
        }
        Self::Other(Json::object([("type", "image_url".into()), ("image_url", image)]))
    }

    fn into_json(self) -> Json<'a> {
        match self {
            Self::Text(text) => Json::object([("type", "text".into()), ("text", Json::from_fragment(&text))]),
            Self::Other(part) => part,
        }
    }
}

fn message<'a>(role: &str, content: Json<'a>) -> Json<'a> {
    Json::object([("role", role.into()), ("content", content)])
}
