//! Turns and looks of whole hubs, with servers of PostgreSQL and NATS.

use std::time::Duration;

use backend::Secret;
use futures_util::future::join_all;
use serde_json::json;
use testkit::nats;
use testkit::postgres::Database;
use tokio::time::timeout;

use super::*;
use crate::cluster::run::fence;
use crate::options::NatsOptions;
use crate::tests::publisher::{Publisher, provider};
use crate::tests::road::{chat, infer};
use crate::tests::support::{ADMIN, TestHub, eventually, hub_with};

/// Hubs on a new database. `None` without servers.
async fn hubs<const N: usize>(ids: [&str; N]) -> Option<(Database, [TestHub; N])> {
    let url = format!("nats://{}", nats::shared().await?);
    let database = Database::create().await?;
    // Other tests use the same NATS server.
    let cluster = format!("s{}", database.url().rsplit_once("vl_").unwrap().1.replace('_', "-"));
    let hubs = ids.map(|id| {
        let (cluster, url) = (cluster.clone(), url.clone());
        let database_url = Secret::new(database.url());
        hub_with(move |options| {
            let nats = Some(NatsOptions { url, credentials: None });
            options.cluster = Some(ClusterOptions { cluster, hub_id: id.into(), database_url, nats });
        })
    });
    let hubs = join_all(hubs).await.try_into().ok()?;
    Some((database, hubs))
}

fn shared(hub: &TestHub) -> &Arc<Shared> {
    hub.core().shared.as_ref().unwrap()
}

/// A connection that holds the locks that `sql` takes, until it is dropped.
async fn holding(database: &Database, sql: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(&database.url(), tokio_postgres::NoTls).await.unwrap();
    actix_rt::spawn(connection);
    client.batch_execute(sql).await.unwrap();
    client
}

/// A caller that leaves does not end the turn of its change before that is written.
#[actix_rt::test]
async fn a_change_is_told_though_its_caller_has_left() {
    let Some((database, [hub])) = hubs(["a"]).await else { return };
    let caller = crate::model::Caller::member("alice");
    let turn = hub.core().table_turn().await.unwrap();
    let locked = holding(&database, "BEGIN; LOCK TABLE aliases").await;
    let alias = crate::model::Alias {
        scope: crate::model::AliasScope::User(caller.user.clone()),
        name: "tool".into(),
        target: crate::model::OwnedName { name: "x".into(), owner: caller.user },
        created_at: wire::row::Timestamp(1),
        updated_at: wire::row::Timestamp(1),
    };
    let before = shared(&hub).changes.load(Ordering::Relaxed);
    drop(turn.write(vec![crate::store::Change::PutAlias(alias)]));
    drop(turn);
    assert!(shared(&hub).turn.lock().upgrade().is_some(), "the turn is over");
    locked.batch_execute("COMMIT").await.unwrap();
    let told = async || shared(&hub).changes.load(Ordering::Relaxed) > before;
    eventually("the change is told", told).await;
    hub.stop().await;
}

/// A caller that leaves while all is read anew leaves the doubt that memory has what is not stored.
#[actix_rt::test]
async fn a_look_that_is_given_up_leaves_the_doubt() {
    let Some((database, [hub])) = hubs(["a"]).await else { return };
    // Of the tables that a look reads, it is the last but one.
    let locked = holding(&database, "BEGIN; LOCK TABLE names").await;
    shared(&hub).is_doubtful.store(true, Ordering::Relaxed);
    let looks = shared(&hub).looks.load(Ordering::Relaxed);
    let look = timeout(Duration::from_secs(1), hub.core().read_changes());
    assert!(look.await.is_err() && shared(&hub).looks.load(Ordering::Relaxed) > looks);
    assert!(shared(&hub).is_doubtful.load(Ordering::Relaxed));
    locked.batch_execute("COMMIT").await.unwrap();
    hub.core().read_changes().await.unwrap();
    assert!(!shared(&hub).is_doubtful.load(Ordering::Relaxed));
    hub.stop().await;
}

/// Heartbeats with ids that nobody knows, thousands at a time, take no turns from others.
#[actix_rt::test]
async fn of_many_that_ask_for_a_look_one_looks_for_all() {
    let Some((_database, [hub])) = hubs(["a"]).await else { return };
    let looks = shared(&hub).looks.load(Ordering::Relaxed);
    let results = join_all((0..1000).map(|_| hub.core().read_changes())).await;
    assert!(results.iter().all(Result::is_ok));
    // The first one begins before the others ask.
    let looks = shared(&hub).looks.load(Ordering::Relaxed) - looks;
    assert!(looks <= 4, "{looks} looks");
    hub.stop().await;
}

/// A turn that does not come fails for all that wait, and not for one after another.
#[actix_rt::test]
async fn a_turn_that_does_not_come_is_waited_for_once() {
    let Some((database, [hub])) = hubs(["a"]).await else { return };
    let locked = holding(&database, "SELECT pg_advisory_lock(1953854062)").await;
    // It is not idle, so that nobody takes it for stopped.
    actix_rt::spawn(async move { locked.batch_execute("SELECT pg_sleep(12)").await });
    let begun = Instant::now();
    let turns = join_all((0..20).map(|_| hub.core().table_turn())).await;
    assert!(turns.iter().all(Result::is_err));
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    eventually("there is a turn again", async || hub.core().table_turn().await.is_ok()).await;
    hub.stop().await;
}

