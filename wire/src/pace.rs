//! How much is told of what a peer can make happen as often as it likes: the first lines of a kind and a source in each
//! minute, then how many more there were. Pure: the time is passed in.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

/// So long a count goes on.
pub const WINDOW: Duration = Duration::from_mins(1);
/// Lines of one kind and source in that time.
pub const LINES: u32 = 20;
/// Sources that are told apart; those beyond count as one.
const SOURCES: usize = 4096;
/// The source that stands for those.
const OTHERS: &str = "others";

/// Lines by kind and source.
#[derive(Debug)]
pub struct Pace {
    lines: u32,
    /// When the count began.
    began: Duration,
    kinds: HashMap<&'static str, HashMap<Box<str>, u64>>,
    sources: usize,
}

/// Lines that were not told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missed {
    /// Of which kind.
    pub kind: &'static str,
    /// From whom, or of what.
    pub source: Box<str>,
    /// How many.
    pub count: u64,
}

impl fmt::Display for Missed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} more in the last minute: {} of {}", self.count, self.kind, self.source)
    }
}

impl Pace {
    /// At most `lines` of one kind and source in a [`WINDOW`].
    pub fn new(lines: u32) -> Self {
        Self { lines, began: Duration::ZERO, kinds: HashMap::new(), sources: 0 }
    }

    /// Whether a line of this kind and source is told now. Ask for what was [`missed`](Self::missed) first.
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

    /// When the time is over: what was not told in it, and the count begins anew.
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
    fn the_first_lines_of_each_kind_and_source_are_told_and_then_how_many_more() {
        let mut pace = Pace::new(2);
        let told = |pace: &mut Pace, kind, source| (0..5).filter(|_| pace.tells(kind, source)).count();
        assert_eq!(told(&mut pace, "gone", "alice"), 2);
        assert_eq!(told(&mut pace, "gone", "bob"), 2, "another source has lines of its own");
        assert_eq!(told(&mut pace, "refused", "alice"), 2, "another kind, too");
        assert!(pace.tells("once", "alice"));
        assert_eq!(pace.missed(at(59)), []);
        assert!(!pace.tells("gone", "alice"));
        let mut missed: Vec<String> = pace.missed(at(60)).iter().map(ToString::to_string).collect();
        missed.sort();
        assert_eq!(
            missed,
            [
                "3 more in the last minute: gone of bob",
                "3 more in the last minute: refused of alice",
                "4 more in the last minute: gone of alice",
            ]
        );
        assert!(pace.tells("gone", "alice"), "a new minute");
        assert_eq!(pace.missed(at(120)), []);
    }

    #[test]
    fn a_million_sources_are_told_as_so_many_and_one() {
        let mut pace = Pace::new(3);
        let told = (0..1_000_000).filter(|n: &u32| pace.tells("gone", &n.to_string())).count();
        assert_eq!(told, SOURCES + 3);
        let missed = pace.missed(at(60));
        assert_eq!((missed.len(), &*missed[0].source), (1, OTHERS));
        assert_eq!(usize::try_from(missed[0].count).unwrap(), 1_000_000 - told);
    }

    proptest! {
        /// Whatever comes when: each line is told, or counted among those that were not.
        #[test]
        fn every_line_is_told_or_counted(lines in prop::collection::vec((0..3_usize, 0..4_u8, 0..40_u64), 0..300)) {
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
