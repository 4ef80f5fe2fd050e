//! Registrar, hub and callers with a real reverse proxy between them, configured by the blocks of docs/reverse-proxy.md.

mod kinds;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use awc::http::Method;
use futures_util::StreamExt as _;
use serde_json::json;
use tempfile::TempDir;
use testkit::client::ask_on;
use testkit::free_port;
use testkit::http::Http;
use testkit::process::Process;
use testkit::team::{ADMIN, Plan, Team};
use testkit::wait::{eventually, wait_for, wait_until};
use tokio::net::TcpSocket;
use tokio::time::Instant;

use kinds::{APACHE, CADDY, HAPROXY, Kind, NGINX, PLAIN_NGINX, block, with_lines};

/// Address of a caller that is not the proxy's.
const CALLER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// Pause of the backend between two tokens.
const PACE: Duration = Duration::from_millis(100);
/// Largest time from a caller's leaving to the end of its task at the backend: without a word of its proxy the hub learns
/// of it with its comment in a silent answer, after 15 s.
const CANCELLED: Duration = Duration::from_secs(10);
/// Tokens of a timed stream: if all arrived at once, the first would take 2 s.
const TOKENS: usize = 20;

/// Pause in the middle of an answer, in seconds, unless `PROXY_PAUSE` is set: twice the time limits of the proxies in this
/// test, and the hub sends something every 0.5 s. With `PROXY_PAUSE=75` all limits are those of the page and the hub's own.
const PAUSE: u64 = 4;

/// A team whose registrar and callers reach the hub through a proxy.
struct Proxied {
    team: Team,
    /// A client of the proxy.
    http: Http,
    port: u16,
    proxy: Process,
    _folder: TempDir,
}

impl Kind {
    async fn team(&self, block: &str, hub_options: &[&str]) -> Option<Proxied> {
        let (hub, port) = (free_port(), free_port());
        let (proxy, folder) = self.start(block, hub, port).await?;
        let team = Team::of(Plan {
            hub: &[&["--trusted-proxy", "127.0.0.1"], hub_options].concat(),
            ports: Some((hub, port)),
            ..Plan::default()
        })
        .await;
        // A row is active a moment after its channel is open.
        eventually("the row is active", async || team.row().await["status"] == "active").await;
        let http = Http::new(&format!("http://127.0.0.1:{port}"), ADMIN);
        Some(Proxied { team, http, port, proxy, _folder: folder })
    }
}

impl Proxied {
    /// The registrar's transport, as `status` shows it.
    async fn transport(&self) -> String {
        let status = self.team.home.run(&["status"]).await.stdout;
        let line = status.lines().find_map(|line| line.strip_prefix("Transport   "));
        line.unwrap_or_else(|| panic!("{status}")).to_owned()
    }

    /// Streams an answer to [`CALLER`], and returns its text and the times of its tokens since the request.
    async fn timed_stream(&self) -> (String, Vec<Duration>) {
        self.team.backend.script(|script| (script.tokens, script.pace) = (TOKENS, PACE));
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((CALLER, 0))).unwrap();
        let socket = socket.connect(SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))).await.unwrap();
        let forged = "X-Forwarded-For: 203.0.113.9\r\nForwarded: for=203.0.113.9\r\n";
        let asked = Instant::now();
        let request = "POST /v1/chat/completions";
        let mut answer = ask_on(socket, ADMIN, request, forged, Some(&chat_body("hi"))).await.unwrap();
        let (mut text, mut times) = (String::new(), Vec::new());
        while let Some(piece) = answer.next().await.unwrap() {
            text.push_str(std::str::from_utf8(&piece).unwrap());
            times.resize(text.matches("\"content\"").count(), asked.elapsed());
        }
        (text, times)
    }

    /// Checks that tokens arrive one by one.
    async fn streams(&self) {
        let (text, mut times) = self.timed_stream().await;
        assert!(text.trim_end().ends_with("data: [DONE]"), "{text}\n{}", self.proxy.stderr());
        assert_eq!(times.len(), TOKENS, "{text}");
        times.dedup_by(|later, earlier| later.saturating_sub(*earlier) < PACE / 4);
        assert!(times.len() > TOKENS / 2, "tokens arrive together: {times:?}");
    }

    /// Checks that the hub knows the address of the last caller, which forged both headers for it.
    async fn names_the_caller(&self) {
        let address = wait_for("the audit has the call", async || {
            let rows = self.team.http.get("/api/v1/audit").await.json();
            rows[0]["address"].as_str().filter(|address| *address == CALLER.to_string()).map(str::to_owned)
        });
        address.await;
    }

    /// Checks that a caller that leaves a stream ends its task at the backend, which is silent after a token or goes on.
    async fn cancels(&self, is_silent: bool) {
        let backend = &self.team.backend;
        backend.script(|script| (script.tokens, script.pace, script.stalls) = (100_000, PACE, is_silent));
        let mut answer = self.http.open(Method::POST, "/v1/chat/completions", Some(chat_body("hi"))).await;
        answer.next().await.unwrap().unwrap();
        assert_eq!(backend.open(), 1);
        drop(answer);
        let left = Instant::now();
        wait_until("the backend is free", || backend.open() == 0).await;
        assert!(left.elapsed() < CANCELLED, "{:?}", left.elapsed());
    }

    /// The output of `check`, which succeeds.
    async fn check(&self) -> String {
        let outcome = self.team.home.run(&["check"]).await;
        assert_eq!(outcome.code(), 0, "{outcome:?}\n{}", self.proxy.stderr());
        outcome.stdout
    }

    /// Checks that a request of 4 MB and an answer of 2 MB arrive whole.
    async fn passes_large_bodies(&self) {
        let text = "a".repeat(2_000_000);
        self.team.backend.script(|script| script.text = Some(text.clone()));
        let question = "q".repeat(4_000_000);
        let request = json!({ "model": "local", "messages": [{ "role": "user", "content": question }] });
        let answer = self.http.post("/v1/chat/completions", &request).await;
        assert_eq!(answer.status, 200, "{}", self.proxy.stderr());
        assert!(answer.json()["choices"][0]["message"]["content"] == text.as_str());
        let asked = self.team.backend.requests().pop().unwrap();
        assert!(asked["messages"][0]["content"] == question.as_str());
    }
}

