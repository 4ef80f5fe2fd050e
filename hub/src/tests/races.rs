//! Changes that two threads make at once reach the store in order.

use std::sync::{Arc, OnceLock, Weak, mpsc};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::json;
use tokio::runtime::Handle;
use wire::texts;

use super::interceptor::StoreInterceptor;
use super::publisher::{Publisher, provider, report};
use super::support::{ADMIN, TestHub, eventually, hub_on};
use crate::Hub;
use crate::model::{Caller, Role, TaskStatus};
use crate::store::{Change, SqliteStore, Store, StoreFuture};

type Interruption = Box<dyn FnOnce() + Send>;

/// A store that runs `act` on another thread just before it writes a task in state `when`.
struct InterruptedStore {
    store: SqliteStore,
    when: TaskStatus,
    act: Mutex<Option<Interruption>>,
    hub: OnceLock<Weak<Hub>>,
    /// Changes of rows and sessions that were enqueued while the registry was not locked.
    unlocked: Mutex<Vec<Change>>,
}

/// Longest wait for `act`, which may itself wait for a lock that the storing thread holds.
const MOMENT: Duration = Duration::from_millis(100);

impl InterruptedStore {
    fn new(when: TaskStatus) -> Arc<Self> {
        Arc::new(Self {
            store: SqliteStore::in_memory().unwrap(),
            when,
            act: Mutex::default(),
            hub: OnceLock::new(),
            unlocked: Mutex::default(),
        })
    }

    fn interrupt(&self, changes: &[Change]) {
        let is_due = |change: &Change| match change {
            Change::PutTask(task) => task.state == self.when,
            Change::ClaimTask { .. } => self.when == TaskStatus::Claimed,
            Change::UnclaimTask(_) => self.when == TaskStatus::Pending,
            _ => false,
        };
        if !changes.iter().any(is_due) {
            return;
        }
        let Some(act) = self.act.lock().take() else { return };
        let (done, waits) = mpsc::channel();
        let runtime = Handle::current();
        std::thread::spawn(move || {
            let _entered = runtime.enter();
            act();
            let _ = done.send(());
        });
        let _ = waits.recv_timeout(MOMENT);
    }
}

impl StoreInterceptor for InterruptedStore {
    fn store(&self) -> &SqliteStore {
        &self.store
    }

    fn intercept(&self, is_write_behind: bool, changes: Vec<Change>) -> StoreFuture<()> {
        self.interrupt(&changes);
        self.on_coalesced(&changes);
        if is_write_behind { self.store.write_behind(changes) } else { self.store.write(changes) }
    }

    fn on_coalesced(&self, changes: &[Change]) {
        let Some(hub) = self.hub.get().and_then(Weak::upgrade) else { return };
        let is_registry_change = |change: &&Change| {
            !matches!(
                change,
                Change::NewTask { .. }
                    | Change::PutTask(_)
                    | Change::ClaimTask { .. }
                    | Change::UnclaimTask(_)
                    | Change::DeleteTask(_)
                    | Change::PutToken(_)
                    | Change::Audit(_)
            )
        };
        if !hub.registry.is_locked() {
            self.unlocked.lock().extend(changes.iter().filter(is_registry_change).cloned());
        }
    }
}

async fn enqueue(hub: &TestHub) -> String {
    let body = json!({ "llm": "a", "request": { "messages": [{ "role": "user", "content": "hello" }] } });
    let (_, answer) = hub.ask("POST", "/api/v1/inference-tasks").body(body.to_string()).json().await;
    answer["id"].as_str().unwrap().to_owned()
}

/// Cancels the task just before the store writes it.
fn cancel_at_write(hub: &TestHub, store: &InterruptedStore, id: &str) {
    let (hub, id) = (Arc::clone(hub.core()), id.to_owned());
    let admin = Caller {
        user: "admin".into(),
        role: Role::Admin,
        token_id: "test".into(),
        models: crate::model::AllowedModels::default(),
        secret: None,
    };
    *store.act.lock() = Some(Box::new(move || assert!(hub.cancel_task(&admin, &id).is_some())));
}

async fn assert_stays_cancelled(store: &InterruptedStore, id: &str) {
    eventually("the cancellation has run", async || store.act.lock().is_none()).await;
    eventually("the stored task is cancelled and has no request", async || {
        let task = store.task(id).await.unwrap().unwrap();
        (task.state, task.request) == (TaskStatus::Cancelled, None)
    })
    .await;
}

/// P1, P2: a task that is cancelled while its claim is written stays cancelled, and its request is deleted.
#[actix_rt::test]
async fn a_task_cancelled_while_it_is_claimed_stays_cancelled() {
    let store = InterruptedStore::new(TaskStatus::Claimed);
    let hub = hub_on(store.clone()).await;
    let mut publisher = Publisher::register(&hub, ADMIN, None, &[provider("a")]).await;
    let id = enqueue(&hub).await;
    cancel_at_write(&hub, &store, &id);
    publisher.open(&hub, None).await;
    assert_stays_cancelled(&store, &id).await;
    hub.stop().await;
}

/// P1, P2: a task that is cancelled while it becomes pending again stays cancelled, and its request is deleted.
#[actix_rt::test]
async fn a_task_cancelled_while_it_is_requeued_stays_cancelled() {
    let store = InterruptedStore::new(TaskStatus::Pending);
    let hub = hub_on(store.clone()).await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    let id = enqueue(&hub).await;
    let sent = publisher.task().await;
    cancel_at_write(&hub, &store, &id);
    publisher.post(&hub, &sent, &json!({ "error": texts::SHUTTING_DOWN })).await;
    assert_stays_cancelled(&store, &id).await;
    hub.stop().await;
}

/// Changes of rows and sessions are enqueued while the registry is locked, so that they are in its order.
#[actix_rt::test]
async fn changes_reach_the_store_in_the_order_of_the_registry() {
    let store = InterruptedStore::new(TaskStatus::Completed);
    let hub = hub_on(store.clone()).await;
    store.hub.set(Arc::downgrade(hub.core())).unwrap();
    let publisher = Publisher::start(&hub, ADMIN, &[provider("a")], Some("status,drain")).await;
    let status = json!({ "providers": [report("a", "hibernating", 0, 1)] });
    assert_eq!(publisher.beat(&hub, status).await, 200);
    hub.drop_channel(&publisher.session);
    hub.until_status("a", "inactive").await;
    let llm = json!({ "name": "p", "type": "openai", "url": "http://127.0.0.1:9", "model": "m" }).to_string();
    let agent = json!({ "name": "helper", "llmName": "p" }).to_string();
    for (method, path, body, status) in [
        ("POST", "/api/v1/llms", llm.as_str(), 201),
        ("PUT", "/api/v1/llms/p", llm.as_str(), 200),
        ("POST", "/api/v1/agents", agent.as_str(), 201),
        ("PUT", "/api/v1/agents/helper", agent.as_str(), 200),
        ("DELETE", "/api/v1/agents/helper", "", 204),
        ("DELETE", "/api/v1/llms/p", "", 204),
        ("DELETE", "/api/v1/llms/a", "", 204),
    ] {
        let (got, said) = hub.ask(method, path).body(body).send().await;
        assert_eq!(got, status, "{method} {path}: {said}");
    }
    assert!(store.unlocked.lock().is_empty(), "{:?}", store.unlocked.lock());
    hub.stop().await;
}
