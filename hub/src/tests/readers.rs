//! Memory of the answers of durable tasks: slow readers, large answers, and large requests.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use super::link::peer::Peer;
use super::publisher::{Publisher, provider};
use super::road::infer;
use super::support::{ADMIN, TASKS, TestHub, eventually, hub_with};
use crate::channels::Event;
use crate::quota::Quota;

/// Number of connections that request the answer and do not read it.
const READERS: usize = 64;
/// Most bytes that such a connection may hold: a part of the answer and the events made of it.
const MAX_HELD: usize = 384 << 10;
/// Fewest bytes that such a connection holds.
const MIN_HELD: usize = 12 << 10;
/// Bytes that are read of a large result at once.
const PART: usize = 256 << 10;

fn unread(hub: &TestHub) -> &Quota {
    &hub.core().quotas.unread
}

/// 32,000 chunks of 20 or 1000 bytes, 9 MB in all: more than the socket buffers of a connection hold.
fn chunks() -> Vec<String> {
    let one = |n: usize| {
        let text = if n.is_multiple_of(4) { "x".repeat(1000) } else { String::new() };
        json!({ "n": n, "t": text }).to_string()
    };
    (0..32_000).map(one).collect()
}

fn events(chunks: &[String], from: usize) -> String {
    use std::fmt::Write;
    let mut events = String::new();
    for (n, chunk) in chunks.iter().enumerate().skip(from) {
        write!(events, "id: {}\ndata: {chunk}\n\n", n + 1).unwrap();
    }
    events
}

async fn until_ended(hub: &TestHub, token: &str, id: &str) {
    eventually("the task has ended", async || {
        hub.ask_as(token, "GET", format!("{TASKS}?limit=1")).json().await.1[0]["status"] == "completed"
    })
    .await;
    eventually("the result is stored", async || {
        hub.core().store.task_head(id).await.unwrap().unwrap().1.is_some()
    })
    .await;
}

