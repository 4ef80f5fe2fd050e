//! A hub that is killed, paused, or behind a bad network: what its publisher and its callers observe.

use std::time::Duration;

use awc::http::Method;
use futures_util::StreamExt as _;
use nix::sys::signal::Signal;
use serde_json::json;
use testkit::free_port;
use testkit::http::{Answer, Event};
use testkit::proxy::{Network, Proxy};
use testkit::team::{ADMIN, Plan, Team, start_hub, start_hub_with, start_registrar_with};
use testkit::wait::{eventually, port_is_free, wait_until};
use tokio::net::TcpListener;

use crate::trouble::certificate;

fn count(log: &str, text: &str) -> usize {
    log.matches(text).count()
}

/// Starts a chat call, and waits until the backend has its request.
async fn running_call(team: &Team, streaming: bool) -> actix_rt::task::JoinHandle<Answer> {
    let http = team.http.clone();
    let body = json!({ "model": "local", "stream": streaming, "messages": [] });
    let call = actix_rt::spawn(async move { http.post("/v1/chat/completions", &body).await });
    wait_until("the task runs", || team.backend.open() == 1).await;
    call
}

/// Kills the hub, and waits until its port is free.
async fn kill(team: &Team) {
    team.hub.signal(Signal::SIGKILL);
    port_is_free(team.port).await;
}

/// F01, P4: after an idle hub is killed, its registrar tries to reconnect until the hub is back, logs one line for each change
/// of the reason, and keeps its session id.
#[actix_rt::test]
async fn a_registrar_tries_to_reconnect_until_its_killed_hub_is_back() {
    let mut team = Team::start().await;
    let before = team.row().await;
    kill(&team).await;
    team.registrar.logs("not registered").await;
    // A listener that counts connections and closes each one without an answer.
    let listener = TcpListener::bind(("127.0.0.1", team.port)).await.unwrap();
    for _ in 0..5 {
        drop(listener.accept().await.unwrap());
    }
    drop(listener);
    team.hub = start_hub(&team.home, team.port);
    wait_until("the registrar has reconnected", || {
        count(&team.registrar.stderr(), "control channel open") == 2
    })
    .await;
    assert_eq!(team.chat(false).await.status, 200);
    assert_eq!(team.row().await["providerSessionId"], before["providerSessionId"]);
    let log = team.registrar.stderr();
    assert_eq!(count(&log, "no control channel"), 1, "{log}");
    // Refused, broken off, refused again: each change of the reason is logged, not each try.
    assert!((1..=3).contains(&count(&log, "not registered")), "{log}");
}

/// F02, P2, P3: callers of a hub that is killed get no end mark and no 200. The running tasks end once at their publisher, their
/// late results are dropped, and the publisher can still stop.
#[actix_rt::test]
async fn a_hub_killed_during_calls_leaves_no_success_and_no_running_task() {
    let mut team = Team::start().await;
    team.backend.script(|script| (script.tokens, script.pace) = (100_000, Duration::from_millis(20)));
    let body = json!({ "model": "local", "stream": true, "messages": [] }).to_string();
    let mut streamed = team.http.open(Method::POST, "/v1/chat/completions", Some(body)).await;
    let mut text = Vec::from(streamed.next().await.unwrap().unwrap());
    team.backend.script(|script| script.think = Duration::from_millis(500));
    let body = json!({ "model": "local", "messages": [] }).to_string();
    let request = awc::Client::default()
        .post(format!("http://127.0.0.1:{}/v1/chat/completions", team.port))
        .insert_header(("authorization", format!("Bearer {ADMIN}")))
        .send_body(body);
    let whole = actix_rt::spawn(request);
    wait_until("both tasks run", || team.backend.open() == 2).await;
    kill(&team).await;
    while let Some(Ok(piece)) = streamed.next().await {
        text.extend(piece);
    }
    assert!(!String::from_utf8(text).unwrap().contains("[DONE]"));
    assert!(whole.await.unwrap().is_err(), "a caller without an answer");
    wait_until("both tasks have ended", || team.backend.open() == 0).await;

    team.hub = start_hub(&team.home, team.port);
    team.hub.logs("opened").await;
    team.backend.script(|script| (script.tokens, script.think) = (3, Duration::ZERO));
    assert_eq!(team.chat(true).await.events().pop().unwrap().data, "[DONE]");
    assert_eq!(team.backend.requests().len(), 3, "no task ran twice");
    team.registrar.signal(Signal::SIGTERM);
    let outcome = team.registrar.end().await;
    assert_eq!(outcome.code(), 0, "{outcome:?}");
    assert!(!outcome.stderr.contains("its result is lost"), "{outcome:?}");
}

