//! The end of a durable task whose answer streams over a link.

use super::*;

/// Begins a durable task over a link. Returns its id and that of the publisher's task.
async fn start_stream(hub: &TestHub, peer: &mut Peer) -> (String, String) {
    let id = hub.enqueue(ADMIN, "a", true).await;
    let (task, _) = peer.task().await;
    peer.events(&task, &format!("data: {}\n\n", chunk("one"))).await;
    eventually("the task runs", async || hub.durable_task(&id).await["status"] == "running").await;
    (id, task)
}

/// P1: the same for a stream over a link.
#[actix_rt::test]
async fn a_stream_over_a_link_is_taken_when_its_end_is_committed() {
    let store = FaultyStore::new();
    let hub = hub_on(store.clone()).await;
    let mut peer = Peer::start(&hub, ADMIN, &[provider("a")]).await;
    let (id, task) = start_stream(&hub, &mut peer).await;
    store.set_disk(Disk::Hangs);
    peer.answer(&task, BodyKind::Events, "data: [DONE]\n\n").await;
    assert!(timeout(MOMENT, peer.taken(&task)).await.is_err(), "taken before the commit");
    assert_eq!(status_of(&hub, &id).await, "running");
    store.set_disk(Disk::Healthy);
    assert_eq!(peer.taken(&task).await, 200);
    let (_, task) = hub.ask("GET", path(&id)).json().await;
    assert_eq!(task["status"], "completed", "not ended right after the acknowledgement");
    hub.stop().await;
}

/// P1, F63: a stream cannot be repeated. While its end cannot be committed it gets 503, as each result that its registrar
/// sends in its place; the task completes with the first of these that can be committed.
#[actix_rt::test]
async fn a_stream_whose_end_cannot_be_committed_is_ended_by_any_result() {
    let store = FaultyStore::new();
    let hub = hub_on(store.clone()).await;
    let mut peer = Peer::start(&hub, ADMIN, &[provider("a")]).await;
    let (id, task) = start_stream(&hub, &mut peer).await;
    store.set_disk(Disk::Full);
    assert_eq!(peer.streams(&task, "data: [DONE]\n\n").await, 503);
    let error = r#"{"error":"the way to the hub broke"}"#;
    for (disk, status) in [(Disk::Full, 503), (Disk::Healthy, 200)] {
        assert_eq!(status_of(&hub, &id).await, "running");
        store.set_disk(disk);
        peer.answer(&task, BodyKind::Json, error).await;
        assert_eq!(peer.taken(&task).await, status);
    }
    let (_, task) = hub.ask("GET", path(&id)).json().await;
    assert_eq!(
        (&task["status"], task["result"]["chunks"].as_array().unwrap().len()),
        (&json!("completed"), 1)
    );
    hub.stop().await;
}
