//! What waiting callers and tasks cost when rows of their pool change.

use super::*;

/// A27: a heartbeat examines only callers that wait for its rows, and only if it changes one.
#[actix_rt::test]
async fn a_heartbeat_examines_only_callers_that_wait_for_its_rows() {
    let hub = hub().await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let features = Some("cancel, status");
    let mut shown = Publisher::start(&hub, &alice, &[pooled("shown", "pool")], features).await;
    let mut own = pooled("own", "pool");
    own["visibility"] = "private".into();
    let private = Publisher::start(&hub, &alice, &[own], features).await;
    let other = Publisher::start(&hub, &bob, &[provider("other")], features).await;
    room(&shown, &hub, &["shown"], 0).await;
    room(&private, &hub, &["own"], 1).await;
    room(&other, &hub, &["other"], 1).await;
    let mut callers = Vec::new();
    for number in 0..20 {
        let token = hub.member(&format!("caller-{number}")).await;
        let ask = hub.ask_as(&token, "POST", "/api/v1/llms/pool/infer").header("x-queue-timeout", "30");
        callers.push(saying(ask, &number.to_string()).begin().await);
        waiting(&hub, number + 1).await;
    }
    let looks = || hub.core().capacity.looks.load(std::sync::atomic::Ordering::Relaxed);
    let before = looks();
    for _ in 0..50 {
        room(&other, &hub, &["other"], 1).await;
        room(&private, &hub, &["own"], 1).await;
        room(&shown, &hub, &["shown"], 0).await;
    }
    for most in 2..10 {
        room(&other, &hub, &["other"], most).await;
    }
    assert_eq!(looks() - before, 0);
    room(&shown, &hub, &["shown"], 1).await;
    assert_eq!(said(&shown.task().await), "0");
    assert!(looks() - before <= 2, "{}", looks() - before);
    hub.stop().await;
}

/// A27: a caller that waits through a registered agent is served as soon as the agent and its row are back.
#[actix_rt::test]
async fn a_caller_of_an_absent_agent_is_served_when_it_returns() {
    let hub = hub().await;
    let features = Some("cancel, status");
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], features).await;
    let register = json!({ "providerSessionId": publisher.session, "providers": [provider("a")],
        "agents": [{ "name": "clerk", "llmName": "a", "visibility": "public" }] });
    let ask = hub.ask("POST", "/api/v1/llms/_provider-register").body(register.to_string());
    assert_eq!(ask.send().await.0, 201);
    room(&publisher, &hub, &["a"], 0).await;
    let ask = hub.ask("POST", "/api/v1/agents/clerk/infer").header("x-queue-timeout", "30");
    let _caller = saying(ask, "hello").begin().await;
    waiting(&hub, 1).await;
    for _ in 0..3 {
        publisher.close();
        hub.until_status("a", "inactive").await;
        // It was looked at meanwhile.
        hub.core().offer_all();
        let astray = || hub.core().capacity.is_anybody_astray();
        eventually("it waits for its agent", async || astray()).await;
        publisher.open(&hub, features).await;
        room(&publisher, &hub, &["a"], 0).await;
        eventually("it waits for room", async || !astray()).await;
    }
    room(&publisher, &hub, &["a"], 1).await;
    let task = publisher.task().await;
    assert_eq!(said(&task), "hello");
    publisher.answer(&hub, &task, "hello").await;
    hub.stop().await;
}

/// A27: a caller that waits through an agent whose row was deleted is served as soon as the row is registered again.
#[actix_rt::test]
async fn a_caller_of_an_agent_is_served_when_its_row_is_registered_again() {
    let hub = hub().await;
    let features = Some("cancel, status");
    let mut before = Publisher::start(&hub, ADMIN, &[provider("a")], features).await;
    let agent = json!({ "name": "clerk", "llmName": "a" }).to_string();
    assert_eq!(hub.ask("POST", "/api/v1/agents").body(agent).send().await.0, 201);
    room(&before, &hub, &["a"], 0).await;
    let ask = hub.ask("POST", "/api/v1/agents/clerk/infer").header("x-queue-timeout", "30");
    let _caller = saying(ask, "hello").begin().await;
    waiting(&hub, 1).await;
    before.close();
    hub.until_status("a", "inactive").await;
    assert_eq!(hub.ask("DELETE", "/api/v1/llms/a").send().await.0, 204);
    // It was looked at meanwhile.
    hub.core().offer_all();
    let astray = || hub.core().capacity.is_anybody_astray();
    eventually("it waits for its agent", async || astray()).await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], features).await;
    eventually("it waits for its agent no longer", async || !astray()).await;
    let task = publisher.task().await;
    assert_eq!(said(&task), "hello");
    publisher.answer(&hub, &task, "hello").await;
    hub.stop().await;
}

