//! Where a request has its prompt, and what names the conversation it belongs to.
//!
//! A scanner finds both in the pass that checks the JSON of a request. The spans are those of the raw text: two
//! turns of a conversation have equal bytes there as long as their client writes its messages in one way.

use std::ops::Range;

/// The parts of a request that tell its conversation. An absent part is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PromptSpans {
    /// `prompt_cache_key`, as JSON.
    pub cache_key: Range<usize>,
    /// `metadata`, as JSON.
    pub metadata: Range<usize>,
    /// `conversation`, as JSON: a text or an object.
    pub conversation: Range<usize>,
    /// `previous_response_id`, as JSON.
    pub previous_response: Range<usize>,
    /// `tools`, as JSON.
    pub tools: Range<usize>,
    /// `system`, or `instructions` of the Responses API, as JSON.
    pub system: Range<usize>,
    /// `messages`, `input` or `prompt`, as JSON.
    pub messages: Range<usize>,
    /// The part of `messages` before the first answer, without the closing bracket or quote: what a conversation begins
    /// with, and has in each of its turns.
    pub opening: Range<usize>,
}

impl PromptSpans {
    /// Bytes of the prompt: tools, system and messages.
    pub fn size(&self) -> usize {
        self.tools.len() + self.system.len() + self.messages.len()
    }
}

/// Depth of the members of a message: the list is level 1.
const MEMBERS: usize = 2;

/// Finds [`PromptSpans`] in the events of a JSON scan.
#[derive(Debug, Default)]
pub(crate) struct PromptScanner {
    spans: PromptSpans,
    part: Option<Part>,
    /// Open containers within the messages.
    depth: usize,
    /// End of the last message that is part of the opening.
    opening_end: Option<usize>,
    /// Whether the messages are being read and no answer was found yet.
    in_opening: bool,
    /// The meaning of the message's member that is being read.
    member: Member,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    CacheKey,
    Metadata,
    Conversation,
    PreviousResponse,
    Tools,
    System,
    Messages,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Member {
    #[default]
    Other,
    Role,
    Type,
}

impl PromptScanner {
    pub(crate) fn finish(self) -> PromptSpans {
        self.spans
    }

    /// A key of the request, with its quotes.
    pub(crate) fn key(&mut self, quoted: &[u8]) {
        self.part = match quoted {
            b"\"prompt_cache_key\"" => Some(Part::CacheKey),
            b"\"metadata\"" => Some(Part::Metadata),
            b"\"conversation\"" => Some(Part::Conversation),
            b"\"previous_response_id\"" => Some(Part::PreviousResponse),
            b"\"tools\"" => Some(Part::Tools),
            b"\"system\"" | b"\"instructions\"" => Some(Part::System),
            b"\"messages\"" | b"\"input\"" | b"\"prompt\"" => Some(Part::Messages),
            _ => None,
        };
        self.in_opening = self.part == Some(Part::Messages);
        if self.in_opening {
            (self.depth, self.opening_end, self.member) = (0, None, Member::Other);
        }
    }

    /// The value of the last [`key`](Self::key). Of duplicates the last counts, as with JSON readers.
    pub(crate) fn value(&mut self, text: &[u8], start: usize, end: usize) {
        let Some(part) = self.part.take() else { return };
        let span = start..end;
        match part {
            Part::CacheKey => self.spans.cache_key = span,
            Part::Metadata => self.spans.metadata = span,
            Part::Conversation => self.spans.conversation = span,
            Part::PreviousResponse => self.spans.previous_response = span,
            Part::Tools => self.spans.tools = span,
            Part::System => self.spans.system = span,
            Part::Messages => {
                let opening_end = match text.get(start) {
                    Some(b'"') => end - 1,
                    _ => self.opening_end.unwrap_or(start),
                };
                self.spans.opening = start..opening_end;
                self.spans.messages = span;
            }
        }
        self.in_opening = false;
    }

