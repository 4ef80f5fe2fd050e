//! Ollama's API: calls, answers and errors in its shape. Members get OpenAI calls.

mod errors;
mod lists;

use std::io::Write as _;

use serde_json::{Map, Value, json};
use tokio::time::Duration;

use super::http::{Answer, Ask, ask};
use super::publisher::{Publisher, provider};
use super::support::{ADMIN, TestHub, hub, hub_with};

fn hello() -> Value {
    json!([{ "role": "user", "content": "hi" }])
}

fn post(hub: &TestHub, path: &str, body: &Value) -> Ask {
    hub.ask("POST", path).body(body.to_string())
}

fn chat(hub: &TestHub, model: &str, is_streaming: bool) -> Ask {
    post(hub, "/api/chat", &json!({ "model": model, "messages": hello(), "stream": is_streaming }))
}

/// The lines of a streamed answer. Checks that each is a JSON object.
async fn lines(answer: &mut Answer) -> Vec<Value> {
    assert_eq!(answer.status, 200, "{}", answer.head);
    assert!(answer.head.contains("content-type: application/x-ndjson\r\n"), "{}", answer.head);
    let text = answer.rest().await;
    assert!(text.ends_with('\n'), "{text}");
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
}

fn call_chunk(delta: &Value) -> Value {
    let chunk = json!({ "choices": [{ "index": 0, "delta": delta }] }).to_string();
    json!({ "chunk": { "data": chunk } })
}

#[actix_rt::test]
async fn a_chat_streams_lines_and_its_publisher_gets_a_chat_completion() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], Some("endpoints")).await;
    // Without `stream`, the answer is streamed.
    let body =
        json!({ "model": "a:latest", "messages": hello(), "options": { "num_predict": 7, "num_ctx": 1 } });
    let call = post(&hub, "/api/chat", &body);
    let (mut answer, ()) = futures_util::join!(call.open(), async {
        let task = publisher.task().await;
        assert_eq!((&task["streaming"], task.get("endpoint")), (&json!(true), None));
        let request = &task["request"];
        assert_eq!((&request["model"], &request["max_tokens"]), (&json!("model-of-a"), &json!(7)));
        assert_eq!((&request["messages"], request.get("options")), (&hello(), None));
        publisher.post(&hub, &task, &call_chunk(&json!({ "reasoning_content": "hm" }))).await;
        publisher.chunk(&hub, &task, "one").await;
        let function = json!({ "name": "f", "arguments": "{\"x\":1}" });
        publisher
            .post(
                &hub,
                &task,
                &call_chunk(&json!({ "tool_calls": [{ "index": 0, "id": "c", "function": function }] })),
            )
            .await;
        let usage = json!({ "choices": [], "usage": { "prompt_tokens": 3, "completion_tokens": 5 } });
        publisher.post(&hub, &task, &json!({ "chunk": { "data": usage.to_string() } })).await;
        publisher.done(&hub, &task).await;
    });
    let lines = lines(&mut answer).await;
    let message = |place: usize| &lines[place]["message"];
    assert_eq!(message(0), &json!({ "role": "assistant", "content": "", "thinking": "hm" }));
    assert_eq!(message(1), &json!({ "role": "assistant", "content": "one" }));
    assert_eq!(message(2)["tool_calls"][0]["function"]["arguments"], json!({ "x": 1 }));
    let done = &lines[3];
    assert_eq!((&done["done"], &done["done_reason"]), (&json!(true), &json!("stop")));
    assert_eq!((&done["prompt_eval_count"], &done["eval_count"]), (&json!(3), &json!(5)));
    let took = |key: &str| done[key].as_u64().unwrap_or_else(|| panic!("{key} in {done}"));
    assert!(took("prompt_eval_duration") > 0 && took("eval_duration") > 0);
    assert_eq!(took("total_duration"), took("prompt_eval_duration") + took("eval_duration"));
    for line in &lines {
        assert_eq!(line["model"], "a:latest", "the model as the caller wrote it");
        assert!(line["created_at"].as_str().unwrap().ends_with('Z'), "{line}");
    }
    let (_, audit) = hub.ask("GET", "/api/v1/audit").json().await;
    assert_eq!((&audit[0]["llm"], &audit[0]["status"]), (&json!("a"), &json!(200)), "{audit}");
    hub.stop().await;
}

/// Of a user who is not the row's owner, only members that the known APIs define are sent: all of a translation are.
#[actix_rt::test]
async fn a_strangers_options_reach_the_member() {
    let hub = hub().await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let mut publisher = Publisher::start(&hub, &alice, &[provider("a")], Some("endpoints")).await;
    let numbers = [
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "typical_p",
        "seed",
        "presence_penalty",
        "frequency_penalty",
        "repeat_penalty",
        "repeat_last_n",
        "mirostat",
        "mirostat_tau",
        "mirostat_eta",
    ];
    let mut options: Value =
        numbers.iter().map(|name| ((*name).to_owned(), json!(1))).collect::<Map<_, _>>().into();
    options["num_predict"] = json!(9);
    options["stop"] = json!(["END"]);
    let tool = json!({ "type": "function", "function": { "name": "f" } });
    let body = json!({ "model": "a", "messages": hello(), "stream": false, "options": options, "format": "json",
        "think": "low", "tools": [tool], "logprobs": true, "top_logprobs": 2 });
    let call = hub.ask_as(&bob, "POST", "/api/chat").body(body.to_string());
    let request = publisher.serves(&hub, &call, "x").await["request"].clone();
    for name in numbers {
        assert_eq!(request[name], 1, "{name} in {request}");
    }
    for (key, value) in [
        ("repetition_penalty", json!(1)),
        ("max_tokens", json!(9)),
        ("stop", json!(["END"])),
        ("response_format", json!({ "type": "json_object" })),
        ("reasoning_effort", json!("low")),
        (
            "chat_template_kwargs",
            json!({ "enable_thinking": true, "thinking": true, "reasoning_effort": "low" }),
        ),
        ("logprobs", json!(true)),
        ("top_logprobs", json!(2)),
    ] {
        assert_eq!(request[key], value, "{key} in {request}");
    }
    assert_eq!(request["tools"][0]["function"]["name"], "f");
    let body = json!({ "model": "a", "messages": hello(), "stream": false, "think": false });
    let call = hub.ask_as(&bob, "POST", "/api/chat").body(body.to_string());
    let request = publisher.serves(&hub, &call, "x").await["request"].clone();
    assert_eq!(request["reasoning"], json!({ "effort": "none" }));
    hub.stop().await;
}

