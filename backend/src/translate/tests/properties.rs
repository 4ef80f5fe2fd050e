//! Any stream, cut in any way, says what the whole answer says.

use proptest::prelude::*;

use super::super::json::{Json, escape, unescape};
use super::super::ollama::{Durations, OllamaAnswer, OllamaApi, translate};
use super::super::{messages, responses};
use super::{chunk, collect, completion, context, last};

/// A text as its smallest escaped parts, halves of pairs of surrogates among them.
fn units() -> impl Strategy<Value = Vec<String>> {
    let unit = prop_oneof![
        4 => any::<char>().prop_map(|c| escape(&c.to_string())),
        2 => "[a-z {}\":]".prop_map(|text| escape(&text)),
        1 => Just(r"\ud83d".to_owned()),
        1 => Just(r"\ude00".to_owned()),
    ];
    prop::collection::vec(unit, 0..12)
}

/// Arguments: nothing, or an object whose strings hold anything.
fn arguments() -> impl Strategy<Value = Vec<String>> {
    let value = prop_oneof![
        any::<u64>().prop_map(|number| number.to_string()),
        any::<String>().prop_map(|text| format!("\"{}\"", escape(&text))),
        Just(r#"{"a":[{}],"b":"}"}"#.to_owned()),
        Just(r#""\ud83d""#.to_owned()),
    ];
    prop::collection::vec(value, 0..4).prop_map(|values| {
        let members: Vec<_> =
            values.iter().enumerate().map(|(n, value)| format!(r#""k{n}":{value}"#)).collect();
        let text = if members.is_empty() { String::new() } else { format!("{{{}}}", members.join(",")) };
        text.chars().map(|c| escape(&c.to_string())).collect()
    })
}

/// Deltas that say `units` in deltas of the lengths in `cuts`.
fn cut(units: &[String], cuts: &[usize], delta: impl Fn(&str) -> String) -> Vec<String> {
    let mut rest = units;
    let mut cuts = cuts.iter().cycle();
    let mut out = Vec::new();
    while !rest.is_empty() {
        let (piece, after) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
        out.push(delta(&piece.concat()));
        rest = after;
    }
    out
}

fn call_deltas(index: usize, arguments: &[String], cuts: &[usize]) -> Vec<String> {
    let begin = format!(
        r#""tool_calls":[{{"index":{index},"id":"c{index}","type":"function","function":{{"name":"f{index}","arguments":""}}}}]"#
    );
    let deltas = cut(arguments, cuts, |piece| {
        format!(r#""tool_calls":[{{"index":{index},"function":{{"arguments":"{piece}"}}}}]"#)
    });
    std::iter::once(begin).chain(deltas).collect()
}

/// All of `lists`, each in its own order, merged as `picks` says.
fn merge(lists: Vec<Vec<String>>, picks: &[usize]) -> Vec<String> {
    let mut lists: Vec<_> = lists.into_iter().map(std::collections::VecDeque::from).collect();
    let mut picks = picks.iter().cycle();
    let mut out = Vec::new();
    loop {
        lists.retain(|list| !list.is_empty());
        if lists.is_empty() {
            return out;
        }
        let pick = picks.next().unwrap() % lists.len();
        out.extend(lists[pick].pop_front());
    }
}

fn told(deltas: &[String]) -> (Vec<String>, Vec<String>) {
    let message = messages::to_chat(br#"{"model":"m","messages":[]}"#).unwrap();
    let response = responses::to_chat(br#"{"model":"m","input":"a"}"#).unwrap();
    let mut message = messages::stream_translator(context(&message));
    let mut response = responses::stream_translator(context(&response));
    let (mut messages, mut responses) = (Vec::new(), Vec::new());
    for chunk in deltas.iter().map(|delta| chunk(delta)).chain(last("tool_calls")) {
        messages.extend(message.push(&chunk).unwrap());
        responses.extend(response.push(&chunk).unwrap());
    }
    messages.extend(message.finish());
    responses.extend(response.finish());
    (messages, responses)
}

fn ollama() -> OllamaAnswer {
    translate(OllamaApi::Chat, br#"{"model":"m","messages":[{"role":"user"}]}"#).unwrap().answer
}

/// What the lines of a stream in Ollama's format tell together, as one whole answer.
fn collected(deltas: &[String]) -> String {
    let mut stream = ollama().stream();
    let chunks = deltas.iter().map(|delta| chunk(delta)).chain(last("tool_calls"));
    let mut lines: Vec<_> = chunks.flat_map(|chunk| stream.push(&chunk, "").unwrap()).collect();
    lines.extend(stream.finish("", Durations::default()));
    let (mut text, mut thinking, mut calls) = (String::new(), String::new(), Vec::new());
    let done = lines.pop().unwrap();
    for line in &lines {
        let line = Json::parse(line).unwrap();
        assert!(!line.get_bool("done"));
        let message = line.get("message").unwrap();
        text.push_str(message.get_fragment("content"));
        thinking.push_str(message.get_fragment("thinking"));
        calls.extend(message.get_items("tool_calls").iter().map(Json::to_string));
    }
    let thinking = (!thinking.is_empty()).then(|| format!(r#","thinking":"{thinking}""#));
    let calls = (!calls.is_empty()).then(|| format!(r#","tool_calls":[{}]"#, calls.join(",")));
    let members =
        [format!(r#""content":"{text}""#), thinking.unwrap_or_default(), calls.unwrap_or_default()].concat();
    done.replace(r#""content":"""#, &members)
}

proptest! {
    #[test]
    fn a_stream_cut_in_any_way_is_the_whole_answer(
        thought in units(), text in units(), calls in prop::collection::vec(arguments(), 0..4),
        cuts in prop::collection::vec(1..7_usize, 1..6), picks in prop::collection::vec(any::<usize>(), 1..20),
    ) {
        let mut deltas = cut(&thought, &cuts, |piece| format!(r#""reasoning_content":"{piece}""#));
        deltas.extend(cut(&text, &cuts, |piece| format!(r#""content":"{piece}""#)));
        let (first, rest) = calls.split_first().map_or((vec![], vec![]), |(first, rest)| {
            let rest = rest.iter().enumerate().map(|(n, call)| call_deltas(n + 1, call, &cuts)).collect();
            (call_deltas(0, first, &cuts), rest)
        });
        // The order of the calls is that of their beginnings.
        let mut first = first.into_iter();
        deltas.extend(first.next());
        deltas.extend(rest.iter().filter_map(|call: &Vec<String>| call.first().cloned()));
        let rest = rest.into_iter().map(|call| call[1..].to_vec()).chain([first.collect()]).collect();
        deltas.extend(merge(rest, &picks));

        let whole_calls: Vec<_> = calls.iter().enumerate().map(|(n, call)| {
            format!(r#"{{"id":"c{n}","type":"function","function":{{"name":"f{n}","arguments":"{}"}}}}"#, call.concat())
        }).collect();
        let whole = completion(
            &format!(r#""reasoning_content":"{}","content":"{}","tool_calls":[{}]"#, thought.concat(), text.concat(), whole_calls.join(",")),
            "tool_calls",
        );
        let message = messages::to_chat(br#"{"model":"m","messages":[]}"#).unwrap();
        let response = responses::to_chat(br#"{"model":"m","input":"a"}"#).unwrap();
        let (messages, responses) = told(&deltas);
        prop_assert_eq!(collect::message(&messages), messages::from_chat(&whole, &context(&message)).unwrap());
        prop_assert_eq!(collect::response(&responses), responses::from_chat(&whole, &context(&response)).unwrap());
        prop_assert_eq!(collected(&deltas), ollama().whole(&whole, "", Durations::default()).unwrap());
    }

    #[test]
    fn text_and_calls_in_any_order_lose_nothing(
        thought in units(), text in units(), calls in prop::collection::vec(arguments(), 1..4),
        cuts in prop::collection::vec(1..7_usize, 1..6), picks in prop::collection::vec(any::<usize>(), 1..20),
    ) {
        let mut lists = vec![
            cut(&thought, &cuts, |piece| format!(r#""reasoning":"{piece}""#)),
            cut(&text, &cuts, |piece| format!(r#""content":"{piece}""#)),
        ];
        lists.extend(calls.iter().enumerate().map(|(n, call)| call_deltas(n, call, &cuts)));
        let merged = merge(lists, &picks);
        let (messages, responses) = told(&merged);
        collect::response(&responses);
        let lines = Json::parse(&collected(&merged)).unwrap();
        let whole = lines.get("message").unwrap();
        // Line ends of other readers are escaped.
        for (key, units) in [("content", &text), ("thinking", &thought)] {
            let expected = units.concat();
            prop_assert_eq!(unescape(whole.get_fragment(key)), unescape(&expected));
        }
        prop_assert_eq!(whole.get_items("tool_calls").len(), calls.len());
        let message = Json::parse(&collect::message(&messages)).unwrap();
        let content = message.get("content").unwrap().items();
        let all = |key: &str| content.iter().map(|block| block.get_fragment(key)).collect::<String>();
        prop_assert_eq!(all("text"), text.concat());
        prop_assert_eq!(all("thinking"), thought.concat());
        for (n, call) in calls.iter().enumerate() {
            let block = content.iter().find(|block| block.get_fragment("id") == format!("c{n}")).unwrap();
            let expected = unescape(&call.concat()).into_owned();
            let expected = if expected.is_empty() { "{}".to_owned() } else { Json::parse(&expected).unwrap().to_string() };
            prop_assert_eq!(block.get("input").unwrap().to_string(), expected);
        }
    }

    #[test]
    fn no_chunk_breaks_the_order_of_events(
        chunks in prop::collection::vec(odd_chunk(), 0..12)
    ) {
        let message = messages::to_chat(br#"{"messages":[]}"#).unwrap();
        let mut events = messages::stream_translator(context(&message));
        let mut told: Vec<String> = chunks.iter().filter_map(|chunk| events.push(chunk).ok()).flatten().collect();
        told.extend(events.finish());
        // Arguments may be no JSON here: only the order is looked at.
        let mut open = None;
        for event in &told {
            let event = Json::parse(event).unwrap();
            let index = event.get("index").and_then(Json::as_count);
            match &*event.get_str("type").unwrap() {
                "content_block_start" => prop_assert_eq!(open.replace(index), None),
                "content_block_delta" => prop_assert_eq!(open, Some(index)),
                "content_block_stop" => prop_assert_eq!(open.take(), Some(index)),
                _ => prop_assert_eq!(open, None),
            }
        }
        let response = responses::to_chat(br#"{"input":"a"}"#).unwrap();
        let mut events = responses::stream_translator(context(&response));
        let mut told: Vec<String> = chunks.iter().filter_map(|chunk| events.push(chunk).ok()).flatten().collect();
        told.extend(events.finish());
        collect::response(&told);
    }
}

/// Chunks with members of odd types, indices that jump, calls without names or ids.
fn odd_chunk() -> impl Strategy<Value = String> {
    let value = prop_oneof![
        Just("null".to_owned()),
        Just("{}".to_owned()),
        Just("[]".to_owned()),
        Just("7".to_owned()),
        Just("\"x\"".to_owned()),
        Just("\"{}\"".to_owned()),
        Just("\"}\"".to_owned()),
        Just("\"\"".to_owned()),
        Just(r#"[{"type":"text","text":"t"}]"#.to_owned()),
    ];
    let call = (value.clone(), value.clone(), value.clone(), value.clone()).prop_map(
        |(index, id, name, arguments)| {
            format!(r#"{{"index":{index},"id":{id},"function":{{"name":{name},"arguments":{arguments}}}}}"#)
        },
    );
    (value.clone(), value.clone(), value, prop::collection::vec(call, 0..3)).prop_map(|(content, reasoning, finish, calls)| {
        let calls = calls.join(",");
        format!(r#"{{"choices":[{{"delta":{{"content":{content},"reasoning":{reasoning},"tool_calls":[{calls}]}},"finish_reason":{finish}}}],"usage":{finish}}}"#)
    })
}
