//! Rate-limited log lines, for events that a caller or a publisher can cause at will.

use std::sync::LazyLock;

use parking_lot::Mutex;
use tokio::time::Instant;
use wire::pace::{LINES, Pace};

static START: LazyLock<Instant> = LazyLock::new(Instant::now);
static PACE: LazyLock<Mutex<Pace>> = LazyLock::new(|| Mutex::new(Pace::new(LINES)));

/// Logs a line at `$level`, unless the lines of this kind and source exceed their limit of this minute. Fields in
/// brackets, such as `[user = user]`, are members of the line in `--log-format json`; the text has them, too.
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

/// Counts a line of this kind and source; `true` if it may be logged.
pub(crate) fn is_due(kind: &'static str, source: &str) -> bool {
    log_suppressed();
    PACE.lock().tells(kind, source)
}

/// Logs the numbers of suppressed lines, once a minute.
pub(crate) fn log_suppressed() {
    let lines = PACE.lock().missed(Instant::now().saturating_duration_since(*START));
    for line in lines {
        wire::log_with!(info, [kind = line.kind], "{line}");
    }
}

/// Enables log lines, for tests that count their cost.
#[cfg(test)]
pub(crate) fn enable() {
    log::set_max_level(log::LevelFilter::Info);
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// Files that may log without `news!`: their lines are about the hub itself, about what admins change, or are limited by
    /// the code around them.
    const UNLIMITED: [&str; 12] = [
        "auth/tokens.rs",
        "cluster/nats.rs",
        "cluster/relay/schedules.rs",
        "cluster/run.rs",
        "quota/memory.rs",
        "news.rs",
        "http/llms.rs",
        "http/naming.rs",
        "http/tokens.rs",
        "http/users.rs",
        "server/",
        "store/",
    ];

    fn find_log_calls(dir: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                find_log_calls(&path, found);
                continue;
            }
            // The console's files are no code of the hub.
            if path.extension().is_none_or(|end| end != "rs") {
                continue;
            }
            // Lines below the level `info` are for whoever debugs a hub.
            let source = std::fs::read_to_string(&path).unwrap().replace("log::debug!", "");
            if source.contains("log::") || source.contains("log_with!") {
                found.push(path.to_str().unwrap().to_owned());
            }
        }
    }

    #[test]
    fn log_lines_that_peers_can_cause_are_rate_limited() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut found = Vec::new();
        find_log_calls(&root, &mut found);
        let is_known = |path: &String| {
            let path = path.strip_prefix(root.to_str().unwrap()).unwrap().trim_start_matches('/');
            UNLIMITED.iter().any(|known| path.starts_with(known))
        };
        assert!(found.len() > 8);
        found.retain(|path| !is_known(path));
        assert!(found.is_empty(), "use news!, or add the file here: {found:?}");
    }
}