/// F03, P1: a registrar opens a new channel to a hub that is paused for longer than the registrar's silence timeout. When the
/// hub continues, the newer channel counts, and the task under way has run once.
#[actix_rt::test]
async fn a_paused_hub_gets_a_new_channel_and_no_task_runs_twice() {
    let team = Team::of(Plan {
        hub: &["--ping-interval", "200ms", "--heartbeat-timeout", "1s", "--sweep-interval", "100ms"],
        registrar: &["--idle-timeout", "2500ms"],
        ..Plan::default()
    })
    .await;
    team.backend.script(|script| script.think = Duration::from_secs(3));
    let call = running_call(&team, false).await;
    team.hub.signal(Signal::SIGSTOP);
    // After this time every heartbeat is overdue by the hub's clock, too.
    team.registrar.logs("nothing came on the control channel for 2.5 s").await;
    team.hub.signal(Signal::SIGCONT);
    let answer = call.await.unwrap();
    assert_eq!(answer.json()["choices"][0]["message"]["content"], "hello from the backend");
    wait_until("a new channel is open", || count(&team.registrar.stderr(), "control channel open") >= 2)
        .await;
    team.backend.script(|script| script.think = Duration::ZERO);
    eventually("the LLM answers", async || team.chat(false).await.status == 200).await;
    assert_eq!(team.backend.requests().len(), 2, "none ran twice");
    let sessions = team.http.get("/api/v1/sessions").await.json();
    assert_eq!(sessions.as_array().map(Vec::len), Some(1), "{sessions}");
}

/// F83, F13, P4: each time a proxy cuts all connections, the registrar reconnects, and no answer is lost.
#[actix_rt::test]
async fn a_proxy_that_cuts_connections_costs_a_reconnect_each_time() {
    let port = free_port();
    let proxy = Proxy::to(port).await;
    let team = Team::of(Plan {
        hub: &["--ping-interval", "200ms"],
        ports: Some((port, proxy.port())),
        ..Plan::default()
    })
    .await;
    for (n, network) in [Network::CutsAfter(0), Network::Resets, Network::HalfCloses].into_iter().enumerate()
    {
        team.backend.script(|script| script.think = Duration::from_millis(500));
        let call = running_call(&team, false).await;
        proxy.set(network);
        wait_until("the registrar notices the cut", || {
            count(&team.registrar.stderr(), "no control channel") > n
        })
        .await;
        proxy.set(Network::Passes);
        assert_eq!(call.await.unwrap().status, 200, "{network:?}");
        wait_until("the registrar has reconnected", || {
            count(&team.registrar.stderr(), "control channel open") >= n + 2
        })
        .await;
    }
    assert_eq!(team.backend.requests().len(), 3, "none ran twice");
}

/// F04, F13, P2, P3: when the network delivers nothing for a while, the registrar opens a new channel; the answer under way
/// arrives whole or ends with an error.
#[actix_rt::test]
async fn every_call_ends_after_the_network_delivered_nothing_for_a_while() {
    let port = free_port();
    let proxy = Proxy::to(port).await;
    let team = Team::of(Plan {
        hub: &["--ping-interval", "200ms"],
        registrar: &["--idle-timeout", "1s"],
        ports: Some((port, proxy.port())),
        ..Plan::default()
    })
    .await;
    team.backend.script(|script| (script.tokens, script.pace) = (100, Duration::from_millis(30)));
    let call = running_call(&team, true).await;
    proxy.set(Network::BlackHole);
    team.registrar.logs("nothing came on the control channel").await;
    proxy.set(Network::Passes);
    let events = call.await.unwrap().events();
    let last = &events.last().unwrap().data;
    let whole = last == "[DONE]" && events.len() == 102;
    assert!(whole || last.contains("\"error\""), "{} events, then {last}", events.len());
    wait_until("the registrar has reconnected", || {
        count(&team.registrar.stderr(), "control channel open") >= 2
    })
    .await;
    assert_eq!(team.chat(false).await.status, 200);
}

/// The text of a streamed answer.
fn text(events: &[Event]) -> String {
    let chunks =
        events.iter().filter_map(|event| serde_json::from_str::<serde_json::Value>(&event.data).ok());
    chunks.filter_map(|chunk| Some(chunk["choices"][0]["delta"]["content"].as_str()?.to_owned())).collect()
}

