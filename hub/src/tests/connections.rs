//! Connections: what waits unread on one, how long it idles, how many an address has, and whose they are.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::http::PATIENCE;
use super::publisher::{Publisher, provider};
use super::road::infer;
use super::support::{ADMIN, TestHub, eventually, hub, hub_with};
use crate::options::TlsFiles;

/// One of a connection's requests: what it is, how long its body is, in what pieces.
type Asked = (u8, usize, usize);

fn write(out: &mut Vec<u8>, number: usize, (kind, size, piece): Asked) {
    let head = |line: &str, more: &str| {
        format!("{line} HTTP/1.1\r\nhost: x\r\nx-request-id: r{number}\r\n{more}\r\n")
    };
    let token = format!("authorization: Bearer {ADMIN}\r\n");
    // Empty lines in a body look like the end of a head.
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

/// The ids of the answers that came, as they came, once there are `count`.
async fn ids(stream: &mut TcpStream, count: usize) -> Vec<usize> {
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

/// A28: pipelined requests are answered in order, however they are cut and whenever the answers are read.
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
        assert_eq!(ids(&mut stream, asked.len()).await, expected, "{asked:?}");
    }
    hub.stop().await;
}

/// Sends `head` and reads what comes, until the connection is closed.
async fn until_closed(stream: &mut TcpStream) -> String {
    let mut said = Vec::new();
    // A reset is an end, too.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut said)).await.expect("it is closed");
    String::from_utf8_lossy(&said).into_owned()
}

/// Whether it is open, whatever there is to be read.
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

/// A connection on which `path` was answered, with a token or without.
async fn kept(hub: &TestHub, path: &str, token: Option<&str>) -> TcpStream {
    let mut stream = TcpStream::connect(hub.addr).await.unwrap();
    let token = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
    let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\nx-request-id: r0\r\n{token}\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    ids(&mut stream, 1).await;
    stream
}

/// A25: a connection without a valid token is closed after 5 s idle, also in the middle of its next request; one with a
/// token is kept.
#[actix_rt::test]
async fn an_idle_connection_without_a_token_is_closed() {
    let hub = hub().await;
    let begin = Instant::now();
    let mut with = kept(&hub, "/v1/models", Some(ADMIN)).await;
    let mut strangers = vec![
        kept(&hub, "/console/app.js", None).await,
        kept(&hub, "/v1/models", None).await,
        kept(&hub, "/v1/models", Some("vlt_wrong")).await,
        kept(&hub, "/", None).await,
    ];
    // One had a token once, and then one that is none.
    let mut lost = kept(&hub, "/v1/models", Some(ADMIN)).await;
    let wrong = b"GET /v1/models HTTP/1.1\r\nhost: x\r\nx-request-id: r1\r\nauthorization: Bearer x\r\n\r\n";
    lost.write_all(wrong).await.unwrap();
    assert_eq!(ids(&mut lost, 1).await, [1]);
    strangers.push(lost);
    sleep(Duration::from_secs(2)).await;
    // It says something, and nothing whole.
    strangers[3].write_all(b"GET / HTTP/1.1\r\nhost: x").await.unwrap();
    for stranger in &mut strangers {
        assert!(is_open(stranger).await, "after 2 s");
    }
    for stranger in &mut strangers {
        until_closed(stranger).await;
    }
    let took = begin.elapsed();
    assert!((Duration::from_secs(4)..Duration::from_secs(9)).contains(&took), "{took:?}");
    assert!(is_open(&mut with).await, "one with a token is kept");
    with.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-request-id: r1\r\n\r\n").await.unwrap();
    assert_eq!(ids(&mut with, 1).await, [1]);
    hub.stop().await;
}

/// A24, A25: the buffer of a large head is freed with its connection, which closes after the answer, or counts while
/// that is kept; without a valid token a head of more than 16 KiB is refused with a reason.
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
            ids(&mut stream, 1).await;
            assert!(is_open(&mut stream).await, "{path} {size}");
            assert_eq!(hub.core().quotas.heads.taken_by("admin") > 0, size > 8 << 10, "{path} {size}");
        }
    }
    eventually("nothing is left", async || hub.core().quotas.memory.held() == 0).await;
    hub.stop().await;
}

