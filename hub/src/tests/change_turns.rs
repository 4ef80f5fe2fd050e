//! Changes of one user that wait for the store are bounded, and other users do not wait for more than that.

use std::sync::Arc;

use futures_util::future::join_all;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::http::Ask;
use super::interceptor::StoreInterceptor;
use super::publisher::provider;
use super::support::{ADMIN, TASKS, TestHub, eventually, hub, hub_on};
use crate::model::{Caller, Role};
use crate::store::{Change, SqliteStore, Store, StoreFuture};

const REGISTER: &str = "/api/v1/llms/_provider-register";
/// Number of register calls in a flood.
const FLOOD: usize = 40;
/// Each body of the flood is larger, but not twice as large.
const SMALL: usize = 2 << 10;

/// A store that takes lists of changes at any time and commits the first `committed` of them.
pub(super) struct GatedStore {
    store: SqliteStore,
    /// Number of lists that the store has got.
    taken: Mutex<usize>,
    committed: watch::Sender<usize>,
}

impl GatedStore {
    pub(super) fn new() -> Arc<Self> {
        let store = SqliteStore::in_memory().unwrap();
        Arc::new(Self { store, taken: Mutex::default(), committed: watch::Sender::new(usize::MAX) })
    }

    pub(super) fn taken(&self) -> usize {
        *self.taken.lock()
    }

    /// Commits no further list.
    pub(super) fn stop(&self) -> usize {
        let taken = self.taken.lock();
        self.committed.send_replace(*taken);
        *taken
    }

    /// Commits `more` lists.
    pub(super) fn commit(&self, more: usize) {
        self.committed.send_modify(|committed| *committed = committed.saturating_add(more));
    }
}

impl StoreInterceptor for GatedStore {
    fn store(&self) -> &SqliteStore {
        &self.store
    }

    fn intercept(&self, is_write_behind: bool, changes: Vec<Change>) -> StoreFuture<()> {
        let mut taken = self.taken.lock();
        *taken += 1;
        let (number, mut committed) = (*taken, self.committed.subscribe());
        let written =
            if is_write_behind { self.store.write_behind(changes) } else { self.store.write(changes) };
        Box::pin(async move {
            let _ = committed.wait_for(|committed| *committed >= number).await;
            written.await
        })
    }
}

/// Register calls of one session, which name two sets of rows in turn. Each is too large for a turn of small calls.
fn flood(hub: &TestHub, token: &str) -> Vec<Ask> {
    let call = |set: &str| {
        let rows: Vec<Value> = (0..30).map(|row| provider(&format!("{set}-{row}"))).collect();
        let body = json!({ "providerSessionId": "sess-flood", "providers": rows }).to_string();
        assert!((SMALL + 1..2 * SMALL).contains(&body.len()), "{}", body.len());
        hub.ask_as(token, "POST", REGISTER).body(body)
    };
    ["a", "b"].into_iter().cycle().take(FLOOD).map(call).collect()
}

/// Bytes of the user's bodies that the hub holds, but for those of inferences.
fn held(hub: &TestHub, user: &str) -> usize {
    hub.core().quotas.results.taken_by(user)
}

/// Whether a call of the user is under way.
pub(super) fn has_calls(hub: &TestHub, user: &str) -> bool {
    hub.core().quotas.heads.taken_by(user) > 0
}

/// Sends the flood, and waits until the hub has read all of it.
async fn send(hub: &TestHub, token: &str) -> Vec<TcpStream> {
    let calls = flood(hub, token);
    let streams = join_all(calls.iter().map(Ask::begin)).await;
    let all = FLOOD * SMALL;
    eventually("all calls wait, and their bodies count", async || held(hub, "mallory") >= all).await;
    streams
}

