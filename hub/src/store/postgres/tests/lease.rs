//! Leases: which process may write, and what is recorded of those that had one.

use super::*;

#[actix_rt::test]
async fn one_hub_alone_has_the_lease() {
    let Some(database) = Database::create().await else { return };
    let first = store_of(&database).await;
    let second = refusal(PostgresStore::open(&options(&database, "b")).await);
    assert!(second.contains("hub 'a' of the cluster uses it"), "{second}");
    // A newer process of the same hub takes over from an older one.
    let newer = store_of(&database).await;
    let refused = first.write(vec![Change::PutToken(token("t"))]).await.unwrap_err().to_string();
    assert!(refused.contains("taken over"), "{refused}");
    assert!(first.probe().await.is_err());
    let lost = first.lost().await.unwrap_err().to_string();
    assert!(lost.contains("taken over"), "{lost}");
    newer.write(vec![Change::PutToken(token("t"))]).await.unwrap();
    drop(first);
    newer.probe().await.unwrap();
    // Released at the end, also to another hub.
    drop(newer);
    PostgresStore::open(&options(&database, "b")).await.unwrap().probe().await.unwrap();
}

#[actix_rt::test]
async fn the_lease_of_a_dead_hub_ends() {
    let Some(database) = Database::create().await else { return };
    drop(store_of(&database).await);
    let insert = |until: &str| {
        format!(
            "DELETE FROM hubs; INSERT INTO hubs (id, boot, until, version) VALUES ('dead', 'x', {until}, '0')"
        )
    };
    database.run(&insert("now() + interval '9 s'")).await;
    let early = refusal(PostgresStore::open(&options(&database, "b")).await);
    assert!(early.contains("hub 'dead'") && early.contains(" 9 s"), "{early}");
    database.run(&insert("now() - interval '1 s'")).await;
    PostgresStore::open(&options(&database, "b")).await.unwrap();
}

/// A hub that was stopped or cut off for longer than its lease must find that another one took over.
#[actix_rt::test]
async fn a_hub_whose_lease_was_taken_writes_nothing_any_more() {
    let Some(database) = Database::create().await else { return };
    let paused = store_of(&database).await;
    paused.write(vec![Change::PutToken(token("t"))]).await.unwrap();
    let ended = |id: &str| put_task(task(id, TaskStatus::Completed));
    paused.write(vec![ended("1"), ended("2"), Change::Audit(audit("a"))]).await.unwrap();
    let taker = after_lease_of_a(&database).await;
    let refused = paused.write(vec![Change::PutToken(token("late"))]).await.unwrap_err().to_string();
    assert!(refused.contains("taken over"), "{refused}");
    assert!(paused.probe().await.is_err());
    let lost = paused.lost().await.unwrap_err().to_string();
    assert!(lost.contains("taken over"), "{lost}");
    assert!(paused.write_behind(vec![put_llm(llm("1", "late"))]).await.is_err());
    let large = DurableTask { result: Some((200, "x".repeat(3 << 20))), ..task("3", TaskStatus::Completed) };
    assert!(paused.write_behind(vec![put_task(large)]).await.is_err());
    large::count_parts(&database, 0).await;
    let _ = paused.expire(cleanup::KEEP_NOTHING).await;
    drop(paused);
    taker.probe().await.unwrap();
    let found = taker.load().await.unwrap();
    assert_eq!((found.tokens, found.llms), (vec![token("t")], vec![]));
    assert_eq!(taker.ended_tasks(None, &ListCursor::end(), 9).await.unwrap().len(), 2);
    assert_eq!(taker.audit(AuditQuery::of(None, None, 9)).await.unwrap().len(), 1);
}

#[actix_rt::test]
async fn a_newer_version_changes_no_database_that_another_hub_uses() {
    let Some(database) = Database::create().await else { return };
    let running = store_of(&database).await;
    // As an older version has left it.
    database.run("UPDATE cluster SET schema = 0").await;
    let refused = refusal(PostgresStore::open(&options(&database, "b")).await);
    assert!(refused.contains("hub 'a' of the cluster uses it"), "{refused}");
    running.probe().await.unwrap();
}

#[actix_rt::test]
async fn the_processes_of_hubs_are_recorded_with_their_ends() {
    let Some(database) = Database::create().await else { return };
    let seen = async |store: &PostgresStore| {
        let cluster = store.cluster().await.unwrap().unwrap();
        let seen = cluster.processes.iter().map(|of| format!("{} {} {}", of.hub, of.term, of.state));
        seen.collect::<Vec<_>>()
    };
    let first = store_of(&database).await;
    let cluster = first.cluster().await.unwrap().unwrap();
    assert_eq!((&*cluster.name, cluster.schema), ("team", i64::try_from(schema::MIGRATIONS.len()).unwrap()));
    assert!(cluster.server.starts_with(|c: char| c.is_ascii_digit()), "{cluster:?}");
    assert!(cluster.address.starts_with("vl_") && !cluster.address.contains("postgres@"), "{cluster:?}");
    assert_eq!(cluster.processes[0].boot, first.process().boot());
    assert_eq!(seen(&first).await, ["a 1 serving"]);
    let newer = store_of(&database).await;
    assert_eq!(seen(&newer).await, ["a 2 serving", "a 1 superseded"]);
    // The end of the older one is not that of the newer.
    drop(first);
    assert_eq!(seen(&newer).await, ["a 2 serving", "a 1 superseded"]);
    let (hub, boot) = (newer.process().hub().to_owned(), newer.process().boot().to_owned());
    database.run("UPDATE processes SET renewed_at = 'epoch', until = 'epoch' WHERE term = 2").await;
    eventually("the lease is renewed", async || {
        let cluster = newer.cluster().await.unwrap().unwrap();
        let own = cluster.processes.iter().find(|of| (&of.hub, &of.boot) == (&hub, &boot)).unwrap();
        own.renewed_at.0 > 0 && own.lease_until.0 - own.renewed_at.0 == 15_000
    })
    .await;
    drop(newer);
    let other = PostgresStore::open(&options(&database, "b")).await.unwrap();
    assert_eq!(seen(&other).await, ["b 1 serving", "a 2 stopped", "a 1 superseded"]);
    let lost = "INSERT INTO processes (hub, boot, term, version, until) VALUES ('c', 'x', 1, '0', now() - interval '1 s')";
    database.run(lost).await;
    assert_eq!(seen(&other).await, ["c 1 lost", "b 1 serving", "a 2 stopped", "a 1 superseded"]);
    // After a day only the last process of each hub is left, for its term.
    database.run("UPDATE processes SET until = now() - interval '2 days'").await;
    assert_eq!(seen(&other).await, ["c 1 lost", "b 1 serving", "a 2 stopped"]);
    drop(other);
    let third = store_of(&database).await;
    assert_eq!(seen(&third).await, ["a 3 serving", "c 1 lost", "b 1 stopped"]);
}

/// Opens the database for the hub b while the lease of the hub a is over. That hub may renew it just now.
async fn after_lease_of_a(database: &Database) -> PostgresStore {
    wait_for("b has the lease", async || {
        database.run("UPDATE hubs SET until = now() - interval '1 s' WHERE id = 'a'").await;
        PostgresStore::open(&options(database, "b")).await.ok()
    })
    .await
}
