//! Everything that a member can read of a hub, with and without rows that are hidden from the member.

use serde_json::{Value, json};

use super::access::TABLE;
use super::http::{Ask, is_stable};
use super::publisher::{Publisher, pooled, private, provider};
use super::road::{chat, infer};
use super::support::{TestHub, hub};

/// Names that bob asks for: visible ones, hidden ones, and one that does not exist.
const NAMES: [&str; 8] =
    ["open", "open-agent", "shared", "secret", "secret-agent", "secret-pool", "in-shared", "nobody"];

/// Creates carol's public rows and agent, which everybody sees.
async fn publish_visible(hub: &TestHub) -> Publisher {
    let carol = hub.member("carol").await;
    hub.create_agent(&carol, &json!({ "name": "open-agent", "llmName": "open", "visibility": "public" }))
        .await;
    Publisher::start(hub, &carol, &[provider("open"), pooled("other", "shared")], None).await
}

/// Creates alice's private rows, agent and pool member, which bob does not see, and calls and tasks on them.
async fn publish_hidden(hub: &TestHub) -> Publisher {
    let alice = hub.member("alice").await;
    let mut asleep = private(provider("secret-asleep"));
    asleep["initialStatus"] = "hibernating".into();
    let rows = [
        private(pooled("secret", "secret-pool")),
        private(provider("secret-open")),
        private(pooled("in-shared", "shared")),
        asleep,
    ];
    let mut publisher = Publisher::start(hub, &alice, &rows, Some("cancel, status")).await;
    // A second channel counts as a reconnect in the metrics.
    publisher.open(hub, Some("cancel, status")).await;
    hub.create_agent(&alice, &json!({ "name": "secret-agent", "llmName": "secret" })).await;
    for streaming in [false, true] {
        let call = hub.ask_as(&alice, "POST", "/v1/chat/completions").body(chat("secret-agent", streaming));
        let (answer, ()) = futures_util::join!(call.send(), async {
            let task = publisher.task().await;
            if streaming {
                publisher.chunk(hub, &task, "one").await;
                publisher.done(hub, &task).await;
            } else {
                publisher.answer(hub, &task, "hello").await;
            }
        });
        assert_eq!(answer.0, 200, "{}", answer.1);
    }
    let call = hub.ask_as(&alice, "POST", "/v1/chat/completions").body(chat("secret-asleep", false));
    let (answer, ()) = futures_util::join!(call.send(), async {
        let wake = publisher.task().await;
        assert_eq!(wake["kind"], "wake");
        publisher.post(hub, &wake, &json!({ "error": "no" })).await;
    });
    assert_eq!(answer.0, 503);
    // One durable task runs, one waits.
    for llm in ["in-shared", "secret-asleep"] {
        let task = json!({ "llm": llm, "request": { "messages": [] } });
        let made = hub.ask_as(&alice, "POST", "/api/v1/inference-tasks").body(task.to_string());
        assert_eq!(made.send().await.0, 202);
    }
    publisher
}

