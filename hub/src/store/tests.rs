mod cleanup;
mod coalescer;
mod crash;
mod erasure;
mod files;
mod groups;
mod outage;
mod reads;
mod records;
mod schema;
mod stored;
mod usage;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use rusqlite::Connection;
use serde_json::value::RawValue;
use testkit::wait::wait_until;
use wire::row::{Kind, Status, Tier, Timestamp, Visibility};
use wire::{Abilities, Capabilities};

use super::*;
use crate::model::{
    AliasScope, CallLimits, Day, EndingHash, LimitOwner, LimitRecord, ModelPatterns, OwnedName,
    PoolAdmission, Role, TaskStatus, TokenCounts, Upstream,
};

fn open(dir: &Path) -> Result<SqliteStore, StoreError> {
    SqliteStore::open(HubDir::open(dir)?)
}

/// A directory in memory, where the machine has such: for tests of many commits that are not about the disk.
fn fast_dir() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn refusal(dir: &Path) -> StoreError {
    open(dir).err().unwrap()
}

pub(super) fn alias(scope: AliasScope, name: &str) -> Alias {
    let target = OwnedName { name: "a".into(), owner: "alice".into() };
    Alias { scope, name: name.into(), target, created_at: Timestamp(1), updated_at: Timestamp(2) }
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
        abilities: Abilities {
            context_length: Some(8192),
            max_output_tokens: None,
            capabilities: Capabilities { tools: Some(true), vision: Some(false), ..Capabilities::default() },
        },
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

/// Retention limits under which nothing expires.
const KEEP_ALL: RetentionLimits = RetentionLimits {
    tasks_since: Timestamp(0),
    audit_since: Timestamp(0),
    audit_rows: u64::MAX,
    usage_since: Day(0),
};

pub(super) fn task(id: &str, state: TaskStatus) -> DurableTask {
    DurableTask {
        id: id.into(),
        owner: "alice".into(),
        token: Some("tok-1".into()),
        target: "a".into(),
        target_owner: Some("alice".into()),
        state,
        request: (!state.is_terminal()).then(|| r#"{"messages":[]}"#.into()),
        streaming: true,
        llm: Some("a".into()),
        session: None,
        result: (state == TaskStatus::Completed).then(|| (200, r#"{"ok":1}"#.into())),
        error: None,
        code: None,
        tokens: (state == TaskStatus::Completed).then(|| TokenCounts {
            output: Some(7),
            is_counted: true,
            ..TokenCounts::default()
        }),
        created_at: Timestamp(1),
        updated_at: Timestamp(2),
    }
}

pub(super) fn token(id: &str) -> Token {
    Token {
        id: id.into(),
        hash: [id.len().try_into().unwrap(); 32],
        user: "alice".into(),
        role: Role::Admin,
        created_at: Timestamp(1),
        expires_at: Some(Timestamp(2)),
        revoked_at: None,
        old: Some(EndingHash { hash: [3; 32], until: Timestamp(3) }),
        link: Some(EndingHash { hash: [4; 32], until: Timestamp(4) }),
    }
}

pub(super) fn limits(owner: LimitOwner) -> LimitRecord {
    let models = ModelPatterns::of_text("qwen,llama-*");
    let limits = CallLimits {
        models,
        tokens_per_day: Some(1 << 40),
        requests_per_minute: None,
        max_concurrent: Some(3),
    };
    LimitRecord { owner, limits }
}

pub(super) fn audit(task: &str) -> AuditRecord {
    AuditRecord {
        address: Some([192, 0, 2, 7].into()),
        id: format!("inf-{task}"),
        request_id: Some("r".into()),
        code: Some("caller_left".into()),
        task: task.into(),
        user: "alice".into(),
        owner: Some("bob".into()),
        through: None,
        llm: "a".into(),
        model: "m".into(),
        publisher: None,
        streaming: false,
        status: 499,
        created_at: Timestamp(1),
        first_byte_ms: None,
        total_ms: 3,
        tokens: TokenCounts { input: Some(4), cached: Some(3), output: Some(u64::MAX), is_counted: true },
    }
}

pub(super) fn session(id: &str) -> SessionRecord {
    SessionRecord {
        id: id.into(),
        owner: "bob".into(),
        last_heartbeat_at: Timestamp(3),
        created_at: Timestamp(2),
        hub: None,
    }
}

pub(super) fn name(text: &str) -> NameRecord {
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

pub(super) fn put_llm(row: Llm) -> Change {
    Change::PutLlm(Box::new(row))
}

pub(super) fn put_task(task: DurableTask) -> Change {
    Change::PutTask(Box::new(task))
}

/// Blocks the writer thread until the returned sender is dropped.
fn hold(store: &SqliteStore) -> (std::sync::mpsc::Sender<()>, StoreFuture<()>) {
    let (release, held) = std::sync::mpsc::channel();
    let occupied = store.occupy(move || {
        let _ = held.recv();
    });
    (release, occupied)
}

fn files(dir: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect()
}

fn size(dir: &Path) -> u64 {
    files(dir).iter().map(|file| std::fs::metadata(file).map_or(0, |file| file.len())).sum()
}

fn files_contain(dir: &Path, text: &str) -> bool {
    files(dir)
        .iter()
        .any(|file| memchr::memmem::find(&std::fs::read(file).unwrap(), text.as_bytes()).is_some())
}

fn number(dir: &Path, sql: &str) -> i64 {
    let file = Connection::open(dir.join("hub.db")).unwrap();
    file.busy_timeout(Duration::from_secs(5)).unwrap();
    file.query_row(sql, [], |row| row.get(0)).unwrap()
}
