use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::mpsc;
use wire::TaskId;

mod faults;

use super::address::HubAddress;
use super::*;
use crate::Secret;
use crate::options::CredentialsFile;
use crate::test_hub::{Reply, TestHub, wait_until};
use crate::test_log;
use crate::uplink::{Cut, Posted, Uplink};

fn client(hub: &TestHub) -> HubClient {
    HubClient::new(&hub.credentials()).unwrap()
}

fn kept(path: &Path, hub_url: Option<&str>) -> CredentialsFile {
    CredentialsFile { path: path.to_owned(), hub_url: hub_url.map(str::to_owned) }
}

fn beat() -> Heartbeat {
    Heartbeat { provider_session_id: "s".to_owned(), stream_id: None, providers: None }
}

fn id(text: &str) -> TaskId {
    TaskId::parse(text).unwrap()
}

fn session() -> SessionId {
    SessionId::parse("s").unwrap()
}

/// A47: other hosts have to be allowed.
#[test]
fn a_token_goes_over_plain_http_to_loopback_only() {
    let loopback = [
        "http://127.0.0.1:1",
        "http://127.9.9.9",
        "http://[::1]:8787",
        "http://localhost",
        "http://LocalHost:1/",
    ];
    let elsewhere = [
        "http://hub.example",
        "http://10.0.0.1",
        "http://localhost.example",
        "http://[::2]",
        "http://128.0.0.1",
    ];
    for url in loopback {
        assert!(HubAddress::parse(url, false).is_ok(), "{url}");
    }
    for url in elsewhere {
        assert!(matches!(HubAddress::parse(url, false), Err(InvalidHub::Insecure { .. })), "{url}");
        assert!(HubAddress::parse(url, true).is_ok(), "{url}");
    }
    assert!(HubAddress::parse("https://hub.example", false).is_ok());
}

#[test]
fn an_invalid_url_is_refused_without_quoting_a_password() {
    for url in [
        "",
        "hub",
        "hub.example",
        "ftp://hub",
        "http://",
        "/path",
        "http://u:pw@127.0.0.1",
        "http://127.0.0.1/?q",
        "http://127.0.0.1/#/llms",
    ] {
        let error = HubAddress::parse(url, true).unwrap_err();
        assert!(matches!(error, InvalidHub::Url { .. }), "{url}");
        assert!(!error.to_string().contains("pw"), "{error}");
    }
}

#[test]
fn a_url_may_have_a_trailing_slash_and_a_path() {
    for (url, route) in [
        ("http://127.0.0.1:1/", "http://127.0.0.1:1/api/v1/llms/_x"),
        ("http://127.0.0.1:1//", "http://127.0.0.1:1/api/v1/llms/_x"),
        ("http://127.0.0.1:1/mcpd/", "http://127.0.0.1:1/mcpd/api/v1/llms/_x"),
    ] {
        assert_eq!(HubAddress::parse(url, false).unwrap().route("_x"), route);
    }
}

