//! What others do while a hub is stopped or dead.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;
use testkit::client::ask;
use testkit::nats;
use testkit::team::{ADMIN, connected_registrar};
use testkit::wait::eventually;
use tokio::time::{Instant, sleep};

use super::{Caller, call, channels, noticed};
use crate::hubs::rig::{chat, hubs, publisher};

/// F93: a hub that is stopped for a moment, and misses fewer than three beats, delays what others passed on to it, and ends nothing.
#[actix_rt::test]
async fn a_hub_that_is_stopped_for_a_moment_ends_nothing() {
    let Some(nats) = nats::shared().await else { return };
    let Some((_database, hubs)) = hubs(&nats, &["a", "b"]).await else { return };
    let [a, b] = &hubs[..] else { unreachable!() };
    let homes = [publisher(a.port, "echo", 3), publisher(a.port, "slow", 60)];
    let registrars = [connected_registrar(&homes[0]).await, connected_registrar(&homes[1]).await];
    eventually("they are reached", async || {
        call(b, "echo").await == 200 && b.status("slow").await == "active"
    })
    .await;
    let body = chat("slow", true).to_string();
    let mut stream = ask(b.port, ADMIN, "POST /v1/chat/completions", "", Some(&body)).await.unwrap();
    assert!(stream.next().await.unwrap().is_some());
    let caller = Caller::start(b, "echo");
    a.process.signal(Signal::SIGSTOP);
    sleep(Duration::from_millis(1500)).await;
    a.process.signal(Signal::SIGCONT);
    let mut text = String::new();
    while let Some(piece) = stream.next().await.expect("the stream goes on") {
        text.push_str(&String::from_utf8_lossy(&piece));
    }
    assert!(text.contains("[DONE]"), "{text}");
    caller.stop("while a hub was stopped for a moment");
    for registrar in &registrars {
        assert_eq!(channels(registrar), 1, "{}", registrar.stderr());
    }
}

/// F93: one that is stopped for 20 s is missed by the others, which go on; it reads what they changed when it goes on itself.
#[actix_rt::test]
async fn a_hub_that_is_stopped_for_20_s_fails_no_call_of_others() {
    let Some(nats) = nats::shared().await else { return };
    let Some((_database, hubs)) = hubs(&nats, &["a", "b"]).await else { return };
    let [a, b] = &hubs[..] else { unreachable!() };
    let homes = [publisher(a.port, "at-a", 3), publisher(b.port, "at-b", 3)];
    let _registrars = [connected_registrar(&homes[0]).await, connected_registrar(&homes[1]).await];
    eventually("they are reached", async || call(b, "at-a").await == 200 && call(a, "at-b").await == 200)
        .await;
    let caller = Caller::start(b, "at-b");
    a.process.signal(Signal::SIGSTOP);
    let stopped = Instant::now();
    let state = async || {
        let view = b.admin().get("/api/v1/cluster").await.json();
        let hubs = view["hubs"].as_array().unwrap();
        hubs.iter().find(|hub| hub["id"] == "a").map(|hub| hub["state"].clone()).unwrap_or_default()
    };
    eventually("it is suspect", async || state().await == "suspect").await;
    let made = b.admin().post("/api/v1/tokens", &json!({ "user": "alice" })).await.json();
    noticed("its rows are inactive", async || b.status("at-a").await == "inactive").await;
    sleep(Duration::from_secs(20).saturating_sub(stopped.elapsed())).await;
    a.process.signal(Signal::SIGCONT);
    noticed("it serves, and has what was changed", async || {
        let alice = a.http(made["token"].as_str().unwrap());
        call(b, "at-a").await == 200
            && call(a, "at-b").await == 200
            && alice.get("/api/v1/whoami").await.status == 200
    })
    .await;
    assert!(a.process.stderr().contains("this hub was stopped for a while"), "{}", a.process.stderr());
    caller.stop("while the other hub was stopped for 20 s");
}

/// F92: the hub of callers is killed: its calls end at their publisher, and what comes of them is refused, so that nothing runs twice.
#[actix_rt::test]
async fn calls_end_with_the_hub_of_their_callers() {
    let Some(nats) = nats::shared().await else { return };
    let Some((_database, mut hubs)) = hubs(&nats, &["a", "b"]).await else { return };
    let home = publisher(hubs[0].port, "slow", 400);
    let _registrar = connected_registrar(&home).await;
    eventually("it is reached", async || hubs[1].status("slow").await == "active").await;
    let body = chat("slow", true).to_string();
    let mut stream = ask(hubs[1].port, ADMIN, "POST /v1/chat/completions", "", Some(&body)).await.unwrap();
    assert!(stream.next().await.unwrap().is_some());
    hubs[1].process.signal(Signal::SIGKILL);
    hubs[1].process.ended().await;
    let busy = async || {
        let row = hubs[0].admin().get("/metrics").await.body;
        row.contains("virtual_llm_requests_in_flight 1\n")
    };
    assert!(stream.next().await.is_err() || stream.next().await.is_err(), "the caller loses its connection");
    noticed("the call ends at the publisher's hub", async || !busy().await).await;
    hubs[1].start_again().await;
    eventually("the hub serves again", async || hubs[1].status("slow").await == "active").await;
}
