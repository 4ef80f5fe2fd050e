//! One user or token: its limits, and what it has used of them. Pure: the time is passed in.

use std::time::Duration;

use wire::row::Timestamp;

use super::bucket::{Bucket, Level};
use super::shares::{Others, Share};
use crate::clock::Now;
use crate::cluster::Process;
use crate::error::{ApiError, ErrorKind};
use crate::model::{CallLimits, Day};
use crate::telemetry::Limit;

const DAY_MILLIS: i64 = 86_400_000;

pub(super) struct Holder {
    limits: CallLimits,
    requests: Bucket,
    /// Calls under way.
    running: u32,
    /// The day of `used`.
    day: Day,
    /// Tokens of the calls that ended on that day at this hub.
    used: u64,
    /// Requests since the start.
    accepted: u64,
    /// What other hubs used.
    others: Others,
    /// What the others were told last.
    told: Option<Share>,
}

/// A budget of tokens, for the headers of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Budget {
    pub(super) limit: u64,
    pub(super) left: u64,
    pub(super) reset: Duration,
}

impl Holder {
    pub(super) fn new(limits: CallLimits, day: Day, used: u64) -> Self {
        Self {
            limits,
            requests: Bucket::default(),
            running: 0,
            day,
            used,
            accepted: 0,
            others: Others::default(),
            told: None,
        }
    }

    pub(super) fn limits(&self) -> &CallLimits {
        &self.limits
    }

    pub(super) fn set_limits(&mut self, limits: CallLimits) {
        self.limits = limits;
    }

    /// Begins the budget of `day`, unless it has begun. A clock that is set back over midnight begins none; the day of a clock that
    /// was further ahead does not stay.
    pub(super) fn renew(&mut self, day: Day) {
        let is_set_back = self.day.0.saturating_sub(day.0) == 1;
        if self.day != day && !is_set_back {
            (self.day, self.used) = (day, 0);
        }
    }

    /// Tokens of the calls that ended on the day at all hubs.
    pub(super) fn used(&self) -> u64 {
        self.used.saturating_add(self.others.tokens(self.day))
    }

    pub(super) fn others_mut(&mut self) -> &mut Others {
        &mut self.others
    }

    /// What this hub used, if that was not told before, or `again`.
    pub(super) fn tell(&mut self, again: bool) -> Option<Share> {
        let share =
            Share { day: self.day.0, tokens: self.used, running: self.running, requests: self.accepted };
        (again || self.told != Some(share)).then(|| *self.told.insert(share))
    }

    /// Takes over what `process` used.
    pub(super) fn told(&mut self, process: Process, share: Share, now: Now) {
        let requests = self.others.told(process, share);
        if let Some(size) = self.limits.requests_per_minute {
            self.requests.take_others(requests, size, now.mono);
        }
    }

    pub(super) fn count(&mut self, tokens: u64) {
        self.used = self.used.saturating_add(tokens);
    }

    /// Why a call may not begin now.
    pub(super) fn refusal(&self, now: Now) -> Option<ApiError> {
        self.refusal_of_request(now).or_else(|| self.refusal_of_slot())
    }

    /// Why a request may not be accepted now, whenever it runs.
    pub(super) fn refusal_of_request(&self, now: Now) -> Option<ApiError> {
        let size = self.limits.requests_per_minute;
        let wait = size.and_then(|size| self.requests.wait(size, now.mono));
        self.refusal_of_tokens(now).or_else(|| {
            let (size, wait) = size.zip(wait)?;
            let seconds = seconds(wait);
            let text =
                format!("no more than {} a minute: try again in {seconds} s", noun(size.into(), "request"));
            Some(refused(Limit::RequestsPerMinute, &text, Some(seconds)))
        })
    }

    /// Why a request that was accepted may not run now.
    pub(super) fn refusal_of_run(&self, now: Now) -> Option<ApiError> {
        self.refusal_of_tokens(now).or_else(|| self.refusal_of_slot())
    }

    fn refusal_of_tokens(&self, now: Now) -> Option<ApiError> {
        let limit = self.limits.tokens_per_day.filter(|limit| self.used() >= *limit)?;
        let seconds = seconds(until_midnight(now.wall));
        let text = format!(
            "no more than {} a day, and today's are used up ({}): the next day begins at 00:00 UTC, in {} min",
            noun(limit, "token"),
            self.used(),
            seconds.div_ceil(60)
        );
        Some(refused(Limit::TokensPerDay, &text, Some(seconds)))
    }

    fn refusal_of_slot(&self) -> Option<ApiError> {
        let limit = self.limits.max_concurrent;
        let running = self.running.saturating_add(self.others.running());
        let limit = limit.filter(|limit| running >= *limit)?;
        let text = format!("no more than {} at a time: wait for one to end", noun(limit.into(), "call"));
        Some(refused(Limit::MaxConcurrent, &text, None))
    }

    /// A call begins.
    pub(super) fn begin(&mut self, now: Now) {
        self.request(now);
        self.start();
    }

    /// A request is accepted.
    pub(super) fn request(&mut self, now: Now) {
        self.accepted += 1;
        if let Some(size) = self.limits.requests_per_minute {
            self.requests.take(size, now.mono);
        }
    }

    pub(super) fn start(&mut self) {
        self.running += 1;
    }

    pub(super) fn release(&mut self) {
        self.running = self.running.saturating_sub(1);
    }

    /// The requests a minute, and those that are left.
    pub(super) fn requests(&self, now: Now) -> Option<(u32, Level)> {
        let size = self.limits.requests_per_minute?;
        Some((size, self.requests.level(size, now.mono)))
    }

    pub(super) fn budget(&self, now: Now) -> Option<Budget> {
        let limit = self.limits.tokens_per_day?;
        Some(Budget { limit, left: limit.saturating_sub(self.used()), reset: until_midnight(now.wall) })
    }
}

fn until_midnight(now: Timestamp) -> Duration {
    Duration::from_millis((DAY_MILLIS - now.0.rem_euclid(DAY_MILLIS)).unsigned_abs())
}

/// `wait` in whole seconds, rounded up, at least 1.
fn seconds(wait: Duration) -> u32 {
    u32::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u32::MAX).max(1)
}

fn noun(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

fn refused(limit: Limit, text: &str, retry_after: Option<u32>) -> ApiError {
    let error = ApiError::new(ErrorKind::Busy, format!("an admin allows you {text}"));
    error.refused_by(limit).retry_after(retry_after)
}
