//! Times after which a token ends.

use std::time::Duration;

use wire::row::Timestamp;

use crate::error::ApiError;

/// Parses a moment in the future: RFC 3339, or a time from now.
pub(super) fn expiry(text: &str, now: Timestamp) -> Result<Timestamp, ApiError> {
    let from_now = duration(text)
        .and_then(|duration| i64::try_from(duration.as_millis()).ok())
        .map(|millis| now.plus_millis(millis));
    let moment = || Some(Timestamp(text.parse::<jiff::Timestamp>().ok()?.as_millisecond()));
    // RFC 3339 cannot express a later moment.
    let last = Timestamp(jiff::Timestamp::MAX.as_millisecond());
    from_now.or_else(moment).filter(|expiry| *expiry > now && *expiry <= last).ok_or_else(|| {
        ApiError::bad_request(
            "expires: a time from now such as 30d or 12h, or a moment to come such as 2030-01-01T00:00:00Z, \
             not after the year 9999",
        )
    })
}

/// Parses digits and one unit: `ms`, `s`, `m`, `h`, `d`.
pub(in crate::http) fn duration(text: &str) -> Option<Duration> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let seconds = match unit {
        "ms" => return Some(Duration::from_millis(number)),
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    number.checked_mul(seconds).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expiry_is_a_duration_from_now_or_a_future_time() {
        let now = Timestamp(1_000_000);
        assert_eq!(expiry("30d", now).unwrap(), now.plus_millis(30 * 86_400_000));
        assert_eq!(expiry("500ms", now).unwrap(), now.plus_millis(500));
        assert_eq!(expiry("2932890d", now).unwrap().to_string(), "9999-12-25T00:16:40.000Z");
        assert_eq!(expiry("1970-01-01T01:00:00Z", now).unwrap(), Timestamp(3_600_000));
        for bad in [
            "",
            "0s",
            "d",
            "5",
            "5w",
            "-1d",
            "1970-01-01T00:00:01Z",
            "99999999999999999999d",
            "18446744073709551615d",
            "2932897d",
            "70400000h",
            "9223372036854775807ms",
            "+010000-01-01T00:00:00Z",
        ] {
            assert!(expiry(bad, now).is_err(), "{bad}");
        }
    }
}
