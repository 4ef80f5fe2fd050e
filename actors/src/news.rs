//! Lines of the log that the hub can cause as often as it likes.

use std::cell::RefCell;

use tokio::time::Instant;
use wire::pace::{LINES, Pace};

thread_local! {
    // One arbiter runs all of it.
    static BEGAN: Instant = Instant::now();
    static PACE: RefCell<Pace> = RefCell::new(Pace::new(LINES));
}

/// Logs a line at `$level`, unless there were enough of this kind of this source in this minute.
macro_rules! news {
    ($level:ident, $kind:expr, $source:expr, $($line:tt)+) => {
        if $crate::news::is_due($kind, $source) {
            // The end of the target says that it was counted: whoever writes the log counts all others.
            log::$level!(target: concat!(module_path!(), "::news"), $($line)+);
        }
    };
}
pub(crate) use news;

/// Whether a line of this kind, of this source, is to be logged. Where nobody counts any more, at a thread's end or in a
/// panic within the count, it is.
pub(crate) fn is_due(kind: &'static str, source: &str) -> bool {
    tell_missed();
    let tells = PACE.try_with(|pace| pace.try_borrow_mut().map_or(true, |mut pace| pace.tells(kind, source)));
    tells.unwrap_or(true)
}

/// Says how many lines were left out, when it is time.
pub(crate) fn tell_missed() {
    let missed = PACE.try_with(|pace| {
        let now = Instant::now().saturating_duration_since(BEGAN.with(|began| *began));
        pace.try_borrow_mut().map(|mut pace| pace.missed(now)).unwrap_or_default()
    });
    for missed in missed.unwrap_or_default() {
        log::info!("{missed}");
    }
}
