//! A logger that stores log lines, separately for each thread.

use std::cell::RefCell;
use std::sync::Once;

use log::{LevelFilter, Log, Metadata, Record};

/// The stored lines of a thread, and the log target whose lines are stored.
#[derive(Default)]
struct Captured {
    target: &'static str,
    lines: Vec<String>,
}

thread_local! {
    static CAPTURED: RefCell<Captured> = RefCell::default();
}

struct ThreadLog;

impl Log for ThreadLog {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let line = format!("{} {}", record.level(), record.args());
        // Fails at the end of the thread.
        let _ = CAPTURED.try_with(|captured| {
            let mut captured = captured.borrow_mut();
            if !captured.target.is_empty() && record.target().starts_with(captured.target) {
                captured.lines.push(line);
            }
        });
    }

    fn flush(&self) {}
}

/// Starts to store the log lines of `target` and its submodules on this thread, at every level.
pub fn listen(target: &'static str) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&ThreadLog).expect("no other logger in a test");
        log::set_max_level(LevelFilter::Trace);
    });
    CAPTURED.set(Captured { target, lines: Vec::new() });
}

/// The stored lines that contain `text`, each as `LEVEL message`.
pub fn lines_with(text: &str) -> Vec<String> {
    CAPTURED
        .with_borrow(|captured| captured.lines.iter().filter(|line| line.contains(text)).cloned().collect())
}
