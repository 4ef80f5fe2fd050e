//! What a link keeps of tasks that have ended: nothing (A24, A27).

use super::*;
use crate::tests::publisher::completion;

/// A link of alice, who publishes `al`, her session, and a token of carl, who calls it.
async fn alices_link(hub: &TestHub) -> (Publisher, Peer, String) {
    let alice = hub.member("alice").await;
    let publisher = Publisher::register(hub, &alice, None, &[provider("al")]).await;
    let peer = Peer::open_as(hub, &alice, &publisher.session, Link::default()).await;
    (publisher, peer, hub.member("carl").await)
}

/// Waits until nothing is kept of the calls of carl, while the link stands.
async fn until_nothing_is_kept(hub: &TestHub, session: &str, held: u64) {
    let core = hub.core();
    eventually("nothing is kept", async || {
        core.links.kept(session) == [0; 3]
            && core.channels.unread_of("carl") == [0; 2]
            && core.channels.unread_of("alice") == [0; 2]
            && core.quotas.requests.taken_by("carl") == 0
            && core.quotas.results.taken_by("alice") == 0
            && core.quotas.memory.held() <= held
    })
    .await;
}

/// A publisher that answers by POST what came on its link, with or without a part of an answer there. It has read the
/// beginning of the request and grants no credit.
#[actix_rt::test]
async fn a_post_that_ends_a_task_leaves_nothing_on_the_link() {
    let hub = hub().await;
    let (publisher, mut peer, carl) = alices_link(&hub).await;
    let held = hub.core().quotas.memory.held();
    for (size, begins) in
        [(200, true), (60 << 10, true), (60 << 10, false), (4 << 20, true), (4 << 20, false)]
    {
        let ask = hub.ask_as(&carl, "POST", "/v1/chat/completions").body(chat(&"x".repeat(size), false));
        let call = actix_rt::spawn(async move { ask.json().await });
        let task = loop {
            if let Received::Piece { task, .. } = peer.received().await.unwrap() {
                break task;
            }
        };
        let is_counted = hub.core().channels.unread_of("carl")[0] >= size;
        assert!(is_counted && hub.core().quotas.memory.held() >= size as u64, "{size} do not count");
        if begins {
            peer.link.push(&task, BodyKind::Json, Bytes::from_static(b" "));
            peer.flush().await;
            eventually("the answer begins", async || hub.core().links.kept(&publisher.session)[1] == 1).await;
        }
        assert_eq!(publisher.answer(&hub, &json!({ "taskId": *task }), "hi").await, 200);
        assert_eq!(call.await.unwrap().0, 200);
        until_nothing_is_kept(&hub, &publisher.session, held).await;
        assert_eq!(peer.cancelled().await, *task);
    }
    let ask = hub.ask_as(&carl, "POST", "/v1/chat/completions").body(chat("hello", false));
    peer.serves(&ask, "hi").await;
    until_nothing_is_kept(&hub, &publisher.session, held).await;
    hub.stop().await;
}

/// A registrar answers what it has read: nothing of the request is kept, or counts, while a long answer comes. What it has
/// not read counts until the end.
#[actix_rt::test]
async fn a_request_counts_until_it_is_read_and_not_until_its_answer_begins() {
    const SIZE: usize = 60 << 10;
    let hub = hub().await;
    let (publisher, mut peer, carl) = alices_link(&hub).await;
    let held = hub.core().quotas.memory.held();
    for (size, is_read) in [(SIZE, true), (1 << 20, false)] {
        let ask = hub.ask_as(&carl, "POST", "/v1/chat/completions").body(chat(&"x".repeat(size), true));
        let opening = actix_rt::spawn(async move { ask.open().await });
        let Some(Received::Piece { task, .. }) = peer.received().await else { panic!("no task") };
        peer.events(&task, "data: {\"choices\":[]}\n\n").await;
        let mut answer = opening.await.unwrap();
        answer.next().await.unwrap();
        assert_eq!(hub.core().links.kept(&publisher.session), [1, 1, usize::from(!is_read)]);
        assert_eq!(hub.core().channels.unread_of("carl")[0] == 0, is_read);
        assert_eq!(peer.streams(&task, "data: [DONE]\n\n").await, 200);
        assert!(answer.rest().await.ends_with("data: [DONE]\n\n"));
        until_nothing_is_kept(&hub, &publisher.session, held).await;
    }
    hub.stop().await;
}

/// A registrar that begins the answers of ended tasks again, and never ends them.
#[actix_rt::test]
async fn answers_to_ended_tasks_are_bounded() {
    const MANY: usize = 80;
    let hub = hub().await;
    let (publisher, mut peer, carl) = alices_link(&hub).await;
    let held = hub.core().quotas.memory.held();
    let result = json!({ "status": 200, "body": completion("hi") }).to_string();
    let mut tasks = Vec::new();
    for _ in 0..MANY {
        let ask = hub.ask_as(&carl, "POST", "/v1/chat/completions").body(chat("hello", false));
        let call = actix_rt::spawn(async move { ask.json().await });
        let (task, _) = peer.task().await;
        peer.answer(&task, BodyKind::Json, &result).await;
        assert_eq!(peer.taken(&task).await, 200);
        assert_eq!(call.await.unwrap().0, 200);
        tasks.push(task);
    }
    for task in &tasks {
        peer.link.push(task, BodyKind::Json, Bytes::copy_from_slice(&result.as_bytes()[..1]));
        peer.flush().await;
    }
    for task in &tasks[64..] {
        assert_eq!(peer.taken(task).await, 503);
    }
    assert_eq!(hub.core().links.kept(&publisher.session), [64, 64, 0]);
    assert!(hub.core().quotas.results.taken_by("alice") >= 64 << 10, "they do not count");
    // Honest ones are answered when they end.
    for (task, rest, status) in [(&tasks[0], &result[1..], 200), (&tasks[1], "{}", 400)] {
        peer.answer(task, BodyKind::Json, rest).await;
        assert_eq!(peer.taken(task).await, status);
    }
    peer.answer(&tasks[2], BodyKind::Json, &result[1..].replace("hi", "ho")).await;
    assert_eq!(peer.taken(&tasks[2]).await, 409);
    drop(peer);
    hub.core().lose_session(&publisher.session);
    let results = || hub.core().quotas.results.taken_by("alice");
    eventually("all is returned", async || results() == 0 && hub.core().quotas.memory.held() <= held).await;
    hub.stop().await;
}

/// P3: an answer that came over the link is taken there, also if its caller has it already.
#[actix_rt::test]
async fn an_answer_that_ends_its_task_is_taken_and_not_cancelled() {
    let hub = hub().await;
    let (publisher, mut peer, carl) = alices_link(&hub).await;
    let ask = hub.ask_as(&carl, "POST", "/v1/chat/completions").body(chat("hello", true));
    let call = actix_rt::spawn(async move { ask.open().await.rest().await });
    let (task, _) = peer.task().await;
    // The rest behind the end mark is read before the answer is taken.
    peer.events(&task, "data: {\"choices\":[]}\n\ndata: [DONE]\n\n").await;
    assert!(call.await.unwrap().ends_with("data: [DONE]\n\n"));
    assert_eq!(hub.core().links.kept(&publisher.session), [1, 1, 0]);
    peer.answer(&task, BodyKind::Events, ": behind the end\n\n").await;
    loop {
        match peer.received().await.unwrap() {
            Received::Taken { task: of, status } => break assert_eq!((&*of, status), (&*task, 200)),
            Received::Credit(_) => (),
            other => panic!("{other:?}"),
        }
    }
    hub.stop().await;
}
