//! The end of a durable task is acknowledged after its commit.

mod races;
mod streams;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::timeout;
use wire::link::BodyKind;
use wire::texts;

use super::http::Ask;
use super::interceptor::StoreInterceptor;
use super::link::peer::Peer;
use super::publisher::{Publisher, chunk, completion, pooled, provider};
use super::support::{ADMIN, TASKS, TestHub, eventually, hub_on};
use crate::model::TaskStatus;
use crate::store::{Change, SqliteStore, Store, StoreError, StoreFuture};
use crate::tasks::HUB_RESTARTED;

/// A request that is not answered within this time is taken to wait for the store.
const MOMENT: Duration = Duration::from_millis(150);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Disk {
    Healthy,
    Hangs,
    Full,
}

/// A store on a disk that hangs or is full at times. Writes are applied in order; write-behind changes are never lost.
struct FaultyStore {
    store: Arc<SqliteStore>,
    /// Changes that wait for the disk, each with whether it is write-behind.
    held: Mutex<Vec<(bool, Vec<Change>)>>,
    disk: watch::Sender<Disk>,
}

impl FaultyStore {
    fn new() -> Arc<Self> {
        let store = Arc::new(SqliteStore::in_memory().unwrap());
        Arc::new(Self { store, held: Mutex::default(), disk: watch::Sender::new(Disk::Healthy) })
    }

    fn set_disk(&self, disk: Disk) {
        let mut held = self.held.lock();
        match disk {
            Disk::Healthy => held.drain(..).for_each(|(_, changes)| drop(self.store.write_behind(changes))),
            Disk::Full => held.retain(|(is_write_behind, _)| *is_write_behind),
            Disk::Hangs => (),
        }
        self.disk.send_replace(disk);
    }
}

impl StoreInterceptor for FaultyStore {
    fn store(&self) -> &SqliteStore {
        &self.store
    }

    fn intercept(&self, is_write_behind: bool, changes: Vec<Change>) -> StoreFuture<()> {
        let mut held = self.held.lock();
        let disk = *self.disk.borrow();
        match disk {
            Disk::Healthy if is_write_behind => return self.store.write_behind(changes),
            Disk::Healthy => return self.store.write(changes),
            Disk::Hangs => held.push((is_write_behind, changes)),
            Disk::Full if is_write_behind => held.push((is_write_behind, changes)),
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

/// The status of a task as its owner sees it. Checks that the list and the task's own page agree.
async fn status_of(hub: &TestHub, id: &str) -> String {
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
}

impl End {
    const ALL: [Self; 3] = [Self::Answer, Self::Error, Self::Done];

    const fn is_streamed(self) -> bool {
        matches!(self, Self::Done)
    }

    const fn state(self) -> &'static str {
        if matches!(self, Self::Error) { "error" } else { "completed" }
    }

    /// The request by which the publisher ends `task`.
    fn ask(self, hub: &TestHub, task: &Value) -> Ask {
        let result = |result: Value| {
            let path = format!("/api/v1/llms/_provider-task/{}/result", task["taskId"].as_str().unwrap());
            hub.ask("POST", path).body(result.to_string())
        };
        match self {
            Self::Answer => result(json!({ "status": 200, "body": completion("hello") })),
            Self::Error => result(json!({ "error": "it broke" })),
            Self::Done => result(json!({ "chunk": { "data": "[DONE]", "done": true } })),
        }
    }
}

/// Creates a task and waits until the publisher has it. Returns the durable task's id and the publisher's task.
async fn start_task(hub: &TestHub, publisher: &mut Publisher, end: End) -> (String, Value) {
    let id = hub.enqueue(ADMIN, "a", end.is_streamed()).await;
    let task = publisher.task().await;
    if matches!(end, End::Done) {
        assert_eq!(publisher.chunk(hub, &task, "one").await, 200);
        eventually("the task runs", async || status_of(hub, &id).await == "running").await;
    }
    (id, task)
}

/// P1: a publisher's final result is acknowledged after the commit, and only then the task is shown as ended.
#[actix_rt::test]
async fn a_durable_task_ends_when_its_end_is_committed() {
    for end in End::ALL {
        let store = FaultyStore::new();
        let hub = hub_on(store.clone()).await;
        let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], Some("cancel")).await;
        let (id, task) = start_task(&hub, &mut publisher, end).await;
        let before = if end.is_streamed() { "running" } else { "claimed" };
        let mut reader = hub.ask("GET", format!("{}/stream", path(&id))).open().await;
        if matches!(end, End::Done) {
            reader.until("one").await;
        }
        store.set_disk(Disk::Hangs);
        let ask = end.ask(&hub, &task);
        let mut answer = Box::pin(ask.send());
        assert!(timeout(MOMENT, &mut answer).await.is_err(), "{end:?}: acknowledged before the commit");
        assert_eq!(status_of(&hub, &id).await, before, "{end:?}");
        assert!(
            timeout(MOMENT, reader.rest()).await.is_err(),
            "{end:?}: the reader's stream ended before the commit"
        );
        store.set_disk(Disk::Healthy);
        assert_eq!(answer.await.0, 200, "{end:?}");
        let (_, task) = hub.ask("GET", path(&id)).json().await;
        assert_eq!(task["status"], end.state(), "{end:?}: not ended right after the acknowledgement");
        hub.stop().await;
    }
}

