//! Lists of many rows: pages that end by their bytes, and readers that do not read (SPEC.md section 5, docs/semantics.md).

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::time::Instant;

use super::http::Answer;
use super::support::{TestHub, eventually, hub};

/// Agents of one register call: its body is 1.6 MB.
const AGENTS: usize = 32;
const CALLS: usize = 3;
/// Largest page: 32 KiB and the longest row.
const MAX_PAGE: usize = 84 << 10;

/// Publishes agents with long texts, of which each byte has six in JSON: a list of 4.8 MB.
async fn publish_agents(hub: &TestHub, token: &str) {
    let text = "\u{1}".repeat(4096);
    for call in 0..CALLS {
        let agent = |number| json!({ "name": format!("a{call}-{number}"), "llmName": "x", "description": text, "project": text });
        let body = json!({ "providers": [], "agents": (0..AGENTS).map(agent).collect::<Vec<_>>() });
        assert_eq!(hub.register(token, &body).await.0, 201);
    }
}

/// Publishes rows that are more than a page of any list.
async fn publish_rows(hub: &TestHub, token: &str) {
    let row = |number| {
        json!({ "name": format!("row-{number:03}"), "type": "openai", "model": "m", "poolName": format!("pool-{number:03}"),
            "initialStatus": "active" })
    };
    let body = json!({ "providers": (0..200).map(row).collect::<Vec<_>>() });
    assert_eq!(hub.register(token, &body).await.0, 201);
}

fn unread(hub: &TestHub, user: &str) -> usize {
    hub.core().quotas.unread.taken_by(user)
}

/// The sizes of the chunks of a chunked answer.
fn chunk_sizes(answer: &str) -> Vec<usize> {
    let (_, mut rest) = answer.split_once("\r\n\r\n").unwrap();
    let mut sizes = Vec::new();
    while let Some((size, tail)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        sizes.push(size);
        rest = tail.get(size + 2..).unwrap_or_default();
    }
    sizes
}

#[actix_rt::test]
async fn a_page_of_a_list_ends_by_its_bytes() {
    let hub = hub().await;
    let alice = hub.member("alice").await;
    publish_agents(&hub, &alice).await;
    let ask = hub.ask_as(&alice, "GET", "/api/v1/agents").header("connection", "close");
    let mut text = String::new();
    ask.begin().await.read_to_string(&mut text).await.unwrap();
    let sizes = chunk_sizes(&text);
    let (largest, total) = (sizes.iter().max().unwrap(), sizes.iter().sum::<usize>());
    assert!(total > 4 << 20 && *largest <= MAX_PAGE, "{largest} of {total} bytes in {} chunks", sizes.len());
    let (_, list) = hub.ask_as(&alice, "GET", "/api/v1/agents").json().await;
    let mut names: Vec<&str> =
        list.as_array().unwrap().iter().map(|agent| agent["name"].as_str().unwrap()).collect();
    names.dedup();
    assert_eq!(names.len(), AGENTS * CALLS, "each agent is listed once");
    hub.stop().await;
}

/// Lists that are not read count for their reader until they end; a watcher counts, too.
#[actix_rt::test]
async fn unread_lists_and_watchers_count_for_their_reader() {
    let hub = hub().await;
    let alice = hub.member("alice").await;
    publish_agents(&hub, &alice).await;
    let mut lists = Vec::new();
    for _ in 0..5 {
        lists.push(hub.ask_as(&alice, "GET", "/api/v1/agents").open().await);
    }
    assert!(unread(&hub, "alice") >= 5 * MAX_PAGE, "{}", unread(&hub, "alice"));
    let before = unread(&hub, "alice");
    let events = hub.ask_as(&alice, "GET", "/api/v1/events").open().await;
    assert_eq!(unread(&hub, "alice"), before + (256 << 10), "a watcher");
    drop(events);
    lists.truncate(1);
    let list: Value = serde_json::from_str(&lists.remove(0).rest().await).unwrap();
    assert_eq!(list.as_array().unwrap().len(), AGENTS * CALLS);
    eventually("nothing is held", async || unread(&hub, "alice") == 0).await;
    hub.stop().await;
}

/// A user with too many lists under way is refused, in each format; another one reads.
#[actix_rt::test]
async fn lists_under_way_are_bounded_by_user() {
    let hub = hub().await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    publish_agents(&hub, &alice).await;
    publish_rows(&hub, &bob).await;
    let mut lists = Vec::new();
    for _ in 0..32 {
        let list = hub.ask_as(&alice, "GET", "/api/v1/agents").open().await;
        assert_eq!(list.status, 200);
        lists.push(list);
    }
    let text = "you have 32 lists under way already: wait for some to end";
    let (status, refused) = hub.ask_as(&alice, "GET", "/api/v1/agents").json().await;
    assert_eq!((status, &refused["error"]), (429, &json!(text)));
    let ask = hub.ask_as(&alice, "GET", "/v1/models").header("anthropic-version", "2023-06-01");
    let (status, refused) = ask.json().await;
    assert_eq!((status, &refused["error"]["message"]), (429, &json!(text)), "{refused}");
    assert_eq!(hub.ask_as(&alice, "GET", "/api/v1/llms").send().await.0, 200, "a list of one page");
    for path in ["/v1/models", "/api/v1/llms"] {
        assert_eq!(hub.ask_as(&bob, "GET", path).send().await.0, 200, "{path}");
    }
    let (_, metrics) = hub.ask("GET", "/metrics").send().await;
    assert!(metrics.contains("limit_refusals_total{limit=\"lists\"} 2\n"), "{metrics}");
    drop(lists);
    eventually("there is space", async || {
        hub.ask_as(&alice, "GET", "/api/v1/agents").open().await.status == 200
    })
    .await;
    hub.stop().await;
}

