//! Results, cancellations and deletions that arrive before an earlier change is committed.

use super::*;

/// P1: a cancellation takes effect when it is committed, and changes nothing if it cannot be committed.
#[actix_rt::test]
async fn a_cancellation_takes_effect_when_it_is_committed() {
    let store = FaultyStore::new();
    let hub = hub_on(store.clone()).await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], Some("cancel")).await;
    Publisher::register(&hub, ADMIN, None, &[provider("away")]).await;
    let (runs, task) = start_task(&hub, &mut publisher, End::Answer).await;
    let waits = hub.enqueue(ADMIN, "away", false).await;
    let both = [(&runs, "claimed"), (&waits, "pending")];
    store.set_disk(Disk::Full);
    for (id, before) in both {
        let (status, text) = hub.ask("DELETE", path(id)).send().await;
        assert!(status == 503 && text.contains("store_unavailable"), "{status} {text}");
        assert_eq!(status_of(&hub, id).await, before);
    }
    store.set_disk(Disk::Hangs);
    let asks = both.map(|(id, _)| hub.ask("DELETE", path(id)));
    let mut answers = Box::pin(join_all(asks.iter().map(Ask::send)));
    assert!(timeout(MOMENT, &mut answers).await.is_err());
    for (id, before) in both {
        assert_eq!(status_of(&hub, id).await, before);
    }
    assert!(
        timeout(MOMENT, publisher.event()).await.is_err(),
        "the publisher got a cancel before the commit"
    );
    store.set_disk(Disk::Healthy);
    for (answer, (id, _)) in answers.await.into_iter().zip(both) {
        assert_eq!(answer.0, 204);
        assert_eq!(status_of(&hub, id).await, "cancelled");
    }
    assert_eq!(publisher.cancelled().await, task["taskId"].as_str().unwrap());
    assert_eq!(End::Answer.ask(&hub, &task).send().await.0, 410);
    hub.stop().await;
}

/// P1: if a cancellation and then a result arrive while the disk hangs, the cancellation wins if it can be committed,
/// else a later result ends the task.
#[actix_rt::test]
async fn a_committed_cancellation_wins_over_a_later_result() {
    for (then, is_cancelled) in [(Disk::Healthy, true), (Disk::Full, false)] {
        let store = FaultyStore::new();
        let hub = hub_on(store.clone()).await;
        let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], Some("cancel")).await;
        let (id, task) = start_task(&hub, &mut publisher, End::Answer).await;
        store.set_disk(Disk::Hangs);
        let (delete, end) = (hub.ask("DELETE", path(&id)), End::Answer.ask(&hub, &task));
        let mut delete = Box::pin(delete.send());
        assert!(timeout(MOMENT, &mut delete).await.is_err());
        let mut end = Box::pin(end.send());
        assert!(timeout(MOMENT, &mut end).await.is_err());
        store.set_disk(then);
        let (delete, end) = (delete.await.0, end.await.0);
        assert_eq!((delete, end), if is_cancelled { (204, 200) } else { (503, 503) });
        store.set_disk(Disk::Healthy);
        let state = if is_cancelled { "cancelled" } else { "completed" };
        if !is_cancelled {
            assert_eq!(End::Answer.ask(&hub, &task).send().await.0, 200);
        }
        assert_eq!(status_of(&hub, &id).await, state);
        let stored = store.task(&id).await.unwrap().unwrap();
        assert_eq!((stored.state.as_str(), stored.request), (state, None));
        assert_eq!(stored.result.is_some(), stored.state == TaskStatus::Completed);
        hub.stop().await;
    }
}

/// P1: a task that is deleted while its end waits for a commit stays deleted.
#[actix_rt::test]
async fn a_task_deleted_before_its_end_is_committed_stays_deleted() {
    let store = FaultyStore::new();
    let hub = hub_on(store.clone()).await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    let (id, task) = start_task(&hub, &mut publisher, End::Done).await;
    store.set_disk(Disk::Hangs);
    let end = End::Done.ask(&hub, &task);
    let mut end = Box::pin(end.send());
    assert!(timeout(MOMENT, &mut end).await.is_err());
    let delete = hub.ask("DELETE", path(&id));
    let mut deleted = Box::pin(delete.send());
    assert!(timeout(MOMENT, &mut deleted).await.is_err());
    assert_eq!(status_of(&hub, &id).await, "running");
    store.set_disk(Disk::Healthy);
    assert_eq!((end.await.0, deleted.await.0), (200, 204));
    assert_eq!(hub.ask("GET", path(&id)).send().await.0, 404);
    assert_eq!(hub.ask("GET", format!("{}/stream", path(&id))).send().await.0, 404);
    assert_eq!(hub.ask("DELETE", path(&id)).send().await.0, 404, "the deleted task exists");
    assert!(store.task(&id).await.unwrap().is_none());
    assert_eq!(hub.ask("GET", TASKS).json().await.1, json!([]));
    hub.stop().await;
}
