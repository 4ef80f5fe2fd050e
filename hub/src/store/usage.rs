//! Sums of days to and from table rows, and queries that add them up.

use std::collections::BTreeMap;

use rusqlite::{Connection, Result, params};

use super::columns::{Column, StoredRow, StoredValue, columns, insert_sql, selected, values};
use super::limit_of;
use super::rows::Statement;
use crate::model::{Day, MAX_COUNT, UsageCounts, UsageKey, UsageSum};

/// Columns of a sum's key.
const KEY: &str = "day, \"user\", token, llm, through, code";

/// Columns of counts.
const COUNTS: [&str; 6] =
    ["calls", "input_tokens", "cached_tokens", "output_tokens", "counted_tokens", "millis"];

/// SQL that reads the sums of the newest day.
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
    /// Only calls of LLMs of this user.
    pub owner: Option<String>,
    /// Most rows.
    pub limit: usize,
    /// LLMs are named as members may see them: by the agent through which a hidden row was used.
    pub as_member: bool,
}

#[cfg(test)]
impl UsageQuery {
    /// All sums.
    pub(crate) fn all(by: UsageBy) -> Self {
        let (since, until, limit) = (Day(i64::MIN), Day(i64::MAX), usize::MAX);
        Self { by, since, until, user: None, llm: None, owner: None, limit, as_member: false }
    }
}

/// Sums, added up.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct UsageTable {
    /// Days with the newest first; all others with the most tokens first. Of a key, only what they are added up by is not empty.
    pub rows: Vec<(UsageKey, UsageTotal)>,
    /// All rows, also those that are left out.
    pub total: UsageTotal,
    /// Number of rows that are left out.
    pub more: u64,
}

/// Numbers of some calls, with those that failed.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct UsageTotal {
    /// Of all calls.
    pub counts: UsageCounts,
    /// Number of calls that failed, by the code of their error.
    pub failures: BTreeMap<String, u64>,
}

impl UsageTotal {
    /// Adds calls with the error `code`, or without one if that is empty.
    pub(crate) fn add(&mut self, code: &str, counts: UsageCounts) {
        self.counts.add(counts);
        if !code.is_empty() {
            *self.failures.entry(code.to_owned()).or_default() += counts.calls;
        }
    }
}

/// The statement that adds a sum. Counts that have reached [`MAX_COUNT`] do not grow.
pub(super) fn add(sum: &UsageSum, batch: i64, mark: char) -> Statement<'_> {
    let UsageSum { key, owner, counts } = sum;
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
        "owner" => owner,
        "batch" => batch,
    ];
    let updates = COUNTS.map(|name| {
        format!(
            "{name} = usage_sums.{name} + CASE WHEN usage_sums.{name} < {MAX_COUNT} THEN excluded.{name} ELSE 0 END"
        )
    });
    // Of several hubs each has sums of its own: a batch that another one wrote meanwhile does not hide that it was added.
    let hub = if mark == '$' { ", hub" } else { "" };
    // A name may change hands on a day: nobody gets the calls to two owners.
    let owner = "CASE WHEN coalesce(usage_sums.owner, excluded.owner) = excluded.owner THEN excluded.owner ELSE '' END";
    let conflict = format!(
        "ON CONFLICT ({KEY}{hub}) DO UPDATE SET {}, owner = {owner}, batch = excluded.batch WHERE usage_sums.batch <> excluded.batch",
        updates.join(", ")
    );
    Statement { sql: insert_sql("usage_sums", &columns, mark, &conflict).into(), values: values(columns) }
}

/// SQL of a sum in `SQLite`. `total` is exact below 2^53, and does not fail above.
fn sqlite_sum(column: &str) -> String {
    format!("CAST(min(total({column}), {MAX_COUNT}) AS INTEGER)")
}

/// SQL of a sum in PostgreSQL.
pub(super) fn postgres_sum(column: &str) -> String {
    format!("least(sum({column}), {MAX_COUNT})::bigint")
}

