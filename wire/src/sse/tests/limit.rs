//! Frames over the limit are dropped, in bounded memory, and the stream continues.

use super::*;

const LIMIT: usize = 16;

fn stream(pieces: &[&str]) -> Vec<u8> {
    pieces.concat().into_bytes()
}

/// Checks the data of the events and the number of discarded frames for every chunk size.
#[track_caller]
fn check(stream: &[u8], data: &[&str], discarded: u64) {
    for size in 1..=stream.len() {
        let mut decoder = Decoder::with_limit(LIMIT);
        let events = feed_all(&mut decoder, stream.chunks(size));
        assert_eq!(events.iter().map(|(_, data, _)| data).collect::<Vec<_>>(), data, "{size} bytes");
        assert_eq!(decoder.discarded(), discarded, "{size} bytes");
    }
}

#[test]
fn a_frame_of_exactly_the_limit_is_accepted() {
    let fits = "x".repeat(LIMIT);
    check(&stream(&["data: ", &fits, "\n\ndata: ", &fits, "y\n\ndata: after\n\n"]), &[&fits, "after"], 1);
}

#[test]
fn the_limit_counts_the_lines_together() {
    check(b"data: 12345678\ndata: 1234567\n\n", &["12345678\n1234567"], 0);
    check(b"data: 12345678\ndata: 12345678\n\ndata: after\n\n", &["after"], 1);
    check(
        &stream(&[&"data\n".repeat(LIMIT + 1), "\n", &"data\n".repeat(LIMIT + 2), "\n"]),
        &[&"\n".repeat(LIMIT)],
        1,
    );
}

#[test]
fn a_field_that_is_replaced_counts() {
    check(b"event: 12345678\nevent: 12345678\ndata: x\n\ndata: after\n\n", &["after"], 1);
    check(b"id: 1234567890123456789\ndata: x\n\ndata: after\n\n", &["after"], 1);
    check(b"retry: 00000000000000000\ndata: x\n\ndata: after\n\n", &["after"], 1);
}

#[test]
fn comments_and_unknown_fields_do_not_count() {
    let long = "c".repeat(100 * LIMIT);
    check(&stream(&[":", &long, "\nunknown: ", &long, "\n", &long, "\ndata: x\n\n"]), &["x"], 0);
    check(&stream(&[&":\n".repeat(100), "data: x\n\n"]), &["x"], 0);
}

#[test]
fn a_discarded_frame_leaves_no_id_and_no_type_behind() {
    let mut decoder = Decoder::with_limit(LIMIT);
    let events =
        feed_all(&mut decoder, [&b"id: 1\nevent: a\ndata: 123456789012345\nretry: 5\n\ndata: x\n\n"[..]]);
    assert_eq!(events, [("message".to_owned(), "x".to_owned(), None)]);
    assert_eq!((decoder.last_event_id(), decoder.retry_ms(), decoder.discarded()), ("", None, 1));
}

#[test]
fn a_discarded_frame_is_counted_at_once() {
    let mut decoder = Decoder::with_limit(LIMIT);
    decoder.feed(b"data: 12345678901234567");
    assert_eq!(decoder.discarded(), 1);
    for more in ["89\ndata: more\n", "event: e\r\n", "id: 7\r", "\n: comment\n", "data: x\n"] {
        decoder.feed(more.as_bytes());
        assert_eq!(decoder.next_event(), None);
    }
    decoder.feed(b"\ndata: y\n\n");
    assert_eq!(drain(&mut decoder), [("message".to_owned(), "y".to_owned(), None)]);
    assert_eq!(decoder.discarded(), 1);
}

/// P7, F07: the memory for one line is bounded.
#[test]
fn an_endless_line_holds_no_more_than_the_limit() {
    for line in ["data: ", "event: ", "id: ", "retry: ", ": ", "unknown: ", "data", "\u{feff}data: "] {
        let mut decoder = Decoder::with_limit(1000);
        decoder.feed(line.as_bytes());
        for _ in 0..10_000 {
            decoder.feed(b"0123456789");
            // Vectors grow by doubling.
            assert!(decoder.buffered_bytes() <= 2 * 1000 + line.len(), "{line}");
        }
        decoder.feed(b"\n\n");
        assert!(decoder.buffered_bytes() <= 1000, "{line}");
    }
}

/// P7, F07: the memory for all lines of a frame is bounded.
#[test]
fn endless_lines_hold_no_more_than_the_limit() {
    for line in
        ["data: 12345\n", "data\n", "event: 12345\n", "id: 12345\n", "retry: 1\n", ": 12345\n", "12345\n"]
    {
        let mut decoder = Decoder::with_limit(1000);
        for _ in 0..10_000 {
            decoder.feed(line.as_bytes());
            assert!(decoder.buffered_bytes() <= 2 * 1000, "{line}");
        }
    }
}

/// F07: the decoder frees the memory of a large frame.
#[test]
fn memory_is_freed_after_a_huge_frame() {
    let mut decoder = Decoder::new();
    for chunk in [&b"data: "[..], &vec![b'x'; 1 << 20], &vec![b'y'; 1 << 20], b"\n\n"] {
        decoder.feed(chunk);
    }
    decoder.feed(&b"data: x\n\n".repeat(1000));
    assert_eq!(drain(&mut decoder).len(), 1001);
    assert!(decoder.buffered_bytes() < 1000);
}

#[test]
fn a_frame_of_single_bytes_is_decoded_in_linear_time() {
    // In quadratic time, these 4 MB would take hours.
    let mut decoder = Decoder::new();
    decoder.feed(b"event: ");
    (0..1 << 20).for_each(|_| decoder.feed(b"e"));
    for _ in 0..3 {
        decoder.feed(b"\ndata: ");
        (0..1 << 20).for_each(|_| decoder.feed(b"x"));
    }
    decoder.feed(b"\n\n");
    let event = decoder.next_event().unwrap();
    assert_eq!((event.name().len(), event.data.len()), (1 << 20, (3 << 20) + 2));
}
