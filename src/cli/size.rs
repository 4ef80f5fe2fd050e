//! Sizes of options: `512MiB`, `1GiB`, `20GB`.

/// Parses a number of bytes with a unit (`B`, `KiB`, `MiB`, `GiB`, `TiB`, or `KB`, `MB`, `GB`, `TB` of 1,000); a bare `0`
/// needs none.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let expected =
        || format!("'{text}' is not a size: write a number and KiB, MiB, GiB or TiB, such as 1GiB");
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().map_err(|_| expected())?;
    let factor = match unit.to_ascii_lowercase().as_str() {
        "b" => 1.0,
        "kib" => 1024.0,
        "mib" => 1024.0 * 1024.0,
        "gib" => 1024.0 * 1024.0 * 1024.0,
        "tib" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        "tb" => 1e12,
        "" if number == 0.0 => 1.0,
        _ => return Err(expected()),
    };
    // The range of an integer in SQLite.
    if number * factor > 9e18 {
        return Err(format!("'{text}' is more than any disk has"));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded by the check above")]
    let bytes = (number * factor).round() as u64;
    Ok(bytes)
}

/// Least memory of a hub in bytes: its own, and one of the largest requests.
const MIN_MEMORY: u64 = 64 << 20;

/// As [`parse`], at least [`MIN_MEMORY`].
pub(crate) fn parse_memory(text: &str) -> Result<u64, String> {
    match parse(text)? {
        bytes if bytes < MIN_MEMORY => {
            Err(format!("'{text}' is too little: a hub needs {} MiB", MIN_MEMORY >> 20))
        }
        bytes => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hub_is_not_started_with_less_memory_than_it_needs() {
        for (text, is_enough) in [("0", false), ("63MiB", false), ("64MiB", true), ("1GiB", true)] {
            assert_eq!(parse_memory(text).is_ok(), is_enough, "{text}");
        }
    }

    #[test]
    fn a_size_is_a_number_and_a_unit() {
        for (text, bytes) in [
            ("0", 0),
            ("512b", 512),
            ("1KiB", 1024),
            ("1.5MiB", 1_572_864),
            ("1GiB", 1 << 30),
            ("2GB", 2_000_000_000),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        for bad in ["", "1", "GiB", "-1GiB", "1 GiB", "1G", "1.2.3MB", "9999999999TiB"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
