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
fn depth_128_passes_and_129_does_not_however_deep_it_goes_on() {
    let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    assert!(compact(&nested(128)).is_ok());
    assert_eq!(compact(&nested(129)), Err(JsonError::TooDeep));
    assert_eq!(compact(&nested(200_000)), Err(JsonError::TooDeep));
    assert_eq!(compact(&r#"{"a":"#.repeat(200_000)), Err(JsonError::TooDeep));
}

#[test]
fn a_large_number_and_an_escaped_text_pass_unchanged() {
    let text = r#"{"seed":18446744073709551615,"x":1.10,"t":"a\u2028\ud800\n b"}"#;
    assert_eq!(compact(text).unwrap(), text);
}

#[test]
fn set_replaces_every_duplicate_also_an_escaped_one() {
    let mut object = Object::parse(r#"{"model":"a","n":1,"mod\u0065l":"b"}"#).unwrap();
    assert_eq!(object.get_string("model").as_deref(), Some("b"));
    object.set("model", quote("c"));
    assert_eq!(object.to_string(), r#"{"model":"c","n":1}"#);
    object.remove("n");
    object.set("stream", "true");
    assert_eq!(object.to_string(), r#"{"model":"c","stream":true}"#);
}

#[test]
fn what_is_no_object_is_told_apart_from_what_is_no_json() {
    assert_eq!(Object::parse("[1]").unwrap_err(), JsonError::NotAnObject);
    assert!(matches!(Object::parse(r#"{"a":"#).unwrap_err(), JsonError::Syntax(_)));
}
