//! Several hubs of one cluster, with real servers of PostgreSQL and NATS.

mod example;
mod faults;
mod limits;
mod orphans;
mod relays;
mod rig;
mod seen;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use awc::http::Method;
use nix::sys::signal::Signal;
use serde_json::json;
use testkit::client::ask;
use testkit::free_port;
use testkit::nats::{self, NatsServer};
use testkit::process::Home;
use testkit::team::{connected_registrar, start_registrar_with};
use testkit::wait::{eventually, wait_for, wait_within};
use tokio::task::spawn_local;
use tokio::time::Instant;

use rig::{Hub, chat, front, hubs, publisher};

#[actix_rt::test]
async fn three_hubs_are_one_to_callers_and_publishers() {
    let Some(nats) = nats::shared().await else { return };
    let Some((_database, hubs)) = hubs(&nats, &["a", "b", "c"]).await else { return };
    let [a, b, c] = &hubs[..] else { unreachable!() };

    // A token works at another hub at once.
    let made = b.admin().post("/api/v1/tokens", &json!({ "user": "alice" })).await.json();
    let secret = made["token"].as_str().unwrap();
    let alice = c.http(secret);
    assert_eq!(alice.get("/api/v1/whoami").await.status, 200);
    assert_eq!(c.http("vlt_none").get("/api/v1/whoami").await.status, 401);

    // Callers at any hub reach a publisher's row.
    let home = publisher(a.port, "slow", 40);
    let _slow = connected_registrar(&home).await;
    let home = publisher(a.port, "echo", 3);
    let _echo = connected_registrar(&home).await;
    for hub in &hubs {
        for name in ["slow", "echo"] {
            eventually("the row is active at each hub", async || hub.status(name).await == "active").await;
        }
        let whole = hub.admin().post("/v1/chat/completions", &chat("echo", false)).await;
        assert_eq!(whole.status, 200, "{whole:?}");
        assert_eq!(whole.json()["choices"][0]["message"]["content"], "hi hi hi");
        assert_eq!(whole.header("x-virtual-llm-row"), Some("echo"));
        let stream = hub.admin().post("/v1/chat/completions", &chat("echo", true)).await;
        assert_eq!(stream.events().last().map(|event| &*event.data), Some("[DONE]"), "{stream:?}");
        let ollama = hub.admin().post("/api/chat", &chat("echo", false)).await.json();
        assert_eq!(ollama["message"]["content"], "hi hi hi", "{ollama}");
        let models = hub.admin().get("/v1/models").await.json();
        assert!(models.to_string().contains("\"echo\""), "{models}");
    }
    // Nobody sees more at another hub.
    assert_eq!(alice.post("/v1/chat/completions", &chat("echo", false)).await.status, 404);

    // A name belongs to one user at all hubs.
    let other = json!({ "providers": [{ "name": "echo", "type": "openai", "model": "m" }] });
    let taken = alice.post("/api/v1/llms/_provider-register", &other).await;
    assert_eq!(taken.status, 409, "{taken:?}");

    // A durable task runs at the hub of its publisher, and any hub answers for it.
    let task = json!({ "llm": "slow", "request": { "messages": [{ "role": "user", "content": "hi" }] } });
    let task = b.admin().post("/api/v1/inference-tasks", &task).await;
    assert_eq!(task.status, 202, "{task:?}");
    let path = format!("/api/v1/inference-tasks/{}", task.json()["id"].as_str().unwrap());
    let status = async |hub: &Hub| hub.admin().get(&path).await.json()["status"].clone();
    eventually("another hub sees it run", async || status(c).await == "claimed").await;
    assert_eq!(b.admin().send(Method::DELETE, &path, None).await.status, 204);
    eventually("it is cancelled", async || status(a).await == "cancelled").await;

    // A revoked token ends a stream that runs through another hub.
    assert_eq!(alice.get("/api/v1/llms/slow").await.status, 200);
    let body = chat("slow", true).to_string();
    let mut stream = ask(c.port, secret, "POST /v1/chat/completions", "", Some(&body)).await.unwrap();
    assert_eq!(stream.status, 200);
    assert!(stream.next().await.unwrap().is_some());
    let id = made["id"].as_str().unwrap();
    let revoked = Instant::now();
    assert_eq!(a.admin().send(Method::DELETE, &format!("/api/v1/tokens/{id}"), None).await.status, 204);
    while let Ok(Some(_)) = stream.next().await {}
    assert!(revoked.elapsed() < Duration::from_secs(2), "{:?}", revoked.elapsed());
    for hub in &hubs {
        let refused = async || hub.http(secret).get("/api/v1/whoami").await.status == 401;
        eventually("the token is refused", refused).await;
    }
    assert!(revoked.elapsed() < Duration::from_secs(3), "{:?}", revoked.elapsed());
}

