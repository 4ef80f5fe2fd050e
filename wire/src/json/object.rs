//! A JSON object of which a few members are read or changed and the rest is passed on unchanged.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{JsonError, MAX_MEMBERS, folds, quote};

/// The members of one JSON object, in order, duplicates included; values as JSON text.
#[derive(Debug, Clone, Default)]
pub struct Object<'a> {
    members: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

impl<'a> Object<'a> {
    /// Parses an object of at most [`MAX_MEMBERS`] members. Values are checked for syntax but not for depth: pass untrusted text
    /// through [`super::compact`] first.
    pub fn parse(text: &'a str) -> Result<Self, JsonError> {
        serde_json::from_str(text).map_err(|error| match error.classify() {
            serde_json::error::Category::Data if text.trim_ascii_start().starts_with('{') => {
                JsonError::TooManyMembers
            }
            serde_json::error::Category::Data => JsonError::NotAnObject,
            _ => JsonError::Syntax(error.column().saturating_sub(1)),
        })
    }

    /// Returns the JSON text of member `key`, compared after unescaping. Of duplicates the last counts, as for most readers.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.members.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value.as_ref())
    }

    /// Returns member `key` if it is a string.
    pub fn get_string(&self, key: &str) -> Option<String> {
        serde_json::from_str(self.get(key)?).ok()
    }

    /// Returns member `key` if it is a boolean.
    pub fn get_bool(&self, key: &str) -> Option<bool> {
        serde_json::from_str(self.get(key)?).ok()
    }

    /// Iterates over keys and JSON values in order.
    pub fn members(&self) -> impl Iterator<Item = (&str, &str)> {
        self.members.iter().map(|(key, value)| (key.as_ref(), value.as_ref()))
    }

    /// Sets member `key` to the JSON text `value` and removes its duplicates.
    pub fn set(&mut self, key: &'a str, value: impl Into<Cow<'a, str>>) {
        match self.members.iter().position(|(name, _)| name == key) {
            Some(first) => {
                self.members[first].1 = value.into();
                let mut at = 0;
                self.members.retain(|(name, _)| {
                    at += 1;
                    at - 1 == first || name != key
                });
            }
            None => self.members.push((Cow::Borrowed(key), value.into())),
        }
    }

    /// Sets member `key` unless the object has it.
    pub fn set_default(&mut self, key: &'a str, value: impl Into<Cow<'a, str>>) {
        if self.get(key).is_none() {
            self.members.push((Cow::Borrowed(key), value.into()));
        }
    }

    /// Adds the members of `defaults` that the object lacks, in linear time. Of duplicates the last counts.
    pub fn set_defaults(&mut self, defaults: impl IntoIterator<Item = (&'a str, &'a str)>) {
        let (mut new, mut places) = (Vec::new(), HashMap::new());
        for (key, value) in defaults {
            match places.entry(key) {
                Entry::Occupied(place) => new[*place.get()] = (key, value),
                Entry::Vacant(place) => {
                    place.insert(new.len());
                    new.push((key, value));
                }
            }
        }
        if new.is_empty() {
            return;
        }
        for (name, _) in &self.members {
            places.remove(name.as_ref());
        }
        let missing = new.into_iter().filter(|(key, _)| places.contains_key(key));
        self.members.extend(missing.map(|(key, value)| (key.into(), value.into())));
    }

    /// Removes every member `key`.
    pub fn remove(&mut self, key: &str) {
        self.members.retain(|(name, _)| name != key);
    }

    /// Removes every member that only some readers read as `key` ([`folds`]).
    pub(crate) fn remove_odd(&mut self, key: &str) {
        self.members.retain(|(name, _)| name == key || !folds(name, key));
    }

    /// Removes every member whose name satisfies `is_removed`, and returns whether there was one.
    pub fn remove_if(&mut self, is_removed: impl Fn(&str) -> bool) -> bool {
        let before = self.members.len();
        self.members.retain(|(name, _)| !is_removed(name));
        self.members.len() < before
    }

    /// Renames every member `from`.
    pub fn rename(&mut self, from: &str, to: &'a str) {
        for (name, _) in &mut self.members {
            if name == from {
                *name = Cow::Borrowed(to);
            }
        }
    }
}

impl fmt::Display for Object<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (index, (key, value)) in self.members.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            write!(f, "{}:{value}", quote(key))?;
        }
        f.write_str("}")
    }
}

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(Key(key)) = map.next_key()? {
                    if members.len() == MAX_MEMBERS {
                        return Err(A::Error::custom("too many members"));
                    }
                    members.push((key, Cow::Borrowed(map.next_value::<&RawValue>()?.get())));
                }
                Ok(Object { members })
            }
        }
        deserializer.deserialize_map(Members)
    }
}