/// A27, P7: of a user's register calls, however many, the store has one at a time, also if the callers leave; another user's
/// write is behind that one, and each further call has its turn after a commit.
#[actix_rt::test]
async fn a_flood_of_register_calls_queues_one_write_at_a_time() {
    let store = GatedStore::new();
    let hub = hub_on(store.clone()).await;
    let (mallory, bob) = (hub.member("mallory").await, hub.member("bob").await);
    // Without a channel, so that no task runs.
    assert_eq!(hub.register(ADMIN, &json!({ "providers": [provider("shared")] })).await.0, 201);
    let before = store.stop();
    let calls = send(&hub, &mallory).await;
    assert_eq!(store.taken(), before + 1);
    let task = json!({ "llm": "shared", "request": { "messages": [] } }).to_string();
    let task = hub.ask_as(&bob, "POST", TASKS).body(task);
    let task = actix_rt::spawn(async move { task.send().await });
    eventually("the task is behind one call", async || store.taken() == before + 2).await;
    store.commit(2);
    assert_eq!(task.await.unwrap().0, 202);
    eventually("the next call has its turn", async || store.taken() == before + 3).await;
    // The write of a caller that has left keeps its turn, and its body counts.
    drop(calls);
    for _ in 0..2 {
        eventually("all callers are gone", async || !has_calls(&hub, "mallory")).await;
        assert!((SMALL..2 * SMALL).contains(&held(&hub, "mallory")), "{}", held(&hub, "mallory"));
        assert_eq!(store.taken(), before + 3);
        drop(send(&hub, &mallory).await);
    }
    store.commit(usize::MAX);
    eventually("nothing is held", async || held(&hub, "mallory") == 0).await;
    hub.stop().await;
}

/// A register call that names no rows: the hub drops those of its session.
fn drop_all(hub: &TestHub, token: &str, session: &str) -> Ask {
    let body = json!({ "providerSessionId": session, "providers": [] }).to_string();
    hub.ask_as(token, "POST", REGISTER).body(body)
}

/// Registers 256 rows for the session.
async fn fill(hub: &TestHub, token: &str, session: &str) {
    let rows: Vec<Value> = (0..256).map(|row| provider(&format!("{session}-{row}"))).collect();
    let body = json!({ "providerSessionId": session, "providers": rows });
    assert_eq!(hub.register(token, &body).await.0, 201);
}

/// A27, P7: short calls that drop hundreds of rows take turns as large ones do: the store has one at a time.
#[actix_rt::test]
async fn short_calls_that_drop_many_rows_queue_one_write_at_a_time() {
    let store = GatedStore::new();
    let hub = hub_on(store.clone()).await;
    let mallory = hub.member("mallory").await;
    for session in ["one", "two"] {
        fill(&hub, &mallory, session).await;
    }
    let before = store.stop();
    let calls = ["one", "two"].map(|session| drop_all(&hub, &mallory, session));
    let calls = actix_rt::spawn(async move { futures_util::join!(calls[0].send(), calls[1].send()) });
    // Each has more than 40 bytes.
    eventually("the hub has read both calls", async || held(&hub, "mallory") > 80).await;
    assert_eq!(store.taken(), before + 1);
    store.commit(1);
    eventually("the second call has its turn", async || store.taken() == before + 2).await;
    store.commit(usize::MAX);
    let (one, two) = calls.await.unwrap();
    assert_eq!((one.0, two.0), (201, 201));
    hub.stop().await;
}

/// A27: a short call waits for a longer turn if its session has grown while it waited for a short one.
#[actix_rt::test]
async fn a_call_whose_session_has_grown_waits_for_a_longer_turn() {
    let hub = hub().await;
    let mallory = hub.member("mallory").await;
    let [small, large] = [0, SMALL + 1].map(|size| hub.core().change_turns.of(size, 0));
    let mut turns = Vec::new();
    for _ in 0..16 {
        turns.push(small.acquire("mallory").await);
    }
    let call = drop_all(&hub, &mallory, "grows");
    let call = actix_rt::spawn(async move { call.send().await });
    eventually("the call waits", async || held(&hub, "mallory") > 0).await;
    // The change is made directly: a request would come too late, since the call waits for some seconds only.
    let rows: Vec<Value> = (0..60).map(|row| provider(&format!("row-{row}"))).collect();
    let rows = json!({ "providerSessionId": "grows", "providers": rows });
    let (core, rows) = (hub.core(), serde_json::from_value(rows).unwrap());
    let owner = Caller {
        user: "mallory".into(),
        role: Role::Member,
        token_id: "test".into(),
        models: crate::model::AllowedModels::default(),
        secret: None,
    };
    core.registry.lock().register(&owner, &rows, &crate::random::id, core.now()).unwrap();
    let turn = large.acquire("mallory").await;
    drop(turns);
    eventually("the call gives its turn back", async || !small.is_held_by("mallory")).await;
    let registered = || core.registry.lock().session_llms("grows").len();
    assert_eq!(registered(), 60);
    drop(turn);
    assert_eq!(call.await.unwrap().0, 201);
    assert_eq!(registered(), 0);
    hub.stop().await;
}

