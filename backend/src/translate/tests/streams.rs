use super::super::{AnswerError, MAX_PARTS, MAX_TEXT, messages, responses};
use super::{chunk, collect, completion, context, last};

fn events(chunks: &[String]) -> Vec<String> {
    let request = messages::to_chat(br#"{"model":"m","messages":[],"stream":true}"#).unwrap();
    let mut events = messages::stream_translator(context(&request));
    let mut out: Vec<String> = chunks.iter().flat_map(|chunk| events.push(chunk).unwrap()).collect();
    out.extend(events.finish());
    assert!(events.finish().is_empty());
    out
}

fn response_events(request: &[u8], chunks: &[String]) -> Vec<String> {
    let request = responses::to_chat(request).unwrap();
    let mut events = responses::stream_translator(context(&request));
    let mut out: Vec<String> = chunks.iter().flat_map(|chunk| events.push(chunk).unwrap()).collect();
    out.extend(events.finish());
    assert!(events.finish().is_empty());
    out
}

fn stream(deltas: &[&str], finish: &str) -> Vec<String> {
    deltas.iter().map(|delta| chunk(delta)).chain(last(finish)).collect()
}

#[test]
fn a_message_is_told_in_anthropics_events() {
    let chunks = stream(
        &[
            r#""role":"assistant","content":"""#,
            r#""reasoning":"h""#,
            r#""reasoning":"m""#,
            r#""content":"ok \ud83d""#,
            r#""content":"\ude00""#,
        ],
        "stop",
    );
    assert_eq!(
        events(&chunks),
        [
            r#"{"type":"message_start","message":{"id":"msg_7","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":0,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":0}}}"#,
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"h"}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"m"}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"reasoning"}}"#,
            r#"{"type":"content_block_stop","index":0}"#,
            r#"{"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}"#,
            r#"{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"ok "}}"#,
            r#"{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"\ud83d\ude00"}}"#,
            r#"{"type":"content_block_stop","index":1}"#,
            r#"{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"input_tokens":12,"cache_creation_input_tokens":0,"cache_read_input_tokens":8,"output_tokens":5}}"#,
            r#"{"type":"message_stop"}"#,
        ]
    );
}