fn chat_body(question: &str) -> String {
    let messages = json!([{ "role": "user", "content": question }]);
    json!({ "model": "local", "stream": true, "messages": messages }).to_string()
}

async fn carries_a_link(kind: &Kind) {
    let Some(proxied) = kind.team(block(kind.section), &[]).await else { return };
    assert_eq!(proxied.transport().await, "link: one WebSocket", "{}", proxied.proxy.stderr());
    proxied.streams().await;
    proxied.names_the_caller().await;
    proxied.cancels(false).await;
    if kind.sees_callers_leave {
        proxied.cancels(true).await;
    }
    proxied.passes_large_bodies().await;
    let check = proxied.check().await;
    assert!(check.contains("opens (101)") && check.contains("1 MB up in"), "{check}");
    assert_eq!(proxied.transport().await, "link: one WebSocket");
    assert_eq!(
        proxied.team.registrar.stderr().matches("control channel open").count(),
        1,
        "of the same link"
    );
}

/// Checks that an answer that pauses for longer than the proxy's time limits goes on, and that its link stays.
async fn keeps_a_link_in_a_pause(kind: &Kind) {
    let by_hand = std::env::var("PROXY_PAUSE").ok().map(|seconds| seconds.parse().unwrap());
    let own = block(kind.section);
    let team = if by_hand.is_some() {
        kind.team(own, &[]).await
    } else {
        let often = ["--ping-interval", "500ms", "--keepalive-interval", "500ms"];
        kind.team(&with_lines(own, kind.timeouts), &often).await
    };
    let Some(proxied) = team else { return };
    let pause = Duration::from_secs(by_hand.unwrap_or(PAUSE));
    proxied.team.backend.script(|script| script.pause = pause);
    let begin = Instant::now();
    let body = Some(chat_body("hi"));
    let mut answer = proxied.http.open(Method::POST, "/v1/chat/completions", body).await;
    let mut text = Vec::new();
    while let Some(piece) = answer.next().await {
        text.extend(piece.unwrap());
    }
    let text = String::from_utf8(text).unwrap();
    assert!(begin.elapsed() >= pause, "{:?}", begin.elapsed());
    assert!(text.trim_end().ends_with("data: [DONE]"), "{text}\n{}", proxied.proxy.stderr());
    let log = proxied.team.registrar.stderr();
    assert_eq!(log.matches("control channel open").count(), 1, "{log}");
}

/// F82: nginx removes the upgrade and keeps the body of a request until it is complete.
#[actix_rt::test]
async fn plain_nginx_carries_sse_and_posts() {
    let Some(proxied) = NGINX.team(PLAIN_NGINX, &[]).await else { return };
    let transport = proxied.transport().await;
    assert!(transport.starts_with("SSE and POSTs, because "), "{transport}");
    let (text, times) = proxied.timed_stream().await;
    assert!(text.trim_end().ends_with("data: [DONE]"), "{text}\n{}", proxied.proxy.stderr());
    assert_eq!(times.len(), TOKENS);
    let check = proxied.check().await;
    assert!(check.contains("removes the upgrade ('nginx/"), "{check}");
    assert!(
        check.contains("proxy_set_header Upgrade $http_upgrade;") && !check.contains("ProxyPass"),
        "{check}"
    );
    assert_eq!(proxied.team.registrar.stderr().matches("control channel open").count(), 1);
}

#[actix_rt::test]
async fn nginx_carries_a_link() {
    carries_a_link(&NGINX).await;
}

#[actix_rt::test]
async fn caddy_carries_a_link() {
    carries_a_link(&CADDY).await;
}

#[actix_rt::test]
async fn haproxy_carries_a_link() {
    carries_a_link(&HAPROXY).await;
}

#[actix_rt::test]
async fn apache_carries_a_link() {
    carries_a_link(&APACHE).await;
}

#[actix_rt::test]
async fn nginx_keeps_a_link_in_a_pause() {
    keeps_a_link_in_a_pause(&NGINX).await;
}

#[actix_rt::test]
async fn caddy_keeps_a_link_in_a_pause() {
    keeps_a_link_in_a_pause(&CADDY).await;
}

#[actix_rt::test]
async fn haproxy_keeps_a_link_in_a_pause() {
    keeps_a_link_in_a_pause(&HAPROXY).await;
}

#[actix_rt::test]
async fn apache_keeps_a_link_in_a_pause() {
    keeps_a_link_in_a_pause(&APACHE).await;
}
