//! Hostile upstreams, and hostile callers of public rows.

use super::*;
use crate::connections::OutboundLimits;

/// A16, A18: the hub calls only addresses that an admin entered, none from a publisher under any key, and none from a
/// redirect.
#[actix_rt::test]
async fn the_hub_calls_no_address_of_a_publisher_or_of_a_redirect() {
    let hub = hub().await;
    let forbidden_address = Listener::bind().await;
    let url = format!("{}/v1", forbidden_address.url());
    let mut spec = crate::tests::publisher::provider("a");
    for key in
        ["url", "baseUrl", "base_url", "upstream", "endpoint", "wake", "availability", "kind", "apiKey"]
    {
        spec[key] = if key == "kind" { "public".into() } else { url.as_str().into() };
    }
    spec["model"] = url.as_str().into();
    spec["description"] = url.as_str().into();
    let alice = hub.member("alice").await;
    let mut publisher =
        crate::tests::publisher::Publisher::start(&hub, &alice, &[spec.clone()], Some("cancel, status"))
            .await;
    assert_eq!(hub.row("a").await["kind"], "virtual");
    let beat = json!({ "providers": [{ "name": "a", "status": "hibernating", "inFlight": 0, "queued": 0,
        "maxConcurrency": 1, "url": url }], "url": url });
    assert_eq!(publisher.beat(&hub, beat).await, 200);
    let ask = infer(&hub, "a", false);
    let ((status, _), ()) = futures_util::join!(ask.send(), async {
        let wake = publisher.task().await;
        assert_eq!(wake["kind"], "wake");
        let awake = json!({ "status": 200, "body": { "ok": true, "url": url, "location": url } });
        publisher.post(&hub, &wake, &awake).await;
        let task = publisher.task().await;
        publisher
            .post(&hub, &task, &json!({ "status": 302, "headers": { "location": url }, "body": {} }))
            .await;
    });
    assert_eq!(status, 502);
    // A member cannot create a public row or turn an own row into one.
    for (method, path) in [("POST", "/api/v1/llms"), ("PUT", "/api/v1/llms/a")] {
        let body = json!({ "name": "b", "type": "openai", "model": "m", "url": url });
        assert_eq!(hub.ask_as(&alice, method, path).body(body.to_string()).send().await.0, 403);
    }
    let upstream = Upstream::start(&hub, "gpt", "openai").await;
    for status in [301, 302, 303, 307, 308] {
        let ask = infer(&hub, "gpt", false);
        let ((got, text), ()) = futures_util::join!(ask.send(), async {
            let mut call = upstream.call().await;
            let head = format!("HTTP/1.1 {status} X\r\nlocation: {url}/\r\ncontent-length: 0\r\n\r\n");
            call.connection.write(head).await.unwrap();
        });
        assert_eq!(got, 502, "{text}");
        assert!(!text.contains(&url), "{text}");
    }
    hub.stop().await;
    assert!(!forbidden_address.has_caller().await, "the hub called the address");
}

/// A40, A41: an upstream gets the hub's own headers and none of the caller's.
#[actix_rt::test]
async fn an_upstream_gets_no_header_of_the_caller() {
    let hub = hub().await;
    let upstream = Upstream::start(&hub, "gpt", "openai").await;
    let ask = v1(&hub, "/v1/chat/completions", false)
        .header("user-agent", "canary-agent")
        .header("x-forwarded-for", "canary-address")
        .header("cookie", "canary-cookie")
        .header("openai-organization", "canary-org")
        .header("x-api-key", "canary-key-of-the-caller")
        .header("connection", "keep-alive, x-hop")
        .header("x-hop", "canary-hop");
    let ((status, _), ()) = futures_util::join!(ask.send(), async {
        let call = upstream.call().await;
        let names: std::collections::BTreeSet<&str> =
            call.head.lines().skip(1).filter_map(|line| line.split_once(':')).map(|(name, _)| name).collect();
        let ours = [
            "accept",
            "accept-encoding",
            "authorization",
            "content-length",
            "content-type",
            "date",
            "host",
            "user-agent",
        ];
        assert!(names.iter().all(|name| ours.contains(name)), "{}", call.head);
        assert!(!call.head.replace(KEY, "").contains("canary"), "{}", call.head);
        assert!(!call.head.contains("admin-token"), "{}", call.head);
        call.json(200, &completion("hello")).await;
    });
    assert_eq!(status, 200);
    hub.stop().await;
}