#[test]
fn a_response_is_told_in_openais_events() {
    let chunks = stream(&[r#""content":"o""#, r#""content":"k""#], "length");
    let told = response_events(br#"{"model":"m","input":"a"}"#, &chunks);
    assert_eq!(
        told[2..10],
        [
            r#"{"type":"response.output_item.added","sequence_number":2,"output_index":0,"item":{"id":"msg_7_0","type":"message","status":"in_progress","role":"assistant","content":[]}}"#,
            r#"{"type":"response.content_part.added","sequence_number":3,"item_id":"msg_7_0","output_index":0,"content_index":0,"part":{"type":"output_text","text":"","annotations":[],"logprobs":[]}}"#,
            r#"{"type":"response.output_text.delta","sequence_number":4,"item_id":"msg_7_0","output_index":0,"content_index":0,"delta":"o","logprobs":[]}"#,
            r#"{"type":"response.output_text.delta","sequence_number":5,"item_id":"msg_7_0","output_index":0,"content_index":0,"delta":"k","logprobs":[]}"#,
            r#"{"type":"response.output_text.done","sequence_number":6,"item_id":"msg_7_0","output_index":0,"content_index":0,"text":"ok","logprobs":[]}"#,
            r#"{"type":"response.content_part.done","sequence_number":7,"item_id":"msg_7_0","output_index":0,"content_index":0,"part":{"type":"output_text","text":"ok","annotations":[],"logprobs":[]}}"#,
            r#"{"type":"response.output_item.done","sequence_number":8,"output_index":0,"item":{"id":"msg_7_0","type":"message","status":"incomplete","role":"assistant","content":[{"type":"output_text","text":"ok","annotations":[],"logprobs":[]}]}}"#,
            told[9].as_str(),
        ]
    );
    assert!(told[9].starts_with(r#"{"type":"response.incomplete","sequence_number":9,"#), "{}", told[9]);
    collect::response(&told);
}

#[test]
fn calls_that_interleave_are_told_one_after_the_other() {
    let call = |index: u8, members: &str| format!(r#""tool_calls":[{{"index":{index},{members}}}]"#);
    let chunks = stream(
        &[
            &call(0, r#""id":"a","type":"function","function":{"name":"f","arguments":""}"#),
            &call(1, r#""id":"b","type":"function","function":{"name":"g","arguments":"{\"x\""}"#),
            &call(0, r#""function":{"arguments":"{\"y\":2}"}"#),
            &call(1, r#""function":{"arguments":":1}"}"#),
            r#""content":"done""#,
        ],
        "tool_calls",
    );
    let message = collect::message(&events(&chunks));
    assert!(
        message.contains(
            r#""content":[{"type":"tool_use","id":"a","name":"f","input":{"y":2}},{"type":"tool_use","id":"b","name":"g","input":{"x":1}},{"type":"text","text":"done"}],"stop_reason":"tool_use""#
        ),
        "{message}"
    );
    collect::response(&response_events(br#"{"input":"a"}"#, &chunks));
}

#[test]
fn a_call_is_told_while_it_comes() {
    let request = messages::to_chat(br#"{"messages":[]}"#).unwrap();
    let mut events = messages::stream_translator(context(&request));
    let begin = r#""tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":""}}]"#;
    assert_eq!(events.push(&chunk(begin)).unwrap().len(), 2);
    let more = r#""tool_calls":[{"index":0,"function":{"arguments":"{\"long"}}]"#;
    assert_eq!(
        events.push(&chunk(more)).unwrap(),
        [
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{\"long"}}"#
        ]
    );
}

#[test]
fn arguments_that_do_not_begin_as_an_object_does_are_made_one() {
    for (deltas, input) in [
        ([r#"\"{\\\"a\\\":"#, r#"1}\""#], r#"{"a":1}"#),
        (["[", "1]"], r#"{"raw_arguments":"[1]"}"#),
        (["nu", "ll"], "{}"),
    ] {
        let call = |members: &str, piece: &str| {
            format!(
                r#""tool_calls":[{{"index":0,{members}"function":{{"name":"f","arguments":"{piece}"}}}}]"#
            )
        };
        let chunks = stream(&[&call(r#""id":"a","#, deltas[0]), &call("", deltas[1])], "tool_calls");
        let message = collect::message(&events(&chunks));
        assert!(message.contains(&format!(r#""input":{input}"#)), "{message}");
    }
}

#[test]
fn calls_without_an_index_or_all_with_one_are_told_apart() {
    for index in ["", r#""index":0,"#] {
        let call = |id: &str, name: &str, arguments: &str| {
            format!(
                r#""tool_calls":[{{{index}"id":"{id}","function":{{"name":"{name}","arguments":"{arguments}"}}}}]"#
            )
        };
        let chunks =
            stream(&[&call("a", "f", r#"{\"x\":1}"#), &call("b", "f", "{}"), &call("c", "g", "")], "stop");
        let message = collect::message(&events(&chunks));
        for expected in [
            r#""id":"a","name":"f","input":{"x":1}"#,
            r#""id":"b","name":"f","input":{}"#,
            r#""id":"c","name":"g","input":{}"#,
        ] {
            assert!(message.contains(expected), "{message}");
        }
    }
}

/// What a stream of these arguments of a tool of free text tells: the deltas, and the whole input.
fn free_text(deltas: &[&str], finish: &str) -> (Vec<String>, String) {
    let deltas: Vec<String> = deltas
        .iter()
        .map(|piece| {
            format!(
                r#""tool_calls":[{{"index":0,"id":"a","function":{{"name":"patch","arguments":"{piece}"}}}}]"#
            )
        })
        .collect();
    let deltas: Vec<&str> = deltas.iter().map(String::as_str).collect();
    let told = response_events(
        br#"{"input":"a","tools":[{"type":"custom","name":"patch"}]}"#,
        &stream(&deltas, finish),
    );
    let response = super::Json::parse(&collect::response(&told)).unwrap();
    let told = told.iter().map(|event| super::Json::parse(event).unwrap());
    let told = told.filter(|event| event.get_fragment("type") == "response.custom_tool_call_input.delta");
    (
        told.map(|event| event.get_fragment("delta").to_owned()).collect(),
        super::at(&response, "output/0/input"),
    )
}

#[test]
fn free_text_is_told_while_it_comes() {
    let (deltas, input) =
        free_text(&[r#"{ \"inp"#, r#"ut\": \"x\\"#, r"ny\ud83d", r"\ude00", r#"z\"}"#], "tool_calls");
    assert_eq!(deltas, ["x", r"\ny", "😀", "z"]);
    assert_eq!(input, "\"x\\ny😀z\"");
}

#[test]
fn free_text_without_its_object_or_cut_within_it_is_text_all_the_same() {
    for (deltas, finish, expected) in [
        (["*** Begin", r"\nPatch"], "tool_calls", r"*** Begin\nPatch"),
        ([r#"{\"input\":\"a"#, "bc"], "length", "abc"),
        ([r#"{\"input\":\"a\nb"#, r#"\"}"#], "tool_calls", r"a\nb"),
        ([r#"{\"input\":"#, "[1]}"], "tool_calls", "[1]"),
        ([r#"{\"patch\":"#, "1}"], "tool_calls", r#"{\"patch\":1}"#),
        (["", "{}"], "tool_calls", "{}"),
        (["", ""], "tool_calls", ""),
    ] {
        let (deltas, input) = free_text(&deltas, finish);
        assert_eq!(input, format!("\"{expected}\""));
        assert_eq!(deltas.concat(), expected);
    }
}

#[test]
fn chunks_without_content_say_nothing_and_what_is_no_object_cannot_be_read() {
    let request = messages::to_chat(br#"{"messages":[]}"#).unwrap();
    let mut events = messages::stream_translator(context(&request));
    assert_eq!(events.push("{}").unwrap().len(), 1);
    for quiet in [
        r#"{"choices":null}"#,
        r#"{"choices":[{"index":1,"delta":{"content":"other"}}]}"#,
        r#"{"choices":[{}]}"#,
    ] {
        assert!(events.push(quiet).unwrap().is_empty(), "{quiet}");
    }
    for garbage in ["", "null", "[]", "{", "7"] {
        assert!(events.push(garbage).is_err(), "{garbage}");
    }
}

/// What is kept of an answer has an end, in bytes and in parts, streamed and whole.
#[test]
fn an_answer_without_end_is_given_up() {
    let request = messages::to_chat(br#"{"messages":[]}"#).unwrap();
    let mut message = messages::stream_translator(context(&request));
    let request = responses::to_chat(br#"{"input":"a"}"#).unwrap();
    let mut response = responses::stream_translator(context(&request));
    let mut given = |deltas: [String; 2]| {
        let mut taken = 0;
        while taken < 2 * (MAX_TEXT >> 20) {
            let chunk = chunk(&deltas[taken % 2]);
            let told = (message.push(&chunk), response.push(&chunk));
            match told {
                (Ok(_), Ok(_)) => taken += 1,
                (Err(error), Err(same)) if error == same => return (taken, error),
                told => panic!("{told:?}"),
            }
        }
        panic!("no end after {taken}")
    };
    let long = "x".repeat(1 << 20);
    let kinds = [format!(r#""content":"{long}""#), format!(r#""reasoning":"{long}""#)];
    assert_eq!(given(kinds), (MAX_TEXT >> 20, AnswerError::TooLarge));
    let of_call = |id: &str, name: &str, arguments: &str| {
        format!(
            r#""tool_calls":[{{"index":0,"id":"{id}","function":{{"name":"{name}","arguments":"{arguments}"}}}}]"#
        )
    };
    for (id, name, arguments) in [(&*long, "f", ""), ("1", &*long, ""), ("1", "f", &*long)] {
        let mut message =
            messages::stream_translator(context(&messages::to_chat(br#"{"messages":[]}"#).unwrap()));
        let chunk = chunk(&of_call(id, name, arguments));
        let taken = (0..2 * (MAX_TEXT >> 20)).take_while(|_| message.push(&chunk).is_ok()).count();
        assert!(taken <= MAX_TEXT >> 20, "{taken} MiB of a call");
    }
    let call =
        |name| format!(r#""tool_calls":[{{"index":{name},"id":"{name}","function":{{"name":"{name}"}}}}]"#);
    let mut message =
        messages::stream_translator(context(&messages::to_chat(br#"{"messages":[]}"#).unwrap()));
    let told = (0..=MAX_PARTS).map(|name| message.push(&chunk(&call(name))).err()).collect::<Vec<_>>();
    assert_eq!(told.iter().position(Option::is_some), Some(MAX_PARTS));
    assert_eq!(told[MAX_PARTS], Some(AnswerError::TooManyParts));
    let whole = completion(&format!(r#""content":"{}""#, "x".repeat(MAX_TEXT + 1)), "stop");
    let request = messages::to_chat(br#"{"messages":[]}"#).unwrap();
    assert_eq!(messages::from_chat(&whole, &context(&request)), Err(AnswerError::TooLarge));
}

/// Arguments that never become an object, while others wait behind them, are not read anew for each byte of them.
#[test]
fn long_arguments_are_read_a_few_times_while_they_come() {
    let request = messages::to_chat(br#"{"messages":[]}"#).unwrap();
    let mut events = messages::stream_translator(context(&request));
    let call = |index: u8, name: &str, text: &str| {
        chunk(&format!(
            r#""tool_calls":[{{"index":{index},"id":"{index}","function":{{"name":"{name}","arguments":"{text}"}}}}]"#
        ))
    };
    events.push(&call(0, "f", &format!(r#"{{\"a\":\"}}{}"#, "x".repeat(4 << 20)))).unwrap();
    events.push(&call(1, "g", "{}")).unwrap();
    let begun = tokio::time::Instant::now();
    for _ in 0..2000 {
        events.push(&call(0, "", "}")).unwrap();
    }
    assert!(begun.elapsed() < std::time::Duration::from_secs(20));
    let last: Vec<_> = [events.push(&call(0, "", r#"\"}"#)).unwrap(), events.finish()].concat();
    assert_eq!(last.iter().filter(|event| event.contains("content_block_start")).count(), 1, "the other one");
    assert!(last.iter().any(|event| event.contains(r#""name":"g""#)));
}
