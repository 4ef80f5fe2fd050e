//! Reads the keys of a JSON object one by one; what is not as expected goes to the report with its path.

use std::time::Duration;

use serde_json::{Map, Value};

use super::{keys, report::Report};

/// A JSON object and where it stands in the file.
#[derive(Clone)]
pub(super) struct Table<'a> {
    map: &'a Map<String, Value>,
    path: String,
}

impl<'a> Table<'a> {
    /// `value` as an object.
    pub(super) fn of(value: &'a Value, path: impl Into<String>, report: &mut Report) -> Option<Self> {
        let path = path.into();
        match value {
            Value::Object(map) => Some(Self { map, path }),
            other => {
                report.error(path, expected("an object", other));
                None
            }
        }
    }

    /// The path of one of its keys.
    pub(super) fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Warns of keys that are nearly, but not quite, one of `known`.
    pub(super) fn warn_of_near_misses(&self, known: &[&str], report: &mut Report) {
        for key in self.map.keys() {
            if let Some(meant) = keys::near_miss(key, known) {
                report.warn(self.path_of(key), format!("unknown key, ignored; did you mean '{meant}'?"));
            }
        }
    }

    /// The value of `key`; null is as good as absent.
    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// A text that is not empty.
    pub(super) fn text(&self, key: &str, report: &mut Report) -> Option<&'a str> {
        match self.get(key)? {
            Value::String(text) if !text.trim().is_empty() => return Some(text),
            Value::String(_) => report.error(self.path_of(key), "expected a text that is not empty"),
            other => report.error(self.path_of(key), expected("a string", other)),
        }
        None
    }

    /// As `text`; its absence is an error too.
    pub(super) fn required_text(&self, key: &str, report: &mut Report) -> Option<&'a str> {
        self.require(key, "a string", report).then(|| self.text(key, report)).flatten()
    }

    /// Reports the absence of `key`.
    pub(super) fn require(&self, key: &str, what: &str, report: &mut Report) -> bool {
        let is_there = self.get(key).is_some();
        if !is_there {
            report.error(self.path_of(key), format!("is missing; expected {what}"));
        }
        is_there
    }

    /// A text that may be empty.
    pub(super) fn any_text(&self, key: &str, report: &mut Report) -> Option<&'a str> {
        match self.get(key)? {
            Value::String(text) => Some(text),
            other => {
                report.error(self.path_of(key), expected("a string", other));
                None
            }
        }
    }

    /// `true` or `false`.
    pub(super) fn flag(&self, key: &str, report: &mut Report) -> Option<bool> {
        match self.get(key)? {
            Value::Bool(flag) => Some(*flag),
            other => {
                report.error(self.path_of(key), expected("true or false", other));
                None
            }
        }
    }

    /// A whole number of at least `least`.
    pub(super) fn count(&self, key: &str, least: u64, report: &mut Report) -> Option<usize> {
        let value = self.get(key)?;
        let number = value.as_u64().filter(|&number| number >= least);
        let number = number.and_then(|number| usize::try_from(number).ok());
        if number.is_none() {
            let wanted = format!("a whole number of at least {least}");
            report.error(self.path_of(key), expected(&wanted, value));
        }
        number
    }

    /// A number that is finite and not negative.
    pub(super) fn number(&self, key: &str, report: &mut Report) -> Option<f64> {
        let value = self.get(key)?;
        let number = value.as_f64().filter(|number| number.is_finite() && *number >= 0.0);
        if number.is_none() {
            report.error(self.path_of(key), expected("a number of at least 0", value));
        }
        number
    }

    /// A number of seconds, more than 0 and at most a year: nobody means more, and it would overflow a timer.
    pub(super) fn seconds(&self, key: &str, report: &mut Report) -> Option<Duration> {
        let value = self.get(key)?;
        let seconds = value.as_f64().filter(|seconds| *seconds > 0.0 && *seconds <= 31_536_000.0);
        if seconds.is_none() {
            report.error(
                self.path_of(key),
                expected("a number of seconds, more than 0 and at most 31536000", value),
            );
        }
        seconds.map(Duration::from_secs_f64)
    }

    /// One of a few words.
    pub(super) fn word<T>(&self, key: &str, words: &[(&str, T)], report: &mut Report) -> Option<T>
    where
        T: Copy,
    {
        let value = self.get(key)?;
        let found = value.as_str().and_then(|text| words.iter().find(|(word, _)| *word == text));
        if found.is_none() {
            let list: Vec<_> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
            report.error(self.path_of(key), expected(&list.join(" or "), value));
        }
        found.map(|(_, meaning)| *meaning)
    }

    /// A list.
    pub(super) fn list(&self, key: &str, report: &mut Report) -> Option<&'a [Value]> {
        match self.get(key)? {
            Value::Array(items) => Some(items),
            other => {
                report.error(self.path_of(key), expected("a list", other));
                None
            }
        }
    }

    /// An object.
    pub(super) fn table(&self, key: &str, report: &mut Report) -> Option<Self> {
        Self::of(self.get(key)?, self.path_of(key), report)
    }
}

/// "expected X, found a number". Says the type of what was found, never its value: that may be a secret.
pub(super) fn expected(what: &str, found: &Value) -> String {
    let found = match found {
        Value::Null => "null",
        Value::Bool(true) => "true",
        Value::Bool(false) => "false",
        Value::Number(_) => "another number",
        Value::String(_) => "another text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    // "expected a string, found another number" would be odd.
    let found = match found {
        "another number" if !what.contains("number") => "a number",
        "another text" if !what.contains('"') => "a string",
        other => other,
    };
    format!("expected {what}, found {found}")
}
