//! Collects events like the official clients, and checks their order.

use super::super::json::{Json, unescape};

/// The message that the events tell.
pub(super) fn message(events: &[String]) -> String {
    let events: Vec<Json<'_>> = events.iter().map(|event| Json::parse(event).unwrap()).collect();
    let kinds: Vec<_> = events.iter().map(|event| event.get_str("type").unwrap().into_owned()).collect();
    assert_eq!(kinds.first().unwrap(), "message_start");
    assert_eq!(&kinds[kinds.len() - 2..], ["message_delta", "message_stop"]);
    assert_eq!(kinds.iter().filter(|kind| kind.starts_with("message_")).count(), 3, "{kinds:?}");
    let mut content: Vec<Json<'_>> = Vec::new();
    let mut open: Option<(Json<'_>, Vec<(String, String)>)> = None;
    for (kind, event) in kinds.iter().zip(&events).filter(|(kind, _)| kind.starts_with("content_block")) {
        assert_eq!(event.get("index").unwrap().as_count(), Some(content.len() as u64), "{event}");
        match kind.as_str() {
            "content_block_start" => {
                assert!(open.is_none(), "two open blocks");
                open = Some((event.get("content_block").unwrap().clone(), Vec::new()));
            }
            "content_block_delta" => {
                let (block, texts) = open.as_mut().expect("a delta outside a block");
                let delta = event.get("delta").unwrap();
                let kind = delta.get_str("type").unwrap();
                let key = match &*kind {
                    "text_delta" => "text",
                    "thinking_delta" => "thinking",
                    "signature_delta" => "signature",
                    "input_json_delta" => "partial_json",
                    other => panic!("{other}"),
                };
                let of = [
                    ("text", "text"),
                    ("thinking", "thinking"),
                    ("signature", "thinking"),
                    ("partial_json", "tool_use"),
                ];
                let block = block.get_str("type").unwrap();
                assert!(of.contains(&(key, &*block)), "{kind} in {block}");
                match texts.iter_mut().find(|(name, _)| name == key) {
                    Some((_, text)) => text.push_str(delta.get_fragment(key)),
                    None => texts.push((key.into(), delta.get_fragment(key).into())),
                }
            }
            "content_block_stop" => {
                let (block, texts) = open.take().expect("a stop without a start");
                let Json::Object(mut members) = block else { panic!("{block}") };
                for (key, text) in texts {
                    let (key, value) = match key.as_str() {
                        "partial_json" => {
                            let text = Json::from_fragment(&text);
                            ("input".to_owned(), Json::parse(&text.as_str().unwrap()).unwrap())
                        }
                        _ => (key, Json::from_fragment(&text)),
                    };
                    members.iter_mut().find(|(name, _)| *name == key).unwrap().1 = value;
                }
                content.push(Json::Object(members));
            }
            other => panic!("{other}"),
        }
    }
    assert!(open.is_none(), "a block is left open");
    let Json::Object(mut message) = events[0].get("message").unwrap().clone() else { panic!() };
    let last = &events[events.len() - 2];
    for (key, value) in &mut message {
        match &**key {
            "content" => *value = Json::Array(std::mem::take(&mut content)),
            "stop_reason" | "stop_sequence" => {
                *value = last.get("delta").unwrap().get(key).cloned().unwrap_or(Json::NULL);
            }
            "usage" => *value = last.get("usage").unwrap().clone(),
            _ => (),
        }
    }
    Json::Object(message).to_string()
}

/// The response that the events tell: that of the last one, which must say what all the others said.
pub(super) fn response(events: &[String]) -> String {
    let events: Vec<Json<'_>> = events.iter().map(|event| Json::parse(event).unwrap()).collect();
    let mut items: Vec<Json<'_>> = Vec::new();
    let mut open: Option<(Json<'_>, String, Option<String>)> = None;
    for (number, event) in events.iter().enumerate() {
        let kind = event.get_str("type").unwrap();
        assert_eq!(event.get("sequence_number").unwrap().as_count(), Some(number as u64), "{event}");
        let is_edge = match number {
            0 => kind == "response.created",
            1 => kind == "response.in_progress",
            last if last + 1 == events.len() => {
                matches!(&*kind, "response.completed" | "response.incomplete")
            }
            _ => false,
        };
        assert_eq!(is_edge, event.get("response").is_some(), "{number}: {kind}");
        if is_edge {
            continue;
        }
        assert_eq!(event.get("output_index").unwrap().as_count(), Some(items.len() as u64), "{event}");
        if kind == "response.output_item.added" {
            assert!(open.is_none(), "two open items");
            open = Some((event.get("item").unwrap().clone(), String::new(), None));
            continue;
        }
        let (item, text, done) = open.as_mut().expect("an event outside an item");
        if kind == "response.output_item.done" {
            let whole = event.get("item").unwrap();
            for key in ["id", "type", "call_id", "name", "namespace"] {
                assert_eq!(whole.get(key), item.get(key));
            }
            if let Some(done) = done {
                assert_eq!(unescape(done), unescape(text), "done says what the deltas said");
                assert!(whole.to_string().contains(&format!("\"{done}\"")), "{whole} lacks {done}");
            }
            items.push(whole.clone());
            open = None;
            continue;
        }
        assert_eq!(event.get("item_id"), item.get("id"));
        if kind.ends_with(".delta") {
            assert!(done.is_none());
            text.push_str(event.get_fragment("delta"));
        } else if kind.ends_with(".done") && !kind.contains("part") {
            let key =
                ["text", "refusal", "arguments", "input"].into_iter().find(|key| event.get(key).is_some());
            *done = Some(event.get_fragment(key.unwrap()).to_owned());
        }
    }
    assert!(open.is_none(), "an item is left open");
    let response = events.last().unwrap().get("response").unwrap();
    assert_eq!(response.get("output").unwrap(), &Json::Array(items));
    response.to_string()
}
