//! Calls whose caller and publisher are at different hubs: the task belongs to the caller's hub.

use std::rc::Rc;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use testkit::backend::FakeBackend;
use testkit::client::{Answer, ask};
use testkit::nats;
use testkit::process::{Home, Process};
use testkit::procfs::resident;
use testkit::team::{ADMIN, start_registrar_with};
use testkit::wait::eventually;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Instant, sleep, timeout};

use super::rig::{Front, Hub, chat, hubs};

const PATIENCE: Duration = Duration::from_secs(30);
/// Longest pause of a stream whose publisher moves to another hub.
const GAP: Duration = Duration::from_secs(3);

/// A registrar with a backend that streams `tokens`, one each `pace`.
struct Publisher {
    backend: FakeBackend,
    _home: Home,
    _registrar: Process,
}

impl Publisher {
    async fn start(port: u16, transport: &str, tokens: usize, pace: Duration) -> Self {
        let backend = FakeBackend::start();
        backend.script(|script| (script.tokens, script.pace) = (tokens, pace));
        let home = Home::new();
        home.credentials(&format!("http://127.0.0.1:{port}"), ADMIN);
        home.providers(&json!([{
            "name": "m", "type": "openai", "url": backend.url(), "model": "fake-model", "publish": true,
            "visibility": "public", "maxConcurrency": 250,
        }]));
        let registrar = start_registrar_with(&home, &["--transport", transport]);
        registrar.logs("control channel open").await;
        Self { backend, _home: home, _registrar: registrar }
    }

    /// Waits until nothing runs at the backend.
    async fn is_idle(&self) {
        eventually("nothing runs at the backend", async || self.backend.open() == 0).await;
    }
}

async fn call(hub: &Hub, body: &Value) -> Answer {
    ask(hub.port, ADMIN, "POST /v1/chat/completions", "", Some(&body.to_string())).await.unwrap()
}

/// Reads a stream to its end. Returns its text, and the longest pause.
async fn read(answer: &mut Answer) -> (String, Duration) {
    assert_eq!(answer.status, 200);
    let (mut bytes, mut longest, mut last) = (Vec::new(), Duration::ZERO, Instant::now());
    while let Some(more) = timeout(PATIENCE, answer.next()).await.expect("it hangs").expect("it broke") {
        longest = longest.max(last.elapsed());
        last = Instant::now();
        bytes.extend(more);
    }
    let text = String::from_utf8(bytes).unwrap();
    let data = text.split("\n\n").filter_map(|event| event.strip_prefix("data: "));
    let events: Vec<Value> = data.filter_map(|data| serde_json::from_str(data).ok()).collect();
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    let content = |event: &Value| event["choices"][0]["delta"]["content"].as_str().map(str::to_owned);
    (events.iter().filter_map(content).collect(), longest)
}

/// Begins a stream at each hub, and reads it in a task of its own.
async fn start_streams(hubs: impl Iterator<Item = &Hub>) -> Vec<JoinHandle<(String, Duration)>> {
    let mut reading = Vec::new();
    for hub in hubs {
        let mut answer = call(hub, &chat("m", true)).await;
        reading.push(spawn_local(async move { read(&mut answer).await }));
    }
    reading
}

fn tokens(count: usize) -> String {
    (0..count).map(|n| format!("t{n} ")).collect::<Vec<_>>().concat()
}

async fn is_active(hub: &Hub) {
    eventually("the row is active", async || hub.status("m").await == "active").await;
}

/// The hub of a publisher is killed in the middle of streams, and the publisher comes back at another one.
#[actix_rt::test]
async fn streams_go_on_when_the_hub_of_their_publisher_is_killed() {
    let Some(nats) = nats::shared().await else { return };
    for transport in ["link", "classic"] {
        let Some((_database, mut hubs)) = hubs(&nats, &["a", "b", "c"]).await else { return };
        let front = Front::start(&[&hubs[0], &hubs[2]]).await;
        let publisher = Publisher::start(front.port, transport, 60, Duration::from_millis(50)).await;
        is_active(&hubs[1]).await;
        // Also of callers at the hub to which the publisher goes.
        let reading = start_streams([&hubs[2], &hubs[1], &hubs[1]].into_iter().cycle().take(12)).await;
        sleep(Duration::from_millis(700)).await;
        hubs[0].process.signal(Signal::SIGKILL);
        hubs[0].process.ended().await;
        for stream in reading {
            let (text, longest) = stream.await.unwrap();
            assert_eq!(text, tokens(60), "{transport}");
            assert!(longest < GAP, "{transport}: {longest:?}");
        }
        assert_eq!(publisher.backend.requests().len(), 12, "{transport}: a task ran twice");
        publisher.is_idle().await;
    }
}

