//! The cost of waiting calls and tasks when rows of their pool change.

use super::*;

/// A27: a heartbeat causes checks only of calls that wait for its rows, and only if it changes a row.
#[actix_rt::test]
async fn a_heartbeat_causes_checks_only_of_calls_that_wait_for_its_rows() {
    let hub = hub().await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let features = Some("cancel, status");
    let mut shown = Publisher::start(&hub, &alice, &[pooled("shown", "pool")], features).await;
    let own = private(pooled("own", "pool"));
    let private = Publisher::start(&hub, &alice, &[own], features).await;
    let other = Publisher::start(&hub, &bob, &[provider("other")], features).await;
    report_capacity(&shown, &hub, &["shown"], 0).await;
    report_capacity(&private, &hub, &["own"], 1).await;
    report_capacity(&other, &hub, &["other"], 1).await;
    let mut callers = Vec::new();
    for number in 0..20 {
        let token = hub.member(&format!("caller-{number}")).await;
        let ask = hub.ask_as(&token, "POST", "/api/v1/llms/pool/infer").header("x-queue-timeout", "30");
        callers.push(with_text(ask, &number.to_string()).begin().await);
        until_waiting(&hub, number + 1).await;
    }
    let checks = || hub.core().capacity.checked_callers.load(std::sync::atomic::Ordering::Relaxed);
    let before = checks();
    for _ in 0..50 {
        report_capacity(&other, &hub, &["other"], 1).await;
        report_capacity(&private, &hub, &["own"], 1).await;
        report_capacity(&shown, &hub, &["shown"], 0).await;
    }
    for most in 2..10 {
        report_capacity(&other, &hub, &["other"], most).await;
    }
    assert_eq!(checks() - before, 0);
    report_capacity(&shown, &hub, &["shown"], 1).await;
    assert_eq!(text_of(&shown.task().await), "0");
    assert!(checks() - before <= 2, "{}", checks() - before);
    drop(callers);
    hub.stop().await;
}

/// A27: a call that waits through an agent is served when the agent and its row are registered again.
#[actix_rt::test]
async fn a_call_through_an_absent_agent_is_served_when_the_agent_returns() {
    let hub = hub().await;
    let features = Some("cancel, status");
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], features).await;
    let register = json!({ "providerSessionId": publisher.session, "providers": [provider("a")],
        "agents": [{ "name": "clerk", "llmName": "a", "visibility": "public" }] });
    let ask = hub.ask("POST", "/api/v1/llms/_provider-register").body(register.to_string());
    assert_eq!(ask.send().await.0, 201);
    report_capacity(&publisher, &hub, &["a"], 0).await;
    let ask = hub.ask("POST", "/api/v1/agents/clerk/infer").header("x-queue-timeout", "30");
    let _caller = with_text(ask, "hello").begin().await;
    until_waiting(&hub, 1).await;
    for _ in 0..3 {
        publisher.close();
        hub.until_status("a", "inactive").await;
        // The waiting call is checked while its agent leads nowhere.
        hub.core().offer_all();
        let is_without_target = || hub.core().capacity.has_detached_waiter();
        eventually("the call waits for its agent", async || is_without_target()).await;
        publisher.open(&hub, features).await;
        report_capacity(&publisher, &hub, &["a"], 0).await;
        eventually("the call waits for capacity", async || !is_without_target()).await;
    }
    report_capacity(&publisher, &hub, &["a"], 1).await;
    let task = publisher.task().await;
    assert_eq!(text_of(&task), "hello");
    publisher.answer(&hub, &task, "hello").await;
    hub.stop().await;
}

/// A27: a call that waits through an agent whose row was deleted is served when the row is registered again.
#[actix_rt::test]
async fn a_call_through_an_agent_is_served_when_its_row_is_registered_again() {
    let hub = hub().await;
    let features = Some("cancel, status");
    let mut before = Publisher::start(&hub, ADMIN, &[provider("a")], features).await;
    hub.create_agent(ADMIN, &json!({ "name": "clerk", "llmName": "a" })).await;
    report_capacity(&before, &hub, &["a"], 0).await;
    let ask = hub.ask("POST", "/api/v1/agents/clerk/infer").header("x-queue-timeout", "30");
    let _caller = with_text(ask, "hello").begin().await;
    until_waiting(&hub, 1).await;
    before.close();
    hub.until_status("a", "inactive").await;
    assert_eq!(hub.ask("DELETE", "/api/v1/llms/a").send().await.0, 204);
    // The waiting call is checked while its agent leads nowhere.
    hub.core().offer_all();
    let is_without_target = || hub.core().capacity.has_detached_waiter();
    eventually("the call waits for its agent", async || is_without_target()).await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], features).await;
    eventually("the call no longer waits for its agent", async || !is_without_target()).await;
    let task = publisher.task().await;
    assert_eq!(text_of(&task), "hello");
    publisher.answer(&hub, &task, "hello").await;
    hub.stop().await;
}

