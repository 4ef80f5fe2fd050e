//! What is wrong with a file, and where.

use std::fmt;

/// One finding at one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// `llm.providers[0].wake.url`; empty for the whole file.
    pub(crate) key: String,
    /// What was expected. Never quotes a value that may be a secret.
    pub(crate) text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() { f.write_str(&self.text) } else { write!(f, "{}: {}", self.key, self.text) }
    }
}

/// All findings of one reading.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// With one of these the file is not used.
    pub(crate) errors: Vec<Finding>,
    /// What is probably not meant so.
    pub(crate) warnings: Vec<Finding>,
}

impl Report {
    /// The file cannot be used.
    pub(crate) fn error(&mut self, key: impl Into<String>, text: impl Into<String>) {
        self.errors.push(Finding { key: key.into(), text: text.into() });
    }

    /// The file can be used, but somebody should look.
    pub(crate) fn warn(&mut self, key: impl Into<String>, text: impl Into<String>) {
        self.warnings.push(Finding { key: key.into(), text: text.into() });
    }
}
