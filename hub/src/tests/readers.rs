//! Readers of durable answers that do not read, and answers of very many chunks.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use super::publisher::{Publisher, provider};
use super::road::infer;
use super::support::{ADMIN, TASKS, TestHub, eventually, hub_with};
use crate::channels::Event;
use crate::quota::Quota;

/// Readers who do not read.
const MANY: usize = 64;
/// What one of them may hold: a part of the answer and the events made of it.
const EACH: usize = 384 << 10;
/// What of it is given at least.
const LEAST: usize = 12 << 10;
/// What is read of a large result at once.
const PART: usize = 256 << 10;

fn unread(hub: &TestHub) -> &Quota {
    &hub.core().quotas.unread
}

/// Small chunks, and very small ones between them: 9 MB of them in all, more than a connection that nobody reads takes.
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

async fn ended(hub: &TestHub, token: &str, id: &str) {
    eventually("it has ended", async || {
        hub.ask_as(token, "GET", format!("{TASKS}?limit=1")).json().await.1[0]["status"] == "completed"
    })
    .await;
    eventually("that is written", async || {
        hub.core().store.task_head(id).await.unwrap().unwrap().1.is_some()
    })
    .await;
}

/// A24, A26, P7: a reader that does not read holds a bounded part of the answer, while the task runs and afterwards;
/// one that reads gets all of it, from any offset.
#[actix_rt::test]
async fn a_reader_that_does_not_read_holds_a_part_of_an_answer() {
    let hub = hub_with(|options| options.limits.bytes = 32 << 20).await;
    let bob = hub.member("bob").await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], Some("cancel, result-stream")).await;
    let id = hub.enqueue(&bob, "a", true).await;
    let path = format!("{TASKS}/{id}/stream");
    let read = |from: usize| hub.ask_as(&bob, "GET", path.as_str()).header("last-event-id", from.to_string());
    let chunks = chunks();
    let task = publisher.task().await;
    let mut upload = hub.ask("POST", Publisher::upload_path(&task)).upload().await;
    let mut unread_while_it_comes = Vec::new();
    for (n, some) in chunks.chunks(8000).enumerate() {
        upload.write(&format!("data: {}\n\n", some.join("\n\ndata: "))).await;
        if n == 1 {
            for _ in 0..MANY / 2 {
                unread_while_it_comes.push(read(0).open().await);
            }
        }
    }
    let kept = chunks.iter().map(|chunk| chunk.len() + 8).sum::<usize>();
    eventually("all is kept", async || hub.core().quotas.unfinished.taken_by("bob") == kept).await;
    let mut reader = read(0).open().await;
    let last = format!("id: {}\ndata: {}\n\n", chunks.len(), chunks[chunks.len() - 1]);
    assert_eq!(reader.until(&last).await.len(), events(&chunks, 0).len());
    eventually("each of them holds some", async || unread(&hub).taken_by("bob") >= MANY / 2 * LEAST).await;
    assert!(unread(&hub).taken_by("bob") <= (MANY / 2 + 1) * EACH, "{}", unread(&hub).taken_by("bob"));
    upload.write("data: [DONE]\n\n").await;
    assert_eq!(upload.finish().await.0, 200);
    ended(&hub, &bob, &id).await;
    eventually("nothing is kept twice", async || hub.core().quotas.unfinished.taken_by("bob") == 0).await;

    let mut unread_afterwards = Vec::new();
    for _ in 0..MANY / 2 {
        unread_afterwards.push(read(0).open().await);
    }
    for from in [0, 1, 31_999, 20_000] {
        let (status, text) = read(from).send().await;
        assert_eq!(status, 200);
        let expected = format!("{}id: {}\ndata: [DONE]\n\n", events(&chunks, from), chunks.len() + 1);
        assert!(text == expected, "from {from}: {} bytes, not {}", text.len(), expected.len());
    }
    eventually("each of them holds some", async || unread(&hub).taken_by("bob") >= MANY * LEAST).await;
    assert!(unread(&hub).taken_by("bob") <= (MANY + 1) * EACH, "{}", unread(&hub).taken_by("bob"));
    // Others are served meanwhile.
    let carol = hub.member("carol").await;
    let call = hub.ask_as(&carol, "POST", "/v1/chat/completions").body(r#"{"model":"a","messages":[]}"#);
    publisher.serves(&hub, &call, "hello").await;
    drop((unread_while_it_comes, unread_afterwards, reader));
    eventually("what they held is free", async || unread(&hub).taken_by("bob") == 0).await;
    hub.stop().await;
}

