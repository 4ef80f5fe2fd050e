//! What hubs have changed in the records that each of them keeps in memory. Triggers note the keys of changed records with
//! their transaction; a reader reads the records anew. Its cursor is the oldest transaction that may still be open: what it
//! commits later is read by the next look. What is read twice does no harm.

use std::collections::BTreeSet;

use super::connection::{Failure, Session};
use crate::model::{
    Agent, Alias, AliasScope, CallLimits, LimitOwner, LimitRecord, Llm, NameRecord, SessionRecord, Token,
};
use crate::store::StoreError;
use crate::store::columns::StoredRow;
use crate::store::rows::{self, scope_text};

/// Kinds of records, as their tables are called.
const KINDS: [(&str, &str); 7] = [
    ("sessions", "id"),
    ("llms", "name"),
    ("agents", "name"),
    ("aliases", "\"user\" || ' ' || name"),
    ("names", "name"),
    ("tokens", "id"),
    ("call_limits", "kind || ' ' || id"),
];

/// A record as it is in the database, for memory: `None` if it is gone.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Merge {
    Session(String, Option<SessionRecord>),
    Llm(String, Option<Box<Llm>>),
    Agent(String, Option<Box<Agent>>),
    Alias(AliasScope, String, Option<Alias>),
    Name(String, Option<NameRecord>),
    Token(Token),
    /// No limits if they are gone.
    Limits(LimitOwner, CallLimits),
}

/// What was changed since a cursor.
#[derive(Debug, Clone, Default)]
pub struct Pulled {
    /// Where the next look begins.
    pub cursor: String,
    /// Sessions come before what they publish, names behind what has them.
    pub records: Vec<Merge>,
    /// Whether these are all records there are.
    pub is_all: bool,
}

/// The cursor from which all later changes are read.
pub(super) async fn cursor(session: &Session) -> Result<String, Failure> {
    let rows = session.query("SELECT pg_snapshot_xmin(pg_current_snapshot())::text AS cursor", &[]).await?;
    rows.first().map_or(Ok(String::new()), |row| row.field("cursor")).map_err(Failure::Broken)
}

/// Reads all records.
pub(super) async fn pull_all(session: &Session) -> Result<Pulled, Failure> {
    let cursor = cursor(session).await?;
    let mut records = Vec::new();
    for (kind, _) in KINDS {
        for row in session.query(&format!("SELECT * FROM {kind}"), &[]).await? {
            records.push(read(kind, &row).map_err(Failure::Refused)?.1);
        }
    }
    Ok(Pulled { cursor, records, is_all: true })
}

/// Reads the records that were changed since `since`.
pub(super) async fn pull(session: &Session, since: &str) -> Result<Pulled, Failure> {
    // Before the look: what is committed meanwhile may be read twice.
    let cursor = cursor(session).await?;
    let sql = "SELECT DISTINCT kind, key FROM changes WHERE xid >= $1::text::xid8";
    let mut changed: BTreeSet<(String, String)> = BTreeSet::new();
    for row in session.query(sql, &[since.into()]).await? {
        let key = || Ok((row.field("kind")?, row.field("key")?));
        changed.insert(key().map_err(Failure::Broken)?);
    }
    let mut records = Vec::new();
    for (kind, column) in KINDS {
        let mut keys: BTreeSet<String> =
            changed.iter().filter(|(of, _)| of == kind).map(|(_, key)| key.clone()).collect();
        if keys.is_empty() {
            continue;
        }
        let list = serde_json::to_string(&keys).unwrap_or_default();
        let sql = format!(
            "SELECT * FROM {kind} WHERE {column} IN (SELECT jsonb_array_elements_text($1::text::jsonb))"
        );
        for row in session.query(&sql, &[(&list).into()]).await? {
            let (key, record) = read(kind, &row).map_err(Failure::Refused)?;
            keys.remove(&key);
            records.push(record);
        }
        records.extend(keys.into_iter().filter_map(|key| gone(kind, key)));
    }
    Ok(Pulled { cursor, records, is_all: false })
}

fn read(kind: &str, row: &tokio_postgres::Row) -> Result<(String, Merge), StoreError> {
    Ok(match kind {
        "sessions" => {
            let record = rows::session(row)?;
            (record.id.clone(), Merge::Session(record.id.clone(), Some(record)))
        }
        "llms" => {
            let llm = rows::llm(row)?;
            (llm.name.clone(), Merge::Llm(llm.name.clone(), Some(Box::new(llm))))
        }
        "agents" => {
            let agent = rows::agent(row)?;
            (agent.name.clone(), Merge::Agent(agent.name.clone(), Some(Box::new(agent))))
        }
        "aliases" => {
            let alias = rows::alias(row)?;
            let key = format!("{} {}", scope_text(&alias.scope), alias.name);
            (key, Merge::Alias(alias.scope.clone(), alias.name.clone(), Some(alias)))
        }
        "names" => {
            let record = rows::name(row)?;
            (record.name.clone(), Merge::Name(record.name.clone(), Some(record)))
        }
        "call_limits" => {
            let LimitRecord { owner, limits } = rows::limits(row)?;
            let (kind, id) = owner.parts();
            (format!("{kind} {id}"), Merge::Limits(owner, limits))
        }
        _ => {
            let token = rows::token(row)?;
            (token.id.clone(), Merge::Token(token))
        }
    })
}

/// A record that is gone. No token is ever deleted.
fn gone(kind: &str, key: String) -> Option<Merge> {
    Some(match kind {
        "sessions" => Merge::Session(key, None),
        "llms" => Merge::Llm(key, None),
        "agents" => Merge::Agent(key, None),
        "aliases" => {
            let (user, name) = key.split_once(' ')?;
            let scope = if user.is_empty() { AliasScope::All } else { AliasScope::User(user.to_owned()) };
            Merge::Alias(scope, name.to_owned(), None)
        }
        "names" => Merge::Name(key, None),
        "call_limits" => {
            let (kind, id) = key.split_once(' ')?;
            Merge::Limits(LimitOwner::of_parts(kind, id.to_owned())?, CallLimits::default())
        }
        _ => return None,
    })
}