/// The answers to all requests that bob can make, refused ones among them.
async fn all_answers_to_bob(hub: &TestHub) -> Vec<String> {
    let bob = hub.member("bob").await;
    let mut seen = Vec::new();
    let gets = TABLE.iter().filter(|(method, path, ..)| {
        *method == "GET" && !path.ends_with("_provider-stream") && *path != "/api/v1/events"
    });
    for (_, path, ..) in gets {
        let names: &[&str] = if path.contains('{') { &NAMES } else { &[""] };
        for name in names {
            let path = path.split('/').map(|part| if part.starts_with('{') { name } else { part });
            let path = path.collect::<Vec<_>>().join("/");
            seen.push(format!(
                "GET {path}: {}",
                stable_answer(&hub.ask_as(&bob, "GET", path.as_str())).await
            ));
        }
    }
    for name in NAMES {
        let audit = format!("/api/v1/audit?llm={name}");
        seen.push(format!("GET {audit}: {}", stable_answer(&hub.ask_as(&bob, "GET", audit.as_str())).await));
        // Bob creates an agent for each name, and calls it if the call would reach no publisher.
        let agent =
            json!({ "name": format!("bobs-{name}"), "llmName": name, "visibility": "public" }).to_string();
        seen.push(format!(
            "agent {name}: {}",
            stable_answer(&hub.ask_as(&bob, "POST", "/api/v1/agents").body(agent)).await
        ));
        let path = format!("/api/v1/agents/bobs-{name}");
        seen.push(format!("GET {path}: {}", stable_answer(&hub.ask_as(&bob, "GET", path.as_str())).await));
        if !["open", "shared"].contains(&name) {
            let call = hub.ask_as(&bob, "POST", format!("{path}/infer")).body(chat("x", false));
            seen.push(format!("infer {path}: {}", stable_answer(&call).await));
        }
    }
    for path in ["/api/v1/agents", "/v1/models"] {
        seen.push(format!("GET {path} again: {}", stable_answer(&hub.ask_as(&bob, "GET", path)).await));
    }
    let posts = [
        ("/v1/chat/completions", r#"{"model":"NAME","messages":[]}"#),
        ("/v1/embeddings", r#"{"model":"NAME","input":""}"#),
        ("/v1/messages", r#"{"model":"NAME","messages":[]}"#),
        ("/api/v1/llms/NAME/infer", r#"{"messages":[]}"#),
        ("/api/v1/agents/NAME/infer", r#"{"messages":[]}"#),
        ("/api/v1/inference-tasks", r#"{"llm":"NAME","request":{}}"#),
    ];
    for name in ["secret", "secret-agent", "secret-pool", "in-shared", "nobody"] {
        for (path, body) in posts {
            let ask = hub.ask_as(&bob, "POST", path.replace("NAME", name)).body(body.replace("NAME", name));
            seen.push(format!("POST {path} {name}: {}", stable_answer(&ask).await));
        }
        for (method, path) in [("PUT", "llms"), ("DELETE", "llms"), ("PUT", "agents"), ("DELETE", "agents")] {
            let mut ask = hub.ask_as(&bob, method, format!("/api/v1/{path}/{name}"));
            // A DELETE reads no body; if one is sent and arrives late, the connection closes.
            if method == "PUT" {
                ask = ask.body(r#"{"type":"openai","model":"m","llmName":"x"}"#);
            }
            seen.push(format!("{method} {path} {name}: {}", stable_answer(&ask).await));
        }
    }
    let mut events = hub.ask_as(&bob, "GET", "/api/v1/events").open().await;
    let first = events.until("event: snapshot\ndata: ").await;
    let first = if first.ends_with("\n\n") { first } else { first + &events.until("\n\n").await };
    seen.extend(first.lines().filter_map(|line| line.strip_prefix("data: ")).map(without_times_and_ids));
    // Durable tasks come last, because they change later answers. The answer has the task's position among all tasks.
    for name in NAMES.into_iter().chain(["bobs-open", "bobs-secret", "bobs-nobody"]) {
        let task = json!({ "llm": name, "request": {} }).to_string();
        let task = hub.ask_as(&bob, "POST", "/api/v1/inference-tasks").body(task);
        seen.push(format!("task {name}: {}", stable_answer(&task).await));
    }
    seen
}

/// Head and body of an answer, without times and random ids.
async fn stable_answer(ask: &Ask) -> String {
    let mut answer = ask.open().await;
    let text = without_times_and_ids(&answer.rest().await);
    assert!(answer.head.contains("cache-control: no-store"), "caching is not forbidden: {}", answer.head);
    let stable = |line: &&str| is_stable(line);
    let mut head: Vec<&str> = answer.head.lines().filter(stable).collect();
    // actix writes headers in random order.
    head.sort_unstable();
    format!("{head:?} {text}")
}

/// `text` with times removed and random ids replaced.
fn without_times_and_ids(text: &str) -> String {
    fn walk(value: &mut Value) {
        match value {
            Value::Object(object) => {
                for (key, value) in object.iter_mut() {
                    if key.ends_with("At") || key == "created" {
                        *value = Value::Null;
                    }
                    walk(value);
                }
                let keys: Vec<String> = object.keys().cloned().collect();
                for key in keys.into_iter().filter(|key| is_id(key)) {
                    let value = object.shift_remove(&key);
                    object.insert("an id".into(), value.unwrap_or_default());
                }
            }
            Value::Array(values) => values.iter_mut().for_each(walk),
            Value::String(text) if is_id(text) => *text = "an id".into(),
            _ => (),
        }
    }
    let Ok(mut value) = serde_json::from_str::<Value>(text) else { return text.to_owned() };
    walk(&mut value);
    value.to_string()
}

fn is_id(text: &str) -> bool {
    text.rsplit_once('-')
        .is_some_and(|(_, hex)| hex.len() == 32 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// A33, A34, A35: lists, counts, metrics, events and errors for a member are byte for byte those of a hub without the
/// hidden rows, agents and tasks.
#[actix_rt::test]
async fn a_member_sees_no_difference_to_a_hub_without_hidden_rows() {
    let (bare, full) = (hub().await, hub().await);
    let _on_bare = publish_visible(&bare).await;
    let _on_full = publish_visible(&full).await;
    let _hidden = publish_hidden(&full).await;
    let (without, with) = (all_answers_to_bob(&bare).await, all_answers_to_bob(&full).await);
    assert!(without.iter().any(|line| line.contains(r#""model-of-open""#)), "{without:#?}");
    assert!(without.iter().any(|line| line.contains("virtual_llm_publishers 1")), "{without:#?}");
    for (without, with) in without.iter().zip(&with) {
        assert_eq!(without, with);
    }
    assert_eq!(without.len(), with.len());
    // An admin sees the hidden publisher: the two hubs do differ.
    let metrics = full.ask("GET", "/metrics").send().await.1;
    assert!(metrics.contains("virtual_llm_publishers 2"), "{metrics}");
}

/// A34: the new owner of a name sees no tasks of the deleted row that had the name.
#[actix_rt::test]
async fn a_reused_name_reveals_nothing_of_its_past() {
    let hub = hub().await;
    let alice = hub.member("alice").await;
    let mut publisher = Publisher::start(&hub, &alice, &[private(provider("x"))], None).await;
    let call = hub.ask_as(&alice, "POST", "/v1/chat/completions").body(chat("x", false));
    publisher.serves(&hub, &call, "hello").await;
    let tasks = async |token: &str| hub.ask_as(token, "GET", "/api/v1/llms/x/tasks").json().await;
    assert_eq!(tasks(&alice).await.1.as_array().unwrap().len(), 1);
    publisher.close();
    hub.until_status("x", "inactive").await;
    for path in ["/api/v1/llms/x", "/api/v1/names/x"] {
        assert_eq!(hub.ask("DELETE", path).send().await.0, 204);
    }
    let bob = hub.member("bob").await;
    let _bobs = Publisher::start(&hub, &bob, &[provider("x")], None).await;
    assert_eq!(tasks(&bob).await, (200, json!([])));
    hub.stop().await;
}

/// A36: the median times of interleaved calls differ by less than a tenth.
#[actix_rt::test]
async fn a_hidden_name_is_refused_as_fast_as_an_unknown_one() {
    const CALLS: usize = 150;
    let hub = hub().await;
    let _visible = publish_visible(&hub).await;
    let _hidden = publish_hidden(&hub).await;
    let bob = hub.member("bob").await;
    let time = async |name: &str| {
        let ask = hub.ask_as(&bob, "POST", "/v1/chat/completions").body(chat(name, false));
        let begin = tokio::time::Instant::now();
        assert_eq!(ask.send().await.0, 404);
        begin.elapsed()
    };
    let mut differences = Vec::new();
    // A busy machine may disturb a round; a difference in the code would show in all rounds.
    for _ in 0..5 {
        let (mut hidden, mut unknown) = (Vec::new(), Vec::new());
        for _ in 0..CALLS {
            hidden.push(time("secret").await);
            unknown.push(time("nobody").await);
        }
        hidden.sort();
        unknown.sort();
        let (hidden, unknown) = (hidden[CALLS / 2], unknown[CALLS / 2]);
        if hidden.abs_diff(unknown) < unknown / 10 {
            return;
        }
        differences.push((hidden, unknown));
    }
    panic!("times for a hidden and an unknown name: {differences:?}");
}

/// A40, A41: a task contains the request and nothing about its caller.
#[actix_rt::test]
async fn a_task_reveals_nothing_of_its_caller() {
    let hub = hub().await;
    let alice = hub.member("alice").await;
    let canary = hub.member("canary").await;
    let mut publisher = Publisher::start(&hub, &alice, &[provider("a")], Some("cancel, status")).await;
    let call = infer(&hub, "a", false).without("authorization").token(&canary);
    let call = call.header("user-agent", "canary-agent").header("x-forwarded-for", "canary-address");
    let (_, ()) = futures_util::join!(call.send(), async {
        let event = publisher.event().await.unwrap();
        assert!(!event.data.contains("canary") && !event.data.contains("127.0.0.1"), "{}", event.data);
        let task: Value = serde_json::from_str(&event.data).unwrap();
        let keys: Vec<&String> = task.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["kind", "taskId", "llmName", "streaming", "request"]);
        publisher.answer(&hub, &task, "hello").await;
    });
    hub.stop().await;
}
