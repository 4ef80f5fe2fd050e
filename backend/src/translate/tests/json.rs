use super::super::json::{Json, escape, unescape, without_half};
use wire::json::compact;

#[test]
fn scalars_come_out_as_they_went_in() {
    let text =
        r#"{"a":[1e999,1.10,18446744073709551615,-0,true,null,"\ud83d","\u00e9\/"],"b\u0063":{},"c":[]}"#;
    assert_eq!(Json::parse(text).unwrap().to_string(), text);
    assert_eq!(Json::parse(text).unwrap().get("bc").unwrap().to_string(), "{}");
    assert_eq!(Json::parse(&compact(" [ 1 , { } ] ").unwrap()).unwrap().to_string(), "[1,{}]");
}

#[test]
fn of_duplicate_keys_the_last_counts_and_null_is_nothing() {
    let json = Json::parse(r#"{"a":1,"a":2,"b":null}"#).unwrap();
    assert_eq!(json.get("a").unwrap().as_count(), Some(2));
    assert!(json.get("b").is_none());
}

#[test]
fn a_lone_surrogate_stays_an_escape_and_a_pair_is_a_character() {
    assert_eq!(unescape(r#"a\"\ud83d\n\ud83d\ude00é\udc00\u00e9\\"#), "a\"\\ud83d\n😀é\\udc00é\\");
    assert_eq!(unescape(r"\ud83dabc𐀀\u0041𐀀\ud83d"), "\\ud83dabc𐀀A𐀀\\ud83d");
    assert_eq!(unescape(&escape("a\"\\\n😀")), "a\"\\\n😀");
}

#[test]
fn a_count_may_be_written_as_a_float() {
    let count = |text: &str| Json::parse(text).unwrap().as_count();
    assert_eq!(count("12.0"), Some(12));
    assert_eq!(count("7"), Some(7));
    assert_eq!(count("-1"), None);
    assert_eq!(count("\"1\""), None);
}

#[test]
fn the_first_half_of_a_pair_is_told_apart_from_what_looks_like_one() {
    for (fragment, length) in [
        (r"a\ud83d", 1),
        (r"\uDBFF", 0),
        (r"a\\ud83d", 8),
        (r"\\\ud83d", 2),
        (r"\ude00", 6),
        ("éé", 4),
        ("", 0),
    ] {
        assert_eq!(without_half(fragment), length, "{fragment}");
    }
}

/// Each value of a tree costs far more than its text: of some thousand bytes one comes to be megabytes.
#[test]
fn a_tree_of_too_many_values_is_not_made() {
    let of = |values: usize| format!("[{}0]", "0,".repeat(values - 1));
    assert!(Json::parse(&of(50_000)).is_ok());
    assert!(Json::parse(&of(200_000)).is_err());
}
