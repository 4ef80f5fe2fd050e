//! Pages of ended tasks, and the bytes that each owner's tasks take.

use std::collections::BTreeMap;

use super::*;
use crate::store::tasks;

fn of(owner: &str, id: usize, created_at: i64, state: TaskStatus) -> DurableTask {
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
        let state = if id % 10 == 9 { TaskStatus::Running } else { TaskStatus::Completed };
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
    MakeRoom(usize),
    Delete(usize),
    Expire,
}

fn any_op() -> impl Strategy<Value = Op> {
    // One in some is in parts.
    let size = || prop::option::of(prop_oneof![30 => 0_usize..3000, 1 => (1_usize << 20)..(1 << 20) + 9]);
    prop_oneof![
        4 => (0_usize..2, 0_usize..40, 0_usize..3000).prop_map(|(owner, id, size)| Op::New { owner, id, size }),
        6 => (0_usize..40, size(), size(), prop::option::of(0_usize..300), any::<bool>())
            .prop_map(|(id, request, result, error, ends)| Op::Put { id, request, result, error, ends }),
        2 => (0_usize..2).prop_map(Op::MakeRoom),
        1 => (0_usize..40).prop_map(Op::Delete),
        1 => Just(Op::Expire),
    ]
}

/// What is expected of a task: its owner, its bytes, and when it ended.
#[derive(Debug, Clone, PartialEq)]
struct Expected {
    owner: usize,
    bytes: u64,
    ended: Option<i64>,
}

const MOST: u64 = 8000;
const OWNERS: [&str; 2] = ["alice", "bob"];

fn bytes_of(tasks: &BTreeMap<usize, Expected>, owner: usize) -> (u64, u64) {
    let own = || tasks.values().filter(|task| task.owner == owner);
    (
        own().map(|task| task.bytes).sum(),
        own().filter(|task| task.ended.is_none()).map(|task| task.bytes).sum(),
    )
}

/// The rule: while there is too much, what ended first goes, but for the last.
fn make_room(tasks: &mut BTreeMap<usize, Expected>, owner: usize) {
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

    /// What is counted is what is there; a new task is let in exactly when those that have not ended leave room for it;
    /// and what goes for want of room is what ended first.
    #[test]
    fn the_bytes_of_each_owner_are_those_of_its_tasks(ops in prop::collection::vec(any_op(), 1..60)) {
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
                    let written = run(vec![Change::NewTask { task: Box::new(task), most: MOST }]);
                    prop_assert_eq!(written.is_ok(), open + bytes <= MOST);
                    match written {
                        Ok(()) => drop(tasks.insert(id, Expected { owner, bytes, ended: None })),
                        Err(error) => prop_assert!(matches!(error, StoreError::OverQuota(bytes) if bytes == open)),
                    }
                    make_room(&mut tasks, owner);
                }
                Op::New { .. } => (),
                Op::Put { id, request, result, error, ends } => {
                    // A task stays its owner's, and one that has ended has.
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
                    run(vec![Change::PutTask(Box::new(task))]).unwrap();
                }
                Op::MakeRoom(owner) => {
                    run(vec![Change::MakeRoom { owner: OWNERS[owner].into(), most: MOST }]).unwrap();
                    make_room(&mut tasks, owner);
                }
                Op::Delete(id) => {
                    run(vec![Change::DeleteTask(format!("t{id:03}"))]).unwrap();
                    tasks.remove(&id);
                }
                Op::Expire => {
                    let kept = Kept { tasks_since: Timestamp(now - 5), ..KEEP_ALL };
                    runtime.block_on(store.expire(kept)).unwrap();
                    tasks.retain(|_, task| task.ended.is_none_or(|ended| ended >= now - 5));
                }
            }
            // All that is to be put in order is then.
            runtime.block_on(store.expire(KEEP_ALL)).unwrap();
            for (owner, name) in OWNERS.iter().enumerate() {
                prop_assert_eq!(runtime.block_on(store.stored(name)).unwrap(), bytes_of(&tasks, owner).0);
            }
            for id in 0..40 {
                let there = runtime.block_on(store.task_head(&format!("t{id:03}"))).unwrap().is_some();
                prop_assert_eq!(there, tasks.contains_key(&id), "{}", id);
            }
        }
    }
}
