//! Standard output and notes on standard error. A closed pipe (`… | head -1`) ends a command without an error.

use std::{
    borrow::Cow,
    fmt::{Display, Write as _},
    io::{self, IsTerminal, Write},
};

use serde_json::Value;

use crate::{exit::Outcome, logging};

pub(crate) fn line(text: impl Display) -> Outcome {
    piece(format_args!("{text}\n"))
}

pub(crate) fn lines(texts: impl IntoIterator<Item = impl Display>) -> Outcome {
    texts.into_iter().try_for_each(line)
}

/// Prints text without a line end.
pub(crate) fn piece(text: impl Display) -> Outcome {
    let mut out = io::stdout().lock();
    write!(out, "{text}")?;
    out.flush()?;
    Ok(())
}

/// Prints a line on standard error. The line is lost if the pipe behind standard error is not read.
pub(crate) fn note(text: impl Display) {
    logging::write(&format!("{text}\n"));
}

/// As `note`, without a line end.
pub(crate) fn note_piece(text: impl Display) {
    logging::write(&text.to_string());
}

/// Whether standard output is a terminal.
pub(crate) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Whether standard output is coloured (<https://no-color.org>).
pub(crate) fn has_colour() -> bool {
    allows_colour(is_terminal())
}

/// Whether an output is coloured: only a terminal is.
pub(crate) fn allows_colour(is_terminal: bool) -> bool {
    is_terminal
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// What is between the hub's address and the code in a sign-in link. What is behind `#` reaches no server, proxy or log.
pub(crate) const SIGN_IN: &str = "/#/sign-in/";

/// The link by which a browser, or `login`, signs in at a hub.
pub(crate) fn sign_in_link(url: &str, code: &str) -> String {
    format!("{url}{SIGN_IN}{code}")
}

/// Prints a document as JSON, or as YAML.
pub(crate) fn document(value: &Value, is_yaml: bool) -> Outcome {
    piece(if is_yaml { yaml(value)? } else { json(value)? })
}

fn json(value: &Value) -> anyhow::Result<String> {
    let text = serde_json::to_string_pretty(value)? + "\n";
    Ok(printable_json(&text).into_owned())
}

/// Escapes unsafe characters in JSON text, where they can occur in strings only.
pub(crate) fn printable_json(text: &str) -> Cow<'_, str> {
    escape(text, |c| c == '\n', |safe, c| write!(safe, "\\u{:04x}", u32::from(c)))
}

/// YAML text. A string with an unsafe character is written as in JSON, which YAML parsers read too: a placeholder that
/// occurs in no string of the document is replaced by it at the end.
fn yaml(value: &Value) -> anyhow::Result<String> {
    let mut value = value.clone();
    let mut name = "quoted".to_owned();
    while contains(&value, &name) {
        name.push('-');
    }
    let mut unsafe_texts = Vec::new();
    replace_unsafe(&mut value, &name, &mut unsafe_texts);
    let written = serde_yaml_ng::to_string(&value)?;
    let mut pieces = written.split(name.as_str());
    let mut yaml = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (number, rest) = piece.split_once('.').unwrap_or((piece, ""));
        let text = number.parse().ok().and_then(|number: usize| unsafe_texts.get(number));
        let quoted = Value::from(text.map_or("", String::as_str)).to_string();
        yaml.push_str(&printable_json(&quoted));
        yaml.push_str(rest);
    }
    Ok(yaml)
}

/// Whether a key or a string of the document contains `name`.
fn contains(value: &Value, name: &str) -> bool {
    match value {
        Value::String(text) => text.contains(name),
        Value::Array(values) => values.iter().any(|value| contains(value, name)),
        Value::Object(map) => map.iter().any(|(key, value)| key.contains(name) || contains(value, name)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Longest key, in bytes of JSON, that is written before its value on one line. YAML parsers read 1,024 characters.
const LONGEST_SIMPLE_KEY: usize = 512;
/// Digits of the placeholder of a longer key. The emitter writes `? ` before keys above 128 characters.
const LONG_KEY_DIGITS: usize = 200;

/// Replaces each unsafe key and string by a placeholder, and appends it to `unsafe_texts`.
fn replace_unsafe(value: &mut Value, name: &str, unsafe_texts: &mut Vec<String>) {
    let replace = |text: &mut String, is_key: bool, unsafe_texts: &mut Vec<String>| {
        if text.contains(|c| is_unsafe(c) && c != '\n' && c != '\t') {
            let number = unsafe_texts.len();
            let is_long =
                is_key && printable_json(&Value::from(text.as_str()).to_string()).len() > LONGEST_SIMPLE_KEY;
            let digits = if is_long { LONG_KEY_DIGITS } else { 0 };
            unsafe_texts.push(std::mem::replace(text, format!("{name}{number:0digits$}.")));
        }
    };
    match value {
        Value::String(text) => replace(text, false, unsafe_texts),
        Value::Array(values) => values.iter_mut().for_each(|value| replace_unsafe(value, name, unsafe_texts)),
        Value::Object(map) => {
            for (mut key, mut value) in std::mem::take(map) {
                replace(&mut key, true, unsafe_texts);
                replace_unsafe(&mut value, name, unsafe_texts);
                map.insert(key, value);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Escapes control characters and bidirectional overrides: text of others must not move the cursor, forge a line or
/// reorder what is shown.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    escape(text, |_| false, |safe, c| write!(safe, "{}", c.escape_unicode()))
}

/// Quotes `word` for a POSIX shell if it needs quotes.
pub(crate) fn shell_word(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@+%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// As `printable`, but keeps line ends and tabs, for a model's answer.
pub(crate) fn printable_answer(text: &str) -> Cow<'_, str> {
    escape(text, |c| c == '\n' || c == '\t', |safe, c| write!(safe, "{}", c.escape_unicode()))
}

/// Whether a character moves the cursor, ends a line, changes the direction of text, or is not allowed in YAML.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{feff}' | '\u{fffe}' | '\u{ffff}')
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}')
        || matches!(c, '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
}

fn escape(
    text: &str,
    keep: impl Fn(char) -> bool,
    write: impl Fn(&mut String, char) -> std::fmt::Result,
) -> Cow<'_, str> {
    let is_unsafe = |c: char| is_unsafe(c) && !keep(c);
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_unsafe(c) {
            // Writing to a string cannot fail.
            let _ = write(&mut safe, c);
        } else {
            safe.push(c);
        }
    }
    Cow::Owned(safe)
}

#[cfg(test)]
mod tests;
