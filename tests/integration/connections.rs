//! Connections without a valid token: how much memory they can make the hub use, and whether they can lock others out.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use testkit::free_port;
use testkit::http::Http;
use testkit::process::{Home, Process};
use testkit::team::{ADMIN, Plan, Team, connected_registrar, listening_hub, start_hub_after};
use testkit::wait::{PATIENCE, wait_for};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// Resident memory in KiB.
fn resident(hub: &Process) -> u64 {
    testkit::procfs::resident(hub.pid()) / 1024
}

/// Malformed requests of clients without a token write a bounded number of log lines.
#[actix_rt::test]
async fn clients_that_send_malformed_requests_do_not_fill_the_log() {
    let (_home, hub, port) = listening_hub().await;
    let heads = ["\0\r\n\r\n", "PRI * HTTP/2.0\r\n\r\n", "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n"];
    for head in heads.iter().cycle().take(300) {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await;
    }
    let lines = hub.stderr().lines().filter(|line| line.contains("actix")).count();
    assert!((1..=60).contains(&lines), "{lines} lines");
}

/// A25, A27: 2,500 pipelined requests on one connection whose answers are not read cost less than 256 KiB, with a token or
/// without. Other clients are served meanwhile, a client that reads in the end gets every answer, and the memory is freed.
#[actix_rt::test]
async fn pipelined_requests_with_unread_answers_cost_little_memory() {
    const CONNECTIONS: usize = 60;
    const REQUESTS: usize = 2500;
    let (home, port) = (Home::new(), free_port());
    let hub = start_hub_after("true", &home, port);
    hub.logs("listens on").await;
    let http = Http::new(&format!("http://127.0.0.1:{port}"), ADMIN);
    let mut before = 0;
    for token in ["", "authorization: Bearer admin-token-of-a-test-0123456789abcdef\r\n"] {
        // Answers of some KiB each, so that together they exceed the socket buffers.
        let requests = [
            format!("GET /console/style.css HTTP/1.1\r\nhost:\r\n{token}\r\n"),
            format!("GET /console/chat.js HTTP/1.1\nhost: b\n{}\n", token.replace("\r\n", "\n")),
            format!("POST /console/llm.js HTTP/1.1\r\nhost: x\r\n{token}content-length: 0\r\n\r\n"),
            format!("GET /console/overview.js HTTP/1.1\r\nhost: x\r\n{token}\r\n"),
        ];
        let flood = requests.concat().repeat(REQUESTS / requests.len());
        let begin = async || {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            // Bytes that do not fit into the socket buffers stay unsent.
            let _ = timeout(Duration::from_millis(500), stream.write_all(flood.as_bytes())).await;
            stream
        };
        drop(begin().await);
        assert_eq!(http.get("/api/v1/llms").await.status, 200);
        before = if before == 0 { resident(&hub) } else { before };
        let mut unread = join_all((0..CONNECTIONS).map(|_| begin())).await;
        let asked = Instant::now();
        assert_eq!(http.get("/api/v1/llms").await.status, 200);
        assert!(asked.elapsed() < Duration::from_secs(5), "another client waited {:?}", asked.elapsed());
        let more = resident(&hub).saturating_sub(before);
        let each = more / CONNECTIONS as u64;
        assert!(each < 256, "{each} KiB for each connection");
        // A client that starts to read gets the answer to each of its requests.
        let mut late = unread.swap_remove(0);
        late.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answers = Vec::new();
        timeout(PATIENCE, late.read_to_end(&mut answers)).await.expect("every request is answered").unwrap();
        let answers = String::from_utf8_lossy(&answers);
        assert!(answers.matches("HTTP/1.1 ").count() >= REQUESTS, "{}", answers.matches("HTTP/1.1 ").count());
        drop(unread);
    }
    assert_eq!(http.get("/api/v1/llms").await.status, 200);
    let after = resident(&hub);
    assert!(after < before + 8192, "{before} KiB before, {after} KiB after");
}

