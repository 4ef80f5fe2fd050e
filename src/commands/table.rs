//! Tables after kubectl's habits: capitals on top, three spaces between. A pipe gets all of it; on a terminal a table fits.

use serde_json::Value;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use crate::output;

/// Between two columns.
const GAP: usize = 3;
/// Between two columns where there is little room.
const NARROW_GAP: usize = 2;
/// Before a column is cut to less than this, others are left out: it is about what tells two models apart.
const TELLING: usize = 16;
/// No column is made narrower than this.
const NARROWEST: usize = 8;

/// A column: its head, and what of a row stands in it.
#[derive(Clone, Copy)]
pub(crate) struct Column {
    head: &'static str,
    cell: fn(&Value) -> String,
    is_cut: bool,
    /// The lower, the sooner it is left out where there is no room; 0 stays.
    leaves: u8,
}

/// A column whose cells are shown whole, or not at all.
pub(crate) const fn column(head: &'static str, cell: fn(&Value) -> String) -> Column {
    Column { head, cell, is_cut: false, leaves: 0 }
}

impl Column {
    /// Its cells may be cut where there is little room.
    pub(crate) const fn cut(self) -> Self {
        Self { is_cut: true, ..self }
    }

    /// It may be left out where there is no room, as the `nth` one.
    pub(crate) const fn leaves(self, nth: u8) -> Self {
        Self { leaves: nth, ..self }
    }

    /// What it needs to tell something, for cells up to `width`.
    fn telling(&self, width: usize) -> usize {
        if self.is_cut { width.min(TELLING) } else { width }
    }
}

/// A table that can grow: later rows stand under the same heads.
pub(crate) struct Table {
    columns: Vec<Column>,
    widths: Vec<usize>,
    gap: usize,
    /// Columns on the terminal; `None` in a pipe, where nothing is cut.
    room: Option<usize>,
}

impl Table {
    /// A table that fits the terminal, if there is one.
    pub(crate) fn new(columns: Vec<Column>) -> Self {
        let room = terminal_size::terminal_size().filter(|_| output::is_terminal());
        Self::with_room(columns, room.map(|(width, _)| usize::from(width.0)))
    }

    /// A table that shows everything, however wide.
    pub(crate) fn whole(columns: Vec<Column>) -> Self {
        Self::with_room(columns, None)
    }

    fn with_room(columns: Vec<Column>, room: Option<usize>) -> Self {
        Self { columns, widths: Vec::new(), gap: GAP, room }
    }

    /// The lines of `rows`; the heads come with the first ones.
    pub(crate) fn lines(&mut self, rows: &[Value]) -> Vec<String> {
        let mut grid: Vec<Vec<String>> = Vec::with_capacity(rows.len() + 1);
        let is_first = self.widths.is_empty();
        if is_first {
            self.fit(rows);
            grid.push(self.columns.iter().map(|column| column.head.to_owned()).collect());
        }
        grid.extend(rows.iter().map(|row| self.columns.iter().map(|column| (column.cell)(row)).collect()));
        grid.iter().map(|cells| self.line(cells)).collect()
    }

    /// Chooses columns and widths: as wide as the widest cell. Where that does not fit, the columns move together, those
    /// that nobody misses are left out, and the widest of those that can be cut give way.
    fn fit(&mut self, rows: &[Value]) {
        let widest = |column: &Column| {
            rows.iter().map(|row| (column.cell)(row).width()).fold(column.head.width(), usize::max)
        };
        self.widths = self.columns.iter().map(widest).collect();
        let Some(room) = self.room else { return };
        let total =
            |widths: &[usize], gap: usize| widths.iter().map(|width| width + gap).sum::<usize>() - gap;
        if total(&self.widths, self.gap) <= room {
            return;
        }
        self.gap = NARROW_GAP;
        loop {
            let telling: Vec<_> =
                self.columns.iter().zip(&self.widths).map(|(column, &width)| column.telling(width)).collect();
            if total(&telling, self.gap) <= room {
                break;
            }
            let leaves = self.columns.iter().enumerate().filter(|(_, column)| column.leaves > 0);
            let Some((next, _)) = leaves.min_by_key(|(_, column)| column.leaves) else { break };
            self.columns.remove(next);
            self.widths.remove(next);
        }
        while total(&self.widths, self.gap) > room {
            let cut = self.columns.iter().zip(&mut self.widths).filter(|(column, _)| column.is_cut);
            match cut.map(|(_, width)| width).max() {
                Some(widest) if *widest > NARROWEST => *widest -= 1,
                _ => break,
            }
        }
    }