/// The hub is back at once at the same address, before it has heard the others: it knows of their streams nevertheless.
#[actix_rt::test]
async fn streams_go_on_at_a_hub_that_has_just_started() {
    let Some(nats) = nats::shared().await else { return };
    let Some((_database, mut hubs)) = hubs(&nats, &["a", "b"]).await else { return };
    let publisher = Publisher::start(hubs[0].port, "link", 100, Duration::from_millis(50)).await;
    is_active(&hubs[1]).await;
    let mut answer = call(&hubs[1], &chat("m", true)).await;
    eventually("the task runs", async || publisher.backend.open() == 1).await;
    let reading = spawn_local(async move { read(&mut answer).await });
    hubs[0].process.signal(Signal::SIGKILL);
    hubs[0].process.ended().await;
    hubs[0].start_again().await;
    assert_eq!(reading.await.unwrap().0, tokens(100));
    assert_eq!(publisher.backend.requests().len(), 1, "the task ran twice");
}

/// Of 200 callers at the other hubs none sees an error, streamed or not, also of calls that begin while the publisher is away.
#[actix_rt::test]
async fn no_caller_at_another_hub_fails_when_the_hub_of_the_publisher_is_killed() {
    let Some(nats) = nats::shared().await else { return };
    let Some((_database, mut hubs)) = hubs(&nats, &["a", "b", "c"]).await else { return };
    let front = Front::start(&[&hubs[0], &hubs[2]]).await;
    let publisher = Publisher::start(front.port, "link", 10, Duration::from_millis(50)).await;
    publisher.backend.script(|script| script.think = Duration::from_millis(300));
    is_active(&hubs[1]).await;
    is_active(&hubs[2]).await;
    let end = Instant::now() + Duration::from_secs(4);
    let mut callers = Vec::new();
    for n in 0..200 {
        let http = hubs[1 + n % 2].admin();
        callers.push(spawn_local(async move {
            let (mut calls, mut failed) = (0, Vec::new());
            while Instant::now() < end && failed.is_empty() {
                let answer = http.post("/v1/chat/completions", &chat("m", n % 4 < 2)).await;
                calls += 1;
                let is_whole = answer.body.contains(if n % 4 < 2 { "[DONE]" } else { "hello from" });
                if answer.status != 200 || answer.body.contains("\"error\"") || !is_whole {
                    failed.push(answer);
                }
            }
            (calls, failed)
        }));
    }
    sleep(Duration::from_secs(1)).await;
    hubs[0].process.signal(Signal::SIGKILL);
    hubs[0].process.ended().await;
    let mut calls = 0;
    for caller in callers {
        let (count, failed) = caller.await.unwrap();
        calls += count;
        assert!(failed.is_empty(), "{failed:?}");
    }
    assert_eq!(publisher.backend.requests().len(), calls, "a task ran twice");
}

/// The hub of a publisher shuts down: streams of all callers go on at the hub to which it goes, also those of its own callers.
#[actix_rt::test]
async fn streams_go_on_when_the_hub_of_their_publisher_shuts_down() {
    let Some(nats) = nats::shared().await else { return };
    let Some((_database, mut hubs)) = hubs(&nats, &["a", "b", "c"]).await else { return };
    let front = Front::start(&[&hubs[0], &hubs[2]]).await;
    let publisher = Publisher::start(front.port, "link", 100, Duration::from_millis(50)).await;
    is_active(&hubs[1]).await;
    let reading = start_streams(hubs.iter().cycle().take(9)).await;
    sleep(Duration::from_millis(600)).await;
    front.prefer(1);
    hubs[0].process.signal(Signal::SIGTERM);
    for stream in reading {
        let (text, longest) = stream.await.unwrap();
        assert_eq!(text, tokens(100));
        assert!(longest < GAP, "{longest:?}");
    }
    hubs[0].process.ended().await;
    assert_eq!(publisher.backend.requests().len(), 9, "a task ran twice");
}

/// A registrar loses its connection alone, and comes back at another hub: callers of its former hub go on, too.
#[actix_rt::test]
async fn streams_go_on_when_their_publisher_comes_back_at_another_hub() {
    let Some(nats) = nats::shared().await else { return };
    for transport in ["link", "classic"] {
        let Some((_database, hubs)) = hubs(&nats, &["a", "b", "c"]).await else { return };
        let front = Front::start(&[&hubs[0], &hubs[2]]).await;
        let publisher = Publisher::start(front.port, transport, 60, Duration::from_millis(50)).await;
        is_active(&hubs[1]).await;
        let reading = start_streams(hubs.iter().cycle().take(9)).await;
        // There, back, and there again.
        for to in [1, 0, 1] {
            sleep(Duration::from_millis(600)).await;
            front.turn(to);
        }
        for stream in reading {
            let (text, longest) = stream.await.unwrap();
            assert_eq!(text, tokens(60), "{transport}");
            assert!(longest < GAP, "{transport}: {longest:?}");
        }
        assert_eq!(publisher.backend.requests().len(), 9, "{transport}: a task ran twice");
        publisher.is_idle().await;
    }
}

