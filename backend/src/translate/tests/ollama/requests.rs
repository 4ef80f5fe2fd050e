//! Requests.

use wire::task::Endpoint;

use super::super::super::json::Json;
use super::super::super::ollama::{OllamaApi, translate};
use super::super::at;
use super::{AT, request};

/// The endpoint and the body of the call.
fn call(api: OllamaApi, body: &str) -> (Endpoint, Json<'static>) {
    let call = request(api, body).call.expect("a call");
    (call.endpoint, Json::parse(&call.body).unwrap())
}

fn chat(body: &str) -> Json<'static> {
    let (endpoint, body) = call(OllamaApi::Chat, body);
    assert_eq!(endpoint, Endpoint::ChatCompletions);
    body
}

fn refused(api: OllamaApi, body: &str) -> String {
    translate(api, body.as_bytes()).unwrap_err().0
}

#[test]
fn a_chat_streams_by_default_and_options_have_the_names_of_chat_completions() {
    let body = chat(
        r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"keep_alive":"5m","truncate":true,
        "options":{"num_predict":42,"temperature":0.10,"top_p":0.9,"top_k":7,"min_p":0.05,"typical_p":0.7,"seed":18446744073709551615,
        "presence_penalty":1,"frequency_penalty":-0.5,"repeat_penalty":1.1,"repeat_last_n":64,"mirostat":2,"stop":["END",""],
        "num_ctx":8192,"num_gpu":1,"num_thread":8,"use_mmap":true,"numa":false,"unknown":"x","top_logits":null}}"#,
    );
    assert_eq!(
        body.to_string(),
        concat!(
            r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"max_tokens":42,"temperature":0.10,"top_p":0.9,"top_k":7,"#,
            r#""min_p":0.05,"typical_p":0.7,"seed":18446744073709551615,"presence_penalty":1,"frequency_penalty":-0.5,"#,
            r#""repeat_penalty":1.1,"repetition_penalty":1.1,"repeat_last_n":64,"mirostat":2,"stop":["END"],"#,
            r#""stream":true,"stream_options":{"include_usage":true}}"#
        )
    );
    for (stream, expected) in [("true", "true"), ("false", "false"), ("null", "true")] {
        let body = chat(&format!(r#"{{"stream":{stream},"messages":[{{"role":"user","content":"a"}}]}}"#));
        assert_eq!(at(&body, "stream"), expected);
    }
    for limit in ["-1", "-2", "0"] {
        let options = format!(r#"{{"num_predict":{limit},"stop":"\n"}}"#);
        let body = chat(&format!(r#"{{"messages":[{{"role":"user"}}],"options":{options}}}"#));
        assert_eq!((at(&body, "max_tokens"), at(&body, "stop")), ("null".into(), r#"["\n"]"#.into()));
    }
}

#[test]
fn pictures_become_data_urls_of_the_type_that_they_begin_with() {
    for (image, url) in [
        ("iVBORw0KGgoAAA==", "data:image/png;base64,iVBORw0KGgoAAA=="),
        // PHP escapes slashes.
        (r"\/9j\/4AAQ", "data:image/jpeg;base64,/9j/4AAQ"),
        ("R0lGODlh", "data:image/gif;base64,R0lGODlh"),
        (r"UklGRiQA\nAABXRUJQ", "data:image/webp;base64,UklGRiQAAABXRUJQ"),
        ("data:image/avif;base64,AAAA", "data:image/avif;base64,AAAA"),
    ] {
        let chat =
            chat(&format!(r#"{{"messages":[{{"role":"user","content":"see","images":["{image}"]}}]}}"#));
        let part = format!(r#"{{"type":"image_url","image_url":{{"url":"{url}"}}}}"#);
        let text = r#"{"type":"text","text":"see"}"#;
        assert_eq!(at(&chat, "messages/0/content"), format!("[{part},{text}]"));
    }
    for image in
        [r#""https://h/a.png""#, r#""/etc/passwd""#, r#""iVBORw0KGgo?AAA""#, "7", r#""""#, r#""AAAA""#]
    {
        let body = format!(r#"{{"messages":[{{"role":"user","content":"see","images":[{image}]}}]}}"#);
        let why = refused(OllamaApi::Chat, &body);
        assert!(why.starts_with("messages.0.images.0 is no PNG"), "{why}");
    }
}

#[test]
fn tools_and_their_results_get_the_ids_that_chat_completions_need() {
    let chat = chat(
        r#"{"messages":[{"role":"user","content":"go"},
        {"role":"assistant","content":"","thinking":"hm","tool_calls":[{"function":{"name":"a","arguments":{"x":1}}},
            {"function":{"name":"b","arguments":{}}},{"id":"own","function":{"name":"b","arguments":"{\"y\":2}"}}]},
        {"role":"tool","tool_name":"b","content":"B"},{"role":"tool","content":"A"},
        {"role":"tool","tool_call_id":"own","content":"O","images":["iVBORw0KGgo"]},
        {"role":"ASSISTANT","content":"done"}],
        "tools":[{"type":"function","function":{"name":"a","description":"d","parameters":{"type":"object"}}},{"function":{"name":"b"}}]}"#,
    );
    assert_eq!(
        at(&chat, "messages/1"),
        concat!(
            r#"{"role":"assistant","content":null,"reasoning_content":"hm","tool_calls":["#,
            r#"{"id":"call_1","type":"function","function":{"name":"a","arguments":"{\"x\":1}"}},"#,
            r#"{"id":"call_2","type":"function","function":{"name":"b","arguments":"{}"}},"#,
            r#"{"id":"own","type":"function","function":{"name":"b","arguments":"{\"y\":2}"}}]}"#
        )
    );
    let ids = [2, 3, 4].map(|place| at(&chat, &format!("messages/{place}/tool_call_id")));
    assert_eq!(ids, [r#""call_2""#, r#""call_1""#, r#""own""#]);
    assert_eq!(at(&chat, "messages/5/role"), r#""user""#, "the picture of the result");
    assert_eq!(at(&chat, "messages/6"), r#"{"role":"assistant","content":"done"}"#);
    assert_eq!(
        at(&chat, "tools/1"),
        r#"{"type":"function","function":{"name":"b","parameters":{"type":"object","properties":{}}}}"#
    );
}

#[test]
fn format_and_think_have_the_names_that_servers_read() {
    let with = |members: &str| chat(&format!(r#"{{"messages":[{{"role":"user"}}],{members}}}"#));
    assert_eq!(at(&with(r#""format":"json""#), "response_format"), r#"{"type":"json_object"}"#);
    assert_eq!(
        at(&with(r#""format":{"type":"object"}"#), "response_format"),
        r#"{"type":"json_schema","json_schema":{"name":"answer","schema":{"type":"object"}}}"#
    );
    assert_eq!(at(&with(r#""format":"""#), "response_format"), "null");
    let think = |think: &str| {
        let chat = with(&format!(r#""think":{think}"#));
        ["reasoning_effort", "reasoning", "chat_template_kwargs"].map(|key| at(&chat, key))
    };
    let variables = |is: bool| format!(r#"{{"enable_thinking":{is},"thinking":{is}}}"#);
    assert_eq!(think("true"), ["null".into(), "null".into(), variables(true)]);
    assert_eq!(think("false"), ["null".into(), r#"{"effort":"none"}"#.into(), variables(false)]);
    assert_eq!(think("null"), ["null", "null", "null"]);
    let [effort, _, variables] = think(r#""low""#);
    assert_eq!(effort, r#""low""#);
    assert_eq!(variables, r#"{"enable_thinking":true,"thinking":true,"reasoning_effort":"low"}"#);
    let logprobs = with(r#""logprobs":true,"top_logprobs":3"#);
    assert_eq!([at(&logprobs, "logprobs"), at(&logprobs, "top_logprobs")], ["true", "3"]);
}

#[test]
fn a_generated_text_is_a_chat_or_with_raw_and_suffix_a_completion() {
    let (endpoint, chat) =
        call(OllamaApi::Generate, r#"{"model":"m","prompt":"p","system":"s","suffix":""}"#);
    assert_eq!(endpoint, Endpoint::ChatCompletions);
    assert_eq!(at(&chat, "messages"), r#"[{"role":"system","content":"s"},{"role":"user","content":"p"}]"#);
    for (body, suffix) in
        [(r#"{"prompt":"p","raw":true}"#, "null"), (r#"{"prompt":"p","suffix":"x","system":"s"}"#, r#""x""#)]
    {
        let (endpoint, completion) = call(OllamaApi::Generate, body);
        assert_eq!(endpoint, Endpoint::Completions);
        assert_eq!((at(&completion, "prompt"), at(&completion, "suffix")), (r#""p""#.into(), suffix.into()));
        assert_eq!(at(&completion, "messages"), "null");
    }
    let (endpoint, embeddings) = call(OllamaApi::Embed, r#"{"model":"m","input":["a","b"],"dimensions":4}"#);
    assert_eq!(endpoint, Endpoint::Embeddings);
    assert_eq!(embeddings.to_string(), r#"{"model":"m","input":["a","b"],"dimensions":4}"#);
    let (_, embeddings) = call(OllamaApi::Embeddings, r#"{"model":"m","prompt":"a"}"#);
    assert_eq!(embeddings.to_string(), r#"{"model":"m","input":"a"}"#);
}

#[test]
fn a_request_without_input_loads_or_unloads_and_calls_nothing() {
    for (api, body, answer) in [
        (
            OllamaApi::Chat,
            r#"{"model":"m","messages":[]}"#,
            r#""message":{"role":"assistant","content":""},"done":true,"done_reason":"load"}"#,
        ),
        (OllamaApi::Chat, r#"{"model":"m","keep_alive":0}"#, r#""done":true,"done_reason":"unload"}"#),
        (OllamaApi::Generate, r#"{"model":"m"}"#, r#""response":"","done":true,"done_reason":"load"}"#),
        (OllamaApi::Generate, r#"{"model":"m","keep_alive":"0s"}"#, r#""done":true,"done_reason":"unload"}"#),
        (OllamaApi::Generate, r#"{"model":"m","keep_alive":-1}"#, r#""done_reason":"load"}"#),
        (OllamaApi::Embed, r#"{"model":"m","input":[]}"#, r#"{"model":"m","embeddings":[]}"#),
        (OllamaApi::Embeddings, r#"{"model":"m","prompt":""}"#, r#"{"embedding":[]}"#),
    ] {
        let request = request(api, body);
        assert!(request.call.is_none(), "{body}");
        let said = request.answer.without_input(AT);
        assert!(said.ends_with(answer), "{said}");
        assert_eq!(request.model.as_deref(), Some("m"));
    }
}

#[test]
fn what_cannot_be_done_is_refused_in_words() {
    for (api, body, text) in [
        (OllamaApi::Chat, "[]", "not a JSON object"),
        (OllamaApi::Chat, r#"{"model":7}"#, "'model'"),
        (OllamaApi::Chat, r#"{"messages":{}}"#, "messages must be an array"),
        (
            OllamaApi::Chat,
            r#"{"messages":[{"role":"user","content":[]}]}"#,
            "messages.0.content must be a string",
        ),
        (OllamaApi::Chat, r#"{"messages":[{"role":"critic"}]}"#, "the role 'critic'"),
        (OllamaApi::Chat, r#"{"messages":[{"role":"user"}],"stream":"true"}"#, "'stream'"),
        (
            OllamaApi::Chat,
            r#"{"messages":[{"role":"user"}],"options":{"top_k":"7"}}"#,
            "option \"top_k\" must be a number",
        ),
        (OllamaApi::Chat, r#"{"messages":[{"role":"user"}],"options":{"stop":[7]}}"#, "option \"stop\""),
        (OllamaApi::Chat, r#"{"messages":[{"role":"user"}],"format":"xml"}"#, "invalid format: \"xml\""),
        (OllamaApi::Chat, r#"{"messages":[{"role":"user"}],"think":"loud"}"#, "invalid think value"),
        (
            OllamaApi::Chat,
            r#"{"messages":[{"role":"user"}],"tools":[{"type":"mcp"}]}"#,
            "no tool of type 'mcp'",
        ),
        (OllamaApi::Generate, r#"{"prompt":"p","template":"x"}"#, "template"),
        (OllamaApi::Generate, r#"{"prompt":"p","context":[1]}"#, "context"),
        (OllamaApi::Generate, r#"{"prompt":["p"]}"#, "prompt must be a string"),
        (OllamaApi::Generate, r#"{"prompt":"p","raw":true,"system":"s"}"#, "system cannot"),
        (OllamaApi::Generate, r#"{"prompt":"p","raw":true,"images":["R0lGOD"]}"#, "images cannot"),
        (OllamaApi::Embed, r#"{"input":[7]}"#, "input must be"),
        (OllamaApi::Embeddings, r#"{"prompt":["a"]}"#, "prompt must be"),
    ] {
        let why = refused(api, body);
        assert!(why.contains(text), "{body}: {why}");
    }
}
