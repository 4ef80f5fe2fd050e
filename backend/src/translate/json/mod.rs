//! A JSON tree whose scalars stay text. Large integers, `1e999`, `1.10` and lone surrogates (`\ud83d`), which `serde_json::Value`
//! rounds or rejects, are kept unchanged.

use std::borrow::Cow;
use std::fmt;

use wire::json::{JsonError, compact, is_small_tree, quote};
use wire::openai::token_count;

mod read;
mod text;

pub(super) use text::{escape, escaped_char, unescape, without_half};

use read::Reader;
use text::is_escaped;

/// A JSON value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Json<'a> {
    /// A string (quoted), a number, `true`, `false` or `null`; or any other compact JSON that is not parsed.
    Text(Cow<'a, str>),
    Array(Vec<Json<'a>>),
    /// Members in order. Keys are escaped.
    Object(Vec<(Cow<'a, str>, Json<'a>)>),
}

impl<'a> Json<'a> {
    pub(super) const NULL: Json<'static> = Json::Text(Cow::Borrowed("null"));

    /// Parses `text`, whose syntax must have been checked by [`compact`].
    pub(super) fn of_compact(text: &'a str) -> Self {
        Reader::new(text).value()
    }

    /// Parses `text`, which must have at most [`MAX_VALUES`](wire::json::MAX_VALUES) values.
    pub(super) fn parse(text: &str) -> Result<Json<'static>, JsonError> {
        is_small_tree(text)?;
        Ok(Json::of_compact(&compact(text)?).into_owned())
    }

    /// Wraps compact JSON without parsing it.
    pub(super) fn raw(text: impl Into<Cow<'a, str>>) -> Self {
        Self::Text(text.into())
    }

    /// Builds a string from its escaped text.
    pub(super) fn from_fragment(fragment: &str) -> Self {
        Self::Text(Cow::Owned(format!("\"{fragment}\"")))
    }

    /// Builds an object.
    pub(super) fn object<const N: usize>(members: [(&'static str, Json<'a>); N]) -> Self {
        Self::Object(members.into_iter().map(|(key, value)| (Cow::Borrowed(key), value)).collect())
    }

    /// Returns the last member `key`; `None` if it is `null`, or if this is no object.
    pub(super) fn get(&self, key: &str) -> Option<&Json<'a>> {
        let Self::Object(members) = self else { return None };
        let found = members.iter().rev().find(|(name, _)| is_escaped(name, key));
        found.map(|(_, value)| value).filter(|value| !value.is_null())
    }

    /// Returns the string member `key`, unescaped.
    pub(super) fn get_str(&self, key: &str) -> Option<Cow<'_, str>> {
        self.get(key)?.as_str()
    }

    /// Returns the string member `key`, escaped; empty if there is none.
    pub(super) fn get_fragment(&self, key: &str) -> &str {
        self.get(key).and_then(Json::fragment).unwrap_or_default()
    }

    /// Whether member `key` is `true`.
    pub(super) fn get_bool(&self, key: &str) -> bool {
        matches!(self.get(key), Some(Self::Text(text)) if text == "true")
    }

    /// Returns the elements of the array `key`; none if there is no such array.
    pub(super) fn get_items(&self, key: &str) -> &[Json<'a>] {
        self.get(key).map(Json::items).unwrap_or_default()
    }

    /// Appends a member to an object.
    pub(super) fn put(&mut self, key: &'static str, value: impl Into<Json<'a>>) {
        if let Self::Object(members) = self {
            members.push((Cow::Borrowed(key), value.into()));
        }
    }

    /// Appends a member to an object if there is a value.
    pub(super) fn put_some(&mut self, key: &'static str, value: Option<Json<'a>>) {
        if let Some(value) = value {
            self.put(key, value);
        }
    }

    /// Returns the elements of an array; none if this is no array.
    pub(super) fn items(&self) -> &[Json<'a>] {
        match self {
            Self::Array(items) => items,
            _ => &[],
        }
    }

    /// Returns the escaped text of a string.
    pub(super) fn fragment(&self) -> Option<&str> {
        match self {
            Self::Text(text) => text.strip_prefix('"')?.strip_suffix('"'),
            _ => None,
        }
    }

    /// Like [`fragment`](Self::fragment), but borrowed from the parsed text; empty if this is no string.
    pub(super) fn shared_fragment(&self) -> Cow<'a, str> {
        match self {
            Self::Text(Cow::Borrowed(text)) => Cow::Borrowed(
                text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or_default(),
            ),
            other => Cow::Owned(other.fragment().unwrap_or_default().to_owned()),
        }
    }

    /// Returns the escaped text of a string, or the JSON of another value as escaped text.
    pub(super) fn to_fragment(&self) -> String {
        self.fragment().map_or_else(|| escape(&self.to_string()), str::to_owned)
    }

    /// Returns a string, unescaped except for lone surrogates.
    pub(super) fn as_str(&self) -> Option<Cow<'_, str>> {
        self.fragment().map(unescape)
    }

    /// Returns a count, which can be written as a float (`12.0`).
    pub(super) fn as_count(&self) -> Option<u64> {
        let Self::Text(text) = self else { return None };
        token_count(text)
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(self, Self::Text(text) if text == "null")
    }

    pub(super) fn is_string(&self) -> bool {
        self.fragment().is_some()
    }

    pub(super) fn is_object(&self) -> bool {
        matches!(self, Self::Object(_))
    }

    fn into_owned(self) -> Json<'static> {
        match self {
            Self::Text(text) => Json::Text(Cow::Owned(text.into_owned())),
            Self::Array(items) => Json::Array(items.into_iter().map(Json::into_owned).collect()),
            Self::Object(members) => Json::Object(
                members
                    .into_iter()
                    .map(|(key, value)| (Cow::Owned(key.into_owned()), value.into_owned()))
                    .collect(),
            ),
        }
    }
}

impl fmt::Display for Json<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Array(items) => {
                f.write_str("[")?;
                for (index, item) in items.iter().enumerate() {
                    f.write_str(if index > 0 { "," } else { "" })?;
                    item.fmt(f)?;
                }
                f.write_str("]")
            }
            Self::Object(members) => {
                f.write_str("{")?;
                for (index, (key, value)) in members.iter().enumerate() {
                    write!(f, "{}\"{key}\":{value}", if index > 0 { "," } else { "" })?;
                }
                f.write_str("}")
            }
        }
    }
}

impl From<&str> for Json<'_> {
    fn from(text: &str) -> Self {
        Self::Text(Cow::Owned(quote(text)))
    }
}

impl From<bool> for Json<'_> {
    fn from(value: bool) -> Self {
        Self::Text(Cow::Borrowed(if value { "true" } else { "false" }))
    }
}

impl From<u64> for Json<'_> {
    fn from(value: u64) -> Self {
        Self::Text(Cow::Owned(value.to_string()))
    }
}
