//! Many who wait: callers in line, durable tasks by the thousand, pages of them, what they take on disk.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::http::Ask;
use super::publisher::{Publisher, pooled, provider};
use super::road::infer;
use super::support::{ADMIN, TestHub, eventually, hub, hub_with};
use crate::store::ListCursor;

const TASKS: &str = "/api/v1/inference-tasks";

/// A provider that says how much it takes, and how much runs there.
async fn room(publisher: &Publisher, hub: &TestHub, names: &[&str], most: u32) {
    let provider = |name: &&str| json!({ "name": name, "status": "active", "inFlight": 0, "queued": 0, "maxConcurrency": most });
    let providers: Vec<Value> = names.iter().map(provider).collect();
    assert_eq!(publisher.beat(hub, json!({ "providers": providers })).await, 200);
}

fn saying(ask: Ask, text: &str) -> Ask {
    ask.body(json!({ "messages": [{ "role": "user", "content": text }] }).to_string())
}

fn said(task: &Value) -> String {
    task["request"]["messages"][0]["content"].as_str().unwrap().to_owned()
}

async fn waiting(hub: &TestHub, count: usize) {
    eventually(&format!("{count} wait"), async || {
        let (_, list) = hub.ask("GET", TASKS).json().await;
        list.as_array().unwrap().iter().filter(|task| task["status"] == "pending").count() == count
    })
    .await;
}

#[actix_rt::test]
async fn users_take_turns_at_freed_capacity_and_callers_are_in_order() {
    let hub = hub().await;
    let providers = [pooled("one", "pool"), pooled("two", "pool")];
    let mut publisher = Publisher::start(&hub, ADMIN, &providers, Some("cancel, status")).await;
    room(&publisher, &hub, &["one", "two"], 0).await;
    let users = [ADMIN.to_owned(), hub.member("alice").await, hub.member("bob").await];
    let mut callers = Vec::new();
    for number in 0..18 {
        // Of several users, for the pool and for one of its rows, that and the other endpoint.
        let path = match number % 3 {
            0 => "/api/v1/llms/one/infer",
            _ => "/api/v1/llms/pool/infer",
        };
        let ask = hub.ask_as(&users[number % 2], "POST", path).header("x-queue-timeout", "30");
        callers.push(Some(saying(ask, &number.to_string()).begin().await));
        waiting(&hub, number + 1).await;
    }
    // Some do not wait for their turn.
    for number in [0, 7, 8, 17] {
        callers[number] = None;
    }
    waiting(&hub, 14).await;
    room(&publisher, &hub, &["one"], 1).await;
    let mut order = Vec::new();
    for _ in 0..14 {
        let task = publisher.task().await;
        assert_eq!(task["llmName"], "one", "there is room on one only");
        order.push(said(&task).parse::<usize>().unwrap());
        assert_eq!(publisher.answer(&hub, &task, "hello").await, 200);
    }
    // One of the admin's came first of all; both have as many.
    assert_eq!(order, [2, 1, 4, 3, 6, 5, 10, 9, 12, 11, 14, 13, 16, 15]);
    hub.stop().await;
}

/// A27: however many calls of a user wait, a call of another user is next but one.
#[actix_rt::test]
async fn another_user_waits_for_one_call_of_a_busy_user() {
    let hub = hub().await;
    let (alice, mallory, bob) =
        (hub.member("alice").await, hub.member("mallory").await, hub.member("bob").await);
    let mut publisher = Publisher::start(&hub, &alice, &[provider("a")], Some("cancel, status")).await;
    room(&publisher, &hub, &["a"], 0).await;
    let ask = |token: &str, text: &str| {
        let ask = hub.ask_as(token, "POST", "/api/v1/llms/a/infer").header("x-queue-timeout", "30");
        saying(ask, text)
    };
    let mut callers = Vec::new();
    for number in 0..40 {
        callers.push(ask(&mallory, "mallory").begin().await);
        waiting(&hub, number + 1).await;
    }
    for number in 0..2 {
        callers.push(ask(&bob, "bob").begin().await);
        waiting(&hub, 41 + number).await;
    }
    room(&publisher, &hub, &["a"], 1).await;
    for expected in ["mallory", "bob", "mallory", "bob", "mallory", "mallory"] {
        let task = publisher.task().await;
        assert_eq!(said(&task), expected);
        assert_eq!(publisher.answer(&hub, &task, "hello").await, 200);
    }
    hub.stop().await;
}

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

