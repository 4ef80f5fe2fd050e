//! The headers by which an answer tells what is left, in the forms of OpenAI's and Anthropic's APIs.

use std::time::Duration;

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use parking_lot::MutexGuard;
use wire::row::Timestamp;

use super::CallerLimits;
use super::holder::Holder;
use crate::clock::Now;
use crate::error::Dialect;
use crate::model::{Caller, Day};

/// What is left of one limit, by its names in both APIs.
struct Remaining {
    openai: [&'static str; 3],
    anthropic: [&'static str; 3],
    limit: u64,
    left: u64,
    reset: Duration,
}

impl CallerLimits {
    /// Adds to an answer what is left of the caller's limits; of its user's and its token's the one of which less is left.
    pub(crate) fn add_headers(&self, caller: &Caller, dialect: Dialect, now: Now, headers: &mut HeaderMap) {
        let holders = self.of(&caller.user, &caller.token_id);
        let mut holders: Vec<_> = holders.iter().flatten().map(|holder| holder.lock()).collect();
        for holder in &mut holders {
            holder.renew(Day::of(now.wall));
        }
        for left in [requests(&holders, now), tokens(&holders, now)].into_iter().flatten() {
            left.add(dialect, now.wall, headers);
        }
    }
}

fn requests(holders: &[MutexGuard<'_, Holder>], now: Now) -> Option<Remaining> {
    let left = holders.iter().filter_map(|holder| holder.requests(now));
    let (limit, level) = left.min_by_key(|(size, level)| (level.left, *size))?;
    Some(Remaining {
        openai: [
            "x-ratelimit-limit-requests",
            "x-ratelimit-remaining-requests",
            "x-ratelimit-reset-requests",
        ],
        anthropic: [
            "anthropic-ratelimit-requests-limit",
            "anthropic-ratelimit-requests-remaining",
            "anthropic-ratelimit-requests-reset",
        ],
        limit: limit.into(),
        left: level.left.into(),
        reset: level.reset,
    })
}

fn tokens(holders: &[MutexGuard<'_, Holder>], now: Now) -> Option<Remaining> {
    let left = holders.iter().filter_map(|holder| holder.budget(now));
    let budget = left.min_by_key(|budget| (budget.left, budget.limit))?;
    Some(Remaining {
        openai: ["x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"],
        anthropic: [
            "anthropic-ratelimit-tokens-limit",
            "anthropic-ratelimit-tokens-remaining",
            "anthropic-ratelimit-tokens-reset",
        ],
        limit: budget.limit,
        left: budget.left,
        reset: budget.reset,
    })
}

impl Remaining {
    /// Adds OpenAI's headers, for which there are clients of each API, and Anthropic's to its own.
    fn add(&self, dialect: Dialect, now: Timestamp, headers: &mut HeaderMap) {
        let mut insert = |names: [&'static str; 3], reset: String| {
            let numbers = [self.limit, self.left].map(HeaderValue::from);
            for (name, value) in
                names.into_iter().zip(numbers.into_iter().chain(HeaderValue::from_str(&reset)))
            {
                headers.insert(HeaderName::from_static(name), value);
            }
        };
        insert(self.openai, openai_duration(self.reset));
        if dialect == Dialect::Anthropic {
            let reset = i64::try_from(self.reset.as_millis()).unwrap_or(i64::MAX);
            insert(self.anthropic, now.plus_millis(reset).to_string());
        }
    }
}

/// A duration as OpenAI writes it: `120ms`, `1s`, `6m0s`, `3h0m5s`. Longer ones than a second are rounded up to seconds.
fn openai_duration(duration: Duration) -> String {
    let millis = duration.as_micros().div_ceil(1000);
    if millis < 1000 {
        return format!("{millis}ms");
    }
    let seconds = millis.div_ceil(1000);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_written_as_openai_does() {
        for (millis, text) in [
            (0, "0ms"),
            (120, "120ms"),
            (999, "999ms"),
            (1000, "1s"),
            (1001, "2s"),
            (60_000, "1m0s"),
            (360_000, "6m0s"),
            (3_599_001, "1h0m0s"),
            (11_405_000, "3h10m5s"),
        ] {
            assert_eq!(openai_duration(Duration::from_millis(millis)), text);
        }
        assert_eq!(openai_duration(Duration::from_micros(999_001)), "1s");
        assert_eq!(openai_duration(Duration::from_nanos(1)), "0ms");
    }
}
