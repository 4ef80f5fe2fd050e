mod busy;
mod crash;
mod groups;
mod later;
mod outage;
mod stored;
mod tidy;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use serde_json::value::RawValue;
use wire::row::{Kind, Status, Tier, Timestamp, Visibility};

use super::*;
use crate::model::{OwnedName, PoolAdmission, Role, TaskStatus, Upstream};

fn open(dir: &Path) -> Result<SqliteStore, StoreError> {
    SqliteStore::open(HubDir::open(dir)?)
}

fn refusal(dir: &Path) -> StoreError {
    open(dir).err().unwrap()
}

pub(super) fn llm(id: &str, name: &str) -> Llm {
    Llm {
        id: id.into(),
        name: name.into(),
        provider_type: "openai".into(),
        model: "m/1".into(),
        tier: Some(Tier::Heavy),
        description: Some("it's \"quoted\"; DROP TABLE llms".into()),
        kind: Kind::Public,
        status: Status::Hibernating,
        declared: Status::Active,
        last_heartbeat_at: Some(Timestamp(5)),
        inactive_since: None,
        pool_name: Some("p%_".into()),
        visibility: Visibility::Public,
        owner: "alice".into(),
        session: Some("sess-1".into()),
        registered: true,
        created_at: Timestamp(1),
        updated_at: Timestamp(-2),
        upstream: Some(Upstream { url: "http://h/v1".into(), api_key: Some("k".into()) }),
        timeout_seconds: Some(120),
        allow_remote_urls: true,
    }
}