/// P1, F63: while the end cannot be committed, the publisher gets 503 and the task does not end; it ends with the first
/// result that can be committed.
#[actix_rt::test]
async fn an_end_that_cannot_be_committed_is_retried() {
    for end in End::ALL {
        let store = FaultyStore::new();
        let hub = hub_on(store.clone()).await;
        let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], Some("cancel")).await;
        let (id, task) = start_task(&hub, &mut publisher, end).await;
        let before = if end.is_streamed() { "running" } else { "claimed" };
        store.set_disk(Disk::Full);
        let other = if matches!(end, End::Error) { End::Answer } else { End::Error };
        for _ in 0..3 {
            let refused = end.ask(&hub, &task).open().await;
            assert!(
                refused.status == 503 && refused.head.contains("retry-after: "),
                "{end:?}: {}",
                refused.head
            );
            let mut refused = refused;
            let text = refused.rest().await;
            assert!(text.contains(r#""code":"store_unavailable""#), "{text}");
            assert_eq!(status_of(&hub, &id).await, before);
        }
        let refused = other.ask(&hub, &task).send().await;
        assert_eq!(refused.0, 409, "{end:?}: another result is accepted after the first");
        store.set_disk(Disk::Healthy);
        let taken = end.ask(&hub, &task).send().await;
        assert_eq!(taken, (200, r#"{"ok":true,"duplicate":true}"#.to_owned()), "{end:?}");
        let (_, task) = hub.ask("GET", path(&id)).json().await;
        assert_eq!(task["status"], end.state(), "{end:?}: {task}");
        if end.is_streamed() {
            assert_eq!(task["result"]["chunks"].as_array().unwrap().len(), 1);
        }
        hub.stop().await;
    }
}

/// P1, F66: a hub that dies before the commit has acknowledged no end; the next hub ends the task with the error
/// `HUB_RESTARTED` and answers its result with 404.
#[actix_rt::test]
async fn a_hub_that_dies_before_a_commit_has_acknowledged_nothing() {
    let store = FaultyStore::new();
    let hub = hub_on(store.clone()).await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    let (id, task) = start_task(&hub, &mut publisher, End::Answer).await;
    store.set_disk(Disk::Full);
    assert_eq!(End::Answer.ask(&hub, &task).send().await.0, 503);
    hub.stop().await;
    // Changes that a full disk never took are lost.
    store.held.lock().clear();
    store.set_disk(Disk::Healthy);
    let hub = hub_on(store.store.clone()).await;
    assert_eq!(End::Answer.ask(&hub, &task).send().await.0, 404);
    let (_, task) = hub.ask("GET", path(&id)).json().await;
    assert_eq!((task["status"].as_str(), task["error"].as_str()), (Some("error"), Some(HUB_RESTARTED)));
    hub.stop().await;
}

/// The result is acknowledged at once if the task is retried, at another member or in the queue.
#[actix_rt::test]
async fn a_result_that_does_not_end_the_task_is_acknowledged_at_once() {
    let store = FaultyStore::new();
    let hub = hub_on(store.clone()).await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[pooled("a", "p"), pooled("b", "p")], None).await;
    let id = hub.enqueue(ADMIN, "p", false).await;
    let first = publisher.task().await;
    store.set_disk(Disk::Hangs);
    assert_eq!(publisher.post(&hub, &first, &json!({ "error": "backend not available" })).await, 200);
    let second = publisher.task().await;
    assert_ne!(first["llmName"], second["llmName"]);
    let back = publisher.post(&hub, &second, &json!({ "error": texts::SHUTTING_DOWN })).await;
    assert_eq!((back, status_of(&hub, &id).await.as_str()), (200, "pending"));
    store.set_disk(Disk::Healthy);
    hub.stop().await;
}

/// F63: a register call that changes nothing is not confirmed while the changes of an earlier one are not written.
#[actix_rt::test]
async fn a_register_call_is_confirmed_only_when_earlier_ones_are_written() {
    let store = FaultyStore::new();
    let hub = hub_on(store.clone()).await;
    let body = json!({ "providerSessionId": "sess-aaaaaaaa", "providers": [provider("a")] });
    store.set_disk(Disk::Full);
    for _ in 0..2 {
        assert_eq!(hub.register(ADMIN, &body).await.0, 503);
    }
    store.set_disk(Disk::Healthy);
    assert_eq!(hub.register(ADMIN, &body).await.0, 201);
    hub.stop().await;
}
