//! The SSE decoder alone.

use std::hint::black_box;
use std::time::Instant;

use crate::figures::Figures;

/// Frames as tasks come, in reads of 64 KiB.
pub fn tasks(figures: &Figures) {
    const BYTES: usize = 64 << 20;
    let mut row = Vec::new();
    for (name, size) in [("of 400 bytes", 400), ("of 4 KB", 4000), ("of 64 KB", 64_000)] {
        let frame =
            format!("event: task\ndata: {{\"kind\":\"infer\",\"request\":\"{}\"}}\n\n", "x".repeat(size));
        let input = frame.repeat(BYTES / frame.len());
        let mut best = f64::MAX;
        for _ in 0..5 {
            let (mut decoder, mut frames) = (wire::sse::Decoder::new(), 0);
            let start = Instant::now();
            for mut chunk in input.as_bytes().chunks(64 << 10) {
                while let Some(frame) = decoder.decode(&mut chunk) {
                    frames += black_box(frame.data.len()).min(1);
                }
            }
            best = best.min(start.elapsed().as_secs_f64());
            assert_eq!(frames, BYTES / frame.len());
        }
        row.push((name, format!("{:.1} GB/s", input.len() as f64 / best / 1e9)));
    }
    figures.row("SSE decoding, task frames", &row);
}
