//! Records to and from table rows, except durable tasks.

use rusqlite::{Connection, Row, ToSql, params};
use serde_json::value::RawValue;
use wire::row::{Kind, Status, Tier, Visibility};

use super::columns::{maybe_count, maybe_json, maybe_parsed, maybe_time, millis, parsed, time, to_i64};
use super::{Change, tasks};
use crate::model::{
    Agent, AuditRecord, Llm, NameRecord, OwnedName, PoolAdmission, Role, SessionRecord, Token, Upstream,
};

pub(super) type Result<T> = rusqlite::Result<T>;

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
        // `Cleanup` does it.
        Change::EnforceTaskQuota { .. } => Ok(()),
    }
}

/// Reads every row that `sql` selects.
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

/// Inserts a row, or updates the one with the same key, which is the first of `columns`. Updating in place, unlike
/// `INSERT OR REPLACE`, fails when another row has the same name.
fn upsert(conn: &Connection, table: &str, columns: &[&str], values: &[&dyn ToSql]) -> Result<()> {
    let parameters: Vec<_> = (1..=columns.len()).map(|n| format!("?{n}")).collect();
    let updates: Vec<_> = columns
        .iter()
        .zip(&parameters)
        .skip(1)
        .map(|(column, value)| format!("{column} = {value}"))
        .collect();
    let sql = format!(
        "INSERT INTO {table} ({}) VALUES ({}) ON CONFLICT ({}) DO UPDATE SET {}",
        columns.join(", "),
        parameters.join(", "),
        columns[0],
        updates.join(", ")
    );
    conn.prepare_cached(&sql)?.execute(values).map(drop)
}

fn put_llm(conn: &Connection, llm: &Llm) -> Result<()> {
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
    upsert(
        conn,
        "llms",
        &[
            "id",
            "name",
            "type",
            "model",
            "tier",
            "description",
            "kind",
            "status",
            "declared",
            "last_heartbeat_at",
            "inactive_since",
            "pool_name",
            "visibility",
            "owner",
            "session",
            "registered",
            "created_at",
            "updated_at",
            "upstream_url",
            "upstream_key",
            "timeout_seconds",
            "allow_remote_urls",
        ],
        values,
    )
}

pub(super) fn llm(row: &Row<'_>) -> Result<Llm> {
    let url: Option<String> = row.get("upstream_url")?;
    let api_key = row.get("upstream_key")?;
    Ok(Llm {
        id: row.get("id")?,
        name: row.get("name")?,
        provider_type: row.get("type")?,
        model: row.get("model")?,
        tier: maybe_parsed(row, "tier", Tier::parse)?,
        description: row.get("description")?,
        kind: parsed(row, "kind", Kind::parse)?,
        status: parsed(row, "status", Status::parse)?,
        declared: parsed(row, "declared", Status::parse)?,
        last_heartbeat_at: maybe_time(row, "last_heartbeat_at")?,
        inactive_since: maybe_time(row, "inactive_since")?,
        pool_name: row.get("pool_name")?,
        visibility: parsed(row, "visibility", Visibility::parse)?,
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
    upsert(
        conn,
        "agents",
        &[
            "id",
            "name",
            "llm_name",
            "description",
            "system_prompt",
            "project",
            "default_params",
            "extras",
            "kind",
            "status",
            "last_heartbeat_at",
            "inactive_since",
            "visibility",
            "owner",
            "session",
            "registered",
            "created_at",
            "updated_at",
        ],
        values,
    )
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
        kind: parsed(row, "kind", Kind::parse)?,
        status: parsed(row, "status", Status::parse)?,
        last_heartbeat_at: maybe_time(row, "last_heartbeat_at")?,
        inactive_since: maybe_time(row, "inactive_since")?,
        visibility: parsed(row, "visibility", Visibility::parse)?,
        owner: row.get("owner")?,
        session: row.get("session")?,
        registered: row.get("registered")?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}

fn put_session(conn: &Connection, session: &SessionRecord) -> Result<()> {
    let values = params![session.id, session.owner, session.last_heartbeat_at.0, session.created_at.0];
    upsert(conn, "sessions", &["id", "owner", "last_heartbeat_at", "created_at"], values)
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
    upsert(
        conn,
        "names",
        &[
            "name",
            "owner",
            "pool",
            "shared",
            "left_at",
            "admitted_pool",
            "admitted_owner",
            "admitted_room",
            "pinned_llm",
            "pinned_owner",
        ],
        values,
    )
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
    let values = params![
        token.id,
        token.hash,
        token.user,
        token.role.as_str(),
        token.created_at.0,
        millis(token.expires_at),
        millis(token.revoked_at),
    ];
    upsert(conn, "tokens", &["id", "hash", "user", "role", "created_at", "expires_at", "revoked_at"], values)
}

pub(super) fn token(row: &Row<'_>) -> Result<Token> {
    Ok(Token {
        id: row.get("id")?,
        hash: row.get("hash")?,
        user: row.get("user")?,
        role: parsed(row, "role", Role::parse)?,
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
        record.first_byte_ms.map(to_i64),
        to_i64(record.total_ms),
        record.input_tokens.map(to_i64),
        record.output_tokens.map(to_i64),
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
