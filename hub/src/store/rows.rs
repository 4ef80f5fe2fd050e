//! Records to and from table rows, in either database, except durable tasks and audit records.

mod tokens;

use std::borrow::Cow;
use std::sync::OnceLock;

use serde_json::value::RawValue;
use wire::abilities::{Abilities, Capabilities};
use wire::row::{Kind, Status, Tier, Visibility};

use super::columns::{Column, StoredRow, Value, columns, insert_sql, upsert_sql, values};
use super::{Change, search, usage};
use crate::model::{
    Agent, Alias, AliasScope, AuditRecord, Llm, NameRecord, OwnedName, PoolAdmission, SessionRecord, Upstream,
};

use tokens::{limit_columns, put_token};
pub(super) use tokens::{limits, token};

/// A statement, for a database whose numbered parameters begin with a `mark`.
pub(super) struct Statement<'a> {
    pub(super) sql: Cow<'static, str>,
    pub(super) values: Vec<Value<'a>>,
}

/// The statement that writes a change; `None` for one of a durable task, which each database does in its own way.
pub(super) fn statement(change: &Change, mark: char) -> Option<Statement<'_>> {
    Some(match change {
        Change::PutLlm(llm) => put("llms", llm_columns(llm), &["id"], mark),
        Change::DeleteLlm(id) => delete("llms", "id", id, mark),
        Change::PutAgent(agent) => put("agents", agent_columns(agent), &["id"], mark),
        Change::DeleteAgent(id) => delete("agents", "id", id, mark),
        Change::PutSession(session) => put("sessions", session_columns(session), &["id"], mark),
        Change::DeleteSession(id) => delete("sessions", "id", id, mark),
        Change::PutName(record) => put("names", name_columns(record), &["name"], mark),
        Change::DeleteName(name) => delete("names", "name", name, mark),
        Change::PutAlias(alias) => put("aliases", alias_columns(alias), &["user", "name"], mark),
        Change::DeleteAlias { scope, name } => Statement {
            sql: format!("DELETE FROM aliases WHERE \"user\" = {mark}1 AND name = {mark}2").into(),
            values: vec![scope_text(scope).into(), name.into()],
        },
        Change::PutToken(token) => put_token(token, mark),
        Change::PutLimits(record) => put("call_limits", limit_columns(record), &["kind", "id"], mark),
        Change::DeleteLimits(owner) => {
            let (kind, id) = owner.parts();
            Statement {
                sql: format!("DELETE FROM call_limits WHERE kind = {mark}1 AND id = {mark}2").into(),
                values: vec![kind.into(), id.into()],
            }
        }
        Change::Audit(record) => insert_audit(record, mark),
        Change::AddUsage { sum, batch } => usage::add(sum, *batch, mark),
        Change::PutTask(_)
        | Change::NewTask { .. }
        | Change::ClaimTask { .. }
        | Change::UnclaimTask(_)
        | Change::DeleteTask(_)
        | Change::EnforceTaskQuota { .. } => return None,
    })
}

fn put<'a>(table: &str, columns: Vec<Column<'a>>, key: &[&str], mark: char) -> Statement<'a> {
    Statement { sql: upsert_sql(table, &columns, mark, key).into(), values: values(columns) }
}

/// The statement that inserts an audit record. Each call writes one, so that its text is made once for each database.
fn insert_audit(record: &AuditRecord, mark: char) -> Statement<'_> {
    static TEXTS: [OnceLock<String>; 2] = [const { OnceLock::new() }; 2];

    let columns = search::audit_columns(record);
    let text = TEXTS[usize::from(mark == '$')].get_or_init(|| insert_sql("audit", &columns, mark, ""));
    Statement { sql: text.as_str().into(), values: values(columns) }
}

fn delete<'a>(table: &str, key: &str, id: &'a str, mark: char) -> Statement<'a> {
    Statement { sql: format!("DELETE FROM {table} WHERE {key} = {mark}1").into(), values: vec![id.into()] }
}

