//! Encodes an answer as the events of a response.

use super::super::Context;
use super::super::blocks::{AnswerBuilder, BlockEvent};
use super::super::json::Json;
use super::super::stream::{EventEncoder, StreamTranslator};
use super::answer::{end_of, response, status_of};
use super::free_text::FreeTextDecoder;
use super::output::{ItemKind, OutputItem};

/// Creates a translator of chunks to the events of a response.
pub fn stream_translator(context: Context) -> StreamTranslator {
    StreamTranslator::new(context, ResponseEvents::default())
}

#[derive(Debug, Default)]
struct ResponseEvents {
    /// Number of the next event.
    sequence_number: u64,
    /// Decodes the open call of a tool with free text.
    free_text: FreeTextDecoder,
    /// The decoded text in earlier events.
    emitted: String,
}

impl EventEncoder for ResponseEvents {
    fn start(&mut self, answer: &AnswerBuilder, context: &Context, out: &mut Vec<String>) {
        let response = response(answer, None, context);
        out.push(self.event("response", "created", [("response", response.clone())]));
        out.push(self.event("response", "in_progress", [("response", response)]));
    }

    fn block(&mut self, event: BlockEvent, answer: &AnswerBuilder, context: &Context, out: &mut Vec<String>) {
        let (BlockEvent::Open(number) | BlockEvent::Add(number, _) | BlockEvent::Close(number)) = event;
        let item = OutputItem::new(&answer.blocks[number], number, context);
        match event {
            BlockEvent::Open(_) => self.open(&item, out),
            BlockEvent::Add(_, text) => self.add(&item, &text, out),
            BlockEvent::Close(_) => self.close(&item, status_of(answer, number), out),
        }
    }

    fn finish(&mut self, answer: &AnswerBuilder, context: &Context, out: &mut Vec<String>) {
        let end = end_of(answer);
        let response = response(answer, Some(end), context);
        out.push(self.event("response", end.0, [("response", response)]));
    }
}

impl ResponseEvents {
    fn open(&mut self, item: &OutputItem<'_>, out: &mut Vec<String>) {
        (self.free_text, self.emitted) = Default::default();
        out.push(self.item_event(item, "added", item.opening()));
        if let Some((event, _)) = item.names().part {
            out.push(self.event_in(item, event, "added", [("part", item.part(""))]));
        }
    }

    fn add(&mut self, item: &OutputItem<'_>, text: &str, out: &mut Vec<String>) {
        match item.kind {
            ItemKind::Custom => {
                let text = self.free_text.push(text);
                self.add_free_text(item, &text, out);
            }
            _ => out.extend(self.text_event(item, "delta", "delta", text)),
        }
    }

    fn add_free_text(&mut self, item: &OutputItem<'_>, text: &str, out: &mut Vec<String>) {
        if !text.is_empty() {
            self.emitted.push_str(text);
            out.extend(self.text_event(item, "delta", "delta", text));
        }
    }

    fn close(&mut self, item: &OutputItem<'_>, status: &'static str, out: &mut Vec<String>) {
        let text = item.text();
        match item.kind {
            ItemKind::Custom => {
                let rest = text.strip_prefix(self.emitted.as_str()).unwrap_or_default();
                self.add_free_text(item, rest, out);
            }
            // Absent arguments are an empty object.
            ItemKind::Function | ItemKind::Namespaced { .. } if item.is_empty() => {
                out.extend(self.text_event(item, "delta", "delta", &text));
            }
            _ => (),
        }
        out.extend(self.text_event(item, "done", item.names().text_key, &text));
        if let Some((event, _)) = item.names().part {
            out.push(self.event_in(item, event, "done", [("part", item.part(&text))]));
        }
        out.push(self.item_event(item, "done", item.done(status)));
    }

    /// Builds the event of a whole item.
    fn item_event(&mut self, item: &OutputItem<'_>, suffix: &str, json: Json<'static>) -> String {
        self.event("response.output_item", suffix, [("output_index", item.index()), ("item", json)])
    }

    /// Builds the event of a text in `item`; `None` if it has no such events.
    fn text_event(
        &mut self,
        item: &OutputItem<'_>,
        suffix: &str,
        key: &'static str,
        text: &str,
    ) -> Option<String> {
        let event = item.names().text?;
        let has_name =
            suffix == "done" && matches!(item.kind, ItemKind::Function | ItemKind::Namespaced { .. });
        let name = has_name.then(|| ("name", item.name()));
        let logprobs = (item.kind == ItemKind::Text).then(|| ("logprobs", Json::Array(Vec::new())));
        let members = name.into_iter().chain([(key, Json::from_fragment(text))]).chain(logprobs);
        Some(self.event_in(item, event, suffix, members))
    }

    /// Builds an event within `item`.
    fn event_in(
        &mut self,
        item: &OutputItem<'_>,
        event: &str,
        suffix: &str,
        members: impl IntoIterator<Item = (&'static str, Json<'static>)>,
    ) -> String {
        let place = [("item_id", Json::from(item.id().as_str())), ("output_index", item.index())];
        let part = item.names().part.map(|(_, key)| (key, Json::from(0_u64)));
        self.event(event, suffix, place.into_iter().chain(part).chain(members))
    }

    fn event(
        &mut self,
        event: &str,
        suffix: &str,
        members: impl IntoIterator<Item = (&'static str, Json<'static>)>,
    ) -> String {
        let kind = Json::raw(format!("\"{event}.{suffix}\""));
        let mut out = Json::object([("type", kind), ("sequence_number", self.sequence_number.into())]);
        self.sequence_number += 1;
        for (key, value) in members {
            out.put(key, value);
        }
        out.to_string()
    }
}