#[actix_rt::test]
async fn whole_answers_of_each_path_have_their_shape() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], Some("endpoints")).await;
    let completion = super::publisher::completion("hello");
    let text = json!({ "choices": [{ "index": 0, "text": "hello", "finish_reason": "length" }] });
    let vectors = json!({ "data": [{ "index": 0, "embedding": [0.5] }], "usage": { "prompt_tokens": 2 } });
    for (path, body, endpoint, backends, pointer, expected) in [
        (
            "/api/chat",
            json!({ "messages": hello() }),
            Value::Null,
            &completion,
            "/message/content",
            json!("hello"),
        ),
        ("/api/generate", json!({ "prompt": "p" }), Value::Null, &completion, "/response", json!("hello")),
        (
            "/api/generate",
            json!({ "prompt": "p", "raw": true }),
            json!("completions"),
            &text,
            "/done_reason",
            json!("length"),
        ),
        (
            "/api/embed",
            json!({ "input": ["x"] }),
            json!("embeddings"),
            &vectors,
            "/embeddings",
            json!([[0.5]]),
        ),
        (
            "/api/embeddings",
            json!({ "prompt": "x" }),
            json!("embeddings"),
            &vectors,
            "/embedding",
            json!([0.5]),
        ),
    ] {
        let mut body = body;
        body["model"] = json!("a");
        body["stream"] = json!(false);
        let call = post(&hub, path, &body);
        let ((status, answer), task) = futures_util::join!(call.json(), async {
            let task = publisher.task().await;
            publisher.post(&hub, &task, &json!({ "status": 200, "body": backends })).await;
            task
        });
        assert_eq!((status, answer.pointer(pointer)), (200, Some(&expected)), "{path}: {answer}");
        assert_eq!(task["endpoint"], endpoint, "{path}");
    }
    // A body that is no completion.
    let call = chat(&hub, "a", false);
    let answer =
        publisher.post_for(&hub, &call, &json!({ "status": 200, "body": { "object": "list" } })).await;
    let (status, body) = answer.json().await;
    assert_eq!((status, &body["code"]), (502, &json!("upstream_error")), "{body}");
    // A whole answer to a streamed call.
    let mut answer = publisher.answer_for(&hub, &chat(&hub, "a", true), "all of it").await;
    let lines = lines(&mut answer).await;
    assert_eq!(lines[0]["message"]["content"], "all of it");
    assert_eq!(lines.last().unwrap()["eval_count"], 5);
    hub.stop().await;
}

#[actix_rt::test]
async fn a_request_without_input_is_answered_by_the_hub() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], Some("endpoints")).await;
    for (path, body, reason) in [
        ("/api/chat", json!({ "model": "a" }), "load"),
        ("/api/generate", json!({ "model": "a", "prompt": "" }), "load"),
        ("/api/generate", json!({ "model": "a", "keep_alive": 0 }), "unload"),
    ] {
        let (status, answer) = post(&hub, path, &body).json().await;
        assert_eq!((status, &answer["done_reason"]), (200, &json!(reason)), "{answer}");
        let unknown = post(&hub, path, &json!({ "model": "none" })).json().await;
        assert_eq!(unknown, (404, json!({ "error": "model 'none' not found", "code": "model_not_found" })));
        for (header, odd) in [("x-queue-timeout", "86401"), ("x-priority", "high")] {
            let odd = post(&hub, path, &body).header(header, odd).json().await;
            assert_eq!(odd.0, 400, "{header} is read as for other calls");
        }
    }
    // The first task of the channel is that of the call which has input.
    let task = publisher.serves(&hub, &chat(&hub, "a", false), "x").await;
    assert_eq!(task["request"]["messages"], hello());
    hub.stop().await;
}

#[actix_rt::test]
async fn keys_and_bodies_are_read_as_on_other_routes() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], Some("endpoints")).await;
    for name in ["x-api-key", "api-key"] {
        assert_eq!(ask(hub.addr, "GET", "/api/tags").header(name, ADMIN).send().await.0, 200, "{name}");
        assert_eq!(ask(hub.addr, "GET", "/api/tags").header(name, "wrong").send().await.0, 401, "{name}");
        assert_eq!(ask(hub.addr, "GET", "/api/v1/llms").header(name, ADMIN).send().await.0, 401, "{name}");
    }
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    let picture = format!("iVBORw0KGgo{}", "A".repeat(100 << 10));
    let body = json!({ "model": "a", "prompt": "see", "images": [picture], "stream": false });
    gzip.write_all(body.to_string().as_bytes()).unwrap();
    let call = hub.ask("POST", "/api/generate/").header("content-encoding", "gzip");
    let task = publisher.serves(&hub, &call.bytes(gzip.finish().unwrap()), "hello").await;
    let url = task["request"]["messages"][0]["content"][0]["image_url"]["url"].as_str().unwrap();
    assert_eq!(url, format!("data:image/png;base64,{picture}"));
    hub.stop().await;
}
