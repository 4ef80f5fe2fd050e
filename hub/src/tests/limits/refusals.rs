//! The metric of refusals by limits.

use std::collections::BTreeMap;

use super::*;

/// The counts of `limit_refusals_total`, by label.
async fn refusals(hub: &TestHub) -> BTreeMap<String, u64> {
    let metrics = hub.ask("GET", "/metrics").send().await.1;
    let count = |line: &str| {
        let (label, count) =
            line.strip_prefix("virtual_llm_limit_refusals_total{limit=\"")?.split_once("\"} ")?;
        Some((label.to_owned(), count.parse().unwrap()))
    };
    metrics.lines().filter_map(count).collect()
}

/// A27: each refusal by a limit counts once under the name of its limit, and no other count rises.
#[actix_rt::test]
async fn each_refusal_counts_for_its_limit() {
    let hub = hub_with(|options| {
        let limits = &mut options.limits;
        (limits.sessions, limits.rows, limits.pool_rows, limits.row_bytes) = (1, 2, 1, 16 << 10);
        (limits.calls, limits.searches, limits.watchers) = (0, 0, 0);
        (limits.open_tasks, limits.disk, limits.bytes) = (1, 1, 1 << 20);
    })
    .await;
    let alice = hub.member("alice").await;
    let register = "/api/v1/llms/_provider-register";
    let registered = |session: &str, providers: &[serde_json::Value]| {
        json!({ "providerSessionId": session, "providers": providers }).to_string()
    };
    let pooled = |name: &str| {
        let mut row = provider(name);
        row["poolName"] = "lake".into();
        row
    };
    let agent = |member: &str, length: usize| {
        json!({ "name": "helper", "llmName": "a", member: "x".repeat(length) }).to_string()
    };
    let agents = ["x", "y", "z"].map(|name| json!({ "name": name, "llmName": "a" }));
    let first = registered("one", &[provider("a")]);
    assert_eq!(hub.ask_as(&alice, "POST", register).body(first).send().await.0, 201);
    let chat = "/v1/chat/completions";
    let tasks = "/api/v1/inference-tasks";
    let nested = format!(r#"{{"model":"a","messages":{}{}}}"#, "[".repeat(129), "]".repeat(129));
    let models = format!("{{{}}}", [r#""model":"a""#; 17].join(","));
    let report = json!({ "name": "a", "status": "active", "inFlight": 0, "queued": 0, "maxConcurrency": 1 });
    let beat = json!({ "providerSessionId": "one", "providers": vec![report; 257] });
    let task = r#"{"llm":"a","request":{"messages":[]}}"#;
    // Each label exists from the start.
    let mut expected: BTreeMap<_, _> = Limit::ALL.iter().map(|limit| (limit.label().to_owned(), 0)).collect();
    assert_eq!(refusals(&hub).await, expected);
    for (label, method, path, body, status) in [
        ("sessions", "POST", register, registered("two", &[]), 429),
        ("llms", "POST", register, registered("one", &["a", "b", "c"].map(provider)), 429),
        (
            "agents",
            "POST",
            register,
            json!({ "providerSessionId": "one", "agents": agents }).to_string(),
            429,
        ),
        ("pool_llms", "POST", register, registered("one", &["a", "b"].map(pooled)), 409),
        ("definition_bytes", "POST", "/api/v1/agents", agent("systemPrompt", 20 << 10), 429),
        ("definition_shape", "POST", "/api/v1/agents", agent("description", 5 << 10), 400),
        ("definition_shape", "POST", "/api/v1/agents", agent("systemPrompt", 65 << 10), 400),
        ("register_entries", "POST", "/api/v1/llms/_provider-heartbeat", beat.to_string(), 400),
        ("result_bytes", "POST", "/api/v1/agents", " ".repeat(3 << 19), 429),
        ("request_size", "POST", "/api/v1/agents", " ".repeat(5 << 19), 413),
        ("request_bytes", "POST", chat, " ".repeat(2 << 20), 429),
        ("request_shape", "POST", chat, nested, 400),
        ("request_shape", "POST", chat, models, 400),
        ("calls", "POST", chat, r#"{"model":"a","messages":[]}"#.to_owned(), 429),
        ("task_disk_bytes", "POST", tasks, task.to_owned(), 429),
        ("searches", "GET", "/api/v1/audit", String::new(), 429),
        ("watchers", "GET", "/api/v1/events", String::new(), 429),
    ] {
        for _ in 0..2 {
            let (answered, text) = hub.ask_as(&alice, method, path).body(body.clone()).send().await;
            assert_eq!(answered, status, "{label}: {text}");
        }
        *expected.entry(label.to_owned()).or_default() += 2;
        assert_eq!(refusals(&hub).await, expected, "{label}");
    }
    let _open = hub.core().tasks.permit("alice", 1).unwrap();
    assert_eq!(hub.ask_as(&alice, "POST", tasks).body(task).send().await.0, 429);
    let head = crate::tests::http::ask(hub.addr, "GET", "/v1/models").header("x", "y".repeat(17 << 10));
    assert_eq!(head.send().await.0, 431);
    expected.extend([("open_tasks".to_owned(), 1), ("request_head".to_owned(), 1)]);
    assert_eq!(refusals(&hub).await, expected);
    hub.stop().await;
}
