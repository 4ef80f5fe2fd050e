//! Many durable tasks: limits for their number and their bytes on disk, and pages of the list.

use super::*;

#[actix_rt::test]
async fn parallel_tasks_do_not_exceed_the_limit_of_a_user() {
    let hub = hub_with(|options| options.limits.open_tasks = 7).await;
    let alice = hub.member("alice").await;
    let _publisher = Publisher::register(&hub, &alice, None, &[provider("a")]).await;
    let create = || hub.ask_as(&alice, "POST", TASKS).body(r#"{"llm":"a","request":{}}"#);
    for round in 0..3 {
        let asks: Vec<Ask> = (0..40).map(|_| create()).collect();
        let answers = join_all(asks.iter().map(Ask::json)).await;
        let accepted: Vec<&Value> =
            answers.iter().filter(|(status, _)| *status == 202).map(|(_, body)| body).collect();
        assert_eq!(accepted.len(), 7, "round {round}");
        assert!(answers.iter().all(|(status, _)| [202, 429].contains(status)));
        // A refused or deleted task does not count.
        for task in accepted {
            let path = format!("{TASKS}/{}", task["id"].as_str().unwrap());
            assert_eq!(hub.ask_as(&alice, "DELETE", path).send().await.0, 204);
        }
        eventually("no task is open", async || {
            hub.core().tasks.list(&admin(), &ListCursor::end(), 9).is_empty()
        })
        .await;
    }
    hub.stop().await;
}

fn admin() -> crate::model::Caller {
    crate::model::Caller {
        user: "admin".into(),
        role: crate::model::Role::Admin,
        token_id: "test".into(),
        models: crate::model::AllowedModels::default(),
        secret: None,
    }
}

/// If a user's tasks take too many bytes, the oldest results are deleted, but not the newest one; open tasks are kept,
/// and new tasks are refused with a reason. Other users are served.
#[actix_rt::test]
async fn the_bytes_of_a_users_tasks_on_disk_are_bounded() {
    let hub = hub_with(|options| options.limits.disk = 20_000).await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let mut publisher = Publisher::start(&hub, &alice, &[provider("a")], None).await;
    Publisher::register(&hub, &alice, None, &[provider("away")]).await;
    let create = async |token: &str, llm: &str, size: usize| {
        let body = json!({ "llm": llm, "request": { "messages": [], "user": "x".repeat(size) } });
        hub.ask_as(token, "POST", TASKS).body(body.to_string()).json().await
    };
    let found = async |id: &str| hub.ask_as(&alice, "GET", format!("{TASKS}/{id}")).send().await.0 == 200;
    let mut results = Vec::new();
    for _ in 0..5 {
        let (status, task) = create(&alice, "a", 10).await;
        assert_eq!(status, 202);
        let sent = publisher.task().await;
        publisher.answer(&hub, &sent, &"y".repeat(5500)).await;
        let id = task["id"].as_str().unwrap().to_owned();
        eventually("the task has ended", async || {
            hub.core().store.task(&id).await.unwrap().is_none_or(|task| task.state.is_terminal())
        })
        .await;
        results.push(id);
    }
    eventually("the first two results are deleted", async || {
        !found(&results[0]).await && !found(&results[1]).await
    })
    .await;
    for kept in &results[2..] {
        assert!(found(kept).await);
    }
    let mut open = Vec::new();
    for _ in 0..3 {
        let (status, task) = create(&alice, "away", 5500).await;
        assert_eq!(status, 202, "{task}");
        open.push(task["id"].as_str().unwrap().to_owned());
    }
    let (status, refused) = create(&alice, "away", 5500).await;
    assert_eq!((status, &refused["code"]), (429, &json!("rate_limit_exceeded")));
    let text = refused["error"].as_str().unwrap();
    assert!(
        text.starts_with("your tasks that wait and run take 1 MiB on the hub's disk: wait for some"),
        "{text}"
    );
    assert_eq!(create(&bob, "away", 5500).await.0, 202, "another user is refused");
    eventually("all results but the newest are deleted", async || !found(&results[3]).await).await;
    assert!(found(&results[4]).await);
    for id in &open {
        let (_, task) = hub.ask_as(&alice, "GET", format!("{TASKS}/{id}")).json().await;
        assert_eq!(task["status"], "pending", "a pending task was dropped");
    }
    assert_eq!(hub.ask_as(&alice, "DELETE", format!("{TASKS}/{}", open[0])).send().await.0, 204);
    eventually("a new task is accepted", async || create(&alice, "away", 5500).await.0 == 202).await;
    hub.stop().await;
}

#[actix_rt::test]
async fn the_pages_of_tasks_have_each_task_once_newest_first() {
    let hub = hub().await;
    let alice = hub.member("alice").await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    Publisher::register(&hub, ADMIN, None, &[provider("away")]).await;
    for number in 0..21 {
        // Ended and pending tasks, durable tasks and calls, of two users.
        let token = if number % 3 == 0 { ADMIN } else { alice.as_str() };
        let durable = |llm: &str| {
            hub.ask_as(token, "POST", TASKS).body(json!({ "llm": llm, "request": {} }).to_string())
        };
        let serve = async |publisher: &mut Publisher| {
            let task = publisher.task().await;
            publisher.answer(&hub, &task, "hello").await;
        };
        match number % 4 {
            0 => assert_eq!(durable("away").send().await.0, 202),
            1 => {
                assert_eq!(durable("a").send().await.0, 202);
                serve(&mut publisher).await;
            }
            _ => {
                let ask = hub.ask_as(token, "POST", "/api/v1/llms/a/infer").body("{}");
                futures_util::join!(async { assert_eq!(ask.send().await.0, 200) }, serve(&mut publisher));
            }
        }
    }
    eventually("all tasks but those of the absent publisher have ended", async || {
        let (_, list) = hub.ask("GET", TASKS).json().await;
        let status =
            |wanted: &str| list.as_array().unwrap().iter().filter(|task| task["status"] == wanted).count();
        status("completed") == 15 && status("pending") == 6
    })
    .await;
    let (_, all) = hub.ask("GET", TASKS).json().await;
    for (token, limit, expected) in [(ADMIN, 1, 21), (ADMIN, 4, 21), (ADMIN, 21, 21), (alice.as_str(), 5, 14)]
    {
        let (mut path, mut seen) = (format!("{TASKS}?limit={limit}"), Vec::new());
        loop {
            let mut answer = hub.ask_as(token, "GET", path).open().await;
            assert_eq!(answer.status, 200);
            let page: Vec<Value> = serde_json::from_str(&answer.rest().await).unwrap();
            assert!(page.len() <= limit);
            seen.extend(page.iter().map(|task| task["id"].as_str().unwrap().to_owned()));
            let next = answer.head.lines().find_map(|line| line.strip_prefix("link: <")?.split_once('>'));
            let Some((next, relation)) = next else { break };
            assert_eq!(relation, "; rel=\"next\"");
            path = next.to_owned();
        }
        assert_eq!(seen.iter().collect::<HashSet<_>>().len(), expected, "{limit}");
        let mine = |task: &&Value| token == ADMIN || task["ownerId"] == "alice";
        let in_order: Vec<&str> =
            all.as_array().unwrap().iter().filter(mine).map(|task| task["id"].as_str().unwrap()).collect();
        assert_eq!(seen, in_order);
    }
    let last = &all[20];
    let before = format!("{TASKS}?before={}", all[18]["createdAt"].as_str().unwrap());
    let (_, older) = hub.ask("GET", before).json().await;
    assert_eq!(older.as_array().unwrap().last(), Some(last), "`before` accepts a time without an id");
    for query in ["limit=0", "limit=x", "limit=-1", "before=x", "before=,task-1", "before="] {
        assert_eq!(hub.ask("GET", format!("{TASKS}?{query}")).send().await.0, 400, "{query}");
    }
    hub.stop().await;
}
