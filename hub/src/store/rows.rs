//! Records to and from table rows. Values travel as bound parameters only.

use rusqlite::types::Type;
use rusqlite::{Connection, Row, params};
use serde_json::value::RawValue;
use wire::row::{Kind, Status, Tier, Timestamp, Visibility};

use super::{Change, tasks};
use crate::model::{
    Agent, AuditRecord, Llm, NameRecord, OwnedName, PoolAdmission, Role, SessionRecord, Token, Upstream,
};

pub(super) type Result<T> = rusqlite::Result<T>;

/// Writes one change.
pub(super) fn apply(conn: &Connection, change: &Change) -> Result<()> {
    match change {
        Change::PutLlm(llm) => put_llm(conn, llm),
        Change::DeleteLlm(id) => delete(conn, "DELETE FROM llms WHERE id = ?1", id),
        Change::PutAgent(agent) => put_agent(conn, agent),
        Change::DeleteAgent(id) => delete(conn, "DELETE FROM agents WHERE id = ?1", id),
        Change::PutSession(session) => put_session(conn, session),
        Change::DeleteSession(id) => delete(conn, "DELETE FROM sessions WHERE id = ?1", id),
        Change::PutName(record) => put_name(conn, record),
        Change::DeleteName(name) => delete(conn, "DELETE FROM names WHERE name = ?1", name),
        Change::PutToken(token) => put_token(conn, token),
        Change::PutTask(task) | Change::NewTask { task, .. } => tasks::put_task(conn, task),
        Change::ClaimTask { id, llm, session } => tasks::claim(conn, id, llm.as_deref(), session.as_deref()),
        Change::UnclaimTask(id) => delete(conn, "DELETE FROM claims WHERE task = ?1", id),
        Change::DeleteTask(id) => delete(conn, "DELETE FROM tasks WHERE id = ?1", id),
        Change::Audit(record) => put_audit(conn, record),
        // Done beside the writes, in small steps.
        Change::MakeRoom { .. } => Ok(()),
    }
}

/// Every row that `sql` selects.
pub(super) fn all<T>(
    conn: &Connection,
    sql: &str,
    params: impl rusqlite::Params,
    read: fn(&Row<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    conn.prepare_cached(sql)?.query_map(params, read)?.collect()
}

fn delete(conn: &Connection, sql: &str, id: &str) -> Result<()> {
    conn.prepare_cached(sql)?.execute([id]).map(drop)
}

fn put_llm(conn: &Connection, llm: &Llm) -> Result<()> {
    let sql = "INSERT INTO llms (id, name, type, model, tier, description, kind, status, declared,
        last_heartbeat_at, inactive_since, pool_name, visibility, owner, session, registered, created_at, updated_at,
        upstream_url, upstream_key, timeout_seconds, allow_remote_urls)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22)
        ON CONFLICT (id) DO UPDATE SET name = ?2, type = ?3, model = ?4, tier = ?5, description = ?6, kind = ?7,
        status = ?8, declared = ?9, last_heartbeat_at = ?10, inactive_since = ?11, pool_name = ?12, visibility = ?13,
        owner = ?14, session = ?15, registered = ?16, created_at = ?17, updated_at = ?18, upstream_url = ?19,
        upstream_key = ?20, timeout_seconds = ?21, allow_remote_urls = ?22";
    let upstream = llm.upstream.as_ref();
    let values = params![
        llm.id,
        llm.name,
        llm.provider_type,
        llm.model,
        llm.tier.map(Tier::as_str),
        llm.description,
        llm.kind.as_str(),
        llm.status.as_str(),
        llm.declared.as_str(),
        millis(llm.last_heartbeat_at),
        millis(llm.inactive_since),
        llm.pool_name,
        llm.visibility.as_str(),
        llm.owner,
        llm.session,
        llm.registered,
        llm.created_at.0,
        llm.updated_at.0,
        upstream.map(|upstream| &upstream.url),
        upstream.and_then(|upstream| upstream.api_key.as_ref()),
        llm.timeout_seconds,
        llm.allow_remote_urls,
    ];
    conn.prepare_cached(sql)?.execute(values).map(drop)
}

pub(super) fn llm(row: &Row<'_>) -> Result<Llm> {
    let url: Option<String> = row.get("upstream_url")?;
    let api_key = row.get("upstream_key")?;
    Ok(Llm {
        id: row.get("id")?,
        name: row.get("name")?,
        provider_type: row.get("type")?,
        model: row.get("model")?,
        tier: maybe_word(row, "tier", Tier::parse)?,
        description: row.get("description")?,
        kind: word(row, "kind", Kind::parse)?,
        status: word(row, "status", Status::parse)?,
        declared: word(row, "declared", Status::parse)?,
        last_heartbeat_at: maybe_time(row, "last_heartbeat_at")?,
        inactive_since: maybe_time(row, "inactive_since")?,
        pool_name: row.get("pool_name")?,
        visibility: word(row, "visibility", Visibility::parse)?,
        owner: row.get("owner")?,
        session: row.get("session")?,
        registered: row.get("registered")?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
        upstream: url.map(|url| Upstream { url, api_key }),
        timeout_seconds: row.get("timeout_seconds")?,
        allow_remote_urls: row.get("allow_remote_urls")?,
    })
}

