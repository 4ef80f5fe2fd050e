//! The events of a response.

use wire::json::JsonError;

use super::{EventWriter, members, opening, try_for_each};

/// Converts a response. Readers build it from the events of its items, after the opening events.
pub(super) fn response_events(body: &str) -> Result<Vec<String>, JsonError> {
    let mut events = EventWriter::new(body, true);
    let [status, output] = members(body, ["status", "output"])?;
    let opened = opening(body, &[("status", r#""in_progress""#), ("output", "[]"), ("usage", "null")])?;
    events.write("response.created", &[("response", &opened)])?;
    events.write("response.in_progress", &[("response", &opened)])?;
    try_for_each(output, |index, item| item_events(&index.to_string(), item, &mut events))?;
    let end = match status {
        Some(r#""failed""#) => "response.failed",
        Some(r#""incomplete""#) => "response.incomplete",
        _ => "response.completed",
    };
    events.write(end, &[("response", body)])?;
    Ok(events.events)
}

fn item_events(index: &str, item: &str, events: &mut EventWriter) -> Result<(), JsonError> {
    if !item.starts_with('{') {
        return Ok(());
    }
    let [id, kind, name, content, arguments, input] =
        members(item, ["id", "type", "name", "content", "arguments", "input"])?;
    let id = id.unwrap_or("null");
    let empty = |key: &'static str, value: Option<&str>, empty: &'static str| value.map(|_| (key, empty));
    let emptied = [
        Some(("status", r#""in_progress""#)),
        empty("content", content, "[]"),
        empty("arguments", arguments, r#""""#),
        empty("input", input, r#""""#),
    ];
    let emptied: Vec<_> = emptied.into_iter().flatten().collect();
    events.write(
        "response.output_item.added",
        &[("output_index", index), ("item", &opening(item, &emptied)?)],
    )?;
    try_for_each(content, |place, part| part_events(index, id, &place.to_string(), part, events))?;
    let arguments = arguments.filter(|arguments| arguments.starts_with('"'));
    if let (Some(r#""function_call""#), Some(arguments)) = (kind, arguments) {
        let about = [("output_index", index), ("item_id", id)];
        let [output, item_id] = about;
        events.write("response.function_call_arguments.delta", &[output, item_id, ("delta", arguments)])?;
        let name = ("name", name.unwrap_or("null"));
        events.write(
            "response.function_call_arguments.done",
            &[output, item_id, name, ("arguments", arguments)],
        )?;
    }
    events.write("response.output_item.done", &[("output_index", index), ("item", item)])
}

fn part_events(
    index: &str,
    id: &str,
    place: &str,
    part: &str,
    events: &mut EventWriter,
) -> Result<(), JsonError> {
    let about = [("output_index", index), ("item_id", id), ("content_index", place)];
    let [output, item_id, content] = about;
    let [kind, text, refusal] = members(part, ["type", "text", "refusal"])?;
    let emptied = [text.map(|_| ("text", r#""""#)), refusal.map(|_| ("refusal", r#""""#))];
    let emptied: Vec<_> = emptied.into_iter().flatten().collect();
    let empty = if part.starts_with('{') { opening(part, &emptied)? } else { part.to_owned() };
    events.write("response.content_part.added", &[output, item_id, content, ("part", &empty)])?;
    let text = [text, refusal].into_iter().flatten().find(|text| text.starts_with('"'));
    if let (Some(r#""output_text""#), Some(text)) = (kind, text) {
        let none = ("logprobs", "[]");
        events.write("response.output_text.delta", &[output, item_id, content, ("delta", text), none])?;
        events.write("response.output_text.done", &[output, item_id, content, ("text", text), none])?;
    }
    events.write("response.content_part.done", &[output, item_id, content, ("part", part)])
}
