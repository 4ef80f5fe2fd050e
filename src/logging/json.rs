//! Lines of `--log-format json`: one object a line.
//!
//! `ts`, `level` and `text` are in each line; `text` is what the text format has behind the target. The line's fields follow
//! ([`wire::fields`]): `kind`, `user`, `llm`, `address` and others.

use jiff::Timestamp;
use log::{Level, Record};
use serde_json::{Map, Value};

use super::sink::MAX_LINE;
use crate::output::printable_json;

/// Most bytes of a field. Longer ones are cut.
const MAX_FIELD: usize = 512;

/// Fields whose values are numbers.
const NUMBERS: [&str; 2] = ["status", "ms"];

/// The line of a record with these fields.
pub(super) fn of_record(record: &Record<'_>, fields: Vec<(&'static str, String)>) -> String {
    let fields = fields.into_iter().map(|(name, value)| {
        let number = value.parse::<u64>().ok().filter(|_| NUMBERS.contains(&name));
        (name.to_owned(), number.map_or_else(|| cut(&value, MAX_FIELD).into(), Value::from))
    });
    line(record.level(), &record.args().to_string(), fields.collect())
}

/// The lines of a text that is no record, one for each of its lines. Its level is that of its first word.
pub(super) fn of_note(text: &str) -> String {
    let first = text.split(':').next().unwrap_or_default();
    let level = match first {
        "error" => Level::Error,
        "warning" => Level::Warn,
        _ => Level::Info,
    };
    text.lines().filter(|text| !text.is_empty()).map(|text| line(level, text, Map::new())).collect()
}

/// A line of at most [`MAX_LINE`] bytes: a longer text is cut, and fields that still do not fit are left out.
fn line(level: Level, text: &str, fields: Map<String, Value>) -> String {
    let mut object = Map::new();
    object.insert("ts".into(), format!("{:.3}", Timestamp::now()).into());
    object.insert("level".into(), level.as_str().to_lowercase().into());
    object.insert("text".into(), text.into());
    for (key, value) in fields {
        object.entry(key).or_insert(value);
    }
    let mut length = text.len();
    loop {
        let json = Value::Object(object).to_string();
        // Characters that move the cursor or change the direction of text are escaped; JSON does not ask for it.
        let json = printable_json(&json).into_owned() + "\n";
        if json.len() <= MAX_LINE {
            return json;
        }
        let Ok(Value::Object(again)) = serde_json::from_str(&json) else { return String::new() };
        object = again;
        if length < MAX_FIELD {
            object.retain(|key, _| matches!(key.as_str(), "ts" | "level" | "text" | "kind"));
        }
        length /= 2;
        object.insert("text".into(), cut(text, length).into());
    }
}

/// A text of at most `most` bytes, and an ellipsis if it was longer.
fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    format!("{}…", &text[..text.floor_char_boundary(most)])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(line: &str) -> Map<String, Value> {
        assert!(
            line.ends_with('\n') && line.matches('\n').count() == 1 && line.len() <= MAX_LINE,
            "{line:?}"
        );
        serde_json::from_str(line).unwrap()
    }

    proptest! {
        /// P7, A12: any text and any field is one line that a parser reads back, without characters that move the cursor.
        #[test]
        fn any_text_is_one_object_on_one_line(text in "\\PC{0,40}|[\\x00-\\x20\u{202e}\u{2028}\"\\\\a]{0,5000}", user in any::<String>()) {
            let fields = Map::from_iter([("user".to_owned(), cut(&user, MAX_FIELD).into())]);
            let line = line(Level::Info, &text, fields);
            let read = parsed(&line);
            let is_unsafe = |c: char| c.is_control() || matches!(c, '\u{202e}' | '\u{2028}');
            prop_assert!(!line.trim_end().contains(is_unsafe));
            let shown = read["text"].as_str().unwrap();
            match shown.strip_suffix('…') {
                Some(begin) if shown != text => prop_assert!(text.starts_with(begin)),
                _ => prop_assert_eq!(shown, text),
            }
            if user.len() <= MAX_FIELD && line.len() < MAX_LINE / 2 {
                prop_assert_eq!(read["user"].as_str(), Some(user.as_str()));
            }
        }
    }

    #[test]
    fn fields_have_their_types_and_never_replace_the_text() {
        let fields = [("status", "502"), ("user", "7"), ("text", "forged")];
        let fields = fields.map(|(name, value)| (name, value.to_owned())).to_vec();
        let args = format_args!("call failed: user=7");
        let line = of_record(&Record::builder().level(Level::Warn).args(args).build(), fields);
        let read = parsed(&line);
        let names: Vec<_> = read.keys().map(String::as_str).collect();
        assert_eq!(names, ["ts", "level", "text", "status", "user"]);
        assert_eq!(
            (&read["level"], &read["text"], &read["status"], &read["user"]),
            (&"warn".into(), &"call failed: user=7".into(), &502.into(), &"7".into())
        );
        assert!(read["ts"].as_str().unwrap().parse::<Timestamp>().is_ok());
    }

    #[test]
    fn notes_have_the_level_of_their_first_word() {
        for (note, level, text) in [
            ("error: no\n", "error", "error: no"),
            ("warning: x", "warn", "warning: x"),
            ("admin token: t", "info", "admin token: t"),
        ] {
            let line = of_note(note);
            let read = parsed(&line);
            assert_eq!((read["level"].as_str(), read["text"].as_str()), (Some(level), Some(text)));
        }
        assert_eq!(of_note("error: a\n\n  b\n").lines().count(), 2);
    }
}
