//! Reads the keys of a JSON object one by one. A value of another type is reported with the path of its key.

use std::time::Duration;

use serde_json::{Map, Value};

use super::{
    keys::{Key, MAX_SECONDS, MAX_TOKENS, ValueType},
    near_miss::near_miss,
    report::Report,
};

/// A JSON object, its path in the file, and the keys that it may have. `null` counts as absent.
#[derive(Clone)]
pub(super) struct ObjectReader<'a> {
    map: &'a Map<String, Value>,
    path: String,
    keys: &'static [Key],
}

impl<'a> ObjectReader<'a> {
    /// Expects an object. Warns of keys that are probably misspelt.
    pub(super) fn new(
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
        let object = Self { map, path, keys };
        let names: Vec<_> = keys.iter().map(|key| key.name).collect();
        for key in map.keys() {
            if let Some(meant) = near_miss(key, &names) {
                report.warn(object.path_of(key), format!("unknown key, ignored; did you mean '{meant}'?"));
            }
        }
        Some(object)
    }

    fn value_type(&self, key: &str) -> Option<&'static ValueType> {
        let known = self.keys.iter().find(|known| known.name == key);
        debug_assert!(known.is_some(), "'{key}' is not in the table of keys");
        known.map(|known| &known.value)
    }

    pub(super) fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.value_type(key);
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// Converts a value, or reports that `what` was expected.
    fn convert<T>(
        &self,
        key: &str,
        what: &str,
        report: &mut Report,
        convert: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Option<T> {
        let value = self.get(key)?;
        let converted = convert(value);
        if converted.is_none() {
            report.error(self.path_of(key), expected(what, value));
        }
        converted
    }

    /// A text that is not empty.
    pub(super) fn text(&self, key: &str, report: &mut Report) -> Option<&'a str> {
        let text = self.any_text(key, report)?;
        if text.trim().is_empty() {
            report.error(self.path_of(key), "expected a text that is not empty");
            return None;
        }
        Some(text)
    }

    /// A text that is not empty; its absence is an error.
    pub(super) fn required_text(&self, key: &str, report: &mut Report) -> Option<&'a str> {
        self.require(key, "a string", report).then(|| self.text(key, report)).flatten()
    }

    /// A text that is not empty, or the key's default.
    pub(super) fn text_or_default(&self, key: &str, report: &mut Report) -> &'a str {
        let default = if let Some(ValueType::TextOr(default)) = self.value_type(key) { default } else { "" };
        self.text(key, report).unwrap_or(default)
    }

    /// Whether `key` is there; its absence is an error.
    pub(super) fn require(&self, key: &str, what: &str, report: &mut Report) -> bool {
        let is_there = self.get(key).is_some();
        if !is_there {
            report.error(self.path_of(key), format!("is missing; expected {what}"));
        }
        is_there
    }

    pub(super) fn any_text(&self, key: &str, report: &mut Report) -> Option<&'a str> {
        self.convert(key, "a string", report, Value::as_str)
    }

    pub(super) fn flag(&self, key: &str, report: &mut Report) -> Option<bool> {
        self.convert(key, "true or false", report, Value::as_bool)
    }

    pub(super) fn list(&self, key: &str, report: &mut Report) -> Option<&'a Vec<Value>> {
        self.convert(key, "a list", report, Value::as_array)
    }

    /// An object whose keys are not checked.
    pub(super) fn object(&self, key: &str, report: &mut Report) -> Option<&'a Map<String, Value>> {
        self.convert(key, "an object", report, Value::as_object)
    }

    /// An object with `keys`.
    pub(super) fn reader(&self, key: &str, keys: &'static [Key], report: &mut Report) -> Option<Self> {
        Self::new(self.get(key)?, self.path_of(key), keys, report)
    }

    /// A whole number, or the key's default.
    pub(super) fn count(&self, key: &str, report: &mut Report) -> Option<usize> {
        let (least, default) = match self.value_type(key) {
            Some(ValueType::Count { least, default }) => (*least, *default),
            Some(ValueType::Port(port)) => (1, Some(usize::from(*port))),
            _ => (0, None),
        };
        self.get(key).map_or(default, |_| {
            self.convert(key, &format!("a whole number of at least {least}"), report, |value| {
                usize::try_from(value.as_u64().filter(|&number| number >= least)?).ok()
            })
        })
    }

    /// A number of tokens.
    pub(super) fn tokens(&self, key: &str, report: &mut Report) -> Option<u32> {
        self.convert(key, &format!("a whole number from 1 to {MAX_TOKENS}"), report, |value| {
            u32::try_from(value.as_u64()?).ok().filter(|number| (1..=MAX_TOKENS).contains(number))
        })
    }

    /// A number above 0.
    pub(super) fn rate(&self, key: &str, report: &mut Report) -> Option<f64> {
        self.convert(key, "a number above 0", report, |value| {
            value.as_f64().filter(|number| number.is_finite() && *number > 0.0)
        })
    }

    /// A number of seconds, or the key's default.
    pub(super) fn seconds(&self, key: &str, report: &mut Report) -> Option<Duration> {
        let default =
            if let Some(ValueType::Seconds(default)) = self.value_type(key) { *default } else { None };
        let what = format!("a number of seconds, more than 0 and at most {MAX_SECONDS}");
        self.get(key).map_or(default, |_| {
            self.convert(key, &what, report, |value| {
                let seconds = value.as_f64().filter(|seconds| *seconds > 0.0 && *seconds <= MAX_SECONDS);
                seconds.map(Duration::from_secs_f64)
            })
        })
    }

    /// The meaning of one of the key's words.
    pub(super) fn word<T>(&self, key: &str, words: &[(&str, T)], report: &mut Report) -> Option<T>
    where
        T: Copy,
    {
        debug_assert!(
            !matches!(self.value_type(key), Some(ValueType::OneOf { words: known, .. })
                if !words.iter().all(|(word, _)| known.contains(word))),
            "'{key}' has other words in the table of keys"
        );
        let list: Vec<_> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        self.convert(key, &list.join(" or "), report, |value| {
            words.iter().find(|(word, _)| value == word).map(|(_, meaning)| *meaning)
        })
    }
}

/// "expected X, found a number". Tells the type of `found`, never its value, which may be a secret.
pub(super) fn expected(what: &str, found: &Value) -> String {
    let found = match found {
        Value::Null => "null",
        Value::Bool(true) => "true",
        Value::Bool(false) => "false",
        Value::Number(_) if what.contains("number") => "another number",
        Value::Number(_) => "a number",
        Value::String(_) if what.contains('"') => "another text",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    format!("expected {what}, found {found}")
}
