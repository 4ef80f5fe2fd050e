//! The link between registrar and hub over a network that breaks.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use awc::http::Method;
use futures_util::StreamExt as _;
use nix::sys::signal::Signal;
use serde_json::json;
use testkit::free_port;
use testkit::http::{Answer, Http};
use testkit::proxy::{Network, Proxy};
use testkit::team::{Plan, Team, start_hub};
use testkit::wait::{eventually, wait_until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Cuts of `answers_continue_on_a_new_link_after_each_cut`, unless `LINK_CUTS` is set.
const CUTS: u64 = 12;

/// Tokens of each streamed answer.
const TOKENS: usize = 600;

/// The text of a streamed answer, and whether it has its end mark.
fn transcript(answer: &Answer) -> (String, bool) {
    let mut text = String::new();
    let events = answer.events();
    for event in &events {
        let Ok(chunk) = serde_json::from_str::<serde_json::Value>(&event.data) else { continue };
        text.push_str(chunk["choices"][0]["delta"]["content"].as_str().unwrap_or_default());
    }
    (text, events.last().is_some_and(|event| event.data == "[DONE]"))
}

async fn stream(http: &Http) -> Answer {
    http.post("/v1/chat/completions", &json!({ "model": "local", "stream": true, "messages": [] })).await
}

/// A team whose registrar reaches the hub through a proxy, by a link only.
async fn linked_team() -> (Team, Proxy) {
    let port = free_port();
    let proxy = Proxy::to(port).await;
    let team = Team::of(Plan {
        registrar: &["--transport", "link", "--reconnect-base", "20ms", "--reconnect-max", "40ms"],
        ports: Some((port, proxy.port())),
        ..Plan::default()
    })
    .await;
    (team, proxy)
}

fn links(team: &Team) -> usize {
    team.registrar.stderr().matches("control channel open: a link").count()
}

/// F13, F83, P1, P2, P3: whatever byte the connection breaks at, streamed and whole answers arrive whole and once, and each ran once.
#[actix_rt::test]
async fn answers_continue_on_a_new_link_after_each_cut() {
    let (team, proxy) = linked_team().await;
    team.backend.script(|script| (script.tokens, script.pace) = (TOKENS, Duration::from_millis(2)));
    let expected = transcript(&stream(&team.http).await);
    assert!(expected.1 && !expected.0.is_empty());
    let cuts = std::env::var("LINK_CUTS").ok().and_then(|cuts| cuts.parse().ok()).unwrap_or(CUTS);
    let mut asked = 1;
    let (mut cut, mut broken) = (0, 0);
    while cut < cuts {
        eventually("the LLM is active", async || team.row().await["status"] == "active").await;
        let calls: Vec<_> = (0..3)
            .map(|_| {
                let http = team.http.clone();
                actix_rt::spawn(async move { stream(&http).await })
            })
            .collect();
        asked += 3;
        // A task that has not reached the registrar may find it away.
        wait_until("all tasks run", || team.backend.requests().len() == asked).await;
        while !calls.iter().all(actix_rt::task::JoinHandle::is_finished) && cut < cuts {
            let opened = links(&team);
            // Every cut is at another place of a frame.
            proxy.set(Network::CutsAfter(1 + cut * 7919 % 3001));
            wait_until("the link breaks or all answers have ended", || {
                proxy.open() == 0 || calls.iter().all(actix_rt::task::JoinHandle::is_finished)
            })
            .await;
            broken += u64::from(proxy.open() == 0);
            proxy.set(Network::Passes);
            wait_until("a new link is open", || links(&team) > opened || proxy.open() > 0).await;
            cut += 1;
        }
        for call in calls {
            let answer = call.await.unwrap();
            assert_eq!(answer.status, 200);
            assert!(transcript(&answer) == expected, "after {cut} cuts");
        }
    }
    assert_eq!(team.backend.requests().len(), asked, "each ran once");
    assert!(broken > cuts / 2, "{broken} of {cuts} cuts broke a link");
}

/// F83, P3: a link that stops for some seconds costs a pause.
#[actix_rt::test]
async fn an_answer_continues_after_the_link_stopped_for_a_while() {
    let (team, proxy) = linked_team().await;
    team.backend.script(|script| (script.tokens, script.pace) = (TOKENS, Duration::from_millis(2)));
    let expected = transcript(&stream(&team.http).await);
    let body = json!({ "model": "local", "stream": true, "messages": [] }).to_string();
    let mut streamed = team.http.open(Method::POST, "/v1/chat/completions", Some(body)).await;
    let mut text = Vec::from(streamed.next().await.unwrap().unwrap());
    proxy.set(Network::BlackHole);
    wait_until("the backend has answered", || team.backend.open() == 0).await;
    proxy.set(Network::Passes);
    while let Some(piece) = streamed.next().await {
        text.extend(piece.unwrap());
    }
    let text = String::from_utf8(text).unwrap();
    let chunks = text.lines().filter_map(|line| line.strip_prefix("data: {"));
    let tokens: String = chunks
        .map(|rest| serde_json::from_str::<serde_json::Value>(&format!("{{{rest}")).unwrap())
        .map(|chunk| chunk["choices"][0]["delta"]["content"].as_str().unwrap_or_default().to_owned())
        .collect();
    assert_eq!((tokens, text.trim_end().ends_with("data: [DONE]")), expected);
    assert_eq!(team.backend.requests().len(), 2, "each ran once");
}

/// F75, P1: a caller that leaves while the link is broken cancels its task on the next one.
#[actix_rt::test]
async fn a_caller_that_leaves_during_a_cut_is_cancelled_on_the_next_link() {
    let (team, proxy) = linked_team().await;
    team.backend.script(|script| (script.tokens, script.pace) = (100_000, Duration::from_millis(5)));
    let body = json!({ "model": "local", "stream": true, "messages": [] }).to_string();
    let mut streamed = team.http.open(Method::POST, "/v1/chat/completions", Some(body)).await;
    streamed.next().await.unwrap().unwrap();
    let opened = links(&team);
    proxy.set(Network::Resets);
    team.registrar.logs("no control channel").await;
    drop(streamed);
    proxy.set(Network::Passes);
    wait_until("a new link is open", || links(&team) > opened).await;
    wait_until("the backend is free", || team.backend.open() == 0).await;
    team.backend.script(|script| script.pace = Duration::ZERO);
    assert_eq!(team.chat(false).await.status, 200);
}

/// F72, P4: a hub that is restarted ends a running stream whole, and has its publisher back within seconds. No heartbeat is
/// a POST.
#[actix_rt::test]
async fn a_restart_of_the_hub_costs_a_stream_nothing() {
    let (port, front) = (free_port(), Rc::new(RefCell::new(Vec::new())));
    let target = record_requests(port, Rc::clone(&front)).await;
    // After any other loss, the registrar would come back after a minute.
    let registrar = &["--reconnect-base", "60s", "--reconnect-max", "60s"];
    let mut team = Team::of(Plan { registrar, ports: Some((port, target)), ..Plan::default() }).await;
    eventually("the LLM is active", async || team.row().await["status"] == "active").await;
    team.backend.script(|script| (script.tokens, script.pace) = (TOKENS, Duration::from_millis(2)));
    let expected = transcript(&stream(&team.http).await);
    let http = team.http.clone();
    let running = actix_rt::spawn(async move { stream(&http).await });
    wait_until("the stream runs", || team.backend.requests().len() == 2).await;
    team.hub.signal(Signal::SIGTERM);
    team.registrar.logs("the hub shuts down").await;
    assert!(transcript(&running.await.unwrap()) == expected);
    team.hub.ended().await;
    team.hub = start_hub(&team.home, port);
    team.hub.logs("listens on").await;
    eventually("the publisher is back", async || team.row().await["status"] == "active").await;
    assert_eq!(team.chat(false).await.status, 200);
    assert!(!team.registrar.stderr().contains("no control channel"), "{}", team.registrar.stderr());
    let requests = front.borrow();
    let posts = |path: &str| requests.iter().filter(|line: &&String| line.contains(path)).count();
    assert_eq!((posts("_provider-heartbeat"), posts("_provider-register")), (0, 1), "{requests:?}");
}

/// Relays connections to the port `target`, and records the first line of what each write of a client has. Returns its port.
async fn record_requests(target: u16, seen: Rc<RefCell<Vec<String>>>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    actix_rt::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let seen = Rc::clone(&seen);
            actix_rt::spawn(async move {
                let Ok(mut server) = TcpStream::connect(("127.0.0.1", target)).await else { return };
                let (mut up, mut down) = (vec![0; 64 << 10], vec![0; 64 << 10]);
                loop {
                    tokio::select! {
                        read = client.read(&mut up) => {
                            let Ok(read @ 1..) = read else { return };
                            if up.starts_with(b"POST ") || up.starts_with(b"GET ") {
                                let text = String::from_utf8_lossy(&up[..read]);
                                seen.borrow_mut().push(text.lines().next().unwrap_or_default().to_owned());
                            }
                            if server.write_all(&up[..read]).await.is_err() { return }
                        }
                        read = server.read(&mut down) => {
                            let Ok(read @ 1..) = read else { return };
                            if client.write_all(&down[..read]).await.is_err() { return }
                        }
                    }
                }
            });
        }
    });
    port
}

/// `status` says what carries the channel.
#[actix_rt::test]
async fn the_status_shows_the_transport_and_why_it_is_not_a_link() {
    for (transport, expected) in
        [("auto", "link: one WebSocket"), ("classic", "SSE and POSTs, because --transport is classic")]
    {
        let team = Team::of(Plan { registrar: &["--transport", transport], ..Plan::default() }).await;
        let status = team.home.run(&["status"]).await;
        assert!(status.stdout.contains(&format!("Transport   {expected}\n")), "{status:?}");
        assert!(status.stdout.contains("Connection  open for "), "{status:?}");
        assert_eq!(status.stdout.contains(", round trip "), transport == "auto", "{status:?}");
        let json: serde_json::Value =
            serde_json::from_str(&team.home.run(&["status", "-o", "json"]).await.stdout).unwrap();
        let channel = &json["channel"];
        assert!(channel["openSince"].is_string() && channel["state"] == "connected", "{json}");
        assert_eq!(channel["roundTripMs"].is_f64(), transport == "auto", "{json}");
        assert_eq!(team.chat(true).await.events().pop().unwrap().data, "[DONE]");
    }
}
