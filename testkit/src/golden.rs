//! Golden files with commands and their output. `BLESS=1 cargo test` rewrites them.

use std::fmt::Write as _;
use std::path::Path;

use crate::process::{Home, Outcome};

/// Compares `text` with `tests/golden/NAME`. With `BLESS=1`, rewrites the file instead.
pub fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(name);
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(path, text).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(expected == text, "{name} differs; BLESS=1 rewrites it:\n{text}");
}

/// Commands and their output, in the format of a golden file.
#[derive(Default)]
pub struct Sheet(String);

impl Sheet {
    /// Runs the binary in `home`, and adds its output under the title `what`. Each text in `hidden`, which differs between runs,
    /// is replaced by its placeholder.
    pub async fn mistake(&mut self, what: &str, home: &Home, args: &[&str], hidden: &[(&str, &str)]) {
        let outcome = home.run(args).await;
        self.note(what, home, args, &outcome, hidden);
    }

    /// Adds the output of a run.
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
            // The time at the start of a log line is removed.
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
        assert!(!said.contains("an-admin-token"), "a secret is in the output: {said}");
        writeln!(self.0, "# {what}\n$ virtual-llm {args}\n{said}    exit {}\n", outcome.code()).unwrap();
    }

    /// Compares all output with `tests/golden/NAME`.
    pub fn is_golden(&self, name: &str) {
        golden(name, &self.0);
    }
}
