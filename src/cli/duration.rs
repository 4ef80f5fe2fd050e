//! Durations of options: `250ms`, `30s`, `1.5h`, `30d`.

use std::time::Duration;

/// Parses a number with a unit (`ms`, `s`, `m`, `h`, `d`); a bare `0` needs none.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let expected = || format!("'{text}' is not a duration: write a number and ms, s, m, h or d, such as 30s");
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().map_err(|_| expected())?;
    let seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        "d" => 86_400.0,
        "" if number == 0.0 => 1.0,
        _ => return Err(expected()),
    };
    // A longer duration is a typing error and could overflow a timer.
    if number * seconds > 3_650.0 * 86_400.0 {
        return Err(format!("'{text}' is longer than ten years"));
    }
    // Rounded to whole microseconds, so that 0.1 s is 100 ms and not 99.999 ms.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded by the check above")]
    let micros = (number * seconds * 1e6).round() as u64;
    Ok(Duration::from_micros(micros))
}

/// As [`parse`], more than 0.
pub(crate) fn parse_positive(text: &str) -> Result<Duration, String> {
    match parse(text)? {
        Duration::ZERO => Err("it must be longer than 0".to_owned()),
        duration => Ok(duration),
    }
}
