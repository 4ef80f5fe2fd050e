//! Ids of tasks that name their home, in a hub that is one process of a cluster.

use std::sync::Arc;

use serde_json::json;
use wire::link::{BodyKind, Link};

use super::link::peer::Peer;
use super::publisher::{Publisher, completion, provider};
use super::road::infer;
use super::support::{ADMIN, TestHub, hub, hub_in};
use crate::cluster::{Cluster, Process};
use crate::store::SqliteStore;

async fn joined() -> (TestHub, Process) {
    let process = Process::start("a").unwrap();
    let store = Arc::new(SqliteStore::in_memory().unwrap());
    (hub_in(Cluster::Joined(process), store).await, process)
}

/// An id of `home` that it never made.
fn id_of(home: &str) -> String {
    format!("task-{home}-{}", "0".repeat(32))
}

#[actix_rt::test]
async fn a_task_of_a_cluster_names_its_home() {
    let (hub, process) = joined().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    let call = infer(&hub, "a", false);
    let (answer, id) = futures_util::join!(call.send(), async {
        let task = publisher.task().await;
        assert_eq!(publisher.answer(&hub, &task, "hello").await, 200);
        task["taskId"].as_str().unwrap().to_owned()
    });
    assert_eq!(answer.0, 200, "{}", answer.1);
    assert!(id.starts_with(&format!("task-{process}-")) && id.len() <= 61, "{id}");
    hub.stop().await;
}

#[actix_rt::test]
async fn a_task_of_a_hub_alone_names_none() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    let call = infer(&hub, "a", false);
    let (_, id) = futures_util::join!(call.send(), async {
        let task = publisher.task().await;
        publisher.answer(&hub, &task, "hello").await;
        task["taskId"].as_str().unwrap().to_owned()
    });
    assert!(id.len() == 37 && !id.contains('.'), "{id}");
    hub.stop().await;
}

#[actix_rt::test]
async fn a_hub_alone_is_its_own_cluster() {
    let hub = hub().await;
    let (status, answer) = hub.ask("GET", "/api/v1/cluster").json().await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!((&answer["cluster"], &answer["database"]), (&json!(null), &json!(null)));
    assert_eq!(answer["hubs"].as_array().unwrap().len(), 1);
    let only = &answer["hubs"][0];
    assert_eq!((&only["id"], &only["state"], &only["here"]), (&json!(null), &json!("serving"), &json!(true)));
    assert!(only["startedAt"].is_string(), "{answer}");
    hub.stop().await;
}

/// Whatever form it has: no process passes a result on.
#[actix_rt::test]
async fn a_result_for_a_task_of_another_process_gets_410() {
    let (hub, process) = joined().await;
    let publisher = Publisher::register(&hub, ADMIN, None, &[provider("al")]).await;
    let mut peer = Peer::open(&hub, &publisher.session, Link::default()).await;
    let unknown = format!("task-{}", "0".repeat(32));
    let restarted = Process::start(process.hub()).unwrap();
    let whole = json!({ "status": 200, "body": completion("hi") });
    let chunk = json!({ "chunk": { "data": "{}" } });
    let last = json!({ "chunk": { "data": "[DONE]", "done": true } });
    // Larger than what is parsed at once.
    let large = json!({ "status": 200, "body": completion(&"x".repeat(1 << 20)) });
    for (id, expected) in [
        (id_of("b.abcdef"), 410),
        (id_of(restarted.as_str()), 410),
        (id_of(process.as_str()), 404),
        (unknown, 404),
    ] {
        for result in [&whole, &chunk, &last, &large, &json!({ "error": "failed" })] {
            let path = format!("/api/v1/llms/_provider-task/{id}/result");
            let (status, answer) = hub.ask("POST", path).body(result.to_string()).json().await;
            assert_eq!(status, expected, "{id}: {answer}");
        }
        for (kind, body) in [(BodyKind::Json, whole.to_string()), (BodyKind::Events, "data: {}\n\n".into())] {
            peer.answer(&id, kind, &body).await;
            assert_eq!(peer.taken(&id).await, expected, "{id}");
        }
    }
    hub.stop().await;
}
