//! Rows, tasks and watchers of other users do not make a user's calls more expensive.

use std::time::Duration;

use awc::http::Method;
use serde_json::json;
use testkit::http::Http;
use tokio::time::sleep;

use crate::rig::{Rig, provider};

/// Number of rows in each session of the other users.
const ROWS: usize = 250;
/// Number of waiting durable tasks of each other user.
const WAITING: usize = 150;
/// Limit for the cost of a call beside many rows, in multiples of its cost beside few: only the depth of the tables differs. The
/// cheapest call is added for noise: 10,000 rows cost more at 30 ns each.
pub const MOST: f64 = 2.0;
/// Lower bound of a measured cost, in seconds; smaller readings are noise.
const NOISE: f64 = 5e-5;
/// Limit for the hub's load without calls, in the cheapest calls a second, which cost as much on the same machine: the hub inspects
/// the queues of waiting tasks in turn.
const IDLE: f64 = 60.0;
/// Number of runs of each call; the cheapest run counts.
pub const RUNS: usize = 20;

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
async fn other_users_rows_tasks_and_watchers_do_not_add_to_the_cost_of_a_call() {
    let rig = Rig::start().await;
    let me = rig.new_member("me").await;
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
    let cheapest = many.iter().copied().fold(f64::MAX, f64::min);
    println!("{:.2} % of a core without any call", idle * 100.0);
    let mut expensive = Vec::new();
    for ((call, few), many) in calls().iter().zip(few).zip(many) {
        println!("{:.3} ms, {:.3} ms: {} {}", few * 1e3, many * 1e3, call.method, call.path);
        if many > few * MOST + cheapest {
            expensive.push(format!(
                "{} {}: {:.3} ms, then {:.3} ms",
                call.method,
                call.path,
                few * 1e3,
                many * 1e3
            ));
        }
    }
    assert!(expensive.is_empty(), "calls cost more beside many rows of others: {expensive:#?}");
    let idle_calls = idle / cheapest;
    assert!(idle_calls < IDLE, "without calls the hub works as for {idle_calls} calls a second");
}

/// Creates other users with up to five sessions each. Each session has `rows` private rows and as many agents; the rows of a
/// user's first session form a pool. Each user has `waiting` durable tasks, each for another agent, and four event watchers.
async fn fill(
    rig: &Rig,
    name: &str,
    sessions: usize,
    rows: usize,
    waiting: usize,
) -> Vec<impl Sized + use<>> {
    let mut watchers = Vec::new();
    // Each user gets up to five sessions.
    for number in (0..sessions).step_by(5) {
        let user = format!("{name}-{}", number / 5);
        let other = rig.new_member(&user).await;
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

/// Load of the hub without calls, as a share of one core: the minimum of four measurements of 2 s.
async fn idle(rig: &Rig) -> f64 {
    const MEASURED: Duration = Duration::from_secs(2);
    let [hub, _] = rig.meters();
    let mut least = f64::MAX;
    for _ in 0..4 {
        let before = hub.times_at_rest().await;
        // The time in which the load is measured.
        sleep(MEASURED).await;
        least = least.min(hub.since(&before).await / MEASURED.as_secs_f64());
    }
    least
}

/// Minimum cost of each call at the hub, in seconds. The calls take turns, so background work of the hub, such as refreshing
/// the watchers, cannot fall into every run of one call.
async fn measure(rig: &Rig, me: &Http) -> Vec<f64> {
    let [hub, _] = rig.meters();
    hub.wait_until_idle().await;
    let calls = calls();
    let mut least = vec![f64::MAX; calls.len()];
    for _ in 0..RUNS {
        for (call, least) in calls.iter().zip(&mut least) {
            let body = call.body.map(str::to_owned);
            let (cost, status) = rig.cost(me, call.method.clone(), call.path, body).await;
            assert_eq!(status, call.status, "{} {}", call.method, call.path);
            // The kernel counts a thread's time when the thread sleeps, so a measurement may miss time that the next one has.
            if cost[0] > NOISE {
                *least = least.min(cost[0]);
            }
        }
    }
    // A call whose every reading was below `NOISE` gets `NOISE` as its cost, so that costs can be divided.
    for (call, least) in calls.iter().zip(&mut least) {
        if *least >= f64::MAX {
            println!("under {:.3} ms: {} {}", NOISE * 1e3, call.method, call.path);
            *least = NOISE;
        }
    }
    least
}
