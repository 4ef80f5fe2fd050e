//! Medians and a table.

use std::time::Duration;

/// The value below which `part` (0 to 1) of `samples` lie.
pub fn quantile(samples: &mut [Duration], part: f64) -> Duration {
    samples.sort_unstable();
    samples[((samples.len() - 1) as f64 * part).round() as usize]
}

/// One row: what, and its figures.
pub fn row(what: &str, figures: &[(&str, String)]) {
    let figures: Vec<String> = figures.iter().map(|(name, value)| format!("{name} {value}")).collect();
    println!("{what:<44} {}", figures.join("  "));
}

pub fn micros(time: Duration) -> String {
    format!("{:.0} µs", time.as_secs_f64() * 1e6)
}