#[actix_rt::test]
async fn capacity_that_the_first_caller_cannot_use_goes_to_the_next() {
    let hub = hub().await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let private = |name: &str| {
        let mut row = pooled(name, "pool");
        row["visibility"] = "private".into();
        row
    };
    let features = Some("cancel, status");
    let publics = Publisher::start(&hub, &alice, &[pooled("shown", "pool")], features).await;
    let mut own = Publisher::start(&hub, &alice, &[private("hidden")], features).await;
    room(&publics, &hub, &["shown"], 0).await;
    room(&own, &hub, &["hidden"], 0).await;
    let begin = async |token: &str, text: &str| {
        let ask = hub.ask_as(token, "POST", "/api/v1/llms/pool/infer").header("x-queue-timeout", "30");
        saying(ask, text).begin().await
    };
    let mut callers = Vec::new();
    for (number, (token, text)) in
        [(&bob, "bob"), (&bob, "bob again"), (&alice, "alice"), (&bob, "bob"), (&alice, "alice again")]
            .into_iter()
            .enumerate()
    {
        callers.push(begin(token, text).await);
        waiting(&hub, number + 1).await;
    }
    room(&own, &hub, &["hidden"], 1).await;
    for expected in ["alice", "alice again"] {
        let task = own.task().await;
        assert_eq!(said(&task), expected);
        own.answer(&hub, &task, "hello").await;
    }
    waiting(&hub, 3).await;
    hub.stop().await;
}

/// Callers come, wait and leave at any time, also when capacity is offered to them; free capacity always goes to a
/// waiting caller, and in the end all of it is free.
#[actix_rt::test]
async fn no_capacity_is_lost_with_a_caller_that_leaves() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], Some("status")).await;
    room(&publisher, &hub, &["a"], 2).await;
    for round in 0..10_u64 {
        let served = async {
            // As long as somebody is served, somebody answers.
            let mut count = 0;
            loop {
                let task = publisher.task().await;
                publisher.answer(&hub, &task, "hello").await;
                count += 1;
                if said(&task) == "last" {
                    return count;
                }
            }
        };
        let callers = async {
            let callers = (0..20_u64).map(|number| {
                let ask = infer(&hub, "a", false).header("x-queue-timeout", "30");
                let ask = saying(ask, "one of many");
                async move {
                    let patience = Duration::from_micros(number * 700 + round * 130);
                    let _ = tokio::time::timeout(patience, ask.send()).await;
                }
            });
            join_all(callers).await;
            let last = saying(infer(&hub, "a", false).header("x-queue-timeout", "9"), "last");
            assert_eq!(last.send().await.0, 200, "a place was lost");
        };
        let (count, ()) = futures_util::join!(served, callers);
        assert!(count >= 1);
        eventually("all places are free", async || hub.core().registry.lock().in_flight("a") == 0).await;
    }
    hub.stop().await;
}

