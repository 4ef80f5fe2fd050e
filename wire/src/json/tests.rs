use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::hash_map(any::<String>(), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn compact_keeps_the_value_and_makes_one_line(value in any_json()) {
        let compacted = compact(&serde_json::to_string_pretty(&value).unwrap()).unwrap();
        prop_assert!(!compacted.contains(['\n', '\r']));
        prop_assert_eq!(compacted, value.to_string());
    }

    #[test]
    fn compact_accepts_exactly_what_serde_json_accepts(
        text in r#"[\[\]{}:,"\\ \n0-9eE+.tfnrualsA-]{0,24}"#
    ) {
        let theirs = serde_json::from_str::<&serde_json::value::RawValue>(&text).is_ok();
        prop_assert_eq!(compact(&text).is_ok(), theirs, "{:?}", text);
    }
}

/// A23: JSON is read 128 deep and no deeper, without a stack to overflow.
#[test]
fn depth_128_is_accepted_and_129_is_rejected() {
    let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    assert!(compact(&nested(128)).is_ok());
    assert_eq!(compact(&nested(129)), Err(JsonError::TooDeep));
    assert_eq!(compact(&nested(200_000)), Err(JsonError::TooDeep));
    assert_eq!(compact(&r#"{"a":"#.repeat(200_000)), Err(JsonError::TooDeep));
}

#[test]
fn large_numbers_and_escapes_are_kept() {
    let text = r#"{"seed":18446744073709551615,"x":1.10,"t":"a\u2028\ud800\n b"}"#;
    assert_eq!(compact(text).unwrap(), text);
}

#[test]
fn set_replaces_every_duplicate_even_an_escaped_one() {
    let mut object = Object::parse(r#"{"model":"a","n":1,"mod\u0065l":"b"}"#).unwrap();
    assert_eq!(object.get_string("model").as_deref(), Some("b"));
    object.set("model", quote("c"));
    assert_eq!(object.to_string(), r#"{"model":"c","n":1}"#);
    object.remove("n");
    object.set("stream", "true");
    assert_eq!(object.to_string(), r#"{"model":"c","stream":true}"#);
}

#[test]
fn other_json_and_invalid_json_are_different_errors() {
    assert_eq!(Object::parse("[1]").unwrap_err(), JsonError::NotAnObject);
    assert!(matches!(Object::parse(r#"{"a":"#).unwrap_err(), JsonError::Syntax(_)));
}

/// The text of an object with random white space, whose keys are often wanted, escaped or repeated.
fn any_object() -> impl Strategy<Value = String> {
    let space = r"[ \t\r\n]{0,3}";
    let key = prop_oneof![
        Just(r#""model""#.to_owned()),
        Just(r#""mod\u0065l""#.to_owned()),
        Just(r#""stream""#.to_owned()),
        Just(r#""\u0073tream""#.to_owned()),
        Just(r#""model ""#.to_owned()),
        Just(r#""\ud800""#.to_owned()),
        any::<String>().prop_map(|key| quote(&key)),
    ];
    let value = any_json().prop_map(|value| serde_json::to_string_pretty(&value).unwrap());
    let member = (space, key, space, space, value, space)
        .prop_map(|(a, key, b, c, value, d)| format!("{a}{key}{b}:{c}{value}{d}"));
    (space, prop::collection::vec(member, 0..6), space)
        .prop_map(|(before, members, after)| format!("{before}{{{}}}{after}", members.join(",")))
}

/// A quoted key: a wanted one or nearly so, each letter plain, in another case or escaped.
fn any_key() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        4 => prop::sample::select(vec!["model", "stream", "stream_options", "mode", "strean", "modell", "store"]).prop_map(str::to_owned),
        1 => "[a-z\u{17f}\u{212a}É]{0,8}",
    ];
    let letter = |letter: char, how: u8| match how {
        0 => letter.to_uppercase().to_string(),
        1 => format!("\\u{:04x}", u32::from(letter)),
        2 => format!("\\u{:04X}", u32::from(letter.to_ascii_uppercase())),
        3 if letter == 's' => "\u{17f}".to_owned(),
        4 => format!("{letter}\\ud800"),
        5 => format!("{letter}\\uD83D\\uDE00"),
        _ => letter.to_string(),
    };
    // Few letters of a name are changed, else hardly any is a wanted one.
    (name, prop::collection::vec(0..60_u8, 20)).prop_map(move |(name, hows)| {
        let letters = name.chars().zip(hows).map(|(from, how)| letter(from, how));
        format!("\"{}\"", letters.collect::<String>())
    })
}

/// The values that `spans` finds for `key` in `text`, and the text afterwards.
fn found(text: &str, key: &str) -> Result<(Vec<String>, String), JsonError> {
    let mut bytes = text.as_bytes().to_vec();
    let [spans] = spans(&mut bytes, [key])?;
    let text = String::from_utf8(bytes).unwrap();
    Ok((spans.into_iter().map(|span| text[span].to_owned()).collect(), text))
}

proptest! {
    #[test]
    fn spans_finds_every_value_of_a_key_and_makes_one_line(text in any_object()) {
        for key in ["model", "stream"] {
            let (values, line) = found(&text, key).unwrap();
            prop_assert!(!line.contains(['\n', '\r']));
            prop_assert_eq!(compact(&line), compact(&text));
            if let Ok(object) = Object::parse(&line) {
                let members = object.members().filter(|(name, _)| *name == key);
                let theirs: Vec<String> = members.map(|(_, value)| value.to_owned()).collect();
                prop_assert_eq!(values, theirs);
            }
        }
    }

    #[test]
    fn spans_accepts_exactly_the_objects_that_compact_accepts(
        text in r#"[ \n]{0,2}\{?[\[\]{}:,"\\ \n0-9eE+.tfnrualsA-]{0,24}\}?[ \n]{0,2}"#
    ) {
        let is_object = text.trim_start().starts_with('{');
        prop_assert_eq!(found(&text, "a").is_ok(), compact(&text).is_ok() && is_object, "{:?}", text);
    }

    /// The result is that of reading each key with `serde_json` and comparing it with each of the wanted ones.
    #[test]
    fn inspection_reads_keys_as_serde_json_does(keys in prop::collection::vec(any_key(), 1..6)) {
        const KEYS: [&str; 3] = ["model", "stream", "stream_options"];
        let (mut text, mut found) = (String::from("{"), [const { Vec::new() }; 3]);
        let (mut half, mut odd) = (None, None);
        for key in keys {
            let start = text.len();
            text.extend([key.as_str(), ":0,"]);
            let Ok(name) = serde_json::from_str::<String>(&key) else {
                half = half.or(Some(JsonError::HalfKey(start)));
                continue;
            };
            if let Some(index) = KEYS.iter().position(|key| name == *key) {
                found[index].push(text.len() - 2..text.len() - 1);
            } else {
                let near = KEYS.iter().find(|key| folds(&name, key));
                odd = odd.or(near.map(|key| JsonError::OddKey(start, key)));
            }
        }
        text.pop();
        text.push('}');
        let expected = half.or(odd).map_or(Ok(found), Err);
        let inspected = inspect_request(&mut text.clone().into_bytes(), KEYS).map(|(found, ..)| found);
        prop_assert_eq!(inspected, expected, "{}", text);
    }

    #[test]
    fn spans_rejects_every_prefix_of_an_object(text in any_object(), cut in any::<prop::sample::Index>()) {
        let text = text.trim_end();
        let cut = cut.index(text.len());
        prop_assume!(text.is_char_boundary(cut));
        prop_assert!(found(&text[..cut], "model").is_err());
    }
}

#[test]
fn spans_finds_keys_of_the_outermost_object_only() {
    let text =
        "{\"a\":{\"model\":1},\n\"b\":[{\"model\":2}], \"model\" :\t[ {\"model\":\n3} ] ,\"c\":\"model\"}";
    assert_eq!(found(text, "model").unwrap().0, ["[ {\"model\": 3} ]"]);
    assert_eq!(found("{}", "model").unwrap().0, Vec::<String>::new());
    assert_eq!(found(r#"{"":1,"model":{ }}"#, "").unwrap().0, ["1"]);
    for other in ["[]", "1", r#" "model""#, "null", r#"[{"model":1}]"#] {
        assert_eq!(found(other, "model"), Err(JsonError::NotAnObject), "{other}");
    }
}

/// A23: the depth limit holds here, too.
#[test]
fn spans_limits_the_depth() {
    let nested = |depth: usize| format!(r#"{{"model":{}1{}}}"#, "[".repeat(depth), "]".repeat(depth));
    assert!(found(&nested(127), "model").is_ok());
    assert_eq!(found(&nested(128), "model"), Err(JsonError::TooDeep));
    assert_eq!(found(&r#"{"a":"#.repeat(200_000), "a"), Err(JsonError::TooDeep));
}

#[test]
fn a_control_character_is_found_anywhere_in_a_long_string() {
    for at in [0, 1, 15, 63, 64, 65, 127, 128, 200] {
        let text = format!(r#"{{"a":"{}{}{}"}}"#, "x".repeat(at), '\u{1f}', "y".repeat(200));
        assert_eq!(compact(&text), Err(JsonError::Syntax(6 + at)));
        assert_eq!(found(&text, "a"), Err(JsonError::Syntax(6 + at)));
    }
}

/// A23: array elements do not count as members, and `compact` has no limit of members.
#[test]
fn spans_limits_the_members_of_all_objects_together() {
    let list =
        |count: usize, item: &str| format!(r#"{{"a":[{}{item}]}}"#, format!("{item},").repeat(count - 1));
    let pairs = |count| list(count, r#"{"b":{"c":[]}}"#);
    let most = (MAX_MEMBERS - 1) / 2;
    assert!(found(&pairs(most), "a").is_ok());
    assert_eq!(found(&pairs(most + 1), "a"), Err(JsonError::TooManyMembers));
    let one_key = format!("{{{}\"k\":1}}", r#""k":1,"#.repeat(MAX_MEMBERS));
    assert_eq!(found(&one_key, "k"), Err(JsonError::TooManyMembers));
    assert!(compact(&one_key).is_ok());
    assert!(found(&list(MAX_MEMBERS * 3, "0"), "a").is_ok(), "token ids to embed");
}

/// A23: an object that is parsed has a limited number of members.
#[test]
fn a_parsed_object_has_a_limited_number_of_members() {
    let parsed = |count: usize| {
        let text = format!("{{{}\"k\":1}}", r#""k":1,"#.repeat(count - 1));
        Object::parse(&text).map(|object| object.members().count())
    };
    assert_eq!(parsed(MAX_MEMBERS), Ok(MAX_MEMBERS));
    assert_eq!(parsed(MAX_MEMBERS + 1), Err(JsonError::TooManyMembers));
}

proptest! {
    #[test]
    fn member_returns_the_last_of_duplicates(text in any_object()) {
        for key in ["model", "stream", "none"] {
            let spans = found(&text.replace(['\n', '\r'], " "), key).unwrap().0;
            let text = text.replace(['\n', '\r'], " ");
            prop_assert_eq!(member(&text, key), spans.last().map(String::as_str));
        }
    }

    #[test]
    fn set_defaults_equals_repeated_set_default(
        text in any_object(),
        defaults in prop::collection::vec(("model|stream|a|b|", 0..9_u8), 0..8),
    ) {
        let Ok(object) = Object::parse(&text) else { return Ok(()) };
        let defaults: Vec<(String, String)> =
            defaults.into_iter().map(|(key, value)| (key, value.to_string())).collect();
        let mut merged = object.clone();
        merged.set_defaults(defaults.iter().map(|(key, value)| (key.as_str(), value.as_str())));
        let mut expected = object;
        // Of duplicates, the last value at the position of the first.
        for (key, _) in &defaults {
            let (_, value) = defaults.iter().rev().find(|(other, _)| other == key).unwrap();
            expected.set_default(key, value.as_str());
        }
        prop_assert_eq!(merged.to_string(), expected.to_string());
    }
}

/// A23: texts in strings count with the text around them.
#[test]
fn the_trees_of_a_request_share_one_budget() {
    let of = |values: usize| format!("[{}null]", "{},".repeat(values - 2));
    let mut budget = TreeBudget::default();
    assert_eq!(budget.take(&of(MAX_VALUES + 1)), Err(JsonError::TooManyValues));
    assert_eq!(budget.take(&of(60_000)), Ok(()));
    for _ in 0..2 {
        assert_eq!(
            budget.take(&of(MAX_VALUES - 60_000 + 1)),
            Err(JsonError::TooManyValues),
            "after an error too"
        );
    }
    assert_eq!(budget.take(&of(MAX_VALUES - 60_001)), Ok(()));
    assert_eq!(budget.take("1"), Ok(()));
    assert_eq!(budget.take("1"), Err(JsonError::TooManyValues));
    assert_eq!(TreeBudget::default().take("[1"), Err(JsonError::Syntax(2)));
}

#[test]
fn a_tree_is_made_of_few_values() {
    for (text, values) in [("[1,{},{\"\":[]}]", 5), ("7", 1), (" {} ", 1)] {
        assert_eq!(tree(text.as_bytes(), values), serde_json::from_str(text).ok(), "{text}");
        assert_eq!(tree(text.as_bytes(), values - 1), None, "{text}");
    }
    for text in ["", "[1", "\u{fffd}"] {
        assert_eq!(tree(text.as_bytes(), 9), None);
    }
    assert_eq!(tree(b"\"\xff\"", 9), None);
}