/// A24, A26, P7: a large whole answer is read in parts, as a stream of one event and as the task's result; deleting the
/// task cuts it off.
#[actix_rt::test]
async fn a_large_result_is_given_in_parts() {
    let hub = hub_with(|options| options.limits.bytes = 32 << 20).await;
    let bob = hub.member("bob").await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    let id = hub.enqueue(&bob, "a", false).await;
    let task = publisher.task().await;
    let body = json!({ "x": "é\"".repeat(3 << 20) });
    assert_eq!(publisher.post(&hub, &task, &json!({ "status": 200, "body": body })).await, 200);
    ended(&hub, &bob, &id).await;
    let (one, stream) = (format!("{TASKS}/{id}"), format!("{TASKS}/{id}/stream"));
    let mut unread_ones = Vec::new();
    for n in 0..16 {
        let path = if n % 2 == 0 { &one } else { &stream };
        unread_ones.push(hub.ask_as(&bob, "GET", path.as_str()).begin().await);
    }
    eventually("each of them holds some", async || unread(&hub).taken_by("bob") >= 16 * PART).await;
    assert!(unread(&hub).taken_by("bob") <= 16 * EACH, "{}", unread(&hub).taken_by("bob"));
    let (status, whole) = hub.ask_as(&bob, "GET", one.as_str()).json().await;
    assert_eq!((status, whole["status"].as_str()), (200, Some("completed")));
    assert!(whole["result"]["status"] == 200 && whole["result"]["body"] == body);
    let (_, text) = hub.ask_as(&bob, "GET", stream.as_str()).send().await;
    assert!(text == format!("id: 1\ndata: {body}\n\nid: 2\ndata: [DONE]\n\n"), "{} bytes", text.len());
    let again = hub.ask_as(&bob, "GET", stream.as_str()).header("last-event-id", "1").send().await;
    assert_eq!(again.1, "id: 2\ndata: [DONE]\n\n");
    assert_eq!(hub.ask_as(&bob, "DELETE", one.as_str()).send().await.0, 204);
    for mut answer in unread_ones {
        let mut rest = Vec::new();
        // A connection that is reset has said what it said.
        let _ = answer.read_to_end(&mut rest).await;
        let rest = String::from_utf8_lossy(&rest);
        assert!(
            rest.len() < 12 << 20 && !rest.contains("[DONE]") && !rest.ends_with("}}"),
            "it is not whole"
        );
    }
    eventually("what they held is free", async || unread(&hub).taken_by("bob") == 0).await;
    hub.stop().await;
}

/// A slow reader gets no more after its token is revoked.
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
    ended(&hub, bob, &id).await;
    let mut answer = hub.ask_as(bob, "GET", format!("{TASKS}/{id}")).begin().await;
    eventually("it holds some", async || unread(&hub).taken_by("bob") >= PART).await;
    assert_eq!(hub.ask("DELETE", format!("/api/v1/tokens/{token}")).send().await.0, 204);
    let mut rest = Vec::new();
    // A connection that is reset has said what it said.
    let _ = answer.read_to_end(&mut rest).await;
    assert!(rest.len() < 16 << 20 && !rest.ends_with(b"}}"), "{} bytes of it came", rest.len());
    eventually("what it held is free", async || unread(&hub).taken_by("bob") == 0).await;
    hub.stop().await;
}