fn llm_columns(llm: &Llm) -> Vec<Column<'_>> {
    let upstream = llm.upstream.as_ref();
    columns![
        "id" => &llm.id,
        "name" => &llm.name,
        "type" => &llm.provider_type,
        "model" => &llm.model,
        "tier" => llm.tier.map(Tier::as_str),
        "description" => &llm.description,
        "kind" => llm.kind.as_str(),
        "status" => llm.status.as_str(),
        "declared" => llm.declared.as_str(),
        "last_heartbeat_at" => llm.last_heartbeat_at,
        "inactive_since" => llm.inactive_since,
        "pool_name" => &llm.pool_name,
        "visibility" => llm.visibility.as_str(),
        "owner" => &llm.owner,
        "session" => &llm.session,
        "registered" => llm.registered,
        "created_at" => llm.created_at,
        "updated_at" => llm.updated_at,
        "upstream_url" => upstream.map(|upstream| &upstream.url),
        "upstream_key" => upstream.and_then(|upstream| upstream.api_key.as_ref()),
        "timeout_seconds" => llm.timeout_seconds,
        "allow_remote_urls" => llm.allow_remote_urls,
        "context_length" => llm.abilities.context_length,
        "max_output_tokens" => llm.abilities.max_output_tokens,
        "tools" => llm.abilities.capabilities.tools,
        "vision" => llm.abilities.capabilities.vision,
        "reasoning" => llm.abilities.capabilities.reasoning,
        "embeddings" => llm.abilities.capabilities.embeddings,
    ]
}

pub(super) fn llm<R: StoredRow>(row: &R) -> Result<Llm, R::Error> {
    let url: Option<String> = row.field("upstream_url")?;
    let api_key = row.field("upstream_key")?;
    Ok(Llm {
        id: row.field("id")?,
        name: row.field("name")?,
        provider_type: row.field("type")?,
        model: row.field("model")?,
        tier: row.maybe_parsed("tier", Tier::parse)?,
        description: row.field("description")?,
        kind: row.parsed("kind", Kind::parse)?,
        status: row.parsed("status", Status::parse)?,
        declared: row.parsed("declared", Status::parse)?,
        last_heartbeat_at: row.field("last_heartbeat_at")?,
        inactive_since: row.field("inactive_since")?,
        pool_name: row.field("pool_name")?,
        visibility: row.parsed("visibility", Visibility::parse)?,
        owner: row.field("owner")?,
        session: row.field("session")?,
        registered: row.field("registered")?,
        created_at: row.field("created_at")?,
        updated_at: row.field("updated_at")?,
        upstream: url.map(|url| Upstream { url, api_key }),
        timeout_seconds: row.field("timeout_seconds")?,
        allow_remote_urls: row.field("allow_remote_urls")?,
        abilities: Abilities {
            context_length: row.field("context_length")?,
            max_output_tokens: row.field("max_output_tokens")?,
            capabilities: Capabilities {
                tools: row.field("tools")?,
                vision: row.field("vision")?,
                reasoning: row.field("reasoning")?,
                embeddings: row.field("embeddings")?,
            },
        },
    })
}

fn agent_columns(agent: &Agent) -> Vec<Column<'_>> {
    columns![
        "id" => &agent.id,
        "name" => &agent.name,
        "llm_name" => &agent.llm_name,
        "description" => &agent.description,
        "system_prompt" => &agent.system_prompt,
        "project" => &agent.project,
        "default_params" => agent.default_params.as_deref().map(RawValue::get),
        "extras" => agent.extras.as_deref().map(RawValue::get),
        "kind" => agent.kind.as_str(),
        "status" => agent.status.as_str(),
        "last_heartbeat_at" => agent.last_heartbeat_at,
        "inactive_since" => agent.inactive_since,
        "visibility" => agent.visibility.as_str(),
        "owner" => &agent.owner,
        "session" => &agent.session,
        "registered" => agent.registered,
        "created_at" => agent.created_at,
        "updated_at" => agent.updated_at,
    ]
}

