//! Migrations from every older version.

use rusqlite::Connection;
use testkit::wait::wait_until;

use super::{files_contain, open};
use crate::model::{OwnedName, TokenCounts};
use crate::store::columns::all;
use crate::store::schema::{APPLICATION_ID, MIGRATIONS, migrate};
use crate::store::{Change, Store};
use crate::store::{rows, search, tasks};

/// Version since which registrations fill `names`. In an older file, the migration fills it.
const NAMES: usize = 10;

fn at_version(version: usize) -> Connection {
    let conn = Connection::open_in_memory().unwrap();
    for sql in &MIGRATIONS[..version] {
        conn.execute_batch(sql).unwrap();
    }
    conn.pragma_update(None, "application_id", APPLICATION_ID).unwrap();
    conn.pragma_update(None, "user_version", i64::try_from(version).unwrap()).unwrap();
    conn
}

/// F89: a file of every older version is migrated with all its records.
#[test]
fn a_file_of_an_older_version_is_migrated_with_its_records() {
    for seen in 1..MIGRATIONS.len() {
        let mut conn = at_version(seen);
        conn.execute_batch(
            "INSERT INTO llms (id, name, type, model, kind, status, declared, visibility, owner, registered,
                created_at, updated_at)
                VALUES ('l', 'a', 'openai', 'm', 'virtual', 'active', 'active', 'public', 'alice', 1, 1, 2);
            INSERT INTO llms (id, name, type, model, kind, status, declared, visibility, owner, registered,
                created_at, updated_at, pool_name)
                VALUES ('x', 'x', 'openai', 'm', 'virtual', 'active', 'active', 'public', 'bob', 1, 9, 9, 'pool'),
                    ('y', 'y', 'openai', 'm', 'virtual', 'active', 'active', 'public', 'carol', 1, 5, 9, 'pool');
            INSERT INTO agents (id, name, llm_name, kind, status, visibility, owner, registered, created_at,
                updated_at)
                VALUES ('g', 'helper', 'a', 'public', 'active', 'public', 'dora', 1, 1, 2),
                    ('h', 'x', 'a', 'public', 'active', 'public', 'dora', 1, 1, 2);
            INSERT INTO tasks (id, owner, role, target, state, streaming, error, created_at, updated_at)
                VALUES ('t', 'alice', 'member', 'a', 'error', 0, 'it broke', 1, 2);
            INSERT INTO tasks (id, owner, role, target, state, streaming, request, created_at, updated_at)
                VALUES ('w', 'bob', 'member', 'a', 'pending', 0, '{}', 1, 2);
            INSERT INTO audit (task, user, llm, model, streaming, status, created_at, total_ms, input_tokens,
                output_tokens)
                VALUES ('t', 'alice', 'a', 'm', 0, 502, 1, 7, 4, 5);",
        )
        .unwrap();
        migrate(&mut conn).unwrap();
        let names = all(&conn, "SELECT * FROM names ORDER BY name", [], |row| rows::name(row)).unwrap();
        let owners: Vec<_> = names.iter().map(|name| (name.name.as_str(), name.owner.as_str())).collect();
        // A pool belongs to the owner of its oldest row. If a row and an agent have one name, it belongs to the row's owner.
        let expected = [("a", "alice"), ("helper", "dora"), ("pool", "carol"), ("x", "bob"), ("y", "carol")];
        let pins: Vec<_> =
            names.iter().filter_map(|name| Some((name.name.as_str(), name.pinned.clone()?))).collect();
        let pinned = OwnedName { name: "a".into(), owner: "alice".into() };
        assert!(seen >= NAMES || pins == [("helper", pinned)], "version {seen}: {pins:?}");
        assert!(seen >= NAMES || owners == expected, "version {seen}: {owners:?}");
        let llm = all(&conn, "SELECT * FROM llms", [], |row| rows::llm(row)).unwrap().remove(0);
        assert_eq!((llm.name.as_str(), llm.timeout_seconds), ("a", None), "version {seen}");
        let [task, waiting] = all(&conn, "SELECT * FROM tasks ORDER BY seq", [], |row| tasks::task(row))
            .unwrap()
            .try_into()
            .unwrap();
        assert_eq!((task.error.as_deref(), task.code, task.token), (Some("it broke"), None, None));
        let owner = waiting.target_owner.as_deref();
        assert!(seen >= NAMES || owner == Some("alice"), "version {seen}: {owner:?}");
        let audit = all(&conn, "SELECT * FROM audit", [], |row| search::record(row)).unwrap().remove(0);
        assert_eq!((audit.status, audit.code, audit.request_id), (502, None, None));
        assert_eq!(audit.tokens, TokenCounts { input: Some(4), output: Some(5), ..TokenCounts::default() });
    }
}