/// A27: a call that waits too long for its turn is refused with a reason.
#[actix_rt::test]
async fn a_register_call_without_a_turn_is_refused() {
    let store = GatedStore::new();
    let hub = hub_on(store.clone()).await;
    let mallory = hub.member("mallory").await;
    store.stop();
    let calls = flood(&hub, &mallory);
    let _first = calls[0].begin().await;
    eventually("the store has the first call", async || store.taken() > *store.committed.borrow()).await;
    let (status, refused) = calls[1].json().await;
    assert_eq!(status, 429, "{refused}");
    let text = "your earlier calls that register or change something are not written yet: try again later";
    assert_eq!(refused["error"], text);
    store.commit(usize::MAX);
    hub.stop().await;
}

/// A27: a call that waits too long for other users' calls alone is not told to wait for its own.
#[actix_rt::test]
async fn a_register_call_that_waits_for_other_users_alone_gets_503() {
    let hub = hub().await;
    let mallory = hub.member("mallory").await;
    let turns = hub.core().change_turns.of(SMALL + 1, 0);
    let others = (0..8).map(async |user| turns.acquire(&format!("user-{user}")).await);
    let _others = join_all(others).await;
    let (status, refused) = flood(&hub, &mallory).swap_remove(0).json().await;
    assert_eq!((status, &refused["error"]), (503, &json!("the hub is busy, try again later")));
    hub.stop().await;
}

/// A27: a call that waits for its turn changes nothing if its token is revoked meanwhile.
#[actix_rt::test]
async fn a_register_call_whose_token_is_revoked_while_it_waits_is_refused() {
    let hub = hub().await;
    let mallory = hub.member("mallory").await;
    let turn = hub.core().change_turns.of(SMALL + 1, 0).acquire("mallory").await;
    let call = flood(&hub, &mallory).swap_remove(0);
    let call = actix_rt::spawn(async move { call.send().await });
    eventually("the call waits", async || held(&hub, "mallory") > SMALL).await;
    hub.revoke("mallory").await;
    drop(turn);
    assert_eq!(call.await.unwrap().0, 401);
    hub.stop().await;
}

/// A24, A27: the request of a durable task counts until it is on disk, also if its caller leaves.
#[actix_rt::test]
async fn the_request_of_a_durable_task_counts_until_its_commit() {
    const SIZE: usize = 300 << 10;
    let store = GatedStore::new();
    let hub = hub_on(store.clone()).await;
    let mallory = hub.member("mallory").await;
    assert_eq!(hub.register(ADMIN, &json!({ "providers": [provider("a")] })).await.0, 201);
    let before = store.stop();
    let body = json!({ "llm": "a", "request": { "messages": [], "user": "x".repeat(SIZE) } }).to_string();
    let call = hub.ask_as(&mallory, "POST", TASKS).body(body).begin().await;
    eventually("the store has the task", async || store.taken() == before + 1).await;
    drop(call);
    eventually("its caller is gone", async || !has_calls(&hub, "mallory")).await;
    let requests = || hub.core().quotas.requests.taken_by("mallory");
    assert!(requests() >= SIZE, "{}", requests());
    store.commit(usize::MAX);
    eventually("nothing is held", async || requests() == 0).await;
    hub.stop().await;
}
