//! The page `docs/faults.md`, from the list and the tags.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Deserialize;

use crate::scanner::Number;

/// One line of `list.json`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    pub number: Number,
    /// What is injected; a promise has none.
    pub fault: Option<String>,
    /// What must be observed.
    pub holds: String,
    /// Why there is no test, or what the tests leave out.
    pub untested: Option<String>,
}

/// A test by its file, from the root of the repository, and its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Test {
    pub file: String,
    pub name: String,
}

/// Which tests cover a number.
pub type Covered = BTreeMap<Number, Vec<Test>>;

const HEAD: &str = "\
# Faults, and the tests that inject them

Generated from `tests/faults/list.json` and from the doc comments of the tests: `BLESS=1 cargo test --test faults`
writes this page anew. Each line says what is injected, what must hold then, and which tests show it.
";

/// The whole page.
pub fn render(list: &[Entry], covered: &Covered) -> String {
    let mut page = HEAD.to_owned();
    for (letter, title) in [("P", "Promises"), ("F", "Faults"), ("A", "Abuse")] {
        let middle = if letter == "P" { "" } else { "injected | " };
        let rule = if letter == "P" { "" } else { " --- |" };
        write!(page, "\n## {title}\n\n| # | {middle}must hold | tests |\n| --- |{rule} --- | --- |\n")
            .unwrap();
        for entry in list.iter().filter(|entry| entry.number.starts_with(letter)) {
            page.push_str(&row(entry, covered.get(&entry.number).map_or(&[], Vec::as_slice)));
        }
    }
    page
}

/// Neither test nor reason.
pub fn is_open(entry: &Entry, covered: &Covered) -> bool {
    entry.untested.is_none() && !covered.contains_key(&entry.number)
}

fn row(entry: &Entry, tests: &[Test]) -> String {
    let mut shown: Vec<String> = tests.iter().map(link).collect();
    match &entry.untested {
        Some(reason) => shown.push(format!("not tested: {reason}")),
        None if tests.is_empty() => shown.push("**open**".to_owned()),
        None => {}
    }
    let fault = entry.fault.as_ref().map_or(String::new(), |fault| format!(" {} |", cell(fault)));
    format!("| {} |{fault} {} | {} |\n", entry.number, cell(&entry.holds), shown.join("<br>"))
}

fn link(Test { file, name }: &Test) -> String {
    format!("[{file}::{name}](../{file})")
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
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
    fn a_row_shows_its_tests_or_the_reason_or_that_it_is_open() {
        let test = Test { file: "hub/src/tests.rs".to_owned(), name: "a".to_owned() };
        let shown = "[hub/src/tests.rs::a](../hub/src/tests.rs)";
        assert_eq!(row(&entry("F01", None), &[test]), format!("| F01 | a \\| b | c | {shown} |\n"));
        assert_eq!(row(&entry("F02", None), &[]), "| F02 | a \\| b | c | **open** |\n");
        assert_eq!(row(&entry("F03", Some("why")), &[]), "| F03 | a \\| b | c | not tested: why |\n");
        assert!(is_open(&entry("F02", None), &Covered::new()));
        assert!(!is_open(&entry("F03", Some("why")), &Covered::new()));
    }
}
