//! Tokens of streamed calls, with the program itself: what the backend is asked, what the caller reads, and what the audit
//! and the commands show.

use awc::http::Method;
use serde_json::{Value, json};
use testkit::http::Answer;
use testkit::team::{Plan, Team};
use testkit::wait::{eventually, wait_for, wait_until};

/// The data of the events of a stream, without the end mark.
fn chunks(answer: &Answer) -> Vec<Value> {
    let mut events = answer.events();
    assert_eq!(events.pop().unwrap().data, "[DONE]");
    events.iter().map(|event| serde_json::from_str(&event.data).unwrap()).collect()
}

/// The newest row of the audit with this status.
async fn audited(team: &Team, status: u16) -> Value {
    wait_for("the audit has the call", || async {
        let rows = team.http.get("/api/v1/audit?limit=1").await.json();
        Some(rows[0].clone()).filter(|row| row["status"] == status)
    })
    .await
}

fn tokens(row: &Value) -> Value {
    json!(["inputTokens", "cachedTokens", "outputTokens", "counted"].map(|key| &row[key]))
}

/// With a link, and with the classic transport.
#[actix_rt::test]
async fn a_stream_without_asked_usage_has_its_tokens_in_the_audit() {
    for transport in ["auto", "classic"] {
        let team = Team::of(Plan { registrar: &["--transport", transport], ..Plan::default() }).await;
        let usage = json!({ "prompt_tokens": 23, "completion_tokens": 3, "prompt_tokens_details": { "cached_tokens": 16 } });
        team.backend.script(|script| script.usage = Some(usage.clone()));
        let found = chunks(&team.chat(true).await);
        assert_eq!(team.backend.requests()[0]["stream_options"], json!({ "include_usage": true }));
        assert!(found.iter().all(|chunk| chunk["choices"] != json!([])), "{found:?}");
        assert_eq!(tokens(&audited(&team, 200).await), json!([23, 16, 3, false]));
        let asks = json!({ "model": "local", "stream": true, "messages": [], "stream_options": { "include_usage": true } });
        let found = chunks(&team.http.post("/v1/chat/completions", &asks).await);
        assert_eq!(found.last().unwrap()["usage"], usage);
        let table = team.home.run(&["get", "task", "-o", "wide"]).await.stdout;
        let line = table.lines().nth(1).unwrap();
        assert!(
            line.split_whitespace().collect::<Vec<_>>().windows(3).any(|cells| cells == ["23", "16", "3"]),
            "{table}"
        );
    }
}

/// F76: a call whose caller left has the tokens that were sent, and the commands mark them as counted.
#[actix_rt::test]
async fn a_cancelled_stream_shows_counted_tokens() {
    let team = Team::start().await;
    team.backend.script(|script| script.stalls = true);
    let body = json!({ "model": "local", "stream": true, "messages": [] }).to_string();
    let response = team.http.open(Method::POST, "/v1/chat/completions", Some(body)).await;
    eventually("the first token is sent", async || {
        team.http.get("/api/v1/inference-tasks").await.json()[0]["status"] == "running"
    })
    .await;
    drop(response);
    wait_until("the backend is free", || team.backend.open() == 0).await;
    let row = audited(&team, 499).await;
    assert_eq!(tokens(&row), json!([null, null, 1, true]));
    let table = team.home.run(&["get", "task", "-o", "wide"]).await.stdout;
    assert!(table.contains(" ~1 "), "{table}");
    let described = team.home.run(&["describe", "task", row["id"].as_str().unwrap()]).await.stdout;
    for line in ["Output Tokens:        1", "Counted:              true", "Input Tokens:         -"] {
        assert!(described.contains(line), "{line}: {described}");
    }
    assert!(team.home.run(&["describe", "llm", "local"]).await.stdout.contains(" ~1 "));
}

#[actix_rt::test]
async fn a_backend_that_refuses_stream_options_is_asked_once() {
    for transport in ["auto", "classic"] {
        let team = Team::of(Plan { registrar: &["--transport", transport], ..Plan::default() }).await;
        team.backend.script(|script| script.unknown_member = Some("stream_options"));
        for _ in 0..3 {
            let answer = team.chat(true).await;
            let text = |chunk: &Value| chunk["choices"][0]["delta"]["content"].as_str().map(str::to_owned);
            let texts: Vec<_> = chunks(&answer).iter().filter_map(text).collect();
            assert_eq!(texts.concat(), "t0 t1 t2 ", "{answer:?}");
            // A classic registrar may send tokens that came together as one event.
            assert!(texts.len() == 3 || transport == "classic", "{answer:?}");
            assert_eq!(tokens(&audited(&team, 200).await), json!([null, null, texts.len(), true]));
        }
        let asked: Vec<_> =
            team.backend.requests().iter().map(|request| request.get("stream_options").is_some()).collect();
        assert_eq!(asked, [true, false, false, false]);
    }
}