    fn line(&self, cells: &[String]) -> String {
        let mut line = String::new();
        for ((cell, &width), column) in cells.iter().zip(&self.widths).zip(&self.columns) {
            let cell = if column.is_cut && self.room.is_some() { cut(cell, width) } else { cell.clone() };
            let filling = width.saturating_sub(cell.width()) + self.gap;
            line.push_str(&cell);
            line.extend(std::iter::repeat_n(' ', filling));
        }
        line.truncate(line.trim_end().len());
        line
    }
}

/// The text in at most `width` columns, with a mark where something is missing. Of a path the last part is what tells.
fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let last = text.rsplit('/').next().filter(|last| !last.is_empty() && !text.contains(' '));
    let text = match last {
        Some(last) if last.width() < text.width() && last.width() <= width => return last.to_owned(),
        Some(last) => last,
        None => text,
    };
    let mut short = String::new();
    for c in text.chars() {
        if short.width() + c.width().unwrap_or(0) + 1 > width {
            break;
        }
        short.push(c);
    }
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::rows::text, *};

    fn columns() -> Vec<Column> {
        vec![
            column("NAME", |row| text(row, "name")).cut(),
            column("TYPE", |row| text(row, "type")).leaves(2),
            column("MODEL", |row| text(row, "model")).cut(),
            column("STATUS", |row| text(row, "status")),
            column("ID", |row| text(row, "id")).leaves(1),
        ]
    }

    fn rows() -> [Value; 2] {
        let model = "/models/deep/SmolLM2-135M-Instruct.gguf";
        [
            json!({ "name": "a", "type": "openai", "model": model, "status": "hibernating", "id": "llm-0123456789" }),
            json!({ "name": "日本", "type": "openai", "model": null, "status": "active", "id": "llm-1" }),
        ]
    }

    fn shown(room: Option<usize>) -> Vec<String> {
        Table::with_room(columns(), room).lines(&rows())
    }

    #[test]
    fn a_pipe_gets_every_column_whole() {
        assert_eq!(
            shown(None),
            [
                "NAME   TYPE     MODEL                                     STATUS        ID",
                "a      openai   /models/deep/SmolLM2-135M-Instruct.gguf   hibernating   llm-0123456789",
                "日本   openai   -                                         active        llm-1",
            ]
        );
    }

    #[test]
    fn a_table_fits_every_terminal_that_has_room_for_what_stays() {
        for room in 29..100 {
            for line in shown(Some(room)) {
                assert!(line.width() <= room, "{room}: {line}");
            }
        }
        let heads = |room| shown(Some(room))[0].split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(heads(70), ["NAME", "TYPE", "MODEL", "STATUS", "ID"]);
        assert_eq!(heads(50), ["NAME", "TYPE", "MODEL", "STATUS"]);
        assert_eq!(
            shown(Some(40)),
            [
                "NAME  MODEL                  STATUS",
                "a     SmolLM2-135M-Instruc…  hibernating",
                "日本  -                      active",
            ]
        );
    }

    #[test]
    fn later_rows_stand_under_the_same_heads() {
        let mut table = Table::with_room(columns(), Some(34));
        assert_eq!(table.lines(&rows()[..1]).len(), 2);
        assert_eq!(table.lines(&rows()[1..]), ["日本  -                active"]);
    }

    #[test]
    fn a_path_is_cut_to_its_last_part_and_a_sentence_at_its_end() {
        for (text, width, expected) in [
            ("Qwen/Qwen2.5-7B", 20, "Qwen/Qwen2.5-7B"),
            ("Qwen/Qwen2.5-7B", 12, "Qwen2.5-7B"),
            ("Qwen/Qwen2.5-72B-Instruct", 12, "Qwen2.5-72B…"),
            ("the backend at a/b is away", 12, "the backend…"),
        ] {
            assert_eq!(cut(text, width), expected);
        }
    }
}
