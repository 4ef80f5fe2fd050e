//! Durable tasks of a hub that is gone.

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use testkit::nats;
use testkit::postgres::Database;
use testkit::wait::wait_within;
use tokio::time::Duration;

use super::rig::{Hub, hubs};

/// Time for a lease to end and for the tasks of its hub to be taken over.
const TAKEN_OVER: Duration = Duration::from_secs(45);

async fn enqueue(at: &Hub, llm: &str) -> String {
    let task = json!({ "llm": llm, "request": { "messages": [{ "role": "user", "content": "hi" }] } });
    let task = at.admin().post("/api/v1/inference-tasks", &task).await;
    assert_eq!(task.status, 202, "{task:?}");
    task.json()["id"].as_str().unwrap().to_owned()
}

async fn task(at: &Hub, id: &str) -> Value {
    at.admin().get(&format!("/api/v1/inference-tasks/{id}")).await.json()
}

/// Of several hubs that live one takes a task over, also if none has a publisher for it.
#[actix_rt::test]
async fn a_task_without_a_publisher_is_taken_over_as_well() {
    let Some(nats) = nats::shared().await else { return };
    let Some((database, mut hubs)) = hubs(&nats, &["a", "b"]).await else { return };
    let provider = json!({ "name": "away", "type": "openai", "model": "m", "initialStatus": "active" });
    hubs[0].admin().post("/api/v1/llms/_provider-register", &json!({ "providers": [provider] })).await;
    let id = enqueue(&hubs[0], "away").await;
    hubs[0].process.signal(Signal::SIGKILL);
    hubs[0].process.ended().await;
    // As if its lease had been over for a minute.
    over(&database).await;
    let hub = &hubs[1];
    wait_within(TAKEN_OVER, "the other hub has it", async || {
        (task(hub, &id).await["status"] == "pending").then_some(())
    })
    .await;
    let cancelled =
        hub.admin().send(awc::http::Method::DELETE, &format!("/api/v1/inference-tasks/{id}"), None).await;
    assert_eq!(cancelled.status, 204, "{cancelled:?}");
}

async fn over(database: &Database) {
    for table in ["hubs", "processes"] {
        let id = if table == "hubs" { "id" } else { "hub" };
        database.run(&format!("UPDATE {table} SET until = now() - interval '2 min' WHERE {id} = 'a'")).await;
    }
}
