//! What a caller sees of the relay: commit on first content, failover, timeouts, errors, hostile publishers.

use std::time::Duration;

use serde_json::{Value, json};

use super::http::{Ask, ask};
use super::publisher::{Publisher, chunk, provider};
use super::road::{chat, infer};
use super::support::{ADMIN, TestHub, eventually, hub, hub_with};

fn pooled(name: &str, pool: &str) -> Value {
    let mut provider = provider(name);
    provider["poolName"] = pool.into();
    provider
}

/// Three publishers with one member each of the pool `p`.
async fn pool(hub: &TestHub, features: Option<&str>) -> Vec<Publisher> {
    let mut members = Vec::new();
    for name in ["a", "b", "c"] {
        members.push(Publisher::start(hub, ADMIN, &[pooled(name, "p")], features).await);
    }
    members
}

fn v1(hub: &TestHub, model: &str, stream: bool) -> Ask {
    hub.ask("POST", "/v1/chat/completions").body(chat(model, stream))
}

#[actix_rt::test]
async fn each_member_is_tried_once_before_the_first_byte() {
    let hub = hub().await;
    let mut members = pool(&hub, None).await;
    let failures = [
        json!({ "error": "it broke" }),
        json!({ "status": 503, "body": { "error": "loading" } }),
        json!({ "status": 429, "body": { "error": "queue full" } }),
    ];
    let call = v1(&hub, "p", true);
    let (answer, ()) = futures_util::join!(call.json(), async {
        let tasks = members.iter_mut().map(Publisher::task);
        // The members are asked one after the other, in an order that is the hub's affair.
        let (mut waiting, mut ids) = (futures_util::future::select_all(tasks.map(Box::pin)), Vec::new());
        for failure in &failures {
            let (task, index, rest) = waiting.await;
            let id = task["taskId"].as_str().unwrap().to_owned();
            assert!(!ids.contains(&id), "a failover has a new id");
            let path = format!("/api/v1/llms/_provider-task/{id}/result");
            assert_eq!(hub.ask("POST", path).body(failure.to_string()).send().await.0, 200);
            ids.push(id);
            let _ = index;
            if rest.is_empty() {
                return;
            }
            waiting = futures_util::future::select_all(rest);
        }
    });
    assert_eq!(answer.0, 429, "the last failure is the caller's");
    assert_eq!(answer.1["error"]["message"], "queue full");
    hub.stop().await;
}

#[actix_rt::test]
async fn after_the_first_byte_nothing_is_tried_again() {
    let hub = hub().await;
    let mut members = pool(&hub, None).await;
    let call = v1(&hub, "a", true);
    let (answer, ()) = futures_util::join!(call.send(), async {
        let task = members[0].task().await;
        members[0].chunk(&hub, &task, "one").await;
        members[0].post(&hub, &task, &json!({ "error": "it broke" })).await;
    });
    let error =
        r#"{"error":{"message":"it broke","type":"server_error","param":null,"code":"upstream_error"}}"#;
    assert_eq!(answer, (200, format!("data: {}\n\ndata: {error}\n\n", chunk("one"))));
    hub.stop().await;
}

#[actix_rt::test]
async fn a_rows_own_name_is_that_row_alone_and_a_callers_mistake_is_not_tried_elsewhere() {
    let hub = hub().await;
    let mut members = pool(&hub, None).await;
    for _ in 0..4 {
        let call = v1(&hub, "b", false);
        let (answer, ()) = futures_util::join!(call.send(), async {
            let task = members[1].task().await;
            assert_eq!(task["request"]["model"], "model-of-b");
            members[1]
                .post(&hub, &task, &json!({ "status": 400, "body": { "error": "no such tool" } }))
                .await;
        });
        assert_eq!(answer.0, 400);
    }
    hub.stop().await;
}

