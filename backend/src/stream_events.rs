//! An answer in one piece for a caller who asked for pieces, in the shape of each endpoint's stream. Pure.
//!
//! An answer may be as large as a body and its events say much of it several times. They are made of the places of its
//! parts in its text, never of a tree, and of as many bytes as its size allows.

use std::fmt::Write;

use wire::json::{JsonError, compact, each_element, each_member, quote, unquote};
use wire::openai::completion_as_chunk;
use wire::task::Endpoint;

use crate::BackendError;
use crate::offload::offload;

/// Bytes of what an object's beginning says: a response repeats its instructions and tools there. What does not fit is said
/// at the end alone.
const BEGINNING: usize = 256 << 10;

/// What the events of one answer may take: so many times its size, since a text is said five times (delta, done, part,
/// item, response) and escapes may double one.
const TIMES: usize = 8;

/// And so many bytes besides, for the frames of some thousand items.
const FRAMES: usize = 4 << 20;

/// The events that say what `body` says, the end mark left out.
pub fn stream_events(endpoint: Endpoint, body: &str) -> Result<Vec<String>, JsonError> {
    let body = compact(body)?;
    if !body.starts_with('{') {
        return Err(JsonError::NotAnObject);
    }
    Ok(match endpoint {
        Endpoint::ChatCompletions => vec![completion_as_chunk(&body)?],
        Endpoint::Responses => response_events(&body)?,
        Endpoint::Messages => message_events(&body)?,
        // A text completion's chunk looks as the whole does; the others have no stream of their own.
        Endpoint::Completions | Endpoint::Embeddings | Endpoint::Rerank => vec![body],
    })
}

/// As [`stream_events`], away from the thread that serves everybody where `body` is large: `user` waits for it, and users take
/// turns.
pub async fn offload_stream_events(
    user: &str,
    endpoint: Endpoint,
    body: String,
) -> Result<Result<Vec<String>, JsonError>, BackendError> {
    offload(user, body.len(), move || stream_events(endpoint, &body)).await
}

/// Events that are being told.
struct Told {
    events: Vec<String>,
    /// Bytes that they may still take.
    room: usize,
    numbered: bool,
}

impl Told {
    fn new(body: &str, numbered: bool) -> Self {
        Self { events: Vec::new(), room: TIMES * body.len() + FRAMES, numbered }
    }

