//! Delivery of a backend's replies to the hub.

use super::*;

#[actix::test]
async fn a_backend_request_names_the_model_and_keeps_large_integers() {
    let setup = start(config());
    setup.infer("t1").await;
    let body = setup.backend.next().body();
    assert_eq!(
        (&body["model"], &body["seed"], &body["stream"]),
        (&json!("m"), &json!(u64::MAX), &json!(false))
    );
}

/// F28: chunks are posted in order, one POST at a time. With `chunk-seq`, each POST has the next number.
#[actix::test]
async fn chunks_that_wait_behind_a_post_are_merged() {
    let setup = start(config());
    setup.results.hold.set(true);
    for (id, features, numbers) in [
        ("t1", Features::CLASSIC, [Value::Null, Value::Null, Value::Null]),
        ("t2", Features::ALL, [0, 1, 2].map(Value::from)),
    ] {
        let pieces = setup.stream(id, features).await;
        for text in ["a", "b", "c"] {
            pieces.send(Ok(piece(text))).unwrap();
            run_ready_tasks().await;
        }
        drop(pieces);
        for _ in 0..3 {
            run_ready_tasks().await;
            let held = setup.results.held.borrow_mut().drain(..).collect::<Vec<_>>();
            assert_eq!(held.len(), 1, "POSTs do not overlap");
            for post in held {
                post.send(Outcome::Taken).unwrap();
            }
        }
        run_ready_tasks().await;
        let data = setup.results.chunk_fields(id, "data");
        assert_eq!(data, [json!(piece("a")), json!(piece("bc")), json!("[DONE]")]);
        assert_eq!(setup.results.chunk_fields(id, "seq"), numbers);
    }
}

/// Starts a stream whose first POST fails.
async fn with_failed_post(
    features: Features,
    nothing_taken: bool,
) -> (Setup, tokio::sync::mpsc::UnboundedSender<Result<String, BackendError>>) {
    let setup = start(config());
    let failed = Outcome::Failed { retry_after: None, nothing_taken };
    setup.results.answers.borrow_mut().push_back(failed);
    let pieces = setup.stream("t1", features).await;
    pieces.send(Ok(piece("a"))).unwrap();
    (setup, pieces)
}

/// F28, F30, F31: the repeated POST has the same number.
#[actix::test]
async fn with_chunk_seq_a_failed_chunk_post_is_repeated() {
    let (setup, pieces) = with_failed_post(Features::CLASSIC.with(wire::Feature::ChunkSeq), false).await;
    drop(pieces);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(setup.results.chunk_fields("t1", "seq"), [json!(0), json!(0), json!(1)]);
}

/// P3, F30: the task ends with an error instead.
#[actix::test]
async fn without_chunk_seq_a_chunk_the_hub_may_have_is_not_repeated() {
    let (setup, pieces) = with_failed_post(Features::CLASSIC, false).await;
    sleep(Duration::from_secs(1)).await;
    let posts = setup.results.of("t1");
    assert_eq!(posts.len(), 2, "{posts:?}");
    assert!(posts[1]["error"].is_string());
    assert!(pieces.is_closed());
}

#[actix::test]
async fn without_chunk_seq_a_chunk_the_hub_does_not_have_is_repeated() {
    let (setup, pieces) = with_failed_post(Features::CLASSIC, true).await;
    drop(pieces);
    sleep(Duration::from_secs(1)).await;
    let data = setup.results.chunk_fields("t1", "data");
    assert_eq!(data, [json!(piece("a")), json!(piece("a")), json!("[DONE]")]);
}

#[actix::test]
async fn over_a_link_one_stream_has_the_whole_answer() {
    let setup = start(config());
    setup.results.has_link.set(true);
    let pieces = setup.stream("t1", Features::ALL).await;
    for text in ["a", "b"] {
        pieces.send(Ok(piece(text))).unwrap();
        run_ready_tasks().await;
    }
    drop(pieces);
    run_ready_tasks().await;
    let expected = vec![piece("a"), piece("b"), "[DONE]".to_owned()];
    assert_eq!(*setup.results.streams.borrow(), [("t1".to_owned(), expected)]);
    assert!(setup.results.of("t1").is_empty());
    assert_eq!(setup.outbox.open(), 0);
}

/// An answer whose first chunk was posted is posted to its end, because a task has one body on a link.
#[actix::test]
async fn an_answer_that_began_by_posts_ends_by_posts() {
    let setup = start(config());
    let pieces = setup.stream("t1", Features::ALL).await;
    pieces.send(Ok(piece("a"))).unwrap();
    run_ready_tasks().await;
    setup.results.has_link.set(true);
    pieces.send(Ok(piece("b"))).unwrap();
    drop(pieces);
    run_ready_tasks().await;
    let data = setup.results.chunk_fields("t1", "data");
    assert_eq!(data, [json!(piece("a")), json!(piece("b")), json!("[DONE]")]);
    assert!(setup.results.streams.borrow().is_empty());
}

