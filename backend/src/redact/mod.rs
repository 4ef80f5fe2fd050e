//! Removes a backend's key from all that it says, and from what it says about its failures its address, home directories
//! and what else tells of its network.
//!
//! Only texts of JSON strings change, names of members among them: numbers and codes stay byte for byte.

mod local_info;
mod logprobs;
mod stream;
mod url;

use std::borrow::Cow;
use std::sync::Arc;

use hyper::Uri;
use memchr::memmem::{self, Finder};
use memchr::{memchr, memchr2};
use wire::json::{each_member, quote, unquote};

use crate::{HttpBackend, Secret};

pub(crate) use stream::StreamRedactor;

const HIDDEN: &str = "***";
/// Shortest key that is searched for: `none`, `local` and `e` are words, and no secrets.
const MIN_KEY: usize = 8;
/// Names of the loopback: a server says its own, whichever the configuration has.
const LOOPBACK: [&str; 5] = ["localhost", "127.0.0.1", "[::1]", "::1", "0.0.0.0"];

/// A host name of fewer characters is removed as one of these is.
const MIN_NAME: usize = 3;
/// Host names that are words of many an error: removed only where they stand as a host.
const WORDS: [&str; 32] = [
    "ai",
    "api",
    "backend",
    "box",
    "client",
    "container",
    "cpu",
    "cuda",
    "desktop",
    "gateway",
    "gpu",
    "host",
    "inference",
    "laptop",
    "litellm",
    "llama",
    "llm",
    "lmstudio",
    "local",
    "localai",
    "localhost",
    "machine",
    "model",
    "node",
    "ollama",
    "openai",
    "proxy",
    "server",
    "service",
    "sglang",
    "vllm",
    "worker",
];

/// Keys that servers without any are given: words, and no secrets.
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
/// Members in which a response tells why it failed or stopped.
const FAILURES: [&str; 3] = ["error", "last_error", "incomplete_details"];
/// How any ASCII character may be written in a JSON string.
const ASCII_ESCAPE: &[u8] = b"\\u00";
/// A key of this length is no part of a word: it is hidden wherever it stands.
const LONG_KEY: usize = 16;

/// A key that must not be seen.
pub(crate) struct Key {
    text: String,
    /// Finds all of it.
    whole: Finder<'static>,
    /// The longest part of it that no encoder of JSON has to escape: what has neither that nor an escape of such a character
    /// has not the key.
    core: Finder<'static>,
    /// Whether it is cut out of answers too, where a word would be a loss.
    is_secret: bool,
    /// Whether a URL has other characters in its place.
    is_encoded: bool,
}

impl Key {
    fn new(text: &str) -> Self {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let core = text.split(|c| !plain(c)).max_by_key(|part| part.len()).unwrap_or_default();
        let is_word = text.len() < 12 && text.bytes().all(|byte| byte.is_ascii_lowercase());
        Self {
            text: text.to_owned(),
            whole: Finder::new(text).into_owned(),
            core: Finder::new(core).into_owned(),
            is_secret: !is_word && !PLACEHOLDERS.contains(&text),
            is_encoded: !text.bytes().all(url::is_unreserved),
        }
    }

    /// `text` without the key, as it is and as a URL writes it; `None` where it is not there.
    fn cut(&self, text: &str) -> Option<String> {
        let is_short = self.text.len() < LONG_KEY;
        let cut = replaced(text, text, &self.whole, is_short, |rest| Some(rest));
        if !self.is_encoded {
            return cut;
        }
        let left = cut.as_deref().unwrap_or(text);
        if memchr(b'%', left.as_bytes()).is_none() || self.core.find(left.as_bytes()).is_none() {
            return cut;
        }
        url::cut(left, &self.text, is_short).or(cut)
    }
}

/// A host name.
struct Host {
    name: String,
    finder: Finder<'static>,
}

/// What must not be seen.
pub(crate) struct Redactor {
    key: Option<Arc<Key>>,
    /// Host names of the backend and of this machine, lower case: removed with `port` behind them, and alone where they are
    /// none of [`WORDS`].
    hosts: Vec<Host>,
    port: Option<String>,
    /// The home directory of this program's user.
    home: Option<String>,
}

