//! The schema as an ordered list of migrations. `PRAGMA user_version` counts those that a file has.
//!
//! The list is in one place, in its order, and grows with releases: hence the length of this file.

use rusqlite::Connection;

use super::StoreError;

/// Marks the file as a hub's (`PRAGMA application_id`): "vllm" in ASCII. A database of another program is refused.
pub(super) const APPLICATION_ID: i64 = 0x766c_6c6d;

/// SQL: bytes that a task took before there were `parts`. `$row` is empty, or `new.` or `old.` in a trigger.
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

/// SQL: bytes that a task takes, with its parts.
macro_rules! size_with_parts {
    ($row:literal) => {
        concat!(
            "(",
            size_of_row!($row),
            " + ifnull(",
            $row,
            "request_size, 0) + ifnull(",
            $row,
            "result_size, 0))"
        )
    };
}
pub(super) use {size_of_row, size_with_parts};

/// SQL: `$size!` of an ended task, 0 of an open one.
macro_rules! if_ended {
    ($size:ident, $row:literal) => {
        concat!("iif(", $row, "state IN ('completed', 'error', 'cancelled'), ", $size!($row), ", 0)")
    };
}

/// Never change a released migration: add the next one.
pub(super) const MIGRATIONS: &[&str] = &["
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

    -- seq is the order of creation.
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
    -- The agent through which a member used a row that it cannot see.
    ALTER TABLE audit ADD COLUMN through TEXT;
", "
    ALTER TABLE llms ADD COLUMN timeout_seconds INTEGER;
    ALTER TABLE tasks ADD COLUMN code TEXT;
    ALTER TABLE audit ADD COLUMN id TEXT NOT NULL DEFAULT '';
    ALTER TABLE audit ADD COLUMN request_id TEXT;
    ALTER TABLE audit ADD COLUMN code TEXT;
", "
    -- Pages of ended tasks, newest first: of all, and of one owner.
    CREATE INDEX tasks_ended ON tasks (created_at, id) WHERE state IN ('completed', 'error', 'cancelled');
    CREATE INDEX tasks_ended_of ON tasks (owner, created_at, id)
        WHERE state IN ('completed', 'error', 'cancelled');

    -- Bytes of each owner's requests and results, plus 512 per task.
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
    -- The caller's IP address.
    ALTER TABLE audit ADD COLUMN address TEXT;
", "
    -- User names ignore case from here on: the spelling of the oldest token replaces the others.
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
    -- Adds the bytes of ended tasks, which may be deleted, and counts the texts of errors.
    DROP TRIGGER tasks_stored;
    DROP TRIGGER tasks_stored_anew;
    DROP TRIGGER tasks_removed;
    DROP TABLE stored;
    CREATE TABLE stored (owner TEXT PRIMARY KEY, bytes INTEGER NOT NULL, ended INTEGER NOT NULL)
        STRICT, WITHOUT ROWID;
    INSERT INTO stored SELECT owner, sum(", size_of_row!(""), "), sum(", if_ended!(size_of_row, ""), ") FROM tasks GROUP BY owner;
    CREATE TRIGGER tasks_stored AFTER INSERT ON tasks BEGIN
        INSERT INTO stored VALUES (new.owner, ", size_of_row!("new."), ", ", if_ended!(size_of_row, "new."), ")
            ON CONFLICT (owner) DO UPDATE SET bytes = bytes + excluded.bytes, ended = ended + excluded.ended;
    END;
    CREATE TRIGGER tasks_stored_anew AFTER UPDATE OF state, request, result_body, error ON tasks BEGIN
        UPDATE stored SET bytes = bytes + ", size_of_row!("new."), " - ", size_of_row!("old."), ",
            ended = ended + ", if_ended!(size_of_row, "new."), " - ", if_ended!(size_of_row, "old."), " WHERE owner = new.owner;
    END;
    CREATE TRIGGER tasks_removed AFTER DELETE ON tasks BEGIN
        UPDATE stored SET bytes = bytes - ", size_of_row!("old."), ", ended = ended - ", if_ended!(size_of_row, "old."), "
            WHERE owner = old.owner;
        DELETE FROM stored WHERE owner = old.owner AND bytes <= 0;
    END;
    -- Ended tasks of one owner, oldest ending first.
    CREATE INDEX tasks_ended_first ON tasks (owner, updated_at) WHERE state IN ('completed', 'error', 'cancelled');
"), "
    -- The id of the token that created the task.
    ALTER TABLE tasks ADD COLUMN token TEXT;
", "
    ALTER TABLE llms ADD COLUMN allow_remote_urls INTEGER NOT NULL DEFAULT 0;
", "
    -- The owner of each name: that of the row, else of the pool's oldest row, else of the agent.
    CREATE TABLE names (
        name TEXT PRIMARY KEY, owner TEXT NOT NULL, pool INTEGER NOT NULL, shared INTEGER NOT NULL, left_at INTEGER,
        admitted_pool TEXT, admitted_owner TEXT, pinned_llm TEXT, pinned_owner TEXT
    ) STRICT, WITHOUT ROWID;
    INSERT INTO names (name, owner, pool, shared) SELECT name, owner, 0, 0 FROM llms;
    INSERT OR IGNORE INTO names (name, owner, pool, shared)
        SELECT pool_name, owner, 1, 0 FROM llms WHERE pool_name IS NOT NULL ORDER BY created_at, id;
    INSERT OR IGNORE INTO names (name, owner, pool, shared) SELECT name, owner, 0, 0 FROM agents;
    -- An agent is pinned to the owner of its LLM's name.
    UPDATE names SET (pinned_llm, pinned_owner) = (
        SELECT agents.llm_name, llm.owner FROM agents JOIN names AS llm ON llm.name = agents.llm_name
        WHERE agents.name = names.name AND agents.owner = names.owner
    );
", "
    -- Running tasks. A column of tasks would not do: an update rewrites the whole request.
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
    -- The capacity of a row when it was admitted to its pool.
    ALTER TABLE names ADD COLUMN admitted_room INTEGER;
", concat!("
    -- Parts of large requests (what = 0) and results (what = 1), so that they can be deleted in small steps.
    ALTER TABLE tasks ADD COLUMN request_size INTEGER;
    ALTER TABLE tasks ADD COLUMN result_size INTEGER;
    CREATE TABLE parts (
        task TEXT NOT NULL, what INTEGER NOT NULL, n INTEGER NOT NULL, bytes BLOB NOT NULL, UNIQUE (task, what, n)
    ) STRICT;
    -- Texts whose parts are still to be deleted.
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
        INSERT INTO stored VALUES (new.owner, ", size_with_parts!("new."), ", ", if_ended!(size_with_parts, "new."), ")
            ON CONFLICT (owner) DO UPDATE SET bytes = bytes + excluded.bytes, ended = ended + excluded.ended;
    END;
    CREATE TRIGGER tasks_stored_anew
        AFTER UPDATE OF state, request, result_body, error, request_size, result_size ON tasks
    BEGIN
        UPDATE stored SET bytes = bytes + ", size_with_parts!("new."), " - ", size_with_parts!("old."), ",
            ended = ended + ", if_ended!(size_with_parts, "new."), " - ", if_ended!(size_with_parts, "old."), " WHERE owner = new.owner;
    END;
    CREATE TRIGGER tasks_removed AFTER DELETE ON tasks BEGIN
        UPDATE stored SET bytes = bytes - ", size_with_parts!("old."), ",
            ended = ended - ", if_ended!(size_with_parts, "old."), " WHERE owner = old.owner;
        DELETE FROM stored WHERE owner = old.owner AND bytes <= 0;
    END;
"), "
    -- The owner of the target's name when the task was accepted.
    ALTER TABLE tasks ADD COLUMN target_owner TEXT;
    UPDATE tasks SET target_owner = (SELECT names.owner FROM names WHERE names.name = tasks.target)
        WHERE state NOT IN ('completed', 'error', 'cancelled');
", "
    -- Aliases. The user is '' for those of all users.
    CREATE TABLE aliases (
        user TEXT NOT NULL, name TEXT NOT NULL, target TEXT NOT NULL, target_owner TEXT NOT NULL,
        created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL, PRIMARY KEY (user, name)
    ) STRICT, WITHOUT ROWID;
", "
    -- What a model can do; NULL is unknown.
    ALTER TABLE llms ADD COLUMN context_length INTEGER;
    ALTER TABLE llms ADD COLUMN max_output_tokens INTEGER;
    ALTER TABLE llms ADD COLUMN tools INTEGER;
    ALTER TABLE llms ADD COLUMN vision INTEGER;
    ALTER TABLE llms ADD COLUMN reasoning INTEGER;
    ALTER TABLE llms ADD COLUMN embeddings INTEGER;
", "
    -- The part of the input that the backend had cached, and whether the output is a count of pieces.
    ALTER TABLE audit ADD COLUMN cached_tokens INTEGER;
    ALTER TABLE audit ADD COLUMN counted INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE tasks ADD COLUMN input_tokens INTEGER;
    ALTER TABLE tasks ADD COLUMN cached_tokens INTEGER;
    ALTER TABLE tasks ADD COLUMN output_tokens INTEGER;
    ALTER TABLE tasks ADD COLUMN counted INTEGER;
", "
    -- Sums of a day; through and code are '' for none. batch is the number of the batch that was added last.
    CREATE TABLE usage_sums (
        day INTEGER NOT NULL, user TEXT NOT NULL, token TEXT NOT NULL, llm TEXT NOT NULL, through TEXT NOT NULL,
        code TEXT NOT NULL, calls INTEGER NOT NULL, input_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL,
        output_tokens INTEGER NOT NULL, counted_tokens INTEGER NOT NULL, millis INTEGER NOT NULL,
        batch INTEGER NOT NULL, PRIMARY KEY (day, user, token, llm, through, code)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX usage_sums_of ON usage_sums (user, day);
", "
    -- The secret before the last rotation, and the code of a sign-in link.
    ALTER TABLE tokens ADD COLUMN old_hash BLOB;
    ALTER TABLE tokens ADD COLUMN old_until INTEGER;
    ALTER TABLE tokens ADD COLUMN link_hash BLOB;
    ALTER TABLE tokens ADD COLUMN link_until INTEGER;
", "
    -- The hub of the session's channel in a cluster; NULL for a hub alone.
    ALTER TABLE sessions ADD COLUMN hub TEXT;
", "
    -- What admins allow a user or a token; NULL is no limit. Patterns of models are separated by commas.
    CREATE TABLE call_limits (
        kind TEXT NOT NULL, id TEXT NOT NULL, models TEXT, tokens_per_day INTEGER, requests_per_minute INTEGER,
        max_concurrent INTEGER, PRIMARY KEY (kind, id)
    ) STRICT, WITHOUT ROWID;
", "
    -- The owner of the LLM, who sees how others use it. NULL in rows of older versions; '' for sums of several owners.
    ALTER TABLE audit ADD COLUMN owner TEXT;
    CREATE INDEX audit_failed_of ON audit (owner, seq) WHERE code IS NOT NULL;
    ALTER TABLE usage_sums ADD COLUMN owner TEXT;
"];

/// Migrates a file to the newest schema. Nothing is written to a file that is refused.
pub(super) fn migrate(conn: &mut Connection) -> Result<(), StoreError> {
    let known = MIGRATIONS.len();
    let found = pragma(conn, "user_version")?;
    let application = pragma(conn, "application_id")?;
    let tables: i64 = conn.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if application != APPLICATION_ID && (found != 0 || tables != 0) {
        return Err(StoreError::Damaged("the file is a database of another program".into()));
    }
    let applied =
        usize::try_from(found).map_err(|_| StoreError::Damaged("negative schema version".into()))?;
    if applied > known {
        let file = conn.path().unwrap_or_default().into();
        return Err(StoreError::Newer { file, found, known: i64::try_from(known).unwrap_or(i64::MAX) });
    }
    for (step, sql) in MIGRATIONS.iter().enumerate().skip(applied) {
        let tx = conn.transaction()?;
        tx.execute_batch(sql)?;
        tx.pragma_update(None, "application_id", APPLICATION_ID)?;
        tx.pragma_update(None, "user_version", i64::try_from(step + 1).unwrap_or(i64::MAX))?;
        tx.commit()?;
    }
    Ok(())
}

fn pragma(conn: &Connection, name: &str) -> Result<i64, StoreError> {
    Ok(conn.pragma_query_value(None, name, |row| row.get(0))?)
}