/// P3, F38: a broken backend stream is an error over a link and in chunk POSTs.
#[actix::test]
async fn a_broken_backend_stream_ends_with_an_error_and_no_end_mark() {
    let setup = start(config());
    for (id, has_link) in [("t1", true), ("t2", false)] {
        setup.results.has_link.set(has_link);
        let pieces = setup.stream(id, Features::ALL).await;
        pieces.send(Ok(piece("a"))).unwrap();
        pieces.send(Err(BackendError::Failed("broke off".into()))).unwrap();
        run_ready_tasks().await;
    }
    let streams = setup.results.streams.borrow();
    assert_eq!(streams[0].1, [piece("a"), r#"{"error":"broke off"}"#.to_owned()]);
    assert_eq!(setup.results.error_of("t2").as_deref(), Some("broke off"));
}

#[actix::test]
async fn a_failure_before_the_first_chunk_is_a_plain_result() {
    let setup = start(config());
    setup.results.has_link.set(true);
    let pieces = setup.stream("t1", Features::ALL).await;
    pieces.send(Err(BackendError::Failed("broke off".into()))).unwrap();
    run_ready_tasks().await;
    assert_eq!(setup.results.error_of("t1").as_deref(), Some("broke off"));
    assert!(setup.results.streams.borrow().is_empty());
}

#[actix::test]
async fn a_whole_reply_to_a_streamed_task_is_sent_as_a_chunk_and_end_mark() {
    let setup = start(config());
    setup.send("t1", true, Features::CLASSIC);
    run_ready_tasks().await;
    setup.backend.next().whole(200, &answer("hello"));
    run_ready_tasks().await;
    let posts = setup.results.of("t1");
    let chunk: Value = serde_json::from_str(posts[0]["chunk"]["data"].as_str().unwrap()).unwrap();
    assert_eq!(chunk["choices"][0]["delta"]["content"], "hello");
    assert_eq!(posts[1], json!({ "chunk": { "data": "[DONE]", "done": true } }));
}

#[actix::test]
async fn an_error_status_of_the_backend_is_passed_on() {
    let setup = start(config());
    let refusal = json!({ "error": { "message": "too long" } });
    for (id, streaming, features) in
        [("t1", false, Features::CLASSIC), ("t2", true, Features::ALL), ("t3", true, Features::CLASSIC)]
    {
        setup.send(id, streaming, features);
        run_ready_tasks().await;
        setup.backend.next().whole(400, &refusal);
        run_ready_tasks().await;
    }
    for id in ["t1", "t2"] {
        assert_eq!(setup.results.of(id), [json!({ "status": 400, "body": refusal })]);
    }
    assert_eq!(setup.results.error_of("t3").as_deref(), Some("backend answered 400: too long"));
}

#[actix::test]
async fn an_unknown_endpoint_is_refused_without_calling_the_backend() {
    let setup = start(config());
    let task = InferTask { endpoint: Some("../slots".into()), ..infer_task("t1", false) };
    let ticket = setup.outbox.accept(&task.id, 0).unwrap();
    setup.actor.do_send(Infer { task, ticket, features: Features::ALL });
    run_ready_tasks().await;
    assert!(setup.results.error_of("t1").is_some());
    assert_eq!(setup.backend.calls(), 0);
}

#[actix::test]
async fn a_stopped_stream_ends_with_the_error_of_the_stop() {
    let setup = start(config());
    let mut open = Vec::new();
    for (id, has_link) in [("t1", true), ("t2", false)] {
        setup.results.has_link.set(has_link);
        let pieces = setup.stream(id, Features::ALL).await;
        pieces.send(Ok(piece("a"))).unwrap();
        run_ready_tasks().await;
        open.push(pieces);
    }
    setup.actor.do_send(Abort);
    run_ready_tasks().await;
    assert!(
        open.iter().all(tokio::sync::mpsc::UnboundedSender::is_closed),
        "the backend requests are dropped"
    );
    let error = json!({ "error": "publisher shutting down" });
    assert_eq!(setup.results.streams.borrow()[0].1, [piece("a"), error.to_string()]);
    assert!(setup.results.of("t1").is_empty());
    assert_eq!(setup.results.of("t2")[1..], [error]);
}

/// The backend fails before the first chunk, and after it.
#[actix::test]
async fn a_failed_task_is_logged_with_a_code_and_without_the_backends_text() {
    testkit::captured_log::listen("actors");
    let setup = start(config());
    let pieces = setup.stream("mid-stream", Features::ALL).await;
    pieces.send(Ok(piece("a"))).unwrap();
    pieces.send(Err(BackendError::Failed("the text of the model".into()))).unwrap();
    run_ready_tasks().await;
    setup.send("refused", false, Features::ALL);
    run_ready_tasks().await;
    setup.backend.next().whole(422, &json!({ "error": { "message": "the text of the server" } }));
    run_ready_tasks().await;
    setup.send("fine", false, Features::ALL);
    run_ready_tasks().await;
    setup.backend.next().whole(200, &answer("hello"));
    run_ready_tasks().await;
    let lines = testkit::captured_log::lines_with(" failed: ");
    let name = config().name;
    assert_eq!(
        lines,
        [
            format!("INFO task mid-stream failed: provider={name} code=upstream_error ms=0"),
            format!("INFO task refused failed: provider={name} code=backend_error status=422 ms=0"),
        ]
    );
    assert!(testkit::captured_log::lines_with("the text").is_empty());
}