impl Redactor {
    pub(crate) fn new(backend: &HttpBackend) -> Self {
        Self::at(backend, &gethostname::gethostname().to_string_lossy())
    }

    /// That of a machine of this name.
    fn at(backend: &HttpBackend, machine: &str) -> Self {
        let uri: Option<Uri> = backend.url.reveal().parse().ok();
        let host = uri.as_ref().and_then(Uri::host).unwrap_or_default().to_ascii_lowercase();
        let bare = host.trim_matches(['[', ']']).to_owned();
        let mut hosts = vec![host, bare];
        if LOOPBACK.iter().any(|name| hosts.iter().any(|host| host == name)) {
            hosts.extend(LOOPBACK.map(str::to_owned));
        }
        let machine = machine.to_ascii_lowercase();
        hosts.extend(machine.split_once('.').map(|(label, _domain)| label.to_owned()));
        hosts.push(machine);
        hosts.retain(|host| !host.is_empty());
        // The longest first: one may be a part of another.
        hosts.sort_by_key(|host| std::cmp::Reverse(host.len()));
        hosts.dedup();
        let key = backend.api_key.as_ref().map(Secret::reveal).filter(|key| key.len() >= MIN_KEY);
        let of = |name: String| Host { finder: Finder::new(&name).into_owned(), name };
        Self {
            key: key.map(|key| Arc::new(Key::new(key))),
            hosts: hosts.into_iter().map(of).collect(),
            port: uri.as_ref().and_then(Uri::port_u16).map(|port| port.to_string()),
            home: std::env::var("HOME").ok(),
        }
    }

    /// What cuts the key out of the events of a stream; `None` where there is nothing to cut.
    pub(crate) fn stream_redactor(&self) -> Option<Box<StreamRedactor>> {
        self.key
            .as_ref()
            .filter(|key| key.is_secret)
            .map(|key| Box::new(StreamRedactor::new(Arc::clone(key))))
    }

    /// A successful answer, a JSON text, without the key. A search, for nearly all of them.
    pub(crate) fn answer(&self, json: String) -> String {
        self.key.as_ref().filter(|key| key.is_secret).and_then(|key| key.cut_json(&json)).unwrap_or(json)
    }

    /// An object of the Responses API, which tells its own failure as its `error`, `last_error` or `incomplete_details` or
    /// in its `response`: what it says there is told as any error is.
    pub(crate) fn failure(&self, json: String) -> String {
        // Most events have no such member.
        let has = |mark: &[u8]| memmem::find(json.as_bytes(), mark).is_some();
        if !has(b"\"error\"") && !has(b"\"last_error\"") && !has(b"\"incomplete_details\"") {
            return json;
        }
        self.told(&json, 0).unwrap_or(json)
    }

    /// The object `json` with the errors in it told so; `None` where it has none.
    fn told(&self, json: &str, depth: usize) -> Option<String> {
        let mut has_error = false;
        let mut out = String::from("{");
        let each = |key: &str, value: &str| {
            let told = match unquote(key).as_deref() {
                Some(key) if FAILURES.contains(&key) && value != "null" => Some(self.json(value)),
                Some("response") if depth == 0 && value.starts_with('{') => self.told(value, 1),
                _ => None,
            };
            has_error |= told.is_some();
            if out.len() > 1 {
                out.push(',');
            }
            out.push_str(key);
            out.push(':');
            out.push_str(told.as_deref().unwrap_or(value));
        };
        each_member(json, each).ok()?;
        out.push('}');
        has_error.then_some(out)
    }

