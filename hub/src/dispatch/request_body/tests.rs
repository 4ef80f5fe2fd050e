//! `RequestBody`: parsing and rewriting.

use serde_json::Value;

use super::*;

fn body(text: &str) -> RequestBody {
    RequestBody::parse(text.into()).unwrap()
}

fn with_model(text: &str, model: Option<&str>) -> String {
    String::from_utf8(body(text).pieces(model, None).concat()).unwrap()
}

#[test]
fn every_model_is_replaced_and_the_rest_stays_as_it_is() {
    let text = "{\"seed\":18446744073709551615,\r\n \"model\" : \"x\",\"a\":{\"model\":\"y\"},\"m\\u006fdel\":7,\"u\":1.10}\n";
    assert_eq!(
        with_model(text, Some("ro\"w")),
        "{\"seed\":18446744073709551615,   \"model\" : \"ro\\\"w\",\"a\":{\"model\":\"y\"},\"m\\u006fdel\":\"ro\\\"w\",\"u\":1.10} "
    );
    assert_eq!(with_model("{\"model\":\n1}", None), "{\"model\": 1}");
}

/// A27: a body with more than 16 `model` keys is refused, since each costs two pieces on the channel.
#[test]
fn a_body_with_too_many_models_is_refused() {
    let of = |count: usize| format!(r#"{{{}"model":"y"}}"#, r#""mod\u0065l":"x","#.repeat(count - 1));
    assert_eq!(body(&of(16)).model(), Ok(Some("y".into())));
    let refused = RequestBody::parse(of(17).into()).unwrap_err();
    assert_eq!(refused.message, "the request's body has 'model' more than 16 times");
}

/// A name of many megabytes is neither copied nor hashed with a call.
#[test]
fn names_that_are_too_long_are_unknown_and_name_no_conversation() {
    let of = |name: &str| body(&format!(r#"{{"model":"{name}","prompt_cache_key":"{name}","messages":[]}}"#));
    let escaped = r"\u0061".repeat(512);
    assert_eq!(of(&escaped).model(), Ok(Some("a".repeat(512))));
    assert_eq!(of(&escaped).conversation_name(), Some(format!("\"{escaped}\"").as_str()));
    let long = of(&"é".repeat(1 << 20));
    let refused = long.model().unwrap_err();
    assert_eq!(refused.message, format!("model '{}…' not found", "é".repeat(200)));
    assert_eq!(long.conversation_name(), None);
}

#[test]
fn a_body_without_a_model_gets_one() {
    for (text, with) in [
        ("{}", r#"{"model":"m"}"#),
        (" {\n} ", r#" { "model":"m"} "#),
        (r#"{"a":"}"}"#, r#"{"a":"}","model":"m"}"#),
        (r#"{"a":{}}"#, r#"{"a":{},"model":"m"}"#),
        (r#"{"a":"{" }"#, r#"{"a":"{" ,"model":"m"}"#),
    ] {
        assert_eq!(with_model(text, Some("m")), with);
        assert_eq!(serde_json::from_str::<Value>(with).unwrap()["model"], "m");
    }
}

#[test]
fn a_stream_other_than_true_false_and_null_is_refused() {
    let of = |text: &str, endpoint| body(text).streaming(endpoint);
    for (text, streams) in [
        ("{}", false),
        (r#"{"stream":null}"#, false),
        (r#"{"stream":false}"#, false),
        (r#"{"stream" : true }"#, true),
        (r#"{"stream":"x","str\u0065am":true}"#, true),
    ] {
        assert_eq!(of(text, Endpoint::Responses), Ok(streams), "{text}");
        assert_eq!(of(text, Endpoint::Embeddings), Ok(false), "{text}");
    }
    for value in [r#""false""#, "0", "1.0", "{}", "[true]"] {
        let text = format!(r#"{{"stream":true,"stream":{value}}}"#);
        for endpoint in [Endpoint::Messages, Endpoint::Rerank] {
            let refused = of(&text, endpoint).unwrap_err();
            assert!(refused.message.contains("'stream'"), "{}", refused.message);
        }
    }
}

#[test]
fn a_model_that_is_not_a_string_is_refused() {
    assert_eq!(body(r#"{"model":1,"model":"\u0061"}"#).model(), Ok(Some("a".into())));
    for text in ["{}", r#"{"model":"a","model":null}"#, r#"{"model":""}"#] {
        assert_eq!(body(text).model(), Ok(None), "{text}");
    }
    for text in [r#"{"model":["a"]}"#, r#"{"model":"\ud800"}"#] {
        assert!(body(text).model().unwrap_err().message.contains("'model'"));
    }
}

/// A key with a lone surrogate is refused here, because backends that decode keys would refuse it.
#[test]
fn a_key_with_a_lone_surrogate_is_refused_and_a_value_passes() {
    for half in [r"k\ud83d", r"\uDC00k", r"\ud83d\u0041", r"\udc00\ud83d", r"\ud83d\n"] {
        for text in [format!(r#"{{"model":"m","{half}":1}}"#), format!(r#"{{"{half}":{{}}, "x":1}}"#)] {
            let error = RequestBody::parse(text.into()).unwrap_err();
            assert_eq!(error.kind.status(), 400, "{half}");
            assert!(error.message.contains("whose name is no text"), "{}", error.message);
        }
        body(&format!(r#"{{"x":"{half}","y":{{"{half}":1}}}}"#));
    }
    for whole in [r"\ud83d\ude00", r"\\ud83d", "😀", r"\u0041\n"] {
        body(&format!(r#"{{"{whole}":1}}"#));
    }
}

#[test]
fn a_body_that_is_not_a_json_object_in_utf_8_is_refused() {
    for text in [&b"\xff"[..], b"{\"a\":\"\xc3\"}", b"[]", b"", b"{", b"{} x"] {
        assert!(RequestBody::parse(text.into()).is_err(), "{text:?}");
    }
}

/// The part of a prompt by which its conversation is known.
fn opening(messages: &[(&str, &str)]) -> Vec<u8> {
    let message = |(role, content): &(&str, &str)| serde_json::json!({ "role": role, "content": content });
    let messages: Vec<_> = messages.iter().map(message).collect();
    let text = serde_json::json!({ "model": "m", "system": "s", "messages": messages }).to_string();
    RequestBody::parse(text.into()).unwrap().conversation_keys(None).opening.concat()
}

#[test]
fn a_conversation_is_known_by_its_opening_in_each_turn() {
    let (long, answer) = ("long ".repeat(1000), "answer ".repeat(1000));
    let first = opening(&[("user", &long)]);
    assert_eq!(first, opening(&[("user", &long), ("assistant", &answer), ("user", "more")]));
    assert_ne!(first, opening(&[("user", &long), ("user", "more")]));
}

#[test]
fn conversations_that_begin_with_a_greeting_are_told_apart() {
    let (one, other) = ("answer ".repeat(1000), "other ".repeat(1000));
    let first = opening(&[("user", "hi"), ("assistant", &one)]);
    assert_eq!(first.len(), crate::affinity::BLOCK);
    assert_eq!(first, opening(&[("user", "hi"), ("assistant", &one), ("user", "more")]));
    assert_ne!(first, opening(&[("user", "hi"), ("assistant", &other)]));
}