pub(super) fn agent(id: &str) -> Agent {
    let json = |text: &str| Some(RawValue::from_string(text.into()).unwrap());
    Agent {
        id: id.into(),
        name: format!("agent-{id}"),
        llm_name: "a".into(),
        description: None,
        system_prompt: Some("Be brief.".into()),
        project: None,
        default_params: json(r#"{"seed":18446744073709551615,"x":1.10}"#),
        extras: json("{}"),
        kind: Kind::Virtual,
        status: Status::Active,
        last_heartbeat_at: None,
        inactive_since: Some(Timestamp(9)),
        visibility: Visibility::Private,
        owner: "alice".into(),
        session: None,
        registered: false,
        created_at: Timestamp(1),
        updated_at: Timestamp(2),
    }
}

/// Nothing is too old, and nothing too much.
const KEEP_ALL: Kept = Kept { tasks_since: Timestamp(0), audit_since: Timestamp(0), audit_rows: u64::MAX };

pub(super) fn task(id: &str, state: TaskStatus) -> DurableTask {
    DurableTask {
        id: id.into(),
        owner: "alice".into(),
        token: Some("tok-1".into()),
        target: "a".into(),
        state,
        request: (!state.is_terminal()).then(|| r#"{"messages":[]}"#.into()),
        streaming: true,
        llm: Some("a".into()),
        session: None,
        result: (state == TaskStatus::Completed).then(|| (200, r#"{"ok":1}"#.into())),
        error: None,
        code: None,
        created_at: Timestamp(1),
        updated_at: Timestamp(2),
    }
}

fn token(id: &str) -> Token {
    Token {
        id: id.into(),
        hash: [id.len().try_into().unwrap(); 32],
        user: "alice".into(),
        role: Role::Admin,
        created_at: Timestamp(1),
        expires_at: Some(Timestamp(2)),
        revoked_at: None,
    }
}

fn audit(task: &str) -> AuditRecord {
    AuditRecord {
        address: Some([192, 0, 2, 7].into()),
        id: format!("inf-{task}"),
        request_id: Some("r".into()),
        code: Some("caller_left".into()),
        task: task.into(),
        user: "alice".into(),
        through: None,
        llm: "a".into(),
        model: "m".into(),
        publisher: None,
        streaming: false,
        status: 499,
        created_at: Timestamp(1),
        first_byte_ms: None,
        total_ms: 3,
        input_tokens: Some(4),
        output_tokens: Some(u64::MAX),
    }
}

fn session(id: &str) -> SessionRecord {
    SessionRecord {
        id: id.into(),
        owner: "bob".into(),
        last_heartbeat_at: Timestamp(3),
        created_at: Timestamp(2),
    }
}

fn name(text: &str) -> NameRecord {
    NameRecord {
        name: text.into(),
        owner: "alice".into(),
        pool: true,
        shared: false,
        left_at: Some(Timestamp(7)),
        admitted: Some(PoolAdmission { pool: "p".into(), pool_owner: "bob".into(), room: Some(3) }),
        pinned: Some(OwnedName { name: "l".into(), owner: "bob".into() }),
    }
}

#[tokio::test]
async fn every_record_survives_a_restart_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let changes = vec![
        Change::PutLlm(Box::new(llm("1", "a"))),
        Change::PutAgent(Box::new(agent("1"))),
        Change::PutSession(session("s")),
        Change::PutName(name("n")),
        Change::PutToken(token("t")),
        Change::PutTask(Box::new(task("late", TaskStatus::Pending))),
        Change::PutTask(Box::new(task("early", TaskStatus::Running))),
        Change::PutTask(Box::new(task("done", TaskStatus::Completed))),
        Change::Audit(audit("x")),
    ];
    store.write(changes).await.unwrap();
    // Written again, a task keeps its place in the queue.
    store.write(vec![Change::PutTask(Box::new(task("late", TaskStatus::Claimed)))]).await.unwrap();
    drop(store);

    let store = open(dir.path()).unwrap();
    let found = store.load().await.unwrap();
    assert_eq!(found.llms, [llm("1", "a")]);
    assert_eq!(format!("{:?}", found.agents), format!("{:?}", [agent("1")]));
    assert_eq!(found.sessions, [session("s")]);
    assert_eq!(found.names, [name("n")]);
    assert_eq!(found.tokens, [token("t")]);
    let tasks: Vec<_> = found.tasks.iter().map(|task| (task.id.as_str(), task.state)).collect();
    assert_eq!(tasks, [("late", TaskStatus::Claimed), ("early", TaskStatus::Running)]);
    let done = store.task("done").await.unwrap().unwrap();
    assert_eq!(format!("{done:?}"), format!("{:?}", task("done", TaskStatus::Completed)));
    assert!(store.task("none").await.unwrap().is_none());
    let ended = store.ended_tasks(Some("alice"), &ListCursor::end(), 9).await.unwrap();
    assert_eq!(ended.len(), 1);
    assert!(store.ended_tasks(Some("bob"), &ListCursor::end(), 9).await.unwrap().is_empty());
    let records = store.audit(AuditQuery::of(None, Some("a"), 9)).await.unwrap();
    let most = u64::try_from(i64::MAX).unwrap();
    assert_eq!(records, [AuditRecord { output_tokens: Some(most), ..audit("x") }]);
    assert!(store.audit(AuditQuery::of(None, Some("%"), 9)).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_write_nobody_waits_for_is_kept_and_a_dropped_store_has_written_all() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    for n in 0..200 {
        drop(store.write(vec![Change::PutLlm(Box::new(llm(&n.to_string(), &format!("n{n}"))))]));
    }
    drop(store.write(vec![Change::DeleteLlm("7".into())]));
    drop(store);
    assert_eq!(open(dir.path()).unwrap().load().await.unwrap().llms.len(), 199);
}

#[tokio::test]
async fn a_list_is_written_whole_or_not_at_all_and_its_neighbours_are_not_harmed() {
    let store = SqliteStore::in_memory().unwrap();
    let good = store.write(vec![Change::PutLlm(Box::new(llm("1", "a")))]);
    let twice = vec![Change::PutLlm(Box::new(llm("2", "b"))), Change::PutLlm(Box::new(llm("3", "a")))];
    let bad = store.write(twice);
    let after = store.write(vec![Change::PutLlm(Box::new(llm("4", "d")))]);
    assert!(good.await.is_ok());
    assert!(bad.await.is_err());
    assert!(after.await.is_ok());
    let mut names: Vec<_> = store.load().await.unwrap().llms.into_iter().map(|llm| llm.name).collect();
    names.sort();
    assert_eq!(names, ["a", "d"]);
}

#[tokio::test]
async fn a_second_hub_on_a_directory_is_refused_by_name_and_the_lock_goes_with_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path()).unwrap();
    let text = refusal(dir.path()).to_string();
    assert!(text.contains(&dir.path().display().to_string()), "{text}");
    drop(first);
    assert!(open(dir.path()).is_ok());
}

/// A43: the store's files are the owner's alone.
#[test]
fn only_the_owner_can_read_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("a/b");
    let store = open(&home).unwrap();
    assert_eq!(std::fs::metadata(&home).unwrap().permissions().mode() & 0o777, 0o700);
    for entry in std::fs::read_dir(&home).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.path());
    }
    drop(store);
    std::fs::set_permissions(home.join("hub.db"), std::fs::Permissions::from_mode(0o644)).unwrap();
    drop(open(&home).unwrap());
    assert_eq!(std::fs::metadata(home.join("hub.db")).unwrap().permissions().mode() & 0o777, 0o600);
}

