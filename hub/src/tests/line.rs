//! The line of a full LLM for calls that say nothing about waiting, as those of the official SDKs.

use std::time::Duration;

use futures_util::FutureExt;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::http::{Answer, Ask};
use super::publisher::{Publisher, asleep, pooled, provider, report};
use super::road::{chat, infer};
use super::support::{ADMIN, TASKS, TestHub, eventually, hub, hub_with};
use super::turns::until_waiting;

/// Has the publisher report `slots` for the row `a`, of which `busy` are taken, and so many tasks that it wants `ahead`.
async fn beat(publisher: &Publisher, hub: &TestHub, busy: u32, slots: u32, ahead: u32) {
    let mut status = report("a", "active", busy, slots);
    status["ahead"] = ahead.into();
    assert_eq!(publisher.beat(hub, json!({ "providers": [status] })).await, 200);
}

/// A publisher of the row `a` with so many slots.
async fn publisher(hub: &TestHub, slots: u32) -> Publisher {
    let publisher = Publisher::start(hub, ADMIN, &[provider("a")], Some("status, cancel, endpoints")).await;
    beat(&publisher, hub, 0, slots, 0).await;
    publisher
}

/// A call of the holder of `token` with this text, as an SDK sends it.
fn call(hub: &TestHub, token: &str, text: &str) -> Ask {
    let body = json!({ "model": "a", "messages": [{ "role": "user", "content": text }] });
    hub.ask_as(token, "POST", "/v1/chat/completions").body(body.to_string())
}

fn text_of(task: &Value) -> &str {
    task["request"]["messages"][0]["content"].as_str().unwrap()
}

/// Begins `number` calls. Returns the connections that wait for their answers.
async fn begin(ask: &Ask, number: usize) -> Vec<TcpStream> {
    let mut callers = Vec::new();
    for _ in 0..number {
        callers.push(ask.begin().await);
    }
    callers
}

/// The next `number` tasks of the publisher, which has no further one.
async fn tasks(publisher: &mut Publisher, number: usize) -> Vec<Value> {
    let mut tasks = Vec::new();
    for _ in 0..number {
        tasks.push(publisher.task().await);
    }
    assert_eq!(publisher.task().now_or_never(), None, "a task beyond {number}");
    tasks
}

/// A27: the publisher has no more than it can run, so that a person is not behind a swarm in its queue.
#[actix_rt::test]
async fn a_person_waits_for_one_slot_whatever_a_swarm_has_in_line() {
    let hub = hub().await;
    let mut publisher = publisher(&hub, 4).await;
    let (swarm, person) = (hub.member("swarm").await, hub.member("person").await);
    let crowd = begin(&call(&hub, &swarm, "swarm"), 64).await;
    until_waiting(&hub, 60).await;
    let mut running = tasks(&mut publisher, 4).await;
    assert_eq!(publisher.answer(&hub, &running.remove(0), "hi").await, 200);
    running.extend(tasks(&mut publisher, 1).await);
    for round in 0..5 {
        let asked = call(&hub, &person, "person").begin().await;
        until_waiting(&hub, 60 - round).await;
        // One slot is for the person, the next one for the swarm.
        for expected in ["person", "swarm"] {
            assert_eq!(publisher.answer(&hub, &running.remove(0), "hi").await, 200);
            let task = tasks(&mut publisher, 1).await.remove(0);
            assert_eq!(text_of(&task), expected, "round {round}");
            if expected == "person" { running.insert(0, task) } else { running.push(task) }
        }
        assert_eq!(Answer::of(asked).await.status, 200);
        until_waiting(&hub, 58 - round).await;
        // The swarm has the four slots again.
        assert!(running.iter().all(|task| text_of(task) == "swarm"));
    }
    drop(crowd);
    hub.stop().await;
}

