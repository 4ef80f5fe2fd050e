//! What an operator sees of several hubs.

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};
use testkit::nats::{self, NatsServer, Users};
use testkit::process::Home;
use testkit::team::{ADMIN, connected_registrar};
use testkit::wait::{eventually, wait_for};

use super::rig::{Hub, hubs, publisher};
use crate::operate::OF_SEVERAL;

/// What the hub `at` tells of the hub `id`.
async fn seen(at: &Hub, id: &str) -> Value {
    let view = at.admin().get("/api/v1/cluster").await.json();
    let hubs = view["hubs"].as_array().unwrap();
    hubs.iter().find(|hub| hub["id"] == id).cloned().unwrap_or_default()
}

async fn ready(hub: &Hub) -> (u16, Value) {
    let answer = hub.admin().get("/readyz").await;
    (answer.status, answer.json())
}

#[actix_rt::test]
async fn each_hub_tells_how_all_of_them_are() {
    let Some(nats) = nats::shared().await else { return };
    let Some((_database, hubs)) = hubs(&nats, &["a", "b"]).await else { return };
    let [a, b] = &hubs[..] else { unreachable!() };
    let home = publisher(a.port, "echo", 3);
    let _registrar = connected_registrar(&home).await;
    let before = seen(b, "a").await["table"].clone();
    for at in &hubs {
        let is_told = async || {
            let (of_a, of_b) = (seen(at, "a").await, seen(at, "b").await);
            let is_well =
                |hub: &Value| hub["state"] == "serving" && hub["nats"] == "ok" && hub["store"] == "ok";
            is_well(&of_a)
                && is_well(&of_b)
                && (&of_a["channels"], &of_b["channels"]) == (&json!(1), &json!(0))
                && of_a["table"].is_string()
                && of_a["table"] == of_b["table"]
        };
        eventually("both are well and have the same table", is_told).await;
    }
    assert_ne!(seen(b, "a").await["table"], before);

    b.home.credentials(&format!("http://127.0.0.1:{}", b.port), ADMIN);
    let listed = b.home.run(&["get", "hub", "-o", "wide"]).await.stdout;
    let words =
        |line: usize| listed.lines().nth(line).unwrap().split_whitespace().take(7).collect::<Vec<_>>();
    assert_eq!(words(0), ["ID", "BOOT", "STATE", "NATS", "STORE", "CHANNELS", "CALLS"]);
    let of_b = words(1);
    assert_eq!((of_b[0], &of_b[2..]), ("b", &["serving", "ok", "ok", "0", "0"][..]), "{listed}");

    assert_eq!(ready(a).await, (200, json!({ "status": "ready", "nats": "ok", "store": "ok" })));
    let metrics = a.admin().get("/metrics").await.body;
    for name in OF_SEVERAL {
        assert!(metrics.contains(&format!("# TYPE {name} gauge")), "{name}: {metrics}");
    }
    assert!(metrics.contains("virtual_llm_other_hubs{state=\"alive\"} 1"), "{metrics}");
    let made = a.admin().post("/api/v1/tokens", &json!({ "user": "alice" })).await.json();
    let of_member = a.http(made["token"].as_str().unwrap()).get("/metrics").await.body;
    assert!(!of_member.contains(OF_SEVERAL[0]), "{of_member}");
}

/// What is away for all hubs is told, and leaves the load balancer its hubs.
#[actix_rt::test]
async fn a_hub_without_nats_says_so_and_stays_ready() {
    let Some(mut nats) = NatsServer::start() else { return };
    let Some((_database, hubs)) = hubs(&nats.url(), &["a", "b"]).await else { return };
    nats.kill();
    for hub in &hubs {
        let expected = json!({ "status": "ready", "nats": "away", "store": "ok" });
        eventually("it misses NATS", async || ready(hub).await == (200, expected.clone())).await;
    }
    let told = async || seen(&hubs[0], "b").await["nats"] == "away";
    eventually("the other says so by the database", told).await;
    let metrics = hubs[0].admin().get("/metrics").await.body;
    assert!(metrics.contains("\nvirtual_llm_nats_up 0\n"), "{metrics}");
    assert_eq!(ready(&hubs[0]).await.0, 200);
}

/// A server that demands credentials is reached with those of a user of its own.
#[actix_rt::test]
async fn hubs_reach_a_nats_server_that_demands_credentials() {
    let Some((nats, credentials)) = NatsServer::with_users() else { return };
    let Some(database) = testkit::postgres::Database::create().await else { return };
    let home = Home::new();
    let file = home.write("nats.creds", &credentials).display().to_string();
    let start = async |id: &str, more: &[&str]| {
        Hub::start_with(&database.url(), &nats.url(), "creds", id, more).await
    };
    let a = start("a", &["--nats-creds", &file]).await;
    let b = start("b", &["--nats-creds", &file]).await;
    a.process.logs("hub b.").await;
    b.process.logs("hub a.").await;
    // One without is told why.
    let c = start("c", &[]).await;
    wait_for("the hub says what the server says", async || {
        c.process.stderr().to_lowercase().contains("authorization violation").then_some(())
    })
    .await;
    assert_eq!(ready(&a).await.1["nats"], "ok");
}

#[actix_rt::test]
async fn mistakes_with_credentials_are_told_in_words() {
    let home = Home::new();
    let database = home.write("database", "postgres://nobody@127.0.0.1:1/none").display().to_string();
    let wrong = home.write("wrong.creds", "SUAM0SECRET").display().to_string();
    let writable = home.write("writable.creds", "x").display().to_string();
    std::fs::set_permissions(&writable, std::fs::Permissions::from_mode(0o666)).unwrap();
    let usual = [
        "hub",
        "--listen",
        "127.0.0.1:0",
        "--cluster",
        "t",
        "--hub-id",
        "a",
        "--database-url-file",
        &database,
    ];
    let nats = ["--nats-url", "nats://127.0.0.1:1"];
    for (arguments, word) in [
        (&["--nats-creds", &wrong][..], "--nats-url"),
        (&[&nats[..], &["--nats-creds", "/none"]].concat(), "--nats-creds /none: "),
        (&[&nats[..], &["--nats-creds", &wrong]].concat(), "expected a .creds file"),
        (&[&nats[..], &["--nats-creds", &writable]].concat(), "writable.creds: "),
    ] {
        let outcome = home.run(&[&usual[..], arguments].concat()).await;
        assert_eq!(outcome.code(), 2, "{outcome:?}");
        assert!(outcome.stderr.contains(word) && !outcome.stderr.contains("SECRET"), "{word}: {outcome:?}");
    }
    // One that everybody can read is used, with a warning.
    let credentials = Users::new().credentials();
    let readable = home.write("readable.creds", &credentials).display().to_string();
    std::fs::set_permissions(&readable, std::fs::Permissions::from_mode(0o644)).unwrap();
    let outcome = home.run(&[&usual[..], &nats, &["--nats-creds", &readable]].concat()).await;
    assert_eq!(outcome.code(), 1, "{outcome:?}");
    assert!(outcome.stderr.contains("everybody on this machine can read"), "{outcome:?}");
    assert!(!outcome.stderr.contains(&credentials[40..80]), "{outcome:?}");
}