/// P3, F34: an answer that is cut on its way to the hub, after any number of bytes, reaches the caller whole or ends with an
/// error.
#[actix_rt::test]
async fn an_answer_cut_on_its_way_to_the_hub_is_never_marked_as_whole() {
    const TOKENS: usize = 20;
    let port = free_port();
    let proxy = Proxy::to(port).await;
    let team = Team::of(Plan { ports: Some((port, proxy.port())), ..Plan::default() }).await;
    team.backend.script(|script| (script.tokens, script.pace) = (TOKENS, Duration::from_millis(20)));
    let expected = (0..TOKENS).fold(String::new(), |all, n| all + &format!("t{n} "));
    let mut broken = 0;
    for bytes in [1, 100, 700, 1500] {
        let call = running_call(&team, true).await;
        proxy.set(Network::CutsAfter(bytes));
        let before = proxy.accepted();
        wait_until("the connection was cut, and opened again", || proxy.accepted() > before).await;
        proxy.set(Network::Passes);
        let answer = call.await.unwrap();
        let events = answer.events();
        let last = events.last().map_or("", |event| event.data.as_str());
        // Chunks that wait behind a POST are merged.
        let whole = last == "[DONE]" && text(&events) == expected;
        // An answer cut before its first byte becomes an error status.
        let told = answer.status >= 500 || last.contains("\"error\"");
        assert!(whole || told, "{bytes}: {} and {} events, then {last}", answer.status, events.len());
        broken += usize::from(!whole);
        eventually("the row is active again", async || team.row().await["status"] == "active").await;
    }
    assert!(broken > 0, "no answer was cut");
}

/// F12, F88: tasks and answers are right over a network that delivers single bytes, has a low rate, or a high latency, and
/// heartbeats stay in time.
#[actix_rt::test]
async fn answers_are_right_over_slow_and_distant_networks() {
    let port = free_port();
    let proxy = Proxy::to(port).await;
    let mut team = Team::of(Plan {
        hub: &["--heartbeat-timeout", "4s", "--sweep-interval", "100ms"],
        ports: Some((port, proxy.port())),
        ..Plan::default()
    })
    .await;
    team.backend.script(|script| script.tokens = 50);
    let expected = (0..50).fold(String::new(), |all, n| all + &format!("t{n} "));
    // 56 kbit/s, then a latency as long as the interval of heartbeats.
    for network in [Network::Slices, Network::Trickles(7_000), Network::Lags(Duration::from_millis(500))] {
        proxy.set(network);
        let mut events = team.chat(true).await.events();
        assert_eq!(events.pop().unwrap().data, "[DONE]", "{network:?}");
        assert_eq!(text(&events), expected, "{network:?}");
    }
    let log = team.hub.stderr();
    assert!(!log.contains("is silent"), "{log}");
    assert_eq!(count(&team.registrar.stderr(), "no control channel"), 0);
    // A restarted registrar connects over the same network.
    team.registrar.signal(Signal::SIGKILL);
    team.registrar.ended().await;
    team.registrar = start_registrar_with(&team.home, &[]);
    team.registrar.logs("control channel open").await;
}

/// F80, P4: a registrar refuses an untrusted certificate and a port without TLS, names the reason, and sends no token. With a
/// valid certificate it connects by itself.
#[actix_rt::test]
async fn a_registrar_connects_by_itself_after_the_certificate_is_renewed() {
    let mut team = Team::start().await;
    let home = &team.home;
    let good = certificate(home.path(), "127.0.0.1", 2099);
    let other = tempfile::tempdir().unwrap();
    let bad = certificate(other.path(), "127.0.0.1", 2099);
    let tls = |(cert, key): &(std::path::PathBuf, std::path::PathBuf)| {
        ["--tls-cert", cert.to_str().unwrap(), "--tls-key", key.to_str().unwrap()].map(str::to_owned)
    };
    let start = |options: &[String]| {
        start_hub_with(home, team.port, &options.iter().map(String::as_str).collect::<Vec<_>>())
    };
    team.registrar.signal(Signal::SIGTERM);
    // The registrar's lock is released when the process ends.
    team.registrar.ended().await;
    let registrar = {
        home.credentials(&format!("https://127.0.0.1:{}", team.port), ADMIN);
        start_registrar_with(home, &["--ca-file", good.0.to_str().unwrap()])
    };
    // The running hub speaks plain http.
    registrar.logs("it does not speak TLS on this port").await;
    kill(&team).await;
    team.hub = start(&tls(&bad));
    registrar.logs("its certificate is not accepted").await;
    kill(&team).await;
    let listener = TcpListener::bind(("127.0.0.1", team.port)).await.unwrap();
    let (mut socket, _) = listener.accept().await.unwrap();
    let mut first = [0; 4096];
    let read = tokio::io::AsyncReadExt::read(&mut socket, &mut first).await.unwrap();
    assert_eq!(first[0], 0x16, "the registrar sent a TLS handshake, and no request");
    assert!(!first[..read].windows(ADMIN.len()).any(|window| window == ADMIN.as_bytes()));
    drop((socket, listener));
    team.hub = start(&tls(&good));
    registrar.logs("control channel open").await;
}