/// F63: on a full disk writes fail as unavailable, reads go on, and room brings it back.
#[tokio::test]
async fn a_full_disk_is_unavailable_reads_go_on_and_room_brings_it_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    store.write(vec![Change::PutLlm(Box::new(llm("1", "a")))]).await.unwrap();
    store.pragma("max_page_count", 1).await.unwrap();
    let huge = DurableTask { request: Some("x".repeat(1 << 20)), ..task("big", TaskStatus::Pending) };
    let error = store.write(vec![Change::PutTask(Box::new(huge.clone()))]).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    let at_start = error.at_start(Path::new("/srv/hub")).to_string();
    assert!(at_start.contains("/srv/hub") && at_start.contains("free some space"), "{at_start}");
    assert_eq!(store.load().await.unwrap().llms.len(), 1);
    assert!(store.load().await.unwrap().tasks.is_empty());
    store.pragma("max_page_count", 1_000_000).await.unwrap();
    store.write(vec![Change::PutTask(Box::new(huge))]).await.unwrap();
    assert_eq!(store.load().await.unwrap().tasks.len(), 1);
}

/// F65: a newer schema is refused and left as it is.
#[tokio::test]
async fn a_newer_schema_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    store.pragma("user_version", 99).await.unwrap();
    drop(store);
    let before = std::fs::read(dir.path().join("hub.db")).unwrap();
    let error = refusal(dir.path());
    assert!(matches!(error, StoreError::Newer { found: 99, .. }), "{error}");
    assert!(error.to_string().contains("hub.db"), "{error}");
    assert_eq!(std::fs::read(dir.path().join("hub.db")).unwrap(), before);
}

/// F65: a damaged file or another program's database is refused, never reset.
#[tokio::test]
async fn a_damaged_file_or_anothers_database_is_refused_never_reset() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    for n in 0..100 {
        let llm = Llm { description: Some("d".repeat(2000)), ..llm(&n.to_string(), &format!("n{n}")) };
        store.write(vec![Change::PutLlm(Box::new(llm))]).await.unwrap();
    }
    drop(store);
    let file = dir.path().join("hub.db");
    let mut bytes = std::fs::read(&file).unwrap();
    for byte in &mut bytes[8192..20_000] {
        *byte = 0x5a;
    }
    for damaged in [bytes, b"this is no database, however long it may go on ".repeat(100)] {
        std::fs::write(&file, &damaged).unwrap();
        let error = refusal(dir.path());
        assert!(matches!(error, StoreError::Damaged(_)), "{error}");
        assert!(error.to_string().contains(&file.display().to_string()), "{error}");
        assert_eq!(std::fs::read(&file).unwrap(), damaged);
    }
    std::fs::remove_file(&file).unwrap();
    rusqlite::Connection::open(&file).unwrap().execute_batch("CREATE TABLE theirs (a)").unwrap();
    assert!(matches!(refusal(dir.path()), StoreError::Damaged(_)));
}

