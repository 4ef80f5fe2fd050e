use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use testkit::classic_hub::{ClassicHub, Reply};
use testkit::wait::wait_until;
use wire::TaskId;

mod faults;
mod links;
mod proxy;
mod token;

use super::address::HubAddress;
use super::*;
use crate::Secret;
use crate::fakes::credentials;
use crate::uplink::{Outcome, Uplink};

fn client(hub: &ClassicHub) -> HubClient {
    HubClient::new(&credentials(hub)).unwrap()
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

/// A47: plain http to another host needs an explicit option.
#[test]
fn a_token_is_sent_over_plain_http_to_loopback_only() {
    let loopback = [
        "http://127.0.0.1:1",
        "http://127.9.9.9",
        "http://[::1]:8787",
        "http://[::ffff:127.0.0.1]:8787",
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
fn the_error_for_an_invalid_url_has_no_password() {
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
async fn the_error_of_a_refusal_has_the_hubs_text_without_the_token() {
    let hub = ClassicHub::start();
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
            // The limit for texts falls into the token.
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

/// F15, F16: the HTML page of a captive portal is not a channel.
#[actix::test]
async fn only_a_200_with_an_event_stream_is_a_channel() {
    let hub = ClassicHub::start();
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
    let hub = ClassicHub::start();
    let channel = client(&hub).open_channel(session()).await.unwrap();
    let ControlChannel::Events { mut body, .. } = channel else { panic!("a link") };
    assert_eq!(body.next().await.unwrap(), "event: hello\ndata: {}\n\n");
    assert_eq!(hub.open_channels(), 1);
    drop(body);
    wait_until("the connection is closed", || hub.open_channels() == 0).await;
}

/// F28, F32, F33: the status decides whether a result is sent again.
#[actix::test]
async fn each_status_maps_to_the_outcome_of_a_posted_result() {
    let hub = ClassicHub::start();
    let hint = vec![("retry-after", "17".to_owned())];
    let failed = |retry_after: Option<u64>, nothing_taken| Outcome::Failed {
        retry_after: retry_after.map(Duration::from_secs),
        nothing_taken,
    };
    let table = [
        (Reply::status(200), Outcome::Taken),
        (Reply::status(204), Outcome::Taken),
        (Reply::status(404), Outcome::Gone),
        (Reply::status(409), Outcome::Gone),
        (Reply::status(410), Outcome::Gone),
        (Reply::status(302), Outcome::Refused { status: 302 }),
        (Reply::status(413), Outcome::Refused { status: 413 }),
        (Reply::status(429), failed(None, true)),
        (Reply::status(500), failed(None, true)),
        (Reply::Status(503, hint, String::new()), failed(Some(17), true)),
        (Reply::Cut, failed(None, false)),
    ];
    let client = client(&hub);
    for (reply, posted) in table {
        hub.script("/result", [reply.clone()]);
        assert_eq!(client.send_result(&id("t"), Bytes::from_static(b"{}")).await, posted, "{reply:?}");
    }
    let call = hub.request("_provider-task/t/result", 1).await;
    assert_eq!((call.method.as_str(), call.text().as_str()), ("POST", "{}"));
    assert_eq!(call.header("content-type"), Some("application/json"));
}

/// F01: a result is safe to send again after a refused connection.
#[actix::test]
async fn a_result_is_certainly_not_taken_by_an_unreachable_hub() {
    let closed = format!("http://127.0.0.1:{}", testkit::free_port());
    let credentials = Credentials::new(closed, Secret::new("t"));
    let client = HubClient::new(&credentials).unwrap();
    let posted = client.send_result(&id("t"), Bytes::from_static(b"{}")).await;
    assert_eq!(posted, Outcome::Failed { retry_after: None, nothing_taken: true });
    let error = client.heartbeat(beat()).await.unwrap_err();
    assert!(error.to_string().starts_with("provider-heartbeat: the hub cannot be reached: "), "{error}");
}

#[actix::test]
async fn results_reuse_connections() {
    let hub = ClassicHub::start();
    let client = client(&hub);
    for _ in 0..100 {
        assert_eq!(client.send_result(&id("t"), Bytes::from_static(b"{}")).await, Outcome::Taken);
    }
    assert!(hub.connections() <= 2, "{} connections", hub.connections());
}
