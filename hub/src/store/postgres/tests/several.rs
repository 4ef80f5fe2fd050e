//! What the database keeps apart for several hubs.

use super::*;
use crate::model::UsageCounts;
use crate::options::NatsOptions;

async fn one_of_several(database: &Database, hub: &str) -> PostgresStore {
    let nats = Some(NatsOptions { url: "nats://unused".into(), credentials: None });
    PostgresStore::open(&ClusterOptions { nats, ..options(database, hub) }).await.unwrap()
}

/// F66: a batch of sums that is written again is added once, also if another hub has added one to the same sums meanwhile.
#[actix_rt::test]
async fn a_batch_of_sums_is_added_once_beside_other_hubs() {
    let Some(database) = Database::create().await else { return };
    let (a, b) = (one_of_several(&database, "a").await, one_of_several(&database, "b").await);
    let key = || UsageKey { day: Day(1), user: "alice".into(), token: "t".into(), ..UsageKey::default() };
    let counts = UsageCounts { calls: 1, input: 10, output: 5, ..UsageCounts::default() };
    let add = |batch| {
        vec![Change::AddUsage {
            sum: Box::new(UsageSum { key: key(), counts, ..UsageSum::default() }),
            batch,
        }]
    };
    for (store, batch) in [(&a, 7), (&b, 8), (&a, 7), (&b, 8), (&b, 9)] {
        store.write(add(batch)).await.unwrap();
    }
    let table = a.usage(UsageQuery::all(UsageBy::User)).await.unwrap();
    assert_eq!((table.rows.len(), table.total.counts.calls), (1, 3), "{table:?}");
    let mut spent = b.spent(Day(1), Some("alice".into())).await.unwrap();
    spent.sort_by(|one, other| one.hub.cmp(&other.hub));
    let spent: Vec<_> = spent.iter().map(|of| (&*of.hub, &*of.token, of.tokens)).collect();
    assert_eq!(spent, [("a", "t", 15), ("b", "t", 30)]);
    assert!(a.spent(Day(1), Some("bob".into())).await.unwrap().is_empty());
    assert_eq!(a.spent(Day(1), None).await.unwrap().len(), 2);
    assert!(a.spent(Day(2), None).await.unwrap().is_empty());
}

/// F92: tasks are taken over when the lease of their hub is over, by one hub, and are the other's no more.
#[actix_rt::test]
async fn a_task_of_a_hub_without_a_lease_is_taken_over_once() {
    let Some(database) = Database::create().await else { return };
    let hubs = [
        one_of_several(&database, "a").await,
        one_of_several(&database, "b").await,
        one_of_several(&database, "c").await,
    ];
    let [a, b, c] = &hubs;
    let pending = || task("x", TaskStatus::Pending);
    a.write(vec![put_task(pending())]).await.unwrap();
    assert!(b.orphans().await.unwrap().is_empty());
    let is_over = |sql: &str| format!("UPDATE {sql} SET until = now() - interval '2 min'");
    database.run(&is_over("hubs")).await;
    assert!(b.adopt_orphans(&["x"]).await.unwrap().is_empty(), "a hub without a lease takes nothing");
    database.run("UPDATE hubs SET until = now() + interval '1 h' WHERE id <> 'a'").await;
    let [first, second] = [b.adopt_orphans(&["x", "y"]), c.adopt_orphans(&["x"])];
    let (first, second) = futures_util::future::join(first, second).await;
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_eq!(first.len() + second.len(), 1, "{first:?} {second:?}");
    assert!(first.values().chain(second.values()).all(|is_claimed| !is_claimed));
    assert!(b.orphans().await.unwrap().is_empty());
    assert_eq!(a.taken_over(&[&"x".into(), &"y".into()]).await.unwrap(), ["x"]);

    // The hub that had it goes on: what it writes changes nothing.
    let claim = || Change::ClaimTask { id: "x".into(), llm: None, session: None };
    a.write(vec![claim()]).await.unwrap();
    a.write(vec![put_task(DurableTask { error: Some("late".into()), ..task("x", TaskStatus::Error) })])
        .await
        .unwrap();
    assert_eq!(a.task("x").await.unwrap().unwrap().state, TaskStatus::Pending);
    let owner = if first.is_empty() { c } else { b };
    owner.write(vec![claim()]).await.unwrap();
    a.write(vec![Change::UnclaimTask("x".into())]).await.unwrap();
    assert_eq!(owner.load().await.unwrap().tasks[0].state, TaskStatus::Claimed);
    assert_eq!(a.hub_of_task("x").await.unwrap().as_deref(), Some(owner.process().hub()));
}

/// F92: of two hubs that take many tasks at the same time, each task is one hub's. Which have been sent out is told as it is then.
#[actix_rt::test]
async fn tasks_that_two_hubs_take_at_once_are_shared_out() {
    const MANY: usize = 400;
    let Some(database) = Database::create().await else { return };
    let hubs = [
        one_of_several(&database, "a").await,
        one_of_several(&database, "b").await,
        one_of_several(&database, "c").await,
    ];
    let [a, b, c] = &hubs;
    let ids: Vec<String> = (0..MANY).map(|n| format!("x{n}")).collect();
    a.write(ids.iter().map(|id| put_task(task(id, TaskStatus::Pending))).collect()).await.unwrap();
    let claim = Change::ClaimTask { id: "x7".into(), llm: None, session: None };
    a.write(vec![claim]).await.unwrap();
    database.run("UPDATE hubs SET until = now() - interval '2 min' WHERE id = 'a'").await;
    // Each statement waits for the other's rows.
    database
        .run(
            "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.002); RETURN NEW; END $$;
            CREATE TRIGGER slow BEFORE UPDATE ON tasks FOR EACH ROW EXECUTE FUNCTION slow()",
        )
        .await;
    let all: Vec<&str> = ids.iter().map(String::as_str).collect();
    let (first, second) = futures_util::join!(b.adopt_orphans(&all), async {
        // Behind the first one's locks.
        tokio::time::sleep(std::time::Duration::from_millis(30)).await;
        c.adopt_orphans(&all).await
    });
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_eq!(first.len() + second.len(), MANY);
    assert!(first.keys().all(|id| !second.contains_key(id)));
    let claimed: Vec<_> = first.iter().chain(&second).filter(|(_, is_claimed)| **is_claimed).collect();
    assert_eq!(claimed, [(&"x7".to_owned(), &true)]);
}

/// However many tasks one owner has left, those of others are in the first page.
#[actix_rt::test]
async fn the_tasks_of_an_owner_hide_no_others() {
    let Some(database) = Database::create().await else { return };
    let (a, b) = (one_of_several(&database, "a").await, one_of_several(&database, "b").await);
    let of = |owner: &str, id: &str| DurableTask { owner: owner.into(), ..task(id, TaskStatus::Pending) };
    let many = (0..=PostgresStore::ORPHANS).map(|n| put_task(of("mallory", &format!("m{n}"))));
    a.write(many.collect()).await.unwrap();
    a.write(vec![put_task(of("alice", "first")), put_task(of("alice", "second"))]).await.unwrap();
    database.run("UPDATE hubs SET until = now() - interval '1 s' WHERE id = 'a'").await;
    let page = b.orphans().await.unwrap();
    assert_eq!(page.len(), PostgresStore::ORPHANS);
    let ids: Vec<_> = page.iter().map(|(task, _)| task.id.as_str()).take(4).collect();
    assert_eq!(ids, ["m0", "first", "m1", "second"]);
}
