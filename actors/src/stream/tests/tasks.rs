//! Dispatch of tasks and cancels, and handling of malformed events.

use wire::Feature;

use super::*;

const TASK: &str = r#"{"kind":"infer","taskId":"t1","llmName":"a","streaming":true,"request":{"x":1}}"#;

fn task(data: &str) -> String {
    format!("event: task\ndata: {data}\n\n")
}

#[actix::test]
async fn a_session_opens_its_channel_and_tasks_are_dispatched() {
    let setup = start(ScriptedHub::default());
    pass(SECOND).await;
    setup.hub.send(&task(TASK));
    setup.hub.send(&task(r#"{"kind":"wake","taskId":"t2","llmName":"a"}"#));
    pass(SECOND).await;
    assert_eq!(setup.infer.borrow()[0].task.request.get(), r#"{"x":1}"#);
    assert_eq!(setup.infer.borrow()[0].features, Features::CLASSIC);
    assert_eq!(setup.wake.borrow().len(), 1);
    assert_eq!(setup.opened.borrow().len(), 1, "the channel of a classic hub is announced once");
}

/// F08, F09, F89: malformed data and unknown events are skipped, and the next task runs.
#[actix::test]
async fn malformed_data_and_unknown_events_do_not_end_the_channel() {
    captured_log::listen("actors");
    let setup = start(ScriptedHub::default());
    pass(SECOND).await;
    for text in ["event: news\ndata: x\n\n", "data: y\n\n", ": ping\n\n", "id: 1\n\n", "\u{0}\n\n"] {
        setup.hub.send(text);
    }
    let malformed = [
        "canary",
        r#"{"kind":"infer","canary":"#,
        r#"["canary"]"#,
        r#"{"kind":"infer","request":{"canary":1}}"#,
        r#"{"kind":"canary","taskId":"t","llmName":"a"}"#,
    ];
    for data in malformed {
        setup.hub.send(&task(data));
    }
    setup.hub.send("event: cancel\ndata: {\n\n");
    setup.hub.send(&task(TASK));
    pass(SECOND).await;
    assert_eq!((setup.infer.borrow().len(), setup.hub.opened()), (1, 1));
    assert!(setup.posts.0.borrow().is_empty());
    assert_eq!(captured_log::lines_with("WARN a task was skipped").len(), malformed.len());
    assert!(captured_log::lines_with("canary").is_empty());
}

/// P7, F08: 20 lines a minute of each kind are logged, then the number of further ones.
#[actix::test]
async fn endless_malformed_events_do_not_fill_the_log() {
    captured_log::listen("actors");
    let setup = start(ScriptedHub::default());
    pass(SECOND).await;
    for number in 0..300 {
        setup.hub.send(&task("nonsense"));
        let unknown =
            format!(r#"{{"kind":"infer","taskId":"x{number}","llmName":"of-{number}","request":{{}}}}"#);
        setup.hub.send(&task(&unknown));
    }
    pass(SECOND).await;
    for text in ["WARN a task was skipped", "code=not_published"] {
        assert_eq!(captured_log::lines_with(text).len(), 20, "{text}");
    }
    pass(30 * SECOND).await;
    setup.hub.send(": ping\n\n");
    pass(31 * SECOND).await;
    setup.hub.send(&task("nonsense"));
    pass(SECOND).await;
    let mut missed = captured_log::lines_with(" more in the last minute: ");
    missed.sort();
    assert_eq!(
        missed,
        [
            "INFO 280 more in the last minute: not_published of the hub",
            "INFO 280 more in the last minute: tasks skipped of the hub",
        ]
    );
    assert_eq!(captured_log::lines_with("WARN a task was skipped").len(), 21, "the next minute logs again");
}

/// F07, P7: an event above the limit is skipped, the channel stays open, and the next task runs.
#[actix::test]
async fn an_event_that_is_too_long_is_skipped() {
    captured_log::listen("actors");
    let setup = start(ScriptedHub::default());
    pass(SECOND).await;
    setup.hub.send(
        "event: task\ndata: {\"kind\":\"infer\",\"taskId\":\"t0\",\"llmName\":\"a\",\"request\":{\"x\":\"",
    );
    let part = "x".repeat(1 << 20);
    for _ in 0..=wire::sse::DEFAULT_MAX_FRAME >> 20 {
        setup.hub.send(&part);
        pass(SECOND / 1000).await;
    }
    setup.hub.send(&format!("\"}}}}\n\n{}", task(TASK)));
    pass(SECOND).await;
    assert_eq!((setup.infer.borrow().len(), setup.hub.opened()), (1, 1));
    assert!(setup.posts.0.borrow().is_empty() && setup.lost.borrow().is_empty());
    let lines = captured_log::lines_with("too long");
    assert!(lines.len() == 1 && lines[0].starts_with("WARN") && !lines[0].contains("xx"), "{lines:?}");
}

/// P7, A27: the registrar closes the channel of a hub that keeps sending tasks and accepts no results.
#[actix::test]
async fn the_channel_of_a_hub_that_sends_endless_tasks_is_closed() {
    let setup = start(ScriptedHub::default());
    pass(SECOND).await;
    for n in 0..10_000 {
        setup.hub.send(&task(&TASK.replace("t1", &format!("t{n}"))));
    }
    pass(SECOND).await;
    assert_eq!(setup.lost.borrow().len(), 1);
    assert!((1..5000).contains(&setup.infer.borrow().len()), "{}", setup.infer.borrow().len());
    assert_eq!(setup.last_lost().reason, "the hub sends tasks faster than it takes their results");
}

/// F89: a feature is active if both sides name it; unknown features of a newer hub are ignored.
#[actix::test]
async fn features_that_both_sides_name_are_active() {
    let setup = start(ScriptedHub::default());
    pass(SECOND).await;
    setup.hub.send("event: cancel\ndata: {\"taskId\":\"t9\"}\n\n");
    setup
        .hub
        .send("event: hello\ndata: {\"features\":[\"cancel\",\"status\",\"beam\"],\"streamId\":\"st\"}\n\n");
    setup.hub.send("event: cancel\ndata: {\"taskId\":\"t1\"}\n\n");
    setup.hub.send(&task(TASK));
    pass(SECOND).await;
    let features = Features::CLASSIC.with(Feature::Cancel).with(Feature::Status);
    assert_eq!(setup.infer.borrow()[0].features, features);
    assert_eq!(setup.cancelled(), ["t1"], "no feature is active before the hello");
    let hello = ChannelOpened {
        session: session("s"),
        stream_id: Some("st".into()),
        features,
        hello: true,
        transport: ChannelTransport::Sse("the hub is a fake".to_owned()),
    };
    assert_eq!(setup.opened.borrow()[1], hello);
}

/// F11: two different tasks with the same id: the second is refused and the first is cancelled.
#[actix::test]
async fn a_task_with_the_id_of_a_running_one_ends_both() {
    let setup = start(ScriptedHub::default());
    pass(SECOND).await;
    let (before, after) = ("x".repeat(20 << 10), "y".repeat(20 << 10));
    let of = |user: &str| task(&TASK.replace("1}", &format!("\"{before}{user}{after}\"}}")));
    setup.hub.send(&of("alice"));
    setup.hub.send(&of("alice"));
    pass(SECOND).await;
    assert_eq!((setup.infer.borrow().len(), setup.cancel.borrow().len()), (1, 0));
    setup.hub.send(&of("carol"));
    pass(SECOND).await;
    assert_eq!(setup.infer.borrow().len(), 1);
    assert_eq!(setup.cancelled(), ["t1"]);
    let error = r#"{"error":"another task of this id runs at this publisher"}"#;
    assert_eq!(*setup.posts.0.borrow(), [("t1".to_owned(), error.to_owned())]);
}

#[actix::test]
async fn a_task_for_an_unknown_provider_gets_an_error() {
    let setup = start(ScriptedHub::default());
    pass(SECOND).await;
    setup.hub.send(&task(r#"{"kind":"wake","taskId":"t1","llmName":"b"}"#));
    pass(SECOND).await;
    let error = r#"{"error":"provider 'b' not registered locally"}"#;
    assert_eq!(*setup.posts.0.borrow(), [("t1".to_owned(), error.to_owned())]);
}

#[actix::test]
async fn a_stopping_stream_answers_every_task_with_an_error() {
    let setup = start(ScriptedHub::default());
    pass(SECOND).await;
    setup.actor.send(RefuseTasks).await.unwrap();
    setup.hub.send(&task(r#"{"kind":"infer","taskId":"t1","llmName":"a","request":{}}"#));
    setup.hub.send(&task(r#"{"kind":"wake","taskId":"t2","llmName":"a"}"#));
    pass(SECOND).await;
    let mut posts = setup.posts.0.borrow().clone();
    posts.sort();
    let error = r#"{"error":"publisher shutting down"}"#;
    assert_eq!(posts, ["t1", "t2"].map(|id| (id.to_owned(), error.to_owned())));
    assert!(setup.infer.borrow().is_empty() && setup.wake.borrow().is_empty());
}
