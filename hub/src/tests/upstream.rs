//! Public rows: a scripted upstream behind the hub.

mod hostile;

use std::time::Duration;

use serde_json::{Value, json};
use testkit::connection::{Connection, SSE, chunked};
use testkit::peer::Listener;
use tokio::time::timeout;

use super::http::{Ask, PATIENCE};
use super::publisher::{chunk, completion};
use super::road::infer;
use super::support::{TestHub, hub, hub_with};

const KEY: &str = "canary-upstream-key";

/// An upstream that does what the test says, and the hub's row for it.
struct Upstream(Listener);

/// A call that the upstream got.
struct Call {
    connection: Connection,
    /// In lower case.
    head: String,
    body: Value,
}

impl Upstream {
    async fn start(hub: &TestHub, name: &str, kind: &str) -> Self {
        let listener = Listener::bind().await;
        let url = format!("{}/v1", listener.url());
        let row = json!({ "name": name, "type": kind, "model": "real-model", "url": url, "apiKey": KEY });
        let (status, answer) = hub.ask("POST", "/api/v1/llms").body(row.to_string()).json().await;
        assert_eq!(status, 201, "{answer}");
        Self(listener)
    }

    async fn call(&self) -> Call {
        let mut connection = self.0.accept().await;
        let mut request = connection.request_or_part().await;
        if request.is_err() {
            // A look whether somebody listens says nothing.
            connection = self.0.accept().await;
            request = connection.request_or_part().await;
        }
        let request = request.unwrap();
        assert!(request.is_whole, "the call broke off");
        Call { connection, body: request.json(), head: request.head.to_lowercase() }
    }
}

impl Call {
    async fn json(mut self, status: u16, body: &Value) {
        self.connection.json(status, body).await.unwrap();
    }

    async fn open_stream(&mut self) {
        self.connection.write(SSE).await.unwrap();
    }

    async fn write(&mut self, text: &str) {
        self.connection.write(chunked(text)).await.unwrap();
    }

    /// Waits until the hub is gone.
    async fn dropped(&mut self) {
        timeout(PATIENCE, self.connection.closed()).await.expect("still open");
    }
}

fn v1(hub: &TestHub, path: &str, stream: bool) -> Ask {
    hub.ask("POST", path).body(super::road::chat("gpt", stream))
}

#[actix_rt::test]
async fn a_public_row_is_called_by_the_hub_with_its_key_and_its_model() {
    let hub = hub().await;
    let upstream = Upstream::start(&hub, "gpt", "openai").await;
    for ask in [infer(&hub, "gpt", false), v1(&hub, "/v1/chat/completions", false)] {
        let ((status, answer), ()) = futures_util::join!(ask.json(), async {
            let call = upstream.call().await;
            assert!(call.head.starts_with("post /v1/chat/completions http/1.1"), "{}", call.head);
            assert!(call.head.contains(&format!("authorization: bearer {KEY}")));
            assert_eq!(call.body["model"], "real-model");
            assert!(call.body.get("stream").is_none());
            call.json(200, &completion("hello")).await;
        });
        assert_eq!(status, 200);
        assert_eq!(answer["choices"][0]["message"]["content"], "hello");
    }
    hub.stop().await;
}

#[actix_rt::test]
async fn an_upstreams_stream_passes_as_it_comes_and_ends_with_done() {
    let hub = hub().await;
    let upstream = Upstream::start(&hub, "gpt", "openai").await;
    let ask = v1(&hub, "/v1/chat/completions", true);
    let (mut answer, mut call) = futures_util::join!(ask.open(), async {
        let mut call = upstream.call().await;
        assert_eq!(call.body["stream"], true);
        call.open_stream().await;
        call.write(&format!(": comment\r\ndata:{}\r\n\r\n", chunk("one"))).await;
        call
    });
    assert_eq!(answer.until("one").await, format!("data: {}\n\n", chunk("one")));
    call.write(&format!("data: {}\n\ndata: [DONE]\n\n", chunk("two"))).await;
    assert_eq!(answer.rest().await, format!("data: {}\n\ndata: [DONE]\n\n", chunk("two")));
    hub.stop().await;
}

/// P3: not even from a public row.
#[actix_rt::test]
async fn a_stream_without_its_end_mark_is_never_reported_as_whole() {
    let hub = hub().await;
    let upstream = Upstream::start(&hub, "gpt", "openai").await;
    for (last, whole) in
        [(chunk("one"), false), (chunk("one").replace("}}]", "},\"finish_reason\":\"stop\"}]"), true)]
    {
        let ask = infer(&hub, "gpt", true);
        let (text, ()) = futures_util::join!(async { ask.open().await.rest().await }, async {
            let mut call = upstream.call().await;
            call.open_stream().await;
            call.write(&format!("data: {last}\n\n")).await;
        });
        assert_eq!(text.contains("[DONE]"), whole, "{text}");
        assert_eq!(text.contains("error"), !whole, "{text}");
    }
    hub.stop().await;
}

