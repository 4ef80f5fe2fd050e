//! Limits log lines about events that a peer can cause without limit: the first lines of each kind and source in a minute are
//! logged, the others are counted. Pure: the time is passed in.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

/// Length of a counting window.
pub const WINDOW: Duration = Duration::from_mins(1);
/// Most lines of one kind and source in a [`WINDOW`].
pub const LINES: u32 = 20;
/// Most sources that are counted separately. Further sources share one count.
const SOURCES: usize = 4096;
/// The source name of the shared count.
const OTHERS: &str = "others";

/// Counts lines by kind and source.
#[derive(Debug)]
pub struct Pace {
    lines: u32,
    /// Start of the current window.
    began: Duration,
    kinds: HashMap<&'static str, HashMap<Box<str>, u64>>,
    sources: usize,
}

/// The number of suppressed lines of one kind and source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missed {
    /// Kind of the lines.
    pub kind: &'static str,
    /// Source of the lines, such as a user or a place in the code.
    pub source: Box<str>,
    /// Number of suppressed lines.
    pub count: u64,
}

impl fmt::Display for Missed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} more in the last minute: {} of {}", self.count, self.kind, self.source)
    }
}

impl Pace {
    /// Allows at most `lines` of one kind and source in a [`WINDOW`].
    pub fn new(lines: u32) -> Self {
        Self { lines, began: Duration::ZERO, kinds: HashMap::new(), sources: 0 }
    }

    /// Counts a line, and returns whether to log it. Call [`missed`](Self::missed) first.
    pub fn tells(&mut self, kind: &'static str, source: &str) -> bool {
        let sources = self.kinds.entry(kind).or_default();
        let count = match sources.get_mut(source) {
            Some(count) => count,
            None if self.sources < SOURCES => {
                self.sources += 1;
                sources.entry(source.into()).or_default()
            }
            None => sources.entry(OTHERS.into()).or_default(),
        };
        *count += 1;
        *count <= u64::from(self.lines)
    }

    /// If the window is over, returns the suppressed lines and starts a new window.
    pub fn missed(&mut self, now: Duration) -> Vec<Missed> {
        if now.saturating_sub(self.began) < WINDOW {
            return Vec::new();
        }
        self.began = now;
        self.sources = 0;
        let lines = u64::from(self.lines);
        let of = |(kind, sources): (&'static str, HashMap<Box<str>, u64>)| {
            let over = sources.into_iter().filter(move |(_, count)| *count > lines);
            over.map(move |(source, count)| Missed { kind, source, count: count - lines })
        };
        std::mem::take(&mut self.kinds).into_iter().flat_map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_first_lines_of_each_kind_and_source_are_logged_and_the_rest_counted() {
        let mut pace = Pace::new(2);
        let told = |pace: &mut Pace, kind, source| (0..5).filter(|_| pace.tells(kind, source)).count();
        assert_eq!(told(&mut pace, "lost", "alice"), 2);
        assert_eq!(told(&mut pace, "lost", "bob"), 2, "another source has its own limit");
        assert_eq!(told(&mut pace, "refused", "alice"), 2, "another kind has its own limit");
        assert!(pace.tells("once", "alice"));
        assert_eq!(pace.missed(at(59)), []);
        assert!(!pace.tells("lost", "alice"));
        let mut missed: Vec<String> = pace.missed(at(60)).iter().map(ToString::to_string).collect();
        missed.sort();
        assert_eq!(
            missed,
            [
                "3 more in the last minute: lost of bob",
                "3 more in the last minute: refused of alice",
                "4 more in the last minute: lost of alice",
            ]
        );
        assert!(pace.tells("lost", "alice"), "the next minute allows new lines");
        assert_eq!(pace.missed(at(120)), []);
    }

    #[test]
    fn sources_beyond_the_limit_share_one_count() {
        let mut pace = Pace::new(3);
        let told = (0..1_000_000).filter(|n: &u32| pace.tells("lost", &n.to_string())).count();
        assert_eq!(told, SOURCES + 3);
        let missed = pace.missed(at(60));
        assert_eq!((missed.len(), &*missed[0].source), (1, OTHERS));
        assert_eq!(usize::try_from(missed[0].count).unwrap(), 1_000_000 - told);
    }

    proptest! {
        /// For any sequence of lines, each line is logged or counted.
        #[test]
        fn every_line_is_logged_or_counted(lines in prop::collection::vec((0..3_usize, 0..4_u8, 0..40_u64), 0..300)) {
            let mut pace = Pace::new(3);
            let (mut now, mut told, mut missed) = (0, 0, 0);
            let all = lines.len() as u64;
            for (kind, source, pause) in lines {
                now += pause;
                missed += pace.missed(at(now)).iter().map(|missed| missed.count).sum::<u64>();
                told += u64::from(pace.tells(["a", "b", "c"][kind], &source.to_string()));
            }
            missed += pace.missed(at(now + 60)).iter().map(|missed| missed.count).sum::<u64>();
            prop_assert_eq!(told + missed, all);
        }
    }
}