#[actix::test]
async fn a_refusal_has_the_text_of_the_hub_without_the_token() {
    let hub = TestHub::start().await;
    let refusal = |body: &str| Reply::Status(418, Vec::new(), body.to_owned());
    hub.script(
        "_provider-heartbeat",
        [
            refusal(r#"{"error":"no"}"#),
            refusal(r#"{"error":{"message":"no"}}"#),
            refusal(r#"{"message":"no"}"#),
            refusal("no"),
            refusal("n\no\u{1b}[31m token-of-the-test"),
            refusal(""),
            // Cut in the middle of the token.
            refusal(&format!("{}token-of-the-test", "x".repeat(2040))),
        ],
    );
    let client = client(&hub);
    let mut texts = Vec::new();
    for _ in 0..7 {
        texts.push(client.heartbeat(beat()).await.unwrap_err().to_string());
    }
    assert!(texts[..4].iter().all(|text| text == "provider-heartbeat HTTP 418: no"), "{texts:?}");
    assert_eq!(texts[4], "provider-heartbeat HTTP 418: n o [31m ***");
    assert_eq!(texts[5], "provider-heartbeat HTTP 418");
    assert!(texts[6].ends_with("xx***") && !texts[6].contains("token-"), "{}", texts[6]);
}

/// F18, F22: a rotated token does not end the session.
#[actix::test]
async fn after_a_401_the_credentials_file_is_read_again() {
    let hub = TestHub::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("credentials");
    std::fs::write(&file, r#"{"mcpdUrl":"http://elsewhere","token":"newer"}"#).unwrap();
    let mut credentials = hub.credentials();
    credentials.file = Some(kept(&file, Some("http://elsewhere/")));
    let client = HubClient::new(&credentials).unwrap();
    for route in ["_provider-heartbeat", "_provider-stream", "/result"] {
        hub.script(route, [Reply::status(401)]);
    }
    client.heartbeat(beat()).await.unwrap();
    let tokens: Vec<_> =
        hub.calls("_provider-heartbeat").iter().map(|call| call.headers["authorization"].clone()).collect();
    assert_eq!(tokens, ["Bearer token-of-the-test", "Bearer newer"]);
    client.open_channel(session()).await.unwrap();
    assert_eq!(client.post_result(&id("t"), Bytes::from_static(b"{}")).await, Posted::Taken);

    hub.script("_provider-heartbeat", [Reply::status(401), Reply::status(401)]);
    let refused = client.heartbeat(beat()).await.unwrap_err();
    assert_eq!(refused.kind(), HubErrorKind::Refused);
    assert_eq!(hub.calls("_provider-heartbeat").len(), 4, "once more, and not twice");

    std::fs::write(&file, "broken").unwrap();
    hub.script("_provider-heartbeat", [Reply::status(401)]);
    assert!(client.heartbeat(beat()).await.is_err());
    assert_eq!(
        hub.calls("_provider-heartbeat").len(),
        5,
        "without a token in the file there is no other try"
    );
}

/// A login to another hub may have changed the file.
#[actix::test]
async fn a_token_for_another_hub_is_not_sent() {
    test_log::listen();
    let hub = TestHub::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("credentials");
    let mut credentials = hub.credentials();
    for (before, now) in [
        (Some("http://this"), Some("https://another")),
        (Some("http://this"), None),
        (None, Some("https://another")),
    ] {
        let text = serde_json::json!({ "mcpdUrl": now, "token": "canary" }).to_string();
        std::fs::write(&file, text).unwrap();
        credentials.file = Some(kept(&file, before));
        let client = HubClient::new(&credentials).unwrap();
        for status in [401, 429] {
            for route in ["_provider-register", "_provider-stream", "_provider-heartbeat", "/result"] {
                hub.script(route, [Reply::status(status)]);
            }
            assert!(client.heartbeat(beat()).await.is_err());
            assert!(client.open_channel(session()).await.is_err());
            let posted = client.post_result(&id("t"), Bytes::from_static(b"{}")).await;
            assert!(!matches!(posted, Posted::Taken), "{posted:?}");
        }
    }
    for route in ["_provider-stream", "_provider-heartbeat", "/result"] {
        for call in hub.calls(route) {
            assert_eq!(call.headers["authorization"], "Bearer token-of-the-test", "{route}");
        }
    }
    assert!(!test_log::lines_with("names another hub now").is_empty());
}

/// F22: a hub that limits guesses of tokens answers an old one with 429.
#[actix::test]
async fn after_a_429_only_another_token_is_tried() {
    let hub = TestHub::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("credentials");
    let write = |token: &str| std::fs::write(&file, format!(r#"{{"token":"{token}"}}"#)).unwrap();
    let mut credentials = hub.credentials();
    credentials.file = Some(kept(&file, None));
    let client = HubClient::new(&credentials).unwrap();
    let refuse_all = || {
        for route in ["_provider-register", "_provider-stream", "_provider-heartbeat", "/result"] {
            hub.script(route, [Reply::status(429)]);
        }
    };
    write("token-of-the-test");
    refuse_all();
    let busy = client.heartbeat(beat()).await.unwrap_err();
    assert_eq!(busy.kind(), HubErrorKind::Retry);
    assert!(matches!(
        client.post_result(&id("t"), Bytes::from_static(b"{}")).await,
        Posted::Failed { nothing_taken: true, .. }
    ));
    assert!(client.open_channel(session()).await.is_err());
    assert_eq!(hub.calls("_provider-heartbeat").len() + hub.calls("/result").len(), 2, "each is sent once");

    write("rotated");
    hub.script("_provider-heartbeat", [Reply::status(429), Reply::status(429)]);
    // Both are sent with the old token at first.
    let (one, two) = futures_util::join!(client.heartbeat(beat()), client.heartbeat(beat()));
    assert_eq!((one, two), (Ok(()), Ok(())));
    let last = hub.calls("_provider-heartbeat").last().unwrap().headers["authorization"].clone();
    assert_eq!(last, "Bearer rotated");

    write("rotated-again");
    refuse_all();
    let posted = client.post_result(&id("t"), Bytes::from_static(b"{}")).await;
    assert_eq!(posted, Posted::Taken);
}

/// F15, F16: a page of a captive portal is not.
#[actix::test]
async fn only_a_200_with_an_event_stream_is_a_channel() {
    let hub = TestHub::start().await;
    let page = |kind: &str| vec![("content-type", kind.to_owned())];
    hub.script(
        "_provider-stream",
        [
            Reply::Status(200, page("text/html"), "<html>".to_owned()),
            Reply::Status(200, Vec::new(), String::new()),
            Reply::Status(204, page("text/event-stream"), String::new()),
            Reply::Status(205, page("text/event-stream"), String::new()),
            Reply::Status(299, page("text/event-stream"), String::new()),
            Reply::Status(200, page("Text/Event-Stream; charset=utf-8"), String::new()),
        ],
    );
    let client = client(&hub);
    let mut reasons = Vec::new();
    for _ in 0..5 {
        let error = client.open_channel(session()).await.unwrap_err();
        assert_eq!(error.kind(), HubErrorKind::Retry, "{error}");
        reasons.push(error.to_string());
    }
    assert_eq!(
        reasons[0],
        "provider-stream: the hub answered with content type text/html, not an event stream"
    );
    assert!(reasons.iter().all(|reason| !reason.contains("<html>")), "{reasons:?}");
    client.open_channel(session()).await.unwrap();
}

#[actix::test]
async fn a_dropped_channel_closes_its_connection_at_once() {
    let hub = TestHub::start().await;
    let mut channel = client(&hub).open_channel(session()).await.unwrap();
    assert_eq!(channel.next().await.unwrap(), "event: hello\ndata: {}\n\n");
    assert_eq!(hub.open_channels(), 1);
    drop(channel);
    wait_until("the connection is closed", || hub.open_channels() == 0).await;
}

/// F28, F32, F33: some may be retried, others not.
#[actix::test]
async fn each_status_of_a_posted_result_has_its_meaning() {
    let hub = TestHub::start().await;
    let hint = vec![("retry-after", "17".to_owned())];
    let failed = |retry_after: Option<u64>, nothing_taken| Posted::Failed {
        retry_after: retry_after.map(Duration::from_secs),
        nothing_taken,
    };
    let table = [
        (Reply::status(200), Posted::Taken),
        (Reply::status(204), Posted::Taken),
        (Reply::status(404), Posted::Gone),
        (Reply::status(409), Posted::Gone),
        (Reply::status(410), Posted::Gone),
        (Reply::status(302), Posted::Refused { status: 302 }),
        (Reply::status(413), Posted::Refused { status: 413 }),
        (Reply::status(429), failed(None, true)),
        (Reply::status(500), failed(None, true)),
        (Reply::Status(503, hint, String::new()), failed(Some(17), true)),
        (Reply::Cut, failed(None, false)),
    ];
    let client = client(&hub);
    for (reply, posted) in table {
        hub.script("/result", [reply.clone()]);
        assert_eq!(client.post_result(&id("t"), Bytes::from_static(b"{}")).await, posted, "{reply:?}");
    }
    let call = hub.nth("_provider-task/t/result", 1).await;
    assert_eq!((call.method.as_str(), call.body.as_str()), ("POST", "{}"));
    assert_eq!(call.headers["content-type"], "application/json");
}

/// F01: after a refused connection the result may be sent again.
#[actix::test]
async fn a_hub_that_is_not_there_certainly_took_nothing() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let credentials = Credentials::new(format!("http://{closed}"), Secret::new("t"));
    let client = HubClient::new(&credentials).unwrap();
    let posted = client.post_result(&id("t"), Bytes::from_static(b"{}")).await;
    assert_eq!(posted, Posted::Failed { retry_after: None, nothing_taken: true });
    let error = client.heartbeat(beat()).await.unwrap_err();
    assert!(error.to_string().starts_with("provider-heartbeat: the hub cannot be reached: "), "{error}");
}

#[actix::test]
async fn an_upload_has_its_pieces_and_its_end() {
    let hub = TestHub::start().await;
    let (pieces, body) = mpsc::channel(1);
    let uploading = client(&hub).upload(&id("t"), body);
    let feeding = async {
        for piece in ["data: {}\n\n", "data: [DONE]\n\n"] {
            pieces.send(Ok(Bytes::from(piece))).await.unwrap();
        }
        drop(pieces);
    };
    let (posted, ()) = futures_util::join!(uploading, feeding);
    assert_eq!(posted, Posted::Taken);
    let call = hub.nth("_provider-task/t/stream", 1).await;
    assert_eq!(call.body, "data: {}\n\ndata: [DONE]\n\n");
    assert!(call.complete);
    assert_eq!(call.headers["content-type"], "text/event-stream");
    assert_eq!(call.headers["transfer-encoding"], "chunked");
}

/// P3, F34: it never looks like a whole one.
#[actix::test]
async fn a_cut_upload_reaches_the_hub_as_broken() {
    let hub = TestHub::start().await;
    let (pieces, body) = mpsc::channel(4);
    let uploading = client(&hub).upload(&id("t"), body);
    let cutting = async {
        pieces.send(Ok(Bytes::from_static(b"data: {}\n\n"))).await.unwrap();
        wait_until("the upload begins", || hub.heads() == 1).await;
        pieces.send(Err(Cut)).await.unwrap();
    };
    let (posted, ()) = futures_util::join!(uploading, cutting);
    assert!(matches!(posted, Posted::Failed { nothing_taken: false, .. }), "{posted:?}");
    let call = hub.nth("_provider-task/t/stream", 1).await;
    assert_eq!((call.body.as_str(), call.complete), ("data: {}\n\n", false));
}

#[actix::test]
async fn an_upload_of_an_ended_task_is_gone() {
    let hub = TestHub::start().await;
    hub.script("/stream", [Reply::status(410)]);
    let (pieces, body) = mpsc::channel::<Result<Bytes, Cut>>(1);
    drop(pieces);
    assert_eq!(client(&hub).upload(&id("t"), body).await, Posted::Gone);
}

#[actix::test]
async fn results_use_connections_again() {
    let hub = TestHub::start().await;
    let client = client(&hub);
    for _ in 0..100 {
        assert_eq!(client.post_result(&id("t"), Bytes::from_static(b"{}")).await, Posted::Taken);
    }
    assert!(hub.connections() <= 2, "{} connections", hub.connections());
}

#[actix::test]
async fn a_piece_is_sent_at_once_and_uploads_use_connections_again() {
    let hub = TestHub::start().await;
    let client = client(&hub);
    for n in 1..=20 {
        let (pieces, body) = mpsc::channel(1);
        let uploading = client.upload(&id("t"), body);
        let feeding = async {
            pieces.send(Ok(Bytes::from_static(b": x\n\n"))).await.unwrap();
            wait_until("the hub has the piece before the end of the upload", || hub.heads() == n).await;
            drop(pieces);
        };
        let (posted, ()) = futures_util::join!(uploading, feeding);
        assert_eq!(posted, Posted::Taken);
    }
    assert_eq!(hub.connections(), 1);
}

#[actix::test]
async fn an_upload_that_is_refused_early_ends_early() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let credentials =
        Credentials::new(format!("http://{}", listener.local_addr().unwrap()), Secret::new("t"));
    let refusing = async {
        let (mut socket, _) = listener.accept().await.unwrap();
        let answer = b"HTTP/1.1 410 Gone\r\ncontent-length: 2\r\n\r\n{}";
        tokio::io::AsyncWriteExt::write_all(&mut socket, answer).await.unwrap();
        socket
    };
    let (pieces, body) = mpsc::channel(1);
    let client = HubClient::new(&credentials).unwrap();
    let (posted, _socket) = futures_util::join!(client.upload(&id("t"), body), refusing);
    assert_eq!(posted, Posted::Gone);
    assert!(pieces.is_closed(), "the sender of the pieces is told");
}