/// A load balancer that knows nothing of sessions sends each connection of a registrar to another hub.
#[actix_rt::test]
async fn registrars_need_no_sticky_sessions() {
    let Some(nats) = nats::shared().await else { return };
    let Some((_database, hubs)) = hubs(&nats, &["a", "b", "c"]).await else { return };
    let port = front(hubs.iter().map(|hub| hub.port).collect(), false).await;
    let mut registrars = Vec::new();
    for (name, transport) in [("one", "classic"), ("two", "classic"), ("three", "link"), ("four", "link")] {
        let home = publisher(port, name, 3);
        let registrar = start_registrar_with(&home, &["--transport", transport]);
        registrar.logs("control channel open").await;
        registrars.push((home, registrar));
    }
    for hub in &hubs {
        for name in ["one", "two", "three", "four"] {
            eventually("the row is active at each hub", async || hub.status(name).await == "active").await;
            for stream in [false, true] {
                let answer = hub.admin().post("/v1/chat/completions", &chat(name, stream)).await;
                assert_eq!(answer.status, 200, "{name}, {stream}: {answer:?}");
            }
        }
    }
    // Heartbeats arrive, whichever hub gets them: no row is lost.
    let beats = async || {
        let mut beats = Vec::new();
        for hub in &hubs {
            beats.push(hub.admin().get("/api/v1/llms/one").await.json()["lastHeartbeatAt"].clone());
        }
        beats
    };
    for _ in 0..3 {
        let before = beats().await;
        eventually("a heartbeat has come", async || beats().await != before).await;
    }
    for (_, registrar) in &registrars {
        assert!(!registrar.stderr().contains("WARN"), "{}", registrar.stderr());
    }
}

/// The hub of a publisher is killed: callers at another hub wait until the publisher is back, and none gets an error.
#[actix_rt::test]
async fn callers_at_other_hubs_survive_the_hub_of_a_publisher() {
    let Some(nats) = nats::shared().await else { return };
    let Some((_database, mut hubs)) = hubs(&nats, &["a", "b"]).await else { return };
    let home = publisher(front(vec![hubs[0].port, hubs[1].port], true).await, "echo", 3);
    let _registrar = connected_registrar(&home).await;
    eventually("the row is active", async || hubs[1].status("echo").await == "active").await;
    let http = hubs[1].admin();
    let answered = Rc::<Cell<u32>>::default();
    let mut running = Vec::new();
    for n in 0..20 {
        let (http, answered) = (http.clone(), answered.clone());
        running.push(spawn_local(async move {
            let mut failed = Vec::new();
            let end = Instant::now() + Duration::from_secs(3);
            while Instant::now() < end && failed.is_empty() {
                let answer = http.post("/v1/chat/completions", &chat("echo", n % 2 == 0)).await;
                answered.set(answered.get() + 1);
                if answer.status != 200 || answer.body.contains("\"error\"") {
                    failed.push(answer);
                }
            }
            failed
        }));
    }
    eventually("each caller was answered", async || answered.get() >= 40).await;
    hubs[0].process.signal(Signal::SIGKILL);
    hubs[0].process.ended().await;
    for caller in running {
        let failed = caller.await.unwrap();
        assert!(failed.is_empty(), "{failed:?}\n{}", hubs[1].process.stderr());
    }
    // It comes back as what it was.
    hubs[0].start_again().await;
    let http = hubs[0].admin();
    let status = async || http.post("/v1/chat/completions", &chat("echo", false)).await.status;
    eventually("it reaches the row", async || status().await == 200).await;
}

