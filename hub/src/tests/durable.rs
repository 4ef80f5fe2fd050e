//! Ends of durable tasks are acknowledged after their commit.

mod races;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::timeout;
use wire::texts;

use super::http::Ask;
use super::interceptor::StoreInterceptor;
use super::publisher::{Publisher, chunk, completion, pooled, provider};
use super::support::{ADMIN, TASKS, TestHub, eventually, hub_on};
use crate::model::TaskStatus;
use crate::store::{Change, SqliteStore, Store, StoreError, StoreFuture};
use crate::tasks::HUB_RESTARTED;

/// A request without an answer after this time waits for the store.
const MOMENT: Duration = Duration::from_millis(150);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Disk {
    Healthy,
    Hangs,
    Full,
}

/// A store on such a disk. Writes are applied in order; write-behind changes are never lost.
struct AilingStore {
    store: Arc<SqliteStore>,
    /// Held changes, and whether they are write-behind.
    kept: Mutex<Vec<(bool, Vec<Change>)>>,
    disk: watch::Sender<Disk>,
}

impl AilingStore {
    fn new() -> Arc<Self> {
        let store = Arc::new(SqliteStore::in_memory().unwrap());
        Arc::new(Self { store, kept: Mutex::default(), disk: watch::Sender::new(Disk::Healthy) })
    }

    fn is(&self, disk: Disk) {
        let mut kept = self.kept.lock();
        match disk {
            Disk::Healthy => kept.drain(..).for_each(|(_, changes)| drop(self.store.write_behind(changes))),
            Disk::Full => kept.retain(|(is_write_behind, _)| *is_write_behind),
            Disk::Hangs => (),
        }
        self.disk.send_replace(disk);
    }
}

impl StoreInterceptor for AilingStore {
    fn store(&self) -> &SqliteStore {
        &self.store
    }

    fn intercept(&self, is_write_behind: bool, changes: Vec<Change>) -> StoreFuture<()> {
        let mut kept = self.kept.lock();
        let disk = *self.disk.borrow();
        match disk {
            Disk::Healthy if is_write_behind => return self.store.write_behind(changes),
            Disk::Healthy => return self.store.write(changes),
            Disk::Hangs => kept.push((is_write_behind, changes)),
            Disk::Full if is_write_behind => kept.push((is_write_behind, changes)),
            Disk::Full => (),
        }
        let (mut disk, store) = (self.disk.subscribe(), self.store.clone());
        Box::pin(async move {
            let is_full =
                disk.wait_for(|disk| *disk != Disk::Hangs).await.is_ok_and(|disk| *disk == Disk::Full);
            if is_full {
                Err(StoreError::Unavailable("the disk is full".into()))
            } else {
                store.write_behind(Vec::new()).await
            }
        })
    }
}

fn path(id: &str) -> String {
    format!("{TASKS}/{id}")
}

/// The status of a task as its owner sees it, by itself and in the list.
async fn shown(hub: &TestHub, id: &str) -> String {
    let (_, one) = hub.ask("GET", path(id)).json().await;
    let (_, list) = hub.ask("GET", TASKS).json().await;
    let listed = list.as_array().unwrap().iter().find(|task| task["id"] == id).unwrap();
    assert_eq!(one["status"], listed["status"]);
    one["status"].as_str().unwrap().to_owned()
}

/// How a publisher ends a task.
#[derive(Debug, Clone, Copy)]
enum End {
    Answer,
    Error,
    Done,
    Upload,
}

impl End {
    const ALL: [Self; 4] = [Self::Answer, Self::Error, Self::Done, Self::Upload];

    const fn is_streamed(self) -> bool {
        matches!(self, Self::Done | Self::Upload)
    }

    const fn state(self) -> &'static str {
        if matches!(self, Self::Error) { "error" } else { "completed" }
    }

    /// The last word for `task`.
    fn ask(self, hub: &TestHub, task: &Value) -> Ask {
        let result = |result: Value| {
            let path = format!("/api/v1/llms/_provider-task/{}/result", task["taskId"].as_str().unwrap());
            hub.ask("POST", path).body(result.to_string())
        };
        match self {
            Self::Answer => result(json!({ "status": 200, "body": completion("hello") })),
            Self::Error => result(json!({ "error": "it broke" })),
            Self::Done => result(json!({ "chunk": { "data": "[DONE]", "done": true } })),
            Self::Upload => {
                let events = format!("data: {}\n\ndata: [DONE]\n\n", chunk("two"));
                hub.ask("POST", Publisher::upload_path(task)).body(events)
            }
        }
    }
}

/// A task that runs at its publisher: its id, and the task that the publisher got.
async fn sent(hub: &TestHub, publisher: &mut Publisher, end: End) -> (String, Value) {
    let id = hub.enqueue(ADMIN, "a", end.is_streamed()).await;
    let task = publisher.task().await;
    if matches!(end, End::Done) {
        assert_eq!(publisher.chunk(hub, &task, "one").await, 200);
        eventually("it runs", async || shown(hub, &id).await == "running").await;
    }
    (id, task)
}

