//! Removes a backend's key and address from what it says about its failures.
//!
//! Only whole tokens in the text of JSON strings go: names of members, numbers and codes stay byte for byte.

use std::borrow::Cow;

use hyper::Uri;
use memchr::memmem;
use wire::json::{quote, unquote};

use crate::HttpBackend;

const HIDDEN: &str = "***";
/// Shortest key that is searched for: `none`, `local` and `e` are words, and no secrets.
const MIN_KEY: usize = 8;
/// Names of the loopback: a server says its own, whichever the configuration has.
const LOOPBACK: [&str; 5] = ["localhost", "127.0.0.1", "[::1]", "::1", "0.0.0.0"];

/// What must not be seen.
pub(crate) struct Redactor {
    key: Option<String>,
    /// Host names, lower case: removed with `port` behind them, and alone where they are no plain word.
    hosts: Vec<String>,
    port: Option<String>,
}

impl Redactor {
    pub(crate) fn new(backend: &HttpBackend) -> Self {
        let uri: Option<Uri> = backend.url.reveal().parse().ok();
        let host = uri.as_ref().and_then(Uri::host).unwrap_or_default().to_ascii_lowercase();
        let bare = host.trim_matches(['[', ']']).to_owned();
        let mut hosts = vec![host, bare];
        if LOOPBACK.iter().any(|name| hosts.iter().any(|host| host == name)) {
            hosts.extend(LOOPBACK.map(str::to_owned));
        }
        hosts.retain(|host| !host.is_empty());
        // The longest first: one may be a part of another.
        hosts.sort_by_key(|host| std::cmp::Reverse(host.len()));
        hosts.dedup();
        let key = backend.api_key.as_ref().map(|key| key.reveal().to_owned());
        Self {
            key: key.filter(|key| key.len() >= MIN_KEY),
            hosts,
            port: uri.as_ref().and_then(Uri::port_u16).map(|port| port.to_string()),
        }
    }

    /// `text` without them.
    pub(crate) fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut text = Cow::Borrowed(text);
        if let Some(key) = &self.key
            && let Some(clean) = replaced(&text, &text, key, |_, rest| Some(rest))
        {
            text = Cow::Owned(clean);
        }
        for host in &self.hosts {
            let lower = text.to_ascii_lowercase();
            let clean = replaced(&text, &lower, host, |_, rest| {
                let port = self.port.as_ref().and_then(|port| {
                    let rest = rest.strip_prefix(':')?.strip_prefix(port.as_str())?;
                    (!rest.starts_with(|next: char| next.is_ascii_digit())).then_some(rest)
                });
                port.or_else(|| host.contains(['.', ':']).then_some(rest))
            });
            if let Some(clean) = clean {
                text = Cow::Owned(clean);
            }
        }
        text
    }

    /// The JSON text `json` without them in the strings that are values. All else stays as it is, byte for byte.
    pub(crate) fn json(&self, json: &str) -> String {
        let mut out = String::with_capacity(json.len());
        let mut copied = 0;
        for (start, end) in string_values(json) {
            let Some(said) = unquote(&json[start..end]) else { continue };
            if let Cow::Owned(clean) = self.text(&said) {
                out.push_str(&json[copied..start]);
                out.push_str(&quote(&clean));
                copied = end;
            }
        }
        out.push_str(&json[copied..]);
        out
    }
}

/// `text` with each whole token `word` hidden, together with what `rest_of` takes of the text behind it; `None` of it
/// lets the word stand. `None`: nothing was hidden. `folded` is `text` in the case of `word`, of the same length.
fn replaced(
    text: &str,
    folded: &str,
    word: &str,
    rest_of: impl for<'r> Fn(&str, &'r str) -> Option<&'r str>,
) -> Option<String> {
    let mut out = String::new();
    let mut copied = 0;
    for at in memmem::find_iter(folded.as_bytes(), word.as_bytes()) {
        let end = at + word.len();
        if at < copied || !is_token(text, at, end) {
            continue;
        }
        let Some(rest) = rest_of(word, &text[end..]) else { continue };
        out.push_str(&text[copied..at]);
        out.push_str(HIDDEN);
        copied = text.len() - rest.len();
    }
    (copied > 0).then(|| {
        out.push_str(&text[copied..]);
        out
    })
}