    /// A key of any object, with its quotes.
    pub(crate) fn any_key(&mut self, quoted: &[u8]) {
        if self.in_opening && self.depth == MEMBERS {
            self.member = match quoted {
                b"\"role\"" => Member::Role,
                b"\"type\"" => Member::Type,
                _ => Member::Other,
            };
        }
    }

    pub(crate) fn open(&mut self) {
        if self.in_opening {
            self.depth += 1;
            self.member = Member::Other;
        }
    }

    pub(crate) fn close(&mut self, end: usize) {
        if self.in_opening {
            self.depth = self.depth.saturating_sub(1);
            if self.depth == 1 {
                self.opening_end = Some(end);
            }
        }
    }

    /// A string value, with its quotes, which ends at `end`.
    pub(crate) fn string(&mut self, quoted: &[u8], end: usize) {
        if !self.in_opening {
            return;
        }
        if self.depth == 1 {
            self.opening_end = Some(end);
        }
        let is_answer = match std::mem::take(&mut self.member) {
            Member::Role => !matches!(quoted, b"\"system\"" | b"\"developer\"" | b"\"user\""),
            // Items of the Responses API that are no messages are made by the model, or answer it.
            Member::Type => quoted != b"\"message\"",
            Member::Other => false,
        };
        if is_answer {
            self.in_opening = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::inspect_request;

    fn opening(text: &str) -> String {
        let mut bytes = text.as_bytes().to_vec();
        let (_, _, prompt) = inspect_request(&mut bytes, ["model"]).unwrap();
        text[prompt.opening].to_owned()
    }

    #[test]
    fn an_opening_ends_before_the_first_answer() {
        let opened =
            r#"[{"role":"system","content":"s"},{"role":"user","content":[{"type":"text","role":"tool"}]}"#;
        for rest in [
            "]",
            r#",{"role":"assistant","content":"a"}]"#,
            r#", {"content":"a","tool_calls":[{"type":"function"}],"role":"assistant"},{"role":"user","content":"q"}]"#,
            "\n]",
        ] {
            assert_eq!(
                opening(&format!(r#"{{"model":"m","messages":{opened}{rest},"a":[1]}}"#)),
                opened,
                "{rest}"
            );
        }
        let items = r#"[{"type":"message","role":"developer","content":"d"},{"role":"user","content":"u"}"#;
        for rest in
            ["]", r#",{"type":"reasoning"}]"#, r#",{"type":"function_call","name":"f"},{"role":"user"}]"#]
        {
            assert_eq!(opening(&format!(r#"{{"input":{items}{rest}}}"#)), items, "{rest}");
        }
    }

    #[test]
    fn a_prompt_without_messages_opens_with_all_of_it() {
        assert_eq!(opening(r#"{"prompt":"once upon"}"#), "\"once upon");
        assert_eq!(opening(r#"{"input":["a", "b" ]}"#), r#"["a", "b""#);
        for none in
            [r#"{"messages":[]}"#, r#"{"messages":null}"#, r#"{"messages":[{"role":"assistant"}]}"#, "{}"]
        {
            assert_eq!(opening(none), "", "{none}");
        }
    }

    #[test]
    fn the_names_of_a_conversation_are_found_at_the_top_only() {
        let text = r#"{"tools":[{"prompt_cache_key":"x"}],"prompt_cache_key":"k","metadata":{"user_id":"u"},
            "conversation":{"id":"c"},"previous_response_id":"r","system":"s"}"#;
        let (_, _, prompt) = inspect_request(&mut text.as_bytes().to_vec(), ["model"]).unwrap();
        let found = |span: &Range<usize>| &text[span.clone()];
        assert_eq!(found(&prompt.cache_key), "\"k\"");
        assert_eq!(found(&prompt.metadata), r#"{"user_id":"u"}"#);
        assert_eq!(found(&prompt.conversation), r#"{"id":"c"}"#);
        assert_eq!(found(&prompt.previous_response), "\"r\"");
        assert_eq!(prompt.size(), found(&prompt.tools).len() + "\"s\"".len());
    }
}
