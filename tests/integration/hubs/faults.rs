//! What is promised when a server or a hub fails.

mod stopped;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use testkit::nats::{self, NatsServer};
use testkit::postgres::Database;
use testkit::process::Process;
use testkit::proxy::{Network, Proxy};
use testkit::team::connected_registrar;
use testkit::wait::{eventually, wait_within};
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Instant, sleep};

use super::rig::{Hub, chat, hubs, hubs_at, publisher};

/// Time in which a hub notices what it lacks, and asks whether others have it: with a lease that is renewed each 5 s.
const NOTICED: Duration = Duration::from_secs(30);

async fn noticed(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    wait_within(NOTICED, what, async || is_so().await.then_some(())).await;
}

async fn ready(hub: &Hub) -> (u16, Value) {
    let answer = hub.admin().get("/readyz").await;
    (answer.status, answer.json())
}

async fn call(at: &Hub, name: &str) -> u16 {
    at.admin().post("/v1/chat/completions", &chat(name, false)).await.status
}

/// Whether all hubs are ready, and say so of what is missing.
async fn are_ready(hubs: &[Hub], nats: &str, store: &str) -> bool {
    for hub in hubs {
        if ready(hub).await != (200, json!({ "status": "ready", "nats": nats, "store": store })) {
            return false;
        }
    }
    true
}

/// A caller that calls all the time, and the calls that failed.
struct Caller {
    failed: Rc<RefCell<Vec<String>>>,
    calls: Rc<Cell<u32>>,
    running: JoinHandle<()>,
}

impl Caller {
    fn start(at: &Hub, name: &str) -> Self {
        let (failed, calls) = (Rc::<RefCell<Vec<String>>>::default(), Rc::<Cell<u32>>::default());
        let (http, body, of_task) = (at.admin(), chat(name, false), (failed.clone(), calls.clone()));
        let running = spawn_local(async move {
            loop {
                let answer = http.post("/v1/chat/completions", &body).await;
                of_task.1.set(of_task.1.get() + 1);
                if answer.status != 200 {
                    of_task.0.borrow_mut().push(format!("{answer:?}"));
                }
                sleep(Duration::from_millis(20)).await;
            }
        });
        Self { failed, calls, running }
    }

    /// Ends it. No call may have failed.
    fn stop(self, during: &str) {
        self.running.abort();
        let (calls, failed) = (self.calls.get(), self.failed.borrow());
        assert!(
            failed.is_empty() && calls > 10,
            "{during}: {calls} calls, {} failed: {:?}",
            failed.len(),
            failed.first()
        );
    }
}

/// How often a registrar's control channel was opened.
fn channels(registrar: &Process) -> usize {
    registrar.stderr().matches("control channel open").count()
}

/// F94: NATS is frozen, then killed: each hub is an island, none leaves the load balancer, and no channel is dropped.
#[actix_rt::test]
async fn hubs_whose_nats_fails_serve_what_they_have() {
    let Some(mut nats) = NatsServer::start() else { return };
    let Some((_database, hubs)) = hubs(&nats.url(), &["a", "b", "c"]).await else { return };
    let home = publisher(hubs[0].port, "echo", 3);
    let registrar = connected_registrar(&home).await;
    eventually("it is reached", async || call(&hubs[1], "echo").await == 200).await;
    let own = Caller::start(&hubs[0], "echo");
    for fault in ["frozen", "killed"] {
        if fault == "frozen" {
            nats.signal(Signal::SIGSTOP);
        } else {
            nats.kill();
        }
        noticed("all hubs miss NATS and stay ready", async || are_ready(&hubs, "away", "ok").await).await;
        eventually("another hub's publisher is out of reach", async || call(&hubs[1], "echo").await == 503)
            .await;
        // They stay so for longer than it takes to learn what others have.
        let until = Instant::now() + Duration::from_secs(9);
        while Instant::now() < until {
            assert!(are_ready(&hubs, "away", "ok").await, "{fault}");
            sleep(Duration::from_millis(300)).await;
        }
        if fault == "frozen" {
            nats.signal(Signal::SIGCONT);
        } else {
            nats.run();
        }
        noticed("all have NATS again", async || are_ready(&hubs, "ok", "ok").await).await;
        eventually("it is reached again", async || call(&hubs[1], "echo").await == 200).await;
    }
    own.stop("the hub's own publisher");
    assert_eq!(channels(&registrar), 1, "{}", registrar.stderr());
}

