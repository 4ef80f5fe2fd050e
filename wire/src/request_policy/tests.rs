use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

mod allowed;
mod costs;
mod exact;
mod media;
mod metadata;
mod owner_only;
mod spelling;
mod stored;
mod tools;
mod unknown;

/// The member that is refused, if any.
fn param(request: &str) -> Option<String> {
    refusal(&PolicyReport::of(request).unwrap()).map(|refusal| refusal.param)
}

fn refusal(report: &PolicyReport) -> Option<Refusal> {
    report.refusal(report)
}

/// The request as another user's backend gets it, if it differs.
fn changed(request: &str, endpoint: Endpoint) -> Option<String> {
    let report = PolicyReport::of(request).unwrap();
    assert_eq!(refusal(&report), None, "{request}");
    let edits = report.edits(&report, request, endpoint);
    (!edits.is_empty()).then(|| edits.applied(request))
}

/// A chat request with this part in a message.
fn content_part(part: &str) -> String {
    format!(r#"{{"messages":[{{"role":"user","content":[{{"type":"text","text":"hi"}},{part}]}}]}}"#)
}

fn any_json() -> impl Strategy<Value = Value> {
    let word = || {
        prop::sample::select(vec![
            "type",
            "url",
            "image_url",
            "tools",
            "mcp",
            "input",
            "tool_use",
            "store",
            "text",
            "data",
            "name",
            "url_citation",
            "http://x",
            "data:,",
            "function",
            "file_id",
            "content",
            "documents",
            "arguments",
        ])
    };
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        word().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 60, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((word(), inner), 0..5)
                .prop_map(|members| members.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()),
        ]
    })
}

proptest! {
    /// Neither white space nor escapes change the result, and JSON inside a string is never inspected.
    #[test]
    fn a_report_does_not_depend_on_white_space_or_escapes(value in any_json(), text in "\\PC{0,40}") {
        let request = json!({ "messages": [ { "content": value } ], "input": text, "instructions": text });
        let plain = request.to_string();
        let escaped = ["url", "type", "tools", "image", "http"].iter().fold(plain.clone(), |text, word| {
            text.replace(word, &format!("\\u{:04x}{}", word.as_bytes()[0], &word[1..]))
        });
        let pretty = serde_json::to_string_pretty(&request).unwrap();
        let of = |text: &str| param(text).is_some();
        prop_assert_eq!(of(&plain), of(&pretty));
        prop_assert_eq!(of(&plain), of(&escaped));
        let said = json!({ "messages": [ { "role": "user", "content": plain } ], "prompt": plain, "input": [plain] });
        prop_assert_eq!(param(&said.to_string()), None);
        prop_assert_eq!(changed(&said.to_string(), Endpoint::ChatCompletions), None);
    }

    #[test]
    fn a_url_is_refused_at_any_depth_except_in_arguments(depth in 0..40_usize, scheme in "(http|file|s3|\\\\\\\\nas|/mnt)", free in any::<bool>()) {
        let mut value = json!({ "type": "image_url", "image_url": { "url": format!("{scheme}://x/y") } });
        for level in 0..depth {
            value = if level % 2 == 0 { json!([value]) } else { json!({ "content": value }) };
        }
        if free {
            value = json!({ "type": "tool_use", "input": { "x": value } });
        }
        let request = json!({ "messages": [ { "role": "user", "content": [value] } ] }).to_string();
        prop_assert_eq!(param(&request).is_some(), !free);
    }
}

/// The request as another user's backend gets it.
fn sent(request: &str) -> String {
    changed(request, Endpoint::ChatCompletions).unwrap_or_else(|| request.to_owned())
}
