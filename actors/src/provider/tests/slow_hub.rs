//! Answers of a backend for a hub that is slow or away.

use super::*;

#[actix::test]
async fn a_stopped_stream_ends_although_the_hub_does_not_answer() {
    let setup = start(config());
    setup.results.hold.set(true);
    let pieces = setup.stream("t1", Features::CLASSIC).await;
    pieces.send(Ok(piece("a"))).unwrap();
    run_ready_tasks().await;
    setup.actor.do_send(Abort);
    sleep(Duration::from_secs(3)).await;
    assert_eq!(setup.results.error_of("t1").as_deref(), Some("publisher shutting down"));
}

/// P7: a merged POST has about 16 KiB.
#[actix::test]
async fn merged_chunks_stay_small_while_the_hub_is_away() {
    let setup = start(config());
    setup.results.hold.set(true);
    let pieces = setup.stream("t1", Features::CLASSIC).await;
    for _ in 0..100 {
        pieces.send(Ok(piece(&"x".repeat(1000)))).unwrap();
    }
    drop(pieces);
    run_ready_tasks().await;
    setup.results.hold.set(false);
    for post in setup.results.held.borrow_mut().drain(..) {
        post.send(Outcome::Taken).unwrap();
    }
    run_ready_tasks().await;
    let posts = setup.results.of("t1");
    let longest = posts.iter().map(|post| post["chunk"]["data"].as_str().unwrap().len()).max();
    assert!((3..20).contains(&posts.len()) && longest < Some(20_000), "{} {longest:?}", posts.len());
}

/// F74, P7: an unsent reply takes bounded memory.
#[actix::test]
async fn a_backend_is_read_no_faster_than_the_hub_takes_it() {
    const TEXT: &str =
        "a text that is longer than the rest of its chunk; a text that is longer than the rest of its chunk";
    let setup = start(config());
    setup.results.hold.set(true);
    for (id, has_link, most) in [("t1", true, 256 << 10), ("t2", false, 1100 << 10)] {
        setup.results.has_link.set(has_link);
        setup.send(id, true, Features::ALL);
        run_ready_tasks().await;
        let read = Rc::new(Cell::new(0));
        let reads = Rc::clone(&read);
        setup.backend.next().streams(futures_util::stream::repeat_with(move || {
            reads.set(reads.get() + 1);
            Ok(piece(TEXT))
        }));
        sleep(Duration::from_secs(1)).await;
        let held = read.get() * TEXT.len();
        assert!((1..most).contains(&held), "{held} bytes are held");
        sleep(Duration::from_secs(20)).await;
        assert_eq!(read.get() * TEXT.len(), held);
    }
}

/// F28: the next task can run meanwhile.
#[actix::test]
async fn a_slot_is_free_while_the_result_waits_for_the_hub() {
    let setup = start(ProviderConfig { max_concurrency: 1, ..config() });
    setup.results.hold.set(true);
    setup.infer("t1").await;
    setup.infer("t2").await;
    assert_eq!(setup.backend.calls(), 1, "one task at a time");
    setup.backend.next().whole(200, &answer("one"));
    run_ready_tasks().await;
    assert_eq!((setup.backend.calls(), setup.outbox.open()), (1, 2));
    setup.backend.next().whole(200, &answer("two"));
    run_ready_tasks().await;
    for post in setup.results.held.borrow_mut().drain(..) {
        post.send(Outcome::Taken).unwrap();
    }
    run_ready_tasks().await;
    assert_eq!(setup.outbox.open(), 0);
}
