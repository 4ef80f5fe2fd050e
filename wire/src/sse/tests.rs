//! Helpers of all SSE tests, and tests of `Debug`, borrowing and the encoder.

mod limit;
mod properties;
mod vectors;

use super::*;

/// Name, data and id of an event, which unlike [`Event`] show the data in `Debug`.
type EventParts = (String, String, Option<String>);

fn parts(event: Event) -> EventParts {
    (event.name().to_owned(), event.data, event.id)
}

fn drain(decoder: &mut Decoder) -> Vec<EventParts> {
    std::iter::from_fn(|| decoder.next_event()).map(parts).collect()
}

fn feed_all<'a>(decoder: &mut Decoder, chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<EventParts> {
    let mut events = Vec::new();
    for chunk in chunks {
        decoder.feed(chunk);
        events.extend(drain(decoder));
    }
    events
}

#[test]
fn debug_output_shows_no_prompt_and_no_answer() {
    let mut decoder = Decoder::new();
    decoder.feed(b"id: private\ndata: private\n\ndata: private");
    let event = decoder.next_event().unwrap();
    assert!(!format!("{decoder:?} {event:?}").contains("private"));
}

#[test]
fn a_whole_frame_in_one_chunk_is_not_copied() {
    let chunk = b"event: task\ndata: whole\n\ndata: half".as_slice();
    let mut rest = chunk;
    let mut decoder = Decoder::new();
    let frame = decoder.decode(&mut rest).unwrap();
    assert!(matches!(frame.data, Cow::Borrowed("whole")));
    assert!(matches!(frame.event, Some(Cow::Borrowed("task"))));
    assert!(decoder.decode(&mut rest).is_none());
    assert!(rest.is_empty());
    let mut rest = b"\n\n".as_slice();
    assert_eq!(decoder.decode(&mut rest).unwrap().data, "half");
}

#[test]
fn an_explicit_default_type_is_the_default_type() {
    let mut decoder = Decoder::new();
    decoder.feed(b"event: message\ndata: x\n\n");
    assert_eq!(decoder.next_event().unwrap().event, None);
}

#[test]
fn a_rejected_field_writes_nothing_and_is_not_quoted() {
    let mut out = Vec::new();
    let error = write_event(&mut out, Some("task"), Some("forged\ndata: x"), "x").unwrap_err();
    assert_eq!(error.to_string(), "an SSE id must not contain CR, LF or NUL");
    assert!(write_event(&mut out, Some("a\0b"), None, "x").is_err());
    assert!(out.is_empty());
}

#[test]
fn a_ping_is_a_comment_and_a_blank_line() {
    let mut out = Vec::new();
    write_comment(&mut out, "ping");
    assert_eq!(out, b": ping\n\n");
}
