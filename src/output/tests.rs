use proptest::prelude::*;

use super::*;

/// A12, A14: a text of others is shown and logged as one line, without escape sequences and without reordering.
#[test]
fn a_text_of_others_cannot_move_the_cursor_or_forge_a_line() {
    let forged = "x\n2026-01-01 ERROR hub: forged\r\u{1b}[2J\u{1b}]8;;http://evil\u{7}\0\u{85}\u{2028}\u{202e}\u{2066}";
    let shown = printable(forged);
    assert!(!shown.contains(is_unsafe), "{shown:?}");
    assert!(shown.starts_with("x\\u{a}2026-01-01 ERROR hub: forged"), "{shown}");
    for c in
        "\r\u{1b}\u{7f}\u{9b}\u{61c}\u{200e}\u{200f}\u{2028}\u{2029}\u{202a}\u{202e}\u{2066}\u{2069}".chars()
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
    for value in serde_json::json!([null, 1, "x", "a\nb", "\u{202e}", [1, 2], [], { "a": [{ "b": 1 }] }, {}])
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
    let rows: Vec<Value> = (0..20_000).map(|i| format!("\u{202e}{i}{}", "x".repeat(200)).into()).collect();
    let rows = Value::from(rows);
    assert_eq!(serde_yaml_ng::from_str::<Value>(&yaml(&rows).unwrap()).unwrap(), rows);
}
