//! The hub's memory budget, which all users share: what counts for a user, and until when.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::http::PATIENCE;
use super::link::peer::Peer;
use super::publisher::{Publisher, provider};
use super::road::chat;
use super::support::{ADMIN, TestHub, eventually, hub, hub_with};
use crate::quota::ByteQuota;

const MOST: u64 = 8 << 30;

/// A hub with a memory budget of 8 GiB, far more than this test process uses.
async fn hub_with_much_memory() -> TestHub {
    hub_with(|options| {
        options.machine.max_memory = Some(MOST);
        options.limits.bytes = usize::MAX;
    })
    .await
}

/// Checks that alice can register a row and that a call of 1 MiB by bob is served.
async fn assert_others_are_served(hub: &TestHub) {
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let mut publisher = Publisher::start(hub, &alice, &[provider("a")], None).await;
    let body = format!(r#"{{"model":"a","messages":[],"image":"{}"}}"#, "x".repeat(1 << 20));
    publisher.serves(hub, &hub.ask_as(&bob, "POST", "/v1/chat/completions").body(body), "hello").await;
}

/// A24, A27: a body counts as its bytes arrive; its `content-length` reserves no memory.
#[actix_rt::test]
async fn a_body_counts_as_it_arrives_whatever_its_content_length() {
    let hub = hub_with_much_memory().await;
    let mallory = hub.member("mallory").await;
    let mut open = Vec::new();
    for number in 0..300 {
        let (path, size) = match number % 3 {
            0 => ("/api/v1/llms/_provider-task/x/result", 64 << 20),
            1 => ("/v1/chat/completions", 32 << 20),
            _ => ("/api/v1/inference-tasks", 32 << 20),
        };
        let mut stream = TcpStream::connect(hub.addr).await.unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {mallory}\r\ncontent-length: {size}\r\n\r\n{{"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        open.push(stream);
    }
    let taken =
        || hub.core().quotas.requests.taken_by("mallory") + hub.core().quotas.results.taken_by("mallory");
    eventually("the byte of each body is counted", async || taken() == open.len()).await;
    assert_others_are_served(&hub).await;
    drop(open);
    eventually("the bytes are returned", async || taken() == 0).await;
    hub.stop().await;
}

/// A24, A27: a user at all of its byte quotas leaves memory for calls and results of other users.
#[actix_rt::test]
async fn a_user_at_its_limits_leaves_memory_to_others() {
    let hub = hub_with_much_memory().await;
    let core = hub.core();
    let quotas_of_mallory: [fn(&crate::hub::Hub) -> ByteQuota; 5] = [
        |hub| hub.unfinished_of("mallory"),
        |hub| hub.unread_of("mallory"),
        |hub| hub.results_of("mallory"),
        |hub| hub.bytes_of("mallory"),
        |hub| hub.out_of("mallory"),
    ];
    let mut taken = Vec::new();
    for quota in quotas_of_mallory {
        let mut held = quota(core).empty();
        while held.grow(16 << 20).is_ok() {}
        taken.push(held);
    }
    let all: usize = taken.iter().map(crate::quota::BytesPermit::size).sum();
    assert!(all as u64 > MOST / 2 && (all as u64) < MOST * 9 / 10, "{} MiB", all >> 20);
    assert_others_are_served(&hub).await;
    let mallory = hub.member("mallory").await;
    let refused = hub.ask_as(&mallory, "POST", "/v1/chat/completions").body(chat("a", false)).json().await;
    assert_eq!((refused.0, &refused.1["error"]["code"]), (503, &json!("hub_busy")));
    drop(taken);
    hub.stop().await;
}

/// Sends the head of a call, padded by `size` bytes, and one byte of its body.
async fn send_head(hub: &TestHub, token: &str, size: usize) -> TcpStream {
    let mut stream = TcpStream::connect(hub.addr).await.unwrap();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\nx-pad: {}\r\ncontent-length: 9\r\n\r\n{{",
        "x".repeat(size)
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

/// A24, A27: a large head counts for its user until the connection closes; without memory for it, the hub answers 503
/// and closes the connection, and other users are served.
#[actix_rt::test]
async fn heads_count_for_their_user_while_they_are_held() {
    let hub = hub_with_much_memory().await;
    let (core, mallory) = (hub.core(), hub.member("mallory").await);
    let taken = || core.quotas.heads.taken_by("mallory");
    let mut open = Vec::new();
    for _ in 0..50 {
        open.push(send_head(&hub, &mallory, 100 << 10).await);
    }
    eventually("all heads are counted", async || taken() >= 50 * (128 << 10)).await;
    drop(open);
    eventually("the bytes of the heads are returned", async || taken() == 0).await;
    let little = core.heads_of("mallory").take(usize::try_from(MOST).unwrap() / 16).unwrap();
    let all_but = usize::try_from(MOST).unwrap() * 15 / 16 - (1 << 20);
    core.quotas.memory.take(all_but);
    let mut answer = String::new();
    let mut refused = send_head(&hub, &mallory, 100 << 10).await;
    timeout(PATIENCE, refused.read_to_string(&mut answer))
        .await
        .expect("the hub closes the connection")
        .unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("hub_busy"), "{answer}");
    let bob = hub.member("bob").await;
    let wide = hub.ask_as(&bob, "GET", "/api/v1/whoami").header("x-pad", "x".repeat(30 << 10));
    assert_eq!(wide.send().await.0, 200);
    core.quotas.memory.release(all_but);
    drop(little);
    eventually("all bytes are returned", async || taken() == 0).await;
    hub.stop().await;
}

/// A24, A27: each call counts at least 32 KiB until its caller disconnects or has the answer.
#[actix_rt::test]
async fn calls_under_way_count_for_their_user() {
    let hub = hub_with_much_memory().await;
    let (core, mallory) = (hub.core(), hub.member("mallory").await);
    let taken = || core.quotas.heads.taken_by("mallory");
    let mut open = Vec::new();
    for _ in 0..40 {
        open.push(send_head(&hub, &mallory, 10).await);
    }
    eventually("all heads are counted", async || taken() >= 40 * (32 << 10)).await;
    assert!(taken() < 40 * (36 << 10), "{}", taken());
    assert_eq!(core.quotas.heads.taken_by("bob"), 0);
    drop(open);
    eventually("the bytes of the heads are returned", async || taken() == 0).await;
    assert_eq!(hub.ask_as(&mallory, "GET", "/api/v1/whoami").send().await.0, 200);
    eventually("all bytes are returned", async || core.quotas.memory.held() == 0).await;
    hub.stop().await;
}

/// A24: a compressed body counts with its decoded size.
#[actix_rt::test]
async fn a_compressed_body_counts_as_decoded() {
    let hub = hub_with_much_memory().await;
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(chat("a", false).as_bytes()).unwrap();
    encoder.write_all(&vec![b' '; 20 << 20]).unwrap();
    let body = encoder.finish().unwrap();
    assert!(body.len() < 1 << 20);
    let ask = hub.ask("POST", "/v1/chat/completions").header("content-encoding", "gzip").bytes(body);
    assert_eq!(ask.send().await.0, 404, "the body was refused");
    let all_but = 16 << 20;
    hub.core().quotas.memory.take(usize::try_from(MOST).unwrap() - all_but);
    assert_eq!(ask.send().await.0, 503);
    hub.core().quotas.memory.release(usize::try_from(MOST).unwrap() - all_but);
    hub.stop().await;
}

/// A24: the bytes that an agent adds to a request count for the caller; what a classic publisher has read in part counts for
/// its owner after the caller has disconnected.
#[actix_rt::test]
async fn an_agents_prompt_and_a_request_on_a_channel_count_for_the_caller() {
    let hub = hub().await;
    let bob = hub.member("bob").await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    hub.create_agent(
        ADMIN,
        &json!({ "name": "wordy", "llmName": "a", "systemPrompt": "x".repeat(60 << 10) }),
    )
    .await;
    let taken = || hub.core().quotas.requests.taken_by("bob");
    let call = hub.ask_as(&bob, "POST", "/v1/chat/completions").body(chat("wordy", false)).begin().await;
    let task = publisher.task().await;
    assert!((60 << 10..64 << 10).contains(&taken()), "{}", taken());
    assert_eq!(publisher.answer(&hub, &task, "hello").await, 200);
    drop(call);
    eventually("the call is over", async || taken() == 0).await;
    // More than the socket buffers of a connection hold.
    let large = format!(r#"{{"model":"a","messages":[],"image":"{}"}}"#, "x".repeat(20 << 20));
    let call = hub.ask_as(&bob, "POST", "/v1/chat/completions").body(large).begin().await;
    eventually("the request is read", async || taken() > 20 << 20).await;
    eventually("the task is dispatched", async || !hub.core().dispatches.lock().is_empty()).await;
    drop(call);
    eventually("the caller has disconnected", async || hub.core().dispatches.lock().is_empty()).await;
    let of_owner = || hub.core().channels.unread_of("admin")[1];
    eventually("the rest counts for the owner", async || taken() == 0 && of_owner() > 20 << 20).await;
    assert!(hub.core().quotas.memory.held() > 20 << 20, "the rest is not counted");
    publisher.close();
    eventually("the bytes are returned when the channel closes", async || of_owner() == 0).await;
    hub.stop().await;
}

/// A24, A26, A27, P7: an incomplete event of a stream counts for its publisher; at the limit a stream fails with a
/// reason, and the stream of another publisher goes on.
#[actix_rt::test]
async fn an_incomplete_event_of_a_stream_counts_for_its_publisher() {
    // The buffer of an event grows by doubling: two events of 1 MiB take 2 to 4 MiB, one of 5 MiB takes 5 at least.
    let hub = hub_with(|options| options.limits.bytes = 5 << 20).await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let mut mine = Peer::start(&hub, &alice, &[provider("a")]).await;
    let mut other = Peer::start(&hub, &bob, &[provider("b")]).await;
    let half = format!("data: {{\"a\":\"{}", "x".repeat(1 << 20));
    let taken = |user: &str| hub.core().quotas.results.taken_by(user);
    let mut open = Vec::new();
    for _ in 0..2 {
        let call = hub.ask("POST", "/v1/chat/completions").body(chat("a", true)).begin().await;
        let (task, _) = mine.task().await;
        mine.events(&task, &half).await;
        mine.until_sent(&task).await;
        open.push(call);
    }
    eventually("both incomplete events count", async || taken("alice") >= 2 << 20).await;
    let third = hub.ask("POST", "/v1/chat/completions").body(chat("a", true)).begin().await;
    let (task, _) = mine.task().await;
    for _ in 0..5 {
        mine.events(&task, &half).await;
    }
    // The status is 503 if an arriving piece exceeds the limit, and 400 if the buffer of its event does.
    let status = mine.taken(&task).await;
    let refused = super::http::Answer::of(third).await.rest().await;
    let reason =
        if status == 503 { "broke off" } else { "the hub has no memory for the publisher's answer now" };
    assert!([400, 503].contains(&status) && refused.contains(reason), "{status} {refused}");
    let call = hub.ask("POST", "/v1/chat/completions").body(chat("b", true)).begin().await;
    let (task, _) = other.task().await;
    other.events(&task, &half).await;
    other.until_sent(&task).await;
    eventually("bob's event counts for bob", async || taken("bob") > 1 << 20).await;
    assert_eq!(other.streams(&task, "\"}\n\ndata: [DONE]\n\n").await, 200);
    assert!(super::http::Answer::of(call).await.rest().await.ends_with("data: [DONE]\n\n"));
    eventually("bob's bytes are returned", async || taken("bob") == 0).await;
    drop(open);
    eventually("all bytes are returned", async || taken("alice") == 0).await;
    hub.stop().await;
}

/// A24: the text of a large result and its parsed copy both count. A result for an unknown task is not parsed.
#[actix_rt::test]
async fn a_large_result_counts_twice_while_it_is_parsed() {
    let hub = hub_with(|options| options.limits.bytes = 3 << 20).await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    let call = hub.ask("POST", "/v1/chat/completions").body(chat("a", false));
    let (answer, ()) = futures_util::join!(call.send(), async {
        let task = publisher.task().await;
        assert_eq!(publisher.answer(&hub, &task, &"x".repeat(2 << 20)).await, 429);
        assert_eq!(publisher.answer(&hub, &json!({ "taskId": "nobody" }), &"x".repeat(2 << 20)).await, 404);
        assert_eq!(publisher.answer(&hub, &task, &"x".repeat(1 << 20)).await, 200);
    });
    assert_eq!(answer.0, 200);
    hub.stop().await;
}