#[test]
fn a_migration_gives_a_user_the_spelling_of_its_oldest_token() {
    let before = MIGRATIONS.iter().position(|sql| sql.contains("spelling")).unwrap();
    let mut conn = at_version(before);
    conn.execute_batch(
        "INSERT INTO tokens VALUES ('b', x'02', 'CAROL', 'member', 7, NULL, NULL),
            ('a', x'01', 'carol', 'member', 9, NULL, NULL), ('c', x'03', 'dave', 'member', 8, NULL, NULL);
         INSERT INTO sessions VALUES ('s1', 'carol', 1, 1), ('s2', 'Dave', 1, 1), ('s3', 'erin', 1, 1);
         INSERT INTO tasks (id, owner, role, target, state, streaming, result_body, created_at, updated_at)
            VALUES ('t1', 'carol', 'member', 'a', 'completed', 0, '12345', 1, 2),
                ('t2', 'CAROL', 'member', 'a', 'completed', 0, '12', 1, 2);
         INSERT INTO audit (task, user, llm, model, streaming, status, created_at, total_ms)
            VALUES ('t1', 'carol', 'a', 'm', 0, 200, 1, 7);",
    )
    .unwrap();
    migrate(&mut conn).unwrap();
    let texts = |sql: &str| -> Vec<String> { all(&conn, sql, [], |row| row.get(0)).unwrap() };
    assert_eq!(texts("SELECT user FROM tokens ORDER BY id"), ["CAROL", "CAROL", "dave"]);
    assert_eq!(texts("SELECT owner FROM sessions ORDER BY id"), ["CAROL", "dave", "erin"]);
    assert_eq!(texts("SELECT owner FROM tasks"), ["CAROL", "CAROL"]);
    assert_eq!(texts("SELECT user FROM audit"), ["CAROL"]);
    assert_eq!(texts("SELECT owner || ' ' || bytes FROM stored"), ["CAROL 1031"]);
}

/// A36: a request that a migration rewrote is removed from the file when its task is deleted.
#[tokio::test]
async fn a_migrated_request_is_gone_from_the_file_with_its_task() {
    for version in (0..MIGRATIONS.len()).filter(|version| MIGRATIONS[*version].contains("UPDATE tasks")) {
        let dir = tempfile::tempdir().unwrap();
        let older = at_version(version);
        older
            .execute(
                "INSERT INTO tasks (id, owner, role, target, state, request, streaming, created_at, updated_at)
                    VALUES ('t', 'alice', 'member', 'a', 'pending', ?1, 0, 1, 2)",
                ["canary-of-a-prompt".repeat(9000)],
            )
            .unwrap();
        // A file without incremental vacuum is rebuilt when it is opened.
        older.pragma_update(None, "auto_vacuum", "INCREMENTAL").unwrap();
        older.execute("VACUUM INTO ?1", [dir.path().join("hub.db").to_str().unwrap()]).unwrap();
        let store = open(dir.path()).unwrap();
        assert!(files_contain(dir.path(), "canary-of-a-prompt"), "version {version}");
        store.write(vec![Change::DeleteTask("t".into())]).await.unwrap();
        wait_until("it is gone", || !files_contain(dir.path(), "canary-of-a-prompt")).await;
    }
}