#[actix_rt::test]
async fn the_member_with_the_least_work_for_its_room_is_asked() {
    let hub = hub().await;
    let mut small = Publisher::register(&hub, ADMIN, None, &[pooled("small", "p")]).await;
    let mut large = Publisher::register(&hub, ADMIN, None, &[pooled("large", "p")]).await;
    for (publisher, name, room) in [(&mut small, "small", 1), (&mut large, "large", 3)] {
        publisher.open(&hub, Some("status")).await;
        let status =
            json!({ "name": name, "status": "active", "inFlight": 0, "queued": 0, "maxConcurrency": room });
        publisher.beat(&hub, json!({ "providers": [status] })).await;
    }
    let calls: Vec<_> = (0..4).map(|_| v1(&hub, "p", false)).collect();
    let calls = futures_util::future::join_all(calls.iter().map(Ask::send));
    let (answers, ()) = futures_util::join!(calls, async {
        let mut tasks = vec![small.task().await];
        for _ in 0..3 {
            tasks.push(large.task().await);
        }
        for task in &tasks {
            small.answer(&hub, task, "hello").await;
        }
    });
    assert!(answers.iter().all(|(status, _)| *status == 200));
    hub.stop().await;
}

#[actix_rt::test]
async fn who_has_patience_waits_for_room_and_for_a_publisher() {
    let hub = hub().await;
    let mut publisher = Publisher::register(&hub, ADMIN, None, &[provider("a")]).await;
    let patient = infer(&hub, "a", false).header("x-queue-timeout", "5");
    let (answer, ()) = futures_util::join!(patient.send(), async {
        publisher.open(&hub, Some("status")).await;
        let task = publisher.task().await;
        publisher.answer(&hub, &task, "hello").await;
    });
    assert_eq!(answer.0, 200);
    let status =
        json!([{ "name": "a", "status": "active", "inFlight": 1, "queued": 0, "maxConcurrency": 1 }]);
    publisher.beat(&hub, json!({ "providers": status })).await;
    let short = infer(&hub, "a", false).header("x-queue-timeout", "0.05");
    assert_eq!(short.send().await.0, 503);
    let (answer, ()) = futures_util::join!(patient.send(), async {
        let status =
            json!([{ "name": "a", "status": "active", "inFlight": 0, "queued": 0, "maxConcurrency": 1 }]);
        publisher.beat(&hub, json!({ "providers": status })).await;
        let task = publisher.task().await;
        publisher.answer(&hub, &task, "hello").await;
    });
    assert_eq!(answer.0, 200);
    assert_eq!(infer(&hub, "a", false).header("x-queue-timeout", "soon").send().await.0, 400);
    hub.stop().await;
}

#[actix_rt::test]
async fn nothing_in_time_is_504_and_the_task_is_cancelled() {
    let hub = hub_with(|options| options.timings.wait_timeout = Duration::from_millis(100)).await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], Some("cancel")).await;
    for stream in [false, true] {
        let call = infer(&hub, "a", stream);
        let (answer, task) = futures_util::join!(call.send(), publisher.task());
        assert_eq!(answer.0, 504, "{}", answer.1);
        assert_eq!(task["taskId"], publisher.cancelled().await);
    }
    hub.stop().await;
}

#[actix_rt::test]
async fn a_long_wait_opens_the_stream_with_comments_that_do_not_end_failover() {
    let hub = hub_with(|options| options.timings.keepalive_interval = Duration::from_millis(50)).await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[pooled("a", "p")], None).await;
    let mut other = Publisher::start(&hub, ADMIN, &[pooled("b", "p")], None).await;
    let call = v1(&hub, "p", true);
    let (mut answer, ()) = futures_util::join!(call.open(), async {
        // Whichever is asked first.
        let (task, who) = tokio::select! {
            task = publisher.task() => (task, "a"),
            task = other.task() => (task, "b"),
        };
        assert_eq!(task["llmName"], who);
        tokio::time::sleep(Duration::from_millis(200)).await;
        publisher.post(&hub, &task, &json!({ "error": "it broke" })).await;
    });
    assert_eq!(answer.status, 200);
    let task = tokio::select! {
        task = publisher.task() => task,
        task = other.task() => task,
    };
    publisher.chunk(&hub, &task, "one").await;
    publisher.done(&hub, &task).await;
    let text = answer.rest().await;
    assert!(text.starts_with(": keepalive\n\n: keepalive\n\n"), "{text}");
    assert!(text.ends_with(&format!("data: {}\n\ndata: [DONE]\n\n", chunk("one"))), "{text}");
    assert!(!text.contains("error"));
    hub.stop().await;
}

#[actix_rt::test]
async fn a_failure_after_the_first_comment_ends_the_stream_without_done() {
    let hub = hub_with(|options| options.timings.keepalive_interval = Duration::from_millis(30)).await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    let call = infer(&hub, "a", true);
    let (mut answer, task) = futures_util::join!(call.open(), publisher.task());
    answer.until(":").await;
    publisher.post(&hub, &task, &json!({ "status": 422, "body": { "error": { "message": "no" } } })).await;
    assert!(answer.rest().await.ends_with("data: {\"error\":\"no\"}\n\n"));
    hub.stop().await;
}