/// A27, P7: the rows of a pool are examined once per heartbeat for all waiting calls, through any number of agents, and
/// only if a row has changed.
#[actix_rt::test]
async fn a_pool_is_examined_once_for_all_waiting_calls() {
    const ROWS: usize = 60;
    const AGENTS: usize = 40;
    let hub = hub().await;
    let (mallory, alice) = (hub.member("mallory").await, hub.member("alice").await);
    let row = |n: usize| {
        let mut row = pooled(&format!("row-{n}"), "pool");
        (row["visibility"], row["maxConcurrency"]) = ("private".into(), 4.into());
        row
    };
    let rows: Vec<Value> = (0..ROWS).map(row).collect();
    let mut publisher = Publisher::start(&hub, &mallory, &rows, Some("cancel, status")).await;
    // The first row is active, the others hibernate.
    let beat = async |publisher: &Publisher, status: &str, capacity: u32, others: (u32, u32)| {
        let report = |n: usize| match n {
            0 => report("row-0", status, 0, capacity),
            _ => report(&format!("row-{n}"), "hibernating", others.0, others.1),
        };
        let reports: Vec<Value> = (0..ROWS).map(report).collect();
        assert_eq!(publisher.beat(&hub, json!({ "providers": reports })).await, 200);
    };
    beat(&publisher, "active", 0, (0, 4)).await;
    let mut callers = Vec::new();
    for n in 0..AGENTS {
        hub.create_agent(&mallory, &json!({ "name": format!("agent-{n}"), "llmName": "pool" })).await;
        let path = format!("/api/v1/agents/agent-{n}/infer");
        let ask = hub.ask_as(&mallory, "POST", path).header("x-queue-timeout", "30");
        callers.push(with_text(ask, &n.to_string()).begin().await);
        until_waiting(&hub, n + 1).await;
    }
    let core = hub.core();
    let work = || {
        let checks = core.capacity.checked_callers.load(std::sync::atomic::Ordering::Relaxed);
        (checks, core.registry.lock().rows_examined())
    };
    let before = work();
    for n in 0..10 {
        beat(&publisher, "active", 0, (n % 2, 4)).await;
    }
    assert_eq!(work(), before, "a heartbeat without relevant changes caused work");
    for n in 0..10 {
        beat(&publisher, "active", 0, (0, if n % 2 == 0 { 0 } else { 4 })).await;
    }
    // Any other request runs the offers that were postponed.
    assert_eq!(hub.ask_as(&alice, "GET", "/api/v1/whoami").send().await.0, 200);
    let (checks, steps) = (work().0 - before.0, work().1 - before.1);
    assert!((1..=20).contains(&checks) && (ROWS..=20 * ROWS).contains(&steps), "{checks} {steps}");
    // Free capacity goes to the first call; when no row is active, the second call wakes a row.
    beat(&publisher, "active", 1, (0, 4)).await;
    let task = publisher.task().await;
    assert_eq!((text_of(&task), &task["llmName"]), ("0".into(), &json!("row-0")));
    beat(&publisher, "inactive", 0, (0, 4)).await;
    let wakes = publisher.task().await;
    assert_eq!(wakes["kind"], "wake", "{wakes}");
    drop(callers);
    publisher.answer(&hub, &task, "hello").await;
    publisher.answer(&hub, &wakes, "awake").await;
    while let Ok(Some(event)) = tokio::time::timeout(Duration::from_millis(300), publisher.event()).await {
        if event.name() == "task" {
            publisher.answer(&hub, &serde_json::from_str(&event.data).unwrap(), "awake").await;
        }
    }
    hub.stop().await;
}

/// A27, P7: the rows of a pool are examined once per heartbeat for all pending durable tasks.
#[actix_rt::test]
async fn a_pool_is_examined_once_for_all_pending_tasks() {
    const ROWS: usize = 60;
    const AGENTS: usize = 40;
    const BEATS: usize = 20;
    let hub = hub().await;
    let mallory = hub.member("mallory").await;
    let row = |n: usize| {
        let mut row = pooled(&format!("row-{n}"), "pool");
        (row["visibility"], row["maxConcurrency"]) = ("private".into(), 4.into());
        row
    };
    let rows: Vec<Value> = (0..ROWS).map(row).collect();
    let mut publisher = Publisher::start(&hub, &mallory, &rows, Some("cancel, status")).await;
    let beat = async |publisher: &Publisher, capacity: u32, others: u32| {
        let report = |n: usize| {
            let (status, capacity) = if n == 0 { ("active", capacity) } else { ("hibernating", others) };
            report(&format!("row-{n}"), status, 0, capacity)
        };
        let reports: Vec<Value> = (0..ROWS).map(report).collect();
        assert_eq!(publisher.beat(&hub, json!({ "providers": reports })).await, 200);
    };
    beat(&publisher, 0, 4).await;
    for n in 0..AGENTS {
        hub.create_agent(&mallory, &json!({ "name": format!("agent-{n}"), "llmName": "pool" })).await;
        let task =
            json!({ "llm": format!("agent-{n}"), "request": { "messages": [{ "content": n.to_string() }] } });
        assert_eq!(hub.ask_as(&mallory, "POST", TASKS).body(task.to_string()).send().await.0, 202);
    }
    let steps = || hub.core().registry.lock().rows_examined();
    let before = (steps(), tokio::time::Instant::now());
    for n in 0..BEATS {
        beat(&publisher, 0, if n % 2 == 0 { 0 } else { 4 }).await;
    }
    // Passes over the queues: one per heartbeat, one at the start, and one every 500 ms.
    let passes = BEATS + 1 + usize::try_from(before.1.elapsed().as_millis() / 500).unwrap() + 1;
    let each = (steps() - before.0) / passes;
    assert!(each <= 8 * ROWS, "{each}");
    beat(&publisher, 1, 4).await;
    let task = publisher.task().await;
    assert_eq!(text_of(&task), "0");
    beat(&publisher, 0, 0).await;
    publisher.answer(&hub, &task, "hello").await;
    hub.stop().await;
}
