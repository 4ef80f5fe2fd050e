//! Raw bytes on a socket: ambiguous framing, large and slow heads, other protocols.

use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use testkit::certificate::Certificate;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::support::{ADMIN, TestHub, hub, hub_with, tls_files};

/// Sends raw bytes. Returns what the hub sends until it closes the connection or is silent for 300 ms.
async fn send(hub: &TestHub, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(hub.addr).await.unwrap();
    // The hub may close the connection before it has read all bytes.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    while let Ok(Ok(read)) = timeout(Duration::from_millis(300), stream.read_buf(&mut answer)).await {
        if read == 0 {
            break;
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

fn answers(text: &str) -> usize {
    text.matches("HTTP/1.1 ").count()
}

/// A28: a request with ambiguous framing is refused, and no request after it is answered.
#[actix_rt::test]
async fn a_request_with_ambiguous_framing_is_refused() {
    let hub = hub().await;
    let head = |framing: &str| {
        format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ADMIN}\r\n{framing}\r\n"
        )
    };
    let smuggled = format!("GET /api/v1/tokens HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ADMIN}\r\n\r\n");
    for framing in [
        "content-length: 4\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 4\r\n",
        "content-length: 4\r\ncontent-length: 5\r\n",
        "content-length: 4, 5\r\n",
        "content-length: +4\r\n",
        "content-length: -4\r\n",
        "content-length: 4 4\r\n",
        "content-length: 0x4\r\n",
        "content-length: 99999999999999999999\r\n",
        "transfer-encoding: xchunked\r\n",
        "transfer-encoding: chunked, identity\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n",
        "transfer-encoding: identity, chunked\r\n",
        "transfer-encoding : chunked\r\n",
        "content-length : 4\r\n",
        " content-length: 4\r\n",
        "x-folded: a\r\n content-length: 4\r\n",
        "x-nul: a\0b\r\ncontent-length: 4\r\n",
    ] {
        let text = send(&hub, format!("{}0\r\n\r\n{smuggled}", head(framing)).as_bytes()).await;
        assert!(text.starts_with("HTTP/1.1 400 ") || text.is_empty(), "{framing:?}: {text:.200}");
        assert!(answers(&text) <= 1 && !text.contains("createdAt"), "{framing:?}: {text}");
    }
    for size in ["ffffffffffffffffff", "-1", "+4", "0x4", " 4", "4 ;x", "g", ""] {
        let body = format!("{}{size}\r\n{{}}\r\n0\r\n\r\n{smuggled}", head("transfer-encoding: chunked\r\n"));
        let text = send(&hub, body.as_bytes()).await;
        assert!(answers(&text) <= 1 && !text.contains("createdAt"), "chunk size {size:?}: {text}");
    }
    // A second request behind one with proper framing is answered.
    let text = send(&hub, format!("{}{{}}{smuggled}", head("content-length: 2\r\n")).as_bytes()).await;
    assert!(answers(&text) == 2 && text.contains("createdAt"), "{text}");
    hub.stop().await;
}

/// A07, A25: a head that is too long or has too many lines is refused, and other requests are served.
#[actix_rt::test]
async fn a_head_that_is_too_large_is_refused() {
    let hub = hub().await;
    let begin = "GET /v1/models HTTP/1.1\r\nhost: x\r\n";
    let many: Vec<String> = (0..10_000).map(|n| format!("x-{n}: y\r\n")).collect();
    let many = many.concat();
    let heads = [
        format!("{begin}{many}\r\n"),
        format!("{begin}x: {}\r\n\r\n", "y".repeat(4 << 20)),
        format!("{begin}{}: y\r\n\r\n", "x".repeat(4 << 20)),
        format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(4 << 20)),
        format!("{} / HTTP/1.1\r\n\r\n", "X".repeat(4 << 20)),
        format!("{begin}authorization: Bearer {}\r\n\r\n", "x".repeat(4 << 20)),
        "\r\n".repeat(1 << 20),
        "\0".repeat(1 << 20),
    ];
    for head in heads {
        let text = send(&hub, head.as_bytes()).await;
        assert!(!text.starts_with("HTTP/1.1 2"), "{head:.60}: {text:.200}");
        assert!(answers(&text) <= 1, "{head:.60}: {text:.200}");
    }
    let metrics = hub.ask("GET", "/metrics").send().await.1;
    assert!(!metrics.contains("limit_refusals_total{limit=\"request_head\"} 0\n"), "{metrics}");
    assert_eq!(hub.ask("GET", "/v1/models").send().await.0, 200);
    hub.stop().await;
}

