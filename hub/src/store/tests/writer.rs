//! The writer with a queue that is never empty: all jobs are queued before the start, and it stops after the last job.

use std::sync::mpsc;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::*;
use crate::store::apply::apply;
use crate::store::job::{Job, Work, Write};
use crate::store::pending::GROUP_CHANGES;
use crate::store::queue::QueueState;
use crate::store::schema::migrate;
use crate::store::writer::{GROUP, MAX_UNCHECKPOINTED, Writer};

fn write(changes: Vec<Change>) -> Job<Work> {
    Job::Write(Write { changes, reply: oneshot::channel().0, is_write_behind: true, turn: None })
}

/// The state of a queue with `jobs` jobs.
fn with_jobs(jobs: usize) -> Arc<QueueState> {
    Arc::new(QueueState { waiting: AtomicUsize::new(jobs), ..QueueState::default() })
}

/// The jobs of one commit. Each job schedules the deletion of parts.
fn group() -> impl Iterator<Item = Job<Work>> {
    (0..GROUP).map(|_| write(vec![Change::DeleteTask("none".into())]))
}

fn serve(conn: Connection, jobs: impl IntoIterator<Item = Job<Work>>) {
    let (sender, queue) = mpsc::channel();
    let jobs: Vec<Job<Work>> = jobs.into_iter().collect();
    let state = with_jobs(jobs.len());
    for job in jobs {
        sender.send(job).unwrap();
    }
    drop(sender);
    Writer::new(conn, state, Arc::default(), None).serve(&queue);
}

/// Writes `before` to a store in `dir`. Returns a connection for the writer.
async fn file(dir: &Path, before: Vec<Change>) -> Connection {
    let store = open(dir).unwrap();
    store.write(before).await.unwrap();
    drop(store);
    Connection::open(dir.join("hub.db")).unwrap()
}

/// A27: a round of coalesced changes ends although all of its records change again before each batch.
#[test]
fn a_round_of_coalesced_changes_ends_while_its_records_change() {
    let mut conn = Connection::open_in_memory().unwrap();
    migrate(&mut conn).unwrap();
    let state = Arc::<QueueState>::default();
    let mut writer = Writer::new(conn, state.clone(), Arc::default(), None);
    let names = || (0..2 * GROUP_CHANGES).map(|name| Change::DeleteName(name.to_string()));
    let mut batches = 0;
    loop {
        names().for_each(|change| state.coalescer.lock().add(change));
        writer.write_coalesced();
        batches += 1;
        if !writer.pending.round_has_more || batches == 10 {
            break;
        }
    }
    // The round's third batch is empty: a full one may not be the last.
    assert_eq!(batches, 3);
}

/// A27, F90: with a queue that is never empty and parts to delete after each commit, each kind of cleanup has a step
/// after a few commits: quotas are enforced, records expire and the file shrinks.
#[tokio::test]
async fn cleanup_goes_on_while_jobs_never_cease() {
    const EACH: usize = 300;
    let of = |owner: &str, n: usize, updated: i64| {
        let (id, result) = (format!("{owner}-{n}"), Some((200, "x".repeat(1 << 10))));
        let (owner, updated_at) = (owner.into(), Timestamp(updated));
        put_task(DurableTask { owner, result, updated_at, ..task(&id, TaskStatus::Completed) })
    };
    let users = ["alice", "bob", "carol"];
    let mut before: Vec<Change> = users.iter().flat_map(|user| (0..EACH).map(|n| of(user, n, 50))).collect();
    before.extend((0..EACH).map(|n| of("dave", n, 1)));
    before.extend((0..2_500).map(|n| Change::Audit(audit(&n.to_string()))));
    // Their deletion takes two steps.
    before.push(put_task(DurableTask {
        result: Some((200, "x".repeat(12 << 20))),
        ..task("large", TaskStatus::Completed)
    }));
    let dir = tempfile::tempdir().unwrap();
    let conn = file(dir.path(), before).await;

    let (reply, mut expired) = oneshot::channel();
    let retention = RetentionLimits { tasks_since: Timestamp(9), audit_since: Timestamp(9), ..KEEP_ALL };
    let over = |user: &&str| Change::EnforceTaskQuota { owner: (*user).into(), max_bytes: 100 << 10 };
    let first = [Job::Expire(retention, reply), write(users.iter().map(over).collect())];
    // Enough commits for 40 steps: 28 of 0.5 MiB each to free 14 MiB, and a few of each other kind.
    serve(conn, first.into_iter().chain((0..80).flat_map(|_| group())));
    assert!(expired.try_recv().unwrap().is_ok());
    let conn = Connection::open(dir.path().join("hub.db")).unwrap();
    for user in users {
        let taken = tasks::stored(&conn, user).unwrap().all;
        assert!(taken <= 100 << 10, "{user}: {taken}");
    }
    for (rest, most) in [
        ("SELECT count(*) FROM tasks WHERE updated_at < 9", 0),
        ("SELECT count(*) FROM audit", 0),
        ("SELECT count(*) FROM parts", 0),
        ("PRAGMA freelist_count", 256),
    ] {
        assert!(number(dir.path(), rest) <= most, "{rest}: {}", number(dir.path(), rest));
    }
}

