//! Medians, and the rows and bars that a run collects.

use std::cell::RefCell;
use std::time::Duration;

/// The value below which `part` (0 to 1) of `samples` lie.
pub fn quantile(samples: &mut [Duration], part: f64) -> Duration {
    samples.sort_unstable();
    samples[((samples.len() - 1) as f64 * part).round() as usize]
}

/// What a run found: printed as it comes, kept for the report.
#[derive(Default)]
pub struct Figures {
    pub rows: RefCell<Vec<Row>>,
    pub charts: RefCell<Vec<Chart>>,
}

/// One line of the table.
pub struct Row {
    pub what: String,
    pub figures: String,
}

/// Bars of one unit, in groups.
pub struct Chart {
    pub file: &'static str,
    pub title: String,
    pub unit: &'static str,
    /// Group, name of the bar, value.
    pub bars: Vec<(String, String, f64)>,
}

impl Figures {
    /// One row: its name and its figures.
    pub fn row(&self, what: &str, figures: &[(&str, String)]) {
        let figures: Vec<String> = figures.iter().map(|(name, value)| format!("{name} {value}")).collect();
        println!("{what:<44} {}", figures.join(", "));
        self.rows.borrow_mut().push(Row { what: what.to_owned(), figures: figures.join(", ") });
    }

    /// One more bar of the chart that goes to `file`.
    pub fn bar(
        &self,
        file: &'static str,
        title: &str,
        unit: &'static str,
        group: &str,
        name: &str,
        value: f64,
    ) {
        let mut charts = self.charts.borrow_mut();
        let bar = (group.to_owned(), name.to_owned(), value);
        match charts.iter_mut().find(|chart| chart.file == file) {
            Some(chart) => chart.bars.push(bar),
            None => charts.push(Chart { file, title: title.to_owned(), unit, bars: vec![bar] }),
        }
    }
}

pub fn micros(time: Duration) -> String {
    format!("{:.0} µs", time.as_secs_f64() * 1e6)
}

pub fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}
