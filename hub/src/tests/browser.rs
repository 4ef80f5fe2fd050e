//! CORS: requests as browsers send them from pages of other origins (`--cors-origin`).

use super::http::{Answer, Ask};
use super::publisher::{Publisher, chunk, provider};
use super::road::chat;
use super::support::{ADMIN, TestHub, hub_with};

const PAGE: &str = "https://chat.example";

async fn hub_that_allows(origins: &'static [&'static str]) -> TestHub {
    hub_with(|options| origins.iter().for_each(|origin| options.cors_origins.allow(origin).unwrap())).await
}

/// The preflight request that a browser sends, without a token, before a page's own request.
fn preflight(hub: &TestHub, path: &str, origin: &str) -> Ask {
    super::http::ask(hub.addr, "OPTIONS", path)
        .header("origin", origin)
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "authorization,anthropic-version,x-stainless-retry-count")
}

fn has_header_line(answer: &Answer, line: &str) -> bool {
    answer.head.lines().any(|known| known == line)
}

#[actix_rt::test]
async fn a_preflight_of_a_known_origin_needs_no_token() {
    let hub = hub_that_allows(&["http://other.example:8080", PAGE]).await;
    for (path, methods) in [
        ("/v1/chat/completions", "get, head, post"),
        ("/messages", "post"),
        ("/api/v1/agents/x", "get, head, put, delete"),
        ("/openai/deployments/m/embeddings?api-version=1", "post"),
    ] {
        let answer = preflight(&hub, path, PAGE).open().await;
        assert_eq!(answer.status, 204, "{path}");
        for line in [
            "access-control-allow-origin: https://chat.example",
            "access-control-allow-headers: authorization,anthropic-version,x-stainless-retry-count",
            &format!("access-control-allow-methods: {methods}"),
            "access-control-max-age: 7200",
            "vary: origin",
        ] {
            assert!(has_header_line(&answer, line), "{path}: {line} in {}", answer.head);
        }
        assert!(!answer.head.contains("allow-credentials"), "{}", answer.head);
    }
    hub.stop().await;
}

#[actix_rt::test]
async fn an_unknown_origin_gets_405_and_no_cors_header() {
    let hub = hub_that_allows(&[PAGE]).await;
    for origin in ["https://evil.example", "https://chat.example.evil", "http://chat.example", "null"] {
        let answer = preflight(&hub, "/v1/models", origin).open().await;
        assert_eq!(answer.status, 405);
        assert!(
            has_header_line(&answer, "allow: get, head") && has_header_line(&answer, "vary: origin"),
            "{}",
            answer.head
        );
        assert!(!answer.head.contains("access-control-"), "{}", answer.head);
        let answer = hub.ask("GET", "/v1/models").header("origin", origin).open().await;
        assert_eq!(answer.status, 200);
        assert!(!answer.head.contains("access-control-"), "{}", answer.head);
    }
    hub.stop().await;
}

#[actix_rt::test]
async fn a_known_origin_can_read_errors_and_streams() {
    let hub = hub_that_allows(&["*"]).await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    let no_token = super::http::ask(hub.addr, "GET", "/v1/models");
    for (ask, status) in [
        (no_token, 401),
        (hub.ask("POST", "/v1/embeddings").body("{"), 400),
        (hub.ask("POST", "/v1/completions").body(chat("nobody", false)), 404),
        (hub.ask("GET", "/none"), 404),
        (hub.ask("DELETE", "/v1/models"), 405),
        (hub.ask("HEAD", "/v1/models"), 200),
    ] {
        let answer = ask.header("origin", "https://any.example").open().await;
        assert_eq!(answer.status, status);
        assert!(has_header_line(&answer, "access-control-allow-origin: *"), "{}", answer.head);
        assert!(answer.head.contains("access-control-expose-headers: x-request-id, "), "{}", answer.head);
    }
    let ask = hub.ask("POST", "/v1/chat/completions").header("origin", PAGE).body(chat("a", true));
    let (mut answer, ()) = futures_util::join!(ask.open(), async {
        let task = publisher.task().await;
        publisher.chunk(&hub, &task, "one").await;
        publisher.done(&hub, &task).await;
    });
    assert!(has_header_line(&answer, "access-control-allow-origin: *"), "{}", answer.head);
    assert_eq!(answer.rest().await, format!("data: {}\n\ndata: [DONE]\n\n", chunk("one")));
    hub.stop().await;
}