    /// `text` without them.
    pub(crate) fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut text = Cow::Borrowed(text);
        if let Some(clean) = self.key.as_ref().and_then(|key| key.cut(&text)) {
            text = Cow::Owned(clean);
        }
        for host in &self.hosts {
            let lower = text.to_ascii_lowercase();
            let clean = replaced(&text, &lower, &host.finder, true, |rest| {
                let port = self.port.as_ref().and_then(|port| {
                    let rest = rest.strip_prefix(':')?.strip_prefix(port.as_str())?;
                    (!rest.starts_with(|next: char| next.is_ascii_digit())).then_some(rest)
                });
                let is_name = host.name.len() >= MIN_NAME && !WORDS.contains(&host.name.as_str());
                port.or_else(|| is_name.then_some(rest))
            });
            if let Some(clean) = clean {
                text = Cow::Owned(clean);
            }
        }
        match local_info::remove(&text, self.home.as_deref()) {
            Cow::Owned(clean) => Cow::Owned(clean),
            Cow::Borrowed(_) => text,
        }
    }

    /// The JSON text `json` without them in any of its strings, names of members too: what is read for its words may quote
    /// all of it. All else stays as it is, byte for byte.
    pub(crate) fn json(&self, json: &str) -> String {
        let clean = rewritten(json, |said| match self.text(said) {
            Cow::Owned(clean) => Some(clean),
            Cow::Borrowed(_) => None,
        });
        clean.unwrap_or_else(|| json.to_owned())
    }
}

impl Key {
    /// The JSON text `json` without the key, and without the log probabilities of what was cut; `None` where it is not there.
    fn cut_json(&self, json: &str) -> Option<String> {
        if self.core.find(json.as_bytes()).is_none() && memmem::find(json.as_bytes(), ASCII_ESCAPE).is_none()
        {
            return None;
        }
        rewritten(json, |said| self.cut(said)).map(logprobs::emptied)
    }
}

/// `json` with each string for which `change` has another; `None` where it has none.
fn rewritten(json: &str, change: impl Fn(&str) -> Option<String>) -> Option<String> {
    let mut out = String::new();
    let mut copied = 0;
    for Found { start, end, .. } in strings(json) {
        let Some(said) = unquote(&json[start..end]) else { continue };
        if let Some(clean) = change(&said) {
            out.push_str(&json[copied..start]);
            out.push_str(&quote(&clean));
            copied = end;
        }
    }
    (copied > 0).then(|| out + &json[copied..])
}