/// An upstream that sends no chunk for too long times out, as a publisher does.
#[actix_rt::test]
async fn a_silent_upstream_times_out_with_an_error() {
    let hub = hub_with(|options| options.timings.stream_idle_timeout = Duration::from_millis(200)).await;
    let upstream = Upstream::start(&hub, "gpt", "openai").await;
    let ask = v1(&hub, "/v1/chat/completions", true);
    let ((_, text), mut call) = futures_util::join!(ask.send(), async {
        let mut call = upstream.call().await;
        call.open_stream().await;
        call.write(&format!("data: {}\n\n", chunk("one"))).await;
        call
    });
    assert!(text.contains("stream_idle") && !text.contains("[DONE]"), "{text}");
    call.until_closed().await;
    hub.stop().await;
}

/// A26, A27: incomplete answers of public rows count among the caller's unread answers.
#[actix_rt::test]
async fn unread_answers_of_public_rows_count_for_their_caller() {
    const MOST: usize = 4 << 20;
    let hub = hub_with(|options| options.limits.bytes = MOST).await;
    let upstream = Upstream::start(&hub, "gpt", "openai").await;
    let text = "x".repeat(MOST + (1 << 20));
    for stream in [false, true] {
        let ask = v1(&hub, "/v1/chat/completions", stream);
        let ((status, answer), ()) = futures_util::join!(ask.json(), async {
            let mut call = upstream.call().await;
            let head = if stream {
                call.open_stream().await;
                format!("{:x}\r\ndata: {{\"choices\":\"", 2 * MOST)
            } else {
                format!("HTTP/1.1 200 X\r\ncontent-length: {}\r\n\r\n{{\"choices\":\"", 2 * MOST)
            };
            // The hub stops reading at the limit, so that the write may fail.
            let _ = call.connection.write(head + &text).await;
            call.until_closed().await;
        });
        assert_eq!((status, &answer["error"]["code"]), (503, &json!("hub_busy")), "{stream} {answer}");
    }
    // The counted bytes are freed: an answer below the limit arrives whole.
    for _ in 0..3 {
        let ask = v1(&hub, "/v1/chat/completions", false);
        let fits = "x".repeat(MOST / 4 * 3);
        let ((status, answer), ()) = futures_util::join!(ask.json(), async {
            upstream.call().await.json(200, &completion(&fits)).await;
        });
        assert_eq!(status, 200);
        assert_eq!(answer["choices"][0]["message"]["content"], *fits);
    }
    hub.stop().await;
}

/// A24: each call of a public row has an open file beside that of its caller.
#[actix_rt::test]
async fn calls_of_public_rows_are_bounded_by_user_and_in_all() {
    let hub = hub().await;
    let upstream = Upstream::start(&hub, "gpt", "openai").await;
    hub.core().outbound.limit(OutboundLimits { calls: 3, per_user: 2, idle: 1 });
    let [alice, bob, carol] = [hub.member("alice").await, hub.member("bob").await, hub.member("carol").await];
    let chat = |token: &str| {
        hub.ask_as(token, "POST", "/v1/chat/completions").body(crate::tests::road::chat("gpt", false))
    };
    for _ in 0..2 {
        let mut held = Vec::new();
        for token in [&alice, &alice, &bob] {
            let ask = chat(token);
            let answer = actix_rt::spawn(async move { ask.send().await });
            held.push((upstream.call().await, answer));
        }
        let (status, text) = chat(&alice).send().await;
        assert_eq!(status, 429, "{text}");
        assert!(text.contains("you have 2 calls of public rows under way already: wait for some"), "{text}");
        let (status, text) = chat(&carol).send().await;
        assert_eq!(status, 503, "{text}");
        assert!(text.contains("3 calls of public rows are under way: try again later"), "{text}");
        // Others are served.
        assert_eq!(hub.ask_as(&carol, "GET", "/v1/models").send().await.0, 200);
        for (call, answer) in held {
            call.json(200, &completion("hello")).await;
            assert_eq!(answer.await.unwrap().0, 200);
        }
    }
    let metrics = hub.ask("GET", "/metrics").send().await.1;
    assert!(metrics.contains("limit_refusals_total{limit=\"outbound_calls\"} 4\n"), "{metrics}");
    hub.stop().await;
}
