//! Properties for any text and any chunk boundaries.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

/// Text with many kinds of line breaks and field names.
fn text() -> impl Strategy<Value = String> {
    "([a-z: ]|\r|\n|\r\n|\0|\u{feff}|\u{2028}|\u{85}|é|😀|data: |event: done\n|id: 1\n|retry: 1\n|:){0,30}"
}

/// A valid type or id, except `message` and the empty one, which are not read back.
fn field() -> impl Strategy<Value = Option<String>> {
    proptest::option::of("[ :a-zé\u{2028}]{1,8}")
}

/// Bytes that resemble a stream.
fn wire() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        8 => prop::sample::select(vec![
            &b"\n"[..], b"\r", b"\r\n", b"\n\n", b"data", b"event", b"id", b"retry", b":", b": ", b" ", b"data: ", b"x", b"12",
            b"\0", b"\xef\xbb\xbf", b"\xf0\x9f\x98\x80", b"\xf0\x9f", b"\xff", b"0123456789",
        ]).prop_map(<[u8]>::to_vec),
        1 => vec(any::<u8>(), 0..4),
    ];
    vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

/// Splits `bytes` into chunks of these sizes, repeated.
pub(super) fn cut<'a>(mut bytes: &'a [u8], sizes: &[usize]) -> Vec<&'a [u8]> {
    let mut chunks = Vec::new();
    for size in sizes.iter().cycle() {
        if bytes.is_empty() {
            break;
        }
        let (chunk, rest) = bytes.split_at(bytes.len().min(*size));
        chunks.push(chunk);
        bytes = rest;
    }
    chunks
}

/// Chunk sizes, some of them 0 but not all.
pub(super) fn sizes() -> impl Strategy<Value = Vec<usize>> {
    (vec(0_usize..9, 0..6), 1_usize..40).prop_map(|(mut sizes, last)| {
        sizes.push(last);
        sizes
    })
}

/// The observable state of a decoder after these chunks.
fn outcome(limit: usize, chunks: &[&[u8]]) -> (Vec<EventParts>, String, Option<u64>, u64) {
    let mut decoder = Decoder::with_limit(limit);
    let events = feed_all(&mut decoder, chunks.iter().copied());
    (events, decoder.last_event_id().to_owned(), decoder.retry_ms(), decoder.discarded())
}

fn read_as(data: &str) -> String {
    data.replace("\r\n", "\n").replace('\r', "\n")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// F12: any text, in chunks of any size.
    #[test]
    fn chunk_boundaries_do_not_change_the_events(wire in wire(), sizes in sizes(), limit in 0_usize..60) {
        prop_assert_eq!(outcome(limit, &cut(&wire, &sizes)), outcome(limit, &[&wire]));
    }

    #[test]
    fn written_events_are_read_back(
        events in vec((field(), field(), text()), 0..6),
        sizes in sizes(),
    ) {
        let mut wire = Vec::new();
        let mut last_id = None;
        let mut expected = Vec::new();
        for (event, id, data) in &events {
            write_event(&mut wire, event.as_deref(), id.as_deref(), data).unwrap();
            last_id = id.clone().or(last_id);
            let name = event.clone().unwrap_or_else(|| DEFAULT_EVENT.to_owned());
            expected.push((name, read_as(data), last_id.clone()));
        }
        prop_assert_eq!(outcome(DEFAULT_MAX_FRAME, &cut(&wire, &sizes)).0, expected);
    }

    /// A19: the text cannot end an event or begin another one.
    #[test]
    fn n_writes_of_any_text_are_n_events(texts in vec((text(), text()), 0..10)) {
        let mut wire = Vec::new();
        for (data, comment) in &texts {
            write_comment(&mut wire, comment);
            write_data(&mut wire, data);
        }
        let seen = outcome(DEFAULT_MAX_FRAME, &[&wire]);
        let expected = texts.iter().map(|(data, _)| (DEFAULT_EVENT.to_owned(), read_as(data), None)).collect();
        prop_assert_eq!(seen, (expected, String::new(), None, 0));
    }

    /// A19: a type or id cannot end its line.
    #[test]
    fn a_type_or_id_with_a_line_break_is_rejected(event in text(), id in text()) {
        let mut wire = Vec::new();
        let clean = |text: &str| !text.contains(['\r', '\n', '\0']);
        let written = write_event(&mut wire, Some(&event), Some(&id), "x");
        prop_assert_eq!(written.is_ok(), clean(&event) && clean(&id));
        let count = usize::from(written.is_ok());
        prop_assert_eq!(outcome(DEFAULT_MAX_FRAME, &[&wire]).0.len(), count);
    }

    /// F07: the stream continues after a frame that is too long.
    #[test]
    fn no_event_is_longer_than_the_limit(
        lengths in vec(0_usize..40, 0..10),
        sizes in sizes(),
    ) {
        const LIMIT: usize = 20;
        let mut wire = Vec::new();
        for length in &lengths {
            write_data(&mut wire, &"x".repeat(*length));
        }
        let (events, _, _, discarded) = outcome(LIMIT, &cut(&wire, &sizes));
        let seen: Vec<_> = events.iter().map(|(_, data, _)| data.len()).collect();
        let fitting: Vec<_> = lengths.iter().copied().filter(|length| *length <= LIMIT).collect();
        prop_assert_eq!(discarded, (lengths.len() - fitting.len()) as u64);
        prop_assert_eq!(seen, fitting);
    }
}
