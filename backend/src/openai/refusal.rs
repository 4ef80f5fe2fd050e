//! Converts refusals of a backend: the status is kept, the reason is extracted and redacted.

use std::time::Duration;

use hyper::Response;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use wire::json::compact;
use wire::model_path::cut_model_paths;
use wire::openai::error_body;

use super::error_in_answer::{self, ErrorInAnswer};
use super::{Inner, MAX_ERROR, failed, text_of};
use crate::http::{self, decode, read_body, retry_after};
use crate::{BackendError, Refusal};

/// Characters of a reason that is not JSON.
const MAX_TEXT: usize = 500;
/// Code of an error whose words are a backend's (SPEC.md, the table of codes).
const CODE: &str = "backend_error";
/// Longest wait that is passed on: one day.
const MAX_WAIT: Duration = Duration::from_hours(24);

impl Inner {
    /// Reads the body of a 4xx or 5xx.
    pub(super) async fn refusal(&self, response: Response<http::Body>) -> BackendError {
        let (head, body) = response.into_parts();
        let status = head.status.as_u16();
        let is_html = text_of(&head.headers, &CONTENT_TYPE).contains("html");
        let wait = retry_after(text_of(&head.headers, &RETRY_AFTER), jiff::Timestamp::now());
        let body = read_body(body, MAX_ERROR, self.silence).await.unwrap_or_default();
        // What cannot be decoded gives no reason; the status stands.
        let body = decode(text_of(&head.headers, &CONTENT_ENCODING), &body, MAX_ERROR).unwrap_or_default();
        let body = String::from_utf8_lossy(&body);
        let body = match compact(&body) {
            Ok(json) => self.in_json(status, &json),
            _ if is_html || body.trim_start().starts_with('<') => {
                self.in_words(status, &title(&body).unwrap_or_default())
            }
            _ => self.in_words(status, &body),
        };
        BackendError::Refused(Box::new(Refusal {
            status,
            body,
            retry_after: wait.map(|wait| wait.min(MAX_WAIT)),
        }))
    }

    /// Converts an error that the backend sent with a status of success.
    pub(super) fn told(&self, error: &ErrorInAnswer) -> BackendError {
        match error.status {
            Some(401 | 403 | 407) => BackendError::KeyRefused,
            Some(status) => {
                let said = error.data.as_deref().unwrap_or_default();
                let body = match compact(said) {
                    Ok(json) => self.in_json(status, &json),
                    Err(_) => self.in_words(status, said),
                };
                BackendError::Refused(Box::new(Refusal { status, body, retry_after: None }))
            }
            None => match error.data.as_deref().map(|said| self.words(said)) {
                Some(Some(words)) => failed(format!("backend failed: {}", self.clean(&words))),
                Some(None) => failed("backend failed and gave no reason"),
                None => failed("backend failed, and gave its reason at too great a length"),
            },
        }
    }

    /// What an error says, in words: without secrets where it is JSON, before anything is cut short.
    fn words(&self, said: &str) -> Option<String> {
        let words = match compact(said) {
            Ok(json) => error_in_answer::words(&self.quoted(&json)),
            Err(_) => Some(said.to_owned()),
        };
        words.filter(|words| !words.is_empty())
    }

    /// An error body that says what `json` says: itself, where it is an object.
    fn in_json(&self, status: u16, json: &str) -> String {
        if json.starts_with('{') {
            return self.quoted(json);
        }
        self.in_words(status, &error_in_answer::words(&self.quoted(json)).unwrap_or_default())
    }

    /// The JSON text `json` without secrets, whatever escapes it has them in: in words they are no escapes any more.
    fn quoted(&self, json: &str) -> String {
        self.redactor.json(&cut_model_paths(json))
    }

    /// An error body that says `text`.
    fn in_words(&self, status: u16, text: &str) -> String {
        let kind = if status < 500 { "invalid_request_error" } else { "server_error" };
        let text = self.clean(text);
        let text = if text.is_empty() { format!("the backend answered {status}") } else { text };
        error_body(&text, kind, Some(CODE))
    }

    /// `text` on one line, without secrets, cut to [`MAX_TEXT`].
    fn clean(&self, text: &str) -> String {
        let line = text.trim().replace(char::is_control, " ");
        // Cut last, because half a key is not redacted.
        self.redactor.text(&line).chars().take(MAX_TEXT).collect()
    }
}

/// The title of an HTML page, with its entities as the characters that they stand for.
fn title(page: &str) -> Option<String> {
    let lower = page.to_ascii_lowercase();
    let start = lower.find("<title")?;
    let start = start + lower[start..].find('>')? + 1;
    let end = start + lower[start..].find("</title")?;
    Some(decoded(page[start..end].trim()))
}

/// `text` with the numbered entities and the commonest named ones decoded, as a browser shows it.
fn decoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        match entity(rest) {
            Some((character, length)) => {
                out.push(character);
                rest = rest[length..].strip_prefix(';').unwrap_or(&rest[length..]);
            }
            None => out.push('&'),
        }
    }
    out + rest
}

/// The character of the entity whose `&` stands before `text`, and the length of its name.
fn entity(text: &str) -> Option<(char, usize)> {
    /// Those that browsers need no semicolon behind stand first.
    const NAMED: [(&str, char); 15] = [
        ("nbsp", ' '),
        ("lt", '<'),
        ("gt", '>'),
        ("quot", '"'),
        ("amp", '&'),
        ("apos;", '\''),
        ("sol;", '/'),
        ("bsol;", '\\'),
        ("period;", '.'),
        ("colon;", ':'),
        ("lowbar;", '_'),
        ("hyphen;", '-'),
        ("dash;", '-'),
        ("num;", '#'),
        ("commat;", '@'),
    ];

    let Some(number) = text.strip_prefix('#') else {
        let named = NAMED.iter().find(|(name, _)| text.starts_with(name));
        return named.map(|(name, character)| (*character, name.len()));
    };
    let (digits, radix, before) = match number.strip_prefix(['x', 'X']) {
        Some(hex) => (hex, 16, 2),
        None => (number, 10, 1),
    };
    let length = digits.bytes().take_while(|byte| char::from(*byte).is_digit(radix)).count();
    let character = u32::from_str_radix(&digits[..length], radix).ok().and_then(char::from_u32)?;
    Some((character, before + length))
}
