//! Reads the keys of a JSON object one by one; what is not as expected goes to the report with its path.

use std::time::Duration;

use serde_json::{Map, Value};

use super::{
    keys::{Key, MAX_SECONDS, Shape},
    near_miss::near_miss,
    report::Report,
};

/// A JSON object, its path in the file, and the keys that it may have.
#[derive(Clone)]
pub(super) struct Table<'a> {
    map: &'a Map<String, Value>,
    path: String,
    keys: &'static [Key],
}

impl<'a> Table<'a> {
    /// Reads `value` as an object with `keys`. A key that is nearly, but not quite, one of them is a warning.
    pub(super) fn of(
        value: &'a Value,
        path: impl Into<String>,
        keys: &'static [Key],
        report: &mut Report,
    ) -> Option<Self> {
        let path = path.into();
        let Value::Object(map) = value else {
            report.error(path, expected("an object", value));
            return None;
        };
        let table = Self { map, path, keys };
        let names: Vec<_> = keys.iter().map(|key| key.name).collect();
        for key in map.keys() {
            if let Some(meant) = near_miss(key, &names) {
                report.warn(table.path_of(key), format!("unknown key, ignored; did you mean '{meant}'?"));
            }
        }
        Some(table)
    }

    /// The values that the table of keys gives `key`.
    fn shape(&self, key: &str) -> Option<&'static Shape> {
        let known = self.keys.iter().find(|known| known.name == key);
        debug_assert!(known.is_some(), "'{key}' is not in the table of keys");
        known.map(|known| &known.value)
    }

    /// The path of one of its keys.
    pub(super) fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// The examples of a key's value.
    pub(super) fn examples(&self, key: &str) -> &'static [&'static str] {
        if let Some(Shape::TextLike(examples)) = self.shape(key) { examples } else { &[] }
    }

    /// The value of `key`; null is as good as absent.
    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.shape(key);
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

    /// A whole number, or the key's default.
    pub(super) fn count(&self, key: &str, report: &mut Report) -> Option<usize> {
        let (least, default) = match self.shape(key) {
            Some(Shape::Count { least, default }) => (*least, *default),
            Some(Shape::Port(port)) => (1, Some(usize::from(*port))),
            _ => (0, None),
        };
        let Some(value) = self.get(key) else { return default };
        let number = value.as_u64().filter(|&number| number >= least);
        let number = number.and_then(|number| usize::try_from(number).ok());
        if number.is_none() {
            let wanted = format!("a whole number of at least {least}");
            report.error(self.path_of(key), expected(&wanted, value));
        }
        number
    }

    /// A number above 0.
    pub(super) fn rate(&self, key: &str, report: &mut Report) -> Option<f64> {
        let value = self.get(key)?;
        let number = value.as_f64().filter(|number| number.is_finite() && *number > 0.0);
        if number.is_none() {
            report.error(self.path_of(key), expected("a number above 0", value));
        }
        number
    }

    /// A number of seconds, or the key's default.
    pub(super) fn seconds(&self, key: &str, report: &mut Report) -> Option<Duration> {
        let Some(value) = self.get(key) else {
            return match self.shape(key) {
                Some(Shape::Seconds(default)) => *default,
                _ => None,
            };
        };
        let seconds = value.as_f64().filter(|seconds| *seconds > 0.0 && *seconds <= MAX_SECONDS);
        if seconds.is_none() {
            let wanted = format!("a number of seconds, more than 0 and at most {MAX_SECONDS}");
            report.error(self.path_of(key), expected(&wanted, value));
        }
        seconds.map(Duration::from_secs_f64)
    }

    /// A text that is not empty, or the key's default.
    pub(super) fn text_or_default(&self, key: &str, report: &mut Report) -> &'a str {
        let default = if let Some(Shape::TextOr(default)) = self.shape(key) { default } else { "" };
        self.text(key, report).unwrap_or(default)
    }

    /// One of the key's words, by what each of them means.
    pub(super) fn word<T>(&self, key: &str, words: &[(&str, T)], report: &mut Report) -> Option<T>
    where
        T: Copy,
    {
        debug_assert!(
            !matches!(self.shape(key), Some(Shape::OneOf { words: known, .. })
                if !words.iter().all(|(word, _)| known.contains(word))),
            "'{key}' has other words in the table of keys"
        );
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

    /// An object with `keys`.
    pub(super) fn table(&self, key: &str, keys: &'static [Key], report: &mut Report) -> Option<Self> {
        Self::of(self.get(key)?, self.path_of(key), keys, report)
    }

    /// An object of whatever keys.
    pub(super) fn object(&self, key: &str, report: &mut Report) -> Option<&'a Map<String, Value>> {
        let value = self.get(key)?;
        if value.is_object() {
            value.as_object()
        } else {
            report.error(self.path_of(key), expected("an object", value));
            None
        }
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