/// SQL that adds up the sums that match, with `?` for each of the values: a row for each error of each of the first rows of the
/// table, and one for each error of all others, so that there are no more than are shown.
pub(super) fn select(query: &UsageQuery, sum: fn(&str) -> String) -> (String, Vec<StoredValue>) {
    let llm = if query.as_member { "CASE WHEN through = '' THEN llm ELSE through END" } else { "llm" };
    let (names, by): (&[&str], _) = match query.by {
        UsageBy::User => (&["\"user\""], "\"user\""),
        UsageBy::Llm => (&["llm"], llm),
        UsageBy::Token => (&["\"user\"", "token"], "\"user\", token"),
        UsageBy::Day => (&["day"], "day"),
    };
    let shown = if query.by == UsageBy::Llm { format!("{llm} AS llm") } else { by.to_owned() };
    let key = names.join(", ");
    let mut values = vec![StoredValue::Integer(query.since.0), StoredValue::Integer(query.until.0)];
    let mut conditions = "day >= ? AND day <= ?".to_owned();
    for (column, value) in [("\"user\"", &query.user), (llm, &query.llm), ("owner", &query.owner)] {
        if let Some(value) = value {
            conditions.extend([" AND ", column, " = ?"]);
            values.push(StoredValue::Text(value.clone()));
        }
    }
    let order = if query.by == UsageBy::Day {
        "day DESC".to_owned()
    } else {
        let [calls, input, output] = ["calls", "input_tokens", "output_tokens"].map(sum);
        format!("{input} + {output} DESC, {calls} DESC, {key}")
    };
    let counts = COUNTS.map(|name| format!("{} AS {name}", sum(name))).join(", ");
    let firsts: Vec<_> = names.iter().map(|name| format!("min({name}) AS {name}")).collect();
    let (firsts, most) = (firsts.join(", "), limit_of(query.limit));
    let sql = format!(
        "WITH sums AS MATERIALIZED
            (SELECT {shown}, code, {counts} FROM usage_sums WHERE {conditions} GROUP BY {by}, code),
        placed AS (SELECT {key}, row_number() OVER (ORDER BY {order}) AS place FROM sums GROUP BY {key})
        SELECT CASE WHEN place <= {most} THEN place END AS shown_place, max(place) AS last_place, {firsts}, code, {counts}
        FROM sums JOIN placed USING ({key}) GROUP BY shown_place, code ORDER BY shown_place"
    );
    (sql, values)
}

/// Adds up the sums of `query` in `SQLite`.
pub(super) fn table(conn: &Connection, query: &UsageQuery) -> Result<UsageTable> {
    let rows = selected(conn, select(query, sqlite_sum), |row| placed(row, query.by))?;
    Ok(collect(rows, query.limit))
}

/// Number of rows that [`table`] reads.
#[cfg(test)]
pub(super) fn rows_read(conn: &Connection, query: &UsageQuery) -> Result<usize> {
    Ok(selected(conn, select(query, sqlite_sum), |row| placed(row, query.by))?.len())
}

/// A sum of the row at a place in the table, or of those that are left out.
pub(super) struct Placed {
    place: Option<u64>,
    last: u64,
    sum: UsageSum,
}

/// Reads what [`select`] found.
pub(super) fn placed<R: StoredRow>(row: &R, by: UsageBy) -> Result<Placed, R::Error> {
    let mut key = UsageKey { code: row.field("code")?, ..UsageKey::default() };
    match by {
        UsageBy::User => key.user = row.field("user")?,
        UsageBy::Llm => key.llm = row.field("llm")?,
        UsageBy::Token => (key.user, key.token) = (row.field("user")?, row.field("token")?),
        UsageBy::Day => key.day = Day(row.field("day")?),
    }
    let sum = UsageSum { key, owner: String::new(), counts: counts(row)? };
    Ok(Placed { place: row.field("shown_place")?, last: row.field("last_place")?, sum })
}

/// The table of what [`select`] found. Its first row has the place 1.
pub(super) fn collect(found: Vec<Placed>, limit: usize) -> UsageTable {
    let mut table = UsageTable::default();
    for Placed { place, last, sum: UsageSum { mut key, counts, .. } } in found {
        let code = std::mem::take(&mut key.code);
        table.total.add(&code, counts);
        let Some(place) = place else {
            table.more = table.more.max(last - limit as u64);
            continue;
        };
        if table.rows.len() as u64 != place {
            table.rows.push((key, UsageTotal::default()));
        }
        if let Some((_, total)) = table.rows.last_mut() {
            total.add(&code, counts);
        }
    }
    table
}

fn key<R: StoredRow>(row: &R) -> Result<UsageKey, R::Error> {
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
    let owner: Option<String> = row.field("owner")?;
    Ok(UsageSum { key: key(row)?, owner: owner.unwrap_or_default(), counts: counts(row)? })
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