#[actix_rt::test]
async fn one_json_body_for_a_stream_still_gives_a_chunk_and_done() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    let call = infer(&hub, "a", true);
    let (answer, ()) = futures_util::join!(call.send(), async {
        let task = publisher.task().await;
        publisher.answer(&hub, &task, "hello").await;
    });
    let data = answer.1.strip_suffix("\n\ndata: [DONE]\n\n").unwrap().strip_prefix("data: ").unwrap();
    let event: Value = serde_json::from_str(data).unwrap();
    assert_eq!(event["object"], "chat.completion.chunk");
    assert_eq!(event["choices"][0]["delta"]["content"], "hello");
    hub.stop().await;
}

#[actix_rt::test]
async fn what_a_publisher_sends_stays_one_event_or_is_refused() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], Some("cancel, result-stream")).await;
    // Line breaks within JSON are white space: gone. Within a string they are escaped by whoever wrote it.
    let call = infer(&hub, "a", true);
    let (answer, ()) = futures_util::join!(call.send(), async {
        let task = publisher.task().await;
        let data = "{\n\n\"a\"\r\n:\r\"event: done\\n\\ndata: {}\"}";
        assert_eq!(publisher.post(&hub, &task, &json!({ "chunk": { "data": data } })).await, 200);
        publisher.done(&hub, &task).await;
    });
    assert_eq!(answer.1, "data: {\"a\":\"event: done\\n\\ndata: {}\"}\n\ndata: [DONE]\n\n");
    // What is no JSON never gets through, by either way.
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    for bad in ["hi\n\nevent: done\ndata: {}", "{\"a\":1}{", &deep] {
        let call = infer(&hub, "a", true);
        let (answer, ()) = futures_util::join!(call.send(), async {
            let task = publisher.task().await;
            assert_eq!(publisher.post(&hub, &task, &json!({ "chunk": { "data": bad } })).await, 400);
            assert_eq!(publisher.done(&hub, &task).await, 410);
        });
        assert_eq!(answer.0, 502, "{}", answer.1);
        let call = infer(&hub, "a", true);
        let (answer, ()) = futures_util::join!(call.send(), async {
            let task = publisher.task().await;
            let upload = hub.ask("POST", Publisher::upload_path(&task));
            let (status, _) =
                upload.body(format!("data: {}\n\n", bad.replace('\n', "\ndata: "))).send().await;
            assert_eq!(status, 400);
        });
        assert_eq!(answer.0, 502, "{}", answer.1);
    }
    hub.stop().await;
}

#[actix_rt::test]
async fn a_publishers_odd_status_becomes_a_plain_one() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    for (theirs, ours) in [(201, 201), (204, 200), (302, 502), (404, 404), (599, 599)] {
        let call = infer(&hub, "a", false);
        let (mut answer, ()) = futures_util::join!(call.open(), async {
            let task = publisher.task().await;
            publisher.post(&hub, &task, &json!({ "status": theirs, "body": { "a": 1 } })).await;
        });
        assert_eq!(answer.status, ours);
        assert!(answer.head.contains("content-type: application/json"));
        assert_eq!(answer.rest().await, r#"{"a":1}"#);
    }
    hub.stop().await;
}

