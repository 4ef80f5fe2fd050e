//! Quotas of open tasks, which leave out single lists of a commit.

use std::time::Duration;

use futures_util::future::join_all;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use testkit::proxy::{Network, Proxy};
use tokio::time::Instant;

use super::*;
use crate::store::SqliteStore;

fn open(id: &str, owner: &str, bytes: usize) -> DurableTask {
    DurableTask { owner: owner.into(), request: Some("x".repeat(bytes)), ..task(id, TaskStatus::Pending) }
}

/// A member at its quota must not delay others: a refusal costs them nothing.
#[actix_rt::test]
async fn refused_new_tasks_delay_no_other_write() {
    let Some(database) = Database::create().await else { return };
    let Some(port) = database.port() else { return };
    let proxy = Proxy::to(port).await;
    let address = Secret::new(database.url_at(proxy.port()));
    let options = ClusterOptions { database_url: address, ..options(&database, "a") };
    let store = PostgresStore::open(&options).await.unwrap();
    store.write(vec![put_task(open("0", "alice", 1000))]).await.unwrap();
    proxy.set(Network::Lags(Duration::from_millis(5)));
    let new = |n: usize| {
        let task = Box::new(open(&format!("n{n}"), "alice", 1000));
        store.write(vec![Change::NewTask { task, max_bytes: 2000 }])
    };
    for round in 0..3 {
        let refused: Vec<_> = (0..300).map(new).collect();
        let start = Instant::now();
        store.write(vec![put_llm(llm("1", &format!("n{round}")))]).await.unwrap();
        let took = start.elapsed();
        for result in join_all(refused).await {
            assert!(matches!(result, Err(StoreError::OverQuota(1512))), "{result:?}");
        }
        assert!(took < Duration::from_secs(2), "round {round}: {took:?}");
    }
}

/// Lists of two owners: new tasks, ends, deletions.
fn any_list() -> impl Strategy<Value = (u8, usize, bool, usize)> {
    (0..6_u8, 0..2000_usize, any::<bool>(), any::<usize>())
}

#[test]
fn quotas_refuse_the_same_lists_in_both_databases() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let Some(database) = runtime.block_on(Database::create()) else { return };
    let postgres = runtime.block_on(store_of(&database));
    let mut runner =
        TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(testkit::cases() / 2) });
    let lists = prop::collection::vec(any_list(), 1..40);
    let outcome = runner.run(&lists, |plan| {
        let list = |(n, (what, bytes, is_bobs, which)): (usize, &(u8, usize, bool, usize))| {
            let owner = if *is_bobs { "bob" } else { "alice" };
            let earlier = which % (n + 1);
            // A task keeps its owner.
            let earlier_owner = if plan[earlier].2 { "bob" } else { "alice" };
            let earlier = format!("t{earlier}");
            let new = |id: &str| {
                let task = Box::new(open(id, owner, *bytes));
                Change::NewTask { task, max_bytes: 5000 }
            };
            match what {
                0 => vec![Change::DeleteTask(earlier)],
                1 => vec![put_task(DurableTask {
                    owner: earlier_owner.into(),
                    ..task(&earlier, TaskStatus::Completed)
                })],
                2 => vec![new(&format!("t{n}")), Change::PutToken(token("t"))],
                _ => vec![new(&format!("t{n}"))],
            }
        };
        runtime.block_on(async {
            let sqlite = SqliteStore::in_memory().unwrap();
            empty(&database).await;
            let lists: Vec<_> = plan.iter().enumerate().map(list).collect();
            // All at once, so that many are in one transaction.
            let expected = join_all(lists.iter().map(|list| sqlite.write(list.clone()))).await;
            let found = join_all(lists.iter().map(|list| postgres.write(list.clone()))).await;
            assert_eq!(format!("{expected:?}"), format!("{found:?}"), "{lists:?}");
            let tasks = async |store: &dyn Store| {
                let mut ids: Vec<_> =
                    store.load().await.unwrap().tasks.into_iter().map(|task| task.id).collect();
                ids.sort();
                ids
            };
            assert_eq!(tasks(&sqlite).await, tasks(&postgres).await);
        });
        Ok(())
    });
    outcome.unwrap();
}