/// A pipe in the place of one of our files is no file of ours, and nobody waits for its other end.
#[test]
fn a_pipe_in_the_place_of_a_file_is_refused() {
    for name in ["hub.lock", "hub.db", "hub.db-wal", "hub.db-shm", "hub.db-journal"] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let told = refusal(dir.path()).to_string();
        assert_eq!(told, format!("cannot use {}: it is not a regular file", path.display()));
    }
}

#[tokio::test]
async fn what_is_erased_is_in_no_file_after_a_quiet_moment() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let secret = "canary-3f9a";
    let open = DurableTask { request: Some(secret.repeat(50)), ..task("t", TaskStatus::Pending) };
    store.write(vec![Change::PutTask(Box::new(open))]).await.unwrap();
    store.write(vec![Change::PutTask(Box::new(task("t", TaskStatus::Completed)))]).await.unwrap();
    let found = || {
        std::fs::read_dir(dir.path()).unwrap().any(|entry| {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            bytes.windows(secret.len()).any(|window| window == secret.as_bytes())
        })
    };
    assert!(found());
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
    while found() {
        assert!(tokio::time::Instant::now() < deadline, "still there");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn ended_tasks_and_audit_records_expire_and_open_ones_do_not() {
    let store = SqliteStore::in_memory().unwrap();
    let changes = vec![
        Change::PutTask(Box::new(task("open", TaskStatus::Pending))),
        Change::PutTask(Box::new(task("old", TaskStatus::Error))),
        Change::PutTask(Box::new(DurableTask {
            updated_at: Timestamp(50),
            ..task("new", TaskStatus::Completed)
        })),
        Change::Audit(audit("x")),
    ];
    store.write(changes).await.unwrap();
    store.expire(Kept { tasks_since: Timestamp(50), ..KEEP_ALL }).await.unwrap();
    assert_eq!(store.audit(AuditQuery::of(None, None, 9)).await.unwrap().len(), 1);
    store.expire(Kept { audit_since: Timestamp(2), ..KEEP_ALL }).await.unwrap();
    let left = store.ended_tasks(None, &ListCursor::end(), 9).await.unwrap();
    assert_eq!(left.iter().map(|task| task.id.as_str()).collect::<Vec<_>>(), ["new"]);
    assert_eq!(store.load().await.unwrap().tasks.len(), 1);
    assert!(store.audit(AuditQuery::of(None, None, 9)).await.unwrap().is_empty());
}

#[tokio::test]
async fn audit_records_are_found_by_user_and_by_llm() {
    let store = SqliteStore::in_memory().unwrap();
    let of = |user: &str, llm: &str| {
        Change::Audit(AuditRecord { user: user.into(), llm: llm.into(), ..audit(&format!("{user}-{llm}")) })
    };
    store.write(vec![of("alice", "a"), of("alice", "b"), of("bob", "a")]).await.unwrap();
    for (user, llm, expected) in [
        (None, None, vec!["bob-a", "alice-b", "alice-a"]),
        (Some("alice"), None, vec!["alice-b", "alice-a"]),
        (None, Some("a"), vec!["bob-a", "alice-a"]),
        (Some("bob"), Some("a"), vec!["bob-a"]),
        (Some("bob"), Some("b"), vec![]),
    ] {
        let found = store.audit(AuditQuery::of(user, llm, 9)).await.unwrap();
        assert_eq!(found.iter().map(|row| row.task.as_str()).collect::<Vec<_>>(), expected);
    }
}

/// However much is read, and however long that takes, what is to be written is written meanwhile.
#[tokio::test]
async fn a_commit_waits_for_no_reading() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let rows = (0..40_000).map(|n| Change::Audit(audit(&n.to_string())));
    let large = DurableTask { result: Some((200, "x".repeat(20_000))), ..task("t", TaskStatus::Completed) };
    let tasks =
        (0..200).map(|n| Change::PutTask(Box::new(DurableTask { id: n.to_string(), ..large.clone() })));
    store.write(rows.chain(tasks).collect()).await.unwrap();
    let ended = AtomicUsize::new(0);
    let search = || async {
        let wanted = AuditQuery { id: Some("none".into()), ..AuditQuery::of(None, None, 9) };
        assert!(store.audit(wanted).await.unwrap().is_empty());
        ended.fetch_add(1, Ordering::Relaxed);
    };
    let list = || async {
        assert_eq!(store.ended_tasks(None, &ListCursor::end(), 200).await.unwrap().len(), 200);
        ended.fetch_add(1, Ordering::Relaxed);
    };
    let write = async {
        store.write(vec![Change::PutSession(session("s"))]).await.unwrap();
        ended.load(Ordering::Relaxed)
    };
    let (_, _, before) = futures_util::join!(
        futures_util::future::join_all((0..24).map(|_| search())),
        futures_util::future::join_all((0..200).map(|_| list())),
        write
    );
    assert!(before < 100, "{before} readings ended before the commit");
}

