//! Hub and registrar as two processes that are configured by files, with a fake backend and HTTP callers.

use std::time::Duration;

use awc::http::Method;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use testkit::backend::FakeBackend;
use testkit::team::{Team, connected_registrar, start_hub};
use testkit::wait::{eventually, port_is_free, wait_for, wait_until};
use tokio::time::Instant;

/// One second, and a margin for two busy cores.
const PROMPT: Duration = Duration::from_secs(3);

#[actix_rt::test]
async fn a_chat_request_through_the_hub_gets_the_backends_answer() {
    let team = Team::start().await;
    let answer = team.chat(false).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["choices"][0]["message"]["content"], "hello from the backend");
    let request = &team.backend.requests()[0];
    assert_eq!((&request["model"], &request["stream"]), (&json!("fake-model"), &json!(false)));
    let infer = team.http.post("/api/v1/llms/local/infer", &json!({ "messages": [] })).await;
    assert_eq!(infer.status, 200, "{infer:?}");
}

#[actix_rt::test]
async fn a_streamed_answer_arrives_piece_by_piece_and_ends_with_an_end_mark() {
    let team = Team::start().await;
    let answer = team.chat(true).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.header("content-type").unwrap().starts_with("text/event-stream"));
    assert_eq!(answer.header("x-accel-buffering"), Some("no"));
    assert_eq!(answer.header("cache-control"), Some("no-cache, no-transform"));
    let mut events = answer.events();
    assert_eq!(events.pop().unwrap().data, "[DONE]");
    let text: String = events
        .iter()
        .map(|event| serde_json::from_str::<Value>(&event.data).unwrap())
        .filter_map(|chunk| Some(chunk["choices"][0]["delta"]["content"].as_str()?.to_owned()))
        .collect();
    assert_eq!(text, "t0 t1 t2 ");
}

#[actix_rt::test]
async fn after_sigkill_of_hub_or_registrar_session_and_row_continue() {
    let mut team = Team::start().await;
    let before = team.row().await;
    team.registrar.signal(Signal::SIGKILL);
    eventually("the row is inactive", async || team.row().await["status"] == "inactive").await;
    team.registrar.ended().await;
    team.registrar = connected_registrar(&team.home).await;
    assert_eq!(team.chat(false).await.status, 200);

    team.hub.signal(Signal::SIGKILL);
    port_is_free(team.port).await;
    team.hub.ended().await;
    team.hub = start_hub(&team.home, team.port);
    team.hub.logs("opened").await;
    assert_eq!(team.chat(true).await.events().pop().unwrap().data, "[DONE]");
    let after = team.row().await;
    for key in ["id", "providerSessionId", "createdAt", "ownerId"] {
        assert_eq!(before[key], after[key], "{key}");
    }
}

/// F75, F76: the disconnect of a caller ends the backend request within a second, streamed or not.
#[actix_rt::test]
async fn a_callers_disconnect_ends_the_backend_request_within_a_second() {
    let team = Team::start().await;
    team.backend.script(|script| {
        script.tokens = 100_000;
        script.pace = Duration::from_millis(20);
    });
    let stream = json!({ "model": "local", "stream": true, "messages": [] }).to_string();
    let response = team.http.open(Method::POST, "/v1/chat/completions", Some(stream)).await;
    wait_until("the task runs", || team.backend.open() == 1).await;
    let left = Instant::now();
    drop(response);
    wait_until("the backend request of the stream is dropped", || team.backend.open() == 0).await;
    assert!(left.elapsed() < PROMPT, "{:?}", left.elapsed());

    team.backend.script(|script| script.think = Duration::from_hours(1));
    let whole = json!({ "model": "local", "messages": [] }).to_string();
    let http = team.http.clone();
    let call =
        actix_rt::spawn(async move { http.send(Method::POST, "/v1/chat/completions", Some(whole)).await });
    wait_until("the task runs", || team.backend.open() == 1).await;
    let left = Instant::now();
    call.abort();
    wait_until("the backend request of the whole call is dropped", || team.backend.open() == 0).await;
    assert!(left.elapsed() < PROMPT, "{:?}", left.elapsed());
}

