//! What others have costs a caller nothing.

use std::time::Duration;

use awc::http::Method;
use serde_json::json;
use testkit::http::Http;
use tokio::time::sleep;

use crate::rig::{Rig, provider};

/// Rows of one session.
const ROWS: usize = 250;
/// Durable tasks that wait, of one user.
const WAITING: usize = 150;
/// So many times of the cost among few: the tables are deeper, and that is all.
const MOST: f64 = 2.0;
/// No call costs less, in seconds.
const NOTHING: f64 = 5e-5;
/// What may be done while all of them wait, as a part of one core: lines of tasks are looked at in turn.
const IDLE: f64 = 0.02;
/// The least cost of so many runs counts.
const RUNS: usize = 20;

struct Call {
    method: Method,
    path: &'static str,
    body: Option<&'static str>,
    status: u16,
}

fn calls() -> Vec<Call> {
    let get = |path| Call { method: Method::GET, path, body: None, status: 200 };
    let post = |path, body, status| Call { method: Method::POST, path, body: Some(body), status };
    vec![
        get("/api/v1/llms"),
        get("/api/v1/llms/mine"),
        get("/api/v1/llms/mine/members"),
        get("/api/v1/llms/mine/tasks"),
        get("/api/v1/agents"),
        get("/api/v1/agents/my-agent"),
        get("/api/v1/pools"),
        get("/api/v1/pools/my-pool"),
        get("/api/v1/names"),
        get("/api/v1/names/mine"),
        get("/api/v1/sessions"),
        get("/api/v1/inference-tasks"),
        get("/api/v1/whoami"),
        get("/v1/models"),
        get("/v1/models/mine"),
        get("/metrics"),
        post("/v1/chat/completions", r#"{"model":"mock","messages":[{"role":"user","content":"hi"}]}"#, 200),
        post("/v1/chat/completions", r#"{"model":"nobodys","messages":[]}"#, 404),
        post(
            "/api/v1/llms/_provider-heartbeat",
            r#"{"providerSessionId":"sess-mine","providers":[{"name":"mine","status":"active","inFlight":0,"queued":0,"maxConcurrency":1}]}"#,
            200,
        ),
        post(
            "/api/v1/llms/_provider-register",
            r#"{"providerSessionId":"sess-mine","providers":[{"name":"mine","type":"openai","model":"m","poolName":"my-pool"}],"agents":[{"name":"my-agent","llmName":"mine"}]}"#,
            201,
        ),
    ]
}

#[actix_rt::test]
async fn the_rows_the_waiting_calls_and_the_watchers_of_others_cost_a_caller_nothing() {
    let rig = Rig::start().await;
    let me = rig.member("me").await;
    let mut row = provider("mine");
    row["poolName"] = "my-pool".into();
    let mine = json!({ "providerSessionId": "sess-mine", "providers": [row],
        "agents": [{ "name": "my-agent", "llmName": "mine" }] });
    assert_eq!(me.post("/api/v1/llms/_provider-register", &mine).await.status, 201);
    fill(&rig, "few", 1, 100, 10).await;
    let few = measure(&rig, &me).await;
    let _watchers = fill(&rig, "many", 40, ROWS, WAITING).await;
    let many = measure(&rig, &me).await;
    let idle = idle(&rig).await;
    println!("{:.2} % of a core while all of them wait", idle * 100.0);
    let mut dear = Vec::new();
    for ((call, few), many) in calls().iter().zip(few).zip(many) {
        println!("{:.3} ms, {:.3} ms: {} {}", few * 1e3, many * 1e3, call.method, call.path);
        if many > few * MOST {
            dear.push(format!(
                "{} {}: {:.3} ms, then {:.3} ms",
                call.method,
                call.path,
                few * 1e3,
                many * 1e3
            ));
        }
    }
    assert!(dear.is_empty(), "{dear:#?}");
    assert!(idle < IDLE, "{idle}");
}

/// Others have so many sessions of `rows` private rows each, a pool of the first session's, and as many agents, tasks that
/// wait in a line for each agent, and watch.
async fn fill(
    rig: &Rig,
    name: &str,
    sessions: usize,
    rows: usize,
    waiting: usize,
) -> Vec<impl Sized + use<>> {
    let mut watchers = Vec::new();
    // A few sessions each.
    for number in (0..sessions).step_by(5) {
        let user = format!("{name}-{}", number / 5);
        let other = rig.member(&user).await;
        for session in 0..sessions.min(5) {
            let named = |what: &str, row: usize| format!("{user}-{session}-{what}-{row}");
            let mut providers: Vec<_> = (0..rows).map(|row| provider(&named("llm", row))).collect();
            if session == 0 {
                for row in &mut providers {
                    row["poolName"] = format!("{user}-pool").into();
                }
            }
            let agents: Vec<_> = (0..rows)
                .map(|row| json!({ "name": named("agent", row), "llmName": named("llm", row) }))
                .collect();
            let body = json!({ "providerSessionId": format!("sess-{user}-{session}"), "providers": providers, "agents": agents });
            assert_eq!(other.post("/api/v1/llms/_provider-register", &body).await.status, 201);
        }
        for line in 0..waiting {
            let task = json!({ "llm": format!("{user}-0-agent-{line}"), "request": { "messages": [] } });
            assert_eq!(other.post("/api/v1/inference-tasks", &task).await.status, 202);
        }
        for _ in 0..4 {
            watchers.push(other.open(Method::GET, "/api/v1/events", None).await);
        }
    }
    watchers
}

/// What the hub does while nobody calls, as a part of one core: the least of some seconds.
async fn idle(rig: &Rig) -> f64 {
    let [hub, _] = rig.meters();
    let mut least = f64::MAX;
    for _ in 0..4 {
        let before = hub.rests().await;
        sleep(Duration::from_secs(2)).await;
        least = least.min(hub.since(&before).await / 2.0);
    }
    least
}

/// The least that each call costs the hub, in seconds. One after the other, again and again: what goes on beside them, such
/// as looks for those who watch, meets each of them some time and none of them always.
async fn measure(rig: &Rig, me: &Http) -> Vec<f64> {
    let [hub, _] = rig.meters();
    hub.idles().await;
    let calls = calls();
    let mut least = vec![f64::MAX; calls.len()];
    for _ in 0..RUNS {
        for (call, least) in calls.iter().zip(&mut least) {
            let body = call.body.map(str::to_owned);
            let (cost, status) = rig.cost(me, call.method.clone(), call.path, body).await;
            assert_eq!(status, call.status, "{} {}", call.method, call.path);
            // The kernel counts a thread when it rests: now and then the next look has what this one missed.
            if cost[0] > NOTHING {
                *least = least.min(cost[0]);
            }
        }
    }
    // What costs next to nothing each time has no least cost here, and no other could be compared with it.
    for (call, least) in calls.iter().zip(&mut least) {
        if *least >= f64::MAX {
            println!("under {:.3} ms: {} {}", NOTHING * 1e3, call.method, call.path);
            *least = NOTHING;
        }
    }
    least
}