/// Whether no letter, digit, `-` or `_` continues the token `text[start..end]`, nor a dot with more of a name beyond it.
fn is_token(text: &str, start: usize, end: usize) -> bool {
    let is_part = |next: char| next.is_alphanumeric() || next == '-' || next == '_';
    let mut before = text[..start].chars().rev();
    let mut after = text[end..].chars();
    let begins = match before.next() {
        Some('.') => !before.next().is_some_and(is_part),
        previous => !previous.is_some_and(is_part),
    };
    let ends = match after.next() {
        Some('.') => !after.next().is_some_and(is_part),
        next => !next.is_some_and(is_part),
    };
    begins && ends
}

/// Where the strings of `json` that are values begin and end, with their quotes. A string with a colon behind it is a
/// key.
fn string_values(json: &str) -> impl Iterator<Item = (usize, usize)> {
    let bytes = json.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let start = at + memchr::memchr(b'"', bytes.get(at..)?)?;
            let mut end = start + 1;
            while *bytes.get(end)? != b'"' {
                end += if bytes[end] == b'\\' { 2 } else { 1 };
            }
            at = end + 1;
            let next = bytes[at..].iter().find(|byte| !byte.is_ascii_whitespace());
            if next != Some(&b':') {
                return Some((start, at));
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Secret;

    fn redactor(url: &str, key: &str) -> Redactor {
        Redactor::new(&HttpBackend { url: Secret::new(url), api_key: Some(Secret::new(key)) })
    }

    #[test]
    fn key_and_address_are_removed_from_texts_and_from_the_strings_of_a_body() {
        let redactor = redactor("http://gpu.lan:8000/v1", "sk-gpu.lan-1");
        let text = "no route to GPU.lan:8000 with sk-gpu.lan-1, nor to gpu.lan.";
        assert_eq!(redactor.text(text), "no route to *** with ***, nor to ***.");
        let body = r#"{"error":{"message":"at gpu.lan:8000", "u":"\u0067pu.lan:8000/v1","port":8000,"gpu.lan":["sk-gpu.lan-1"]}}"#;
        assert_eq!(
            redactor.json(body),
            r#"{"error":{"message":"at ***", "u":"***/v1","port":8000,"gpu.lan":["***"]}}"#
        );
    }

    #[test]
    fn a_key_that_is_a_word_and_a_port_that_is_a_number_stay() {
        for key in ["none", "local", "e", "context"] {
            let body = r#"{"error":{"message":"the local context of 4096 tokens is none","n_ctx":4096,"code":"none"}}"#;
            assert_eq!(redactor("http://gpu:4096/v1", key).json(body), body, "{key}");
        }
        let redactor = redactor("http://gpu:4096/v1", "length-1");
        assert_eq!(
            redactor.text("a gpu at GPU:4096, gpu:40961 and gpu:409"),
            "a gpu at ***, gpu:40961 and gpu:409"
        );
        assert_eq!(redactor.text("length-1 length-12 xlength-1 (length-1)"), "*** length-12 xlength-1 (***)");
    }

    /// Values that a tree would round or refuse pass byte for byte, also beside a secret.
    #[test]
    fn what_names_nothing_passes_byte_for_byte() {
        let redactor = redactor("http://10.1.2.3:9000", "sk-secret-key");
        let rest = r#""half":"\ud83d","big":18446744073709551615,"huge":1e999,"price":1.10,"x" : [ -0.0, "\u00e9" ]"#;
        let body =
            format!(r#"{{"message":"sk-secret-key at 10.1.2.3","after":"\ud83d sk-secret-key",{rest}}}"#);
        let clean = redactor.json(&body);
        assert!(clean.ends_with(&format!("{rest}}}")), "{clean}");
        assert!(clean.starts_with(r#"{"message":"*** at ***","after":""#), "{clean}");
        assert!(!clean.contains("secret"), "{clean}");
    }

    #[test]
    fn the_names_of_the_loopback_are_one() {
        let redactor = redactor("http://localhost:11434/v1", "");
        assert_eq!(redactor.text("dial tcp 127.0.0.1:11434, [::1]:11434"), "dial tcp ***, ***");
        assert_eq!(redactor.text("localhost is not in no_proxy"), "localhost is not in no_proxy");
    }
}