fn put_agent(conn: &Connection, agent: &Agent) -> Result<()> {
    let sql = "INSERT INTO agents (id, name, llm_name, description, system_prompt, project, default_params, extras,
        kind, status, last_heartbeat_at, inactive_since, visibility, owner, session, registered, created_at,
        updated_at)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)
        ON CONFLICT (id) DO UPDATE SET name = ?2, llm_name = ?3, description = ?4, system_prompt = ?5, project = ?6,
        default_params = ?7, extras = ?8, kind = ?9, status = ?10, last_heartbeat_at = ?11, inactive_since = ?12,
        visibility = ?13, owner = ?14, session = ?15, registered = ?16, created_at = ?17, updated_at = ?18";
    let values = params![
        agent.id,
        agent.name,
        agent.llm_name,
        agent.description,
        agent.system_prompt,
        agent.project,
        agent.default_params.as_deref().map(RawValue::get),
        agent.extras.as_deref().map(RawValue::get),
        agent.kind.as_str(),
        agent.status.as_str(),
        millis(agent.last_heartbeat_at),
        millis(agent.inactive_since),
        agent.visibility.as_str(),
        agent.owner,
        agent.session,
        agent.registered,
        agent.created_at.0,
        agent.updated_at.0,
    ];
    conn.prepare_cached(sql)?.execute(values).map(drop)
}

pub(super) fn agent(row: &Row<'_>) -> Result<Agent> {
    Ok(Agent {
        id: row.get("id")?,
        name: row.get("name")?,
        llm_name: row.get("llm_name")?,
        description: row.get("description")?,
        system_prompt: row.get("system_prompt")?,
        project: row.get("project")?,
        default_params: maybe_json(row, "default_params")?,
        extras: maybe_json(row, "extras")?,
        kind: word(row, "kind", Kind::parse)?,
        status: word(row, "status", Status::parse)?,
        last_heartbeat_at: maybe_time(row, "last_heartbeat_at")?,
        inactive_since: maybe_time(row, "inactive_since")?,
        visibility: word(row, "visibility", Visibility::parse)?,
        owner: row.get("owner")?,
        session: row.get("session")?,
        registered: row.get("registered")?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}

fn put_session(conn: &Connection, session: &SessionRecord) -> Result<()> {
    let sql = "INSERT INTO sessions (id, owner, last_heartbeat_at, created_at) VALUES (?1, ?2, ?3, ?4)
        ON CONFLICT (id) DO UPDATE SET owner = ?2, last_heartbeat_at = ?3, created_at = ?4";
    let values = params![session.id, session.owner, session.last_heartbeat_at.0, session.created_at.0];
    conn.prepare_cached(sql)?.execute(values).map(drop)
}

pub(super) fn session(row: &Row<'_>) -> Result<SessionRecord> {
    Ok(SessionRecord {
        id: row.get("id")?,
        owner: row.get("owner")?,
        last_heartbeat_at: time(row, "last_heartbeat_at")?,
        created_at: time(row, "created_at")?,
    })
}

fn put_name(conn: &Connection, record: &NameRecord) -> Result<()> {
    let sql =
        "INSERT INTO names (name, owner, pool, shared, left_at, admitted_pool, admitted_owner, admitted_room,
        pinned_llm, pinned_owner) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
        ON CONFLICT (name) DO UPDATE SET owner = ?2, pool = ?3, shared = ?4, left_at = ?5, admitted_pool = ?6,
        admitted_owner = ?7, admitted_room = ?8, pinned_llm = ?9, pinned_owner = ?10";
    let (admitted, pinned) = (record.admitted.as_ref(), record.pinned.as_ref());
    let values = params![
        record.name,
        record.owner,
        record.pool,
        record.shared,
        millis(record.left_at),
        admitted.map(|to| &to.pool),
        admitted.map(|to| &to.pool_owner),
        admitted.and_then(|to| to.room),
        pinned.map(|of| &of.name),
        pinned.map(|of| &of.owner),
    ];
    conn.prepare_cached(sql)?.execute(values).map(drop)
}

pub(super) fn name(row: &Row<'_>) -> Result<NameRecord> {
    let room = row.get("admitted_room")?;
    Ok(NameRecord {
        name: row.get("name")?,
        owner: row.get("owner")?,
        pool: row.get("pool")?,
        shared: row.get("shared")?,
        left_at: maybe_time(row, "left_at")?,
        admitted: name_of(row, "admitted_pool", "admitted_owner")?.map(|of| PoolAdmission {
            pool: of.name,
            pool_owner: of.owner,
            room,
        }),
        pinned: name_of(row, "pinned_llm", "pinned_owner")?,
    })
}

fn name_of(row: &Row<'_>, name: &str, owner: &str) -> Result<Option<OwnedName>> {
    let (name, owner): (Option<String>, Option<String>) = (row.get(name)?, row.get(owner)?);
    Ok(name.zip(owner).map(|(name, owner)| OwnedName { name, owner }))
}

fn put_token(conn: &Connection, token: &Token) -> Result<()> {
    let sql = "INSERT INTO tokens (id, hash, user, role, created_at, expires_at, revoked_at)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
        ON CONFLICT (id) DO UPDATE SET hash = ?2, user = ?3, role = ?4, created_at = ?5, expires_at = ?6,
        revoked_at = ?7";
    let values = params![
        token.id,
        token.hash,
        token.user,
        token.role.as_str(),
        token.created_at.0,
        millis(token.expires_at),
        millis(token.revoked_at),
    ];
    conn.prepare_cached(sql)?.execute(values).map(drop)
}

pub(super) fn token(row: &Row<'_>) -> Result<Token> {
    Ok(Token {
        id: row.get("id")?,
        hash: row.get("hash")?,
        user: row.get("user")?,
        role: word(row, "role", Role::parse)?,
        created_at: time(row, "created_at")?,
        expires_at: maybe_time(row, "expires_at")?,
        revoked_at: maybe_time(row, "revoked_at")?,
    })
}

fn put_audit(conn: &Connection, record: &AuditRecord) -> Result<()> {
    let sql =
        "INSERT INTO audit (task, user, llm, model, publisher, streaming, status, created_at, first_byte_ms,
        total_ms, input_tokens, output_tokens, through, id, request_id, code, address)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)";
    let values = params![
        record.task,
        record.user,
        record.llm,
        record.model,
        record.publisher,
        record.streaming,
        record.status,
        record.created_at.0,
        record.first_byte_ms.map(clamp),
        clamp(record.total_ms),
        record.input_tokens.map(clamp),
        record.output_tokens.map(clamp),
        record.through,
        record.id,
        record.request_id,
        record.code,
        record.address.map(|address| address.to_string()),
    ];
    conn.prepare_cached(sql)?.execute(values).map(drop)
}

