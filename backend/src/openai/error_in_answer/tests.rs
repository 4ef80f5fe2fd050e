//! Errors in answers of status 200, as servers send them.

use super::*;

/// The status that an error names, 0 for none; `None` where there is no error.
fn of(data: &str) -> Option<u16> {
    ErrorInAnswer::of(data, Endpoint::ChatCompletions).map(|error| error.status.unwrap_or(0))
}

#[test]
fn an_empty_error_beside_an_answer_is_no_error() {
    for error in ["null", r#""""#, "{}", "false", r#"{"message":"","code":null,"type":"","n":0,"more":[]}"#] {
        assert_eq!(of(&format!(r#"{{"choices":[{{}}],"error":{error}}}"#)), None, "{error}");
    }
    for error in [r#""out of memory""#, r#"{"code":500}"#, "true", r#"{"message":"m","code":null}"#] {
        assert!(of(&format!(r#"{{"choices":[],"error":{error}}}"#)).is_some(), "{error}");
        assert!(of(&format!(r#"{{"error":{error}}}"#)).is_some(), "{error}");
    }
    assert_eq!(of(r#"{"choices":[{"delta":{"content":"error"}}]}"#), None);
}

#[test]
fn an_empty_error_is_no_error_beside_the_answer_of_any_api() {
    for answer in ["data", "results", "content", "output"] {
        for error in [r#""""#, "false", "{}"] {
            let data = format!(r#"{{"error":{error},"{answer}":[1]}}"#);
            for endpoint in [Endpoint::Embeddings, Endpoint::Rerank, Endpoint::Messages, Endpoint::Responses]
            {
                assert_eq!(both(&data, endpoint), [None; 2], "{data}");
            }
        }
    }
}

/// Of an answer whole and in an event: the status that it names, 0 for none; `None` where there is no error.
fn both(data: &str, endpoint: Endpoint) -> [Option<u16>; 2] {
    [ErrorInAnswer::of_whole(data, endpoint), ErrorInAnswer::of(data, endpoint)]
        .map(|error| error.map(|error| error.status.unwrap_or(0)))
}

#[test]
fn what_has_an_errors_words_and_no_choices_is_an_error() {
    for (data, status) in [
        (r#"{"code":500,"msg":"m","success":false}"#, 500),
        (r#"{"code":1234,"message":"m","data":null}"#, 0),
        (r#"{"detail":"m"}"#, 0),
        (r#"{"detail":[{"loc":["choices"],"msg":"m","input":{"choices":[]}}]}"#, 0),
        (r#"{"errors":[{"message":"m"}]}"#, 0),
        (r#"{"status":500,"reason":"m"}"#, 500),
        (r#"{"err_msg":"m","usage":null,"choices":null}"#, 0),
        (r#"{"x\"choices":[],"status_code":429}"#, 429),
        (r#"{"type":"not_found","title":"m"}"#, 404),
    ] {
        for endpoint in [Endpoint::ChatCompletions, Endpoint::Completions] {
            assert_eq!(both(data, endpoint), [Some(status); 2], "{data}");
        }
        for endpoint in [Endpoint::Embeddings, Endpoint::Rerank, Endpoint::Messages, Endpoint::Responses] {
            assert_eq!(both(data, endpoint), [None; 2], "{data}");
        }
    }
    // No answer, and in a stream something that its readers skip.
    for data in [
        "{}",
        r#"{"timings":{"cache_n":0}}"#,
        r#"{"usage":{"total_tokens":1},"message":"m"}"#,
        r#"{"type":"status","message":"loading model"}"#,
        r#"{"code":0,"message":"success"}"#,
        r#"{"title":"t"}"#,
    ] {
        assert_eq!(both(data, Endpoint::ChatCompletions), [Some(0), None], "{data}");
    }
    for data in [r#"{"detail":"m""#, "null", "[]", r#"["detail"]"#] {
        assert_eq!(both(data, Endpoint::ChatCompletions), [None; 2], "no object: {data}");
    }
}

#[test]
fn an_error_of_a_choice_is_an_error_with_its_words() {
    for (error, status) in [(r#"{"code":502,"message":"m"}"#, 502), (r#""m""#, 0), (r#"{"code":1}"#, 0)] {
        let data = format!(r#"{{"choices":[{{"index":0}},{{"index":1,"error":{error}}},{{"error":"n"}}]}}"#);
        assert_eq!(both(&data, Endpoint::ChatCompletions), [Some(status); 2], "{data}");
        let told = ErrorInAnswer::of(&data, Endpoint::ChatCompletions).and_then(|error| error.data);
        assert_eq!(told, Some(format!(r#"{{"error":{error}}}"#)));
    }
    for error in ["null", r#""""#, "{}", r#"{"message":""}"#] {
        let data = format!(r#"{{"choices":[{{"error":{error}}}]}}"#);
        assert_eq!(both(&data, Endpoint::ChatCompletions), [None; 2], "{data}");
    }
    let said = r#"{"choices":[{"message":{"error":"m","content":"error"}}]}"#;
    assert_eq!(both(said, Endpoint::ChatCompletions), [None; 2]);
}

/// What servers were recorded to send, and what they send where an option asks for it.
#[test]
fn what_real_servers_send_in_an_answer_is_no_error() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/provenance/answers");
    let mut events = 0;
    for file in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let (name, text) = (file.file_name(), std::fs::read_to_string(file.path()).unwrap());
        let name = name.to_str().unwrap();
        let endpoint = match name {
            _ if name.contains(".chat.") => Endpoint::ChatCompletions,
            _ if name.contains(".completions.") => Endpoint::Completions,
            _ => continue,
        };
        if file.path().extension().is_some_and(|end| end == "json") {
            assert_eq!(ErrorInAnswer::of_whole(&text, endpoint), None, "{name}");
        }
        for data in text.lines().filter_map(|line| line.strip_prefix("data:")).map(str::trim) {
            events += 1;
            assert_eq!(ErrorInAnswer::of(data, endpoint), None, "{name}: {data}");
        }
    }
    assert!(events > 20, "{events}");
    for data in [
        // Azure's first, vLLM's last and its usage in each, llama.cpp's progress, gateways' signs of life.
        r#"{"choices":[],"created":0,"id":"","model":"","prompt_filter_results":[{"prompt_index":0}]}"#,
        r#"{"id":"c","object":"chat.completion.chunk","choices":[],"usage":{"total_tokens":3}}"#,
        r#"{"usage":{"prompt_tokens":1},"choices":[{"index":0,"delta":{"content":"detail"}}]}"#,
        r#"{"choices":[{"index":0,"delta":{"content":null}}],"prompt_progress":{"total":9,"processed":3}}"#,
        r#"{"usage":{"total_tokens":3}}"#,
        r#"{"id":"c","object":"chat.completion.chunk","timings":{"predicted_n":5}}"#,
        r#"{"type":"ping"}"#,
        "{}",
    ] {
        assert_eq!(ErrorInAnswer::of(data, Endpoint::ChatCompletions), None, "{data}");
    }
}

#[test]
fn a_response_tells_its_own_failure_and_what_has_none_in_it_is_an_error() {
    let is_error = |data: &str| ErrorInAnswer::of(data, Endpoint::Responses).is_some();
    for own in [
        r#"{"object":"response","status":"failed","error":{"message":"m"}}"#,
        r#"{"type":"response.failed","response":{"error":{"message":"m"}},"error":"m"}"#,
    ] {
        assert!(!is_error(own), "{own}");
    }
    for response in ["null", "5", r#""{""#, "[]"] {
        let error = format!(r#"{{"type":"error","response":{response},"error":{{"message":"m"}}}}"#);
        assert!(is_error(&error), "{error}");
    }
}

/// As long as a body may be: its status is found, and of its words nothing is kept.
#[test]
fn of_a_long_error_the_status_is_all_that_is_looked_at() {
    let long = "[0],".repeat(MAX_ERROR / 4);
    let error = format!(r#"{{"choices":[],"error":{{"code":422,"input":[{long}0]}}}}"#);
    let told = ErrorInAnswer::of(&error, Endpoint::ChatCompletions);
    assert_eq!(told, Some(ErrorInAnswer { status: Some(422), data: None }));
    let answer = format!(r#"{{"choices":[{long}0],"error":{{"code":null}}}}"#);
    assert_eq!(ErrorInAnswer::of(&answer, Endpoint::ChatCompletions), None);
}

#[test]
fn the_status_is_the_one_that_the_error_names() {
    for (data, status) in [
        (r#"{"error":{"code":400,"message":"m"}}"#, 400),
        (r#"{"error":{"message":"m"},"status_code":"422"}"#, 422),
        (r#"{"object":"error","code":404}"#, 404),
        (r#"{"error":{"type":"exceed_context_size_error"}}"#, 400),
        (r#"{"error":{"code":"context_length_exceeded","type":"server_error"}}"#, 400),
        (r#"{"type":"error","error":{"type":"overloaded_error","message":"m"}}"#, 503),
        (r#"{"error":{"status":"RESOURCE_EXHAUSTED","code":"x"}}"#, 429),
        (r#"{"error":{"code":1213,"type":"server_error"}}"#, 0),
        (r#"{"error":"m"}"#, 0),
    ] {
        assert_eq!(of(data), Some(status), "{data}");
    }
}
