//! Sums of days to and from table rows, and queries that add them up.

use rusqlite::{Connection, Result, params, params_from_iter};

use super::columns::{Column, StoredRow, StoredValue, all, columns, insert_sql, values};
use super::rows::Statement;
use crate::model::{Day, MAX_COUNT, UsageCounts, UsageKey, UsageSum};

/// Columns of a sum's key.
const KEY: &str = "day, \"user\", token, llm, through, code";

/// Columns of counts.
const COUNTS: [&str; 6] =
    ["calls", "input_tokens", "cached_tokens", "output_tokens", "counted_tokens", "millis"];

/// SQL that reads the keys of the newest day.
pub(super) const NEWEST: &str = "SELECT * FROM usage_sums WHERE day = (SELECT max(day) FROM usage_sums)
    ORDER BY \"user\", token, llm, through, code";

/// SQL that reads the sums of the first day after a day.
pub(super) const NEXT_DAY: &str =
    "SELECT * FROM usage_sums WHERE day = (SELECT min(day) FROM usage_sums WHERE day > ?1)";

/// What sums are added up by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum UsageBy {
    User,
    Llm,
    /// A token and its user.
    Token,
    Day,
}

/// A query for sums. `None` matches all.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "the names say it")]
pub struct UsageQuery {
    pub by: UsageBy,
    /// The first day.
    pub since: Day,
    /// The last day.
    pub until: Day,
    pub user: Option<String>,
    pub llm: Option<String>,
    /// LLMs are named as members may see them: by the agent through which a hidden row was used.
    pub as_member: bool,
}

#[cfg(test)]
impl UsageQuery {
    /// All sums.
    pub(crate) fn all(by: UsageBy) -> Self {
        Self { by, since: Day(i64::MIN), until: Day(i64::MAX), user: None, llm: None, as_member: false }
    }
}

/// The statement that adds a sum. Counts that have reached [`MAX_COUNT`] do not grow.
pub(super) fn add(sum: &UsageSum, batch: i64, mark: char) -> Statement<'_> {
    let UsageSum { key, counts } = sum;
    let columns: Vec<Column<'_>> = columns![
        "day" => key.day.0,
        "user" => &key.user,
        "token" => &key.token,
        "llm" => &key.llm,
        "through" => &key.through,
        "code" => &key.code,
        "calls" => counts.calls,
        "input_tokens" => counts.input,
        "cached_tokens" => counts.cached,
        "output_tokens" => counts.output,
        "counted_tokens" => counts.counted,
        "millis" => counts.millis,
        "batch" => batch,
    ];
    let updates = COUNTS.map(|name| {
        format!(
            "{name} = usage_sums.{name} + CASE WHEN usage_sums.{name} < {MAX_COUNT} THEN excluded.{name} ELSE 0 END"
        )
    });
    let conflict = format!(
        "ON CONFLICT ({KEY}) DO UPDATE SET {}, batch = excluded.batch WHERE usage_sums.batch <> excluded.batch",
        updates.join(", ")
    );
    Statement { sql: insert_sql("usage_sums", &columns, mark, &conflict), values: values(columns) }
}

/// SQL of a sum in `SQLite`. `total` is exact below 2^53, and does not fail above.
fn sqlite_sum(column: &str) -> String {
    format!("CAST(min(total({column}), {MAX_COUNT}) AS INTEGER)")
}

/// SQL of a sum in PostgreSQL.
pub(super) fn postgres_sum(column: &str) -> String {
    format!("least(sum({column}), {MAX_COUNT})::bigint")
}

/// SQL that adds up the sums that match, with `?` for each of the values.
pub(super) fn select(query: UsageQuery, sum: fn(&str) -> String) -> (String, Vec<StoredValue>) {
    let llm = if query.as_member { "CASE WHEN through = '' THEN llm ELSE through END" } else { "llm" };
    let by = match query.by {
        UsageBy::User => "\"user\"",
        UsageBy::Llm => llm,
        UsageBy::Token => "\"user\", token",
        UsageBy::Day => "day",
    };
    let shown = if query.by == UsageBy::Llm { format!("{llm} AS llm") } else { by.to_owned() };
    let mut values = vec![StoredValue::Integer(query.since.0), StoredValue::Integer(query.until.0)];
    let mut conditions = "day >= ? AND day <= ?".to_owned();
    for (column, value) in [("\"user\"", query.user), (llm, query.llm)] {
        if let Some(value) = value {
            conditions.extend([" AND ", column, " = ?"]);
            values.push(StoredValue::Text(value));
        }
    }
    let counts = COUNTS.map(|name| format!("{} AS {name}", sum(name))).join(", ");
    let sql =
        format!("SELECT {shown}, code, {counts} FROM usage_sums WHERE {conditions} GROUP BY {by}, code");
    (sql, values)
}

/// Adds up the sums of `query` in `SQLite`: one sum for each error of what it adds up by, with the other parts of the key empty.
pub(super) fn groups(conn: &Connection, query: UsageQuery) -> Result<Vec<UsageSum>> {
    let by = query.by;
    let (sql, values) = select(query, sqlite_sum);
    all(conn, &sql, params_from_iter(values.iter().map(StoredValue::as_value)), |row| group(row, by))
}

/// Reads what a query by `by` added up.
pub(super) fn group<R: StoredRow>(row: &R, by: UsageBy) -> Result<UsageSum, R::Error> {
    let mut key = UsageKey { code: row.field("code")?, ..UsageKey::default() };
    match by {
        UsageBy::User => key.user = row.field("user")?,
        UsageBy::Llm => key.llm = row.field("llm")?,
        UsageBy::Token => (key.user, key.token) = (row.field("user")?, row.field("token")?),
        UsageBy::Day => key.day = Day(row.field("day")?),
    }
    Ok(UsageSum { key, counts: counts(row)? })
}

pub(super) fn key<R: StoredRow>(row: &R) -> Result<UsageKey, R::Error> {
    Ok(UsageKey {
        day: Day(row.field("day")?),
        user: row.field("user")?,
        token: row.field("token")?,
        llm: row.field("llm")?,
        through: row.field("through")?,
        code: row.field("code")?,
    })
}

fn counts<R: StoredRow>(row: &R) -> Result<UsageCounts, R::Error> {
    Ok(UsageCounts {
        calls: row.field("calls")?,
        input: row.field("input_tokens")?,
        cached: row.field("cached_tokens")?,
        output: row.field("output_tokens")?,
        counted: row.field("counted_tokens")?,
        millis: row.field("millis")?,
    })
}

pub(super) fn sum<R: StoredRow>(row: &R) -> Result<UsageSum, R::Error> {
    Ok(UsageSum { key: key(row)?, counts: counts(row)? })
}

/// SQL that deletes some of the sums before a day: the second parameter is their number.
pub(super) fn expire_sql(mark: char) -> String {
    format!(
        "DELETE FROM usage_sums WHERE ({KEY}) IN
            (SELECT {KEY} FROM usage_sums WHERE day < {mark}1 ORDER BY day LIMIT {mark}2)"
    )
}

/// Deletes at most `most` sums before the day `since` from `SQLite`. Returns whether there were any.
pub(super) fn expire(conn: &Connection, since: Day, most: i64) -> Result<bool> {
    Ok(conn.prepare_cached(&expire_sql('?'))?.execute(params![since.0, most])? > 0)
}
