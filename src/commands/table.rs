//! Tables after kubectl's habits. In a pipe they are complete; on a terminal they are fitted to its width.

use serde_json::Value;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use crate::{exit::Outcome, output};

/// Spaces between two columns.
const GAP: usize = 3;
/// Spaces between two columns of a table that does not fit the terminal.
const NARROW_GAP: usize = 2;
/// Width below which a column is cut only after the droppable columns are gone: about the length of a model's name.
const READABLE_WIDTH: usize = 16;
/// Least width of a cut column.
const MIN_WIDTH: usize = 8;

#[derive(Clone, Copy)]
pub(crate) struct Column {
    head: &'static str,
    cell: fn(&Value) -> String,
    can_cut: bool,
    is_number: bool,
    /// Order in which columns are dropped from a table that does not fit; 0 for never.
    drop_order: u8,
}

pub(crate) const fn column(head: &'static str, cell: fn(&Value) -> String) -> Column {
    Column { head, cell, can_cut: false, is_number: false, drop_order: 0 }
}

impl Column {
    /// A column whose cells may be cut.
    pub(crate) const fn cut(self) -> Self {
        Self { can_cut: true, ..self }
    }

    /// A column of numbers, which end below each other.
    pub(crate) const fn number(self) -> Self {
        Self { is_number: true, ..self }
    }

    /// A column that may be dropped, as the `nth` one.
    pub(crate) const fn droppable(self, nth: u8) -> Self {
        Self { drop_order: nth, ..self }
    }

    /// Readable width of a column whose cells have up to `width`.
    fn readable_width(&self, width: usize) -> usize {
        if self.can_cut { width.min(READABLE_WIDTH) } else { width }
    }
}

/// A table that can grow: the widths of its columns are those of the first rows.
pub(crate) struct Table {
    columns: Vec<Column>,
    widths: Vec<usize>,
    gap: usize,
    /// Width of the terminal; `None` for no limit.
    max_width: Option<usize>,
}

impl Table {
    /// A table that fits the terminal. In a pipe it has no limit.
    pub(crate) fn new(columns: Vec<Column>) -> Self {
        let size = terminal_size::terminal_size().filter(|_| output::is_terminal());
        Self::with_max_width(columns, size.map(|(width, _)| usize::from(width.0)))
    }

    /// A table without a limit.
    pub(crate) fn unlimited(columns: Vec<Column>) -> Self {
        Self::with_max_width(columns, None)
    }

    fn with_max_width(columns: Vec<Column>, max_width: Option<usize>) -> Self {
        Self { columns, widths: Vec::new(), gap: GAP, max_width }
    }

    /// Prints `rows`, the first ones with the heads.
    pub(crate) fn print(&mut self, rows: &[Value]) -> Outcome {
        output::lines(self.lines(rows))
    }

    /// Lines of `rows`, the first ones with the heads.
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

    /// Chooses columns and widths. If the table does not fit, gaps are narrowed, then columns dropped, then the widest of
    /// the others cut.
    fn fit(&mut self, rows: &[Value]) {
        let widest = |column: &Column| {
            rows.iter().map(|row| (column.cell)(row).width()).fold(column.head.width(), usize::max)
        };
        self.widths = self.columns.iter().map(widest).collect();
        let Some(max_width) = self.max_width else { return };
        let total =
            |widths: &[usize], gap: usize| widths.iter().map(|width| width + gap).sum::<usize>() - gap;
        if total(&self.widths, self.gap) <= max_width {
            return;
        }
        self.gap = NARROW_GAP;
        loop {
            let columns = self.columns.iter().zip(&self.widths);
            let readable: Vec<_> = columns.map(|(column, &width)| column.readable_width(width)).collect();
            if total(&readable, self.gap) <= max_width {
                break;
            }
            let droppable = self.columns.iter().enumerate().filter(|(_, column)| column.drop_order > 0);
            let Some((next, _)) = droppable.min_by_key(|(_, column)| column.drop_order) else { break };
            self.columns.remove(next);
            self.widths.remove(next);
        }
        while total(&self.widths, self.gap) > max_width {
            let cut = self.columns.iter().zip(&mut self.widths).filter(|(column, _)| column.can_cut);
            match cut.map(|(_, width)| width).max() {
                Some(widest) if *widest > MIN_WIDTH => *widest -= 1,
                _ => break,
            }
        }
    }

    fn line(&self, cells: &[String]) -> String {
        let mut line = String::new();
        for ((cell, &width), column) in cells.iter().zip(&self.widths).zip(&self.columns) {
            let cell =
                if column.can_cut && self.max_width.is_some() { cut(cell, width) } else { cell.clone() };
            let padding = width.saturating_sub(cell.width());
            let (before, after) = if column.is_number { (padding, 0) } else { (0, padding) };
            line.extend(std::iter::repeat_n(' ', before));
            line.push_str(&cell);
            line.extend(std::iter::repeat_n(' ', after + self.gap));
        }
        line.truncate(line.trim_end().len());
        line
    }
}

/// Cuts a text to `width`, and a path to its last part.
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

    use super::{super::cells::text, *};

    fn columns() -> Vec<Column> {
        vec![
            column("NAME", |row| text(row, "name")).cut(),
            column("TYPE", |row| text(row, "type")).droppable(2),
            column("MODEL", |row| text(row, "model")).cut(),
            column("STATUS", |row| text(row, "status")),
            column("ID", |row| text(row, "id")).droppable(1),
        ]
    }

    fn rows() -> [Value; 2] {
        let model = "/models/deep/SmolLM2-135M-Instruct.gguf";
        [
            json!({ "name": "a", "type": "openai", "model": model, "status": "hibernating", "id": "llm-0123456789" }),
            json!({ "name": "日本", "type": "openai", "model": null, "status": "active", "id": "llm-1" }),
        ]
    }

    fn shown(max_width: Option<usize>) -> Vec<String> {
        Table::with_max_width(columns(), max_width).lines(&rows())
    }

    #[test]
    fn a_pipe_gets_every_column_uncut() {
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
    fn a_table_fits_every_terminal_that_is_wide_enough() {
        for width in 29..100 {
            for line in shown(Some(width)) {
                assert!(line.width() <= width, "{width}: {line}");
            }
        }
        let heads = |width| shown(Some(width))[0].split_whitespace().map(str::to_owned).collect::<Vec<_>>();
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
    fn later_rows_have_the_widths_of_the_first() {
        let mut table = Table::with_max_width(columns(), Some(34));
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
