//! What a stream's reader holds, and what it makes of a stream.

use std::sync::Arc;

use proptest::prelude::*;
use wire::task::Endpoint;

use super::*;
use crate::quota::{ByteKind, ByteQuota, MemoryBudget, Quota};
use crate::telemetry::Metrics;

const CHAT: EventFormat = EventFormat { endpoint: Endpoint::ChatCompletions, drops_usage: false };

/// P7: a piece is counted for its caller instead of its publisher, so that both counts do not need memory at once.
#[test]
fn a_piece_counts_for_its_caller_in_place_of_its_publisher() {
    const SIZE: usize = BUDGET / 8;
    // More than the process has: other tests run beside.
    const BUDGET: usize = 1 << 40;
    let metrics = Metrics::new().unwrap();
    let memory = Arc::new(MemoryBudget::new(Some(BUDGET as u64), metrics.of_machine().unwrap()));
    let quotas = [ByteKind::Results, ByteKind::Unread].map(|kind| Quota::of_bytes(&memory, kind));
    let [results, unread] =
        quotas.each_ref().map(|quota| ByteQuota::new(quota, "alice", usize::MAX, "bytes"));
    let (channel, _pieces) = ResponseChannel::new(unread);
    let mut reader = EventReader::new("alice", CHAT, results.empty());
    reader.count(SIZE).unwrap();
    memory.take(BUDGET);
    assert!(channel.count(SIZE).is_none(), "the piece is counted twice");
    assert!(reader.hand_over(&channel, SIZE).is_some_and(|bytes| bytes.size() == SIZE));
    assert_eq!(reader.held.size(), 0);
}

/// A23, A24: the piece before a malformed event is handed over beside a larger incomplete event.
#[actix_rt::test]
async fn a_piece_before_a_malformed_event_is_handed_over() {
    let quota = ByteQuota::new(&Arc::<Quota>::default(), "alice", usize::MAX, "results");
    let mut reader = EventReader::new("alice", CHAT, quota.empty());
    let unread = ByteQuota::new(&Arc::<Quota>::default(), "bob", 0, "answers");
    let (channel, _pieces) = ResponseChannel::new(unread);
    reader.read(format!("data: {{\"a\":\"{}", "x".repeat(6 << 10)).as_bytes()).await;
    let rest = format!("\"}}\n\nid: {}\ndata: 5\n\n", "y".repeat(50 << 10));
    let (piece, state) = reader.read(rest.as_bytes()).await;
    assert!(matches!(state, StreamState::Broken(_)));
    assert!(reader.hand_over(&channel, piece.unwrap().size()).is_none());
}