/// A25: a connection whose head is incomplete after 5 s is closed, and delays no other request.
#[actix_rt::test]
async fn a_slow_head_times_out() {
    let hub = hub().await;
    let begin = Instant::now();
    let trickle = async {
        let mut stream = TcpStream::connect(hub.addr).await.unwrap();
        let mut answer = Vec::new();
        stream.write_all(b"GET /v1/models HTTP/1.1\r\nx: ").await.unwrap();
        loop {
            // The head grows slowly and does not end.
            let _ = stream.write_all(b"y").await;
            match timeout(Duration::from_millis(250), stream.read_buf(&mut answer)).await {
                Ok(Ok(0) | Err(_)) => break,
                Ok(Ok(_)) | Err(_) => {
                    assert!(begin.elapsed() < Duration::from_secs(15), "the connection is still open");
                }
            }
        }
        String::from_utf8_lossy(&answer).into_owned()
    };
    let others = async {
        for _ in 0..10 {
            assert_eq!(hub.ask("GET", "/v1/models").send().await.0, 200);
        }
    };
    let (answer, ()) = futures_util::join!(trickle, others);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408 "), "{answer}");
    let metrics = hub.ask("GET", "/metrics").send().await.1;
    assert!(metrics.contains("limit_refusals_total{limit=\"request_head\"} 1\n"), "{metrics}");
    hub.stop().await;
}

/// A29: the hub does not accept HTTP/2 by ALPN, by prior knowledge or by upgrade.
#[actix_rt::test]
async fn the_hub_accepts_only_http_1_1() {
    let dir = tempfile::tempdir().unwrap();
    let certificate = Certificate::of_localhost();
    let tls = hub_with(|options| options.tls = Some(tls_files(&certificate, dir.path()))).await;
    let addr = tls.addr;
    let ask = move |offers: &[&[u8]]| {
        let mut config = certificate.client();
        config.alpn_protocols = offers.iter().map(|name| name.to_vec()).collect();
        let mut tls =
            rustls::ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
        let mut tcp = std::net::TcpStream::connect(addr).unwrap();
        tcp.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut stream = rustls::Stream::new(&mut tls, &mut tcp);
        let request = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        stream.write_all(request)?;
        let mut answer = Vec::new();
        // An end without TLS's close_notify is no failure here.
        let _ = stream.read_to_end(&mut answer);
        let chosen = tls.alpn_protocol().map(<[u8]>::to_vec);
        Ok::<_, std::io::Error>((chosen, String::from_utf8_lossy(&answer).into_owned()))
    };
    let asked = tokio::task::spawn_blocking(move || {
        [ask(&[b"h2", b"http/1.1"]), ask(&[]), ask(&[b"http/1.1"]), ask(&[b"h2"])]
    });
    let [both, neither, one, only] = asked.await.unwrap();
    for (answer, protocol) in [(both, Some("http/1.1")), (neither, None), (one, Some("http/1.1"))] {
        let (chosen, text) = answer.unwrap();
        assert_eq!(chosen.as_deref(), protocol.map(str::as_bytes));
        assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
    }
    assert!(only.is_err(), "{only:?}");
    tls.stop().await;

    let hub = hub().await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let text = send(&hub, preface).await;
    assert!(text.is_empty() || text.starts_with("HTTP/1.1 4"), "{text:?}");
    let upgrade = "GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\n\
                   http2-settings: AAMAAABkAAQAAP__\r\n\r\n";
    let text = send(&hub, upgrade.as_bytes()).await;
    assert!(text.starts_with("HTTP/1.1 200 "), "{text:?}");
    hub.stop().await;
}

/// A30, A31, A32: no CORS header is sent to an unknown origin, no cookie is set or read, and requests for any host name
/// need a token.
#[actix_rt::test]
async fn an_unknown_origin_gets_no_cors_header_and_no_cookie() {
    let hub = hub().await;
    for origin in ["null", "https://evil.example", "http://localhost:8787", "http://127.0.0.1"] {
        for (method, path) in
            [("OPTIONS", "/v1/chat/completions"), ("OPTIONS", "/api/v1/tokens"), ("GET", "/v1/models")]
        {
            let ask = super::http::ask(hub.addr, method, path)
                .header("origin", origin)
                .header("access-control-request-method", "POST")
                .header("access-control-request-headers", "authorization")
                .header("access-control-request-private-network", "true");
            // A preflight without a token gets 405, another request 401.
            let refused = if method == "OPTIONS" { 405 } else { 401 };
            let bare = ask.open().await;
            assert_eq!(bare.status, refused, "{method} {path}");
            let cookie = ask.clone().header("cookie", format!("token={ADMIN}; authorization=Bearer {ADMIN}"));
            assert_eq!(cookie.open().await.status, refused);
            let allowed = ask.token(ADMIN).open().await;
            for answer in [bare, allowed] {
                assert!(!answer.head.contains("access-control-"), "{}", answer.head);
                assert!(!answer.head.contains("set-cookie"), "{}", answer.head);
            }
        }
    }
    // Host names that an attacker's DNS may resolve to the hub's address.
    for host in ["evil.example", "127.0.0.1.evil.example", "localhost"] {
        let text = send(&hub, format!("GET /v1/models HTTP/1.1\r\nhost: {host}\r\n\r\n").as_bytes()).await;
        assert!(text.starts_with("HTTP/1.1 401 "), "{text}");
    }
    hub.stop().await;
}