#[actix_rt::test]
async fn an_error_of_the_backend_reaches_the_caller_with_its_status() {
    let team = Team::start().await;
    team.backend.script(|script| {
        script.refuse =
            Some((400, r#"{"error":{"message":"too long","type":"invalid_request_error"}}"#.into()));
    });
    for streaming in [false, true] {
        let answer = team.chat(streaming).await;
        assert_eq!(answer.status, 400, "{answer:?}");
        assert_eq!(answer.json()["error"]["message"], "too long");
    }
}

/// P3: the backend's connection breaks in the middle of a stream.
#[actix_rt::test]
async fn a_stream_that_breaks_off_has_no_end_mark() {
    let team = Team::start().await;
    team.backend.script(|script| script.truncate = true);
    let events = team.chat(true).await.events();
    let last = events.last().unwrap();
    assert!(serde_json::from_str::<Value>(&last.data).unwrap()["error"].is_object(), "{last:?}");
    assert!(events.iter().all(|event| event.data != "[DONE]"));
}

#[actix_rt::test]
async fn sigterm_ends_hub_and_registrar_with_0_and_leaves_no_row_active() {
    let team = Team::start().await;
    team.registrar.signal(Signal::SIGTERM);
    assert_eq!(team.registrar.end().await.code(), 0);
    let row = team.http.get("/api/v1/llms/local").await.json();
    assert_eq!(row["status"], "inactive");
    let answer = team.http.post("/v1/chat/completions", &json!({ "model": "local", "messages": [] })).await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("retry-after"), Some("5"));
    team.hub.signal(Signal::SIGTERM);
    assert_eq!(team.hub.end().await.code(), 0);
}

/// F66: SIGKILL of the hub loses no durable task and runs none twice.
#[actix_rt::test]
async fn kill_9_of_the_hub_loses_no_queued_task_and_runs_none_twice() {
    const RUNNING: usize = 4;
    const ALL: usize = 24;
    let mut team = Team::start().await;
    // maxConcurrency is 4: four tasks run until after the hub is killed, and the others are queued in its store.
    team.backend.script(|script| script.think = Duration::from_secs(3));
    let mut ids = Vec::new();
    for n in 0..ALL {
        let request = json!({ "messages": [{ "role": "user", "content": format!("task {n}") }] });
        let answer =
            team.http.post("/api/v1/inference-tasks", &json!({ "llm": "local", "request": request })).await;
        assert_eq!(answer.status, 202, "{answer:?}");
        ids.push(answer.json()["id"].as_str().unwrap().to_owned());
    }
    wait_until("four tasks run", || team.backend.requests().len() == RUNNING).await;
    team.hub.signal(Signal::SIGKILL);
    team.backend.script(|script| script.think = Duration::ZERO);
    port_is_free(team.port).await;
    team.hub = start_hub(&team.home, team.port);
    team.hub.logs("opened").await;

    let mut states = Vec::new();
    for id in &ids {
        let path = format!("/api/v1/inference-tasks/{id}");
        let task = wait_for("the task ends", || async {
            let task = team.http.get(&path).await.json();
            matches!(task["status"].as_str(), Some("completed" | "error")).then_some(task)
        })
        .await;
        assert_eq!(task["status"] == "error", task["error"].is_string(), "{task}");
        states.push(task["status"].as_str().unwrap().to_owned());
    }
    assert_eq!(states.iter().filter(|state| *state == "error").count(), RUNNING, "{states:?}");
    let mut asked: Vec<String> = team
        .backend
        .requests()
        .iter()
        .map(|request| request["messages"][0]["content"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(asked.len(), ALL, "no task ran twice");
    asked.sort();
    asked.dedup();
    assert_eq!(asked.len(), ALL, "each task ran once");
}

/// F35: a model whose backend refuses connections becomes inactive and callers get an error at once; when the backend is back,
/// the model is active again.
#[actix_rt::test]
async fn a_model_is_inactive_while_its_backend_refuses_connections() {
    let mut team = Team::start().await;
    let port = team.backend.port();
    team.backend.stop().await;
    eventually("the model is inactive", async || team.row().await["status"] == "inactive").await;
    let asked = Instant::now();
    assert_eq!(team.chat(true).await.status, 503);
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    team.backend = FakeBackend::on(port);
    eventually("the model is active again", async || team.row().await["status"] == "active").await;
    assert_eq!(team.chat(true).await.events().pop().unwrap().data, "[DONE]");
}

/// F36, F37: a backend that sends nothing for `timeoutSeconds` is given up. The caller gets an error status before the first
/// token and an error event after it, and the backend's connection is closed.
#[actix_rt::test]
async fn a_silent_backend_is_given_up_and_its_caller_gets_an_error() {
    let mut team = Team::start().await;
    team.registrar.signal(Signal::SIGKILL);
    team.registrar.ended().await;
    team.home.providers(&json!([{ "name": "local", "type": "openai", "model": "fake-model",
        "url": team.backend.url(), "publish": true, "timeoutSeconds": 1 }]));
    team.registrar = connected_registrar(&team.home).await;
    team.backend.script(|script| script.stalls = true);
    let events = team.chat(true).await.events();
    let [token, error] = &events[..] else { panic!("{events:?}") };
    assert!(token.data.contains("t0 ") && error.data.contains("backend sent nothing for 1 s"), "{events:?}");
    team.backend.script(|script| script.think = Duration::from_hours(1));
    for streaming in [false, true] {
        let answer = team.chat(streaming).await;
        assert_eq!(answer.status, 502, "{answer:?}");
    }
    wait_until("the backend's connection is closed", || team.backend.open() == 0).await;
}
