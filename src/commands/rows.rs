//! Rows as tables, after kubectl's habits: capitals on top, three spaces between, `-` for nothing.

use serde_json::Value;
use unicode_width::UnicodeWidthStr as _;

use crate::output;

/// Between two columns.
const GAP: usize = 3;
/// A column is not made narrower than this to fit a terminal.
const NARROWEST: usize = 8;

/// A column: its head, and what of a row stands in it.
#[derive(Clone, Copy)]
pub(crate) struct Column {
    /// In capitals.
    pub(crate) head: &'static str,
    /// The cell.
    pub(crate) cell: fn(&Value) -> String,
}

/// A table that can grow: later rows stand under the same heads.
pub(crate) struct Table {
    columns: Vec<Column>,
    widths: Vec<usize>,
    /// Columns on the terminal; `None` in a pipe, where nothing is cut.
    room: Option<usize>,
}

impl Table {
    /// A table with these heads.
    pub(crate) fn new(columns: Vec<Column>) -> Self {
        let room = terminal_size::terminal_size().filter(|_| output::is_terminal());
        Self { widths: Vec::new(), columns, room: room.map(|(width, _)| usize::from(width.0)) }
    }

    /// The lines of `rows`; the heads come with the first ones.
    pub(crate) fn lines(&mut self, rows: &[Value]) -> Vec<String> {
        let mut grid: Vec<Vec<String>> = Vec::with_capacity(rows.len() + 1);
        let is_first = self.widths.is_empty();
        if is_first {
            grid.push(self.columns.iter().map(|column| column.head.to_owned()).collect());
        }
        grid.extend(rows.iter().map(|row| self.columns.iter().map(|column| (column.cell)(row)).collect()));
        if is_first {
            self.widths = widths(&grid, self.room);
        }
        grid.iter().map(|cells| self.line(cells)).collect()
    }

    fn line(&self, cells: &[String]) -> String {
        let mut line = String::new();
        for (cell, &width) in cells.iter().zip(&self.widths) {
            let cell = if self.room.is_some() { cut(cell, width) } else { cell.clone() };
            let filling = width.saturating_sub(cell.width()) + GAP;
            line.push_str(&cell);
            line.extend(std::iter::repeat_n(' ', filling));
        }
        line.truncate(line.trim_end().len());
        line
    }
}

/// As wide as the widest cell; where that does not fit, the widest columns give way first.
fn widths(grid: &[Vec<String>], room: Option<usize>) -> Vec<usize> {
    let columns = grid.first().map_or(0, Vec::len);
    let mut widths: Vec<usize> =
        (0..columns).map(|i| grid.iter().map(|cells| cells[i].width()).max().unwrap_or(0)).collect();
    let Some(room) = room else { return widths };
    while widths.iter().map(|width| width + GAP).sum::<usize>() > room + GAP {
        match widths.iter_mut().max() {
            Some(widest) if *widest > NARROWEST => *widest -= 1,
            _ => break,
        }
    }
    widths
}

/// The text in at most `width` columns, with a mark where something is missing.
fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut short = String::new();
    for c in text.chars() {
        if short.width() + unicode_width::UnicodeWidthChar::width(c).unwrap_or(0) + 1 > width {
            break;
        }
        short.push(c);
    }
    short.push('…');
    short
}

/// A row's text under `key`, safe to show; `-` for none.
pub(crate) fn text(row: &Value, key: &str) -> String {
    match &row[key] {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => output::printable(text).into_owned(),
        other => other.to_string(),
    }
}

/// How long ago the moment under `key` was, as kubectl writes it.
pub(crate) fn age(row: &Value, key: &str) -> String {
    let Some(moment) = row[key].as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok()) else {
        return "-".to_owned();
    };
    let seconds = jiff::Timestamp::now().as_second() - moment.as_second();
    span(u64::try_from(seconds).unwrap_or(0))
}

/// Seconds as a person counts them: `45s`, `12m`, `3h5m`, `4d`.
pub(crate) fn span(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match seconds {
        0..120 => format!("{seconds}s"),
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
    fn spans_read_as_kubectl_writes_them() {
        for (seconds, expected) in [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (601, "10m"),
            (10_800, "3h"),
            (11_100, "3h5m"),
            (172_800, "2d"),
            (900_000, "10d"),
        ] {
            assert_eq!(span(seconds), expected, "{seconds}");
        }
    }

    #[test]
    fn a_row_cannot_forge_the_table_that_shows_it() {
        let row = json!({ "name": "a\nb\u{1b}[2J", "empty": "", "none": null });
        assert_eq!(text(&row, "name"), "a\\u{a}b\\u{1b}[2J");
        for key in ["empty", "none", "absent"] {
            assert_eq!(text(&row, key), "-");
        }
    }

    #[test]
    fn a_table_is_cut_to_its_terminal_and_whole_in_a_pipe() {
        let columns = vec![
            Column { head: "NAME", cell: |row| text(row, "name") },
            Column { head: "MODEL", cell: |row| text(row, "model") },
        ];
        let rows =
            [json!({ "name": "a", "model": "m".repeat(40) }), json!({ "name": "日本", "model": null })];
        let mut piped = Table { columns: columns.clone(), widths: Vec::new(), room: None };
        assert_eq!(
            piped.lines(&rows),
            ["NAME   MODEL".to_owned(), format!("a      {}", "m".repeat(40)), "日本   -".to_owned(),]
        );
        let mut narrow = Table { columns, widths: Vec::new(), room: Some(20) };
        assert_eq!(narrow.lines(&rows[..1])[1], "a      mmmmmmmmmmmm…");
        // Later rows stand under the same heads.
        assert_eq!(narrow.lines(&rows[1..]), ["日本   -"]);
    }
}