pub(super) fn audit(row: &Row<'_>) -> Result<AuditRecord> {
    let address: Option<String> = row.get("address")?;
    Ok(AuditRecord {
        id: row.get("id")?,
        address: address.and_then(|address| address.parse().ok()),
        request_id: row.get("request_id")?,
        code: row.get("code")?,
        task: row.get("task")?,
        user: row.get("user")?,
        llm: row.get("llm")?,
        through: row.get("through")?,
        model: row.get("model")?,
        publisher: row.get("publisher")?,
        streaming: row.get("streaming")?,
        status: row.get("status")?,
        created_at: time(row, "created_at")?,
        first_byte_ms: maybe_count(row, "first_byte_ms")?,
        total_ms: maybe_count(row, "total_ms")?.unwrap_or(0),
        input_tokens: maybe_count(row, "input_tokens")?,
        output_tokens: maybe_count(row, "output_tokens")?,
    })
}

/// A count from a backend's `usage` may be anything: `SQLite`'s integers are signed.
fn clamp(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn maybe_count(row: &Row<'_>, column: &str) -> Result<Option<u64>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(|count| u64::try_from(count).unwrap_or(0)))
}

fn millis(time: Option<Timestamp>) -> Option<i64> {
    time.map(|time| time.0)
}

pub(super) fn time(row: &Row<'_>, column: &str) -> Result<Timestamp> {
    row.get(column).map(Timestamp)
}

fn maybe_time(row: &Row<'_>, column: &str) -> Result<Option<Timestamp>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(Timestamp))
}

pub(super) fn word<T>(row: &Row<'_>, column: &str, parse: fn(&str) -> Option<T>) -> Result<T> {
    let text: String = row.get(column)?;
    parse(&text).ok_or_else(|| unreadable(row, column))
}

fn maybe_word<T>(row: &Row<'_>, column: &str, parse: fn(&str) -> Option<T>) -> Result<Option<T>> {
    let text: Option<String> = row.get(column)?;
    text.map(|text| parse(&text).ok_or_else(|| unreadable(row, column))).transpose()
}

fn maybe_json(row: &Row<'_>, column: &str) -> Result<Option<Box<RawValue>>> {
    let text: Option<String> = row.get(column)?;
    text.map(|text| RawValue::from_string(text).map_err(|_| unreadable(row, column))).transpose()
}

fn unreadable(row: &Row<'_>, column: &str) -> rusqlite::Error {
    let index = row.as_ref().column_index(column).unwrap_or(0);
    rusqlite::Error::FromSqlConversionFailure(index, Type::Text, format!("unreadable column {column}").into())
}