/// `text` with each `word` hidden, or each that is a `whole` token, together with what `rest_of` takes of the text behind it; `None` of it
/// lets the word stand. `None`: nothing was hidden. `folded` is `text` in the case of `word`, of the same length.
fn replaced(
    text: &str,
    folded: &str,
    word: &Finder<'_>,
    whole: bool,
    rest_of: impl for<'r> Fn(&'r str) -> Option<&'r str>,
) -> Option<String> {
    let mut out = String::new();
    let mut copied = 0;
    for at in word.find_iter(folded.as_bytes()) {
        let end = at + word.needle().len();
        if at < copied || whole && !is_token(text, at, end) {
            continue;
        }
        let Some(rest) = rest_of(&text[end..]) else { continue };
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
    let mut after = text[end..].chars();
    let begins = match word_before(&text[..start]) {
        Some('.') => !word_before(&text[..start - 1]).is_some_and(is_part),
        previous => !previous.is_some_and(is_part),
    };
    let ends = match after.next() {
        Some('.') => !after.next().is_some_and(is_part),
        next => !next.is_some_and(is_part),
    };
    begins && ends
}

/// The last character of `text`; none where that is the end of an escape, as a text has it that was JSON, a list of bytes
/// or a URL before: `\n`, `%3D`.
fn word_before(text: &str) -> Option<char> {
    let is_escape = match text.as_bytes() {
        [.., b'%', a, b] => a.is_ascii_hexdigit() && b.is_ascii_hexdigit(),
        _ => false,
    };
    let is_escape = is_escape || matches!(text.as_bytes(), [.., b'\\', b'n' | b'r' | b't']);
    text.chars().next_back().filter(|_| !is_escape)
}

/// A string in a JSON text: where it begins and ends, with its quotes.
struct Found {
    start: usize,
    end: usize,
    /// Whether it is the name of a member: a colon follows.
    is_name: bool,
}

/// The strings of `json`, in order.
fn strings(json: &str) -> impl Iterator<Item = Found> {
    let bytes = json.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at + memchr(b'"', bytes.get(at..)?)?;
        let mut end = start + 1;
        loop {
            let stop = end + memchr2(b'"', b'\\', bytes.get(end..)?)?;
            if bytes[stop] == b'"' {
                end = stop + 1;
                break;
            }
            end = stop + 2;
        }
        at = end;
        let next = bytes[end..].iter().find(|byte| !byte.is_ascii_whitespace());
        Some(Found { start, end, is_name: next == Some(&b':') })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redactor(url: &str, key: &str) -> Redactor {
        Redactor::at(
            &HttpBackend { url: Secret::new(url), api_key: Some(Secret::new(key)) },
            "Zeus-7.lab.example",
        )
    }

    #[test]
    fn key_and_address_are_removed_from_texts_and_from_the_strings_of_a_body() {
        let redactor = redactor("http://gpu.lan:8000/v1", "sk-gpu.lan-1");
        let text = "no route to GPU.lan:8000 with sk-gpu.lan-1, nor to gpu.lan.";
        assert_eq!(redactor.text(text), "no route to *** with ***, nor to ***.");
        let body = r#"{"error":{"message":"at gpu.lan:8000", "u":"\u0067pu.lan:8000/v1","port":8000,"gpu.lan":["sk-gpu.lan-1"]}}"#;
        assert_eq!(
            redactor.json(body),
            r#"{"error":{"message":"at ***", "u":"***/v1","port":8000,"***":["***"]}}"#
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

    /// A name of the backend's machine or of ours tells of a network wherever it stands; a word that many errors have does not.
    #[test]
    fn names_of_the_machines_go_wherever_they_stand_as_a_word() {
        let redactor = redactor("http://rack-box:8000/v1", "sk-secret-key");
        for host in ["rack-box", "RACK-BOX", "zeus-7", "Zeus-7.lab.example"] {
            for (before, after) in
                [("connect to ", " failed"), ("[", "]"), ("no route: ", "."), ("", ":9000 is down")]
            {
                let said = redactor.text(&format!("{before}{host}{after}")).into_owned();
                assert_eq!(said, format!("{before}***{after}"), "{host}");
            }
            let other = format!("a{host} {host}2 {host}-x");
            assert_eq!(redactor.text(&other), other);
        }
        let word = self::redactor("http://model:8000/v1", "sk-secret-key");
        assert_eq!(word.text("no model 'x' at model:8000"), "no model 'x' at ***");
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

    /// A response's own failure is an error, wherever it tells of it; what its model says is not.
    #[test]
    fn what_a_response_tells_of_its_failure_is_told_as_any_error_is() {
        let redactor = redactor("http://gpu-box:8000/v1", "sk-secret-key");
        let said = r#""output":[{"text":"in /home/alice at 10.0.0.5"}]"#;
        let (error, cut) = (
            r#"{"code":"server_error","message":"in /home/alice/vllm/x.py at 10.0.0.5:9000, http://gpu-box:8000"}"#,
            r#"{"code":"server_error","message":"in ***/x.py at ***, http://***"}"#,
        );
        for (told, kept) in [
            (format!(r#"{{"object":"response",{said},"error":{error}}}"#), true),
            (format!(r#"{{"object":"response","error":{error},{said},"error":null}}"#), true),
            (format!(r#"{{"type":"response.failed","response":{{{said},"error":{error}}}}}"#), true),
            (format!(r#"{{"object":"response","last_error":{error},{said},"error":null}}"#), true),
            (format!(r#"{{"response":{{"incomplete_details":{error},{said}}}}}"#), true),
            // A known gap: whoever escapes the name of the member has its text told as it is.
            (format!(r#"{{"\u0065rror":{error},"x":"\"error\"",{said}}}"#), false),
        ] {
            let told = redactor.failure(told);
            assert!(told.contains(said), "{told}");
            assert_eq!(told.contains(cut), kept, "{told}");
        }
        for same in [
            r#"{ "error" : null }"#,
            r#"{"x":"\"error\""}"#,
            r#"["error"]"#,
            r#"{"item":{"error":"10.0.0.5"}}"#,
        ] {
            assert_eq!(redactor.failure(same.to_owned()), same);
        }
    }

    #[test]
    fn the_names_of_the_loopback_are_one() {
        let redactor = redactor("http://localhost:11434/v1", "");
        assert_eq!(redactor.text("dial tcp 127.0.0.1:11434, [::1]:11434"), "dial tcp ***, ***");
        assert_eq!(redactor.text("localhost is not in no_proxy"), "localhost is not in no_proxy");
    }
}
