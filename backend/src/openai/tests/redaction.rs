//! What an error says goes on without key, homes and addresses, however the backend writes it and wherever it is cut.

use super::*;

/// With all that encoders of JSON may escape.
const KEY: &str = "sk-proj/Ab12cd34+ef56gh78&ij90kl=";
/// As PHP, Gson and Go write it.
const WRITTEN: [&str; 3] = [
    r"sk-proj\/Ab12cd34+ef56gh78&ij90kl=",
    r"sk-proj/Ab12cd34\u002bef56gh78\u0026ij90kl\u003d",
    r"\u0073k-proj\u002FAb12cd34+ef56gh78\u0026ij90kl=",
];

async fn told(steps: Vec<Step>, streaming: bool) -> String {
    let server = Script::start(steps);
    let http = HttpBackend { url: Secret::new(&*server.url), api_key: Some(Secret::new(KEY)) };
    let backend = OpenAiBackend::new(Client::new(None), &http, Duration::from_secs(5), None);
    let error = match backend.infer(request(streaming)).await {
        Ok(Reply::Stream(events)) => {
            events.filter_map(|event| async { event.err() }).boxed_local().next().await
        }
        Ok(Reply::Whole { .. }) => None,
        Err(error) => Some(error),
    };
    match error {
        Some(BackendError::Refused(refusal)) => wire::openai::error_message(&refusal.body).unwrap(),
        Some(error) => error.to_string(),
        None => panic!("no error"),
    }
}

