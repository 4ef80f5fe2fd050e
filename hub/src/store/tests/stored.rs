//! Pages of ended tasks, and the bytes that each owner's tasks take.

use std::collections::BTreeMap;

use super::*;
use crate::store::rows;

fn of(owner: &str, id: usize, created_at: i64, state: TaskState) -> DurableTask {
    let owner = owner.to_owned();
    DurableTask { owner, created_at: Timestamp(created_at), ..task(&format!("t{id:03}"), state) }
}

/// All tasks of a list, page after page.
async fn pages(store: &SqliteStore, owner: Option<&str>, limit: usize) -> Vec<String> {
    let (mut place, mut found) = (ListCursor::end(), Vec::new());
    loop {
        let page = store.ended_tasks(owner, &place, limit).await.unwrap();
        assert!(page.len() <= limit);
        let Some(last) = page.last() else { return found };
        place = ListCursor { created_at: last.created_at, id: last.id.clone() };
        found.extend(page.into_iter().map(|task| task.id));
    }
}

#[tokio::test]
async fn pages_of_ended_tasks_are_newest_first_and_complete_however_many_came_in_one_moment() {
    let store = SqliteStore::in_memory().unwrap();
    let mut changes = Vec::new();
    for id in 0..60 {
        // Three moments; ids are not in the order of time.
        let owner = if id % 3 == 0 { "bob" } else { "alice" };
        let state = if id % 10 == 9 { TaskState::Running } else { TaskState::Completed };
        let at = i64::try_from(id % 7 % 3).unwrap();
        changes.push(Change::PutTask(Box::new(of(owner, id, at, state))));
    }
    store.write(changes).await.unwrap();
    for (owner, count) in [(None, 54), (Some("alice"), 36), (Some("bob"), 18), (Some("carol"), 0)] {
        let all = pages(&store, owner, 100).await;
        assert_eq!(all.len(), count, "{owner:?}");
        for limit in [1, 4, 7] {
            assert_eq!(pages(&store, owner, limit).await, all);
        }
    }
}

#[tokio::test]
async fn a_page_of_one_owners_tasks_is_read_from_an_index() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()).unwrap());
    let file = rusqlite::Connection::open(dir.path().join("hub.db")).unwrap();
    let plan = |sql: &str, values: &[&dyn rusqlite::ToSql]| {
        let mut plan = file.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let steps = plan.query_map(values, |row| row.get::<_, String>("detail")).unwrap();
        steps.collect::<Result<Vec<_>, _>>().unwrap().join("; ")
    };
    let all = plan(rows::ENDED, &[&9, &"x", &2]);
    assert!(all.starts_with("SEARCH tasks USING INDEX tasks_ended ((created_at,id)<"), "{all}");
    let own = plan(rows::ENDED_OF, &[&9, &"x", &2, &"alice"]);
    assert!(
        own.starts_with("SEARCH tasks USING INDEX tasks_ended_of (owner=? AND (created_at,id)<"),
        "{own}"
    );
    assert!(!format!("{all} {own}").contains("TEMP B-TREE"));
}

#[derive(Debug, Clone)]
enum Op {
    Put { owner: usize, id: usize, request: Option<usize>, result: Option<usize> },
    New { owner: usize, id: usize, size: usize },
    Delete(usize),
    Expire,
}

fn any_op() -> impl Strategy<Value = Op> {
    let size = || prop::option::of(0_usize..3000);
    prop_oneof![
        4 => (0_usize..2, 0_usize..6, size(), size())
            .prop_map(|(owner, id, request, result)| Op::Put { owner, id, request, result }),
        3 => (0_usize..2, 6_usize..60, 0_usize..3000).prop_map(|(owner, id, size)| Op::New { owner, id, size }),
        2 => (0_usize..60).prop_map(Op::Delete),
        1 => Just(Op::Expire),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// What is counted is what is there; a new task is let in exactly when it fits.
    #[test]
    fn the_bytes_of_each_owner_are_those_of_its_tasks(ops in prop::collection::vec(any_op(), 1..40)) {
        const MOST: u64 = 8000;
        const OWNERS: [&str; 2] = ["alice", "bob"];
        let store = SqliteStore::in_memory().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut tasks: BTreeMap<usize, (usize, u64)> = BTreeMap::new();
        let stored = |tasks: &BTreeMap<usize, (usize, u64)>, owner: usize| -> u64 {
            tasks.values().filter(|(of, _)| *of == owner).map(|(_, size)| size).sum()
        };
        for op in ops {
            match op {
                Op::Put { owner, id, request, result } => {
                    let text = |size: usize| "é".repeat(size / 2);
                    // A task stays its owner's.
                    let owner = tasks.get(&id).map_or(owner, |(owner, _)| *owner);
                    let task = DurableTask {
                        request: request.map(text),
                        result: result.map(|size| (200, text(size))),
                        ..of(OWNERS[owner], id, 5, TaskState::Running)
                    };
                    let bytes = [request, result].iter().flatten().map(|size| size / 2 * 2).sum::<usize>();
                    runtime.block_on(store.write(vec![Change::PutTask(Box::new(task))])).unwrap();
                    tasks.insert(id, (owner, 512 + u64::try_from(bytes).unwrap()));
                }
                Op::New { owner, id, size } if !tasks.contains_key(&id) => {
                    let request = Some("x".repeat(size));
                    let task = Box::new(DurableTask { request, result: None, ..of(OWNERS[owner], id, 5, TaskState::Completed) });
                    let before = stored(&tasks, owner);
                    let size = u64::try_from(size).unwrap();
                    let written = runtime.block_on(store.write(vec![Change::NewTask { task, most: MOST }]));
                    prop_assert_eq!(written.is_ok(), before + size <= MOST);
                    match written {
                        Ok(()) => drop(tasks.insert(id, (owner, 512 + size))),
                        Err(error) => prop_assert!(matches!(error, StoreError::OverQuota(bytes) if bytes == before)),
                    }
                }
                Op::New { .. } => (),
                Op::Delete(id) => {
                    runtime.block_on(store.write(vec![Change::DeleteTask(format!("t{id:03}"))])).unwrap();
                    tasks.remove(&id);
                }
                Op::Expire => {
                    runtime.block_on(store.expire(Timestamp(1_000_000))).unwrap();
                    tasks.retain(|id, _| *id < 6);
                }
            }
            for (owner, name) in OWNERS.iter().enumerate() {
                prop_assert_eq!(runtime.block_on(store.stored(name)).unwrap(), stored(&tasks, owner));
            }
        }
    }
}