/// An event of a chat completion, as servers write them.
fn event() -> impl Strategy<Value = String> {
    let data = |data: &str| format!("data: {data}\n\n");
    let usage =
        r#""usage":{"prompt_tokens":9,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":7}}"#;
    let kinds = [
        data(r#"{"id":"c","choices":[{"index":0,"delta":{"role":"assistant","content":""}}],"usage":null}"#),
        data(r#"{"id":"c","choices":[{"index":0,"delta":{"content":"é \"usage\" [DONE]"}}]}"#),
        data(&format!(r#"{{"choices":[{{"index":0,"delta":{{"content":"a"}}}}],{usage}}}"#)),
        data(&format!(r#"{{ "choices" : [ ] , {usage} }}"#)),
        format!("data:{{\"choices\":[],\r\ndata: {usage}}}\r\n\r\n"),
        data(
            r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"timings":{"cache_n":1,"prompt_n":2,"predicted_n":3}}"#,
        ),
        data(r#"{"choices":[],"prompt_filter_results":[]}"#),
        ": keepalive\n\n".to_owned(),
    ];
    prop::sample::select(kinds.to_vec())
}

proptest! {
    /// The caller gets the same bytes and the records the same counts, however a stream is cut, and if a classic publisher
    /// posts its events one by one.
    #[test]
    fn a_stream_is_the_same_however_it_is_cut(
        events in prop::collection::vec(event(), 0..12),
        cuts in prop::collection::vec(1_usize..60, 1..20),
        drops_usage in any::<bool>(),
    ) {
        let format = EventFormat { drops_usage, ..CHAT };
        let runtime = actix_rt::Runtime::new().unwrap();
        let (mut posted, mut expected) = (Vec::new(), Tally::default());
        let mut decoder = Decoder::new();
        let mut rest = events.concat();
        rest.push_str("data: [DONE]\n\n");
        let mut whole = rest.as_bytes();
        while let Some(frame) = decoder.decode(&mut whole) {
            if frame.data != DONE {
                expected.add(encode::write_counted(format, &frame.data, &mut posted).unwrap());
            }
        }
        let quota = ByteQuota::new(&Arc::<Quota>::default(), "alice", usize::MAX, "results");
        let mut reader = EventReader::new("alice", format, quota.empty());
        let (mut read, mut counted, mut is_done) = (Vec::new(), Tally::default(), false);
        let mut rest = rest.as_bytes();
        for size in cuts.iter().cycle() {
            let (cut, later) = rest.split_at(rest.len().min(*size));
            rest = later;
            let (piece, state) = runtime.block_on(reader.read(cut));
            if let Some(ResponsePiece::Events { bytes, tally, .. }) = piece {
                read.extend_from_slice(&bytes);
                counted.add(tally);
            }
            is_done |= matches!(state, StreamState::Ended(ResponsePiece::Done));
            if rest.is_empty() {
                break;
            }
        }
        prop_assert!(is_done);
        prop_assert_eq!((&read, counted), (&posted, expected));
        let read = String::from_utf8(read).unwrap();
        let dropped = read.split_terminator("\n\n").filter(|event| event.contains("\"choices\":[],\"usage\"")).count();
        prop_assert!(!drops_usage || dropped == 0, "{read}");
        let content = events.iter().filter(|event| event.contains("\"delta\":{\"content\"")).count();
        prop_assert_eq!((counted.content, read.matches("\"delta\":{\"content\"").count()), (content as u64, content));
    }

    /// A24, P7: a piece that waits for its caller and the incomplete event after it count together; when the piece is sent,
    /// the incomplete event counts alone.
    #[test]
    fn what_a_stream_holds_counts_for_its_publisher(
        sizes in proptest::collection::vec(1_usize..100_000, 1..5),
        reads in proptest::collection::vec(1_usize..60_000, 1..9),
        most in prop_oneof![Just(usize::MAX), 10_000_usize..200_000],
    ) {
        let quota = ByteQuota::new(&Arc::<Quota>::default(), "alice", most, "results");
        let mut reader = EventReader::new("alice", CHAT, quota.empty());
        let unread = ByteQuota::new(&Arc::<Quota>::default(), "bob", usize::MAX, "answers");
        let (channel, _pieces) = ResponseChannel::new(unread);
        let event = |size: &usize| format!("data: {{\"a\":\"{}\"}}\n\n", "x".repeat(*size));
        let events = sizes.iter().map(event).collect::<Vec<_>>().concat();
        let mut rest = events.as_bytes();
        // Large events are parsed on another thread.
        let runtime = actix_rt::Runtime::new().unwrap();
        for size in reads.iter().cycle() {
            let (read, later) = rest.split_at(rest.len().min(*size));
            rest = later;
            let (piece, state) = runtime.block_on(reader.read(read));
            let piece = piece.map_or(0, |piece| piece.size());
            let half = reader.decoder.buffered_bytes();
            if matches!(state, StreamState::Broken(_)) {
                prop_assert!(piece == 0 && most < usize::MAX);
                break;
            }
            let held = reader.held.size();
            prop_assert!(held + UNCOUNTED + UNCOUNTED_PIECE >= piece + half, "{held} of {piece} and {half}");
            prop_assert!(reader.hand_over(&channel, piece).is_some());
            let held = reader.held.size();
            prop_assert!(held <= half && held + UNCOUNTED >= half, "{held} of {half}");
            if rest.is_empty() {
                break;
            }
        }
    }
}
