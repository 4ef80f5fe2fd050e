//! Failures during a call: publishers, callers, the store, the hub itself.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};
use wire::task::Endpoint;

use super::http::{Ask, PATIENCE};
use super::publisher::{Publisher, asleep, pooled, provider, report};
use super::road::{chat, infer};
use super::support::{ADMIN, TestHub, eventually, hub, hub_with};
use crate::dispatch::wake;
use crate::model::{Caller, Role};
use crate::options::DataDir;
use crate::registry::PickResult;

const AWAKE: &str = r#"{ "status": 200, "body": { "ok": true, "ms": 1 } }"#;

fn saying(text: &str) -> String {
    json!({ "messages": [{ "role": "user", "content": text }] }).to_string()
}

async fn statuses(hub: &TestHub) -> Vec<String> {
    let (_, tasks) = hub.ask("GET", "/api/v1/inference-tasks").json().await;
    tasks.as_array().unwrap().iter().map(|task| task["status"].as_str().unwrap().to_owned()).collect()
}

/// Sends a call with the message `text`, checks that the publisher's next task is that call, and answers it.
async fn serves_next(hub: &TestHub, publisher: &mut Publisher, ask: Ask, text: &str) {
    let ask = ask.body(saying(text));
    let task = publisher.serves(hub, &ask, "hello").await;
    assert_eq!(task["kind"], "infer", "{task}");
    assert_eq!(task["request"]["messages"][0]["content"], text, "a task without a caller ran first");
}

/// P2, F77: a call that times out during a wake gets 503, and its inference is not started when the wake ends.
#[actix_rt::test]
async fn a_wake_longer_than_the_wait_timeout_starts_no_inference() {
    let hub = hub_with(|options| options.timings.wait_timeout = Duration::from_secs(2)).await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[asleep(provider("a"))], None).await;
    let call = infer(&hub, "a", false);
    let (answer, wake) = futures_util::join!(call.send(), publisher.task());
    assert_eq!((answer.0, &wake["kind"]), (503, &json!("wake")), "{}", answer.1);
    assert!(answer.1.ends_with(r#""code":"waking"}"#), "{}", answer.1);
    let woken: Value = serde_json::from_str(AWAKE).unwrap();
    eventually("the wake has ended, too", async || !hub.is_waking("a")).await;
    assert_eq!(publisher.post(&hub, &wake, &woken).await, 410);
    let next = infer(&hub, "a", false).body(saying("next"));
    let (answer, ()) = futures_util::join!(next.send(), async {
        let wake = publisher.task().await;
        assert_eq!(wake["kind"], "wake", "a task without a caller: {wake}");
        publisher.post(&hub, &wake, &woken).await;
        let task = publisher.task().await;
        assert_eq!(task["request"]["messages"][0]["content"], "next");
        publisher.answer(&hub, &task, "hello").await;
    });
    assert_eq!(answer.0, 200, "{}", answer.1);
    hub.stop().await;
}

/// F76: when a caller disconnects during a wake or while it waits for capacity, its task does not run later.
#[actix_rt::test]
async fn the_task_of_a_waiting_caller_that_disconnects_does_not_run() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[asleep(provider("a"))], Some("cancel, status")).await;
    let caller = infer(&hub, "a", false).begin().await;
    let wake = publisher.task().await;
    drop(caller);
    eventually("the call is cancelled", async || statuses(&hub).await == ["cancelled"]).await;
    publisher.post(&hub, &wake, &serde_json::from_str(AWAKE).unwrap()).await;
    serves_next(&hub, &mut publisher, infer(&hub, "a", false), "after the wake").await;

    let report = |in_flight: u32| json!({ "providers": [report("a", "active", in_flight, 1)] });
    publisher.beat(&hub, report(1)).await;
    let caller = infer(&hub, "a", false).header("x-queue-timeout", "60").begin().await;
    eventually("the call waits", async || statuses(&hub).await.len() == 3).await;
    drop(caller);
    eventually("the call is cancelled", async || {
        statuses(&hub).await.iter().filter(|status| *status == "cancelled").count() == 2
    })
    .await;
    publisher.beat(&hub, report(0)).await;
    serves_next(&hub, &mut publisher, infer(&hub, "a", false), "after the capacity").await;
    hub.stop().await;
}

/// A call is served although 4096 calls of another user wait for the same wake.
#[actix_rt::test]
async fn calls_that_wait_for_a_wake_take_no_slots() {
    let hub = hub().await;
    let core = hub.core().clone();
    let mut publisher = Publisher::start(&hub, ADMIN, &[asleep(provider("a"))], Some("cancel")).await;
    let mallory = Caller {
        user: "mallory".into(),
        role: Role::Member,
        token_id: "1".into(),
        models: crate::model::AllowedModels::default(),
        secret: None,
    };
    let candidate = {
        let mut registry = core.registry.lock();
        let target = registry.target(&mallory, "a").unwrap();
        match registry.pick(&mallory, &target, Endpoint::ChatCompletions) {
            PickResult::Chosen(candidate) => *candidate,
            other => panic!("{other:?}"),
        }
    };
    let many = join_all((0..4096).map(|_| wake(&core, &candidate)));
    let mut many = Box::pin(many);
    assert!(futures_util::poll!(&mut many).is_pending());
    let wake = publisher.task().await;
    assert_eq!(wake["kind"], "wake", "{wake}");
    let other = infer(&hub, "a", false).body(saying("another's"));
    let mut other = std::pin::pin!(other.send());
    let waits = timeout(Duration::from_millis(300), &mut other).await;
    assert!(waits.is_err(), "{waits:?}");
    let (many, answer, ()) = futures_util::join!(many, other, async {
        publisher.post(&hub, &wake, &serde_json::from_str(AWAKE).unwrap()).await;
        let task = publisher.task().await;
        assert_eq!(task["request"]["messages"][0]["content"], "another's");
        publisher.answer(&hub, &task, "hello").await;
    });
    assert!(many.iter().all(Result::is_ok));
    assert_eq!(answer.0, 200, "{}", answer.1);
    hub.stop().await;
}

