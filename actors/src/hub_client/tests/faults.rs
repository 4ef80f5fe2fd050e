//! Redirects, slow answers, unknown names and broken connections.

use std::rc::Rc;

use testkit::peer::Peer;

use super::*;

/// The errors of a registration, a channel and a heartbeat.
async fn control_errors(client: &HubClient) -> [HubError; 3] {
    let request = RegisterRequest { provider_session_id: None, providers: vec![], agents: vec![] };
    [
        client.register(request).await.unwrap_err(),
        client.open_channel(session()).await.unwrap_err(),
        client.heartbeat(beat()).await.unwrap_err(),
    ]
}

/// F17, A18, A47: the token is not sent to the target host, and the error names that host.
#[actix::test]
async fn no_call_follows_a_redirect() {
    let hub = ClassicHub::start();
    let other = ClassicHub::start();
    let client = client(&hub);
    let to = |status: u16| {
        // Answers with odd statuses have an error text.
        let reason = if status % 2 == 1 { r#"{"error":"we moved"}"# } else { "" };
        let location = vec![("location", format!("{}/api/v1/llms/x?token=secret", other.url()))];
        Reply::Status(status, location, reason.to_owned())
    };
    for status in [301, 302, 303, 307, 308] {
        for route in ["_provider-register", "_provider-stream", "_provider-heartbeat"] {
            hub.script(route, [to(status)]);
        }
        hub.script("/result", [to(status), to(status)]);
        for error in control_errors(&client).await {
            assert_eq!(error.kind(), HubErrorKind::Refused);
            let target = format!("it redirects to {}; is that the hub's address?", other.url());
            let reason = if status % 2 == 1 { ": we moved; " } else { ": " };
            assert!(error.to_string().ends_with(&format!("HTTP {status}{reason}{target}")), "{error}");
        }
        assert_eq!(
            client.send_result(&id("t"), Bytes::from_static(b"{}")).await,
            Outcome::Refused { status }
        );
        assert_eq!(client.post_chunk(&id("t"), Bytes::from_static(b"{}")).await, Outcome::Refused { status });
    }
    assert_eq!(other.connections(), 0);
}

/// F25: heartbeats do not share connections with results.
#[actix::test]
async fn a_heartbeat_does_not_wait_for_hundreds_of_results() {
    const RESULTS: usize = 300;
    let hub = ClassicHub::start();
    hub.script("/result", (0..RESULTS).map(|_| Reply::Hang));
    let client = Rc::new(client(&hub));
    let waiting: Vec<_> = (0..RESULTS)
        .map(|n| {
            let client = Rc::clone(&client);
            actix_rt::spawn(async move {
                client.send_result(&id(&n.to_string()), Bytes::from_static(b"{}")).await
            })
        })
        .collect();
    wait_until("ten results wait for an answer", || hub.heads() >= 10).await;
    for _ in 0..10 {
        tokio::time::timeout(Duration::from_secs(2), client.heartbeat(beat())).await.unwrap().unwrap();
    }
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
}

/// F28: the hub may have received the result.
#[actix::test]
async fn a_result_that_is_not_answered_times_out_after_30_seconds() {
    let hub = ClassicHub::start();
    hub.script("/result", [Reply::Hang]);
    let client = client(&hub);
    let posting =
        actix_rt::spawn(async move { client.send_result(&id("t"), Bytes::from_static(b"{}")).await });
    hub.request("/result", 1).await;
    tokio::time::pause();
    let start = tokio::time::Instant::now();
    assert_eq!(posting.await.unwrap(), Outcome::Failed { retry_after: None, nothing_taken: false });
    assert!((29..=31).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
}

/// F26: invalid values are ignored.
#[actix::test]
async fn every_call_reports_the_retry_after_of_a_429() {
    let hub = ClassicHub::start();
    let client = client(&hub);
    let date = (jiff::Timestamp::now() + jiff::SignedDuration::from_secs(30))
        .strftime("%a, %d %b %Y %H:%M:%S GMT")
        .to_string();
    let values = [
        ("17", Some(17..=17)),
        (date.as_str(), Some(25..=30)),
        ("soon", None),
        ("1000000000", Some(1_000_000_000..=1_000_000_000)),
    ];
    for (value, expected) in values {
        let busy = || Reply::Status(429, vec![("retry-after", value.to_owned())], "{}".to_owned());
        for route in ["_provider-register", "_provider-stream", "_provider-heartbeat", "/result"] {
            hub.script(route, [busy()]);
        }
        let errors = control_errors(&client).await;
        let posted = client.send_result(&id("t"), Bytes::from_static(b"{}")).await;
        let Outcome::Failed { retry_after, nothing_taken: true } = posted else { panic!("{posted:?}") };
        for hint in errors.iter().map(HubError::retry_after).chain([retry_after]) {
            let hint = hint.map(|hint| hint.as_secs());
            assert!(hint.is_some() == expected.is_some(), "{value}: {hint:?}");
            assert!(
                hint.zip(expected.clone()).is_none_or(|(hint, range)| range.contains(&hint)),
                "{value}: {hint:?}"
            );
        }
        assert!(errors.iter().all(|error| error.kind() == HubErrorKind::Retry));
    }
}

/// F81: each try looks the name up again.
#[actix::test]
async fn an_unknown_host_name_is_a_temporary_error() {
    // A label of more than 63 characters is invalid, so no resolver is asked.
    let mut credentials = Credentials::new(format!("http://{}.invalid", "x".repeat(64)), Secret::new("t"));
    credentials.allow_insecure = true;
    let client = HubClient::new(&credentials).unwrap();
    for _ in 0..2 {
        let error = client.heartbeat(beat()).await.unwrap_err();
        assert_eq!((error.kind(), error.nothing_taken()), (HubErrorKind::Retry, true), "{error}");
    }
}

/// F01: only an answer that is not HTTP suggests a wrong address.
#[actix::test]
async fn a_reset_and_an_answer_that_is_not_http_have_different_errors() {
    let hub = Peer::start(async |mut connection| {
        // Closing a connection with unread data resets it.
        if connection.number % 2 == 1 {
            connection.write("\x15\x03\x03 no HTTP\r\n\r\n").await?;
            let _ = connection.request().await;
        }
        Ok(())
    });
    let client = HubClient::new(&Credentials::new(hub.url(), Secret::new("t"))).unwrap();
    for _ in 0..20 {
        let reset = client.heartbeat(beat()).await.unwrap_err();
        assert_eq!(reset.to_string(), "provider-heartbeat: the connection broke before the hub answered");
        assert!(!reset.nothing_taken());
        let odd = client.heartbeat(beat()).await.unwrap_err().to_string();
        assert!(odd.contains("not HTTP"), "{odd}");
    }
}
