//! Records to and from table rows, except durable tasks and audit records.

use rusqlite::{Connection, Result, Row};
use serde_json::value::RawValue;
use wire::abilities::{Abilities, Capabilities};
use wire::row::{Kind, Status, Tier, Visibility};

use super::columns::{Column, insert, maybe_json, maybe_parsed, maybe_time, millis, parsed, time};
use super::{Change, search, tasks};
use crate::model::{
    Agent, Alias, AliasScope, Llm, NameRecord, OwnedName, PoolAdmission, Role, SessionRecord, Token, Upstream,
};

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
        Change::PutAlias(alias) => put_alias(conn, alias),
        Change::DeleteAlias { scope, name } => {
            let sql = "DELETE FROM aliases WHERE user = ?1 AND name = ?2";
            conn.prepare_cached(sql)?.execute([scope_text(scope), name]).map(drop)
        }
        Change::PutToken(token) => put_token(conn, token),
        Change::PutTask(task) | Change::NewTask { task, .. } => tasks::put_task(conn, task),
        Change::ClaimTask { id, llm, session } => tasks::claim(conn, id, llm.as_deref(), session.as_deref()),
        Change::UnclaimTask(id) => delete(conn, "DELETE FROM claims WHERE task = ?1", id),
        Change::DeleteTask(id) => delete(conn, "DELETE FROM tasks WHERE id = ?1", id),
        Change::Audit(record) => search::put_audit(conn, record),
        // `Cleanup` does it.
        Change::EnforceTaskQuota { .. } => Ok(()),
    }
}

fn delete(conn: &Connection, sql: &str, id: &str) -> Result<()> {
    conn.prepare_cached(sql)?.execute([id]).map(drop)
}

/// Inserts a row, or updates the one with the same key, which is the first of `columns`. Updating in place, unlike
/// `INSERT OR REPLACE`, fails when another row has the same name.
fn upsert(conn: &Connection, table: &str, columns: &[Column<'_>]) -> Result<()> {
    let updates: Vec<_> =
        columns.iter().zip(1..).skip(1).map(|((name, _), n)| format!("{name} = ?{n}")).collect();
    let conflict = format!("ON CONFLICT ({}) DO UPDATE SET {}", columns[0].0, updates.join(", "));
    insert(conn, table, columns, &conflict)
}

fn put_llm(conn: &Connection, llm: &Llm) -> Result<()> {
    let upstream = llm.upstream.as_ref();
    let columns: &[Column<'_>] = &[
        ("id", &llm.id),
        ("name", &llm.name),
        ("type", &llm.provider_type),
        ("model", &llm.model),
        ("tier", &llm.tier.map(Tier::as_str)),
        ("description", &llm.description),
        ("kind", &llm.kind.as_str()),
        ("status", &llm.status.as_str()),
        ("declared", &llm.declared.as_str()),
        ("last_heartbeat_at", &millis(llm.last_heartbeat_at)),
        ("inactive_since", &millis(llm.inactive_since)),
        ("pool_name", &llm.pool_name),
        ("visibility", &llm.visibility.as_str()),
        ("owner", &llm.owner),
        ("session", &llm.session),
        ("registered", &llm.registered),
        ("created_at", &llm.created_at.0),
        ("updated_at", &llm.updated_at.0),
        ("upstream_url", &upstream.map(|upstream| &upstream.url)),
        ("upstream_key", &upstream.and_then(|upstream| upstream.api_key.as_ref())),
        ("timeout_seconds", &llm.timeout_seconds),
        ("allow_remote_urls", &llm.allow_remote_urls),
        ("context_length", &llm.abilities.context_length),
        ("max_output_tokens", &llm.abilities.max_output_tokens),
        ("tools", &llm.abilities.capabilities.tools),
        ("vision", &llm.abilities.capabilities.vision),
        ("reasoning", &llm.abilities.capabilities.reasoning),
        ("embeddings", &llm.abilities.capabilities.embeddings),
    ];
    upsert(conn, "llms", columns)
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
        abilities: Abilities {
            context_length: row.get("context_length")?,
            max_output_tokens: row.get("max_output_tokens")?,
            capabilities: Capabilities {
                tools: row.get("tools")?,
                vision: row.get("vision")?,
                reasoning: row.get("reasoning")?,
                embeddings: row.get("embeddings")?,
            },
        },
    })
}

