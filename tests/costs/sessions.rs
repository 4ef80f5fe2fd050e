//! The cost of a session's events depends on what it publishes, and not on what it published before.

use awc::http::Method;
use serde_json::{Value, json};
use testkit::http::Http;

use crate::others::{MOST, RUNS};
use crate::rig::{Rig, provider};

/// Number of rows, and of agents, in a register call: the maximum.
const ROWS: usize = 256;
/// Number of register calls with other names.
const CALLS: usize = 30;

fn register(session: &str, set: usize) -> Value {
    let name = |what: &str, row: usize| format!("{session}-{what}-{set}-{row}");
    let rows: Vec<Value> = (0..ROWS).map(|row| provider(&name("llm", row))).collect();
    let agent = |row| json!({ "name": name("agent", row), "llmName": name("llm", row) });
    let agents: Vec<Value> = (0..ROWS).map(agent).collect();
    json!({ "providerSessionId": session, "providers": rows, "agents": agents })
}

async fn call(user: &Http, body: &Value) {
    assert_eq!(user.post("/api/v1/llms/_provider-register", body).await.status, 201);
}

/// Minimum CPU time of opening the session's channel and draining it, in seconds.
async fn cost(rig: &Rig, user: &Http, session: &str) -> f64 {
    let [hub, _] = rig.meters();
    let body = json!({ "providerSessionId": session }).to_string();
    let mut least = f64::MAX;
    for _ in 0..RUNS {
        let before = hub.times_at_rest().await;
        let _channel = user.open_channel(session).await;
        let drain = "/api/v1/llms/_provider-drain";
        assert_eq!(user.send(Method::POST, drain, Some(body.clone())).await.status, 200);
        least = least.min(hub.since(&before).await);
    }
    least
}

/// A27: opening and draining a session costs the same after register calls of many other rows.
#[actix_rt::test]
async fn what_a_session_published_before_does_not_add_to_the_cost_of_its_events() {
    let rig = Rig::start().await;
    let user = rig.new_member("me").await;
    call(&user, &register("sess-once", 0)).await;
    for set in 0..CALLS {
        call(&user, &register("sess-often", set)).await;
    }
    let [hub, _] = rig.meters();
    hub.wait_until_idle().await;
    let (once, often) = (cost(&rig, &user, "sess-once").await, cost(&rig, &user, "sess-often").await);
    println!("open and drain: {:.3} ms after one call, {:.3} ms after {CALLS}", once * 1e3, often * 1e3);
    assert!(often < once * MOST, "{often} s after {CALLS} register calls, {once} s after one");
}
