//! Limits for the size of a user's rows and agents, and lists of them.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::publisher::{Publisher, provider, report};
use super::support::{ADMIN, TestHub, hub, hub_with};

const REGISTER: &str = "/api/v1/llms/_provider-register";

fn agent(name: &str, more: &Value) -> Value {
    let mut agent = json!({ "name": name, "llmName": "a" });
    agent.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    agent
}

fn params(count: usize) -> Value {
    (0..count).map(|number| (format!("p{number}"), json!(number))).collect::<serde_json::Map<_, _>>().into()
}

async fn ask(hub: &TestHub, token: &str, method: &'static str, path: &str, body: &Value) -> (u16, Value) {
    hub.ask_as(token, method, path).body(body.to_string()).json().await
}

/// A27: each route that creates or changes a row or an agent refuses texts that are too long, with a reason.
#[actix_rt::test]
async fn texts_and_parameters_that_are_too_long_are_refused() {
    let hub = hub().await;
    let alice = hub.member("alice").await;
    assert_eq!(ask(&hub, &alice, "POST", "/api/v1/agents", &agent("one", &json!({}))).await.0, 201);
    for (more, fits, words) in [
        (
            json!({ "description": "d".repeat(4097) }),
            json!({ "description": "d".repeat(4096) }),
            "description: at most 4096 bytes",
        ),
        (
            json!({ "project": "ä".repeat(2049) }),
            json!({ "project": "ä".repeat(2048) }),
            "project: at most 4096 bytes",
        ),
        (
            json!({ "systemPrompt": "s".repeat((64 << 10) + 1) }),
            json!({ "systemPrompt": "s".repeat(64 << 10) }),
            "systemPrompt: at most 65536 bytes",
        ),
        (
            json!({ "defaultParams": params(65) }),
            json!({ "defaultParams": params(64) }),
            "defaultParams: at most 64 keys",
        ),
        (
            json!({ "extras": { "x": "x".repeat(64 << 10) } }),
            json!({ "extras": params(3000) }),
            "extras: at most 65536 bytes",
        ),
    ] {
        let refusals = [
            ask(&hub, &alice, "POST", "/api/v1/agents", &agent("two", &more)).await,
            ask(&hub, &alice, "PUT", "/api/v1/agents/one", &agent("one", &more)).await,
            ask(
                &hub,
                &alice,
                "POST",
                REGISTER,
                &json!({ "agents": [agent("x", &json!({})), agent("y", &more)] }),
            )
            .await,
        ];
        let at = ["", "", "agents[1]."];
        for ((status, refused), at) in refusals.iter().zip(at) {
            assert_eq!((*status, &refused["error"]), (400, &json!(format!("{at}{words}"))));
        }
        assert_eq!(
            ask(&hub, &alice, "PUT", "/api/v1/agents/one", &agent("one", &fits)).await.0,
            200,
            "{words}"
        );
    }
    let mut row = provider("row");
    row["description"] = "d".repeat(5000).into();
    let (status, refused) = ask(&hub, &alice, "POST", REGISTER, &json!({ "providers": [row] })).await;
    assert_eq!((status, &refused["error"]), (400, &json!("providers[0].description: at most 4096 bytes")));
    let (_, agents) = hub.ask_as(&alice, "GET", "/api/v1/agents").json().await;
    assert_eq!(agents.as_array().unwrap().len(), 1, "a refused agent exists");
    hub.stop().await;
}

/// A27: a register call and a heartbeat may name at most 256 rows.
#[actix_rt::test]
async fn the_rows_of_a_register_call_or_heartbeat_are_bounded() {
    let hub = hub().await;
    let alice = hub.member("alice").await;
    let rows = |count: usize| (0..count).map(|number| provider(&format!("r{number}"))).collect::<Vec<_>>();
    let register = |count| json!({ "providerSessionId": "sess-a", "providers": rows(count) });
    assert_eq!(ask(&hub, &alice, "POST", REGISTER, &register(257)).await.0, 400);
    assert_eq!(ask(&hub, &alice, "POST", REGISTER, &register(256)).await.0, 201);
    let beat = async |count: usize| {
        let report = |_| report("r1", "active", 0, 1);
        let reports: Vec<Value> = (0..count).map(report).collect();
        let body = json!({ "providerSessionId": "sess-a", "providers": reports });
        ask(&hub, &alice, "POST", "/api/v1/llms/_provider-heartbeat", &body).await
    };
    assert_eq!(beat(256).await.0, 200);
    let (status, refused) = beat(257).await;
    assert_eq!((status, &refused["error"]), (400, &json!("providers: at most 256")));
    hub.stop().await;
}

