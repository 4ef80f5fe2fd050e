//! Redaction of a backend's key.

use std::sync::LazyLock;

use memchr::memchr;
use memchr::memmem::Finder;

use super::strings::{replaced, rewritten};
use super::{logprobs, url};

/// Common values for servers that require no key.
const PLACEHOLDERS: [&str; 9] = [
    "lm-studio",
    "not-needed",
    "no-key-needed",
    "no-key-required",
    "sk-no-key-required",
    "password",
    "changeme",
    "placeholder",
    "anything",
];
/// Prefix of the JSON escape of an ASCII character. Built once: the search is made for every chunk.
static ASCII_ESCAPE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\\u00"));
/// Minimum length of a key, in bytes, to be redacted inside a longer word, too.
pub(super) const LONG_KEY: usize = 16;

/// A key to redact.
pub(crate) struct Key {
    pub(super) text: String,
    /// Finds the key.
    finder: Finder<'static>,
    /// Finds the longest part of the key that JSON encoders never escape. A text with neither that part nor an ASCII escape does not
    /// contain the key.
    core: Finder<'static>,
    /// Whether the key is redacted in answers, too. A placeholder or a plain word is redacted in errors only.
    pub(super) is_secret: bool,
    /// Whether a URL escapes the key.
    is_encoded: bool,
}

impl Key {
    pub(super) fn new(text: &str) -> Self {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let core = text.split(|c| !plain(c)).max_by_key(|part| part.len()).unwrap_or_default();
        let is_word = text.len() < 12 && text.bytes().all(|byte| byte.is_ascii_lowercase());
        Self {
            text: text.to_owned(),
            finder: Finder::new(text).into_owned(),
            core: Finder::new(core).into_owned(),
            is_secret: !is_word && !PLACEHOLDERS.contains(&text),
            is_encoded: !text.bytes().all(url::is_unreserved),
        }
    }

    /// Redacts the key in `text`, plain and URL-encoded; `None` if it does not occur.
    pub(super) fn redact(&self, text: &str) -> Option<String> {
        let is_short = self.text.len() < LONG_KEY;
        let redacted = replaced(text, text, &self.finder, is_short, |rest| Some(rest));
        if !self.is_encoded {
            return redacted;
        }
        let left = redacted.as_deref().unwrap_or(text);
        if memchr(b'%', left.as_bytes()).is_none() || self.core.find(left.as_bytes()).is_none() {
            return redacted;
        }
        url::redact(left, &self.text, is_short).or(redacted)
    }

    /// Redacts the key in a JSON text, and removes log probabilities, which repeat it; `None` if it does not occur.
    pub(super) fn redact_json(&self, json: &str) -> Option<String> {
        if self.core.find(json.as_bytes()).is_none() && ASCII_ESCAPE.find(json.as_bytes()).is_none() {
            return None;
        }
        rewritten(json, |text| self.redact(text)).map(logprobs::remove)
    }
}
