//! Findings about a file: what is wrong, and at which key.

use std::fmt;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Path of the key, such as `llm.providers[0].wake.url`; empty for the whole file.
    pub(crate) key: String,
    /// What is wrong and what was expected. Never contains a value that may be a secret.
    pub(crate) text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() { f.write_str(&self.text) } else { write!(f, "{}: {}", self.key, self.text) }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Findings that prevent the use of the file.
    pub(crate) errors: Vec<Finding>,
    /// Findings that are probably mistakes.
    pub(crate) warnings: Vec<Finding>,
}

impl Report {
    pub(crate) fn error(&mut self, key: impl Into<String>, text: impl Into<String>) {
        self.errors.push(Finding { key: key.into(), text: text.into() });
    }

    pub(crate) fn warn(&mut self, key: impl Into<String>, text: impl Into<String>) {
        self.warnings.push(Finding { key: key.into(), text: text.into() });
    }
}