/// Without NATS each hub serves its own publishers and callers. A row that is new, or moves to another hub, does so through the
/// database.
#[actix_rt::test]
async fn without_nats_each_hub_is_an_island() {
    let Some(mut nats) = NatsServer::start() else { return };
    let Some((_database, mut hubs)) = hubs(&nats.url(), &["a", "b"]).await else { return };
    let home = publisher(front(vec![hubs[0].port, hubs[1].port], true).await, "echo", 3);
    let _registrar = connected_registrar(&home).await;
    let status =
        async |hub: &Hub| hub.admin().post("/v1/chat/completions", &chat("echo", false)).await.status;
    eventually("it is reached", async || status(&hubs[1]).await == 200).await;
    nats.kill();
    eventually("it is away", async || status(&hubs[1]).await == 503).await;
    assert_eq!(status(&hubs[0]).await, 200);
    // What is stored is shared nevertheless.
    let made = hubs[0].admin().post("/api/v1/tokens", &json!({ "user": "bob" })).await.json();
    assert_eq!(hubs[1].http(made["token"].as_str().unwrap()).get("/api/v1/whoami").await.status, 200);
    let new = json!({ "providers": [{ "name": "new", "type": "openai", "model": "m" }] });
    let registered = hubs[0].admin().post("/api/v1/llms/_provider-register", &new).await;
    assert_eq!(registered.status, 201, "{registered:?}");
    let known = async || (hubs[1].admin().get("/api/v1/llms/new").await.status == 200).then_some(());
    wait_within(Duration::from_secs(45), "the other hub has read it", known).await;
    hubs[0].process.signal(Signal::SIGKILL);
    hubs[0].process.ended().await;
    eventually("it has moved", async || status(&hubs[1]).await == 200).await;
    hubs[0].start_again().await;
    nats.run();
    eventually("it is reached again", async || status(&hubs[0]).await == 200).await;
}

#[actix_rt::test]
async fn hubs_with_and_without_a_network_refuse_each_other() {
    let Some(nats) = nats::shared().await else { return };
    let Some((database, hubs)) = hubs(&nats, &["a"]).await else { return };
    let cluster = hubs[0].options[1].clone();
    let home = Home::new();
    let file = home.write("database", &database.url()).display().to_string();
    let data = home.path().join("hub").display().to_string();
    let start =
        ["hub", "--listen", "127.0.0.1:0", "--data-dir", &data, "--cluster", &cluster, "--hub-id", "b"];
    let alone = home.run(&[&start[..], &["--database-url-file", &file]].concat()).await;
    assert_eq!(alone.code(), 1, "{alone:?}");
    assert!(
        alone.stderr.contains("hub 'a' of the cluster uses it: give --nats-url to this one too"),
        "{alone:?}"
    );
    for (url, word) in [("http://nats", "nats://HOST:4222"), ("", "nats://HOST:4222")] {
        let wrong =
            home.run(&[&start[..], &["--database-url-file", &file, "--nats-url", url]].concat()).await;
        assert!(wrong.code() == 2 && wrong.stderr.contains(word), "{wrong:?}");
    }
    // Not one server is there: the hub starts, and says so.
    let none = format!("nats://127.0.0.1:{}", free_port());
    let hub = home.start(&[&start[..], &["--database-url-file", &file, "--nats-url", &none]].concat());
    hub.logs("listens on").await;
    let told = async || hub.stderr().contains("no NATS server answers").then_some(());
    wait_for("the hub says that no server answers", told).await;
}
