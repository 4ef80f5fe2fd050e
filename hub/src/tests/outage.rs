//! Failures during a call: publishers, callers, the store, the hub itself.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};
use wire::task::Endpoint;

use super::http::{Ask, PATIENCE};
use super::publisher::{Publisher, asleep, pooled, provider};
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

/// The next task is that of a caller who says `text`, and is answered.
async fn serves(hub: &TestHub, publisher: &mut Publisher, ask: Ask, text: &str) {
    let ask = ask.body(saying(text));
    let (answer, ()) = futures_util::join!(ask.send(), async {
        let task = publisher.task().await;
        assert_eq!(task["kind"], "infer", "{task}");
        assert_eq!(task["request"]["messages"][0]["content"], text, "an orphan ran first");
        publisher.answer(hub, &task, "hello").await;
    });
    assert_eq!(answer.0, 200, "{}", answer.1);
}

/// P2, F77: a call that times out during a wake gets 503, and no inference follows when the wake ends.
#[actix_rt::test]
async fn a_wake_longer_than_the_wait_timeout_starts_no_inference() {
    let hub = hub_with(|options| options.timings.wait_timeout = Duration::from_secs(2)).await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[asleep(provider("a"))], None).await;
    let call = infer(&hub, "a", false);
    let (answer, wake) = futures_util::join!(call.send(), publisher.task());
    assert_eq!((answer.0, &wake["kind"]), (503, &json!("wake")), "{}", answer.1);
    assert!(answer.1.ends_with(r#""code":"waking"}"#), "{}", answer.1);
    let woken: Value = serde_json::from_str(AWAKE).unwrap();
    eventually("the wake is over too", async || !hub.is_waking("a")).await;
    assert_eq!(publisher.post(&hub, &wake, &woken).await, 410);
    let next = infer(&hub, "a", false).body(saying("next"));
    let (answer, ()) = futures_util::join!(next.send(), async {
        let wake = publisher.task().await;
        assert_eq!(wake["kind"], "wake", "an orphan: {wake}");
        publisher.post(&hub, &wake, &woken).await;
        let task = publisher.task().await;
        assert_eq!(task["request"]["messages"][0]["content"], "next");
        publisher.answer(&hub, &task, "hello").await;
    });
    assert_eq!(answer.0, 200, "{}", answer.1);
    hub.stop().await;
}

/// F76: a caller that leaves during a wake or while it waits for capacity leaves no task.
#[actix_rt::test]
async fn a_caller_that_leaves_while_it_waits_leaves_no_task() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[asleep(provider("a"))], Some("cancel, status")).await;
    let caller = infer(&hub, "a", false).begin().await;
    let wake = publisher.task().await;
    drop(caller);
    eventually("it is gone", async || statuses(&hub).await == ["cancelled"]).await;
    publisher.post(&hub, &wake, &serde_json::from_str(AWAKE).unwrap()).await;
    serves(&hub, &mut publisher, infer(&hub, "a", false), "after the load").await;

    let room = |in_flight: u32| {
        json!({ "providers": [{ "name": "a", "status": "active", "inFlight": in_flight, "queued": 0,
            "maxConcurrency": 1 }] })
    };
    publisher.beat(&hub, room(1)).await;
    let caller = infer(&hub, "a", false).header("x-queue-timeout", "60").begin().await;
    eventually("it waits", async || statuses(&hub).await.len() == 3).await;
    drop(caller);
    eventually("it is gone", async || {
        statuses(&hub).await.iter().filter(|status| *status == "cancelled").count() == 2
    })
    .await;
    publisher.beat(&hub, room(0)).await;
    serves(&hub, &mut publisher, infer(&hub, "a", false), "after the room").await;
    hub.stop().await;
}

/// Thousands of one user's calls wait for a wake, and another user's is served.
#[actix_rt::test]
async fn callers_that_wait_for_a_wake_take_no_slots() {
    let hub = hub().await;
    let core = hub.core().clone();
    let mut publisher = Publisher::start(&hub, ADMIN, &[asleep(provider("a"))], Some("cancel")).await;
    let mallory = Caller { user: "mallory".into(), role: Role::Member, token_id: "1".into() };
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

/// F78: a publisher that goes between pick and dispatch is followed by the next member, or by a 503, never by a wait.
#[actix_rt::test]
async fn a_publisher_that_goes_before_the_dispatch_is_followed_by_the_next() {
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
        .expect("no wait");
        assert_eq!(alone.status, 503, "{}", alone.head);
        assert!(alone.head.contains("retry-after: 5"), "{}", alone.head);
        assert_eq!(pool.0, 200, "{}", pool.1);
        goes.open(&hub, None).await;
    }
    hub.stop().await;
}

/// F72, P8: an answer that has not ended when the hub stops ends with an error, not with an end mark.
#[actix_rt::test]
async fn an_answer_that_outlasts_a_stop_ends_with_an_error() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    let (stream, whole) = (infer(&hub, "a", true), infer(&hub, "a", false));
    let (mut stream, first) = publisher.begins(&hub, &stream, "one").await;
    let whole = whole.begin().await;
    assert_ne!(publisher.task().await["taskId"], first["taskId"]);
    // Twenty seconds that nobody has to sit through: the clock of this thread alone stands still, the hub's server has
    // its own.
    tokio::time::pause();
    let (asked, given_up) = (Instant::now(), hub.gives_up());
    hub.stop().await;
    let had = given_up.await.unwrap() - asked;
    tokio::time::resume();
    assert_eq!(had.as_secs(), 20, "running answers have 20 s");
    let rest = stream.rest().await;
    assert!(rest.contains("data: {\"error\":"), "{rest}");
    assert!(!rest.contains("[DONE]"), "{rest}");
    let whole = super::http::Answer::of(whole).await;
    assert_eq!(whole.status, 503, "{}", whole.head);
    assert!(publisher.event().await.is_none(), "the channel ends: its registrar looks for the next hub");
}

/// F64: while another program locks the file, writes wait and are refused with 503, everything else is as fast as
/// before, and afterwards writes succeed.
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
            serves(&hub, &mut publisher, infer(&hub, "a", false), "meanwhile").await;
            assert_eq!(hub.ask("GET", "/api/v1/llms").send().await.0, 200);
            assert_eq!(publisher.beat(&hub, json!({})).await, 200);
        };
        // Polled beside it, or it would be sent only when this is over.
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
    // The file is waited for as long.
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    other.execute_batch("COMMIT").unwrap();
    assert_eq!(token.send().await.0, 201);
    hub.stop().await;
}

/// F74, P7: a caller that does not read blocks the chunks of its own answer, at their publisher, and of no other.
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
        assert!(taken < 64 << 20, "{taken} bytes are somewhere");
    };
    serves(&hub, &mut others, infer(&hub, "b", false), "meanwhile").await;
    drop(answer);
    assert_eq!(stuck.await, 410, "its caller left");
    hub.stop().await;
}