/// F78: if a publisher disconnects between pick and dispatch, the next member is tried, or the call gets 503 at once.
#[actix_rt::test]
async fn the_next_member_is_tried_if_a_publisher_is_lost_before_the_dispatch() {
    let hub = hub().await;
    let mut goes = Publisher::start(&hub, ADMIN, &[pooled("a", "p")], None).await;
    let mut stays = Publisher::start(&hub, ADMIN, &[pooled("b", "p")], None).await;
    for _ in 0..20 {
        hub.until_status("a", "active").await;
        hub.drop_channel(&goes.session);
        let alone = infer(&hub, "a", false);
        let pool = hub.ask("POST", "/v1/chat/completions").body(chat("p", false));
        let (alone, pool, ()) = timeout(PATIENCE, async {
            futures_util::join!(alone.open(), pool.send(), async {
                let task = stays.task().await;
                stays.answer(&hub, &task, "hello").await;
            })
        })
        .await
        .expect("the calls end");
        assert_eq!(alone.status, 503, "{}", alone.head);
        assert!(alone.head.contains("retry-after: 5"), "{}", alone.head);
        assert_eq!(pool.0, 200, "{}", pool.1);
        goes.open(&hub, None).await;
    }
    hub.stop().await;
}

/// F72, P8: an answer that is unfinished 20 s after the hub's stop ends with an error, not with an end mark.
#[actix_rt::test]
async fn an_answer_that_outlasts_a_stop_ends_with_an_error() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    let (stream, whole) = (infer(&hub, "a", true), infer(&hub, "a", false));
    let (mut stream, first) = publisher.begins(&hub, &stream, "one").await;
    let whole = whole.begin().await;
    assert_ne!(publisher.task().await["taskId"], first["taskId"]);
    // The paused clock of this thread skips the 20 s. The hub's server has threads and clocks of its own.
    tokio::time::pause();
    let (asked, given_up) = (Instant::now(), hub.end_of_grace());
    hub.stop().await;
    let had = given_up.await.unwrap() - asked;
    tokio::time::resume();
    assert_eq!(had.as_secs(), 20, "running answers get 20 s");
    let rest = stream.rest().await;
    assert!(rest.contains("data: {\"error\":"), "{rest}");
    assert!(!rest.contains("[DONE]"), "{rest}");
    let whole = super::http::Answer::of(whole).await;
    assert_eq!(whole.status, 503, "{}", whole.head);
    assert!(publisher.event().await.is_none(), "the channel is open after the stop");
}

/// F64: while another program locks the database file, writes wait and get 503, everything else is served quickly, and
/// afterwards writes succeed.
#[actix_rt::test]
async fn a_locked_file_refuses_writes_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let hub = hub_with(|options| options.data = DataDir::Path(dir.path().join("hub"))).await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    let other = rusqlite::Connection::open(dir.path().join("hub/hub.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let token = hub.ask("POST", "/api/v1/tokens").body(json!({ "user": "bob" }).to_string());
    let task = json!({ "llm": "a", "request": { "messages": [] } }).to_string();
    let task = hub.ask("POST", "/api/v1/inference-tasks").body(task);
    let mut slowest = Duration::ZERO;
    let refused = async { futures_util::join!(token.open(), task.open()) };
    let mut refused = std::pin::pin!(refused);
    let (token_refused, task_refused) = loop {
        let begun = Instant::now();
        let quick = async {
            serves_next(&hub, &mut publisher, infer(&hub, "a", false), "meanwhile").await;
            assert_eq!(hub.ask("GET", "/api/v1/llms").send().await.0, 200);
            assert_eq!(publisher.beat(&hub, json!({})).await, 200);
        };
        // Both futures are polled together, so that the writes wait while the other calls are served.
        match futures_util::future::select(std::pin::pin!(quick), refused.as_mut()).await {
            futures_util::future::Either::Left(((), _)) => slowest = slowest.max(begun.elapsed()),
            futures_util::future::Either::Right((refused, quick)) => {
                quick.await;
                break refused;
            }
        }
    };
    for refused in [token_refused, task_refused] {
        assert!(refused.status == 503 && refused.head.contains("retry-after: 5"), "{}", refused.head);
    }
    // A write waits 5 s for the lock.
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    other.execute_batch("COMMIT").unwrap();
    assert_eq!(token.send().await.0, 201);
    hub.stop().await;
}

/// F74, P7: chunks for a caller that does not read wait at their publisher; chunks for other callers do not.
#[actix_rt::test]
async fn chunks_wait_at_the_publisher_for_a_slow_caller() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    let mut others = Publisher::start(&hub, ADMIN, &[provider("b")], None).await;
    let (answer, task) = publisher.begins(&hub, &infer(&hub, "a", true), "one").await;
    let large = "x".repeat(100_000);
    let mut taken = 0;
    let stuck = loop {
        let mut posting = Box::pin(publisher.chunk(&hub, &task, &large));
        match timeout(Duration::from_millis(500), &mut posting).await {
            Ok(status) => assert_eq!(status, 200),
            Err(_elapsed) => break posting,
        }
        taken += large.len();
        assert!(taken < 64 << 20, "{taken} bytes are buffered");
    };
    serves_next(&hub, &mut others, infer(&hub, "b", false), "meanwhile").await;
    drop(answer);
    assert_eq!(stuck.await, 410, "the caller has disconnected");
    hub.stop().await;
}