/// Everything by which an error reaches its caller; `said` is the inside of a JSON string.
fn ways(said: &str) -> Vec<(Vec<Step>, bool)> {
    let list = format!(r#"[{{"error":{{"message":"x{said}"}}}}]"#);
    let text = format!(r#""x{said}""#);
    let wordless = format!(r#"{{"error":{{"traceback":"x{said}"}}}}"#);
    let name = format!(r#"{{"error":{{"x{said}":7}}}}"#);
    let coded = format!(r#"{{"error":{{"code":500,"message":"x{said}"}}}}"#);
    let named = |data: &str| say(&[SSE, &chunked(&format!("event: error\ndata: {data}\n\n"))]);
    let mut ways = Vec::new();
    for body in [&list, &text, &wordless, &name, &coded] {
        ways.push((json_answer("400 No", body), false));
        ways.push((named(body), true));
    }
    let of_choice = format!(r#"{{"choices":[{{"finish_reason":"error","error":{{"message":"x{said}"}}}}]}}"#);
    let others = [
        format!(r#"{{"code":500,"msg":"x{said}","success":false}}"#),
        format!(r#"{{"code":1234,"message":"x{said}","data":null}}"#),
        format!(r#"{{"detail":"x{said}"}}"#),
        format!(r#"{{"errors":[{{"message":"x{said}"}}]}}"#),
        format!(r#"{{"status":500,"reason":"x{said}"}}"#),
        format!(r#"{{"err_msg":"x{said}"}}"#),
    ];
    for body in [&wordless, &name, &coded, &of_choice].into_iter().chain(&others) {
        ways.push((json_answer("200 OK", body), false));
        ways.push((say(&[SSE, &events(&[TOKEN, body])]), true));
    }
    ways
}

#[actix_rt::test]
async fn escapes_of_json_hide_neither_the_key_nor_a_home() {
    for written in WRITTEN {
        for (way, (steps, streaming)) in ways(&format!(" {written} y")).into_iter().enumerate() {
            let told = told(steps, streaming).await;
            assert!(told.contains("***") && !told.contains("ij90"), "{way}: {told}");
        }
    }
    for home in [r"\n/home/alice/x.py", r"\n\/home\/alice\/x.py", r" C:\\Users\\alice\\x.py"] {
        for (way, (steps, streaming)) in ways(home).into_iter().enumerate() {
            let told = told(steps, streaming).await;
            assert!(told.contains("***/x.py") && !told.contains("alice"), "{way}: {told}");
        }
    }
}

/// All of it but its last character is as good as all of it.
#[actix_rt::test]
async fn what_is_cut_short_is_cut_when_the_key_is_out_of_it() {
    for at in 400..=520 {
        let echo = format!("{}{KEY}", "a ".repeat(at / 2));
        for body in [
            format!(r#"{{"error":{{"code":1213,"input":"{echo}"}}}}"#),
            format!(r#"{{"error":{{"code":500,"input":"{echo}"}}}}"#),
            format!(r#"{{"error":["{echo}"]}}"#),
        ] {
            let told = told(json_answer("200 OK", &body), false).await;
            assert!(!told.contains("sk-pr"), "{at}: {told}");
        }
    }
}

/// F41: an error with a JSON body is passed on with its status, without key, host and port.
#[actix_rt::test]
async fn an_error_with_a_json_body_is_passed_on_without_key_host_and_port() {
    let listener = Script::start(Vec::new());
    let port = listener.url.rsplit(':').next().unwrap().trim_end_matches("/v1").to_owned();
    drop(listener);
    let body = format!(r#"{{"error":{{"message":"sk-canary at 127.0.0.1:{port} is out","code":7}}}}"#);
    let (status, passed) = refusal(json_answer("429 Slow", &body), false).await;
    assert_eq!(status, 429);
    assert!(!passed.contains("sk-canary") && !passed.contains("127.0.0.1"), "{passed}");
    assert!(passed.contains("is out") && passed.contains("\"code\":7"), "{passed}");
}

/// The backend has been told its key: what it says of it goes no further, whole or in parts.
#[actix_rt::test]
async fn the_key_is_cut_from_an_answer_whole_or_streamed() {
    for said in ["sk-canary", r"\u0073k-canary", r"sk\u002Dcanary"] {
        let body = format!(
            r#"{{"choices":[{{"message":{{"content":"it is {said}, not sk-canary-2"}}}}],"n":1.10}}"#
        );
        let (status, passed) = whole(json_answer("200 OK", &body)).await;
        let cut = r#"{"choices":[{"message":{"content":"it is ***, not sk-canary-2"}}],"n":1.10}"#;
        assert_eq!((status, passed.as_str()), (200, cut), "{said}");
        let alone = format!(r#"{{"choices":[{{"message":{{"content":"{said}"}}}}]}}"#);
        assert_eq!(whole(json_answer("200 OK", &alone)).await.1, alone.replace(said, "***"), "{said}");
    }
    let piece = |said: &str| TOKEN.replace("hi", said);
    let said = ["a sk-canary b", r"\u0073k-canary"].map(piece);
    let all = events(&[&said[0], &said[1], LAST, "[DONE]"]);
    let (got, error) = pieces(say(&[SSE, &all, "0\r\n\r\n"])).await;
    assert_eq!((got, error), (vec![piece("a *** b"), piece("***"), LAST.to_owned()], None));
    // A long one in parts: what came of it before it was one has gone, and nothing else is held back.
    let server = Script::start(vec![
        Step::Say(
            [
                SSE,
                &events(
                    &["an sk-proj-", "Ab12cd34ef", "56gh78", "ij90", " b"]
                        .map(piece)
                        .each_ref()
                        .map(String::as_str),
                ),
            ]
            .concat(),
        ),
        Step::UntilClosed,
    ]);
    let http = HttpBackend {
        url: Secret::new(&*server.url),
        api_key: Some(Secret::new("sk-proj-Ab12cd34ef56gh78ij90")),
    };
    let long = OpenAiBackend::new(Client::new(None), &http, Duration::from_secs(5), None);
    let Reply::Stream(stream) = long.infer(request(true)).await.unwrap() else { panic!("not a stream") };
    let got: Vec<_> = stream.take(5).map(Result::unwrap).collect().await;
    assert_eq!(got, ["an sk-proj-", "***", "", "", " b"].map(piece));
}

/// A home directory, and addresses that are not the backend's own.
#[actix_rt::test]
async fn an_error_says_nothing_of_homes_and_private_addresses() {
    let said =
        r#"{"detail":[{"msg":"[Errno 2] '\/home\/bob\/models\/q.gguf' from 172.20.0.5:9000, nas.local"}]}"#;
    let (status, passed) = refusal(json_answer("422 No", said), false).await;
    assert_eq!(
        (status, passed.as_str()),
        (422, r#"{"detail":[{"msg":"[Errno 2] '***/q.gguf' from ***, ***"}]}"#)
    );
    let page = "<html><title>proxy at [fd12::1]:3128 cannot reach http://gpu7:8000/v1</title>";
    let (_, words) = reason(json_answer("502 No", page)).await;
    assert_eq!(words, "proxy at *** cannot reach http://***/v1");
}

#[actix_rt::test]
async fn a_models_path_is_cut_to_its_file_name() {
    let body = r#"{"model":"/home/alice/models/qwen.gguf","choices":[]}"#;
    let (_, passed) = whole(json_answer("200 OK", body)).await;
    assert_eq!(passed, r#"{"model":"qwen.gguf","choices":[]}"#);
    let token = r#"{"model":"/home/alice/qwen.gguf","choices":[{"delta":{"content":"/home/x"}}]}"#;
    let (got, _) = pieces(say(&[SSE, &events(&[token, "[DONE]"]), "0\r\n\r\n"])).await;
    assert_eq!(got, [r#"{"model":"qwen.gguf","choices":[{"delta":{"content":"/home/x"}}]}"#]);
}

/// A response that failed tells its callers why, and nothing of where it runs.
#[actix_rt::test]
async fn a_failed_response_tells_nothing_of_home_and_network() {
    let response = r#"{"object":"response","status":"failed","error":{"message":"/home/alice/vllm/x.py on 10.0.0.5:9000 at http://gpu-box:8000"}}"#;
    let cut = r#""message":"***/x.py on *** at http://"#;
    for streaming in [false, true] {
        let event = format!(r#"{{"type":"response.failed","response":{response}}}"#);
        let steps = if streaming { say(&[SSE, &events(&[&event])]) } else { json_answer("200 OK", response) };
        let server = Script::start(steps);
        let request = BackendRequest { endpoint: Endpoint::Responses, ..request(streaming) };
        let told = match backend(&server.url, Duration::from_secs(5)).infer(request).await.unwrap() {
            Reply::Whole { body, .. } => body,
            Reply::Stream(mut events) => events.next().await.unwrap().unwrap(),
        };
        assert!(told.contains(cut) && !told.contains("alice") && !told.contains("10.0.0.5"), "{told}");
    }
}
