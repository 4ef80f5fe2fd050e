//! Pages of the list of ended tasks, and quotas for tasks.

use std::collections::BTreeMap;

use super::*;
use crate::store::tasks;

fn of(owner: &str, id: usize, created_at: i64, state: TaskStatus) -> DurableTask {
    let owner = owner.to_owned();
    DurableTask { owner, created_at: Timestamp(created_at), ..task(&format!("t{id:03}"), state) }
}

/// The ids of all tasks of a list, read page by page.
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
async fn pages_of_ended_tasks_are_complete_and_newest_first() {
    let store = SqliteStore::in_memory().unwrap();
    let mut changes = Vec::new();
    for id in 0..60 {
        // There are only three creation times, and the order of ids differs from that of times.
        let owner = if id % 3 == 0 { "bob" } else { "alice" };
        let state = if id % 10 == 9 { TaskStatus::Running } else { TaskStatus::Completed };
        let at = i64::try_from(id % 7 % 3).unwrap();
        changes.push(put_task(of(owner, id, at, state)));
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
    let file = Connection::open(dir.path().join("hub.db")).unwrap();
    let plan = |sql: &str, values: &[&dyn rusqlite::ToSql]| {
        let mut plan = file.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let steps = plan.query_map(values, |row| row.get::<_, String>("detail")).unwrap();
        steps.collect::<Result<Vec<_>, _>>().unwrap().join("; ")
    };
    let all = plan(tasks::ENDED, &[&9, &"x", &2]);
    assert!(all.starts_with("SEARCH tasks USING INDEX tasks_ended ((created_at,id)<"), "{all}");
    let own = plan(tasks::ENDED_OF, &[&9, &"x", &2, &"alice"]);
    assert!(
        own.starts_with("SEARCH tasks USING INDEX tasks_ended_of (owner=? AND (created_at,id)<"),
        "{own}"
    );
    assert!(!format!("{all} {own}").contains("TEMP B-TREE"));
}

#[derive(Debug, Clone)]
enum Op {
    New { owner: usize, id: usize, size: usize },
    Put { id: usize, request: Option<usize>, result: Option<usize>, error: Option<usize>, ends: bool },
    EnforceTaskQuota(usize),
    Delete(usize),
    Expire,
}

fn any_op() -> impl Strategy<Value = Op> {
    // About one of 30 tasks is large enough to be stored in parts.
    let size = || prop::option::of(prop_oneof![30 => 0_usize..3000, 1 => (1_usize << 20)..(1 << 20) + 9]);
    prop_oneof![
        4 => (0_usize..2, 0..IDS, 0_usize..3000).prop_map(|(owner, id, size)| Op::New { owner, id, size }),
        6 => (0..IDS, size(), size(), prop::option::of(0_usize..300), any::<bool>())
            .prop_map(|(id, request, result, error, ends)| Op::Put { id, request, result, error, ends }),
        2 => (0_usize..2).prop_map(Op::EnforceTaskQuota),
        1 => (0..IDS).prop_map(Op::Delete),
        1 => Just(Op::Expire),
    ]
}

/// A task in the model.
#[derive(Debug, Clone, PartialEq)]
struct Expected {
    owner: usize,
    bytes: u64,
    ended: Option<i64>,
}

/// So few that most operations find a task.
const IDS: usize = 12;
const MOST: u64 = 8000;
const OWNERS: [&str; 2] = ["alice", "bob"];

fn bytes_of(tasks: &BTreeMap<usize, Expected>, owner: usize) -> (u64, u64) {
    let own = || tasks.values().filter(|task| task.owner == owner);
    (
        own().map(|task| task.bytes).sum(),
        own().filter(|task| task.ended.is_none()).map(|task| task.bytes).sum(),
    )
}

/// The rule: while the owner's tasks take too many bytes, the task that ended first is deleted, but never the last one.
fn enforce_quota(tasks: &mut BTreeMap<usize, Expected>, owner: usize) {
    loop {
        let mut ended: Vec<_> = tasks
            .iter()
            .filter(|(_, task)| task.owner == owner)
            .filter_map(|(id, task)| Some((task.ended?, *id)))
            .collect();
        ended.sort_unstable();
        ended.pop();
        let Some((_, first)) = ended.first().filter(|_| bytes_of(tasks, owner).0 > MOST) else { return };
        tasks.remove(first);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// The counted bytes are those of the tasks. A new task is accepted exactly if the open tasks leave enough bytes, and
    /// the task that ended first is deleted first.
    #[test]
    fn task_quotas_agree_with_the_model(ops in prop::collection::vec(any_op(), 1..100)) {
        let store = SqliteStore::in_memory().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let run = |changes: Vec<Change>| runtime.block_on(store.write(changes));
        let mut tasks: BTreeMap<usize, Expected> = BTreeMap::new();
        for (now, op) in (1_i64..).zip(ops) {
            match op {
                Op::New { owner, id, size } if !tasks.contains_key(&id) => {
                    let request = Some("x".repeat(size));
                    let task = DurableTask { request, result: None, ..of(OWNERS[owner], id, now, TaskStatus::Pending) };
                    let open = bytes_of(&tasks, owner).1;
                    let bytes = 512 + u64::try_from(size).unwrap();
                    let written = run(vec![Change::NewTask { task: Box::new(task), max_bytes: MOST }]);
                    prop_assert_eq!(written.is_ok(), open + bytes <= MOST);
                    match written {
                        Ok(()) => drop(tasks.insert(id, Expected { owner, bytes, ended: None })),
                        Err(error) => prop_assert!(matches!(error, StoreError::OverQuota(bytes) if bytes == open)),
                    }
                    enforce_quota(&mut tasks, owner);
                }
                Op::New { .. } => (),
                Op::Put { id, request, result, error, ends } => {
                    // The owner of a task never changes, and an ended task does not change.
                    let Some(expected) = tasks.get_mut(&id).filter(|task| task.ended.is_none()) else { continue };
                    let text = |size: usize| "é".repeat(size / 2);
                    let state = if ends { TaskStatus::Error } else { TaskStatus::Running };
                    let task = DurableTask {
                        request: request.map(text),
                        result: result.map(|size| (200, text(size))),
                        error: error.map(text),
                        updated_at: Timestamp(now),
                        ..of(OWNERS[expected.owner], id, 5, state)
                    };
                    let bytes = [request, result, error].iter().flatten().map(|size| size / 2 * 2).sum::<usize>();
                    expected.bytes = 512 + u64::try_from(bytes).unwrap();
                    expected.ended = ends.then_some(now);
                    run(vec![put_task(task)]).unwrap();
                }
                Op::EnforceTaskQuota(owner) => {
                    run(vec![Change::EnforceTaskQuota { owner: OWNERS[owner].into(), max_bytes: MOST }]).unwrap();
                    enforce_quota(&mut tasks, owner);
                }
                Op::Delete(id) => {
                    run(vec![Change::DeleteTask(format!("t{id:03}"))]).unwrap();
                    tasks.remove(&id);
                }
                Op::Expire => {
                    let retention = RetentionLimits { tasks_since: Timestamp(now - 5), ..KEEP_ALL };
                    runtime.block_on(store.expire(retention)).unwrap();
                    tasks.retain(|_, task| task.ended.is_none_or(|ended| ended >= now - 5));
                }
            }
            // An expiry resolves after the cleanup.
            runtime.block_on(store.expire(KEEP_ALL)).unwrap();
            for (owner, name) in OWNERS.iter().enumerate() {
                prop_assert_eq!(runtime.block_on(store.stored(name)).unwrap(), bytes_of(&tasks, owner).0);
            }
            for id in 0..IDS {
                let there = runtime.block_on(store.task_head(&format!("t{id:03}"))).unwrap().is_some();
                prop_assert_eq!(there, tasks.contains_key(&id), "{}", id);
            }
        }
    }
}