/// A list ends with its token: the answer breaks off, so that no client takes it for whole.
#[actix_rt::test]
async fn a_list_breaks_off_when_its_token_is_revoked() {
    let hub = hub().await;
    let alice = hub.member("alice").await;
    publish_agents(&hub, &alice).await;
    let list: Answer = hub.ask_as(&alice, "GET", "/api/v1/agents").open().await;
    hub.revoke("alice").await;
    let length = list.until_cut().await;
    assert!(length < 3 << 20, "{length} bytes came after the token was revoked");
    hub.stop().await;
}

/// Every model is in the list once, over all its pages and in both formats.
#[actix_rt::test]
async fn a_long_list_of_models_has_each_name_once() {
    let hub = hub().await;
    let bob = hub.member("bob").await;
    publish_rows(&hub, &bob).await;
    let agent = |number| json!({ "name": format!("agent-{number:03}"), "llmName": "row-001" });
    // One agent has the name of a pool, another that of a row.
    let mut agents: Vec<Value> = (0..150).map(agent).collect();
    agents.extend(["pool-007", "row-009"].map(|name| json!({ "name": name, "llmName": "row-001" })));
    let body = json!({ "providers": [], "agents": agents });
    assert_eq!(hub.register(&bob, &body).await.0, 201);
    for number in 0..60 {
        let path = format!("/api/v1/aliases/alias-{number:02}");
        assert_eq!(hub.ask_as(&bob, "PUT", path).body(r#"{"target":"row-002"}"#).send().await.0, 200);
    }
    let mut expected: Vec<String> =
        (0..200).flat_map(|n| [format!("row-{n:03}"), format!("pool-{n:03}")]).collect();
    expected.extend((0..150).map(|n| format!("agent-{n:03}")));
    expected.extend((0..60).map(|n| format!("alias-{n:02}")));
    expected.sort();
    let ids = |list: &Value| {
        let data = list["data"].as_array().unwrap();
        data.iter().map(|model| model["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let (_, list) = hub.ask_as(&bob, "GET", "/v1/models").json().await;
    let mut listed = ids(&list);
    listed.sort();
    assert_eq!(listed, expected);
    let ask = hub.ask_as(&bob, "GET", "/v1/models?limit=1000").header("anthropic-version", "2023-06-01");
    let (_, list) = ask.json().await;
    assert_eq!(ids(&list), expected);
    let ends = (&list["first_id"], &list["last_id"], &list["has_more"]);
    assert_eq!(ends, (&json!("agent-000"), &json!("row-199"), &json!(false)));
    let ask = hub.ask_as(&bob, "GET", "/v1/models?limit=300&before_id=row-100");
    let (_, list) = ask.header("anthropic-version", "2023-06-01").json().await;
    let end = expected.iter().position(|id| id == "row-100").unwrap();
    assert_eq!((ids(&list), &list["has_more"]), (expected[end - 300..end].to_vec(), &json!(true)));
    hub.stop().await;
}

/// A publisher that changes all its rows costs a watcher a bounded rate: 2.2 MB take at least three of its polls.
#[actix_rt::test]
async fn changes_are_pushed_at_a_bounded_rate() {
    let hub = hub().await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let publish = async |model: &str| {
        for session in 0..4 {
            let row = |number| {
                json!({ "name": format!("r{session}-{number}"), "type": "openai", "model": model, "visibility": "public",
                    "description": "\u{1}".repeat(300), "initialStatus": "active" })
            };
            let rows: Vec<Value> = (0..250).map(row).collect();
            let body = json!({ "providerSessionId": format!("session-{session}"), "providers": rows });
            assert_eq!(hub.register(&alice, &body).await.0, 201);
        }
    };
    publish("before").await;
    let mut events = hub.ask_as(&bob, "GET", "/api/v1/events").open().await;
    let mut until = async |model: &str| {
        let (text, mut rows, mut rest) = (format!("\"model\":\"{model}\""), 0, String::new());
        while rows < 1000 {
            rest += &events.next().await.unwrap();
            rows += rest.matches(&text).count();
            // A name may be cut between two pieces.
            let from = rest.rfind(&text).map_or(0, |at| at + text.len());
            let mut from = from.max(rest.len().saturating_sub(text.len()));
            while !rest.is_char_boundary(from) {
                from += 1;
            }
            rest.drain(..from);
        }
    };
    until("before").await;
    publish("after").await;
    let start = Instant::now();
    until("after").await;
    assert!(start.elapsed() > Duration::from_secs(2), "{:?}", start.elapsed());
    hub.stop().await;
}