/// A25: with few file descriptors, clients without a token that keep connecting and send nothing, half a request, or a request
/// lock out neither a registrar nor a caller. The log states the limits for connections.
#[actix_rt::test]
async fn clients_without_a_token_lock_nobody_out_when_descriptors_are_few() {
    let plan = Plan { setup: "ulimit -n 160", ..Plan::default() };
    let team = Team::of(plan).await;
    assert!(team.hub.stderr().contains("at most 77 connections, 58 of them without a valid token"));
    let port = team.port;
    let open = Rc::new(Cell::new(0));
    let count = open.clone();
    let strangers = actix_rt::spawn(async move {
        let mut kept = std::collections::VecDeque::new();
        for number in 0_u32.. {
            let Ok(Ok(mut stream)) =
                timeout(Duration::from_secs(1), TcpStream::connect(("127.0.0.1", port))).await
            else {
                continue;
            };
            let words: &[u8] = match number % 3 {
                0 => b"",
                1 => b"GET /v1/models HT",
                _ => b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n",
            };
            let _ = stream.write_all(words).await;
            kept.push_back(stream);
            if kept.len() > 400 {
                kept.pop_front();
            }
            count.set(kept.len());
            sleep(Duration::from_millis(2)).await;
        }
    });
    let (mut calls, mut second) = (0, None);
    let deadline = Instant::now() + Duration::from_mins(1);
    while calls <= 15 || open.get() <= 300 {
        assert!(Instant::now() < deadline, "{calls} calls, {} strangers", open.get());
        // Each round uses a new connection.
        let http = Http::new(&format!("http://127.0.0.1:{port}"), ADMIN);
        let body = json!({ "model": "local", "messages": [{ "role": "user", "content": "hi" }] });
        let asked = Instant::now();
        let answer = http.post("/v1/chat/completions", &body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
        calls += 1;
        if calls == 10 {
            // A registrar that starts anew.
            team.registrar.signal(nix::sys::signal::Signal::SIGKILL);
            let again = connected_registrar(&team.home).await;
            second = Some(again);
        }
    }
    assert!(second.is_some());
    strangers.abort();
    let metrics = team.http.get("/metrics").await.body;
    assert!(metrics.contains("virtual_llm_connections_closed_total{reason=\"hub\"}"), "{metrics}");
}

/// The hub raises its soft limit of open files to the hard limit.
#[actix_rt::test]
async fn hub_raises_the_soft_limit_of_open_files() {
    let (home, port) = (Home::new(), free_port());
    let hub = start_hub_after("ulimit -Sn 50; ulimit -Hn 3000", &home, port);
    hub.logs("the system allows 3000 open files").await;
    hub.logs("listens on").await;
    let mut open = Vec::new();
    for _ in 0..300 {
        open.push(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
    }
    let http = Http::new(&format!("http://127.0.0.1:{port}"), ADMIN);
    assert_eq!(http.get("/api/v1/llms").await.status, 200);
    assert!(!hub.stderr().contains("Too many open files"), "{}", hub.stderr());
}

/// A24: when bodies of several users fill the hub's memory limit, new bodies are refused with a clear error, running calls end
/// normally, the registrar stays connected, and afterwards bodies are accepted again.
#[actix_rt::test]
async fn a_hub_with_full_memory_refuses_new_bodies_and_finishes_running_calls() {
    const MOST: u64 = 96 << 20;
    let team = Team::of(Plan { hub: &["--max-memory", "96MiB"], ..Plan::default() }).await;
    assert_eq!(team.chat(false).await.status, 200);
    team.backend.script(|script| script.think = Duration::from_secs(3));
    let body = json!({ "model": "local", "messages": [{ "role": "user", "content": "x".repeat(9 << 20) }] });
    let mut users = Vec::new();
    for user in ["alice", "bob", "carol", "dave"] {
        let made = team.http.post("/api/v1/tokens", &json!({ "user": user })).await.json();
        let token = made["token"].as_str().unwrap().to_owned();
        users.push(Http::new(&format!("http://127.0.0.1:{}", team.port), &token));
    }
    let before = resident(&team.hub);
    let calls = (0..20).map(|number: usize| users[number % 4].post("/v1/chat/completions", &body));
    let watch = async {
        let mut most = 0;
        for _ in 0..40 {
            most = most.max(resident(&team.hub));
            let beat = team.http.get("/api/v1/llms").await;
            assert_eq!(beat.status, 200, "requests without a large body are served");
            sleep(Duration::from_millis(50)).await;
        }
        most
    };
    let (answers, most) = futures_util::join!(join_all(calls), watch);
    let mut counts = std::collections::BTreeMap::<u16, usize>::new();
    for answer in &answers {
        *counts.entry(answer.status).or_default() += 1;
        if answer.status == 503 {
            assert_eq!(answer.header("retry-after"), Some("5"));
            let error = &answer.json()["error"];
            assert_eq!(
                (&error["message"], &error["code"]),
                (&json!("the hub's memory is full: try again later"), &json!("hub_busy"))
            );
        }
    }
    assert!(counts[&503] >= 5, "{counts:?}");
    assert!(most < before + 3 * (MOST >> 10), "{before} KiB before, {most} KiB at most");
    team.backend.script(|script| script.think = Duration::ZERO);
    assert_eq!(team.chat(false).await.status, 200, "bodies are accepted again");
    assert_eq!(team.row().await["status"], "active");
    let metrics = team.http.get("/metrics").await.body;
    let held = metrics.lines().find_map(|line| line.strip_prefix("virtual_llm_memory_held_bytes ")).unwrap();
    // Each open request holds 32 KiB: the metrics request, the registrar's channel, and perhaps a heartbeat.
    assert!(held.parse::<u64>().unwrap() < 128 << 10, "{metrics}");
    assert!(metrics.contains(&format!("virtual_llm_memory_limit_bytes {MOST}")), "{metrics}");
    assert!(!metrics.contains("virtual_llm_bodies_refused_total 0"), "{metrics}");
    // The allocator returns memory freed by another thread only when its own thread runs again, so the test keeps calling.
    wait_for("the memory is freed", || async {
        assert_eq!(team.chat(false).await.status, 200);
        (resident(&team.hub) < before + (32 << 10)).then_some(())
    })
    .await;
}