/// A19: for a public row too.
#[actix_rt::test]
async fn an_upstreams_answer_that_is_no_object_is_an_error() {
    let hub = hub().await;
    let upstream = Upstream::start(&hub, "gpt", "openai").await;
    for bad in [json!(null), json!(0.5), json!([]), json!([{ "choices": [] }]), json!("x"), json!(false)] {
        for path in ["/v1/chat/completions", "/v1/embeddings", "/v1/rerank"] {
            let ask = v1(&hub, path, false);
            let (answer, ()) =
                futures_util::join!(ask.json(), async { upstream.call().await.json(200, &bad).await });
            assert_eq!(answer.0, 502, "{bad} {}", answer.1);
            assert_eq!(answer.1["error"]["message"], "backend's answer is not a JSON object");
        }
        if bad.is_null() {
            // Backends send it to say that they live.
            continue;
        }
        let ask = v1(&hub, "/v1/chat/completions", true);
        let (text, ()) = futures_util::join!(async { ask.open().await.rest().await }, async {
            let mut call = upstream.call().await;
            call.open_stream().await;
            call.write(&format!("data: {}\n\ndata: {bad}\n\ndata: [DONE]\n\n", chunk("one"))).await;
        });
        assert!(text.contains("one") && text.contains("error"), "{text}");
        assert!(!text.contains("[DONE]"), "{text}");
    }
    hub.stop().await;
}

#[actix_rt::test]
async fn an_upstreams_refusal_is_passed_on_without_key_or_address() {
    let hub = hub().await;
    let upstream = Upstream::start(&hub, "gpt", "openai").await;
    let address = format!("127.0.0.1:{}", upstream.0.port());
    for (status, expected) in [(400, 400), (429, 429), (500, 500), (401, 502), (302, 502)] {
        let ask = infer(&hub, "gpt", false);
        let ((got, text), ()) = futures_util::join!(ask.send(), async {
            let body = json!({ "error": { "message": format!("{KEY} is bad at {address}") } });
            upstream.call().await.json(status, &body).await;
        });
        assert_eq!(got, expected, "{text}");
        assert!(!text.contains(KEY) && !text.contains(&address), "{text}");
    }
    hub.stop().await;
}

#[actix_rt::test]
async fn an_unreachable_upstream_is_502_without_its_address() {
    let hub = hub().await;
    let upstream = Upstream::start(&hub, "gpt", "openai").await;
    drop(upstream);
    let (status, text) = infer(&hub, "gpt", false).send().await;
    assert_eq!(
        (status, text.as_str()),
        (502, r#"{"error":"the upstream cannot be reached","code":"upstream_error"}"#)
    );
    hub.stop().await;
}

#[actix_rt::test]
async fn a_closed_connection_differs_from_an_unreachable_upstream() {
    let hub = hub().await;
    let upstream = Upstream::start(&hub, "gpt", "openai").await;
    for streaming in [false, true] {
        let ask = infer(&hub, "gpt", streaming);
        let ((status, text), ()) = futures_util::join!(ask.send(), async { drop(upstream.call().await) });
        assert_eq!(
            (status, text.as_str()),
            (502, r#"{"error":"backend broke off before it answered","code":"upstream_error"}"#)
        );
    }
    hub.stop().await;
}

#[actix_rt::test]
async fn a_caller_that_leaves_closes_the_upstreams_connection() {
    let hub = hub().await;
    let upstream = Upstream::start(&hub, "gpt", "openai").await;
    for streaming in [false, true] {
        let caller = infer(&hub, "gpt", streaming).begin().await;
        let mut call = upstream.call().await;
        if streaming {
            call.open_stream().await;
        }
        drop(caller);
        call.dropped().await;
    }
    hub.stop().await;
}

#[actix_rt::test]
async fn anthropics_api_gets_its_key_in_its_header() {
    let hub = hub().await;
    let upstream = Upstream::start(&hub, "gpt", "anthropic").await;
    let ask = v1(&hub, "/v1/messages", false);
    let ((status, _), ()) = futures_util::join!(ask.send(), async {
        let call = upstream.call().await;
        assert!(call.head.starts_with("post /v1/messages "));
        assert!(call.head.contains(&format!("x-api-key: {KEY}")) && !call.head.contains("authorization"));
        assert!(call.head.contains("anthropic-version: 2023-06-01"));
        call.json(200, &json!({ "type": "message" })).await;
    });
    assert_eq!(status, 200);
    hub.stop().await;
}
