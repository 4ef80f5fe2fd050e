//! `Retry-After` (RFC 9110, 10.2.3): seconds or a date.

use std::time::Duration;

use jiff::Timestamp;

/// How long a hub asks us to stay away, counted from `now`. A date in the past is no wait; anything that is
/// neither a number nor a date is no hint.
pub fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit are a very long wait, and the caller has its own limit.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let date = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
    Some(Duration::try_from(date.duration_since(now)).unwrap_or(Duration::ZERO))
}
