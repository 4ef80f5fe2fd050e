//! How an operator finds a failed call: in the logs of hub and registrar, in the audit, with `get` and with `describe`.

use serde_json::{Value, json};
use testkit::team::{Plan, Team};
use testkit::wait::{eventually, wait_for, wait_until};

/// The lines of a log that contain `text`.
fn lines_with(log: &str, text: &str) -> Vec<String> {
    log.lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
}

#[actix_rt::test]
async fn a_failed_call_is_one_log_line_on_each_side_and_is_found_by_its_ids() {
    let team = Team::start().await;
    let refusal = r#"{"error":{"message":"canary-words of the backend"}}"#;
    team.backend.script(|script| script.refuse = Some((422, refusal.to_owned())));
    let body = json!({ "model": "local", "messages": [{ "role": "user", "content": "canary-prompt" }] });
    let answer = team.http.post("/v1/chat/completions", &body).await;
    assert_eq!(answer.status, 422, "{answer:?}");
    let request = answer.header("x-request-id").unwrap().to_owned();
    team.hub.logs(&format!("request={request}")).await;
    let lines = lines_with(&team.hub.stderr(), "call failed");
    assert_eq!(lines.len(), 1, "{lines:?}");
    for part in ["INFO", "user=", "row=local", "publisher=sess-", "status=422", "code=backend_error", "ms="] {
        assert!(lines[0].contains(part), "{part}: {}", lines[0]);
    }
    team.registrar.logs("failed: provider=local code=backend_error status=422").await;
    assert_eq!(lines_with(&team.registrar.stderr(), " failed: provider=").len(), 1);
    for log in [team.hub.stderr(), team.registrar.stderr()] {
        assert!(!log.contains("canary-"), "{log}");
    }

    let rows = wait_for("the audit has the call", || async {
        let rows = team.http.get(&format!("/api/v1/audit?id={request}")).await.json();
        rows.as_array().filter(|rows| !rows.is_empty()).cloned()
    })
    .await;
    let id = rows[0]["id"].as_str().unwrap();
    // The registrar's log line has the task id of the audit.
    let task = rows[0]["task"].as_str().unwrap();
    assert!(team.registrar.stderr().contains(&format!("task {task} failed")), "{task}");
    for id in [id, task, request.as_str()] {
        let shown = team.home.run(&["describe", "task", id]).await;
        assert_eq!(shown.code(), 0, "{shown:?}");
        for part in ["backend_error", "422", "local", request.as_str(), task, "Total Ms", "Input Tokens"] {
            assert!(shown.stdout.contains(part), "{part}: {}", shown.stdout);
        }
    }
    let table = team.home.run(&["get", "task", "-o", "wide"]).await.stdout;
    let heads: Vec<_> = table.lines().next().unwrap().split_whitespace().rev().take(3).collect();
    assert_eq!(heads, ["ERROR", "CODE", "OWNER"], "{table}");
    assert!(table.contains("backend_error"), "{table}");
    let missing = team.home.run(&["describe", "task", "inf-none"]).await;
    assert_eq!(missing.code(), 1);
    assert!(missing.stderr.contains("there is no task 'inf-none'"), "{missing:?}");
}

/// P7: repeated failures of one caller write a bounded number of log lines, and failures of other callers are still logged.
#[actix_rt::test]
async fn repeated_failures_of_a_caller_neither_fill_the_log_nor_hide_others() {
    let team = Team::start().await;
    let body = |model: &str| json!({ "model": model, "messages": [] });
    for _ in 0..150 {
        assert_eq!(team.http.post("/v1/chat/completions", &body("nobodys")).await.status, 404);
    }
    assert_eq!(team.http.post("/v1/chat/completions", &json!([])).await.status, 400);
    let bob = team.http.post("/api/v1/tokens", &json!({ "user": "bob" })).await.json();
    let bob =
        testkit::http::Http::new(&format!("http://127.0.0.1:{}", team.port), bob["token"].as_str().unwrap());
    assert_eq!(bob.post("/v1/chat/completions", &body("nobodys")).await.status, 404);
    team.hub.logs("user=bob").await;
    let lines = lines_with(&team.hub.stderr(), "code=model_not_found");
    // The limit applies to each minute, and a new minute may have begun during the test.
    assert!((21..=41).contains(&lines.len()), "{}", lines.len());
    assert_eq!(lines_with(&team.hub.stderr(), "code=invalid_request").len(), 1);
}

/// The error for callers of a paused publisher has the end of the pause.
#[actix_rt::test]
async fn the_error_of_a_paused_publisher_has_the_end_of_the_pause() {
    let team = Team::start().await;
    assert_eq!(team.home.run(&["pause", "--for", "1h"]).await.code(), 0);
    let answer = wait_for("callers get 503", || async {
        let answer = team.chat(false).await;
        (answer.status == 503).then_some(answer)
    })
    .await;
    let error: Value = answer.json()["error"].clone();
    assert_eq!(error["code"], "paused", "{error}");
    assert!(error["message"].as_str().unwrap().contains("paused by its owner until 20"), "{error}");
    let seconds: u32 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((3500..=3600).contains(&seconds), "{seconds}");
    assert_eq!(team.home.run(&["resume"]).await.code(), 0);
    eventually("the LLM answers again", async || team.chat(false).await.status == 200).await;
}

/// The hub's option for silent publishers ends a caller's stream.
#[actix_rt::test]
async fn a_backend_that_falls_silent_in_mid_answer_ends_the_stream() {
    let team = Team::of(Plan { hub: &["--stream-idle-timeout", "1s"], ..Plan::default() }).await;
    team.backend.script(|script| {
        script.tokens = 3;
        script.stalls = true;
    });
    let answer = team.chat(true).await;
    let last = answer.events().pop().unwrap();
    let error: Value = serde_json::from_str(&last.data).unwrap();
    assert_eq!(error["error"]["code"], "stream_idle", "{error}");
    wait_until("the backend is free", || team.backend.open() == 0).await;
}