#[actix_rt::test]
async fn parallel_tasks_do_not_exceed_the_limit_of_a_user() {
    let hub = hub_with(|options| options.limits.open_tasks = 7).await;
    let alice = hub.member("alice").await;
    let _publisher = Publisher::register(&hub, &alice, None, &[provider("a")]).await;
    let create = || hub.ask_as(&alice, "POST", TASKS).body(r#"{"llm":"a","request":{}}"#);
    for round in 0..3 {
        let asks: Vec<Ask> = (0..40).map(|_| create()).collect();
        let answers = join_all(asks.iter().map(Ask::json)).await;
        let let_in: Vec<&Value> =
            answers.iter().filter(|(status, _)| *status == 202).map(|(_, body)| body).collect();
        assert_eq!(let_in.len(), 7, "round {round}");
        assert!(answers.iter().all(|(status, _)| [202, 429].contains(status)));
        // A task that is refused, or taken back, takes no seat.
        for task in let_in {
            let path = format!("{TASKS}/{}", task["id"].as_str().unwrap());
            assert_eq!(hub.ask_as(&alice, "DELETE", path).send().await.0, 204);
        }
        eventually("nothing is open", async || {
            hub.core().tasks.list(&admin(), &ListCursor::end(), 9).is_empty()
        })
        .await;
    }
    hub.stop().await;
}

fn admin() -> crate::model::Caller {
    crate::model::Caller { user: "admin".into(), role: crate::model::Role::Admin, token_id: "test".into() }
}

/// Over a user's quota, the oldest results are deleted, except the newest; pending and running tasks are kept, and new
/// ones refused with a reason. Other users are served.
#[actix_rt::test]
async fn the_bytes_of_a_users_tasks_on_disk_are_bounded() {
    let hub = hub_with(|options| options.limits.disk = 20_000).await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let mut publisher = Publisher::start(&hub, &alice, &[provider("a")], None).await;
    Publisher::register(&hub, &alice, None, &[provider("away")]).await;
    let create = async |token: &str, llm: &str, size: usize| {
        let body = json!({ "llm": llm, "request": { "messages": [], "user": "x".repeat(size) } });
        hub.ask_as(token, "POST", TASKS).body(body.to_string()).json().await
    };
    let found = async |id: &str| hub.ask_as(&alice, "GET", format!("{TASKS}/{id}")).send().await.0 == 200;
    let mut results = Vec::new();
    for _ in 0..5 {
        let (status, task) = create(&alice, "a", 10).await;
        assert_eq!(status, 202);
        let sent = publisher.task().await;
        publisher.answer(&hub, &sent, &"y".repeat(5500)).await;
        let id = task["id"].as_str().unwrap().to_owned();
        eventually("it has ended", async || {
            hub.core().store.task(&id).await.unwrap().is_none_or(|task| task.state.is_terminal())
        })
        .await;
        results.push(id);
    }
    eventually("the first two are gone", async || !found(&results[0]).await && !found(&results[1]).await)
        .await;
    for kept in &results[2..] {
        assert!(found(kept).await);
    }
    let mut open = Vec::new();
    for _ in 0..3 {
        let (status, task) = create(&alice, "away", 5500).await;
        assert_eq!(status, 202, "{task}");
        open.push(task["id"].as_str().unwrap().to_owned());
    }
    let (status, refused) = create(&alice, "away", 5500).await;
    assert_eq!((status, &refused["code"]), (429, &json!("rate_limit_exceeded")));
    let text = refused["error"].as_str().unwrap();
    assert!(
        text.starts_with("your tasks that wait and run take 1 MiB on the hub's disk: wait for some"),
        "{text}"
    );
    assert_eq!(create(&bob, "away", 5500).await.0, 202, "everybody has a quota of their own");
    eventually("the newest result alone is left", async || !found(&results[3]).await).await;
    assert!(found(&results[4]).await);
    for id in &open {
        let (_, task) = hub.ask_as(&alice, "GET", format!("{TASKS}/{id}")).json().await;
        assert_eq!(task["status"], "pending", "what waits is never given up");
    }
    assert_eq!(hub.ask_as(&alice, "DELETE", format!("{TASKS}/{}", open[0])).send().await.0, 204);
    eventually("there is room again", async || create(&alice, "away", 5500).await.0 == 202).await;
    hub.stop().await;
}

#[actix_rt::test]
async fn pages_of_tasks_have_each_task_once_newest_first() {
    let hub = hub().await;
    let alice = hub.member("alice").await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    Publisher::register(&hub, ADMIN, None, &[provider("away")]).await;
    for number in 0..21 {
        // Ended and waiting ones, durable and not, of two users.
        let token = if number % 3 == 0 { ADMIN } else { alice.as_str() };
        let durable = |llm: &str| {
            hub.ask_as(token, "POST", TASKS).body(json!({ "llm": llm, "request": {} }).to_string())
        };
        let serve = async |publisher: &mut Publisher| {
            let task = publisher.task().await;
            publisher.answer(&hub, &task, "hello").await;
        };
        match number % 4 {
            0 => assert_eq!(durable("away").send().await.0, 202),
            1 => {
                assert_eq!(durable("a").send().await.0, 202);
                serve(&mut publisher).await;
            }
            _ => {
                let ask = hub.ask_as(token, "POST", "/api/v1/llms/a/infer").body("{}");
                futures_util::join!(async { assert_eq!(ask.send().await.0, 200) }, serve(&mut publisher));
            }
        }
    }
    eventually("all have ended that can", async || {
        let (_, list) = hub.ask("GET", TASKS).json().await;
        let status =
            |wanted: &str| list.as_array().unwrap().iter().filter(|task| task["status"] == wanted).count();
        status("completed") == 15 && status("pending") == 6
    })
    .await;
    let (_, all) = hub.ask("GET", TASKS).json().await;
    for (token, limit, expected) in [(ADMIN, 1, 21), (ADMIN, 4, 21), (ADMIN, 21, 21), (alice.as_str(), 5, 14)]
    {
        let (mut path, mut seen) = (format!("{TASKS}?limit={limit}"), Vec::new());
        loop {
            let mut answer = hub.ask_as(token, "GET", path).open().await;
            assert_eq!(answer.status, 200);
            let page: Vec<Value> = serde_json::from_str(&answer.rest().await).unwrap();
            assert!(page.len() <= limit);
            seen.extend(page.iter().map(|task| task["id"].as_str().unwrap().to_owned()));
            let next = answer.head.lines().find_map(|line| line.strip_prefix("link: <")?.split_once('>'));
            let Some((next, relation)) = next else { break };
            assert_eq!(relation, "; rel=\"next\"");
            path = next.to_owned();
        }
        assert_eq!(seen.iter().collect::<HashSet<_>>().len(), expected, "{limit}");
        let mine = |task: &&Value| token == ADMIN || task["ownerId"] == "alice";
        let in_order: Vec<&str> =
            all.as_array().unwrap().iter().filter(mine).map(|task| task["id"].as_str().unwrap()).collect();
        assert_eq!(seen, in_order);
    }
    let last = &all[20];
    let before = format!("{TASKS}?before={}", all[18]["createdAt"].as_str().unwrap());
    let (_, older) = hub.ask("GET", before).json().await;
    assert_eq!(older.as_array().unwrap().last(), Some(last), "a moment alone is a place, too");
    for query in ["limit=0", "limit=x", "limit=-1", "before=x", "before=,task-1", "before="] {
        assert_eq!(hub.ask("GET", format!("{TASKS}?{query}")).send().await.0, 400, "{query}");
    }
    hub.stop().await;
}