/// What is asked for by somebody who has left by the time of its turn is not done.
#[tokio::test]
async fn nothing_is_read_for_whoever_has_left() {
    let store = SqliteStore::in_memory().unwrap();
    let read = Arc::new(AtomicUsize::new(0));
    let (go, wait) = std::sync::mpsc::channel();
    let busy = store.occupy(move || wait.recv().unwrap());
    for _ in 0..100 {
        let read = read.clone();
        drop(store.run(move |_| Ok(read.fetch_add(1, Ordering::Relaxed))));
    }
    go.send(()).unwrap();
    busy.await.unwrap();
    store.load().await.unwrap();
    assert_eq!(read.load(Ordering::Relaxed), 0);
}

/// F64: a file that another program holds is waited for on the store's thread.
#[tokio::test]
async fn a_file_that_another_program_holds_is_waited_for_without_holding_up_the_hub() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let other = rusqlite::Connection::open(dir.path().join("hub.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut write = store.write(vec![Change::PutLlm(Box::new(llm("1", "a")))]);
    assert!(futures_util::poll!(&mut write).is_pending());
    other.execute_batch("COMMIT").unwrap();
    write.await.unwrap();
    assert_eq!(store.load().await.unwrap().llms.len(), 1);
}

#[derive(Debug, Clone)]
enum Step {
    Put(u8, u8),
    Note(u8, u8),
    Delete(u8),
    Reopen,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_store_holds_what_a_map_would(steps in prop::collection::vec(
        prop_oneof![
            4 => (0..6u8, any::<u8>()).prop_map(|(id, n)| Step::Put(id, n)),
            4 => (0..6u8, any::<u8>()).prop_map(|(id, n)| Step::Note(id, n)),
            2 => (0..6u8).prop_map(Step::Delete),
            1 => Just(Step::Reopen),
        ], 0..30)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let mut store = Some(open(dir.path()).unwrap());
        let mut map = std::collections::BTreeMap::new();
        for step in steps {
            let here = store.as_ref().unwrap();
            match step {
                Step::Put(id, n) => {
                    let row = Llm { model: n.to_string(), ..llm(&id.to_string(), &format!("n{id}")) };
                    map.insert(row.id.clone(), row.clone());
                    drop(here.write(vec![Change::PutLlm(Box::new(row))]));
                }
                Step::Note(id, n) => {
                    let Some(row) = map.get_mut(&id.to_string()) else { continue };
                    row.model = n.to_string();
                    here.note(vec![Change::PutLlm(Box::new(row.clone()))]);
                }
                Step::Delete(id) => {
                    map.remove(&id.to_string());
                    drop(here.write(vec![Change::DeleteLlm(id.to_string())]));
                }
                Step::Reopen => {
                    drop(store.take());
                    store = Some(open(dir.path()).unwrap());
                }
            }
        }
        // What was noted is in the file at the latest when the store ends.
        drop(store);
        let found = runtime.block_on(open(dir.path()).unwrap().load()).unwrap().llms;
        prop_assert_eq!(found, map.into_values().collect::<Vec<_>>());
    }
}

/// A44: a link in the place of the database or of its lock is not followed, and what it points at stays as it is.
#[test]
fn a_link_in_the_place_of_a_file_of_ours_is_refused() {
    for name in ["hub.db", "hub.lock"] {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        std::fs::create_dir(&home).unwrap();
        let target = dir.path().join("target");
        std::fs::write(&target, "precious").unwrap();
        std::fs::set_permissions(&target, std::fs::Permissions::from_mode(0o644)).unwrap();
        std::os::unix::fs::symlink(&target, home.join(name)).unwrap();
        assert!(open(&home).is_err(), "{name}");
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "precious", "{name}");
        assert_eq!(std::fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o644, "{name}");
    }
}