fn put_agent(conn: &Connection, agent: &Agent) -> Result<()> {
    let columns: &[Column<'_>] = &[
        ("id", &agent.id),
        ("name", &agent.name),
        ("llm_name", &agent.llm_name),
        ("description", &agent.description),
        ("system_prompt", &agent.system_prompt),
        ("project", &agent.project),
        ("default_params", &agent.default_params.as_deref().map(RawValue::get)),
        ("extras", &agent.extras.as_deref().map(RawValue::get)),
        ("kind", &agent.kind.as_str()),
        ("status", &agent.status.as_str()),
        ("last_heartbeat_at", &millis(agent.last_heartbeat_at)),
        ("inactive_since", &millis(agent.inactive_since)),
        ("visibility", &agent.visibility.as_str()),
        ("owner", &agent.owner),
        ("session", &agent.session),
        ("registered", &agent.registered),
        ("created_at", &agent.created_at.0),
        ("updated_at", &agent.updated_at.0),
    ];
    upsert(conn, "agents", columns)
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
    let columns: &[Column<'_>] = &[
        ("id", &session.id),
        ("owner", &session.owner),
        ("last_heartbeat_at", &session.last_heartbeat_at.0),
        ("created_at", &session.created_at.0),
    ];
    upsert(conn, "sessions", columns)
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
    let columns: &[Column<'_>] = &[
        ("name", &record.name),
        ("owner", &record.owner),
        ("pool", &record.pool),
        ("shared", &record.shared),
        ("left_at", &millis(record.left_at)),
        ("admitted_pool", &admitted.map(|to| &to.pool)),
        ("admitted_owner", &admitted.map(|to| &to.pool_owner)),
        ("admitted_room", &admitted.and_then(|to| to.room)),
        ("pinned_llm", &pinned.map(|of| &of.name)),
        ("pinned_owner", &pinned.map(|of| &of.owner)),
    ];
    upsert(conn, "names", columns)
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

fn put_alias(conn: &Connection, alias: &Alias) -> Result<()> {
    let columns: &[Column<'_>] = &[
        ("user", &scope_text(&alias.scope)),
        ("name", &alias.name),
        ("target", &alias.target.name),
        ("target_owner", &alias.target.owner),
        ("created_at", &alias.created_at.0),
        ("updated_at", &alias.updated_at.0),
    ];
    let conflict = "ON CONFLICT (user, name) DO UPDATE SET target = ?3, target_owner = ?4, updated_at = ?6";
    insert(conn, "aliases", columns, conflict)
}

/// The text of a scope: that of all users is empty, which no user name is.
fn scope_text(scope: &AliasScope) -> &str {
    scope.user().map_or("", String::as_str)
}

pub(super) fn alias(row: &Row<'_>) -> Result<Alias> {
    let user: String = row.get("user")?;
    Ok(Alias {
        scope: if user.is_empty() { AliasScope::All } else { AliasScope::User(user) },
        name: row.get("name")?,
        target: OwnedName { name: row.get("target")?, owner: row.get("target_owner")? },
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}

fn put_token(conn: &Connection, token: &Token) -> Result<()> {
    let columns: &[Column<'_>] = &[
        ("id", &token.id),
        ("hash", &token.hash),
        ("user", &token.user),
        ("role", &token.role.as_str()),
        ("created_at", &token.created_at.0),
        ("expires_at", &millis(token.expires_at)),
        ("revoked_at", &millis(token.revoked_at)),
    ];
    upsert(conn, "tokens", columns)
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
