//! `news!`: log lines with a limit of 20 a minute for each kind and source, for events that a peer can cause without limit.

use std::cell::RefCell;

use tokio::time::Instant;
use wire::pace::{LINES, Pace};

thread_local! {
    // All actors run on one thread.
    static START: Instant = Instant::now();
    static PACE: RefCell<Pace> = RefCell::new(Pace::new(LINES));
}

/// Logs a line at `$level`, unless 20 lines of this kind from this source were logged in this minute.
macro_rules! news {
    ($level:ident, $kind:expr, $source:expr, [$($fields:tt)*], $($line:tt)+) => {
        if $crate::news::is_due($kind, $source) {
            // The suffix of the target marks the line as counted: the logger counts all others.
            wire::log_with!($level, target: concat!(module_path!(), "::news"), [kind = $kind, $($fields)*], $($line)+);
        }
    };
    ($level:ident, $kind:expr, $source:expr, $($line:tt)+) => {
        $crate::news::news!($level, $kind, $source, [], $($line)+)
    };
}
pub(crate) use news;

/// [`news!`] with the hub as its source.
macro_rules! hub_news {
    ($level:ident, $kind:expr, $($line:tt)+) => {
        $crate::news::news!($level, $kind, "the hub", $($line)+)
    };
}
pub(crate) use hub_news;

/// Whether a line of this kind from this source is within the limit. True if the count is not available: at the end of a thread,
/// or in a panic while counting.
pub(crate) fn is_due(kind: &'static str, source: &str) -> bool {
    log_suppressed();
    let is_due =
        PACE.try_with(|pace| pace.try_borrow_mut().map_or(true, |mut pace| pace.tells(kind, source)));
    is_due.unwrap_or(true)
}

/// Logs once a minute how many lines were suppressed.
pub(crate) fn log_suppressed() {
    let suppressed = PACE.try_with(|pace| {
        let now = Instant::now().saturating_duration_since(START.with(|start| *start));
        pace.try_borrow_mut().map(|mut pace| pace.missed(now)).unwrap_or_default()
    });
    for line in suppressed.unwrap_or_default() {
        wire::log_with!(info, [kind = line.kind], "{line}");
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_source_has_a_limited_number_of_lines_a_minute() {
        let count = |source| (0..1000).filter(|_| super::is_due("lines of this test", source)).count();
        let lines = usize::try_from(wire::pace::LINES).unwrap();
        for source in ["the hub", "gpu"] {
            // A new minute may begin meanwhile.
            assert!((lines..=2 * lines).contains(&count(source)), "{source}");
        }
    }
}
