//! Limits of the lines that one place in the code writes.

use std::time::Duration;

use log::{Level, Metadata, Record};
use parking_lot::Mutex;
use tokio::time::Instant;
use wire::pace::Pace;

/// Most lines a minute from one place in the code of [`OWN_CRATES`](super::OWN_CRATES): twenty for each of thirty users.
const MAX_LINES: u32 = 600;
/// Most lines a minute from one place in the code of other crates.
const MAX_OTHER_LINES: u32 = 20;
/// Suffix of the target of lines that hub and registrar limit by their source, with the macro `news!`.
pub(super) const COUNTED: &str = "::news";

/// Counts the lines of each place in the code, for all lines without a limit by source.
pub(super) struct Limits {
    pub(super) start: Instant,
    own: Mutex<Pace>,
    others: Mutex<Pace>,
}

impl Default for Limits {
    fn default() -> Self {
        let [own, others] = [MAX_LINES, MAX_OTHER_LINES].map(|lines| Mutex::new(Pace::new(lines)));
        Self { start: Instant::now(), own, others }
    }
}

impl Limits {
    /// Whether a line is written, and notices about dropped lines.
    pub(super) fn check(&self, record: &Record<'_>, after: Duration) -> (bool, Vec<String>) {
        // Levels below `info` have no limit.
        if record.level() > Level::Info || record.target().ends_with(COUNTED) {
            return (true, Vec::new());
        }
        let mut missed = Vec::new();
        let [own, others] = [&self.own, &self.others].map(|pace| {
            let mut pace = pace.lock();
            missed.extend(pace.missed(after));
            pace
        });
        let mut pace = if is_own(record.metadata()) { own } else { others };
        // Records of `tracing` have no file.
        let (file, line) =
            (record.file().unwrap_or_else(|| record.target()), record.line().unwrap_or_default());
        let is_due = pace.tells(PLACE, &format!("{file}:{line}"));
        let notices = missed
            .into_iter()
            .map(|missed| format!("{} more lines in the last minute from {}", missed.count, missed.source));
        (is_due, notices.collect())
    }
}

/// Kind of all entries of a [`Pace`] here.
const PLACE: &str = "place";

pub(super) fn is_own(metadata: &Metadata<'_>) -> bool {
    super::OWN_CRATES.contains(&metadata.target().split("::").next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: &str = "hub::connections";

    fn check(
        limits: &Limits,
        target: &str,
        file: Option<&'static str>,
        level: Level,
        seconds: u64,
    ) -> (bool, Vec<String>) {
        let mut record = Record::builder();
        record.target(target).file_static(file).line(Some(1)).level(level);
        limits.check(&record.build(), Duration::from_secs(seconds))
    }

    #[test]
    fn lines_of_one_place_are_limited_and_dropped_ones_counted() {
        let limits = Limits::default();
        let count = |target, file, level| {
            (0..2000).filter(|_| check(&limits, target, Some(file), level, 59).0).count()
        };
        assert_eq!(
            (
                count(HERE, "a.rs", Level::Warn),
                count(HERE, "b.rs", Level::Info),
                count(HERE, "a.rs", Level::Debug)
            ),
            (600, 600, 2000)
        );
        let (is_due, mut missed) = check(&limits, HERE, Some("a.rs"), Level::Info, 60);
        missed.sort();
        assert!(is_due);
        assert_eq!(
            missed,
            [
                "1400 more lines in the last minute from a.rs:1",
                "1400 more lines in the last minute from b.rs:1"
            ]
        );
    }

    #[test]
    fn lines_of_libraries_are_limited_with_and_without_a_file() {
        let limits = Limits::default();
        for (target, file) in [("actix_http::h1::dispatcher", None), ("rustls::conn", Some("conn.rs"))] {
            let lines = (0..100_000).filter(|_| check(&limits, target, file, Level::Error, 1).0).count();
            assert_eq!(lines, 20, "{target}");
        }
        let mut missed = check(&limits, HERE, None, Level::Info, 61).1;
        missed.sort();
        assert_eq!(
            missed,
            [
                "99980 more lines in the last minute from actix_http::h1::dispatcher:1",
                "99980 more lines in the last minute from conn.rs:1"
            ]
        );
    }

    #[test]
    fn a_line_that_is_limited_by_its_source_is_not_limited_by_its_place() {
        let (limits, mut pace) = (Limits::default(), Pace::new(wire::pace::LINES));
        for user in 0..40 {
            let lines = (0..50).filter(|_| {
                pace.tells("failed", &format!("user {user}"))
                    && check(&limits, "hub::telemetry::inference::news", Some("inference.rs"), Level::Info, 1)
                        .0
            });
            assert_eq!(lines.count(), 20, "user {user}");
        }
    }
}