/// A27: the bytes of a user's rows and agents are limited; a change to fewer bytes is always accepted.
#[actix_rt::test]
async fn the_bytes_of_a_users_rows_and_agents_are_bounded() {
    let hub = hub_with(|options| options.limits.row_bytes = 10_000).await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let prompt = |length: usize| json!({ "systemPrompt": "s".repeat(length) });
    let create = async |token: &str, name: &str, length| {
        ask(&hub, token, "POST", "/api/v1/agents", &agent(name, &prompt(length))).await
    };
    assert_eq!(create(&alice, "a1", 6000).await.0, 201);
    let published = |name: &str, length: usize| {
        let mut row = provider(name);
        row["description"] = "d".repeat(length).into();
        json!({ "providerSessionId": "sess-alice", "providers": [row], "agents": [agent(&format!("of-{name}"), &prompt(length))] })
    };
    assert_eq!(ask(&hub, &alice, "POST", REGISTER, &published("row", 1000)).await.0, 201);
    let words = "your LLMs and agents have 9 KiB, as much as one user may have: shorten prompts and descriptions, or delete some";
    let refusals = [
        create(&alice, "a2", 2000).await,
        ask(&hub, &alice, "POST", REGISTER, &published("row", 2000)).await,
        ask(&hub, &alice, "PUT", "/api/v1/agents/a1", &agent("a1", &prompt(9000))).await,
    ];
    for (status, refused) in refusals {
        assert_eq!(
            (status, &refused["error"], &refused["code"]),
            (429, &json!(words), &json!("rate_limit_exceeded"))
        );
    }
    assert_eq!(
        hub.row("row").await["description"].as_str().unwrap().len(),
        1000,
        "a refused call changed the row"
    );
    // A change by an admin counts for the agent's owner.
    assert_eq!(ask(&hub, ADMIN, "PUT", "/api/v1/agents/a1", &agent("a1", &prompt(9000))).await.0, 429);
    assert_eq!(create(&bob, "b1", 9000).await.0, 201);
    assert_eq!(ask(&hub, &alice, "PUT", "/api/v1/agents/a1", &agent("a1", &prompt(5000))).await.0, 200);
    assert_eq!(create(&alice, "a2", 500).await.0, 201);
    assert_eq!(create(&alice, "a3", 2000).await.0, 429);
    assert_eq!(hub.ask_as(&alice, "DELETE", "/api/v1/agents/a1").send().await.0, 204);
    assert_eq!(create(&alice, "a3", 2000).await.0, 201);
    hub.stop().await;
}

/// A27: a list of agents leaves out long fields; the answer for one agent has all fields.
#[actix_rt::test]
async fn a_list_of_agents_leaves_out_prompts_and_parameters() {
    let hub = hub().await;
    let alice = hub.member("alice").await;
    let more = json!({ "systemPrompt": "Be brief.", "defaultParams": { "n": 1.10 }, "extras": { "x": [] }, "visibility": "public" });
    assert_eq!(ask(&hub, &alice, "POST", "/api/v1/agents", &agent("one", &more)).await.0, 201);
    for token in [alice.as_str(), ADMIN] {
        let (_, list) = hub.ask_as(token, "GET", "/api/v1/agents").json().await;
        let keys: BTreeSet<&str> = list[0].as_object().unwrap().keys().map(String::as_str).collect();
        let (_, one) = hub.ask_as(token, "GET", "/api/v1/agents/one").json().await;
        let whole: BTreeSet<&str> = one.as_object().unwrap().keys().map(String::as_str).collect();
        let left_out: Vec<&str> = whole.difference(&keys).copied().collect();
        assert_eq!(left_out, ["defaultParams", "extras", "systemPrompt"]);
        assert!(keys.is_subset(&whole));
        assert_eq!((&one["systemPrompt"], &one["extras"]), (&json!("Be brief."), &json!({ "x": [] })));
    }
    hub.stop().await;
}

/// A27: a long list is complete for each user and is sent chunked; a short one has a `content-length`.
#[actix_rt::test]
async fn a_long_list_has_each_entry_once_and_is_sent_chunked() {
    let hub = hub().await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let named = |what: &str, session: usize, number: usize| format!("{what}-{session}-{number:03}");
    for session in 0..3 {
        let rows: Vec<Value> = (0..200)
            .map(|number| {
                let mut row = provider(&named("row", session, number));
                row["poolName"] = format!("pool-{}", number % 150).into();
                row["visibility"] = if number % 2 == 0 { "public" } else { "private" }.into();
                row
            })
            .collect();
        let agents: Vec<Value> = (0..200)
            .map(|number| agent(&named("agent", session, number), &json!({ "visibility": "public" })))
            .collect();
        let body =
            json!({ "providerSessionId": format!("sess-{session}"), "providers": rows, "agents": agents });
        assert_eq!(ask(&hub, &alice, "POST", REGISTER, &body).await.0, 201);
    }
    for number in 0..300 {
        Publisher::register(&hub, &alice, Some(&format!("empty-{number:03}")), &[]).await;
    }
    for (path, at, key, own, all, others) in [
        ("/api/v1/llms", "", "name", 600, 600, 300),
        ("/api/v1/agents", "", "name", 600, 600, 600),
        ("/api/v1/sessions", "", "id", 303, 303, 0),
        // A pool of private rows is called by their owner alone.
        ("/v1/models", "/data", "id", 600 + 150 + 600, 600 + 75 + 600, 300 + 75 + 600),
        ("/api/v1/llms/pool-0/members", "/members", "name", 6, 6, 6),
    ] {
        for (token, expected) in [(alice.as_str(), own), (ADMIN, all), (bob.as_str(), others)] {
            let ask = hub.ask_as(token, "GET", path);
            let mut answer = ask.open().await;
            let text = answer.rest().await;
            let list: Value = serde_json::from_str(&text).unwrap();
            let list = list.pointer(at).unwrap().as_array().unwrap();
            let names: BTreeSet<&str> = list.iter().map(|thing| thing[key].as_str().unwrap()).collect();
            assert_eq!((list.len(), names.len()), (expected, expected), "{path}");
            assert_eq!(answer.head.contains("transfer-encoding"), expected > 128, "{path}: {}", answer.head);
            let stable = |head: &str| -> Vec<String> {
                let lines = head.lines().filter(|line| super::http::is_stable(line));
                lines.map(str::to_owned).collect()
            };
            let head = hub.ask_as(token, "HEAD", path).open().await;
            assert_eq!(stable(&head.head), stable(&answer.head), "{path}");
        }
    }
    let (_, sessions) = hub.ask_as(&alice, "GET", "/api/v1/sessions").json().await;
    let times: Vec<&str> =
        sessions.as_array().unwrap().iter().map(|one| one["createdAt"].as_str().unwrap()).collect();
    assert!(times.is_sorted_by(|newer, older| newer >= older), "newest first");
    hub.stop().await;
}
