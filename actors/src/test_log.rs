//! A logger that keeps the lines of each thread, for tests.

use std::cell::RefCell;
use std::sync::Once;

use log::{LevelFilter, Log, Metadata, Record};

thread_local! {
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

struct ThreadLog;

impl Log for ThreadLog {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        if record.target().starts_with(env!("CARGO_CRATE_NAME")) {
            // Fails at the end of the thread.
            let line = format!("{} {}", record.level(), record.args());
            let _ = LINES.try_with(|lines| lines.borrow_mut().push(line));
        }
    }

    fn flush(&self) {}
}

/// Keeps the lines of this thread from here on, at every level.
pub(crate) fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&ThreadLog).expect("no other logger in a test");
        log::set_max_level(LevelFilter::Trace);
    });
    LINES.take();
}

/// The lines that contain `text`, as `LEVEL message`.
pub(crate) fn lines_with(text: &str) -> Vec<String> {
    LINES.with_borrow(|lines| lines.iter().filter(|line| line.contains(text)).cloned().collect())
}