/// A24, A26, P7: a connection that does not read holds a bounded part of the answer, while the task runs and
/// afterwards; a connection that reads gets all of it, from any offset.
#[actix_rt::test]
async fn a_connection_that_does_not_read_holds_a_part_of_the_answer() {
    let hub = hub_with(|options| options.limits.bytes = 32 << 20).await;
    let bob = hub.member("bob").await;
    let mut peer = Peer::start(&hub, ADMIN, &[provider("a")]).await;
    let id = hub.enqueue(&bob, "a", true).await;
    let path = format!("{TASKS}/{id}/stream");
    let read = |from: usize| hub.ask_as(&bob, "GET", path.as_str()).header("last-event-id", from.to_string());
    let chunks = chunks();
    let (task, _) = peer.task().await;
    let mut unread_while_it_comes = Vec::new();
    for (n, some) in chunks.chunks(8000).enumerate() {
        peer.events(&task, &format!("data: {}\n\n", some.join("\n\ndata: "))).await;
        peer.until_sent(&task).await;
        if n == 1 {
            for _ in 0..READERS / 2 {
                unread_while_it_comes.push(read(0).open().await);
            }
        }
    }
    let expected_bytes = chunks.iter().map(|chunk| chunk.len() + 8).sum::<usize>();
    eventually("all chunks are counted", async || {
        hub.core().quotas.unfinished.taken_by("bob") == expected_bytes
    })
    .await;
    let mut reader = read(0).open().await;
    let last = format!("id: {}\ndata: {}\n\n", chunks.len(), chunks[chunks.len() - 1]);
    assert_eq!(reader.until(&last).await.len(), events(&chunks, 0).len());
    eventually("each connection holds a part", async || {
        unread(&hub).taken_by("bob") >= READERS / 2 * MIN_HELD
    })
    .await;
    assert!(unread(&hub).taken_by("bob") <= (READERS / 2 + 1) * MAX_HELD, "{}", unread(&hub).taken_by("bob"));
    assert_eq!(peer.streams(&task, "data: [DONE]\n\n").await, 200);
    until_ended(&hub, &bob, &id).await;
    eventually("the chunks in memory are freed", async || hub.core().quotas.unfinished.taken_by("bob") == 0)
        .await;

    let mut unread_afterwards = Vec::new();
    for _ in 0..READERS / 2 {
        unread_afterwards.push(read(0).open().await);
    }
    for from in [0, 1, 31_999, 20_000] {
        let (status, text) = read(from).send().await;
        assert_eq!(status, 200);
        let expected = format!("{}id: {}\ndata: [DONE]\n\n", events(&chunks, from), chunks.len() + 1);
        assert!(text == expected, "from {from}: {} bytes, not {}", text.len(), expected.len());
    }
    eventually("each connection holds a part", async || unread(&hub).taken_by("bob") >= READERS * MIN_HELD)
        .await;
    assert!(unread(&hub).taken_by("bob") <= (READERS + 1) * MAX_HELD, "{}", unread(&hub).taken_by("bob"));
    // Another user is served.
    let carol = hub.member("carol").await;
    let call = hub.ask_as(&carol, "POST", "/v1/chat/completions").body(r#"{"model":"a","messages":[]}"#);
    peer.serves(&call, "hello").await;
    drop((unread_while_it_comes, unread_afterwards, reader));
    eventually("the bytes are freed", async || unread(&hub).taken_by("bob") == 0).await;
    hub.stop().await;
}

/// A24, A26, P7: a large result is sent in parts, as the task's result and as a stream of one event; the deletion of
/// the task breaks it off.
#[actix_rt::test]
async fn a_large_result_is_sent_in_parts() {
    let hub = hub_with(|options| options.limits.bytes = 32 << 20).await;
    let bob = hub.member("bob").await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    let id = hub.enqueue(&bob, "a", false).await;
    let task = publisher.task().await;
    let body = json!({ "x": "é\"".repeat(3 << 20) });
    assert_eq!(publisher.post(&hub, &task, &json!({ "status": 200, "body": body })).await, 200);
    until_ended(&hub, &bob, &id).await;
    let (one, stream) = (format!("{TASKS}/{id}"), format!("{TASKS}/{id}/stream"));
    let mut connections = Vec::new();
    for n in 0..16 {
        let path = if n % 2 == 0 { &one } else { &stream };
        connections.push(hub.ask_as(&bob, "GET", path.as_str()).begin().await);
    }
    eventually("each connection holds a part", async || unread(&hub).taken_by("bob") >= 16 * PART).await;
    assert!(unread(&hub).taken_by("bob") <= 16 * MAX_HELD, "{}", unread(&hub).taken_by("bob"));
    let (status, whole) = hub.ask_as(&bob, "GET", one.as_str()).json().await;
    assert_eq!((status, whole["status"].as_str()), (200, Some("completed")));
    assert!(whole["result"]["status"] == 200 && whole["result"]["body"] == body);
    let (_, text) = hub.ask_as(&bob, "GET", stream.as_str()).send().await;
    assert!(text == format!("id: 1\ndata: {body}\n\nid: 2\ndata: [DONE]\n\n"), "{} bytes", text.len());
    let again = hub.ask_as(&bob, "GET", stream.as_str()).header("last-event-id", "1").send().await;
    assert_eq!(again.1, "id: 2\ndata: [DONE]\n\n");
    assert_eq!(hub.ask_as(&bob, "DELETE", one.as_str()).send().await.0, 204);
    for mut answer in connections {
        let mut rest = Vec::new();
        // The connection may be reset; the bytes before that count.
        let _ = answer.read_to_end(&mut rest).await;
        let rest = String::from_utf8_lossy(&rest);
        assert!(
            rest.len() < 12 << 20 && !rest.contains("[DONE]") && !rest.ends_with("}}"),
            "the answer is whole"
        );
    }
    eventually("the bytes are freed", async || unread(&hub).taken_by("bob") == 0).await;
    hub.stop().await;
}

/// A slow connection gets no more bytes after its token was revoked.
#[actix_rt::test]
async fn a_large_result_breaks_off_when_the_token_is_revoked() {
    let hub = hub_with(|options| options.limits.bytes = 64 << 20).await;
    let make = json!({ "user": "bob" }).to_string();
    let (_, made) = hub.ask("POST", "/api/v1/tokens").body(make).json().await;
    let (bob, token) = (made["token"].as_str().unwrap(), made["id"].as_str().unwrap());
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    let id = hub.enqueue(bob, "a", false).await;
    let task = publisher.task().await;
    let body = json!({ "x": "a".repeat(24 << 20) });
    assert_eq!(publisher.post(&hub, &task, &json!({ "status": 200, "body": body })).await, 200);
    until_ended(&hub, bob, &id).await;
    let mut answer = hub.ask_as(bob, "GET", format!("{TASKS}/{id}")).begin().await;
    eventually("the connection holds a part", async || unread(&hub).taken_by("bob") >= PART).await;
    assert_eq!(hub.ask("DELETE", format!("/api/v1/tokens/{token}")).send().await.0, 204);
    let mut rest = Vec::new();
    // The connection may be reset; the bytes before that count.
    let _ = answer.read_to_end(&mut rest).await;
    assert!(rest.len() < 16 << 20 && !rest.ends_with(b"}}"), "{} bytes arrived", rest.len());
    eventually("the bytes are freed", async || unread(&hub).taken_by("bob") == 0).await;
    hub.stop().await;
}

/// A chunk larger than a part is sent whole, while the task runs and afterwards.
#[actix_rt::test]
async fn a_large_chunk_of_an_answer_is_sent_whole() {
    let hub = hub_with(|options| options.limits.bytes = 32 << 20).await;
    let bob = hub.member("bob").await;
    let mut peer = Peer::start(&hub, ADMIN, &[provider("a")]).await;
    let id = hub.enqueue(&bob, "a", true).await;
    let path = format!("{TASKS}/{id}/stream");
    let sizes = [1, 1 << 20, 2, 200_000, 2 << 20, 3];
    let chunks: Vec<String> =
        sizes.iter().map(|size| json!({ "t": "é\\".repeat(*size) }).to_string()).collect();
    let (task, _) = peer.task().await;
    peer.events(&task, &format!("data: {}\n\n", chunks.join("\n\ndata: "))).await;
    peer.until_sent(&task).await;
    let mut reader = hub.ask_as(&bob, "GET", path.as_str()).open().await;
    let last = format!("id: 6\ndata: {}\n\n", chunks[5]);
    assert!(reader.until(&last).await == events(&chunks, 0), "while the task runs");
    assert_eq!(peer.streams(&task, "data: [DONE]\n\n").await, 200);
    assert_eq!(reader.rest().await, "id: 7\ndata: [DONE]\n\n");
    until_ended(&hub, &bob, &id).await;
    for from in 0..6 {
        let ask = hub.ask_as(&bob, "GET", path.as_str()).header("last-event-id", from.to_string());
        let (status, text) = ask.send().await;
        let expected = format!("{}id: 7\ndata: [DONE]\n\n", events(&chunks, from));
        assert!(status == 200 && text == expected, "from {from}: {} of {}", text.len(), expected.len());
    }
    // A reader that has seen the end mark may ask again; a higher event id does not exist.
    for from in [6, 7, 8, 9, usize::MAX] {
        let ask = hub.ask_as(&bob, "GET", path.as_str()).header("last-event-id", from.to_string());
        let (status, text) = ask.send().await;
        assert_eq!(
            (status, text.contains("[DONE]")),
            if from <= 7 { (200, true) } else { (400, false) },
            "{from}"
        );
        assert!(from <= 7 || text.contains("Last-Event-ID: the task's answer has fewer events"), "{text}");
    }
    eventually("all bytes are freed", async || unread(&hub).taken_by("bob") == 0).await;
    hub.stop().await;
}

/// P7: the request of a durable task is not read from disk as long as the publisher's channel is full.
#[actix_rt::test]
async fn a_request_is_not_read_from_disk_while_the_channel_is_full() {
    let hub = hub_with(|_| ()).await;
    let reads = || hub.core().tasks.reads.load(Ordering::Relaxed);
    let bob = hub.member("bob").await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    let full = || Event::from(vec![b'\n'; 1 << 20]);
    while hub.core().channels.send(&publisher.session, "bob", full()).is_ok() {}
    let request = json!({ "messages": [], "user": "x".repeat(1 << 20) });
    let body = json!({ "llm": "a", "request": request }).to_string();
    assert_eq!(hub.ask_as(&bob, "POST", TASKS).body(body).send().await.0, 202);
    // The hub tries to send the task at once and a second later.
    tokio::time::sleep(Duration::from_millis(1800)).await;
    assert_eq!(reads(), 0);
    publisher.open(&hub, None).await;
    let task = publisher.task().await;
    assert_eq!((task["request"]["user"].as_str().map(str::len), reads()), (Some(1 << 20), 1));
    publisher.answer(&hub, &task, "hello").await;
    hub.stop().await;
}

/// A27: the requests of a user's running durable tasks are limited in bytes; the next one waits on disk until another
/// has ended, and tasks of other users run.
#[actix_rt::test]
async fn the_requests_of_running_durable_tasks_are_bounded_in_bytes() {
    let hub = hub_with(|options| options.limits.bytes = 4 << 20).await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    let create = async |token: &str, name: &str| {
        let request = json!({ "messages": [], "safety_identifier": name, "user": "x".repeat(1_500_000) });
        let body = json!({ "llm": "a", "request": request }).to_string();
        assert_eq!(hub.ask_as(token, "POST", TASKS).body(body).send().await.0, 202);
    };
    let named = |task: &Value| task["request"]["safety_identifier"].as_str().unwrap().to_owned();
    create(&alice, "one").await;
    create(&alice, "two").await;
    // Both requests are read on other threads, so that either may come first.
    let (one, two) = (publisher.task().await, publisher.task().await);
    let mut names = [named(&one), named(&two)];
    names.sort();
    assert_eq!(names, ["one", "two"]);
    create(&alice, "three").await;
    create(&bob, "bobs").await;
    let next = publisher.task().await;
    assert_eq!(named(&next), "bobs", "another user's task waits");
    let call = infer(&hub, "a", false);
    let answer = publisher.answer_for(&hub, &call, "hello").await.text().await;
    assert_eq!(answer.0, 200);
    publisher.answer(&hub, &one, "hello").await;
    let last = publisher.task().await;
    assert_eq!(named(&last), "three");
    for task in [two, next, last] {
        publisher.answer(&hub, &task, "hello").await;
    }
    eventually("no request is counted", async || hub.core().quotas.outgoing.taken_by("alice") == 0).await;
    hub.stop().await;
}
