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

/// Prints a document as JSON, or as YAML.
pub(crate) fn document(value: &Value, is_yaml: bool) -> Outcome {
    piece(if is_yaml { yaml(value)? } else { json(value)? })
}

fn json(value: &Value) -> anyhow::Result<String> {
    let text = serde_json::to_string_pretty(value)? + "\n";
    Ok(printable_json(&text).into_owned())
}

/// Escapes unsafe characters in JSON text, where they can occur in strings only.
fn printable_json(text: &str) -> Cow<'_, str> {
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

/// One word of a POSIX shell.
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

/// Whether a character moves the cursor, ends a line, changes the direction of text, or is none in YAML.
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A12, A14: a text of others is shown and logged as one line, without escape sequences and without reordering.
    #[test]
    fn a_text_of_others_cannot_move_the_cursor_or_forge_a_line() {
        let forged = "x\n2026-01-01 ERROR hub: forged\r\u{1b}[2J\u{1b}]8;;http://evil\u{7}\0\u{85}\u{2028}\u{202e}\u{2066}";
        let shown = printable(forged);
        assert!(!shown.contains(is_unsafe), "{shown:?}");
        assert!(shown.starts_with("x\\u{a}2026-01-01 ERROR hub: forged"), "{shown}");
        for c in "\r\u{1b}\u{7f}\u{9b}\u{61c}\u{200e}\u{200f}\u{2028}\u{2029}\u{202a}\u{202e}\u{2066}\u{2069}"
            .chars()
        {
            assert_eq!(printable(&format!("a{c}b")), format!("a\\u{{{:x}}}b", u32::from(c)));
        }
        assert_eq!(printable("Qwen/Qwen2.5 größer 模型"), "Qwen/Qwen2.5 größer 模型");
        assert_eq!(printable_answer("a\n\tb\u{1b}[m"), "a\n\tb\\u{1b}[m");
        let shown = json(&serde_json::json!([forged])).unwrap();
        assert!(!shown.contains(|c| is_unsafe(c) && c != '\n'), "{shown:?}");
        assert_eq!(serde_json::from_str::<[String; 1]>(&shown).unwrap(), [forged]);
    }

    #[test]
    fn words_are_quoted_for_a_shell() {
        for (word, shell) in
            [("a-b_c/d:1=%@+", "a-b_c/d:1=%@+"), ("", "''"), ("it's $x", r"'it'\''s $x'"), ("a\nb", "'a\nb'")]
        {
            assert_eq!(shell_word(word), shell);
        }
    }

    #[test]
    fn yaml_has_no_unsafe_characters_and_reads_back() {
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

    /// A text of ordinary characters and of those with a meaning in YAML, terminals or JSON, short or longer than a key on
    /// one line may be.
    fn any_text() -> impl Strategy<Value = String> {
        let special = prop::sample::select(vec![
            "<<",
            "*x",
            "&x",
            "!!str ",
            "? ",
            "- ",
            ": ",
            " #",
            "---",
            "...",
            "|",
            ">",
            "%YAML",
            "@",
            "`",
            "y",
            "no",
            "NULL",
            "~",
            ".nan",
            "0x1f",
            "017",
            "1:30",
            "1e3",
            "2001-01-01",
            "\"",
            "'",
            "\\",
            "\t",
            "\r",
            "\n",
            "\u{85}",
            "\u{2028}",
            "\u{feff}",
            "\u{202e}",
            "\u{7f}",
            "\0",
            "\u{1b}[31m",
            "\u{fffe}",
            "\u{ffff}",
            "\u{1f600}",
            "",
            " ",
            "{",
            "]",
            ",",
            "quoted",
            "quoted0.",
            "quoted-",
        ]);
        let short = prop::collection::vec(
            prop_oneof![special.prop_map(str::to_owned), any::<char>().prop_map(String::from)],
            0..5,
        );
        (short, prop_oneof![8 => Just(1_usize), 1 => 30..600_usize])
            .prop_map(|(text, times)| text.concat().repeat(times))
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any_text().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<bool>().prop_map(Value::from),
            Just(Value::Null),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((any_text(), inner), 0..4)
                    .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

        /// A12: any document reads back from its YAML, which has no unsafe character.
        #[test]
        fn any_document_reads_back_from_its_yaml(key in any_text(), value in any_value()) {
            let document = serde_json::json!({ key: value });
            let shown = yaml(&document).unwrap();
            prop_assert!(!shown.contains(|c| is_unsafe(c) && c != '\n' && c != '\t'), "{shown:?}");
            let read: Value = serde_yaml_ng::from_str(&shown).map_err(|error| TestCaseError::fail(format!("{error}: {shown}")))?;
            prop_assert_eq!(read, document);
        }
    }

    /// The value of a key that is too long for one line may be anything.
    #[test]
    fn a_long_unsafe_key_is_written_before_its_value() {
        for value in
            serde_json::json!([null, 1, "x", "a\nb", "\u{202e}", [1, 2], [], { "a": [{ "b": 1 }] }, {}])
                .as_array()
                .unwrap()
        {
            let key = "\u{202e}".repeat(400);
            let document = serde_json::json!([{ "a": { key.clone(): value, "z": value }, key: value }]);
            let shown = yaml(&document).unwrap();
            assert!(shown.contains("? \"\\u202e"), "{shown}");
            assert_eq!(serde_yaml_ng::from_str::<Value>(&shown).unwrap(), document, "{shown}");
        }
    }

    #[test]
    fn many_unsafe_texts_read_back_from_their_yaml() {
        let rows: Vec<Value> =
            (0..20_000).map(|i| format!("\u{202e}{i}{}", "x".repeat(200)).into()).collect();
        let rows = Value::from(rows);
        assert_eq!(serde_yaml_ng::from_str::<Value>(&yaml(&rows).unwrap()).unwrap(), rows);
    }
}