/// The weight of a change is the number of bytes that it writes and deletes; it limits the size of a commit.
#[test]
fn a_change_weighs_what_it_writes_and_deletes() {
    const SIZE: usize = 600_000;
    let mut conn = Connection::open_in_memory().unwrap();
    migrate(&mut conn).unwrap();
    let asked = DurableTask { request: Some("x".repeat(SIZE)), ..task("t", TaskStatus::Pending) };
    apply(&conn, &put_task(asked)).unwrap();
    let (mut row, mut wordy) = (llm("l", "a"), agent("g"));
    row.description = Some("x".repeat(SIZE));
    wordy.system_prompt = Some("x".repeat(SIZE));
    for change in [
        put_task(task("t", TaskStatus::Error)),
        Change::DeleteTask("t".into()),
        put_llm(row),
        Change::PutAgent(Box::new(wordy)),
    ] {
        let (reply, _) = oneshot::channel();
        let job: Job<Work> =
            Job::Write(Write { changes: vec![change.clone()], reply, is_write_behind: true, turn: None });
        let weight = job.weight(&conn);
        assert!((600_000..602_000).contains(&weight), "{weight}: {change:?}");
    }
}

/// Adds `parts` small parts of a deleted text.
fn add_deleted_parts(conn: &Connection, parts: i64) {
    let sql = "WITH RECURSIVE n (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n LIMIT ?1)
        INSERT INTO parts (task, what, n, bytes) SELECT 'gone', 0, n, x'00' FROM n";
    conn.execute(sql, [parts]).unwrap();
    conn.execute("INSERT INTO erased (task, what) VALUES ('gone', 0)", []).unwrap();
}

/// F90: the WAL is checkpointed and truncated although jobs and cleanup never cease.
#[test]
fn the_wal_is_checkpointed_while_jobs_never_cease() {
    let dir = tempfile::tempdir().unwrap();
    let mut conn = Connection::open(dir.path().join("hub.db")).unwrap();
    conn.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(())).unwrap();
    migrate(&mut conn).unwrap();
    add_deleted_parts(&conn, 100);
    let log = dir.path().join("hub.db-wal");
    let write = |change| {
        let (reply, _) = oneshot::channel();
        Job::Write(Write { changes: vec![change], reply, is_write_behind: true, turn: None })
    };
    let (sender, queue) = mpsc::channel();
    sender.send(write(Change::PutAgent(Box::new(agent("g"))))).unwrap();
    // This job fills the commit and schedules cleanup after it.
    (1..GROUP).for_each(|_| sender.send(write(Change::DeleteTask("none".into()))).unwrap());
    let (tell, told) = mpsc::channel();
    let look = move |_: &mut Connection| tell.send(std::fs::metadata(log).unwrap().len()).unwrap();
    sender.send(Job::Work(Work::Run(Box::new(look)))).unwrap();
    drop(sender);
    let state = with_jobs(GROUP + 1);
    let mut writer = Writer::new(conn, state, Arc::default(), None);
    writer.uncheckpointed_since = Instant::now().checked_sub(MAX_UNCHECKPOINTED);
    writer.serve(&queue);
    assert_eq!(told.recv().unwrap(), 0);
}

/// A27: on a busy store, one cleanup step follows each commit, and two if the backlog is large. Above the maximum of the
/// backlog, as many steps follow as keep the backlog from growing.
#[test]
fn few_cleanup_steps_follow_a_commit_until_the_backlog_is_full() {
    const PARTS: i64 = 2000;
    const LARGE: usize = 32 << 20;
    /// Counts the remaining parts, and queues the next large commit.
    fn look(
        sender: mpsc::Sender<Job<Work>>,
        done: DurableTask,
        left: Arc<parking_lot::Mutex<Vec<i64>>>,
        more: usize,
    ) -> Job<Work> {
        Job::Work(Work::Run(Box::new(move |conn| {
            let parts = conn.query_row("SELECT count(*) FROM parts", [], |row| row.get(0)).unwrap();
            left.lock().push(parts);
            if more > 0 {
                // The task has ended already: the write changes nothing but has the same weight.
                let changes = vec![put_task(done.clone())];
                let (reply, _) = oneshot::channel();
                sender.send(Job::Write(Write { changes, reply, is_write_behind: true, turn: None })).unwrap();
                sender.clone().send(look(sender, done, left, more - 1)).unwrap();
            }
        })))
    }
    let mut conn = Connection::open_in_memory().unwrap();
    migrate(&mut conn).unwrap();
    let done = DurableTask { result: Some((200, "x".repeat(LARGE))), ..task("t", TaskStatus::Completed) };
    let ended = task("t", TaskStatus::Error);
    apply(&conn, &put_task(ended)).unwrap();
    add_deleted_parts(&conn, PARTS);
    let (sender, queue) = mpsc::channel();
    let left = Arc::<parking_lot::Mutex<Vec<i64>>>::default();
    let first = look(sender.clone(), done, left.clone(), 40);
    sender.send(first).unwrap();
    drop(sender);
    let state = with_jobs(usize::MAX / 2);
    Writer::new(conn, state, Arc::default(), None).serve(&queue);
    let left = left.lock();
    let erased: Vec<i64> = left.windows(2).map(|pair| pair[0] - pair[1]).collect();
    let step = i64::try_from(tasks::STEP_BYTES >> 20).unwrap();
    assert!(erased[..2].iter().all(|parts| *parts == step), "{erased:?}");
    assert!(erased[..28].iter().all(|parts| *parts <= 2 * step), "{erased:?}");
    let written = i64::try_from(LARGE >> 20).unwrap();
    assert!(erased[32..].iter().sum::<i64>() >= 8 * written, "{erased:?}");
}