pub(super) fn agent<R: StoredRow>(row: &R) -> Result<Agent, R::Error> {
    Ok(Agent {
        id: row.field("id")?,
        name: row.field("name")?,
        llm_name: row.field("llm_name")?,
        description: row.field("description")?,
        system_prompt: row.field("system_prompt")?,
        project: row.field("project")?,
        default_params: row.field("default_params")?,
        extras: row.field("extras")?,
        kind: row.parsed("kind", Kind::parse)?,
        status: row.parsed("status", Status::parse)?,
        last_heartbeat_at: row.field("last_heartbeat_at")?,
        inactive_since: row.field("inactive_since")?,
        visibility: row.parsed("visibility", Visibility::parse)?,
        owner: row.field("owner")?,
        session: row.field("session")?,
        registered: row.field("registered")?,
        created_at: row.field("created_at")?,
        updated_at: row.field("updated_at")?,
    })
}

fn session_columns(session: &SessionRecord) -> Vec<Column<'_>> {
    columns![
        "id" => &session.id,
        "owner" => &session.owner,
        "last_heartbeat_at" => session.last_heartbeat_at,
        "created_at" => session.created_at,
        "hub" => &session.hub,
    ]
}

pub(super) fn session<R: StoredRow>(row: &R) -> Result<SessionRecord, R::Error> {
    Ok(SessionRecord {
        id: row.field("id")?,
        owner: row.field("owner")?,
        last_heartbeat_at: row.field("last_heartbeat_at")?,
        created_at: row.field("created_at")?,
        hub: row.field("hub")?,
    })
}

fn name_columns(record: &NameRecord) -> Vec<Column<'_>> {
    let (admitted, pinned) = (record.admitted.as_ref(), record.pinned.as_ref());
    columns![
        "name" => &record.name,
        "owner" => &record.owner,
        "pool" => record.pool,
        "shared" => record.shared,
        "left_at" => record.left_at,
        "admitted_pool" => admitted.map(|to| &to.pool),
        "admitted_owner" => admitted.map(|to| &to.pool_owner),
        "admitted_room" => admitted.and_then(|to| to.room),
        "pinned_llm" => pinned.map(|of| &of.name),
        "pinned_owner" => pinned.map(|of| &of.owner),
    ]
}

pub(super) fn name<R: StoredRow>(row: &R) -> Result<NameRecord, R::Error> {
    let room = row.field("admitted_room")?;
    Ok(NameRecord {
        name: row.field("name")?,
        owner: row.field("owner")?,
        pool: row.field("pool")?,
        shared: row.field("shared")?,
        left_at: row.field("left_at")?,
        admitted: name_of(row, "admitted_pool", "admitted_owner")?.map(|of| PoolAdmission {
            pool: of.name,
            pool_owner: of.owner,
            room,
        }),
        pinned: name_of(row, "pinned_llm", "pinned_owner")?,
    })
}

fn name_of<R: StoredRow>(row: &R, name: &str, owner: &str) -> Result<Option<OwnedName>, R::Error> {
    let (name, owner): (Option<String>, Option<String>) = (row.field(name)?, row.field(owner)?);
    Ok(name.zip(owner).map(|(name, owner)| OwnedName { name, owner }))
}

fn alias_columns(alias: &Alias) -> Vec<Column<'_>> {
    columns![
        "user" => scope_text(&alias.scope),
        "name" => &alias.name,
        "target" => &alias.target.name,
        "target_owner" => &alias.target.owner,
        "created_at" => alias.created_at,
        "updated_at" => alias.updated_at,
    ]
}

/// The text of a scope: that of all users is empty, which no user name is.
pub(super) fn scope_text(scope: &AliasScope) -> &str {
    scope.user().map_or("", String::as_str)
}

pub(super) fn alias<R: StoredRow>(row: &R) -> Result<Alias, R::Error> {
    let user: String = row.field("user")?;
    Ok(Alias {
        scope: if user.is_empty() { AliasScope::All } else { AliasScope::User(user) },
        name: row.field("name")?,
        target: OwnedName { name: row.field("target")?, owner: row.field("target_owner")? },
        created_at: row.field("created_at")?,
        updated_at: row.field("updated_at")?,
    })
}
