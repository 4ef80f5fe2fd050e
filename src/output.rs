//! The one place that writes to standard output. A reader who leaves (`… | head -1`) ends the command quietly.

use std::{
    borrow::Cow,
    fmt::{Display, Write as _},
    io::{self, IsTerminal, Write},
};

use serde_json::Value;

use crate::{exit::Outcome, logging};

/// Prints a line.
pub(crate) fn line(text: impl Display) -> Outcome {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()?;
    Ok(())
}

/// Prints text as it stands and shows it at once.
pub(crate) fn piece(text: impl Display) -> Outcome {
    let mut out = io::stdout().lock();
    write!(out, "{text}")?;
    out.flush()?;
    Ok(())
}

/// Says something to the person, beside the output: standard error. Lost if nobody can read it.
pub(crate) fn note(text: impl Display) {
    logging::say(&format!("{text}\n"));
}

/// As `note`, without ending the line.
pub(crate) fn note_piece(text: impl Display) {
    logging::say(&text.to_string());
}

/// Whether a person reads standard output.
pub(crate) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Whether to colour standard output: a terminal, and nobody said no (<https://no-color.org>).
pub(crate) fn has_colour() -> bool {
    is_colourful(is_terminal())
}

/// Whether to colour what goes to a terminal, or to none.
pub(crate) fn is_colourful(terminal: bool) -> bool {
    terminal
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Text from elsewhere, made safe to show: control characters could move the cursor or forge a line,
/// and bidirectional overrides could reorder it.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    escape(text, |_| false)
}

/// As `printable`, for a model's answer: line ends and tabs are what they seem.
pub(crate) fn printable_answer(text: &str) -> Cow<'_, str> {
    escape(text, |c| c == '\n' || c == '\t')
}

/// JSON that is shown: what is unsafe stands in its strings alone, and is escaped there as JSON has it.
pub(crate) fn printable_json(text: &str) -> Cow<'_, str> {
    escape_as(text, |c| c == '\n', |safe, c| write!(safe, "\\u{:04x}", u32::from(c)))
}

/// YAML that is shown. A text with something unsafe in it is written as JSON has it, which YAML reads as well: a name that no
/// text of the document has stands for it until the rest is written.
pub(crate) fn yaml(value: &Value) -> Result<String, serde_yaml_ng::Error> {
    let mut value = value.clone();
    let mut name = "quoted".to_owned();
    while holds(&value, &name) {
        name.push('-');
    }
    let mut unsafe_texts = Vec::new();
    take(&mut value, &name, &mut unsafe_texts);
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

fn holds(value: &Value, name: &str) -> bool {
    match value {
        Value::String(text) => text.contains(name),
        Value::Array(values) => values.iter().any(|value| holds(value, name)),
        Value::Object(map) => map.iter().any(|(key, value)| key.contains(name) || holds(value, name)),
        _ => false,
    }
}

/// Puts a name into the place of each unsafe text.
fn take(value: &mut Value, name: &str, unsafe_texts: &mut Vec<String>) {
    match value {
        Value::String(text) => stand_in(text, name, unsafe_texts),
        Value::Array(values) => values.iter_mut().for_each(|value| take(value, name, unsafe_texts)),
        Value::Object(map) => {
            for (mut key, mut value) in std::mem::take(map) {
                stand_in(&mut key, name, unsafe_texts);
                take(&mut value, name, unsafe_texts);
                map.insert(key, value);
            }
        }
        _ => {}
    }
}

fn stand_in(text: &mut String, name: &str, unsafe_texts: &mut Vec<String>) {
    if text.contains(|c| is_unsafe(c) && c != '\n' && c != '\t') {
        let number = unsafe_texts.len();
        unsafe_texts.push(std::mem::replace(text, format!("{name}{number}.")));
    }
}

fn escape(text: &str, keep: impl Fn(char) -> bool) -> Cow<'_, str> {
    escape_as(text, keep, |safe, c| write!(safe, "{}", c.escape_unicode()))
}

/// What moves the cursor, ends a line or turns the direction of what follows.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}')
        || matches!(c, '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
}

fn escape_as(
    text: &str,
    keep: impl Fn(char) -> bool,
    escaped: impl Fn(&mut String, char) -> std::fmt::Result,
) -> Cow<'_, str> {
    let is_unsafe = |c: char| is_unsafe(c) && !keep(c);
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_unsafe(c) {
            // Writing to a string cannot fail.
            let _ = escaped(&mut safe, c);
        } else {
            safe.push(c);
        }
    }
    Cow::Owned(safe)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A12, A14: a text from elsewhere is one line when it is shown or logged: no line break, no escape sequence, no
    /// reordering; all else stays.
    #[test]
    fn a_text_from_elsewhere_cannot_move_the_cursor_or_forge_a_line() {
        let forged = "x\n2026-01-01 ERROR hub: forged\r\u{1b}[2J\u{1b}]8;;http://evil\u{7}\0\u{85}\u{2028}\u{202e}\u{2066}";
        let shown = printable(forged);
        assert!(!shown.chars().any(char::is_control), "{shown:?}");
        assert!(!shown.contains(['\u{2028}', '\u{202e}', '\u{2066}']), "{shown:?}");
        assert!(shown.starts_with("x\\u{a}2026-01-01 ERROR hub: forged"), "{shown}");
        assert_eq!(printable("Qwen/Qwen2.5 größer 模型"), "Qwen/Qwen2.5 größer 模型");
        assert_eq!(printable_answer("a\n\tb\u{1b}[m"), "a\n\tb\\u{1b}[m");
        let json = serde_json::to_string_pretty(&[forged]).unwrap();
        let shown = printable_json(&json);
        assert!(!shown.chars().any(|c| c.is_control() && c != '\n' || c == '\u{202e}'), "{shown:?}");
        assert_eq!(serde_json::from_str::<[String; 1]>(&shown).unwrap(), [forged]);
    }
    #[test]
    fn yaml_reorders_nothing_and_says_the_same() {
        let value = serde_json::json!([
            { "name": "a", "description": "safe\u{202e}txt.exe", "prompt": "one\n\ttwo\n" },
            { "na\u{2066}me": "quoted0.", "list": ["\u{200f}: # - \"x\" \\u202e", "quoted- quoted1.", 5, null],
              "deep": { "\u{61c}": { "b": "\u{9b}2J\u{2028}\u{7f}" } } },
            "größer 模型 \u{1f600}"
        ]);
        let shown = yaml(&value).unwrap();
        assert!(!shown.contains(|c| is_unsafe(c) && c != '\n' && c != '\t'), "{shown:?}");
        assert!(shown.contains("description: \"safe\\u202etxt.exe\"\n"), "{shown}");
        assert!(shown.contains("größer 模型 \u{1f600}"), "{shown}");
        assert_eq!(serde_yaml_ng::from_str::<Value>(&shown).unwrap(), value);
        let plain = serde_json::json!({ "a": "b\nc", "d": [1.5, true] });
        assert_eq!(yaml(&plain).unwrap(), serde_yaml_ng::to_string(&plain).unwrap());
    }

    #[test]
    fn the_yaml_of_many_unsafe_texts_is_written_in_one_pass() {
        let rows: Vec<Value> =
            (0..20_000).map(|i| format!("\u{202e}{i}{}", "x".repeat(200)).into()).collect();
        let rows = Value::from(rows);
        assert_eq!(serde_yaml_ng::from_str::<Value>(&yaml(&rows).unwrap()).unwrap(), rows);
    }
}