/// A call that is in line at the end of its time gets a 429 that its SDK understands, in each dialect and in a stream.
#[actix_rt::test]
async fn a_wait_in_line_ends_with_429_in_the_dialect_of_the_call() {
    let hub = hub_with(|options| {
        options.timings.wait_timeout = Duration::from_millis(200);
        options.timings.keepalive_interval = Duration::from_millis(50);
    })
    .await;
    let publisher = publisher(&hub, 1).await;
    beat(&publisher, &hub, 1, 1, 0).await;
    let text = "'a' is busy and had no free slot within 0.2 s, try again later";
    for (path, pointer) in [
        ("/v1/chat/completions", "/error/type"),
        ("/v1/messages", "/error/type"),
        ("/api/chat", "/none"),
        ("/api/v1/llms/a/infer", "/none"),
    ] {
        let body = json!({ "model": "a", "messages": [{ "role": "user", "content": "x" }], "max_tokens": 1, "stream": false });
        let mut answer = hub.ask("POST", path).body(body.to_string()).open().await;
        assert_eq!(answer.status, 429, "{path}: {}", answer.head);
        assert!(answer.head.contains("\r\nretry-after: 5\r\n"), "{path}: {}", answer.head);
        let said = answer.rest().await;
        assert!(said.contains(text), "{path}: {said}");
        let kind = serde_json::from_str::<Value>(&said).unwrap().pointer(pointer).cloned();
        assert_eq!(kind, (pointer != "/none").then(|| json!("rate_limit_error")), "{path}");
    }
    let (status, events) = hub.ask("POST", "/v1/chat/completions").body(chat("a", true)).send().await;
    assert!(events.starts_with(": keepalive\n\n"), "{events}");
    assert!(status == 200 && events.contains(text) && events.contains(r#""code":"queue_full""#), "{events}");
    assert!(!publisher_has_task(&hub).await);
    hub.stop().await;
}

/// Whether a call was sent to a publisher.
async fn publisher_has_task(hub: &TestHub) -> bool {
    let list = hub.ask("GET", TASKS).json().await.1;
    list.as_array().unwrap().iter().any(|task| task["status"] == "running")
}

/// `x-queue-timeout: 0` asks for an answer at once. A member with a free slot comes before the line.
#[actix_rt::test]
async fn who_does_not_wait_is_refused_at_once_and_a_free_member_comes_before_the_line() {
    let hub = hub().await;
    let mut publisher = publisher(&hub, 1).await;
    let running = call(&hub, ADMIN, "first").begin().await;
    let task = publisher.task().await;
    let hasty = call(&hub, ADMIN, "x").header("x-queue-timeout", "0");
    let (status, error) = hasty.json().await;
    assert_eq!((status, &error["error"]["code"]), (503, &json!("queue_full")), "{error}");
    // A place ahead is a wait, too.
    beat(&publisher, &hub, 1, 1, 1).await;
    assert_eq!(hasty.json().await.0, 503);

    let mut pool = Publisher::start(&hub, ADMIN, &[pooled("b", "p"), pooled("c", "p")], Some("status")).await;
    for (busy, member) in [([1, 0], "c"), ([0, 1], "b")] {
        let reports = ["b", "c"].into_iter().zip(busy).map(|(name, busy)| report(name, "active", busy, 1));
        let reports: Vec<_> = reports.collect();
        assert_eq!(pool.beat(&hub, json!({ "providers": reports })).await, 200);
        let served = pool.serves(&hub, &infer(&hub, "p", false), "hi").await;
        assert_eq!(served["llmName"], member);
    }
    publisher.answer(&hub, &task, "hi").await;
    drop(running);
    hub.stop().await;
}

/// A call that would be refused when its turn comes is refused at once.
#[actix_rt::test]
async fn a_call_that_the_llm_refuses_does_not_wait_for_it() {
    let hub = hub().await;
    let publisher = publisher(&hub, 1).await;
    beat(&publisher, &hub, 1, 1, 0).await;
    let image = json!({ "type": "image_url", "image_url": { "url": "http://10.0.0.1/x.png" } });
    let body = json!({ "model": "a", "messages": [{ "role": "user", "content": [image] }] });
    let ask = hub.ask_as(&hub.member("bob").await, "POST", "/v1/chat/completions").body(body.to_string());
    let (status, error) = ask.json().await;
    assert_eq!((status, &error["error"]["code"]), (400, &json!("invalid_request")), "{error}");
    hub.stop().await;
}

/// A publisher that reports nothing keeps its own queue: it has slots that the hub does not know of.
#[actix_rt::test]
async fn a_publisher_that_reports_nothing_gets_all_calls() {
    let hub = hub().await;
    let mut classic = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    let callers = begin(&call(&hub, ADMIN, "x"), 40).await;
    assert_eq!(tasks(&mut classic, 40).await.len(), 40);
    drop(callers);
    hub.stop().await;
}

/// A publisher far away wants tasks before its slots are free. Bulk calls and durable tasks take free slots alone.
#[actix_rt::test]
async fn tasks_are_sent_ahead_as_far_as_the_publisher_asks_for_them() {
    let hub = hub().await;
    let mut publisher = publisher(&hub, 1).await;
    let bulk = call(&hub, ADMIN, "bulk").header("x-priority", "bulk").begin().await;
    let first = publisher.task().await;
    assert_eq!(text_of(&first), "bulk");
    let more = begin(&call(&hub, ADMIN, "bulk").header("x-priority", "bulk"), 1).await;
    let durable = hub.enqueue(ADMIN, "a", false).await;
    until_waiting(&hub, 2).await;
    beat(&publisher, &hub, 1, 1, 1).await;
    tasks(&mut publisher, 0).await;
    let plain = begin(&call(&hub, ADMIN, "plain"), 3).await;
    until_waiting(&hub, 4).await;
    let ahead = tasks(&mut publisher, 1).await.remove(0);
    assert_eq!(text_of(&ahead), "plain");
    // A report of more makes room at once, and one of none takes nothing back.
    beat(&publisher, &hub, 2, 1, 2).await;
    until_waiting(&hub, 4).await;
    beat(&publisher, &hub, 2, 1, 0).await;
    assert_eq!(publisher.answer(&hub, &first, "hi").await, 200);
    tasks(&mut publisher, 0).await;
    assert_eq!(publisher.answer(&hub, &ahead, "hi").await, 200);
    assert_eq!(text_of(&tasks(&mut publisher, 1).await.remove(0)), "plain");
    drop((bulk, more, plain, durable));
    hub.stop().await;
}

/// A call that leaves the line costs the publisher nothing, and those behind it move up.
#[actix_rt::test]
async fn a_caller_that_leaves_the_line_is_skipped() {
    let hub = hub().await;
    let mut publisher = publisher(&hub, 1).await;
    let first = call(&hub, ADMIN, "first").begin().await;
    let task = publisher.task().await;
    let impatient = call(&hub, ADMIN, "impatient").begin().await;
    until_waiting(&hub, 1).await;
    let patient = call(&hub, ADMIN, "patient").begin().await;
    until_waiting(&hub, 2).await;
    drop(impatient);
    until_waiting(&hub, 1).await;
    assert_eq!(publisher.answer(&hub, &task, "hi").await, 200);
    let next = tasks(&mut publisher, 1).await.remove(0);
    assert_eq!(text_of(&next), "patient");
    assert_eq!(publisher.answer(&hub, &next, "hi").await, 200);
    assert_eq!(Answer::of(patient).await.status, 200);
    drop(first);
    hub.stop().await;
}

/// All calls for a sleeping LLM wait for its wake. Then they take turns at its slots.
#[actix_rt::test]
async fn calls_for_a_sleeping_llm_take_turns_when_it_is_awake() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[asleep(provider("a"))], Some("status, cancel")).await;
    let status = report("a", "hibernating", 0, 2);
    assert_eq!(publisher.beat(&hub, json!({ "providers": [status] })).await, 200);
    let callers = begin(&call(&hub, ADMIN, "x"), 6).await;
    let wake = publisher.task().await;
    assert_eq!(wake["kind"], "wake");
    eventually("all calls are there", async || {
        hub.ask("GET", TASKS).json().await.1.as_array().unwrap().len() >= 6
    })
    .await;
    let woken = json!({ "status": 200, "body": { "ok": true, "ms": 1 } });
    assert_eq!(publisher.post(&hub, &wake, &woken).await, 200);
    for (number, left) in [(2, 4), (2, 2), (2, 0)] {
        let running = [publisher.task().await, publisher.task().await];
        until_waiting(&hub, left).await;
        tasks(&mut publisher, 0).await;
        for task in &running[..number] {
            assert_eq!(publisher.answer(&hub, task, "hi").await, 200);
        }
    }
    for caller in callers {
        assert_eq!(Answer::of(caller).await.status, 200);
    }
    hub.stop().await;
}

/// A call that did not ask to wait for a publisher does not wait for one that went away behind it, beyond the time in which it
/// may come back.
#[actix_rt::test]
async fn the_line_of_a_publisher_that_is_gone_ends() {
    let hub = hub_with(|options| options.timings.reattach_grace = Duration::from_millis(100)).await;
    let publisher = publisher(&hub, 1).await;
    beat(&publisher, &hub, 1, 1, 0).await;
    let waiting = call(&hub, ADMIN, "x").begin().await;
    let told = call(&hub, ADMIN, "x").header("x-queue-timeout", "60").begin().await;
    until_waiting(&hub, 2).await;
    drop(publisher);
    let (status, error) = Answer::of(waiting).await.json().await;
    assert_eq!((status, &error["error"]["code"]), (503, &json!("publisher_away")), "{error}");
    until_waiting(&hub, 1).await;
    drop(told);
    hub.stop().await;
}
