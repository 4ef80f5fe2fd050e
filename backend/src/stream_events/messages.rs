//! The events of a message.

use wire::json::{JsonError, quote};

use super::{EventWriter, members, opening, try_for_each};

/// Converts a message. Readers build it from the events of its blocks.
pub(super) fn message_events(body: &str) -> Result<Vec<String>, JsonError> {
    let mut events = EventWriter::new(body, false);
    let [content, reason, sequence, usage] =
        members(body, ["content", "stop_reason", "stop_sequence", "usage"])?;
    let usage = usage.unwrap_or("null");
    let opened = [
        ("content", "[]"),
        ("stop_reason", "null"),
        ("stop_sequence", "null"),
        // Usage is always included, even if other members do not fit.
        ("usage", usage),
    ];
    events.write("message_start", &[("message", &opening(body, &opened)?)])?;
    try_for_each(content, |index, block| block_events(&index.to_string(), block, &mut events))?;
    let [reason, sequence] = [reason, sequence].map(|value| value.unwrap_or("null"));
    let delta = format!(r#"{{"stop_reason":{reason},"stop_sequence":{sequence}}}"#);
    events.write("message_delta", &[("delta", &delta), ("usage", usage)])?;
    events.write("message_stop", &[])?;
    Ok(events.events)
}

fn block_events(index: &str, block: &str, events: &mut EventWriter) -> Result<(), JsonError> {
    let [kind, text, thinking, input] = members(block, ["type", "text", "thinking", "input"])?;
    let index = ("index", index);
    let (emptied, delta) = match kind {
        Some(r#""text""#) => {
            (("text", r#""""#), format!(r#"{{"type":"text_delta","text":{}}}"#, text.unwrap_or("null")))
        }
        Some(r#""thinking""#) => (
            ("thinking", r#""""#),
            format!(r#"{{"type":"thinking_delta","thinking":{}}}"#, thinking.unwrap_or("null")),
        ),
        Some(r#""tool_use""#) => {
            let input = quote(input.unwrap_or("null"));
            (("input", "{}"), format!(r#"{{"type":"input_json_delta","partial_json":{input}}}"#))
        }
        _ => {
            events.write("content_block_start", &[index, ("content_block", block)])?;
            return events.write("content_block_stop", &[index]);
        }
    };
    events.write("content_block_start", &[index, ("content_block", &opening(block, &[emptied])?)])?;
    events.write("content_block_delta", &[index, ("delta", &delta)])?;
    events.write("content_block_stop", &[index])
}
