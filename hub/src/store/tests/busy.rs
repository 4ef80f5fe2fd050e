//! Things are put in order also where the writer finds a job whenever it looks: the whole queue is there before it starts,
//! and with the last job it stops.

use std::sync::mpsc;

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::*;
use crate::store::writer::{Job, Write, Writer};

/// Jobs of one commit.
const GROUP: usize = 512;

fn write(changes: Vec<Change>) -> Job {
    Job::Write(Write { changes, reply: oneshot::channel().0, owed: true })
}

/// A commit of changes each of which says that something may have to be erased.
fn group() -> impl Iterator<Item = Job> {
    (0..GROUP).map(|_| write(vec![Change::DeleteTask("none".into())]))
}

fn serve(conn: Connection, jobs: impl IntoIterator<Item = Job>) {
    let (sender, queue) = mpsc::channel();
    let jobs: Vec<Job> = jobs.into_iter().collect();
    let waiting = Arc::new(AtomicUsize::new(jobs.len()));
    for job in jobs {
        sender.send(job).unwrap();
    }
    drop(sender);
    Writer::new(conn, waiting, Arc::default(), Arc::default(), None).serve(&queue);
}

/// A store in `dir` with these, and how the writer opens it.
async fn file(dir: &Path, before: Vec<Change>) -> Connection {
    let store = open(dir).unwrap();
    store.write(before).await.unwrap();
    drop(store);
    Connection::open(dir.join("hub.db")).unwrap()
}

fn number(conn: &Connection, sql: &str) -> i64 {
    conn.query_row(sql, [], |row| row.get(0)).unwrap()
}

/// A27, F90: under a queue that is never empty, with something to erase after each commit, users keep to what they may have on
/// disk, what is kept no longer goes, and the file shrinks: each has a step after a few commits.
#[tokio::test]
async fn what_is_to_be_tidied_goes_also_while_others_write_without_a_pause() {
    const EACH: usize = 300;
    let of = |owner: &str, n: usize, updated: i64| {
        let (id, result) = (format!("{owner}-{n}"), Some((200, "x".repeat(1 << 10))));
        let (owner, updated_at) = (owner.into(), Timestamp(updated));
        Change::PutTask(Box::new(DurableTask {
            owner,
            result,
            updated_at,
            ..task(&id, TaskStatus::Completed)
        }))
    };
    let users = ["alice", "bob", "carol"];
    let mut before: Vec<Change> = users.iter().flat_map(|user| (0..EACH).map(|n| of(user, n, 50))).collect();
    before.extend((0..EACH).map(|n| of("dave", n, 1)));
    before.extend((0..2_500).map(|n| Change::Audit(audit(&n.to_string()))));
    // Erased in two steps.
    before.push(Change::PutTask(Box::new(DurableTask {
        result: Some((200, "x".repeat(12 << 20))),
        ..task("large", TaskStatus::Completed)
    })));
    let dir = tempfile::tempdir().unwrap();
    let conn = file(dir.path(), before).await;

    let (reply, mut expired) = oneshot::channel();
    let kept = Kept { tasks_since: Timestamp(9), audit_since: Timestamp(9), audit_rows: u64::MAX };
    let over = |user: &&str| Change::MakeRoom { owner: (*user).into(), most: 100 << 10 };
    let first = [Job::Expire(kept, reply), write(users.iter().map(over).collect())];
    // Some forty steps: half a MiB each for the 14 MiB that get free, and a few for each of the others.
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
        assert!(number(&conn, rest) <= most, "{rest}: {}", number(&conn, rest));
    }
}
