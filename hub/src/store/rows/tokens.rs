//! Tokens, and limits of calls.

use wire::row::Timestamp;

use crate::model::{CallLimits, EndingHash, LimitOwner, LimitRecord, ModelPatterns, Role, Token};
use crate::store::columns::{Column, StoredRow, columns};
use crate::store::rows::{Statement, put};

/// The statement that writes a token. What was revoked stays so, whatever another hub knew of it. A token with another time of
/// creation is another one: the hub's own, which its operator has replaced.
pub(super) fn put_token(token: &Token, mark: char) -> Statement<'_> {
    const STAYS: &str = "\"revoked_at\" = CASE WHEN tokens.created_at = excluded.created_at
        THEN coalesce(tokens.revoked_at, excluded.revoked_at) ELSE excluded.revoked_at END";

    let statement = put("tokens", token_columns(token), &["id"], mark);
    let sql = statement.sql.replace("\"revoked_at\" = excluded.\"revoked_at\"", STAYS);
    Statement { sql: sql.into(), ..statement }
}

fn token_columns(token: &Token) -> Vec<Column<'_>> {
    columns![
        "id" => &token.id,
        "hash" => &token.hash[..],
        "user" => &token.user,
        "role" => token.role.as_str(),
        "created_at" => token.created_at,
        "expires_at" => token.expires_at,
        "revoked_at" => token.revoked_at,
        "old_hash" => token.old.as_ref().map(|old| &old.hash[..]),
        "old_until" => token.old.map(|old| old.until),
        "link_hash" => token.link.as_ref().map(|link| &link.hash[..]),
        "link_until" => token.link.map(|link| link.until),
    ]
}

pub(in crate::store) fn token<R: StoredRow>(row: &R) -> Result<Token, R::Error> {
    Ok(Token {
        id: row.field("id")?,
        hash: row.field("hash")?,
        user: row.field("user")?,
        role: row.parsed("role", Role::parse)?,
        created_at: row.field("created_at")?,
        expires_at: row.field("expires_at")?,
        revoked_at: row.field("revoked_at")?,
        old: ending_hash(row, "old_hash", "old_until")?,
        link: ending_hash(row, "link_hash", "link_until")?,
    })
}

fn ending_hash<R: StoredRow>(row: &R, hash: &str, until: &str) -> Result<Option<EndingHash>, R::Error> {
    let (hash, until): (Option<[u8; 32]>, Option<Timestamp>) = (row.field(hash)?, row.field(until)?);
    Ok(hash.zip(until).map(|(hash, until)| EndingHash { hash, until }))
}

pub(super) fn limit_columns(record: &LimitRecord) -> Vec<Column<'_>> {
    let LimitRecord { owner, limits } = record;
    let (kind, id) = owner.parts();
    columns![
        "kind" => kind,
        "id" => id,
        "models" => limits.models.as_ref().map(ModelPatterns::to_text),
        "tokens_per_day" => limits.tokens_per_day,
        "requests_per_minute" => limits.requests_per_minute,
        "max_concurrent" => limits.max_concurrent,
    ]
}

pub(in crate::store) fn limits<R: StoredRow>(row: &R) -> Result<LimitRecord, R::Error> {
    let (kind, id): (String, String) = (row.field("kind")?, row.field("id")?);
    Ok(LimitRecord {
        owner: LimitOwner::of_parts(&kind, id).ok_or_else(|| row.unreadable("kind"))?,
        limits: CallLimits {
            models: row.maybe_parsed("models", ModelPatterns::of_text)?,
            tokens_per_day: row.field("tokens_per_day")?,
            requests_per_minute: row.field("requests_per_minute")?,
            max_concurrent: row.field("max_concurrent")?,
        },
    })
}
