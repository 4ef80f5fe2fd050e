//! The registrar against a classic hub: all of section 3 of the specification, and nothing beyond it but the feature header.

use serde_json::{Value, json};
use testkit::backend::FakeBackend;
use testkit::classic_hub::ClassicHub;
use testkit::process::{Home, Process};

use crate::registrar::QUICK;

async fn published() -> (ClassicHub, FakeBackend, Home, Process) {
    let (hub, backend, home) = (ClassicHub::start(), FakeBackend::start(), Home::new());
    home.credentials(&hub.url(), "secret-token");
    home.providers(&json!([
        { "name": "local", "type": "openai", "model": "fake-model", "url": backend.url(), "apiKey": "backend-key", "publish": true }
    ]));
    let process = home.start(&QUICK);
    hub.channel(1).await;
    (hub, backend, home, process)
}

#[actix_rt::test]
async fn a_classic_hub_sees_no_key_and_no_header_beyond_its_contract() {
    let (hub, _backend, _home, _process) = published().await;
    hub.request("_provider-heartbeat", 2).await;
    let register = hub.request("_provider-register", 1).await;
    assert_eq!(
        register.json(),
        json!({ "providers": [{ "name": "local", "type": "openai", "model": "fake-model", "visibility": "private", "initialStatus": "active" }] })
    );
    assert_eq!(register.header("accept"), Some("application/json"));
    assert!(register.header("content-length").is_some());
    let channel = hub.request("_provider-stream", 1).await;
    assert_eq!(channel.header("x-mcpctl-provider-session"), Some("sess-1"));
    assert_eq!(channel.header("accept"), Some("text/event-stream"));
    assert_eq!(hub.request("_provider-heartbeat", 1).await.json(), json!({ "providerSessionId": "sess-1" }));

    let known = [
        "accept",
        "accept-encoding",
        "authorization",
        "connection",
        "content-length",
        "content-type",
        "host",
        "user-agent",
        "x-mcpctl-provider-session",
        "x-virtual-llm-features",
        "date",
    ];
    for seen in hub.requests("") {
        assert_eq!(seen.header("authorization"), Some("Bearer secret-token"), "{}", seen.path());
        let is_channel = seen.path().ends_with("_provider-stream");
        for (header, _) in &seen.headers {
            // The request for a link, which a classic hub answers with its SSE channel.
            let is_upgrade = header == "upgrade" || header.starts_with("sec-websocket-");
            assert!(
                known.contains(&header.as_str()) || is_channel && is_upgrade,
                "{header} on {}",
                seen.path()
            );
            assert!(header != "x-virtual-llm-features" || is_channel);
        }
    }
}

#[actix_rt::test]
async fn a_request_reaches_the_backend_unchanged_except_model_and_stream() {
    let (hub, backend, _home, _process) = published().await;
    hub.send(concat!(
        "event: task\ndata: {\"kind\":\"infer\",\"taskId\":\"t 1/ä\",\"llmName\":\"local\",\"streaming\":false,",
        "\"request\":{\"mod\\u0065l\":\"other\",\"model\":\"third\",\"stream\":true,\"stream_options\":{\"include_usage\":true},",
        "\"seed\":18446744073709551615,\"tools\":[{\"x\":1}],\"new_key\":null,\"messages\":[]}}\n\n"
    ));
    // A task id with a space or a character outside ASCII is invalid: the frame is skipped, and the channel stays open.
    hub.infer("t/2?#", "local", false, "hi");
    let results = hub.ended("t/2?#").await;
    assert_eq!(results.len(), 1);
    assert_eq!(results[0]["status"], 200);
    assert_eq!(results[0]["body"]["choices"][0]["message"]["content"], "hello from the backend");
    let request = &backend.requests()[0];
    assert_eq!(request["model"], "fake-model");
    assert_eq!(request["stream"], false);
    let key = backend.headers()[0].iter().find(|(name, _)| name == "authorization").cloned();
    assert_eq!(key.unwrap().1, "Bearer backend-key");
}

#[actix_rt::test]
async fn every_request_key_keeps_its_value_on_the_way_to_the_backend() {
    let (hub, backend, _home, _process) = published().await;
    hub.send(concat!(
        "event: task\ndata: {\"kind\":\"infer\",\"taskId\":\"t1\",\"llmName\":\"local\",\"streaming\":false,",
        "\"request\":{\"mod\\u0065l\":\"other\",\"model\":\"third\",\"stream\":true,\"stream_options\":{\"include_usage\":true},",
        "\"seed\":18446744073709551615,\"tools\":[{\"x\":1}],\"new_key\":null,\"top_k\":null,\"messages\":[]}}\n\n"
    ));
    hub.ended("t1").await;
    assert_eq!(
        backend.requests()[0],
        json!({ "model": "fake-model", "stream": false, "seed": 18_446_744_073_709_551_615_u64, "tools": [{ "x": 1 }], "top_k": null, "messages": [] })
    );
}

