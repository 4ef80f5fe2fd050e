//! Sums of calls and tokens of a day. They outlive the LLMs, tokens and users that they name.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};
use wire::row::Timestamp;

use super::{TokenCounts, UserId};

/// The name of the user, and of the LLM, of a sum of what has no sum of its own. No user and no LLM can have it.
pub const OTHERS: &str = "(others)";

/// What the code of a sum of calls that a limit refused begins with; the label of the limit follows. Other codes have no colon.
pub const REFUSED: &str = "refused:";

/// Largest count of a sum: the largest whole number that JSON readers have exactly. Larger ones could overflow when sums are added
/// in a database.
pub const MAX_COUNT: u64 = (1 << 53) - 1;

const DAY_MILLIS: i64 = 86_400_000;

/// A day in UTC, as days since 1970.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Day(pub i64);

impl Day {
    /// The day of a moment.
    pub fn of(moment: Timestamp) -> Self {
        Self(moment.0.div_euclid(DAY_MILLIS))
    }

    /// Parses `2026-01-31`.
    pub fn parse(text: &str) -> Option<Self> {
        let midnight = format!("{text}T00:00:00Z").parse::<jiff::Timestamp>().ok()?;
        Some(Self::of(Timestamp(midnight.as_millisecond()))).filter(|day| day.to_string() == text)
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let midnight = Timestamp(self.0.saturating_mul(DAY_MILLIS)).to_string();
        f.write_str(midnight.split('T').next().unwrap_or_default())
    }
}

impl Serialize for Day {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Day {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Day".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "date" })
    }
}

/// What the calls of a sum have in common.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UsageKey {
    /// The day on which the calls ended.
    pub day: Day,
    pub user: UserId,
    /// The id of the token that began them; empty if it is unknown.
    pub token: String,
    /// The row that they were sent to last, else the name that was called.
    pub llm: String,
    /// The agent that is shown instead of a row hidden from the user, else empty.
    pub through: String,
    /// The code of their error; empty if they succeeded; [`REFUSED`] and a limit's label if they did not begin.
    pub code: String,
}

/// Numbers of some calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UsageCounts {
    pub calls: u64,
    /// Tokens of the prompts, cached or not.
    pub input: u64,
    /// Those of them that the backends had in their cache.
    pub cached: u64,
    /// Tokens of the answers.
    pub output: u64,
    /// Those of them that are events of streams without usage.
    pub counted: u64,
    /// Milliseconds from when they were sent to their row until they ended.
    pub millis: u64,
}

impl UsageCounts {
    /// The numbers of one call.
    pub fn of_call(tokens: TokenCounts, millis: u64) -> Self {
        let output = tokens.output.unwrap_or_default();
        Self {
            calls: 1,
            input: tokens.input.unwrap_or_default(),
            cached: tokens.cached.unwrap_or_default(),
            output,
            counted: if tokens.is_counted { output } else { 0 },
            millis,
        }
    }

    /// All tokens, of prompts and of answers.
    pub fn tokens(&self) -> u64 {
        self.input.saturating_add(self.output)
    }

    /// Adds other calls. Each count ends at [`MAX_COUNT`].
    pub fn add(&mut self, other: Self) {
        let Self { calls, input, cached, output, counted, millis } = other;
        for (sum, count) in [
            (&mut self.calls, calls),
            (&mut self.input, input),
            (&mut self.cached, cached),
            (&mut self.output, output),
            (&mut self.counted, counted),
            (&mut self.millis, millis),
        ] {
            *sum = sum.saturating_add(count).min(MAX_COUNT);
        }
    }
}

/// Calls of a day, and their numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UsageSum {
    pub key: UsageKey,
    /// Whose LLM it is; empty if it is unknown, or if the calls were to LLMs of several users.
    pub owner: UserId,
    pub counts: UsageCounts,
}

impl UsageSum {
    /// Bytes of its texts.
    pub fn bytes(&self) -> usize {
        let UsageKey { day: _, user, token, llm, through, code } = &self.key;
        [user, token, llm, through, code, &self.owner].map(String::len).iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_that_of_utc_and_reads_back() {
        for (moment, text) in [
            (0, "1970-01-01"),
            (86_399_999, "1970-01-01"),
            (-1, "1969-12-31"),
            (1_796_083_200_000, "2026-12-01"),
        ] {
            let day = Day::of(Timestamp(moment));
            assert_eq!(day.to_string(), text);
            assert_eq!(Day::parse(text), Some(day));
        }
        for odd in ["", "2026-02-30", "2026-1-1", "20260101", "2026-01-01T00", "2026-01-01 ", "today"] {
            assert_eq!(Day::parse(odd), None, "{odd}");
        }
    }

    #[test]
    fn counts_end_at_the_largest_number_of_json() {
        let tokens = TokenCounts { input: Some(1 << 40), cached: None, output: Some(7), is_counted: true };
        let mut sum = UsageCounts::of_call(tokens, 3);
        assert_eq!((sum.output, sum.counted, sum.cached), (7, 7, 0));
        (0..20).for_each(|_| sum.add(sum));
        assert_eq!((sum.input, sum.calls), (MAX_COUNT, 1 << 20));
    }
}
