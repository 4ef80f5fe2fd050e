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
