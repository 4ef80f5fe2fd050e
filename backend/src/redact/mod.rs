//! Redacts a backend's answers: its key everywhere, and in errors also addresses, host names and home directories.
//!
//! Only JSON strings, member names included, are changed. Everything else stays byte for byte.

mod key;
mod local_info;
mod logprobs;
mod stream;
mod strings;
#[cfg(test)]
mod tests;
mod url;

use std::borrow::Cow;
use std::sync::Arc;

use hyper::Uri;
use memchr::memmem::{self, Finder};
use wire::json::{each_member, unquote};

use crate::{HttpBackend, Secret};

use key::Key;
use strings::{replaced, rewritten};

pub(crate) use stream::StreamRedactor;

/// The replacement of a redacted word.
const HIDDEN: &str = "***";
/// Minimum length of a key to redact, in bytes. Shorter ones, such as `none` or `local`, are placeholders.
const MIN_KEY: usize = 8;
/// Names of the loopback interface, any of which a server can report.
const LOOPBACK: [&str; 5] = ["localhost", "127.0.0.1", "[::1]", "::1", "0.0.0.0"];

/// Minimum length of a host name, in bytes, to be redacted without its port.
const MIN_NAME: usize = 3;
/// Host names that are common words in errors. They are redacted only together with the port.
const COMMON_WORDS: [&str; 32] = [
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

/// Members of a response that describe its failure.
const FAILURE_MEMBERS: [&str; 3] = ["error", "last_error", "incomplete_details"];
/// A host name to redact.
struct Host {
    name: String,
    finder: Finder<'static>,
}

/// Redacts the answers and errors of one backend.
pub(crate) struct Redactor {
    key: Option<Arc<Key>>,
    /// Lower-case names of the backend and of this machine, the longest first. They are redacted with `port` after them, and alone if
    /// they are none of [`COMMON_WORDS`].
    hosts: Vec<Host>,
    port: Option<String>,
    /// The home directory of the user of this process.
    home: Option<String>,
}

impl Redactor {
    pub(crate) fn new(backend: &HttpBackend) -> Self {
        Self::at(backend, &gethostname::gethostname().to_string_lossy())
    }

    /// Creates a redactor for a machine of this name.
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
        // A name can contain another one.
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

    /// Returns a redactor for the events of a stream; `None` if there is no secret key.
    pub(crate) fn stream_redactor(&self) -> Option<Box<StreamRedactor>> {
        self.key
            .as_ref()
            .filter(|key| key.is_secret)
            .map(|key| Box::new(StreamRedactor::new(Arc::clone(key))))
    }

    /// Redacts the key in a successful answer.
    pub(crate) fn answer(&self, json: String) -> String {
        self.key.as_ref().filter(|key| key.is_secret).and_then(|key| key.redact_json(&json)).unwrap_or(json)
    }

    /// Redacts the failure that an object of the Responses API describes in its `error`, `last_error` or `incomplete_details`, or in
    /// those of its `response`, like any other error.
    pub(crate) fn failure(&self, json: String) -> String {
        // Fast path: most events have no such member.
        let has = |mark: &[u8]| memmem::find(json.as_bytes(), mark).is_some();
        if !has(b"\"error\"") && !has(b"\"last_error\"") && !has(b"\"incomplete_details\"") {
            return json;
        }
        self.redact_failure(&json, 0).unwrap_or(json)
    }

    /// Redacts the failures in the object `json`; `None` if it has none.
    fn redact_failure(&self, json: &str, depth: usize) -> Option<String> {
        let mut has_error = false;
        let mut out = String::from("{");
        let each = |key: &str, value: &str| {
            let redacted = match unquote(key).as_deref() {
                Some(key) if FAILURE_MEMBERS.contains(&key) && value != "null" => Some(self.json(value)),
                Some("response") if depth == 0 && value.starts_with('{') => self.redact_failure(value, 1),
                _ => None,
            };
            has_error |= redacted.is_some();
            if out.len() > 1 {
                out.push(',');
            }
            out.push_str(key);
            out.push(':');
            out.push_str(redacted.as_deref().unwrap_or(value));
        };
        each_member(json, each).ok()?;
        out.push('}');
        has_error.then_some(out)
    }

    /// Redacts an error text.
    pub(crate) fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut text = Cow::Borrowed(text);
        if let Some(clean) = self.key.as_ref().and_then(|key| key.redact(&text)) {
            text = Cow::Owned(clean);
        }
        for host in &self.hosts {
            let lower = text.to_ascii_lowercase();
            let clean = replaced(&text, &lower, &host.finder, true, |rest| {
                let port = self.port.as_ref().and_then(|port| {
                    let rest = rest.strip_prefix(':')?.strip_prefix(port.as_str())?;
                    (!rest.starts_with(|next: char| next.is_ascii_digit())).then_some(rest)
                });
                let is_name = host.name.len() >= MIN_NAME && !COMMON_WORDS.contains(&host.name.as_str());
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

    /// Redacts every string in the JSON text of an error, member names included.
    pub(crate) fn json(&self, json: &str) -> String {
        let clean = rewritten(json, |text| match self.text(text) {
            Cow::Owned(clean) => Some(clean),
            Cow::Borrowed(_) => None,
        });
        clean.unwrap_or_else(|| json.to_owned())
    }
}
