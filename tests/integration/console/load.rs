//! Tasks of the page that are too long, on a machine that may be busy with other tests.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::Value;
use testkit::browser::Browser;
use tokio::time::Instant;

/// Steps of the piece of work that is timed again and again: about a millisecond.
const STEPS: u64 = 200_000;
/// Pause between two pieces, so that the measurement is a small part of the load.
const PAUSE: Duration = Duration::from_millis(15);

/// A measurement of how much slower than alone a thread runs here, which a page's tasks suffer, too.
pub(super) struct Slowdown {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Duration>>,
}

impl Slowdown {
    pub(super) fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut times = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let begun = Instant::now();
                black_box((0..STEPS).fold(0_u64, |sum, step| black_box(sum.wrapping_mul(31) ^ step)));
                times.push(begun.elapsed());
                thread::sleep(PAUSE);
            }
            times
        });
        Self { stop, thread }
    }

    /// The factor that all but a hundredth of the pieces stayed below, against the fastest one.
    fn end(self) -> f64 {
        self.stop.store(true, Ordering::Relaxed);
        let mut times = self.thread.join().unwrap();
        times.sort_unstable();
        times[times.len() * 99 / 100].as_secs_f64() / times[0].as_secs_f64()
    }
}

/// Has the page note its tasks of more than 50 ms from now on.
pub(super) async fn note_long_tasks(page: &Browser) {
    page.js(
        "(window.long = [], new PerformanceObserver((list) => window.long.push(...list.getEntries().map(({ duration }) => duration))) \
         .observe({ entryTypes: ['longtask'] }), 0)",
    )
    .await;
}

/// Checks that no task was longer than `most` ms, by the clock of a machine that is not busy.
pub(super) async fn no_task_was_longer_than(page: &Browser, most: f64, slowdown: Slowdown) {
    let factor = slowdown.end();
    let long = page.js("window.long").await;
    let worst = long.as_array().unwrap().iter().filter_map(Value::as_f64).fold(0.0, f64::max);
    assert!(
        worst <= most * factor,
        "tasks of {long} ms, where work takes {factor:.1} times as long as alone"
    );
}

/// Has the page count from now on how often the conversation changes, with how many new elements, and the frames.
pub(super) async fn count_changes(page: &Browser) {
    page.js(
        "(window.changes = 0, window.added = 0, window.frame_count = 0, \
         new MutationObserver((records) => { window.changes += 1; for (const { addedNodes } of records) window.added += addedNodes.length; }) \
         .observe(document.querySelector('.log'), { childList: true, characterData: true, subtree: true }), \
         requestAnimationFrame(function tick() { window.frame_count += 1; requestAnimationFrame(tick); }), 0)",
    )
    .await;
}

/// Checks that the conversation changed at most twice in a frame, and that what was there of the answer was kept.
pub(super) async fn frames_and_kept_blocks(page: &Browser) {
    let counted = page.js("[window.changes, window.frame_count, window.added, document.querySelectorAll('.assistant .said *').length]").await;
    let [changes, frames, added, elements] = [0, 1, 2, 3].map(|at| counted[at].as_u64().unwrap());
    assert!(changes <= 2 * frames, "{changes} changes in {frames} frames");
    assert!(added <= 3 * elements, "{added} nodes were added for {elements} elements");
}