/// A large request is written once: who takes the task, and that it comes back, is noted beside it, and survives a kill.
#[actix_rt::test]
async fn a_claim_is_noted_beside_the_task_and_goes_with_its_end() {
    const LARGE: usize = 4 << 20;
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let large = DurableTask { request: Some("x".repeat(LARGE)), llm: None, ..task("t", TaskStatus::Pending) };
    store.write(vec![Change::PutTask(Box::new(large))]).await.unwrap();
    let log = || std::fs::metadata(dir.path().join("hub.db-wal")).unwrap().len();
    let before = log();
    let claim = || Change::ClaimTask { id: "t".into(), llm: Some("a".into()), session: Some("s".into()) };
    for _ in 0..8 {
        store.write(vec![claim()]).await.unwrap();
        store.write(vec![Change::UnclaimTask("t".into())]).await.unwrap();
    }
    assert!(log() - before < LARGE as u64 / 4, "{} bytes more", log() - before);
    let open_task = async |store: &SqliteStore| store.load().await.unwrap().tasks.pop().unwrap();
    assert_eq!(open_task(&store).await.state, TaskStatus::Pending);

    store.write(vec![claim()]).await.unwrap();
    drop(store);
    let store = open(dir.path()).unwrap();
    let claimed = open_task(&store).await;
    assert_eq!((claimed.state, claimed.llm.as_deref()), (TaskStatus::Claimed, Some("a")));
    assert_eq!(claimed.session.as_deref(), Some("s"));

    // What ends is claimed by nobody, and what has ended cannot be.
    for ending in
        [Change::PutTask(Box::new(task("t", TaskStatus::Cancelled))), Change::DeleteTask("t".into())]
    {
        store.write(vec![claim(), ending, claim()]).await.unwrap();
        let claims =
            store.run(|conn| conn.query_row("SELECT count(*) FROM claims", [], |row| row.get::<_, i64>(0)));
        assert_eq!(claims.await.unwrap(), 0);
    }
}

/// A caller names its calls as it likes: of another's id, too, as long ago ours could be.
#[tokio::test]
async fn what_has_an_id_is_found_before_what_a_caller_named_so() {
    let store = SqliteStore::in_memory().unwrap();
    let own = AuditRecord { output_tokens: None, ..audit("x") };
    let named = |id: &str, n: usize| AuditRecord {
        task: format!("m{n}"),
        id: format!("inf-m{n}"),
        user: "mallory".into(),
        request_id: Some(id.into()),
        ..own.clone()
    };
    store.write(vec![Change::Audit(own.clone())]).await.unwrap();
    for id in ["x", "inf-x"] {
        store.write((0..30).map(|n| Change::Audit(named(id, n))).collect()).await.unwrap();
        let wanted = AuditQuery { id: Some(id.into()), ..AuditQuery::of(None, None, 20) };
        let found = store.audit(wanted).await.unwrap();
        assert_eq!((found.len(), &found[0]), (20, &own), "{id}");
        assert_eq!(found[1], named(id, 29), "the newest first");
    }
}
