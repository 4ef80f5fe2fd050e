//! Whatever a publisher says, n writes are exactly n events with exactly its words.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::sse::{Decoder, write_comment, write_data, write_event};

fuzz_target!(|texts: Vec<(Option<String>, Option<String>, String)>| {
    let mut out = Vec::new();
    let mut written = Vec::new();
    for (event, id, data) in &texts {
        let before = out.len();
        match write_event(&mut out, event.as_deref(), id.as_deref(), data) {
            Ok(()) => written.push(data),
            Err(_) => assert_eq!(out.len(), before),
        }
        write_comment(&mut out, data);
        write_data(&mut out, data);
        written.push(data);
    }
    let mut decoder = Decoder::new();
    decoder.feed(&out);
    for data in written {
        let lines = data.replace("\r\n", "\n").replace('\r', "\n");
        assert_eq!(decoder.next_event().expect("an event each").data, lines);
    }
    assert!(decoder.next_event().is_none());
});