#[actix_rt::test]
async fn a_body_that_is_too_large_or_no_json_object_is_refused_and_the_client_sees_it() {
    let hub = hub().await;
    let _publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    let huge = format!(r#"{{"messages":"{}"}}"#, "x".repeat(33 << 20));
    let (status, body) = infer(&hub, "a", false).body(huge).json().await;
    assert_eq!((status, &body["error"]), (413, &json!("the request's body is larger than 32 MiB")));
    let deep = format!(r#"{{"a":{}{}}}"#, "[".repeat(200_000), "]".repeat(200_000));
    for bad in ["", "[]", "{", "\"model\"", deep.as_str()] {
        assert_eq!(infer(&hub, "a", false).body(bad).send().await.0, 400, "{}", &bad[..bad.len().min(9)]);
    }
    let (status, body) = hub.ask("POST", "/v1/chat/completions").body("{}").json().await;
    assert_eq!((status, &body["error"]["type"]), (400, &json!("invalid_request_error")));
    hub.stop().await;
}

#[actix_rt::test]
async fn a_body_of_many_megabytes_reaches_the_publisher_unchanged_in_value() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    let body = format!(
        r#"{{ "model": "a", "mo\u0064el": "x", "seed": 18446744073709551615, "x": 1.10, "image": "{}" }}"#,
        "x".repeat(20 << 20)
    );
    let ask = hub.ask("POST", "/v1/chat/completions").body(body.replace("\"x\",", "\"a\","));
    let (answer, ()) = futures_util::join!(ask.send(), async {
        let event = publisher.event().await.unwrap();
        assert!(event.data.contains(
            r#""request":{"model":"model-of-a","seed":18446744073709551615,"x":1.10,"image":"xxx"#
        ));
        let task: Value = serde_json::from_str(&event.data).unwrap();
        publisher.answer(&hub, &task, "hello").await;
    });
    assert_eq!(answer.0, 200);
    hub.stop().await;
}

#[actix_rt::test]
async fn errors_have_the_shape_of_the_api_they_come_from() {
    let hub = hub().await;
    let unknown = |path: &str| hub.ask("POST", path).body(chat("unknown", false));
    let (status, body) = unknown("/v1/chat/completions").json().await;
    assert_eq!(status, 404);
    assert_eq!(
        body,
        json!({ "error": { "message": "model 'unknown' not found", "type": "invalid_request_error",
            "param": null, "code": "model_not_found" } })
    );
    let (status, body) = unknown("/v1/messages").json().await;
    assert_eq!(
        (status, &body["type"], &body["error"]["type"]),
        (404, &json!("error"), &json!("not_found_error"))
    );
    let (status, body) = unknown("/api/v1/llms/unknown/infer").json().await;
    assert_eq!((status, body), (404, json!({ "error": "LLM 'unknown' not found" })));
    let answer = hub.ask("GET", "/v1/models").open().await;
    assert!(answer.head.contains("x-content-type-options: nosniff"), "{}", answer.head);
    assert!(answer.head.contains("cache-control: no-store"), "{}", answer.head);
    let (status, body) = ask(hub.addr, "GET", "/v1/models").json().await;
    assert_eq!((status, &body["error"]["code"]), (401, &json!("invalid_api_key")));
    hub.stop().await;
}

#[actix_rt::test]
async fn messages_and_responses_name_their_events_and_end_without_done() {
    let hub = hub().await;
    let mut publisher =
        Publisher::start(&hub, ADMIN, &[provider("a")], Some("endpoints, cancel, result-stream")).await;
    for path in ["messages", "responses"] {
        let ask = hub.ask("POST", format!("/v1/{path}")).body(chat("a", true));
        let (answer, ()) = futures_util::join!(ask.send(), async {
            let task = publisher.task().await;
            assert_eq!(task["endpoint"], path);
            let upload = hub.ask("POST", Publisher::upload_path(&task));
            let body = "data: {\"type\":\"message_start\"}\n\ndata: {\"type\":\"a\\nb\"}\n\ndata: [DONE]\n\n";
            assert_eq!(upload.body(body).send().await.0, 200);
        });
        let expected =
            "event: message_start\ndata: {\"type\":\"message_start\"}\n\ndata: {\"type\":\"a\\nb\"}\n\n";
        assert_eq!(answer, (200, expected.into()));
    }
    hub.stop().await;
}

#[actix_rt::test]
async fn a_hidden_row_and_an_unknown_one_are_the_same_bytes_everywhere() {
    let hub = hub().await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let mut hidden = pooled("hidden", "hidden-pool");
    hidden["visibility"] = "private".into();
    let _publisher = Publisher::start(&hub, &alice, &[hidden], Some("endpoints")).await;
    for (name, unknown) in [("hidden", "nobody"), ("hidden-pool", "nobody-pool")] {
        for (method, path, body) in [
            ("GET", "/api/v1/llms/NAME", String::new()),
            ("GET", "/api/v1/llms/NAME/members", String::new()),
            ("POST", "/api/v1/llms/NAME/infer", chat("x", false)),
            ("GET", "/v1/models/NAME", String::new()),
            ("POST", "/v1/chat/completions", chat("NAME", true)),
            ("POST", "/v1/embeddings", chat("NAME", false)),
            ("POST", "/v1/messages", chat("NAME", false)),
        ] {
            let ask = |name: &str| {
                hub.ask_as(&bob, method, path.replace("NAME", name)).body(body.replace("NAME", name))
            };
            let mut answers = Vec::new();
            for name in [name, unknown] {
                let mut answer = ask(name).open().await;
                let body = answer.rest().await.replace(name, "NAME");
                let mut head: Vec<_> = answer.head.lines().map(str::to_owned).collect();
                // Their order is actix's, and random.
                head.sort();
                let stable =
                    |line: &&String| !line.starts_with("date:") && !line.starts_with("content-length:");
                answers.push((answer.status, head.iter().filter(stable).cloned().collect::<Vec<_>>(), body));
            }
            assert_eq!(answers[0], answers[1], "{method} {path}");
            assert_eq!(answers[0].0, 404);
        }
    }
    for path in ["/api/v1/llms", "/v1/models"] {
        assert!(!hub.ask_as(&bob, "GET", path).send().await.1.contains("hidden"));
        assert!(hub.ask_as(&alice, "GET", path).send().await.1.contains("hidden"));
        assert!(hub.ask("GET", path).send().await.1.contains("hidden"));
    }
    hub.stop().await;
}

#[actix_rt::test]
async fn a_call_on_a_shared_pool_goes_to_members_that_its_caller_may_use() {
    let hub = hub().await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let mut secret = pooled("secret", "p");
    secret["visibility"] = "private".into();
    let mut alices = Publisher::start(&hub, &alice, &[secret], None).await;
    let mut bobs = Publisher::start(&hub, &bob, &[pooled("open", "p")], None).await;
    for _ in 0..3 {
        let call = hub.ask_as(&bob, "POST", "/v1/chat/completions").body(chat("p", false));
        let (answer, ()) = futures_util::join!(call.send(), async {
            let task = bobs.task().await;
            bobs.answer(&hub, &task, "hello").await;
        });
        assert_eq!(answer.0, 200);
    }
    bobs.close();
    hub.until_status("open", "inactive").await;
    let call = hub.ask_as(&bob, "POST", "/v1/chat/completions").body(chat("p", false));
    assert_eq!(call.send().await.0, 503, "the private member is not for bob");
    let call = hub.ask_as(&alice, "POST", "/v1/chat/completions").body(chat("p", false));
    let (answer, ()) = futures_util::join!(call.send(), async {
        let task = alices.task().await;
        alices.answer(&hub, &task, "hello").await;
    });
    assert_eq!(answer.0, 200);
    hub.stop().await;
}

#[actix_rt::test]
async fn a_revoked_tokens_streams_end() {
    let hub = hub().await;
    let alice = hub.member("alice").await;
    let mut publisher = Publisher::start(&hub, &alice, &[provider("a")], None).await;
    let bob = hub.member("bob").await;
    let call = hub.ask_as(&bob, "POST", "/v1/chat/completions").body(chat("a", true));
    let (mut answer, task) = futures_util::join!(call.open(), async {
        let task = publisher.task().await;
        publisher.chunk(&hub, &task, "one").await;
        task
    });
    hub.revoke("bob").await;
    assert!(answer.rest().await.contains("token is not valid"));
    eventually("410", async || publisher.chunk(&hub, &task, "two").await == 410).await;
    hub.revoke("alice").await;
    assert!(publisher.event().await.is_none());
    hub.stop().await;
}

#[actix_rt::test]
async fn stopping_lets_running_calls_end_and_refuses_new_ones() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    let call = infer(&hub, "a", true);
    let (mut answer, task) = futures_util::join!(call.open(), async {
        let task = publisher.task().await;
        publisher.chunk(&hub, &task, "one").await;
        task
    });
    let (new, late) = (
        infer(&hub, "a", false),
        hub.ask("POST", format!("/api/v1/llms/_provider-task/{}/result", task["taskId"].as_str().unwrap())),
    );
    let stopping = actix_rt::spawn(hub.stop());
    eventually("503", async || new.open().await.status == 503).await;
    assert_eq!(
        late.body(json!({ "chunk": { "data": "[DONE]", "done": true } }).to_string()).send().await.0,
        200
    );
    assert!(answer.rest().await.ends_with("data: [DONE]\n\n"));
    assert!(publisher.event().await.is_none(), "the channel ends");
    tokio::time::timeout(Duration::from_secs(5), stopping).await.unwrap().unwrap();
}
