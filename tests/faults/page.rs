//! Renders `docs/faults.md` from `list.json` and the tags of the tests.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Deserialize;

use crate::scanner::Number;

/// One entry of `list.json`: a fault or a promise.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    pub number: Number,
    /// What is injected; `None` for a promise.
    pub fault: Option<String>,
    /// What must hold under the fault.
    pub holds: String,
    /// Why the fault has no test, or what its tests leave out.
    pub untested: Option<String>,
}

/// A test: its file, relative to the root of the repository, and its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Test {
    pub file: String,
    pub name: String,
}

/// The tests that cover each number.
pub type Covered = BTreeMap<Number, Vec<Test>>;

/// Most columns in a line of the page.
const WIDTH: usize = 120;

const HEAD: &str = "\
# Faults, and the tests that inject them

Generated from `tests/faults/list.json` and from the doc comments of the tests: `BLESS=1 cargo test --test faults`
writes this page anew. Each entry says what is injected, what must hold then, and which tests show it.
";

/// Renders the whole page.
pub fn render(list: &[Entry], covered: &Covered) -> String {
    let mut page = HEAD.to_owned();
    for (letter, title) in [("P", "Promises"), ("F", "Faults"), ("A", "Abuse")] {
        write!(page, "\n## {title}\n\n| # | | |\n| --- | --- | --- |\n").unwrap();
        for entry in list.iter().filter(|entry| entry.number.starts_with(letter)) {
            page.push_str(&rows(entry, covered.get(&entry.number).map_or(&[], Vec::as_slice)));
        }
    }
    page
}

/// Whether an entry has neither a test nor a reason.
pub fn is_open(entry: &Entry, covered: &Covered) -> bool {
    entry.untested.is_none() && !covered.contains_key(&entry.number)
}

/// Table rows of one entry. Only the first row has the number.
fn rows(entry: &Entry, tests: &[Test]) -> String {
    let mut cells = Vec::new();
    cells.extend(entry.fault.iter().map(|fault| ("injected", fault.clone())));
    cells.push(("must hold", entry.holds.clone()));
    cells.extend(tests.iter().map(|Test { file, name }| ("test", format!("{name} in {file}"))));
    match &entry.untested {
        Some(reason) => cells.push(("not tested", reason.clone())),
        None if tests.is_empty() => cells.push(("test", "**open**".to_owned())),
        None => {}
    }
    let mut number = entry.number.as_str();
    let mut rows = String::new();
    for (mut kind, text) in cells {
        let frame = format!("| {} | {kind} |  |", entry.number).len();
        for line in wrapped(&text.replace('|', "\\|"), WIDTH - frame) {
            writeln!(rows, "| {number} | {kind} | {line} |").unwrap();
            (number, kind) = ("", "");
        }
    }
    rows
}

/// Breaks `text` into lines of at most `width` characters. A longer word gets a line of its own.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: &str, untested: Option<&str>) -> Entry {
        Entry {
            number: number.to_owned(),
            fault: Some("a | b".to_owned()),
            holds: "c".to_owned(),
            untested: untested.map(str::to_owned),
        }
    }

    #[test]
    fn an_entry_shows_its_tests_or_the_reason_or_that_it_is_open() {
        let test = Test { file: "hub/src/tests.rs".to_owned(), name: "a".to_owned() };
        let head = |number| format!("| {number} | injected | a \\| b |\n|  | must hold | c |\n");
        assert_eq!(rows(&entry("F01", None), &[test]), head("F01") + "|  | test | a in hub/src/tests.rs |\n");
        assert_eq!(rows(&entry("F02", None), &[]), head("F02") + "|  | test | **open** |\n");
        assert_eq!(rows(&entry("F03", Some("why")), &[]), head("F03") + "|  | not tested | why |\n");
        assert!(is_open(&entry("F02", None), &Covered::new()));
        assert!(!is_open(&entry("F03", Some("why")), &Covered::new()));
    }

    #[test]
    fn no_line_of_the_page_is_too_long() {
        let long = Entry { holds: "word ".repeat(99), ..entry("P1", None) };
        let page = render(&[long], &Covered::new());
        assert!(page.lines().all(|line| line.chars().count() <= WIDTH), "{page}");
    }
}
