//! Public rows, with an upstream that the test controls.

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

/// An upstream that the test controls. The hub has a public row for it.
pub(crate) struct Upstream(Listener);

/// A request that the upstream received.
pub(crate) struct Call {
    connection: Connection,
    /// Request line and headers, in lower case.
    head: String,
    pub(crate) body: Value,
}

impl Upstream {
    pub(crate) async fn start(hub: &TestHub, name: &str, kind: &str) -> Self {
        let listener = Listener::bind().await;
        let url = format!("{}/v1", listener.url());
        let row = json!({ "name": name, "type": kind, "model": "real-model", "url": url, "apiKey": KEY });
        let (status, answer) = hub.ask("POST", "/api/v1/llms").body(row.to_string()).json().await;
        assert_eq!(status, 201, "{answer}");
        Self(listener)
    }

    pub(crate) async fn call(&self) -> Call {
        let mut connection = self.0.accept().await;
        let mut request = connection.request_or_part().await;
        if request.is_err() {
            // The hub's test whether the address accepts connections sends no request.
            connection = self.0.accept().await;
            request = connection.request_or_part().await;
        }
        let request = request.unwrap();
        assert!(request.is_whole, "the call broke off");
        Call { connection, body: request.json(), head: request.head.to_lowercase() }
    }
}

impl Call {
    pub(crate) async fn json(mut self, status: u16, body: &Value) {
        self.connection.json(status, body).await.unwrap();
    }

    pub(crate) async fn open_stream(&mut self) {
        self.connection.write(SSE).await.unwrap();
    }

    pub(crate) async fn write(&mut self, text: &str) {
        self.connection.write(chunked(text)).await.unwrap();
    }

    /// Waits until the hub has closed the connection.
    async fn until_closed(&mut self) {
        timeout(PATIENCE, self.connection.closed()).await.expect("the hub closes the connection");
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
async fn an_upstreams_chunks_are_passed_on_at_once() {
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

/// P3: a stream of a public row without an end mark ends with an error, unless it has a finish reason.
#[actix_rt::test]
async fn a_stream_without_an_end_mark_is_not_reported_as_whole() {
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

/// A19: an answer or a chunk of an upstream that is JSON but not an object becomes an error.
#[actix_rt::test]
async fn an_upstreams_answer_that_is_not_an_object_is_an_error() {
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
            // In a stream, `null` is a keep-alive of some backends.
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
async fn the_upstreams_connection_closes_when_the_caller_disconnects() {
    let hub = hub().await;
    let upstream = Upstream::start(&hub, "gpt", "openai").await;
    for streaming in [false, true] {
        let caller = infer(&hub, "gpt", streaming).begin().await;
        let mut call = upstream.call().await;
        if streaming {
            call.open_stream().await;
        }
        drop(caller);
        call.until_closed().await;
    }
    hub.stop().await;
}

#[actix_rt::test]
async fn the_key_for_anthropics_api_is_sent_in_x_api_key() {
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
