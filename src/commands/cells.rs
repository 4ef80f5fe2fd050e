//! Texts of table cells, after kubectl's habits: `-` for nothing, times as ages.

use serde_json::Value;

use crate::output;

/// The rows of a list, or a single row.
pub(crate) fn rows(answer: &Value) -> &[Value] {
    match answer {
        Value::Array(rows) => rows,
        Value::Null => &[],
        row => std::slice::from_ref(row),
    }
}

/// The value of `key`, safe to show; `-` if it is absent or empty.
pub(crate) fn text(row: &Value, key: &str) -> String {
    match &row[key] {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => output::printable(text).into_owned(),
        other => output::printable(&other.to_string()).into_owned(),
    }
}

/// The output tokens of a task, with `~` in front if the hub counted events since the backend reported no usage.
pub(crate) fn output_tokens(row: &Value) -> String {
    let mark = if row["counted"] == true { "~" } else { "" };
    format!("{mark}{}", text(row, "outputTokens"))
}

/// The capabilities of a row as words: `tools, no vision`; `-` if none is known.
pub(crate) fn capabilities(row: &Value) -> String {
    let known = row["capabilities"].as_object().into_iter().flatten();
    let words: Vec<_> = known
        .filter_map(|(name, has)| {
            let name = output::printable(name);
            Some(if has.as_bool()? { name.into_owned() } else { format!("no {name}") })
        })
        .collect();
    if words.is_empty() { "-".to_owned() } else { words.join(", ") }
}

/// Time since the timestamp under `key`.
pub(crate) fn age(row: &Value, key: &str) -> String {
    let Some(moment) = row[key].as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok()) else {
        return "-".to_owned();
    };
    let seconds = jiff::Timestamp::now().as_second() - moment.as_second();
    span(u64::try_from(seconds).unwrap_or(0))
}

/// A number of seconds as kubectl prints it: `45s`, `12m`, `3h5m`, `4d`.
pub(crate) fn span(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match seconds {
        0..120 => format!("{seconds}s"),
        7_200 => "2h".to_owned(),
        120..600 if !seconds.is_multiple_of(60) => format!("{minutes}m{}s", seconds % 60),
        120..10_800 => format!("{minutes}m"),
        10_800..36_000 if !minutes.is_multiple_of(60) => format!("{hours}h{}m", minutes % 60),
        10_800..172_800 => format!("{hours}h"),
        172_800..691_200 if !hours.is_multiple_of(24) => format!("{days}d{}h", hours % 24),
        _ => format!("{days}d"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn spans_are_printed_as_by_kubectl() {
        for (seconds, expected) in [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (601, "10m"),
            (7_200, "2h"),
            (10_800, "3h"),
            (11_100, "3h5m"),
            (172_800, "2d"),
            (900_000, "10d"),
        ] {
            assert_eq!(span(seconds), expected, "{seconds}");
        }
    }

    #[test]
    fn capabilities_are_words() {
        let row = json!({ "capabilities": { "tools": true, "vision": false, "new\n": true, "odd": 3 } });
        assert_eq!(capabilities(&row), "tools, no vision, new\\u{a}");
        assert_eq!(capabilities(&json!({})), "-");
    }

    /// A14: the text of a row stays within its cell.
    #[test]
    fn a_row_cannot_forge_the_table_that_shows_it() {
        let row = json!({ "name": "a\nb\u{1b}[2J", "empty": "", "none": null, "extras": { "x": "\u{9b}2J\u{202e}" } });
        assert_eq!(text(&row, "name"), "a\\u{a}b\\u{1b}[2J");
        assert_eq!(text(&row, "extras"), r#"{"x":"\u{9b}2J\u{202e}"}"#);
        for key in ["empty", "none", "absent"] {
            assert_eq!(text(&row, key), "-");
        }
    }
}
