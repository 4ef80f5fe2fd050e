//! The figures of a run as a table and charts in docs/benchmarks.md.

use std::fmt::Write as _;
use std::path::Path;

use crate::figures::{Chart, Figures};

const BEGIN: &str = "<!-- what follows is written by `cargo bench --bench relay -- --report` -->";
const END: &str = "<!-- end -->";

/// Puts the table and the charts between the marks of docs/benchmarks.md, each chart as a file beside it.
pub fn write(figures: &Figures) {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let page = docs.join("benchmarks.md");
    let text = std::fs::read_to_string(&page).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("the mark where the report begins");
    let (_, after) = rest.split_once(END).expect("the mark where it ends");
    let mut report = String::from("| what | figures |\n| --- | --- |\n");
    for row in figures.rows.borrow().iter() {
        writeln!(report, "| {} | {} |", row.what, row.figures).unwrap();
    }
    let folder = docs.join("benchmarks");
    std::fs::create_dir_all(&folder).unwrap();
    for chart in figures.charts.borrow().iter() {
        std::fs::write(folder.join(chart.file), svg(chart)).unwrap();
        writeln!(report, "\n![{}](benchmarks/{})", chart.title, chart.file).unwrap();
    }
    std::fs::write(page, format!("{before}{BEGIN}\n\n{report}\n{END}{after}")).unwrap();
}

/// Horizontal bars on a scale from zero; readable on a light page and on a dark one.
fn svg(chart: &Chart) -> String {
    const LABEL: f64 = 250.0;
    const BAR: f64 = 16.0;
    const WIDTH: f64 = 720.0;
    let colour = |name: &str| match name {
        "direct" => "#8a9099",
        "registrar" => "#d9822b",
        "peer" => "#7a52c7",
        _ => "#2b7bd9",
    };
    let most = chart.bars.iter().map(|bar| bar.2).fold(f64::MIN_POSITIVE, f64::max);
    let mut body = String::new();
    let (mut y, mut last_group) = (34.0, "");
    for (group, name, value) in &chart.bars {
        if group != last_group {
            y += 8.0;
            last_group = group;
        }
        let length = value / most * (WIDTH - LABEL - 120.0);
        let number = if *value < 10.0 { format!("{value:.2}") } else { format!("{value:.0}") };
        writeln!(
            body,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{group} {name}</text>\
             <rect x=\"{LABEL}\" y=\"{y}\" width=\"{length:.1}\" height=\"{BAR}\" rx=\"2\" fill=\"{}\"/>\
             <text x=\"{:.1}\" y=\"{}\">{number} {}</text>",
            LABEL - 8.0,
            y + 12.5,
            colour(name),
            LABEL + length + 6.0,
            y + 12.5,
            chart.unit
        )
        .unwrap();
        y += BAR + 4.0;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {}\" font-family=\"system-ui, sans-serif\" \
         font-size=\"13\" fill=\"#7d8590\">\n<text x=\"8\" y=\"20\" font-weight=\"bold\">{}</text>\n{body}</svg>\n",
        y + 8.0,
        chart.title
    )
}
