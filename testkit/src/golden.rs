//! Golden texts: what a person did, and what the program said. `BLESS=1 cargo test` writes them anew.

use std::fmt::Write as _;
use std::path::Path;

use crate::process::{Home, Outcome};

/// Compares with `tests/golden/NAME`, or writes it.
pub fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(name);
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(path, text).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(expected == text, "{name} differs; BLESS=1 writes it anew:\n{text}");
}

/// What was done, and what was said.
#[derive(Default)]
pub struct Sheet(String);

impl Sheet {
    /// Runs it in `home`; `hidden` texts change from run to run.
    pub async fn mistake(&mut self, what: &str, home: &Home, args: &[&str], hidden: &[(&str, &str)]) {
        let outcome = home.run(args).await;
        self.note(what, home, args, &outcome, hidden);
    }

    /// Writes down what a run said.
    pub fn note(
        &mut self,
        what: &str,
        home: &Home,
        args: &[&str],
        outcome: &Outcome,
        hidden: &[(&str, &str)],
    ) {
        let mut said: String = outcome
            .stdout
            .lines()
            .chain(outcome.stderr.lines())
            // Without the time, which a log line begins with.
            .map(|line| {
                line.split_once(' ').filter(|(time, _)| time.ends_with('Z')).map_or(line, |(_, rest)| rest)
            })
            .fold(String::new(), |all, line| all + "    " + line + "\n");
        let mut args = args.join(" ");
        let home = home.path().to_string_lossy().into_owned();
        for (from, to) in [(home.as_str(), "HOME")].iter().chain(hidden) {
            said = said.replace(from, to);
            args = args.replace(from, to);
        }
        assert!(!said.contains("an-admin-token"), "a secret: {said}");
        writeln!(self.0, "# {what}\n$ virtual-llm {args}\n{said}    exit {}\n", outcome.code()).unwrap();
    }

    /// Compares with `tests/golden/NAME`.
    pub fn is_golden(&self, name: &str) {
        golden(name, &self.0);
    }
}
