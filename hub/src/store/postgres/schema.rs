//! The schema as an ordered list of migrations. The table `cluster` counts those that a database has.
//!
//! All migrations are in one place: hence the length of this file.

use super::connection::{Failure, Session};
use super::lease::{Lease, Sharing};
use crate::cluster::Process;
use crate::store::StoreError;
use crate::store::columns::StoredRow;

/// Key of the advisory lock under which hubs migrate and take leases: "vllm" in ASCII.
const LOCK: i64 = 0x766c_6c6d;

/// Oldest server: `xid8` came with it.
const OLDEST_SERVER: i64 = 130_000;

/// Never change a released migration: add the next one. Columns are those of the `SQLite` schema, times milliseconds since
/// 1970.
pub(super) const MIGRATIONS: &[&str] = &["
    CREATE TABLE llms (
        id text PRIMARY KEY, name text NOT NULL UNIQUE, type text NOT NULL, model text NOT NULL, tier text,
        description text, kind text NOT NULL, status text NOT NULL, declared text NOT NULL, last_heartbeat_at bigint,
        inactive_since bigint, pool_name text, visibility text NOT NULL, owner text NOT NULL, session text,
        registered boolean NOT NULL, created_at bigint NOT NULL, updated_at bigint NOT NULL, upstream_url text,
        upstream_key text, timeout_seconds bigint, allow_remote_urls boolean NOT NULL, context_length bigint,
        max_output_tokens bigint, tools boolean, vision boolean, reasoning boolean, embeddings boolean
    ) WITH (fillfactor = 85);
    CREATE TABLE agents (
        id text PRIMARY KEY, name text NOT NULL UNIQUE, llm_name text NOT NULL, description text, system_prompt text,
        project text, default_params text, extras text, kind text NOT NULL, status text NOT NULL,
        last_heartbeat_at bigint, inactive_since bigint, visibility text NOT NULL, owner text NOT NULL, session text,
        registered boolean NOT NULL, created_at bigint NOT NULL, updated_at bigint NOT NULL
    ) WITH (fillfactor = 85);
    CREATE TABLE sessions (
        id text PRIMARY KEY, owner text NOT NULL, last_heartbeat_at bigint NOT NULL, created_at bigint NOT NULL
    ) WITH (fillfactor = 85);
    CREATE TABLE names (
        name text PRIMARY KEY, owner text NOT NULL, pool boolean NOT NULL, shared boolean NOT NULL, left_at bigint,
        admitted_pool text, admitted_owner text, admitted_room bigint, pinned_llm text, pinned_owner text
    );
    -- The user is '' for aliases of all users.
    CREATE TABLE aliases (
        \"user\" text NOT NULL, name text NOT NULL, target text NOT NULL, target_owner text NOT NULL,
        created_at bigint NOT NULL, updated_at bigint NOT NULL, PRIMARY KEY (\"user\", name)
    );
    CREATE TABLE tokens (
        id text PRIMARY KEY, hash bytea NOT NULL UNIQUE, \"user\" text NOT NULL, role text NOT NULL,
        created_at bigint NOT NULL, expires_at bigint, revoked_at bigint
    );

    -- seq is the order of creation. A claim is beside the row that ran the task before.
    CREATE TABLE tasks (
        seq bigserial PRIMARY KEY, id text COLLATE \"C\" NOT NULL UNIQUE, owner text NOT NULL, token text, target text NOT NULL,
        target_owner text, state text NOT NULL, request bytea, streaming boolean NOT NULL, llm text, session text,
        claimed boolean NOT NULL DEFAULT false, claim_llm text, claim_session text, result_status bigint,
        result_body bytea, error text, code text, input_tokens bigint, cached_tokens bigint, output_tokens bigint,
        counted boolean, created_at bigint NOT NULL, updated_at bigint NOT NULL,
        ended boolean NOT NULL GENERATED ALWAYS AS (state IN ('completed', 'error', 'cancelled')) STORED,
        bytes bigint NOT NULL GENERATED ALWAYS AS (512 + coalesce(octet_length(request), 0)
            + coalesce(octet_length(result_body), 0) + coalesce(octet_length(error), 0)) STORED
    );
    -- Uncompressed, so that a part of a long text is read without the rest.
    ALTER TABLE tasks ALTER COLUMN request SET STORAGE EXTERNAL, ALTER COLUMN result_body SET STORAGE EXTERNAL;
    CREATE INDEX tasks_open ON tasks (seq) WHERE NOT ended;
    CREATE INDEX tasks_listed ON tasks (created_at, id) WHERE ended;
    CREATE INDEX tasks_listed_of ON tasks (owner, created_at, id) WHERE ended;
    CREATE INDEX tasks_by_end ON tasks (updated_at) WHERE ended;
    CREATE INDEX tasks_by_end_of ON tasks (owner, updated_at, seq) WHERE ended;

    -- Bytes of each owner's tasks.
    CREATE TABLE stored (owner text PRIMARY KEY, bytes bigint NOT NULL, ended bigint NOT NULL) WITH (fillfactor = 70);
    CREATE FUNCTION virtual_llm_count_task() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP <> 'INSERT' THEN
            UPDATE stored SET bytes = bytes - old.bytes, ended = ended - CASE WHEN old.ended THEN old.bytes ELSE 0 END
                WHERE owner = old.owner;
        END IF;
        IF TG_OP <> 'DELETE' THEN
            INSERT INTO stored VALUES (new.owner, new.bytes, CASE WHEN new.ended THEN new.bytes ELSE 0 END)
                ON CONFLICT (owner) DO UPDATE
                SET bytes = stored.bytes + excluded.bytes, ended = stored.ended + excluded.ended;
        ELSE
            DELETE FROM stored WHERE owner = old.owner AND bytes <= 0;
        END IF;
        RETURN NULL;
    END $$;
    CREATE TRIGGER tasks_counted AFTER INSERT OR UPDATE OR DELETE ON tasks
        FOR EACH ROW EXECUTE FUNCTION virtual_llm_count_task();

    CREATE TABLE audit (
        seq bigserial PRIMARY KEY, id text NOT NULL, task text NOT NULL, request_id text, \"user\" text NOT NULL,
        llm text NOT NULL, through text, model text NOT NULL, publisher text, streaming boolean NOT NULL,
        status bigint NOT NULL, code text, address text, created_at bigint NOT NULL, first_byte_ms bigint,
        total_ms bigint NOT NULL, input_tokens bigint, cached_tokens bigint, output_tokens bigint, counted boolean NOT NULL
    );
    CREATE INDEX audit_of ON audit (\"user\", seq);
    CREATE INDEX audit_of_llm ON audit (llm, seq);
    CREATE INDEX audit_at ON audit (created_at);

    CREATE TABLE hubs (
        id text PRIMARY KEY, boot text NOT NULL, until timestamptz NOT NULL, version text NOT NULL,
        started_at timestamptz NOT NULL DEFAULT now()
    );
", "
    -- Sums of a day; through and code are '' for none. batch is the number of the batch that was added last.
    CREATE TABLE usage_sums (
        day bigint NOT NULL, \"user\" text COLLATE \"C\" NOT NULL, token text COLLATE \"C\" NOT NULL,
        llm text COLLATE \"C\" NOT NULL, through text COLLATE \"C\" NOT NULL, code text COLLATE \"C\" NOT NULL,
        calls bigint NOT NULL, input_tokens bigint NOT NULL, cached_tokens bigint NOT NULL,
        output_tokens bigint NOT NULL, counted_tokens bigint NOT NULL, millis bigint NOT NULL, batch bigint NOT NULL,
        PRIMARY KEY (day, \"user\", token, llm, through, code)
    ) WITH (fillfactor = 85);
    CREATE INDEX usage_sums_of ON usage_sums (\"user\", day);
", "
    -- Each process of a hub, also those that have ended. Of one hub, the newest has the greatest term.
    CREATE TABLE processes (
        hub text NOT NULL, boot text NOT NULL, term bigint NOT NULL, version text NOT NULL,
        started_at timestamptz NOT NULL DEFAULT now(), renewed_at timestamptz NOT NULL DEFAULT now(),
        until timestamptz NOT NULL, stopped boolean NOT NULL DEFAULT false, PRIMARY KEY (hub, boot), UNIQUE (hub, term)
    ) WITH (fillfactor = 50);
", "
    -- Large requests and results in parts of 1 MiB. A task names the parts of its texts, and their sizes.
    CREATE TABLE parts (id bigint NOT NULL, n int NOT NULL, bytes bytea NOT NULL, PRIMARY KEY (id, n));
    ALTER TABLE parts ALTER COLUMN bytes SET STORAGE EXTERNAL;
    ALTER TABLE tasks ADD COLUMN request_text bigint, ADD COLUMN request_size bigint,
        ADD COLUMN result_text bigint, ADD COLUMN result_size bigint;
    CREATE FUNCTION virtual_llm_bytes(tasks) RETURNS bigint LANGUAGE sql IMMUTABLE AS
        'SELECT ($1).bytes + coalesce(($1).request_size, 0) + coalesce(($1).result_size, 0)';
    CREATE OR REPLACE FUNCTION virtual_llm_count_task() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        had bigint;
        has bigint;
    BEGIN
        IF TG_OP <> 'INSERT' THEN
            had := old.bytes + coalesce(old.request_size, 0) + coalesce(old.result_size, 0);
            UPDATE stored SET bytes = bytes - had, ended = ended - CASE WHEN old.ended THEN had ELSE 0 END
                WHERE owner = old.owner;
        END IF;
        IF TG_OP <> 'DELETE' THEN
            has := new.bytes + coalesce(new.request_size, 0) + coalesce(new.result_size, 0);
            INSERT INTO stored VALUES (new.owner, has, CASE WHEN new.ended THEN has ELSE 0 END)
                ON CONFLICT (owner) DO UPDATE
                SET bytes = stored.bytes + excluded.bytes, ended = stored.ended + excluded.ended;
        ELSE
            DELETE FROM stored WHERE owner = old.owner AND bytes <= 0;
        END IF;
        RETURN NULL;
    END $$;
    CREATE FUNCTION virtual_llm_delete_parts() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'DELETE' THEN
            DELETE FROM parts WHERE id IN (old.request_text, old.result_text);
        ELSE
            DELETE FROM parts WHERE id IN (old.request_text, old.result_text)
                AND id IS DISTINCT FROM new.request_text AND id IS DISTINCT FROM new.result_text;
        END IF;
        RETURN NULL;
    END $$;
    CREATE TRIGGER tasks_parts_deleted AFTER UPDATE OR DELETE ON tasks
        FOR EACH ROW WHEN (old.request_text IS NOT NULL OR old.result_text IS NOT NULL)
        EXECUTE FUNCTION virtual_llm_delete_parts();
", "
    -- The secret before the last rotation, and the code of a sign-in link.
    ALTER TABLE tokens ADD COLUMN old_hash bytea, ADD COLUMN old_until bigint, ADD COLUMN link_hash bytea,
        ADD COLUMN link_until bigint;
", "
    -- Several hubs at once. What a session, a task or a part has of a hub is its id, which each connection tells as its name.
    ALTER TABLE hubs ADD COLUMN shared boolean NOT NULL DEFAULT false;
    CREATE FUNCTION virtual_llm_hub() RETURNS text LANGUAGE sql STABLE AS
        $$ SELECT substring(current_setting('application_name') FROM '^virtual-llm hub ([a-z0-9]+)$') $$;
    ALTER TABLE sessions ADD COLUMN hub text;
    ALTER TABLE tasks ADD COLUMN hub text;
    ALTER TABLE tasks ALTER COLUMN hub SET DEFAULT virtual_llm_hub();
    ALTER TABLE parts ADD COLUMN hub text;
    ALTER TABLE parts ALTER COLUMN hub SET DEFAULT virtual_llm_hub();

    -- The turn of the hub that may change the table of LLMs.
    CREATE TABLE turns (number bigint NOT NULL, boot text NOT NULL);
    INSERT INTO turns VALUES (0, '');

    -- Keys of changed records, for other hubs. What changes all the time is left out: hubs tell each other.
    CREATE TABLE changes (
        xid xid8 NOT NULL DEFAULT pg_current_xact_id(), kind text NOT NULL, key text NOT NULL,
        at timestamptz NOT NULL DEFAULT now()
    );
    CREATE INDEX changes_by_xid ON changes (xid);
    CREATE INDEX changes_by_age ON changes (at);
    CREATE FUNCTION virtual_llm_note_change() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        fleeting text[] := '{status,declared,last_heartbeat_at,inactive_since,updated_at}';
        record jsonb := CASE WHEN TG_OP = 'DELETE' THEN to_jsonb(old) ELSE to_jsonb(new) END;
    BEGIN
        IF TG_OP = 'UPDATE' AND to_jsonb(old) - fleeting = record - fleeting THEN
            RETURN NULL;
        END IF;
        INSERT INTO changes (kind, key) VALUES (TG_TABLE_NAME,
            CASE WHEN TG_NARGS = 1 THEN record ->> TG_ARGV[0] ELSE (record ->> TG_ARGV[0]) || ' ' || (record ->> TG_ARGV[1]) END);
        RETURN NULL;
    END $$;
    CREATE TRIGGER llms_noted AFTER INSERT OR UPDATE OR DELETE ON llms
        FOR EACH ROW EXECUTE FUNCTION virtual_llm_note_change('name');
    CREATE TRIGGER agents_noted AFTER INSERT OR UPDATE OR DELETE ON agents
        FOR EACH ROW EXECUTE FUNCTION virtual_llm_note_change('name');
    CREATE TRIGGER sessions_noted AFTER INSERT OR UPDATE OR DELETE ON sessions
        FOR EACH ROW EXECUTE FUNCTION virtual_llm_note_change('id');
    CREATE TRIGGER names_noted AFTER INSERT OR UPDATE OR DELETE ON names
        FOR EACH ROW EXECUTE FUNCTION virtual_llm_note_change('name');
    CREATE TRIGGER aliases_noted AFTER INSERT OR UPDATE OR DELETE ON aliases
        FOR EACH ROW EXECUTE FUNCTION virtual_llm_note_change('user', 'name');
    CREATE TRIGGER tokens_noted AFTER INSERT OR UPDATE OR DELETE ON tokens
        FOR EACH ROW EXECUTE FUNCTION virtual_llm_note_change('id');
", "
    -- What admins allow a user or a token; NULL is no limit. Patterns of models are separated by commas.
    CREATE TABLE call_limits (
        kind text NOT NULL, id text NOT NULL, models text, tokens_per_day bigint, requests_per_minute bigint,
        max_concurrent bigint, PRIMARY KEY (kind, id)
    );
", "
    -- Poolers change the name of a connection: each sets its hub. A hub of an older version has its name alone.
    CREATE OR REPLACE FUNCTION virtual_llm_hub() RETURNS text LANGUAGE sql STABLE AS $$
        SELECT coalesce(nullif(current_setting('virtual_llm.hub', true), ''),
            substring(current_setting('application_name') FROM '^virtual-llm hub ([a-z0-9]+)$')) $$;
", "
    -- What a process said of itself with the last renewal of its lease, as JSON.
    ALTER TABLE processes ADD COLUMN report text;
", "
    -- Each hub has sums of its own.
    ALTER TABLE usage_sums ADD COLUMN hub text COLLATE \"C\" NOT NULL DEFAULT '';
    ALTER TABLE usage_sums ALTER COLUMN hub SET DEFAULT coalesce(virtual_llm_hub(), '');
    ALTER TABLE usage_sums DROP CONSTRAINT usage_sums_pkey,
        ADD PRIMARY KEY (day, \"user\", token, llm, through, code, hub);
    CREATE TRIGGER call_limits_noted AFTER INSERT OR UPDATE OR DELETE ON call_limits
        FOR EACH ROW EXECUTE FUNCTION virtual_llm_note_change('kind', 'id');
", "
    -- The owner of the LLM, who sees how others use it. NULL in rows of older versions; '' for sums of several owners.
    ALTER TABLE audit ADD COLUMN owner text;
    CREATE INDEX audit_failed_of ON audit (owner, seq) WHERE code IS NOT NULL;
    ALTER TABLE usage_sums ADD COLUMN owner text;
"];

/// Oldest version of the program's schema that can work with a database of this one.
const COMPATIBLE: i64 = 10;

/// Opens the database of `cluster` for `process`: takes the lease and brings the database to the newest schema, or makes it.
/// Nothing is written to a database that is refused or that another hub uses.
pub(super) async fn open(
    session: &Session,
    cluster: &str,
    process: Process,
    sharing: Sharing,
) -> Result<Lease, StoreError> {
    session
        .batch(&format!("BEGIN; SELECT pg_advisory_xact_lock({LOCK})"))
        .await
        .map_err(Failure::into_error)?;
    let opened = open_locked(session, cluster, process, sharing).await;
    let end = if opened.is_ok() { "COMMIT" } else { "ROLLBACK" };
    let ended = session.batch(end).await.map_err(Failure::into_error);
    opened.and_then(|lease| ended.map(|()| lease))
}

async fn open_locked(
    session: &Session,
    cluster: &str,
    process: Process,
    sharing: Sharing,
) -> Result<Lease, StoreError> {
    let query = async |sql: &str, values: &[_]| session.query(sql, values).await.map_err(Failure::into_error);
    let server = query("SELECT current_setting('server_version_num')::bigint AS version", &[]).await?;
    let server: i64 = server.first().map_or(Ok(0), |row| row.field("version"))?;
    if server < OLDEST_SERVER {
        let text = format!("its server is PostgreSQL {}; 13 or newer is needed", server / 10_000);
        return Err(StoreError::Database(text));
    }
    let found = query(
        "SELECT to_regclass('cluster') IS NOT NULL AS found, to_regclass('llms') IS NOT NULL AS foreign",
        &[],
    );
    let found = found.await?;
    let is = |column| found.first().map_or(Ok(false), |row| row.field::<bool>(column));
    let run = async |sql: &str| session.batch(sql).await.map_err(Failure::into_error);
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    let mut applied = 0;
    if is("found")? {
        let rows = query("SELECT name, schema::bigint, compat::bigint FROM cluster", &[]).await?;
        let Some(row) = rows.first() else {
            return Err(StoreError::Database("its table `cluster` is not a hub's".into()));
        };
        let (name, schema, compat): (String, i64, i64) =
            (row.field("name")?, row.field("schema")?, row.field("compat")?);
        if name != cluster {
            return Err(StoreError::Database(format!(
                "it holds the cluster '{name}'; give --cluster {name}, or another database"
            )));
        }
        if compat > known {
            return Err(StoreError::Database(format!(
                "a newer version has changed it: schema {schema} needs a program that knows {compat}, this one knows {known}"
            )));
        }
        applied = schema;
    } else if is("foreign")? {
        return Err(StoreError::Database(
            "it holds tables of another program: give an empty database".into(),
        ));
    } else {
        run("CREATE TABLE cluster (
            name text NOT NULL, id uuid NOT NULL DEFAULT gen_random_uuid(), schema int NOT NULL, compat int NOT NULL)")
        .await?;
        let sql = "INSERT INTO cluster (name, schema, compat) VALUES ($1, 0, 1)";
        session.execute(sql, &[cluster.into()]).await.map_err(Failure::into_error)?;
    }
    let migrate = async || {
        if applied >= known {
            return Ok(());
        }
        for sql in MIGRATIONS.iter().skip(usize::try_from(applied).unwrap_or(0)) {
            session.migrate(sql).await.map_err(Failure::into_error)?;
        }
        run(&format!("UPDATE cluster SET schema = {known}, compat = {COMPATIBLE}")).await
    };
    Lease::take(session, process, sharing, migrate).await
}
