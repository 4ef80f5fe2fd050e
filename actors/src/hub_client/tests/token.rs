//! Tokens that change while a registrar runs.

use std::path::Path;

use testkit::captured_log;
use testkit::connection::Request;

use super::*;
use crate::options::CredentialsFile;

fn credentials_file(path: &Path, hub_url: Option<&str>) -> CredentialsFile {
    CredentialsFile { path: path.to_owned(), hub_url: hub_url.map(str::to_owned) }
}

fn authorization(request: &Request) -> String {
    request.header("authorization").unwrap().to_owned()
}

/// F18, F22: a new token in the file is used without a restart.
#[actix::test]
async fn after_a_401_the_credentials_file_is_read_again() {
    let hub = ClassicHub::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("credentials");
    std::fs::write(&file, r#"{"mcpdUrl":"http://elsewhere","token":"newer"}"#).unwrap();
    let mut credentials = credentials(&hub);
    credentials.file = Some(credentials_file(&file, Some("http://elsewhere/")));
    let client = HubClient::new(&credentials).unwrap();
    for route in ["_provider-heartbeat", "_provider-stream", "/result"] {
        hub.script(route, [Reply::status(401)]);
    }
    client.heartbeat(beat()).await.unwrap();
    let tokens: Vec<_> = hub.requests("_provider-heartbeat").iter().map(authorization).collect();
    assert_eq!(tokens, ["Bearer token-of-the-test", "Bearer newer"]);
    client.open_channel(session()).await.unwrap();
    assert_eq!(client.send_result(&id("t"), Bytes::from_static(b"{}")).await, Outcome::Taken);

    hub.script("_provider-heartbeat", [Reply::status(401), Reply::status(401)]);
    let refused = client.heartbeat(beat()).await.unwrap_err();
    assert_eq!(refused.kind(), HubErrorKind::Refused);
    assert_eq!(hub.requests("_provider-heartbeat").len(), 4, "each call is retried once");

    std::fs::write(&file, "broken").unwrap();
    hub.script("_provider-heartbeat", [Reply::status(401)]);
    assert!(client.heartbeat(beat()).await.is_err());
    assert_eq!(
        hub.requests("_provider-heartbeat").len(),
        5,
        "a call is not retried without a token in the file"
    );
}

/// The credentials file may have been changed by a login to another hub.
#[actix::test]
async fn a_token_for_another_hub_is_not_sent() {
    captured_log::listen("actors");
    let hub = ClassicHub::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("credentials");
    let mut credentials = credentials(&hub);
    for (before, now) in [
        (Some("http://this"), Some("https://another")),
        (Some("http://this"), None),
        (None, Some("https://another")),
    ] {
        let text = serde_json::json!({ "mcpdUrl": now, "token": "canary" }).to_string();
        std::fs::write(&file, text).unwrap();
        credentials.file = Some(credentials_file(&file, before));
        let client = HubClient::new(&credentials).unwrap();
        for status in [401, 429] {
            for route in ["_provider-register", "_provider-stream", "_provider-heartbeat", "/result"] {
                hub.script(route, [Reply::status(status)]);
            }
            assert!(client.heartbeat(beat()).await.is_err());
            assert!(client.open_channel(session()).await.is_err());
            let posted = client.send_result(&id("t"), Bytes::from_static(b"{}")).await;
            assert!(!matches!(posted, Outcome::Taken), "{posted:?}");
        }
    }
    for route in ["_provider-stream", "_provider-heartbeat", "/result"] {
        for call in hub.requests(route) {
            assert_eq!(call.header("authorization"), Some("Bearer token-of-the-test"), "{route}");
        }
    }
    assert!(!captured_log::lines_with("names another hub now").is_empty());
}

/// F22: a hub that limits wrong tokens answers an old token with 429.
#[actix::test]
async fn after_a_429_only_a_different_token_is_tried() {
    let hub = ClassicHub::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("credentials");
    let write = |token: &str| std::fs::write(&file, format!(r#"{{"token":"{token}"}}"#)).unwrap();
    let mut credentials = credentials(&hub);
    credentials.file = Some(credentials_file(&file, None));
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
        client.send_result(&id("t"), Bytes::from_static(b"{}")).await,
        Outcome::Failed { nothing_taken: true, .. }
    ));
    assert!(client.open_channel(session()).await.is_err());
    assert_eq!(
        hub.requests("_provider-heartbeat").len() + hub.requests("/result").len(),
        2,
        "each token is sent once"
    );

    write("rotated");
    hub.script("_provider-heartbeat", [Reply::status(429), Reply::status(429)]);
    // Both calls first use the old token.
    let (one, two) = futures_util::join!(client.heartbeat(beat()), client.heartbeat(beat()));
    assert_eq!((one, two), (Ok(()), Ok(())));
    let last = hub.requests("_provider-heartbeat").last().map(authorization).unwrap();
    assert_eq!(last, "Bearer rotated");

    write("rotated-again");
    refuse_all();
    let posted = client.send_result(&id("t"), Bytes::from_static(b"{}")).await;
    assert_eq!(posted, Outcome::Taken);
}
