//! The vectors of `tests/data/sse/`, derived from the WHATWG standard, with various chunk boundaries.

use super::*;
use proptest::prelude::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct DecoderVector {
    name: String,
    /// One character a byte.
    chunks: Vec<String>,
    expect: Vec<Expected>,
    #[serde(rename = "final")]
    last: Final,
    /// Total number of events after each chunk.
    eager: Option<Vec<usize>>,
}

#[derive(Deserialize)]
struct Expected {
    event: String,
    data: String,
    id: Option<String>,
    /// Not part of an event; `Final` has it, too.
    retry: Option<u64>,
}

#[derive(Deserialize)]
struct Final {
    last_event_id: String,
    retry_ms: Option<u64>,
}

#[derive(Deserialize)]
struct EncoderVector {
    name: String,
    event: Option<String>,
    id: Option<String>,
    data: String,
    reject: bool,
    wire: Option<String>,
    #[serde(default)]
    decoded: Vec<Expected>,
}

impl DecoderVector {
    fn chunks(&self) -> Vec<Vec<u8>> {
        let byte = |c| u8::try_from(c).expect("one character a byte");
        self.chunks.iter().map(|chunk| chunk.chars().map(|c| byte(u32::from(c))).collect()).collect()
    }

    fn check<'a>(&self, how: &str, chunks: impl IntoIterator<Item = &'a [u8]>) {
        let Self { name, expect, last, .. } = self;
        let mut decoder = Decoder::new();
        let events = feed_all(&mut decoder, chunks);
        assert_eq!(events, wanted(expect), "{name}, {how}");
        assert_eq!(decoder.last_event_id(), last.last_event_id, "{name}, {how}");
        assert_eq!(decoder.retry_ms(), last.retry_ms, "{name}, {how}");
        assert!(expect.iter().all(|event| event.retry.is_none_or(|ms| Some(ms) == last.retry_ms)), "{name}");
        assert_eq!(decoder.discarded(), 0, "{name}, {how}");
    }
}

fn wanted(expect: &[Expected]) -> Vec<EventParts> {
    expect.iter().map(|e| (e.event.clone(), e.data.clone(), e.id.clone())).collect()
}

fn read<T: for<'de> Deserialize<'de>>(lines: &str) -> Vec<T> {
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn decoder_vectors() -> Vec<DecoderVector> {
    let vectors = read(include_str!("../../../tests/data/sse/decoder.jsonl"));
    assert_eq!(vectors.len(), 173);
    vectors
}

/// F12, F14: CRLF, BOM, comments, invalid retries.
#[test]
fn every_vector_decodes_in_its_own_chunks() {
    for vector in decoder_vectors() {
        vector.check("as it is", vector.chunks().iter().map(Vec::as_slice));
    }
}

/// F12: split at every byte.
#[test]
fn every_vector_decodes_the_same_in_other_chunks() {
    for vector in decoder_vectors() {
        let whole = vector.chunks().concat();
        vector.check("whole", [whole.as_slice()]);
        for size in 1..=3 {
            vector.check(&format!("{size} bytes"), whole.chunks(size));
            let with_empty = whole.chunks(size).flat_map(|chunk| [&[][..], chunk, &[]]);
            vector.check(&format!("{size} bytes, empty chunks between"), with_empty);
        }
        // Skip long vectors, since the time is quadratic.
        if whole.len() < 1000 {
            for cut in 0..=whole.len() {
                let (head, tail) = whole.split_at(cut);
                vector.check(&format!("cut at {cut}"), [head, tail]);
            }
        }
    }
}

proptest! {
    // Each case is all the vectors.
    #![proptest_config(ProptestConfig::with_cases(20))]

    #[test]
    fn every_vector_decodes_the_same_in_chunks_of_any_size(sizes in super::properties::sizes()) {
        for vector in decoder_vectors() {
            vector.check(&format!("{sizes:?}"), super::properties::cut(&vector.chunks().concat(), &sizes));
        }
    }
}

#[test]
fn an_event_is_complete_at_its_blank_line() {
    for vector in decoder_vectors() {
        let Some(eager) = &vector.eager else { continue };
        let mut decoder = Decoder::new();
        let mut count = 0;
        let counts = vector.chunks().into_iter().map(|chunk| {
            decoder.feed(&chunk);
            count += drain(&mut decoder).len();
            count
        });
        assert_eq!(&counts.collect::<Vec<_>>(), eager, "{}", vector.name);
    }
}

#[test]
fn every_encoder_vector_is_written_and_read_back() {
    let vectors: Vec<EncoderVector> = read(include_str!("../../../tests/data/sse/encoder.jsonl"));
    assert_eq!(vectors.len(), 21);
    for EncoderVector { name, event, id, data, reject, wire, decoded } in vectors {
        let mut out = Vec::new();
        let written = write_event(&mut out, event.as_deref(), id.as_deref(), &data);
        assert_eq!(written.is_err(), reject, "{name}");
        assert_eq!(String::from_utf8(out.clone()).unwrap(), wire.unwrap_or_default(), "{name}");
        assert_eq!(feed_all(&mut Decoder::new(), [out.as_slice()]), wanted(&decoded), "{name}");
    }
}
