//! Limits of users and tokens over several hubs.

use std::time::Duration;

use awc::http::Method;
use serde_json::{Value, json};
use testkit::nats;
use testkit::process::Home;
use testkit::team::{ADMIN, connected_registrar};
use testkit::wait::{eventually, wait_within};
use tokio::time::Instant;

use super::rig::{Hub, chat, hubs};

/// Time for a change at one hub to be at another one: a second, and some for a busy machine.
const SOON: Duration = Duration::from_secs(3);

/// A registrar's home with a public mock that answers `tokens` words at `speed` words a second.
fn public_mock(port: u16, name: &str, tokens: u32, speed: u32) -> Home {
    let home = Home::new();
    home.credentials(&format!("http://127.0.0.1:{port}"), ADMIN);
    home.providers(&json!([{
        "name": name, "type": "mock", "publish": true, "visibility": "public", "tokens": tokens, "tokensPerSecond": speed,
    }]));
    home
}

async fn soon(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    wait_within(SOON, what, async || is_so().await.then_some(())).await;
}

async fn limit(at: &Hub, limits: &Value) {
    let answer = at.admin().send(Method::PATCH, "/api/v1/users/alice/limits", Some(limits.to_string())).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

async fn alice(at: &Hub) -> Value {
    at.admin().get("/api/v1/users/alice").await.json()
}

/// F66: a change of limits, and what is used of them, is at all hubs within a second.
#[actix_rt::test]
async fn limits_hold_over_all_hubs() {
    let Some(nats) = nats::shared().await else { return };
    let Some((_database, mut hubs)) = hubs(&nats, &["a", "b"]).await else { return };
    let homes = [
        public_mock(hubs[0].port, "one", 5, 1000),
        public_mock(hubs[1].port, "two", 5, 1000),
        public_mock(hubs[0].port, "slow", 200, 20),
    ];
    let mut registrars = Vec::new();
    for home in &homes {
        registrars.push(connected_registrar(home).await);
    }
    let made = hubs[0].admin().post("/api/v1/tokens", &json!({ "user": "alice" })).await.json();
    let secret = made["token"].as_str().unwrap();
    let call = async |hub: &Hub, name| {
        hub.http(secret).post("/v1/chat/completions", &chat(name, false)).await.status
    };
    eventually("each hub serves its own", async || {
        call(&hubs[0], "one").await == 200 && call(&hubs[1], "two").await == 200
    })
    .await;

    // A budget that is set at one hub counts what all have used, and what they use from then on.
    let used =
        async || (alice(&hubs[0]).await["tokensToday"].clone(), alice(&hubs[1]).await["tokensToday"].clone());
    limit(&hubs[0], &json!({ "tokensPerDay": 1_000_000 })).await;
    soon("both have the limit, and have counted the same", async || {
        let (of_a, of_b) = used().await;
        of_a.is_u64() && of_a == of_b
    })
    .await;
    let before = alice(&hubs[0]).await["tokensToday"].as_u64().unwrap();
    assert!(before > 0);
    limit(&hubs[1], &json!({ "tokensPerDay": before + 1 })).await;
    soon("the new limit is at the other hub", async || alice(&hubs[0]).await["tokensPerDay"] == before + 1)
        .await;
    assert_eq!(call(&hubs[1], "two").await, 200);
    soon("the budget is used up at the other hub", async || call(&hubs[0], "one").await == 429).await;
    soon("both have counted it", async || {
        let (of_a, of_b) = used().await;
        of_a == of_b && of_a.as_u64().unwrap() > before
    })
    .await;

    // Calls at a time, and requests of a minute.
    limit(&hubs[0], &json!({ "tokensPerDay": null, "maxConcurrent": 1 })).await;
    soon("it is at the other hub", async || alice(&hubs[1]).await["maxConcurrent"] == 1).await;
    let body = chat("slow", true).to_string();
    let mut stream = testkit::client::ask(hubs[0].port, secret, "POST /v1/chat/completions", "", Some(&body))
        .await
        .unwrap();
    assert_eq!(stream.status, 200);
    assert!(stream.next().await.unwrap().is_some());
    soon("the other hub knows of the call", async || call(&hubs[1], "two").await == 429).await;
    drop(stream);
    soon("the other hub knows of its end", async || call(&hubs[1], "two").await == 200).await;
    limit(&hubs[0], &json!({ "maxConcurrent": null, "requestsPerMinute": 2 })).await;
    soon("it is at the other hub", async || alice(&hubs[1]).await["requestsPerMinute"] == 2).await;
    let first = Instant::now();
    assert_eq!((call(&hubs[0], "one").await, call(&hubs[0], "one").await), (200, 200));
    soon("the other hub knows of the requests", async || call(&hubs[1], "two").await == 429).await;
    assert!(first.elapsed() < Duration::from_secs(20), "the bucket was refilled meanwhile");

    // A hub that starts again begins with what all have used.
    limit(&hubs[0], &json!({ "requestsPerMinute": null, "tokensPerDay": 1_000_000 })).await;
    soon("both have counted the same", async || {
        let (of_a, of_b) = used().await;
        of_a.is_u64() && of_a == of_b
    })
    .await;
    let all = alice(&hubs[1]).await["tokensToday"].clone();
    hubs[0].process.signal(nix::sys::signal::Signal::SIGTERM);
    hubs[0].process.ended().await;
    hubs[0].start_again().await;
    // A call counts a moment after it was answered.
    soon("it begins with what all have used", async || {
        let of_a = alice(&hubs[0]).await["tokensToday"].clone();
        of_a == alice(&hubs[1]).await["tokensToday"] && of_a.as_u64() >= all.as_u64()
    })
    .await;
}