/// P1: a publisher's final result is acknowledged, and the task shown as ended, after the commit.
#[actix_rt::test]
async fn a_durable_task_ends_when_its_end_is_committed() {
    for end in End::ALL {
        let store = AilingStore::new();
        let hub = hub_on(store.clone()).await;
        let mut publisher =
            Publisher::start(&hub, ADMIN, &[provider("a")], Some("cancel, result-stream")).await;
        let (id, task) = sent(&hub, &mut publisher, end).await;
        let before = if end.is_streamed() { "running" } else { "claimed" };
        let mut reader = hub.ask("GET", format!("{}/stream", path(&id))).open().await;
        if matches!(end, End::Done) {
            reader.until("one").await;
        }
        store.is(Disk::Hangs);
        let ask = end.ask(&hub, &task);
        let mut answer = Box::pin(ask.send());
        assert!(timeout(MOMENT, &mut answer).await.is_err(), "{end:?}: nothing is written");
        assert_eq!(shown(&hub, &id).await, before, "{end:?}");
        assert!(timeout(MOMENT, reader.rest()).await.is_err(), "{end:?}: it has no end");
        store.is(Disk::Healthy);
        assert_eq!(answer.await.0, 200, "{end:?}");
        let (_, task) = hub.ask("GET", path(&id)).json().await;
        assert_eq!(task["status"], end.state(), "{end:?}: at once");
        hub.stop().await;
    }
}

/// P1, F63: while the end cannot be committed, the publisher is refused and the task goes on; it ends with the first
/// result after that.
#[actix_rt::test]
async fn an_end_that_cannot_be_committed_is_retried() {
    for end in End::ALL {
        let store = AilingStore::new();
        let hub = hub_on(store.clone()).await;
        let mut publisher =
            Publisher::start(&hub, ADMIN, &[provider("a")], Some("cancel, result-stream")).await;
        let (id, task) = sent(&hub, &mut publisher, end).await;
        let before = if end.is_streamed() { "running" } else { "claimed" };
        store.is(Disk::Full);
        // An upload cannot be repeated: its registrar says that the way to the hub broke.
        let again = if matches!(end, End::Upload) { End::Error } else { end };
        let other = if matches!(end, End::Error) { End::Answer } else { End::Error };
        for end in [end, again, again] {
            let refused = end.ask(&hub, &task).open().await;
            assert!(
                refused.status == 503 && refused.head.contains("retry-after: "),
                "{end:?}: {}",
                refused.head
            );
            let mut refused = refused;
            let text = refused.rest().await;
            assert!(text.contains(r#""code":"store_unavailable""#), "{text}");
            assert_eq!(shown(&hub, &id).await, before);
        }
        if !matches!(end, End::Upload) {
            assert_eq!(other.ask(&hub, &task).send().await.0, 409, "{end:?}: it has ended otherwise");
        }
        store.is(Disk::Healthy);
        let taken = again.ask(&hub, &task).send().await;
        assert_eq!(taken, (200, r#"{"ok":true,"duplicate":true}"#.to_owned()), "{end:?}");
        let (_, task) = hub.ask("GET", path(&id)).json().await;
        assert_eq!(task["status"], end.state(), "{end:?}: {task}");
        if end.is_streamed() {
            assert_eq!(task["result"]["chunks"].as_array().unwrap().len(), 1);
        }
        hub.stop().await;
    }
}

/// P1, F66: a hub that dies before the commit has acknowledged no end; the next one ends the task as interrupted and
/// refuses its result.
#[actix_rt::test]
async fn a_hub_that_dies_before_a_commit_has_acknowledged_nothing() {
    let store = AilingStore::new();
    let hub = hub_on(store.clone()).await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    let (id, task) = sent(&hub, &mut publisher, End::Answer).await;
    store.is(Disk::Full);
    assert_eq!(End::Answer.ask(&hub, &task).send().await.0, 503);
    hub.stop().await;
    // As a disk that stays full leaves it.
    store.kept.lock().clear();
    store.is(Disk::Healthy);
    let hub = hub_on(store.store.clone()).await;
    assert_eq!(End::Answer.ask(&hub, &task).send().await.0, 404);
    let (_, task) = hub.ask("GET", path(&id)).json().await;
    assert_eq!((task["status"].as_str(), task["error"].as_str()), (Some("error"), Some(HUB_RESTARTED)));
    hub.stop().await;
}

/// The task is retried: at another publisher, or in the queue.
#[actix_rt::test]
async fn a_result_that_ends_no_task_waits_for_no_commit() {
    let store = AilingStore::new();
    let hub = hub_on(store.clone()).await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[pooled("a", "p"), pooled("b", "p")], None).await;
    let id = hub.enqueue(ADMIN, "p", false).await;
    let first = publisher.task().await;
    store.is(Disk::Hangs);
    assert_eq!(publisher.post(&hub, &first, &json!({ "error": "backend not available" })).await, 200);
    let second = publisher.task().await;
    assert_ne!(first["llmName"], second["llmName"]);
    let back = publisher.post(&hub, &second, &json!({ "error": texts::SHUTTING_DOWN })).await;
    assert_eq!((back, shown(&hub, &id).await.as_str()), (200, "pending"));
    store.is(Disk::Healthy);
    hub.stop().await;
}
