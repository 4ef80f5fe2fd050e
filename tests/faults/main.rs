//! Checks that `docs/faults.md` agrees with the tests: which test injects which fault, and why a fault has no test.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panic")]
#![allow(unreachable_pub, missing_docs, reason = "nothing of a test binary is public")]

mod page;
mod scanner;

use std::fs;
use std::path::{Path, PathBuf};

use page::{Covered, Entry, Test};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn list() -> Vec<Entry> {
    serde_json::from_str(&fs::read_to_string(root().join("tests/faults/list.json")).unwrap()).unwrap()
}

/// Adds all `.rs` files below `folder` to `found`, without build output and hidden folders.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() {
            if !name.starts_with('.') && name != "target" {
                sources(&path, found);
            }
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
}

/// The faults that the tests of the workspace claim to inject. Panics at a malformed tag.
fn covered() -> Covered {
    let known: Vec<String> = list().into_iter().map(|entry| entry.number).collect();
    let (mut covered, mut problems, mut files) = (Covered::new(), Vec::new(), Vec::new());
    sources(root(), &mut files);
    files.sort();
    for path in files {
        let file = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
        let (tagged, wrong) = scanner::scan(&fs::read_to_string(&path).unwrap());
        problems.extend(wrong.into_iter().map(|problem| format!("{file}: {problem}")));
        for tag in tagged {
            for number in tag.numbers {
                if !known.contains(&number) {
                    problems.push(format!("{file}: {} claims {number}, which is not in list.json", tag.test));
                }
                let test = Test { file: file.clone(), name: tag.test.clone() };
                covered.entry(number).or_default().push(test);
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    covered
}

#[test]
fn the_page_of_faults_agrees_with_the_tags_of_the_tests() {
    let path = root().join("docs/faults.md");
    let page = page::render(&list(), &covered());
    if std::env::var_os("BLESS").is_some() {
        fs::write(path, page).unwrap();
        return;
    }
    let current = fs::read_to_string(path).unwrap_or_default();
    assert!(current == page, "docs/faults.md is out of date: `BLESS=1 cargo test --test faults` rewrites it");
}

/// The one limit without a test: 65,536 calls at once are too many for a test.
const UNTESTED: &str = "dispatches under way";

/// Every test, flag and metric that the table of limits in docs/semantics.md names exists.
#[test]
fn the_table_of_limits_names_tests_and_flags_that_exist() {
    let (mut files, mut code) = (Vec::new(), String::new());
    sources(root(), &mut files);
    for path in files {
        code += &fs::read_to_string(path).unwrap();
    }
    let help = fs::read_to_string(root().join("tests/golden/help.txt")).unwrap();
    let page = fs::read_to_string(root().join("docs/semantics.md")).unwrap();
    let table = page.split("\n## Limits\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows: Vec<Vec<&str>> = table
        .lines()
        .filter(|line| line.starts_with("| "))
        .skip(2)
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    assert!(rows.len() > 30, "{} rows", rows.len());
    let mut wrong = Vec::new();
    for row in rows {
        let [_, what, _, flag, metric, _, test] = row[..] else { panic!("a row needs seven cells: {row:?}") };
        let quoted =
            |cell: &str| -> Vec<String> { cell.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
        let missing = |known: bool, name: &str| (!known).then(|| format!("{what}: {name}"));
        wrong.extend(
            quoted(test).iter().filter_map(|name| missing(code.contains(&format!("fn {name}(")), name)),
        );
        wrong.extend(quoted(flag).iter().filter_map(|name| missing(help.contains(name.as_str()), name)));
        if quoted(test).is_empty() && what != UNTESTED {
            wrong.push(format!("{what}: a test"));
        }
        let named =
            |metric: &str| code.contains(&format!("\"{}\"", metric.split('{').next().unwrap_or_default()));
        wrong.extend(quoted(metric).iter().filter_map(|name| missing(named(name), name)));
    }
    assert!(wrong.is_empty(), "named in the table, but not found: {wrong:#?}");
}

#[test]
fn each_fault_has_a_test_or_a_reason() {
    let covered = covered();
    let open: Vec<String> =
        list().into_iter().filter(|entry| page::is_open(entry, &covered)).map(|entry| entry.number).collect();
    assert!(open.is_empty(), "faults with neither a test nor a reason: {open:?}");
}

#[test]
fn the_list_has_each_fault_number_once() {
    let numbers: Vec<String> = list().into_iter().map(|entry| entry.number).collect();
    let expected: Vec<String> = (1..=8)
        .map(|n| format!("P{n}"))
        .chain((1..=99).map(|n| format!("F{n:02}")))
        .chain((1..=48).map(|n| format!("A{n:02}")))
        .collect();
    assert_eq!(numbers, expected);
}
