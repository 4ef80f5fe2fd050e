//! However a stream is cut into pieces, the decoder gives the same events, and never more memory than its limit.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::sse::Decoder;

const LIMIT: usize = 1024;

fuzz_target!(|input: (usize, &[u8])| {
    let (cut, bytes) = input;
    let events = |pieces: &[&[u8]]| {
        let mut decoder = Decoder::with_limit(LIMIT);
        let mut events = Vec::new();
        for piece in pieces {
            decoder.feed(piece);
            while let Some(event) = decoder.next_event() {
                assert!(event.data.len() <= 3 * LIMIT);
                events.push((event.event, event.data, event.id));
            }
        }
        (events, decoder.retry_ms(), decoder.discarded())
    };
    let (left, right) = bytes.split_at(cut % (bytes.len() + 1));
    let whole = events(&[bytes]);
    assert_eq!(whole, events(&[left, right]));
    assert_eq!(whole, events(&bytes.chunks(1).collect::<Vec<_>>()));
});