/// A27, P7: the work that a user's waiting calls, rows and heartbeats cause is in proportion to the heartbeats: the
/// rows of a pool are examined once for all callers, through any number of agents, and only if one has changed.
#[actix_rt::test]
async fn a_pool_is_examined_once_for_all_waiting_callers() {
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
    // The first is awake, the others are asleep.
    let beat = async |publisher: &Publisher, status: &str, room: u32, others: (u32, u32)| {
        let report = |n: usize| match n {
            0 => {
                json!({ "name": "row-0", "status": status, "inFlight": 0, "queued": 0, "maxConcurrency": room })
            }
            _ => {
                json!({ "name": format!("row-{n}"), "status": "hibernating", "inFlight": others.0, "queued": 0,
                "maxConcurrency": others.1 })
            }
        };
        let reports: Vec<Value> = (0..ROWS).map(report).collect();
        assert_eq!(publisher.beat(&hub, json!({ "providers": reports })).await, 200);
    };
    beat(&publisher, "active", 0, (0, 4)).await;
    let mut callers = Vec::new();
    for n in 0..AGENTS {
        let agent = json!({ "name": format!("agent-{n}"), "llmName": "pool" }).to_string();
        assert_eq!(hub.ask_as(&mallory, "POST", "/api/v1/agents").body(agent).send().await.0, 201);
        let path = format!("/api/v1/agents/agent-{n}/infer");
        let ask = hub.ask_as(&mallory, "POST", path).header("x-queue-timeout", "30");
        callers.push(saying(ask, &n.to_string()).begin().await);
        waiting(&hub, n + 1).await;
    }
    let core = hub.core();
    let work = || {
        let looks = core.capacity.looks.load(std::sync::atomic::Ordering::Relaxed);
        (looks, core.registry.lock().rows_examined())
    };
    let before = work();
    for n in 0..10 {
        beat(&publisher, "active", 0, (n % 2, 4)).await;
    }
    assert_eq!(work(), before, "nothing that anybody waits for has changed");
    for n in 0..10 {
        beat(&publisher, "active", 0, (0, if n % 2 == 0 { 0 } else { 4 })).await;
    }
    // Whoever is asked nothing else of takes what was left for later.
    assert_eq!(hub.ask_as(&alice, "GET", "/api/v1/whoami").send().await.0, 200);
    let (looks, steps) = (work().0 - before.0, work().1 - before.1);
    assert!((1..=20).contains(&looks) && (ROWS..=20 * ROWS).contains(&steps), "{looks} {steps}");
    // What is free goes to those who wait, in their order: a place, and then, when nothing is awake, one that is asleep.
    beat(&publisher, "active", 1, (0, 4)).await;
    let task = publisher.task().await;
    assert_eq!((said(&task), &task["llmName"]), ("0".into(), &json!("row-0")));
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

/// The same of durable tasks.
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
    let beat = async |publisher: &Publisher, room: u32, others: u32| {
        let report = |n: usize| {
            let (status, room) = if n == 0 { ("active", room) } else { ("hibernating", others) };
            json!({ "name": format!("row-{n}"), "status": status, "inFlight": 0, "queued": 0, "maxConcurrency": room })
        };
        let reports: Vec<Value> = (0..ROWS).map(report).collect();
        assert_eq!(publisher.beat(&hub, json!({ "providers": reports })).await, 200);
    };
    beat(&publisher, 0, 4).await;
    for n in 0..AGENTS {
        let agent = json!({ "name": format!("agent-{n}"), "llmName": "pool" }).to_string();
        assert_eq!(hub.ask_as(&mallory, "POST", "/api/v1/agents").body(agent).send().await.0, 201);
        let task =
            json!({ "llm": format!("agent-{n}"), "request": { "messages": [{ "content": n.to_string() }] } });
        assert_eq!(hub.ask_as(&mallory, "POST", TASKS).body(task.to_string()).send().await.0, 202);
    }
    let steps = || hub.core().registry.lock().rows_examined();
    let before = (steps(), tokio::time::Instant::now());
    for n in 0..BEATS {
        beat(&publisher, 0, if n % 2 == 0 { 0 } else { 4 }).await;
    }
    // So many looks at the lines, those without a reason among them, each at rows with room, for the owner and for all.
    let looks = BEATS + 1 + usize::try_from(before.1.elapsed().as_millis() / 500).unwrap() + 1;
    let each = (steps() - before.0) / looks;
    assert!(each <= 8 * ROWS, "{each}");
    beat(&publisher, 1, 4).await;
    let task = publisher.task().await;
    assert_eq!(said(&task), "0");
    beat(&publisher, 0, 0).await;
    publisher.answer(&hub, &task, "hello").await;
    hub.stop().await;
}