/// A revocation waits for the rotation of another hub, of which it would know nothing.
#[actix_rt::test]
async fn a_token_is_revoked_in_a_turn() {
    let Some((_database, [a, b])) = hubs(["a", "b"]).await else { return };
    let made = a.ask("POST", "/api/v1/tokens").body(json!({ "user": "alice" }).to_string()).json().await.1;
    let path = format!("/api/v1/tokens/{}", made["id"].as_str().unwrap());
    eventually("it is known at the other hub", async || {
        b.ask_as(made["token"].as_str().unwrap(), "GET", "/api/v1/whoami").send().await.0 == 200
    })
    .await;
    let turn = a.core().table_turn().await.unwrap();
    let revocation = b.ask("DELETE", path);
    let mut revoking = Box::pin(revocation.send());
    assert!(timeout(Duration::from_millis(500), &mut revoking).await.is_err(), "it did not wait");
    drop(turn);
    assert_eq!(revoking.await.0, 204);
    a.stop().await;
    b.stop().await;
}

/// A hub that is cut off from the network alone has its lease, and callers that wait for results.
#[actix_rt::test]
async fn a_result_for_a_silent_hub_is_to_be_sent_again_until_its_lease_ends() {
    let Some((database, [hub])) = hubs(["a"]).await else { return };
    let knows_all = async || shared(&hub).peers.members.lock().knows_all();
    eventually("it would have heard others", knows_all).await;
    let silent = "INSERT INTO hubs (id, boot, until, version, shared) VALUES ('c', 'cccccc', now() + interval '1 min', '0', true)";
    database.run(silent).await;
    let path = format!("/api/v1/llms/_provider-task/task-c.cccccc-{}/result", "0".repeat(32));
    let result = hub.ask("POST", path).body(json!({ "error": "x" }).to_string());
    assert_eq!(result.send().await.0, 503);
    database.run("UPDATE hubs SET until = now() - interval '1 s' WHERE id = 'c'").await;
    assert_eq!(result.send().await.0, 410);
    hub.stop().await;
}

/// A result that is too large ends its task also at another hub, where the publisher sends it.
#[actix_rt::test]
async fn a_result_that_is_too_large_ends_the_task_of_another_hub() {
    let Some((_database, [a, b])) = hubs(["a", "b"]).await else { return };
    let known = |of: &TestHub, id: &str| shared(of).peers.process_of(id).is_some();
    eventually("they know each other", async || known(&a, "b") && known(&b, "a")).await;
    let mut publisher = Publisher::start(&a, ADMIN, &[provider("x")], None).await;
    let call = infer(&a, "x", false);
    let (answer, ()) = futures_util::join!(call.send(), async {
        let task = publisher.task().await;
        assert_eq!(publisher.answer(&b, &task, &"x".repeat(64 << 20)).await, 413);
    });
    assert_eq!(answer.0, 502, "{}", answer.1);
    a.stop().await;
    b.stop().await;
}

/// Two users take the same names at two hubs at the same time: each name is one user's, at both.
#[actix_rt::test]
async fn of_two_that_take_a_name_at_two_hubs_one_gets_it() {
    let Some((_database, [a, b])) = hubs(["a", "b"]).await else { return };
    let (alice, bob) = (a.member("alice").await, b.member("bob").await);
    for n in 0..8 {
        let name = format!("n{n}");
        let body = json!({ "providers": [provider(&name)] });
        let (one, two) = futures_util::join!(a.register(&alice, &body), b.register(&bob, &body));
        let (owner, refused) = if one.0 == 201 { ("alice", two) } else { ("bob", one) };
        assert_eq!(refused.0, 409, "{}", refused.1);
        for hub in [&a, &b] {
            hub.core().read_changes().await.unwrap();
            assert_eq!(hub.row(&name).await["ownerId"], owner);
        }
    }
    a.stop().await;
    b.stop().await;
}

/// A hub that was stopped ends its callers' answers that come from other hubs, which may have given them up.
#[actix_rt::test]
async fn a_hub_that_was_stopped_ends_its_calls() {
    let Some((_database, [a, b])) = hubs(["a", "b"]).await else { return };
    let mut publisher = Publisher::start(&a, ADMIN, &[provider("x")], None).await;
    b.until_status("x", "active").await;
    let call = b.ask("POST", "/v1/chat/completions").body(chat("x", true));
    let (mut answer, _) = publisher.begins(&a, &call, "hello").await;
    let looks = shared(&b).looks.load(Ordering::Relaxed);
    // A call of its own goes on.
    let mut own = Publisher::start(&b, ADMIN, &[provider("y")], None).await;
    let call = b.ask("POST", "/v1/chat/completions").body(chat("y", true));
    let (ours, task) = own.begins(&b, &call, "one").await;
    fence(b.core(), shared(&b), &tokio::sync::Notify::new());
    own.chunk(&b, &task, "two").await;
    own.done(&b, &task).await;
    let rest = ours.text().await.1;
    assert!(rest.contains("two") && rest.contains("[DONE]"), "{rest}");
    let rest = answer.rest().await;
    assert!(rest.contains("\"error\"") && !rest.contains("[DONE]"), "{rest}");
    eventually("it reads what was changed", async || shared(&b).looks.load(Ordering::Relaxed) > looks).await;
    a.stop().await;
    b.stop().await;
}
