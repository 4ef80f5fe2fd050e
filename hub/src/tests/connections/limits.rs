//! Limits of connections by address.

use std::cell::Cell;
use std::rc::Rc;

use super::*;

/// A25, A27: if an address has too many connections without a token, the oldest get 429 and close; connections and
/// requests with a token are served.
#[actix_rt::test]
async fn connections_without_a_token_are_bounded_by_address() {
    let hub = hub_with(|options| options.machine.connections_per_address = Some(3)).await;
    let mut known = Vec::new();
    for _ in 0..5 {
        known.push(connection_after(&hub, "/v1/models", Some(ADMIN)).await);
    }
    let mut strangers = vec![connection_after(&hub, "/healthz", None).await];
    strangers.push(TcpStream::connect(hub.addr).await.unwrap());
    strangers[1].write_all(b"GET / HT").await.unwrap();
    strangers.push(connection_after(&hub, "/nowhere", None).await);
    for _ in 0..3 {
        assert_eq!(hub.ask("GET", "/v1/models").send().await.0, 200, "a request with a token is refused");
    }
    let mut oldest = std::mem::take(&mut strangers);
    for _ in 0..3 {
        strangers.push(connection_after(&hub, "/healthz", None).await);
    }
    for closed in &mut oldest {
        let text = until_closed(closed).await;
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
    eventually("no connection without a token is counted", async || {
        let metrics = hub.ask("GET", "/metrics").send().await.1;
        metrics.contains("virtual_llm_connections_without_token 0")
    })
    .await;
    hub.stop().await;
}

/// A09: behind a trusted proxy a caller's address is the one that the proxy wrote, not one that the caller wrote; the
/// number of the proxy's own connections is not limited.
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
        // The caller forges another address each time; the proxy always appends the same one.
        let status = guess(&format!("198.51.100.{}, 203.0.113.4", number % 250)).send().await.0;
        statuses.insert(status);
        if status == 429 {
            break;
        }
    }
    assert_eq!(statuses, HashSet::from([401, 429]));
    assert_eq!(guess("203.0.113.5").send().await.0, 401, "an address pays for another address's guesses");
    let call = infer(&hub, "nobody", false).header("forwarded", "for=\"[2001:db8::7]:4711\";proto=https");
    assert_eq!(call.send().await.0, 404);
    let _publisher = Publisher::register(&hub, ADMIN, None, &[provider("away")]).await;
    let call = infer(&hub, "away", false).header("forwarded", "for=\"[2001:db8::7]:4711\";proto=https");
    assert_eq!(call.send().await.0, 503);
    let (_, audit) = hub.ask("GET", "/api/v1/audit").json().await;
    assert_eq!(audit[0]["address"], "2001:db8::7", "{audit}");
    let mut kept_open = Vec::new();
    for _ in 0..6 {
        kept_open.push(connection_after(&hub, "/healthz", None).await);
    }
    for stream in &mut kept_open {
        assert!(is_open(stream).await);
    }
    hub.stop().await;
}

/// A25: hundreds of connections a second that never begin a handshake do not block callers with a token.
#[actix_rt::test]
async fn idle_handshakes_do_not_block_callers_with_a_token() {
    let dir = tempfile::tempdir().unwrap();
    let certificate = Certificate::of_localhost();
    let hub = hub_with(|options| options.tls = Some(tls_files(&certificate, dir.path()))).await;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(certificate.client()));
    let addr = hub.addr;
    let opened = Rc::new(Cell::new(0));
    let count = opened.clone();
    let flood = actix_rt::spawn(async move {
        let mut idle = Vec::new();
        loop {
            idle.push(TcpStream::connect(addr).await.unwrap());
            count.set(idle.len());
            sleep(Duration::from_millis(2)).await;
        }
    });
    eventually("many handshakes are under way", async || opened.get() > 256).await;
    let mut calls = 0;
    while calls < 5 || opened.get() <= 1000 {
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
        let answer = timeout(PATIENCE, ask).await.expect("the call is answered");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
        calls += 1;
    }
    flood.abort();
    hub.stop().await;
}