    /// Tells an event of type `kind` with these members, JSON texts by plain keys.
    fn tell(&mut self, kind: &str, members: &[(&str, &str)]) -> Result<(), JsonError> {
        /// The frame of an event, and its place in the list of them.
        const FRAME: usize = 128;

        let size = members.iter().fold(FRAME, |size, (key, value)| size + key.len() + value.len() + 4);
        self.room = self.room.checked_sub(size).ok_or(JsonError::TooManyParts)?;
        let mut event = String::with_capacity(size);
        let _ = write!(event, r#"{{"type":"{kind}""#);
        if self.numbered {
            let _ = write!(event, r#","sequence_number":{}"#, self.events.len());
        }
        for (key, value) in members {
            let _ = write!(event, r#","{key}":{value}"#);
        }
        event.push('}');
        self.events.push(event);
        Ok(())
    }
}

/// A member's text, of duplicates the last; `None` where it is `null` or not there.
type Found<'a> = Option<&'a str>;

/// The members `keys` of `object`; none of what is no object.
fn members<'a, const N: usize>(object: &'a str, keys: [&str; N]) -> Result<[Found<'a>; N], JsonError> {
    let mut found = [None; N];
    each_member(object, |key, value| {
        if let Some(place) = place(key, &keys) {
            found[place] = Some(value).filter(|value| *value != "null");
        }
    })?;
    Ok(found)
}

/// Which of `keys` the quoted `key` is.
fn place(key: &str, keys: &[&str]) -> Option<usize> {
    let key = unquote(key)?;
    keys.iter().position(|other| *other == key)
}

/// `object` at its beginning: with the `given` members in the place of its own, and of the others those that fit.
fn begun(object: &str, given: &[(&str, &str)]) -> Result<String, JsonError> {
    let keys: Vec<&str> = given.iter().map(|(key, _)| *key).collect();
    let mut out = String::from("{");
    let mut add = |key: &str, value: &str| {
        let comma = if out.len() > 1 { "," } else { "" };
        let _ = write!(out, "{comma}{key}:{value}");
    };
    let mut room = BEGINNING;
    each_member(object, |key, value| {
        let size = key.len() + value.len();
        if size <= room && place(key, &keys).is_none() {
            room -= size;
            add(key, value);
        }
    })?;
    for (key, value) in given {
        add(&quote(key), value);
    }
    out.push('}');
    Ok(out)
}

/// Calls `each` for each element of the list `list`, until one fails.
fn for_each<'a>(
    list: Found<'a>,
    mut each: impl FnMut(usize, &'a str) -> Result<(), JsonError>,
) -> Result<(), JsonError> {
    let (mut index, mut done) = (0, Ok(()));
    each_element(list.unwrap_or("[]"), |element| {
        if done.is_ok() {
            done = each(index, element);
            index += 1;
        }
    })?;
    done
}

/// A whole response as the events of its stream. Readers build it from its items, and expect its beginning first.
fn response_events(body: &str) -> Result<Vec<String>, JsonError> {
    let mut told = Told::new(body, true);
    let [status, output] = members(body, ["status", "output"])?;
    let beginning = begun(body, &[("status", r#""in_progress""#), ("output", "[]"), ("usage", "null")])?;
    told.tell("response.created", &[("response", &beginning)])?;
    told.tell("response.in_progress", &[("response", &beginning)])?;
    for_each(output, |index, item| item_events(&index.to_string(), item, &mut told))?;
    let end = match status {
        Some(r#""failed""#) => "response.failed",
        Some(r#""incomplete""#) => "response.incomplete",
        _ => "response.completed",
    };
    told.tell(end, &[("response", body)])?;
    Ok(told.events)
}

fn item_events(index: &str, item: &str, told: &mut Told) -> Result<(), JsonError> {
    if !item.starts_with('{') {
        return Ok(());
    }
    let [id, kind, name, content, arguments, input] =
        members(item, ["id", "type", "name", "content", "arguments", "input"])?;
    let id = id.unwrap_or("null");
    let empty = |key: &'static str, value: Found<'_>, empty: &'static str| value.map(|_| (key, empty));
    let emptied = [
        Some(("status", r#""in_progress""#)),
        empty("content", content, "[]"),
        empty("arguments", arguments, r#""""#),
        empty("input", input, r#""""#),
    ];
    let emptied: Vec<_> = emptied.into_iter().flatten().collect();
    told.tell("response.output_item.added", &[("output_index", index), ("item", &begun(item, &emptied)?)])?;
    for_each(content, |place, part| part_events(index, id, &place.to_string(), part, told))?;
    let arguments = arguments.filter(|arguments| arguments.starts_with('"'));
    if let (Some(r#""function_call""#), Some(arguments)) = (kind, arguments) {
        let about = [("output_index", index), ("item_id", id)];
        let [output, item_id] = about;
        told.tell("response.function_call_arguments.delta", &[output, item_id, ("delta", arguments)])?;
        let name = ("name", name.unwrap_or("null"));
        told.tell(
            "response.function_call_arguments.done",
            &[output, item_id, name, ("arguments", arguments)],
        )?;
    }
    told.tell("response.output_item.done", &[("output_index", index), ("item", item)])
}

fn part_events(index: &str, id: &str, place: &str, part: &str, told: &mut Told) -> Result<(), JsonError> {
    let about = [("output_index", index), ("item_id", id), ("content_index", place)];
    let [output, item_id, content] = about;
    let [kind, text, refusal] = members(part, ["type", "text", "refusal"])?;
    let emptied = [text.map(|_| ("text", r#""""#)), refusal.map(|_| ("refusal", r#""""#))];
    let emptied: Vec<_> = emptied.into_iter().flatten().collect();
    let empty = if part.starts_with('{') { begun(part, &emptied)? } else { part.to_owned() };
    told.tell("response.content_part.added", &[output, item_id, content, ("part", &empty)])?;
    let text = [text, refusal].into_iter().flatten().find(|text| text.starts_with('"'));
    if let (Some(r#""output_text""#), Some(text)) = (kind, text) {
        let none = ("logprobs", "[]");
        told.tell("response.output_text.delta", &[output, item_id, content, ("delta", text), none])?;
        told.tell("response.output_text.done", &[output, item_id, content, ("text", text), none])?;
    }
    told.tell("response.content_part.done", &[output, item_id, content, ("part", part)])
}

/// A whole message as the events of its stream. Readers build it from its blocks, so an end alone would be empty.
fn message_events(body: &str) -> Result<Vec<String>, JsonError> {
    let mut told = Told::new(body, false);
    let [content, reason, sequence, usage] =
        members(body, ["content", "stop_reason", "stop_sequence", "usage"])?;
    let usage = usage.unwrap_or("null");
    let beginning = [
        ("content", "[]"),
        ("stop_reason", "null"),
        ("stop_sequence", "null"),
        // What it has cost must not go missing for want of room.
        ("usage", usage),
    ];
    told.tell("message_start", &[("message", &begun(body, &beginning)?)])?;
    for_each(content, |index, block| block_events(&index.to_string(), block, &mut told))?;
    let [reason, sequence] = [reason, sequence].map(|said| said.unwrap_or("null"));
    let delta = format!(r#"{{"stop_reason":{reason},"stop_sequence":{sequence}}}"#);
    told.tell("message_delta", &[("delta", &delta), ("usage", usage)])?;
    told.tell("message_stop", &[])?;
    Ok(told.events)
}

fn block_events(index: &str, block: &str, told: &mut Told) -> Result<(), JsonError> {
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
            told.tell("content_block_start", &[index, ("content_block", block)])?;
            return told.tell("content_block_stop", &[index]);
        }
    };
    told.tell("content_block_start", &[index, ("content_block", &begun(block, &[emptied])?)])?;
    told.tell("content_block_delta", &[index, ("delta", &delta)])?;
    told.tell("content_block_stop", &[index])
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn types(endpoint: Endpoint, body: &Value) -> Vec<String> {
        let pieces = stream_events(endpoint, &body.to_string()).unwrap();
        let kind = |piece: &String| serde_json::from_str::<Value>(piece).unwrap();
        pieces.iter().map(kind).map(|piece| piece["type"].as_str().unwrap_or("").to_owned()).collect()
    }

    #[test]
    fn each_endpoint_gets_the_shape_of_its_stream() {
        let body = json!({ "object": "text_completion", "choices": [{ "text": "a" }] });
        assert_eq!(stream_events(Endpoint::Completions, &body.to_string()).unwrap(), [body.to_string()]);
        assert_eq!(
            types(Endpoint::Responses, &json!({ "id": "r" })),
            ["response.created", "response.in_progress", "response.completed"]
        );
        let chat = stream_events(Endpoint::ChatCompletions, r#"{ "choices": [{ "message": {} }] }"#).unwrap();
        assert_eq!(chat, [r#"{"choices":[{"delta":{}}],"object":"chat.completion.chunk"}"#]);
        for endpoint in [Endpoint::ChatCompletions, Endpoint::Completions, Endpoint::Embeddings] {
            for other in ["<html>", "null", "[{}]", "7", "\"{}\""] {
                assert!(stream_events(endpoint, other).is_err(), "{other}");
            }
        }
    }

    #[test]
    fn a_whole_message_is_built_from_its_blocks() {
        let body = json!({ "type": "message", "id": "m", "stop_reason": "tool_use", "content": [
            { "type": "text", "text": "hi" }, { "type": "tool_use", "id": "t", "name": "f", "input": { "a": 1 } } ] });
        let events = stream_events(Endpoint::Messages, &body.to_string()).unwrap();
        assert_eq!(
            types(Endpoint::Messages, &body),
            [
                "message_start",
                "content_block_start",
                "content_block_delta",
                "content_block_stop",
                "content_block_start",
                "content_block_delta",
                "content_block_stop",
                "message_delta",
                "message_stop",
            ]
        );
        let delta: Value = serde_json::from_str(&events[5]).unwrap();
        assert_eq!(delta["delta"]["partial_json"], r#"{"a":1}"#);
        assert!(events[7].contains(r#""stop_reason":"tool_use""#), "{}", events[7]);
    }

    #[test]
    fn a_whole_response_is_built_from_its_items() {
        let body = json!({ "id": "r", "status": "incomplete", "output": [
            { "type": "message", "id": "m", "content": [{ "type": "output_text", "text": "hi" }] },
            { "type": "function_call", "id": "f", "name": "g", "arguments": "{}" } ] });
        let events = stream_events(Endpoint::Responses, &body.to_string()).unwrap();
        let events: Vec<Value> = events.iter().map(|event| serde_json::from_str(event).unwrap()).collect();
        let kinds: Vec<_> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
        assert_eq!(
            kinds,
            [
                "response.created",
                "response.in_progress",
                "response.output_item.added",
                "response.content_part.added",
                "response.output_text.delta",
                "response.output_text.done",
                "response.content_part.done",
                "response.output_item.done",
                "response.output_item.added",
                "response.function_call_arguments.delta",
                "response.function_call_arguments.done",
                "response.output_item.done",
                "response.incomplete",
            ]
        );
        assert!(events.iter().enumerate().all(|(number, event)| event["sequence_number"] == number));
        assert_eq!(events[4]["delta"], "hi");
        assert_eq!(events[2]["item"]["content"], json!([]));
        assert_eq!(events[12]["response"], body);
    }

    /// Small items become many events; of those there is an end.
    #[test]
    fn an_answer_that_would_become_far_larger_is_an_error() {
        let of =
            |n: usize, item: &str| format!(r#"{{"output":[{}{item}]}}"#, format!("{item},").repeat(n - 1));
        assert!(stream_events(Endpoint::Responses, &of(4_000, r#"{"type":"message"}"#)).is_ok());
        for (n, item) in [(1 << 20, "{}".to_owned()), (1 << 16, r#"{"content":[{},{}]}"#.to_owned())] {
            assert_eq!(stream_events(Endpoint::Responses, &of(n, &item)), Err(JsonError::TooManyParts));
        }
        // A long id would stand in every event of its parts.
        let item = format!(r#"{{"id":"{}","content":[{}{{}}]}}"#, "x".repeat(1 << 20), "{},".repeat(1000));
        assert_eq!(stream_events(Endpoint::Responses, &of(1, &item)), Err(JsonError::TooManyParts));
        let blocks = of(1 << 20, "0").replace("output", "content");
        assert_eq!(stream_events(Endpoint::Messages, &blocks), Err(JsonError::TooManyParts));
    }

    /// What is large is said at the end; what small things are beside it, at the beginning too.
    #[test]
    fn the_beginning_of_a_response_has_what_fits_and_its_end_all() {
        let body = json!({ "a": "b".repeat(300 << 10), "id": "r", "status": "completed", "usage": { "n": 1 },
            "output": [{ "type": "image_generation_call", "id": "i", "result": "x".repeat(1 << 20) }] });
        let events = stream_events(Endpoint::Responses, &body.to_string()).unwrap();
        let events: Vec<Value> = events.iter().map(|event| serde_json::from_str(event).unwrap()).collect();
        let begun = json!({ "id": "r", "status": "in_progress", "usage": null, "output": [] });
        assert_eq!((&events[0]["response"], &events[1]["response"]), (&begun, &begun));
        assert_eq!(
            events[2]["item"],
            json!({ "type": "image_generation_call", "id": "i", "status": "in_progress" })
        );
        assert_eq!(events[3]["item"], body["output"][0]);
        assert_eq!(events.last().unwrap()["response"], body);
    }

    /// A reader that builds an answer from its events has the texts as they were, to the last escape.
    #[test]
    fn texts_pass_as_they_stand() {
        let text = r#""\ud83d\u0000 \"a\\ \u00e9""#;
        let body = format!(
            r#"{{"output":[{{"type":"message","id":"m","content":[{{"type":"output_text","text":{text}}}]}}]}}"#
        );
        let events = stream_events(Endpoint::Responses, &body).unwrap();
        assert!(events[4].contains(&format!(r#""delta":{text}"#)), "{}", events[4]);
        assert!(events.last().unwrap().contains(text));
        let body = format!(r#"{{"content":[{{"type":"text","text":{text}}}]}}"#);
        let events = stream_events(Endpoint::Messages, &body).unwrap();
        assert!(events[2].contains(&format!(r#""text":{text}"#)), "{}", events[2]);
    }

    /// Items that are none are left to the end.
    #[test]
    fn odd_items_are_no_panic() {
        for odd in [
            "0",
            "null",
            r#""x""#,
            "[[]]",
            "{}",
            r#"[0,"a",null,[],{}]"#,
            r#"[{"content":[0,null,[],{"text":7}]}]"#,
        ] {
            let body = format!(r#"{{"output":{odd},"content":{odd},"status":{odd},"stop_reason":{odd}}}"#);
            for endpoint in [Endpoint::Responses, Endpoint::Messages] {
                let events = stream_events(endpoint, &body).unwrap();
                assert!(
                    events.iter().all(|event| serde_json::from_str::<Value>(event).is_ok()),
                    "{events:?}"
                );
            }
        }
    }
}