/// A caller that leaves, and a hub that is killed, end their tasks at the publisher, and no others.
#[actix_rt::test]
async fn tasks_end_with_their_caller_and_with_its_hub() {
    let Some(nats) = nats::shared().await else { return };
    for transport in ["link", "classic"] {
        let Some((_database, mut hubs)) = hubs(&nats, &["a", "b", "c"]).await else { return };
        let publisher = Publisher::start(hubs[0].port, transport, 400, Duration::from_millis(50)).await;
        is_active(&hubs[1]).await;
        is_active(&hubs[2]).await;
        let mut leaves = call(&hubs[1], &chat("m", true)).await;
        let mut killed = call(&hubs[1], &chat("m", true)).await;
        let mut stays = call(&hubs[2], &chat("m", true)).await;
        for answer in [&mut leaves, &mut killed, &mut stays] {
            assert!(timeout(PATIENCE, answer.next()).await.unwrap().unwrap().is_some());
        }
        assert_eq!(publisher.backend.open(), 3);
        drop(leaves);
        eventually("the task of the caller that left ends", async || publisher.backend.open() == 2).await;
        hubs[1].process.signal(Signal::SIGKILL);
        hubs[1].process.ended().await;
        eventually("the task of the hub ends", async || publisher.backend.open() == 1).await;
        assert!(timeout(PATIENCE, stays.next()).await.unwrap().unwrap().is_some());
        drop(stays);
        publisher.is_idle().await;
        assert_eq!(publisher.backend.requests().len(), 3, "{transport}: a task ran twice");
    }
}

/// A hub that is stopped for some seconds, and does not notice, loses nothing.
#[actix_rt::test]
async fn streams_go_on_when_the_hub_of_their_publisher_was_stopped() {
    let Some(nats) = nats::shared().await else { return };
    let Some((_database, hubs)) = hubs(&nats, &["a", "b"]).await else { return };
    let publisher = Publisher::start(hubs[0].port, "link", 200, Duration::from_millis(50)).await;
    is_active(&hubs[1]).await;
    for seconds in [1, 5] {
        let mut answer = call(&hubs[1], &chat("m", true)).await;
        let reading = spawn_local(async move { read(&mut answer).await });
        sleep(Duration::from_millis(500)).await;
        hubs[0].process.signal(Signal::SIGSTOP);
        sleep(Duration::from_secs(seconds)).await;
        hubs[0].process.signal(Signal::SIGCONT);
        assert_eq!(reading.await.unwrap().0, tokens(200), "{seconds} s");
    }
    assert_eq!(publisher.backend.requests().len(), 2, "a task ran twice");
}

/// A reader that is slow holds back the backend behind another hub. Neither hub keeps what it does not read.
#[actix_rt::test]
async fn a_slow_reader_holds_back_a_backend_behind_another_hub() {
    const SIZE: usize = 20 << 20;
    let Some(nats) = nats::shared().await else { return };
    let Some((_database, hubs)) = hubs(&nats, &["a", "b"]).await else { return };
    let publisher = Publisher::start(hubs[0].port, "link", SIZE >> 15, Duration::ZERO).await;
    let word = "x".repeat(1 << 15);
    publisher.backend.script(|script| script.text = Some(word));
    is_active(&hubs[1]).await;
    // What a first answer takes is kept by the allocator.
    let (text, _) = read(&mut call(&hubs[1], &chat("m", true)).await).await;
    assert_eq!(text.len(), SIZE);
    let memory = || [0, 1].map(|hub| resident(hubs[hub].process.pid()));
    let before = memory();
    let mut slow = Vec::new();
    for _ in 0..4 {
        slow.push(call(&hubs[1], &chat("m", true)).await);
    }
    sleep(Duration::from_secs(2)).await;
    for (hub, (before, after)) in std::iter::zip(before, memory()).enumerate() {
        assert!(after < before + (24 << 20), "hub {hub} kept {} MiB", (after - before) >> 20);
    }
    assert_eq!(publisher.backend.open(), 4);
    for answer in &mut slow {
        assert_eq!(read(answer).await.0.len(), SIZE);
    }
    // A large request and a large whole answer.
    publisher.backend.script(|script| script.text = Some("y".repeat(SIZE / 2)));
    let mut large = chat("m", false);
    large["messages"][0]["content"] = "z".repeat(SIZE).into();
    let answer = hubs[1].admin().post("/v1/chat/completions", &large).await;
    assert_eq!(answer.json()["choices"][0]["message"]["content"].as_str().unwrap().len(), SIZE / 2);
    let requests = Rc::new(publisher.backend.requests());
    assert_eq!(requests.last().unwrap()["messages"][0]["content"].as_str().unwrap().len(), SIZE);
}
