//! What one user may have at once, and that nobody else feels it.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::publisher::{Publisher, provider};
use super::road::infer;
use super::support::{ADMIN, eventually, hub, hub_with};

/// A27: calls of one user under way are bounded; another user is served.
#[actix_rt::test]
async fn a_user_with_too_many_calls_is_refused_and_another_is_served() {
    let hub = hub_with(|options| options.limits.calls = 2).await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let mut publisher = Publisher::start(&hub, &alice, &[provider("a")], Some("cancel")).await;
    let ask = |token: &str| {
        hub.ask_as(token, "POST", "/v1/chat/completions").body(r#"{"model":"a","messages":[]}"#)
    };
    let first = ask(&alice).begin().await;
    let task = publisher.task().await;
    let second = ask(&alice).begin().await;
    publisher.task().await;
    let (status, refused) = ask(&alice).json().await;
    assert_eq!(
        (status, &refused["error"]["message"]),
        (429, &json!("you have 2 calls under way already: wait for some to end"))
    );
    let call = ask(&bob);
    let (answer, ()) = futures_util::join!(call.send(), async {
        let task = publisher.task().await;
        assert_eq!(publisher.answer(&hub, &task, "hello").await, 200);
    });
    assert_eq!(answer.0, 200);
    // One that ended and one whose caller left make room again.
    assert_eq!(publisher.answer(&hub, &task, "hello").await, 200);
    drop((first, second));
    publisher.cancelled().await;
    let call = ask(&alice);
    let (answer, ()) = futures_util::join!(call.send(), async {
        let task = publisher.task().await;
        publisher.answer(&hub, &task, "hello").await;
    });
    assert_eq!(answer.0, 200);
    hub.stop().await;
}

/// A27: audit searches of one user under way are bounded; another user is served.
#[actix_rt::test]
async fn a_user_with_too_many_searches_is_refused_and_another_is_served() {
    let hub = hub_with(|options| options.limits.searches = 2).await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let _publisher = Publisher::start(&hub, &alice, &[provider("a")], None).await;
    let under_way: Vec<_> =
        (0..2).map(|_| hub.core().quotas.searches.take("alice", 2, "searches").unwrap()).collect();
    for path in ["/api/v1/audit?id=x", "/api/v1/audit", "/api/v1/llms/a/tasks"] {
        let (status, refused) = hub.ask_as(&alice, "GET", path).json().await;
        assert_eq!(
            (status, &refused["error"]),
            (429, &json!("you have 2 searches under way already: wait for some to end")),
            "{path}"
        );
        assert_eq!(hub.ask_as(&bob, "GET", path).send().await.0, 200, "{path}");
    }
    drop(under_way);
    assert_eq!(hub.ask_as(&alice, "GET", "/api/v1/audit").send().await.0, 200);
    assert_eq!(hub.core().quotas.searches.taken_by("alice"), 0);
    hub.stop().await;
}

/// A24, A27: request bytes count for their user while they are held; another user is served.
#[actix_rt::test]
async fn a_user_whose_requests_fill_memory_is_refused_and_another_is_served() {
    let hub = hub_with(|options| options.limits.bytes = 4 << 20).await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let mut publisher = Publisher::start(&hub, &alice, &[provider("a")], Some("cancel")).await;
    let body = format!(r#"{{"model":"a","messages":[],"image":"{}"}}"#, "x".repeat(3 << 20));
    let ask = |token: &str| hub.ask_as(token, "POST", "/v1/chat/completions").body(body.clone());
    let held = ask(&alice).begin().await;
    publisher.task().await;
    let (status, refused) = ask(&alice).json().await;
    assert_eq!(
        (status, &refused["error"]["message"]),
        (429, &json!("you have 4 MiB of requests under way: wait for some to end"))
    );
    let others = ask(&bob).begin().await;
    publisher.task().await;
    drop((held, others));
    eventually("there is room again", async || {
        let call = ask(&alice).begin().await;
        // One that was refused, or left before it was whole, is no event.
        let event = timeout(Duration::from_millis(300), publisher.event()).await;
        drop(call);
        event.is_ok_and(|event| event.unwrap().name() == "task")
    })
    .await;
    hub.stop().await;
}

/// A24, A26, A27: unread answer bytes count for their caller; the publisher of the next answer has to retry, and
/// answers of other callers pass.
#[actix_rt::test]
async fn unread_answers_of_a_user_are_bounded() {
    let hub = hub_with(|options| options.limits.bytes = 32 << 20).await;
    let (alice, bob, carol) = (hub.member("alice").await, hub.member("bob").await, hub.member("carol").await);
    let mut publisher = Publisher::start(&hub, &alice, &[provider("a")], Some("cancel")).await;
    // More than a connection has room for.
    let large = json!({ "status": 200, "body": { "x": "x".repeat(20 << 20) } });
    let ask = |token: &str| {
        hub.ask_as(token, "POST", "/v1/chat/completions").body(r#"{"model":"a","messages":[]}"#)
    };
    let unread = ask(&bob).begin().await;
    let task = publisher.task().await;
    assert_eq!(publisher.post(&hub, &task, &large).await, 200);
    let second = ask(&bob).begin().await;
    let task = publisher.task().await;
    assert_eq!(publisher.post(&hub, &task, &large).await, 503, "send it again");
    let others = ask(&carol);
    let (answer, ()) = futures_util::join!(others.send(), async {
        let task = publisher.task().await;
        assert_eq!(publisher.post(&hub, &task, &large).await, 200);
    });
    assert_eq!((answer.0, answer.1.len()), (200, (20 << 20) + 8));
    let mut read = super::http::Answer::of(unread).await;
    assert_eq!(read.rest().await.len(), (20 << 20) + 8);
    eventually("there is room again", async || publisher.post(&hub, &task, &large).await == 200).await;
    assert_eq!(super::http::Answer::of(second).await.status, 200);
    hub.stop().await;
}

/// A27, A42: the answer of a durable task is held until its end, and counts for its owner.
#[actix_rt::test]
async fn a_durable_answer_without_end_is_an_error() {
    let hub = hub_with(|options| options.limits.bytes = 1 << 20).await;
    let bob = hub.member("bob").await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], Some("cancel")).await;
    let task = r#"{"llm":"a","streaming":true,"request":{"messages":[],"max_tokens":1000000000,"n":1000}}"#;
    let (_, made) = hub.ask_as(&bob, "POST", "/api/v1/inference-tasks").body(task).json().await;
    let dispatch = publisher.task().await;
    let large = "x".repeat(300 << 10);
    let mut chunks = 0;
    eventually("it is over", async || {
        chunks += 1;
        publisher.chunk(&hub, &dispatch, &large).await == 410
    })
    .await;
    // What is on its way may be ahead of what is counted.
    assert!((4..16).contains(&chunks), "{chunks}");
    let path = format!("/api/v1/inference-tasks/{}", made["id"].as_str().unwrap());
    eventually("the task says why", async || {
        let task = hub.ask_as(&bob, "GET", path.as_str()).json().await.1;
        task["status"] == "error"
            && task["error"].as_str().unwrap().starts_with("you have 1 MiB of unfinished answers")
    })
    .await;
    hub.stop().await;
}

/// A27: each limit is refused with a reason.
#[actix_rt::test]
async fn sessions_rows_agents_and_open_tasks_are_bounded_by_user() {
    let hub = hub_with(|options| {
        options.limits.sessions = 2;
        options.limits.rows = 3;
        options.limits.open_tasks = 1;
    })
    .await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let register = async |token: &str, session: &str, names: &[&str]| {
        let providers: Vec<_> = names.iter().map(|name| provider(name)).collect();
        let body = json!({ "providerSessionId": session, "providers": providers }).to_string();
        hub.ask_as(token, "POST", "/api/v1/llms/_provider-register").body(body).json().await
    };
    let over = |what: &str| json!(format!("you have {what} already: wait for some to end"));
    assert_eq!(register(&alice, "one", &["a", "b"]).await.0, 201);
    let (status, refused) = register(&alice, "two", &["c", "d"]).await;
    assert_eq!((status, &refused["error"]), (429, &over("3 LLMs")));
    assert_eq!(hub.row("c").await["error"], "LLM 'c' not found", "nothing of it was applied");
    assert_eq!(register(&alice, "two", &["c"]).await.0, 201);
    let (status, refused) = register(&alice, "three", &[]).await;
    assert_eq!((status, &refused["error"]), (429, &over("2 sessions")));
    assert_eq!(register(&alice, "two", &["c"]).await.0, 201, "one that it has may come again");
    assert_eq!(register(&bob, "bobs", &["e", "f", "g"]).await.0, 201);

    let agent = async |name: &str| {
        let body = json!({ "name": name, "llmName": "a" }).to_string();
        hub.ask_as(&alice, "POST", "/api/v1/agents").body(body).json().await
    };
    for name in ["x", "y", "z"] {
        assert_eq!(agent(name).await.0, 201);
    }
    let (status, refused) = agent("more").await;
    assert_eq!((status, &refused["error"]), (429, &over("3 agents")));

    let enqueue = async |token: &str| {
        let body = r#"{"llm":"a","request":{"messages":[]}}"#;
        hub.ask_as(token, "POST", "/api/v1/inference-tasks").body(body).json().await
    };
    assert_eq!(enqueue(&alice).await.0, 202);
    let (status, refused) = enqueue(&alice).await;
    assert_eq!((status, &refused["error"]), (429, &over("1 open tasks")));
    assert_eq!(enqueue(&bob).await.0, 202);
    hub.stop().await;
}

/// A09, A27: a user that probes names by registering them is slowed down, and then gets the same answer for free and
/// taken names; another user is served, and the log and a metric count it.
#[actix_rt::test]
async fn a_user_that_probes_names_is_not_told_which_are_taken() {
    let hub = hub().await;
    let (alice, eve) = (hub.member("alice").await, hub.member("eve").await);
    let register = async |token: &str, name: &str| {
        let mut provider = provider(name);
        provider["visibility"] = "private".into();
        let body = json!({ "providers": [provider] }).to_string();
        hub.ask_as(token, "POST", "/api/v1/llms/_provider-register").body(body).json().await
    };
    let agent = async |name: &str| {
        let body = json!({ "name": name, "llmName": "a" }).to_string();
        hub.ask_as(&eve, "POST", "/api/v1/agents").body(body).json().await.0
    };
    assert_eq!(register(&alice, "secret-project").await.0, 201);
    let begin = tokio::time::Instant::now();
    let mut told = 0;
    for number in 0..2000 {
        let refused = match number % 4 {
            0 => register(&eve, "secret-project").await.0,
            1 => register(&eve, "No Name").await.0,
            2 => hub.ask_as(&eve, "POST", "/api/v1/llms/_provider-register").body("{").send().await.0,
            _ => agent("No Agent").await,
        };
        if refused == 429 {
            break;
        }
        assert!([409, 400].contains(&refused), "{refused}");
        told += 1;
    }
    let forgiven = begin.elapsed().as_secs() * 4 + 8;
    assert!((256..=256 + forgiven).contains(&told), "{told} in {:?}", begin.elapsed());
    let mut free = Vec::new();
    for number in 0..20 {
        let (status, answer) = register(&eve, &format!("free-{number}")).await;
        free.push(status);
        if status == 429 {
            let text = answer["error"].as_str().unwrap();
            assert!(text.starts_with("too many of your calls to register or create were refused"), "{text}");
        }
    }
    assert!(free.contains(&429), "a free name is not told from one that is taken: {free:?}");
    assert_eq!(register(&alice, "secret-project-2").await.0, 201, "nobody else feels it");
    let metrics = hub.ask("GET", "/metrics").send().await.1;
    assert!(!metrics.contains("virtual_llm_naming_calls_refused_total 0"), "{metrics}");
    hub.stop().await;
}

/// A27: many calls that began before the limit was reached reveal no more names.
#[actix_rt::test]
async fn parallel_name_probes_do_not_exceed_the_limit() {
    const CALLS: usize = 400;

    let hub = hub().await;
    let (alice, eve) = (hub.member("alice").await, hub.member("eve").await);
    let taken = json!({ "providers": [provider("secret-project")] }).to_string();
    let registered = hub.ask_as(&alice, "POST", "/api/v1/llms/_provider-register").body(taken).send().await;
    assert_eq!(registered.0, 201);
    let mut begun = Vec::new();
    for number in 0..CALLS {
        let mut guess = provider(&format!("guess-{number}"));
        guess["visibility"] = "private".into();
        let (path, body) = if number % 2 == 0 {
            let both = json!({ "providers": [guess, provider("secret-project")] });
            ("/api/v1/llms/_provider-register", both.to_string())
        } else {
            ("/api/v1/agents", json!({ "name": "secret-project", "llmName": "a" }).to_string())
        };
        let mut stream = TcpStream::connect(hub.addr).await.unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {eve}\r\ncontent-length: {}\r\n\r\n{{",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        begun.push((stream, body));
    }
    let watched = async || hub.ask("GET", "/healthz").send().await.0 == 200;
    eventually("the heads are read", watched).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let begin = tokio::time::Instant::now();
    let (mut told, mut refused) = (0, 0);
    for (mut stream, body) in begun {
        stream.write_all(&body.as_bytes()[1..]).await.unwrap();
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.unwrap();
        match &head {
            b"HTTP/1.1 409" => told += 1,
            b"HTTP/1.1 429" => refused += 1,
            other => panic!("{}", String::from_utf8_lossy(other)),
        }
    }
    // Two names and one name in turn.
    let allowed = (256 + begin.elapsed().as_secs() * 4) * 2 / 3 + 2;
    assert!(told <= allowed && told + refused == CALLS as u64, "{told} of {CALLS}, {allowed} are allowed");
    hub.stop().await;
}

/// A09: a client that tries many tokens is refused for longer and longer; a valid token from the same address never is.
#[actix_rt::test]
async fn a_client_that_tries_tokens_is_slowed_down() {
    let hub = hub().await;
    let wrong = hub.ask_as("vlt_guess", "GET", "/v1/models");
    let mut refused = wrong.send().await;
    assert_eq!(refused.0, 401);
    for _ in 0..3000 {
        if refused.0 == 429 {
            break;
        }
        refused = wrong.send().await;
    }
    assert_eq!(refused.0, 429, "{}", refused.1);
    assert!(refused.1.contains("rate_limit_exceeded"));
    assert!(wrong.open().await.head.contains("connection: close"), "the next guess costs a connection");
    assert_eq!(hub.ask("GET", "/v1/models").send().await.0, 200);
    // One who sends no token at all guesses nothing.
    assert_eq!(super::http::ask(hub.addr, "GET", "/v1/models").send().await.0, 401);
    let _publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    assert_ne!(infer(&hub, "nobody", false).send().await.0, 429);
    hub.stop().await;
}
