//! Connections: pipelining, idle times, limits by address.

mod limits;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use testkit::certificate::Certificate;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::http::PATIENCE;
use super::publisher::{Publisher, provider};
use super::road::infer;
use super::support::{ADMIN, TestHub, eventually, hub, hub_with, tls_files};

/// A request: its kind, repetitions in its body, and bytes of each chunk.
type RequestShape = (u8, usize, usize);

fn write(out: &mut Vec<u8>, number: usize, (kind, size, piece): RequestShape) {
    let head = |line: &str, more: &str| {
        format!("{line} HTTP/1.1\r\nhost: x\r\nx-request-id: r{number}\r\n{more}\r\n")
    };
    let token = format!("authorization: Bearer {ADMIN}\r\n");
    // The body contains empty lines, which look like the end of a head.
    let body =
        format!("{{\"providerSessionId\":\"sess-nobody\",\n\n\r\n\r\n{}\"x\":1}}", "\n\r\n ".repeat(size));
    let beat = "POST /api/v1/llms/_provider-heartbeat";
    match kind % 7 {
        0 => out.extend(head("GET /healthz", "").into_bytes()),
        1 => out.extend(head("GET /v1/models", "").replace("\r\n", "\n").into_bytes()),
        2 => out.extend(head("HEAD /", "").into_bytes()),
        3 => out.extend(head("GET /console/style.css", "").into_bytes()),
        4 => out.extend(head("OPTIONS /v1/models", &token).into_bytes()),
        5 => {
            let length = format!("{token}content-length: {}\r\n", body.len());
            out.extend([head(beat, &length), body].concat().into_bytes());
        }
        _ => {
            out.extend(head(beat, &format!("{token}transfer-encoding: chunked\r\n")).into_bytes());
            for chunk in body.as_bytes().chunks(piece) {
                out.extend([format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
            }
            out.extend(b"0\r\n\r\n");
        }
    }
}

/// Reads until `count` answers have come. Returns their request ids in the order of arrival.
async fn answered_ids(stream: &mut TcpStream, count: usize) -> Vec<usize> {
    let (mut text, mut found) = (Vec::new(), Vec::new());
    while found.len() < count {
        let read = timeout(PATIENCE, stream.read_buf(&mut text)).await.expect("no answer in time");
        let read = read.unwrap_or(0);
        assert!(read > 0, "closed after {} of {count}: {}", found.len(), String::from_utf8_lossy(&text));
        let all = String::from_utf8_lossy(&text).into_owned();
        found = all
            .split_inclusive("\r\n")
            .filter_map(|line| line.strip_prefix("x-request-id: r")?.strip_suffix("\r\n"))
            .map(|id| id.parse().unwrap())
            .collect();
    }
    found
}

/// A28: pipelined requests are answered in order, wherever TCP cuts them and whenever the client reads.
#[actix_rt::test]
async fn pipelined_requests_are_answered_in_order() {
    let hub = hub().await;
    let mut runner = TestRunner::new(Config::default());
    let asked = prop::collection::vec((any::<u8>(), 0..4000_usize, 1..9000_usize), 1..24);
    let strategy = (asked, prop::collection::vec(1..20_000_usize, 1..8), any::<bool>());
    for _ in 0..60 {
        let (asked, cuts, is_late) = strategy.new_tree(&mut runner).unwrap().current();
        let mut bytes = Vec::new();
        for (number, asked) in asked.iter().enumerate() {
            write(&mut bytes, number, *asked);
        }
        let mut stream = TcpStream::connect(hub.addr).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (mut rest, mut cuts) = (&bytes[..], cuts.iter().cycle());
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
            stream.write_all(now).await.unwrap();
            if !is_late {
                tokio::task::yield_now().await;
            }
            rest = later;
        }
        let expected: Vec<usize> = (0..asked.len()).collect();
        assert_eq!(answered_ids(&mut stream, asked.len()).await, expected, "{asked:?}");
    }
    hub.stop().await;
}

/// Reads until the connection is closed. Returns the bytes read.
async fn until_closed(stream: &mut TcpStream) -> String {
    let mut said = Vec::new();
    // A reset also counts as closed.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut said)).await.expect("the hub closes the connection");
    String::from_utf8_lossy(&said).into_owned()
}

/// Whether the connection is open. Discards bytes that can be read.
async fn is_open(stream: &mut TcpStream) -> bool {
    let mut rest = [0; 1024];
    loop {
        match timeout(Duration::from_millis(50), stream.read(&mut rest)).await {
            Err(_) => return true,
            Ok(Ok(1..)) => {}
            Ok(Ok(0) | Err(_)) => return false,
        }
    }
}

/// Opens a connection and requests `path` once. Returns the open connection.
async fn connection_after(hub: &TestHub, path: &str, token: Option<&str>) -> TcpStream {
    let mut stream = TcpStream::connect(hub.addr).await.unwrap();
    let token = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
    let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\nx-request-id: r0\r\n{token}\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    answered_ids(&mut stream, 1).await;
    stream
}

/// A25: a connection without a valid token is closed after 5 s idle, also in the middle of its next request; one with a
/// token stays open.
#[actix_rt::test]
async fn an_idle_connection_without_a_token_is_closed() {
    let hub = hub().await;
    let begin = Instant::now();
    let mut with = connection_after(&hub, "/v1/models", Some(ADMIN)).await;
    let mut strangers = vec![
        connection_after(&hub, "/console/app.js", None).await,
        connection_after(&hub, "/v1/models", None).await,
        connection_after(&hub, "/v1/models", Some("vlt_wrong")).await,
        connection_after(&hub, "/", None).await,
    ];
    // The last request on this connection had an invalid token, the one before a valid one.
    let mut lost = connection_after(&hub, "/v1/models", Some(ADMIN)).await;
    let wrong = b"GET /v1/models HTTP/1.1\r\nhost: x\r\nx-request-id: r1\r\nauthorization: Bearer x\r\n\r\n";
    lost.write_all(wrong).await.unwrap();
    assert_eq!(answered_ids(&mut lost, 1).await, [1]);
    strangers.push(lost);
    sleep(Duration::from_secs(2)).await;
    // Part of a head does not restart the idle timeout.
    strangers[3].write_all(b"GET / HTTP/1.1\r\nhost: x").await.unwrap();
    for stranger in &mut strangers {
        assert!(is_open(stranger).await, "after 2 s");
    }
    for stranger in &mut strangers {
        until_closed(stranger).await;
    }
    let took = begin.elapsed();
    assert!((Duration::from_secs(4)..Duration::from_secs(9)).contains(&took), "{took:?}");
    assert!(is_open(&mut with).await, "a connection with a token was closed");
    with.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-request-id: r1\r\n\r\n").await.unwrap();
    assert_eq!(answered_ids(&mut with, 1).await, [1]);
    hub.stop().await;
}

/// A24, A25: the buffer of a large head is freed with its connection, which closes after the answer, or counts as long as
/// the connection stays open; without a valid token a head of more than 16 KiB is refused with a reason.
#[actix_rt::test]
async fn a_connection_with_a_large_head_closes_after_its_answer() {
    let hub = hub().await;
    for (path, token, size, status, closes) in [
        ("/healthz", None, 7 << 10, "200", false),
        ("/healthz", None, 12 << 10, "200", true),
        ("/console/app.js", None, 12 << 10, "200", true),
        ("/healthz", None, 17 << 10, "431", true),
        ("/v1/models", None, 12 << 10, "401", true),
        ("/v1/models", Some("vlt_wrong"), 100 << 10, "431", true),
        ("/v1/models", Some(ADMIN), 7 << 10, "200", false),
        ("/v1/models", Some(ADMIN), 30 << 10, "200", false),
        ("/v1/models", Some(ADMIN), 100 << 10, "200", true),
        ("/nowhere", Some(ADMIN), 40 << 10, "404", true),
    ] {
        let mut stream = TcpStream::connect(hub.addr).await.unwrap();
        let token = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
        let pad = "x".repeat(size);
        let head =
            format!("GET {path} HTTP/1.1\r\nhost: x\r\nx-request-id: r0\r\n{token}x-pad: {pad}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let said = if closes { until_closed(&mut stream).await } else { String::new() };
        if closes {
            assert!(said.starts_with(&format!("HTTP/1.1 {status} ")), "{path} {size}: {said}");
            assert!(said.contains("connection: close\r\n"), "{path} {size}: {said}");
            assert_eq!(said.contains("head has more than 16 KiB"), status == "431", "{said}");
        } else {
            answered_ids(&mut stream, 1).await;
            assert!(is_open(&mut stream).await, "{path} {size}");
            assert_eq!(hub.core().quotas.heads.taken_by("admin") > 0, size > 8 << 10, "{path} {size}");
        }
    }
    eventually("no memory is taken", async || hub.core().quotas.memory.held() == 0).await;
    hub.stop().await;
}
