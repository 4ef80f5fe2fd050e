//! Lines of the log that a caller or a publisher can cause as often as it likes.

use std::sync::LazyLock;

use parking_lot::Mutex;
use tokio::time::Instant;
use wire::pace::{LINES, Pace};

static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
static PACE: LazyLock<Mutex<Pace>> = LazyLock::new(|| Mutex::new(Pace::new(LINES)));

/// Logs a line at `$level`, unless there were enough of this kind from this source in this minute.
macro_rules! news {
    ($level:ident, $kind:expr, $source:expr, $($line:tt)+) => {
        if $crate::news::is_due($kind, $source) {
            log::$level!($($line)+);
        }
    };
}
pub(crate) use news;

/// Whether a line of this kind, from this source, is to be logged.
pub(crate) fn is_due(kind: &'static str, source: &str) -> bool {
    tell_missed();
    PACE.lock().tells(kind, source)
}

/// Says how many lines were left out, when it is time.
pub(crate) fn tell_missed() {
    let missed = PACE.lock().missed(Instant::now().saturating_duration_since(*BEGAN));
    for missed in missed {
        log::info!("{missed}");
    }
}
