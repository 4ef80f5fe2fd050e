//! `Retry-After` (RFC 9110, 10.2.3): seconds or a date.

use std::time::Duration;

use jiff::Timestamp;

/// Parses a `Retry-After` value to a duration from `now`. A date in the past gives zero; any other text gives `None`.
pub fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // A number that does not fit becomes the maximum; callers have their own limits.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let date = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
    Some(Duration::try_from(date.duration_since(now)).unwrap_or(Duration::ZERO))
}
