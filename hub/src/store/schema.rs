//! The tables, as migrations in order: `user_version` counts those that a file has seen.

use rusqlite::Connection;

use super::StoreError;
use super::sqlite::failed;

/// Marks a file as a hub's (`PRAGMA application_id`): "vllm" in ASCII. Another program's database is left alone.
const APPLICATION_ID: i64 = 0x766c_6c6d;

/// What a task counted for, in bytes, before there were parts; of `$row`, `new.` or `old.` in a trigger.
macro_rules! size_of_row {
    ($row:literal) => {
        concat!(
            "(512 + ifnull(octet_length(",
            $row,
            "request), 0) + ifnull(octet_length(",
            $row,
            "result_body), 0)
            + ifnull(octet_length(",
            $row,
            "error), 0))"
        )
    };
}

/// The same, if the task has ended.
macro_rules! size_of_ended {
    ($row:literal) => {
        concat!("iif(", $row, "state IN ('completed', 'error', 'cancelled'), ", size_of_row!($row), ", 0)")
    };
}

/// What a task counts for, with what is in parts.
macro_rules! size_with_parts {
    ($row:literal) => {
        concat!(
            "(512 + ifnull(octet_length(",
            $row,
            "request), 0) + ifnull(octet_length(",
            $row,
            "result_body), 0)
            + ifnull(octet_length(",
            $row,
            "error), 0) + ifnull(",
            $row,
            "request_size, 0) + ifnull(",
            $row,
            "result_size, 0))"
        )
    };
}
pub(super) use size_with_parts;

/// The same, if the task has ended.
macro_rules! ended_with_parts {
    ($row:literal) => {
        concat!(
            "iif(",
            $row,
            "state IN ('completed', 'error', 'cancelled'), ",
            size_with_parts!($row),
            ", 0)"
        )
    };
}

/// Never change one that was released: add the next.
const MIGRATIONS: &[&str] = &["
    CREATE TABLE llms (
        id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, type TEXT NOT NULL, model TEXT NOT NULL, tier TEXT,
        description TEXT, kind TEXT NOT NULL, status TEXT NOT NULL, declared TEXT NOT NULL,
        last_heartbeat_at INTEGER, inactive_since INTEGER, pool_name TEXT, visibility TEXT NOT NULL,
        owner TEXT NOT NULL, session TEXT, registered INTEGER NOT NULL, created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL, upstream_url TEXT, upstream_key TEXT
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE agents (
        id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, llm_name TEXT NOT NULL, description TEXT,
        system_prompt TEXT, project TEXT, default_params TEXT, extras TEXT, kind TEXT NOT NULL,
        status TEXT NOT NULL, last_heartbeat_at INTEGER, inactive_since INTEGER, visibility TEXT NOT NULL,
        owner TEXT NOT NULL, session TEXT, registered INTEGER NOT NULL, created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE sessions (
        id TEXT PRIMARY KEY, owner TEXT NOT NULL, last_heartbeat_at INTEGER NOT NULL, created_at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE tokens (
        id TEXT PRIMARY KEY, hash BLOB NOT NULL UNIQUE, user TEXT NOT NULL, role TEXT NOT NULL,
        created_at INTEGER NOT NULL, expires_at INTEGER, revoked_at INTEGER
    ) STRICT, WITHOUT ROWID;

    -- seq keeps the order in which tasks came in, however close together.
    CREATE TABLE tasks (
        seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, role TEXT NOT NULL, target TEXT NOT NULL,
        state TEXT NOT NULL, request TEXT, streaming INTEGER NOT NULL, llm TEXT, session TEXT,
        result_status INTEGER, result_body TEXT, error TEXT, created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX tasks_by_end ON tasks (updated_at) WHERE state IN ('completed', 'error', 'cancelled');
    CREATE INDEX tasks_open ON tasks (seq) WHERE state NOT IN ('completed', 'error', 'cancelled');

    CREATE TABLE audit (
        seq INTEGER PRIMARY KEY, task TEXT NOT NULL, user TEXT NOT NULL, llm TEXT NOT NULL, model TEXT NOT NULL,
        publisher TEXT, streaming INTEGER NOT NULL, status INTEGER NOT NULL, created_at INTEGER NOT NULL,
        first_byte_ms INTEGER, total_ms INTEGER NOT NULL, input_tokens INTEGER, output_tokens INTEGER
    ) STRICT;
    CREATE INDEX audit_by_llm ON audit (llm, seq);
    CREATE INDEX audit_by_user ON audit (user, seq);
    CREATE INDEX audit_by_time ON audit (created_at);
", "
    -- The agent by which a member reads a row that it does not see.
    ALTER TABLE audit ADD COLUMN through TEXT;
", "
    ALTER TABLE llms ADD COLUMN timeout_seconds INTEGER;
    ALTER TABLE tasks ADD COLUMN code TEXT;
    ALTER TABLE audit ADD COLUMN id TEXT NOT NULL DEFAULT '';
    ALTER TABLE audit ADD COLUMN request_id TEXT;
    ALTER TABLE audit ADD COLUMN code TEXT;
", "
    -- Pages of ended tasks, newest first: of all, and of one owner without a walk over everybody's.
    CREATE INDEX tasks_ended ON tasks (created_at, id) WHERE state IN ('completed', 'error', 'cancelled');
    CREATE INDEX tasks_ended_of ON tasks (owner, created_at, id)
        WHERE state IN ('completed', 'error', 'cancelled');

    -- Bytes of each owner's requests and results, and 512 for the rest of a task.
    CREATE TABLE stored (owner TEXT PRIMARY KEY, bytes INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    INSERT INTO stored
        SELECT owner, sum(512 + ifnull(octet_length(request), 0) + ifnull(octet_length(result_body), 0))
        FROM tasks GROUP BY owner;
    CREATE TRIGGER tasks_stored AFTER INSERT ON tasks BEGIN
        INSERT INTO stored VALUES (new.owner,
            512 + ifnull(octet_length(new.request), 0) + ifnull(octet_length(new.result_body), 0))
            ON CONFLICT (owner) DO UPDATE SET bytes = bytes + excluded.bytes;
    END;
    CREATE TRIGGER tasks_stored_anew AFTER UPDATE OF request, result_body ON tasks BEGIN
        UPDATE stored SET bytes = bytes
            + ifnull(octet_length(new.request), 0) + ifnull(octet_length(new.result_body), 0)
            - ifnull(octet_length(old.request), 0) - ifnull(octet_length(old.result_body), 0)
            WHERE owner = new.owner;
    END;
    CREATE TRIGGER tasks_removed AFTER DELETE ON tasks BEGIN
        UPDATE stored SET bytes = bytes
            - 512 - ifnull(octet_length(old.request), 0) - ifnull(octet_length(old.result_body), 0)
            WHERE owner = old.owner;
        DELETE FROM stored WHERE owner = old.owner AND bytes <= 0;
    END;
", "
    -- Where the caller was.
    ALTER TABLE audit ADD COLUMN address TEXT;
", "
    -- Users are told apart without case: what was written in several ways is the user's of the oldest token.
    CREATE TEMP TABLE spelling AS
        SELECT user AS known, min(created_at) FROM tokens GROUP BY user COLLATE NOCASE;
    UPDATE llms SET owner = known FROM temp.spelling
        WHERE owner <> known AND owner = known COLLATE NOCASE;
    UPDATE agents SET owner = known FROM temp.spelling
        WHERE owner <> known AND owner = known COLLATE NOCASE;
    UPDATE sessions SET owner = known FROM temp.spelling
        WHERE owner <> known AND owner = known COLLATE NOCASE;
    UPDATE tasks SET owner = known FROM temp.spelling
        WHERE owner <> known AND owner = known COLLATE NOCASE;
    UPDATE audit SET user = known FROM temp.spelling
        WHERE user <> known AND user = known COLLATE NOCASE;
    UPDATE tokens SET user = known FROM temp.spelling
        WHERE user <> known AND user = known COLLATE NOCASE;
    DELETE FROM stored;
    INSERT INTO stored
        SELECT owner, sum(512 + ifnull(octet_length(request), 0) + ifnull(octet_length(result_body), 0))
        FROM tasks GROUP BY owner;
    DROP TABLE temp.spelling;
", concat!("
    -- What of each owner's bytes belongs to tasks that have ended, and may go. The text of an error counts, too.
    DROP TRIGGER tasks_stored;
    DROP TRIGGER tasks_stored_anew;
    DROP TRIGGER tasks_removed;
    DROP TABLE stored;
    CREATE TABLE stored (owner TEXT PRIMARY KEY, bytes INTEGER NOT NULL, ended INTEGER NOT NULL)
        STRICT, WITHOUT ROWID;
    INSERT INTO stored SELECT owner, sum(", size_of_row!(""), "), sum(", size_of_ended!(""), ") FROM tasks GROUP BY owner;
    CREATE TRIGGER tasks_stored AFTER INSERT ON tasks BEGIN
        INSERT INTO stored VALUES (new.owner, ", size_of_row!("new."), ", ", size_of_ended!("new."), ")
            ON CONFLICT (owner) DO UPDATE SET bytes = bytes + excluded.bytes, ended = ended + excluded.ended;
    END;
    CREATE TRIGGER tasks_stored_anew AFTER UPDATE OF state, request, result_body, error ON tasks BEGIN
        UPDATE stored SET bytes = bytes + ", size_of_row!("new."), " - ", size_of_row!("old."), ",
            ended = ended + ", size_of_ended!("new."), " - ", size_of_ended!("old."), " WHERE owner = new.owner;
    END;
    CREATE TRIGGER tasks_removed AFTER DELETE ON tasks BEGIN
        UPDATE stored SET bytes = bytes - ", size_of_row!("old."), ", ended = ended - ", size_of_ended!("old."), "
            WHERE owner = old.owner;
        DELETE FROM stored WHERE owner = old.owner AND bytes <= 0;
    END;
    -- Those of one owner that ended first.
    CREATE INDEX tasks_ended_first ON tasks (owner, updated_at) WHERE state IN ('completed', 'error', 'cancelled');
"), "
    -- The token that sent a task.
    ALTER TABLE tasks ADD COLUMN token TEXT;
", "
    ALTER TABLE llms ADD COLUMN allow_remote_urls INTEGER NOT NULL DEFAULT 0;
", "
    -- Whose a name is: the row's of that name, else that of the pool's oldest row, else the agent's.
    CREATE TABLE names (
        name TEXT PRIMARY KEY, owner TEXT NOT NULL, pool INTEGER NOT NULL, shared INTEGER NOT NULL, left_at INTEGER,
        admitted_pool TEXT, admitted_owner TEXT, pinned_llm TEXT, pinned_owner TEXT
    ) STRICT, WITHOUT ROWID;
    INSERT INTO names (name, owner, pool, shared) SELECT name, owner, 0, 0 FROM llms;
    INSERT OR IGNORE INTO names (name, owner, pool, shared)
        SELECT pool_name, owner, 1, 0 FROM llms WHERE pool_name IS NOT NULL ORDER BY created_at, id;
    INSERT OR IGNORE INTO names (name, owner, pool, shared) SELECT name, owner, 0, 0 FROM agents;
    -- An agent is pinned to who has the name of its LLM.
    UPDATE names SET (pinned_llm, pinned_owner) = (
        SELECT agents.llm_name, llm.owner FROM agents JOIN names AS llm ON llm.name = agents.llm_name
        WHERE agents.name = names.name AND agents.owner = names.owner
    );
", "
    -- The tasks that are out, beside them: to change a column of a task would write its whole request again.
    CREATE TABLE claims (task TEXT PRIMARY KEY, llm TEXT, session TEXT) STRICT, WITHOUT ROWID;
    CREATE TRIGGER tasks_ended_unclaimed AFTER UPDATE OF state ON tasks
        WHEN new.state IN ('completed', 'error', 'cancelled')
    BEGIN
        DELETE FROM claims WHERE task = new.id;
    END;
    CREATE TRIGGER tasks_removed_unclaimed AFTER DELETE ON tasks BEGIN
        DELETE FROM claims WHERE task = old.id;
    END;
", "
    -- The room that a row had when it was let into its pool.
    ALTER TABLE names ADD COLUMN admitted_room INTEGER;
", concat!("
    -- Large requests (what 0) and results (what 1) are in parts, so that they can be erased in small steps.
    ALTER TABLE tasks ADD COLUMN request_size INTEGER;
    ALTER TABLE tasks ADD COLUMN result_size INTEGER;
    CREATE TABLE parts (
        task TEXT NOT NULL, what INTEGER NOT NULL, n INTEGER NOT NULL, bytes BLOB NOT NULL, UNIQUE (task, what, n)
    ) STRICT;
    -- What nothing leads to any more, up to its erasure.
    CREATE TABLE erased (task TEXT, what INTEGER, PRIMARY KEY (task, what)) STRICT, WITHOUT ROWID;
    CREATE TRIGGER tasks_request_erased AFTER UPDATE OF request_size ON tasks
        WHEN old.request_size IS NOT NULL AND new.request_size IS NULL
    BEGIN
        INSERT OR IGNORE INTO erased VALUES (old.id, 0);
    END;
    CREATE TRIGGER tasks_result_erased AFTER UPDATE OF result_size ON tasks
        WHEN old.result_size IS NOT NULL AND new.result_size IS NULL
    BEGIN
        INSERT OR IGNORE INTO erased VALUES (old.id, 1);
    END;
    CREATE TRIGGER tasks_removed_request AFTER DELETE ON tasks WHEN old.request_size IS NOT NULL BEGIN
        INSERT OR IGNORE INTO erased VALUES (old.id, 0);
    END;
    CREATE TRIGGER tasks_removed_result AFTER DELETE ON tasks WHEN old.result_size IS NOT NULL BEGIN
        INSERT OR IGNORE INTO erased VALUES (old.id, 1);
    END;
    DROP TRIGGER tasks_stored;
    DROP TRIGGER tasks_stored_anew;
    DROP TRIGGER tasks_removed;
    CREATE TRIGGER tasks_stored AFTER INSERT ON tasks BEGIN
        INSERT INTO stored VALUES (new.owner, ", size_with_parts!("new."), ", ", ended_with_parts!("new."), ")
            ON CONFLICT (owner) DO UPDATE SET bytes = bytes + excluded.bytes, ended = ended + excluded.ended;
    END;
    CREATE TRIGGER tasks_stored_anew
        AFTER UPDATE OF state, request, result_body, error, request_size, result_size ON tasks
    BEGIN
        UPDATE stored SET bytes = bytes + ", size_with_parts!("new."), " - ", size_with_parts!("old."), ",
            ended = ended + ", ended_with_parts!("new."), " - ", ended_with_parts!("old."), " WHERE owner = new.owner;
    END;
    CREATE TRIGGER tasks_removed AFTER DELETE ON tasks BEGIN
        UPDATE stored SET bytes = bytes - ", size_with_parts!("old."), ",
            ended = ended - ", ended_with_parts!("old."), " WHERE owner = old.owner;
        DELETE FROM stored WHERE owner = old.owner AND bytes <= 0;
    END;
")];

/// Brings a file to the newest schema, or says why it cannot be used. Nothing is written to a file that is refused.
pub(super) fn migrate(conn: &mut Connection) -> Result<(), StoreError> {
    let known = MIGRATIONS.len();
    let found = pragma(conn, "user_version")?;
    let application = pragma(conn, "application_id")?;
    let tables: i64 =
        conn.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(failed)?;
    if application != APPLICATION_ID && (found != 0 || tables != 0) {
        return Err(StoreError::Damaged("the file is a database of another program".into()));
    }
    let seen = usize::try_from(found).map_err(|_| StoreError::Damaged("negative schema version".into()))?;
    if seen > known {
        let file = conn.path().unwrap_or_default().into();
        return Err(StoreError::Newer { file, found, known: i64::try_from(known).unwrap_or(i64::MAX) });
    }
    for (step, sql) in MIGRATIONS.iter().enumerate().skip(seen) {
        let tx = conn.transaction().map_err(failed)?;
        tx.execute_batch(sql).map_err(failed)?;
        tx.pragma_update(None, "application_id", APPLICATION_ID).map_err(failed)?;
        tx.pragma_update(None, "user_version", i64::try_from(step + 1).unwrap_or(i64::MAX))
            .map_err(failed)?;
        tx.commit().map_err(failed)?;
    }
    Ok(())
}

fn pragma(conn: &Connection, name: &str) -> Result<i64, StoreError> {
    conn.pragma_query_value(None, name, |row| row.get(0)).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::OwnedName;
    use crate::store::{rows, tasks};

    /// Files from this version on were told of every name as it came.
    const NAMES: usize = 10;

    /// F89: a file of each older version is brought up, and what was in it can be read.
    #[test]
    fn a_file_of_an_older_version_is_brought_up_with_what_is_in_it() {
        for seen in 1..MIGRATIONS.len() {
            let mut conn = Connection::open_in_memory().unwrap();
            for sql in &MIGRATIONS[..seen] {
                conn.execute_batch(sql).unwrap();
            }
            conn.pragma_update(None, "application_id", APPLICATION_ID).unwrap();
            conn.pragma_update(None, "user_version", i64::try_from(seen).unwrap()).unwrap();
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
                INSERT INTO audit (task, user, llm, model, streaming, status, created_at, total_ms)
                    VALUES ('t', 'alice', 'a', 'm', 0, 502, 1, 7);",
            )
            .unwrap();
            migrate(&mut conn).unwrap();
            let names = rows::all(&conn, "SELECT * FROM names ORDER BY name", [], rows::name).unwrap();
            let owners: Vec<_> = names.iter().map(|name| (name.name.as_str(), name.owner.as_str())).collect();
            // A pool is the one's who has its oldest row; of a row and an agent of one name the row is called by it.
            let expected =
                [("a", "alice"), ("helper", "dora"), ("pool", "carol"), ("x", "bob"), ("y", "carol")];
            let pins: Vec<_> =
                names.iter().filter_map(|name| Some((name.name.as_str(), name.pinned.clone()?))).collect();
            let pinned = OwnedName { name: "a".into(), owner: "alice".into() };
            assert!(seen >= NAMES || pins == [("helper", pinned)], "version {seen}: {pins:?}");
            assert!(seen >= NAMES || owners == expected, "version {seen}: {owners:?}");
            let llm = rows::all(&conn, "SELECT * FROM llms", [], rows::llm).unwrap().remove(0);
            assert_eq!((llm.name.as_str(), llm.timeout_seconds), ("a", None), "version {seen}");
            let task = rows::all(&conn, "SELECT * FROM tasks", [], tasks::task).unwrap().remove(0);
            assert_eq!((task.error.as_deref(), task.code, task.token), (Some("it broke"), None, None));
            let audit = rows::all(&conn, "SELECT * FROM audit", [], rows::audit).unwrap().remove(0);
            assert_eq!((audit.status, audit.code, audit.request_id), (502, None, None));
        }
    }

    #[test]
    fn a_user_whose_name_was_written_in_several_ways_is_one_from_then_on() {
        let mut conn = Connection::open_in_memory().unwrap();
        let before = MIGRATIONS.iter().position(|sql| sql.contains("spelling")).unwrap();
        for sql in &MIGRATIONS[..before] {
            conn.execute_batch(sql).unwrap();
        }
        conn.pragma_update(None, "application_id", APPLICATION_ID).unwrap();
        conn.pragma_update(None, "user_version", i64::try_from(before).unwrap()).unwrap();
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
        let texts = |sql: &str| -> Vec<String> { rows::all(&conn, sql, [], |row| row.get(0)).unwrap() };
        assert_eq!(texts("SELECT user FROM tokens ORDER BY id"), ["CAROL", "CAROL", "dave"]);
        assert_eq!(texts("SELECT owner FROM sessions ORDER BY id"), ["CAROL", "dave", "erin"]);
        assert_eq!(texts("SELECT owner FROM tasks"), ["CAROL", "CAROL"]);
        assert_eq!(texts("SELECT user FROM audit"), ["CAROL"]);
        assert_eq!(texts("SELECT owner || ' ' || bytes FROM stored"), ["CAROL 1031"]);
    }
}
