//! Request bodies that are compressed, large, or have fields of the wrong type.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use serde_json::{Value, json};
use tokio::time::{Duration, Instant};

use super::publisher::{Publisher, provider};
use super::road::{chat, infer};
use super::support::{ADMIN, hub};

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn deflate(text: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn zstd(text: &[u8]) -> Vec<u8> {
    zstd::encode_all(text, 0).unwrap()
}

#[actix_rt::test]
async fn a_compressed_request_arrives_as_it_was() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], Some("endpoints")).await;
    let text = chat("a", false).replace("hi", &"gr\u{fc}\u{df} dich ".repeat(100_000));
    let expected: Value = serde_json::from_str(&text).unwrap();
    let text = text.as_bytes();
    for (coding, body) in [
        ("gzip", gzip(text)),
        ("X-Gzip", gzip(text)),
        ("deflate", deflate(text)),
        ("identity, zstd", zstd(text)),
    ] {
        for path in ["/v1/chat/completions", "/v1/messages", "/api/v1/llms/a/infer"] {
            let ask = hub.ask("POST", path).header("content-encoding", coding).bytes(body.clone());
            let task = publisher.serves(&hub, &ask, "hello").await;
            assert_eq!(task["request"]["messages"], expected["messages"], "{coding} {path}");
        }
    }
    // Routes whose bodies have no model decode them, too.
    let token = hub.ask("POST", "/api/v1/tokens").header("content-encoding", "gzip");
    assert_eq!(token.bytes(gzip(br#"{"user":"bob"}"#)).send().await.0, 201);
    let task = json!({ "llm": "a", "request": { "messages": [] } }).to_string();
    let task = hub
        .ask("POST", "/api/v1/inference-tasks")
        .header("content-encoding", "zstd")
        .bytes(zstd(task.as_bytes()));
    assert_eq!(task.send().await.0, 202);
    let result = infer(&hub, "a", false);
    // The durable task above comes first on the channel.
    let queued = publisher.task().await;
    publisher.answer(&hub, &queued, "hello").await;
    let (answer, ()) = futures_util::join!(result.send(), async {
        let id = publisher.task().await["taskId"].as_str().unwrap().to_owned();
        let path = format!("/api/v1/llms/_provider-task/{id}/result");
        let body = json!({ "status": 200, "body": { "choices": [] } }).to_string();
        let post =
            hub.ask("POST", path).header("content-encoding", "deflate").bytes(deflate(body.as_bytes()));
        assert_eq!(post.send().await.0, 200);
    });
    assert_eq!(answer, (200, r#"{"choices":[]}"#.into()));
    hub.stop().await;
}

#[actix_rt::test]
async fn an_undecodable_body_is_refused_with_a_reason() {
    let hub = hub().await;
    let ask = |coding: &str, body: Vec<u8>| {
        hub.ask("POST", "/v1/chat/completions").header("content-encoding", coding).bytes(body)
    };
    for coding in ["br", "gzip, compress", "deflate, gzip", "application/gzip"] {
        let mut answer = ask(coding, gzip(b"{}")).open().await;
        assert_eq!(answer.status, 415);
        assert!(answer.head.contains("accept-encoding: gzip, deflate, zstd"), "{}", answer.head);
        let body: Value = serde_json::from_str(&answer.rest().await).unwrap();
        assert!(body["error"]["message"].as_str().unwrap().contains("Content-Encoding"), "{body}");
    }
    let (status, body) = ask("gzip", chat("a", false).into()).json().await;
    assert_eq!((status, &body["error"]["type"]), (400, &json!("invalid_request_error")));
    let (status, body) = ask("zstd", zstd(&vec![b' '; 33 << 20])).json().await;
    let text = "the request's body is larger than 32 MiB when decoded";
    assert_eq!((status, &body["error"]["message"]), (413, &json!(text)));
    hub.stop().await;
}

#[actix_rt::test]
async fn a_stream_or_model_of_another_type_is_refused_by_name() {
    let hub = hub().await;
    let _publisher = Publisher::start(&hub, ADMIN, &[provider("a")], Some("endpoints")).await;
    for path in ["/v1/chat/completions", "/v1/messages", "/v1/rerank", "/api/v1/llms/a/infer", "/completions"]
    {
        for value in [json!("false"), json!(0), json!([]), json!({})] {
            let body = json!({ "model": "a", "stream": value }).to_string();
            let (status, text) = hub.ask("POST", path).body(body).send().await;
            assert!(status == 400 && text.contains("'stream'"), "{path} {status} {text}");
        }
    }
    for value in [json!(7), json!(true), json!(["a"])] {
        let (status, text) =
            hub.ask("POST", "/v1/responses").body(json!({ "model": value }).to_string()).send().await;
        assert!(status == 400 && text.contains("'model'"), "{status} {text}");
    }
    hub.stop().await;
}

#[actix_rt::test]
async fn embeddings_and_ranks_ignore_stream() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], Some("endpoints")).await;
    for path in ["/v1/embeddings", "/v1/rerank"] {
        let ask = hub.ask("POST", path).body(r#"{"model":"a","stream":true,"input":"x"}"#);
        let task = publisher.serves(&hub, &ask, "hello").await;
        assert_eq!(task["streaming"], false);
    }
    let null = hub.ask("POST", "/v1/chat/completions").body(r#"{"model":"a","stream":null}"#);
    assert_eq!(publisher.serves(&hub, &null, "hello").await["streaming"], false);
    hub.stop().await;
}

#[actix_rt::test]
async fn a_body_of_unannounced_length_arrives_whole() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    let text = (0..400_000).map(|number: u32| number.to_string()).collect::<Vec<_>>().join(" ");
    let body = json!({ "model": "a", "messages": text }).to_string();
    let mut upload = hub.ask("POST", "/v1/chat/completions").upload().await;
    let (answer, ()) = futures_util::join!(
        async {
            for piece in body.as_bytes().chunks(77_777) {
                upload.write(std::str::from_utf8(piece).unwrap()).await;
            }
            upload.finish().await
        },
        async {
            let task = publisher.task().await;
            assert!(task["request"]["messages"] == text, "the request was changed");
            publisher.answer(&hub, &task, "hello").await;
        }
    );
    assert_eq!(answer.0, 200);
    hub.stop().await;
}

/// Small calls are answered quickly while a body of 24 MB is parsed.
#[actix_rt::test]
async fn other_calls_are_served_while_large_bodies_are_read() {
    const CALLS: usize = 200;

    let hub = hub().await;
    // A body full of escapes takes longest to parse.
    let body = |model: &str| format!(r#"{{"text":"{}","model":"{model}"}}"#, r"\n".repeat(12 << 20));
    let large = async |model: &str| {
        let ask = hub.ask("POST", "/v1/chat/completions").body(body(model));
        for _ in 0..2 {
            assert_eq!(ask.send().await.0, 404);
        }
    };
    let small = async {
        let mut waits = Vec::new();
        for _ in 0..CALLS {
            let begin = Instant::now();
            assert_eq!(hub.ask("GET", "/healthz").send().await.0, 200);
            waits.push(begin.elapsed());
        }
        waits.sort();
        waits[CALLS * 3 / 4]
    };
    let (wait, ()) = futures_util::join!(small, large("nobody"));
    // In a debug build the parse takes seconds, so most calls overlap it.
    assert!(wait < Duration::from_millis(250), "{wait:?}");
    hub.stop().await;
}
