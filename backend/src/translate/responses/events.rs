//! The chunks of a streamed chat completion as the events of a response.

use super::super::blocks::{AnswerBuilder, BlockEvent};
use super::super::json::Json;
use super::super::{AnswerError, Context};
use super::answer::{end_of, response, status_of};
use super::free_text::FreeTextDecoder;
use super::output::{ItemKind, OutputItem};

/// One stream.
#[derive(Debug)]
pub struct StreamTranslator {
    context: Context,
    turn: AnswerBuilder,
    /// The text of the open call to a tool of free text, and what of it was told.
    coming: (FreeTextDecoder, String),
    /// `sequence_number` of the next event.
    next: u64,
    is_ended: bool,
}

impl StreamTranslator {
    /// A stream that answers the request of `context`.
    pub fn new(context: Context) -> Self {
        Self { context, turn: AnswerBuilder::default(), coming: Default::default(), next: 0, is_ended: false }
    }

    /// The events that say what `chunk` says, as JSON texts with their `type`.
    pub fn take(&mut self, chunk: &str) -> Result<Vec<String>, AnswerError> {
        let steps = self.turn.take(chunk)?;
        let mut out = self.begin();
        self.tell(steps, &mut out);
        Ok(out)
    }

    /// Bytes of all that was said so far, some of which the next events may say again.
    pub(crate) fn size(&self) -> usize {
        self.turn.size()
    }

    /// The last events, when the chat stream came to its end; none if they were given before.
    pub fn end(&mut self) -> Vec<String> {
        if std::mem::replace(&mut self.is_ended, true) {
            return Vec::new();
        }
        let steps = self.turn.end();
        let mut out = self.begin();
        self.tell(steps, &mut out);
        let end = end_of(&self.turn);
        let kind = if end.0 == "completed" { "response.completed" } else { "response.incomplete" };
        let response = response(&self.turn, Some(end), &self.context);
        out.push(event(&mut self.next, kind, [("response", response)]));
        out
    }

    /// The `sequence_number` that an event of somebody else's (`response.failed`) must have.
    pub fn next_sequence_number(&self) -> u64 {
        self.next
    }

    fn begin(&mut self) -> Vec<String> {
        if self.next > 0 {
            return Vec::new();
        }
        let response = response(&self.turn, None, &self.context);
        ["response.created", "response.in_progress"]
            .map(|kind| event(&mut self.next, kind, [("response", response.clone())]))
            .into()
    }

    fn tell(&mut self, steps: Vec<BlockEvent>, out: &mut Vec<String>) {
        for step in steps {
            let (BlockEvent::Open(number) | BlockEvent::Add(number, _) | BlockEvent::Close(number)) = step;
            let item = OutputItem::new(&self.turn.blocks[number], number, &self.context);
            let coming = &mut self.coming;
            let mut teller = ItemEvents { item, number, coming, next: &mut self.next, out };
            match step {
                BlockEvent::Open(_) => teller.open(),
                BlockEvent::Add(_, text) => teller.add(&text),
                BlockEvent::Close(_) => teller.close(status_of(&self.turn, number)),
            }
        }
    }
}

/// Tells the events of one item.
struct ItemEvents<'a> {
    item: OutputItem<'a>,
    number: usize,
    coming: &'a mut (FreeTextDecoder, String),
    next: &'a mut u64,
    out: &'a mut Vec<String>,
}

impl ItemEvents<'_> {
    fn open(&mut self) {
        *self.coming = Default::default();
        let item = self.item.begun();
        self.tell_item("response.output_item.added", item);
        match self.item.sort {
            ItemKind::Text | ItemKind::Refusal => {
                self.tell("response.content_part.added", [("part", self.item.part(""))]);
            }
            ItemKind::Reasoning(_) => {
                self.tell("response.reasoning_summary_part.added", [("part", self.item.part(""))]);
            }
            _ => (),
        }
    }

    fn add(&mut self, text: &str) {
        let delta = ("delta", Json::from_fragment(text));
        match self.item.sort {
            ItemKind::Text => {
                self.tell("response.output_text.delta", [delta, ("logprobs", Json::Array(Vec::new()))]);
            }
            ItemKind::Refusal => self.tell("response.refusal.delta", [delta]),
            ItemKind::Reasoning(_) => self.tell("response.reasoning_summary_text.delta", [delta]),
            ItemKind::Function | ItemKind::Namespaced { .. } => {
                self.tell("response.function_call_arguments.delta", [delta]);
            }
            ItemKind::Custom => {
                let text = self.coming.0.add(text);
                self.add_free_text(&text);
            }
            // An action is told when it is whole.
            ItemKind::LocalShell => (),
        }
    }

    fn add_free_text(&mut self, text: &str) {
        if !text.is_empty() {
            self.coming.1.push_str(text);
            self.tell("response.custom_tool_call_input.delta", [("delta", Json::from_fragment(text))]);
        }
    }

    fn close(&mut self, status: &'static str) {
        let text = self.item.text();
        let all = Json::from_fragment(&text);
        match self.item.sort {
            ItemKind::Text => {
                self.tell(
                    "response.output_text.done",
                    [("text", all), ("logprobs", Json::Array(Vec::new()))],
                );
                self.tell("response.content_part.done", [("part", self.item.part(&text))]);
            }
            ItemKind::Refusal => {
                self.tell("response.refusal.done", [("refusal", all)]);
                self.tell("response.content_part.done", [("part", self.item.part(&text))]);
            }
            ItemKind::Reasoning(_) => {
                self.tell("response.reasoning_summary_text.done", [("text", all)]);
                self.tell("response.reasoning_summary_part.done", [("part", self.item.part(&text))]);
            }
            ItemKind::Function | ItemKind::Namespaced { .. } => {
                // Arguments that are nothing in deltas are an empty object all the same.
                if self.item.has_none() {
                    self.add(&text);
                }
                let name = self.item.name();
                self.tell("response.function_call_arguments.done", [("name", name), ("arguments", all)]);
            }
            ItemKind::Custom => {
                let rest = text.strip_prefix(self.coming.1.as_str()).unwrap_or_default();
                self.add_free_text(rest);
                self.tell("response.custom_tool_call_input.done", [("input", all)]);
            }
            ItemKind::LocalShell => (),
        }
        let item = self.item.done(status);
        self.tell_item("response.output_item.done", item);
    }

    fn tell_item(&mut self, kind: &str, item: Json<'static>) {
        let place = ("output_index", Json::from(self.number));
        self.out.push(event(self.next, kind, [place, ("item", item)]));
    }

    /// An event within the item.
    fn tell<const N: usize>(&mut self, kind: &str, members: [(&'static str, Json<'static>); N]) {
        let part = match self.item.sort {
            ItemKind::Text | ItemKind::Refusal => Some("content_index"),
            ItemKind::Reasoning(_) => Some("summary_index"),
            _ => None,
        };
        let id = Json::from(self.item.id().as_str());
        let place = [("item_id", id), ("output_index", self.number.into())];
        let place = place.into_iter().chain(part.map(|key| (key, Json::from(0_u64))));
        self.out.push(event(self.next, kind, place.chain(members)));
    }
}

fn event(
    next: &mut u64,
    kind: &str,
    members: impl IntoIterator<Item = (&'static str, Json<'static>)>,
) -> String {
    let mut event = Json::object([("type", kind.into()), ("sequence_number", (*next).into())]);
    *next += 1;
    for (key, value) in members {
        event.put(key, value);
    }
    event.to_string()
}