/// A25, A27: of too many connections of an address without a token, the oldest get an answer and close; connections and
/// requests with a token are served meanwhile.
#[actix_rt::test]
async fn connections_without_a_token_are_bounded_by_address() {
    let hub = hub_with(|options| options.machine.connections_per_address = Some(3)).await;
    let mut known = Vec::new();
    for _ in 0..5 {
        known.push(kept(&hub, "/v1/models", Some(ADMIN)).await);
    }
    let mut strangers = vec![kept(&hub, "/healthz", None).await];
    strangers.push(TcpStream::connect(hub.addr).await.unwrap());
    strangers[1].write_all(b"GET / HT").await.unwrap();
    strangers.push(kept(&hub, "/nowhere", None).await);
    for _ in 0..3 {
        assert_eq!(hub.ask("GET", "/v1/models").send().await.0, 200, "whoever brings a token is served");
    }
    let mut oldest = std::mem::take(&mut strangers);
    for _ in 0..3 {
        strangers.push(kept(&hub, "/healthz", None).await);
    }
    for gone in &mut oldest {
        let text = until_closed(gone).await;
        assert!(
            text.contains("HTTP/1.1 429 ")
                && text.contains("retry-after: 5\r\n")
                && text.contains("your address has 3 connections without a valid token"),
            "{text}"
        );
    }
    for stream in strangers.iter_mut().chain(&mut known) {
        assert!(is_open(stream).await);
    }
    let metrics = hub.ask("GET", "/metrics").send().await.1;
    assert!(metrics.contains("virtual_llm_connections_closed_total{reason=\"address\"} "), "{metrics}");
    drop(strangers);
    eventually("they are forgotten", async || {
        let metrics = hub.ask("GET", "/metrics").send().await.1;
        metrics.contains("virtual_llm_connections_without_token 0")
    })
    .await;
    hub.stop().await;
}

/// A09: behind a trusted proxy each caller has the address that the proxy wrote; what the caller wrote is ignored, and
/// the proxy's own connections are not limited.
#[actix_rt::test]
async fn behind_a_trusted_proxy_each_caller_has_its_own_address() {
    let hub = hub_with(|options| {
        options.machine.connections_per_address = Some(2);
        options.machine.trusted_proxies.trust("127.0.0.0/8").unwrap();
    })
    .await;
    let guess =
        |forwarded: &str| hub.ask_as("vlt_guess", "GET", "/v1/models").header("x-forwarded-for", forwarded);
    let mut statuses = HashSet::new();
    for number in 0..3000 {
        // Another one each time, he says; the proxy says that it is always the same.
        let status = guess(&format!("198.51.100.{}, 203.0.113.4", number % 250)).send().await.0;
        statuses.insert(status);
        if status == 429 {
            break;
        }
    }
    assert_eq!(statuses, HashSet::from([401, 429]));
    assert_eq!(guess("203.0.113.5").send().await.0, 401, "another caller's guesses are its own");
    let call = infer(&hub, "nobody", false).header("forwarded", "for=\"[2001:db8::7]:4711\";proto=https");
    assert_eq!(call.send().await.0, 404);
    let _publisher = Publisher::register(&hub, ADMIN, None, &[provider("away")]).await;
    let call = infer(&hub, "away", false).header("forwarded", "for=\"[2001:db8::7]:4711\";proto=https");
    assert_eq!(call.send().await.0, 503);
    let (_, audit) = hub.ask("GET", "/api/v1/audit").json().await;
    assert_eq!(audit[0]["address"], "2001:db8::7", "{audit}");
    let mut kept_open = Vec::new();
    for _ in 0..6 {
        kept_open.push(kept(&hub, "/healthz", None).await);
    }
    for stream in &mut kept_open {
        assert!(is_open(stream).await);
    }
    hub.stop().await;
}

/// A hub's TLS files, and what a client trusts.
fn tls_files(dir: &std::path::Path) -> (TlsFiles, Arc<rustls::ClientConfig>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let files = TlsFiles { cert: dir.join("cert.pem"), key: dir.join("key.pem") };
    std::fs::write(&files.cert, made.cert.pem()).unwrap();
    std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    (files, Arc::new(builder.unwrap().with_root_certificates(roots).with_no_client_auth()))
}

/// A25: hundreds of connections a second that never begin a handshake do not keep callers with a token out.
#[actix_rt::test]
async fn idle_handshakes_do_not_keep_tokens_out() {
    let dir = tempfile::tempdir().unwrap();
    let (files, config) = tls_files(dir.path());
    let hub = hub_with(|options| options.tls = Some(files)).await;
    let (addr, connector) = (hub.addr, tokio_rustls::TlsConnector::from(config));
    let end = Instant::now() + Duration::from_secs(4);
    let flood = actix_rt::spawn(async move {
        let mut idle = Vec::new();
        while Instant::now() < end {
            idle.push(TcpStream::connect(addr).await.unwrap());
            sleep(Duration::from_millis(2)).await;
        }
        idle.len()
    });
    // More than 256 handshakes are under way.
    sleep(Duration::from_secs(1)).await;
    let mut calls = 0;
    while Instant::now() < end {
        let asked = Instant::now();
        let ask = async {
            let tcp = TcpStream::connect(addr).await.unwrap();
            let mut stream = connector.connect("localhost".try_into().unwrap(), tcp).await.unwrap();
            let head = format!(
                "GET /v1/models HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {ADMIN}\r\n\r\n"
            );
            stream.write_all(head.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer).await;
            String::from_utf8_lossy(&answer).into_owned()
        };
        let answer = timeout(PATIENCE, ask).await.expect("it is answered");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
        calls += 1;
    }
    assert!(calls >= 5, "{calls}");
    assert!(flood.await.unwrap() > 500);
    hub.stop().await;
}