/// A chunk larger than a part is sent whole, while its task runs and afterwards.
#[actix_rt::test]
async fn a_large_chunk_of_an_answer_is_given_whole() {
    let hub = hub_with(|options| options.limits.bytes = 32 << 20).await;
    let bob = hub.member("bob").await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], Some("cancel, result-stream")).await;
    let id = hub.enqueue(&bob, "a", true).await;
    let path = format!("{TASKS}/{id}/stream");
    let sizes = [1, 1 << 20, 2, 200_000, 2 << 20, 3];
    let chunks: Vec<String> =
        sizes.iter().map(|size| json!({ "t": "é\\".repeat(*size) }).to_string()).collect();
    let task = publisher.task().await;
    let mut upload = hub.ask("POST", Publisher::upload_path(&task)).upload().await;
    upload.write(&format!("data: {}\n\n", chunks.join("\n\ndata: "))).await;
    let mut reader = hub.ask_as(&bob, "GET", path.as_str()).open().await;
    let last = format!("id: 6\ndata: {}\n\n", chunks[5]);
    assert!(reader.until(&last).await == events(&chunks, 0), "while it comes");
    upload.write("data: [DONE]\n\n").await;
    assert_eq!(upload.finish().await.0, 200);
    assert_eq!(reader.rest().await, "id: 7\ndata: [DONE]\n\n");
    ended(&hub, &bob, &id).await;
    for from in 0..6 {
        let ask = hub.ask_as(&bob, "GET", path.as_str()).header("last-event-id", from.to_string());
        let (status, text) = ask.send().await;
        let expected = format!("{}id: 7\ndata: [DONE]\n\n", events(&chunks, from));
        assert!(status == 200 && text == expected, "from {from}: {} of {}", text.len(), expected.len());
    }
    // Behind the end is nothing to go on with, and one who has seen the end may come again.
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
    eventually("nothing is held", async || unread(&hub).taken_by("bob") == 0).await;
    hub.stop().await;
}

/// P7: a durable task whose publisher does not read is retried ever less often, without reading its request from disk;
/// when there is room, it is sent.
#[actix_rt::test]
async fn a_request_is_not_read_for_a_publisher_that_stalls() {
    let hub = hub_with(|_| ()).await;
    let reads = || hub.core().tasks.reads.load(Ordering::Relaxed);
    let bob = hub.member("bob").await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    let full = || Event::from(vec![b'\n'; 1 << 20]);
    while hub.core().channels.send(&publisher.session, "bob", full()).is_ok() {}
    let request = json!({ "messages": [], "user": "x".repeat(1 << 20) });
    let body = json!({ "llm": "a", "request": request }).to_string();
    assert_eq!(hub.ask_as(&bob, "POST", TASKS).body(body).send().await.0, 202);
    // It is tried at once, and a second later.
    tokio::time::sleep(Duration::from_millis(1800)).await;
    assert_eq!(reads(), 0);
    publisher.open(&hub, None).await;
    let task = publisher.task().await;
    assert_eq!((task["request"]["user"].as_str().map(str::len), reads()), (Some(1 << 20), 1));
    publisher.answer(&hub, &task, "hello").await;
    hub.stop().await;
}

/// A27: requests of a user's running durable tasks count; one without room waits on disk until others have ended, and
/// tasks of other users run.
#[actix_rt::test]
async fn durable_requests_under_way_are_bounded() {
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
    // Both are read and written on other threads: which is ready first is open.
    let (one, two) = (publisher.task().await, publisher.task().await);
    let mut names = [named(&one), named(&two)];
    names.sort();
    assert_eq!(names, ["one", "two"]);
    create(&alice, "three").await;
    create(&bob, "bobs").await;
    let next = publisher.task().await;
    assert_eq!(named(&next), "bobs", "another user has nothing to do with it");
    let call = infer(&hub, "a", false);
    let (answer, ()) = futures_util::join!(call.send(), async {
        let task = publisher.task().await;
        publisher.answer(&hub, &task, "hello").await;
    });
    assert_eq!(answer.0, 200);
    publisher.answer(&hub, &one, "hello").await;
    let last = publisher.task().await;
    assert_eq!(named(&last), "three");
    for task in [two, next, last] {
        publisher.answer(&hub, &task, "hello").await;
    }
    eventually("nothing is out", async || hub.core().quotas.outgoing.taken_by("alice") == 0).await;
    hub.stop().await;
}