/// F95: one hub is cut off from NATS: it leaves the load balancer and serves what it has; its rows are inactive elsewhere.
#[actix_rt::test]
async fn a_hub_that_is_cut_off_from_nats_serves_what_it_has() {
    let Some(nats) = NatsServer::start() else { return };
    let Some(database) = Database::create().await else { return };
    let proxy = Proxy::to(nats.url().rsplit_once(':').unwrap().1.parse().unwrap()).await;
    let (url, direct, cut) = (database.url(), nats.url(), format!("127.0.0.1:{}", proxy.port()));
    let hubs = hubs_at(&database, &[("a", &url, &direct), ("b", &url, &direct), ("c", &url, &cut)]).await;
    let [a, b, c] = &hubs[..] else { unreachable!() };
    let homes = [publisher(a.port, "at-a", 3), publisher(c.port, "at-c", 3)];
    let registrars = [connected_registrar(&homes[0]).await, connected_registrar(&homes[1]).await];
    eventually("each reaches the other", async || {
        call(a, "at-c").await == 200 && call(c, "at-a").await == 200
    })
    .await;
    let callers = [Caller::start(b, "at-a"), Caller::start(c, "at-c")];
    proxy.set(Network::BlackHole);
    noticed("it leaves", async || ready(c).await.0 == 503).await;
    assert_eq!((ready(a).await.0, ready(b).await.0), (200, 200));
    noticed("its rows are inactive elsewhere", async || a.status("at-c").await == "inactive").await;
    assert_eq!(call(c, "at-a").await, 503);
    proxy.set(Network::Passes);
    noticed("it is back", async || are_ready(&hubs, "ok", "ok").await).await;
    eventually("each reaches the other", async || {
        call(a, "at-c").await == 200 && call(c, "at-a").await == 200
    })
    .await;
    for caller in callers {
        caller.stop("calls that need no NATS of the one that is cut off");
    }
    for registrar in &registrars {
        assert_eq!(channels(registrar), 1, "{}", registrar.stderr());
    }
}

/// F97: the database is frozen, gone, or read-only: calls go on also between hubs, and none leaves the load balancer.
#[actix_rt::test]
async fn hubs_whose_database_fails_serve_what_they_have() {
    let Some(nats) = nats::shared().await else { return };
    let Some(database) = Database::create().await else { return };
    let Some(port) = database.port() else { return };
    let proxy = Proxy::to(port).await;
    let url = database.url_at(proxy.port());
    let hubs = hubs_at(&database, &["a", "b", "c"].map(|id| (id, url.as_str(), nats.as_str()))).await;
    let [a, b, _] = &hubs[..] else { unreachable!() };
    let home = publisher(a.port, "echo", 3);
    let registrar = connected_registrar(&home).await;
    eventually("it is reached", async || call(b, "echo").await == 200).await;
    let callers = [Caller::start(a, "echo"), Caller::start(b, "echo")];
    let token =
        async |hub: &Hub| hub.admin().post("/api/v1/tokens", &json!({ "user": "alice" })).await.status;
    let read_only = async |is: &str| {
        // What makes it writable again has to be written, too.
        let alter = format!("ALTER DATABASE {} SET default_transaction_read_only = {is}", database.name());
        database.run(&format!("BEGIN READ WRITE; {alter}; COMMIT")).await;
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid()";
        database.run_anyway(sql).await;
    };
    for fault in ["frozen", "gone", "read-only"] {
        match fault {
            "frozen" => proxy.set(Network::BlackHole),
            "gone" => proxy.set(Network::Resets),
            _ => read_only("on").await,
        }
        noticed("all hubs miss the database and stay ready", async || are_ready(&hubs, "ok", "away").await)
            .await;
        assert_eq!(token(b).await, 503, "{fault}");
        let view = a.admin().get("/api/v1/cluster").await.json();
        assert_eq!(view["hubs"].as_array().unwrap().len(), 3, "{fault}: {view}");
        if fault == "read-only" {
            read_only("off").await;
        } else {
            // What was sent meanwhile is not let through.
            proxy.set(Network::Resets);
            proxy.set(Network::Passes);
        }
        noticed("all have it again", async || are_ready(&hubs, "ok", "ok").await).await;
        eventually("a token is made", async || token(b).await == 201).await;
    }
    for caller in callers {
        caller.stop("without the database");
    }
    assert_eq!(channels(&registrar), 1, "{}", registrar.stderr());
}

/// F98: one hub is cut off from the database: it leaves the load balancer, and what runs there goes on.
#[actix_rt::test]
async fn a_hub_that_is_cut_off_from_the_database_serves_what_it_has() {
    let Some(nats) = nats::shared().await else { return };
    let Some(database) = Database::create().await else { return };
    let Some(port) = database.port() else { return };
    let proxy = Proxy::to(port).await;
    let (direct, cut) = (database.url(), database.url_at(proxy.port()));
    let hubs = hubs_at(&database, &[("a", &direct, &nats), ("b", &direct, &nats), ("c", &cut, &nats)]).await;
    let [a, b, c] = &hubs[..] else { unreachable!() };
    let home = publisher(c.port, "echo", 3);
    let registrar = connected_registrar(&home).await;
    eventually("it is reached", async || call(a, "echo").await == 200).await;
    let callers = [Caller::start(a, "echo"), Caller::start(c, "echo")];
    proxy.set(Network::BlackHole);
    noticed("it leaves", async || ready(c).await.0 == 503).await;
    assert_eq!((ready(a).await.0, ready(b).await.0), (200, 200));
    proxy.set(Network::Resets);
    proxy.set(Network::Passes);
    noticed("it is back", async || are_ready(&hubs, "ok", "ok").await).await;
    for caller in callers {
        caller.stop("of a hub without the database");
    }
    assert_eq!(channels(&registrar), 1, "{}", registrar.stderr());
}
