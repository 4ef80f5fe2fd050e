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
            // The end of the target says that it was counted: whoever writes the log counts all others.
            log::$level!(target: concat!(module_path!(), "::news"), $($line)+);
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

/// Lets lines of this level be made, for whoever counts what they cost.
#[cfg(test)]
pub(crate) fn are_made() {
    log::set_max_level(log::LevelFilter::Info);
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// Where a line is logged by itself: what the hub does of its own accord, what its pace is told of by the code around
    /// it, and what somebody who may do so changed of what others see.
    const BY_ITSELF: [&str; 11] = [
        "auth/tokens.rs",
        "quota/memory.rs",
        "news.rs",
        "dispatch/run.rs",
        "http/manage.rs",
        "http/names.rs",
        "http/naming.rs",
        "http/pools.rs",
        "http/tokens.rs",
        "server/",
        "store/",
    ];

    fn log_lines(dir: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                log_lines(&path, found);
            } else if std::fs::read_to_string(&path).unwrap().contains("log::") {
                found.push(path.to_str().unwrap().to_owned());
            }
        }
    }

    /// What a caller or a publisher can cause as often as it likes is logged at a pace.
    #[test]
    fn what_others_can_cause_is_logged_at_a_pace() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut found = Vec::new();
        log_lines(&root, &mut found);
        let is_known = |path: &String| {
            let path = path.strip_prefix(root.to_str().unwrap()).unwrap().trim_start_matches('/');
            BY_ITSELF.iter().any(|known| path.starts_with(known))
        };
        assert!(found.len() > 8);
        found.retain(|path| !is_known(path));
        assert!(found.is_empty(), "use news!, or say why here: {found:?}");
    }
}
