//! Calls through a proxy, to a hub whose name only the proxy knows.

use testkit::certificate::Certificate;
use testkit::connect_proxy::{Answer, ConnectProxy};

use super::*;
use crate::http::proxy::{ProxyError, ProxyFault};

/// A client of `hub` by a name that no resolver knows.
fn client_through(url: &str, hub: &ClassicHub, ca_file: Option<std::path::PathBuf>) -> HubClient {
    let port = hub.url().rsplit(':').next().unwrap().to_owned();
    let mut credentials = Credentials::new(format!("http://hub.example.test:{port}"), Secret::new("t"));
    credentials.allow_insecure = true;
    credentials.ca_file = ca_file;
    credentials.proxy = Some(Proxy::parse(url, "HTTPS_PROXY").unwrap());
    HubClient::new(&credentials).unwrap()
}

/// Opens the channel, and sends a heartbeat, a result and a chunk.
async fn call_all(client: &HubClient) {
    client.open_channel(session()).await.unwrap();
    client.heartbeat(beat()).await.unwrap();
    assert_eq!(client.send_result(&id("t"), Bytes::from_static(b"{}")).await, Outcome::Taken);
    assert_eq!(client.post_chunk(&id("t"), Bytes::from_static(b"{}")).await, Outcome::Taken);
}

#[actix::test]
async fn every_kind_of_call_goes_through_the_proxy() {
    let (hub, proxy) = (ClassicHub::start(), ConnectProxy::start());
    call_all(&client_through(&proxy.url(), &hub, None)).await;
    assert_eq!(proxy.requests().len(), hub.connections());
    assert!(proxy.requests().iter().all(|request| request.target.starts_with("hub.example.test:")));
}

#[actix::test]
async fn a_proxy_that_is_reached_by_tls_shows_a_certificate_of_the_ca_file() {
    let folder = tempfile::tempdir().unwrap();
    let certificate = Certificate::of_localhost();
    let (ca, _) = certificate.write_to(folder.path(), "proxy");
    let (hub, proxy) = (ClassicHub::start(), ConnectProxy::start());
    let url = format!("https://localhost:{}", proxy.behind_tls(&certificate));
    call_all(&client_through(&url, &hub, Some(ca))).await;
    assert!(!proxy.requests().is_empty());
    let error = client_through(&url, &hub, None).heartbeat(beat()).await.unwrap_err();
    let HubError::Proxy { error: ProxyError { fault: ProxyFault::Unconnected { reason }, .. }, .. } = &error
    else {
        panic!("{error}")
    };
    assert!(reason.contains("--ca-file"), "{error}");
}

/// F91: of all kinds of calls.
#[actix::test]
async fn a_proxy_that_refuses_is_a_refusal_and_loses_no_result() {
    let (hub, proxy) = (ClassicHub::start(), ConnectProxy::start());
    let client = client_through(&proxy.url(), &hub, None);
    for (status, kind) in [
        (407, HubErrorKind::Refused),
        (403, HubErrorKind::Refused),
        (429, HubErrorKind::Retry),
        (502, HubErrorKind::Retry),
        (504, HubErrorKind::Retry),
    ] {
        proxy.answers(Answer::Bytes(format!("HTTP/1.1 {status} X\r\n\r\n")));
        let error = client.heartbeat(beat()).await.unwrap_err();
        assert_eq!((error.kind(), error.nothing_taken()), (kind, true), "{error}");
        assert!(error.to_string().contains(&format!("the proxy 127.0.0.1:{}", proxy.port())), "{error}");
        let failed = Outcome::Failed { retry_after: None, nothing_taken: true };
        assert_eq!(client.send_result(&id("t"), Bytes::from_static(b"{}")).await, failed);
        assert_eq!(client.post_chunk(&id("t"), Bytes::from_static(b"{}")).await, failed);
    }
    assert_eq!(hub.connections(), 0);
}

/// F91: the hub, or the proxy on its behalf, breaks the tunnel.
#[actix::test]
async fn an_error_behind_the_proxy_names_it() {
    let (hub, proxy) = (ClassicHub::start(), ConnectProxy::start());
    hub.script("_provider-heartbeat", [Reply::Cut]);
    let error = client_through(&proxy.url(), &hub, None).heartbeat(beat()).await.unwrap_err().to_string();
    let end = format!(
        "the connection broke before the hub answered (through the proxy 127.0.0.1:{})",
        proxy.port()
    );
    assert!(error.ends_with(&end), "{error}");
}

/// F91: it is given up after 10 s.
#[actix::test]
async fn a_proxy_that_is_silent_is_given_up_with_its_name() {
    let proxy = ConnectProxy::start();
    proxy.answers(Answer::Silence);
    let to = Proxy::parse(&proxy.url(), "--proxy").unwrap();
    let stream = to.connect(None, "hub.example.test", 443).await.unwrap();
    // Nothing else is due on this thread: the clock goes straight to the end of the wait.
    tokio::time::pause();
    let error = to.open(stream, "hub.example.test", 443).await.unwrap_err().to_string();
    let expected =
        format!("the proxy {} did not answer CONNECT hub.example.test:443 within 10 s", to.address());
    assert_eq!(error, expected);
}

#[actix::test]
async fn an_answer_to_connect_may_come_in_parts_and_has_a_bounded_head() {
    let proxy = ConnectProxy::start();
    let to = Proxy::parse(&proxy.url(), "--proxy").unwrap();
    let open = async |answer: String| {
        proxy.answers(Answer::Bytes(answer));
        let stream = to.connect(None, "[2001:db8::1]", 443).await.unwrap();
        to.open(stream, "[2001:db8::1]", 443).await.map(|_| ()).map_err(|error| error.fault)
    };
    assert_eq!(open("HTTP/1.0 200 Connection established\r\nvia: x\r\n\r\n".to_owned()).await, Ok(()));
    let endless = format!("HTTP/1.1 200 OK\r\nx: {}", "x".repeat(100_000));
    assert_eq!(open(endless).await, Err(ProxyFault::NotHttp));
    // The hub does not speak first.
    assert_eq!(open("HTTP/1.1 200 OK\r\n\r\nhello".to_owned()).await, Err(ProxyFault::NotHttp));
    assert_eq!(open("HTTP/1.1 200 O".to_owned()).await, Err(ProxyFault::Closed));
    let requests = proxy.requests();
    assert!(requests.iter().all(|request| request.target == "[2001:db8::1]:443"), "{requests:?}");
}
