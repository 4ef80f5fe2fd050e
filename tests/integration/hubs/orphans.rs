//! Durable tasks of a hub that is gone.

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use testkit::nats;
use testkit::postgres::Database;
use testkit::process::Process;
use testkit::team::{connected_registrar, start_registrar};
use testkit::wait::{eventually, wait_within};
use tokio::time::{Duration, sleep};

use super::rig::{Hub, hubs, publisher};

/// The session of the publisher that was away.
const SESSION: &str = "a-session-of-the-tests";
/// Time for a lease to end and for the tasks of its hub to be taken over.
const TAKEN_OVER: Duration = Duration::from_secs(45);

async fn connected(registrar: &Process) {
    wait_within(TAKEN_OVER, "the registrar is connected", async || {
        registrar.stderr().contains("control channel open").then_some(())
    })
    .await;
}

async fn enqueue(at: &Hub, llm: &str) -> String {
    let task = json!({ "llm": llm, "request": { "messages": [{ "role": "user", "content": "hi" }] } });
    let task = at.admin().post("/api/v1/inference-tasks", &task).await;
    assert_eq!(task.status, 202, "{task:?}");
    task.json()["id"].as_str().unwrap().to_owned()
}

async fn task(at: &Hub, id: &str) -> Value {
    at.admin().get(&format!("/api/v1/inference-tasks/{id}")).await.json()
}

/// F92, F93: what waits at a hub that is gone runs at another one, once, also if that hub was only stopped and goes on.
#[actix_rt::test]
async fn tasks_of_a_hub_that_is_gone_run_at_another_one_once() {
    let Some(nats) = nats::shared().await else { return };
    let Some((database, hubs)) = hubs(&nats, &["a", "b"]).await else { return };
    let [a, b] = &hubs[..] else { unreachable!() };
    let home = publisher(a.port, "slow", 400);
    let _slow = connected_registrar(&home).await;
    let provider = json!({ "name": "later", "type": "openai", "model": "m", "initialStatus": "active" });
    let register = json!({ "providerSessionId": SESSION, "providers": [provider] });
    a.admin().post("/api/v1/llms/_provider-register", &register).await;
    let (waiting, running) = (enqueue(a, "later").await, enqueue(a, "slow").await);
    eventually("it runs", async || task(a, &running).await["status"] == "claimed").await;
    a.process.signal(Signal::SIGSTOP);
    // As if its lease had been over for a minute.
    over(&database).await;

    // A publisher for what waits comes to the other hub.
    let home = publisher(b.port, "later", 3);
    home.write("provider-session", SESSION);
    // The stopped hub has its session until it is gone.
    let registrar = start_registrar(&home);
    connected(&registrar).await;
    let ended = async |id: &str, status: &str| {
        wait_within(TAKEN_OVER, "it ends at the other hub", async || {
            let found = task(b, id).await;
            (found["status"] == status).then_some(found)
        })
        .await
    };
    ended(&waiting, "completed").await;
    let lost = ended(&running, "error").await;
    assert_eq!(
        (&lost["code"], &lost["error"]),
        (&json!("interrupted"), &json!("the hub that ran this task was lost"))
    );

    // The stopped hub goes on, and gets a publisher for what it had: it has let go of it.
    registrar.signal(Signal::SIGTERM);
    registrar.end().await;
    a.process.signal(Signal::SIGCONT);
    home.credentials(&format!("http://127.0.0.1:{}", a.port), testkit::team::ADMIN);
    let again = start_registrar(&home);
    connected(&again).await;
    let fresh = enqueue(a, "later").await;
    wait_within(TAKEN_OVER, "it serves again", async || {
        (task(a, &fresh).await["status"] == "completed").then_some(())
    })
    .await;
    sleep(Duration::from_secs(2)).await;
    for at in &hubs {
        let rows = at.admin().get(&format!("/api/v1/audit?id={waiting}")).await.json();
        assert_eq!(rows.as_array().map(Vec::len), Some(1), "{rows}");
        assert_eq!(task(at, &waiting).await["status"], "completed");
        assert_eq!(task(at, &running).await["status"], "error");
    }
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
