//! No secret leaves: key, host and port of a backend are taken out of what it says about its failures.

use awc::http::Uri;
use memchr::memmem;
use serde_json::Value;

use crate::options::HttpBackend;
use crate::secret::Secret;

const HIDDEN: &str = "***";

/// What must not be seen.
pub(super) struct Redactor {
    words: Vec<String>,
    port: Option<String>,
}

impl Redactor {
    pub(super) fn new(backend: &HttpBackend) -> Self {
        let uri: Option<Uri> = backend.url.reveal().parse().ok();
        let host = uri.as_ref().and_then(Uri::host).unwrap_or_default().trim_matches(['[', ']']);
        let mut words: Vec<String> = vec![host.to_owned()];
        // The loopback has many names, and a server says its own.
        if ["localhost", "127.0.0.1", "::1", "0.0.0.0"].contains(&host) {
            words.extend(["localhost", "127.0.0.1", "::1", "0.0.0.0"].map(str::to_owned));
        }
        words.extend(backend.api_key.as_ref().map(Secret::reveal).map(str::to_owned));
        words.retain(|word| !word.is_empty());
        // The longest first: a host may be a part of a key.
        words.sort_by_key(|word| std::cmp::Reverse(word.len()));
        words.dedup();
        // The usual ports of the web say nothing, and their numbers are common.
        let port = uri.as_ref().and_then(Uri::port_u16).filter(|port| ![80, 443].contains(port));
        Self { words, port: port.map(|port| port.to_string()) }
    }

    /// `text` without them.
    pub(super) fn text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for word in &self.words {
            text = replaced(&text, word, |_, _| true);
        }
        if let Some(port) = &self.port {
            let is_digit = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_digit);
            text = replaced(&text, port, |before, after| !is_digit(before) && !is_digit(after));
        }
        text
    }

    /// The JSON text `json` without them in its keys, strings and numbers. What is no JSON is dropped.
    pub(super) fn json(&self, json: &str) -> String {
        if !self.touches(json) {
            return json.to_owned();
        }
        let mut value: Value = serde_json::from_str(json).unwrap_or_default();
        self.walk(&mut value);
        value.to_string()
    }

    /// Whether any of them may be in `text`, escaped or not: most errors name nothing.
    fn touches(&self, text: &str) -> bool {
        text.contains('\\') || self.text(text) != text
    }

    fn walk(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.text(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.walk(item)),
            Value::Object(members) => {
                *members = std::mem::take(members)
                    .into_iter()
                    .map(|(key, mut value)| {
                        self.walk(&mut value);
                        (self.text(&key), value)
                    })
                    .collect();
            }
            Value::Number(number) if self.port.as_ref() == Some(&number.to_string()) => *value = Value::Null,
            Value::Number(_) | Value::Bool(_) | Value::Null => (),
        }
    }
}

/// `text` with each `word` hidden, in any case of its ASCII letters, where its neighbours allow.
fn replaced(text: &str, word: &str, allowed: impl Fn(Option<&u8>, Option<&u8>) -> bool) -> String {
    let (haystack, needle) = (text.to_ascii_lowercase(), word.to_ascii_lowercase());
    let bytes = haystack.as_bytes();
    let mut out = String::with_capacity(text.len());
    let mut copied = 0;
    for at in memmem::find_iter(bytes, needle.as_bytes()) {
        let end = at + needle.len();
        let before = at.checked_sub(1).and_then(|before| bytes.get(before));
        if allowed(before, bytes.get(end)) {
            out.push_str(&text[copied..at]);
            out.push_str(HIDDEN);
            copied = end;
        }
    }
    out.push_str(&text[copied..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redactor() -> Redactor {
        let url = Secret::new("http://gpu.lan:8000/v1");
        Redactor::new(&HttpBackend { url, api_key: Some(Secret::new("sk-gpu.lan-1")) })
    }

    #[test]
    fn key_host_and_port_are_replaced_in_texts_and_all_over_a_json_body() {
        let redactor = redactor();
        assert_eq!(
            redactor.text("no route to GPU.lan:8000 with sk-gpu.lan-1"),
            "no route to ***:*** with ***"
        );
        let body = r#"{"error":{"message":"at gpu.lan:8000","port":8000,"u":"\u0067pu.lan","gpu.lan":["sk-gpu.lan-1"]}}"#;
        let clean = redactor.json(body);
        for secret in ["gpu.lan", "8000", "sk-"] {
            assert!(!clean.contains(secret), "{clean}");
        }
        assert!(clean.contains(r#""message":"at ***:***""#), "{clean}");
    }

    #[test]
    fn what_names_nothing_passes_unchanged() {
        let body = r#"{"error":{"message":"18000 tokens are 80001 too many","code":18446744073709551615}}"#;
        assert_eq!(redactor().json(body), body);
    }

    #[test]
    fn the_names_of_the_loopback_are_one() {
        let url = Secret::new("http://localhost:11434/v1");
        let redactor = Redactor::new(&HttpBackend { url, api_key: None });
        assert_eq!(redactor.text("dial tcp 127.0.0.1:11434"), "dial tcp ***:***");
    }
}