#[actix_rt::test]
async fn a_streamed_answer_reaches_a_classic_hub_in_order_with_an_end_mark() {
    let (hub, _backend, _home, _process) = published().await;
    hub.infer("t1", "local", true, "hi");
    let results = hub.ended("t1").await;
    let text: String = results
        .iter()
        .filter_map(|result| serde_json::from_str::<Value>(result["chunk"]["data"].as_str()?).ok())
        .filter_map(|chunk| Some(chunk["choices"][0]["delta"]["content"].as_str()?.to_owned()))
        .collect();
    assert_eq!(text, "t0 t1 t2 ");
    assert_eq!(results.last(), Some(&json!({ "chunk": { "data": "[DONE]", "done": true } })));
    assert!(results[..results.len() - 1].iter().all(|result| result["chunk"].get("done").is_none()));
    assert!(
        results.iter().all(|result| result["chunk"].get("seq").is_none()),
        "chunk-seq was not negotiated"
    );
}

/// P3: a backend's stream without an end mark becomes an error.
#[actix_rt::test]
async fn a_backend_stream_without_an_end_mark_is_never_reported_as_complete() {
    let (hub, backend, _home, _process) = published().await;
    backend.script(|script| script.truncate = true);
    hub.infer("t1", "local", true, "hi");
    let last = hub.ended("t1").await.pop().unwrap();
    assert!(last["error"].is_string(), "{last}");
}

#[actix_rt::test]
async fn a_classic_hub_gets_the_error_texts_of_the_specification() {
    let (hub, backend, _home, _process) = published().await;
    hub.infer("t1", "nobody", false, "hi");
    assert_eq!(hub.ended("t1").await, [json!({ "error": "provider 'nobody' not registered locally" })]);
    hub.task(json!({ "kind": "wake", "taskId": "t2", "llmName": "local" }));
    assert_eq!(hub.ended("t2").await, [json!({ "error": "provider 'local' has no wake recipe configured" })]);
    hub.task(json!({ "kind": "wake", "taskId": "t3", "llmName": "nobody" }));
    assert_eq!(hub.ended("t3").await, [json!({ "error": "provider 'nobody' not registered locally" })]);
    backend.script(|script| script.refuse = Some((401, r#"{"error":{"message":"bad key"}}"#.into())));
    hub.infer("t4", "local", false, "hi");
    assert_eq!(hub.ended("t4").await, [json!({ "error": "the backend refused the publisher's key" })]);
    backend.script(|script| script.refuse = Some((400, r#"{"error":{"message":"too long"}}"#.into())));
    hub.infer("t5", "local", false, "hi");
    assert_eq!(
        hub.ended("t5").await,
        [json!({ "status": 400, "body": { "error": { "message": "too long" } } })]
    );
    hub.infer("t6", "local", true, "hi");
    assert_eq!(hub.ended("t6").await, [json!({ "error": "backend answered 400: too long" })]);
    backend.stop().await;
    hub.infer("t7", "local", false, "hi");
    assert_eq!(hub.ended("t7").await, [json!({ "error": "backend not available" })]);
}

/// F08, F09, F89: unknown events and malformed frames are skipped, and valid tasks after them run.
#[actix_rt::test]
async fn unknown_and_malformed_events_do_not_end_the_channel() {
    let (hub, _backend, _home, process) = published().await;
    hub.send(
        ": ping\n\nevent: weather\ndata: rain\n\nevent: task\ndata: {canary\n\nevent: task\ndata: {}\n\n",
    );
    hub.send("event: task\ndata: {\"kind\":\"canary\",\"taskId\":\"d\",\"llmName\":\"local\"}\n\n");
    hub.task(
        json!({ "kind": "infer", "taskId": "t1", "llmName": "local", "streaming": false, "later": "canary",
        "request": { "messages": [], "later": "canary" } }),
    );
    assert_eq!(hub.ended("t1").await[0]["status"], 200, "unknown members in a task are ignored");
    assert_eq!(hub.requests("_provider-stream").len(), 1);
    assert!(hub.results("d").is_empty());
    let log = process.stderr();
    assert_eq!(log.matches("a task was skipped").count(), 3, "{log}");
    assert!(!log.contains("canary"), "{log}");
}

/// F10, F11: a task id that comes twice causes one call of the backend and two results.
#[actix_rt::test]
async fn a_task_sent_twice_runs_once_and_its_result_is_sent_again() {
    let (hub, backend, _home, _process) = published().await;
    hub.infer("t1", "local", false, "hi");
    let first = hub.ended("t1").await;
    hub.infer("t1", "local", false, "hi");
    let path = "_provider-task/t1/result";
    hub.request(path, 2).await;
    assert_eq!(hub.results("t1"), [first[0].clone(), first[0].clone()]);
    assert_eq!(backend.requests().len(), 1);
    hub.infer("t2", "local", true, "hi");
    hub.ended("t2").await;
    let before = hub.results("t2").len();
    hub.infer("t2", "local", true, "hi");
    hub.request("_provider-task/t2/result", before + 1).await;
    assert_eq!(hub.results("t2")[before], json!({ "error": "task already answered" }));
}

/// F32: a 404 to a result means that the caller has left.
#[actix_rt::test]
async fn a_404_to_a_result_drops_the_backend_request() {
    let (hub, backend, _home, _process) = published().await;
    backend.script(|script| {
        script.tokens = 10_000;
        script.pace = std::time::Duration::from_millis(20);
    });
    hub.script("_provider-task/t1/result", [(200, json!({})), (404, json!({ "error": "gone" }))]);
    hub.infer("t1", "local", true, "hi");
    hub.request("_provider-task/t1/result", 2).await;
    testkit::wait::wait_until("the backend request is dropped", || backend.open() == 0).await;
}
